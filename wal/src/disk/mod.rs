//! The seam between the log and the medium: the few operations the log needs, and what each
//! promises.
//!
//! [`uring`] does them on a real directory, [`memory`] in memory with faults on demand. The log is
//! generic over [`Disk`], so the very same code runs in both; nothing above this module knows which
//! one it is. What only reads asks for a [`ReadDisk`], which [`read_only`] is on a real directory
//! without the means to change anything.
//!
//! What a power cut may do is part of the contract, because recovery is built on it:
//! - a write through a file from [`Disk::open`] is durable once it has returned, and only then;
//!   before, any subset of its sectors may be;
//! - a write through a file from [`Disk::create`] or [`Disk::open_cached`], and its length, are
//!   durable once a later [`File::sync`] has returned;
//! - a name that came, changed or went is durable once a later [`Disk::sync_directory`] has
//!   returned; before, any subset of the changes may be.

mod map;
pub mod memory;
pub mod read_only;
pub mod uring;

use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// A file as a directory lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub bytes: u64,
}

/// One directory of one medium, for reading.
pub trait ReadDisk {
    /// A part of a file, readable in place.
    type Map: AsRef<[u8]>;

    /// How a message should name a file.
    fn path(&self, name: &str) -> String;

    fn list(&self) -> impl Future<Output = io::Result<Vec<Listed>>>;

    /// Where a file is, if that is on a real file system: for whoever maps it for long.
    fn file_path(&self, name: &str) -> Option<PathBuf>;

    /// The bytes of a file in `range`, which must lie within it. Waits for the medium: not for the
    /// path of a write. A sector that cannot be read is an error here, not a signal later.
    fn map(&self, name: &str, range: Range<u64>) -> io::Result<Self::Map>;
}

/// The same, for writing too. Cloning gives another handle to the same.
pub trait Disk: ReadDisk + Clone + 'static {
    type File: File<Buffer = Self::Buffer>;
    /// Memory a write can take over. As large as asked for; what it holds at first is unspecified.
    type Buffer: AsRef<[u8]> + AsMut<[u8]> + 'static;

    /// The unit of writes: offsets and lengths are multiples of it.
    fn block_bytes(&self) -> u32;

    /// What an operator should know about this medium, such as that it is not durable.
    fn warnings(&self) -> Vec<String>;

    fn buffer(&self, bytes: usize) -> Self::Buffer;

    /// A new, empty file, whose writes are not durable before they are synced. An old one of that
    /// name is replaced.
    fn create(&self, name: &str) -> impl Future<Output = io::Result<Self::File>>;

    /// An existing file, whose writes are durable when they return.
    fn open(&self, name: &str) -> impl Future<Output = io::Result<Self::File>>;

    /// A file, made if there is none, whose writes go through the page cache and are durable once they are synced: for
    /// one that is read through a mapping while it is written.
    fn open_cached(&self, name: &str) -> impl Future<Output = io::Result<Self::File>>;

    fn rename(&self, from: &str, to: &str) -> impl Future<Output = io::Result<()>>;

    fn remove(&self, name: &str) -> impl Future<Output = io::Result<()>>;

    fn sync_directory(&self) -> impl Future<Output = io::Result<()>>;
}

/// An open file.
pub trait File: 'static {
    type Buffer;

    /// Writes the buffer at `offset` and returns how many bytes were written.
    fn write(&self, offset: u64, buffer: Self::Buffer) -> impl Future<Output = io::Result<usize>>;

    /// The same, and the thread waits for the medium: for a caller with nothing else to do meanwhile.
    fn write_waiting(&self, offset: u64, buffer: &Self::Buffer) -> io::Result<usize>;

    /// Writes pieces, each at its offset, one after the other, to a file from [`Disk::open_cached`]. Another thread may
    /// make and write them: the caller's does not wait. An error comes with the offset of its piece.
    fn write_pieces(
        &self,
        pieces: impl Iterator<Item = (u64, Vec<u8>)> + Send + 'static,
    ) -> impl Future<Output = Result<(), (u64, io::Error)>>;

    /// Makes all writes that have returned durable, the file's size included.
    fn sync(&self) -> impl Future<Output = io::Result<()>>;

    /// Has room kept up to `bytes`, and the file made that long if it is shorter: what is written there later finds room.
    /// Where there is too little the file stays as it is, and takes none.
    fn allocate(&self, bytes: u64) -> impl Future<Output = io::Result<()>>;

    /// Cuts the file off at `bytes`.
    fn truncate(&self, bytes: u64) -> impl Future<Output = io::Result<()>>;

    fn close(self) -> impl Future<Output = io::Result<()>>;
}
