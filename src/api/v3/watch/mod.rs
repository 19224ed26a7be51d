//! `etcdserverpb.Watch`: one task a stream, which takes requests, lets watchers that are behind read on, and sends.
//!
//! What happens is looked at once a shard, by the task that [`Hub`] is stepped from ([`follow`]).

mod hub;
mod index;
#[cfg(test)]
mod tests;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_lite::future::or;
use urd_proto::etcdserverpb::WatchRequest;
use urd_proto::etcdserverpb::watch_request::RequestUnion;

pub use self::hub::Hub;
use super::{decode, end_without_leader};
use crate::api::call::{Reply, ReplyStream, Status};
use crate::api::node::{Node, header};
use crate::error::Unavailable;
use crate::store::View;

/// Requests that a turn of a stream takes before others have theirs.
const TURN_REQUESTS: usize = 64;

/// `Watch`.
pub fn watch<N: Node>(node: &Rc<N>, needs_leader: bool, reply: Box<dyn Reply>) {
    let mut stream = reply.stream();
    let leaderless = end_without_leader(&**node, needs_leader);
    let key = node.hub().borrow_mut().open();
    let watching = Rc::clone(node);
    let mut ahead = Ahead::default();
    node.spawn(async move {
        let turns = poll_fn(|context| turn(&watching, key, &mut *stream, &mut ahead, context));
        let end = or(leaderless, turns).await;
        let is_empty = {
            let mut hub = watching.hub().borrow_mut();
            hub.close(key);
            hub.is_empty()
        };
        if is_empty {
            watching.set_watching(false);
        }
        if let Some(status) = end {
            stream.finish(status);
        }
    });
}

/// Reads what a stream's watchers have to catch up with, where a shard must not wait for it.
#[derive(Default)]
struct Ahead(Option<Pin<Box<dyn Future<Output = ()>>>>);

impl Ahead {
    /// Whether the next step of catching up finds its pages in memory. If not, the stream is woken when it does.
    fn is_read<N: Node>(
        &mut self,
        node: &Rc<N>,
        hub: &Hub,
        stream: usize,
        view: &View,
        context: &mut Context<'_>,
    ) -> bool {
        if self.0.is_none() && node.reads_aside() {
            self.0 = hub.reader(stream).map(|read| {
                let view = view.clone();
                Box::pin(node.aside(move || read(&view))) as Pin<Box<_>>
            });
        }
        let Some(reading) = &mut self.0 else { return true };
        let is_read = reading.as_mut().poll(context).is_ready();
        if is_read {
            self.0 = None;
        }
        is_read
    }
}

/// Looks at what was published since, for all watchers of the shard; true when there is more to look at.
pub fn follow<N: Node>(node: &N) -> bool {
    let published = node.published();
    let mut hub = node.hub().borrow_mut();
    hub.set_header(header(node.identity(), &published, published.view.revision()));
    let more = !hub.step(&published.view);
    node.note_watched(hub.next());
    more
}

/// A turn of a stream. Ready with its status, or without one when nobody is there to hear it.
fn turn<N: Node>(
    node: &Rc<N>,
    key: usize,
    stream: &mut dyn ReplyStream,
    ahead: &mut Ahead,
    context: &mut Context<'_>,
) -> Poll<Option<Status>> {
    if node.is_draining() {
        return Poll::Ready(Some(Unavailable::Stopped.into()));
    }
    let mut requests = 0;
    let mut unfinished = false;
    loop {
        // Whoever asks much, and reads little, waits.
        if requests >= TURN_REQUESTS || node.hub().borrow().is_full(key) {
            unfinished = true;
            break;
        }
        requests += 1;
        match stream.poll_request(context) {
            Poll::Ready(Some(Ok(message))) => {
                if let Err(status) = take(node, key, &message) {
                    return Poll::Ready(Some(status));
                }
            }
            Poll::Ready(Some(Err(status))) => return Poll::Ready(Some(status)),
            Poll::Ready(None) => return Poll::Ready(Some(Status::OK)),
            Poll::Pending => break,
        }
    }
    let more = {
        let published = node.published();
        let mut hub = node.hub().borrow_mut();
        hub.register(key, context.waker());
        ahead.is_read(node, &hub, key, &published.view, context)
            && hub.catch_up(key, &published.view)
    };
    while node.hub().borrow().has_output(key) {
        match stream.poll_ready(context) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        }
        let message = node.hub().borrow_mut().pop(key);
        if let Some(message) = message {
            stream.send(message);
        }
    }
    if more || unfinished {
        context.waker().wake_by_ref();
    }
    Poll::Pending
}

/// Carries out one request of the stream.
fn take<N: Node>(node: &Rc<N>, key: usize, message: &Bytes) -> Result<(), Status> {
    let request = decode::<WatchRequest>(message)?;
    if matches!(request.request_union, Some(RequestUnion::CreateRequest(_))) {
        // Before it looks: what is published from here on is kept until it was looked at.
        node.set_watching(true);
    }
    // The hub answers for the newest state, so it must have seen it.
    while follow(&**node) {}
    let published = node.published();
    let mut hub = node.hub().borrow_mut();
    match request.request_union {
        Some(RequestUnion::CreateRequest(create)) => {
            hub.create(key, &create, &published.view);
        }
        Some(RequestUnion::CancelRequest(cancel)) => {
            hub.cancel(key, cancel.watch_id, published.view.revision());
        }
        Some(RequestUnion::ProgressRequest(_)) => hub.progress(key),
        // etcd does nothing about a request that it does not know.
        None => {}
    }
    Ok(())
}
