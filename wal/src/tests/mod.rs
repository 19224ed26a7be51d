//! Tests of the log as a whole, on the disk in memory unless they say otherwise. Each ends with the
//! full check.

mod append;
mod crash;
mod damage;
mod faults;
mod layout;
mod offline;
mod table;

use std::future::Future;

use futures_lite::future::block_on;

use crate::disk::Disk;
use crate::disk::memory::MemoryDisk;
use crate::format;
use crate::{Completed, Entry, Log, Options, Recovered, Write, WriteError};

pub(crate) const SEGMENT_BYTES: u32 = 16 << 10;
pub(crate) const BLOCK: u32 = 512;

pub(crate) fn options() -> Options {
    Options { segment_bytes: SEGMENT_BYTES, ..Options::new(7) }
}

pub(crate) fn open(disk: &MemoryDisk) -> (Log<MemoryDisk>, Recovered) {
    block_on(Log::open(disk.clone(), options())).expect("opens")
}

/// The payload of an entry, told apart by its index and a version.
pub(crate) fn payload(index: u64, version: u64, bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(index << 20 | version);
    (0..bytes).map(|_| random.u8(..)).collect()
}

/// Runs a write and hands its completion back.
pub(crate) fn finish<D: Disk, F>(log: &mut Log<D>, write: Write<F>)
where
    F: Future<Output = Result<Completed, WriteError>>,
{
    let completed = block_on(write.done).expect("writes");
    log.completed(completed);
}

/// Appends entries `from..to` in one write and waits for it, preparing segments as needed.
pub(crate) fn append(log: &mut Log<MemoryDisk>, from: u64, to: u64, version: u64, bytes: usize) {
    let payloads: Vec<_> = (from..to).map(|index| payload(index, version, bytes)).collect();
    let entries: Vec<_> = (from..to)
        .zip(&payloads)
        .map(|(index, payload)| {
            let (head, body) = payload.split_at(payload.len() / 3);
            Entry { index, payload: [head, body] }
        })
        .collect();
    prepare(log);
    let write = log.append(None, &entries).expect("appends");
    finish(log, write);
}

pub(crate) fn prepare(log: &mut Log<MemoryDisk>) {
    while let Some(work) = log.prepare() {
        let done = block_on(work.run());
        log.prepared(done).expect("prepares");
    }
}

pub(crate) fn read_all<D: Disk>(log: &Log<D>) -> Vec<(u64, Vec<u8>)> {
    let mut entries = Vec::new();
    let mut next = log.first_index();
    while next <= log.last_index() {
        let some = log.read(next, log.last_index() + 1, 3000).expect("reads");
        next += some.len() as u64;
        entries.extend(some);
    }
    entries
}

pub(crate) fn check<D: Disk>(log: &Log<D>) {
    block_on(log.check()).expect("sound");
}

/// Whether FORMAT.md says so, word for word.
pub(crate) fn documented(text: &str) {
    let document = include_str!("../../FORMAT.md");
    assert!(document.contains(text), "FORMAT.md does not contain:\n{text}");
}
