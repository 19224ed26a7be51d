//! A tree received from another member: written beside the checkpoint, verified, and put in its place as a whole.
//!
//! # How it goes
//!
//! 1. [`Import::begin`] makes the file `NAME.incoming`. What an earlier transfer left there is gone.
//! 2. [`Import::write`] takes the chunks of an [`Export`](super::export::Export), in order. Each is verified before any
//!    of it is written (`assemble`), and what is written is flushed in pieces, so that a log write beside it does not
//!    wait for all of it.
//! 3. [`Import::finish`], once all are there: the set of free pages and the meta page are written, the file and its name
//!    made durable. It is a checkpoint file now, the first of its kind, under another name.
//! 4. [`Incoming::install`] renames it over the checkpoint and syncs the directory. Before the rename is durable a crash
//!    leaves the old checkpoint, after it the new one; there is nothing in between.
//!
//! Whoever holds the old tree, or a snapshot of it, goes on reading the old file, which has no name any more and is gone
//! with the last of them. The log is the caller's, and comes after: see `FORMAT.md`.
//!
//! An error, of the stream or of the disk, removes the file and leaves checkpoint and log as they were; the transfer may
//! begin anew. [`checkpoint::open`] removes what a crash leaves.
//!
//! What it does not do: two at a time; both would have the same file. Or go on with a transfer that broke off: see
//! [`export`](super::export).

use std::io;

use thiserror::Error;
use urd_wal::disk::{Disk, File};

pub use super::assemble::Flaw;
use super::assemble::{Assembly, BEGIN_BYTES};
use super::checkpoint::{self, Found, OpenError, Opened, grown};
use super::file::{Meta, Stamp};
use super::page::PAGE_BYTES;
pub use super::stream::{Header, Progress};

/// Why a tree was not received. Its file is removed; the member is as it was.
#[derive(Debug, Error)]
pub enum Failure {
    /// The stream is not one that an export made, or not all of it.
    #[error("the incoming tree is refused: {0}")]
    Refused(#[from] Flaw),
    /// There is no room for it.
    #[error("{file}: no room for {bytes} bytes: {source}")]
    Full {
        /// The file.
        file: String,
        /// The length it should have had.
        bytes: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused.
    #[error("{action} {file}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        file: String,
        /// What it said.
        source: io::Error,
    },
}

/// Pages that are written and flushed at once: a log write beside it waits for no more. Nobody waits for a state, so small
/// pieces cost nothing but its own time.
const FLUSH_PAGES: usize = 64;

/// The file in which a checkpoint file `name` to be is received.
pub(super) fn incoming_name(name: &str) -> String {
    format!("{name}.incoming")
}

/// A tree on its way in. See the module's page.
pub struct Import<D: Disk> {
    disk: D,
    /// The checkpoint's.
    name: String,
    file: D::File,
    assembly: Assembly,
    /// Where in the file the next page goes.
    end: u64,
    /// Bytes for which there is room.
    room: u64,
}

/// A tree that is whole and durable, and not in its place yet.
pub struct Incoming<D: Disk> {
    disk: D,
    name: String,
    meta: Meta,
}

impl<D: Disk> Import<D> {
    /// Begins to receive what will be the checkpoint file `name`.
    ///
    /// # Errors
    /// The system's.
    pub async fn begin(disk: D, name: &str) -> Result<Import<D>, Failure> {
        let incoming = incoming_name(name);
        remove_leftover(&disk, &incoming).await?;
        let io = failed(&disk, "create", &incoming);
        let file = disk.open_cached(&incoming).await.map_err(io)?;
        Ok(Import {
            disk,
            name: name.to_owned(),
            file,
            assembly: Assembly::new(),
            end: BEGIN_BYTES,
            room: 0,
        })
    }

    /// Takes in the next chunk: verifies it and writes what became complete. To be awaited to its end.
    ///
    /// # Errors
    /// See [`Failure`]; nothing more can be written then.
    pub async fn write(self, chunk: &[u8]) -> Result<Import<D>, Failure> {
        self.write_with_pauses(chunk, async || ()).await
    }

    /// The same, with `pause` awaited behind each piece of at most 64 pages.
    ///
    /// # Errors
    /// As [`Import::write`].
    pub async fn write_with_pauses(
        mut self,
        chunk: &[u8],
        pause: impl AsyncFnMut(),
    ) -> Result<Import<D>, Failure> {
        match self.put(chunk, pause).await {
            Ok(()) => Ok(self),
            Err(failure) => {
                self.discard().await;
                Err(failure)
            }
        }
    }

    /// What the stream says of itself, once its first chunk is there.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        self.assembly.header()
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.assembly.progress()
    }

    /// Whether the last chunk is there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.assembly.is_ended()
    }

    /// Makes the file durable.
    ///
    /// # Errors
    /// See [`Failure`]; a stream that has not come to its end is refused.
    pub async fn finish(mut self) -> Result<Incoming<D>, Failure> {
        match self.complete().await {
            Ok(meta) => Ok(Incoming { disk: self.disk, name: self.name, meta }),
            Err(failure) => {
                self.discard().await;
                Err(failure)
            }
        }
    }

    /// Gives up what has come so far.
    pub async fn discard(self) {
        let incoming = incoming_name(&self.name);
        // It has no use, and the next opening removes what stays behind.
        self.file.close().await.ok();
        self.disk.remove(&incoming).await.ok();
    }

    async fn put(&mut self, chunk: &[u8], mut pause: impl AsyncFnMut()) -> Result<(), Failure> {
        self.assembly.take(chunk)?;
        let pages = self.assembly.pages();
        self.make_room(self.end + pages.len() as u64).await?;
        for piece in pages.chunks(FLUSH_PAGES * PAGE_BYTES) {
            self.write_at(self.end, piece.to_vec()).await?;
            self.end += piece.len() as u64;
            self.flush().await?;
            pause().await;
        }
        Ok(())
    }

    async fn complete(&mut self) -> Result<Meta, Failure> {
        let (free, set, meta) = self.assembly.finish()?;
        let bytes = meta.end.0 * PAGE_BYTES as u64;
        debug_assert_eq!(free.0 * PAGE_BYTES as u64, self.end);
        self.make_room(bytes).await?;
        self.write_at(self.end, set).await?;
        self.flush().await?;
        let mut page = vec![0; PAGE_BYTES];
        meta.encode(&mut page);
        self.write_at(meta.place().0 * PAGE_BYTES as u64, page).await?;
        let cut = self.file.truncate(bytes).await;
        cut.map_err(failed(&self.disk, "truncate", &incoming_name(&self.name)))?;
        self.flush().await?;
        let named = self.disk.sync_directory().await;
        named.map_err(failed(&self.disk, "make durable the name of", &self.name))?;
        Ok(meta)
    }

    async fn make_room(&mut self, needed: u64) -> Result<(), Failure> {
        if needed <= self.room {
            return Ok(());
        }
        let bytes = grown(needed);
        let file = self.disk.path(&incoming_name(&self.name));
        let full = |source| Failure::Full { file, bytes, source };
        self.file.allocate(bytes).await.map_err(full)?;
        self.room = bytes;
        Ok(())
    }

    async fn write_at(&self, offset: u64, bytes: Vec<u8>) -> Result<(), Failure> {
        let written = self.file.write_pieces(std::iter::once((offset, bytes))).await;
        let io = failed(&self.disk, "write", &incoming_name(&self.name));
        written.map_err(|(_, source)| io(source))
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        let io = failed(&self.disk, "flush", &incoming_name(&self.name));
        self.file.sync().await.map_err(io)
    }
}

impl<D: Disk> Incoming<D> {
    /// The log that it contains: everything up to this.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.meta.stamp
    }

    /// What its meta page says.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The tree, before it is in its place: for who wants to look at its records first.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn look(&self) -> Result<Found, OpenError> {
        checkpoint::read(&self.disk, &incoming_name(&self.name)).await
    }

    /// Puts it in the place of the checkpoint, durably, and opens it there. No checkpoint may be written any more to the
    /// file that was there before.
    ///
    /// # Errors
    /// The system's, or as [`checkpoint::open`]. Which of the two files a start will find is unknown then: the process
    /// must end.
    pub async fn install(self) -> Result<Opened<D>, OpenError> {
        let Incoming { disk, name, .. } = self;
        let io = |action| {
            let file = disk.path(&name);
            move |source| OpenError::Io { action, file, source }
        };
        disk.rename(&incoming_name(&name), &name).await.map_err(io("replace"))?;
        disk.sync_directory().await.map_err(io("make durable the name of"))?;
        checkpoint::open(disk, &name).await
    }

    /// Gives it up.
    pub async fn discard(self) {
        // As an import's.
        self.disk.remove(&incoming_name(&self.name)).await.ok();
    }
}

/// Removes the file of a transfer that a crash, or a lost connection, has ended.
async fn remove_leftover<D: Disk>(disk: &D, incoming: &str) -> Result<(), Failure> {
    match disk.remove(incoming).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed(disk, "remove", incoming)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn failed<D: Disk>(
    disk: &D,
    action: &'static str,
    name: &str,
) -> impl FnOnce(io::Error) -> Failure + use<D> {
    let file = disk.path(name);
    move |source| Failure::Io { action, file, source }
}
