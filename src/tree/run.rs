//! A run: consecutive pages that hold one long key or value, whole and contiguous.
//!
//! In memory a run is one allocation of exactly its header and data, so that a value is one slice whatever its length;
//! in a file it takes as many pages as header, data and trailer need. A run is written once, when it is made: a new
//! value means a new run.

use super::file::seal;
use super::page::{KIND_AT, KIND_RUN, PAGE_BYTES, TRAILER_BYTES, u64_at};
use crate::ids::PageId;

/// Kind (1), zero (3), length (4), version (8).
pub(super) const RUN_HEADER_BYTES: usize = 16;
pub(super) const RUN_LEN_AT: usize = 4;
pub(super) const RUN_VERSION_AT: usize = 8;

/// One long key or value.
pub(super) struct Run {
    bytes: Box<[u8]>,
}

impl Run {
    /// A run of `data`, written by the batch `version`.
    pub(super) fn new(data: &[u8], version: u64) -> Run {
        let len = u32::try_from(data.len()).expect("invariant: keys and values are bounded");
        let mut header = [0; RUN_HEADER_BYTES];
        header[KIND_AT] = KIND_RUN;
        header[RUN_LEN_AT..RUN_LEN_AT + 4].copy_from_slice(&len.to_le_bytes());
        header[RUN_VERSION_AT..].copy_from_slice(&version.to_le_bytes());
        let mut bytes = Vec::with_capacity(RUN_HEADER_BYTES + data.len());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(data);
        Run { bytes: bytes.into_boxed_slice() }
    }

    #[inline]
    pub(super) fn data(&self) -> &[u8] {
        &self.bytes[RUN_HEADER_BYTES..]
    }

    /// The batch that wrote this run; no older snapshot sees it.
    pub(super) fn version(&self) -> u64 {
        Run::version_of(&self.bytes)
    }

    /// The same, of the bytes of a run.
    pub(super) fn version_of(bytes: &[u8]) -> u64 {
        u64_at(bytes, RUN_VERSION_AT)
    }

    /// Header and data, as a file holds them before padding and trailer.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends the run to `out`, as a file holds it from page `id` on.
    pub(super) fn write(&self, id: PageId, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&self.bytes);
        out.resize(begin + run_pages(self.data().len()) * PAGE_BYTES, 0);
        seal(id, &mut out[begin..]);
    }
}

/// Pages that a run of `len` bytes takes.
pub(super) fn run_pages(len: usize) -> usize {
    (RUN_HEADER_BYTES + len + TRAILER_BYTES).div_ceil(PAGE_BYTES)
}
