//! Moving pages to the front of the file, so that its end can be cut off.
//!
//! Pages from a given id on are copied to lower ids, a bounded number of leaves at a time, between other batches: to
//! the tree it is one more change of pages, to a snapshot it is none. The walk goes from leaf to leaf by key, so it needs
//! no place that later changes could spoil; what is written behind it meanwhile goes to the lowest free ids anyway.
//!
//! The old copies are free when no snapshot and no checkpoint sees them. Then [`Tree::cut_end`] gives their ids back, and
//! the next checkpoint describes a shorter file.

use super::cell::RunRef;
use super::cursor::{Cursor, PageCursor};
use super::freelist::FIRST_PAGE;
use super::page::{Kind, PAGE_BYTES};
use super::read::{Path, Source, Step, descend};
use super::snapshot::Snapshot;
use super::writer::Tree;
use crate::ids::PageId;

impl Tree {
    /// Where the file could end, were all pages in use at its front; a little more, for what is written meanwhile.
    #[must_use]
    pub fn dense_end(&self) -> PageId {
        let freelist = self.pages.freelist();
        let in_use = freelist.end().0 - freelist.count();
        PageId(FIRST_PAGE.0 + in_use + in_use / 16 + 64)
    }

    /// Moves the pages from `limit` on that stand on the way to up to `leaves` leaves, from the one of `from` on. Returns
    /// the first key behind them; `None` at the end.
    pub fn relocate(&mut self, from: &[u8], limit: PageId, leaves: usize) -> Option<Vec<u8>> {
        self.pages.freelist_mut().rewind();
        let mut next = from.to_vec();
        for _ in 0..leaves {
            self.relocate_path(&next, limit);
            next = behind_leaf(self, &next)?;
        }
        Some(next)
    }

    /// Ends the pages behind the last one in use. Returns where that is.
    pub fn cut_end(&mut self) -> PageId {
        self.pages.cut_end()
    }

    fn relocate_path(&mut self, key: &[u8], limit: PageId) {
        let mut path = Path::default();
        let (leaf, _) = descend(self, key, &mut path);
        path.push(leaf, 0);
        let steps = path.steps();
        // A branch's separators are looked at when its first leaf is.
        let first_seen = steps.len()
            - steps[..steps.len() - 1].iter().rev().take_while(|step| step.index == 0).count()
            - 1;
        let has_far_run = |step: &Step| {
            let runs = self.runs(step.page);
            runs.into_iter().any(|(_, _, run)| run.page >= limit)
        };
        let far = steps.iter().any(|step| step.page >= limit);
        if !far && !steps[first_seen..].iter().any(has_far_run) {
            return;
        }
        let mut parent: Option<Step> = None;
        for step in path.steps_mut() {
            let id = if step.page >= limit {
                self.pages.copy(step.page)
            } else {
                self.pages.writable(step.page)
            };
            if id != step.page {
                match parent {
                    None => self.root = id,
                    Some(parent) => self.pages.node_mut(parent.page).set_child(parent.index, id),
                }
                step.page = id;
            }
            parent = Some(*step);
        }
        for step in &path.steps()[first_seen..] {
            self.relocate_runs(step.page, limit);
        }
    }

    /// Moves the runs from `limit` on that page `id`, a writable one, refers to.
    fn relocate_runs(&mut self, id: PageId, limit: PageId) {
        for (index, place, run) in self.runs(id) {
            if run.page < limit {
                continue;
            }
            let data = self.pages.run(run.page).to_vec();
            let moved = self.pages.add_run(&data);
            self.pages.drop_run(run);
            let node = self.pages.node_mut(id);
            match place {
                Place::Key => node.set_key_run(index, moved.page),
                Place::Value => node.set_value_run(index, moved.page),
            }
        }
    }

    /// The runs that page `id` refers to: by which cell, and from where in it.
    fn runs(&self, id: PageId) -> Vec<(usize, Place, RunRef)> {
        let node = self.pages.node(id);
        let mut runs = Vec::new();
        for index in 0..node.count() {
            let key = node.key(index).run().map(|run| (index, Place::Key, run));
            runs.extend(key);
            if node.kind() == Kind::Leaf {
                let value = node.record(index).value.run();
                runs.extend(value.map(|run| (index, Place::Value, run)));
            }
        }
        runs
    }
}

impl Snapshot {
    /// Reads the pages that [`Tree::relocate`] would, called in the same way, but for branches' runs.
    pub fn touch_leaves(&self, from: &[u8], limit: PageId, leaves: usize) {
        let (source, mut next) = (self.source(), from.to_vec());
        for _ in 0..leaves {
            let (_, leaf) = descend(source, &next, &mut Path::default());
            let runs = (0..leaf.count()).flat_map(|index| {
                let cell = leaf.record(index);
                [cell.key.run(), cell.value.run()]
            });
            for run in runs.flatten().filter(|run| run.page >= limit) {
                let data = source.run(run.page);
                std::hint::black_box(
                    data.iter().step_by(PAGE_BYTES).fold(0, |sum, byte| sum ^ byte),
                );
            }
            match behind_leaf(source, &next) {
                Some(behind) => next = behind,
                None => return,
            }
        }
    }
}

/// The first key behind the leaf of `key`.
fn behind_leaf<S: Source>(source: &S, key: &[u8]) -> Option<Vec<u8>> {
    let (_, leaf) = descend(source, key, &mut Path::default());
    let last = leaf.key(leaf.count().checked_sub(1)?);
    let mut behind = match last.run() {
        Some(run) => source.run(run.page).to_vec(),
        None => last.part().to_vec(),
    };
    behind.push(0);
    let mut cursor = PageCursor::new(source);
    cursor.seek(&behind);
    cursor.valid().then(|| cursor.key().to_vec())
}

/// The part of a cell that refers to a run.
#[derive(Clone, Copy)]
enum Place {
    Key,
    Value,
}
