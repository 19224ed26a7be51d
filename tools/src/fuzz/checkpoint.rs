//! Target `checkpoint`: a checkpoint file, edited before it is read.
//!
//! What is read must be the state of one of its checkpoints, or an empty one where no meta page is left; everything else
//! is refused when the file is opened or its pages are verified. Where checksums were made right again, pages may say
//! anything, and must be refused or read without a panic. Where what stands is read off `src/tree/FORMAT.md`.

use fastrand::Rng;
use futures_lite::future::block_on;
use urd::ids::Index;
use urd::store::Store;
use urd::tree::checkpoint;
use urd_wal::disk::memory::MemoryDisk;

use super::edits::{self, Edits, File};
use super::{Outcome, Target, samples};

const BLOCK: u32 = 4096;
const NAME: &str = "checkpoint";
/// Pages in one slice of tidying up.
const TIDY_PAGES: usize = 256;

/// From `FORMAT.md`.
pub(super) const PAGE_BYTES: usize = 4096;
const CRC_AT: usize = PAGE_BYTES - 4;
const META_PAGES: usize = 2;
const HEADER_BYTES: usize = 26;
const SLOT_BYTES: usize = 6;
const KIND_RUN: u8 = 3;
const RUN_HEAD_BYTES: usize = 16;
const TRAILER_BYTES: usize = 16;

struct Set {
    file: File,
    /// What a reader may find: an empty state, and each checkpoint's.
    states: Vec<(Index, u32)>,
}

/// See the module's page.
pub struct Checkpoint {
    sets: Vec<Set>,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self::new()
    }
}

impl Checkpoint {
    /// Writes the files that are edited.
    pub fn new() -> Self {
        Self { sets: vec![write(3, 1), write(60, 2), write(200, 3)] }
    }
}

impl Target for Checkpoint {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn about(&self) -> &'static str {
        "edits of a checkpoint file: which file, flags (1: mend checksums), then 12 bytes an edit"
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
        let mut files = vec![set.file.clone()];
        edits.apply(&mut files, |file| places(&file.bytes, 0));
        let disk = MemoryDisk::new(BLOCK);
        for mut file in files {
            if edits.mends {
                mend(&mut file.bytes);
            }
            disk.put(&file.name, file.bytes);
        }
        let mut outcome = Outcome::default();
        let is_mended = edits.mends && input.len() > edits::HEAD_BYTES;
        match block_on(checkpoint::read(&disk, NAME)) {
            Err(error) => outcome.text(&error),
            Ok(found) => {
                for warning in &found.warnings {
                    outcome.text(warning);
                }
                outcome.count("number", found.checkpoint.map_or(0, |meta| meta.number as usize));
                look(found.tree, (!is_mended).then_some(&set.states[..]), &mut outcome);
            }
        }
        outcome
    }
}

/// Reads all of a tree as a tool does that looks for damage. `states`: what it may be; `None`: anything.
pub(super) fn look(tree: urd::tree::Tree, states: Option<&[(Index, u32)]>, outcome: &mut Outcome) {
    if let [first, rest @ ..] = &tree.verify_pages()[..] {
        outcome.text(first);
        return outcome.count("more", rest.len());
    }
    if let Err(damage) = tree.check() {
        return outcome.text(&damage);
    }
    let store = match Store::open(tree) {
        Ok(store) => store,
        Err(fault) => return outcome.text(&fault),
    };
    outcome.note("open");
    let faults = store.check();
    if let Some(fault) = faults.first() {
        outcome.text(fault);
    }
    if let Some(states) = states {
        assert!(faults.is_empty(), "what was read is not sound: {faults:?}");
        let found = samples::digest(&store.view());
        assert!(states.contains(&found), "what was read was never written: {found:?}");
    }
}

/// A store with so much in it, and so many checkpoints.
fn write(entries: usize, checkpoints: usize) -> Set {
    let disk = MemoryDisk::new(BLOCK);
    let opened = block_on(checkpoint::open(disk.clone(), NAME)).expect("a fresh file");
    let file = opened.file;
    let mut store = Store::open(opened.tree).expect("an empty store");
    samples::fill(&mut store, entries);
    let mut states = vec![samples::digest(&Store::new().view())];
    for nth in 0..checkpoints {
        if nth > 0 {
            for command in samples::commands() {
                samples::apply(&mut store, &[command]);
            }
        }
        let written = block_on(store.begin_checkpoint().write(&file)).expect("a disk that works");
        store.end_checkpoint(written);
        while !store.tidy(TIDY_PAGES) {}
        states.push(samples::digest(&store.view()));
    }
    let found = block_on(checkpoint::read(&disk, NAME)).expect("a checkpoint");
    let end = found.checkpoint.expect("a checkpoint").end.0 as usize * PAGE_BYTES;
    // Room that was reserved behind the last page is zeros, which would only take time.
    let mut bytes = disk.bytes(NAME);
    bytes.truncate(end);
    Set { file: File { name: NAME.to_owned(), bytes }, states }
}

/// Where pages and cells stand; pages begin at `begin`.
pub(super) fn places(bytes: &[u8], begin: usize) -> Vec<usize> {
    let mut places = Vec::new();
    for (at, page) in pages(bytes, begin) {
        places.push(at);
        if !matches!(page.first(), Some(1 | 2)) || (begin == 0 && at < META_PAGES * PAGE_BYTES) {
            continue;
        }
        let cells = page.get(HEADER_BYTES..CRC_AT).unwrap_or_default().as_chunks::<SLOT_BYTES>().0;
        let count =
            page.get(2..4).map_or(0, |count| usize::from(count[0]) | usize::from(count[1]) << 8);
        for [.., low, high] in cells.iter().take(count.min(40)) {
            places.push(at + (usize::from(*low) | usize::from(*high) << 8));
        }
        places.push(at + CRC_AT - 12);
    }
    places
}

/// Every page, and every run, which may be several pages long.
fn pages(bytes: &[u8], begin: usize) -> Vec<(usize, &[u8])> {
    let mut pages = Vec::new();
    let mut at = begin;
    while at + PAGE_BYTES <= bytes.len() {
        let mut length = PAGE_BYTES;
        if bytes[at] == KIND_RUN {
            let data = bytes[at + 4..].first_chunk::<4>().map_or(0, |it| u32::from_le_bytes(*it));
            let whole =
                (RUN_HEAD_BYTES + data as usize + TRAILER_BYTES).next_multiple_of(PAGE_BYTES);
            length = if at + whole <= bytes.len() { whole } else { PAGE_BYTES };
        }
        pages.push((at, &bytes[at..at + length]));
        at += length;
    }
    pages
}

/// Makes the checksums of all pages right.
fn mend(bytes: &mut [u8]) {
    mend_pages(bytes, 0);
}

/// The same of those from `begin` on.
pub(super) fn mend_pages(bytes: &mut [u8], begin: usize) {
    let places: Vec<(usize, usize)> =
        pages(bytes, begin).iter().map(|(at, page)| (*at, page.len())).collect();
    for (at, length) in places {
        let page = &mut bytes[at..at + length];
        // A page of zeros stays one: nothing stands there.
        if page.iter().any(|byte| *byte != 0) {
            let (covered, field) = page.split_at_mut(length - 4);
            field.copy_from_slice(&crc32fast::hash(covered).to_le_bytes());
        }
    }
}
