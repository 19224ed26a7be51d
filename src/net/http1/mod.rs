//! HTTP/1.1, by `hyper`: the plain endpoints such as `/version`, `/health` and `/metrics`, and the v2 API.
//!
//! A request is handed to the service once its body is whole. Between requests a connection may be silent for
//! [`http1_idle_timeout`](super::Options::http1_idle_timeout); the same time bounds how long a request may take to
//! arrive, so one that trickles in is cut off. An answer may take any time, and may come in pieces ([`Body::Pieces`]): a
//! client that waits for an event keeps its connection. `hyper` notices that a client has gone, and drops the body.
//!
//! No upgrades, and no gRPC: that needs HTTP/2.

pub mod probe;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;

use super::connections::{Connections, Control, Phase};
use super::statistics::add;
use super::transport::{Http1Io, Transport};
use crate::api::{Body, Service};

/// What `hyper` may buffer of a request's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Serves a connection until it ends.
pub(super) async fn serve<S: Service>(
    transport: &Rc<Transport>,
    service: Rc<S>,
    connections: &Rc<Connections>,
    control: &Rc<Control>,
) {
    control.enter(Phase::Http1Idle, connections.tick());
    let handler = service_fn(|request| {
        let service = Rc::clone(&service);
        let connections = Rc::clone(connections);
        let control = Rc::clone(control);
        async move { Ok::<_, Infallible>(answer(&service, &connections, &control, request).await) }
    });
    let transport_io = Http1Io(Rc::clone(transport));
    let mut connection = pin!(builder().serve_connection(transport_io, handler));

    let mut draining = false;
    poll_fn(|context| {
        control.register(context);
        transport.turn_begin();
        if control.close.get() {
            return Poll::Ready(());
        }
        if control.drain.get() && !draining {
            draining = true;
            connection.as_mut().graceful_shutdown();
        }
        // How it ended concerns the client only: `hyper` has answered what can be answered.
        if connection.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        if transport.turn_unfinished() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
}

fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    builder
}

async fn answer<S: Service>(
    service: &Rc<S>,
    connections: &Rc<Connections>,
    control: &Rc<Control>,
    request: Request<Incoming>,
) -> Response<Sending> {
    let request = whole(request, connections.options().message_bytes_max).await;
    control.enter(Phase::Http1Busy, connections.tick());
    let response = match request {
        Ok(request) => {
            add(&connections.statistics().http_requests, 1);
            service.http(request).await
        }
        Err((status, text)) => plain(status, text).map(Body::Whole),
    };
    let busy = Busy { connections: Rc::clone(connections), control: Rc::clone(control) };
    response.map(|body| Sending {
        // What is at hand is as good as sent.
        _busy: matches!(body, Body::Pieces(_)).then_some(busy),
        body,
    })
}

/// The request with its body, once that has arrived; or why it cannot be read.
async fn whole(
    request: Request<Incoming>,
    bytes_max: usize,
) -> Result<Request<Bytes>, (StatusCode, &'static str)> {
    let (parts, body) = request.into_parts();
    match Limited::new(body, bytes_max).collect().await {
        Ok(body) => Ok(Request::from_parts(parts, body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => {
            Err((StatusCode::PAYLOAD_TOO_LARGE, "the request body is too large\n"))
        }
        Err(_) => Err((StatusCode::BAD_REQUEST, "the request body cannot be read\n")),
    }
}

/// Until it is dropped, its connection is busy.
struct Busy {
    connections: Rc<Connections>,
    control: Rc<Control>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.control.enter(Phase::Http1Idle, self.connections.tick());
    }
}

/// A body as `hyper` wants it.
struct Sending {
    body: Body,
    _busy: Option<Busy>,
}

impl hyper::body::Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match &mut self.body {
            Body::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Body::Whole(bytes) => Poll::Ready(Some(std::mem::take(bytes))),
            Body::Pieces(pieces) => pieces.poll_piece(context),
        };
        piece.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.body, Body::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Pieces(_) => SizeHint::default(),
        }
    }
}

/// A short answer of our own.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
