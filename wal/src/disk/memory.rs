//! A medium in memory that fails on demand, for tests and for the simulator.
//!
//! Each file has two images: `written`, what a reader sees now, and `durable`, what a power cut
//! leaves for certain. In between lie the pieces that were written and are not durable yet: a power
//! cut keeps any subset of them, down to single sectors ([`MemoryDisk::after_crash`]). Names behave
//! alike: a change of the directory may be lost until the directory is synced.
//!
//! Which faults it can do, and what a log must do about each:
//!
//! | fault | how | what a log must do |
//! |---|---|---|
//! | power cut at any operation | [`MemoryDisk::crash_at`] | keep all acknowledged |
//! | torn, lost, reordered writes | [`MemoryDisk::after_crash`] | keep all acknowledged |
//! | a killed process, late writes | [`MemoryDisk::after_kill`] | keep all acknowledged |
//! | a failed or short write | [`Fault::Fail`], [`Fault::Short`] | refuse everything after it |
//! | a write lost or misplaced | [`Fault::Drop`], [`Fault::Misdirect`] | refuse to open |
//! | flipped bits | [`MemoryDisk::corrupt`] | refuse to open |
//! | a full disk | [`MemoryDisk::set_capacity`] | refuse before it accepts |
//! | slow, reordered completions | [`MemoryDisk::set_latency`] | acknowledge in order |
//! | late flushes | [`MemoryDisk::set_flush_latency`] | keep all acknowledged |
//!
//! Every choice is drawn from a seed, so a run can be repeated. Works in any executor and needs no
//! clock. Does not model: a sector that changes after it became durable without being written,
//! other than by `corrupt`.

mod random;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::Poll;

use self::random::Random;
use super::{Disk, File, Listed, ReadDisk};

/// What a device writes as one: a torn write is torn between two of these.
pub const SECTOR_BYTES: usize = 512;

/// A directory in memory. Clones are handles to the same one.
#[derive(Clone)]
pub struct MemoryDisk {
    state: Rc<RefCell<State>>,
}

/// An open file.
pub struct MemoryFile {
    state: Rc<RefCell<State>>,
    inode: Inode,
    durability: Durability,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    /// A write is durable when it returns.
    EachWrite,
    /// A write is durable after a sync.
    Synced,
}

/// What goes wrong with one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It returns an error, having done nothing.
    Fail,
    /// A write stops half-way and says so.
    Short,
    /// A write is reported as done and is nowhere.
    Drop,
    /// A write is reported as done and went elsewhere: that many bytes further on in the file.
    Misdirect(u64),
}

/// What a power cut does to the pieces that were not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    None,
    All,
    /// Each whole piece by itself, or not.
    Pieces,
    /// Of each piece the first sectors, up to some.
    Prefixes,
    /// Each sector of each piece by itself, or not.
    Sectors,
}

impl Survival {
    pub const ALL: [Survival; 5] =
        [Survival::None, Survival::All, Survival::Pieces, Survival::Prefixes, Survival::Sectors];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Inode(u64);

#[derive(Clone, Default)]
struct Content {
    written: Vec<u8>,
    durable: Vec<u8>,
    /// Written, or being written, and not durable.
    pieces: Vec<Piece>,
}

#[derive(Clone)]
struct Piece {
    number: u64,
    offset: usize,
    data: Vec<u8>,
    /// How the file was opened that it was written through.
    durability: Durability,
    progress: Progress,
}

/// How far a piece has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// On its way. Some of it may be on the medium already.
    InFlight,
    /// On its way, and nobody waits for it any more.
    Orphaned,
    /// Seen by readers; a sync makes it durable.
    Done,
}

/// A change of the directory that is not durable.
#[derive(Clone)]
enum Change {
    Link { name: String, inode: Inode },
    Rename { from: String, to: String, inode: Inode },
    Unlink { name: String, inode: Inode },
}

impl Change {
    fn inode(&self) -> Inode {
        match self {
            Change::Link { inode, .. }
            | Change::Rename { inode, .. }
            | Change::Unlink { inode, .. } => *inode,
        }
    }
}

struct State {
    block: u32,
    files: BTreeMap<Inode, Content>,
    names: BTreeMap<String, Inode>,
    names_durable: BTreeMap<String, Inode>,
    changes: Vec<Change>,
    inode_next: u64,
    piece_next: u64,
    /// How many operations that change something have begun.
    operations: u64,
    crash_at: Option<u64>,
    faults: BTreeMap<u64, Fault>,
    capacity: u64,
    /// How often a write is polled before it is done, at most, and what that is drawn from.
    latency: u32,
    /// How often a flush is, at most.
    flush_latency: u32,
    random: Random,
    /// In how many operations a write whose process is gone arrives once.
    orphan_odds: u64,
    /// See [`MemoryDisk::set_lying`].
    lies: bool,
}

impl MemoryDisk {
    /// An empty directory on a device with blocks of `block` bytes.
    pub fn new(block: u32) -> MemoryDisk {
        let state = State {
            block,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            names_durable: BTreeMap::new(),
            changes: Vec::new(),
            inode_next: 1,
            piece_next: 1,
            operations: 0,
            crash_at: None,
            faults: BTreeMap::new(),
            capacity: u64::MAX,
            latency: 0,
            flush_latency: 0,
            random: Random(0),
            orphan_odds: 1,
            lies: false,
        };
        MemoryDisk { state: Rc::new(RefCell::new(state)) }
    }

    /// How many operations that change something (writes, syncs, names) have begun.
    pub fn operations(&self) -> u64 {
        self.state.borrow().operations
    }

    /// Cuts the power when operation `number` (from 0) has begun: neither it nor any later one
    /// completes.
    pub fn crash_at(&self, number: u64) {
        self.state.borrow_mut().crash_at = Some(number);
    }

    /// Whether the power is cut. What waits for the disk then waits for ever.
    pub fn crashed(&self) -> bool {
        self.state.borrow().crashed()
    }

    /// Lets operation `number` go wrong.
    pub fn fail_at(&self, number: u64, fault: Fault) {
        self.state.borrow_mut().faults.insert(number, fault);
    }

    /// How many bytes the files may have together.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.borrow_mut().capacity = bytes;
    }

    /// Lets each write take up to `polls` polls, drawn from `seed`, so that later ones complete
    /// before earlier ones.
    pub fn set_latency(&self, polls: u32, seed: u64) {
        let mut state = self.state.borrow_mut();
        state.latency = polls;
        state.random = Random(seed);
    }

    /// Lets each flush take up to `polls` polls. What is written meanwhile it need not make durable.
    pub fn set_flush_latency(&self, polls: u32) {
        self.state.borrow_mut().flush_latency = polls;
    }

    /// Lets writes that were to be durable when they return be seen, and be lost by a power cut all the same, as a medium
    /// does that lies.
    pub fn set_lying(&self, lies: bool) {
        self.state.borrow_mut().lies = lies;
    }

    /// The directory as it is found after a power cut now.
    pub fn after_crash(&self, survival: Survival, seed: u64) -> MemoryDisk {
        let state = self.state.borrow();
        let mut random = Random(seed);
        let disk = MemoryDisk::new(state.block);
        {
            let mut after = disk.state.borrow_mut();
            after.names = surviving_names(&state, survival, &mut random);
            after.names_durable = after.names.clone();
            after.inode_next = state.inode_next;
            for inode in after.names.values().copied().collect::<Vec<_>>() {
                let content = state.files.get(&inode).cloned().unwrap_or_default();
                let bytes = content.after_crash(survival, &mut random);
                let content =
                    Content { written: bytes.clone(), durable: bytes, pieces: Vec::new() };
                after.files.insert(inode, content);
            }
        }
        disk
    }

    /// The directory as the next process finds it when this one was killed and the machine runs on.
    /// What was seen is still seen, durable or not. Of the writes in flight some have arrived and some
    /// never will. Some of those past the page cache arrive later, while the next process is at work; one through it
    /// is over before its process is.
    pub fn after_kill(&self, seed: u64) -> MemoryDisk {
        let state = self.state.borrow();
        let mut random = Random(seed);
        let mut files = state.files.clone();
        for content in files.values_mut() {
            content.pieces.retain_mut(|piece| {
                let in_flight = piece.progress == Progress::InFlight;
                if in_flight {
                    piece.progress = Progress::Orphaned;
                }
                !in_flight || random.below(3) != 0
            });
            for nth in 0..content.pieces.len() {
                let Piece { durability, progress, .. } = content.pieces[nth];
                let may_be_late = durability == Durability::EachWrite;
                if progress == Progress::Orphaned && (!may_be_late || random.coin()) {
                    content.land(nth);
                }
            }
        }
        let disk = MemoryDisk::new(state.block);
        {
            let mut after = disk.state.borrow_mut();
            after.files = files;
            after.names = state.names.clone();
            after.names_durable = state.names_durable.clone();
            after.changes = state.changes.clone();
            after.inode_next = state.inode_next;
            after.piece_next = state.piece_next;
            after.orphan_odds = if random.coin() { 4 } else { 64 };
            after.random = random;
        }
        disk
    }

    /// A copy of the directory as a reader sees it now.
    pub fn copy(&self) -> MemoryDisk {
        let disk = MemoryDisk::new(self.block_bytes());
        for file in self.names() {
            disk.put(&file, self.bytes(&file));
        }
        disk
    }

    pub fn names(&self) -> Vec<String> {
        self.state.borrow().names.keys().cloned().collect()
    }

    /// What a file holds.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state.borrow();
        let content = state.names.get(name).and_then(|inode| state.files.get(inode));
        content.map(|content| content.written.clone()).unwrap_or_default()
    }

    /// Puts a file there, durably.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state.borrow_mut();
        let inode = state.inode();
        state.names.insert(name.to_owned(), inode);
        state.names_durable.insert(name.to_owned(), inode);
        state
            .files
            .insert(inode, Content { written: bytes.clone(), durable: bytes, pieces: Vec::new() });
    }

    /// Takes a file away, durably.
    pub fn take(&self, name: &str) {
        let mut state = self.state.borrow_mut();
        state.names.remove(name);
        state.names_durable.remove(name);
    }

    /// Inverts the bits of `mask` in one byte of a file, durably.
    pub fn corrupt(&self, name: &str, offset: usize, mask: u8) {
        let mut bytes = self.bytes(name);
        if let Some(byte) = bytes.get_mut(offset) {
            *byte ^= mask;
        }
        self.put(name, bytes);
    }

    /// Begins an operation: counts it, and tells what goes wrong with it.
    fn begin(&self) -> Option<Fault> {
        self.state.borrow_mut().begin()
    }

    /// An operation on names, or its failure. It has begun when the power is cut at it, so its
    /// effect may remain.
    async fn change(&self, change: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let fault = self.begin();
        if fault.is_some() {
            return Err(io::Error::other("injected fault"));
        }
        let result = change(&mut self.state.borrow_mut());
        alive(&self.state).await;
        result
    }
}

/// Waits for ever once the power is cut.
async fn alive(state: &Rc<RefCell<State>>) {
    poll_fn(|_| if state.borrow().crashed() { Poll::Pending } else { Poll::Ready(()) }).await;
}

/// Waits for so many polls, and for ever once the power is cut.
async fn wait(state: &Rc<RefCell<State>>, mut polls: u64) {
    poll_fn(|context| {
        if state.borrow().crashed() {
            return Poll::Pending;
        }
        if polls == 0 {
            return Poll::Ready(());
        }
        polls -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl State {
    /// How many polls the next flush takes.
    fn draw_flush(&mut self) -> u64 {
        match u64::from(self.flush_latency) {
            0 => 0,
            most => self.random.below(most + 1),
        }
    }

    /// What no name leads to any more, nor will after a power cut, is gone.
    fn forget_unnamed(&mut self) {
        let State { files, names, names_durable, changes, .. } = self;
        let mut named: Vec<Inode> = names.values().chain(names_durable.values()).copied().collect();
        named.extend(changes.iter().map(Change::inode));
        files.retain(|inode, _| named.contains(inode));
    }

    fn inode(&mut self) -> Inode {
        self.inode_next += 1;
        Inode(self.inode_next - 1)
    }

    fn crashed(&self) -> bool {
        self.crash_at.is_some_and(|number| self.operations > number)
    }

    fn begin(&mut self) -> Option<Fault> {
        let fault = self.faults.get(&self.operations).copied();
        self.operations += 1;
        self.land_orphan();
        fault
    }

    /// Lets a write arrive whose process is gone, now and then.
    fn land_orphan(&mut self) {
        for content in self.files.values_mut() {
            let orphaned = |piece: &Piece| piece.progress == Progress::Orphaned;
            if let Some(nth) = content.pieces.iter().position(orphaned)
                && self.random.below(self.orphan_odds) == 0
            {
                content.land(nth);
            }
        }
    }

    fn bytes(&self) -> u64 {
        let linked = self.names.values().filter_map(|inode| self.files.get(inode));
        linked.map(|content| content.written.len() as u64).sum()
    }

    fn not_found(name: &str) -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, format!("{name}: no such file"))
    }
}

impl Content {
    fn put(image: &mut Vec<u8>, offset: usize, data: &[u8]) {
        if image.len() < offset + data.len() {
            image.resize(offset + data.len(), 0);
        }
        if let Some(range) = image.get_mut(offset..offset + data.len()) {
            range.copy_from_slice(data);
        }
    }

    /// Makes an image longer, by zeros.
    fn lengthen(image: &mut Vec<u8>, bytes: usize) {
        if image.len() >= bytes / 2 {
            return image.resize(bytes, 0);
        }
        // Memory that the system hands out as zeros costs nothing until it is touched, which most of a file that was
        // made longer at once never is.
        let mut longer = vec![0; bytes];
        longer[..image.len()].copy_from_slice(image);
        *image = longer;
    }

    /// Lets readers see a piece.
    fn land(&mut self, nth: usize) {
        if let Some(piece) = self.pieces.get_mut(nth) {
            piece.progress = Progress::Done;
            Content::put(&mut self.written, piece.offset, &piece.data);
        }
    }

    fn make_durable(&mut self, piece: Piece) {
        Content::put(&mut self.durable, piece.offset, &piece.data);
    }

    fn after_crash(mut self, survival: Survival, random: &mut Random) -> Vec<u8> {
        for piece in std::mem::take(&mut self.pieces) {
            let sectors = piece.data.len().div_ceil(SECTOR_BYTES) as u64;
            let prefix = random.below(sectors + 1);
            let whole = random.coin();
            for (nth, sector) in piece.data.chunks(SECTOR_BYTES).enumerate() {
                let survives = match survival {
                    Survival::None => false,
                    Survival::All => true,
                    Survival::Pieces => whole,
                    Survival::Prefixes => (nth as u64) < prefix,
                    Survival::Sectors => random.coin(),
                };
                if survives {
                    Content::put(&mut self.durable, piece.offset + nth * SECTOR_BYTES, sector);
                }
            }
        }
        self.durable
    }
}

/// A subset of the changes to the directory, in which a change of a file depends on those before
/// it.
fn surviving_names(
    state: &State,
    survival: Survival,
    random: &mut Random,
) -> BTreeMap<String, Inode> {
    let mut names = state.names_durable.clone();
    let mut lost = Vec::new();
    for change in &state.changes {
        let inode = change.inode();
        let survives = match survival {
            Survival::None => false,
            Survival::All => true,
            Survival::Pieces | Survival::Prefixes | Survival::Sectors => random.coin(),
        };
        if !survives || lost.contains(&inode) {
            lost.push(inode);
            continue;
        }
        match change {
            Change::Link { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            Change::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Change::Unlink { name, .. } => {
                names.remove(name);
            }
        }
    }
    names
}

impl ReadDisk for MemoryDisk {
    type Map = Vec<u8>;

    fn path(&self, name: &str) -> String {
        name.to_owned()
    }

    async fn list(&self) -> io::Result<Vec<Listed>> {
        alive(&self.state).await;
        let state = self.state.borrow();
        let bytes =
            |inode| state.files.get(inode).map_or(0, |content| content.written.len() as u64);
        Ok(state
            .names
            .iter()
            .map(|(name, inode)| Listed { name: name.clone(), bytes: bytes(inode) })
            .collect())
    }

    fn file_path(&self, _name: &str) -> Option<PathBuf> {
        None
    }

    fn map(&self, name: &str, range: Range<u64>) -> io::Result<Vec<u8>> {
        let state = self.state.borrow();
        let inode = state.names.get(name).ok_or_else(|| State::not_found(name))?;
        let content = state.files.get(inode).ok_or_else(|| State::not_found(name))?;
        let range = range.start as usize..range.end as usize;
        let bytes = content.written.get(range);
        Ok(bytes.ok_or(io::ErrorKind::UnexpectedEof)?.to_vec())
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;
    type Buffer = Vec<u8>;

    fn block_bytes(&self) -> u32 {
        self.state.borrow().block
    }

    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Not zeroed, as real memory is not: whoever relies on zeros shall be found out.
    fn buffer(&self, bytes: usize) -> Vec<u8> {
        vec![0xa5; bytes]
    }

    async fn create(&self, name: &str) -> io::Result<MemoryFile> {
        let mut created = None;
        let link = |state: &mut State| {
            let inode = state.inode();
            created = Some(inode);
            state.files.insert(inode, Content::default());
            state.names.insert(name.to_owned(), inode);
            state.changes.push(Change::Link { name: name.to_owned(), inode });
            Ok(())
        };
        self.change(link).await?;
        let inode = created.ok_or_else(|| State::not_found(name))?;
        Ok(MemoryFile { state: self.state.clone(), inode, durability: Durability::Synced })
    }

    async fn open(&self, name: &str) -> io::Result<MemoryFile> {
        alive(&self.state).await;
        let inode = self.state.borrow().names.get(name).copied();
        let inode = inode.ok_or_else(|| State::not_found(name))?;
        Ok(MemoryFile { state: self.state.clone(), inode, durability: Durability::EachWrite })
    }

    async fn open_cached(&self, name: &str) -> io::Result<MemoryFile> {
        let existing = self.state.borrow().names.get(name).copied();
        match existing {
            Some(inode) => {
                alive(&self.state).await;
                Ok(MemoryFile { state: self.state.clone(), inode, durability: Durability::Synced })
            }
            None => self.create(name).await,
        }
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let rename = |state: &mut State| {
            let inode = state.names.remove(from).ok_or_else(|| State::not_found(from))?;
            state.names.insert(to.to_owned(), inode);
            state.changes.push(Change::Rename { from: from.to_owned(), to: to.to_owned(), inode });
            Ok(())
        };
        self.change(rename).await
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        let unlink = |state: &mut State| {
            let inode = state.names.remove(name).ok_or_else(|| State::not_found(name))?;
            state.changes.push(Change::Unlink { name: name.to_owned(), inode });
            Ok(())
        };
        self.change(unlink).await
    }

    async fn sync_directory(&self) -> io::Result<()> {
        let sync = |state: &mut State| {
            if !state.crashed() {
                state.changes.clear();
                state.names_durable = state.names.clone();
                state.forget_unnamed();
            }
            Ok(())
        };
        self.change(sync).await
    }
}

impl MemoryFile {
    /// Takes a write in. From here on a power cut may leave any part of it.
    fn submit(&self, offset: u64, mut data: Vec<u8>) -> io::Result<Submitted> {
        let mut state = self.state.borrow_mut();
        let block = u64::from(state.block);
        let length = data.len() as u64;
        if !offset.is_multiple_of(block) || !length.is_multiple_of(block) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a write of unaligned bytes"));
        }
        let fault = state.begin();
        let mut offset = offset;
        match fault {
            None | Some(Fault::Drop) => {}
            Some(Fault::Fail) => return Err(io::Error::other("injected fault")),
            Some(Fault::Short) => data.truncate(data.len() / 2),
            Some(Fault::Misdirect(further)) => offset += further,
        }
        let length = data.len();
        let has = state.files.get(&self.inode).map_or(0, |content| content.written.len());
        let grows = (offset as usize + length).saturating_sub(has) as u64;
        if grows > 0 && state.bytes() + grows > state.capacity {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full"));
        }
        let number = state.piece_next;
        state.piece_next += 1;
        let bound = u64::from(state.latency) + 1;
        let polls = state.random.below(bound);
        if fault != Some(Fault::Drop) {
            let content = state.files.entry(self.inode).or_default();
            let (offset, progress) = (offset as usize, Progress::InFlight);
            let durability = self.durability;
            content.pieces.push(Piece { number, offset, data, durability, progress });
        }
        Ok(Submitted { number, length, polls })
    }

    /// The write is done: readers see it, and it is durable if it was to be.
    fn finish(&self, number: u64) {
        let mut state = self.state.borrow_mut();
        let lies = state.lies;
        let content = state.files.entry(self.inode).or_default();
        let Some(nth) = content.pieces.iter().position(|piece| piece.number == number) else {
            return;
        };
        content.land(nth);
        if self.durability == Durability::EachWrite && !lies {
            let piece = content.pieces.remove(nth);
            content.make_durable(piece);
        }
    }
}

struct Submitted {
    number: u64,
    length: usize,
    polls: u64,
}

impl File for MemoryFile {
    type Buffer = Vec<u8>;

    async fn write(&self, offset: u64, buffer: Vec<u8>) -> io::Result<usize> {
        let Submitted { number, length, polls } = self.submit(offset, buffer)?;
        wait(&self.state, polls).await;
        self.finish(number);
        Ok(length)
    }

    fn write_waiting(&self, offset: u64, buffer: &Vec<u8>) -> io::Result<usize> {
        let Submitted { number, length, .. } = self.submit(offset, buffer.clone())?;
        if self.state.borrow().crashed() {
            return Err(io::Error::other("the power is gone"));
        }
        self.finish(number);
        Ok(length)
    }

    async fn write_pieces(
        &self,
        pieces: impl Iterator<Item = (u64, Vec<u8>)> + Send + 'static,
    ) -> Result<(), (u64, io::Error)> {
        for (offset, bytes) in pieces {
            let length = bytes.len();
            match self.write(offset, bytes).await {
                Ok(written) if written == length => {}
                Ok(_) => return Err((offset, io::ErrorKind::WriteZero.into())),
                Err(error) => return Err((offset, error)),
            }
        }
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        let (meant, bytes, polls) = {
            let mut state = self.state.borrow_mut();
            if state.begin().is_some() {
                return Err(io::Error::other("injected fault"));
            }
            let content = state.files.entry(self.inode).or_default();
            let done = content.pieces.iter().filter(|piece| piece.progress == Progress::Done);
            let meant: Vec<u64> = done.map(|piece| piece.number).collect();
            (meant, content.written.len(), state.draw_flush())
        };
        wait(&self.state, polls).await;
        let mut state = self.state.borrow_mut();
        let content = state.files.entry(self.inode).or_default();
        for piece in std::mem::take(&mut content.pieces) {
            match meant.contains(&piece.number) {
                true => content.make_durable(piece),
                false => content.pieces.push(piece),
            }
        }
        let bytes = bytes.min(content.written.len());
        if content.durable.len() < bytes {
            Content::lengthen(&mut content.durable, bytes);
        }
        Ok(())
    }

    async fn allocate(&self, bytes: u64) -> io::Result<()> {
        if self.state.borrow_mut().begin().is_some() {
            return Err(io::Error::other("injected fault"));
        }
        alive(&self.state).await;
        let mut state = self.state.borrow_mut();
        let has = state.files.get(&self.inode).map_or(0, |content| content.written.len());
        let grows = bytes.saturating_sub(has as u64);
        if state.bytes() + grows > state.capacity {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full"));
        }
        let content = state.files.entry(self.inode).or_default();
        Content::lengthen(&mut content.written, has + grows as usize);
        Ok(())
    }

    async fn truncate(&self, bytes: u64) -> io::Result<()> {
        if self.state.borrow_mut().begin().is_some() {
            return Err(io::Error::other("injected fault"));
        }
        {
            let mut state = self.state.borrow_mut();
            let content = state.files.entry(self.inode).or_default();
            content.written.truncate(bytes as usize);
            content.durable.truncate(bytes as usize);
            content.pieces.retain(|piece| piece.offset + piece.data.len() <= bytes as usize);
        }
        alive(&self.state).await;
        Ok(())
    }

    async fn close(self) -> io::Result<()> {
        alive(&self.state).await;
        Ok(())
    }
}
