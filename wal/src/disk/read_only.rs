//! The medium for whoever only looks: a directory's files, listed and mapped.
//!
//! Needs no executor, and makes no file, not even for a moment. Does not lock the directory either:
//! whoever reads a log or a checkpoint must know that nobody writes it.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::map::Mapped;
use super::{Listed, ReadDisk};

/// A directory on a real file system, which must be there.
#[derive(Clone, Debug)]
pub struct ReadOnlyDisk {
    path: PathBuf,
}

impl ReadOnlyDisk {
    pub fn new(path: impl Into<PathBuf>) -> ReadOnlyDisk {
        ReadOnlyDisk { path: path.into() }
    }
}

impl ReadDisk for ReadOnlyDisk {
    type Map = Mapped;

    fn path(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    async fn list(&self) -> io::Result<Vec<Listed>> {
        list(&self.path)
    }

    fn file_path(&self, name: &str) -> Option<PathBuf> {
        Some(self.path.join(name))
    }

    fn map(&self, name: &str, range: Range<u64>) -> io::Result<Mapped> {
        Mapped::open(&self.path.join(name), range)
    }
}

/// The files of the directory at `path`.
pub(super) fn list(path: &Path) -> io::Result<Vec<Listed>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let bytes = entry.metadata()?.len();
        files.push(Listed { name: entry.file_name().to_string_lossy().into_owned(), bytes });
    }
    Ok(files)
}
