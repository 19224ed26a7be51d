//! The writer: changes records, one batch after another, and publishes each batch as a snapshot.
//!
//! Every change goes the same way: find the place (`read`), make the pages from the root to the leaf writable, change
//! the leaf, and carry the count of records, a split (`split`) or a merge (`merge`) up the path.

use std::fmt;

use super::cell::{CellKey, CellValue, LEAF_HEAD_BYTES, LeafCell};
use super::check::Damage;
use super::checkpoint::Books;
use super::cursor::{Cursor, PageCursor};
use super::map::{Map, Shape};
use super::page::{CELL_BYTES_MAX, Kind, LEAF_KEY_BYTES_MAX, Node, PAGE_BYTES};
use super::pages::Pages;
use super::read::{PageValue, Path, Read, Source, Step, count, descend, get, record_index};
use super::snapshot::Snapshot;
use crate::ids::PageId;

/// Whether a record counts in [`Read::count`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// Sizes of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Pages there is room for, in use or not.
    pub pages: u64,
    /// Of these, pages that may be used for anything.
    pub pages_free: u64,
    /// Of these, pages that only snapshots see.
    pub pages_waiting: u64,
    /// Size of the file that would hold the tree.
    pub bytes: u64,
    /// Bytes of the pages that the tree itself uses: neither free, nor kept only for snapshots or an older checkpoint.
    pub bytes_in_use: u64,
    /// Pages in use that no checkpoint has taken.
    pub pages_unwritten: u64,
    /// Pages from the root to a leaf, both included.
    pub depth: usize,
    /// Records, counted or not.
    pub records: u64,
}

/// The one writer of a tree. See the module's page for how a batch works.
pub struct Tree {
    pub(super) pages: Pages,
    pub(super) root: PageId,
    /// Pages from the root to a leaf.
    pub(super) depth: usize,
    pub(super) records: u64,
    pub(super) published: Snapshot,
    /// What is durable, and what becomes so.
    pub(super) books: Books,
}

impl Tree {
    /// An empty tree, published as version 1.
    #[must_use]
    pub fn new() -> Tree {
        Tree::empty(None)
    }

    /// An empty tree whose file, if it has one, holds no checkpoint yet.
    pub(super) fn empty(map: Option<Map>) -> Tree {
        let mut pages = Pages::new(map);
        let root = pages.add_node(Kind::Leaf);
        let published = pages.publish(root, 1, 0);
        Tree { pages, root, depth: 1, records: 0, published, books: Books::default() }
    }

    /// Inserts a record, or replaces the one at `key`.
    pub fn insert(&mut self, key: &[u8], value: &[u8], counted: Counted) {
        let (mut path, found) = self.locate(key);
        self.make_writable(&mut path);
        if found {
            self.drop_runs(&path);
        } else {
            self.records += 1;
        }
        let key_run = (key.len() > LEAF_KEY_BYTES_MAX).then(|| self.pages.add_run(key));
        let key = CellKey::new(key, key_run);
        let is_long = LEAF_HEAD_BYTES + key.len() + value.len() > CELL_BYTES_MAX;
        let value = if is_long {
            CellValue::Run(self.pages.add_run(value))
        } else {
            CellValue::Inline(value)
        };
        let cell = LeafCell { counted: counted == Counted::Yes, key, value };
        self.place(&path, found, &cell);
    }

    /// Removes the record at `key`; false: there is none.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let (mut path, found) = self.locate(key);
        if !found {
            return false;
        }
        self.make_writable(&mut path);
        self.drop_runs(&path);
        let (leaf, above) = split_last(&path);
        self.pages.node_mut(leaf.page).remove(leaf.index);
        self.records -= 1;
        self.sum_up(above, leaf.page);
        self.shrink(&path);
        true
    }

    /// Sets whether the record at `key` counts; false: there is none.
    pub fn set_counted(&mut self, key: &[u8], counted: Counted) -> bool {
        let counted = counted == Counted::Yes;
        let (mut path, found) = self.locate(key);
        let (leaf, _) = split_last(&path);
        if !found || self.pages.node(leaf.page).is_counted(leaf.index) == counted {
            return found;
        }
        self.make_writable(&mut path);
        let (leaf, above) = split_last(&path);
        self.pages.node_mut(leaf.page).set_counted(leaf.index, counted);
        self.sum_up(above, leaf.page);
        true
    }

    /// Ends the batch: what was changed since the last call becomes a snapshot that any thread may read.
    pub fn publish(&mut self) -> Snapshot {
        let replaced = self.pages.replaced().len();
        self.published = self.pages.publish(self.root, self.depth, self.records);
        // Only now is the version before without the writer's own snapshot.
        self.pages.reclaim(replaced);
        self.debug_check();
        self.snapshot()
    }

    /// The snapshot published last.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.published.clone()
    }

    /// Sizes, changes of the batch under way included.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let (pages, pages_free) = (self.pages.freelist().end().0, self.pages.freelist().count());
        let pages_waiting = self.pages.waiting();
        Statistics {
            pages,
            pages_free,
            pages_waiting,
            bytes: pages * PAGE_BYTES as u64,
            bytes_in_use: (pages - pages_free - pages_waiting) * PAGE_BYTES as u64,
            pages_unwritten: self.pages.unwritten(),
            depth: self.depth,
            records: self.records,
        }
    }

    /// How many pages of the file have been read.
    #[cfg(test)]
    pub(crate) fn pages_read(&self) -> usize {
        self.pages.directory().map().map_or(0, Map::pages_read)
    }

    /// In debug builds a small tree is checked in full; a large one would take too long.
    fn debug_check(&self) {
        const PAGES_MAX: u64 = 32;
        if cfg!(debug_assertions)
            && self.pages.freelist().end().0 <= PAGES_MAX
            && let Err(damage) = self.check()
        {
            panic!("invariant: the tree is sound: {damage}");
        }
    }

    /// The way to `key`'s place, and whether there is a record with this key.
    fn locate(&self, key: &[u8]) -> (Path, bool) {
        let mut path = Path::default();
        let (id, leaf) = descend(self, key, &mut path);
        let (index, found) = record_index(self, leaf, key);
        path.push(id, index);
        (path, found)
    }

    /// Makes the pages of `path` writable, from the root down: a page that gets a new id is known by it to its parent.
    fn make_writable(&mut self, path: &mut Path) {
        let mut parent: Option<Step> = None;
        for step in path.steps_mut() {
            let id = self.pages.writable(step.page);
            if id != step.page {
                match parent {
                    None => self.root = id,
                    Some(parent) => self.pages.node_mut(parent.page).set_child(parent.index, id),
                }
                step.page = id;
            }
            parent = Some(*step);
        }
    }

    /// Drops the runs of the record at the end of `path`, which is about to go.
    fn drop_runs(&mut self, path: &Path) {
        let (leaf, _) = split_last(path);
        let cell = self.pages.node(leaf.page).record(leaf.index);
        let runs = [cell.key.run(), cell.value.run()];
        for run in runs.into_iter().flatten() {
            self.pages.drop_run(run);
        }
    }

    /// Carries the sum of counted records up from `child`, the page below the end of `above`.
    pub(super) fn sum_up(&mut self, above: &[Step], child: PageId) {
        let mut sum = self.pages.node(child).sum();
        for step in above.iter().rev() {
            let parent = self.pages.node_mut(step.page);
            if parent.weight(step.index) == sum {
                return;
            }
            parent.set_weight(step.index, sum);
            sum = parent.sum();
        }
    }
}

/// The leaf's step and those above it.
pub(super) fn split_last(path: &Path) -> (Step, &[Step]) {
    let (leaf, above) = path.steps().split_last().expect("invariant: a path ends in a leaf");
    (*leaf, above)
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("statistics", &self.statistics()).finish_non_exhaustive()
    }
}

impl Source for Tree {
    type NodeGuard<'a> = &'a Node;
    type RunGuard<'a> = &'a [u8];

    #[inline]
    fn root(&self) -> (PageId, &Node) {
        (self.root, self.pages.node(self.root))
    }

    #[inline]
    fn node(&self, id: PageId) -> &Node {
        self.pages.node(id)
    }

    #[inline]
    fn run(&self, id: PageId) -> &[u8] {
        self.pages.run(id)
    }

    fn run_version(&self, id: PageId) -> u64 {
        self.pages.run_version(id)
    }

    fn verify(&self, shape: Shape, id: PageId) -> Result<(), Damage> {
        self.pages.verify(shape, id)
    }
}

impl Read for Tree {
    type Value<'a> = &'a [u8];
    type Cursor<'a> = TreeCursor<'a>;

    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        get(self, key).map(|value| match value {
            PageValue::Inline(node, range) => &node.body()[range],
            PageValue::Run(data) => data,
        })
    }

    fn cursor(&self) -> TreeCursor<'_> {
        TreeCursor(PageCursor::new(self))
    }

    fn count(&self, from: &[u8], to: Option<&[u8]>) -> u64 {
        count(self, from, to)
    }
}

/// A cursor over the writer's tree, changes of the batch under way included.
pub struct TreeCursor<'a>(PageCursor<'a, Tree>);

super::cursor::delegate_cursor!(TreeCursor);
