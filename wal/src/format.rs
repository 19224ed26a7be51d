//! The bytes of the log: what stands where in a segment, and how it is checked. No I/O, no policy.
//!
//! `FORMAT.md` beside this crate is the specification; a test prints the offsets and sizes from the
//! constants below and compares them with the table there. Everything is little-endian.
//!
//! ```text
//! segment   ┌────────────────┬───────────────┬───────────────┬─────┬───────────────────────┐
//!           │ segment header │ write         │ write         │ ... │ zeros, or leftovers   │
//!           │ 36 B, padded   │ padded        │ padded        │     │ of an earlier life    │
//!           └────────────────┴───────────────┴───────────────┴─────┴───────────────────────┘
//!           0                4096            + n blocks
//!
//! write     ┌────────────┬─────────┬────────────┬───────────┬───────┬─────┬───────┬─────────┐
//!           │ write head │ [start] │[hard state]│ [restart] │ entry │ ... │ entry │ padding │
//!           └────────────┴─────────┴────────────┴───────────┴───────┴─────┴───────┴─────────┘
//!
//! frame     ┌─────┬──────────┬────────┬──────┬──────┬─────────┬───────┬───────────┐
//!           │ crc │ previous │ length │ kind │ zero │ segment │ index │ payload   │
//!           │ u32 │ u32      │ u32    │ u8   │ 3 B  │ u64     │ u64   │ length B  │
//!           └─────┴──────────┴────────┴──────┴──────┴─────────┴───────┴───────────┘
//! ```
//!
//! Bytes read from a disk are foreign: nothing here indexes a slice, and a value is handed out only
//! after its checksum has been verified. Which *place* a frame may stand at is not decided here but
//! in `recover`.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::fmt;

/// The first bytes of every segment.
pub(crate) const MAGIC: [u8; 8] = *b"urd-wal\n";
/// The one version this code reads and writes.
pub(crate) const VERSION: u32 = 1;
/// Bytes of the segment header that carry something; the rest up to the first write is zero.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 36;
/// The room kept for the header where blocks are no larger; see [`data_offset`].
pub(crate) const HEADER_AREA_BYTES: u32 = 4096;
/// The smallest and the largest logical block: what O_DIRECT may demand as alignment.
pub(crate) const BLOCK_BYTES_MIN: u32 = 512;
pub(crate) const BLOCK_BYTES_MAX: u32 = 65536;
/// No index and no id of a segment is beyond this: they are counted on from.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;

/// Bytes in front of every frame's payload.
pub(crate) const FRAME_HEADER_BYTES: usize = 32;
/// Payload of a write head.
pub(crate) const WRITE_HEAD_BYTES: usize = 16;
/// Payload of a start frame.
pub(crate) const START_BYTES: usize = 16;

/// Where the fields stand, relative to the start of the segment header.
pub(crate) mod segment_header {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const VERSION: usize = 8;
    pub(crate) const BLOCK: usize = 12;
    pub(crate) const ID: usize = 16;
    pub(crate) const BYTES: usize = 24;
    pub(crate) const SALT: usize = 28;
    pub(crate) const CRC: usize = 32;
}

/// Where the fields stand, relative to the start of a frame.
pub(crate) mod frame_header {
    pub(crate) const CRC: usize = 0;
    pub(crate) const PREVIOUS: usize = 4;
    pub(crate) const LENGTH: usize = 8;
    pub(crate) const KIND: usize = 12;
    pub(crate) const ZERO: usize = 13;
    pub(crate) const SEGMENT: usize = 16;
    pub(crate) const INDEX: usize = 24;
}

/// Where the fields stand, relative to the payload of a write head.
pub(crate) mod write_head {
    pub(crate) const DURABLE_SEGMENT: usize = 0;
    pub(crate) const DURABLE_OFFSET: usize = 8;
    pub(crate) const BYTES: usize = 12;
}

/// Where the fields stand, relative to the payload of a start frame.
pub(crate) mod start {
    pub(crate) const AFTER_SEGMENT: usize = 0;
    pub(crate) const AFTER_OFFSET: usize = 8;
    pub(crate) const ZERO: usize = 12;
}

const _: () = {
    assert!(segment_header::CRC + 4 == SEGMENT_HEADER_BYTES);
    assert!(SEGMENT_HEADER_BYTES <= BLOCK_BYTES_MIN as usize);
    assert!(frame_header::INDEX + 8 == FRAME_HEADER_BYTES);
    assert!(write_head::BYTES + 4 == WRITE_HEAD_BYTES);
    assert!(start::ZERO + 4 == START_BYTES);
    // A write head never straddles two blocks, so whether it is there does not depend on how a
    // write tore.
    assert!(FRAME_HEADER_BYTES + WRITE_HEAD_BYTES <= BLOCK_BYTES_MIN as usize);
};

/// Names a segment. Grows with every segment made and is never given out again while a file that
/// carried it, under whatever name, still exists: this is what tells a segment's frames from the
/// leftovers of the file's earlier life. Since every opening begins a segment of its own, it is
/// also what tells the writes of this opening from those of an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A place in the log. Ordered as the log is; `SegmentId(0)` stands before every segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub segment: SegmentId,
    pub offset: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.segment, self.offset)
    }
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Stands first in every write: how long the write is, and how far the log was durable when it
    /// was encoded.
    Write = 1,
    /// Stands second in the first write of a segment: where the segment before it ended.
    Start = 2,
    /// The caller's opaque record, of which only the latest counts.
    HardState = 3,
    /// The log begins anew: all entries so far are gone, the next has the frame's index + 1.
    Restart = 4,
    /// An entry: opaque payload with its index.
    Entry = 5,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        match byte {
            1 => Some(Kind::Write),
            2 => Some(Kind::Start),
            3 => Some(Kind::HardState),
            4 => Some(Kind::Restart),
            5 => Some(Kind::Entry),
            _ => None,
        }
    }
}

/// Why bytes are not what they should be. Each names what was found and what would have been right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{have} bytes where {need} are needed")]
    Short { need: usize, have: usize },
    #[error("checksum {found:08x}, computed {computed:08x}")]
    Checksum { found: u32, computed: u32 },
    #[error("frame kind {0}")]
    Kind(u8),
    #[error("a frame of segment {found}")]
    Segment { found: SegmentId },
    #[error("a frame that follows checksum {found:08x}, the one before it has {expected:08x}")]
    Previous { found: u32, expected: u32 },
    #[error("{0}")]
    Structure(&'static str),
    #[error("index {found} behind index {last}")]
    Index { found: u64, last: u64 },
}

/// Why the first block of a file is not a header of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    Short { have: usize },
    Magic { found: [u8; 8] },
    Version { found: u32 },
    Checksum { found: u32, computed: u32 },
    Block { found: u32 },
    Bytes { found: u32 },
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Writes a field into a record of ours, whose size is a constant.
fn put(record: &mut [u8], at: usize, field: &[u8]) {
    record
        .get_mut(at..at + field.len())
        .expect("invariant: a field lies within its record (asserted at compile time)")
        .copy_from_slice(field);
}

/// What the first block of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) id: SegmentId,
    /// The unit of its writes.
    pub(crate) block: u32,
    /// The size of the file.
    pub(crate) bytes: u32,
    /// Where the checksums of its frames start: a client that cannot know it cannot put bytes into
    /// a value that would pass for a frame.
    pub(crate) salt: u32,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut record = [0; SEGMENT_HEADER_BYTES];
        put(&mut record, segment_header::MAGIC, &MAGIC);
        put(&mut record, segment_header::VERSION, &VERSION.to_le_bytes());
        put(&mut record, segment_header::BLOCK, &self.block.to_le_bytes());
        put(&mut record, segment_header::ID, &self.id.0.to_le_bytes());
        put(&mut record, segment_header::BYTES, &self.bytes.to_le_bytes());
        put(&mut record, segment_header::SALT, &self.salt.to_le_bytes());
        let (covered, _) = record.split_at(segment_header::CRC);
        let crc = crc32fast::hash(covered);
        put(&mut record, segment_header::CRC, &crc.to_le_bytes());
        record
    }

    /// Magic, then version, then checksum, then sense: a later version is told from damage.
    pub(crate) fn decode(bytes: &[u8]) -> Result<SegmentHeader, HeaderFault> {
        let short = HeaderFault::Short { have: bytes.len() };
        let record = bytes.get(..SEGMENT_HEADER_BYTES).ok_or(short.clone())?;
        let word = |at| u32_at(record, at).ok_or(short.clone());
        let (magic, _) = record.split_first_chunk::<8>().ok_or(short.clone())?;
        if *magic != MAGIC {
            return Err(HeaderFault::Magic { found: *magic });
        }
        let version = word(segment_header::VERSION)?;
        if version != VERSION {
            return Err(HeaderFault::Version { found: version });
        }
        let found = word(segment_header::CRC)?;
        let (covered, _) = record.split_at(segment_header::CRC);
        let computed = crc32fast::hash(covered);
        if found != computed {
            return Err(HeaderFault::Checksum { found, computed });
        }
        let header = SegmentHeader {
            id: SegmentId(u64_at(record, segment_header::ID).ok_or(short.clone())?),
            block: word(segment_header::BLOCK)?,
            bytes: word(segment_header::BYTES)?,
            salt: word(segment_header::SALT)?,
        };
        if !block_is_usable(header.block) {
            return Err(HeaderFault::Block { found: header.block });
        }
        if header.bytes <= data_offset(header.block) || !header.bytes.is_multiple_of(header.block) {
            return Err(HeaderFault::Bytes { found: header.bytes });
        }
        Ok(header)
    }
}

/// Whether `block` can be the unit of a segment's writes.
pub(crate) fn block_is_usable(block: u32) -> bool {
    block.is_power_of_two() && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&block)
}

/// Where the first write of a segment stands: the header shares its block with nothing.
pub(crate) fn data_offset(block: u32) -> u32 {
    block.max(HEADER_AREA_BYTES)
}

/// Rounds up to whole blocks.
pub(crate) fn padded(bytes: usize, block: u32) -> usize {
    bytes.next_multiple_of(block as usize)
}

/// Bytes a frame takes.
pub(crate) fn frame_bytes(payload_bytes: usize) -> usize {
    FRAME_HEADER_BYTES + payload_bytes
}

/// What every frame of one write shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) segment: SegmentId,
    pub(crate) salt: u32,
}

/// A frame that passed its checksum. Whether it belongs where it stands is still to be asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) crc: u32,
    pub(crate) previous: u32,
    pub(crate) kind: Kind,
    pub(crate) segment: SegmentId,
    pub(crate) index: u64,
    pub(crate) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Verifies the frame at the start of `bytes`, which may be longer.
    pub(crate) fn decode(bytes: &'a [u8], salt: u32) -> Result<Frame<'a>, Fault> {
        let have = bytes.len();
        let short = |need| Fault::Short { need, have };
        let head = bytes.get(..FRAME_HEADER_BYTES).ok_or(short(FRAME_HEADER_BYTES))?;
        let word = |at| u32_at(head, at).ok_or(short(FRAME_HEADER_BYTES));
        let long = |at| u64_at(head, at).ok_or(short(FRAME_HEADER_BYTES));
        let length = word(frame_header::LENGTH)? as usize;
        let covered = bytes
            .get(frame_header::PREVIOUS..FRAME_HEADER_BYTES + length)
            .ok_or(short(FRAME_HEADER_BYTES + length))?;
        let found = word(frame_header::CRC)?;
        let computed = checksum(salt, covered);
        if found != computed {
            return Err(Fault::Checksum { found, computed });
        }
        let kind = *head.get(frame_header::KIND).ok_or(short(FRAME_HEADER_BYTES))?;
        if head.get(frame_header::ZERO..frame_header::SEGMENT) != Some(&[0; 3]) {
            return Err(Fault::Structure("a frame whose spare bytes are not zero"));
        }
        Ok(Frame {
            crc: found,
            previous: word(frame_header::PREVIOUS)?,
            kind: Kind::from_byte(kind).ok_or(Fault::Kind(kind))?,
            segment: SegmentId(long(frame_header::SEGMENT)?),
            index: long(frame_header::INDEX)?,
            payload: bytes.get(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + length).unwrap_or_default(),
        })
    }

    /// Bytes the frame takes.
    pub(crate) fn bytes(&self) -> usize {
        frame_bytes(self.payload.len())
    }
}

/// The checksum of a frame: all of it but the checksum itself, starting from the segment's salt.
fn checksum(salt: u32, covered: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(covered);
    hasher.finalize()
}

/// Whether the bytes at a frame's place name this segment, sound or not.
pub(crate) fn names_segment(bytes: &[u8], segment: SegmentId) -> bool {
    u64_at(bytes, frame_header::SEGMENT) == Some(segment.0)
}

/// The cheap half of recognising a write head of `segment` at a block's start, before any checksum
/// is computed.
pub(crate) fn may_be_write_head(bytes: &[u8], segment: SegmentId) -> bool {
    names_segment(bytes, segment) && bytes.get(frame_header::KIND) == Some(&(Kind::Write as u8))
}

/// What the head of a write says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WriteHead {
    /// Every write before this position was durable when this one was encoded. This is the evidence
    /// by which damage is told from a torn tail.
    pub(crate) durable: Position,
    /// Length of the whole write, head included, padding not.
    pub(crate) bytes: u32,
}

impl WriteHead {
    pub(crate) fn encode(&self) -> [u8; WRITE_HEAD_BYTES] {
        let mut record = [0; WRITE_HEAD_BYTES];
        put(&mut record, write_head::DURABLE_SEGMENT, &self.durable.segment.0.to_le_bytes());
        put(&mut record, write_head::DURABLE_OFFSET, &self.durable.offset.to_le_bytes());
        put(&mut record, write_head::BYTES, &self.bytes.to_le_bytes());
        record
    }

    pub(crate) fn decode(frame: &Frame<'_>) -> Result<WriteHead, Fault> {
        if frame.kind != Kind::Write {
            return Err(Fault::Structure("a frame in the middle of a write"));
        }
        if frame.payload.len() != WRITE_HEAD_BYTES {
            return Err(Fault::Structure("a write head of the wrong size"));
        }
        let need = Fault::Short { need: WRITE_HEAD_BYTES, have: frame.payload.len() };
        let segment = u64_at(frame.payload, write_head::DURABLE_SEGMENT).ok_or(need.clone())?;
        let offset = u32_at(frame.payload, write_head::DURABLE_OFFSET).ok_or(need.clone())?;
        let bytes = u32_at(frame.payload, write_head::BYTES).ok_or(need)?;
        if (bytes as usize) < frame.bytes() {
            return Err(Fault::Structure("a write shorter than its head"));
        }
        Ok(WriteHead { durable: Position { segment: SegmentId(segment), offset }, bytes })
    }
}

/// What the start frame of a segment says. The frame's index is the last one before the segment,
/// and `previous` of the write head in front of it is the checksum of the last frame there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// Where the log before this segment ended; segment 0 when there was none.
    pub(crate) after: Position,
}

impl Start {
    pub(crate) fn encode(&self) -> [u8; START_BYTES] {
        let mut record = [0; START_BYTES];
        put(&mut record, start::AFTER_SEGMENT, &self.after.segment.0.to_le_bytes());
        put(&mut record, start::AFTER_OFFSET, &self.after.offset.to_le_bytes());
        record
    }

    pub(crate) fn decode(frame: &Frame<'_>) -> Result<Start, Fault> {
        if frame.payload.len() != START_BYTES || u32_at(frame.payload, start::ZERO) != Some(0) {
            return Err(Fault::Structure("a start frame of the wrong size"));
        }
        let need = Fault::Short { need: START_BYTES, have: frame.payload.len() };
        let segment = u64_at(frame.payload, start::AFTER_SEGMENT).ok_or(need.clone())?;
        let offset = u32_at(frame.payload, start::AFTER_OFFSET).ok_or(need)?;
        Ok(Start { after: Position { segment: SegmentId(segment), offset } })
    }
}

/// Lays the frames of one write, one behind the other, into the buffer that goes to the disk.
pub(crate) struct Encoder<'a> {
    buffer: &'a mut [u8],
    at: usize,
    stamp: Stamp,
    /// Checksum of the frame before the next one.
    previous: u32,
}

impl<'a> Encoder<'a> {
    /// `previous` is the checksum of the last frame of the write before.
    pub(crate) fn new(buffer: &'a mut [u8], stamp: Stamp, previous: u32) -> Encoder<'a> {
        Encoder { buffer, at: 0, stamp, previous }
    }

    /// Appends a frame and returns where it starts. The payload comes in parts so that nobody has
    /// to join them first.
    pub(crate) fn frame(&mut self, kind: Kind, index: u64, payload: [&[u8]; 2]) -> usize {
        let [head, body] = payload;
        let length = head.len() + body.len();
        let start = self.at;
        let (_, rest) = self.buffer.split_at_mut(start);
        let (frame, _) = rest.split_at_mut(frame_bytes(length));
        let length = u32::try_from(length).expect("invariant: a write fits a segment of < 4 GiB");
        put(frame, frame_header::PREVIOUS, &self.previous.to_le_bytes());
        put(frame, frame_header::LENGTH, &length.to_le_bytes());
        put(frame, frame_header::KIND, &[kind as u8, 0, 0, 0]);
        put(frame, frame_header::SEGMENT, &self.stamp.segment.0.to_le_bytes());
        put(frame, frame_header::INDEX, &index.to_le_bytes());
        put(frame, FRAME_HEADER_BYTES, head);
        put(frame, FRAME_HEADER_BYTES + head.len(), body);
        let (_, covered) = frame.split_at(frame_header::PREVIOUS);
        self.previous = checksum(self.stamp.salt, covered);
        put(frame, frame_header::CRC, &self.previous.to_le_bytes());
        self.at = start + frame.len();
        start
    }

    /// Zeroes the padding (the buffer's memory may have held anything) and returns the last
    /// checksum.
    pub(crate) fn finish(self) -> u32 {
        let (_, padding) = self.buffer.split_at_mut(self.at);
        padding.fill(0);
        self.previous
    }
}
