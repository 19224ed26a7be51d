//! The bytes: what `FORMAT.md` says of them, and that decoding refuses all others.

use super::*;
use crate::format::*;

/// Prints the layout from the constants. A change of the format shows here and in the document, or
/// this test fails.
#[test]
fn the_layout_is_the_one_in_format_md() {
    let table = |name: &str, bytes: usize, fields: &[(&str, usize)]| {
        let mut text = format!("| {name} | offset | bytes |\n|---|---|---|\n");
        let ends = fields.iter().skip(1).map(|(_, at)| *at).chain([bytes]);
        for ((field, at), end) in fields.iter().zip(ends) {
            text += &format!("| {field} | {at} | {} |\n", end - at);
        }
        documented(&text);
    };
    use crate::format::{frame_header as frame, segment_header as segment};
    table(
        "segment header",
        SEGMENT_HEADER_BYTES,
        &[
            ("magic", segment::MAGIC),
            ("version", segment::VERSION),
            ("block", segment::BLOCK),
            ("id", segment::ID),
            ("bytes", segment::BYTES),
            ("salt", segment::SALT),
            ("crc", segment::CRC),
        ],
    );
    table(
        "frame",
        FRAME_HEADER_BYTES,
        &[
            ("crc", frame::CRC),
            ("previous", frame::PREVIOUS),
            ("length", frame::LENGTH),
            ("kind", frame::KIND),
            ("zero", frame::ZERO),
            ("segment", frame::SEGMENT),
            ("index", frame::INDEX),
        ],
    );
    table(
        "payload of a write head",
        WRITE_HEAD_BYTES,
        &[
            ("durable segment", write_head::DURABLE_SEGMENT),
            ("durable offset", write_head::DURABLE_OFFSET),
            ("bytes", write_head::BYTES),
        ],
    );
    table(
        "payload of a start",
        START_BYTES,
        &[
            ("after segment", start::AFTER_SEGMENT),
            ("after offset", start::AFTER_OFFSET),
            ("zero", start::ZERO),
        ],
    );
    let kinds = [
        (Kind::Write, "write head"),
        (Kind::Start, "start"),
        (Kind::HardState, "hard state"),
        (Kind::Restart, "restart"),
        (Kind::Entry, "entry"),
    ];
    for (kind, name) in kinds {
        documented(&format!("| {} | {name} |", kind as u8));
    }
    documented(&format!("magic is `{}`", MAGIC.escape_ascii()));
    documented(&format!("version is {VERSION}"));
    documented(&format!("from {BLOCK_BYTES_MIN} to {BLOCK_BYTES_MAX}"));
    documented(&format!("at offset {HEADER_AREA_BYTES}, or at the block size"));
}

/// One whole segment, to the byte: whoever writes another implementation can begin with this.
#[test]
fn a_segment_to_the_byte() {
    let header = SegmentHeader { id: SegmentId(3), block: 512, bytes: 16384, salt: 0x01020304 };
    assert_eq!(
        hex(&header.encode()),
        "7572642d77616c0a 01000000 00020000 0300000000000000 00400000 04030201 HEADER"
            .replace(' ', "")
            .replace("HEADER", &hex(&crc32fast::hash(&header.encode()[..32]).to_le_bytes()))
    );
    assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    let mut write = [0xee; 512];
    let stamp = Stamp { segment: header.id, salt: header.salt };
    let mut encoder = Encoder::new(&mut write, stamp, 0x55667788);
    let durable = Position { segment: SegmentId(2), offset: 8192 };
    let head = WriteHead { durable, bytes: 48 + 36 };
    assert_eq!(encoder.frame(Kind::Write, 41, [&head.encode(), &[]]), 0);
    assert_eq!(encoder.frame(Kind::Entry, 42, [b"ab", b"cd"]), 48);
    let last = encoder.finish();
    let crc = |covered: &[u8]| {
        let mut hasher = crc32fast::Hasher::new_with_initial(header.salt);
        hasher.update(covered);
        hasher.finalize()
    };
    let expected = [
        hex(&crc(&write[4..48]).to_le_bytes()),
        "88776655 10000000 01000000 0300000000000000 2900000000000000".into(),
        "0200000000000000 00200000 54000000".into(),
        hex(&crc(&write[52..84]).to_le_bytes()),
        hex(&crc(&write[4..48]).to_le_bytes()),
        "04000000 05000000 0300000000000000 2a00000000000000".into(),
        hex(b"abcd"),
    ];
    assert_eq!(hex(&write[..84]), expected.concat().replace(' ', ""));
    assert_eq!(last, crc(&write[52..84]));
    assert!(write[84..].iter().all(|byte| *byte == 0), "the padding is zero");
    let frame = Frame::decode(&write, header.salt).expect("sound");
    assert_eq!(WriteHead::decode(&frame), Ok(head));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn no_bytes_make_decoding_panic() {
    let mut random = fastrand::Rng::with_seed(5);
    let header = SegmentHeader { id: SegmentId(3), block: 512, bytes: 16384, salt: 9 };
    let mut sound = vec![0; 16384];
    sound[..SEGMENT_HEADER_BYTES].copy_from_slice(&header.encode());
    for round in 0..20_000 {
        let mut bytes = sound.clone();
        bytes.truncate(4096 + random.usize(..2048));
        for _ in 0..random.usize(..40) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        let at = random.usize(..bytes.len());
        // Lengths and offsets at the edges of what they can say.
        if at + 52 < bytes.len() {
            bytes[at + 8..at + 12].copy_from_slice(&u32::MAX.to_le_bytes());
        }
        assert!(Frame::decode(&bytes[at..], header.salt).is_err() || round > 0);
        let _refused = SegmentHeader::decode(&bytes[at..]);
        crate::scan::scan(&bytes, header);
    }
}

/// The frames of one write may not be told from each other by their checksums alone: a frame of
/// another write in the middle of one is found by the chain.
#[test]
fn a_frame_of_another_write_breaks_the_chain() {
    let disk = MemoryDisk::new(BLOCK);
    let (mut log, _) = open(&disk);
    // Two writes of the same shape, whose second sectors begin with the same frame.
    let payloads = [vec![1; 512 - 48 - 32], vec![2; 100]];
    for first in [1, 1] {
        let entries = [
            Entry { index: first, payload: [&payloads[0], &[]] },
            Entry { index: first + 1, payload: [&payloads[1], &[]] },
        ];
        let write = log.append(None, &entries).expect("appends");
        finish(&mut log, write);
    }
    drop(log);
    let name = "0000000000000001.segment";
    let mut bytes = disk.bytes(name);
    let (first, second) = (4096 + 512, 4096 + 512 + 1024);
    let old = bytes[first + 512..first + 1024].to_vec();
    assert_ne!(old, bytes[second + 512..second + 1024], "the chain makes them differ");
    bytes[second + 512..second + 1024].copy_from_slice(&old);
    disk.put(name, bytes);
    let (log, recovered) = open(&disk);
    assert_eq!(recovered.last, 2);
    assert!(recovered.warnings[0].contains("follows checksum"), "{:?}", recovered.warnings);
    check(&log);
}
