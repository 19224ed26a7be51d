//! Checkpoints: what was written is found again, whatever is interrupted or flipped.
//!
//! On the disk in memory every operation of a run is cut once. On a real file, mapped, pages leave the heap and are read
//! from the file by the writer and by snapshots.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use urd_wal::disk::memory::{MemoryDisk, Survival};
use urd_wal::disk::uring::UringDisk;
use urd_wal::disk::{Disk, File};

use super::{Model, assert_same_records, counted, finish};
use crate::ids::{Index, Term};
use crate::tree::checkpoint::{self, Failure, Opened};
use crate::tree::page::PAGE_BYTES;
use crate::tree::{Read, Stamp, Tree};

const NAME: &str = "checkpoint";

/// Runs a future on a disk in memory.
pub(super) fn run<T>(future: impl Future<Output = T>) -> Option<T> {
    run_while(future, || true)
}

/// The same; `None` when it waits and `powered` is false: then it would wait for ever.
pub(super) fn run_while<T>(
    future: impl Future<Output = T>,
    powered: impl Fn() -> bool,
) -> Option<T> {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(done);
        }
        if !powered() {
            return None;
        }
    }
}

pub(super) fn stamp(index: u64) -> Stamp {
    Stamp { index: Index(index), term: Term(index / 10) }
}

pub(super) fn open(disk: &MemoryDisk) -> Opened<MemoryDisk> {
    run(checkpoint::open(disk.clone(), NAME)).unwrap().unwrap()
}

/// Changes some records: short and long values, long keys, deletions.
pub(super) fn change(tree: &mut Tree, model: &mut Model, rng: &mut fastrand::Rng, changes: usize) {
    for _ in 0..changes {
        let mut key = vec![b'k'; if rng.u8(..40) == 0 { 1200 } else { 3 }];
        key.extend_from_slice(&rng.u16(..400).to_be_bytes());
        if rng.u8(..4) == 0 {
            assert_eq!(tree.remove(&key), model.remove(&key).is_some());
        } else {
            let len = if rng.u8(..20) == 0 { rng.usize(3000..20_000) } else { rng.usize(..200) };
            let (value, yes) = (vec![rng.u8(..); len], rng.bool());
            tree.insert(&key, &value, counted(yes));
            model.insert(key, (value, yes));
        }
    }
}

/// Makes the tree durable at once.
pub(super) async fn save<D: Disk>(opened: &mut Opened<D>, index: u64) {
    let Opened { tree, file, .. } = opened;
    tree.publish();
    let written = tree.begin_checkpoint(stamp(index)).write(file).await.unwrap();
    assert_eq!(written.stamp(), stamp(index));
    tree.end_checkpoint(written);
    tree.check().unwrap();
    while !tree.tidy(7) {}
    tree.check().unwrap();
}

#[test]
fn an_empty_file_is_an_empty_tree() {
    let disk = MemoryDisk::new(512);
    let opened = open(&disk);
    assert_eq!(opened.checkpoint, None);
    assert_eq!(opened.tree.statistics().records, 0);
    let mut opened = open(&disk);
    run(save(&mut opened, 5)).unwrap();
    let opened = open(&disk);
    assert_eq!(opened.checkpoint.unwrap().stamp, stamp(5));
    assert!(opened.warnings.is_empty(), "{:?}", opened.warnings);
    finish(opened.tree);
}

#[test]
fn checkpoints_come_back_and_the_file_does_not_grow() {
    let disk = MemoryDisk::new(512);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut model = Model::new();
    let mut most_in_use = 0;
    for round in 1..40 {
        let mut opened = open(&disk);
        assert_same_records(&opened.tree, &model);
        assert_same_records(&opened.tree.snapshot(), &model);
        opened.tree.check().unwrap();
        for half in 0..2 {
            change(&mut opened.tree, &mut model, &mut rng, 200);
            run(save(&mut opened, 2 * round + half)).unwrap();
        }
        let statistics = opened.tree.statistics();
        assert_eq!(statistics.pages_unwritten, 0);
        most_in_use = most_in_use.max(statistics.pages - statistics.pages_free);
        // Forty rounds write the data many times over, and the file has room for two checkpoints.
        assert!(statistics.pages < most_in_use * 2, "{statistics:?}, {most_in_use} in use");
        // What is not saved is lost.
        change(&mut opened.tree, &mut model.clone(), &mut rng, 50);
        opened.tree.publish();
    }
}

/// A run with changes before and during checkpoints; says after each what must be found, were the power cut now.
async fn work(disk: MemoryDisk, seed: u64, durable: &std::cell::RefCell<Vec<(u64, Model)>>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut opened = checkpoint::open(disk, NAME).await.unwrap();
    let mut model = durable.borrow().last().map(|(_, model)| model.clone()).unwrap_or_default();
    let first = durable.borrow().len() as u64;
    for index in first..first + 3 {
        change(&mut opened.tree, &mut model, &mut rng, 60);
        let mut held = vec![opened.tree.publish()];
        let checkpoint = opened.tree.begin_checkpoint(stamp(index));
        // From its meta page on it may be found, acknowledged or not.
        durable.borrow_mut().push((index, model.clone()));
        let mut write = pin!(checkpoint.write(&opened.file));
        let written = loop {
            let polled =
                std::future::poll_fn(|context| Poll::Ready(write.as_mut().poll(context))).await;
            if let Poll::Ready(written) = polled {
                break written.unwrap();
            }
            // The writer goes on, and readers hold what they see.
            change(&mut opened.tree, &mut model, &mut rng, 3);
            held.push(opened.tree.publish());
            if held.len() > 4 {
                held.remove(0);
            }
            futures_lite::future::yield_now().await;
        };
        opened.tree.end_checkpoint(written);
        drop(held);
        change(&mut opened.tree, &mut model, &mut rng, 20);
        opened.tree.publish();
        while !opened.tree.tidy(20) {}
    }
}

#[test]
fn the_power_is_cut_at_every_operation() {
    let seed = 7;
    let whole = MemoryDisk::new(512);
    whole.set_latency(3, seed);
    let durable = std::cell::RefCell::default();
    run(work(whole.clone(), seed, &durable)).unwrap();
    let operations = whole.operations();
    assert!(operations > 20, "{operations}");
    for cut in 0..operations {
        for survival in Survival::ALL {
            let disk = MemoryDisk::new(512);
            disk.set_latency(3, seed);
            disk.crash_at(cut);
            let durable = std::cell::RefCell::default();
            let cut_off = run_while(work(disk.clone(), seed, &durable), || !disk.crashed());
            assert!(cut_off.is_none());
            let after = disk.after_crash(survival, cut);
            let begun = durable.borrow().len() as u64;
            expect_one_of(&after, &durable.borrow(), begun.saturating_sub(2));
            // It goes on from there, over what the crash left.
            let found = open(&after).checkpoint.map_or(0, |meta| meta.number);
            durable.borrow_mut().truncate(usize::try_from(found).unwrap());
            run(work(after.clone(), seed + cut, &durable)).unwrap();
            let whole = durable.borrow().len() as u64;
            expect_one_of(&after, &durable.borrow(), whole - 1);
        }
    }
}

#[test]
fn what_was_found_after_a_kill_is_there_after_a_power_cut_too() {
    let durable = std::cell::RefCell::default();
    let whole = MemoryDisk::new(512);
    whole.set_latency(3, 7);
    run(work(whole.clone(), 7, &durable)).unwrap();
    for killed in 0..whole.operations() {
        let disk = MemoryDisk::new(512);
        disk.set_latency(3, 7);
        durable.borrow_mut().clear();
        run_while(work(disk.clone(), 7, &durable), || disk.operations() < killed);
        let after = disk.after_kill(killed);
        let found = open(&after).checkpoint;
        // Whoever has opened it writes over what this checkpoint does not need.
        let later = open(&after.after_crash(Survival::None, killed)).checkpoint;
        let numbers = [found, later].map(|meta| meta.map(|meta| meta.number));
        assert_eq!(numbers[0], numbers[1], "killed at operation {killed}");
    }
}

/// The disk holds one of the checkpoints, and it is number `least` + 1 at least.
fn expect_one_of(disk: &MemoryDisk, durable: &[(u64, Model)], least: u64) {
    let opened = open(disk);
    let number = opened.checkpoint.map_or(0, |meta| meta.number);
    assert!(number > least || least == 0, "checkpoint {number}, expected one after {least}");
    opened.tree.check().unwrap();
    let empty = Model::new();
    let (stamped, model) = match number.checked_sub(1) {
        None => (None, &empty),
        Some(nth) => {
            let (index, model) = &durable[usize::try_from(nth).unwrap()];
            (Some(stamp(*index)), model)
        }
    };
    assert_eq!(opened.checkpoint.map(|meta| meta.stamp), stamped);
    assert_same_records(&opened.tree, model);
}

/// A disk with two checkpoints, and what the second contains.
fn two_checkpoints() -> (MemoryDisk, Model) {
    let disk = MemoryDisk::new(512);
    let (mut rng, mut model) = (fastrand::Rng::with_seed(3), Model::new());
    let mut opened = open(&disk);
    for index in 1..3 {
        change(&mut opened.tree, &mut model, &mut rng, 150);
        run(save(&mut opened, index)).unwrap();
    }
    (disk, model)
}

#[test]
fn a_flipped_bit_is_found_and_named() {
    let (disk, model) = two_checkpoints();
    let pages = open(&disk).tree.statistics().pages as usize;
    let (mut refused, mut unused) = (0, 0);
    for page in 2..pages {
        for at in [0, 1, 100, 2000, 4079, 4080, 4095] {
            let damaged = disk.copy();
            damaged.corrupt(NAME, page * PAGE_BYTES + at, 1 << (at % 8));
            let damage = match run(checkpoint::open(damaged.clone(), NAME)).unwrap() {
                Err(error) => Some(error.to_string()),
                Ok(opened) => opened.tree.check().err().map(|damage| damage.to_string()),
            };
            match damage {
                Some(damage) => {
                    // A bit in the middle of a run shows at the run's first page.
                    let named = damage.split("page ").nth(1).unwrap();
                    let named = named.split(':').next().unwrap().parse::<usize>().unwrap();
                    assert!(named <= page && page < named + 6, "{damage}, it is page {page}");
                    refused += 1;
                }
                None => {
                    // No page of the tree.
                    assert_same_records(&open(&damaged).tree, &model);
                    unused += 1;
                }
            }
        }
    }
    assert!(refused > 100 && unused > 0, "{refused} refused, {unused} in free pages");
}

#[test]
fn a_flipped_bit_stops_whoever_reads_it() {
    let (disk, _) = two_checkpoints();
    let root = open(&disk).checkpoint.unwrap().root;
    let damaged = disk.copy();
    let child = open(&disk).tree.pages.node(root).child(0);
    damaged.corrupt(NAME, child.0 as usize * PAGE_BYTES + 77, 4);
    let opened = open(&damaged);
    let read = std::panic::AssertUnwindSafe(|| opened.tree.snapshot().get(b"a").is_some());
    let panic = std::panic::catch_unwind(read).unwrap_err();
    let text = panic.downcast::<String>().unwrap();
    let offset = child.0 * PAGE_BYTES as u64;
    assert!(text.contains(&format!("checkpoint: damaged at offset {offset}: page {child}")));
}

#[test]
fn damaged_meta_pages() {
    let (disk, _) = two_checkpoints();
    // The newer one: taken for interrupted. Its pages are still the older one's successors, so the older is whole.
    let damaged = disk.copy();
    damaged.corrupt(NAME, 40, 1);
    let opened = open(&damaged);
    assert_eq!(opened.checkpoint.unwrap().number, 1);
    assert!(opened.warnings[0].contains("damaged at offset 0: page 0: expected checksum"));
    // Both: there is nothing to go on from.
    damaged.corrupt(NAME, PAGE_BYTES + 40, 1);
    let Err(error) = run(checkpoint::open(damaged, NAME)).unwrap() else { panic!("it was opened") };
    assert!(error.to_string().contains("damaged at offset 4096: page 1"), "{error}");
    // A file that was cut off.
    let cut = MemoryDisk::new(512);
    let mut bytes = disk.bytes(NAME);
    bytes.truncate(3 * PAGE_BYTES);
    cut.put(NAME, bytes);
    let Err(error) = run(checkpoint::open(cut, NAME)).unwrap() else { panic!("it was opened") };
    assert!(error.to_string().contains("in a file of 3 pages"), "{error}");
}

#[test]
fn a_page_of_a_lost_checkpoint_is_not_taken_for_an_older_one() {
    let disk = MemoryDisk::new(512);
    let (mut rng, mut model) = (fastrand::Rng::with_seed(5), Model::new());
    let mut opened = open(&disk);
    for index in 1..12 {
        change(&mut opened.tree, &mut model, &mut rng, 40);
        run(save(&mut opened, index)).unwrap();
    }
    // Checkpoint 11 is lost, and 10 was written over in part by 12.
    let older = disk.copy();
    change(&mut opened.tree, &mut model, &mut rng, 40);
    opened.tree.publish();
    let checkpoint = opened.tree.begin_checkpoint(stamp(12));
    assert!(run(checkpoint.write(&opened.file)).unwrap().is_ok());
    let bytes = disk.bytes(NAME);
    disk.put(NAME, [&older.bytes(NAME)[..PAGE_BYTES], &bytes[PAGE_BYTES..]].concat());
    disk.corrupt(NAME, PAGE_BYTES + 40, 1);
    let opened = run(checkpoint::open(disk, NAME)).unwrap();
    let damage = match opened {
        Err(error) => error.to_string(),
        Ok(opened) => {
            assert_eq!(opened.checkpoint.unwrap().number, 10);
            opened.tree.check().unwrap_err().to_string()
        }
    };
    assert!(damage.contains("publication"), "{damage}");
}

#[test]
fn a_file_grows_by_an_eighth_between_one_mebibyte_and_sixteen() {
    const MIB: u64 = 1 << 20;
    let lengths = [1, MIB, MIB + 1, 20 * MIB + 1, 1000 * MIB + 1].map(checkpoint::grown);
    assert_eq!(lengths, [MIB, MIB, 2 * MIB, 24 * MIB, 1008 * MIB]);
}

#[test]
fn a_full_disk_is_found_out_before_anything_is_written() {
    let disk = MemoryDisk::new(512);
    let (mut rng, mut model) = (fastrand::Rng::with_seed(9), Model::new());
    let mut opened = open(&disk);
    change(&mut opened.tree, &mut model, &mut rng, 100);
    run(save(&mut opened, 1)).unwrap();
    let saved = model.clone();
    disk.set_capacity(disk.bytes(NAME).len() as u64);
    let long = vec![1; 20 << 20];
    opened.tree.insert(b"long", &long, counted(true));
    model.insert(b"long".to_vec(), (long, true));
    opened.tree.publish();
    let before = opened.tree.statistics();
    let (checkpoint, operations) = (opened.tree.begin_checkpoint(stamp(2)), disk.operations());
    let Err(Failure::Full { checkpoint, .. }) = run(checkpoint.write(&opened.file)).unwrap() else {
        panic!("there was no room");
    };
    assert_eq!(disk.operations(), operations + 1);
    opened.tree.give_up_checkpoint(&checkpoint);
    drop(checkpoint);
    assert_eq!(opened.tree.statistics().pages_unwritten, before.pages_unwritten);
    opened.tree.check().unwrap();
    assert_same_records(&open(&disk).tree, &saved);
    // There is room again.
    disk.set_capacity(u64::MAX);
    run(save(&mut opened, 2)).unwrap();
    assert_same_records(&open(&disk).tree, &model);
}

#[test]
fn a_failed_write_or_flush_is_said() {
    for fault in 0..5 {
        let disk = MemoryDisk::new(512);
        let mut opened = open(&disk);
        opened.tree.insert(b"a", b"1", counted(true));
        opened.tree.publish();
        let checkpoint = opened.tree.begin_checkpoint(stamp(1));
        disk.fail_at(disk.operations() + 1 + fault, urd_wal::disk::memory::Fault::Fail);
        let written = run(checkpoint.write(&opened.file)).unwrap();
        let Err(Failure::Io { action, .. }) = written else { panic!("fault {fault} went unseen") };
        assert!(["write", "flush"].contains(&action));
        // Before the last flush, the meta page may be there.
        let found = open(&disk).tree.snapshot().get(b"a").is_some();
        assert!(!found || fault == 4, "fault {fault}");
    }
}

/// Moves all pages to the front and cuts the file, as the server does it.
async fn defragment<D: Disk>(opened: &mut Opened<D>) {
    save(opened, 50).await;
    let limit = opened.tree.dense_end();
    let mut next = Some(Vec::new());
    while let Some(from) = next {
        next = opened.tree.relocate(&from, limit, 3);
        opened.tree.publish();
        opened.tree.check().unwrap();
    }
    save(opened, 51).await;
    opened.tree.cut_end();
    opened.tree.publish();
    let written = opened.tree.begin_checkpoint(stamp(52)).write(&opened.file).await.unwrap();
    opened.file.cut(&written).await.unwrap();
    opened.tree.end_checkpoint(written);
    while !opened.tree.tidy(100) {}
    opened.tree.check().unwrap();
}

#[test]
fn moved_to_the_front_the_file_gets_shorter() {
    let disk = MemoryDisk::new(512);
    let (mut rng, mut model) = (fastrand::Rng::with_seed(13), Model::new());
    let mut opened = open(&disk);
    for index in 1..5 {
        change(&mut opened.tree, &mut model, &mut rng, 500);
        // Long keys make long separators, which stand in runs.
        for n in 0..40_u32 {
            let key = [&[b'l'; 1500][..], &n.to_be_bytes()].concat();
            opened.tree.insert(&key, &[1; 900], counted(true));
            model.insert(key, (vec![1; 900], true));
        }
        run(save(&mut opened, index)).unwrap();
    }
    let keys: Vec<_> = model.keys().cloned().collect();
    for key in keys.into_iter().filter(|_| rng.u8(..4) > 0) {
        opened.tree.remove(&key);
        model.remove(&key);
    }
    let before = opened.tree.statistics();
    run(defragment(&mut opened)).unwrap();
    let after = opened.tree.statistics();
    assert!(after.pages * 2 < before.pages, "{before:?}, {after:?}");
    assert!(after.pages < after.pages - after.pages_free + after.pages / 4 + 66, "{after:?}");
    assert_eq!(disk.bytes(NAME).len() as u64, after.bytes);
    assert_same_records(&opened.tree, &model);
    let opened = open(&disk);
    assert_same_records(&opened.tree, &model);
    finish(opened.tree);
}

/// On a real file, mapped: pages are read from it as soon as they have left the heap.
#[test]
fn the_end_is_cut_though_the_batch_under_way_made_pages_there() {
    let mut opened = open(&MemoryDisk::new(512));
    opened.tree.insert(b"a", b"1", counted(true));
    opened.tree.publish();
    opened.tree.insert(b"long", &[1; 10 * PAGE_BYTES], counted(true));
    opened.tree.remove(b"long");
    opened.tree.cut_end();
    opened.tree.insert(b"b", b"2", counted(true));
    let snapshot = opened.tree.publish();
    assert_eq!(snapshot.get(b"b").as_deref(), Some(&b"2"[..]));
    opened.tree.check().unwrap();
}

#[test]
fn pages_are_read_from_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let test = move || async move {
        let (mut rng, mut model) = (fastrand::Rng::with_seed(11), Model::new());
        for start in 0..4 {
            let disk = UringDisk::open(&path).await.unwrap();
            let mut opened = checkpoint::open(disk, NAME).await.unwrap();
            assert_eq!(opened.checkpoint.map(|meta| meta.number), (start > 0).then_some(start * 9));
            assert_same_records(&opened.tree, &model);
            for index in 0..6 {
                change(&mut opened.tree, &mut model, &mut rng, 300);
                let snapshot = opened.tree.publish();
                let seen = model.clone();
                change(&mut opened.tree, &mut model, &mut rng, 100);
                opened.tree.publish();
                let checkpoint = opened.tree.begin_checkpoint(stamp(index));
                change(&mut opened.tree, &mut model, &mut rng, 100);
                opened.tree.publish();
                let written = checkpoint.write(&opened.file).await.unwrap();
                change(&mut opened.tree, &mut model, &mut rng, 100);
                opened.tree.publish();
                opened.tree.end_checkpoint(written);
                while !opened.tree.tidy(100) {
                    assert_same_records(&opened.tree, &model);
                    assert_same_records(&snapshot, &seen);
                }
                change(&mut opened.tree, &mut model, &mut rng, 100);
                opened.tree.publish();
                opened.tree.check().unwrap();
                assert_same_records(&snapshot, &seen);
                snapshot.check().unwrap();
            }
            defragment(&mut opened).await;
            let heap = opened.tree.pages.in_heap();
            assert_eq!(heap, 0, "pages are in the heap after they were written");
            opened.file.close().await.unwrap();
            model.retain(|key, _| opened.tree.get(key).is_some());
        }
    };
    glommio::LocalExecutorBuilder::default().spawn(test).unwrap().join().unwrap();
}

/// The seam's promises that the tests above rely on.
#[test]
fn the_disk_in_memory_forgets_what_was_not_flushed() {
    let disk = MemoryDisk::new(512);
    run(async {
        let file = disk.open_cached(NAME).await.unwrap();
        disk.sync_directory().await.unwrap();
        file.allocate(8192).await.unwrap();
        file.write(0, vec![1; 4096]).await.unwrap();
        assert_eq!(disk.bytes(NAME)[..4096], [1; 4096]);
        assert!(disk.after_crash(Survival::None, 1).bytes(NAME).is_empty());
        file.sync().await.unwrap();
        assert_eq!(disk.after_crash(Survival::None, 1).bytes(NAME).len(), 8192);
        assert_eq!(disk.after_crash(Survival::None, 1).bytes(NAME)[..4096], [1; 4096]);
    })
    .unwrap();
}
