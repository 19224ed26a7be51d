//! What a page's cells hold, and how: the encoding of one record (leaf) or one child (branch).
//!
//! A cell is read as a view that borrows the page, and written from the same view, so each layout stands once. Keys
//! and values too long for a page leave a [`RunRef`] in the cell; a key also leaves its first bytes, which decide most
//! comparisons without a look at the run.
//!
//! Nothing here knows where in a page a cell lies (`page`), or how a run is found (`directory`, `pages`).

use super::page::{KEY_PREFIX_BYTES, u16_at, u32_at, u64_at};
use crate::ids::PageId;

/// Flags (1), key part length (2), value part length (2).
pub(super) const LEAF_HEAD_BYTES: usize = 5;
/// Flags (1), key part length (2), child page (8), counted records beneath (8).
pub(super) const BRANCH_HEAD_BYTES: usize = 19;
/// First page (8), length (4).
pub(super) const RUN_REF_BYTES: usize = 12;

pub(super) const FLAG_COUNTED: u8 = 1;
pub(super) const FLAG_KEY_IN_RUN: u8 = 2;
pub(super) const FLAG_VALUE_IN_RUN: u8 = 4;

/// Where in a cell the lengths and references stand.
pub(super) const KEY_LEN_AT: usize = 1;
pub(super) const VALUE_LEN_AT: usize = 3;
pub(super) const CHILD_AT: usize = 3;
pub(super) const COUNTED_AT: usize = 11;

/// A key or value that stands in a run of pages of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunRef {
    /// The first page of the run.
    pub(super) page: PageId,
    /// Bytes of data in it.
    pub(super) len: u32,
}

impl RunRef {
    fn read(bytes: &[u8]) -> RunRef {
        RunRef { page: PageId(u64_at(bytes, 0)), len: u32_at(bytes, 8) }
    }

    fn write(self, out: &mut [u8]) {
        out[..8].copy_from_slice(&self.page.0.to_le_bytes());
        out[8..RUN_REF_BYTES].copy_from_slice(&self.len.to_le_bytes());
    }
}

/// The key part of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CellKey<'a> {
    /// The whole key.
    Inline(&'a [u8]),
    /// The key's first [`KEY_PREFIX_BYTES`], and the run that holds all of it.
    Run { prefix: &'a [u8], run: RunRef },
}

impl<'a> CellKey<'a> {
    pub(super) const EMPTY: CellKey<'static> = CellKey::Inline(&[]);

    /// The key part for `key`, whose run (when it has one) is `run`.
    pub(super) fn new(key: &'a [u8], run: Option<RunRef>) -> CellKey<'a> {
        match run {
            None => CellKey::Inline(key),
            Some(run) => CellKey::Run { prefix: &key[..KEY_PREFIX_BYTES], run },
        }
    }

    #[inline]
    fn read(flags: u8, part: &'a [u8]) -> CellKey<'a> {
        if flags & FLAG_KEY_IN_RUN == 0 {
            return CellKey::Inline(part);
        }
        let (prefix, run) = part.split_at(part.len() - RUN_REF_BYTES);
        CellKey::Run { prefix, run: RunRef::read(run) }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            CellKey::Inline(key) => key.len(),
            CellKey::Run { prefix, .. } => prefix.len() + RUN_REF_BYTES,
        }
    }

    /// What the cell has of the key itself.
    #[inline]
    pub(super) fn part(&self) -> &'a [u8] {
        match self {
            CellKey::Inline(part) | CellKey::Run { prefix: part, .. } => part,
        }
    }

    pub(super) fn run(&self) -> Option<RunRef> {
        match self {
            CellKey::Inline(_) => None,
            CellKey::Run { run, .. } => Some(*run),
        }
    }

    fn flag(&self) -> u8 {
        match self {
            CellKey::Inline(_) => 0,
            CellKey::Run { .. } => FLAG_KEY_IN_RUN,
        }
    }

    fn write(&self, out: &mut [u8]) {
        match self {
            CellKey::Inline(key) => out.copy_from_slice(key),
            CellKey::Run { prefix, run } => {
                out[..prefix.len()].copy_from_slice(prefix);
                run.write(&mut out[prefix.len()..]);
            }
        }
    }
}

/// The value part of a leaf cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CellValue<'a> {
    Inline(&'a [u8]),
    Run(RunRef),
}

impl CellValue<'_> {
    fn len(&self) -> usize {
        match self {
            CellValue::Inline(value) => value.len(),
            CellValue::Run(_) => RUN_REF_BYTES,
        }
    }

    pub(super) fn run(&self) -> Option<RunRef> {
        match self {
            CellValue::Inline(_) => None,
            CellValue::Run(run) => Some(*run),
        }
    }
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeafCell<'a> {
    pub(super) counted: bool,
    pub(super) key: CellKey<'a>,
    pub(super) value: CellValue<'a>,
}

impl<'a> LeafCell<'a> {
    /// Reads the cell that starts `bytes`.
    #[inline]
    pub(super) fn read(bytes: &'a [u8]) -> LeafCell<'a> {
        let flags = bytes[0];
        let key_len = u16_at(bytes, KEY_LEN_AT);
        let value_len = u16_at(bytes, VALUE_LEN_AT);
        let (key, rest) = bytes[LEAF_HEAD_BYTES..].split_at(key_len);
        let value = &rest[..value_len];
        LeafCell {
            counted: flags & FLAG_COUNTED != 0,
            key: CellKey::read(flags, key),
            value: if flags & FLAG_VALUE_IN_RUN == 0 {
                CellValue::Inline(value)
            } else {
                CellValue::Run(RunRef::read(value))
            },
        }
    }

    pub(super) fn len(&self) -> usize {
        LEAF_HEAD_BYTES + self.key.len() + self.value.len()
    }

    /// Writes the cell; `out` is exactly as long as it.
    pub(super) fn write(&self, out: &mut [u8]) {
        let counted = if self.counted { FLAG_COUNTED } else { 0 };
        let value_flag = if self.value.run().is_some() { FLAG_VALUE_IN_RUN } else { 0 };
        write_head(out, counted | self.key.flag() | value_flag, self.key.len());
        write_u16(out, VALUE_LEN_AT, self.value.len());
        let (key, value) = out[LEAF_HEAD_BYTES..].split_at_mut(self.key.len());
        self.key.write(key);
        match self.value {
            CellValue::Inline(bytes) => value.copy_from_slice(bytes),
            CellValue::Run(run) => run.write(value),
        }
    }
}

/// One child of a branch: all keys from `key` on, up to the next cell's key, are beneath it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BranchCell<'a> {
    pub(super) key: CellKey<'a>,
    pub(super) child: PageId,
    /// Counted records beneath the child.
    pub(super) counted: u64,
}

impl<'a> BranchCell<'a> {
    /// Reads the cell that starts `bytes`.
    #[inline]
    pub(super) fn read(bytes: &'a [u8]) -> BranchCell<'a> {
        let key_len = u16_at(bytes, KEY_LEN_AT);
        BranchCell {
            key: CellKey::read(bytes[0], &bytes[BRANCH_HEAD_BYTES..BRANCH_HEAD_BYTES + key_len]),
            child: PageId(u64_at(bytes, CHILD_AT)),
            counted: u64_at(bytes, COUNTED_AT),
        }
    }

    pub(super) fn len(&self) -> usize {
        BRANCH_HEAD_BYTES + self.key.len()
    }

    /// Writes the cell; `out` is exactly as long as it.
    pub(super) fn write(&self, out: &mut [u8]) {
        write_head(out, self.key.flag(), self.key.len());
        out[CHILD_AT..CHILD_AT + 8].copy_from_slice(&self.child.0.to_le_bytes());
        out[COUNTED_AT..COUNTED_AT + 8].copy_from_slice(&self.counted.to_le_bytes());
        self.key.write(&mut out[BRANCH_HEAD_BYTES..]);
    }
}

/// The key part of the cell that starts `bytes`, whose head is `head` bytes long.
#[inline]
pub(super) fn key_part(bytes: &[u8], head: usize) -> CellKey<'_> {
    let key_len = u16_at(bytes, KEY_LEN_AT);
    CellKey::read(bytes[0], &bytes[head..head + key_len])
}

fn write_head(out: &mut [u8], flags: u8, key_len: usize) {
    out[0] = flags;
    write_u16(out, KEY_LEN_AT, key_len);
}

fn write_u16(out: &mut [u8], at: usize, value: usize) {
    let value = u16::try_from(value).expect("invariant: a cell part is shorter than a page");
    out[at..at + 2].copy_from_slice(&value.to_le_bytes());
}
