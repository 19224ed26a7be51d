//! The two kinds of page in the tree's shape, leaf and branch, as the bytes they have in memory and in a file.
//!
//! `FORMAT.md` beside this file draws the layout to the byte; a test holds it to the constants here. A page is a header,
//! an array of slots in key order that grows up, and a heap of cells that grows down from the end. A removed cell leaves
//! a hole; holes are counted and closed when the room between slots and heap runs out.
//!
//! A slot holds its cell's offset and the *head* of its key: the four bytes behind the prefix that all keys of the page
//! have in common. A search compares heads, which lie side by side, and looks at a cell only where heads are equal:
//! without them it would touch a cache line per comparison. The prefix is as long as it can be when a page is split or
//! merged, gets shorter when a key comes that needs it, and may stay shorter than it could be after a removal.
//!
//! The functions here keep one page sound, its sum of counted records included. They do not compare keys (that may take
//! a look at a run: `read`), know no other page, and trust the bytes: pages are made by this process, or verified when
//! they are read from a file.

use super::cell::{
    BRANCH_HEAD_BYTES, BranchCell, CHILD_AT, COUNTED_AT, CellKey, FLAG_COUNTED, KEY_LEN_AT,
    LEAF_HEAD_BYTES, LeafCell, RUN_REF_BYTES, VALUE_LEN_AT, key_part,
};
use super::file::seal;
use crate::ids::PageId;

/// A page's room in a file.
pub(super) const PAGE_BYTES: usize = 4096;
/// The end of a page's room, which exists in a file only: its checksum, which no page in memory can hold, because a
/// published page is shared and never written again. Sixteen bytes are also the two counters that `Arc` puts in front
/// of the body, so that a page fills an allocator's 4 KiB block and not a fraction of the next size.
pub(super) const TRAILER_BYTES: usize = 16;
/// What a page holds in memory.
pub(super) const BODY_BYTES: usize = PAGE_BYTES - TRAILER_BYTES;
/// Before the slots: see the `*_AT` constants.
pub(super) const HEADER_BYTES: usize = 26;
/// Head (4), offset (2).
pub(super) const SLOT_BYTES: usize = 6;
pub(super) const SLOT_HEAD_AT: usize = 0;
pub(super) const SLOT_OFFSET_AT: usize = 4;
/// Room for slots and cells.
pub(super) const USABLE_BYTES: usize = BODY_BYTES - HEADER_BYTES;

/// The longest cell: two always fit, so a page that overflows by one cell always splits into two that do not.
pub(super) const CELL_BYTES_MAX: usize = USABLE_BYTES / 2 - SLOT_BYTES;
/// A longer key of a record stands in a run.
pub(super) const LEAF_KEY_BYTES_MAX: usize = 1024;
/// A longer separator stands in a run: a branch has room for 14 children at least, which bounds the depth.
pub(super) const BRANCH_KEY_BYTES_MAX: usize = 256;
/// What a cell keeps of a key that stands in a run.
pub(super) const KEY_PREFIX_BYTES: usize = 128;
/// The longest common prefix that a page makes use of: a head lies within what a cell keeps of a long key.
pub(super) const COMMON_BYTES_MAX: usize = KEY_PREFIX_BYTES - HEAD_BYTES;
const HEAD_BYTES: usize = 4;

/// A [`Trend`] has twelve bits for a cell's number.
const _: () = assert!(USABLE_BYTES / (SLOT_BYTES + LEAF_HEAD_BYTES) < 1 << 12);
const _: () = assert!(BODY_BYTES <= u16::MAX as usize);
const _: () = assert!(LEAF_HEAD_BYTES + LEAF_KEY_BYTES_MAX + 64 <= CELL_BYTES_MAX);
const _: () = assert!(COMMON_BYTES_MAX <= u8::MAX as usize);
const _: () = assert!(KEY_PREFIX_BYTES < BRANCH_KEY_BYTES_MAX);
const _: () = assert!(
    14 * (BRANCH_HEAD_BYTES + BRANCH_KEY_BYTES_MAX + SLOT_BYTES) <= USABLE_BYTES,
    "the depth bound counts on this fan-out"
);

/// Offsets in the header.
pub(super) const KIND_AT: usize = 0;
pub(super) const COMMON_AT: usize = 1;
pub(super) const CELLS_AT: usize = 2;
pub(super) const HEAP_START_AT: usize = 4;
pub(super) const HOLES_AT: usize = 6;
pub(super) const SUM_AT: usize = 8;
pub(super) const VERSION_AT: usize = 16;
pub(super) const TREND_AT: usize = 24;

pub(super) const KIND_LEAF: u8 = 1;
pub(super) const KIND_BRANCH: u8 = 2;
pub(super) const KIND_RUN: u8 = 3;

/// A leaf or a branch.
///
/// `Copy` lets `Arc::make_mut` copy straight into the new allocation; nothing else copies one by accident, because
/// pages live behind `Arc`.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Node {
    bytes: [u8; BODY_BYTES],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Leaf,
    Branch,
}

impl Node {
    pub(super) fn new(kind: Kind, version: u64) -> Node {
        let mut node = Node { bytes: [0; BODY_BYTES] };
        node.bytes[KIND_AT] = match kind {
            Kind::Leaf => KIND_LEAF,
            Kind::Branch => KIND_BRANCH,
        };
        node.put_u16(HEAP_START_AT, BODY_BYTES);
        node.set_version(version);
        node
    }

    /// A page that `foreign` or `map` vouches for.
    pub(super) fn from_body(bytes: [u8; BODY_BYTES]) -> Node {
        Node { bytes }
    }

    #[inline]
    pub(super) fn kind(&self) -> Kind {
        if self.bytes[KIND_AT] == KIND_LEAF { Kind::Leaf } else { Kind::Branch }
    }

    /// Number of cells.
    #[inline]
    pub(super) fn count(&self) -> usize {
        u16_at(&self.bytes, CELLS_AT)
    }

    /// Counted records in this leaf, or beneath this branch.
    #[inline]
    pub(super) fn sum(&self) -> u64 {
        u64_at(&self.bytes, SUM_AT)
    }

    /// The batch that wrote this page; no older snapshot sees it.
    #[inline]
    pub(super) fn version(&self) -> u64 {
        u64_at(&self.bytes, VERSION_AT)
    }

    pub(super) fn set_version(&mut self, version: u64) {
        self.bytes[VERSION_AT..VERSION_AT + 8].copy_from_slice(&version.to_le_bytes());
    }

    /// The page's bytes, as a file holds them before the trailer.
    pub(super) fn body(&self) -> &[u8; BODY_BYTES] {
        &self.bytes
    }

    /// Appends the page to `out`, as a file holds it at `id`.
    pub(super) fn write(&self, id: PageId, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&self.bytes);
        out.resize(begin + PAGE_BYTES, 0);
        seal(id, &mut out[begin..]);
    }

    /// Where the lowest cell, or hole, begins.
    pub(super) fn heap_start(&self) -> usize {
        u16_at(&self.bytes, HEAP_START_AT)
    }

    /// Room left for slots and cells, holes included.
    pub(super) fn free_bytes(&self) -> usize {
        self.gap_bytes() + u16_at(&self.bytes, HOLES_AT)
    }

    pub(super) fn used_bytes(&self) -> usize {
        USABLE_BYTES - self.free_bytes()
    }

    /// Whether a further cell of `len` bytes has room.
    pub(super) fn fits(&self, len: usize) -> bool {
        self.free_bytes() >= len + SLOT_BYTES
    }

    /// The key part of cell `index`.
    #[inline]
    pub(super) fn key(&self, index: usize) -> CellKey<'_> {
        key_part(self.cell(index), self.head_bytes())
    }

    /// The key part of cell `index` of a page whose cell heads are known to be `HEAD` bytes long.
    #[inline]
    pub(super) fn key_with_head<const HEAD: usize>(&self, index: usize) -> CellKey<'_> {
        key_part(self.cell(index), HEAD)
    }

    /// Length of the prefix that all keys of the page, up to the first of a branch, have in common; maybe not all of it.
    #[inline]
    pub(super) fn common_len(&self) -> usize {
        usize::from(self.bytes[COMMON_AT])
    }

    /// The head of the key of cell `index`.
    #[inline]
    pub(super) fn head(&self, index: usize) -> Head {
        Head::read(&self.bytes, slot_at(index) + SLOT_HEAD_AT)
    }

    /// The first cell whose key is compared: a branch's first key is empty and stands for "from the beginning".
    #[inline]
    fn first_compared(&self) -> usize {
        match self.kind() {
            Kind::Leaf => 0,
            Kind::Branch => 1,
        }
    }

    /// Where cells were inserted lately.
    pub(super) fn trend(&self) -> Trend {
        Trend::read(u16_at(&self.bytes, TREND_AT))
    }

    pub(super) fn set_trend(&mut self, trend: Trend) {
        self.put_u16(TREND_AT, trend.pack());
    }

    /// Record `index` of this leaf.
    #[inline]
    pub(super) fn record(&self, index: usize) -> LeafCell<'_> {
        debug_assert_eq!(self.kind(), Kind::Leaf);
        LeafCell::read(self.cell(index))
    }

    /// Whether record `index` of this leaf counts.
    #[inline]
    pub(super) fn is_counted(&self, index: usize) -> bool {
        self.cell(index)[0] & FLAG_COUNTED != 0
    }

    /// Child cell `index` of this branch.
    #[inline]
    pub(super) fn branch(&self, index: usize) -> BranchCell<'_> {
        debug_assert_eq!(self.kind(), Kind::Branch);
        BranchCell::read(self.cell(index))
    }

    /// Child `index` of this branch.
    #[inline]
    pub(super) fn child(&self, index: usize) -> PageId {
        debug_assert_eq!(self.kind(), Kind::Branch);
        PageId(u64_at(self.cell(index), CHILD_AT))
    }

    /// Counted records in cell `index`: beneath a child, or 0 or 1 for a record.
    #[inline]
    pub(super) fn weight(&self, index: usize) -> u64 {
        match self.kind() {
            Kind::Leaf => u64::from(self.is_counted(index)),
            Kind::Branch => u64_at(self.cell(index), COUNTED_AT),
        }
    }

    /// Length of cell `index`.
    pub(super) fn cell_len(&self, index: usize) -> usize {
        self.cell_len_at(self.slot(index))
    }

    /// Inserts a record before cell `index`. It must fit.
    pub(super) fn insert_record(&mut self, index: usize, cell: &LeafCell<'_>) {
        debug_assert_eq!(self.kind(), Kind::Leaf);
        cell.write(self.insert_cell(index, cell.len()));
        self.set_trend(self.trend().after(index));
        self.index_key(index, cell.key.part());
        self.add_sum(u64::from(cell.counted));
    }

    /// Inserts a child before cell `index`. It must fit.
    pub(super) fn insert_branch(&mut self, index: usize, cell: &BranchCell<'_>) {
        debug_assert_eq!(self.kind(), Kind::Branch);
        cell.write(self.insert_cell(index, cell.len()));
        self.set_trend(self.trend().after(index));
        if index >= self.first_compared() {
            self.index_key(index, cell.key.part());
        }
        self.add_sum(cell.counted);
    }

    /// Overwrites record `index` when the new one is not longer; otherwise changes nothing and says so.
    #[must_use]
    pub(super) fn overwrite_record(&mut self, index: usize, cell: &LeafCell<'_>) -> bool {
        let (at, len_old) = (self.slot(index), self.cell_len(index));
        if cell.len() > len_old {
            return false;
        }
        self.sub_sum(self.weight(index));
        cell.write(&mut self.bytes[at..at + cell.len()]);
        self.add_sum(u64::from(cell.counted));
        self.put_u16(HOLES_AT, u16_at(&self.bytes, HOLES_AT) + len_old - cell.len());
        true
    }

    /// Sets whether record `index` counts.
    pub(super) fn set_counted(&mut self, index: usize, counted: bool) {
        debug_assert_eq!(self.kind(), Kind::Leaf);
        self.sub_sum(self.weight(index));
        let flags = &mut self.cell_mut(index)[0];
        *flags = if counted { *flags | FLAG_COUNTED } else { *flags & !FLAG_COUNTED };
        self.add_sum(u64::from(counted));
    }

    /// Points child cell `index` at `child`.
    pub(super) fn set_child(&mut self, index: usize, child: PageId) {
        debug_assert_eq!(self.kind(), Kind::Branch);
        self.cell_mut(index)[CHILD_AT..CHILD_AT + 8].copy_from_slice(&child.0.to_le_bytes());
    }

    /// Points the key of cell `index`, which stands in a run, at page `run`.
    pub(super) fn set_key_run(&mut self, index: usize, run: PageId) {
        debug_assert!(self.key(index).run().is_some());
        let end = self.slot(index) + self.head_bytes() + self.key(index).len();
        self.set_run(end, run);
    }

    /// Points the value of record `index`, which stands in a run, at page `run`.
    pub(super) fn set_value_run(&mut self, index: usize, run: PageId) {
        debug_assert!(self.record(index).value.run().is_some());
        let end = self.slot(index) + self.cell_len(index);
        self.set_run(end, run);
    }

    /// Sets the page of the run reference that ends at `end`.
    fn set_run(&mut self, end: usize, run: PageId) {
        let at = end - RUN_REF_BYTES;
        self.bytes[at..at + 8].copy_from_slice(&run.0.to_le_bytes());
    }

    /// Sets how many counted records are beneath child `index`.
    pub(super) fn set_weight(&mut self, index: usize, weight: u64) {
        debug_assert_eq!(self.kind(), Kind::Branch);
        self.sub_sum(self.weight(index));
        self.cell_mut(index)[COUNTED_AT..COUNTED_AT + 8].copy_from_slice(&weight.to_le_bytes());
        self.add_sum(weight);
    }

    /// Removes cell `index`. The runs it refers to are the caller's to free.
    pub(super) fn remove(&mut self, index: usize) {
        self.sub_sum(self.weight(index));
        let len = self.cell_len(index);
        let (from, end) = (slot_at(index + 1), slot_at(self.count()));
        self.bytes.copy_within(from..end, slot_at(index));
        self.put_u16(CELLS_AT, self.count() - 1);
        self.put_u16(HOLES_AT, u16_at(&self.bytes, HOLES_AT) + len);
    }

    /// Empties the key of the first cell of this branch; its run is the caller's to keep or free.
    pub(super) fn clear_first_key(&mut self) {
        let first = self.branch(0);
        let cell = BranchCell { key: CellKey::EMPTY, child: first.child, counted: first.counted };
        self.remove(0);
        self.insert_branch(0, &cell);
        self.index_keys();
    }

    /// Moves the cells from `from` on to the end of `to`, in order. They must fit there.
    pub(super) fn move_tail(&mut self, from: usize, to: &mut Node) {
        let count = self.count();
        let mut moved_bytes = 0;
        let mut moved_sum = 0;
        for index in from..count {
            to.push_raw(self, index);
            moved_bytes += self.cell_len(index);
            moved_sum += self.weight(index);
        }
        to.add_sum(moved_sum);
        self.sub_sum(moved_sum);
        self.put_u16(CELLS_AT, from);
        self.put_u16(HOLES_AT, u16_at(&self.bytes, HOLES_AT) + moved_bytes);
        self.index_keys();
        to.index_keys();
    }

    /// Copies all cells of `other`, a page of the same kind, to the end of this one. They must fit.
    pub(super) fn append_all(&mut self, other: &Node) {
        for index in 0..other.count() {
            self.push_raw(other, index);
        }
        self.add_sum(other.sum());
        self.index_keys();
    }

    /// Copies cell `index` of `from` behind the last one, without its weight.
    fn push_raw(&mut self, from: &Node, index: usize) {
        let at = from.slot(index);
        let cell = &from.bytes[at..at + from.cell_len_at(at)];
        self.insert_cell(self.count(), cell.len()).copy_from_slice(cell);
    }

    /// Computes the common prefix and the heads anew.
    fn index_keys(&mut self) {
        let (first, count) = (self.first_compared(), self.count());
        if first < count {
            let common = common_len(self.key(first).part(), self.key(count - 1).part());
            self.set_common_len(common);
        }
    }

    /// Sets the head of cell `index`, a new one whose key begins with `key`, and shortens the common prefix when the key
    /// does not have it.
    fn index_key(&mut self, index: usize, key: &[u8]) {
        let first = self.first_compared();
        if self.count() == first + 1 {
            return self.set_common_len(key.len().min(COMMON_BYTES_MAX));
        }
        let other = if index == first { first + 1 } else { first };
        let common = common_len(key, self.key(other).part());
        if common < self.common_len() {
            return self.set_common_len(common);
        }
        let head = Head::new(key, self.common_len());
        head.write(&mut self.bytes, slot_at(index) + SLOT_HEAD_AT);
    }

    fn set_common_len(&mut self, common: usize) {
        self.bytes[COMMON_AT] = u8::try_from(common).expect("invariant: at most COMMON_BYTES_MAX");
        for index in self.first_compared()..self.count() {
            let head = Head::new(self.key(index).part(), common);
            head.write(&mut self.bytes, slot_at(index) + SLOT_HEAD_AT);
        }
    }

    /// Makes room for a cell of `len` bytes before cell `index` and gives it to be written.
    fn insert_cell(&mut self, index: usize, len: usize) -> &mut [u8] {
        assert!(self.fits(len), "invariant: the caller splits a page that has no room");
        if self.gap_bytes() < len + SLOT_BYTES {
            self.close_holes();
        }
        let count = self.count();
        let at = u16_at(&self.bytes, HEAP_START_AT) - len;
        self.bytes.copy_within(slot_at(index)..slot_at(count), slot_at(index + 1));
        self.put_u16(slot_at(index) + SLOT_OFFSET_AT, at);
        self.put_u16(CELLS_AT, count + 1);
        self.put_u16(HEAP_START_AT, at);
        &mut self.bytes[at..at + len]
    }

    /// Packs the cells at the end of the page, in key order.
    fn close_holes(&mut self) {
        let old = self.bytes;
        let mut at = BODY_BYTES;
        for index in (0..self.count()).rev() {
            let from = self.slot(index);
            let len = self.cell_len_in(&old, from);
            at -= len;
            self.bytes[at..at + len].copy_from_slice(&old[from..from + len]);
            self.put_u16(slot_at(index) + SLOT_OFFSET_AT, at);
        }
        self.put_u16(HEAP_START_AT, at);
        self.put_u16(HOLES_AT, 0);
    }

    /// Room between the slots and the heap.
    fn gap_bytes(&self) -> usize {
        u16_at(&self.bytes, HEAP_START_AT) - slot_at(self.count())
    }

    #[inline]
    fn head_bytes(&self) -> usize {
        match self.kind() {
            Kind::Leaf => LEAF_HEAD_BYTES,
            Kind::Branch => BRANCH_HEAD_BYTES,
        }
    }

    /// Offset of cell `index`.
    #[inline]
    pub(super) fn slot(&self, index: usize) -> usize {
        debug_assert!(index < self.count());
        u16_at(&self.bytes, slot_at(index) + SLOT_OFFSET_AT)
    }

    /// From the start of cell `index` to the end of the page.
    #[inline]
    fn cell(&self, index: usize) -> &[u8] {
        &self.bytes[self.slot(index)..]
    }

    fn cell_mut(&mut self, index: usize) -> &mut [u8] {
        let at = self.slot(index);
        &mut self.bytes[at..]
    }

    fn cell_len_at(&self, at: usize) -> usize {
        self.cell_len_in(&self.bytes, at)
    }

    fn cell_len_in(&self, bytes: &[u8; BODY_BYTES], at: usize) -> usize {
        let key_len = u16_at(bytes, at + KEY_LEN_AT);
        match self.kind() {
            Kind::Leaf => LEAF_HEAD_BYTES + key_len + u16_at(bytes, at + VALUE_LEN_AT),
            Kind::Branch => BRANCH_HEAD_BYTES + key_len,
        }
    }

    fn add_sum(&mut self, weight: u64) {
        let sum = self.sum() + weight;
        self.bytes[SUM_AT..SUM_AT + 8].copy_from_slice(&sum.to_le_bytes());
    }

    fn sub_sum(&mut self, weight: u64) {
        let sum = self.sum() - weight;
        self.bytes[SUM_AT..SUM_AT + 8].copy_from_slice(&sum.to_le_bytes());
    }

    fn put_u16(&mut self, at: usize, value: usize) {
        let value = u16::try_from(value).expect("invariant: an offset lies within the page");
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
}

/// Four bytes of a key, behind the common prefix, filled up with zeros; their order is the keys' where they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Head(u32);

impl Head {
    #[inline]
    pub(super) fn new(key: &[u8], common: usize) -> Head {
        let rest = key.get(common..).unwrap_or_default();
        match rest.first_chunk() {
            Some(head) => Head(u32::from_be_bytes(*head)),
            None => {
                let mut head = [0; HEAD_BYTES];
                head[..rest.len()].copy_from_slice(rest);
                Head(u32::from_be_bytes(head))
            }
        }
    }

    #[inline]
    fn read(bytes: &[u8; BODY_BYTES], at: usize) -> Head {
        let head = bytes[at..].first_chunk().expect("invariant: a slot lies within the page");
        Head(u32::from_be_bytes(*head))
    }

    fn write(self, bytes: &mut [u8; BODY_BYTES], at: usize) {
        bytes[at..at + HEAD_BYTES].copy_from_slice(&self.0.to_be_bytes());
    }
}

/// Whether insertions into a page come in order: a hint for the next split, in two bytes of the page. It is kept per page
/// because several tables, each with keys in an order of its own, grow at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trend {
    /// The cell inserted last.
    index: usize,
    /// Insertions since, up to three, that each came right behind the one before.
    rising: usize,
    /// The same for right in front of the one before.
    falling: usize,
}

impl Trend {
    const STEADY: usize = 2;
    const RUN_MAX: usize = 3;

    fn read(packed: usize) -> Trend {
        let (index, rising, falling) = (packed & 0xfff, packed >> 12 & 3, packed >> 14 & 3);
        Trend { index, rising, falling }
    }

    fn pack(self) -> usize {
        self.index | self.rising << 12 | self.falling << 14
    }

    /// With one more insertion, at `index`.
    pub(super) fn after(self, index: usize) -> Trend {
        let grown = |run: usize, continues: bool| {
            if continues { (run + 1).min(Trend::RUN_MAX) } else { 0 }
        };
        Trend {
            index,
            rising: grown(self.rising, index == self.index + 1),
            falling: grown(self.falling, index == self.index),
        }
    }

    /// The same, seen from a page that the cell inserted last went to as cell `index`.
    pub(super) fn moved_to(self, index: usize) -> Trend {
        Trend { index, ..self }
    }

    /// Keys come in rising order here.
    pub(super) fn is_rising(self) -> bool {
        self.rising >= Trend::STEADY
    }

    /// Keys come in falling order here.
    pub(super) fn is_falling(self) -> bool {
        self.falling >= Trend::STEADY
    }
}

fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take(COMMON_BYTES_MAX).take_while(|(a, b)| a == b).count()
}

#[inline]
fn slot_at(index: usize) -> usize {
    HEADER_BYTES + index * SLOT_BYTES
}

#[inline]
pub(super) fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field: [u8; 4] = bytes[at..at + 4].try_into().expect("invariant: four bytes");
    u32::from_le_bytes(field)
}

#[inline]
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field: [u8; 8] = bytes[at..at + 8].try_into().expect("invariant: eight bytes");
    u64::from_le_bytes(field)
}
