//! `/v2/members` and `/v2/machines`: who the members are, and changes of that.
//!
//! A change goes the way of the other API's: judged by the table of members, and by the leader before that.

use std::rc::Rc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use prost::Message;
use tokio::sync::oneshot;
use urd_proto::etcdserverpb::{
    Member, MemberAddResponse, MemberRemoveRequest, MemberUpdateRequest,
};

use super::auth::{self, access};
use super::{answer, form, json};
use crate::api::call::{Encoded, Reply, ReplyStream, Status};
use crate::api::node::Node;
use crate::api::status;
use crate::error::Rejected;
use crate::identity::added_member_id;
use crate::ids::MemberId;
use crate::store::command::{BatchBuilder, Command, Kind, MemberAdd};
use crate::url;

/// Answers a request for what follows `/v2/members`.
pub(super) async fn serve<N: Node>(
    node: &Rc<N>,
    request: &Request<Bytes>,
    rest: &str,
) -> Response<Bytes> {
    let method = request.method();
    if ![Method::GET, Method::POST, Method::DELETE, Method::PUT].contains(method) {
        return answer::method_not_allowed("GET,POST,DELETE,PUT");
    }
    if *method != Method::GET && !access::is_root(node, request).await {
        return auth::unauthorized();
    }
    let mut response = match *method {
        Method::GET => get(&**node, rest),
        Method::POST => add(node, request).await.unwrap_or_else(Refusal::answer),
        Method::DELETE => remove(node, rest).await.unwrap_or_else(Refusal::answer),
        _ => update(node, request, rest).await.unwrap_or_else(Refusal::answer),
    };
    answer::add_cluster(&**node, &mut response);
    response
}

/// `/v2/machines`: the client URLs of all members.
pub(super) fn machines<N: Node>(node: &N, method: &Method) -> Response<Bytes> {
    if ![Method::GET, Method::HEAD].contains(method) {
        return answer::method_not_allowed("GET,HEAD");
    }
    let published = node.published();
    let members = published.view.members().iter();
    let mut urls: Vec<&str> =
        members.flat_map(|member| &member.client_ur_ls).map(String::as_str).collect();
    urls.sort_unstable();
    answer::with_type(StatusCode::OK, "text/plain; charset=utf-8", urls.join(", "))
}

fn get<N: Node>(node: &N, rest: &str) -> Response<Bytes> {
    let published = node.published();
    match rest {
        "" | "/" => {
            let members = published.view.members().iter().map(member).collect::<Vec<_>>();
            answer::json(StatusCode::OK, format!("{{\"members\":[{}]}}\n", members.join(",")))
        }
        "/leader" => {
            let leader = published.leader.and_then(|id| published.view.members().get(id));
            match leader {
                Some(leader) => answer::json(StatusCode::OK, member(leader) + "\n"),
                None => refusal(StatusCode::SERVICE_UNAVAILABLE, "During election").answer(),
            }
        }
        _ => refusal(StatusCode::NOT_FOUND, "Not found").answer(),
    }
}

async fn add<N: Node>(node: &Rc<N>, request: &Request<Bytes>) -> Result<Response<Bytes>, Refusal> {
    let peer_urls = peer_urls(request)?;
    let change = Command::MemberAdd(MemberAdd {
        id: added_member_id(&peer_urls, node.unix_seconds()).0,
        peer_urls,
        is_learner: false,
        learners_max: node.limits().learners,
    });
    let added = reconfigure(node, &change).await.map_err(|status| failure(&status, ""))?;
    let added = MemberAddResponse::decode(added).ok().and_then(|added| added.member);
    let added = added.expect("invariant: the new member is in the answer");
    Ok(answer::json(StatusCode::CREATED, member(&added) + "\n"))
}

async fn remove<N: Node>(node: &Rc<N>, rest: &str) -> Result<Response<Bytes>, Refusal> {
    let (id, text) = named(rest)?;
    check_known(&**node, id, text)?;
    let change = Command::MemberRemove(MemberRemoveRequest { id: id.0 });
    reconfigure(node, &change).await.map_err(|status| failure(&status, text))?;
    Ok(no_content())
}

async fn update<N: Node>(
    node: &Rc<N>,
    request: &Request<Bytes>,
    rest: &str,
) -> Result<Response<Bytes>, Refusal> {
    let (id, text) = named(rest)?;
    let peer_ur_ls = peer_urls(request)?;
    check_known(&**node, id, text)?;
    let update = MemberUpdateRequest { id: id.0, peer_ur_ls };
    let (reply, answered) = waiting();
    node.propose(Kind::MemberUpdate, &update.encode_to_vec().into(), reply);
    outcome(answered).await.map_err(|status| failure(&status, text))?;
    Ok(no_content())
}

/// The member that a path names, and how.
fn named(rest: &str) -> Result<(MemberId, &str), Refusal> {
    let text = rest.strip_prefix('/').unwrap_or(rest);
    if text.is_empty() {
        return Err(refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n"));
    }
    let is_hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match u64::from_str_radix(text, 16) {
        Ok(id) if is_hexadecimal => Ok((MemberId(id), text)),
        _ => Err(no_such_member(text)),
    }
}

fn check_known<N: Node>(node: &N, id: MemberId, text: &str) -> Result<(), Refusal> {
    let published = node.published();
    if published.view.is_removed(id) {
        return Err(refusal(StatusCode::GONE, format!("Member permanently removed: {text}")));
    }
    match published.view.members().get(id) {
        Some(_) => Ok(()),
        None => Err(no_such_member(text)),
    }
}

fn no_such_member(text: &str) -> Refusal {
    refusal(StatusCode::NOT_FOUND, format!("No such member: {text}"))
}

/// The URLs of a JSON body, checked in etcd's order, and sorted as etcd does.
fn peer_urls(request: &Request<Bytes>) -> Result<Vec<String>, Refusal> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.map_or("".into(), |kind| String::from_utf8_lossy(kind.as_bytes()));
    if form::media_type(&kind) != ("application/json".to_owned(), Ok(())) {
        let said = format!("Bad Content-Type {kind}, accept application/json");
        return Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, said));
    }
    let bad = |text: String| refusal(StatusCode::BAD_REQUEST, text);
    let mut urls = url::peer_urls(&listed(request.body()).map_err(bad)?).map_err(bad)?;
    urls.sort_unstable();
    Ok(urls)
}

/// The list of texts that a body has as its `peerURLs`; names of fields count whatever their letters' case, as in Go.
fn listed(body: &[u8]) -> Result<Vec<String>, String> {
    use serde_json::Value;
    let body: Value = serde_json::from_slice(body).map_err(|error| match error.is_eof() {
        true => "unexpected end of JSON input".to_owned(),
        false => format!("the body is not valid JSON: {error}"),
    })?;
    let fields = match body {
        Value::Object(fields) => fields,
        Value::Null => return Ok(Vec::new()),
        _ => return Err("the body is not a JSON object".to_owned()),
    };
    let field = fields.into_iter().rfind(|(name, _)| name.eq_ignore_ascii_case("peerURLs"));
    let urls = match field {
        Some((_, Value::Array(urls))) => urls,
        Some((_, Value::Null)) | None => return Ok(Vec::new()),
        Some(_) => return Err("peerURLs must be a list of URLs".to_owned()),
    };
    let texts = urls.into_iter().map(|url| match url {
        Value::String(text) => Ok(text),
        _ => Err("peerURLs must be a list of URLs".to_owned()),
    });
    texts.collect()
}

async fn reconfigure<N: Node>(node: &Rc<N>, change: &Command) -> Result<Bytes, Status> {
    let mut batch = BatchBuilder::default();
    batch.append_command(change);
    let (reply, answered) = waiting();
    node.reconfigure(batch.finish(), reply);
    outcome(answered).await
}

async fn outcome(answered: oneshot::Receiver<Result<Bytes, Status>>) -> Result<Bytes, Status> {
    answered.await.unwrap_or_else(|_| Err(crate::error::Unavailable::Stopped.into()))
}

/// etcd tells what the table of members refuses, and of everything else only that it failed.
fn failure(said: &Status, member: &str) -> Refusal {
    let is = |rejected: Rejected| *said == Status::from(rejected);
    if is(Rejected::PeerUrlExists) {
        refusal(StatusCode::CONFLICT, "membership: peerURL exists")
    } else if is(Rejected::MemberExists) {
        refusal(StatusCode::CONFLICT, "membership: ID exists")
    } else if is(Rejected::MemberNotFound) {
        no_such_member(member)
    } else if *said == status::REQUEST_TOO_LARGE {
        refusal(StatusCode::BAD_REQUEST, said.message.clone())
    } else {
        refusal(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
    }
}

/// Why a request is not carried out.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    text: String,
}

impl Refusal {
    fn answer(self) -> Response<Bytes> {
        match self.status {
            // It comes from etcd's router, so to speak.
            StatusCode::METHOD_NOT_ALLOWED => answer::text(self.status, &self.text),
            status => answer::json(status, json::message(&self.text)),
        }
    }
}

fn refusal(status: StatusCode, text: impl Into<String>) -> Refusal {
    Refusal { status, text: text.into() }
}

fn no_content() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn member(member: &Member) -> String {
    let mut text = format!("{{\"id\":\"{:x}\",\"name\":", member.id);
    json::string(&mut text, member.name.as_bytes());
    for (name, urls) in [("peerURLs", &member.peer_ur_ls), ("clientURLs", &member.client_ur_ls)] {
        text.push_str(&format!(",\"{name}\":["));
        for (nth, url) in urls.iter().enumerate() {
            if nth > 0 {
                text.push(',');
            }
            json::string(&mut text, url.as_bytes());
        }
        text.push(']');
    }
    text.push('}');
    text
}

/// Hands an answer to the task that waits for it.
struct Waiting(oneshot::Sender<Result<Bytes, Status>>);

fn waiting() -> (Box<dyn Reply>, oneshot::Receiver<Result<Bytes, Status>>) {
    let (sender, receiver) = oneshot::channel();
    (Box::new(Waiting(sender)), receiver)
}

impl Reply for Waiting {
    fn unary(self: Box<Self>, message: Encoded) {
        // Whoever waited may have gone.
        self.0.send(Ok(message.into_payload())).ok();
    }

    fn fail(self: Box<Self>, status: Status) {
        self.0.send(Err(status)).ok();
    }

    fn stream(self: Box<Self>) -> Box<dyn ReplyStream> {
        unreachable!("invariant: a change of the members is answered once")
    }

    fn cancelled(&self) -> bool {
        self.0.is_closed()
    }

    fn congested(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_as_etcd_does() {
        for (body, expected) in [
            (r#"{"peerURLs":["http://a:1","b"]}"#, Ok(vec!["http://a:1", "b"])),
            (r#"{"PEERurls":["a"],"name":7}"#, Ok(vec!["a"])),
            (r#"{"peerURLs":null}"#, Ok(vec![])),
            ("{}", Ok(vec![])),
            ("null", Ok(vec![])),
            ("{", Err("unexpected end of JSON input")),
            ("", Err("unexpected end of JSON input")),
            ("[]", Err("the body is not a JSON object")),
            (r#"{"peerURLs":[1]}"#, Err("peerURLs must be a list of URLs")),
            (r#"{"peerURLs":"a"}"#, Err("peerURLs must be a list of URLs")),
        ] {
            let expected = expected
                .map(|urls| urls.into_iter().map(str::to_owned).collect::<Vec<_>>())
                .map_err(str::to_owned);
            assert_eq!(listed(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn names_of_members_are_hexadecimal() {
        assert_eq!(
            named("/2e1259d415f2a040").unwrap(),
            (MemberId(0x2e12_59d4_15f2_a040), "2e1259d415f2a040")
        );
        for (rest, status, body) in [
            ("", 405, "Method Not Allowed\n"),
            ("/", 405, "Method Not Allowed\n"),
            ("/xx", 404, r#"{"message":"No such member: xx"}"#),
            ("/+1", 404, r#"{"message":"No such member: +1"}"#),
            ("/1/", 404, r#"{"message":"No such member: 1/"}"#),
        ] {
            let response = named(rest).unwrap_err().answer();
            assert_eq!(
                (response.status().as_u16(), &response.body()[..]),
                (status, body.as_bytes())
            );
        }
    }
}
