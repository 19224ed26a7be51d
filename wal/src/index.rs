//! Where each entry stands: the log's table of contents, kept in memory, 16 bytes an entry.
//!
//! Knows no bytes and no files. Recovery builds it and the running log keeps it, through the same
//! three operations, so both agree on what an entry whose index is not the next one means.

use std::collections::VecDeque;

use crate::format::{Position, SegmentId};

/// Where an entry's frame stands, and how long its payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) segment: SegmentId,
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
}

impl Location {
    pub(crate) fn position(&self) -> Position {
        Position { segment: self.segment, offset: self.offset }
    }
}

/// The entries of the log, without a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    /// The index before the first entry. The entries are `base + 1 ..= base + entries.len()`.
    base: u64,
    entries: VecDeque<Location>,
}

impl Index {
    /// No entries, and the next one has the index `base + 1`.
    pub(crate) fn new(base: u64) -> Index {
        Index { base, entries: VecDeque::new() }
    }

    pub(crate) fn first(&self) -> u64 {
        self.base + 1
    }

    /// The index before [`first`](Index::first) when there are no entries.
    pub(crate) fn last(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    pub(crate) fn get(&self, index: u64) -> Option<Location> {
        let nth = index.checked_sub(self.first())?;
        self.entries.get(usize::try_from(nth).ok()?).copied()
    }

    /// Adds an entry. One whose index is there already replaces it and all behind it. One from
    /// before the first entry replaces everything: the segment that held its predecessors has been
    /// trimmed, and with it whatever of them could be missed. False, and nothing changed, when it
    /// would leave a gap.
    pub(crate) fn put(&mut self, index: u64, location: Location) -> bool {
        if index == 0 || index > self.last() + 1 {
            return false;
        }
        if index <= self.base {
            self.restart(index - 1);
        } else {
            self.entries.truncate((index - self.first()) as usize);
        }
        self.entries.push_back(location);
        true
    }

    /// Forgets everything; the next entry has the index `base + 1`.
    pub(crate) fn restart(&mut self, base: u64) {
        self.base = base;
        self.entries.clear();
    }

    /// Forgets the entries before `index`, which may lie behind the last one.
    pub(crate) fn trim(&mut self, index: u64) {
        while self.first() < index && self.entries.pop_front().is_some() {
            self.base += 1;
        }
    }
}
