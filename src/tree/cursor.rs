//! A place in the key order that moves both ways.
//!
//! A cursor holds the way down as page ids and cell numbers, and only the leaf it stands on as a page: the others are
//! there as long as the source is, and are looked up again when the leaf is left, once per leaf. So making a cursor and
//! seeking allocate nothing. A key or value that stands in a run is looked up when it is asked for.

use std::cell::OnceCell;

use super::cell::{CellKey, CellValue};
use super::page::{Kind, Node};
use super::read::{Path, Source, descend, record_index};
use crate::ids::PageId;

/// A cursor lends what it stands on: `key` and `value` live until it moves.
pub trait Cursor {
    /// Moves to the first record at or after `key`.
    fn seek(&mut self, key: &[u8]);

    /// Moves to the last record before `key`.
    fn seek_before(&mut self, key: &[u8]);

    /// Whether the cursor stands on a record. It does not before the first seek, and after moving past either end;
    /// only another seek brings it back.
    fn valid(&self) -> bool;

    /// The record's key. The cursor must be valid, here and below.
    fn key(&self) -> &[u8];

    /// The record's value.
    fn value(&self) -> &[u8];

    /// Whether the record counts.
    fn counted(&self) -> bool;

    /// Moves to the next record.
    fn next(&mut self);

    /// Moves to the record before.
    fn previous(&mut self);
}

/// The cursor over any source of pages.
pub(super) struct PageCursor<'a, S: Source> {
    source: &'a S,
    /// The branches above `leaf`.
    path: Path,
    /// None: stands nowhere.
    leaf: Option<S::NodeGuard<'a>>,
    index: usize,
    key_run: OnceCell<S::RunGuard<'a>>,
    value_run: OnceCell<S::RunGuard<'a>>,
}

impl<'a, S: Source> PageCursor<'a, S> {
    pub(super) fn new(source: &'a S) -> PageCursor<'a, S> {
        PageCursor {
            source,
            path: Path::default(),
            leaf: None,
            index: 0,
            key_run: OnceCell::new(),
            value_run: OnceCell::new(),
        }
    }

    fn leaf(&self) -> &Node {
        self.leaf.as_deref().expect("invariant: the caller asks a valid cursor")
    }

    /// Forgets the runs of the record that is left.
    #[inline]
    fn forget_runs(&mut self) {
        if self.key_run.get().is_some() {
            self.key_run = OnceCell::new();
        }
        if self.value_run.get().is_some() {
            self.value_run = OnceCell::new();
        }
    }

    /// Goes to `key`'s leaf; the place is the first record at or after it, or the leaf's end.
    fn locate(&mut self, key: &[u8]) {
        self.forget_runs();
        // The old leaf is let go first: guards are cheap only while few are held.
        self.leaf = None;
        let (_, leaf) = descend(self.source, key, &mut self.path);
        self.index = record_index(self.source, &leaf, key).0;
        self.leaf = Some(leaf);
    }

    /// From the end of a leaf to the start of the next one.
    fn next_leaf(&mut self) {
        self.leaf = None;
        while let Some(step) = self.path.pop() {
            let index = step.index + 1;
            let node = self.source.node(step.page);
            if index < node.count() {
                self.path.push(step.page, index);
                self.leaf = Some(self.edge_leaf(node.child(index), |_| 0));
                self.index = 0;
                return;
            }
        }
    }

    /// From the start of a leaf to the last record of the one before.
    fn previous_leaf(&mut self) {
        self.leaf = None;
        while let Some(step) = self.path.pop() {
            if let Some(index) = step.index.checked_sub(1) {
                self.path.push(step.page, index);
                let child = self.source.node(step.page).child(index);
                let leaf = self.edge_leaf(child, |count| count - 1);
                self.index = leaf.count() - 1;
                self.leaf = Some(leaf);
                return;
            }
        }
    }

    /// The leaf at one edge of the subtree at `id`; `edge` picks the cell of a branch with so many.
    fn edge_leaf(&mut self, mut id: PageId, edge: impl Fn(usize) -> usize) -> S::NodeGuard<'a> {
        loop {
            let node = self.source.node(id);
            if node.kind() == Kind::Leaf {
                return node;
            }
            let index = edge(node.count());
            self.path.push(id, index);
            id = node.child(index);
        }
    }
}

impl<S: Source> Cursor for PageCursor<'_, S> {
    fn seek(&mut self, key: &[u8]) {
        self.locate(key);
        if self.index == self.leaf().count() {
            self.next_leaf();
        }
    }

    fn seek_before(&mut self, key: &[u8]) {
        self.locate(key);
        self.previous();
    }

    #[inline]
    fn valid(&self) -> bool {
        self.leaf.is_some()
    }

    fn key(&self) -> &[u8] {
        match self.leaf().key(self.index) {
            CellKey::Inline(key) => key,
            CellKey::Run { run, .. } => self.key_run.get_or_init(|| self.source.run(run.page)),
        }
    }

    fn value(&self) -> &[u8] {
        match self.leaf().record(self.index).value {
            CellValue::Inline(value) => value,
            CellValue::Run(run) => self.value_run.get_or_init(|| self.source.run(run.page)),
        }
    }

    fn counted(&self) -> bool {
        self.leaf().is_counted(self.index)
    }

    fn next(&mut self) {
        self.forget_runs();
        self.index += 1;
        if self.index >= self.leaf().count() {
            self.next_leaf();
        }
    }

    fn previous(&mut self) {
        self.forget_runs();
        match self.index.checked_sub(1) {
            Some(index) => self.index = index,
            None => self.previous_leaf(),
        }
    }
}

/// Lends a public cursor type the cursor inside it, so that page sources stay out of the public interface.
macro_rules! delegate_cursor {
    ($name:ident) => {
        impl Cursor for $name<'_> {
            #[inline]
            fn seek(&mut self, key: &[u8]) {
                self.0.seek(key);
            }
            #[inline]
            fn seek_before(&mut self, key: &[u8]) {
                self.0.seek_before(key);
            }
            #[inline]
            fn valid(&self) -> bool {
                self.0.valid()
            }
            #[inline]
            fn key(&self) -> &[u8] {
                self.0.key()
            }
            #[inline]
            fn value(&self) -> &[u8] {
                self.0.value()
            }
            #[inline]
            fn counted(&self) -> bool {
                self.0.counted()
            }
            #[inline]
            fn next(&mut self) {
                self.0.next();
            }
            #[inline]
            fn previous(&mut self) {
                self.0.previous();
            }
        }
    };
}
pub(super) use delegate_cursor;
