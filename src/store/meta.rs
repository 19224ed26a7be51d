//! The store's own numbers. They stand in one record of the tree, so that a root holds the data and
//! the log position it belongs to: a checkpoint cannot carry one without the other.
//!
//! ```text
//! applied    8    index of the last applied entry
//! term       8    its term
//! revision   8    the newest revision
//! compacted  8    reads before this revision are refused; -1 before the first compaction
//! swept      8    up to here superseded revisions have been removed; -1 before the first time
//! ```
//!
//! All big-endian. `swept` is this member's own progress, not replicated state: it lags behind
//! `compacted` by what [`compaction`](super::compaction) has left to do.

use crate::error::Rejected;
use crate::ids::{Index, Revision, Term};
use crate::limits::NUMBER_MAX;

const META_BYTES: usize = 5 * 8;

/// See the file's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) applied: Index,
    pub(super) term: Term,
    pub(super) revision: Revision,
    /// Invariant: at most `revision`.
    pub(super) compacted: Revision,
    /// Invariant: at most `compacted`.
    pub(super) swept: Revision,
}

impl Default for Meta {
    fn default() -> Self {
        Self {
            applied: Index(0),
            term: Term(0),
            revision: Revision(1),
            compacted: Revision(-1),
            swept: Revision(-1),
        }
    }
}

impl Meta {
    pub(super) fn encode(&self) -> [u8; META_BYTES] {
        let mut bytes = [0; META_BYTES];
        let numbers = [
            self.applied.0.to_be_bytes(),
            self.term.0.to_be_bytes(),
            self.revision.0.to_be_bytes(),
            self.compacted.0.to_be_bytes(),
            self.swept.0.to_be_bytes(),
        ];
        for (field, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            field.copy_from_slice(&number);
        }
        bytes
    }

    /// `None` when the bytes are not those of such a record, or say what no store comes to.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; META_BYTES] = bytes.try_into().ok()?;
        let (numbers, _) = bytes.as_chunks::<8>();
        let [applied, term, revision, compacted, swept] = numbers.try_into().ok()?;
        let meta = Self {
            applied: Index(u64::from_be_bytes(applied)),
            term: Term(u64::from_be_bytes(term)),
            revision: Revision(i64::from_be_bytes(revision)),
            compacted: Revision(i64::from_be_bytes(compacted)),
            swept: Revision(i64::from_be_bytes(swept)),
        };
        meta.is_sound().then_some(meta)
    }

    /// The revision that a reader sees who asked for `asked`, 0 or less meaning the newest.
    pub(super) fn readable(&self, asked: i64) -> Result<Revision, Rejected> {
        match Revision(asked) {
            asked if asked > self.revision => Err(Rejected::FutureRevision),
            Revision(..=0) => Ok(self.revision),
            asked if asked < self.compacted => Err(Rejected::Compacted),
            asked => Ok(asked),
        }
    }

    pub(super) fn check(&self) {
        assert!(self.is_sound(), "{self:?}");
    }

    fn is_sound(&self) -> bool {
        (1..=NUMBER_MAX).contains(&self.revision.0.cast_unsigned())
            && self.compacted <= self.revision
            && (-1..=self.compacted.0).contains(&self.swept.0)
    }
}
