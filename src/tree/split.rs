//! Placing a record: the leaf's room decides, and a split goes up the path until a branch has room for one more child.
//!
//! A page splits where its two halves come out most even, except when cells lately came in order: then it splits at the
//! new cell, so that a full page is left behind and what follows finds room. Most tables' keys come in order (revisions
//! rise; those of one key fall, newest first), each at its own place in the tree.
//!
//! What separates two leaves is the shortest key that does, not a key that exists.

use super::cell::{BranchCell, CellKey, LeafCell, RunRef};
use super::page::{BRANCH_KEY_BYTES_MAX, Kind, Node, SLOT_BYTES, Trend, USABLE_BYTES};
use super::read::{Path, Step};
use super::writer::{Tree, split_last};
use crate::ids::PageId;

/// A separator on its way from a split page to the branch above.
pub(super) struct Separator {
    /// The key, or the part of it that stays in the cell.
    pub(super) bytes: Vec<u8>,
    pub(super) run: Option<RunRef>,
}

impl Separator {
    pub(super) fn key(&self) -> CellKey<'_> {
        match self.run {
            None => CellKey::Inline(&self.bytes),
            Some(run) => CellKey::Run { prefix: &self.bytes, run },
        }
    }

    /// Takes over a cell's key: its run, when it has one, now belongs to the separator.
    pub(super) fn take(key: &CellKey<'_>) -> Separator {
        match key {
            CellKey::Inline(key) => Separator { bytes: key.to_vec(), run: None },
            CellKey::Run { prefix, run } => Separator { bytes: prefix.to_vec(), run: Some(*run) },
        }
    }
}

impl Tree {
    /// Puts `cell` at the end of `path`, in place of the record there when `replaces`.
    pub(super) fn place(&mut self, path: &Path, replaces: bool, cell: &LeafCell<'_>) {
        let (leaf, above) = split_last(path);
        let node = self.pages.node_mut(leaf.page);
        if replaces {
            if node.overwrite_record(leaf.index, cell) {
                return self.sum_up(above, leaf.page);
            }
            node.remove(leaf.index);
        }
        if node.fits(cell.len()) {
            node.insert_record(leaf.index, cell);
            return self.sum_up(above, leaf.page);
        }
        let right = self.split_leaf(leaf, cell);
        let separator = self.separator(leaf.page, right);
        self.split_up(above, leaf.page, separator, right);
    }

    /// Adds `right`, which `left` was split into, to the branch above; and so on, up to a new root.
    fn split_up(&mut self, above: &[Step], left: PageId, separator: Separator, right: PageId) {
        let (mut left, mut separator, mut right) = (left, separator, right);
        for (level, step) in above.iter().enumerate().rev() {
            let left_sum = self.pages.node(left).sum();
            let right_sum = self.pages.node(right).sum();
            let cell = BranchCell { key: separator.key(), child: right, counted: right_sum };
            let branch = self.pages.node_mut(step.page);
            branch.set_weight(step.index, left_sum);
            if branch.fits(cell.len()) {
                branch.insert_branch(step.index + 1, &cell);
                return self.sum_up(&above[..level], step.page);
            }
            (separator, right) = self.split_branch(step.page, step.index + 1, &cell);
            left = step.page;
        }
        self.grow(left, &separator, right);
    }

    /// A new root above two pages.
    fn grow(&mut self, left: PageId, separator: &Separator, right: PageId) {
        let root = self.pages.add_node(Kind::Branch);
        let cells = [
            BranchCell { key: CellKey::EMPTY, child: left, counted: self.pages.node(left).sum() },
            BranchCell {
                key: separator.key(),
                child: right,
                counted: self.pages.node(right).sum(),
            },
        ];
        let node = self.pages.node_mut(root);
        for (index, cell) in cells.iter().enumerate() {
            node.insert_branch(index, cell);
        }
        self.root = root;
        self.depth += 1;
    }

    /// Splits a leaf that has no room for `cell`; the new right page.
    fn split_leaf(&mut self, leaf: Step, cell: &LeafCell<'_>) -> PageId {
        let right_id = self.pages.add_node(Kind::Leaf);
        let (left, right) = self.pages.two_nodes_mut(leaf.page, right_id);
        let at = split_point(left, leaf.index, cell.len());
        if leaf.index >= at {
            left.move_tail(at, right);
            let trend = left.trend().after(leaf.index);
            right.insert_record(leaf.index - at, cell);
            right.set_trend(trend.moved_to(leaf.index - at));
        } else {
            left.move_tail(at - 1, right);
            left.insert_record(leaf.index, cell);
        }
        right_id
    }

    /// Splits a branch that has no room for `cell` at `index`; what separates the halves, and the new right page.
    fn split_branch(
        &mut self,
        branch: PageId,
        index: usize,
        cell: &BranchCell<'_>,
    ) -> (Separator, PageId) {
        let right_id = self.pages.add_node(Kind::Branch);
        let (left, right) = self.pages.two_nodes_mut(branch, right_id);
        let at = split_point(left, index, cell.len());
        if index >= at {
            left.move_tail(at, right);
            let trend = left.trend().after(index);
            right.insert_branch(index - at, cell);
            right.set_trend(trend.moved_to(index - at));
        } else {
            left.move_tail(at - 1, right);
            left.insert_branch(index, cell);
        }
        let first = right.branch(0);
        let separator = Separator::take(&first.key);
        right.clear_first_key();
        (separator, right_id)
    }

    /// The shortest key that is after all of leaf `left` and not after any of leaf `right`.
    fn separator(&mut self, left: PageId, right: PageId) -> Separator {
        let (left, right) = (self.pages.node(left), self.pages.node(right));
        let before = self.full_key(left.key(left.count() - 1));
        let after = self.full_key(right.key(0));
        let common = before.iter().zip(after).take_while(|(a, b)| a == b).count();
        let key = after[..=common].to_vec();
        if key.len() <= BRANCH_KEY_BYTES_MAX {
            return Separator { bytes: key, run: None };
        }
        let run = self.pages.add_run(&key);
        Separator::take(&CellKey::new(&key, Some(run)))
    }

    fn full_key<'a>(&'a self, key: CellKey<'a>) -> &'a [u8] {
        match key {
            CellKey::Inline(key) => key,
            CellKey::Run { run, .. } => self.pages.run(run.page),
        }
    }
}

/// How many cells the left page gets when a cell of `len` bytes is inserted at `index` of a page that has no room for
/// it, the new cell included in the order.
fn split_point(node: &Node, index: usize, len: usize) -> usize {
    let count = node.count() + 1;
    let size = |at: usize| {
        SLOT_BYTES
            + match at {
                at if at < index => node.cell_len(at),
                at if at == index => len,
                at => node.cell_len(at - 1),
            }
    };
    let total = node.used_bytes() + SLOT_BYTES + len;
    let fits = |left: usize| left <= USABLE_BYTES && total - left <= USABLE_BYTES;
    let wanted = points_by_trend(node.trend().after(index), index);
    let mut left = 0;
    let mut best = (usize::MAX, usize::MAX, 0);
    for at in 1..count {
        left += size(at - 1);
        if fits(left) {
            let rank = wanted.iter().position(|&wanted| wanted == at).unwrap_or(wanted.len());
            best = best.min((rank, left.abs_diff(total - left), at));
        }
    }
    assert!(best.2 > 0, "invariant: two cells fit in a page, so some split fits");
    best.2
}

/// Where to split before all other places when cells come in order and the next one is inserted at `index`: first choice
/// is to part the run, the new cell included, from what is not of it, so that it has a page of its own to fill; when the
/// page is all run, the full part is left behind and the new cell starts the next page.
fn points_by_trend(trend: Trend, index: usize) -> [usize; 2] {
    match () {
        () if trend.is_rising() => [index + 1, index],
        () if trend.is_falling() => [index, index + 1],
        () => [0, 0],
    }
}
