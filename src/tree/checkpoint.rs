//! Making a snapshot durable, and finding it again.
//!
//! # How a checkpoint goes
//!
//! 1. [`Tree::begin_checkpoint`] takes the newest snapshot, the list of its pages that are not in the file yet, and the
//!    set of pages that will be free once it is durable.
//! 2. [`Checkpoint::write`] writes these pages to their places, then the set, and flushes; then the meta page, and
//!    flushes. It borrows nothing, so the writer goes on meanwhile. Until the second flush the checkpoint before is the
//!    newest durable one, and none of its pages has been written over: they are seen by the snapshot that the books hold
//!    for it, so they were not free.
//! 3. [`Tree::end_checkpoint`] lets go of the checkpoint before, whose pages become free as those of any snapshot do;
//!    [`Tree::tidy`] then takes the written pages out of the heap, in slices: from then on they are read from the file.
//!
//! A crash at any instant leaves one of the two meta pages whole and the pages beneath it untouched. What [`open`] finds
//! is the newest whole one.
//!
//! # What it does not do
//!
//! - It does not decide when: the owner of the tree weighs log, memory and time.
//! - It does not retry. A failed write leaves the medium in an unknown state, and the owner must end the process. Only a
//!   full disk is found out before anything is written ([`Failure::Full`]): room is reserved first.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::Range;

use thiserror::Error;
use urd_wal::disk::{Disk, File, ReadDisk};

use super::file::{META_PAGES, Meta, Stamp};
use super::freelist::{FIRST_PAGE, Freelist};
use super::import::incoming_name;
use super::map::{Map, Shape};
use super::page::PAGE_BYTES;
use super::pages::Pages;
use super::read::DEPTH_MAX;
use super::run::{Run, run_pages};
use super::snapshot::Snapshot;
use super::writer::Tree;
use crate::ids::PageId;
use crate::limits::NUMBER_MAX;

/// Pages that go into one write, where they lie side by side.
const WRITE_PAGES: usize = 64;
/// Pages, or runs, after which what was written is flushed, so that a log write beside it does not wait for all of it.
const FLUSH_PAGES: usize = 512;
/// What the file grows by at once: an eighth of itself, within these bounds.
const GROWTH_BYTES: Range<u64> = 1 << 20..16 << 20;

/// The length of a file that has to hold so many bytes, and more soon.
pub(super) fn grown(needed: u64) -> u64 {
    let step = (needed / 8).clamp(GROWTH_BYTES.start, GROWTH_BYTES.end).next_power_of_two();
    needed.next_multiple_of(step)
}

const WORD_BITS: u64 = u64::BITS as u64;

/// What a tree knows of its file.
#[derive(Default)]
pub(super) struct Books {
    /// The newest durable checkpoint.
    durable: Option<Durable>,
    /// Where the checkpoint under way keeps its set of free pages.
    under_way: Option<FreeSet>,
    /// Pages of the newest checkpoint that are still in the heap.
    heaped: Vec<PageId>,
}

struct Durable {
    number: u64,
    /// Keeps its pages from being used again.
    _snapshot: Snapshot,
    free: FreeSet,
}

/// The run of a set of free pages.
#[derive(Clone, Copy)]
struct FreeSet {
    page: PageId,
    pages: usize,
}

/// A snapshot on its way to the file.
pub struct Checkpoint {
    meta: Meta,
    snapshot: Snapshot,
    /// Pages to write, ascending.
    pages: Vec<PageId>,
    free: Run,
}

/// A checkpoint that is durable.
pub struct Written {
    meta: Meta,
    snapshot: Snapshot,
    pages: Vec<PageId>,
}

/// Why a checkpoint was not written.
#[derive(Debug, Error)]
pub enum Failure {
    /// There is no room for the file. Nothing was written; give the checkpoint back.
    #[error("{file}: no room for {bytes} bytes: {source}")]
    Full {
        /// The file.
        file: String,
        /// The length it should have had.
        bytes: u64,
        /// What the system said.
        source: io::Error,
        /// For [`Tree::give_up_checkpoint`].
        checkpoint: Box<Checkpoint>,
    },
    /// A write or a flush failed: what the file holds is unknown.
    #[error("{file}: {action} at offset {offset}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What was tried.
        action: &'static str,
        /// Where.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a checkpoint file cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The system refused.
    #[error("{action} {file}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        file: String,
        /// What it said.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("{0}; restore the member from a backup, or remove its data and add it anew")]
    Damaged(String),
}

/// An open checkpoint file, for writing.
pub struct CheckpointFile<D: Disk> {
    file: D::File,
    disk: D,
    name: String,
    /// Bytes for which there is room.
    room: Cell<u64>,
}

/// What [`open`] found.
pub struct Opened<D: Disk> {
    /// The newest durable state, or an empty one.
    pub tree: Tree,
    /// What [`Checkpoint::write`] writes to.
    pub file: CheckpointFile<D>,
    /// The checkpoint that `tree` is, if there is one.
    pub checkpoint: Option<Meta>,
    /// What an operator should see.
    pub warnings: Vec<String>,
}

/// What [`read`] found.
pub struct Found {
    /// The newest durable state, or an empty one.
    pub tree: Tree,
    /// The checkpoint that `tree` is, if there is one.
    pub checkpoint: Option<Meta>,
    /// What an operator should see.
    pub warnings: Vec<String>,
    /// Length of the file, in whole pages.
    pub bytes: u64,
}

/// Opens the checkpoint file `name`, which is made if there is none. What a transfer has left beside it that did not come
/// to its end is removed.
///
/// # Errors
/// See [`OpenError`]. A checkpoint that was interrupted is none: the one before stands.
pub async fn open<D: Disk>(disk: D, name: &str) -> Result<Opened<D>, OpenError> {
    let io = |action| {
        let file = disk.path(name);
        move |source| OpenError::Io { action, file, source }
    };
    let incoming = incoming_name(name);
    let listed = disk.list().await.map_err(io("look beside"))?;
    if listed.iter().any(|listed| listed.name == incoming) {
        disk.remove(&incoming).await.map_err(io("remove what was to replace"))?;
    }
    let file = disk.open_cached(name).await.map_err(io("open"))?;
    // A process that was killed may have left a meta page that is in the page cache only. What this one writes over is what
    // the checkpoint before needs.
    file.sync().await.map_err(io("make durable what is in"))?;
    disk.sync_directory().await.map_err(io("make durable the name of"))?;
    let Found { tree, checkpoint, warnings, bytes } = read(&disk, name).await?;
    let file = CheckpointFile { file, disk, name: name.to_owned(), room: Cell::new(bytes) };
    Ok(Opened { tree, file, checkpoint, warnings })
}

/// Finds what the checkpoint file `name` holds, and changes nothing; without a file, an empty state. Nobody may write to
/// the file as long as the tree, or a snapshot of it, is there.
///
/// # Errors
/// See [`OpenError`].
pub async fn read<D: ReadDisk>(disk: &D, name: &str) -> Result<Found, OpenError> {
    let map = map_file(disk, name).await?;
    let bytes = map.end().0 * PAGE_BYTES as u64;
    let mut warnings = Vec::new();
    let checkpoint = newest(&map, &mut warnings)?;
    let tree = match &checkpoint {
        Some(meta) => Tree::of_file(map, meta)?,
        None => Tree::empty(Some(map)),
    };
    Ok(Found { tree, checkpoint, warnings, bytes })
}

async fn map_file<D: ReadDisk>(disk: &D, name: &str) -> Result<Map, OpenError> {
    let io = |action| {
        let file = disk.path(name);
        move |source| OpenError::Io { action, file, source }
    };
    let listed = disk.list().await.map_err(io("find"))?;
    let listed = listed.iter().find(|listed| listed.name == name);
    match (disk.file_path(name), listed) {
        (_, None) => Ok(Map::loaded(disk.path(name), Vec::new())),
        (Some(path), _) => Map::of_file(disk.path(name), &path).map_err(io("map")),
        (None, Some(listed)) => {
            let bytes = disk.map(name, 0..listed.bytes).map_err(io("read"))?.as_ref().to_vec();
            Ok(Map::loaded(disk.path(name), bytes))
        }
    }
}

/// The newest of the file's checkpoints that is whole.
fn newest(map: &Map, warnings: &mut Vec<String>) -> Result<Option<Meta>, OpenError> {
    let mut whole: Option<Meta> = None;
    let mut broken = Vec::new();
    for place in (0..META_PAGES).map(PageId) {
        let Some(page) = map.meta_page(place).filter(|page| page.iter().any(|&byte| byte != 0))
        else {
            continue;
        };
        match Meta::decode(place, page) {
            Ok(meta) if whole.is_none_or(|other| other.number < meta.number) => whole = Some(meta),
            Ok(_) => {}
            Err(mismatch) => broken.push(map.describe(&mismatch.at(place))),
        }
    }
    match (&whole, &broken[..]) {
        // One that is alone was never whole: the first checkpoint was interrupted, and the log has everything.
        (None, [_, _]) => return Err(OpenError::Damaged(broken.join("; "))),
        (None, _) | (Some(_), []) => {}
        (Some(meta), _) => warnings.push(format!(
            "{}; taken for an interrupted checkpoint, going on from checkpoint {}",
            broken.join("; "),
            meta.number
        )),
    }
    Ok(whole)
}

/// Whether a meta page says what can be of a file of `end` pages. Its checksum does not tell who wrote it.
fn check_meta(meta: &Meta, end: PageId) -> Result<(), String> {
    let checkpoint = format!("checkpoint {} of {} pages", meta.number, meta.end);
    if meta.end > end {
        return Err(format!("{checkpoint} in a file of {end} pages"));
    }
    for (what, page) in [("root", meta.root), ("free pages", meta.free)] {
        if !(FIRST_PAGE..meta.end).contains(&page) {
            return Err(format!("{checkpoint} with its {what} at page {page}"));
        }
    }
    for (what, number) in [
        ("number", meta.number),
        ("version", meta.version),
        ("count of records", meta.records),
        ("index", meta.stamp.index.0),
        ("term", meta.stamp.term.0),
    ] {
        if number > NUMBER_MAX {
            return Err(format!("{checkpoint} of {what} {number}, which no tree comes to"));
        }
    }
    if !(1..=DEPTH_MAX as u64).contains(&meta.depth) {
        return Err(format!("{checkpoint} of depth {}", meta.depth));
    }
    Ok(())
}

/// The free pages of a checkpoint, and where their set stands; `None` if they cannot be its own. The set's run is verified.
fn read_free(map: &Map, meta: &Meta) -> Option<(Freelist, FreeSet)> {
    let data = map.run(meta.free);
    let set = FreeSet { page: meta.free, pages: run_pages(data.len()) };
    let set_end = PageId(set.page.0 + set.pages as u64);
    let is_of_meta = map.version(meta.free) == meta.version
        && data.len() as u64 >= meta.end.0.div_ceil(8)
        && set_end <= meta.end;
    if !is_of_meta {
        return None;
    }
    let (words, _) = data.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let freelist = Freelist::from_words(words, meta.end)?;
    // Pages in use may not be given out.
    let mut used = (set.page.0..set_end.0).map(PageId).chain([meta.root]);
    used.all(|page| !freelist.is_free(page)).then_some((freelist, set))
}

impl Tree {
    /// The tree that a checkpoint holds.
    fn of_file(map: Map, meta: &Meta) -> Result<Tree, OpenError> {
        if let Err(found) = check_meta(meta, map.end()) {
            return Err(OpenError::Damaged(format!("{}: damaged: {found}", map.name())));
        }
        map.expect_versions_up_to(meta.version);
        let damaged = |damage| OpenError::Damaged(map.describe(&damage));
        map.verify_as(Shape::Run, meta.free).map_err(damaged)?;
        map.verify_as(Shape::Node, meta.root).map_err(damaged)?;
        let Some((freelist, free)) = read_free(&map, meta) else {
            let found =
                format!("not the free pages of checkpoint {} at page {}", meta.number, meta.free);
            return Err(OpenError::Damaged(format!("{}: damaged: {found}", map.name())));
        };
        let mut pages = Pages::resume(Some(map), freelist, meta.version + 1);
        #[expect(clippy::cast_possible_truncation, reason = "a depth is small")]
        let depth = meta.depth as usize;
        let published = pages.publish_file(meta.root, depth, meta.records);
        let durable = Durable { number: meta.number, _snapshot: published.clone(), free };
        let books = Books { durable: Some(durable), ..Books::default() };
        Ok(Tree { pages, root: meta.root, depth, records: meta.records, published, books })
    }

    /// Begins to make the newest snapshot durable, with `stamp` beside it. Nothing may have changed since it was
    /// published, no other checkpoint may be under way, and the last one's pages must have left the heap.
    pub fn begin_checkpoint(&mut self, stamp: Stamp) -> Checkpoint {
        assert!(self.pages.is_published(), "a checkpoint begins between two batches");
        assert!(!self.is_checkpointing(), "one checkpoint at a time");
        let version = self.published.version();
        let (free, set) = self.free_after();
        self.books.under_way = Some(set);
        let meta = Meta {
            number: self.books.durable.as_ref().map_or(0, |durable| durable.number) + 1,
            version,
            root: self.published.root(),
            depth: self.depth as u64,
            records: self.records,
            end: self.pages.freelist().end(),
            free: set.page,
            stamp,
        };
        Checkpoint {
            meta,
            snapshot: self.published.clone(),
            pages: self.pages.take_unwritten(),
            free: Run::new(&free, version),
        }
    }

    /// Whether a checkpoint is being written, or its pages are still in the heap.
    #[must_use]
    pub fn is_checkpointing(&self) -> bool {
        self.books.under_way.is_some() || !self.books.heaped.is_empty()
    }

    /// The pages that are free when nothing but the newest snapshot is left, and where this set itself stands.
    fn free_after(&mut self) -> (Vec<u8>, FreeSet) {
        let end = self.pages.freelist().end().0;
        let bytes = |end: u64| 8 * usize::try_from(end.div_ceil(WORD_BITS)).expect("bounded");
        // Room for the set's own pages among those it tells of.
        let bytes = bytes(end + run_pages(bytes(end)) as u64 + 1);
        let pages = run_pages(bytes);
        let page = self.pages.freelist_mut().allocate(pages);
        let mut set = vec![0; bytes];
        for (to, word) in set.as_chunks_mut::<8>().0.iter_mut().zip(self.pages.freelist().words()) {
            *to = word.to_le_bytes();
        }
        let mut free = |first: PageId, pages: usize| {
            for id in first.0..first.0 + pages as u64 {
                set[usize::try_from(id / 8).expect("invariant: bounded")] |= 1 << (id % 8);
            }
        };
        for retired in self.pages.waiting_pages() {
            free(retired.page, retired.pages as usize);
        }
        if let Some(durable) = &self.books.durable {
            free(durable.free.page, durable.free.pages);
        }
        (set, FreeSet { page, pages })
    }

    /// Notes that a checkpoint is durable.
    pub fn end_checkpoint(&mut self, written: Written) {
        let Written { meta, snapshot, pages } = written;
        let free = self.books.under_way.take().expect("invariant: it was begun");
        let durable = Durable { number: meta.number, _snapshot: snapshot, free };
        if let Some(before) = self.books.durable.replace(durable) {
            self.pages.freelist_mut().release(before.free.page, before.free.pages);
        }
        let map =
            self.pages.directory().map().expect("invariant: it was written to the tree's file");
        if map.is_live() {
            map.set_end(map.end().max(meta.end));
            self.books.heaped = pages;
        }
    }

    /// Forgets a checkpoint of which nothing was written.
    pub fn give_up_checkpoint(&mut self, checkpoint: &Checkpoint) {
        let free = self.books.under_way.take().expect("invariant: it was begun");
        self.pages.freelist_mut().release(free.page, free.pages);
        self.pages.put_unwritten(&checkpoint.pages);
    }

    /// A slice of what checkpoints and snapshots leave to do: takes up to `pages` written pages out of the heap, and frees
    /// some that nobody sees. True when nothing is left.
    pub fn tidy(&mut self, pages: usize) -> bool {
        let kept = self.books.heaped.len().saturating_sub(pages);
        for id in self.books.heaped.drain(kept..) {
            self.pages.unload(id);
        }
        self.pages.reclaim(0) && self.books.heaped.is_empty()
    }

    /// Pages that hold a checkpoint's set of free pages, for the checker: the first, and how many.
    pub(super) fn free_sets(&self) -> impl Iterator<Item = (PageId, usize)> {
        let durable = self.books.durable.as_ref().map(|durable| durable.free);
        durable.into_iter().chain(self.books.under_way).map(|free| (free.page, free.pages))
    }
}

impl Checkpoint {
    /// How many bytes of pages it writes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.pages.len() * PAGE_BYTES) as u64
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn write<D: Disk>(self, file: &CheckpointFile<D>) -> Result<Written, Failure> {
        self.write_with_pauses(file, async |_| ()).await
    }

    /// The same, with `pause` awaited between two pieces of at most 512 pages: it is told which part of the pages, 0 to 1,
    /// has been written.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn write_with_pauses<D: Disk>(
        self,
        file: &CheckpointFile<D>,
        mut pause: impl AsyncFnMut(f64),
    ) -> Result<Written, Failure> {
        if let Err((bytes, source)) = file.make_room(self.meta.end).await {
            let (file, checkpoint) = (file.path(), Box::new(self));
            return Err(Failure::Full { file, bytes, source, checkpoint });
        }
        for (nth, ids) in self.pages.chunks(FLUSH_PAGES).enumerate() {
            if nth > 0 {
                pause((nth * FLUSH_PAGES) as f64 / self.pages.len() as f64).await;
            }
            let (snapshot, ids) = (self.snapshot.clone(), ids.to_vec());
            file.write(Pieces { snapshot, ids, next: 0 }).await?;
            file.flush().await?;
        }
        let mut set = Vec::new();
        self.free.write(self.meta.free, &mut set);
        file.write(std::iter::once((self.meta.free, set))).await?;
        file.flush().await?;
        let mut page = vec![0; PAGE_BYTES];
        self.meta.encode(&mut page);
        file.write(std::iter::once((self.meta.place(), page))).await?;
        file.flush().await?;
        Ok(Written { meta: self.meta, snapshot: self.snapshot, pages: self.pages })
    }
}

/// Makes the writes of some pages: those that lie side by side go together.
struct Pieces {
    snapshot: Snapshot,
    /// Ascending.
    ids: Vec<PageId>,
    /// The first of them that is not in a piece yet.
    next: usize,
}

impl Iterator for Pieces {
    type Item = (PageId, Vec<u8>);

    fn next(&mut self) -> Option<(PageId, Vec<u8>)> {
        let first = *self.ids.get(self.next)?;
        let mut piece = Vec::new();
        while let Some(&id) = self.ids.get(self.next)
            && id.0 == first.0 + (piece.len() / PAGE_BYTES) as u64
            && piece.len() < WRITE_PAGES * PAGE_BYTES
        {
            self.push(id, &mut piece);
            self.next += 1;
        }
        Some((first, piece))
    }
}

impl Pieces {
    /// Appends what stands at `id`, as the file holds it.
    fn push(&self, id: PageId, piece: &mut Vec<u8>) {
        let (node, run) = self.snapshot.directory().occupants(id);
        match (node, run) {
            (Some(node), _) => node.write(id, piece),
            (None, Some(run)) => run.write(id, piece),
            (None, None) => unreachable!("invariant: page {id} is in the heap until it is written"),
        }
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint").field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl Written {
    /// What it contains.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.meta.stamp
    }
}

impl<D: Disk> CheckpointFile<D> {
    /// How a message names it.
    fn path(&self) -> String {
        self.disk.path(&self.name)
    }

    /// Reserves room for the pages before `end`; with an error, the length that could not be had.
    async fn make_room(&self, end: PageId) -> Result<(), (u64, io::Error)> {
        let needed = end.0 * PAGE_BYTES as u64;
        if needed > self.room.get() {
            let bytes = grown(needed);
            self.file.allocate(bytes).await.map_err(|source| (bytes, source))?;
            self.room.set(bytes);
        }
        Ok(())
    }

    async fn write(
        &self,
        pieces: impl Iterator<Item = (PageId, Vec<u8>)> + Send + 'static,
    ) -> Result<(), Failure> {
        let pieces = pieces.map(|(page, bytes)| (page.0 * PAGE_BYTES as u64, bytes));
        self.file.write_pieces(pieces).await.map_err(|(offset, source)| {
            let file = self.path();
            Failure::Io { file, action: "write", offset, source }
        })
    }

    /// Gives back to the file system what is behind the pages of a checkpoint, the newest durable one.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub async fn cut(&self, written: &Written) -> Result<(), Failure> {
        let bytes = written.meta.end.0 * PAGE_BYTES as u64;
        let failed =
            |source| Failure::Io { file: self.path(), action: "truncate", offset: bytes, source };
        self.file.truncate(bytes).await.map_err(failed)?;
        self.room.set(bytes);
        self.flush().await
    }

    /// Lets go of the file.
    ///
    /// # Errors
    /// The system's.
    pub async fn close(self) -> Result<(), OpenError> {
        let file = self.path();
        let failed = |source| OpenError::Io { action: "close", file, source };
        self.file.close().await.map_err(failed)
    }

    async fn flush(&self) -> Result<(), Failure> {
        let failed = |source| Failure::Io { file: self.path(), action: "flush", offset: 0, source };
        self.file.sync().await.map_err(failed)
    }
}
