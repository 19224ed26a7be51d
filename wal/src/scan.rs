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
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::fmt;
use std::ops::Range;

use crate::format::{
    self, Fault, Frame, Kind, NUMBER_MAX, Position, SegmentHeader, SegmentId, Start, WriteHead,
};
use crate::log::HARD_STATE_BYTES_MAX;

/// What stands where the next write would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Zeros, or no room for another write.
    Blank,
    /// Bytes that are not of this segment: from the file's earlier life under another id.
    Leftover,
    /// Something that names this segment and fails its checks.
    Torn,
    /// A sound write of this segment, but the sound write before it is not the one it follows, or
    /// it says something the log cannot have said.
    Contradiction,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::Blank => "nothing",
            Place::Leftover => "a leftover",
            Place::Torn => "an incomplete or damaged write",
            Place::Contradiction => "a write that contradicts the ones before it",
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

/// A write of the run, as far as it matters to what may follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Followed {
    /// The offset at which the next write would stand.
    end: u32,
    /// The checksum of its last frame.
    crc: u32,
    /// The index of the last entry.
    last: u64,
    /// How many events there are up to its end.
    events: usize,
}

/// A segment as read.
#[derive(Debug)]
pub(crate) struct SegmentScan {
    pub(crate) header: SegmentHeader,
    /// From the segment's first write; `None` when not even that one is sound.
    pub(crate) link: Option<Link>,
    pub(crate) events: Vec<Event>,
    /// The writes that follow each other from the start.
    run: Vec<Followed>,
    /// What stands where the run ends, and what exactly is wrong with it.
    pub(crate) place: Place,
    pub(crate) fault: String,
    /// The furthest claim in the run, and that of write heads behind it.
    pub(crate) claim_run: Option<Claim>,
    pub(crate) claim_behind: Option<Claim>,
    /// The highest index of any entry, replaced later or not. Known once the events were applied.
    pub(crate) highest: u64,
}

impl SegmentScan {
    pub(crate) fn id(&self) -> SegmentId {
        self.header.id
    }

    /// How many writes the run has.
    pub(crate) fn writes(&self) -> u64 {
        self.run.len() as u64
    }

    /// The offset at which the next write would stand.
    pub(crate) fn end(&self) -> u32 {
        self.run.last().map_or(format::data_offset(self.header.block), |write| write.end)
    }

    pub(crate) fn end_position(&self) -> Position {
        Position { segment: self.id(), offset: self.end() }
    }

    /// The checksum of the run's last frame.
    pub(crate) fn crc(&self) -> u32 {
        self.run.last().map_or(0, |write| write.crc)
    }

    /// The index of the last entry when the run ends.
    pub(crate) fn last(&self) -> u64 {
        self.run.last().map_or(0, |write| write.last)
    }

    /// Ends the run where `link` says that it ended, if it has such a place. It may go on behind
    /// that: a write that was in flight when its process was killed can reach the disk after the
    /// next opening has read the place, found nothing and cut there. The opening's segment, of
    /// which `link` is, was durable before anything was acknowledged on top of it, so it decides.
    pub(crate) fn end_at(&mut self, link: Link) -> bool {
        let linked = |write: &Followed| {
            let end = Position { segment: self.id(), offset: write.end };
            end == link.after && write.crc == link.previous && write.last == link.last
        };
        let Some(nth) = self.run.iter().rposition(linked) else {
            return false;
        };
        if nth + 1 < self.run.len() {
            self.run.truncate(nth + 1);
            self.events.truncate(self.run.last().map_or(0, |write| write.events));
            self.place = Place::Leftover;
            self.fault = "writes that arrived after their process was gone".to_owned();
        }
        true
    }
}

/// Reads a whole segment file whose header has been verified.
pub(crate) fn scan(bytes: &[u8], header: SegmentHeader) -> SegmentScan {
    let mut scan = SegmentScan {
        header,
        link: None,
        events: Vec::new(),
        run: Vec::new(),
        place: Place::Blank,
        fault: String::new(),
        claim_run: None,
        claim_behind: None,
        highest: 0,
    };
    loop {
        let rest = bytes.get(scan.end() as usize..).unwrap_or_default();
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
    crc: u32,
    last: u64,
}

impl SegmentScan {
    fn accept(&mut self, write: Write) {
        let at = self.end_position();
        if self.run.is_empty() {
            self.link = write.link;
        }
        self.claim_run = self.claim_run.max(Some(Claim { durable: write.head.durable, at }));
        self.events.extend(write.events);
        let padded = format::padded(write.head.bytes as usize, self.header.block);
        let padded =
            u32::try_from(padded).expect("invariant: a write lies in a segment of < 4 GiB");
        self.run.push(Followed {
            end: at.offset + padded,
            crc: write.crc,
            last: write.last,
            events: self.events.len(),
        });
    }

    /// Looks at every block behind the run for heads of writes of this segment.
    fn look_behind(&mut self, bytes: &[u8]) {
        let mut offset = self.end();
        while let Some(block) = bytes.get(offset as usize..).filter(|rest| !rest.is_empty()) {
            if let Some(head) = head_at(block, &self.header) {
                let at = Position { segment: self.id(), offset };
                let claim = Claim { durable: head.durable, at };
                self.claim_behind = self.claim_behind.max(Some(claim));
            }
            match offset.checked_add(self.header.block) {
                Some(next) => offset = next,
                None => break,
            }
        }
    }
}

/// The head of a write of this segment, if a sound one stands at the start of `bytes`.
fn head_at(bytes: &[u8], header: &SegmentHeader) -> Option<WriteHead> {
    if !format::may_be_write_head(bytes, header.id) {
        return None;
    }
    let frame = Frame::decode(bytes, header.salt).ok()?;
    WriteHead::decode(&frame).ok()
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
    let head = WriteHead::decode(&frame).map_err(torn)?;
    if !run.run.is_empty() && frame.previous != run.crc() {
        let fault = Fault::Previous { found: frame.previous, expected: run.crc() };
        return Err(contradiction(fault));
    }
    let whole = rest
        .get(..head.bytes as usize)
        .ok_or_else(|| torn(Fault::Short { need: head.bytes as usize, have: rest.len() }))?;
    let frames = inner_frames(whole, &frame, header)?;
    let at = Position { segment: header.id, offset: run.end() };
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
    let first = run.run.is_empty();
    // Checksums do not tell who wrote it, and indexes are counted on from.
    if frames.iter().map(|(_, frame)| frame.index).chain([head.index]).any(|it| it > NUMBER_MAX) {
        return Err(contradiction(Fault::Structure("an index that no log comes to")));
    }
    if !first && head.index != run.last() {
        return Err(contradiction(Fault::Index { found: head.index, last: run.last() }));
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
            Kind::HardState if frame.payload.len() > HARD_STATE_BYTES_MAX => {
                return Err(contradiction(Fault::Structure("a hard state beyond what is written")));
            }
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
                let offset = run.end() as usize + at;
                events.push(entry(frame, offset).map_err(contradiction)?);
            }
        }
    }
    if first && link.is_none() {
        return Err(contradiction(Fault::Structure("a segment without a start frame")));
    }
    Ok(Write { link, events, head: write, crc: last_crc(head, frames), last })
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
