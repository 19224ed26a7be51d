//! Hashes by which members compare their data.
//!
//! [`HashScan`] is etcd's HashKV, so that equal histories give equal hashes on Urd and on etcd:
//! CRC-32C over `"key"` and then, in order of revision up to the one asked for, each change's
//! revision (main, `_`, sub, big-endian, `t` after a tombstone's) and its `mvccpb.KeyValue` (of a
//! tombstone the key alone).
//!
//! Members sweep compacted revisions at their own pace, so changes at or before the compacted
//! revision c count by a rule that does not tell whether they are still there. For a hash up to r:
//! - the newest change of its key at r, unless it is a tombstone: counts;
//! - when *no* key lives at r, all that the compaction keeps count instead (etcd drops its rule
//!   when its set of kept revisions is empty);
//! - a tombstone at c itself never counts (versions of etcd differ in keeping it).
//!
//! [`TreeHash`] covers every record of the tree, removed or not, for `Maintenance.Hash`. Like
//! etcd's, it differs between members that have swept differently far.

use std::ops::ControlFlow;

use crc32c::{crc32c, crc32c_append};

use super::compaction::is_newest;
use super::keys::{self, ChangeId, ChangeKind};
use super::range_scan::{KeyValueFields, encode_tombstone};
use super::scan::Shape;
use super::view::View;
use super::walk::{Bounds, Direction, Live, Progress, Walk};
use crate::error::Rejected;
use crate::ids::Revision;
use crate::tree::{Cursor, Read};

/// What etcd calls the table it hashes; the hash begins with it.
const BUCKET: &[u8] = b"key";
/// What one change takes from a slice's budget, beside its bytes.
const CHANGE_COST_BYTES: usize = 64;

/// The answer of a [`HashScan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    pub hash: u32,
    /// The compacted revision when the hash began.
    pub compact_revision: i64,
    /// Up to where it goes.
    pub revision: i64,
}

/// Which of the changes at or before the compacted revision count.
#[derive(Clone, Copy, Debug)]
enum Kept {
    /// Nobody has looked yet whether a key lives at the revision.
    Unknown,
    /// Those that are newest at this revision.
    NewestAt(Revision),
}

/// A HashKV being computed from one view.
#[derive(Debug)]
pub struct HashScan {
    view: View,
    /// Up to where; what etcd's clients may ask for is any number.
    revision: Revision,
    kept: Kept,
    /// Looks for a live key.
    search: Walk,
    hash: u32,
    /// The first change not hashed yet.
    next: ChangeId,
    /// Scratch space.
    buffer: Vec<u8>,
}

impl HashScan {
    /// Up to `revision`; 0 means the newest.
    pub fn new(view: View, revision: i64) -> Result<Self, Rejected> {
        let (newest, compacted) = (view.revision(), view.compacted());
        let revision = match Revision(revision) {
            Revision(0) => newest,
            asked if asked > Revision(0) && asked < compacted => return Err(Rejected::Compacted),
            asked if asked > newest => return Err(Rejected::FutureRevision),
            asked => asked,
        };
        Ok(Self {
            view,
            revision,
            kept: Kept::Unknown,
            search: Walk::new(Bounds::all(), revision, Direction::Ascending),
            hash: crc32c(BUCKET),
            next: ChangeId::first_of(Revision(0)),
            buffer: Vec::new(),
        })
    }

    /// Works until about `budget_bytes` are hashed or passed over; the hash at the end.
    pub fn step(&mut self, mut budget_bytes: usize) -> Option<HashKv> {
        let kept = match self.kept {
            Kept::NewestAt(revision) => revision,
            Kept::Unknown => {
                let revision = self.find_kept(&mut budget_bytes)?;
                self.kept = Kept::NewestAt(revision);
                revision
            }
        };
        self.hash_slice(kept, budget_bytes).then_some(HashKv {
            hash: self.hash,
            compact_revision: self.view.compacted().0,
            revision: self.revision.0,
        })
    }

    /// The revision whose newest changes count; `None` while the search goes on.
    fn find_kept(&mut self, budget: &mut usize) -> Option<Revision> {
        let compacted = self.view.compacted();
        if compacted < Revision(0) || self.revision < Revision(0) {
            // No change is both that old and within the hash, so the rule does not matter.
            return Some(compacted);
        }
        let mut kept = compacted;
        let progress = self.search.run(self.view.snapshot(), budget, |_| {
            kept = self.revision;
            ControlFlow::Break(())
        });
        (progress == Progress::Done).then_some(kept)
    }

    /// True at the end.
    fn hash_slice(&mut self, kept: Revision, mut budget: usize) -> bool {
        let Self { view, revision, hash, next, buffer, .. } = self;
        let compacted = view.compacted();
        let mut changes = view.snapshot().cursor();
        let mut versions = view.snapshot().cursor();
        keys::rev(buffer, *next);
        changes.seek(buffer);
        while changes.valid()
            && let Some(change) = keys::rev_key(changes.key())
            && change.main <= *revision
        {
            if budget == 0 {
                *next = change;
                return false;
            }
            let (kind, user_key) = keys::rev_value(changes.value());
            let is_tombstone = kind == ChangeKind::Tombstone;
            let counts = if change.main > compacted {
                true
            } else {
                !is_tombstone && is_newest(&mut versions, buffer, user_key, change, kept)
            };
            budget = budget.saturating_sub(CHANGE_COST_BYTES);
            if counts {
                keys::kv_prefix(buffer, user_key);
                keys::kv_push_change(buffer, change);
                versions.seek(buffer);
                let found = versions.valid() && versions.key() == buffer.as_slice();
                assert!(found, "invariant: {change:?} stands in both tables");
                let live = Live::read(versions.key(), versions.value());
                budget = budget.saturating_sub(versions.value().len());
                *hash = hash_change(*hash, change, user_key, live.as_ref(), buffer);
            }
            changes.next();
        }
        true
    }
}

/// Appends one change; `live` is its record, `None` for a tombstone.
fn hash_change(
    hash: u32,
    change: ChangeId,
    user_key: &[u8],
    live: Option<&Live<'_>>,
    buffer: &mut Vec<u8>,
) -> u32 {
    buffer.clear();
    buffer.extend_from_slice(&change.main.0.to_be_bytes());
    buffer.push(b'_');
    buffer.extend_from_slice(&u64::from(change.sub).to_be_bytes());
    let Some(live) = live else {
        buffer.push(b't');
        encode_tombstone(user_key, buffer);
        return crc32c_append(hash, buffer);
    };
    let message = KeyValueFields::of(live, Shape::KeysAndValues);
    message.encode_head(buffer);
    let hash = crc32c_append(crc32c_append(hash, buffer), message.value());
    buffer.clear();
    message.encode_tail(buffer);
    crc32c_append(hash, buffer)
}

/// A hash of all records being computed from one view.
#[derive(Debug)]
pub struct TreeHash {
    view: View,
    hash: u32,
    next: Vec<u8>,
}

impl TreeHash {
    #[must_use]
    pub fn new(view: View) -> Self {
        Self { view, hash: crc32c(&[]), next: Vec::new() }
    }

    /// Works until about `budget_bytes` are hashed; the hash at the end.
    pub fn step(&mut self, mut budget_bytes: usize) -> Option<u32> {
        let mut cursor = self.view.snapshot().cursor();
        cursor.seek(&self.next);
        while cursor.valid() {
            if budget_bytes == 0 {
                self.next.clear();
                self.next.extend_from_slice(cursor.key());
                return None;
            }
            self.hash = crc32c_append(crc32c_append(self.hash, cursor.key()), cursor.value());
            let bytes = cursor.key().len() + cursor.value().len();
            budget_bytes = budget_bytes.saturating_sub(bytes + CHANGE_COST_BYTES);
            cursor.next();
        }
        Some(self.hash)
    }
}
