//! The driver on a disk in memory: what is acknowledged, when, and what a restart finds.
//!
//! Each promise has its test: 1 (nothing acknowledged before it is durable), 3 (the same log gives the same store), and
//! that reads wait for their index.

mod catch_up;

use std::pin::pin;

use bytes::Bytes;
use futures_lite::future::{block_on, poll_once};
use urd_proto::etcdserverpb::{Member, PutRequest, RangeRequest};
use urd_wal::disk::memory::{MemoryDisk, Survival};
use urd_wal::{Log, Offline, Waiting};

use crate::error::Unavailable;
use crate::ids::{Index, MemberId, Revision};
use crate::limits;
use crate::raft::{Driver, Fatal, Flow, Options, Turn, Write, replay};
use crate::store::Store;
use crate::store::command::{BatchBuilder, Command};
use crate::tree::checkpoint::{self, CheckpointFile};

const BLOCK: u32 = 4096;
const SEGMENT_BYTES: u32 = 256 << 10;

type TestDriver = Driver<MemoryDisk, u32, u32>;

fn first() -> Member {
    Member { id: 1, ..Member::default() }
}

/// What the only member of a new cluster begins with.
fn first_store() -> Store {
    let mut store = Store::new();
    store.bootstrap(&[first()]);
    store
}

fn options_of(start: u64) -> Options {
    Options {
        member: MemberId(1),
        election_ticks: 10,
        pre_vote: true,
        alone: false,
        start,
        request_ticks: 50,
        window_entries: limits::WINDOW_ENTRIES_MAX,
        flow: Flow::default(),
    }
}

fn open(disk: &MemoryDisk, start: u64) -> TestDriver {
    let options = urd_wal::Options { segment_bytes: SEGMENT_BYTES, salt: start };
    let (log, recovered) = block_on(Log::open(disk.clone(), options)).unwrap();
    let mut driver = Driver::open(&options_of(start), log, &recovered, first_store()).unwrap();
    driver.campaign_if_alone().unwrap();
    driver
}

/// Opens, and turns until the member leads.
fn leader(disk: &MemoryDisk, start: u64) -> TestDriver {
    let mut driver = open(disk, start);
    settle(&mut driver);
    assert!(driver.leads());
    driver
}

fn put(key: u32) -> Bytes {
    let mut batch = BatchBuilder::default();
    let key = Bytes::from(format!("key {key:04}"));
    batch.append_command(&Command::Put(PutRequest {
        value: key.clone(),
        key,
        ..PutRequest::default()
    }));
    batch.finish()
}

/// Turns and does the writes until nothing is left to do. Returns the turns.
fn settle(driver: &mut TestDriver) -> Vec<Turn<u32, u32>> {
    let mut turns = Vec::new();
    while let Some(mut turn) = driver.turn(Waiting::Task).unwrap() {
        if let Some(write) = turn.write.take() {
            complete(driver, write);
        }
        turns.push(turn);
    }
    turns
}

fn complete(driver: &mut TestDriver, write: Write) {
    let messages = driver.written(block_on(write.done).unwrap());
    assert!(messages.is_empty(), "a group of one has nobody to send to");
}

fn acknowledged(turns: &[Turn<u32, u32>]) -> Vec<u32> {
    turns.iter().flat_map(|turn| &turn.outcomes).map(|(proposal, _)| *proposal).collect()
}

/// How many of the keys from 0 on are there, and that no other is.
fn keys(driver: &mut TestDriver) -> u32 {
    let all = RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..RangeRequest::default()
    };
    let found = driver.publish().range(&all).unwrap().kvs;
    for (expected, kv) in found.iter().enumerate() {
        assert_eq!(kv.key, format!("key {expected:04}"));
        assert_eq!(kv.value, kv.key);
        assert_eq!(kv.mod_revision, i64::try_from(expected).unwrap() + 2);
    }
    u32::try_from(found.len()).unwrap()
}

#[test]
fn nothing_is_acknowledged_before_its_write_is_durable() {
    let mut driver = leader(&MemoryDisk::new(BLOCK), 1);
    driver.propose(put(0), 0).unwrap();
    let turn = driver.turn(Waiting::Task).unwrap().unwrap();
    assert!(turn.outcomes.is_empty());
    let write = turn.write.unwrap();
    assert!(driver.turn(Waiting::Task).unwrap().is_none_or(|turn| turn.outcomes.is_empty()));
    assert_eq!(driver.publish().revision(), Revision(1));
    complete(&mut driver, write);
    assert_eq!(acknowledged(&settle(&mut driver)), [0]);
    assert_eq!(driver.publish().revision(), Revision(2));
}

#[test]
fn writes_that_complete_out_of_order_are_acknowledged_in_order() {
    let mut driver = leader(&MemoryDisk::new(BLOCK), 1);
    let mut writes = Vec::new();
    for proposal in 0..3 {
        driver.propose(put(proposal), proposal).unwrap();
        while let Some(turn) = driver.turn(Waiting::Task).unwrap() {
            assert!(turn.outcomes.is_empty());
            writes.extend(turn.write);
        }
    }
    assert_eq!(writes.len(), 3, "several writes are under way at once");
    let mut writes = writes.into_iter();
    let (first, second, third) =
        (writes.next().unwrap(), writes.next().unwrap(), writes.next().unwrap());
    complete(&mut driver, third);
    assert!(acknowledged(&settle(&mut driver)).is_empty());
    complete(&mut driver, first);
    assert_eq!(acknowledged(&settle(&mut driver)), [0]);
    complete(&mut driver, second);
    assert_eq!(acknowledged(&settle(&mut driver)), [1, 2]);
}

#[test]
fn a_read_waits_for_what_was_acknowledged_before_it() {
    let mut driver = leader(&MemoryDisk::new(BLOCK), 1);
    driver.propose(put(0), 0).unwrap();
    settle(&mut driver);
    driver.read_index(vec![7, 8]).unwrap();
    let turns = settle(&mut driver);
    let readable: Vec<u32> = turns.iter().flat_map(|turn| turn.readable.clone()).collect();
    assert_eq!(readable, [7, 8]);
    assert_eq!(driver.publish().revision(), Revision(2));
}

#[test]
fn entries_behind_the_apply_limit_are_held_back() {
    let disk = MemoryDisk::new(BLOCK);
    let mut driver = leader(&disk, 1);
    driver.propose(put(0), 0).unwrap();
    settle(&mut driver);
    let applied = driver.publish().applied();
    driver.set_apply_limit(Index(applied.0 + 1));
    for proposal in 1..4 {
        driver.propose(put(proposal), proposal).unwrap();
    }
    driver.read_index(vec![7]).unwrap();
    let turns = settle(&mut driver);
    assert_eq!(driver.committed(), Index(applied.0 + 3), "raft goes on");
    assert_eq!(acknowledged(&turns), [1]);
    assert_eq!((driver.pending(), keys(&mut driver)), (2, 2));
    assert_eq!(driver.publish().applied(), Index(applied.0 + 1));
    let held: Vec<(u64, Bytes)> =
        driver.unapplied().into_iter().map(|(index, _, batch)| (index.0, batch)).collect();
    assert_eq!(held, [(applied.0 + 2, put(2)), (applied.0 + 3, put(3))]);

    // A read that comes now has to see what is held back, too.
    driver.read_index(vec![8]).unwrap();
    let turns = settle(&mut driver);
    assert!(acknowledged(&turns).is_empty() && turns.iter().all(|turn| turn.readable.is_empty()));

    driver.set_apply_limit(Index(applied.0 + 2));
    assert_eq!(acknowledged(&settle(&mut driver)), [2]);
    driver.set_apply_limit(Index(u64::MAX));
    let turns = settle(&mut driver);
    assert_eq!(acknowledged(&turns), [3]);
    let readable: Vec<u32> = turns.iter().flat_map(|turn| turn.readable.clone()).collect();
    assert!(readable.contains(&8), "{readable:?}");
    assert_eq!((driver.pending(), keys(&mut driver)), (0, 4));
    assert!(driver.unapplied().is_empty());

    // What was held back when the member went down is applied by the next start.
    let applied = driver.publish().applied();
    driver.set_apply_limit(applied);
    driver.propose(put(4), 4).unwrap();
    assert!(acknowledged(&settle(&mut driver)).is_empty());
    assert_eq!(keys(&mut driver), 4);
    drop(driver);
    assert_eq!(keys(&mut leader(&disk, 2)), 5);
}

#[test]
fn nothing_is_accepted_before_there_is_a_leader() {
    let mut driver = open(&MemoryDisk::new(BLOCK), 1);
    let (unavailable, readers) = driver.read_index(vec![7]).unwrap_err();
    assert_eq!((unavailable, readers), (Unavailable::NoLeader, vec![7]));
    settle(&mut driver);
    driver.propose(put(0), 0).unwrap();
}

#[test]
fn a_restart_finds_what_was_acknowledged() {
    let disk = MemoryDisk::new(BLOCK);
    let mut proposals = 0;
    for start in 1..6 {
        let mut driver = leader(&disk, start);
        assert_eq!(keys(&mut driver), proposals);
        for proposal in proposals..proposals + 20 {
            driver.propose(put(proposal), proposal).unwrap();
            assert_eq!(acknowledged(&settle(&mut driver)), [proposal]);
        }
        proposals += 20;
        block_on(driver.into_log().close()).unwrap();
    }
}

/// A power cut after every operation of a run, with any subset of what was not durable yet.
#[test]
fn a_power_cut_loses_nothing_acknowledged() {
    let operations = {
        let disk = MemoryDisk::new(BLOCK);
        run_until_crash(&disk);
        disk.operations()
    };
    assert!(operations > 20, "{operations} operations are no test");
    for crash in 1..=operations {
        let disk = MemoryDisk::new(BLOCK);
        disk.crash_at(crash);
        let acknowledged = run_until_crash(&disk);
        for survival in Survival::ALL {
            let survivor = disk.after_crash(survival, crash);
            let mut driver = leader(&survivor, 2);
            let found = keys(&mut driver);
            assert!(
                found >= acknowledged,
                "crash at operation {crash}, {survival:?}: {acknowledged} acknowledged, {found} found"
            );
        }
    }
}

/// A member's log and checkpoint file in one directory, as far as the disk lets it be opened.
fn open_both(
    disk: &MemoryDisk,
    start: u64,
) -> Option<(Result<TestDriver, Fatal>, CheckpointFile<MemoryDisk>)> {
    let opened = unless_crashed(disk, checkpoint::open(disk.clone(), "checkpoint"))?.unwrap();
    let options = urd_wal::Options { segment_bytes: SEGMENT_BYTES, salt: start };
    let (log, recovered) = unless_crashed(disk, Log::open(disk.clone(), options))?.unwrap();
    let mut store = Store::open(opened.tree).unwrap();
    if opened.checkpoint.is_none() {
        store.bootstrap(&[first()]);
    }
    let driver = Driver::open(&options_of(start), log, &recovered, store).map(|mut driver| {
        driver.campaign_if_alone().unwrap();
        driver
    });
    Some((driver, opened.file))
}

/// Puts from `from` on until the disk crashes, a checkpoint after every tenth, its log trimmed and its segments recycled.
/// Returns how many keys are acknowledged.
fn run_with_checkpoints(disk: &MemoryDisk, start: u64, from: u32, puts: u32) -> u32 {
    let Some((driver, file)) = open_both(disk, start) else { return from };
    let mut driver = driver.unwrap();
    let (mut count, mut proposed) = (from, from);
    loop {
        while let Some(turn) = driver.turn(Waiting::Task).unwrap() {
            count += u32::try_from(turn.outcomes.len()).unwrap();
            let Some(write) = turn.write else { continue };
            match unless_crashed(disk, write.done) {
                Some(completed) => drop(driver.written(completed.unwrap())),
                None => return count,
            }
        }
        if proposed % 10 == 9 && !driver.is_checkpointing() {
            driver.publish();
            let checkpoint = driver.begin_checkpoint();
            match unless_crashed(disk, checkpoint.write(&file)) {
                Some(written) => driver.end_checkpoint(written.unwrap()),
                None => return count,
            }
            while !driver.tidy() {}
        }
        if let Some(prepare) = driver.log().prepare() {
            let Some(prepared) = unless_crashed(disk, prepare.run()) else { return count };
            driver.log().prepared(prepared).unwrap();
        }
        if proposed == from + puts {
            return count;
        }
        driver.propose(put(proposed), proposed).unwrap();
        proposed += 1;
    }
}

/// A power cut at every operation of a run that writes checkpoints beside its log.
#[test]
fn a_power_cut_beside_a_checkpoint_loses_nothing_acknowledged() {
    let operations = {
        let disk = MemoryDisk::new(BLOCK);
        assert_eq!(run_with_checkpoints(&disk, 1, 0, 22), 22);
        disk.operations()
    };
    assert!(operations > 40, "{operations} operations are no test");
    for crash in 1..=operations {
        let disk = MemoryDisk::new(BLOCK);
        disk.crash_at(crash);
        let acknowledged = run_with_checkpoints(&disk, 1, 0, 22);
        for survival in Survival::ALL {
            let survivor = disk.after_crash(survival, crash);
            let (driver, _) = open_both(&survivor, 2).unwrap();
            let mut driver = driver.unwrap();
            settle(&mut driver);
            let found = keys(&mut driver);
            assert!(
                found >= acknowledged,
                "crash at operation {crash}, {survival:?}: {acknowledged} acknowledged, {found} found"
            );
            drop(driver);
            assert_eq!(run_with_checkpoints(&survivor, 3, found, 12), found + 12);
        }
    }
}

#[test]
fn a_checkpoint_trims_the_log_and_a_restart_needs_both() {
    let disk = MemoryDisk::new(BLOCK);
    let large = |proposal: u32| {
        let mut batch = BatchBuilder::default();
        let key = Bytes::from(format!("key {proposal:04}"));
        let value = Bytes::from(vec![7; 40_000]);
        batch.append_command(&Command::Put(PutRequest { key, value, ..PutRequest::default() }));
        batch.finish()
    };
    let (driver, file) = open_both(&disk, 1).unwrap();
    let mut driver = driver.unwrap();
    for proposal in 0..40 {
        if let Some(prepare) = driver.log().prepare() {
            let prepared = block_on(prepare.run());
            driver.log().prepared(prepared).unwrap();
        }
        settle(&mut driver);
        driver.propose(large(proposal), proposal).unwrap();
        assert_eq!(acknowledged(&settle(&mut driver)), [proposal]);
    }
    assert_eq!(driver.since_checkpoint().entries, 41, "an empty one, and the puts");
    driver.publish();
    let written = block_on(driver.begin_checkpoint().write(&file)).unwrap();
    assert_eq!(driver.since_checkpoint().entries, 0);
    let before = driver.log().first_index();
    driver.end_checkpoint(written);
    assert_eq!((before, driver.log().first_index()), (2, 43));
    while let Some(prepare) = driver.log().prepare() {
        let prepared = block_on(prepare.run());
        driver.log().prepared(prepared).unwrap();
    }
    drop(driver);

    let (driver, _) = open_both(&disk.copy(), 2).unwrap();
    let mut driver = driver.unwrap();
    settle(&mut driver);
    assert_eq!(driver.publish().revision(), Revision(41));

    // Neither without the other.
    let alone = disk.copy();
    alone.take("checkpoint");
    let (driver, _) = open_both(&alone, 2).unwrap();
    assert!(matches!(driver, Err(Fatal::Gap { .. })));
    let alone = disk.copy();
    for name in alone.names().into_iter().filter(|name| name != "checkpoint") {
        alone.take(&name);
    }
    let (driver, _) = open_both(&alone, 2).unwrap();
    assert!(matches!(driver, Err(Fatal::Gap { .. })));
}

/// What `work` comes to, or `None` once the disk has crashed: then its operations never return.
fn unless_crashed<T>(disk: &MemoryDisk, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    loop {
        match block_on(poll_once(work.as_mut())) {
            Some(result) => return Some(result),
            None if disk.crashed() => return None,
            None => {}
        }
    }
}

/// Proposes puts until the disk crashes or twenty are acknowledged. Returns how many were.
fn run_until_crash(disk: &MemoryDisk) -> u32 {
    let options = urd_wal::Options { segment_bytes: SEGMENT_BYTES, salt: 1 };
    let Some(opened) = unless_crashed(disk, Log::open(disk.clone(), options)) else { return 0 };
    let (log, recovered) = opened.unwrap();
    let mut driver = TestDriver::open(&options_of(1), log, &recovered, first_store()).unwrap();
    driver.campaign_if_alone().unwrap();
    let mut count = 0;
    let mut proposed = 0;
    loop {
        while let Some(turn) = driver.turn(Waiting::Task).unwrap() {
            count += u32::try_from(turn.outcomes.len()).unwrap();
            let Some(write) = turn.write else { continue };
            match unless_crashed(disk, write.done) {
                Some(completed) => drop(driver.written(completed.unwrap())),
                None => return count,
            }
        }
        if proposed == 20 {
            return count;
        }
        driver.propose(put(proposed), proposed).unwrap();
        proposed += 1;
    }
}

#[test]
fn a_log_read_offline_gives_the_state_of_a_restart() {
    let disk = MemoryDisk::new(BLOCK);
    let mut driver = leader(&disk, 1);
    for proposal in 0..20 {
        driver.propose(put(proposal), proposal).unwrap();
        settle(&mut driver);
    }
    let hash = driver.publish().hash_kv(0).unwrap();
    drop(driver);
    let offline = block_on(Offline::open(disk)).unwrap();
    let entries = offline.entries();
    let mut store = first_store();
    // The commit index in the log is that of the last write, which named the entry before it.
    let hard_state = replay::hard_state(&entries, offline.hard_state(), &store).unwrap();
    assert!((1..entries.last()).contains(&hard_state.commit), "{hard_state:?}");
    replay::replay_all(&entries, hard_state.commit, MemberId(1), &mut store).unwrap();
    assert_eq!(store.view().hash_kv(0).unwrap(), hash);
    assert_eq!(store.applied().0, entries.last());
    // A log of another member, which was removed: the one that is left may have gone another way.
    let mut store = first_store();
    replay::replay_all(&entries, hard_state.commit, MemberId(2), &mut store).unwrap();
    assert_eq!(store.applied().0, hard_state.commit);
}

/// A bit that flips in the last entry of a log that has come to rest is damage, and no write that the power cut short.
#[test]
fn a_log_at_rest_vouches_for_its_last_entry() {
    let disk = MemoryDisk::new(BLOCK);
    let mut driver = leader(&disk, 1);
    driver.propose(put(0), 0).unwrap();
    assert_eq!(acknowledged(&settle(&mut driver)), [0]);
    for _ in 1..limits::LOG_REST_TICKS {
        driver.tick();
        assert!(driver.vouch().is_none(), "it may not be at rest yet");
    }
    let flip_last = |disk: &MemoryDisk| {
        let value = |name: &String| {
            let bytes = disk.bytes(name);
            bytes.windows(8).rposition(|window| window == b"key 0000")
        };
        let names = disk.names();
        let (name, at) = names.iter().find_map(|name| Some((name, value(name)?))).unwrap();
        disk.corrupt(name, at, 1);
    };
    let options = || urd_wal::Options { segment_bytes: SEGMENT_BYTES, salt: 2 };
    let before = disk.copy();
    flip_last(&before);
    assert!(block_on(Log::open(before, options())).is_ok(), "nothing tells yet");
    driver.tick();
    let write = driver.vouch().unwrap();
    assert_eq!(driver.writes_in_flight(), 1);
    assert!(driver.vouch().is_none());
    complete(&mut driver, write);
    assert_eq!(driver.writes_in_flight(), 0);
    for _ in 0..3 * limits::LOG_REST_TICKS {
        driver.tick();
        settle(&mut driver);
        assert!(driver.vouch().is_none(), "it holds nothing new itself");
    }
    let damaged = disk.copy();
    flip_last(&damaged);
    let opened = block_on(Log::open(damaged, options()));
    assert!(matches!(opened, Err(urd_wal::OpenError::Damaged(_))));
    // Requests go on.
    driver.propose(put(1), 1).unwrap();
    assert_eq!(acknowledged(&settle(&mut driver)), [1]);
    drop(driver);
    assert_eq!(keys(&mut leader(&disk, 2)), 2);
}
