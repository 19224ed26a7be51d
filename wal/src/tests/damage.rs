//! Bytes that are not what was written: found, named and refused wherever anything later vouches
//! for them; never taken for data; never cut silently.

use super::*;
use crate::OpenError;
use crate::disk::memory::Fault;
use crate::format::{Frame, Kind, Position, SegmentHeader, SegmentId, WriteHead};

/// The segments that are part of a log, oldest first.
fn segments(disk: &MemoryDisk) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.ends_with(".segment")).collect()
}

/// Where each write of a segment starts, and how long it is without its padding.
fn writes(disk: &MemoryDisk, name: &str) -> Vec<(usize, usize)> {
    let bytes = disk.bytes(name);
    let header = SegmentHeader::decode(&bytes).expect("a header");
    let mut writes = Vec::new();
    let mut at = format::data_offset(header.block) as usize;
    while let Ok(frame) = Frame::decode(&bytes[at.min(bytes.len())..], header.salt) {
        let head = WriteHead::decode(&frame).expect("a head");
        writes.push((at, head.bytes as usize));
        at += format::padded(head.bytes as usize, header.block);
    }
    writes
}

fn try_open(disk: &MemoryDisk) -> Result<(Log<MemoryDisk>, Recovered), OpenError> {
    block_on(Log::open(disk.clone(), options()))
}

fn damage(disk: &MemoryDisk) -> crate::Damage {
    match try_open(disk) {
        Err(OpenError::Damaged(damage)) => damage,
        Err(error) => panic!("{error}"),
        Ok((_, recovered)) => panic!("opened: {recovered:?}"),
    }
}

/// Several segments with a dozen writes each, closed in good order or not.
fn filled(close: bool) -> MemoryDisk {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    for index in 1..40 {
        append(&mut log, index, index + 1, 0, 700);
    }
    check(&log);
    if close {
        block_on(log.close()).expect("closes");
    }
    disk
}

#[test]
fn any_flipped_bit_before_the_last_write_is_refused() {
    let disk = filled(true);
    let names = segments(&disk);
    let mut tried = 0;
    for (nth, name) in names.iter().enumerate() {
        let mut all = writes(&disk, name);
        if nth + 1 == names.len() {
            // The last segment is ready and unused, the one before ends with the closing write.
            assert_eq!(all.len(), 0);
            continue;
        }
        if nth + 2 == names.len() {
            all.pop();
        }
        for (at, bytes) in all {
            for offset in [0, 5, 9, 12, 14, 17, 25, 33, 41, 46, bytes / 2, bytes - 1] {
                let copy = disk.copy();
                copy.corrupt(name, at + offset.min(bytes - 1), 1 << (offset % 8));
                let damage = damage(&copy);
                assert_eq!((&damage.file, damage.offset), (name, at as u64), "{damage}");
                assert!(damage.expected.contains("durable up to"), "{damage}");
                tried += 1;
            }
        }
    }
    assert!(tried > 400, "{tried}");
}

#[test]
fn padding_is_zero_and_not_part_of_the_log() {
    let disk = filled(true);
    let name = &segments(&disk)[0];
    for (at, bytes) in writes(&disk, name) {
        let padding = at + bytes..at + format::padded(bytes, BLOCK);
        assert!(disk.bytes(name)[padding.clone()].iter().all(|byte| *byte == 0));
        if let Some(offset) = padding.into_iter().next_back() {
            let copy = disk.copy();
            copy.corrupt(name, offset, 0x10);
            let (log, recovered) = try_open(&copy).expect("opens");
            assert_eq!(recovered.last, 39);
            check(&log);
        }
    }
}

#[test]
fn an_orderly_end_vouches_for_the_last_entry() {
    let disk = filled(true);
    let names = segments(&disk);
    let name = &names[names.len() - 2];
    let all = writes(&disk, name);
    let [.., (at, bytes), (_, closing)] = all[..] else {
        panic!("an entry and the closing write");
    };
    assert_eq!(closing, format::frame_bytes(format::WRITE_HEAD_BYTES));
    disk.corrupt(name, at + bytes - 1, 0x40);
    assert_eq!(damage(&disk).offset, at as u64);
}

/// The same while the log is open: no bit of what it holds flips unseen once it has come to rest.
#[test]
fn a_log_at_rest_vouches_for_its_last_entry() {
    // The last write stands in the middle of a segment, at the end of one, or is the first of one.
    let mut ends = [0; 3];
    for count in 1..60 {
        let disk = MemoryDisk::new(BLOCK);
        let (mut log, _) = open(&disk);
        assert!(log.vouch().is_none(), "the opening has done so");
        for index in 1..=count {
            append(&mut log, index, index + 1, 0, 700);
        }
        let names = segments(&disk);
        let used = |name: &&String| !writes(&disk, name).is_empty();
        let name = names.iter().rfind(used).expect("a segment in use").clone();
        let (at, bytes) = *writes(&disk, &name).last().expect("a write");
        let vouch = log.vouch().expect("the last write has an entry");
        assert!(log.vouch().is_none(), "it is in flight");
        finish(&mut log, vouch);
        assert!(log.vouch().is_none(), "it has nothing in it itself");
        let is_last = *writes(&disk, &name).last().expect("a write") == (at, bytes);
        let is_first = at == format::data_offset(BLOCK) as usize;
        ends[if is_first { 2 } else { usize::from(is_last) }] += 1;
        for offset in [0, 17, 33, bytes / 2, bytes - 1] {
            let copy = disk.copy();
            copy.corrupt(&name, at + offset, 0x40);
            let damage = damage(&copy);
            assert_eq!((&damage.file, damage.offset), (&name, at as u64), "{damage}");
            assert!(damage.expected.contains("durable up to"), "{damage}");
        }
        // It goes on, and wants another one.
        append(&mut log, count + 1, count + 2, 0, 700);
        assert!(log.vouch().is_some());
        drop(log);
        let (log, recovered) = try_open(&disk.copy()).expect("opens");
        assert_eq!((recovered.last, recovered.warnings), (count + 1, Vec::new()));
        check(&log);
    }
    assert!(ends.iter().all(|count| *count > 0), "{ends:?}");
}

/// What vouches for the last entry holds nothing: without it, nothing is missing.
#[test]
fn damage_to_what_vouches_takes_nothing_away() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    append(&mut log, 1, 9, 0, 100);
    let names = segments(&disk);
    let before = writes(&disk, &names[0]).len();
    let vouch = log.vouch().expect("the last write has entries");
    finish(&mut log, vouch);
    let (at, bytes) = *writes(&disk, &names[0]).last().expect("a write");
    assert_eq!(writes(&disk, &names[0]).len(), before + 1);
    for offset in 0..bytes {
        let copy = disk.copy();
        copy.corrupt(&names[0], at + offset, 0x40);
        let (log, recovered) = try_open(&copy).expect("opens");
        assert_eq!((recovered.first, recovered.last), (1, 8));
        check(&log);
    }
}

/// On a full disk the room that is left is for hard states.
#[test]
fn a_log_without_room_does_not_vouch() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    let payload = [0; 700];
    for index in 1.. {
        let entry = Entry { index, payload: [&payload, &[]] };
        match log.append(None, &[entry]) {
            Ok(write) => finish(&mut log, write),
            Err(error) => {
                assert_eq!(error, crate::AppendError::NotReady);
                break;
            }
        }
    }
    // What is too little for an entry may do for a write without any.
    let mut vouched = 0;
    while let Some(vouch) = log.vouch() {
        finish(&mut log, vouch);
        vouched += 1;
    }
    assert!(vouched <= 1);
    let write = log.append(Some(b"a vote"), &[]).expect("room is kept");
    finish(&mut log, write);
    check(&log);
}

/// Files of two members, mixed up.
#[test]
fn a_segment_of_another_log_is_refused() {
    let disk = filled(false);
    let other = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&other);
    for index in 1..40 {
        append(&mut log, index, index + 1, 1, 700);
    }
    for name in &segments(&disk)[..4] {
        assert_eq!(writes(&disk, name), writes(&other, name));
        let copy = disk.copy();
        copy.put(name, other.bytes(name));
        damage(&copy);
    }
}

/// What the format cannot tell from a torn write, and says so: FORMAT.md, "What stays undetected".
#[test]
fn a_flipped_bit_in_the_last_write_is_taken_for_a_torn_tail() {
    let disk = filled(false);
    let names = segments(&disk);
    let name = &names[names.len() - 2];
    let (at, bytes) = *writes(&disk, name).last().expect("a write");
    disk.corrupt(name, at + bytes - 1, 0x40);
    let (log, recovered) = try_open(&disk).expect("opens");
    assert_eq!((recovered.first, recovered.last), (1, 38));
    let warning = recovered.warnings.first().expect("a warning");
    assert!(warning.contains(name) && warning.contains(&at.to_string()), "{warning}");
    check(&log);
    // From now on the opening vouches for what is left, and the warning does not come back.
    let (_, recovered) = try_open(&disk).expect("opens");
    assert_eq!((recovered.last, recovered.warnings), (38, Vec::new()));
}

#[test]
fn a_write_reported_durable_and_dropped_is_refused() {
    for fault in [Fault::Drop, Fault::Misdirect(4096)] {
        let disk = MemoryDisk::new(BLOCK);
        let (mut log, _) = open(&disk);
        prepare(&mut log);
        append(&mut log, 1, 2, 0, 100);
        disk.fail_at(disk.operations(), fault);
        append(&mut log, 2, 3, 0, 100);
        let end = log.check();
        assert!(block_on(end).is_err(), "the full check sees it at once");
        append(&mut log, 3, 4, 0, 100);
        append(&mut log, 4, 5, 0, 100);
        let damage = damage(&disk);
        assert_eq!(damage.offset, 4096 + 3 * 512 - 512, "{damage}");
    }
}

#[test]
fn a_segment_missing_in_the_middle_is_refused() {
    let disk = filled(false);
    let names = segments(&disk);
    assert!(names.len() > 4);
    for missing in 1..names.len() - 2 {
        let copy = disk.copy();
        copy.take(&names[missing]);
        let damage = damage(&copy);
        assert_eq!(damage.file, names[missing - 1]);
        assert!(damage.found.contains("follows checksum"), "{damage}");
    }
}

/// Whether the front was trimmed or lost, only the owner of the snapshot can tell.
#[test]
fn a_segment_missing_at_the_front_is_told_by_the_first_index() {
    let disk = filled(false);
    disk.take(&segments(&disk)[0]);
    let (log, recovered) = try_open(&disk).expect("opens");
    assert!(recovered.first > 1);
    assert_eq!(recovered.last, 39);
    check(&log);
}

#[test]
fn a_segment_put_back_is_refused() {
    let disk = filled(false);
    let names = segments(&disk);
    // A copy of a segment under a name of its own.
    let copy = disk.copy();
    let other = "00000000000000ff.segment";
    copy.put(other, disk.bytes(&names[1]));
    let found = damage(&copy);
    assert_eq!((found.file.as_str(), found.offset), (other, 16));
    assert!(found.expected.contains("file's name"), "{found}");
    // Two segments that continue the same one: made by cutting, losing what replaced the cut part,
    // and restoring it later beside its successor.
    let header = SegmentHeader::decode(&disk.bytes(&names[2])).expect("a header");
    let twin = SegmentHeader { id: SegmentId(0xfe), ..header };
    let copy = disk.copy();
    copy.put("00000000000000fe.segment", rewritten(&disk.bytes(&names[2]), twin));
    let found = damage(&copy);
    assert!(found.found.contains("00000000000000fe"), "{found}");
}

/// The same writes as in `bytes`, as if they had been written to the segment of `header`.
fn rewritten(bytes: &[u8], header: SegmentHeader) -> Vec<u8> {
    let old = SegmentHeader::decode(bytes).expect("a header");
    let mut new = vec![0; bytes.len()];
    new[..format::SEGMENT_HEADER_BYTES].copy_from_slice(&header.encode());
    let mut at = format::data_offset(old.block) as usize;
    let mut previous = None;
    while let Ok(head) = Frame::decode(&bytes[at..], old.salt) {
        let length = WriteHead::decode(&head).expect("a head").bytes as usize;
        let stamp = format::Stamp { segment: header.id, salt: header.salt };
        let previous_crc = previous.unwrap_or(head.previous);
        let mut encoder = format::Encoder::new(&mut new[at..at + length], stamp, previous_crc);
        let mut inner = at;
        while inner < at + length {
            let frame = Frame::decode(&bytes[inner..], old.salt).expect("a frame");
            let mut payload = frame.payload.to_vec();
            if frame.kind == Kind::Write {
                // Claims on the old segment become claims on the new one.
                let mut head = WriteHead::decode(&frame).expect("a head");
                if head.durable.segment == old.id {
                    head.durable.segment = header.id;
                }
                payload = head.encode().to_vec();
            }
            encoder.frame(frame.kind, frame.index, [&payload, &[]]);
            inner += frame.bytes();
        }
        previous = Some(encoder.finish());
        at += format::padded(length, old.block);
    }
    new
}

#[test]
fn a_header_is_refused_by_magic_then_version_then_checksum() {
    let disk = filled(false);
    let name = &segments(&disk)[1];
    let header = SegmentHeader::decode(&disk.bytes(name)).expect("a header");
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let copy = disk.copy();
        let mut bytes = disk.bytes(name);
        change(&mut bytes);
        copy.put(name, bytes);
        try_open(&copy).err().expect("refused").to_string()
    };
    // A later version has another layout behind the version, so also another checksum.
    let magic = with(&|bytes| bytes[0..40].fill(b'x'));
    assert!(magic.contains("offset 0: found \"xxxxxxxx\"; expected \"urd-wal\\n\""), "{magic}");
    let version = with(&|bytes| bytes[8] = 9);
    assert!(version.contains("version 9") && version.contains("newer build"), "{version}");
    let checksum = with(&|bytes| bytes[17] ^= 1);
    assert!(checksum.contains("offset 32: found checksum"), "{checksum}");
    let encode = |header: SegmentHeader| {
        with(&|bytes| bytes[..format::SEGMENT_HEADER_BYTES].copy_from_slice(&header.encode()))
    };
    let block = encode(SegmentHeader { block: 768, ..header });
    assert!(block.contains("offset 12: found blocks of 768 bytes"), "{block}");
    let bytes = encode(SegmentHeader { bytes: 4096, ..header });
    assert!(bytes.contains("offset 24: found a segment of 4096 bytes"), "{bytes}");
    let id = encode(SegmentHeader { id: SegmentId(77), ..header });
    assert!(id.contains("found segment id 000000000000004d"), "{id}");
    let longer = with(&|bytes| bytes.truncate(SEGMENT_BYTES as usize - 512));
    assert!(longer.contains("found a file of 15872 bytes; expected 16384"), "{longer}");
    let short = with(&|bytes| bytes.truncate(20));
    assert!(short.contains("found 20 bytes; expected a header of 36"), "{short}");
}

#[test]
fn what_is_not_of_the_log_is_left_alone_or_removed() {
    let disk = filled(false);
    disk.put("notes.txt", b"keep me".to_vec());
    disk.put("0000000000000001.segment~", b"and me".to_vec());
    disk.put("000000000000004e.fill", vec![0; 100]);
    disk.put("000000000000004f.spare", vec![1; 100]);
    let (log, recovered) = try_open(&disk).expect("opens");
    assert_eq!(recovered.warnings.len(), 2, "{:?}", recovered.warnings);
    assert!(recovered.warnings[1].contains("notes.txt: not a file of the log, left alone"));
    assert_eq!(disk.bytes("notes.txt"), b"keep me");
    let names = disk.names();
    assert!(!names.iter().any(|name| name.ends_with(".fill") || name.ends_with(".spare")));
    // An id that a file may contain is not given out again, even if the file is gone.
    assert!(segments(&disk).last().is_some_and(|name| name.as_str() > "000000000000004f"));
    check(&log);
}

/// Ids are counted on from.
#[test]
fn an_id_that_no_log_comes_to_is_refused() {
    for name in ["fffffffffffffffe.spare", "ffffffffffffffff.spare", "4000000000000001.spare"] {
        let disk = filled(false);
        disk.put(name, vec![1; 100]);
        let Err(error) = try_open(&disk) else { panic!("{name}") };
        assert!(error.to_string().contains("no log comes to such an id"), "{error}");
    }
}

/// A value that holds what looks like a write of the log, at every block of it.
fn forged(segment: SegmentId, salt: u32) -> Vec<u8> {
    let durable = Position { segment: SegmentId(u64::MAX), offset: u32::MAX };
    let mut value = vec![0; 5 * BLOCK as usize];
    for block in value.chunks_mut(BLOCK as usize) {
        let head = WriteHead { durable, bytes: 48 };
        let mut encoder = format::Encoder::new(block, format::Stamp { segment, salt }, 0);
        encoder.frame(Kind::Write, 0, [&head.encode(), &[]]);
    }
    value
}

#[test]
fn every_segment_of_every_opening_has_a_salt_of_its_own() {
    let mut salts = Vec::new();
    for salt in 0..20 {
        let disk = MemoryDisk::new(BLOCK);
        let opened = block_on(Log::open(disk.clone(), Options { salt, ..options() }));
        let (mut log, _) = opened.expect("opens");
        prepare(&mut log);
        for name in segments(&disk) {
            salts.push(SegmentHeader::decode(&disk.bytes(&name)).expect("a header").salt);
        }
    }
    assert_eq!(salts.len(), 40);
    salts.sort_unstable();
    salts.dedup();
    assert_eq!(salts.len(), 40);
}

/// A client must not be able to keep a member from starting by what it puts into a value. What
/// protects is the salt: with the right one, the forgery would work.
#[test]
fn a_client_cannot_forge_evidence() {
    let open_with = |guess: &dyn Fn(u32) -> u32| {
        let disk = MemoryDisk::new(BLOCK);
        let (mut log, _) = open(&disk);
        append(&mut log, 1, 2, 0, 10);
        let name = segments(&disk)[0].clone();
        let salt = SegmentHeader::decode(&disk.bytes(&name)).expect("a header").salt;
        let value = forged(SegmentId(1), guess(salt));
        // So that the frames' heads do stand at the blocks' beginnings.
        let before = BLOCK as usize - 48 - 32;
        let write = log.append(None, &[Entry { index: 2, payload: [&vec![0; before], &value] }]);
        finish(&mut log, write.expect("appends"));
        let (at, _) = writes(&disk, &name)[2];
        // The write is torn: its first sector did not arrive.
        let mut bytes = disk.bytes(&name);
        bytes[at..at + BLOCK as usize].fill(0);
        disk.put(&name, bytes);
        try_open(&disk).map(|(_, recovered)| recovered.last)
    };
    assert_eq!(open_with(&|salt| salt ^ 1).expect("opens"), 1);
    assert!(open_with(&|salt| salt).is_err());
}

#[test]
fn a_damaged_entry_is_refused_when_it_is_read() {
    let disk = filled(false);
    let (log, _) = try_open(&disk).expect("opens");
    let name = &segments(&disk)[0];
    let (at, _) = writes(&disk, name)[3];
    disk.corrupt(name, at + 48 + 32 + 5, 4);
    let error = log.read(3, 4, 10).expect_err("refused");
    let expected = format!("{name}: damaged at offset {}", at + 48);
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert!(log.read(4, 9, 10_000).is_ok());
    assert!(block_on(log.check()).is_err());
}
