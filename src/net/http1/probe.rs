//! A connection's bytes without a socket and a clock: for who feeds the server foreign bytes from outside this crate.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use hyper::rt::ReadBufCursor;
use hyper::service::service_fn;

use super::{Sending, builder, plain, whole};
use crate::api::{Body, Service};

/// The client's end of a connection that [`serve`] has the other end of.
#[derive(Clone, Default)]
pub struct Client(Rc<RefCell<Wire>>);

#[derive(Default)]
struct Wire {
    /// On its way to the server.
    received: Vec<u8>,
    has_left: bool,
    /// Who waits for more.
    reader: Option<Waker>,
    /// On its way to the client.
    sent: Vec<u8>,
}

impl Client {
    /// Sends these bytes.
    pub fn send(&self, bytes: &[u8]) {
        let mut wire = self.0.borrow_mut();
        wire.received.extend_from_slice(bytes);
        wire.wake();
    }

    /// Sends nothing more.
    pub fn leave(&self) {
        let mut wire = self.0.borrow_mut();
        wire.has_left = true;
        wire.wake();
    }

    /// What the server has sent since this was asked last.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().sent)
    }
}

impl Wire {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// Serves a connection until it ends, as a shard does it.
pub fn serve<S: Service>(
    client: &Client,
    service: Rc<S>,
    message_bytes_max: usize,
) -> impl Future<Output = ()> + 'static {
    let server = Server(Rc::clone(&client.0));
    async move {
        let handler = service_fn(|request| {
            let service = Rc::clone(&service);
            async move {
                let response = match whole(request, message_bytes_max).await {
                    Ok(request) => service.http(request).await,
                    Err((status, text)) => plain(status, text).map(Body::Whole),
                };
                Ok::<_, Infallible>(response.map(|body| Sending { body, _busy: None }))
            }
        });
        // How it ended concerns the client only.
        builder().serve_connection(server, handler).await.ok();
    }
}

struct Server(Rc<RefCell<Wire>>);

impl hyper::rt::Read for Server {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut wire = self.0.borrow_mut();
        if wire.received.is_empty() && !wire.has_left {
            wire.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let taken = wire.received.len().min(buffer.remaining());
        buffer.put_slice(wire.received.get(..taken).unwrap_or_default());
        wire.received.drain(..taken);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Server {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().sent.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
