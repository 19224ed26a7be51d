//! The bytes in which a snapshot travels: what stands before its pages and behind them, and their order.
//!
//! `FORMAT.md` beside this file draws them, and says why they are so. Bytes only: [`export`](super::export) makes the
//! stream, `assemble` takes it apart.

use super::cell::RunRef;
use super::file::{self, Mismatch, Stamp};
use super::map::Shape;
use super::page::{Kind, Node, PAGE_BYTES, u32_at, u64_at};
use crate::ids::{Index, PageId, Term};

/// A chunk measures so much at most. It is what a receiver verifies and writes at once.
pub const CHUNK_BYTES: usize = 512 << 10;
/// The number of the chunk, in front of its part of the stream.
pub(super) const CHUNK_HEAD_BYTES: usize = 8;

/// What a stream begins with.
pub(super) const MAGIC: [u8; 8] = *b"urd-copy";
/// The version of the stream in `FORMAT.md`; pages have their own.
pub(super) const FORMAT: u32 = 1;
/// What stands behind the last page.
pub(super) const END_MAGIC: [u8; 8] = *b"urd-done";

/// Offsets within the header.
pub(super) const MAGIC_AT: usize = 0;
pub(super) const FORMAT_AT: usize = 8;
pub(super) const PAGE_FORMAT_AT: usize = 12;
pub(super) const PAGE_BYTES_AT: usize = 16;
pub(super) const VERSION_AT: usize = 24;
pub(super) const ROOT_AT: usize = 32;
pub(super) const DEPTH_AT: usize = 40;
pub(super) const RECORDS_AT: usize = 48;
pub(super) const PAGES_AT: usize = 56;
pub(super) const INDEX_AT: usize = 64;
pub(super) const TERM_AT: usize = 72;
pub(super) const CRC_AT: usize = 80;
pub(super) const HEADER_BYTES: usize = 84;

/// Offsets within the end.
pub(super) const END_MAGIC_AT: usize = 0;
pub(super) const END_PAGES_AT: usize = 8;
pub(super) const END_CRC_AT: usize = 16;
pub(super) const END_BYTES: usize = 20;

/// What a stream says of its tree before the first page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The publication that it is.
    pub version: u64,
    /// The root page, as the sender numbers it.
    pub root: PageId,
    /// Pages from the root to a leaf, both included.
    pub depth: u64,
    /// Records in the tree.
    pub records: u64,
    /// About how many pages follow: for who wants to know how far it has come.
    pub pages: u64,
    /// What the owner of the tree had applied.
    pub stamp: Stamp,
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Pages that went through.
    pub pages: u64,
    /// About how many there will be.
    pub of: u64,
}

impl Progress {
    /// The same as a part of the whole, 0 to 1.
    #[must_use]
    pub fn part(&self) -> f64 {
        self.pages as f64 / self.of.max(1) as f64
    }
}

/// A page or run that a page refers to, or the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) shape: Shape,
    pub(super) page: PageId,
}

impl Reference {
    pub(super) fn node(page: PageId) -> Reference {
        Reference { shape: Shape::Node, page }
    }

    fn run(run: RunRef) -> Reference {
        Reference { shape: Shape::Run, page: run.page }
    }
}

/// What a page refers to, in the order in which it follows the page in a stream.
pub(super) fn references(node: &Node) -> impl DoubleEndedIterator<Item = Reference> + '_ {
    (0..node.count()).flat_map(|index| {
        let key = node.key(index).run().map(Reference::run);
        let other = match node.kind() {
            Kind::Branch => Some(Reference::node(node.child(index))),
            Kind::Leaf => node.record(index).value.run().map(Reference::run),
        };
        key.into_iter().chain(other)
    })
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[MAGIC_AT..FORMAT_AT].copy_from_slice(&MAGIC);
        let page_bytes = u32::try_from(PAGE_BYTES).expect("invariant: a page is small");
        for (at, number) in
            [(FORMAT_AT, FORMAT), (PAGE_FORMAT_AT, file::FORMAT), (PAGE_BYTES_AT, page_bytes)]
        {
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        for (at, number) in [
            (VERSION_AT, self.version),
            (ROOT_AT, self.root.0),
            (DEPTH_AT, self.depth),
            (RECORDS_AT, self.records),
            (PAGES_AT, self.pages),
            (INDEX_AT, self.stamp.index.0),
            (TERM_AT, self.stamp.term.0),
        ] {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Judges in this order: is it a stream, is it of this version, is it whole, does it make sense.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Header, Mismatch> {
        let magic = &bytes[MAGIC_AT..FORMAT_AT];
        if magic != MAGIC {
            return Err(Mismatch::new("the beginning of a tree", magic.escape_ascii()));
        }
        let page_bytes = u32::try_from(PAGE_BYTES).expect("invariant: a page is small");
        for (what, at, expected) in [
            ("a stream of format", FORMAT_AT, FORMAT),
            ("pages of format", PAGE_FORMAT_AT, file::FORMAT),
            ("bytes a page:", PAGE_BYTES_AT, page_bytes),
        ] {
            let found = u32_at(bytes, at);
            if found != expected {
                return Err(Mismatch::new(format!("{what} {expected}"), found));
            }
        }
        let (expected, found) = (crc32fast::hash(&bytes[..CRC_AT]), u32_at(bytes, CRC_AT));
        if expected != found {
            let show = |crc| format!("checksum {crc:08x}");
            return Err(Mismatch::new(show(expected), show(found)));
        }
        let number = |at| u64_at(bytes, at);
        Ok(Header {
            version: number(VERSION_AT),
            root: PageId(number(ROOT_AT)),
            depth: number(DEPTH_AT),
            records: number(RECORDS_AT),
            pages: number(PAGES_AT),
            stamp: Stamp { index: Index(number(INDEX_AT)), term: Term(number(TERM_AT)) },
        })
    }
}

/// The end of a stream whose pages, and how many there were, are known: all but the checksum, which covers it too.
pub(super) fn end(pages: u64) -> [u8; END_CRC_AT] {
    let mut bytes = [0; END_CRC_AT];
    bytes[END_MAGIC_AT..END_PAGES_AT].copy_from_slice(&END_MAGIC);
    bytes[END_PAGES_AT..].copy_from_slice(&pages.to_le_bytes());
    bytes
}
