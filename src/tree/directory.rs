//! Where readers on any thread find a page: the table from [`PageId`] to page.
//!
//! The writer stores a page here when it publishes the batch that made it, and clears the slot when no snapshot sees the
//! page any more, or when a checkpoint has written it: an empty slot says that the page is in the file (`map`), where
//! it has the same bytes. So a reader with a snapshot finds every page its root leads to, and takes no lock: it loads a
//! slot (`arc_swap`, which for short holds does not touch the page's shared counter either) and reads bytes that nobody
//! writes again.
//!
//! The table grows in chunks that never move. Runs have a table of their own, with the id of their first page: a slot
//! then is one pointer, and a store without long values has no slots for them.
//!
//! What it does not do: decide when a page may be cleared (`retired`), or hold pages that are not published (`pages`).

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwapOption, Guard};

use super::check::Damage;
use super::map::{Map, Shape};
use super::page::{Node, PAGE_BYTES};
use super::run::Run;
use crate::ids::PageId;

const FIRST_SLOTS: usize = 1 << 8;
const CHUNK_SLOTS: usize = 1 << 14;
const CHUNKS_MAX: usize = 1 << 14;
/// The number of pages a tree may have, live and free: one tebibyte.
pub(super) const PAGES_MAX: u64 = (CHUNK_SLOTS * CHUNKS_MAX) as u64;

const _: () = assert!(PAGES_MAX as u128 * PAGE_BYTES as u128 == 1 << 40);

/// The published pages.
pub(super) struct Directory {
    nodes: Table<Node>,
    runs: Table<Run>,
    /// Where pages are that have no slot. None: the tree has no file.
    map: Option<Map>,
}

impl Directory {
    pub(super) fn new(map: Option<Map>) -> Directory {
        Directory { nodes: Table::new(), runs: Table::new(), map }
    }

    /// The file, if the tree has one.
    pub(super) fn map(&self) -> Option<&Map> {
        self.map.as_ref()
    }

    /// The file, where a page that is not in the heap must be.
    #[inline]
    pub(super) fn file(&self, id: PageId) -> &Map {
        self.map.as_ref().unwrap_or_else(|| unreachable!("invariant: page {id} is in the heap"))
    }

    /// The leaf or branch at `id`, which the caller's snapshot must see.
    #[inline]
    pub(super) fn node(&self, id: PageId) -> LoadedNode<'_> {
        match self.nodes.load(id) {
            Some(node) => LoadedNode::Heap(node),
            None => LoadedNode::Mapped(self.file(id).node(id)),
        }
    }

    /// The data of the run that starts at `id`, which the caller's snapshot must see.
    #[inline]
    pub(super) fn run(&self, id: PageId) -> LoadedRun<'_> {
        match self.runs.load(id) {
            Some(run) => LoadedRun::Heap(run),
            None => LoadedRun::Mapped(self.file(id).run(id)),
        }
    }

    /// The batch that wrote the run at `id`, which the caller's snapshot must see.
    pub(super) fn run_version(&self, id: PageId) -> u64 {
        match self.runs.load(id) {
            Some(run) => run.version(),
            None => self.file(id).version(id),
        }
    }

    /// Verifies the page or run at `id` where it is read from the file.
    pub(super) fn verify(&self, shape: Shape, id: PageId) -> Result<(), Damage> {
        match (self.nodes.load(id), self.runs.load(id)) {
            (None, None) => self.file(id).verify_as(shape, id),
            _ => Ok(()),
        }
    }

    /// Appends what stands at `id` to `out`, as a file holds it, and says how many pages that is. The caller's snapshot
    /// must see it.
    pub(super) fn copy(&self, shape: Shape, id: PageId, out: &mut Vec<u8>) -> Result<u64, Damage> {
        let begin = out.len();
        match shape {
            Shape::Node => match self.nodes.load(id) {
                Some(node) => node.write(id, out),
                None => self.file(id).copy(shape, id, out)?,
            },
            Shape::Run => match self.runs.load(id) {
                Some(run) => run.write(id, out),
                None => self.file(id).copy(shape, id, out)?,
            },
        }
        Ok(((out.len() - begin) / PAGE_BYTES) as u64)
    }

    pub(super) fn store_node(&self, id: PageId, node: Arc<Node>) {
        self.nodes.slot_or_grow(id).store(Some(node));
    }

    pub(super) fn store_run(&self, id: PageId, run: Arc<Run>) {
        self.runs.slot_or_grow(id).store(Some(run));
    }

    pub(super) fn clear_node(&self, id: PageId) {
        self.nodes.slot_or_grow(id).store(None);
    }

    pub(super) fn clear_run(&self, id: PageId) {
        self.runs.slot_or_grow(id).store(None);
    }

    /// What stands in the heap at `id`: the node, then the run.
    pub(super) fn occupants(&self, id: PageId) -> (Option<Arc<Node>>, Option<Arc<Run>>) {
        (self.nodes.occupant(id), self.runs.occupant(id))
    }
}

/// A page in the heap that a reader holds.
pub(super) struct Held<T>(Guard<Option<Arc<T>>>);

impl<T> Deref for Held<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0.as_deref().expect("invariant: made of a slot that is not empty")
    }
}

/// A leaf or branch that a reader holds.
pub(super) enum LoadedNode<'a> {
    Heap(Held<Node>),
    Mapped(&'a Node),
}

impl Deref for LoadedNode<'_> {
    type Target = Node;

    #[inline]
    fn deref(&self) -> &Node {
        match self {
            LoadedNode::Heap(node) => node,
            LoadedNode::Mapped(node) => node,
        }
    }
}

/// The data of a run that a reader holds.
pub(super) enum LoadedRun<'a> {
    Heap(Held<Run>),
    Mapped(&'a [u8]),
}

impl Deref for LoadedRun<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            LoadedRun::Heap(run) => run.data(),
            LoadedRun::Mapped(data) => data,
        }
    }
}

type Slot<T> = ArcSwapOption<T>;
type Chunk<T> = Box<[Slot<T>; CHUNK_SLOTS]>;

struct Table<T> {
    /// The slots of the first pages, so that a small tree is small. A test, a simulation or a fuzzer makes thousands.
    first: OnceLock<Box<[Slot<T>; FIRST_SLOTS]>>,
    /// Those of all others; what it has for the first ones is not used.
    chunks: OnceLock<Box<[OnceLock<Chunk<T>>; CHUNKS_MAX]>>,
}

impl<T> Table<T> {
    fn new() -> Table<T> {
        Table { first: OnceLock::new(), chunks: OnceLock::new() }
    }

    #[inline]
    fn slot(&self, id: PageId) -> Option<&Slot<T>> {
        let id = index(id);
        if id < FIRST_SLOTS {
            return Some(&self.first.get()?[id]);
        }
        Some(&self.chunks.get()?[id / CHUNK_SLOTS].get()?[id % CHUNK_SLOTS])
    }

    fn slot_or_grow(&self, id: PageId) -> &Slot<T> {
        let id = index(id);
        if id < FIRST_SLOTS {
            return &self.first.get_or_init(|| array(Slot::empty))[id];
        }
        let chunks = self.chunks.get_or_init(|| array(OnceLock::new));
        &chunks[id / CHUNK_SLOTS].get_or_init(|| array(Slot::empty))[id % CHUNK_SLOTS]
    }

    /// The page in the heap at `id`.
    #[inline]
    fn load(&self, id: PageId) -> Option<Held<T>> {
        let page = self.slot(id)?.load();
        page.is_some().then_some(Held(page))
    }

    fn occupant(&self, id: PageId) -> Option<Arc<T>> {
        self.slot(id)?.load_full()
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "an id is below PAGES_MAX")]
fn index(id: PageId) -> usize {
    id.0 as usize
}

/// An array that was never on the stack.
fn array<T, const N: usize>(new: impl Fn() -> T) -> Box<[T; N]> {
    let items: Box<[T]> = (0..N).map(|_| new()).collect();
    items.try_into().unwrap_or_else(|_| unreachable!("invariant: N items were made"))
}
