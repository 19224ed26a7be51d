//! Reads a segment as far as it makes sense and gathers evidence behind that place. Decides
//! nothing, changes nothing.
//!
//! A segment is read in two passes over disjoint parts. The *run* is the writes that follow each
//! other without a flaw from the segment's start. It stops at a [`Place`] where no such write
//! stands. Behind it, every block is looked at for heads of writes of this same segment: each names
//! a position up to which the log was durable when it was encoded, and the furthest of these is the
//! evidence with which `recover` tells damage from a torn tail.
//!
//! The bytes are foreign: no slice is indexed here.
#![deny(clippy::indexing_slicing)]

use std::fmt;
use std::ops::Range;

use crate::format::{
    self, Fault, Frame, Kind, Position, SegmentHeader, SegmentId, Start, WriteHead,
};

/// What stands where the next write would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Zeros, or no room for another write.
    Blank,
    /// Something that is not of this time: bytes from the file's earlier life under another id, or
    /// a write of an earlier opening, left behind the place where a later one cut.
    Leftover,
    /// A sound write of this segment and opening, but the write before it is not the one it was
    /// chained to.
    Unchained,
    /// Something that fails its checks.
    Torn,
    /// A write that is sound and chained and says something the log cannot have said.
    Contradiction,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::Blank => "nothing",
            Place::Leftover => "the leftover of an earlier write",
            Place::Unchained => "a write that does not follow the one before it",
            Place::Torn => "an incomplete or damaged write",
            Place::Contradiction => "a contradiction",
        })
    }
}

/// What a run says happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Entry { index: u64, offset: u32, bytes: u32 },
    Restart { base: u64 },
    HardState(Vec<u8>),
}

/// Where a segment says the log before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) after: Position,
    /// The checksum of the last frame there.
    pub(crate) previous: u32,
    /// The index of the last entry there.
    pub(crate) last: u64,
}

/// The furthest that a write behind some place claims the log was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub(crate) durable: Position,
    /// The write that says so.
    pub(crate) at: Position,
}

/// A segment as read.
#[derive(Debug)]
pub(crate) struct SegmentScan {
    pub(crate) header: SegmentHeader,
    /// From the segment's first write; `None` when not even that one is sound.
    pub(crate) link: Option<Link>,
    pub(crate) events: Vec<Event>,
    /// How many writes the run has.
    pub(crate) writes: u64,
    /// Where the run ends: the offset at which the next write would stand.
    pub(crate) end: u32,
    /// The checksum of the run's last frame, its opening, and the index of the last entry.
    pub(crate) crc: u32,
    pub(crate) opening: u16,
    pub(crate) last: u64,
    /// What stands at `end`, and what exactly is wrong with it.
    pub(crate) place: Place,
    pub(crate) fault: String,
    /// The furthest claim in the run, and that of write heads behind it.
    pub(crate) claim_run: Option<Claim>,
    pub(crate) claim_behind: Option<Claim>,
    /// The highest index of any entry in the run, replaced later or not.
    pub(crate) highest: u64,
    /// The highest opening of any write head of this segment, in the run or behind it.
    pub(crate) opening_max: u16,
}

impl SegmentScan {
    pub(crate) fn id(&self) -> SegmentId {
        self.header.id
    }

    pub(crate) fn end_position(&self) -> Position {
        Position { segment: self.id(), offset: self.end }
    }
}

/// Reads a whole segment file whose header has been verified.
pub(crate) fn scan(bytes: &[u8], header: SegmentHeader) -> SegmentScan {
    let mut scan = SegmentScan {
        header,
        link: None,
        events: Vec::new(),
        writes: 0,
        end: format::data_offset(header.block),
        crc: 0,
        opening: 0,
        last: 0,
        place: Place::Blank,
        fault: String::new(),
        claim_run: None,
        claim_behind: None,
        highest: 0,
        opening_max: 0,
    };
    loop {
        let rest = bytes.get(scan.end as usize..).unwrap_or_default();
        match next_write(rest, &scan) {
            Ok(write) => scan.accept(write),
            Err((place, fault)) => {
                scan.place = place;
                scan.fault = fault;
                break;
            }
        }
    }
    scan.look_behind(bytes);
    scan
}

/// A write that is sound, follows the run and agrees with it.
struct Write {
    link: Option<Link>,
    events: Vec<Event>,
    head: WriteHead,
    opening: u16,
    crc: u32,
    last: u64,
}

impl SegmentScan {
    fn accept(&mut self, write: Write) {
        let at = self.end_position();
        if self.writes == 0 {
            self.link = write.link;
        }
        self.writes += 1;
        let padded = format::padded(write.head.bytes as usize, self.header.block);
        self.end +=
            u32::try_from(padded).expect("invariant: a write lies within its segment of < 4 GiB");
        self.crc = write.crc;
        self.opening = write.opening;
        self.opening_max = self.opening_max.max(write.opening);
        self.last = write.last;
        self.claim_run = self.claim_run.max(Some(Claim { durable: write.head.durable, at }));
        for event in &write.events {
            if let Event::Entry { index, .. } = event {
                self.highest = self.highest.max(*index);
            }
        }
        self.events.extend(write.events);
    }

    /// Looks at every block behind the run for heads of writes of this segment.
    fn look_behind(&mut self, bytes: &[u8]) {
        let mut offset = self.end;
        while let Some(block) = bytes.get(offset as usize..).filter(|rest| !rest.is_empty()) {
            if let Some((frame, head)) = head_at(block, &self.header) {
                let at = Position { segment: self.id(), offset };
                self.claim_behind =
                    self.claim_behind.max(Some(Claim { durable: head.durable, at }));
                self.opening_max = self.opening_max.max(frame.opening);
            }
            match offset.checked_add(self.header.block) {
                Some(next) => offset = next,
                None => break,
            }
        }
    }
}

/// The head of a write of this segment, if a sound one stands at the start of `bytes`.
fn head_at<'a>(bytes: &'a [u8], header: &SegmentHeader) -> Option<(Frame<'a>, WriteHead)> {
    if !format::may_be_write_head(bytes, header.id) {
        return None;
    }
    let frame = Frame::decode(bytes, header.salt).ok()?;
    let head = WriteHead::decode(&frame).ok()?;
    Some((frame, head))
}

type Verdict<T> = Result<T, (Place, String)>;

fn torn(fault: Fault) -> (Place, String) {
    (Place::Torn, fault.to_string())
}

fn contradiction(fault: Fault) -> (Place, String) {
    (Place::Contradiction, fault.to_string())
}

/// The write at the start of `rest`, if it is the one that follows the run.
fn next_write(rest: &[u8], run: &SegmentScan) -> Verdict<Write> {
    let header = &run.header;
    let frame = first_frame(rest, header)?;
    if frame.segment != header.id {
        return Err((Place::Leftover, Fault::Segment { found: frame.segment }.to_string()));
    }
    if run.writes > 0 && frame.opening < run.opening {
        return Err((Place::Leftover, Fault::Opening { found: frame.opening }.to_string()));
    }
    let head = WriteHead::decode(&frame).map_err(torn)?;
    if run.writes > 0 && frame.previous != run.crc {
        let fault = Fault::Previous { found: frame.previous, expected: run.crc };
        return Err((Place::Unchained, fault.to_string()));
    }
    let whole = rest
        .get(..head.bytes as usize)
        .ok_or_else(|| torn(Fault::Short { need: head.bytes as usize, have: rest.len() }))?;
    let frames = inner_frames(whole, &frame, header)?;
    let at = Position { segment: header.id, offset: run.end };
    if head.durable > at {
        return Err(contradiction(Fault::Structure("a write that was durable before it was made")));
    }
    interpret(run, &frame, head, &frames)
}

/// The frame at the place of a write, classified where it is none.
fn first_frame<'a>(rest: &'a [u8], header: &SegmentHeader) -> Verdict<Frame<'a>> {
    let block = rest.get(..header.block as usize).unwrap_or_default();
    if block.iter().all(|byte| *byte == 0) {
        return Err((Place::Blank, "zeros, or the end of the segment".to_owned()));
    }
    Frame::decode(rest, header.salt).map_err(|fault| {
        if format::names_segment(rest, header.id) {
            return torn(fault);
        }
        // The file's earlier life had another salt, so its frames fail here, and where our writes
        // begin may be the middle of an old payload. All that can be said: the first sector of no
        // write of this segment is here.
        (Place::Leftover, "bytes that are not of this segment".to_owned())
    })
}

/// The frames behind the head of a write, each with where it stands, all sound and chained.
fn inner_frames<'a>(
    whole: &'a [u8],
    head: &Frame<'a>,
    header: &SegmentHeader,
) -> Verdict<Vec<(usize, Frame<'a>)>> {
    let mut frames = Vec::new();
    let mut previous = head.crc;
    let mut at = head.bytes();
    while at < whole.len() {
        let rest = whole.get(at..).unwrap_or_default();
        let frame = Frame::decode(rest, header.salt).map_err(torn)?;
        if frame.segment != header.id {
            return Err(torn(Fault::Segment { found: frame.segment }));
        }
        if frame.opening != head.opening {
            return Err(torn(Fault::Opening { found: frame.opening }));
        }
        if frame.previous != previous {
            return Err(torn(Fault::Previous { found: frame.previous, expected: previous }));
        }
        previous = frame.crc;
        frames.push((at, frame));
        at += frame.bytes();
    }
    Ok(frames)
}

/// What the frames of a sound write mean, and whether the run so far allows it.
fn interpret(
    run: &SegmentScan,
    head: &Frame<'_>,
    write: WriteHead,
    frames: &[(usize, Frame<'_>)],
) -> Verdict<Write> {
    let first = run.writes == 0;
    if !first && head.index != run.last {
        return Err(contradiction(Fault::Index { found: head.index, last: run.last }));
    }
    let mut last = head.index;
    let mut link = None;
    let mut events = Vec::new();
    for (nth, (at, frame)) in frames.iter().enumerate() {
        match frame.kind {
            Kind::Write => return Err(contradiction(Fault::Structure("a head inside a write"))),
            Kind::Start if first && nth == 0 => {
                let start = Start::decode(frame).map_err(contradiction)?;
                link = Some(Link { after: start.after, previous: head.previous, last: head.index });
            }
            Kind::Start => return Err(contradiction(Fault::Structure("a second start frame"))),
            Kind::HardState => events.push(Event::HardState(frame.payload.to_vec())),
            Kind::Restart => {
                last = frame.index;
                events.push(Event::Restart { base: last });
            }
            Kind::Entry => {
                if frame.index == 0 || frame.index > last.saturating_add(1) {
                    return Err(contradiction(Fault::Index { found: frame.index, last }));
                }
                last = frame.index;
                let offset = run.end as usize + at;
                events.push(entry(frame, offset).map_err(contradiction)?);
            }
        }
    }
    if first && link.is_none() {
        return Err(contradiction(Fault::Structure("a segment without a start frame")));
    }
    Ok(Write {
        link,
        events,
        head: write,
        opening: head.opening,
        crc: last_crc(head, frames),
        last,
    })
}

fn entry(frame: &Frame<'_>, offset: usize) -> Result<Event, Fault> {
    let narrow = |n| u32::try_from(n).map_err(|_| Fault::Structure("an entry beyond 4 GiB"));
    Ok(Event::Entry {
        index: frame.index,
        offset: narrow(offset)?,
        bytes: narrow(frame.payload.len())?,
    })
}

fn last_crc(head: &Frame<'_>, frames: &[(usize, Frame<'_>)]) -> u32 {
    frames.last().map_or(head.crc, |(_, frame)| frame.crc)
}

/// The part of a segment file that holds the frame of an entry.
pub(crate) fn frame_range(offset: u32, payload_bytes: u32) -> Range<u64> {
    let start = u64::from(offset);
    start..start + format::FRAME_HEADER_BYTES as u64 + u64::from(payload_bytes)
}
