//! The full check of a tree's structure: what must hold of every page, between pages, and of the books about pages.
//!
//! It shares with the rest only the reading of single cells, and finds everything else by walking: order of keys,
//! separators, sums, fill, run references; each page id exactly once in the tree, waiting, or free; each held snapshot
//! whole, and none of its pages free. It stops at the first thing wrong.
//!
//! Not checked: that the records are the right ones. Tests compare them with a model.

use thiserror::Error;

use super::cell::{BranchCell, CellKey, CellValue};
use super::freelist::FIRST_PAGE;
use super::map::Shape;
use super::page::{
    BRANCH_KEY_BYTES_MAX, CELL_BYTES_MAX, Head, Kind, LEAF_KEY_BYTES_MAX, Node, SLOT_BYTES,
    USABLE_BYTES,
};
use super::read::{DEPTH_MAX, Source};
use super::run::run_pages;
use super::snapshot::Snapshot;
use super::writer::Tree;
use crate::ids::PageId;

/// What is wrong with a tree.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("page {page}: expected {expected}, found {found}")]
pub struct Damage {
    /// The page in which it shows.
    pub page: PageId,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Damage {
    pub(super) fn new(page: PageId, expected: impl ToString, found: impl ToString) -> Damage {
        Damage { page, expected: expected.to_string(), found: found.to_string() }
    }
}

/// Fails unless `$holds`; the rest is the page, what was expected there and what was found.
macro_rules! ensure {
    ($holds:expr, $page:expr, $expected:expr, $found:expr) => {
        if !$holds {
            return Err(Damage::new($page, $expected, $found));
        }
    };
}

pub(super) use ensure;

impl Tree {
    /// Checks the whole tree, its books and every snapshot that someone holds.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn check(&self) -> Result<(), Damage> {
        let mut walk = Walk::new(self, self.pages.version());
        walk.tree()?;
        let (root, _) = self.root();
        ensure!(walk.records == self.records, root, walk.records, self.records);
        ensure!(walk.depth == self.depth, root, walk.depth, self.depth);
        self.check_books(&walk.pages)?;
        for snapshot in self.pages.snapshots() {
            self.check_snapshot(&snapshot)?;
        }
        Ok(())
    }

    /// Each page id is in the tree, waiting for a snapshot to go, or free: exactly one of these.
    fn check_books(&self, in_tree: &[(PageId, usize)]) -> Result<(), Damage> {
        const NOWHERE: &str = "nowhere";
        let freelist = self.pages.freelist();
        let end = freelist.end();
        let mut place = vec![NOWHERE; usize::try_from(end.0).expect("invariant: bounded")];
        let mut enter = |page: PageId, pages: usize, what: &'static str| {
            for id in page.0..page.0 + pages as u64 {
                let found = place.get_mut(usize::try_from(id).expect("invariant: bounded"));
                let Some(found) = found else {
                    return Err(Damage::new(PageId(id), format!("an id below {end}"), what));
                };
                ensure!(*found == NOWHERE, PageId(id), format!("{what} only"), *found);
                *found = what;
            }
            Ok(())
        };
        for &(page, pages) in in_tree {
            ensure!(self.pages.pages_at(page) == pages, page, pages, self.pages.pages_at(page));
            enter(page, pages, "in the tree")?;
        }
        for retired in self.pages.waiting_pages().chain(self.pages.replaced().iter().copied()) {
            let (page, pages) = (retired.page, retired.pages as usize);
            ensure!(self.pages.pages_at(page) == pages, page, pages, self.pages.pages_at(page));
            enter(page, pages, "waiting")?;
        }
        for (page, pages) in self.free_sets() {
            enter(page, pages, "a checkpoint's set of free pages")?;
        }
        let waiting: u64 = self.pages.waiting_pages().map(|it| u64::from(it.pages)).sum();
        ensure!(waiting == self.pages.waiting(), FIRST_PAGE, waiting, self.pages.waiting());
        let mut free = 0;
        for id in (FIRST_PAGE.0..end.0).map(PageId).filter(|&id| freelist.is_free(id)) {
            enter(id, 1, "free")?;
            ensure!(self.pages.pages_at(id) == 0, id, "nothing at a free page", "a page");
            free += 1;
            let (node, run) = self.pages.directory().occupants(id);
            let is_clear = node.is_none() && run.is_none();
            ensure!(is_clear, id, "no entry in the directory for a free page", "one");
        }
        ensure!(free == freelist.count(), FIRST_PAGE, free, freelist.count());
        let first = usize::try_from(FIRST_PAGE.0).expect("invariant: bounded");
        let lost = place[first..].iter().position(|&place| place == NOWHERE);
        match lost {
            Some(lost) => Err(Damage::new(PageId((first + lost) as u64), "a page in use", NOWHERE)),
            None => Ok(()),
        }
    }

    /// A held snapshot is whole, and the writer has not freed any of its pages.
    fn check_snapshot(&self, snapshot: &Snapshot) -> Result<(), Damage> {
        for (page, pages) in walk_snapshot(snapshot)? {
            for id in (page.0..page.0 + pages as u64).map(PageId) {
                let is_free = self.pages.freelist().is_free(id);
                ensure!(!is_free, id, format!("a page of {snapshot:?}"), "a free page");
            }
            ensure!(self.pages.pages_at(page) == pages, page, pages, self.pages.pages_at(page));
        }
        Ok(())
    }
}

impl Snapshot {
    /// Checks the structure of this snapshot.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn check(&self) -> Result<(), Damage> {
        walk_snapshot(self).map(|_| ())
    }
}

fn walk_snapshot(snapshot: &Snapshot) -> Result<Vec<(PageId, usize)>, Damage> {
    let mut walk = Walk::new(snapshot.source(), snapshot.version());
    walk.tree()?;
    let (root, sizes) = (snapshot.root(), snapshot.sizes());
    ensure!(walk.records == sizes.records, root, walk.records, sizes.records);
    ensure!(walk.depth == sizes.depth, root, walk.depth, sizes.depth);
    Ok(walk.pages)
}

/// A walk over all pages beneath a root.
struct Walk<'a, S> {
    source: &'a S,
    /// No page is younger.
    version: u64,
    /// Every page seen, and how many ids it takes.
    pages: Vec<(PageId, usize)>,
    records: u64,
    /// Pages from the root to the first leaf.
    depth: usize,
}

/// The keys a subtree may hold: from `low` on, before `high`.
#[derive(Clone)]
struct Bounds {
    low: Vec<u8>,
    high: Option<Vec<u8>>,
}

impl Bounds {
    fn hold(&self, key: &[u8]) -> bool {
        key >= &self.low[..] && self.high.as_deref().is_none_or(|high| key < high)
    }
}

impl<'a, S: Source> Walk<'a, S> {
    fn new(source: &'a S, version: u64) -> Walk<'a, S> {
        Walk { source, version, pages: Vec::new(), records: 0, depth: 0 }
    }

    fn tree(&mut self) -> Result<(), Damage> {
        let (id, root) = self.source.root();
        let needed = if root.kind() == Kind::Branch { 2 } else { 0 };
        ensure!(root.count() >= needed, id, format!("{needed} cells in the root"), root.count());
        self.page(id, &Bounds { low: Vec::new(), high: None }, 1)?;
        Ok(())
    }

    /// Checks the subtree at `id`; the sum of its counted records.
    fn page(&mut self, id: PageId, bounds: &Bounds, depth: usize) -> Result<u64, Damage> {
        let source = self.source;
        ensure!(depth <= DEPTH_MAX, id, format!("a depth up to {DEPTH_MAX}"), depth);
        source.verify(Shape::Node, id)?;
        let node = source.node(id);
        self.pages.push((id, 1));
        check_layout(id, &node)?;
        check_heads(id, &node)?;
        ensure!(
            node.version() <= self.version,
            id,
            format!("a version up to {}", self.version),
            node.version()
        );
        ensure!(depth == 1 || node.count() > 0, id, "a page that is not empty", "no cells");
        let sum = match node.kind() {
            Kind::Leaf => self.leaf(id, &node, bounds, depth)?,
            Kind::Branch => self.branch(id, &node, bounds, depth)?,
        };
        ensure!(sum == node.sum(), id, format!("a sum of {sum}"), node.sum());
        Ok(sum)
    }

    fn leaf(
        &mut self,
        id: PageId,
        node: &Node,
        bounds: &Bounds,
        depth: usize,
    ) -> Result<u64, Damage> {
        if self.depth == 0 {
            self.depth = depth;
        }
        ensure!(depth == self.depth, id, format!("leaves at depth {}", self.depth), depth);
        self.records += node.count() as u64;
        let mut last: Option<Vec<u8>> = None;
        let mut sum = 0;
        for index in 0..node.count() {
            let cell = node.record(index);
            sum += u64::from(cell.counted);
            let key = self.full_key(id, cell.key, LEAF_KEY_BYTES_MAX)?;
            ensure!(bounds.hold(&key), id, "a key within the separators above", show(&key));
            if let Some(last) = last {
                ensure!(last < key, id, format!("a key after {}", show(&last)), show(&key));
            }
            last = Some(key);
            if let CellValue::Run(run) = cell.value {
                self.source.verify(Shape::Run, run.page)?;
                let data = self.source.run(run.page);
                self.run(id, run.page, run.len as usize, data.len())?;
            }
        }
        Ok(sum)
    }

    fn branch(
        &mut self,
        id: PageId,
        node: &Node,
        bounds: &Bounds,
        depth: usize,
    ) -> Result<u64, Damage> {
        let mut sum = 0;
        let mut low = bounds.low.clone();
        for index in 0..node.count() {
            let BranchCell { key, child, counted } = node.branch(index);
            if index == 0 {
                ensure!(key == CellKey::EMPTY, id, "an empty first separator", key.len());
            }
            let high = if index + 1 < node.count() {
                let key = node.branch(index + 1).key;
                let key = self.full_key(id, key, BRANCH_KEY_BYTES_MAX)?;
                ensure!(key > low, id, format!("a separator after {}", show(&low)), show(&key));
                ensure!(bounds.hold(&key), id, "a separator within those above", show(&key));
                Some(key)
            } else {
                bounds.high.clone()
            };
            let beneath = self.page(child, &Bounds { low, high: high.clone() }, depth + 1)?;
            ensure!(beneath == counted, id, format!("{beneath} beneath page {child}"), counted);
            sum += beneath;
            low = high.unwrap_or_default();
        }
        Ok(sum)
    }

    /// A cell's whole key, which is in a run exactly when it is longer than `inline_max`.
    fn full_key(
        &mut self,
        id: PageId,
        key: CellKey<'_>,
        inline_max: usize,
    ) -> Result<Vec<u8>, Damage> {
        match key {
            CellKey::Inline(key) => {
                let len = key.len();
                ensure!(len <= inline_max, id, format!("an inline key up to {inline_max}"), len);
                Ok(key.to_vec())
            }
            CellKey::Run { prefix, run } => {
                self.source.verify(Shape::Run, run.page)?;
                let key = self.source.run(run.page);
                self.run(id, run.page, run.len as usize, key.len())?;
                ensure!(key.len() > inline_max, id, "a short key in its cell", "in a run");
                ensure!(key.starts_with(prefix), id, "the run's first bytes", show(prefix));
                Ok(key.to_vec())
            }
        }
    }

    /// A run that page `id` refers to.
    fn run(&mut self, id: PageId, page: PageId, len: usize, found: usize) -> Result<(), Damage> {
        let version = self.source.run_version(page);
        ensure!(len == found, id, format!("a run of {len} bytes at {page}"), found);
        ensure!(
            version <= self.version,
            page,
            format!("a version up to {}", self.version),
            version
        );
        self.pages.push((page, run_pages(len)));
        Ok(())
    }
}

/// The keys share the prefix the page says, and each slot has its key's head.
pub(super) fn check_heads(id: PageId, node: &Node) -> Result<(), Damage> {
    let common = node.common_len();
    let first = usize::from(node.kind() == Kind::Branch);
    for index in first..node.count() {
        let (key, other) = (node.key(index).part(), node.key(first).part());
        let shares = key.len() >= common && key[..common] == other[..common];
        ensure!(shares, id, format!("{common} first bytes as {}", show(other)), show(key));
        let (expected, found) = (Head::new(key, common), node.head(index));
        ensure!(found == expected, id, format!("{expected:?}"), format!("{found:?}"));
    }
    Ok(())
}

/// The cells of one page lie in it without overlap, and with its holes fill what its header says.
pub(super) fn check_layout(id: PageId, node: &Node) -> Result<(), Damage> {
    let mut cells: Vec<(usize, usize)> =
        (0..node.count()).map(|at| (node.slot(at), node.cell_len(at))).collect();
    let used: usize = cells.iter().map(|(_, len)| len + SLOT_BYTES).sum();
    ensure!(used == node.used_bytes(), id, format!("{used} bytes in use"), node.used_bytes());
    ensure!(used <= USABLE_BYTES, id, format!("up to {USABLE_BYTES} bytes in use"), used);
    cells.sort_unstable();
    let mut end = node.heap_start();
    for (at, len) in cells {
        ensure!(at >= end, id, format!("a cell at {end} or later"), at);
        ensure!(len <= CELL_BYTES_MAX, id, format!("a cell up to {CELL_BYTES_MAX} bytes"), len);
        end = at + len;
    }
    ensure!(end <= node.body().len(), id, "cells within the page", format!("one up to {end}"));
    Ok(())
}

/// The beginning of a key, readable.
pub(super) fn show(key: &[u8]) -> String {
    const SHOWN_BYTES: usize = 48;
    let shown = &key[..key.len().min(SHOWN_BYTES)];
    format!("\"{}\" ({} bytes)", shown.escape_ascii(), key.len())
}
