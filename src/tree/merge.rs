//! Closing up after a removal: an empty page goes, a page less than a quarter full joins a sibling that has room for
//! it, and so on up the path; a root with one child gives way to it.
//!
//! Nothing is moved between pages that do not fit into one: two neighbours then are more than a page's worth together,
//! so the tree stays half full in the long run without a second kind of rebalancing.

use super::cell::{BranchCell, CellKey};
use super::page::{Kind, USABLE_BYTES};
use super::read::{Path, Source, Step, descend};
use super::snapshot::Snapshot;
use super::split::Separator;
use super::writer::Tree;
use crate::ids::PageId;

/// A page with fewer bytes in use looks for a sibling to join.
const UNDERFULL_BYTES: usize = USABLE_BYTES / 4;

impl Tree {
    /// Restores the fill rules along `path`, whose last page has just lost a cell. All its pages are writable, and the
    /// sums in them exact.
    pub(super) fn shrink(&mut self, path: &Path) {
        for pair in path.steps().windows(2).rev() {
            let (parent, page) = (pair[0], pair[1].page);
            let node = self.pages.node(page);
            if node.count() == 0 {
                self.pages.drop_node(page);
                self.remove_child(parent.page, parent.index, KeyOfChild::Drop);
            } else if node.used_bytes() >= UNDERFULL_BYTES || !self.join_sibling(parent) {
                break;
            }
        }
        self.lower_root();
    }

    /// Merges the underfull child at `parent` with a sibling; false: neither has room.
    fn join_sibling(&mut self, parent: Step) -> bool {
        let branch = self.pages.node(parent.page);
        let left = parent.index.checked_sub(1).filter(|&left| self.fit(parent.page, left));
        let has_right = parent.index + 1 < branch.count();
        let right = (has_right && self.fit(parent.page, parent.index)).then_some(parent.index);
        let Some(left) = left.or(right) else { return false };
        self.merge(parent.page, left);
        true
    }

    /// Whether children `left` and `left + 1` of `parent` fit into one page.
    fn fit(&self, parent: PageId, left: usize) -> bool {
        let parent = self.pages.node(parent);
        let (a, b) = (self.pages.node(parent.child(left)), self.pages.node(parent.child(left + 1)));
        // The right branch's first key is empty there; here it will be the separator.
        let separator = match a.kind() {
            Kind::Leaf => 0,
            Kind::Branch => parent.key(left + 1).len(),
        };
        a.used_bytes() + b.used_bytes() + separator <= USABLE_BYTES
    }

    /// Moves the cells of child `left + 1` of `parent` to child `left`.
    fn merge(&mut self, parent: PageId, left: usize) {
        let branch = self.pages.node(parent);
        let (left_old, right_id) = (branch.child(left), branch.child(left + 1));
        let separator = Separator::take(&branch.key(left + 1));
        let left_id = self.pages.writable(left_old);
        let (node, right) = self.pages.node_mut_and(left_id, right_id);
        let at = node.count();
        node.append_all(right);
        let key = match node.kind() {
            Kind::Leaf => KeyOfChild::Drop,
            Kind::Branch => {
                // Amid other children, the first of the right page needs the separator.
                let BranchCell { child, counted, .. } = node.branch(at);
                node.remove(at);
                node.insert_branch(at, &BranchCell { key: separator.key(), child, counted });
                KeyOfChild::Moved
            }
        };
        let sum = node.sum();
        self.pages.drop_node(right_id);
        self.remove_child(parent, left + 1, key);
        let branch = self.pages.node_mut(parent);
        branch.set_child(left, left_id);
        branch.set_weight(left, sum);
    }

    /// Removes child cell `index` of branch `parent`. The first of those left covers what this one did.
    fn remove_child(&mut self, parent: PageId, index: usize, key: KeyOfChild) {
        if key == KeyOfChild::Drop {
            self.drop_key_run(parent, index);
        }
        let branch = self.pages.node_mut(parent);
        branch.remove(index);
        if index == 0 && branch.count() > 0 {
            self.drop_key_run(parent, 0);
            self.pages.node_mut(parent).clear_first_key();
        }
    }

    /// Drops the run of a separator, when it has one.
    fn drop_key_run(&mut self, branch: PageId, index: usize) {
        if let CellKey::Run { run, .. } = self.pages.node(branch).key(index) {
            self.pages.drop_run(run);
        }
    }

    /// Takes away roots with a single child.
    fn lower_root(&mut self) {
        loop {
            let root = self.pages.node(self.root);
            if root.kind() == Kind::Leaf || root.count() > 1 {
                return;
            }
            let child = root.child(0);
            self.pages.drop_node(self.root);
            self.root = child;
            self.depth -= 1;
        }
    }
}

/// Which leaf's neighbours are worth reading ahead of a removal from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbours {
    /// Of any: much is going to be removed.
    Always,
    /// Of one that is less than half full.
    OfSparse,
}

impl Snapshot {
    /// Reads the leaf where `key` is or would be, and those that it might join when records were removed from it.
    pub fn touch_neighbours(&self, key: &[u8], of: Neighbours) {
        let (source, mut path) = (self.source(), Path::default());
        let (_, leaf) = descend(source, key, &mut path);
        let Some(parent) = path.pop() else { return };
        if of == Neighbours::OfSparse && leaf.used_bytes() > 2 * UNDERFULL_BYTES {
            return;
        }
        let branch = source.node(parent.page);
        for index in [parent.index.wrapping_sub(1), parent.index + 1] {
            if index < branch.count() {
                std::hint::black_box(source.node(branch.child(index)).kind());
            }
        }
    }
}

/// What becomes of a removed child's separator.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyOfChild {
    /// It is no longer needed, nor is its run.
    Drop,
    /// It went into another cell, with its run.
    Moved,
}
