//! Reading, the same way over the writer's pages and over a snapshot: descent, lookup, counting.

use std::cmp::Ordering;
use std::ops::{Deref, Range};

use super::cell::{BRANCH_HEAD_BYTES, CellKey, CellValue, LEAF_HEAD_BYTES};
use super::check::Damage;
use super::cursor::Cursor;
use super::map::Shape;
use super::page::{Head, KEY_PREFIX_BYTES, Kind, Node};
use crate::ids::PageId;

/// What a table is read through: a [`Snapshot`](super::Snapshot), or the [`Tree`](super::Tree) with the changes of the
/// batch under way.
pub trait Read {
    /// The bytes of a value.
    type Value<'a>: Deref<Target = [u8]>
    where
        Self: 'a;
    /// See [`Cursor`].
    type Cursor<'a>: Cursor
    where
        Self: 'a;

    /// The value at `key`.
    fn get(&self, key: &[u8]) -> Option<Self::Value<'_>>;

    /// A cursor that stands nowhere yet.
    fn cursor(&self) -> Self::Cursor<'_>;

    /// Counted records in `[from, to)`, to the end without `to`; takes as long as two lookups.
    fn count(&self, from: &[u8], to: Option<&[u8]>) -> u64;
}

/// Where pages come from.
pub(super) trait Source {
    type NodeGuard<'a>: Deref<Target = Node>
    where
        Self: 'a;
    /// The data of a run.
    type RunGuard<'a>: Deref<Target = [u8]>
    where
        Self: 'a;

    fn root(&self) -> (PageId, &Node);
    fn node(&self, id: PageId) -> Self::NodeGuard<'_>;
    fn run(&self, id: PageId) -> Self::RunGuard<'_>;

    /// The batch that wrote the run at `id`.
    fn run_version(&self, id: PageId) -> u64;

    /// Whether what is at `id` is what was written there, and of this shape; only a page of a file may not be.
    fn verify(&self, shape: Shape, id: PageId) -> Result<(), Damage>;
}

/// The most pages from the root to a leaf, both included. A branch splits only when it has 14 children or more, and joins
/// a sibling when the two fit into one, so branches have seven children on average, or more: far beyond 2^28 pages.
pub(super) const DEPTH_MAX: usize = 12;

/// A page on the way down, and the cell that was taken there.
#[derive(Clone, Copy, Default)]
pub(super) struct Step {
    pub(super) page: PageId,
    pub(super) index: usize,
}

/// The way from the root to a record.
#[derive(Clone, Copy, Default)]
pub(super) struct Path {
    steps: [Step; DEPTH_MAX],
    depth: usize,
}

impl Path {
    #[inline]
    pub(super) fn push(&mut self, page: PageId, index: usize) {
        self.steps[self.depth] = Step { page, index };
        self.depth += 1;
    }

    pub(super) fn pop(&mut self) -> Option<Step> {
        self.depth = self.depth.checked_sub(1)?;
        Some(self.steps[self.depth])
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.depth = 0;
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps[..self.depth]
    }

    pub(super) fn steps_mut(&mut self) -> &mut [Step] {
        &mut self.steps[..self.depth]
    }
}

/// Goes down to the leaf where `key` is or would be. `path` gets the branches on the way.
pub(super) fn descend<'a, S: Source>(
    source: &'a S,
    key: &[u8],
    path: &mut Path,
) -> (PageId, S::NodeGuard<'a>) {
    path.clear();
    let (mut id, root) = source.root();
    if root.kind() == Kind::Leaf {
        return (id, source.node(id));
    }
    let index = child_index(source, root, key);
    path.push(id, index);
    id = root.child(index);
    loop {
        let node = source.node(id);
        if node.kind() == Kind::Leaf {
            return (id, node);
        }
        let index = child_index(source, &node, key);
        path.push(id, index);
        id = node.child(index);
    }
}

/// The child of branch `node` that covers `key`.
pub(super) fn child_index<S: Source>(source: &S, node: &Node, key: &[u8]) -> usize {
    // The first cell's key is empty and stands for "from the beginning".
    let (index, found) = search::<S, BRANCH_HEAD_BYTES>(source, node, 1, key);
    if found { index } else { index - 1 }
}

/// The first record of leaf `node` that is not before `key`, and whether it is `key`.
pub(super) fn record_index<S: Source>(source: &S, node: &Node, key: &[u8]) -> (usize, bool) {
    search::<S, LEAF_HEAD_BYTES>(source, node, 0, key)
}

/// The first cell, from `first` on, whose key is not before `key`, and whether it is `key`.
#[inline]
fn search<S: Source, const CELL_HEAD_BYTES: usize>(
    source: &S,
    node: &Node,
    first: usize,
    key: &[u8],
) -> (usize, bool) {
    let count = node.count();
    let common = node.common_len();
    let head = Head::new(key, common);
    let (mut low, mut high) = (first, count);
    while low < high {
        let middle = low.midpoint(high);
        let ordering = head
            .cmp(&node.head(middle))
            .then_with(|| compare(source, key, node.key_with_head::<CELL_HEAD_BYTES>(middle)));
        match ordering {
            Ordering::Less => high = middle,
            Ordering::Equal => return (middle, true),
            Ordering::Greater => low = middle + 1,
        }
    }
    // So far the key was taken to begin as all keys here do. If it does not, it is before or after all of them. Asked
    // last, and of the cell the caller will look at next: any other would be a cache miss more.
    if common > 0 && first < count {
        let other = node.key_with_head::<CELL_HEAD_BYTES>(low.min(count - 1)).part();
        low = match key[..key.len().min(common)].cmp(&other[..common]) {
            Ordering::Less => first,
            Ordering::Equal => low,
            Ordering::Greater => count,
        };
    }
    (low, false)
}

/// Compares `key` with a cell's, which is looked up in its run only when the part in the cell does not decide.
#[inline]
fn compare<S: Source>(source: &S, key: &[u8], cell: CellKey<'_>) -> Ordering {
    match cell {
        CellKey::Inline(other) => key.cmp(other),
        CellKey::Run { prefix, run } => {
            let head = &key[..key.len().min(KEY_PREFIX_BYTES)];
            head.cmp(prefix).then_with(|| key.cmp(&source.run(run.page)))
        }
    }
}

/// A value, and the guard of the page that holds it.
pub(super) enum PageValue<'a, S: Source + 'a> {
    Inline(S::NodeGuard<'a>, Range<usize>),
    Run(S::RunGuard<'a>),
}

impl<S: Source> PageValue<'_, S> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            PageValue::Inline(node, range) => &node.body()[range.clone()],
            PageValue::Run(data) => data,
        }
    }
}

pub(super) fn get<'a, S: Source>(source: &'a S, key: &[u8]) -> Option<PageValue<'a, S>> {
    let (_, leaf) = descend(source, key, &mut Path::default());
    let (index, found) = record_index(source, &leaf, key);
    if !found {
        return None;
    }
    let cell = leaf.record(index);
    match cell.value {
        CellValue::Inline(value) => {
            let end = leaf.slot(index) + cell.len();
            let range = end - value.len()..end;
            Some(PageValue::Inline(leaf, range))
        }
        CellValue::Run(run) => Some(PageValue::Run(source.run(run.page))),
    }
}

pub(super) fn count<S: Source>(source: &S, from: &[u8], to: Option<&[u8]>) -> u64 {
    let end = match to {
        Some(to) if to <= from => return 0,
        Some(to) => rank(source, to),
        None => source.root().1.sum(),
    };
    end - rank(source, from)
}

/// Counted records before `key`.
fn rank<S: Source>(source: &S, key: &[u8]) -> u64 {
    let mut rank = 0;
    let (mut id, root) = source.root();
    if root.kind() == Kind::Branch {
        let index = child_index(source, root, key);
        rank += weight_before(root, index);
        id = root.child(index);
    }
    loop {
        let node = source.node(id);
        if node.kind() == Kind::Leaf {
            return rank + weight_before(&node, record_index(source, &node, key).0);
        }
        let index = child_index(source, &node, key);
        rank += weight_before(&node, index);
        id = node.child(index);
    }
}

/// Counted records before cell `index`, summed from the nearer end of the page.
fn weight_before(node: &Node, index: usize) -> u64 {
    if index <= node.count() / 2 {
        (0..index).map(|at| node.weight(at)).sum()
    } else {
        node.sum() - (index..node.count()).map(|at| node.weight(at)).sum::<u64>()
    }
}
