//! The deadlines of a shard's calls.
//!
//! Nearly every call ends long before its deadline, so what must be cheap is to note one and to forget it: a slab
//! entry each, and a lower bound of the earliest. Only when that bound passes are the entries looked through, which
//! gives the next bound. With clients that all allow five seconds and calls that take milliseconds this happens once
//! in five seconds; the worst a client can do is one pass over the shard's open calls in each [`GRANULARITY`].
//!
//! It does not know what expires: an entry carries a value, handed back.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use slab::Slab;

/// Deadlines are noticed at most this late, and looked for at most this often.
pub(super) const GRANULARITY: Duration = Duration::from_millis(10);

/// Deadlines that have been noted and neither forgotten nor expired.
#[derive(Debug)]
pub(super) struct Deadlines<T> {
    entries: RefCell<Slab<(Instant, T)>>,
    /// No entry is earlier than this. `None` when there are no entries, or after the first look found none.
    earliest: Cell<Option<Instant>>,
}

/// Names a noted deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(usize);

impl<T> Deadlines<T> {
    pub(super) fn new() -> Self {
        Self { entries: RefCell::new(Slab::new()), earliest: Cell::new(None) }
    }

    /// Notes a deadline. True when it is now the earliest, and whoever sleeps until then must be told.
    pub(super) fn insert(&self, at: Instant, value: T) -> (Key, bool) {
        let key = Key(self.entries.borrow_mut().insert((at, value)));
        let is_earliest = self.earliest.get().is_none_or(|earliest| at < earliest);
        if is_earliest {
            self.earliest.set(Some(at));
        }
        (key, is_earliest)
    }

    /// Forgets a deadline; false if it has expired.
    pub(super) fn remove(&self, key: Key) -> bool {
        self.entries.borrow_mut().try_remove(key.0).is_some()
    }

    /// When to look next.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.earliest.get()
    }

    /// Moves what has expired into `expired`.
    pub(super) fn expire(&self, now: Instant, expired: &mut Vec<T>) {
        if self.earliest.get().is_none_or(|earliest| now < earliest) {
            return;
        }
        let mut entries = self.entries.borrow_mut();
        let mut passed = Vec::new();
        let mut earliest: Option<Instant> = None;
        for (key, (at, _)) in entries.iter() {
            if *at <= now {
                passed.push(key);
            } else {
                earliest = Some(earliest.map_or(*at, |earliest| earliest.min(*at)));
            }
        }
        for key in passed {
            expired.push(entries.remove(key).1);
        }
        self.earliest.set(earliest);
    }
}

#[cfg(test)]
mod tests;
