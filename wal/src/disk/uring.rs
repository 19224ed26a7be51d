//! The medium for real: a directory, written through glommio with `O_DIRECT | O_DSYNC`.
//!
//! `O_DSYNC` makes one write one durable write: no separate flush, and none of the file's metadata
//! changes, because segments are written into blocks that already hold zeros. `O_DIRECT` keeps the
//! page cache out: the data is written once and read, if ever, after a restart.
//!
//! Where the file system cannot do `O_DIRECT` the same writes go through the page cache, still with
//! `O_DSYNC`: as durable, slower, and said in a warning. On tmpfs nothing is durable, which is said
//! too.
//!
//! Does not lock the directory; that is the server's business. Works only inside a glommio
//! executor.

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use glommio::GlommioError;
use glommio::io::{BufferedFile, Directory, DmaBuffer, DmaFile, OpenOptions};
use rustix::fs::{AtFlags, CWD, OFlags, StatxFlags};

use super::map::Mapped;
use super::read_only::list;
use super::{Disk, File, Listed, ReadDisk};
use crate::format;

/// Made, asked for its alignment and removed whenever a directory is opened. What a crash leaves of
/// it is removed as any file is that was never completed.
const PROBE: &str = "probe.fill";

/// What `statfs` calls a file system that lives in memory.
const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// How the files of a directory are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Through glommio's `DmaFile`. On tmpfs that leaves `O_DIRECT` off by itself.
    Direct,
    /// Through the page cache.
    Buffered,
}

/// A directory on a real file system.
#[derive(Clone)]
pub struct UringDisk {
    shared: Rc<Shared>,
}

struct Shared {
    path: PathBuf,
    directory: Directory,
    mode: Mode,
    block: u32,
    warnings: Vec<String>,
}

impl UringDisk {
    /// Opens the directory, making it (and its name durable) if there is none.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<UringDisk> {
        let path = path.as_ref().to_owned();
        make_directory(&path)?;
        // Absolute, because glommio resolves a relative path anew at each call.
        let path = fs::canonicalize(&path)?;
        let directory = Directory::open(&path).await?;
        let medium = probe(&path).await?;
        let Medium { mode, block, warnings } = medium;
        Ok(UringDisk { shared: Rc::new(Shared { path, directory, mode, block, warnings }) })
    }

    fn join(&self, name: &str) -> PathBuf {
        self.shared.path.join(name)
    }

    async fn open_file(&self, name: &str, options: &OpenOptions) -> io::Result<UringFile> {
        let path = self.join(name);
        let opened = match self.shared.mode {
            Mode::Direct => options.dma_open(&path).await.map(Opened::Direct),
            Mode::Buffered => options.buffered_open(&path).await.map(Opened::Buffered),
        };
        // The first error is the cause: a file that could not be made cannot be opened either.
        let opened = opened.map_err(with_code)?;
        let waiting = open_waiting(&path, self.shared.mode)?;
        Ok(UringFile { opened, waiting: Arc::new(waiting) })
    }
}

/// Makes a directory that only its owner can enter, unless it is there, and makes its name durable; parents included.
///
/// # Errors
/// The system's.
pub fn make_directory(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !path.is_dir() {
        make_directory(parent)?;
        match fs::DirBuilder::new().mode(0o700).create(path) {
            // Somebody else was faster.
            Err(_) if path.is_dir() => {}
            made => made?,
        }
    }
    // Whoever made it may have ended before this.
    match fs::File::open(parent).and_then(|parent| parent.sync_all()) {
        // It can be written and not read: nobody but its owner can do it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// What there is to know about a directory before the first file is written there.
struct Medium {
    mode: Mode,
    block: u32,
    warnings: Vec<String>,
}

/// Finds out how this directory can be written. Asks rather than tries where the kernel can answer
/// (`STATX_DIOALIGN`, Linux 6.1), because a trial write would fail on a full disk, which must not
/// keep a log from being opened.
async fn probe(directory: &Path) -> io::Result<Medium> {
    let path = directory.join(PROBE);
    let kind = rustix::fs::statfs(directory)?.f_type as u64;
    if kind == TMPFS_MAGIC || kind == RAMFS_MAGIC {
        let warning = format!(
            "{}: a file system in memory: nothing written here survives a restart of the machine",
            directory.display()
        );
        let mode = if kind == TMPFS_MAGIC { Mode::Direct } else { Mode::Buffered };
        return Ok(Medium { mode, block: format::HEADER_AREA_BYTES, warnings: vec![warning] });
    }
    let file = options_new().buffered_open(&path).await?;
    let answer = probe_file(&path).await;
    file.close().await?;
    glommio::io::remove(&path).await?;
    match answer? {
        Some(block) if format::block_is_usable(block) => {
            Ok(Medium { mode: Mode::Direct, block, warnings: Vec::new() })
        }
        Some(block) => Err(io::Error::other(format!(
            "O_DIRECT here wants blocks of {block} bytes, the log can do {} to {}",
            format::BLOCK_BYTES_MIN,
            format::BLOCK_BYTES_MAX
        ))),
        None => Ok(Medium {
            mode: Mode::Buffered,
            block: format::HEADER_AREA_BYTES,
            warnings: vec![format!(
                "{}: this file system does not support O_DIRECT: the log is written through the \
                 page cache, which is as durable but slower",
                directory.display()
            )],
        }),
    }
}

/// The alignment `O_DIRECT` demands of offsets and lengths; `None` where there is no `O_DIRECT`.
async fn probe_file(path: &Path) -> io::Result<Option<u32>> {
    let status = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::DIOALIGN)?;
    if status.stx_mask & StatxFlags::DIOALIGN.bits() != 0 {
        return Ok(match status.stx_dio_offset_align {
            0 => None,
            align => Some(align.max(format::BLOCK_BYTES_MIN)),
        });
    }
    // An older kernel or file system: whoever can open so can also write whole pages.
    match options_new().dma_open(path).await {
        Ok(file) => {
            let align = u32::try_from(file.alignment()).map_err(io::Error::other)?;
            file.close().await?;
            Ok(Some(align.max(format::HEADER_AREA_BYTES)))
        }
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Write-only on purpose. glommio tries a read to find out whether the device can be polled, and would then busy-poll
/// every write on this core. A durable write ends in a kernel worker of the same core, which the polling keeps from
/// running until the scheduler's next tick: 4 ms instead of 0.1. A file that cannot be read is not polled.
fn options_new() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
}

fn options_existing() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(OFlags::DSYNC.bits() as i32);
    options
}

/// The file once more, for writes that the thread waits for.
fn open_waiting(path: &Path, mode: Mode) -> io::Result<fs::File> {
    let open = |flags: OFlags| {
        let flags = (flags | OFlags::DSYNC).bits() as i32;
        fs::OpenOptions::new().write(true).custom_flags(flags).open(path)
    };
    match mode {
        // tmpfs may know no O_DIRECT.
        Mode::Direct => open(OFlags::DIRECT).or_else(|_| open(OFlags::empty())),
        Mode::Buffered => open(OFlags::empty()),
    }
}

/// Memory for a write.
pub enum UringBuffer {
    Direct(DmaBuffer),
    Buffered(Vec<u8>),
}

impl AsRef<[u8]> for UringBuffer {
    fn as_ref(&self) -> &[u8] {
        match self {
            UringBuffer::Direct(buffer) => buffer.as_bytes(),
            UringBuffer::Buffered(buffer) => buffer,
        }
    }
}

impl AsMut<[u8]> for UringBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        match self {
            UringBuffer::Direct(buffer) => buffer.as_bytes_mut(),
            UringBuffer::Buffered(buffer) => buffer,
        }
    }
}

/// An open file of a directory.
pub struct UringFile {
    opened: Opened,
    /// For a thread that waits.
    waiting: Arc<fs::File>,
}

enum Opened {
    Direct(DmaFile),
    Buffered(BufferedFile),
}

impl File for UringFile {
    type Buffer = UringBuffer;

    async fn write(&self, offset: u64, buffer: UringBuffer) -> io::Result<usize> {
        let written = match (&self.opened, buffer) {
            (Opened::Direct(file), UringBuffer::Direct(buffer)) => {
                file.write_at(buffer, offset).await
            }
            (Opened::Buffered(file), UringBuffer::Buffered(buffer)) => {
                file.write_at(buffer, offset).await
            }
            (Opened::Direct(_), UringBuffer::Buffered(_))
            | (Opened::Buffered(_), UringBuffer::Direct(_)) => {
                return Err(io::Error::other("a buffer of another disk"));
            }
        };
        written.map_err(with_code)
    }

    fn write_waiting(&self, offset: u64, buffer: &UringBuffer) -> io::Result<usize> {
        loop {
            match self.waiting.write_at(buffer.as_ref(), offset) {
                // Nothing was written: a signal came first.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => return written,
            }
        }
    }

    /// By a thread of the executor's pool. Through io_uring, writes to the page cache of ext4 go to kernel workers one by
    /// one, and each waits for a turn of a busy shard: a checkpoint of many small writes took ten times as long.
    async fn write_pieces(
        &self,
        pieces: impl Iterator<Item = (u64, Vec<u8>)> + Send + 'static,
    ) -> Result<(), (u64, io::Error)> {
        let file = Arc::clone(&self.waiting);
        let write = move || {
            for (offset, bytes) in pieces {
                file.write_all_at(&bytes, offset).map_err(|error| (offset, error))?;
            }
            Ok(())
        };
        glommio::executor().spawn_blocking(write).await
    }

    async fn sync(&self) -> io::Result<()> {
        match &self.opened {
            Opened::Direct(file) => file.fdatasync().await.map_err(with_code),
            Opened::Buffered(file) => file.fdatasync().await.map_err(with_code),
        }
    }

    async fn allocate(&self, bytes: u64) -> io::Result<()> {
        let before = self.waiting.metadata()?.len();
        let allocated = match &self.opened {
            Opened::Direct(file) => file.pre_allocate(bytes, false).await.map_err(with_code),
            Opened::Buffered(file) => file.pre_allocate(bytes, false).await.map_err(with_code),
        };
        if allocated.is_err() {
            // ext4 takes what room there is before it finds that this is too little.
            self.truncate(before).await?;
        }
        allocated
    }

    async fn truncate(&self, bytes: u64) -> io::Result<()> {
        match &self.opened {
            Opened::Direct(file) => file.truncate(bytes).await.map_err(with_code),
            Opened::Buffered(file) => file.truncate(bytes).await.map_err(with_code),
        }
    }

    async fn close(self) -> io::Result<()> {
        match self.opened {
            Opened::Direct(file) => file.close().await.map_err(with_code),
            Opened::Buffered(file) => file.close().await.map_err(with_code),
        }
    }
}

/// glommio's own conversion replaces the error code by a text; the code is what an operator looks
/// up.
fn with_code(error: GlommioError<()>) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.into(),
    }
}

impl ReadDisk for UringDisk {
    type Map = Mapped;

    fn path(&self, name: &str) -> String {
        self.join(name).display().to_string()
    }

    async fn list(&self) -> io::Result<Vec<Listed>> {
        list(&self.shared.path)
    }

    fn file_path(&self, name: &str) -> Option<PathBuf> {
        Some(self.join(name))
    }

    fn map(&self, name: &str, range: Range<u64>) -> io::Result<Mapped> {
        Mapped::open(&self.join(name), range)
    }
}

impl Disk for UringDisk {
    type File = UringFile;
    type Buffer = UringBuffer;

    fn block_bytes(&self) -> u32 {
        self.shared.block
    }

    fn warnings(&self) -> Vec<String> {
        self.shared.warnings.clone()
    }

    fn buffer(&self, bytes: usize) -> UringBuffer {
        match self.shared.mode {
            Mode::Direct => UringBuffer::Direct(glommio::allocate_dma_buffer(bytes)),
            Mode::Buffered => UringBuffer::Buffered(vec![0; bytes]),
        }
    }

    async fn create(&self, name: &str) -> io::Result<UringFile> {
        self.open_file(name, &options_new()).await
    }

    async fn open(&self, name: &str) -> io::Result<UringFile> {
        self.open_file(name, &options_existing()).await
    }

    async fn open_cached(&self, name: &str) -> io::Result<UringFile> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).mode(0o600);
        let opened = options.buffered_open(self.join(name)).await.map_err(with_code)?;
        let waiting = fs::OpenOptions::new().write(true).open(self.join(name))?;
        Ok(UringFile { opened: Opened::Buffered(opened), waiting: Arc::new(waiting) })
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        glommio::io::rename(self.join(from), self.join(to)).await.map_err(with_code)
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        glommio::io::remove(self.join(name)).await.map_err(with_code)
    }

    async fn sync_directory(&self) -> io::Result<()> {
        self.shared.directory.sync().await.map_err(with_code)
    }
}
