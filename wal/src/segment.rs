//! Segment files: their names, how one comes to be, and how it is used again.
//!
//! A file passes through three names, each telling how far it can be trusted:
//!
//! ```text
//!   ID.fill      being filled with zeros; worthless after a crash, removed
//!   ID.spare     complete, its blocks allocated and written, but no part of the log
//!   ID.segment   part of the log, or ready to be: its header is durable and says ID
//! ```
//!
//! A spare keeps the id it had as a segment in its name, for it still holds frames with that id: as
//! long as a file exists, no id that it may contain is given out again (see [`SegmentId`]).
//!
//! Every step that the next relies on is durable before the next begins:
//!
//! 1. `ID.fill`: zeros, in chunks, then one sync. From here on no write to the file changes its
//!    metadata.
//! 2. The header, with the new id. The name is not that of a segment yet, so a header torn here
//!    hurts nobody.
//! 3. Renamed to `ID.segment`, directory synced. Only now may a frame be written.
//!
//! A spare skips step 1. A segment that is no longer needed is renamed to a spare, the oldest one
//! first and each synced before the next, so that a crash leaves no hole in the middle of the log.
//!
//! Only the process that made a file ever writes to it. An earlier one may have been killed with
//! writes on their way to the disk, which may arrive long after the next has started; they find
//! either a segment behind whose end nobody looks any more, or a file without a name.

use std::io;
use std::rc::Rc;

use crate::disk::{Disk, File};
use crate::error::PrepareError;
use crate::format::{self, SegmentHeader, SegmentId};

const SEGMENT_SUFFIX: &str = ".segment";
const SPARE_SUFFIX: &str = ".spare";
const FILL_SUFFIX: &str = ".fill";

/// Zeros written at a time. Small enough that a log write queued behind one waits for less than a
/// millisecond.
const FILL_CHUNK_BYTES: u32 = 256 << 10;

/// How many unused segments are kept for later. More would only occupy the disk.
pub(crate) const SPARES_MAX: usize = 2;

/// What a file's name says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Segment(SegmentId),
    Spare(SegmentId),
    Fill,
    Foreign,
}

impl Name {
    pub(crate) fn parse(name: &str) -> Name {
        if name.ends_with(FILL_SUFFIX) {
            return Name::Fill;
        }
        if let Some(id) = name.strip_suffix(SEGMENT_SUFFIX).and_then(parse_id) {
            return Name::Segment(id);
        }
        if let Some(id) = name.strip_suffix(SPARE_SUFFIX).and_then(parse_id) {
            return Name::Spare(id);
        }
        Name::Foreign
    }
}

/// Exactly what [`SegmentId`] prints: no sign, no upper case, so that no two names mean one id.
fn parse_id(digits: &str) -> Option<SegmentId> {
    let id = SegmentId(u64::from_str_radix(digits, 16).ok()?);
    (id.to_string() == digits && id.0 != 0).then_some(id)
}

pub(crate) fn segment_name(id: SegmentId) -> String {
    format!("{id}{SEGMENT_SUFFIX}")
}

pub(crate) fn spare_name(id: SegmentId) -> String {
    format!("{id}{SPARE_SUFFIX}")
}

fn fill_name(id: SegmentId) -> String {
    format!("{id}{FILL_SUFFIX}")
}

/// A segment whose header is durable and in which no frame has been written.
pub(crate) struct Ready<F> {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Rc<F>,
}

type Step<T> = Result<T, PrepareError>;

fn failed<D: Disk>(
    disk: &D,
    action: &'static str,
    name: &str,
) -> impl FnOnce(io::Error) -> PrepareError {
    let file = disk.path(name);
    move |source| PrepareError { action, file, source }
}

/// Makes the segment that `header` describes, out of a spare if there is one.
pub(crate) async fn make<D: Disk>(
    disk: &D,
    header: SegmentHeader,
    spare: Option<SegmentId>,
) -> Step<Ready<D::File>> {
    let name = match spare {
        Some(spare) => spare_name(spare),
        None => fill(disk, header).await?,
    };
    let segment = segment_name(header.id);
    let begun = begin(disk, &name, &segment, header).await;
    if begun.is_err() {
        // Each try takes an id of its own: what stays behind would fill the disk. The next opening
        // removes what cannot be removed now.
        disk.remove(&name).await.ok();
        disk.remove(&segment).await.ok();
    }
    begun
}

/// Makes a segment that nothing was written to yet of a file of zeros, or of an earlier segment.
async fn begin<D: Disk>(
    disk: &D,
    name: &str,
    segment: &str,
    header: SegmentHeader,
) -> Step<Ready<D::File>> {
    let file = disk.open(name).await.map_err(failed(disk, "open", name))?;
    write_header(disk, name, &file, header).await?;
    disk.rename(name, segment).await.map_err(failed(disk, "rename", name))?;
    disk.sync_directory().await.map_err(failed(disk, "sync the directory of", segment))?;
    Ok(Ready { header, file: Rc::new(file) })
}

/// Makes a file of zeros and returns its name. On failure the file is removed, so that a full disk
/// is not kept full by half a segment.
async fn fill<D: Disk>(disk: &D, header: SegmentHeader) -> Step<String> {
    let name = fill_name(header.id);
    match fill_file(disk, &name, header).await {
        Ok(()) => Ok(name),
        Err(error) => match disk.remove(&name).await {
            Ok(()) => Err(error),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Err(error),
            // The first error is the cause; the file that stays behind is removed by the next
            // opening.
            Err(_) => Err(error),
        },
    }
}

async fn fill_file<D: Disk>(disk: &D, name: &str, header: SegmentHeader) -> Step<()> {
    let file = disk.create(name).await.map_err(failed(disk, "create", name))?;
    let filled = fill_zeros(disk, name, &file, header).await;
    let closed = file.close().await.map_err(failed(disk, "close", name));
    filled.and(closed)
}

async fn fill_zeros<D: Disk>(
    disk: &D,
    name: &str,
    file: &D::File,
    header: SegmentHeader,
) -> Step<()> {
    let mut offset = 0;
    while offset < header.bytes {
        let bytes = FILL_CHUNK_BYTES.min(header.bytes - offset);
        let mut zeros = disk.buffer(bytes as usize);
        zeros.as_mut().fill(0);
        write_all(disk, name, file, u64::from(offset), zeros).await?;
        offset += bytes;
    }
    file.sync().await.map_err(failed(disk, "sync", name))
}

async fn write_header<D: Disk>(
    disk: &D,
    name: &str,
    file: &D::File,
    header: SegmentHeader,
) -> Step<()> {
    let mut block = disk.buffer(format::data_offset(header.block) as usize);
    let (record, rest) = block.as_mut().split_at_mut(format::SEGMENT_HEADER_BYTES);
    record.copy_from_slice(&header.encode());
    rest.fill(0);
    write_all(disk, name, file, 0, block).await
}

/// A short write here is a disk that filled up.
async fn write_all<D: Disk>(
    disk: &D,
    name: &str,
    file: &D::File,
    offset: u64,
    buffer: D::Buffer,
) -> Step<()> {
    let bytes = buffer.as_ref().len();
    let written = file.write(offset, buffer).await.map_err(failed(disk, "write", name))?;
    if written == bytes {
        return Ok(());
    }
    let source =
        io::Error::new(io::ErrorKind::StorageFull, format!("{written} of {bytes} bytes written"));
    Err(failed(disk, "write", name)(source))
}

/// Takes a segment out of the log: keeps it as a spare where `keep` says so, else removes it.
/// Durable on return. Tells whether there is a spare now: where an attempt failed half-way, the
/// next one finds no file, and is content with that.
pub(crate) async fn retire<D: Disk>(disk: &D, id: SegmentId, keep: Keep) -> Step<Keep> {
    let name = segment_name(id);
    let retired = match keep {
        Keep::AsSpare => disk.rename(&name, &spare_name(id)).await,
        Keep::No => disk.remove(&name).await,
    };
    let kept = match retired {
        Ok(()) => keep,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Keep::No,
        Err(error) => return Err(failed(disk, "retire", &name)(error)),
    };
    let synced = disk.sync_directory().await;
    synced.map_err(failed(disk, "sync the directory of", &name))?;
    Ok(kept)
}

/// Whether a retired segment is worth keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    AsSpare,
    No,
}

/// A segment that is no longer needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retired {
    pub(crate) id: SegmentId,
    pub(crate) bytes: u32,
    pub(crate) origin: Origin,
}

/// Which process wrote a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This one, which knows that all its writes have completed.
    This,
    /// An earlier one, a write of which may reach the disk yet. Never written to.
    Earlier,
}

/// Background work of the log: recycles what was trimmed and makes the next segment. See
/// [`Log::prepare`](crate::Log::prepare).
#[must_use = "does nothing until it is run"]
pub struct Prepare<D: Disk> {
    pub(crate) disk: D,
    /// Files whose last write has completed.
    pub(crate) close: Vec<Rc<D::File>>,
    /// Oldest first.
    pub(crate) retire: Vec<Retired>,
    /// Complete files that are no part of the log, all of `segment_bytes`, all written by this
    /// process.
    pub(crate) spares: Vec<SegmentId>,
    /// The segment to make, if one is wanted.
    pub(crate) make: Option<SegmentHeader>,
    pub(crate) segment_bytes: u32,
}

/// What came of a [`Prepare`]; goes back to [`Log::prepared`](crate::Log::prepared).
#[must_use = "the log waits for it"]
pub struct Prepared<D: Disk> {
    pub(crate) ready: Option<Ready<D::File>>,
    pub(crate) spares: Vec<SegmentId>,
    /// Those a failure kept from being retired.
    pub(crate) retire: Vec<Retired>,
    pub(crate) error: Option<PrepareError>,
}

impl<D: Disk> Prepare<D> {
    /// Belongs on a background task queue. Each chunk of zeros is awaited before the next, so
    /// appends come through.
    pub async fn run(mut self) -> Prepared<D> {
        let mut ready = None;
        let error = self.steps(&mut ready).await.err();
        Prepared { ready, spares: self.spares, retire: self.retire, error }
    }

    async fn steps(&mut self, ready: &mut Option<Ready<D::File>>) -> Step<()> {
        for file in self.close.drain(..) {
            close(&self.disk, file).await?;
        }
        while let Some(retired) = self.retire.first().copied() {
            let kept = retire(&self.disk, retired.id, self.keep(retired)).await?;
            self.retire.remove(0);
            if kept == Keep::AsSpare {
                self.spares.push(retired.id);
            }
        }
        if let Some(header) = self.make {
            // Taken out first: after a failure half-way it is gone.
            let spare = self.spares.pop();
            *ready = Some(make(&self.disk, header, spare).await?);
        }
        Ok(())
    }

    fn keep(&self, retired: Retired) -> Keep {
        let fits = retired.bytes == self.segment_bytes && self.spares.len() < SPARES_MAX;
        if fits && retired.origin == Origin::This { Keep::AsSpare } else { Keep::No }
    }
}

/// Closes a file nobody else holds. One whose last write has completed but whose future is still
/// around closes with that future.
pub(crate) async fn close<D: Disk>(disk: &D, file: Rc<D::File>) -> Step<()> {
    match Rc::try_unwrap(file) {
        Ok(file) => file.close().await.map_err(failed(disk, "close", "a segment")),
        Err(_) => Ok(()),
    }
}
