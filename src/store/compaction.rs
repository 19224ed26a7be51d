//! Removing what a compaction made unreadable, in bounded slices.
//!
//! A compaction at revision r takes effect at once: reads before r are refused. What nobody can
//! read any more goes later, by *sweeps*. A sweep to r walks `rev` upwards from the lowest revision
//! and of every key keeps the newest change at or before r, unless that is a tombstone older than r
//! itself. (A tombstone *at* r still tells a watcher that starts there of the deletion.)
//!
//! Upwards, because the older versions of a deleted key must be gone before its tombstone is: at no
//! instant does a reader find a key that was deleted.
//!
//! Compactions that come while a sweep is under way wait, and the next sweep goes to the newest of
//! them: it removes all that those in between would have.
//!
//! Sweeps are each member's own business and run at its own pace; reads and the KV hash do not tell
//! how far one has come. What this file does not do: decide when to compact, or how much per slice.

use super::keys::{self, ChangeId, ChangeKind};
use super::meta::Meta;
use crate::ids::Revision;
use crate::tree::{Cursor, Read, Tree};

/// A sweep under way.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// The compaction it carries out.
    pub target: Revision,
    /// The first change not looked at yet.
    pub(super) next: ChangeId,
}

/// What one slice found.
pub(super) struct Slice {
    /// Changes to remove, and their user keys.
    pub(super) superseded: Vec<(ChangeId, Vec<u8>)>,
    /// Where the next slice begins; `None` at the end.
    next: Option<ChangeId>,
}

/// The sweep that is under way, or the one that begins next, if there is one to do.
pub(super) fn pending(meta: &Meta, sweep: Option<Sweep>) -> Option<Sweep> {
    let new = Sweep { target: meta.compacted, next: ChangeId::first_of(Revision(0)) };
    sweep.or_else(|| (meta.swept != meta.compacted).then_some(new))
}

/// Looks at up to `changes_max` changes and removes the superseded ones. True when no sweep is left
/// to do.
pub(super) fn slice(
    tree: &mut Tree,
    meta: &mut Meta,
    sweep: &mut Option<Sweep>,
    changes_max: usize,
) -> bool {
    let Some(Sweep { target, next }) = pending(meta, *sweep) else { return true };
    let slice = find_superseded(tree, target, next, changes_max);
    let mut key = Vec::new();
    for (change, user_key) in slice.superseded {
        keys::kv_prefix(&mut key, &user_key);
        keys::kv_push_change(&mut key, change);
        let found = tree.remove(&key);
        keys::rev(&mut key, change);
        assert!(found & tree.remove(&key), "invariant: {change:?} stands in both tables");
    }
    *sweep = slice.next.map(|next| Sweep { target, next });
    if sweep.is_none() {
        assert!(meta.swept < target, "a sweep to {target} after one to {}", meta.swept);
        meta.swept = target;
    }
    sweep.is_none() && meta.swept == meta.compacted
}

pub(super) fn find_superseded<R: Read>(
    reader: &R,
    target: Revision,
    from: ChangeId,
    changes_max: usize,
) -> Slice {
    let mut superseded = Vec::new();
    let mut buffer = Vec::new();
    let mut changes = reader.cursor();
    let mut versions = reader.cursor();
    keys::rev(&mut buffer, from);
    changes.seek(&buffer);
    let in_sweep = |changes: &R::Cursor<'_>| {
        if !changes.valid() {
            return None;
        }
        keys::rev_key(changes.key()).filter(|change| change.main <= target)
    };
    for _ in 0..changes_max.max(1) {
        let Some(change) = in_sweep(&changes) else {
            return Slice { superseded, next: None };
        };
        let (kind, user_key) = keys::rev_value(changes.value());
        let is_kept = (kind == ChangeKind::Put || change.main == target)
            && is_newest(&mut versions, &mut buffer, user_key, change, target);
        if !is_kept {
            superseded.push((change, user_key.to_vec()));
        }
        changes.next();
    }
    Slice { superseded, next: in_sweep(&changes) }
}

/// Whether `change` is the newest of its key at `revision`.
pub(super) fn is_newest<C: Cursor>(
    versions: &mut C,
    buffer: &mut Vec<u8>,
    user_key: &[u8],
    change: ChangeId,
    revision: Revision,
) -> bool {
    keys::kv_prefix(buffer, user_key);
    let prefix_bytes = buffer.len();
    keys::kv_push_revision(buffer, revision);
    versions.seek(buffer);
    let found = versions.valid() && versions.key().starts_with(&buffer[..prefix_bytes]);
    found && keys::KvKey::split(versions.key()).change == change
}
