//! The newest part of the log, in memory: what raft-rs reads through its synchronous `Storage`.
//!
//! Entries enter before they are durable (raft-rs's asynchronous ready wants them readable before
//! `advance_append_async`) and leave from the front once they are applied and the window is over its bounds.
//! An older entry is on disk only: raft-rs is told `Compacted`, and whoever needs it reads the log itself.
//!
//! It does no I/O and decides nothing: the [`driver`](super::driver) moves its boundaries.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

/// A handle that the driver and raft-rs's `RawNode` share on one thread.
#[derive(Clone, Debug)]
pub struct Window(Rc<RefCell<Inner>>);

#[derive(Debug)]
struct Inner {
    /// Index and term of the entry before the first one here; (0, 0) before the log's first.
    /// Invariant: `entries[i].index == base.0 + 1 + i`.
    base: (u64, u64),
    entries: VecDeque<Entry>,
    /// Bytes of data in `entries`.
    bytes: usize,
    hard_state: HardState,
    conf_state: ConfState,
    /// What a member that is behind the window is sent: a state that is published.
    snapshot: SnapshotMetadata,
}

impl Window {
    /// A window without entries that starts behind `base` (index and term).
    pub fn new(base: (u64, u64), hard_state: HardState, conf_state: ConfState) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            base,
            entries: VecDeque::new(),
            bytes: 0,
            hard_state,
            conf_state,
            snapshot: SnapshotMetadata::default(),
        })))
    }

    /// A snapshot of another member has replaced the state: the log goes on behind `base` (index and term).
    pub fn restart(&self, base: (u64, u64), conf_state: ConfState) {
        let mut inner = self.0.borrow_mut();
        inner.base = base;
        inner.entries.clear();
        inner.bytes = 0;
        inner.conf_state = conf_state;
    }

    /// Appends `entries`; those that stand at or behind the first one's index are replaced (a raft conflict).
    pub fn append(&self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let mut inner = self.0.borrow_mut();
        let keep = first
            .index
            .checked_sub(inner.base.0 + 1)
            .expect("invariant: an entry that was applied is never replaced");
        let keep = usize::try_from(keep).expect("invariant: the window fits in memory");
        assert!(keep <= inner.entries.len(), "a gap before entry {}", first.index);
        for replaced in inner.entries.drain(keep..).collect::<Vec<_>>() {
            inner.bytes -= replaced.data.len();
        }
        for entry in entries {
            inner.bytes += entry.data.len();
            inner.entries.push_back(entry.clone());
        }
        inner.check();
    }

    /// Lets go of applied entries from the front while the window is over one of its bounds.
    pub fn shrink(&self, applied: u64, entries_max: usize, bytes_max: usize) {
        let mut inner = self.0.borrow_mut();
        while inner.entries.len() > entries_max || inner.bytes > bytes_max {
            match inner.entries.front() {
                Some(front) if front.index <= applied => {}
                _ => break,
            }
            if let Some(front) = inner.entries.pop_front() {
                inner.base = (front.index, front.term);
                inner.bytes -= front.data.len();
            }
        }
        inner.check();
    }

    /// The entries behind `index`, which must be the base or in the window.
    pub fn behind(&self, index: u64) -> Vec<Entry> {
        let inner = self.0.borrow();
        let known = index.checked_sub(inner.base.0).expect("invariant: the base was applied");
        let known = usize::try_from(known).expect("invariant: the window fits in memory");
        inner.entries.range(known.min(inner.entries.len())..).cloned().collect()
    }

    /// The group as it was restored, or as the last change of it that was applied has left it.
    pub fn set_conf_state(&self, conf_state: ConfState) {
        self.0.borrow_mut().conf_state = conf_state;
    }

    /// Bytes of data in its entries.
    pub fn bytes(&self) -> usize {
        self.0.borrow().bytes
    }

    /// What was published last can be sent to a member that is behind the window, as raft will order it.
    pub fn set_snapshot(&self, index: u64, term: u64, conf_state: ConfState) {
        let snapshot = &mut self.0.borrow_mut().snapshot;
        (snapshot.index, snapshot.term) = (index, term);
        snapshot.set_conf_state(conf_state);
    }

    /// What raft holds as its hard state from here on.
    pub fn set_hard_state(&self, hard_state: HardState) {
        self.0.borrow_mut().hard_state = hard_state;
    }
}

impl Inner {
    fn last_index(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    fn position(&self, index: u64) -> Result<usize, raft::Error> {
        if index <= self.base.0 {
            return Err(StorageError::Compacted.into());
        }
        if index > self.last_index() {
            return Err(StorageError::Unavailable.into());
        }
        usize::try_from(index - self.base.0 - 1).map_err(|_| StorageError::Unavailable.into())
    }

    fn check(&self) {
        debug_assert!(
            self.entries.front().is_none_or(|entry| entry.index == self.base.0 + 1),
            "the first entry follows the base"
        );
        debug_assert!(
            self.entries.back().is_none_or(|entry| entry.index == self.last_index()),
            "indexes are consecutive"
        );
    }
}

impl Storage for Window {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let inner = self.0.borrow();
        Ok(RaftState::new(inner.hard_state.clone(), inner.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let inner = self.0.borrow();
        if low >= high {
            return Ok(Vec::new());
        }
        let (first, last) = (inner.position(low)?, inner.position(high - 1)?);
        let mut room = max_size.into().unwrap_or(u64::MAX);
        let mut entries = Vec::new();
        for entry in inner.entries.range(first..=last) {
            let size = entry.data.len() as u64;
            // At least one, or a large entry would never be sent.
            if !entries.is_empty() && size > room {
                break;
            }
            room = room.saturating_sub(size);
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let inner = self.0.borrow();
        if index == inner.base.0 {
            return Ok(inner.base.1);
        }
        let position = inner.position(index)?;
        inner
            .entries
            .get(position)
            .map(|entry| entry.term)
            .ok_or_else(|| StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.0.borrow().base.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.0.borrow().last_index())
    }

    /// Says which state will be sent. Its pages go their own way (`catch_up`), not through raft.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let metadata = self.0.borrow().snapshot.clone();
        if metadata.index == 0 || metadata.index < request_index {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        let mut snapshot = Snapshot::default();
        snapshot.set_metadata(metadata);
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64, bytes: usize) -> Entry {
        Entry { index, term, data: vec![0; bytes].into(), ..Entry::default() }
    }

    fn window() -> Window {
        Window::new((0, 0), HardState::default(), ConfState::default())
    }

    fn context() -> GetEntriesContext {
        GetEntriesContext::empty(false)
    }

    #[test]
    fn entries_are_found_by_index() {
        let window = window();
        window.append(&[entry(1, 1, 10), entry(2, 1, 10), entry(3, 2, 10)]);
        assert_eq!(window.first_index().unwrap(), 1);
        assert_eq!(window.last_index().unwrap(), 3);
        assert_eq!(window.term(0).unwrap(), 0);
        assert_eq!(window.term(3).unwrap(), 2);
        assert!(window.term(4).is_err());
        let found = window.entries(2, 4, None, context()).unwrap();
        assert_eq!(found.iter().map(|entry| entry.index).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn a_size_limit_leaves_at_least_one() {
        let window = window();
        window.append(&[entry(1, 1, 10), entry(2, 1, 10), entry(3, 2, 10)]);
        assert_eq!(window.entries(1, 4, 0, context()).unwrap().len(), 1);
        assert_eq!(window.entries(1, 4, 20, context()).unwrap().len(), 2);
    }

    #[test]
    fn a_conflict_replaces_the_suffix() {
        let window = window();
        window.append(&[entry(1, 1, 1), entry(2, 1, 1), entry(3, 1, 1)]);
        window.append(&[entry(2, 2, 1)]);
        assert_eq!(window.last_index().unwrap(), 2);
        assert_eq!(window.term(2).unwrap(), 2);
    }

    #[test]
    fn a_snapshot_is_what_was_published_last() {
        let window = window();
        let none = window.snapshot(0, 2).unwrap_err();
        assert_eq!(none, raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        let conf_state = ConfState { voters: vec![1, 2], ..ConfState::default() };
        window.set_snapshot(7, 3, conf_state.clone());
        assert!(window.snapshot(8, 2).is_err(), "a later one is wanted");
        let snapshot = window.snapshot(0, 2).unwrap();
        let metadata = snapshot.get_metadata();
        assert_eq!((metadata.index, metadata.term), (7, 3));
        assert_eq!(*metadata.get_conf_state(), conf_state);
        assert!(snapshot.get_data().is_empty());
    }

    #[test]
    fn a_window_restarts_behind_a_snapshot() {
        let window = window();
        window.append(&[entry(1, 1, 1), entry(2, 1, 1), entry(3, 1, 1)]);
        window.restart((9, 4), ConfState::default());
        assert_eq!((window.first_index().unwrap(), window.last_index().unwrap()), (10, 9));
        assert_eq!(window.term(9).unwrap(), 4);
        window.append(&[entry(10, 4, 1)]);
        assert_eq!(window.last_index().unwrap(), 10);
    }

    #[test]
    fn only_applied_entries_leave() {
        let window = window();
        window.append(&[entry(1, 1, 1), entry(2, 1, 1), entry(3, 1, 1)]);
        window.shrink(2, 0, 0);
        assert_eq!(window.first_index().unwrap(), 3);
        assert_eq!(window.term(2).unwrap(), 1, "the base keeps its term");
        let old = window.entries(2, 4, None, context()).unwrap_err();
        assert_eq!(old, raft::Error::Store(StorageError::Compacted));
    }
}
