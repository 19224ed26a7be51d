//! Where readers on any thread find a page: the table from [`PageId`] to page.
//!
//! The writer stores a page here when it publishes the batch that made it, and clears the slot when no snapshot sees the
//! page any more. In between a slot does not change, so a reader with a snapshot finds every page its root leads to,
//! and takes no lock: it loads a slot (`arc_swap`, which for short holds does not touch the page's shared counter
//! either) and reads bytes that nobody writes again.
//!
//! The table grows in chunks that never move. Runs have a table of their own, with the id of their first page: a slot
//! then is one pointer, and a store without long values has no slots for them.
//!
//! What it does not do: decide when a page may be cleared (`retired`), or hold pages that are not published (`pages`).

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwapOption, Guard};

use super::page::{Node, PAGE_BYTES};
use super::run::Run;
use crate::ids::PageId;

const CHUNK_SLOTS: usize = 1 << 14;
const CHUNKS_MAX: usize = 1 << 14;
/// The number of pages a tree may have, live and free: one tebibyte.
pub(super) const PAGES_MAX: u64 = (CHUNK_SLOTS * CHUNKS_MAX) as u64;

const _: () = assert!(PAGES_MAX as u128 * PAGE_BYTES as u128 == 1 << 40);

/// The published pages.
pub(super) struct Directory {
    nodes: Table<Node>,
    runs: Table<Run>,
}

impl Directory {
    pub(super) fn new() -> Directory {
        Directory { nodes: Table::new(), runs: Table::new() }
    }

    /// The leaf or branch at `id`, which the caller's snapshot must see.
    #[inline]
    pub(super) fn node(&self, id: PageId) -> Loaded<Node> {
        Loaded(self.nodes.slot(id).load())
    }

    /// The run that starts at `id`, which the caller's snapshot must see.
    #[inline]
    pub(super) fn run(&self, id: PageId) -> Loaded<Run> {
        Loaded(self.runs.slot(id).load())
    }

    pub(super) fn store_node(&self, id: PageId, node: Arc<Node>) {
        self.nodes.slot_or_grow(id).store(Some(node));
    }

    pub(super) fn store_run(&self, id: PageId, run: Arc<Run>) {
        self.runs.slot_or_grow(id).store(Some(run));
    }

    pub(super) fn clear_node(&self, id: PageId) {
        self.nodes.slot(id).store(None);
    }

    pub(super) fn clear_run(&self, id: PageId) {
        self.runs.slot(id).store(None);
    }

    /// What stands at `id`, for the checker: the node, then the run.
    pub(super) fn occupants(&self, id: PageId) -> (Option<Arc<Node>>, Option<Arc<Run>>) {
        (self.nodes.occupant(id), self.runs.occupant(id))
    }
}

/// A page that a reader holds.
pub(super) struct Loaded<T>(Guard<Option<Arc<T>>>);

impl<T> Deref for Loaded<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0.as_deref().expect("invariant: a page that a snapshot sees is in the directory")
    }
}

type Chunk<T> = Box<[ArcSwapOption<T>]>;

struct Table<T> {
    chunks: Box<[OnceLock<Chunk<T>>]>,
}

impl<T> Table<T> {
    fn new() -> Table<T> {
        Table { chunks: (0..CHUNKS_MAX).map(|_| OnceLock::new()).collect() }
    }

    #[inline]
    fn slot(&self, id: PageId) -> &ArcSwapOption<T> {
        let (chunk, slot) = position(id);
        let chunk = self.chunks[chunk].get().expect("invariant: a page's chunk outlives it");
        &chunk[slot]
    }

    fn slot_or_grow(&self, id: PageId) -> &ArcSwapOption<T> {
        let (chunk, slot) = position(id);
        let new = || (0..CHUNK_SLOTS).map(|_| ArcSwapOption::empty()).collect();
        &self.chunks[chunk].get_or_init(new)[slot]
    }

    fn occupant(&self, id: PageId) -> Option<Arc<T>> {
        let (chunk, slot) = position(id);
        self.chunks[chunk].get()?[slot].load_full()
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "an id is below PAGES_MAX")]
fn position(id: PageId) -> (usize, usize) {
    let id = id.0 as usize;
    (id / CHUNK_SLOTS, id % CHUNK_SLOTS)
}
