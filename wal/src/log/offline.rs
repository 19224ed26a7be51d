//! The log in a directory that nobody has open, for tools: what the next opening would find, without
//! its repairs and without its own first write.

use super::check::{Checked, checked};
use super::read::Entries;
use crate::disk::ReadDisk;
use crate::error::OpenError;
use crate::recover::{self, Scan};

/// A log that is only read. Nobody may write to it meanwhile.
pub struct Offline<D> {
    disk: D,
    scan: Scan,
    warnings: Vec<String>,
}

impl<D: ReadDisk> Offline<D> {
    /// Reads and judges all files, and changes none.
    pub async fn open(disk: D) -> Result<Offline<D>, OpenError> {
        let scan = recover::scan(&disk).await?;
        let decision = recover::decide(&scan);
        let warnings = recover::report(&disk, &scan, &decision)?;
        Ok(Offline { disk, scan, warnings })
    }

    /// What has been read.
    pub fn checked(&self) -> Checked {
        checked(&self.scan)
    }

    /// The last hard state.
    pub fn hard_state(&self) -> Option<&[u8]> {
        self.scan.hard_state.as_deref()
    }

    /// What an operator should see: a tail that the next opening will cut, a file that is not ours.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Size of the segments, their unused room included.
    pub fn bytes(&self) -> u64 {
        self.scan.chain.iter().map(|segment| u64::from(segment.header.bytes)).sum()
    }

    /// The entries.
    pub fn entries(&self) -> Entries<'_, D> {
        let segments = self.scan.chain.iter().map(|segment| segment.header).collect();
        Entries::new(&self.disk, &self.scan.index, segments, self.scan.end())
    }
}
