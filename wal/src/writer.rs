//! One write: what it carries, how large it is, how it is laid out; and the window of writes in
//! flight.
//!
//! A write is all or nothing: its frames stand in one buffer, go to the disk in one request, and
//! recovery takes them all or none. Several may be in flight and may complete in any order, but the
//! durable boundary moves only over a prefix: write 2 counts only once write 1 does, because
//! recovery, too, stops at the first hole.

use std::collections::VecDeque;
use std::fmt;

use crate::format::{self, Encoder, Kind, Position, SegmentId, Stamp, Start, WriteHead};
use crate::index::Location;

/// Numbers the writes of one opening, from 1. 0 is the opening's own write, durable before any
/// other starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteNumber(pub u64);

impl WriteNumber {
    fn next(self) -> WriteNumber {
        WriteNumber(self.0 + 1)
    }
}

impl fmt::Display for WriteNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an entry takes in the log beside its payload.
pub const ENTRY_BYTES: usize = format::FRAME_HEADER_BYTES;

/// An entry to append. The payload comes in two parts (a header and a body, say) that are copied
/// one behind the other into the write's buffer, so that nobody has to join them first; either may
/// be empty.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub index: u64,
    pub payload: [&'a [u8]; 2],
}

impl Entry<'_> {
    fn payload_bytes(&self) -> usize {
        let [head, body] = self.payload;
        head.len() + body.len()
    }

    pub(crate) fn frame_bytes(&self) -> usize {
        format::frame_bytes(self.payload_bytes())
    }
}

/// What one write carries, in the order in which it is laid out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Batch<'a> {
    /// Only in the first write of a segment.
    pub(crate) start: Option<Start>,
    pub(crate) hard_state: Option<&'a [u8]>,
    /// The log continues behind this index.
    pub(crate) restart: Option<u64>,
    pub(crate) entries: &'a [Entry<'a>],
}

/// What a write is laid out against: where it stands, and what stands before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) at: Position,
    pub(crate) salt: u32,
    /// Checksum of the frame before.
    pub(crate) previous: u32,
    /// Index of the last entry before.
    pub(crate) last: u64,
    /// How far the log is known durable.
    pub(crate) durable: Position,
}

impl Batch<'_> {
    /// Bytes of the frames, without the padding.
    pub(crate) fn bytes(&self) -> usize {
        let head = format::frame_bytes(format::WRITE_HEAD_BYTES);
        let start = self.start.map_or(0, |_| format::frame_bytes(format::START_BYTES));
        let hard_state = self.hard_state.map_or(0, |state| format::frame_bytes(state.len()));
        let restart = self.restart.map_or(0, |_| format::frame_bytes(0));
        let entries = self.entries.iter().map(Entry::frame_bytes);
        head + start + hard_state + restart + entries.sum::<usize>()
    }

    /// Lays the write out in `buffer`, which may be longer than [`bytes`](Batch::bytes), tells
    /// where each entry went, and returns the last frame's checksum.
    pub(crate) fn encode(
        &self,
        buffer: &mut [u8],
        seat: Seat,
        mut place: impl FnMut(u64, Location),
    ) -> u32 {
        let stamp = Stamp { segment: seat.at.segment, salt: seat.salt };
        let bytes =
            u32::try_from(self.bytes()).expect("invariant: a write fits a segment of < 4 GiB");
        let head = WriteHead { durable: seat.durable, bytes };
        let mut encoder = Encoder::new(buffer, stamp, seat.previous);
        encoder.frame(Kind::Write, seat.last, [&head.encode(), &[]]);
        if let Some(start) = self.start {
            encoder.frame(Kind::Start, seat.last, [&start.encode(), &[]]);
        }
        if let Some(state) = self.hard_state {
            encoder.frame(Kind::HardState, seat.last, [state, &[]]);
        }
        if let Some(base) = self.restart {
            encoder.frame(Kind::Restart, base, [&[], &[]]);
        }
        for entry in self.entries {
            let offset = encoder.frame(Kind::Entry, entry.index, entry.payload);
            place(entry.index, locate(seat.at, offset, entry.payload_bytes()));
        }
        encoder.finish()
    }
}

/// Where the frame `offset` bytes into the write at `at` stands.
fn locate(at: Position, offset: usize, bytes: usize) -> Location {
    let narrow = |n: usize| u32::try_from(n).expect("invariant: a write fits a segment of < 4 GiB");
    Location { segment: at.segment, offset: at.offset + narrow(offset), bytes: narrow(bytes) }
}

/// A write that is durable. Obtained from the write's future, handed to
/// [`Log::completed`](crate::Log::completed).
#[derive(Debug)]
#[must_use = "the log does not know that the write is durable until it is told"]
pub struct Completed {
    pub(crate) number: WriteNumber,
}

impl Completed {
    pub fn number(&self) -> WriteNumber {
        self.number
    }
}

/// The writes that have been accepted and are not yet known durable with all before them.
#[derive(Debug)]
pub(crate) struct Window {
    /// The last write that is durable with all before it, and the end of it.
    durable: WriteNumber,
    durable_end: Position,
    /// The writes behind `durable`, in order: number `durable + 1 + n` is the nth.
    in_flight: VecDeque<InFlight>,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    end: Position,
    done: bool,
}

impl Window {
    /// Nothing in flight, everything before `durable_end` durable.
    pub(crate) fn new(durable_end: Position) -> Window {
        Window { durable: WriteNumber(0), durable_end, in_flight: VecDeque::new() }
    }

    /// Takes a write in, which ends at `end`, and numbers it.
    pub(crate) fn submit(&mut self, end: Position) -> WriteNumber {
        debug_assert!(end > self.end(), "writes are laid out in order");
        self.in_flight.push_back(InFlight { end, done: false });
        self.last()
    }

    /// The number of the last write taken in.
    pub(crate) fn last(&self) -> WriteNumber {
        WriteNumber(self.durable.0 + self.in_flight.len() as u64)
    }

    fn end(&self) -> Position {
        self.in_flight.back().map_or(self.durable_end, |write| write.end)
    }

    /// Notes that a write is durable and moves the boundary as far as there is no hole before it.
    pub(crate) fn complete(&mut self, number: WriteNumber) -> WriteNumber {
        let nth =
            number.0.checked_sub(self.durable.0 + 1).and_then(|nth| usize::try_from(nth).ok());
        let write = nth.and_then(|nth| self.in_flight.get_mut(nth));
        let write = write.expect("invariant: a write completes once, and after it was submitted");
        assert!(!write.done, "invariant: a write completes once");
        write.done = true;
        while let Some(write) = self.in_flight.front().filter(|write| write.done) {
            self.durable_end = write.end;
            self.durable = self.durable.next();
            self.in_flight.pop_front();
        }
        self.durable
    }

    pub(crate) fn durable(&self) -> WriteNumber {
        self.durable
    }

    /// Everything before this position is durable.
    pub(crate) fn durable_end(&self) -> Position {
        self.durable_end
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The segment in which the durable part of the log ends.
    pub(crate) fn durable_segment(&self) -> SegmentId {
        self.durable_end.segment
    }
}
