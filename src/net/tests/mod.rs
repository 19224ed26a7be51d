//! A listener with a toy service, on an executor of its own, and clients that behave or do not.

mod calls;
mod hostile;
mod http1;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_lite::io::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;
use h2::client::SendRequest;
use http::{HeaderMap, Method as HttpMethod, Request, Response, Version};

use super::{Bound, Connections, Options, serve};
use crate::api::{Body, Call, Code, Encoded, Method, Pieces, Reply, ReplyStream, Service, Status};

/// Long enough for a slow machine; only a test that hangs takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the toy does with a call depends on its method.
#[derive(Default)]
struct Toy {
    /// `Range` calls, until the test answers them.
    held: RefCell<VecDeque<Box<dyn Reply>>>,
    /// `HealthWatch` streams.
    watches: RefCell<Vec<Box<dyn ReplyStream>>>,
    /// Calls taken, of any method.
    taken: Cell<usize>,
    /// Messages that `RangeStream` has sent so far, and streams it gave up because the caller had gone.
    streamed: Cell<usize>,
    stream_cancelled: Cell<usize>,
    /// Plain requests that wait for this to be set.
    http_released: Cell<bool>,
    /// Pieces that a body of `/pieces` has by now, who waits for more, and how many such bodies there are.
    pieces: Cell<usize>,
    piece_wakers: RefCell<Vec<std::task::Waker>>,
    piece_bodies: Cell<usize>,
}

impl Service for Toy {
    fn call(self: &Rc<Self>, call: Call) {
        self.taken.set(self.taken.get() + 1);
        match call.method {
            // Echoes.
            Method::Put => call.reply.unary(encoded(&call.message)),
            // An answer of as many bytes as the request says.
            Method::Txn => call.reply.unary(encoded(&vec![7; number(&call.message)])),
            Method::Range => self.held.borrow_mut().push_back(call.reply),
            Method::Compact => {
                call.reply.fail(Status::new(Code::OutOfRange, "100% comp\u{e4}cted"));
            }
            Method::Hash => drop(call.reply),
            Method::RangeStream => {
                let stream = call.reply.stream();
                let messages = number(&call.message);
                glommio::spawn_local(Rc::clone(self).stream(stream, messages)).detach();
            }
            // Echoes each request.
            Method::Watch => {
                let stream = call.reply.stream();
                glommio::spawn_local(echo(stream)).detach();
            }
            Method::HealthWatch => self.watches.borrow_mut().push(call.reply.stream()),
            method => call.reply.fail(Status::new(Code::Unknown, format!("{method:?}"))),
        }
    }

    async fn http(self: &Rc<Self>, request: Request<Bytes>) -> Response<Body> {
        if request.uri().path() == "/wait" {
            until(|| self.http_released.get()).await;
        }
        if request.uri().path() == "/pieces" {
            self.piece_bodies.set(self.piece_bodies.get() + 1);
            return Response::new(Body::Pieces(Box::new(ToyPieces {
                toy: Rc::clone(self),
                sent: 0,
            })));
        }
        let text =
            format!("{} {} {}\n", request.method(), request.uri().path(), request.body().len());
        Response::new(Body::Whole(Bytes::from(text)))
    }
}

/// A body that has as many pieces as the toy was told, and no end.
struct ToyPieces {
    toy: Rc<Toy>,
    sent: usize,
}

impl Pieces for ToyPieces {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.sent < self.toy.pieces.get() {
            self.sent += 1;
            return Poll::Ready(Some(Bytes::from(format!("piece {}\n", self.sent))));
        }
        self.toy.piece_wakers.borrow_mut().push(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for ToyPieces {
    fn drop(&mut self) {
        self.toy.piece_bodies.set(self.toy.piece_bodies.get() - 1);
    }
}

impl Toy {
    /// Sends messages of 10,000 bytes as the caller takes them.
    async fn stream(self: Rc<Self>, mut stream: Box<dyn ReplyStream>, messages: usize) {
        for _ in 0..messages {
            if std::future::poll_fn(|context| stream.poll_ready(context)).await.is_err() {
                self.stream_cancelled.set(self.stream_cancelled.get() + 1);
                return;
            }
            stream.send(encoded(&[9; 10_000]));
            self.streamed.set(self.streamed.get() + 1);
        }
        stream.finish(Status::OK);
    }

    fn answer_held(&self, message: &[u8]) {
        let reply = self.held.borrow_mut().pop_front().expect("a call is held");
        reply.unary(encoded(message));
    }
}

async fn echo(mut stream: Box<dyn ReplyStream>) {
    loop {
        match std::future::poll_fn(|context| stream.poll_request(context)).await {
            Some(Ok(message)) => stream.send(encoded(&message)),
            Some(Err(status)) => return stream.finish(status),
            None => return stream.finish(Status::OK),
        }
    }
}

fn encoded(message: &[u8]) -> Encoded {
    let mut encoded = Encoded::with_capacity(message.len());
    encoded.buffer().extend_from_slice(message);
    encoded
}

fn number(message: &[u8]) -> usize {
    std::str::from_utf8(message).unwrap().parse().unwrap()
}

/// A listener and its connections.
struct Server {
    address: SocketAddr,
    toy: Rc<Toy>,
    connections: Rc<Connections>,
}

/// Runs a test against a server, on this thread.
fn with_server<F: Future<Output = ()>>(options: Options, test: impl FnOnce(Rc<Server>) -> F) {
    let executor = glommio::LocalExecutorBuilder::default().make().expect("io_uring is available");
    executor.run(async {
        let bound = Bound::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let server = Rc::new(Server {
            address: bound.local_address().unwrap(),
            toy: Rc::new(Toy::default()),
            connections: Connections::new(options),
        });
        let listener = bound.listen();
        let accepting = Rc::clone(&server);
        glommio::spawn_local(async move {
            loop {
                let stream = listener.accept().await.unwrap().bind_to_executor();
                let toy = Rc::clone(&accepting.toy);
                let connections = Rc::clone(&accepting.connections);
                glommio::spawn_local(serve(stream, toy, connections)).detach();
            }
        })
        .detach();
        patiently(test(server)).await;
    });
}

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    let deadline = glommio::timer::Timer::new(PATIENCE);
    futures_lite::future::or(async { Some(future.await) }, async {
        deadline.await;
        None
    })
    .await
    .expect("the test hangs")
}

/// Waits for a condition that other tasks bring about.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        glommio::timer::sleep(Duration::from_millis(1)).await;
    }
}

/// A client's socket as `h2` wants it, without any cleverness.
struct ClientIo(TcpStream);

impl tokio::io::AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; 8192];
        let room = buffer.remaining().min(bytes.len());
        let stream = Pin::new(&mut self.0);
        futures_lite::io::AsyncRead::poll_read(stream, context, &mut bytes[..room])
            .map_ok(|received| buffer.put_slice(&bytes[..received]))
    }
}

impl tokio::io::AsyncWrite for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        futures_lite::io::AsyncWrite::poll_write(Pin::new(&mut self.0), context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        futures_lite::io::AsyncWrite::poll_close(Pin::new(&mut self.0), context)
    }
}

/// A well-behaved HTTP/2 client.
#[derive(Clone)]
struct Client {
    send: SendRequest<Bytes>,
    /// How the connection ended, once it has.
    ended: Rc<RefCell<Option<Result<(), h2::Error>>>>,
}

impl Server {
    async fn client(&self) -> Client {
        self.client_with(&h2::client::Builder::new()).await
    }

    async fn client_with(&self, builder: &h2::client::Builder) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (send, connection) = builder.handshake(ClientIo(stream)).await.unwrap();
        let ended = Rc::new(RefCell::new(None));
        let ending = Rc::clone(&ended);
        glommio::spawn_local(async move { *ending.borrow_mut() = Some(connection.await) }).detach();
        Client { send, ended }
    }

    /// A client that writes bytes.
    async fn raw(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// What a call came to.
#[derive(Debug)]
struct Answer {
    http: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: HeaderMap,
}

impl Answer {
    /// The gRPC status, from the trailers, or the headers of an answer that has nothing else.
    fn status(&self) -> (u16, &str) {
        let get = |name| self.trailers.get(name).or_else(|| self.headers.get(name));
        let code = get("grpc-status").expect("a status").to_str().unwrap().parse().unwrap();
        (code, get("grpc-message").map_or("", |message| message.to_str().unwrap()))
    }

    fn messages(&self) -> Vec<Vec<u8>> {
        let mut rest = &self.body[..];
        let mut messages = Vec::new();
        while !rest.is_empty() {
            assert_eq!(rest.get_u8(), 0, "not compressed");
            let length = rest.get_u32() as usize;
            messages.push(rest[..length].to_vec());
            rest.advance(length);
        }
        messages
    }
}

fn request(path: &str) -> http::request::Builder {
    Request::builder()
        .method(HttpMethod::POST)
        .version(Version::HTTP_2)
        .uri(format!("http://test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

fn frame(message: &[u8]) -> Bytes {
    let mut encoded = encoded(message);
    encoded.frame().expect("it is small");
    encoded.into_bytes()
}

impl Client {
    /// Sends a request in pieces and collects the answer.
    async fn exchange(
        &self,
        request: http::request::Builder,
        pieces: &[Bytes],
    ) -> Result<Answer, h2::Error> {
        let mut send = self.send.clone().ready().await?;
        let (response, mut body) =
            send.send_request(request.body(()).unwrap(), pieces.is_empty())?;
        for (index, piece) in pieces.iter().enumerate() {
            body.send_data(piece.clone(), index + 1 == pieces.len())?;
            // Each piece a frame of its own, some in reads of their own.
            glommio::executor().yield_now().await;
        }
        collect(response).await
    }

    /// A unary call with a well-formed message.
    async fn call(&self, path: &str, message: &[u8]) -> Answer {
        self.exchange(request(path), &[frame(message)]).await.unwrap()
    }
}

async fn collect(response: h2::client::ResponseFuture) -> Result<Answer, h2::Error> {
    let (parts, mut recv) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(chunk) = recv.data().await {
        let chunk = chunk?;
        recv.flow_control().release_capacity(chunk.len())?;
        body.extend_from_slice(&chunk);
    }
    let trailers = recv.trailers().await?.unwrap_or_default();
    Ok(Answer { http: parts.status.as_u16(), headers: parts.headers, body, trailers })
}

const PUT: &str = "/etcdserverpb.KV/Put";
const TXN: &str = "/etcdserverpb.KV/Txn";
const RANGE: &str = "/etcdserverpb.KV/Range";
const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const HASH: &str = "/etcdserverpb.Maintenance/Hash";
const STREAM: &str = "/etcdserverpb.Watch/Watch";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// Reads until the peer closes, or resets.
async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut bytes = [0; 4096];
    while let Ok(received @ 1..) = stream.read(&mut bytes).await {
        all.extend_from_slice(&bytes[..received]);
    }
    all
}

/// Reads until what was read ends in `end`.
async fn read_until(stream: &mut TcpStream, end: &[u8]) -> String {
    let mut all = Vec::new();
    while !all.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.expect("there is more to come");
        all.extend_from_slice(&byte);
    }
    String::from_utf8(all).expect("text")
}

async fn write(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).await.is_ok()
}
