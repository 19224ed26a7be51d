//! The value of a `v2 node` record.
//!
//! ```text
//! flags       1        bit 0: a directory; bit 1: an expiration follows
//! modified    varint   modified index
//! age         varint   modified index - created index
//! expiration  8        big-endian nanoseconds of Unix time, only when flagged
//! value       the rest; of a directory nothing
//! ```

use bytes::{BufMut, Bytes};
use prost::encoding::{decode_varint, encode_varint};

use super::event::{Node, ttl};

const DIR: u8 = 1 << 0;
const EXPIRES: u8 = 1 << 1;

/// A node, without its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) dir: bool,
    pub(super) modified: u64,
    pub(super) created: u64,
    pub(super) expiration: Option<i64>,
    /// Empty for a directory.
    pub(super) value: Bytes,
}

impl Record {
    /// The root, which has no record.
    pub(super) const ROOT: Self =
        Self { dir: true, modified: 0, created: 0, expiration: None, value: Bytes::new() };

    /// A directory that nobody asked for, on the way to a node.
    pub(super) fn on_the_way(index: u64) -> Self {
        Self { modified: index, created: index, ..Self::ROOT }
    }

    /// Reads what [`Record::write`] wrote; `None` when it did not.
    pub(super) fn read(mut bytes: &[u8]) -> Option<Self> {
        let (&flags, rest) = bytes.split_first()?;
        bytes = rest;
        let modified = decode_varint(&mut bytes).ok()?;
        let created = modified.checked_sub(decode_varint(&mut bytes).ok()?)?;
        let mut expiration = None;
        if flags & EXPIRES != 0 {
            let (nanoseconds, rest) = bytes.split_first_chunk::<8>()?;
            expiration = Some(i64::from_be_bytes(*nanoseconds));
            bytes = rest;
        }
        let dir = flags & DIR != 0;
        if flags & !(DIR | EXPIRES) != 0 || (dir && !bytes.is_empty()) {
            return None;
        }
        Some(Self { dir, modified, created, expiration, value: Bytes::copy_from_slice(bytes) })
    }

    pub(super) fn write(&self, buffer: &mut Vec<u8>) {
        debug_assert!(self.created <= self.modified && (!self.dir || self.value.is_empty()));
        buffer.clear();
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        buffer.put_u8(flag(self.dir, DIR) | flag(self.expiration.is_some(), EXPIRES));
        encode_varint(self.modified, buffer);
        encode_varint(self.modified - self.created, buffer);
        if let Some(expiration) = self.expiration {
            buffer.put_i64(expiration);
        }
        buffer.put_slice(&self.value);
    }

    /// The node as readers see it at `now`; what is in a directory is not asked for.
    pub(super) fn node(&self, key: &str, now: i64) -> Node {
        Node {
            key: key.to_owned(),
            value: (!self.dir).then(|| self.value.clone()),
            dir: self.dir,
            expiration: self.expiration,
            ttl: self.expiration.map_or(0, |expiration| ttl(expiration, now)),
            nodes: Vec::new(),
            modified_index: self.modified,
            created_index: self.created,
        }
    }
}

/// Whether a record's value is that of a directory.
pub(super) fn is_dir(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|flags| flags & DIR != 0)
}
