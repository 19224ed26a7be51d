//! Calls that break gRPC's rules or ask for what must be refused: a status for each, and the connection lives on.

use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request, StatusCode};
use prost::Message;
use urd_proto::etcdserverpb as pb;
use urd_proto::etcdserverpb::request_op::Request as Op;

use super::wire::grpc_frame;
use crate::harness::{Client, Program, Server, only_urd};

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const TXN: &str = "/etcdserverpb.KV/Txn";
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// An answer as it came: gRPC's status stands in the trailers, or in the headers when there is nothing else.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
}

impl Reply {
    pub(crate) fn grpc_status(&self) -> Option<&str> {
        self.field("grpc-status")
    }

    pub(crate) fn grpc_message(&self) -> &str {
        self.field("grpc-message").unwrap_or_default()
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.trailers
            .get(name)
            .or_else(|| self.headers.get(name))
            .and_then(|value| value.to_str().ok())
    }
}

/// An HTTP/2 connection without any gRPC library on it.
pub(crate) async fn connect(endpoint: &str) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(endpoint).await.expect("connect");
    stream.set_nodelay(true).expect("set TCP_NODELAY");
    // h2 takes hundreds of small answers that lie unread for an attack, unless the window is large.
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(16 << 20);
    let (client, connection) = builder.handshake(stream).await.expect("an HTTP/2 handshake");
    tokio::spawn(connection);
    client
}

/// A call as gRPC wants it.
pub(crate) fn request(path: &str) -> Request<()> {
    request_with(path, &[])
}

fn request_with(path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request of the test's own");
    for (name, value) in fields {
        let name: http::HeaderName = name.parse().expect("a header name");
        request.headers_mut().insert(name, value.parse().expect("a header value"));
    }
    request
}

/// Everything the server answers on one stream.
pub(crate) async fn reply(response: ResponseFuture) -> Result<Reply, h2::Error> {
    let (head, mut stream) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await?.unwrap_or_default();
    Ok(Reply { status: head.status, headers: head.headers, body, trailers })
}

/// One connection, on which a test makes its bad calls one after the other.
struct Caller {
    server: Server,
    client: SendRequest<Bytes>,
}

impl Caller {
    async fn start() -> Caller {
        let server = Server::start_fresh(Program::Subject);
        let client = connect(&server.endpoint()).await;
        Caller { server, client }
    }

    async fn call(&mut self, request: Request<()>, body: &[u8]) -> Reply {
        let name = format!("{} {:?}", request.uri().path(), request.headers());
        let mut client = self.client.clone().ready().await.expect("the connection lives");
        let (response, mut sender) =
            client.send_request(request, body.is_empty()).expect("open a stream");
        if !body.is_empty() {
            // A server may have answered before it has read everything.
            sender.send_data(Bytes::copy_from_slice(body), true).ok();
        }
        tokio::time::timeout(ANSWER_MAX, reply(response))
            .await
            .unwrap_or_else(|_| panic!("{name}: no answer within {ANSWER_MAX:?}"))
            .unwrap_or_else(|error| panic!("{name}: not an answer but {error}"))
    }

    /// A good call on the same connection: nothing that came before has broken it.
    async fn assert_usable(&mut self, after: &str) {
        self.server.assert_running(after);
        let reply = self.call(request(RANGE), &get()).await;
        assert_eq!(reply.grpc_status(), Some(OK), "after {after}: {reply:?}");
        assert!(!reply.body.is_empty(), "after {after}: an answer without a message: {reply:?}");
    }

    async fn refuses(
        &mut self,
        name: &str,
        request: Request<()>,
        body: &[u8],
        codes: &[&str],
    ) -> Reply {
        let reply = self.call(request, body).await;
        let code = reply.grpc_status();
        assert!(
            code.is_some_and(|code| codes.contains(&code)),
            "{name}: grpc-status {code:?}, expected one of {codes:?}: {reply:?}"
        );
        self.assert_usable(name).await;
        reply
    }
}

fn get() -> Vec<u8> {
    grpc_frame(&pb::RangeRequest { key: "a".into(), ..Default::default() }.encode_to_vec())
}

/// etcd 3.4's gRPC library answers some of these with codes that the protocol has since ruled out.
const OLD_CODES: &str = "its gRPC library of 2018 has other codes here";

const OK: &str = "0";
const INVALID_ARGUMENT: &str = "3";
const DEADLINE_EXCEEDED: &str = "4";
const RESOURCE_EXHAUSTED: &str = "8";
const UNIMPLEMENTED: &str = "12";
const INTERNAL: &str = "13";

#[tokio::test]
async fn malformed_messages_get_a_status() {
    if only_urd(OLD_CODES) {
        return;
    }
    let mut caller = Caller::start().await;
    let longer_than_the_data = [&[0, 0, 0, 0, 100][..], b"short"].concat();
    let compressed = [&[1, 0, 0, 0, 3][..], b"abc"].concat();
    let bad: &[(&str, &[u8])] = &[
        ("a message shorter than its length", &longer_than_the_data),
        ("half of a length", &[0, 0, 0]),
        ("the compressed flag without an encoding", &compressed),
        ("a field that runs past the message", &[0, 0, 0, 0, 2, 0x0a, 0x7f]),
        ("not a protobuf message", &[0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]),
    ];
    for (name, body) in bad {
        caller
            .refuses(name, request(RANGE), body, &[INTERNAL, INVALID_ARGUMENT, UNIMPLEMENTED])
            .await;
    }
    caller
        .refuses("no message", request(RANGE), &[], &[INTERNAL, INVALID_ARGUMENT, UNIMPLEMENTED])
        .await;
}

#[tokio::test]
async fn oversized_messages_get_a_status() {
    let mut caller = Caller::start().await;
    let four_gib = [&[0, 0xff, 0xff, 0xff, 0xff][..], b"and a little"].concat();
    caller.refuses("a length of 4 GiB", request(PUT), &four_gib, &[RESOURCE_EXHAUSTED]).await;
    let put = |size: usize| {
        let request = pb::PutRequest {
            key: "k".into(),
            value: vec![b'x'; size].into(),
            ..Default::default()
        };
        grpc_frame(&request.encode_to_vec())
    };
    let reply = caller.refuses("1.6 MiB", request(PUT), &put(1_677_721), &[INVALID_ARGUMENT]).await;
    assert_eq!(reply.grpc_message(), "etcdserver: request is too large");
    caller.refuses("2.5 MiB", request(PUT), &put(2_621_440), &[RESOURCE_EXHAUSTED]).await;
}

#[tokio::test]
async fn unknown_methods_are_unimplemented() {
    if only_urd(OLD_CODES) {
        return;
    }
    let mut caller = Caller::start().await;
    for path in
        ["/etcdserverpb.KV/Nothing", "/nothing.Service/Method", "/etcdserverpb.KV", "/", "/a/b/c"]
    {
        caller.refuses(path, request(path), &get(), &[UNIMPLEMENTED]).await;
    }
}

#[tokio::test]
async fn unknown_encodings_are_refused_with_those_known() {
    let mut caller = Caller::start().await;
    let request = request_with(RANGE, &[("grpc-encoding", "brotli")]);
    let compressed = [&[1, 0, 0, 0, 3][..], b"abc"].concat();
    let reply = caller.refuses("an unknown encoding", request, &compressed, &[UNIMPLEMENTED]).await;
    if !crate::harness::subject_is_etcd() {
        assert!(
            reply.field("grpc-accept-encoding").is_some(),
            "the answer must name what is accepted: {reply:?}"
        );
    }
}

#[tokio::test]
async fn other_content_types_are_refused() {
    if only_urd("etcd hands them to its HTTP/1.1 handlers") {
        return;
    }
    let mut caller = Caller::start().await;
    for content_type in ["text/plain", "application/json", "application/grpcx"] {
        let mut request = request(RANGE);
        request.headers_mut().insert("content-type", content_type.parse().expect("a header value"));
        let reply = caller.call(request, &get()).await;
        assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type}: {reply:?}");
        caller.assert_usable(content_type).await;
    }
    for content_type in ["application/grpc+proto", "application/grpc;charset=utf-8"] {
        let mut request = request(RANGE);
        request.headers_mut().insert("content-type", content_type.parse().expect("a header value"));
        let reply = caller.call(request, &get()).await;
        assert_eq!(reply.grpc_status(), Some(OK), "{content_type}: {reply:?}");
    }
}

#[tokio::test]
async fn deadlines_are_read_and_kept() {
    if only_urd(OLD_CODES) {
        return;
    }
    let mut caller = Caller::start().await;
    for timeout in ["1H", "10M", "60S", "60000m", "60000000u", "99999999n", "00000060S"] {
        // 99,999,999 ns is a tenth of a second: the one form in which more cannot be said.
        let codes: &[&str] = if timeout.ends_with('n') { &[OK, DEADLINE_EXCEEDED] } else { &[OK] };
        let request = request_with(RANGE, &[("grpc-timeout", timeout)]);
        caller.refuses(timeout, request, &get(), codes).await;
    }
    let put = pb::PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
    let put = grpc_frame(&put.encode_to_vec());
    for timeout in ["1n", "0S", "0n"] {
        let request = request_with(PUT, &[("grpc-timeout", timeout)]);
        caller.refuses(timeout, request, &put, &[DEADLINE_EXCEEDED]).await;
    }
    for timeout in ["", "5", "S", "-5S", "5s", "123456789S", "1 S", "0x5S"] {
        let request = request_with(RANGE, &[("grpc-timeout", timeout)]);
        caller.refuses(timeout, request, &get(), &[INTERNAL, INVALID_ARGUMENT]).await;
    }
}

/// A deadline passes while the request's body is still awaited.
#[tokio::test]
async fn deadlines_end_calls_that_never_complete() {
    let caller = Caller::start().await;
    let mut client = caller.client.clone().ready().await.expect("the connection lives");
    let request = request_with(PUT, &[("grpc-timeout", "100m")]);
    let (response, _sender) = client.send_request(request, false).expect("open a stream");
    let outcome =
        tokio::time::timeout(ANSWER_MAX, reply(response)).await.expect("an end before long");
    // grpc-go resets such a stream, a status is kinder; both end it.
    if let Ok(reply) = outcome {
        assert_eq!(reply.grpc_status(), Some(DEADLINE_EXCEEDED), "{reply:?}");
    }
}

#[tokio::test]
async fn cancelled_calls_leave_the_connection_usable() {
    let mut caller = Caller::start().await;
    for _ in 0..50 {
        let mut client = caller.client.clone().ready().await.expect("the connection lives");
        let (response, mut sender) =
            client.send_request(request(PUT), false).expect("open a stream");
        sender.send_reset(h2::Reason::CANCEL);
        drop(response);
    }
    caller.assert_usable("50 cancelled calls").await;
}

/// A transaction in a transaction, thousands deep: a few bytes a level on the wire, a stack frame a level to a decoder.
#[tokio::test]
async fn deep_transactions_are_no_danger() {
    let mut caller = Caller::start().await;
    for depth in [50, 200, 5_000] {
        let reply = caller.call(request(TXN), &grpc_frame(&nested(depth))).await;
        println!("{depth} deep: {:?} {:?}", reply.grpc_status(), reply.grpc_message());
        caller.assert_usable("a deep transaction").await;
    }
}

/// Message bytes by hand, from the inside out; the library's own encoder would need the stack that it attacks.
fn nested(depth: usize) -> Vec<u8> {
    let field = |number: u8, content: &[u8]| {
        let mut bytes = vec![number << 3 | 2];
        prost::encoding::encode_varint(content.len() as u64, &mut bytes);
        bytes.extend_from_slice(content);
        bytes
    };
    // TxnRequest.success = 2, RequestOp.request_txn = 4
    (0..depth).fold(Vec::new(), |inner, _| field(2, &field(4, &inner)))
}

/// Requests that end the process of some etcd releases.
#[tokio::test]
async fn requests_that_end_etcd_get_an_answer() {
    if only_urd("they end it") {
        return;
    }
    let mut server = Server::start_fresh(Program::Subject);
    let mut client = Client::connect(&server.endpoint()).await;
    for (sort_order, sort_target) in [(7, 0), (0, 7), (-1, 3), (1, -1)] {
        let request = pb::RangeRequest {
            key: "a".into(),
            range_end: "\0".into(),
            sort_order,
            sort_target,
            ..Default::default()
        };
        let status = client.range(request).await.expect_err("a sort option that does not exist");
        assert_eq!(status.message(), "etcdserver: invalid sort option");
    }
    let key = "doomed";
    client.put(pb::PutRequest { key: key.into(), ..Default::default() }).await.expect("put");
    let sweep =
        pb::DeleteRangeRequest { key: "a".into(), range_end: "\0".into(), ..Default::default() };
    let keep = pb::PutRequest { key: key.into(), ignore_value: true, ..Default::default() };
    let operations = [Op::RequestDeleteRange(sweep), Op::RequestPut(keep)];
    let success =
        operations.into_iter().map(|request| pb::RequestOp { request: Some(request) }).collect();
    let outcome = client.txn(pb::TxnRequest { success, ..Default::default() }).await;
    println!("a put that keeps the value which the same transaction deletes: {outcome:?}");
    server.assert_running("a transaction that contradicts itself");
    client
        .put(pb::PutRequest { key: key.into(), ..Default::default() })
        .await
        .expect("the server lives on");
    // The log holds it now: a restart must not trip over it either.
    server.kill();
    server.restart();
}
