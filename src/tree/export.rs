//! A snapshot as a sequence of chunks, for a member that is behind, and for a backup.
//!
//! The pages beneath the root go out as a file holds them, with their trailers: those in the file as they are there, so
//! that what the medium does to one shows at the receiver too. A page comes before what it refers to, in the order of
//! the keys (`stream`), so that whoever receives it knows at every byte which page comes next and needs no table of them.
//!
//! The writer goes on meanwhile, and none of what it does shows. The snapshot is held until the export is dropped: the
//! pages that the tree has replaced since are not free before.
//!
//! What it does not do: begin in the middle. A transfer that was interrupted starts again, with a newer snapshot. To go on
//! where it ended, both ends would have to agree on the snapshot, which the sender would have to keep.

use bytes::Bytes;

use super::check::Damage;
use super::file::Stamp;
use super::map::Shape;
use super::read::Source;
use super::snapshot::Snapshot;
use super::stream::{self, CHUNK_BYTES, CHUNK_HEAD_BYTES, Header, Progress, Reference, references};

/// See the module's page.
pub struct Export {
    snapshot: Snapshot,
    header: Header,
    /// What is still to be sent, the next one last.
    stack: Vec<Reference>,
    /// The next chunk, as far as it is made; with more behind it where a long run was in its way.
    chunk: Vec<u8>,
    /// Its number.
    number: u64,
    pages: u64,
    checksum: crc32fast::Hasher,
    is_ended: bool,
    /// [`CHUNK_BYTES`] but in tests.
    chunk_bytes: usize,
}

impl Export {
    /// Of `snapshot`, which contains the log up to `stamp`.
    #[must_use]
    pub fn new(snapshot: Snapshot, stamp: Stamp) -> Export {
        let sizes = snapshot.sizes();
        let header = Header {
            version: snapshot.version(),
            root: snapshot.root(),
            depth: sizes.depth as u64,
            records: sizes.records,
            pages: sizes.pages,
            stamp,
        };
        let stack = vec![Reference::node(header.root)];
        let mut export = Export {
            snapshot,
            header,
            stack,
            chunk: vec![0; CHUNK_HEAD_BYTES],
            number: 0,
            pages: 0,
            checksum: crc32fast::Hasher::new(),
            is_ended: false,
            chunk_bytes: CHUNK_BYTES,
        };
        export.push(&header.encode());
        export
    }

    /// The same in smaller chunks; each has some of the stream.
    #[must_use]
    pub fn in_chunks_of(self, bytes: usize) -> Export {
        Export { chunk_bytes: bytes.clamp(CHUNK_HEAD_BYTES + 1, CHUNK_BYTES), ..self }
    }

    /// What the stream says of itself first.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress { pages: self.pages, of: self.header.pages.max(self.pages) }
    }

    /// The next chunk, of [`CHUNK_BYTES`] at most; `None` behind the last one. It may wait for the medium, where a page
    /// has to be read: not for a thread that others wait for.
    ///
    /// # Errors
    /// A page of this member's own file is damaged. The stream is not to be gone on with.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, Damage> {
        while self.chunk.len() < self.chunk_bytes && !self.is_ended {
            match self.stack.pop() {
                Some(next) => self.page(next)?,
                None => self.end(),
            }
        }
        if self.chunk.len() == CHUNK_HEAD_BYTES {
            return Ok(None);
        }
        let mut next = Vec::with_capacity(self.chunk_bytes);
        next.resize(CHUNK_HEAD_BYTES, 0);
        next.extend_from_slice(self.chunk.get(self.chunk_bytes..).unwrap_or_default());
        let mut chunk = std::mem::replace(&mut self.chunk, next);
        chunk.truncate(self.chunk_bytes);
        chunk[..CHUNK_HEAD_BYTES].copy_from_slice(&self.number.to_le_bytes());
        self.number += 1;
        Ok(Some(Bytes::from(chunk)))
    }

    /// Sends a page, and whatever it refers to next.
    fn page(&mut self, next: Reference) -> Result<(), Damage> {
        let begin = self.chunk.len();
        self.pages += self.snapshot.directory().copy(next.shape, next.page, &mut self.chunk)?;
        self.checksum.update(&self.chunk[begin..]);
        if next.shape == Shape::Node {
            self.stack.extend(references(&self.snapshot.source().node(next.page)).rev());
        }
        Ok(())
    }

    fn end(&mut self) {
        self.push(&stream::end(self.pages));
        let checksum = self.checksum.clone().finalize();
        self.chunk.extend_from_slice(&checksum.to_le_bytes());
        self.is_ended = true;
    }

    fn push(&mut self, bytes: &[u8]) {
        self.checksum.update(bytes);
        self.chunk.extend_from_slice(bytes);
    }
}
