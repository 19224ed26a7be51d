//! Reading entries back, for replay after an opening and for peers that are behind.

use super::Log;
use crate::disk::{Disk, ReadDisk};
use crate::error::{Damage, ReadError};
use crate::format::{Frame, Kind, Position, SegmentHeader};
use crate::index::{Index, Location};
use crate::{scan, segment};

/// The entries of a log, of an open one or of an [`Offline`](crate::Offline) one.
pub struct Entries<'a, D> {
    disk: &'a D,
    index: &'a Index,
    segments: Vec<SegmentHeader>,
    /// A frame that starts before it is durable, and all before that frame.
    durable_end: Position,
}

impl<D: Disk> Log<D> {
    /// What can be read back.
    pub fn entries(&self) -> Entries<'_, D> {
        let segments = self.segments.iter().map(|segment| segment.header).collect();
        Entries::new(&self.disk, &self.index, segments, self.window.durable_end())
    }

    /// See [`Entries::read`].
    pub fn read(
        &self,
        lo: u64,
        hi: u64,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
        self.entries().read(lo, hi, bytes_max)
    }
}

impl<'a, D: ReadDisk> Entries<'a, D> {
    pub(super) fn new(
        disk: &'a D,
        index: &'a Index,
        segments: Vec<SegmentHeader>,
        durable_end: Position,
    ) -> Entries<'a, D> {
        Entries { disk, index, segments, durable_end }
    }

    /// The first entry; one more than [`last`](Entries::last) when there are none.
    pub fn first(&self) -> u64 {
        self.index.first()
    }

    /// The last entry, durable or not.
    pub fn last(&self) -> u64 {
        self.index.last()
    }

    /// The entries from `lo` on, up to but without `hi`, and not many more bytes than `bytes_max`;
    /// at least one, and only durable ones. Waits for the disk: for catching up and replay, not for
    /// the path of a request. To stream a long log, ask for what follows the last entry of the
    /// answer.
    pub fn read(
        &self,
        lo: u64,
        hi: u64,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut index = lo;
        while index < hi && (entries.is_empty() || bytes < bytes_max) {
            let run = match self.run(index, hi, bytes_max - bytes) {
                Ok(run) => run,
                // What there is, is an answer. The next call will say why there is no more.
                Err(_) if !entries.is_empty() => break,
                Err(error) => return Err(error),
            };
            bytes += run.iter().map(|location| location.bytes as usize).sum::<usize>();
            self.read_run(index, &run, &mut entries)?;
            index += run.len() as u64;
        }
        Ok(entries)
    }

    /// Where the entries from `lo` on stand, as far as they are durable, in one segment, in
    /// ascending order and within the bounds given. At least one.
    fn run(&self, lo: u64, hi: u64, bytes_max: usize) -> Result<Vec<Location>, ReadError> {
        if lo < self.index.first() {
            return Err(ReadError::Trimmed { index: lo, first: self.index.first() });
        }
        let mut run: Vec<Location> = Vec::new();
        let mut bytes = 0;
        for index in lo..hi {
            let Some(location) = self.index.get(index) else {
                break;
            };
            if let Some(last) = run.last() {
                let apart = location.segment != last.segment || location.offset < last.offset;
                if apart || bytes >= bytes_max {
                    break;
                }
            }
            if location.position() >= self.durable_end {
                return if run.is_empty() { Err(ReadError::InFlight { index }) } else { Ok(run) };
            }
            bytes += location.bytes as usize;
            run.push(location);
        }
        if run.is_empty() {
            return Err(ReadError::Beyond { index: lo, last: self.index.last() });
        }
        Ok(run)
    }

    /// Reads what [`run`](Entries::run) found, through one mapping.
    fn read_run(
        &self,
        lo: u64,
        run: &[Location],
        entries: &mut Vec<(u64, Vec<u8>)>,
    ) -> Result<(), ReadError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Ok(());
        };
        let start = scan::frame_range(first.offset, first.bytes).start;
        let end = scan::frame_range(last.offset, last.bytes).end;
        let segment = self.segments.iter().find(|segment| segment.id == first.segment);
        let segment = segment.expect("invariant: an indexed entry stands in a segment of the log");
        let salt = segment.salt;
        let name = segment::segment_name(first.segment);
        let map = self.disk.map(&name, start..end).map_err(|source| ReadError::Io {
            action: "read",
            file: self.disk.path(&name),
            source,
        })?;
        for (index, location) in (lo..).zip(run) {
            let at = u64::from(location.offset) - start;
            let rest = map.as_ref().get(at as usize..).unwrap_or_default();
            let payload = self.verify(index, location, salt, rest)?;
            entries.push((index, payload.to_vec()));
        }
        Ok(())
    }

    /// The payload of the entry whose frame begins `bytes`: what was sound when the log was opened,
    /// or written since, may have been damaged in the meantime.
    fn verify<'b>(
        &self,
        index: u64,
        location: &Location,
        salt: u32,
        bytes: &'b [u8],
    ) -> Result<&'b [u8], Damage> {
        let damage = |found: String| Damage {
            file: self.disk.path(&segment::segment_name(location.segment)),
            offset: u64::from(location.offset),
            found,
            expected: format!("entry {index} of {} bytes", location.bytes),
        };
        let frame = Frame::decode(bytes, salt).map_err(|fault| damage(fault.to_string()))?;
        let same = frame.kind == Kind::Entry
            && frame.index == index
            && frame.segment == location.segment
            && frame.payload.len() == location.bytes as usize;
        if !same {
            return Err(damage(format!(
                "{:?} {} of {} bytes",
                frame.kind,
                frame.index,
                frame.payload.len()
            )));
        }
        Ok(frame.payload)
    }
}
