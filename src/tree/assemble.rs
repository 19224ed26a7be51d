//! A tree taken from a stream, page by page: each is verified, gets the next page id, and is laid out for a file.
//!
//! # What is taken on trust
//!
//! Nothing: the bytes come from another process. A page must be sound by itself (`foreign`), be the very one that the page
//! above refers to, and fit the others: the keys of the whole stream rise, with each separator between those it separates;
//! sums of counted records, depth and number of records are exact. These are the rules of [`check`](super::check), and
//! they are complete: the pages come in the order of the keys, so that it takes only the key before to judge the next.
//! No page can be missing, come twice, or be one that nothing refers to, because each takes the place of one reference.
//!
//! # New numbers
//!
//! A page gets its id when all beneath it have theirs, and its references to them are set then. So ids rise in the order
//! of completion, the file has no holes and is written from front to back, and what is held in memory are the pages on
//! the way from the root to the newest one, and one run.
//!
//! Bytes only: [`import`](super::import) writes them.

use std::fmt;

use super::cell::{CellKey, CellValue, RunRef};
use super::check::{Damage, ensure, show};
use super::directory::PAGES_MAX;
use super::file::{self, META_PAGES, Meta, Mismatch, Stamp, seal};
use super::foreign;
use super::freelist::FIRST_PAGE;
use super::page::{
    BRANCH_KEY_BYTES_MAX, KIND_AT, KIND_RUN, Kind, LEAF_KEY_BYTES_MAX, Node, PAGE_BYTES, u32_at,
};
use super::read::DEPTH_MAX;
use super::run::{RUN_HEADER_BYTES, RUN_LEN_AT, Run, run_pages};
use super::stream::{
    self, CHUNK_BYTES, CHUNK_HEAD_BYTES, END_BYTES, END_CRC_AT, HEADER_BYTES, Header, Progress,
};
use crate::ids::PageId;
use crate::limits::FOREIGN_NUMBER_MAX;

/// The longest key or value: some times what the largest request may hold.
pub(super) const RUN_BYTES_MAX: usize = 64 << 20;
/// Pages kept for the set of free ones.
const PAGES_RESERVED: u64 = 1 << 14;

/// What is wrong with a stream, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The chunk in which it shows.
    pub chunk: u64,
    /// The byte of the stream at which what is wrong begins.
    pub offset: u64,
    /// What was expected there, and what was found.
    pub what: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chunk {}, byte {} of the stream: {}", self.chunk, self.offset, self.what)
    }
}

impl std::error::Error for Flaw {}

/// What is wrong: with a page, or with what is around the pages.
enum Wrong {
    Page(Damage),
    Stream(Mismatch),
}

impl From<Damage> for Wrong {
    fn from(damage: Damage) -> Wrong {
        Wrong::Page(damage)
    }
}

impl From<Mismatch> for Wrong {
    fn from(mismatch: Mismatch) -> Wrong {
        Wrong::Stream(mismatch)
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Page(damage) => damage.fmt(f),
            Wrong::Stream(it) => write!(f, "expected {}, found {}", it.expected, it.found),
        }
    }
}

/// See the module's page.
pub(super) struct Assembly {
    intake: Intake,
    /// The number that the next chunk must have.
    chunk: u64,
    builder: Option<Builder>,
    is_ended: bool,
}

/// The stream as far as it has come and was not made use of.
#[derive(Default)]
struct Intake {
    bytes: Vec<u8>,
    /// How many of them were taken.
    taken: usize,
    /// How many were before `bytes`.
    before: u64,
    checksum: crc32fast::Hasher,
}

impl Intake {
    /// The next `len` bytes, once they are there.
    fn take(&mut self, len: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.taken..)?.get(..len)?;
        self.checksum.update(taken);
        self.taken += len;
        Some(taken)
    }

    fn has_more(&self) -> bool {
        self.taken < self.bytes.len()
    }

    fn offset(&self) -> u64 {
        self.before + self.taken as u64
    }

    fn add(&mut self, bytes: &[u8]) {
        self.before = self.offset();
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }
}

impl Assembly {
    pub(super) fn new() -> Assembly {
        Assembly { intake: Intake::default(), chunk: 0, builder: None, is_ended: false }
    }

    /// Takes the next chunk in.
    pub(super) fn take(&mut self, chunk: &[u8]) -> Result<(), Flaw> {
        let begin = self.intake.offset();
        self.number(chunk).map_err(|wrong| self.flaw(begin, &wrong.into()))?;
        self.intake.add(&chunk[CHUNK_HEAD_BYTES..]);
        loop {
            let begin = self.intake.offset();
            match self.step() {
                Ok(true) => {}
                Ok(false) => break,
                Err(wrong) => return Err(self.flaw(begin, &wrong)),
            }
        }
        self.chunk += 1;
        Ok(())
    }

    /// What there is to write: page ids rise by one from `FIRST_PAGE` on.
    pub(super) fn pages(&mut self) -> Vec<u8> {
        self.builder.as_mut().map(|builder| std::mem::take(&mut builder.out)).unwrap_or_default()
    }

    /// Whether the stream has come to its end.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// What the stream says of itself, once that is there.
    pub(super) fn header(&self) -> Option<&Header> {
        self.builder.as_ref().map(|builder| &builder.header)
    }

    pub(super) fn progress(&self) -> Progress {
        self.builder.as_ref().map_or_else(Progress::default, |builder| Progress {
            pages: builder.pages(),
            of: builder.header.pages.max(builder.pages()),
        })
    }

    /// Behind the last page: the set of free pages, none of which is, and the meta page. The first page of the set, its
    /// bytes, and what the meta page says. Only of a stream that has ended.
    pub(super) fn finish(&self) -> Result<(PageId, Vec<u8>, Meta), Flaw> {
        let tree = self.builder.as_ref().filter(|_| self.is_ended);
        let Some((builder, root)) = tree.and_then(|builder| Some((builder, builder.root?))) else {
            let begin = self.intake.offset();
            let wrong = Mismatch::new("the rest of the stream", "no more chunks");
            return Err(self.flaw(begin, &wrong.into()));
        };
        let (header, free) = (&builder.header, builder.next);
        let bytes = |end: u64| 8 * end.div_ceil(u64::from(u64::BITS));
        // Room for the set's own pages among those it tells of.
        let len = |end| usize::try_from(bytes(end)).expect("invariant: below PAGES_MAX");
        let len = len(free.0 + run_pages(len(free.0)) as u64 + 1);
        let set = Run::new(&vec![0; len], header.version);
        let mut pages = Vec::new();
        set.write(free, &mut pages);
        let meta = Meta {
            number: 1,
            version: header.version,
            root,
            depth: header.depth,
            records: header.records,
            end: PageId(free.0 + (pages.len() / PAGE_BYTES) as u64),
            free,
            stamp: header.stamp,
        };
        Ok((free, pages, meta))
    }

    fn flaw(&self, offset: u64, wrong: &Wrong) -> Flaw {
        Flaw { chunk: self.chunk, offset, what: wrong.to_string() }
    }

    /// A chunk is the one that is expected next.
    fn number(&self, chunk: &[u8]) -> Result<(), Mismatch> {
        let Some(number) = chunk.first_chunk::<CHUNK_HEAD_BYTES>() else {
            return Err(Mismatch::new("a chunk", format!("{} bytes", chunk.len())));
        };
        let number = u64::from_le_bytes(*number);
        if number != self.chunk {
            return Err(Mismatch::new(format!("chunk {}", self.chunk), format!("chunk {number}")));
        }
        if chunk.len() > CHUNK_BYTES {
            let expected = format!("a chunk up to {CHUNK_BYTES} bytes");
            return Err(Mismatch::new(expected, chunk.len()));
        }
        Ok(())
    }

    /// Makes use of the next part of the stream; false: it is not there yet.
    fn step(&mut self) -> Result<bool, Wrong> {
        let Some(builder) = &mut self.builder else {
            let Some(header) = self.intake.take(HEADER_BYTES) else { return Ok(false) };
            let header = header.first_chunk().expect("invariant: as long as it was asked for");
            self.builder = Some(Builder::new(Header::decode(header)?)?);
            return Ok(true);
        };
        if let Some(wanted) = builder.wanted {
            let Some(bytes) = self.intake.take(wanted.bytes()) else { return Ok(false) };
            builder.put(wanted, bytes)?;
            return Ok(true);
        }
        if self.is_ended {
            return match self.intake.has_more() {
                true => Err(Mismatch::new("nothing behind the end", "more").into()),
                false => Ok(false),
            };
        }
        let (expected, pages) = (self.intake.checksum.clone(), builder.pages());
        let Some(end) = self.intake.take(END_BYTES) else { return Ok(false) };
        judge_end(end, pages, expected)?;
        let (records, said) = (builder.records, builder.header.records);
        if records != said {
            return Err(Mismatch::new(format!("{said} records"), records).into());
        }
        self.is_ended = true;
        Ok(true)
    }
}

/// `checksum` is that of all bytes before.
fn judge_end(found: &[u8], pages: u64, mut checksum: crc32fast::Hasher) -> Result<(), Mismatch> {
    let end = stream::end(pages);
    if !found.starts_with(&end) {
        let show = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let found = show(&found[..END_CRC_AT]);
        return Err(Mismatch::new(format!("the end behind {pages} pages, {}", show(&end)), found));
    }
    checksum.update(&end);
    let (expected, found) = (checksum.finalize(), u32_at(found, END_CRC_AT));
    if expected != found {
        let show = |crc| format!("a stream of checksum {crc:08x}");
        return Err(Mismatch::new(show(expected), show(found)));
    }
    Ok(())
}

/// What comes next.
#[derive(Clone, Copy)]
enum Wanted {
    Node(PageId),
    Key(RunRef),
    Value(RunRef),
}

impl Wanted {
    fn bytes(self) -> usize {
        match self {
            Wanted::Node(_) => PAGE_BYTES,
            Wanted::Key(run) | Wanted::Value(run) => run_pages(run.len as usize) * PAGE_BYTES,
        }
    }
}

/// A page that waits for what is beneath it.
struct Frame {
    /// The sender's number.
    page: PageId,
    node: Box<Node>,
    /// The cell that the stream has come to.
    cell: usize,
    /// Whether its key is there.
    has_key: bool,
}

impl Frame {
    fn next_cell(&mut self) {
        self.cell += 1;
        self.has_key = false;
    }

    /// The longest key that a cell holds whole.
    fn inline_max(&self) -> usize {
        match self.node.kind() {
            Kind::Leaf => LEAF_KEY_BYTES_MAX,
            Kind::Branch => BRANCH_KEY_BYTES_MAX,
        }
    }
}

/// Makes the file's pages.
struct Builder {
    header: Header,
    /// `None`: the root is there.
    wanted: Option<Wanted>,
    /// From the root down.
    stack: Vec<Frame>,
    order: Order,
    records: u64,
    /// The next page id to give out.
    next: PageId,
    /// Pages for the file; the last one is that before `next`.
    out: Vec<u8>,
    root: Option<PageId>,
}

impl Builder {
    fn new(header: Header) -> Result<Builder, Mismatch> {
        let Stamp { index, term } = header.stamp;
        for (what, number) in [("version", header.version), ("index", index.0), ("term", term.0)] {
            if number > FOREIGN_NUMBER_MAX {
                let expected = format!("{what}: up to {FOREIGN_NUMBER_MAX}");
                return Err(Mismatch::new(expected, number));
            }
        }
        if !(1..=DEPTH_MAX as u64).contains(&header.depth) {
            return Err(Mismatch::new(format!("a depth up to {DEPTH_MAX}"), header.depth));
        }
        Ok(Builder {
            wanted: Some(Wanted::Node(header.root)),
            header,
            stack: Vec::new(),
            order: Order::default(),
            records: 0,
            next: FIRST_PAGE,
            out: Vec::new(),
            root: None,
        })
    }

    /// Pages so far, those that wait for others included.
    fn pages(&self) -> u64 {
        self.next.0 - FIRST_PAGE.0 + self.stack.len() as u64
    }

    /// Takes in what was wanted, and finds out what is wanted next.
    fn put(&mut self, wanted: Wanted, bytes: &[u8]) -> Result<(), Damage> {
        match wanted {
            Wanted::Node(page) => self.node(page, bytes)?,
            Wanted::Key(run) => self.key_run(run, bytes)?,
            Wanted::Value(run) => self.value_run(run, bytes)?,
        }
        self.wanted = self.advance()?;
        Ok(())
    }

    fn node(&mut self, page: PageId, bytes: &[u8]) -> Result<(), Damage> {
        file::verify(page, bytes).map_err(|mismatch| mismatch.at(page))?;
        let body = bytes.first_chunk().expect("invariant: a page is longer than its body");
        let node = foreign::node(page, body)?;
        self.check_version(page, node.version())?;
        let depth = self.stack.len() as u64 + 1;
        let (expected, fits) = match node.kind() {
            Kind::Leaf => ("a branch", depth == self.header.depth),
            Kind::Branch => ("a leaf", depth < self.header.depth),
        };
        ensure!(fits, page, format!("{expected} at depth {depth}"), "the other");
        let needed = match node.kind() {
            Kind::Leaf => usize::from(depth > 1),
            Kind::Branch => {
                if depth > 1 {
                    1
                } else {
                    2
                }
            }
        };
        ensure!(node.count() >= needed, page, format!("{needed} cells or more"), node.count());
        self.stack.push(Frame { page, node, cell: 0, has_key: false });
        Ok(())
    }

    fn key_run(&mut self, run: RunRef, bytes: &[u8]) -> Result<(), Damage> {
        self.run(run, bytes)?;
        let frame = self.stack.last_mut().expect("invariant: a page refers to the run");
        let key = &bytes[RUN_HEADER_BYTES..RUN_HEADER_BYTES + run.len as usize];
        let (page, inline_max, prefix) =
            (frame.page, frame.inline_max(), frame.node.key(frame.cell).part());
        ensure!(key.len() > inline_max, page, "a short key in its cell", "in a run");
        ensure!(key.starts_with(prefix), page, "the run's first bytes", show(prefix));
        self.order.follow(frame, key)?;
        let id = PageId(self.next.0 - run_pages(key.len()) as u64);
        frame.node.set_key_run(frame.cell, id);
        frame.has_key = true;
        Ok(())
    }

    fn value_run(&mut self, run: RunRef, bytes: &[u8]) -> Result<(), Damage> {
        self.run(run, bytes)?;
        let frame = self.stack.last_mut().expect("invariant: a page refers to the run");
        let id = PageId(self.next.0 - run_pages(run.len as usize) as u64);
        frame.node.set_value_run(frame.cell, id);
        frame.next_cell();
        Ok(())
    }

    /// A run goes to the file at once, under the next id.
    fn run(&mut self, run: RunRef, bytes: &[u8]) -> Result<(), Damage> {
        let page = run.page;
        file::verify(page, bytes).map_err(|mismatch| mismatch.at(page))?;
        ensure!(bytes[KIND_AT] == KIND_RUN, page, "a run", format!("kind {}", bytes[KIND_AT]));
        let len = u32_at(bytes, RUN_LEN_AT);
        ensure!(len == run.len, page, format!("a run of {} bytes", run.len), len);
        self.check_version(page, Run::version_of(bytes))?;
        let (id, begin) = (self.allocate(page, run_pages(len as usize))?, self.out.len());
        self.out.extend_from_slice(bytes);
        seal(id, &mut self.out[begin..]);
        Ok(())
    }

    fn check_version(&self, page: PageId, found: u64) -> Result<(), Damage> {
        let newest = self.header.version;
        ensure!(found <= newest, page, format!("a version up to {newest}"), found);
        Ok(())
    }

    fn allocate(&mut self, page: PageId, pages: usize) -> Result<PageId, Damage> {
        let id = self.next;
        let end = id.0 + pages as u64;
        let bound = PAGES_MAX - PAGES_RESERVED;
        ensure!(end <= bound, page, format!("a tree of up to {bound} pages"), end);
        self.next = PageId(end);
        Ok(id)
    }

    /// Goes through cells that need no further page, and completes pages whose cells are through.
    fn advance(&mut self) -> Result<Option<Wanted>, Damage> {
        while let Some(frame) = self.stack.last_mut() {
            if frame.cell == frame.node.count() {
                self.complete()?;
                continue;
            }
            let key = frame.node.key(frame.cell);
            if !frame.has_key {
                let is_first = frame.node.kind() == Kind::Branch && frame.cell == 0;
                match key {
                    _ if is_first => {
                        let is_empty = key == CellKey::EMPTY;
                        ensure!(is_empty, frame.page, "an empty first separator", key.len());
                    }
                    CellKey::Inline(key) => {
                        let (max, len) = (frame.inline_max(), key.len());
                        ensure!(len <= max, frame.page, format!("a key up to {max}"), len);
                        self.order.follow(frame, key)?;
                    }
                    CellKey::Run { run, .. } => return bounded(frame.page, Wanted::Key(run)),
                }
                frame.has_key = true;
            }
            match frame.node.kind() {
                Kind::Branch => return Ok(Some(Wanted::Node(frame.node.child(frame.cell)))),
                Kind::Leaf => match frame.node.record(frame.cell).value {
                    CellValue::Inline(_) => frame.next_cell(),
                    CellValue::Run(run) => return bounded(frame.page, Wanted::Value(run)),
                },
            }
        }
        Ok(None)
    }

    /// The newest page is whole: it gets its number, and the page above its reference.
    fn complete(&mut self) -> Result<(), Damage> {
        let Some(Frame { page, node, .. }) = self.stack.pop() else { return Ok(()) };
        if node.kind() == Kind::Leaf {
            self.records += node.count() as u64;
        }
        // What is beneath a child was compared with its weight when it was complete.
        let sum = (0..node.count()).try_fold(0_u64, |sum, at| sum.checked_add(node.weight(at)));
        ensure!(sum == Some(node.sum()), page, format!("a sum of {sum:?}"), node.sum());
        let id = self.allocate(page, 1)?;
        node.write(id, &mut self.out);
        let Some(above) = self.stack.last_mut() else {
            self.root = Some(id);
            return Ok(());
        };
        let counted = above.node.weight(above.cell);
        let beneath = node.sum();
        ensure!(counted == beneath, above.page, format!("{beneath} beneath page {page}"), counted);
        above.node.set_child(above.cell, id);
        above.next_cell();
        Ok(())
    }
}

/// No run is longer than memory may be asked for.
fn bounded(page: PageId, wanted: Wanted) -> Result<Option<Wanted>, Damage> {
    if let Wanted::Key(run) | Wanted::Value(run) = wanted {
        let is_bounded = run.len as usize <= RUN_BYTES_MAX;
        ensure!(is_bounded, page, format!("a run up to {RUN_BYTES_MAX} bytes"), run.len);
    }
    Ok(Some(wanted))
}

/// The key or separator that came last.
#[derive(Default)]
struct Order {
    last: Vec<u8>,
    kind: Option<Kind>,
}

impl Order {
    /// Keys rise. A separator is behind all keys before it, and not behind those that follow.
    fn follow(&mut self, frame: &Frame, key: &[u8]) -> Result<(), Damage> {
        let kind = frame.node.kind();
        let follows = match (self.kind, kind) {
            (None, _) => true,
            (Some(Kind::Branch), Kind::Leaf) => key >= &self.last[..],
            (Some(_), _) => key > &self.last[..],
        };
        ensure!(follows, frame.page, format!("a key after {}", show(&self.last)), show(key));
        self.kind = Some(kind);
        self.last.clear();
        self.last.extend_from_slice(key);
        Ok(())
    }
}

/// The file's offset of the first page that a stream fills.
pub(super) const BEGIN_BYTES: u64 = FIRST_PAGE.0 * PAGE_BYTES as u64;

const _: () = assert!(FIRST_PAGE.0 == META_PAGES);
