//! Appending, replacing, reading, trimming and opening again, with nothing going wrong.

use futures_lite::future::poll_once;

use super::*;
use crate::{OpenError, ReadError, Waiting};

fn expect(log: &Log<MemoryDisk>, expected: &[(u64, Vec<u8>)]) {
    assert_eq!(read_all(log), expected);
    check(log);
}

fn versions(range: std::ops::Range<u64>, version: u64, bytes: usize) -> Vec<(u64, Vec<u8>)> {
    range.map(|index| (index, payload(index, version, bytes))).collect()
}

fn set_hard_state(log: &mut Log<MemoryDisk>, state: &[u8]) {
    let write = log.append(Some(state), &[]).expect("appends");
    finish(log, write);
}

#[test]
fn a_new_log_is_empty() {
    let disk = MemoryDisk::new(BLOCK);
    let (log, recovered) = open(&disk);
    assert_eq!((recovered.first, recovered.last, recovered.hard_state), (1, 0, None));
    assert_eq!(recovered.warnings, Vec::<String>::new());
    expect(&log, &[]);
    drop(log);
    // Opened and never used, again and again.
    for _ in 0..3 {
        let (log, recovered) = open(&disk);
        assert_eq!((recovered.first, recovered.last, recovered.hard_state), (1, 0, None));
        check(&log);
    }
}

#[test]
fn entries_are_read_back_and_survive_an_opening() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    for first in (1..200).step_by(4) {
        append(&mut log, first, first + 4, 0, 300);
    }
    let expected = versions(1..201, 0, 300);
    expect(&log, &expected);
    block_on(log.close()).expect("closes");
    let (log, recovered) = open(&disk);
    assert_eq!((recovered.first, recovered.last), (1, 200));
    assert_eq!(recovered.warnings, Vec::<String>::new());
    expect(&log, &expected);
}

#[test]
fn entries_of_any_size_down_to_nothing() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    let mut expected = Vec::new();
    let half = SEGMENT_BYTES as usize / 2;
    for (index, bytes) in (1..).zip([0, 1, 400, 431, 432, 433, 511, 512, 513, 4096, half, half]) {
        append(&mut log, index, index + 1, 0, bytes);
        expected.push((index, payload(index, 0, bytes)));
    }
    expect(&log, &expected);
    drop(log);
    let (log, _) = open(&disk);
    expect(&log, &expected);
}

#[test]
fn an_append_replaces_what_is_behind_its_first_entry() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    for first in [1, 11, 21] {
        append(&mut log, first, first + 10, 0, 700);
    }
    append(&mut log, 11, 14, 1, 700);
    assert_eq!(log.last_index(), 13);
    let mut expected = versions(1..11, 0, 700);
    expected.extend(versions(11..14, 1, 700));
    expect(&log, &expected);
    drop(log);
    let (mut log, recovered) = open(&disk);
    assert_eq!((recovered.first, recovered.last), (1, 13));
    expect(&log, &expected);
    append(&mut log, 14, 20, 1, 700);
    expected.extend(versions(14..20, 1, 700));
    expect(&log, &expected);
    // All of it.
    append(&mut log, 1, 2, 2, 10);
    expect(&log, &versions(1..2, 2, 10));
}

/// Replacing entries must not free the segment of the replaced ones before the new are durable.
#[test]
fn a_replaced_entry_holds_its_segment_until_the_trim_passes_it() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    for index in 1..30 {
        append(&mut log, index, index + 1, 0, 700);
    }
    let segments = block_on(log.check()).expect("sound").segments;
    append(&mut log, 3, 4, 1, 700);
    log.trim_prefix(4);
    prepare(&mut log);
    assert_eq!(block_on(log.check()).expect("sound").segments, segments);
    append(&mut log, 4, 31, 1, 100);
    log.trim_prefix(30);
    prepare(&mut log);
    assert!(block_on(log.check()).expect("sound").segments < segments);
    expect(&log, &versions(30..31, 1, 100));
}

#[test]
fn the_last_hard_state_survives_trimming_and_openings() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    set_hard_state(&mut log, b"first");
    set_hard_state(&mut log, b"second");
    for index in 1..100 {
        append(&mut log, index, index + 1, 0, 700);
        log.trim_prefix(index);
        prepare(&mut log);
    }
    // The segment it was written to is long gone.
    let checked = block_on(log.check()).expect("sound");
    assert!(checked.segments <= 2 && checked.first > 70, "{checked:?}");
    assert!(!disk.names().contains(&"0000000000000001.segment".to_owned()));
    drop(log);
    for _ in 0..3 {
        let (log, recovered) = open(&disk);
        assert_eq!(recovered.hard_state.as_deref(), Some(b"second".as_slice()));
        assert_eq!(log.hard_state(), Some(b"second".as_slice()));
        check(&log);
    }
    let (mut log, _) = open(&disk);
    set_hard_state(&mut log, b"");
    check(&log);
    drop(log);
    assert_eq!(open(&disk).1.hard_state.as_deref(), Some(b"".as_slice()));
}

#[test]
fn trimmed_segments_are_used_again() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    for index in 1..500 {
        append(&mut log, index, index + 1, 0, 700);
        log.trim_prefix(index.saturating_sub(20));
    }
    prepare(&mut log);
    let expected = versions(log.first_index()..500, 0, 700);
    expect(&log, &expected);
    // Hardly more files than the entries need, and none was filled since the first few.
    assert!(disk.names().len() <= 6, "{:?}", disk.names());
    let before = disk.operations();
    append(&mut log, 500, 501, 0, 700);
    assert_eq!(disk.operations(), before + 1, "one write is one operation");
    drop(log);
    let (log, recovered) = open(&disk);
    assert!(recovered.first <= 480 && recovered.last == 500);
    check(&log);
}

#[test]
fn a_jump_continues_the_log_behind_a_gap() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    for first in [1, 11, 20] {
        append(&mut log, first, first + 10, 0, 700);
    }
    log.trim_prefix(1001);
    assert_eq!((log.first_index(), log.last_index()), (1001, 1000));
    check(&log);
    let (_, recovered) = open(&disk.copy());
    assert_eq!(
        (recovered.first, recovered.last),
        (1, 29),
        "it is durable with the next write only"
    );
    set_hard_state(&mut log, b"state");
    check(&log);
    let (_, recovered) = open(&disk.copy());
    assert_eq!((recovered.first, recovered.last), (1001, 1000));
    assert_eq!(recovered.hard_state, Some(b"state".to_vec()));
    append(&mut log, 1001, 1010, 1, 700);
    let expected = versions(1001..1010, 1, 700);
    expect(&log, &expected);
    prepare(&mut log);
    drop(log);
    let (mut log, recovered) = open(&disk);
    assert_eq!((recovered.first, recovered.last), (1001, 1009));
    expect(&log, &expected);
    append(&mut log, 1010, 1011, 1, 700);
    check(&log);
}

/// Behind a snapshot of another history, entries of the old one are gone, whether before or behind it.
#[test]
fn a_restart_drops_what_is_behind_it() {
    for index in [0, 3, 14, 29, 30, 1000] {
        let disk = MemoryDisk::new(BLOCK);
        let (mut log, _) = open(&disk);
        for first in [1, 11, 21] {
            append(&mut log, first, first + 9, 0, 700);
            append(&mut log, first + 9, first + 10, 0, 700);
        }
        let files = disk.names();
        log.restart(index);
        assert_eq!((log.first_index(), log.last_index()), (index + 1, index));
        // The old entries are what a crash brings back, all of them.
        log.trim_prefix(index + 1);
        prepare(&mut log);
        assert!(files.iter().all(|name| disk.names().contains(name)));
        assert_eq!(open(&disk.copy()).1.last, 30);
        if index % 2 == 0 {
            set_hard_state(&mut log, b"state");
            let (copy, recovered) = open(&disk.copy());
            assert_eq!((recovered.first, recovered.last), (index + 1, index));
            check(&copy);
        }
        append(&mut log, index + 1, index + 4, 1, 700);
        let expected = versions(index + 1..index + 4, 1, 700);
        expect(&log, &expected);
        check(&log);
        block_on(log.close()).expect("closes");
        let (mut log, recovered) = open(&disk);
        assert_eq!((recovered.first, recovered.last), (index + 1, index + 3));
        expect(&log, &expected);
        append(&mut log, index + 4, index + 50, 1, 100);
        log.trim_prefix(index + 40);
        check(&log);
    }
}

#[test]
fn a_restart_alone_is_durable_when_the_log_is_closed() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    append(&mut log, 1, 10, 0, 700);
    log.restart(5);
    block_on(log.close()).expect("closes");
    let (log, recovered) = open(&disk);
    assert_eq!((recovered.first, recovered.last), (6, 5));
    check(&log);
}

#[test]
fn a_new_log_may_begin_anywhere() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    log.trim_prefix(5000);
    append(&mut log, 5000, 5003, 0, 10);
    expect(&log, &versions(5000..5003, 0, 10));
    drop(log);
    let (_, recovered) = open(&disk);
    assert_eq!((recovered.first, recovered.last), (5000, 5002));
}

#[test]
fn a_read_is_bounded_and_says_why_it_cannot() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    for index in 1..50 {
        append(&mut log, index, index + 1, 0, 700);
    }
    let read = |lo, hi, bytes| log.read(lo, hi, bytes).map(|entries| entries.len());
    assert_eq!(read(1, 50, 0).expect("reads"), 1);
    assert_eq!(read(1, 50, 700).expect("reads"), 1);
    assert_eq!(read(1, 50, 701).expect("reads"), 2);
    assert_eq!(read(1, 50, 7000).expect("reads"), 10);
    assert_eq!(read(1, 50, usize::MAX).expect("reads"), 49);
    assert_eq!(read(10, 12, usize::MAX).expect("reads"), 2);
    assert_eq!(read(10, 10, 100).expect("reads"), 0);
    assert_eq!(read(49, 90, usize::MAX).expect("reads"), 1);
    assert!(matches!(read(50, 51, 1), Err(ReadError::Beyond { index: 50, last: 49 })));
    log.trim_prefix(20);
    let read = |lo| log.read(lo, 50, 1).map(|entries| entries[0].0);
    assert_eq!(read(20).expect("reads"), 20);
    assert!(matches!(read(19), Err(ReadError::Trimmed { index: 19, first: 20 })));
}

#[test]
#[should_panic(expected = "an append at 3 to a log of entries 1..=1")]
fn a_gap_is_a_fault_of_the_caller() {
    let (mut log, _) = open(&MemoryDisk::new(BLOCK));
    append(&mut log, 1, 2, 0, 1);
    append(&mut log, 3, 4, 0, 1);
}

#[test]
#[should_panic(expected = "an append at 4 to a log of entries 5..=9")]
fn an_entry_before_the_first_is_a_fault_of_the_caller() {
    let (mut log, _) = open(&MemoryDisk::new(BLOCK));
    append(&mut log, 1, 10, 0, 1);
    log.trim_prefix(5);
    append(&mut log, 4, 5, 0, 1);
}

#[test]
fn options_out_of_bounds_are_refused() {
    let sizes = [(512, 1 << 12), (512, (16 << 10) + 1), (4096, 16 << 10), (512, (1 << 30) + 512)];
    for (block, segment_bytes) in sizes {
        let options = Options { segment_bytes, ..options() };
        let Err(OpenError::Unusable(why)) = block_on(Log::open(MemoryDisk::new(block), options))
        else {
            panic!("opened with segments of {segment_bytes} bytes");
        };
        assert!(why.contains("must be a multiple of"), "{why}");
    }
}

/// A log written on a device with small blocks is continued on one with large ones, and back, and
/// with segments of another size.
#[test]
fn blocks_and_segments_may_change_between_openings() {
    let mut disk = MemoryDisk::new(512);
    let mut last = 0;
    for (block, segment_bytes) in
        [(512, 16 << 10), (4096, 64 << 10), (65536, 1 << 20), (512, 32 << 10)]
    {
        let next = MemoryDisk::new(block);
        for name in disk.names() {
            next.put(&name, disk.bytes(&name));
        }
        disk = next;
        let options = Options { segment_bytes, ..options() };
        let (mut log, recovered) = block_on(Log::open(disk.clone(), options)).expect("opens");
        assert_eq!(recovered.last, last);
        for _ in 0..20 {
            append(&mut log, last + 1, last + 2, 0, 700);
            last += 1;
        }
        expect(&log, &versions(1..last + 1, 0, 700));
        log.trim_prefix(1);
    }
}

/// It completes when it is polled first, also while others are in flight, and is as durable.
#[test]
fn a_write_that_the_thread_waits_for_is_done_at_once() {
    let disk = MemoryDisk::new(BLOCK);
    disk.set_latency(50, 3);
    let (mut log, _) = open(&disk);
    prepare(&mut log);
    let body = payload(1, 0, 300);
    let entry = |index| Entry { index, payload: [&body, &[]] };
    let first = log.append(None, &[entry(1)]).expect("appends");
    let second = log.append_waiting(Waiting::Thread, None, &[entry(2)]).expect("appends");
    let done = block_on(poll_once(std::pin::pin!(second.done))).expect("done at once");
    assert_eq!(log.completed(done.expect("writes")).0, 0, "the one before it is not durable yet");
    let number = first.number;
    let done = block_on(first.done).expect("writes");
    assert!(log.completed(done) > number);
    drop(log);
    let (log, recovered) = open(&disk);
    assert_eq!(recovered.last, 2);
    check(&log);
}
