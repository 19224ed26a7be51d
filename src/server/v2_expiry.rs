//! The leader's clock for v2: has nodes expire whose time is over.
//!
//! When a node expires stands in the store, in Unix time, as the member reckoned that proposed it. The leader compares the
//! first of these times with its own clock, as often as a heartbeat is due, and proposes an entry that has a bounded number
//! of nodes expire: one at a time, so that a write beside them waits for no more than one. All members remove what the
//! entry's time says, none looks at a clock of its own. An entry that is applied late, or under another leader, does no
//! harm: what expires up to its time is over in any case, and a node whose time was put off has a later one in the store.
//!
//! What this file does not do: it does not read the clock, and does no I/O.

use std::time::{Duration, Instant};

use crate::limits;
use crate::store::View;
use crate::store::command::{BatchBuilder, Command};
use crate::store::v2::Expiry;

/// How long to wait after an entry has failed.
const RETRY: Duration = Duration::from_secs(1);

/// See the module's page.
#[derive(Debug)]
pub struct V2Expiry {
    /// `--v2-history`.
    history: u64,
    /// When the first node expires, in nanoseconds of Unix time, as of this index.
    first: Option<i64>,
    as_of: Option<u64>,
    under_way: bool,
    /// Not before, because an entry has failed.
    propose_from: Option<Instant>,
}

impl V2Expiry {
    /// Nothing is under way. `history`: how many events are kept.
    pub fn new(history: u64) -> Self {
        Self { history, first: None, as_of: None, under_way: false, propose_from: None }
    }

    /// Looks for the first node to expire in the newest view, if it may be another one.
    pub fn follow(&mut self, view: &View) {
        // No expiration changes without the index.
        if self.as_of.replace(view.v2_index()) != Some(view.v2_index()) {
            self.first = view.v2_first_expiration();
        }
    }

    /// Whether [`V2Expiry::propose`] would propose something, at `unix` nanoseconds.
    pub fn wants_to_propose(&self, now: Instant, unix: i64) -> bool {
        let waits = self.propose_from.is_some_and(|from| now < from);
        !self.under_way && !waits && self.first.is_some_and(|first| first <= unix)
    }

    /// What to propose now, if anything; its outcome goes to [`V2Expiry::applied`] or [`V2Expiry::failed`].
    pub fn propose(&mut self, now: Instant, unix: i64) -> Option<BatchBuilder> {
        if !self.wants_to_propose(now, unix) {
            return None;
        }
        self.under_way = true;
        self.propose_from = None;
        let (nodes_max, history) = (limits::V2_NODES_PER_EXPIRY, self.history);
        let mut batch = BatchBuilder::default();
        batch.append_command(&Command::V2Expiry(Expiry { cutoff: unix, nodes_max, history }));
        Some(batch)
    }

    /// The entry under way was applied, and published.
    pub fn applied(&mut self) {
        self.under_way = false;
    }

    /// What becomes of the entry under way is not known.
    pub fn failed(&mut self, now: Instant) {
        self.under_way = false;
        self.propose_from = Some(now + RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Index, Term};
    use crate::store::Store;
    use crate::store::command::Batch;
    use crate::store::v2::{Action, Request};

    struct Bench {
        store: Store,
        expiry: V2Expiry,
        start: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let (store, expiry) = (Store::new(), V2Expiry::new(10));
            Self { store, expiry, start: Instant::now() }
        }

        fn apply(&mut self, batch: BatchBuilder) {
            let batch = Batch::decode(batch.finish()).unwrap();
            self.store.apply(self.store.applied().next(), Term(1), &batch);
            self.expiry.follow(&self.store.publish());
        }

        fn set(&mut self, path: &str, expiration: i64) {
            let mut batch = BatchBuilder::default();
            batch.append_v2(&Request {
                action: Action::Set.into(),
                path: path.to_owned(),
                expiration: Some(expiration),
                history: 10,
                ..Request::default()
            });
            self.apply(batch);
        }

        fn propose(&mut self, seconds: u64, unix: i64) -> Option<BatchBuilder> {
            self.expiry.propose(self.start + Duration::from_secs(seconds), unix)
        }

        fn nodes(&self) -> usize {
            let root = crate::store::v2::Path::root();
            self.store.view().v2_get(&root, true, 0).unwrap().node.nodes.len()
        }
    }

    /// Any time after the year 2000.
    const T: i64 = 2_000_000_000_000_000_000;

    #[test]
    fn what_is_over_goes_and_nothing_else() {
        let mut bench = Bench::new();
        assert!(bench.propose(0, i64::MAX).is_none(), "nothing expires");
        bench.set("/a", T);
        bench.set("/b", T + 5);
        assert!(bench.propose(0, T - 1).is_none());
        let batch = bench.propose(0, T).expect("its time is over");
        assert!(bench.propose(0, T + 9).is_none(), "one at a time");
        bench.apply(batch);
        bench.expiry.applied();
        assert_eq!(bench.nodes(), 1);
        assert!(bench.propose(0, T + 4).is_none());
        assert!(bench.propose(0, T + 5).is_some());
    }

    #[test]
    fn a_crowd_goes_in_several_entries() {
        let mut bench = Bench::new();
        let crowd = 2 * limits::V2_NODES_PER_EXPIRY as usize + 1;
        (0..crowd).for_each(|nth| bench.set(&format!("/{nth}"), T));
        let mut entries = 0;
        while let Some(batch) = bench.propose(0, T) {
            bench.apply(batch);
            bench.expiry.applied();
            entries += 1;
        }
        assert_eq!((entries, bench.nodes()), (3, 0));
        assert_eq!(bench.store.applied(), Index(crowd as u64 + 3));
    }

    #[test]
    fn a_failure_is_followed_by_another_try() {
        let mut bench = Bench::new();
        bench.set("/a", T);
        bench.propose(0, T).expect("its time is over");
        bench.expiry.failed(bench.start);
        assert!(bench.propose(0, T).is_none(), "not at once");
        assert!(bench.propose(1, T).is_some());
    }

    #[test]
    fn a_time_that_was_put_off_counts() {
        let mut bench = Bench::new();
        bench.set("/a", T);
        let late = bench.propose(0, T).expect("its time is over");
        bench.set("/a", T + 100);
        bench.apply(late);
        assert_eq!(bench.nodes(), 1);
    }
}
