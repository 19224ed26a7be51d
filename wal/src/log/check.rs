//! The full check: everything on the disk once more, against itself and against what is in memory.
//!
//! Tests end with it, and tools run [`check`] on a directory that nobody has open.

use super::Log;
use crate::disk::{Disk, ReadDisk};
use crate::error::{CheckError, OpenError};
use crate::index::Index;
use crate::recover::{self, Scan};
use crate::scan::SegmentScan;

/// What a full check has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub segments: usize,
    pub writes: u64,
    pub first: u64,
    pub last: u64,
}

/// Verifies the log in a directory that nobody has open, and changes nothing.
pub async fn check<D: ReadDisk>(disk: &D) -> Result<Checked, OpenError> {
    Ok(checked(&scan(disk).await?))
}

async fn scan<D: ReadDisk>(disk: &D) -> Result<Scan, OpenError> {
    let scan = recover::scan(disk).await?;
    let decision = recover::decide(&scan);
    recover::report(disk, &scan, &decision)?;
    Ok(scan)
}

pub(super) fn checked(scan: &Scan) -> Checked {
    Checked {
        segments: scan.chain.len(),
        writes: scan.chain.iter().map(SegmentScan::writes).sum(),
        first: scan.index.first(),
        last: scan.index.last(),
    }
}

impl<D: Disk> Log<D> {
    /// Reads everything again and compares it with what is in memory. While writes are in flight
    /// the files may say more than is durable, and only the durable end is compared. Not to be run
    /// beside a [`Prepare`](crate::Prepare), which takes files away.
    pub async fn check(&self) -> Result<Checked, CheckError> {
        let scan = scan(&self.disk).await?;
        let durable_end = self.window.durable_end();
        same("durable end", &scan.end().min(durable_end), &durable_end)?;
        if self.in_flight() == 0 {
            self.compare(&scan)?;
        }
        Ok(checked(&scan))
    }

    fn compare(&self, scan: &Scan) -> Result<(), CheckError> {
        same("end", &scan.end(), &self.tail().end_position())?;
        let crc = scan.chain.last().map_or(0, SegmentScan::crc);
        same("checksum of the last frame", &crc, &self.chain)?;
        same("hard state", &scan.hard_state, &self.hard_state)?;
        if self.restart_pending {
            // The files still have what was before.
            return Ok(());
        }
        let mut index = scan.index.clone();
        index.trim(self.index.first());
        let range = |index: &Index| (index.first(), index.last());
        same("first and last entry", &range(&index), &range(&self.index))?;
        for entry in self.index.first()..=self.index.last() {
            same("place of an entry", &index.get(entry), &self.index.get(entry))?;
        }
        Ok(())
    }
}

fn same<T: PartialEq + std::fmt::Debug>(
    what: &'static str,
    disk: &T,
    memory: &T,
) -> Result<(), CheckError> {
    if disk == memory {
        return Ok(());
    }
    Err(CheckError::Differs { what, disk: format!("{disk:?}"), memory: format!("{memory:?}") })
}
