//! Appending, reading, trimming and opening again, with nothing going wrong.

use super::*;

#[test]
fn a_new_log_is_empty() {
    let disk = MemoryDisk::new(BLOCK);
    let (log, recovered) = open(&disk);
    assert_eq!((recovered.first, recovered.last, recovered.hard_state), (1, 0, None));
    assert_eq!(recovered.warnings, Vec::<String>::new());
    check(&log);
}

#[test]
fn entries_are_read_back_and_survive_an_opening() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    for first in (1..200).step_by(4) {
        append(&mut log, first, first + 4, 0, 300);
    }
    let expected: Vec<_> = (1..201).map(|index| (index, payload(index, 0, 300))).collect();
    assert_eq!(read_all(&log), expected);
    check(&log);
    block_on(log.close()).expect("closes");
    let (log, recovered) = open(&disk);
    assert_eq!((recovered.first, recovered.last), (1, 200));
    assert_eq!(recovered.warnings, Vec::<String>::new());
    assert_eq!(read_all(&log), expected);
    check(&log);
}
