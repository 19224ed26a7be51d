//! The log as its owner sees it: append, learn what is durable, read, trim.
//!
//! What changes the log is a plain `fn`; what waits for the disk is a future that borrows nothing.
//! So the owner keeps one `&mut Log`, spawns the futures wherever it likes, and hands their results
//! back.
//!
//! ```text
//! let write = log.append(hard_state, &entries)?;   // encoded, numbered; nothing has been written
//! spawn(write.done);                               // writes; completes in any order with others
//! ...
//! let durable = log.completed(result?);            // up to this number all may be acknowledged
//! ```

pub(crate) mod check;
pub(crate) mod offline;
pub(crate) mod read;

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::rc::Rc;

use crate::disk::{Disk, File};
use crate::error::{AppendError, CloseError, OpenError, PrepareError, WriteError};
use crate::format::{self, Position, SegmentHeader, SegmentId, Start};
use crate::index::Index;
use crate::options::{self, Options};
use crate::recover::{self, Repaired};
use crate::scan::SegmentScan;
use crate::segment::{self, Origin, Prepare, Prepared, Ready, Retired};
use crate::writer::{Batch, Completed, Entry, Seat, Window, WriteNumber};

/// The most a hard state may measure: it is carried into every segment, and room for some is kept
/// on a full disk.
pub const HARD_STATE_BYTES_MAX: usize = 1024;
/// The payload of an entry for which room is kept as for a hard state: what a member that becomes the
/// leader appends, which holds nothing. Others are refused before, by [`Log::has_room`].
pub const KEPT_ENTRY_BYTES: usize = 16;
/// Segments kept ready for use beside the one in use.
const READY_MAX: usize = 1;

/// What an opening found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The first entry that is there. Whether those before it were trimmed or lost, only the owner
    /// of the snapshot that replaced them can tell. `last + 1` when there are none.
    pub first: u64,
    /// The last entry; `first - 1` when there are none.
    pub last: u64,
    /// The last hard state.
    pub hard_state: Option<Vec<u8>>,
    /// What an operator should see: a tail that was cut, a medium that is not durable, a file that
    /// is not ours.
    pub warnings: Vec<String>,
}

/// A segment of the log.
struct Segment<F> {
    header: SegmentHeader,
    origin: Origin,
    /// The offset of the next write.
    end: u32,
    /// The highest index of any entry in it, even one that was replaced later: until its
    /// replacement is durable, the replaced entry is the one that a crash brings back.
    highest: u64,
    /// The segment's first write: once that is durable, the hard state is too, and the segments
    /// before can go.
    first_write: WriteNumber,
    /// Open while writes to it may be in flight.
    file: Option<Rc<F>>,
}

impl<F> Segment<F> {
    fn end_position(&self) -> Position {
        Position { segment: self.header.id, offset: self.end }
    }

    fn room(&self) -> usize {
        (self.header.bytes - self.end) as usize
    }

    fn from_scan(scan: &SegmentScan) -> Segment<F> {
        Segment {
            header: scan.header,
            origin: Origin::Earlier,
            end: scan.end(),
            highest: scan.highest,
            first_write: WriteNumber(0),
            file: None,
        }
    }
}

/// Who waits for the medium while a write is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The task that runs the write; its thread goes on with others.
    Task,
    /// The whole thread: the write completes when it is polled first. It takes no turn of an executor and, on many
    /// devices, no kernel worker, which is most of what a small write costs beside the device.
    Thread,
}

/// An append that has been accepted. Until `done` has completed, the write's bytes may or may not
/// be on the disk.
#[must_use = "nothing is written until `done` is run"]
pub struct Write<F> {
    pub number: WriteNumber,
    /// Does the write. To drop it before it has completed leaves a hole, so the log fails as if the
    /// write had.
    pub done: F,
}

/// The log. See the [crate's documentation](crate).
///
/// Invariants:
/// - `segments` is never empty; the last is the one appended to, and `chain` is the checksum of its
///   last frame.
/// - The files of all but the last are complete: no write will be made to them any more.
/// - `index` covers exactly the entries of the writes accepted so far.
/// - Nothing in `ready` has an id below that of a segment in `segments`.
pub struct Log<D: Disk> {
    disk: D,
    options: Options,
    index: Index,
    /// The last one appended.
    hard_state: Option<Vec<u8>>,
    segments: VecDeque<Segment<D::File>>,
    chain: u32,
    /// Whether the last write has nothing in it that was not there before: damage to it takes
    /// nothing away.
    ends_empty: bool,
    /// What the last frame written says the last index is; differs from the index's while a restart
    /// is pending.
    last_written: u64,
    /// Whether the next write is to say that the log begins anew behind the index's base.
    restart_pending: bool,
    /// The write that said so last. Until it is durable, a crash brings back what was before.
    restarted_by: WriteNumber,
    window: Window,
    ready: VecDeque<Ready<D::File>>,
    spares: Vec<SegmentId>,
    retired: Vec<Retired>,
    close: Vec<Rc<D::File>>,
    id_next: SegmentId,
    preparing: bool,
    /// Why the last preparation failed: for want of room, or else.
    full: bool,
    /// Shared with the futures of the writes in flight.
    failed: Rc<Cell<bool>>,
}

impl<D: Disk> Log<D> {
    /// Opens the log in the disk's directory, or begins one there. Everything that [`Recovered`]
    /// names is durable on return, and so is a first write of this opening, which vouches for it.
    /// No other process may use the directory.
    pub async fn open(disk: D, options: Options) -> Result<(Log<D>, Recovered), OpenError> {
        options.check(disk.block_bytes())?;
        let scan = recover::scan(&disk).await?;
        let decision = recover::decide(&scan);
        let mut warnings = disk.warnings();
        warnings.extend(recover::report(&disk, &scan, &decision)?);
        let repaired = recover::repair(&disk, scan).await?;
        let mut log = Log::from_repaired(disk, options, repaired);
        log.begin().await?;
        let recovered = Recovered {
            first: log.first_index(),
            last: log.last_index(),
            hard_state: log.hard_state.clone(),
            warnings,
        };
        log.check_invariants();
        Ok((log, recovered))
    }

    fn from_repaired(disk: D, options: Options, repaired: Repaired) -> Log<D> {
        let tail = repaired.chain.last();
        Log {
            disk,
            options,
            segments: repaired.chain.iter().map(Segment::from_scan).collect(),
            chain: tail.map_or(0, SegmentScan::crc),
            ends_empty: true,
            last_written: tail.map_or(0, SegmentScan::last),
            restart_pending: false,
            restarted_by: WriteNumber(0),
            window: Window::new(tail.map_or(Position::default(), SegmentScan::end_position)),
            index: repaired.index,
            hard_state: repaired.hard_state,
            ready: VecDeque::new(),
            spares: Vec::new(),
            retired: Vec::new(),
            close: Vec::new(),
            id_next: repaired.id_next,
            preparing: false,
            full: false,
            failed: Rc::new(Cell::new(false)),
        }
    }

    /// The opening's own write, the first of a segment of its own, durable before any other is
    /// encoded. It fixes where the log ended, vouches for everything before, and carries the hard
    /// state.
    async fn begin(&mut self) -> Result<(), OpenError> {
        let first = self.make_first().await?;
        self.ready.push_back(first);
        self.roll();
        let file = self.disk.path(&segment::segment_name(self.tail().header.id));
        let write = self.encode(Waiting::Task, None, &[]);
        let completed = write.done.await.map_err(|error| OpenError::Io {
            action: "write the opening",
            file,
            source: error.into_source(),
        })?;
        self.window.complete(completed.number);
        // The opening's write is number 0, durable like everything before it.
        self.window = Window::new(self.window.durable_end());
        self.tail_mut().first_write = WriteNumber(0);
        Ok(())
    }

    /// The opening's segment is small, so that nobody waits for it to be filled and a process that
    /// is started and dies again and again does not fill the disk; smaller still where the disk is
    /// full, so that a member can at least start and vote.
    async fn make_first(&mut self) -> Result<Ready<D::File>, OpenError> {
        let block = self.disk.block_bytes();
        let least = options::segment_bytes_min(block);
        let sizes = [options::OPENING_BYTES.min(self.options.segment_bytes), least];
        let mut full = None;
        for bytes in sizes {
            let header = SegmentHeader { bytes, ..self.next_header() };
            match segment::make(&self.disk, header, None).await {
                Ok(ready) => return Ok(ready),
                Err(error) if error.is_full() => full = Some(error),
                Err(PrepareError { action, file, source }) => {
                    return Err(OpenError::Io { action, file, source });
                }
            }
        }
        let PrepareError { file, source, .. } =
            full.expect("invariant: the loop ends with a return or a full disk");
        Err(OpenError::Full { file, bytes: least, source })
    }

    /// The header of the next segment to make. An id is used up even if nothing comes of it.
    fn next_header(&mut self) -> SegmentHeader {
        let header = self.options.header(self.id_next, self.disk.block_bytes());
        self.id_next.0 += 1;
        header
    }

    /// The first entry that can be read; `last_index() + 1` when there are none.
    pub fn first_index(&self) -> u64 {
        self.index.first()
    }

    /// The last entry appended, durable or not; `first_index() - 1` when there are none.
    pub fn last_index(&self) -> u64 {
        self.index.last()
    }

    /// The last hard state appended, durable or not.
    pub fn hard_state(&self) -> Option<&[u8]> {
        self.hard_state.as_deref()
    }

    /// The highest write that is durable with all before it.
    pub fn durable(&self) -> WriteNumber {
        self.window.durable()
    }

    /// How many writes are not known to be durable with all before them.
    pub fn in_flight(&self) -> usize {
        self.window.in_flight()
    }

    /// Bytes that the frames of one append may measure at most: each entry's payload and
    /// [`ENTRY_BYTES`] more.
    ///
    /// [`ENTRY_BYTES`]: crate::ENTRY_BYTES
    pub fn append_bytes_max(&self) -> usize {
        let block = self.disk.block_bytes();
        let room = (self.options.segment_bytes - format::data_offset(block)) as usize;
        let kept = options::reserve_bytes(self.options.segment_bytes, block);
        // What a write carries beside its entries when it is the first of a segment.
        let extra = Batch {
            start: Some(Start { after: Position::default() }),
            restart: Some(0),
            ..Batch::default()
        };
        room - kept - extra.bytes() - format::frame_bytes(HARD_STATE_BYTES_MAX)
    }

    /// Whether an append whose entries measure `bytes` (see
    /// [`append_bytes_max`](Log::append_bytes_max)) would find room now. Ask before accepting what
    /// cannot be refused later.
    pub fn has_room(&self, bytes: usize) -> bool {
        let extra = Batch { restart: Some(0), ..Batch::default() };
        let bytes = bytes + extra.bytes() + format::frame_bytes(HARD_STATE_BYTES_MAX);
        !self.failed.get()
            && bytes <= self.append_bytes_max()
            && self.seat(bytes, Use::Entries).is_ok()
    }

    /// Encodes one durable batch, a hard state and entries of consecutive indexes, either of which
    /// may be missing.
    ///
    /// The first entry may be at or before the last one of the log: it and everything behind it are
    /// replaced. It may not leave a gap, nor lie before the first entry; both are faults of the
    /// caller and panic.
    ///
    /// Starts nothing: the write happens when [`Write::done`] is run. All of it becomes durable or
    /// nothing.
    pub fn append(
        &mut self,
        hard_state: Option<&[u8]>,
        entries: &[Entry<'_>],
    ) -> Result<Write<impl Future<Output = Result<Completed, WriteError>> + use<D>>, AppendError>
    {
        self.append_waiting(Waiting::Task, hard_state, entries)
    }

    /// [`Log::append`], with a choice of who waits for the write.
    pub fn append_waiting(
        &mut self,
        waiting: Waiting,
        hard_state: Option<&[u8]>,
        entries: &[Entry<'_>],
    ) -> Result<Write<impl Future<Output = Result<Completed, WriteError>> + use<D>>, AppendError>
    {
        self.check_entries(entries);
        if self.failed.get() {
            return Err(AppendError::Failed);
        }
        if let Some(bytes) =
            hard_state.map(<[u8]>::len).filter(|bytes| *bytes > HARD_STATE_BYTES_MAX)
        {
            return Err(AppendError::TooLarge { bytes, bytes_max: HARD_STATE_BYTES_MAX });
        }
        let bytes = entries.iter().map(Entry::frame_bytes).sum();
        let bytes_max = self.append_bytes_max();
        if bytes > bytes_max {
            return Err(AppendError::TooLarge { bytes, bytes_max });
        }
        let restart = self.pending_restart();
        let batch = Batch { start: None, hard_state, restart, entries };
        let is_kept_for = bytes <= format::frame_bytes(KEPT_ENTRY_BYTES);
        let purpose = if is_kept_for { Use::Kept } else { Use::Entries };
        if self.seat(batch.bytes(), purpose)? == Room::InNext {
            self.roll();
        }
        Ok(self.encode(waiting, hard_state, entries))
    }

    /// A write without anything in it, for a log at rest: it vouches for all before it. Until there is
    /// such a write, damage to the last one looks like a write that was torn, and the next opening
    /// would cut it. `None` while it would say nothing new: writes are in flight, or the last one was
    /// of its kind. Nor is there one without room, beyond what is kept for hard states.
    pub fn vouch(
        &mut self,
    ) -> Option<Write<impl Future<Output = Result<Completed, WriteError>> + use<D>>> {
        let is_wanted = !self.ends_empty && !self.restart_pending && self.in_flight() == 0;
        if !is_wanted || self.failed.get() {
            return None;
        }
        if self.seat(Batch::default().bytes(), Use::Entries).ok()? == Room::InNext {
            self.roll();
        }
        Some(self.encode(Waiting::Task, None, &[]))
    }

    /// Notes that a write is durable. Returns the highest write that is durable with all before it:
    /// everything up to it may be acknowledged, nothing else.
    pub fn completed(&mut self, completed: Completed) -> WriteNumber {
        let durable = self.window.complete(completed.number);
        let segment = self.window.durable_segment();
        // No write to a segment before the one the durable part ends in can be in flight. Those
        // before the first without a file have none either.
        let in_use = |older: &&mut Segment<D::File>| older.header.id >= segment;
        let older = self.segments.iter_mut().rev().skip_while(in_use);
        self.close.extend(older.map_while(|older| older.file.take()));
        durable
    }

    /// Entries before `index` are not needed any more, and the segments that hold nothing else will
    /// be recycled by the next [`prepare`](Log::prepare). Entries that share a segment with later
    /// ones come back at the next opening.
    ///
    /// With an `index` beyond the last entry's successor the log is [restarted](Log::restart) there.
    pub fn trim_prefix(&mut self, index: u64) {
        if index > self.index.last() + 1 {
            self.restart(index - 1);
        } else {
            self.index.trim(index);
        }
        // With its front gone, the old log that a crash brings back could not be told from the new.
        let restarting = self.restart_pending || self.window.durable() < self.restarted_by;
        while let Some(next) = self.segments.get(1) {
            let first = &self.segments[0];
            let needed = restarting || first.highest >= index;
            let relied_on = self.window.durable() < next.first_write || first.file.is_some();
            if needed || relied_on {
                break;
            }
            let first = self.segments.pop_front().expect("invariant: there are two");
            let Segment { header, origin, .. } = first;
            self.retired.push(Retired { id: header.id, bytes: header.bytes, origin });
        }
        self.check_invariants();
    }

    /// Drops all entries, whatever their indexes are: the log goes on at `index + 1`, as behind a
    /// snapshot that was received and that contains everything up to `index`.
    ///
    /// That becomes durable with the next append, of entries or of a hard state. Until then a crash
    /// brings the old entries back, so the snapshot must be durable before, and its owner must be
    /// able to tell at an opening whether what is behind `index` follows it: see `FORMAT.md`,
    /// scenario 12.
    pub fn restart(&mut self, index: u64) {
        self.index.restart(index);
        self.restart_pending = true;
    }

    /// Work for a background task, if there is any: recycle what was trimmed, make the next
    /// segment. Run it, and hand the result to [`prepared`](Log::prepared). Ask after every append,
    /// trim and `prepared`; it costs nothing.
    pub fn prepare(&mut self) -> Option<Prepare<D>> {
        let wanted = self.ready.len() < READY_MAX;
        let work = wanted || !self.retired.is_empty() || !self.close.is_empty();
        if self.preparing || self.failed.get() || !work {
            return None;
        }
        self.preparing = true;
        let make = wanted.then(|| self.next_header());
        Some(Prepare {
            disk: self.disk.clone(),
            close: std::mem::take(&mut self.close),
            retire: std::mem::take(&mut self.retired),
            spares: std::mem::take(&mut self.spares),
            make,
            segment_bytes: self.options.segment_bytes,
        })
    }

    /// Takes over what a [`Prepare`] has done. After an error, which the log survives as long as
    /// the current segment has room, [`prepare`](Log::prepare) offers the work again: wait a while
    /// first, or until something was trimmed.
    pub fn prepared(&mut self, prepared: Prepared<D>) -> Result<(), PrepareError> {
        let Prepared { ready, spares, retire, error } = prepared;
        self.preparing = false;
        self.ready.extend(ready);
        self.spares.extend(spares);
        // Those that were trimmed meanwhile are newer.
        self.retired.splice(0..0, retire);
        self.full = error.is_some();
        error.map_or(Ok(()), Err)
    }

    /// Ends the log in good order: a last write vouches for all before it, so that the next opening
    /// detects any damage. All writes must have completed.
    pub async fn close(mut self) -> Result<(), CloseError> {
        if self.failed.get() {
            return Err(CloseError::Failed);
        }
        if self.in_flight() > 0 {
            return Err(CloseError::InFlight(self.in_flight()));
        }
        // Without room there is no such write, and the next opening detects a little less.
        let last = Batch { restart: self.pending_restart(), ..Batch::default() };
        if self.seat(last.bytes(), Use::Kept) == Ok(Room::Here) {
            let completed = self.encode(Waiting::Task, None, &[]).done.await?;
            self.window.complete(completed.number);
        }
        let ready = self.ready.drain(..).map(|ready| ready.file);
        let files = self.segments.iter_mut().filter_map(|segment| segment.file.take());
        for file in ready.chain(files).chain(self.close.drain(..)) {
            let closed = segment::close(&self.disk, file).await;
            closed.map_err(|PrepareError { action, file, source }| CloseError::Io {
                action,
                file,
                source,
            })?;
        }
        Ok(())
    }
}

/// What room is asked for. Of the last segment that can be had, a part is kept for what cannot be
/// refused, so that a member whose disk is full can still vote, and lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Entries,
    Kept,
}

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Here,
    InNext,
}

// The steps of an append.
impl<D: Disk> Log<D> {
    fn tail(&self) -> &Segment<D::File> {
        self.segments.back().expect("invariant: there is a segment once the log is open")
    }

    fn tail_mut(&mut self) -> &mut Segment<D::File> {
        self.segments.back_mut().expect("invariant: there is a segment once the log is open")
    }

    fn check_entries(&self, entries: &[Entry<'_>]) {
        let Some(first) = entries.first() else {
            return;
        };
        assert!(
            (self.index.first()..=self.index.last() + 1).contains(&first.index),
            "an append at {} to a log of entries {}..={}",
            first.index,
            self.index.first(),
            self.index.last(),
        );
        let consecutive = entries.windows(2).all(|pair| pair[1].index == pair[0].index + 1);
        assert!(consecutive, "an append of entries that are not consecutive");
    }

    /// The restart to write down, if there is one: the log has no entries until then.
    fn pending_restart(&self) -> Option<u64> {
        self.restart_pending.then(|| self.index.last())
    }

    /// Where a write of `bytes` goes, if anywhere.
    fn seat(&self, bytes: usize, purpose: Use) -> Result<Room, AppendError> {
        let tail = self.tail();
        let padded = format::padded(bytes, tail.header.block);
        let room = tail.room();
        if !self.ready.is_empty() {
            return Ok(if padded <= room { Room::Here } else { Room::InNext });
        }
        let kept = match purpose {
            Use::Entries => options::reserve_bytes(tail.header.bytes, tail.header.block),
            Use::Kept => 0,
        };
        match padded + kept <= room {
            true => Ok(Room::Here),
            false if self.full => Err(AppendError::Full),
            false => Err(AppendError::NotReady),
        }
    }

    /// Turns to the next segment, which is ready. Its first write will say where this one ended.
    fn roll(&mut self) {
        let Ready { header, file } =
            self.ready.pop_front().expect("invariant: asked for only when there is one");
        let first_write = WriteNumber(self.window.last().0 + 1);
        assert!(
            self.segments.back().is_none_or(|tail| tail.header.id < header.id),
            "invariant: ids grow"
        );
        self.segments.push_back(Segment {
            header,
            origin: Origin::This,
            end: format::data_offset(header.block),
            highest: 0,
            first_write,
            file: Some(file),
        });
    }

    /// Where the log ended before the segment that is appended to, if its first write is still to
    /// come.
    fn start(&self) -> Option<Start> {
        let tail = self.tail();
        if tail.end > format::data_offset(tail.header.block) {
            return None;
        }
        let before = self.segments.len().checked_sub(2).and_then(|nth| self.segments.get(nth));
        Some(Start { after: before.map_or(Position::default(), Segment::end_position) })
    }

    /// Lays out a write that is known to fit where the log ends.
    fn encode(
        &mut self,
        waiting: Waiting,
        hard_state: Option<&[u8]>,
        entries: &[Entry<'_>],
    ) -> Write<impl Future<Output = Result<Completed, WriteError>> + use<D>> {
        let start = self.start();
        let restart = self.pending_restart();
        self.ends_empty = hard_state.is_none() && restart.is_none() && entries.is_empty();
        if let Some(state) = hard_state {
            self.hard_state = Some(state.to_vec());
        }
        // The first write of a segment carries the hard state, so that the segments before it can
        // go.
        let carried = if start.is_some() { self.hard_state.take() } else { None };
        let batch =
            Batch { start, hard_state: carried.as_deref().or(hard_state), restart, entries };
        let tail = self.tail();
        let seat = Seat {
            at: tail.end_position(),
            salt: tail.header.salt,
            previous: self.chain,
            last: self.last_written,
            durable: self.window.durable_end(),
        };
        let bytes = format::padded(batch.bytes(), tail.header.block);
        assert!(bytes <= tail.room(), "invariant: a write is laid out only where it fits");
        let mut buffer = self.disk.buffer(bytes);
        let index = &mut self.index;
        self.chain = batch.encode(buffer.as_mut(), seat, |nth, location| {
            assert!(index.put(nth, location), "invariant: the entries have been checked");
        });
        if carried.is_some() {
            self.hard_state = carried;
        }
        let last = entries.last().map(|entry| entry.index);
        self.last_written = last.or(restart).unwrap_or(self.last_written);
        self.advance(bytes, last);
        let number = self.window.submit(self.tail().end_position());
        if restart.is_some() {
            self.restart_pending = false;
            self.restarted_by = number;
        }
        Write { number, done: self.write(waiting, number, seat.at.offset, buffer) }
    }

    fn advance(&mut self, bytes: usize, last: Option<u64>) {
        let tail = self.tail_mut();
        tail.end += u32::try_from(bytes).expect("invariant: a write fits a segment of < 4 GiB");
        tail.highest = tail.highest.max(last.unwrap_or(0));
        self.check_invariants();
    }

    /// The future that does a write. It owns all it needs, and fails the log unless it completes.
    fn write(
        &self,
        waiting: Waiting,
        number: WriteNumber,
        offset: u32,
        buffer: D::Buffer,
    ) -> impl Future<Output = Result<Completed, WriteError>> + use<D> {
        let tail = self.tail();
        let file = tail.file.clone().expect("invariant: the last segment is open");
        let (disk, id) = (self.disk.clone(), tail.header.id);
        let latch = Latch(Some(self.failed.clone()));
        async move {
            let bytes = buffer.as_ref().len();
            let name = || disk.path(&segment::segment_name(id));
            let written = match waiting {
                Waiting::Task => file.write(u64::from(offset), buffer).await,
                Waiting::Thread => file.write_waiting(u64::from(offset), &buffer),
            };
            match written {
                Ok(written) if written == bytes => {
                    latch.release();
                    Ok(Completed { number })
                }
                Ok(written) => Err(WriteError::Short { file: name(), offset, bytes, written }),
                Err(source) => Err(WriteError::Io { file: name(), offset, bytes, source }),
            }
        }
    }

    fn check_invariants(&self) {
        debug_assert!(!self.segments.is_empty());
        debug_assert!(self.tail().file.is_some(), "the last segment is open");
        debug_assert!(self.tail().end <= self.tail().header.bytes);
        debug_assert!(self.window.durable_end() <= self.tail().end_position());
        debug_assert!(self.retired.iter().all(|retired| retired.id < self.segments[0].header.id));
    }
}

/// Fails the log when it is dropped before it was released: a write that failed, or that nobody saw
/// to its end.
struct Latch(Option<Rc<Cell<bool>>>);

impl Latch {
    fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        if let Some(failed) = &self.0 {
            failed.set(true);
        }
    }
}
