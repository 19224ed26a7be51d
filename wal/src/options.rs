//! How a log is to be kept: its options, their bounds, and the sizes that follow from them.

use crate::error::OpenError;
use crate::format::{self, SegmentHeader, SegmentId};

/// Bounds of [`Options::segment_bytes`].
pub const SEGMENT_BYTES_MIN: u32 = 16 << 10;
pub const SEGMENT_BYTES_MAX: u32 = 1 << 30;
/// Blocks a segment must have at least, so that half of it holds an entry.
const SEGMENT_BLOCKS_MIN: u32 = 16;
/// Size of the segment that an opening begins with, unless segments are smaller anyway.
pub(crate) const OPENING_BYTES: u32 = 4 << 20;

/// How a log is to be kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size of a segment. Applies to new ones; the old keep theirs.
    pub segment_bytes: u32,
    /// A number that no client can know, drawn from the system's random source at each opening; a
    /// simulator draws it from its seed. Checksums start from it, so that nobody can put bytes into
    /// a value that recovery might take for a frame of the log.
    pub salt: u64,
}

impl Options {
    /// 64 MiB: at 40 MB/s of log a new segment every second and a half.
    pub const SEGMENT_BYTES_DEFAULT: u32 = 64 << 20;

    pub fn new(salt: u64) -> Options {
        Options { segment_bytes: Options::SEGMENT_BYTES_DEFAULT, salt }
    }

    pub(crate) fn check(&self, block: u32) -> Result<(), OpenError> {
        let least = segment_bytes_min(block);
        if (least..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes)
            && self.segment_bytes.is_multiple_of(block)
        {
            return Ok(());
        }
        Err(OpenError::Unusable(format!(
            "segments of {} bytes: must be a multiple of {block}, from {least} to {}",
            self.segment_bytes, SEGMENT_BYTES_MAX
        )))
    }

    pub(crate) fn header(&self, id: SegmentId, block: u32) -> SegmentHeader {
        SegmentHeader { id, block, bytes: self.segment_bytes, salt: mix(self.salt, id.0) }
    }
}

pub(crate) fn segment_bytes_min(block: u32) -> u32 {
    SEGMENT_BYTES_MIN.max(block * SEGMENT_BLOCKS_MIN)
}

/// A salt for each segment. The finalizer of splitmix64: every bit of the result depends on every
/// bit of both.
fn mix(salt: u64, id: u64) -> u32 {
    let mut z = salt ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as u32
}

/// What is kept of a segment: a sixteenth, within bounds: room for four elections at least, and for
/// no more than anybody needs until an operator has seen to the disk.
pub(crate) fn reserve_bytes(segment_bytes: u32, block: u32) -> usize {
    let least = 4 * block as usize;
    format::padded((segment_bytes as usize / 16).min(256 << 10), block).max(least)
}
