//! Walking the keys of a range at a revision: for each key that lives then, the one record that a
//! reader sees.
//!
//! A walk holds no borrow between slices, only the place where it goes on, so that it can serve a
//! range of any size in bounded turns on any shard. It skips a key's other versions by stepping,
//! and after [`STEPS_BEFORE_SEEK`] of them by a seek: a key with a million versions costs about
//! what one with ten does.
//!
//! What this file does not do: filter, sort or limit ([`scan`](super::scan) does).

use std::ops::ControlFlow;

use super::keys::{self, KvKey, UserKey};
use super::record::Record;
use crate::ids::Revision;
use crate::tree::{Cursor, Read};

/// Records of one key stepped over before a seek is the cheaper way on. A seek descends the tree; a
/// step mostly moves within a page.
const STEPS_BEFORE_SEEK: usize = 4;
/// What looking at one record takes from a slice's budget, beside the bytes it yields.
const RECORD_COST_BYTES: usize = 32;

/// The records of table `kv` that belong to a range of user keys: `from` included, `to` excluded.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) from: Vec<u8>,
    /// Invariant: not before `from`.
    pub(super) to: Vec<u8>,
    /// The range was written as one key.
    pub(super) is_one_key: bool,
}

impl Bounds {
    /// The range as requests write it: no `range_end` means the key alone, `\0` all keys from it
    /// on.
    pub(super) fn new(key: &[u8], range_end: &[u8]) -> Self {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        keys::kv_prefix(&mut from, key);
        match range_end {
            [] => {
                to.extend_from_slice(&from);
                keys::kv_prefix_end(&mut to);
            }
            [0] => keys::kv_end(&mut to),
            end => keys::kv_prefix(&mut to, end),
        }
        if to < from {
            to.clone_from(&from);
        }
        Self { from, to, is_one_key: range_end.is_empty() }
    }

    /// Every key there is.
    pub(super) fn all() -> Self {
        Self::new(&[], &[0])
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Ascending,
    Descending,
}

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    Done,
}

/// A live key as the walk's visitor gets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live<'a> {
    /// The whole `kv` key.
    pub(super) key: KvKey<'a>,
    pub(super) record: Record<'a>,
}

impl<'a> Live<'a> {
    /// The version of its key that stands at `key`, unless it is a tombstone.
    pub(super) fn read(key: &'a [u8], value: &'a [u8]) -> Option<Self> {
        let key = KvKey::split(key);
        Record::read(key.change, value).map(|record| Self { key, record })
    }

    pub(super) fn user_key(&self) -> UserKey<'a> {
        self.key.user_key()
    }

    pub(super) fn mod_revision(&self) -> Revision {
        self.key.change.main
    }
}

/// See the file's head.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    revision: Revision,
    direction: Direction,
    /// What is left to walk; each slice moves one of the bounds.
    rest: Bounds,
    /// The key being looked at (reused).
    prefix: Vec<u8>,
    /// Where to seek (reused).
    target: Vec<u8>,
    done: bool,
}

impl Walk {
    pub(super) fn new(bounds: Bounds, revision: Revision, direction: Direction) -> Self {
        let (prefix, target) = (Vec::new(), Vec::new());
        Self { revision, direction, rest: bounds, prefix, target, done: false }
    }

    /// Visits keys until none is left, the visitor breaks, or `budget` bytes of work are spent: the
    /// visitor's bytes (what it returns) and a fixed cost for each record. At least one key is
    /// visited, if there is one.
    pub(super) fn run<R: Read>(
        &mut self,
        reader: &R,
        budget: &mut usize,
        visit: impl FnMut(Live<'_>) -> ControlFlow<(), usize>,
    ) -> Progress {
        if !self.done {
            self.done = match self.direction {
                Direction::Ascending => self.run_ascending(reader, budget, visit),
                Direction::Descending => self.run_descending(reader, budget, visit),
            };
        }
        if self.done { Progress::Done } else { Progress::More }
    }

    /// Visits all keys, or until the visitor breaks.
    pub(super) fn run_to_end<R: Read>(
        &mut self,
        reader: &R,
        mut visit: impl FnMut(Live<'_>) -> ControlFlow<()>,
    ) {
        let mut budget = usize::MAX;
        self.run(reader, &mut budget, |live| match visit(live) {
            ControlFlow::Continue(()) => ControlFlow::Continue(0),
            ControlFlow::Break(()) => ControlFlow::Break(()),
        });
    }

    /// True when the walk is at its end.
    fn run_ascending<R: Read>(
        &mut self,
        reader: &R,
        budget: &mut usize,
        mut visit: impl FnMut(Live<'_>) -> ControlFlow<(), usize>,
    ) -> bool {
        let mut cursor = reader.cursor();
        cursor.seek(&self.rest.from);
        let mut first = true;
        while cursor.valid() && cursor.key() < self.rest.to.as_slice() {
            if *budget == 0 && !first {
                self.rest.from.clear();
                self.rest.from.extend_from_slice(cursor.key());
                return false;
            }
            first = false;
            self.prefix.clear();
            self.prefix.extend_from_slice(KvKey::split(cursor.key()).prefix);
            if self.find_visible(&mut cursor, budget)
                && let Some(live) = Live::read(cursor.key(), cursor.value())
            {
                match visit(live) {
                    ControlFlow::Continue(bytes) => *budget = budget.saturating_sub(bytes),
                    ControlFlow::Break(()) => return true,
                }
            }
            if self.rest.is_one_key {
                return true;
            }
            self.skip_key(&mut cursor, budget);
        }
        true
    }

    /// As [`Walk::run_ascending`], from the other end: the step back from a key's place lands on
    /// the oldest record of the key before it.
    fn run_descending<R: Read>(
        &mut self,
        reader: &R,
        budget: &mut usize,
        mut visit: impl FnMut(Live<'_>) -> ControlFlow<(), usize>,
    ) -> bool {
        let mut cursor = reader.cursor();
        let mut first = true;
        loop {
            if *budget == 0 && !first {
                return false;
            }
            first = false;
            cursor.seek_before(&self.rest.to);
            if !cursor.valid() || cursor.key() < self.rest.from.as_slice() {
                return true;
            }
            *budget = budget.saturating_sub(RECORD_COST_BYTES);
            self.prefix.clear();
            self.prefix.extend_from_slice(KvKey::split(cursor.key()).prefix);
            // This key's place is where the rest ends.
            self.rest.to.clear();
            self.rest.to.extend_from_slice(&self.prefix);
            self.seek_visible(&mut cursor);
            if cursor.valid()
                && cursor.key().starts_with(&self.prefix)
                && let Some(live) = Live::read(cursor.key(), cursor.value())
            {
                match visit(live) {
                    ControlFlow::Continue(bytes) => *budget = budget.saturating_sub(bytes),
                    ControlFlow::Break(()) => return true,
                }
            }
        }
    }

    /// Moves from a key's newest record to the one that the walk's revision sees. False when there
    /// is none; then the cursor stands behind the key.
    fn find_visible<C: Cursor>(&mut self, cursor: &mut C, budget: &mut usize) -> bool {
        for _ in 0..STEPS_BEFORE_SEEK {
            if KvKey::split(cursor.key()).change.main <= self.revision {
                return true;
            }
            *budget = budget.saturating_sub(RECORD_COST_BYTES);
            cursor.next();
            if !self.within_key(cursor) {
                return false;
            }
        }
        self.seek_visible(cursor);
        self.within_key(cursor)
    }

    fn seek_visible<C: Cursor>(&mut self, cursor: &mut C) {
        self.target.clear();
        self.target.extend_from_slice(&self.prefix);
        keys::kv_push_revision(&mut self.target, self.revision);
        cursor.seek(&self.target);
    }

    /// Moves behind all records of the key.
    fn skip_key<C: Cursor>(&mut self, cursor: &mut C, budget: &mut usize) {
        for _ in 0..STEPS_BEFORE_SEEK {
            if !self.within_key(cursor) {
                return;
            }
            *budget = budget.saturating_sub(RECORD_COST_BYTES);
            cursor.next();
        }
        if self.within_key(cursor) {
            self.target.clear();
            self.target.extend_from_slice(&self.prefix);
            keys::kv_prefix_end(&mut self.target);
            cursor.seek(&self.target);
        }
    }

    fn within_key<C: Cursor>(&self, cursor: &C) -> bool {
        cursor.valid() && cursor.key().starts_with(&self.prefix)
    }
}

/// The version of one key that a reader at `revision` sees. `buffer` is scratch space.
pub(super) fn find<R: Read, T>(
    reader: &R,
    buffer: &mut Vec<u8>,
    user_key: &[u8],
    revision: Revision,
    use_it: impl FnOnce(Live<'_>) -> T,
) -> Option<T> {
    keys::kv_prefix(buffer, user_key);
    let prefix_bytes = buffer.len();
    keys::kv_push_revision(buffer, revision);
    let mut cursor = reader.cursor();
    cursor.seek(buffer);
    if !cursor.valid() || !cursor.key().starts_with(&buffer[..prefix_bytes]) {
        return None;
    }
    Live::read(cursor.key(), cursor.value()).map(use_it)
}
