//! A log that nobody has open is read as the next opening would find it, and not changed.

use super::*;
use crate::{Offline, OpenError, ReadError};

/// The names and bytes of all files.
fn files(disk: &MemoryDisk) -> Vec<(String, Vec<u8>)> {
    disk.names().into_iter().map(|name| (name.clone(), disk.bytes(&name))).collect()
}

/// Entries 10..60 in several segments, the hard state that came with them, and the log.
fn filled(disk: &MemoryDisk) -> Log<MemoryDisk> {
    let (mut log, _) = open(disk);
    for index in 1..60 {
        append(&mut log, index, index + 1, 0, 700);
    }
    let write = log.append(Some(b"state"), &[]).expect("appends");
    finish(&mut log, write);
    log.trim_prefix(10);
    prepare(&mut log);
    check(&log);
    log
}

#[test]
fn what_is_read_offline_is_what_the_next_opening_finds() {
    let disk = MemoryDisk::new(BLOCK);
    let written = read_all(&filled(&disk));
    let before = files(&disk);
    let offline = block_on(Offline::open(disk.clone())).expect("opens");
    assert_eq!(files(&disk), before, "nothing is changed");
    let entries = offline.entries();
    let read = entries.read(entries.first(), entries.last() + 1, usize::MAX).expect("reads");
    let checked = offline.checked();
    assert!(checked.segments > 1 && offline.bytes() > u64::from(SEGMENT_BYTES));
    assert_eq!((checked.first, checked.last), (entries.first(), 59));

    let (log, recovered) = open(&disk);
    assert_eq!(offline.hard_state(), recovered.hard_state.as_deref());
    assert_eq!(offline.warnings(), &recovered.warnings[..]);
    assert_eq!((entries.first(), entries.last()), (recovered.first, recovered.last));
    assert_eq!(read, read_all(&log));
    assert_eq!(read[read.len() - written.len()..], written[..]);
    check(&log);
}

#[test]
fn entries_that_are_not_there_are_refused() {
    let disk = MemoryDisk::new(BLOCK);
    drop(filled(&disk));
    let offline = block_on(Offline::open(disk)).expect("opens");
    let entries = offline.entries();
    let (first, last) = (entries.first(), entries.last());
    let trimmed = entries.read(first - 1, last, 1);
    assert!(matches!(trimmed, Err(ReadError::Trimmed { index, .. }) if index == first - 1));
    let beyond = entries.read(last + 1, last + 2, 1);
    assert!(matches!(beyond, Err(ReadError::Beyond { index, .. }) if index == last + 1));
}

#[test]
fn damage_is_named_and_left_alone() {
    let disk = MemoryDisk::new(BLOCK);
    drop(filled(&disk));
    let name = disk.names().into_iter().find(|name| name.ends_with(".segment")).expect("a segment");
    let offset = format::data_offset(BLOCK) as usize;
    disk.corrupt(&name, offset + 20, 1);
    let before = files(&disk);
    match block_on(Offline::open(disk.clone())) {
        Err(OpenError::Damaged(damage)) => assert_eq!(damage.file, name),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("damage went unseen"),
    }
    assert_eq!(files(&disk), before);
}
