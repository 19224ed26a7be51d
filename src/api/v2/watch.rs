//! `wait=true`: an answer whose body comes when something happens.
//!
//! It looks into the history first, then waits at the shard's [`Hub`](super::hub::Hub). One that streams goes on after its
//! first event. (etcd's stream ends up deaf if that event was in its history; ours goes on.)

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::hub::Missed;
use super::json;
use crate::api::call::Pieces;
use crate::api::node::Node;
use crate::store::v2::{Error, Interest, Path, Sought};

/// Events of the history that one turn looks at.
const EVENTS_PER_TURN: usize = 1024;

/// See the module's page.
pub(super) struct Watch<N: Node> {
    node: Rc<N>,
    interest: Interest,
    is_stream: bool,
    /// The first index that is meant.
    next: u64,
    /// Its place in the hub, while it waits there.
    place: Option<usize>,
    has_ended: bool,
}

impl<N: Node> Watch<N> {
    /// Waits for events on `path` from index `since` on; 0: for what happens from now on.
    ///
    /// # Errors
    /// The history does not reach back so far.
    pub(super) fn new(
        node: &Rc<N>,
        path: Path,
        recursive: bool,
        is_stream: bool,
        since: u64,
    ) -> Result<Self, Error> {
        let index = node.published().view.v2_index();
        let mut watch = Self {
            node: Rc::clone(node),
            interest: Interest { path, recursive, hidden: true },
            is_stream,
            next: if since == 0 { index + 1 } else { since },
            place: None,
            has_ended: false,
        };
        // Whatever is not found here is looked for when the body is asked for it.
        if watch.next > index {
            watch.enter(index);
        } else {
            node.published().view.v2_event_since(&watch.interest, watch.next, 1)?;
        }
        Ok(watch)
    }

    /// Goes to wait, having looked at everything up to `seen`.
    fn enter(&mut self, seen: u64) {
        self.interest.hidden = false;
        let mut hub = self.node.v2_hub().borrow_mut();
        self.place = Some(hub.enter(self.interest.clone(), self.next, seen, self.is_stream));
        let is_first = hub.len() == 1;
        drop(hub);
        self.node.v2_tally().waiters.fetch_add(1, Relaxed);
        if is_first {
            self.node.set_v2_watching(true);
        }
    }

    fn leave(&mut self) {
        let Some(place) = self.place.take() else { return };
        let mut hub = self.node.v2_hub().borrow_mut();
        hub.leave(place);
        let was_last = hub.is_empty();
        drop(hub);
        self.node.v2_tally().waiters.fetch_sub(1, Relaxed);
        if was_last {
            self.node.set_v2_watching(false);
        }
    }

    /// Looks into the history: the next event, if it has one.
    fn seek(&mut self, context: &Context<'_>) -> Poll<Result<Option<(u64, Bytes)>, Error>> {
        let published = self.node.published();
        let view = &published.view;
        match view.v2_event_since(&self.interest, self.next, EVENTS_PER_TURN)? {
            Sought::Found(event) => {
                Poll::Ready(Ok(Some((event.index, Bytes::from(json::event(&event, false))))))
            }
            Sought::NotYet => {
                self.enter(view.v2_index());
                Poll::Ready(Ok(None))
            }
            Sought::More(next) => {
                self.next = next;
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn end(&mut self) -> Poll<Option<Bytes>> {
        self.has_ended = true;
        self.leave();
        Poll::Ready(None)
    }
}

impl<N: Node> Pieces for Watch<N> {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.has_ended || self.node.is_draining() {
            return self.end();
        }
        loop {
            let found = match self.place {
                Some(place) => {
                    let polled = self.node.v2_hub().borrow_mut().poll(place, context);
                    match std::task::ready!(polled) {
                        Ok(found) => found,
                        Err(missed) => {
                            self.leave();
                            if let Missed::Since(index) = missed {
                                self.next = index;
                            }
                            continue;
                        }
                    }
                }
                None => match std::task::ready!(self.seek(context)) {
                    Ok(Some(found)) => found,
                    Ok(None) => continue,
                    // The answer has begun, so all that is left is to end it.
                    Err(_) => return self.end(),
                },
            };
            let (index, bytes) = found;
            self.next = index + 1;
            if !self.is_stream {
                self.has_ended = true;
                self.leave();
            }
            return Poll::Ready(Some(bytes));
        }
    }
}

impl<N: Node> Drop for Watch<N> {
    fn drop(&mut self) {
        self.leave();
    }
}
