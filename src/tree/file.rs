//! What a checkpoint file holds besides the bodies of pages: trailers, meta pages, the set of free pages. Bytes only.
//!
//! `FORMAT.md` beside this file draws them; a test holds it to the constants here. Every page carries its own number
//! and a checksum over both, so that a flipped bit and a page that was written to the wrong place are told from data.
//! What a checksum cannot tell is a page that was never written and holds an older page's bytes: against that, a page is
//! used again only after it was flushed, and a page newer than the checkpoint that refers to it is refused.

use super::check::Damage;
use super::page::{PAGE_BYTES, TRAILER_BYTES, u64_at};
use crate::ids::{Index, PageId, Term};

/// What a meta page begins with.
pub(super) const MAGIC: [u8; 8] = *b"urd-tree";
/// The version of the layout in `FORMAT.md`.
pub(super) const FORMAT: u32 = 1;
/// Where the next checkpoint's meta page goes: to the page of its number modulo this.
pub(super) const META_PAGES: u64 = 2;

/// Offsets within a trailer.
pub(super) const TRAILER_PAGE_AT: usize = 0;
pub(super) const TRAILER_ZERO_AT: usize = 8;
pub(super) const TRAILER_CRC_AT: usize = 12;

/// Offsets within a meta page; its trailer is that of any page.
pub(super) const META_MAGIC_AT: usize = 0;
pub(super) const META_FORMAT_AT: usize = 8;
pub(super) const META_PAGE_BYTES_AT: usize = 12;
pub(super) const META_NUMBER_AT: usize = 16;
pub(super) const META_VERSION_AT: usize = 24;
pub(super) const META_ROOT_AT: usize = 32;
pub(super) const META_DEPTH_AT: usize = 40;
pub(super) const META_RECORDS_AT: usize = 48;
pub(super) const META_END_AT: usize = 56;
pub(super) const META_FREE_AT: usize = 64;
pub(super) const META_INDEX_AT: usize = 72;
pub(super) const META_TERM_AT: usize = 80;

/// The position in the raft log that a checkpoint contains: everything up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The last entry that was applied.
    pub index: Index,
    /// Its term.
    pub term: Term,
}

/// What a meta page says of its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Counts the file's checkpoints from 1 on.
    pub number: u64,
    /// The publication that was made durable.
    pub version: u64,
    /// The root page.
    pub root: PageId,
    /// Pages from the root to a leaf, both included.
    pub depth: u64,
    /// Records in the tree.
    pub records: u64,
    /// No page from here on is in use: the least length of the file, in pages.
    pub end: PageId,
    /// The run that holds the set of free pages, a bit a page.
    pub free: PageId,
    /// What the owner of the tree had applied.
    pub stamp: Stamp,
}

/// What is wrong with a page's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub(super) expected: String,
    pub(super) found: String,
}

impl Mismatch {
    pub(super) fn new(expected: impl ToString, found: impl ToString) -> Mismatch {
        Mismatch { expected: expected.to_string(), found: found.to_string() }
    }

    /// The same, of page `page`.
    pub(super) fn at(self, page: PageId) -> Damage {
        Damage { page, expected: self.expected, found: self.found }
    }
}

/// Writes the trailer of a page, or of a run, that begins at `id`: `pages` are all its bytes.
pub(super) fn seal(id: PageId, pages: &mut [u8]) {
    let (body, trailer) = split_trailer_mut(pages);
    trailer[TRAILER_PAGE_AT..TRAILER_ZERO_AT].copy_from_slice(&id.0.to_le_bytes());
    trailer[TRAILER_ZERO_AT..TRAILER_CRC_AT].fill(0);
    let crc = checksum(body, &trailer[..TRAILER_CRC_AT]);
    trailer[TRAILER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
}

/// Whether a page, or a run, is what was sealed as `id`.
pub(super) fn verify(id: PageId, pages: &[u8]) -> Result<(), Mismatch> {
    let (body, trailer) = pages.split_at(pages.len() - TRAILER_BYTES);
    let expected = checksum(body, &trailer[..TRAILER_CRC_AT]);
    let found = u32_at(trailer, TRAILER_CRC_AT);
    if expected != found {
        let show = |crc| format!("checksum {crc:08x}");
        return Err(Mismatch::new(show(expected), show(found)));
    }
    let found = u64_at(trailer, TRAILER_PAGE_AT);
    if found != id.0 {
        return Err(Mismatch::new(format!("page {id}"), format!("page {found}")));
    }
    Ok(())
}

fn split_trailer_mut(pages: &mut [u8]) -> (&mut [u8], &mut [u8]) {
    pages.split_at_mut(pages.len() - TRAILER_BYTES)
}

fn checksum(body: &[u8], trailer: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(trailer);
    hasher.finalize()
}

impl Meta {
    /// The page that this checkpoint's meta page is.
    pub(super) fn place(&self) -> PageId {
        PageId(self.number % META_PAGES)
    }

    /// Writes the whole page.
    pub(super) fn encode(&self, page: &mut [u8]) {
        page.fill(0);
        page[META_MAGIC_AT..META_FORMAT_AT].copy_from_slice(&MAGIC);
        page[META_FORMAT_AT..META_PAGE_BYTES_AT].copy_from_slice(&FORMAT.to_le_bytes());
        let page_bytes = u32::try_from(PAGE_BYTES).expect("invariant: a page is small");
        page[META_PAGE_BYTES_AT..META_NUMBER_AT].copy_from_slice(&page_bytes.to_le_bytes());
        for (at, number) in [
            (META_NUMBER_AT, self.number),
            (META_VERSION_AT, self.version),
            (META_ROOT_AT, self.root.0),
            (META_DEPTH_AT, self.depth),
            (META_RECORDS_AT, self.records),
            (META_END_AT, self.end.0),
            (META_FREE_AT, self.free.0),
            (META_INDEX_AT, self.stamp.index.0),
            (META_TERM_AT, self.stamp.term.0),
        ] {
            page[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        seal(self.place(), page);
    }

    /// Reads meta page `place`.
    pub(super) fn decode(place: PageId, page: &[u8]) -> Result<Meta, Mismatch> {
        verify(place, page)?;
        let magic = &page[META_MAGIC_AT..META_FORMAT_AT];
        if magic != MAGIC {
            return Err(Mismatch::new("a meta page", magic.escape_ascii()));
        }
        let format = u32_at(page, META_FORMAT_AT);
        if format != FORMAT {
            return Err(Mismatch::new(format!("format {FORMAT}"), format!("format {format}")));
        }
        let page_bytes = u32_at(page, META_PAGE_BYTES_AT);
        if page_bytes as usize != PAGE_BYTES {
            let show = |bytes| format!("pages of {bytes} bytes");
            return Err(Mismatch::new(show(PAGE_BYTES), show(page_bytes as usize)));
        }
        let number = |at| u64_at(page, at);
        let meta = Meta {
            number: number(META_NUMBER_AT),
            version: number(META_VERSION_AT),
            root: PageId(number(META_ROOT_AT)),
            depth: number(META_DEPTH_AT),
            records: number(META_RECORDS_AT),
            end: PageId(number(META_END_AT)),
            free: PageId(number(META_FREE_AT)),
            stamp: Stamp { index: Index(number(META_INDEX_AT)), term: Term(number(META_TERM_AT)) },
        };
        if meta.place() != place {
            let found = format!("checkpoint {}", meta.number);
            return Err(Mismatch::new(format!("a checkpoint of page {place}"), found));
        }
        Ok(meta)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes[at..at + 4].try_into().expect("invariant: four bytes");
    u32::from_le_bytes(bytes)
}
