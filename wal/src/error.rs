//! What can go wrong, one type per operation, each holding only what that operation can meet. A
//! variant says what the caller must do, because that is the only question a caller has.

use std::io;

/// A place on the disk that holds something else than what the log knows was there.
///
/// Nothing is repaired and nothing is cut when this is found: what is lost was acknowledged, so a
/// member must not continue without it. Restore the file, or rebuild the member from its peers or a
/// backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: damaged at offset {offset}: found {found}; expected {expected}")]
pub struct Damage {
    pub file: String,
    pub offset: u64,
    pub found: String,
    pub expected: String,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An option out of its bounds, or a device we cannot write to.
    #[error("{0}")]
    Unusable(String),
    /// A segment written by a later version of this code.
    #[error("{file}: log format version {found}, this build reads {supported}: use a newer build")]
    Version { file: String, found: u32, supported: u32 },
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The disk has no room for the first segment.
    #[error("{file}: no room for a log segment of {bytes} bytes: free some space")]
    Full { file: String, bytes: u32, source: io::Error },
    #[error("{file}: {action}: {source}")]
    Io { action: &'static str, file: String, source: io::Error },
}

/// Why an append was not accepted. Nothing has been encoded, written or remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The next segment could not be prepared for want of room, and what is left is kept for what
    /// cannot be refused. Goes away when a later [`Prepare`](crate::Prepare) succeeds.
    #[error("the log has no room: the disk is full")]
    Full,
    /// The next segment is still being prepared: try again after
    /// [`Log::prepared`](crate::Log::prepared).
    #[error("the log has no room until the next segment is prepared")]
    NotReady,
    /// Will never fit: a write must fit a segment.
    #[error("a write of {bytes} bytes exceeds the {bytes_max} that fit a segment")]
    TooLarge { bytes: usize, bytes_max: usize },
    /// A write has failed before, or was abandoned. See [`WriteError`].
    #[error("the log has failed and accepts nothing more")]
    Failed,
}

/// A write whose extent on the disk is unknown.
///
/// **The process must end.** The write may be durable, or in part, or not at all; the kernel may
/// have dropped the data and report success the next time. Neither a retry nor a roll-back can
/// tell, only a new recovery can. The log has latched: every later append is refused with
/// [`AppendError::Failed`].
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("{file}: write of {bytes} bytes at offset {offset}: {source}")]
    Io { file: String, offset: u32, bytes: usize, source: io::Error },
    #[error("{file}: write at offset {offset}: {written} of {bytes} bytes written")]
    Short { file: String, offset: u32, bytes: usize, written: usize },
}

impl WriteError {
    /// The same for an opening, where nothing has been accepted yet and the caller only has to give
    /// up.
    pub(crate) fn into_source(self) -> io::Error {
        match self {
            WriteError::Io { source, .. } => source,
            short @ WriteError::Short { .. } => io::Error::other(short),
        }
    }
}

/// Why entries cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Before the first entry. Somebody who needs it wants a snapshot.
    #[error("entry {index} has been trimmed, the first is {first}")]
    Trimmed { index: u64, first: u64 },
    /// Behind the last entry.
    #[error("entry {index} is not there, the last is {last}")]
    Beyond { index: u64, last: u64 },
    /// Its write is still in flight: its appender has it in memory.
    #[error("entry {index} is not durable yet")]
    InFlight { index: u64 },
    #[error(transparent)]
    Damaged(#[from] Damage),
    #[error("{file}: {action}: {source}")]
    Io { action: &'static str, file: String, source: io::Error },
}

/// Why no segment could be prepared. Appends continue while the current segment has room; try again
/// later.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {action}: {source}")]
pub struct PrepareError {
    pub action: &'static str,
    pub file: String,
    pub source: io::Error,
}

impl PrepareError {
    /// Whether the disk (or the quota) is full.
    pub fn is_full(&self) -> bool {
        is_full(&self.source)
    }
}

/// Why a log was not closed cleanly. Nothing acknowledged is lost by it.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    #[error("{0} writes are still in flight")]
    InFlight(usize),
    #[error("the log has failed")]
    Failed,
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("{file}: {action}: {source}")]
    Io { action: &'static str, file: String, source: io::Error },
}

/// What a full check found to be wrong.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error(transparent)]
    Disk(#[from] OpenError),
    /// The files are sound, but say something else than the open log does.
    #[error("{what}: {disk} on the disk, {memory} in memory")]
    Differs { what: &'static str, disk: String, memory: String },
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
