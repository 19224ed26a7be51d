//! `FORMAT.md` says what the bytes are: its tables are made from the constants, its examples from pages.

use crate::ids::PageId;
use crate::tree::assemble::RUN_BYTES_MAX;
use crate::tree::cell::{
    BRANCH_HEAD_BYTES, BranchCell, CHILD_AT, COUNTED_AT, CellKey, CellValue, FLAG_COUNTED,
    FLAG_KEY_IN_RUN, FLAG_VALUE_IN_RUN, KEY_LEN_AT, LEAF_HEAD_BYTES, LeafCell, RUN_REF_BYTES,
    RunRef, VALUE_LEN_AT,
};
use crate::tree::file::{
    self, MAGIC, META_DEPTH_AT, META_END_AT, META_FORMAT_AT, META_FREE_AT, META_INDEX_AT,
    META_MAGIC_AT, META_NUMBER_AT, META_PAGE_BYTES_AT, META_PAGES, META_RECORDS_AT, META_ROOT_AT,
    META_TERM_AT, META_VERSION_AT, TRAILER_CRC_AT, TRAILER_PAGE_AT, TRAILER_ZERO_AT, seal, verify,
};
use crate::tree::freelist::FIRST_PAGE;
use crate::tree::page::{
    BODY_BYTES, BRANCH_KEY_BYTES_MAX, CELL_BYTES_MAX, CELLS_AT, COMMON_AT, COMMON_BYTES_MAX,
    HEADER_BYTES, HEAP_START_AT, HOLES_AT, KEY_PREFIX_BYTES, KIND_AT, KIND_BRANCH, KIND_LEAF,
    KIND_RUN, Kind, LEAF_KEY_BYTES_MAX, Node, PAGE_BYTES, SLOT_BYTES, SLOT_HEAD_AT, SLOT_OFFSET_AT,
    SUM_AT, TRAILER_BYTES, TREND_AT, USABLE_BYTES, VERSION_AT,
};
use crate::tree::run::{RUN_HEADER_BYTES, RUN_LEN_AT, RUN_VERSION_AT, Run};
use crate::tree::stream;

const FORMAT: &str = include_str!("../FORMAT.md");

fn assert_stands(part: &str) {
    assert!(FORMAT.contains(part), "FORMAT.md should have:\n{part}");
}

/// A table of fields: each is from its offset up to the next one's.
fn assert_fields(fields: &[(usize, &str)], end: usize) {
    let mut table = "| offset | size | field |\n|---:|---:|---|\n".to_owned();
    for (index, (at, name)) in fields.iter().enumerate() {
        let next = fields.get(index + 1).map_or(end, |(at, _)| *at);
        table += &format!("| {at} | {} | {name} |\n", next - at);
    }
    assert_stands(&table);
}

#[test]
fn sizes() {
    for (what, value) in [
        ("page in a file", PAGE_BYTES),
        ("trailer, in a file only", TRAILER_BYTES),
        ("body, in memory and in a file", BODY_BYTES),
        ("header", HEADER_BYTES),
        ("slots and cells", USABLE_BYTES),
        ("longest cell", CELL_BYTES_MAX),
        ("longest key of a record in its cell", LEAF_KEY_BYTES_MAX),
        ("longest separator in its cell", BRANCH_KEY_BYTES_MAX),
        ("kept in the cell of a longer one", KEY_PREFIX_BYTES),
        ("longest common prefix made use of", COMMON_BYTES_MAX),
    ] {
        assert_stands(&format!("| {what} | {value} |\n"));
    }
    assert_stands(&format!("first page that is not a meta page is {FIRST_PAGE}"));
}

#[test]
fn fields_of_leaves_and_branches() {
    assert_fields(
        &[
            (KIND_AT, "kind: 1 leaf, 2 branch"),
            (COMMON_AT, "length of the common prefix"),
            (CELLS_AT, "number of cells"),
            (HEAP_START_AT, "offset of the lowest cell or hole"),
            (HOLES_AT, "bytes in holes between cells"),
            (SUM_AT, "counted records in the page, or beneath it"),
            (VERSION_AT, "version that wrote the page"),
            (TREND_AT, "where cells were inserted lately"),
        ],
        HEADER_BYTES,
    );
    assert_eq!((KIND_LEAF, KIND_BRANCH, KIND_RUN), (1, 2, 3));
    assert_fields(&[(SLOT_HEAD_AT, "head"), (SLOT_OFFSET_AT, "offset of the cell")], SLOT_BYTES);
}

#[test]
fn fields_of_cells() {
    assert_eq!((FLAG_COUNTED, FLAG_KEY_IN_RUN, FLAG_VALUE_IN_RUN), (1, 2, 4));
    assert_fields(
        &[
            (0, "flags"),
            (KEY_LEN_AT, "length of the key part"),
            (VALUE_LEN_AT, "length of the value part"),
        ],
        LEAF_HEAD_BYTES,
    );
    assert_fields(
        &[
            (0, "flags"),
            (KEY_LEN_AT, "length of the key part"),
            (CHILD_AT, "child page"),
            (COUNTED_AT, "counted records beneath the child"),
        ],
        BRANCH_HEAD_BYTES,
    );
    assert_fields(&[(0, "first page of the run"), (8, "bytes of data in it")], RUN_REF_BYTES);
}

#[test]
fn fields_of_runs() {
    assert_fields(
        &[
            (KIND_AT, "kind: 3"),
            (1, "zero"),
            (RUN_LEN_AT, "bytes of data"),
            (RUN_VERSION_AT, "version that wrote the run"),
        ],
        RUN_HEADER_BYTES,
    );
}

#[test]
fn fields_of_the_file() {
    assert_fields(
        &[
            (TRAILER_PAGE_AT, "number of the page, of a run's first page"),
            (TRAILER_ZERO_AT, "zero"),
            (TRAILER_CRC_AT, "CRC-32 (IEEE) of all bytes of the page, or run, before this field"),
        ],
        TRAILER_BYTES,
    );
    assert_eq!((MAGIC, file::FORMAT, META_PAGES), (*b"urd-tree", 1, 2));
    assert_fields(
        &[
            (META_MAGIC_AT, "`urd-tree`"),
            (META_FORMAT_AT, "version of this format: 1"),
            (META_PAGE_BYTES_AT, "bytes of a page"),
            (META_NUMBER_AT, "number of the checkpoint, from 1 on"),
            (META_VERSION_AT, "version (publication) of the tree"),
            (META_ROOT_AT, "root page"),
            (META_DEPTH_AT, "pages from the root to a leaf"),
            (META_RECORDS_AT, "records"),
            (META_END_AT, "pages of the file up to the last one in use"),
            (META_FREE_AT, "first page of the set of free pages"),
            (META_INDEX_AT, "raft index of the last entry applied"),
            (META_TERM_AT, "its term"),
        ],
        META_TERM_AT + 8,
    );
}

#[test]
fn fields_of_a_stream() {
    assert_eq!((stream::MAGIC, stream::FORMAT), (*b"urd-copy", 1));
    assert_fields(
        &[
            (stream::MAGIC_AT, "`urd-copy`"),
            (stream::FORMAT_AT, "version of the stream: 1"),
            (stream::PAGE_FORMAT_AT, "version of the pages' format"),
            (stream::PAGE_BYTES_AT, "bytes of a page"),
            (stream::PAGE_BYTES_AT + 4, "zero"),
            (stream::VERSION_AT, "version (publication) of the tree"),
            (stream::ROOT_AT, "root page"),
            (stream::DEPTH_AT, "pages from the root to a leaf"),
            (stream::RECORDS_AT, "records"),
            (stream::PAGES_AT, "about how many pages follow"),
            (stream::INDEX_AT, "raft index of the last entry applied"),
            (stream::TERM_AT, "its term"),
            (stream::CRC_AT, "CRC-32 (IEEE) of what is before"),
        ],
        stream::HEADER_BYTES,
    );
    assert_eq!(stream::END_MAGIC, *b"urd-done");
    assert_fields(
        &[
            (stream::END_MAGIC_AT, "`urd-done`"),
            (stream::END_PAGES_AT, "pages"),
            (stream::END_CRC_AT, "CRC-32 (IEEE) of the whole stream before this field"),
        ],
        stream::END_BYTES,
    );
    assert_stands(&format!("chunks of up to {} bytes", stream::CHUNK_BYTES));
    assert_stands(&format!("number, from 0 on, in {} bytes", stream::CHUNK_HEAD_BYTES));
    assert_stands(&format!("up to {RUN_BYTES_MAX} bytes of data"));
}

#[test]
fn a_sealed_page_verifies_as_itself_only() {
    let mut page = vec![7; 2 * PAGE_BYTES];
    seal(PageId(300), &mut page);
    assert_eq!(verify(PageId(300), &page), Ok(()));
    assert_eq!(verify(PageId(301), &page).unwrap_err().found, "page 300");
    for at in 0..page.len() {
        page[at] ^= 0x10;
        assert!(verify(PageId(300), &page).is_err(), "a flipped bit at {at}");
        page[at] ^= 0x10;
    }
}

/// The parts of a page that are not zero, as offset and hexadecimal bytes.
fn dump(bytes: &[u8], parts: &[(usize, usize)]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!(" {byte:02x}")).collect::<String>();
    parts.iter().map(|&(from, to)| format!("{from:>5} {}\n", hex(&bytes[from..to]))).collect()
}

#[test]
fn example_leaf() {
    let mut leaf = Node::new(Kind::Leaf, 9);
    let run = RunRef { page: PageId(77), len: 5000 };
    let records = [
        ("kv/a", true, CellValue::Inline(b"1")),
        ("kv/bcdef", false, CellValue::Inline(b"22")),
        ("kv/c", true, CellValue::Run(run)),
    ];
    for (index, (key, counted, value)) in records.into_iter().enumerate() {
        let key = CellKey::Inline(key.as_bytes());
        leaf.insert_record(index, &LeafCell { counted, key, value });
    }
    let start = leaf.heap_start();
    let parts = [(0, 8), (8, 26), (26, 32), (32, 38), (38, 44), (start, start + 21)];
    let parts = [&parts[..], &[(start + 21, start + 36), (start + 36, BODY_BYTES)]].concat();
    assert_stands(&dump(leaf.body(), &parts));
}

#[test]
fn example_branch() {
    let mut branch = Node::new(Kind::Branch, 9);
    let cells = [
        BranchCell { key: CellKey::EMPTY, child: PageId(5), counted: 10 },
        BranchCell { key: CellKey::Inline(b"kv/m"), child: PageId(6), counted: 7 },
    ];
    for (index, cell) in cells.iter().enumerate() {
        branch.insert_branch(index, cell);
    }
    let start = branch.heap_start();
    let parts =
        [(0, 8), (8, 26), (26, 32), (32, 38), (start, start + 23), (start + 23, BODY_BYTES)];
    assert_stands(&dump(branch.body(), &parts));
}

#[test]
fn example_run() {
    let run = Run::new(b"long", 9);
    assert_stands(&dump(run.bytes(), &[(0, 8), (8, 16), (16, 20)]));
}
