//! Target `wal`: the files of a log, edited before they are opened.
//!
//! What opens must hold what was written up to some write, whatever the edits were: damage is refused, or was never
//! vouched for and is cut. Where checksums were made right again ([`mend`]) anything may stand in the log, and must be
//! refused or read without a panic. Where the frames stand is read off `wal/FORMAT.md`, not off the crate.

use std::collections::BTreeMap;

use fastrand::Rng;
use futures_lite::future::block_on;
use urd_wal::disk::memory::MemoryDisk;
use urd_wal::{Entry, Log, Options, Recovered};

use super::edits::{self, Edits, File};
use super::{Outcome, Target};

const BLOCK: u32 = 512;
const SEGMENT_BYTES: u32 = 16 << 10;
const OPTIONS: Options = Options { segment_bytes: SEGMENT_BYTES, salt: 7 };

/// From `FORMAT.md`.
const DATA_AT: usize = 4096;
const SEGMENT_CRC_AT: usize = 32;
const SALT_AT: usize = 28;
const FRAME_HEAD_BYTES: usize = 32;
const PREVIOUS_AT: usize = 4;
const LENGTH_AT: usize = 8;
const KIND_AT: usize = 12;
const KIND_WRITE: u8 = 1;
/// Of a write's length, from its frame's beginning.
const WRITE_BYTES_AT: usize = FRAME_HEAD_BYTES + 12;

type Entries = BTreeMap<u64, Vec<u8>>;

/// A log that was written, and what it held after each of its writes.
struct Set {
    files: Vec<File>,
    states: Vec<(Option<Vec<u8>>, Entries)>,
}

/// See the module's page.
pub struct Wal {
    sets: Vec<Set>,
}

impl Default for Wal {
    fn default() -> Self {
        Self::new()
    }
}

impl Wal {
    /// Writes the logs that are edited.
    pub fn new() -> Self {
        let mut sets = Vec::new();
        for nth in 0..5 {
            let mut writer = Writer::new();
            writer.write(nth);
            sets.push(writer.finish(nth % 2 == 0));
        }
        Self { sets }
    }
}

impl Target for Wal {
    fn name(&self) -> &'static str {
        "wal"
    }

    fn about(&self) -> &'static str {
        "edits of a log's files: which log, flags (1: mend checksums), then 12 bytes an edit"
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
        let mut files = set.files.clone();
        edits.apply(&mut files, |file| frames(&file.bytes));
        if edits.mends {
            mend(&mut files);
        }
        let disk = MemoryDisk::new(BLOCK);
        for File { name, bytes } in files {
            disk.put(&name, bytes);
        }
        let mut outcome = Outcome::default();
        match block_on(Log::open(disk.clone(), OPTIONS)) {
            Err(error) => outcome.text(&error),
            Ok((log, recovered)) => {
                let is_changed = input.len() > edits::HEAD_BYTES;
                look(log, &recovered, set, edits.mends && is_changed, &mut outcome);
                go_on(&disk, &recovered, &mut outcome);
            }
        }
        outcome
    }
}

/// Reads what was opened, and holds it against what was written.
fn look(
    log: Log<MemoryDisk>,
    recovered: &Recovered,
    set: &Set,
    is_mended: bool,
    outcome: &mut Outcome,
) {
    outcome.note("open");
    for warning in &recovered.warnings {
        outcome.text(warning);
    }
    let checked = block_on(log.check());
    let mut found = Entries::new();
    let mut next = recovered.first;
    while next <= recovered.last {
        match log.read(next, recovered.last + 1, 4096) {
            Ok(entries) => {
                next += entries.len() as u64;
                found.extend(entries);
            }
            Err(error) => {
                assert!(is_mended, "an entry that was found cannot be read: {error}");
                return outcome.text(&error);
            }
        }
    }
    outcome.count("entries", found.len());
    if is_mended {
        return outcome.result("check", &checked);
    }
    checked.expect("what was opened is sound");
    let is_state = |(hard_state, entries): &(Option<Vec<u8>>, Entries)| {
        let last = entries.keys().next_back().copied();
        let is_last = last.is_none_or(|last| last == recovered.last);
        let behind = entries.range(recovered.first..);
        is_last && behind.eq(&found) && (*hard_state == recovered.hard_state)
    };
    assert!(
        set.states.iter().any(is_state),
        "found entries {} to {} and hard state {:?}, which no write has left",
        recovered.first,
        recovered.last,
        recovered.hard_state,
    );
}

/// An entry more, and another opening: it must be there.
fn go_on(disk: &MemoryDisk, recovered: &Recovered, outcome: &mut Outcome) {
    let (mut log, again) = match block_on(Log::open(disk.clone(), OPTIONS)) {
        Ok(opened) => opened,
        Err(error) => panic!("what was opened once does not open again: {error}"),
    };
    assert_eq!(
        (again.first, again.last, &again.hard_state),
        (recovered.first, recovered.last, &recovered.hard_state),
        "another opening finds the same"
    );
    let Some(index) = recovered.last.checked_add(1) else { return };
    let entry = Entry { index, payload: [b"one ", b"more"] };
    match log.append(None, &[entry]) {
        Err(error) => return outcome.text(&error),
        Ok(write) => {
            let completed = block_on(write.done).expect("a disk that works");
            log.completed(completed);
        }
    }
    let (_, reopened) = block_on(Log::open(disk.clone(), OPTIONS)).expect("it opens with it");
    assert_eq!(reopened.last, index, "the entry that was acknowledged is there");
}

/// Where the frames of a segment stand, as far as they follow each other.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut frames = Vec::new();
    let mut at = DATA_AT;
    let mut write_end = at;
    while let (Some(length), Some(&kind)) = (number(bytes, at + LENGTH_AT), bytes.get(at + KIND_AT))
    {
        if kind == 0 || at + FRAME_HEAD_BYTES + length > bytes.len() {
            break;
        }
        frames.push(at);
        if kind == KIND_WRITE {
            write_end = at + number(bytes, at + WRITE_BYTES_AT).unwrap_or(0);
        }
        at += FRAME_HEAD_BYTES + length;
        if at >= write_end {
            at = at.next_multiple_of(BLOCK as usize);
        }
    }
    frames
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}

/// Makes all checksums right: those of headers and frames, and what each frame says of the one before.
fn mend(files: &mut [File]) {
    let mut names: Vec<usize> = (0..files.len()).collect();
    names.sort_by(|a, b| files[*a].name.cmp(&files[*b].name));
    let mut previous: Option<u32> = None;
    for nth in names {
        let File { name, bytes } = &mut files[nth];
        if !name.ends_with(".segment") || bytes.len() < DATA_AT {
            continue;
        }
        let crc = crc32fast::hash(&bytes[..SEGMENT_CRC_AT]);
        bytes[SEGMENT_CRC_AT..SEGMENT_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        let salt = number(bytes, SALT_AT).and_then(|salt| u32::try_from(salt).ok()).unwrap_or(0);
        for at in frames(bytes) {
            let length = number(bytes, at + LENGTH_AT).unwrap_or(0);
            let frame = &mut bytes[at..at + FRAME_HEAD_BYTES + length];
            if let Some(previous) = previous {
                frame[PREVIOUS_AT..PREVIOUS_AT + 4].copy_from_slice(&previous.to_le_bytes());
            }
            let mut hasher = crc32fast::Hasher::new_with_initial(salt);
            hasher.update(&frame[PREVIOUS_AT..]);
            let crc = hasher.finalize();
            frame[..PREVIOUS_AT].copy_from_slice(&crc.to_le_bytes());
            previous = Some(crc);
        }
    }
}

/// Writes a log, and remembers its states.
struct Writer {
    disk: MemoryDisk,
    log: Log<MemoryDisk>,
    state: (Option<Vec<u8>>, Entries),
    states: Vec<(Option<Vec<u8>>, Entries)>,
}

impl Writer {
    fn new() -> Self {
        let disk = MemoryDisk::new(BLOCK);
        let (log, _) = block_on(Log::open(disk.clone(), OPTIONS)).expect("a fresh log");
        let state = (None, Entries::new());
        Self { disk, log, states: vec![state.clone()], state }
    }

    /// One of five histories.
    fn write(&mut self, nth: usize) {
        match nth {
            0 => (1..6).for_each(|index| self.append(index, 1, 30)),
            // Several segments.
            1 => (1..40).for_each(|index| self.append(index, 1, 700)),
            // Suffixes that are replaced.
            2 => {
                (1..12).for_each(|index| self.append(index, 2, 200));
                (5..9).for_each(|index| self.append(index, 1, 90));
                self.append(3, 3, 1500);
            }
            // A front that is trimmed, and a restart.
            3 => {
                (1..30).for_each(|index| self.append(index, 1, 600));
                self.log.trim_prefix(20);
                (30..40).for_each(|index| self.append(index, 1, 600));
                self.log.restart(100);
                self.state.1.clear();
                (101..105).for_each(|index| self.append(index, 1, 50));
            }
            // Several openings.
            _ => {
                for opening in 0..4 {
                    let first = 1 + opening * 4;
                    (first..first + 4).for_each(|index| self.append(index, 1, 400));
                    self.log = block_on(Log::open(self.disk.clone(), OPTIONS)).expect("it opens").0;
                }
            }
        }
    }

    fn append(&mut self, first: u64, count: u64, bytes: usize) {
        while let Some(work) = self.log.prepare() {
            self.log.prepared(block_on(work.run())).expect("a disk that works");
        }
        let version = self.states.len();
        let payload = |index: u64| -> Vec<u8> {
            let mut random = Rng::with_seed(index << 16 | version as u64);
            (0..bytes).map(|_| random.u8(..)).collect()
        };
        let payloads: Vec<(u64, Vec<u8>)> =
            (first..first + count).map(|index| (index, payload(index))).collect();
        let hard_state = version.is_multiple_of(3).then(|| version.to_le_bytes().to_vec());
        let entries: Vec<Entry<'_>> = payloads
            .iter()
            .map(|(index, payload)| Entry {
                index: *index,
                payload: [&payload[..9], &payload[9..]],
            })
            .collect();
        let write = self.log.append(hard_state.as_deref(), &entries).expect("room");
        let completed = block_on(write.done).expect("a disk that works");
        self.log.completed(completed);
        self.state.1.split_off(&first);
        self.state.1.extend(payloads);
        self.state.0 = hard_state.or(self.state.0.take());
        self.states.push(self.state.clone());
    }

    fn finish(self, closes: bool) -> Set {
        if closes {
            block_on(self.log.close()).expect("a disk that works");
        }
        let names = self.disk.names().into_iter();
        let files = names.map(|name| File { bytes: self.disk.bytes(&name), name }).collect();
        Set { files, states: self.states }
    }
}
