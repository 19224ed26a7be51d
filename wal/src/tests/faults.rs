//! A full disk, a failed write, an abandoned one: each has one documented outcome.

use futures_lite::future::poll_once;

use super::*;
use crate::disk::File;
use crate::disk::memory::{Fault, Survival};
use crate::{AppendError, CloseError, HARD_STATE_BYTES_MAX, OpenError, WriteError};

fn entry(index: u64, payload: &[u8]) -> [Entry<'_>; 1] {
    [Entry { index, payload: [payload, &[]] }]
}

/// Appends until the log refuses, preparing whenever there is something to prepare.
fn append_until_refused(log: &mut Log<MemoryDisk>) -> AppendError {
    let payload = [7; 700];
    for _ in 0..1000 {
        if let Some(work) = log.prepare()
            && let Err(error) = log.prepared(block_on(work.run()))
        {
            assert!(error.is_full(), "{error}");
        }
        let index = log.last_index() + 1;
        match log.append(None, &entry(index, &payload)) {
            Ok(write) => finish(log, write),
            Err(error) => return error,
        }
    }
    panic!("never refused");
}

#[test]
fn a_full_disk_refuses_entries_and_still_takes_hard_states() {
    let disk = MemoryDisk::new(BLOCK);
    disk.set_capacity(4 * u64::from(SEGMENT_BYTES));
    let (mut log, _) = open(&disk);
    assert_eq!(append_until_refused(&mut log), AppendError::Full);
    let last = log.last_index();
    assert!(last > 40);
    assert!(!log.has_room(700) && !log.has_room(0));
    for vote in 0..4 {
        let write = log.append(Some(&[vote; HARD_STATE_BYTES_MAX / 3]), &[]);
        finish(&mut log, write.expect("room for a hard state"));
    }
    check(&log);
    // Nothing of what was refused is there.
    assert_eq!(read_all(&log).len() as u64, last);
    // A half-made segment does not keep the disk full.
    assert!(!disk.names().iter().any(|name| name.ends_with(".fill")));

    // Trimming gives room, without a byte more on the disk.
    log.trim_prefix(last - 20);
    prepare(&mut log);
    assert!(log.has_room(700));
    append(&mut log, last + 1, last + 2, 0, 700);
    check(&log);
    assert_eq!(disk.names().len(), 4, "{:?}", disk.names());
}

/// The medium itself: what is written while a flush is under way is none of what it makes durable.
#[test]
fn a_late_flush_makes_durable_what_was_there_when_it_began() {
    let (disk, mut was_late) = (MemoryDisk::new(BLOCK), false);
    disk.set_flush_latency(20);
    let block = |byte| vec![byte; BLOCK as usize];
    for round in 1..=20_u8 {
        let file = block_on(disk.open_cached("file")).unwrap();
        block_on(file.write(0, block(round))).unwrap();
        block_on(disk.sync_directory()).unwrap();
        let flush = file.sync();
        let mut flush = std::pin::pin!(flush);
        let is_under_way = block_on(poll_once(flush.as_mut())).is_none();
        if is_under_way {
            block_on(file.write(u64::from(BLOCK), block(round))).unwrap();
            block_on(flush).unwrap();
        }
        let left = disk.after_crash(Survival::None, 0).bytes("file");
        assert_eq!(left[0], round);
        assert!(!is_under_way || left.get(BLOCK as usize) != Some(&round));
        was_late |= is_under_way;
    }
    assert!(was_late);
}

#[test]
fn a_member_starts_on_a_full_disk() {
    let disk = MemoryDisk::new(BLOCK);
    let larger = Options { segment_bytes: 64 << 10, ..options() };
    disk.set_capacity(3 * (64 << 10));
    let (mut log, _) = block_on(Log::open(disk.clone(), larger)).expect("opens");
    assert_eq!(append_until_refused(&mut log), AppendError::Full);
    let last = log.last_index();
    drop(log);
    // No room for a segment of the usual size, but for a small one.
    disk.set_capacity(3 * (64 << 10) + (16 << 10));
    let (mut log, recovered) = block_on(Log::open(disk.clone(), larger)).expect("opens");
    assert_eq!(recovered.last, last);
    let write = log.append(Some(b"a vote"), &[]).expect("room for a hard state");
    finish(&mut log, write);
    check(&log);
    drop(log);
    // Not even that.
    match block_on(Log::open(disk.clone(), larger)) {
        Err(error @ OpenError::Full { .. }) => {
            assert!(error.to_string().contains("free some space"), "{error}");
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("opened"),
    }
    disk.set_capacity(u64::MAX);
    let (log, recovered) = block_on(Log::open(disk, larger)).expect("opens");
    assert_eq!((recovered.last, recovered.hard_state), (last, Some(b"a vote".to_vec())));
    check(&log);
}

#[test]
fn without_a_next_segment_appends_wait_for_it() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    let payload = [7; 700];
    let mut index = 1;
    let refused = loop {
        match log.append(None, &entry(index, &payload)) {
            Ok(write) => finish(&mut log, write),
            Err(error) => break error,
        }
        index += 1;
    };
    assert_eq!(refused, AppendError::NotReady);
    assert_eq!(log.last_index(), index - 1, "what was refused leaves no trace");
    let work = log.prepare().expect("work");
    assert!(log.prepare().is_none(), "one at a time");
    log.prepared(block_on(work.run())).expect("prepares");
    let write = log.append(None, &entry(index, &payload)).expect("appends");
    finish(&mut log, write);
    check(&log);
}

#[test]
fn what_never_fits_is_refused_for_good() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    prepare(&mut log);
    let most = log.append_bytes_max();
    assert!(most >= SEGMENT_BYTES as usize / 2 + crate::ENTRY_BYTES);
    let payload = vec![1; most];
    let refused = log.append(None, &entry(1, &payload)).err();
    let bytes = most + crate::ENTRY_BYTES;
    assert_eq!(refused, Some(AppendError::TooLarge { bytes, bytes_max: most }));
    let state = vec![1; HARD_STATE_BYTES_MAX + 1];
    let refused = log.append(Some(&state), &[]).err();
    let bytes_max = HARD_STATE_BYTES_MAX;
    assert_eq!(refused, Some(AppendError::TooLarge { bytes: bytes_max + 1, bytes_max }));
    assert_eq!(log.last_index(), 0);
    // The largest there is, with the largest hard state, in a segment of its own.
    let payload = vec![1; most - crate::ENTRY_BYTES];
    append(&mut log, 1, 2, 0, 3000);
    let write = log.append(Some(&state[1..]), &entry(2, &payload)).expect("fits");
    finish(&mut log, write);
    check(&log);
}

#[test]
fn a_failed_write_ends_the_log() {
    for fault in [Fault::Fail, Fault::Short] {
        let disk = MemoryDisk::new(BLOCK);
        let (mut log, _) = open(&disk);
        prepare(&mut log);
        append(&mut log, 1, 3, 0, 2000);
        disk.fail_at(disk.operations(), fault);
        let payload = payload(3, 0, 2000);
        let write = log.append(None, &entry(3, &payload)).expect("accepted");
        let error = block_on(write.done).expect_err("fails");
        match (fault, &error) {
            (Fault::Fail, WriteError::Io { offset, bytes, .. })
            | (Fault::Short, WriteError::Short { offset, bytes, .. }) => {
                assert_eq!((*offset as usize, *bytes), (4096 + 512 + 4608, 2560), "{error}");
            }
            _ => panic!("{error}"),
        }
        assert!(error.to_string().starts_with("0000000000000001.segment: write"), "{error}");
        assert_eq!(log.append(None, &entry(4, &payload)).err(), Some(AppendError::Failed));
        assert_eq!(log.append(Some(b"x"), &[]).err(), Some(AppendError::Failed));
        assert!(log.prepare().is_none() && !log.has_room(1));
        assert!(matches!(block_on(log.close()), Err(CloseError::Failed)));
        // A new process finds what had been acknowledged.
        let (log, recovered) = open(&disk);
        assert_eq!(recovered.last, 2);
        check(&log);
    }
}

#[test]
fn an_abandoned_write_ends_the_log() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    drop(log.append(None, &entry(1, b"x")).expect("accepted"));
    assert_eq!(log.append(None, &entry(2, b"y")).err(), Some(AppendError::Failed));
}

#[test]
fn writes_complete_in_any_order_and_are_acknowledged_in_order() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    let mut done = Vec::new();
    for index in 1..=4 {
        let write = log.append(None, &entry(index, b"payload")).expect("accepted");
        assert_eq!(write.number.0, index);
        done.push(block_on(write.done).expect("writes"));
    }
    let error = log.read(1, 2, 100).expect_err("not known to be durable");
    assert_eq!(error.to_string(), "entry 1 is not durable yet");
    let [first, second, third, fourth] = done.try_into().expect("four");
    assert_eq!(log.completed(third).0, 0);
    assert_eq!(log.completed(second).0, 0);
    assert!(matches!(block_on(log.check()), Ok(checked) if checked.last == 4));
    assert_eq!(log.completed(first).0, 3);
    assert_eq!(log.read(1, 9, 100).expect("reads").len(), 3);
    assert_eq!(log.in_flight(), 1);
    assert_eq!(log.completed(fourth).0, 4);
    check(&log);
}

#[test]
fn a_log_with_writes_in_flight_is_not_closed_in_good_order() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    let write = log.append(None, &entry(1, b"x")).expect("accepted");
    assert!(matches!(block_on(log.close()), Err(CloseError::InFlight(1))));
    drop(write);
}

#[test]
fn a_failure_to_prepare_is_reported_and_made_good() {
    // At each of the steps: create, fill, sync, header, rename, sync of the directory.
    for step in 0..6 {
        let disk = MemoryDisk::new(BLOCK);
        let (mut log, _) = open(&disk);
        let names = disk.names();
        disk.fail_at(disk.operations() + step, Fault::Fail);
        let work = log.prepare().expect("work");
        let error = log.prepared(block_on(work.run())).expect_err("fails");
        assert!(!error.is_full(), "{error}");
        assert_eq!(disk.names(), names, "nothing is left behind, step {step}");
        prepare(&mut log);
        for index in 1..60 {
            append(&mut log, index, index + 1, 0, 700);
        }
        check(&log);
        drop(log);
        let (log, recovered) = open(&disk);
        assert_eq!((recovered.last, recovered.warnings.len()), (59, 0), "step {step}");
        check(&log);
    }
}

#[test]
fn a_failure_to_recycle_is_reported_and_made_good() {
    for step in 0..6 {
        let disk = MemoryDisk::new(BLOCK);
        let (mut log, _) = open(&disk);
        for index in 1..60 {
            append(&mut log, index, index + 1, 0, 700);
        }
        prepare(&mut log);
        log.trim_prefix(50);
        disk.fail_at(disk.operations() + step, Fault::Fail);
        let work = log.prepare().expect("work");
        log.prepared(block_on(work.run())).expect_err("fails");
        prepare(&mut log);
        for index in 60..90 {
            append(&mut log, index, index + 1, 0, 700);
        }
        check(&log);
        drop(log);
        let (log, recovered) = open(&disk);
        assert_eq!((recovered.last, recovered.warnings.len()), (89, 0), "step {step}");
        assert!(recovered.first > 40);
        check(&log);
    }
}

#[test]
fn a_failed_opening_changes_nothing_that_was_acknowledged() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    append(&mut log, 1, 10, 0, 100);
    drop(log);
    for step in 0.. {
        let before = disk.operations();
        disk.fail_at(before + step, Fault::Fail);
        if block_on(Log::open(disk.clone(), options())).is_ok() {
            assert!(step > 6, "every step of an opening can fail");
            break;
        }
        let (log, recovered) = open(&disk);
        assert_eq!(recovered.last, 9, "step {step}");
        check(&log);
    }
}
