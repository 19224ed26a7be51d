//! The checkpoint file, mapped into memory for reading: the tree's one place with `unsafe` code.
//!
//! A page lies in the file as it lies in the heap, so a reader gets a reference into the mapping, and no page is read
//! into memory of ours. The whole range that a file may ever grow to is mapped at once (addresses, not memory), so the
//! mapping never moves under a reader.
//!
//! # Why a page does not change while it is read
//!
//! A reference lives as long as the snapshot it was reached from, or as long as the writer does not change its tree. A
//! page that a snapshot, the writer or the newest durable checkpoint sees is not free (`retired`), so it is not handed
//! out again (`freelist`), and a checkpoint writes only pages that were handed out since the last one. The mapping is
//! read-only, the file is not shortened below a page in use, and the data directory is locked to one process.
//!
//! # Who may fault
//!
//! The first touch of a page maps it, and reads it from the medium when the kernel has evicted it: the thread waits,
//! and with it its whole shard. A shard that serves connections may do that for a read: it delays its own connections
//! only. The log shard touches the leaf that a put changes, and would delay everybody: so when pages are being evicted,
//! other threads touch first what it will need (`server::warming`). What they do not cover, such as the rest of a range
//! that is larger than their bound, or a page that is evicted again before its turn, it still waits for. While the data
//! fits into memory pages stay in the page cache they were written through, and a touch costs a microsecond at most.
//!
//! # Damage
//!
//! A page is verified when it is read first after a start, by checksum and by its own number. A page that fails stops
//! the process, by a panic that names file, page and offset: there is no answer that could be given instead.
//!
//! On a medium in memory nothing can be mapped; there the file is read once, at the start, and pages written later
//! stay in the heap ([`Map::is_live`]).

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};

use super::check::Damage;
use super::directory::PAGES_MAX;
use super::file::{self, Mismatch};
use super::page::{
    BODY_BYTES, KIND_AT, KIND_BRANCH, KIND_LEAF, KIND_RUN, Node, PAGE_BYTES, VERSION_AT, u64_at,
};
use super::run::{RUN_HEADER_BYTES, RUN_LEN_AT, RUN_VERSION_AT, run_pages};
use crate::ids::PageId;

/// What a reference to a page expects there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A leaf or a branch.
    Node,
    Run,
}

/// Where the file's bytes are.
enum Bytes {
    Mapped(MmapRaw),
    Loaded(Box<[u8]>),
}

/// A checkpoint file as readers see it.
pub(super) struct Map {
    bytes: Bytes,
    /// How a message should name the file.
    name: String,
    /// The length that may be read, in pages.
    end: AtomicU64,
    /// A page that is newer than the checkpoint was written after it: by a later one that is lost.
    version_max: AtomicU64,
    verified: Verified,
}

impl Map {
    /// Maps the file at `path`, for good.
    pub(super) fn of_file(name: String, path: &Path) -> io::Result<Map> {
        let file = File::open(path)?;
        let mapped = map_all(&file)?;
        let pages = file.metadata()?.len() / PAGE_BYTES as u64;
        Ok(Map::new(Bytes::Mapped(mapped), name, pages))
    }

    /// A file that was read as a whole.
    pub(super) fn loaded(name: String, bytes: Vec<u8>) -> Map {
        let pages = (bytes.len() / PAGE_BYTES) as u64;
        Map::new(Bytes::Loaded(bytes.into_boxed_slice()), name, pages)
    }

    fn new(bytes: Bytes, name: String, pages: u64) -> Map {
        let (end, version_max) = (AtomicU64::new(pages.min(PAGES_MAX)), AtomicU64::new(u64::MAX));
        Map { bytes, name, end, version_max, verified: Verified::new() }
    }

    /// How a message names the file.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Pages that are read before this process has written them may not be newer than `version`.
    pub(super) fn expect_versions_up_to(&self, version: u64) {
        self.version_max.store(version, Ordering::Relaxed);
    }

    /// Whether what is written to the file can be read here.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.bytes, Bytes::Mapped(_))
    }

    /// Tells the kernel whether reads go all over the file, or may be read ahead of.
    pub(super) fn expect_scattered_reads(&self, scattered: bool) {
        if let Bytes::Mapped(mapped) = &self.bytes {
            let advice = if scattered { Advice::Random } else { Advice::Normal };
            // Advice only: without it more is read than needed, and nothing else.
            mapped.advise(advice).ok();
        }
    }

    /// The file's length in pages, as far as it may be read.
    pub(super) fn end(&self) -> PageId {
        PageId(self.end.load(Ordering::Acquire))
    }

    /// The file has become so long, or so short.
    pub(super) fn set_end(&self, end: PageId) {
        self.end.store(end.0, Ordering::Release);
    }

    /// How many pages, or runs of them, have been read: those that were verified.
    #[cfg(test)]
    pub(super) fn pages_read(&self) -> usize {
        self.verified.len()
    }

    /// This process has written page `id` itself: its content needs no verification.
    pub(super) fn set_verified(&self, id: PageId) {
        self.verified.insert(id);
    }

    /// The leaf or branch at `id`, which the caller must be entitled to see.
    #[inline]
    pub(super) fn node(&self, id: PageId) -> &Node {
        if !self.verified.contains(id) {
            self.insist(id, self.verify(id));
        }
        as_node(self.body(id))
    }

    /// The data of the run that starts at `id`.
    pub(super) fn run(&self, id: PageId) -> &[u8] {
        if !self.verified.contains(id) {
            self.insist(id, self.verify(id));
        }
        let len = self.header(id).run_bytes();
        &self.pages(id, run_pages(len))[RUN_HEADER_BYTES..RUN_HEADER_BYTES + len]
    }

    /// The batch that wrote the page or run at `id`.
    pub(super) fn version(&self, id: PageId) -> u64 {
        self.verified_header(id).version()
    }

    /// How many pages what starts at `id` takes.
    pub(super) fn pages_at(&self, id: PageId) -> usize {
        self.verified_header(id).pages()
    }

    fn verified_header(&self, id: PageId) -> Header<'_> {
        if !self.verified.contains(id) {
            self.insist(id, self.verify(id));
        }
        self.header(id)
    }

    /// Verifies the page or run at `id`, read or not.
    fn verify(&self, id: PageId) -> Result<(), Damage> {
        self.try_verify(id).map_err(|mismatch| mismatch.at(id))
    }

    /// The same, and that it is of the shape that a reference to it expects. It is not where a write was lost, and what
    /// stood there before is sound by itself.
    pub(super) fn verify_as(&self, shape: Shape, id: PageId) -> Result<(), Damage> {
        self.verify(id)?;
        let (is_run, kind) = (shape == Shape::Run, self.header(id).kind());
        if is_run == (kind == KIND_RUN) {
            return Ok(());
        }
        let expected = if is_run { "a run" } else { "a leaf or a branch" };
        Err(Mismatch::new(expected, format!("kind {kind}")).at(id))
    }

    /// Appends what stands at `id`, trailer and all, to `out`, where it is what a reference of this shape expects.
    pub(super) fn copy(&self, shape: Shape, id: PageId, out: &mut Vec<u8>) -> Result<(), Damage> {
        self.verify_as(shape, id)?;
        out.extend_from_slice(self.pages(id, self.header(id).pages()));
        Ok(())
    }

    fn try_verify(&self, id: PageId) -> Result<(), Mismatch> {
        if id >= self.end() {
            let found = format!("a file of {} pages", self.end());
            return Err(Mismatch::new(format!("page {id} in the file"), found));
        }
        let header = self.header(id);
        let pages = header.pages();
        if id.0 + pages as u64 > self.end().0 {
            let found = format!("a file of {} pages", self.end());
            return Err(Mismatch::new(format!("a run of {pages} pages in the file"), found));
        }
        file::verify(id, self.pages(id, pages))?;
        let kind = header.kind();
        if ![KIND_LEAF, KIND_BRANCH, KIND_RUN].contains(&kind) {
            return Err(Mismatch::new("a leaf, a branch or a run", format!("kind {kind}")));
        }
        let (version, newest) = (header.version(), self.version_max.load(Ordering::Relaxed));
        if version > newest && !self.verified.contains(id) {
            let expected = format!("a page of publication {newest} or before");
            return Err(Mismatch::new(expected, format!("one of publication {version}")));
        }
        self.verified.insert(id);
        Ok(())
    }

    /// The bytes of meta page `place`, if the file is long enough to have it.
    pub(super) fn meta_page(&self, place: PageId) -> Option<&[u8]> {
        (place < self.end()).then(|| self.pages(place, 1))
    }

    /// Says where damage is.
    pub(super) fn describe(&self, damage: &Damage) -> String {
        // A damaged reference may name any page.
        let offset = u128::from(damage.page.0) * PAGE_BYTES as u128;
        format!("{}: damaged at offset {offset}: {damage}", self.name)
    }

    #[cold]
    fn insist(&self, id: PageId, verified: Result<(), Damage>) {
        if let Err(damage) = verified {
            panic!("{}; reached page {id} while reading", self.describe(&damage));
        }
    }

    fn header(&self, id: PageId) -> Header<'_> {
        Header(self.body(id))
    }

    fn body(&self, id: PageId) -> &[u8; BODY_BYTES] {
        self.pages(id, 1).first_chunk().expect("invariant: a page is longer than its body")
    }

    /// The bytes of `pages` pages from `id` on.
    #[inline]
    #[allow(unsafe_code)]
    fn pages(&self, id: PageId, pages: usize) -> &[u8] {
        let end = self.end.load(Ordering::Acquire);
        assert!(
            id.0 < end && pages as u64 <= end - id.0,
            "{}: {pages} pages at page {id} of a file of {end}",
            self.name
        );
        #[expect(clippy::cast_possible_truncation, reason = "a page of the file is addressable")]
        let (at, len) = (id.0 as usize * PAGE_BYTES, pages * PAGE_BYTES);
        match &self.bytes {
            Bytes::Loaded(bytes) => &bytes[at..at + len],
            // SAFETY: the range lies within the mapping, whose length is PAGES_MAX pages, and within the file, whose
            // length is `end` at least. The bytes do not change while the reference lives: see the module's page. They
            // are read as `u8`, which has no invalid values.
            Bytes::Mapped(mapped) => unsafe {
                std::slice::from_raw_parts(mapped.as_ptr().add(at), len)
            },
        }
    }
}

#[allow(unsafe_code)]
fn as_node(body: &[u8; BODY_BYTES]) -> &Node {
    // SAFETY: `Node` is a transparent wrapper of exactly these bytes.
    unsafe { &*std::ptr::from_ref(body).cast::<Node>() }
}

/// What the first bytes of a page or run say.
struct Header<'a>(&'a [u8; BODY_BYTES]);

impl Header<'_> {
    fn kind(&self) -> u8 {
        self.0[KIND_AT]
    }

    /// Bytes of data in a run.
    fn run_bytes(&self) -> usize {
        let bytes = self.0[RUN_LEN_AT..RUN_LEN_AT + 4].try_into();
        u32::from_le_bytes(bytes.expect("invariant: four bytes")) as usize
    }

    fn pages(&self) -> usize {
        if self.kind() == KIND_RUN { run_pages(self.run_bytes()) } else { 1 }
    }

    fn version(&self) -> u64 {
        u64_at(self.0, if self.kind() == KIND_RUN { RUN_VERSION_AT } else { VERSION_AT })
    }
}

/// Maps all that the file may ever have, whatever it has now.
fn map_all(file: &File) -> io::Result<MmapRaw> {
    let len = usize::try_from(PAGES_MAX * PAGE_BYTES as u64).map_err(io::Error::other)?;
    MmapOptions::new().len(len).map_raw_read_only(file)
}

/// The pages that were verified since the start. Grows in chunks that never move.
struct Verified {
    chunks: Box<[OnceLock<Chunk>]>,
}

type Chunk = Box<[AtomicU64]>;

const CHUNK_WORDS: usize = 1 << 12;
const CHUNK_PAGES: usize = CHUNK_WORDS * WORD_BITS;
const WORD_BITS: usize = u64::BITS as usize;

impl Verified {
    fn new() -> Verified {
        #[expect(clippy::cast_possible_truncation, reason = "a constant far below the bound")]
        const CHUNKS: usize = PAGES_MAX as usize / CHUNK_PAGES;
        Verified { chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect() }
    }

    #[inline]
    fn contains(&self, id: PageId) -> bool {
        let (chunk, word, bit) = position(id);
        let words = self.chunks[chunk].get();
        words.is_some_and(|words| words[word].load(Ordering::Acquire) & bit != 0)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let words = self.chunks.iter().filter_map(OnceLock::get).flatten();
        words.map(|word| word.load(Ordering::Acquire).count_ones() as usize).sum()
    }

    fn insert(&self, id: PageId) {
        let (chunk, word, bit) = position(id);
        let new = || (0..CHUNK_WORDS).map(|_| AtomicU64::new(0)).collect();
        self.chunks[chunk].get_or_init(new)[word].fetch_or(bit, Ordering::Release);
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "an id is below PAGES_MAX")]
fn position(id: PageId) -> (usize, usize, u64) {
    let id = id.0 as usize;
    (id / CHUNK_PAGES, id % CHUNK_PAGES / WORD_BITS, 1 << (id % WORD_BITS))
}
