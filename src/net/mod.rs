//! What a shard does with a client's connection.
//!
//! ```text
//! Listener ── accepted ──> serve ── sniff ──┬─ http2 ── grpc ──> Service::call ── Reply ──┐
//!                                           └─ http1 ─────────> Service::http             │
//!                            one task a connection, one send a turn <─────────────────────┘
//! ```
//!
//! One port speaks HTTP/2 with gRPC and HTTP/1.1; the first bytes tell which. Each connection is one task of its
//! shard's executor, and a unary call costs no task, no timer and no channel: it is handed to the service in the turn
//! that received it, and answered by a function call ([`crate::api::Reply`]). What decides the cost of a call is how
//! many share a system call, so the frames of all calls that were answered since the last turn leave together.
//!
//! # What holds
//!
//! - Memory is bounded for each connection: requests under way (those whose stream was reset included), their bytes,
//!   bytes of incomplete requests, answers queued, frames unsent (`options.rs` has the numbers). Beyond a bound the
//!   connection takes no new requests, or the newest is refused.
//! - A turn is bounded, so a client that never stops sending does not keep others waiting.
//! - A malformed request is answered with a status; only malformed HTTP ends a connection.
//! - A call's slot is freed when the service has let go of it *and* not before, whatever became of its stream.
//! - A client that reads nothing, says nothing, or says too much of no use is closed by the shard's clock
//!   (`connections.rs`) or by the guard (`http2/guard.rs`).
//!
//! # What it deliberately does not do
//!
//! No TLS yet. No compression: `grpc-encoding` other than `identity` is refused as gRPC says. It does not bound the size
//! of one answer: the service does. It does not place connections on shards: `server` does.

mod connections;
mod deadline;
mod grpc;
mod http1;
mod http2;
mod listener;
mod options;
mod sniff;
mod statistics;
mod transport;

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use glommio::net::TcpStream;

use crate::api::Service;
pub use connections::Connections;
use connections::{Control, Phase};
pub use http1::probe as http1_probe;
pub use http2::probe;
pub use listener::{BindError, Bound, Listener};
pub use options::Options;
use sniff::Protocol;
pub use statistics::{CODES, MethodStatistics, Statistics};
use transport::Transport;

/// Serves one connection until it ends. To be spawned on the executor that `connections` was created on.
pub async fn serve<S: Service>(stream: TcpStream, service: Rc<S>, connections: Rc<Connections>) {
    if connections.is_draining() {
        return;
    }
    // Frames are gathered here, so the kernel need not wait for more of them. A socket that is closed already says
    // so again when it is read.
    stream.set_nodelay(true).ok();
    let open = connections.open();
    let control = &open.control;
    let transport = Transport::new(stream, Rc::clone(&connections), Rc::clone(control));

    match recognize(&transport, control).await {
        Ok(Protocol::Http2) => http2::serve(&transport, service, &connections, control).await,
        Ok(Protocol::Http1) => http1::serve(&transport, service, &connections, control).await,
        Err(_) => return,
    }
    linger(&transport, &connections, control).await;
}

/// Waits for the first bytes, and tells the protocol.
async fn recognize(transport: &Transport, control: &Control) -> io::Result<Protocol> {
    poll_fn(|context| {
        control.register(context);
        if control.close.get() || control.drain.get() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        loop {
            match transport.poll_peek(context, sniff::sniff) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(Some(protocol))) => return Poll::Ready(Ok(protocol)),
                Poll::Ready(Ok(None)) => {}
            }
        }
    })
    .await
}

/// Sends what is left, and lets the client read it: to close with unread input would reset the connection, and the
/// reset may overtake the last words.
async fn linger(transport: &Transport, connections: &Connections, control: &Control) {
    if control.close.get() {
        return;
    }
    control.enter(Phase::Linger, connections.tick());
    let mut sent = false;
    poll_fn(|context| {
        control.register(context);
        transport.turn_begin();
        if control.close.get() {
            return Poll::Ready(());
        }
        if !sent {
            match transport.poll_shutdown(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => sent = true,
            }
        }
        if transport.poll_discard(context).is_ready() {
            return Poll::Ready(());
        }
        if transport.turn_unfinished() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests;
