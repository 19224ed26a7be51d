//! Files mapped into memory, read-only: the one place of this crate with `unsafe` code.
//!
//! A mapping can deliver a signal where a read would return an error. So the pages are brought in
//! when the mapping is made, by a call that reports an unreadable sector as an error
//! (`MADV_POPULATE_READ`, Linux 5.14). On an older kernel an unreadable sector ends the process
//! with SIGBUS: loud, though without a name.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use memmap2::{Advice, Mmap, MmapOptions};

/// A part of a file.
pub struct Mapped(Option<Mmap>);

impl Mapped {
    pub(super) fn open(path: &Path, range: Range<u64>) -> io::Result<Mapped> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        if range.start > range.end || range.end > bytes {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("bytes {}..{} of a file of {bytes}", range.start, range.end),
            ));
        }
        if range.is_empty() {
            return Ok(Mapped(None));
        }
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let map = map(&file, range.start, length)?;
        match map.advise(Advice::PopulateRead) {
            Ok(()) => {}
            // A kernel that does not know the call. Anything else is the medium's answer.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            Err(error) => return Err(error),
        }
        Ok(Mapped(Some(map)))
    }
}

#[allow(unsafe_code)]
fn map(file: &File, offset: u64, length: usize) -> io::Result<Mmap> {
    // SAFETY: the mapped bytes must not change, nor the file shrink, while a slice of them is
    // alive. Segments are never truncated while they have their name, the directory is locked to
    // one process by the server, and the log maps a file only in calls that return before any other
    // code of this thread runs, for bytes whose writes have completed (or, in recovery, before any
    // write is started). A foreign process that writes to the file all the same can make a checksum
    // fail; the bytes are only ever read as `u8`, which have no invalid values.
    unsafe { MmapOptions::new().offset(offset).len(length).map(file) }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}
