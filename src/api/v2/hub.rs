//! Who waits for events on one shard.
//!
//! Events stand in the store's history. When something was published, the hub reads what is new once ([`follow`]), finds
//! by the event's path whom it concerns, and hands each of them the same bytes. So a thousand who wait for one key cost a
//! name in a map each, and one look at the event that wakes them.
//!
//! One whose client does not take its events keeps [`EVENTS_PER_WAITER_MAX`] here; it reads the rest from the history when
//! it comes back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use slab::Slab;

use super::json;
use crate::api::node::Node;
use crate::store::v2::{Interest, Seen};

/// Events that wait for one stream to take them.
const EVENTS_PER_WAITER_MAX: usize = 100;
/// Events that one turn looks at.
const EVENTS_PER_TURN: usize = 256;

/// See the module's page.
#[derive(Default)]
pub struct Hub {
    waiters: Slab<Waiter>,
    /// By the path that they wait for.
    places: BTreeMap<String, BTreeSet<usize>>,
    /// Everything before it was shown to those who wait.
    next: u64,
}

struct Waiter {
    interest: Interest,
    /// Nothing before it is meant.
    since: u64,
    events: VecDeque<(u64, Bytes)>,
    room: usize,
    /// What came when there was no room begins here, or the history has lost what it waits for.
    missed: Option<Missed>,
    waker: Option<Waker>,
}

/// What a member counts itself, over all its shards: nothing of it is in the store.
#[derive(Debug, Default)]
pub struct Tally {
    /// Reads that found a node.
    pub gets: AtomicU64,
    /// Reads that did not.
    pub gets_failed: AtomicU64,
    /// Those who wait.
    pub waiters: AtomicU64,
}

/// Why a waiter has to look into the history itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// From this index on it was not told.
    Since(u64),
    /// Nobody knows what happened: the history did not reach back to where the hub stood.
    All,
}

impl Hub {
    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Takes one in who wants events from index `since` on, and has looked at all up to `seen`. `events_max` are enough.
    pub(super) fn enter(
        &mut self,
        interest: Interest,
        since: u64,
        seen: u64,
        is_stream: bool,
    ) -> usize {
        if self.waiters.is_empty() {
            self.next = seen + 1;
        }
        let path = interest.path.as_str().to_owned();
        let waiter = Waiter {
            interest,
            since: since.max(seen + 1),
            events: VecDeque::new(),
            room: if is_stream { EVENTS_PER_WAITER_MAX } else { 1 },
            missed: None,
            waker: None,
        };
        let key = self.waiters.insert(waiter);
        self.places.entry(path).or_default().insert(key);
        key
    }

    /// Forgets one.
    pub(super) fn leave(&mut self, key: usize) {
        let waiter = self.waiters.remove(key);
        let path = waiter.interest.path.as_str();
        if let Some(here) = self.places.get_mut(path) {
            here.remove(&key);
            if here.is_empty() {
                self.places.remove(path);
            }
        }
    }

    /// The next event for one, with its index; or why it has to look itself.
    pub(super) fn poll(
        &mut self,
        key: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<(u64, Bytes), Missed>> {
        let waiter = &mut self.waiters[key];
        if let Some(event) = waiter.events.pop_front() {
            return Poll::Ready(Ok(event));
        }
        if let Some(missed) = waiter.missed {
            return Poll::Ready(Err(missed));
        }
        if !waiter.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            waiter.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Lets all look whether they are to end.
    pub fn wake_all(&mut self) {
        for (_, waiter) in &mut self.waiters {
            waiter.wake();
        }
    }

    /// Tells those whom an event concerns.
    fn show(&mut self, seen: &Seen<'_>) {
        if seen.is_refresh() {
            return;
        }
        let concerned = self.concerned(seen);
        if concerned.is_empty() {
            return;
        }
        let bytes = Bytes::from(json::event(&seen.event(), false));
        for key in concerned {
            self.waiters[key].tell(seen.index(), &bytes);
        }
    }

    fn concerned(&self, seen: &Seen<'_>) -> Vec<usize> {
        let path = seen.key();
        let above = path.match_indices('/').skip(1).filter_map(|(end, _)| path.get(..end));
        let root = (path != "/").then_some("/");
        let at = |path: &str| self.places.get(path).into_iter().flatten();
        let mut concerned: Vec<usize> =
            root.into_iter().chain(above).chain([path]).flat_map(at).copied().collect();
        if seen.has_removed_dir() {
            let begin = format!("{path}/");
            let below = self.places.range(begin.clone()..);
            let below = below.take_while(|(place, _)| place.starts_with(&begin));
            concerned.extend(below.flat_map(|(_, keys)| keys));
        }
        concerned.retain(|key| seen.concerns(&self.waiters[*key].interest));
        concerned
    }

    /// What those who wait wait for may have happened, and is not known any more.
    fn lose(&mut self, next: u64) {
        self.next = next;
        for (_, waiter) in &mut self.waiters {
            waiter.missed.get_or_insert(Missed::All);
            waiter.wake();
        }
    }
}

impl Waiter {
    fn tell(&mut self, index: u64, bytes: &Bytes) {
        if index < self.since || self.missed.is_some() {
            return;
        }
        if self.events.len() < self.room {
            self.events.push_back((index, bytes.clone()));
        } else {
            self.missed = Some(Missed::Since(index));
        }
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Shows those who wait on this shard some of what was published. Says whether there is more.
pub fn follow<N: Node>(node: &N) -> bool {
    let mut hub = node.v2_hub().borrow_mut();
    if hub.is_empty() {
        return false;
    }
    let published = node.published();
    let view = &published.view;
    let shown = view.v2_for_each_event(hub.next, EVENTS_PER_TURN, |seen| {
        hub.show(&seen);
        true
    });
    match shown {
        Ok(next) => {
            hub.next = next;
            next <= view.v2_index()
        }
        Err(_) => {
            hub.lose(view.v2_index() + 1);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::command::{Batch, BatchBuilder};
    use crate::store::v2::{Action, Path, Request};

    /// A hub, and a store whose events it is shown.
    struct Scene {
        store: Store,
        hub: Hub,
    }

    impl Scene {
        fn new() -> Self {
            Self { store: Store::new(), hub: Hub::default() }
        }

        fn enter(&mut self, path: &str, recursive: bool, is_stream: bool) -> usize {
            let seen = self.store.view().v2_index();
            let interest = Interest { path: Path::new(path), recursive, hidden: false };
            self.hub.enter(interest, 0, seen, is_stream)
        }

        fn happens(&mut self, action: Action, path: &str) {
            let mut batch = BatchBuilder::default();
            batch.append_v2(&Request {
                action: action.into(),
                path: path.to_owned(),
                recursive: action == Action::Delete,
                history: 1000,
                ..Request::default()
            });
            let batch = Batch::decode(batch.finish()).unwrap();
            let (index, term) = (self.store.applied().next(), self.store.term());
            self.store.apply(index, term, &batch);
            self.store.publish();
        }

        /// Shows what has happened since the last time.
        fn follow(&mut self) {
            let (hub, view) = (&mut self.hub, self.store.view());
            let next = view.v2_for_each_event(hub.next, usize::MAX, |seen| {
                hub.show(&seen);
                true
            });
            hub.next = next.unwrap();
        }

        /// The paths of what one is told, and why there is no more, if it missed something.
        fn told(&mut self, key: usize) -> (Vec<String>, Option<Missed>) {
            let mut context = Context::from_waker(Waker::noop());
            let mut paths = Vec::new();
            loop {
                match self.hub.poll(key, &mut context) {
                    Poll::Ready(Ok((_, bytes))) => {
                        let event: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                        paths.push(event["node"]["key"].as_str().unwrap().to_owned());
                    }
                    Poll::Ready(Err(missed)) => return (paths, Some(missed)),
                    Poll::Pending => return (paths, None),
                }
            }
        }
    }

    #[test]
    fn those_are_told_whom_it_concerns() {
        let mut scene = Scene::new();
        scene.happens(Action::Set, "/dir/sub/before");
        let root = scene.enter("/", true, true);
        let root_alone = scene.enter("/", false, true);
        let dir = scene.enter("/dir", true, true);
        let dir_alone = scene.enter("/dir", false, true);
        let below = scene.enter("/dir/sub/none", false, true);
        let hidden = scene.enter("/dir/_h", true, true);
        let like_it = scene.enter("/di", true, true);
        for path in ["/dir/a", "/dir/_h/b", "/dirt", "/_x"] {
            scene.happens(Action::Set, path);
        }
        scene.happens(Action::Delete, "/dir");
        scene.follow();
        for (key, expected) in [
            (root, &["/dir/a", "/dirt", "/dir"][..]),
            (root_alone, &[]),
            (dir, &["/dir/a", "/dir"]),
            (dir_alone, &["/dir"]),
            (below, &["/dir"]),
            (hidden, &["/dir/_h/b", "/dir"]),
            (like_it, &[]),
        ] {
            let (paths, missed) = scene.told(key);
            assert_eq!(
                (&paths[..], missed),
                (&expected.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()[..], None)
            );
        }
        for key in [root, root_alone, dir, dir_alone, below, hidden, like_it] {
            scene.hub.leave(key);
        }
        assert!(scene.hub.is_empty() && scene.hub.places.is_empty());
    }

    #[test]
    fn who_does_not_listen_has_to_look_itself() {
        let mut scene = Scene::new();
        let stream = scene.enter("/k", false, true);
        let once = scene.enter("/k", false, false);
        let first = scene.store.view().v2_index() + 1;
        for _ in 0..=EVENTS_PER_WAITER_MAX {
            scene.happens(Action::Set, "/k");
        }
        scene.follow();
        let (paths, missed) = scene.told(stream);
        assert_eq!(paths.len(), EVENTS_PER_WAITER_MAX);
        assert_eq!(missed, Some(Missed::Since(first + EVENTS_PER_WAITER_MAX as u64)));
        let (paths, missed) = scene.told(once);
        assert_eq!((paths.len(), missed), (1, Some(Missed::Since(first + 1))));

        let late = scene.enter("/k", false, true);
        scene.hub.lose(1000);
        assert_eq!(scene.told(late), (Vec::new(), Some(Missed::All)));
    }

    #[test]
    fn what_is_past_or_too_early_is_not_told() {
        let mut scene = Scene::new();
        let first = scene.enter("/other", false, true);
        scene.happens(Action::Set, "/k");
        // It has seen that one, though the hub has not.
        let late = scene.enter("/k", false, true);
        let seen = scene.store.view().v2_index();
        let interest = Interest { path: Path::new("/k"), recursive: false, hidden: false };
        let future = scene.hub.enter(interest, seen + 2, seen, true);
        scene.happens(Action::Set, "/k");
        scene.happens(Action::Set, "/k");
        scene.follow();
        assert_eq!(scene.told(first).0.len(), 0);
        assert_eq!(scene.told(late).0.len(), 2);
        assert_eq!(scene.told(future).0.len(), 1);
    }
}
