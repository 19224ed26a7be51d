//! `/v2/keys`: reads from the newest state, waits, and writes through the log.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};

use super::answer::{self, JSON};
use super::auth::access;
use super::parameters::Parameters;
use super::watch::Watch;
use super::{WITH_KEYS, json};
use crate::api::Status;
use crate::api::call::Body;
use crate::api::node::{Node, Published, linearizable};
use crate::api::quota;
use crate::api::status::REQUEST_TOO_LARGE;
use crate::error::Unavailable;
use crate::limits;
use crate::store::v2::{Action, Error, ErrorCode, Event, Listing, Path, Request as Change};

const NANOSECONDS: i64 = 1_000_000_000;

/// Answers a request for the key that `named` is. By this text it is permitted, a slash at its end included.
pub(super) async fn serve<N: Node>(
    node: &Rc<N>,
    request: &Request<Bytes>,
    named: &str,
) -> Response<Body> {
    if !WITH_KEYS.contains(request.method()) {
        return answer::method_not_allowed("HEAD,GET,PUT,POST,DELETE").map(Body::Whole);
    }
    let asked = Parameters::read(request).map(|parameters| (Path::new(named), parameters));
    let answered = match asked {
        Err(error) => Err(error),
        Ok((path, _)) if path.is_too_long() => {
            let cause = "the key is too long".to_owned();
            Err(Error { code: ErrorCode::InvalidField, cause, index: 0 })
        }
        Ok((_, parameters))
            if !access::is_permitted(node, request, named, parameters.recursive).await =>
        {
            let cause = access::INSUFFICIENT.to_owned();
            Err(Error { code: ErrorCode::Unauthorized, cause, index: 0 })
        }
        Ok((path, parameters)) => match request.method() {
            &Method::GET if parameters.wait && !parameters.quorum => wait(node, path, &parameters),
            &Method::GET | &Method::HEAD => {
                let quorum = parameters.quorum && request.method() == Method::GET;
                read(node, path, &parameters, quorum).await
            }
            method => write(node, method, &path, &parameters).await,
        },
    };
    let mut response = answered.unwrap_or_else(|error| refusal(&error).map(Body::Whole));
    answer::add_cluster(&**node, &mut response);
    response
}

async fn read<N: Node>(
    node: &Rc<N>,
    path: Path,
    parameters: &Parameters,
    quorum: bool,
) -> Result<Response<Body>, Error> {
    if quorum {
        linearizable(node).await.map_err(|unavailable| internal(&unavailable.into()))?;
    }
    let published = node.published();
    let read = list(node, &published, path, parameters.recursive).await;
    let tally = node.v2_tally();
    let count = if read.is_ok() { &tally.gets } else { &tally.gets_failed };
    count.fetch_add(1, Relaxed);
    Ok(event(&published, &read?, false))
}

/// Reads a node in slices, between which the shard turns to other work.
async fn list<N: Node>(
    node: &Rc<N>,
    published: &Published,
    path: Path,
    recursive: bool,
) -> Result<Event, Error> {
    let (view, now) = (published.view.clone(), node.unix_nanoseconds());
    let mut listing = node.aside(move || Listing::new(view, &path, recursive, now)).await?;
    loop {
        let found;
        (listing, found) = node
            .aside(move || {
                let found = listing.step(limits::V2_NODES_PER_SLICE);
                (listing, found)
            })
            .await;
        if listing.bytes() > limits::RESPONSE_BYTES_MAX {
            return Err(too_large());
        }
        match found {
            // It comes in the order of names, which is what `sorted` asks for.
            Some(event) => return Ok(event),
            None => futures_lite::future::yield_now().await,
        }
    }
}

fn wait<N: Node>(
    node: &Rc<N>,
    path: Path,
    parameters: &Parameters,
) -> Result<Response<Body>, Error> {
    let published = node.published();
    let Parameters { recursive, stream, wait_index, .. } = *parameters;
    let watch = Watch::new(node, path, recursive, stream, wait_index)?;
    let mut response = Response::new(Body::Pieces(Box::new(watch)));
    add_indexes(&mut response, &published, published.view.v2_index());
    Ok(response)
}

async fn write<N: Node>(
    node: &Rc<N>,
    method: &Method,
    path: &Path,
    parameters: &Parameters,
) -> Result<Response<Body>, Error> {
    let change = change(node, method, path, parameters);
    if change.path.len() + change.value.len() > node.limits().request_bytes {
        return Err(internal(&REQUEST_TOO_LARGE));
    }
    if method != Method::DELETE && quota::is_exceeded(node, quota::v2_cost(&change)) {
        quota::raise_alarm(node).await;
        return Err(internal(&Unavailable::NoSpace.into()));
    }
    let outcome = node.propose_v2(change).await;
    let outcome = outcome.unwrap_or(Err(Unavailable::Stopped.into()));
    let done = outcome.map_err(|error| internal(&error.into()))??;
    let bare = parameters.no_value_on_success && method != Method::DELETE;
    Ok(event(&node.published(), &done, bare))
}

/// What a write asks of the store.
fn change<N: Node>(node: &Rc<N>, method: &Method, path: &Path, parameters: &Parameters) -> Change {
    let compares = parameters.compares();
    let action = match (method, parameters.prev_exist) {
        (&Method::POST, _) => Action::CreateInOrder,
        (&Method::DELETE, _) if compares => Action::CompareAndDelete,
        (&Method::DELETE, _) => Action::Delete,
        (_, Some(false)) => Action::Create,
        (_, Some(true) | None) if compares => Action::CompareAndSwap,
        (_, Some(true)) => Action::Update,
        (_, None) => Action::Set,
    };
    let now = node.unix_nanoseconds();
    Change {
        action: action.into(),
        path: path.as_str().to_owned(),
        value: parameters.value.clone(),
        dir: parameters.dir,
        recursive: parameters.recursive,
        refresh: parameters.refresh,
        prev_value: parameters.prev_value.clone(),
        prev_index: parameters.prev_index,
        expiration: parameters.ttl.and_then(|ttl| expiration(now, ttl)),
        now,
        // The member fills it in.
        history: 0,
        auth: false,
    }
}

/// Beyond what a time can be, it is never.
fn expiration(now: i64, ttl: u64) -> Option<i64> {
    now.checked_add(i64::try_from(ttl).ok()?.checked_mul(NANOSECONDS)?)
}

fn event(published: &Published, event: &Event, bare: bool) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Bytes::from(json::event(event, bare))));
    if event.is_created() {
        *response.status_mut() = StatusCode::CREATED;
    }
    add_indexes(&mut response, published, event.index);
    response
}

fn add_indexes(response: &mut Response<Body>, published: &Published, index: u64) {
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert("x-etcd-index", index.into());
    headers.insert("x-raft-index", published.committed.0.into());
    headers.insert("x-raft-term", published.term.0.into());
}

fn refusal(error: &Error) -> Response<Bytes> {
    let status = StatusCode::from_u16(error.code.status());
    let status = status.expect("invariant: the table of errors has statuses");
    let mut response = answer::json(status, json::error(error));
    response.headers_mut().insert("x-etcd-index", error.index.into());
    response
}

/// etcd gathers any answer, until its memory is used up.
fn too_large() -> Error {
    let max = limits::RESPONSE_BYTES_MAX;
    let cause = format!("etcdserver: the answer is larger than {max} bytes");
    Error { code: ErrorCode::RaftInternal, cause, index: 0 }
}

/// What etcd does not refuse but fail to do, clients hear as an error of raft's, with the text of the other API.
fn internal(status: &Status) -> Error {
    Error { code: ErrorCode::RaftInternal, cause: status.message.clone().into_owned(), index: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_too_far_away_is_never() {
        assert_eq!(expiration(7, 0), Some(7));
        assert_eq!(expiration(7, 2), Some(2 * NANOSECONDS + 7));
        assert_eq!(expiration(7, 9_223_372_036), Some(9_223_372_036 * NANOSECONDS + 7));
        assert_eq!(expiration(1_795_967_288 * NANOSECONDS, 9_223_372_036), None);
        assert_eq!(expiration(7, u64::MAX), None);
    }
}
