//! The log: durable appends to the file system of the build directory, one at a time and several
//! in flight. What is measured is mostly the disk; compare with the bare write that `compare`
//! prints.

use glommio::LocalExecutorBuilder;
use std::collections::VecDeque;
use std::path::Path;
use urd_benches::micro::{Hash, Micro};
use urd_wal::disk::uring::UringDisk;
use urd_wal::{Entry, Log, Options};

const SALT: u64 = 1;
/// Small segments, so that rolling and preparing are part of it.
const SEGMENT_BYTES: u32 = 4 << 20;
const ENTRY_BYTES: usize = 300;

fn main() {
    let micro = Micro::from_arguments();
    let fresh = |_| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        tempfile::tempdir_in(directory).expect("a directory for the log")
    };
    for in_flight in [1, 8] {
        let name = format!("log append, {in_flight} in flight");
        micro.run(&name, 20_000, fresh, |directory, operations| {
            let executor = LocalExecutorBuilder::default().make().expect("io_uring");
            executor.run(append(directory.path(), operations, in_flight))
        });
    }
}

async fn append(directory: &Path, operations: u64, in_flight: usize) -> u64 {
    let disk = UringDisk::open(directory).await.expect("the directory opens");
    let options = Options { segment_bytes: SEGMENT_BYTES, ..Options::new(SALT) };
    let (mut log, _) = Log::open(disk, options).await.expect("an empty log opens");
    let payload = [7; ENTRY_BYTES];
    let mut writes = VecDeque::new();
    let mut preparing = None;
    for index in 1..=operations {
        if preparing.is_none() {
            preparing = log.prepare().map(|prepare| glommio::spawn_local(prepare.run()));
        }
        // The next segment is awaited only when there is no room without it.
        if !log.has_room(ENTRY_BYTES * 2)
            && let Some(prepare) = preparing.take()
        {
            log.prepared(prepare.await).expect("a segment is made");
        }
        let entry = Entry { index, payload: [&payload, &[]] };
        let write = log.append(None, &[entry]).expect("the log has room");
        writes.push_back(glommio::spawn_local(write.done));
        log.trim_prefix(index.saturating_sub(operations / 4));
        if writes.len() == in_flight
            && let Some(write) = writes.pop_front()
        {
            log.completed(write.await.expect("a write succeeds"));
        }
    }
    for write in writes {
        log.completed(write.await.expect("a write succeeds"));
    }
    if let Some(prepare) = preparing {
        log.prepared(prepare.await).expect("a segment is made");
    }
    let mut hash = Hash::default();
    hash.add_number(log.last_index());
    log.close().await.expect("the log closes");
    hash.finish()
}
