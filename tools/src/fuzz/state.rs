//! Target `state`: another member's whole state on its way in, edited.
//!
//! What is taken over must be what was sent; everything else is refused. Where checksums were made right again, a page may
//! say anything, and must be refused or read without a panic.

use fastrand::Rng;
use futures_lite::future::block_on;
use urd::ids::Index;
use urd::store::Store;
use urd::tree::import::Import;
use urd_wal::disk::memory::MemoryDisk;

use super::checkpoint::{look, mend_pages, places};
use super::edits::{self, Edits, File};
use super::{Outcome, Target, samples};

const BLOCK: u32 = 4096;
const NAME: &str = "checkpoint";

/// From `FORMAT.md`: the number in front of a chunk, the stream's header and its end.
const CHUNK_HEAD_BYTES: usize = 8;
const HEADER_BYTES: usize = 84;
const END_BYTES: usize = 20;
const CHUNK_BYTES: usize = 512 << 10;

struct Set {
    /// One file a chunk.
    chunks: Vec<File>,
    state: (Index, u32),
}

/// See the module's page.
pub struct State {
    sets: Vec<Set>,
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// Makes the streams that are edited.
    pub fn new() -> Self {
        let full = |entries| {
            let mut store = Store::new();
            samples::fill(&mut store, entries);
            send(&store)
        };
        Self { sets: vec![send(&samples::first_store()), full(3), full(80)] }
    }
}

fn send(store: &Store) -> Set {
    let view = store.view();
    let mut export = view.export();
    let mut chunks = Vec::new();
    while let Some(chunk) = export.next_chunk().expect("a sound tree") {
        chunks.push(File { name: format!("{:04}", chunks.len()), bytes: chunk.to_vec() });
    }
    Set { chunks, state: samples::digest(&view) }
}

impl Target for State {
    fn name(&self) -> &'static str {
        "state"
    }

    fn about(&self) -> &'static str {
        "edits of a state in transfer: which state, flags (1: mend checksums), then 12 bytes an edit"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        edits::seeds(self.sets.len())
    }

    fn mutate(&self, input: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
        edits::mutate(input, other, random);
    }

    fn run(&self, input: &[u8]) -> Outcome {
        let edits = Edits::read(input, self.sets.len());
        let set = &self.sets[edits.set];
        let mut chunks = set.chunks.clone();
        edits.apply(&mut chunks, |file| {
            let mut all = vec![0, CHUNK_HEAD_BYTES];
            all.extend(places(&file.bytes, CHUNK_HEAD_BYTES + HEADER_BYTES));
            all.push(file.bytes.len().saturating_sub(END_BYTES));
            all
        });
        if edits.mends {
            mend(&mut chunks);
        }
        let is_mended = edits.mends && input.len() > edits::HEAD_BYTES;
        let mut outcome = Outcome::default();
        block_on(take(&chunks, (!is_mended).then_some(set.state), &mut outcome));
        outcome
    }
}

/// Takes a state over as a member does.
async fn take(chunks: &[File], state: Option<(Index, u32)>, outcome: &mut Outcome) {
    let disk = MemoryDisk::new(BLOCK);
    let mut import = Import::begin(disk.clone(), NAME).await.expect("a disk that works");
    for chunk in chunks {
        import = match import.write(&chunk.bytes).await {
            Ok(import) => import,
            Err(failure) => return refused(&disk, &failure, outcome),
        };
    }
    let incoming = match import.finish().await {
        Ok(incoming) => incoming,
        Err(failure) => return refused(&disk, &failure, outcome),
    };
    let opened = incoming.install().await.expect("what was received whole can be opened");
    outcome.note("taken");
    let states = state.map(|state| [state]);
    look(opened.tree, states.as_ref().map(|states| &states[..]), outcome);
}

fn refused(disk: &MemoryDisk, failure: &urd::tree::import::Failure, outcome: &mut Outcome) {
    outcome.text(failure);
    assert_eq!(disk.names(), Vec::<String>::new(), "a refused state leaves nothing");
}

/// Makes the checksums of the header, the pages and the end right, where the stream is one chunk long.
fn mend(chunks: &mut [File]) {
    let [File { bytes, .. }] = chunks else { return };
    let pages = CHUNK_HEAD_BYTES + HEADER_BYTES;
    if bytes.len() < pages + END_BYTES || bytes.len() > CHUNK_BYTES {
        return;
    }
    let put = |bytes: &mut [u8], from: usize, at: usize| {
        let crc = crc32fast::hash(&bytes[from..at]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    };
    put(bytes, CHUNK_HEAD_BYTES, pages - 4);
    mend_pages(bytes, pages);
    let end = bytes.len() - 4;
    put(bytes, CHUNK_HEAD_BYTES, end);
}
