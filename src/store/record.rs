//! The value of a `kv` record: one version of one user key.
//!
//! ```text
//! flags      1        bit 0: tombstone (nothing follows); bit 1: a lease follows
//! age        varint   mod revision - create revision: 0 for a new key
//! version    varint   1 for a new key
//! lease      varint   only when flagged
//! value      the rest
//! ```
//!
//! Key and mod revision stand in the tree's key. A new key's record costs three bytes besides its
//! value. A record never changes once it is written: what changes, whether it is its key's newest
//! and live, is the tree cell's `Counted` flag.

use prost::encoding::{decode_varint, encode_varint};

use super::keys::ChangeId;
use crate::ids::Revision;

const TOMBSTONE: u8 = 1 << 0;
const HAS_LEASE: u8 = 1 << 1;

/// What a deletion leaves.
pub(super) const TOMBSTONE_RECORD: &[u8] = &[TOMBSTONE];

/// A version of a key that has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) create_revision: Revision,
    pub(super) version: i64,
    pub(super) lease: i64,
    pub(super) value: &'a [u8],
}

/// A tombstone?
pub(super) fn is_tombstone(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|flags| flags & TOMBSTONE != 0)
}

/// Whether [`Record::read`] can read what change `at` is to have written: for those whom damage must not end.
pub(super) fn is_sound(at: ChangeId, bytes: &[u8]) -> bool {
    let Some((&flags, mut rest)) = bytes.split_first() else { return false };
    if flags & TOMBSTONE != 0 {
        return true;
    }
    let mut number = || decode_varint(&mut rest).ok().and_then(|it| i64::try_from(it).ok());
    let (age, version) = (number(), number());
    let is_leased = flags & HAS_LEASE != 0;
    age.is_some_and(|age| age <= at.main.0)
        && version.is_some()
        && (!is_leased || decode_varint(&mut rest).is_ok())
}

impl<'a> Record<'a> {
    /// Reads the record that change `at` wrote; `None` for a tombstone.
    pub(super) fn read(at: ChangeId, bytes: &'a [u8]) -> Option<Self> {
        let (&flags, mut rest) =
            bytes.split_first().expect("invariant: a record starts with its flags");
        if flags & TOMBSTONE != 0 {
            return None;
        }
        let age = read_varint(&mut rest);
        let version = read_varint(&mut rest);
        let lease = if flags & HAS_LEASE == 0 { 0 } else { read_varint(&mut rest) };
        Some(Self { create_revision: Revision(at.main.0 - age), version, lease, value: rest })
    }

    /// Writes what [`Record::read`] reads.
    pub(super) fn write(&self, at: ChangeId, buffer: &mut Vec<u8>) {
        debug_assert!(self.create_revision <= at.main && self.version >= 1);
        buffer.clear();
        buffer.push(if self.lease == 0 { 0 } else { HAS_LEASE });
        encode_varint((at.main.0 - self.create_revision.0) as u64, buffer);
        encode_varint(self.version as u64, buffer);
        if self.lease != 0 {
            encode_varint(self.lease as u64, buffer);
        }
        buffer.extend_from_slice(self.value);
    }
}

fn read_varint(bytes: &mut &[u8]) -> i64 {
    decode_varint(bytes).expect("invariant: a record's numbers are whole") as i64
}
