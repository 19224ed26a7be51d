//! The decision table of recovery: complete, unambiguous, as documented, and each row reached by
//! bytes that a run can leave.

use super::*;
use crate::HARD_STATE_BYTES_MAX;
use crate::OpenError;
use crate::disk::memory::Fault;
use crate::format::{Encoder, Kind, Position, SegmentHeader, SegmentId, Stamp, Start, WriteHead};
use crate::recover::{self, Behind, Case, Next, TABLE, Verdict};
use crate::scan::Place;

/// Up to the end of the segment.
const WRITE_BYTES: usize = SEGMENT_BYTES as usize - END;
const PLACES: [Place; 4] = [Place::Blank, Place::Leftover, Place::Torn, Place::Contradiction];
const NEXTS: [Next; 4] = [Next::Absent, Next::Headless, Next::Follows, Next::Astray];
const BEHINDS: [Behind; 3] = [Behind::Nothing, Behind::Within, Behind::Beyond];

#[test]
fn every_case_has_exactly_one_row() {
    for place in PLACES {
        for next in NEXTS {
            for behind in BEHINDS {
                let case = Case { place, next, behind };
                let rows: Vec<_> = TABLE.iter().filter(|row| row.covers(case)).collect();
                assert_eq!(rows.len(), 1, "{case:?}");
                assert_eq!(rows[0].why, case.row().why);
            }
        }
    }
}

/// Nothing that a later write vouches for is ever cut, and nothing is invented.
#[test]
fn the_verdicts_keep_the_principle() {
    for row in TABLE {
        let loses = matches!(row.verdict, Verdict::End | Verdict::Cut);
        assert!(!loses || !row.behind.contains(&Behind::Beyond), "{}", row.why);
        let silent = row.verdict == Verdict::End;
        assert!(!silent || row.behind == [Behind::Nothing], "{}", row.why);
        let continues = row.verdict == Verdict::Continue;
        assert!(!continues || row.next == [Next::Follows], "{}", row.why);
    }
}

fn words<T: std::fmt::Debug>(set: &[T], all: usize) -> String {
    if set.len() == all {
        return "any".to_owned();
    }
    let words: Vec<_> = set.iter().map(|value| format!("{value:?}").to_lowercase()).collect();
    words.join(", ")
}

#[test]
fn the_table_is_the_one_in_format_md() {
    let mut table =
        "| at the place | next segment | writes behind | verdict | why |\n|---|---|---|---|---|\n"
            .to_owned();
    for row in TABLE {
        table += &format!(
            "| {} | {} | {} | **{}** | {} |\n",
            words(row.place, PLACES.len()),
            words(row.next, NEXTS.len()),
            words(row.behind, BEHINDS.len()),
            format!("{:?}", row.verdict).to_lowercase(),
            row.why,
        );
    }
    documented(&table);
}

/// What the disk is left with, and the case it must be judged as.
struct Scenario {
    name: &'static str,
    disk: MemoryDisk,
    case: (Place, Next, Behind),
    verdict: Verdict,
    /// The last entry that is there after the opening, if it opens.
    last: u64,
}

/// A log of a few entries that fills most of its first segment, with a second one ready.
fn begun() -> (MemoryDisk, Log<MemoryDisk>) {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    for index in 1..=5 {
        append(&mut log, index, index + 1, 0, 1500);
    }
    prepare(&mut log);
    (disk, log)
}

/// Writes of one entry each, all encoded before any of them is made, so that none vouches for
/// another; `lost` of them never reach the medium.
fn in_flight(log: &mut Log<MemoryDisk>, disk: &MemoryDisk, bytes: &[usize], lost: &[usize]) {
    let mut writes = Vec::new();
    for bytes in bytes {
        let index = log.last_index() + 1;
        let payload = payload(index, 0, *bytes);
        let write = log.append(None, &[Entry { index, payload: [&payload, &[]] }]);
        writes.push(write.expect("accepted").done);
    }
    for (nth, write) in writes.into_iter().enumerate() {
        if lost.contains(&nth) {
            disk.fail_at(disk.operations(), Fault::Drop);
        }
        let _unacknowledged = block_on(write).expect("writes");
    }
}

const FIRST: &str = "0000000000000001.segment";
const SECOND: &str = "0000000000000002.segment";
/// Where the first segment of [`begun`] ends: its first write and five of four blocks.
const END: usize = 4096 + 512 + 5 * 2048;

fn scenarios() -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    let mut add = |name, disk: &MemoryDisk, case, verdict, last| {
        scenarios.push(Scenario { name, disk: disk.copy(), case, verdict, last });
    };
    let (place, next, behind) = (Place::Blank, Next::Absent, Behind::Nothing);

    let (disk, _log) = begun();
    add("a process that died at rest", &disk, (place, next, behind), Verdict::End, 5);
    let empty = MemoryDisk::new(BLOCK);
    add("an empty directory", &empty, (place, next, behind), Verdict::End, 0);

    let (disk, mut log) = begun();
    log.trim_prefix(5);
    for index in 6..40 {
        append(&mut log, index, index + 1, 0, 1500);
        log.trim_prefix(index);
    }
    let case = (Place::Leftover, next, behind);
    add("the same in a recycled segment", &disk, case, Verdict::End, 39);

    let (disk, mut log) = begun();
    in_flight(&mut log, &disk, &[300, 300], &[0]);
    let case = (place, next, Behind::Within);
    add("the first of two in flight was lost", &disk, case, Verdict::Cut, 5);

    let (disk, mut log) = begun();
    in_flight(&mut log, &disk, &[900, 100], &[]);
    let mut bytes = disk.bytes(FIRST);
    bytes[END + 512..END + 1024].fill(0);
    disk.put(FIRST, bytes.clone());
    let case = (Place::Torn, next, Behind::Within);
    add("the first of two in flight was torn", &disk, case, Verdict::Cut, 5);
    bytes[END..END + 512].copy_from_slice(&[0; 512]);
    bytes[END + 16] = 1;
    disk.put(FIRST, bytes);
    add("and its head is not a head", &disk, case, Verdict::Cut, 5);

    let (disk, mut log) = begun();
    in_flight(&mut log, &disk, &[900], &[]);
    let mut bytes = disk.bytes(FIRST);
    bytes[END + 40] ^= 1;
    disk.put(FIRST, bytes);
    let case = (Place::Torn, next, behind);
    add("a single write in flight was torn", &disk, case, Verdict::Cut, 5);

    let (disk, mut log) = begun();
    in_flight(&mut log, &disk, &[300, 4000], &[0]);
    let case = (place, Next::Astray, Behind::Within);
    add("the last of a segment was lost, not the first of the next", &disk, case, Verdict::Cut, 5);

    let (disk, mut log) = begun();
    in_flight(&mut log, &disk, &[4000, 300], &[0]);
    let case = (place, Next::Headless, Behind::Within);
    add("the first of a segment was lost, not the second", &disk, case, Verdict::Cut, 5);

    let (disk, mut log) = begun();
    append(&mut log, 6, 7, 0, 4000);
    append(&mut log, 7, 8, 0, 4000);
    let case = (place, next, behind);
    add("a segment that follows", &disk, case, Verdict::End, 7);
    let copy = disk.copy();
    copy.take(FIRST);
    add("and the first one was trimmed", &copy, case, Verdict::End, 7);
    let copy = disk.copy();
    copy.corrupt(FIRST, END - 2000, 1);
    let case = (Place::Torn, Next::Astray, Behind::Beyond);
    add("a bit flipped in an earlier segment", &copy, case, Verdict::Damaged, 0);
    let copy = disk.copy();
    copy.corrupt(SECOND, 4096 + 60, 1);
    let case = (place, Next::Headless, Behind::Beyond);
    add("a bit flipped in the first write of a later segment", &copy, case, Verdict::Damaged, 0);
    scenarios
}

#[test]
fn what_runs_leave_is_judged_by_the_row_meant_for_it() {
    for Scenario { name, disk, case: (place, next, behind), verdict, last } in scenarios() {
        let scan = block_on(recover::scan(&disk)).expect("reads");
        let (case, _) = recover::case(&scan);
        assert_eq!(case, Case { place, next, behind }, "{name}");
        assert_eq!(case.row().verdict, verdict, "{name}");
        match (verdict, block_on(Log::open(disk.clone(), options()))) {
            (Verdict::End | Verdict::Cut, Ok((mut log, recovered))) => {
                assert_eq!(recovered.last, last, "{name}");
                let warned = !recovered.warnings.is_empty();
                assert_eq!(warned, verdict == Verdict::Cut, "{name}: {:?}", recovered.warnings);
                // What was lost is appended once more, with the same bytes.
                for index in last + 1..last + 4 {
                    append(&mut log, index, index + 1, 0, 300);
                }
                check(&log);
            }
            (Verdict::Damaged, Err(OpenError::Damaged(_))) => {}
            (_, Err(error)) => panic!("{name}: {error}"),
            (_, Ok((_, recovered))) => panic!("{name}: opened {recovered:?}"),
        }
    }
}

/// Rows that no run leads to: a write that is sound and says what cannot be.
#[test]
fn contradictions_are_refused() {
    type Frames = Vec<(Kind, u64, Vec<u8>)>;
    let salt = |disk: &MemoryDisk| SegmentHeader::decode(&disk.bytes(FIRST)).expect("header").salt;
    let chain = |disk: &MemoryDisk| {
        let scan = block_on(recover::scan(disk)).expect("reads");
        scan.chain.last().expect("a segment").crc()
    };
    let refused_behind =
        |last: u64, frames: Frames, durable: u32, previous: u32, expected: &str| {
            let (disk, _log) = begun();
            let segment = SegmentId(1);
            let length = frames.iter().map(|(_, _, payload)| format::frame_bytes(payload.len()));
            let head = WriteHead {
                durable: Position { segment, offset: durable },
                bytes: length.sum::<usize>() as u32 + 48,
            };
            let mut write = vec![0; WRITE_BYTES];
            let stamp = Stamp { segment, salt: salt(&disk) };
            let mut encoder = Encoder::new(&mut write, stamp, chain(&disk) ^ previous);
            encoder.frame(Kind::Write, last, [&head.encode(), &[]]);
            for (kind, index, payload) in frames {
                encoder.frame(kind, index, [&payload, &[]]);
            }
            encoder.finish();
            let mut bytes = disk.bytes(FIRST);
            bytes[END..END + WRITE_BYTES].copy_from_slice(&write);
            disk.put(FIRST, bytes);
            let scan = block_on(recover::scan(&disk)).expect("reads");
            let (case, _) = recover::case(&scan);
            assert_eq!(case.row().verdict, Verdict::Contradiction, "{expected}");
            match block_on(Log::open(disk, options())) {
                Err(OpenError::Damaged(damage)) => {
                    assert_eq!((damage.file.as_str(), damage.offset), (FIRST, END as u64));
                    assert!(damage.found.contains(expected), "{damage}");
                }
                Err(error) => panic!("{expected}: {error}"),
                Ok((_, recovered)) => panic!("{expected}: opened {recovered:?}"),
            }
        };
    let end = END as u32;
    refused_behind(4, vec![], end, 0, "index 4 behind index 5");
    let refused = |frames, durable, previous, expected| {
        refused_behind(5, frames, durable, previous, expected);
    };
    let start = Start { after: Position::default() }.encode().to_vec();
    refused(vec![(Kind::Entry, 7, vec![1])], end, 0, "index 7 behind index 5");
    refused(vec![(Kind::Entry, 0, vec![1])], end, 0, "index 0 behind index 5");
    let frames = vec![(Kind::Entry, 6, vec![1]), (Kind::Entry, 8, vec![1])];
    refused(frames, end, 0, "index 8 behind index 6");
    refused(vec![(Kind::Start, 5, start)], end, 0, "a second start frame");
    refused(vec![(Kind::Write, 5, vec![0; 16])], end, 0, "a head inside a write");
    for beyond in [u64::MAX, (1 << 62) + 1] {
        refused_behind(beyond, vec![], end, 0, "an index that no log comes to");
        for kind in [Kind::Entry, Kind::Restart] {
            refused(vec![(kind, beyond, vec![1])], end, 0, "an index that no log comes to");
        }
    }
    let long = vec![0; HARD_STATE_BYTES_MAX + 1];
    refused(vec![(Kind::HardState, 5, long)], end, 0, "a hard state beyond what is written");
    refused(vec![], end + 512, 0, "durable before it was made");
    refused(vec![], end, 1, "a frame that follows checksum");
}
