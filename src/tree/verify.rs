//! Verifying pages of a checkpoint file before they are read, for those whom damage must not end.
//!
//! A read of a damaged page ends the process (`map`), since there is no answer that could be given instead. Whoever looks
//! for damage, or opens a file, asks here first: [`Tree::verify_pages`] for all pages, [`Tree::verify_path`] for those on the
//! way to one record. Pages in the heap are sound.
//!
//! What it does not do: judge what the pages say, beyond that they can be read. [`Tree::check`] does, which stops at the first thing wrong.

use super::check::Damage;
use super::foreign;
use super::map::Shape;
use super::marks::Marks;
use super::page::Kind;
use super::read::{DEPTH_MAX, Source, child_index};
use super::writer::Tree;
use crate::ids::PageId;

impl Tree {
    /// Every damaged page that a sound one refers to. What only damaged pages refer to is not found. Once this is empty,
    /// nothing that reads the tree meets a damaged page.
    #[must_use]
    pub fn verify_pages(&self) -> Vec<Damage> {
        let mut walk = Walk { tree: self, seen: Marks::default(), damages: Vec::new() };
        walk.page(self.root, 1);
        walk.damages
    }

    /// Verifies the pages that a lookup of `key` reads, where neither key nor value is so long that it stands in a run.
    ///
    /// # Errors
    /// The first damaged one.
    pub fn verify_path(&self, key: &[u8]) -> Result<(), Damage> {
        let mut id = self.root;
        for _ in 0..DEPTH_MAX {
            self.verify_node(id)?;
            let node = self.node(id);
            if node.kind() == Kind::Leaf {
                return Ok(());
            }
            id = node.child(child_index(self, node, key));
        }
        Err(too_deep(id))
    }

    /// Whether a leaf or a branch may be read. A sound checksum does not say so: who wrote the page made it.
    fn verify_node(&self, id: PageId) -> Result<(), Damage> {
        self.verify(Shape::Node, id)?;
        foreign::node(id, self.node(id).body()).map(drop)
    }

    /// Says where damage is: in which file, at which offset.
    #[must_use]
    pub fn describe(&self, damage: &Damage) -> String {
        match self.pages.directory().map() {
            Some(map) => map.describe(damage),
            None => damage.to_string(),
        }
    }
}

struct Walk<'a> {
    tree: &'a Tree,
    seen: Marks,
    damages: Vec<Damage>,
}

impl Walk<'_> {
    fn page(&mut self, id: PageId, depth: usize) {
        if depth > DEPTH_MAX {
            return self.damages.push(too_deep(id));
        }
        if !self.enter(Shape::Node, id) {
            return;
        }
        let tree = self.tree;
        let node = tree.node(id);
        for index in 0..node.count() {
            if let Some(run) = node.key(index).run() {
                self.enter(Shape::Run, run.page);
            }
            match node.kind() {
                Kind::Branch => self.page(node.child(index), depth + 1),
                Kind::Leaf => {
                    if let Some(run) = node.record(index).value.run() {
                        self.enter(Shape::Run, run.page);
                    }
                }
            }
        }
    }

    /// Whether the page is sound, and seen for the first time. To be referred to twice is for the check to complain of.
    fn enter(&mut self, shape: Shape, id: PageId) -> bool {
        let verified = match shape {
            Shape::Node => self.tree.verify_node(id),
            Shape::Run => self.tree.verify(shape, id),
        };
        if let Err(damage) = verified {
            self.damages.push(damage);
            return false;
        }
        let is_new = !self.seen.contains(id);
        self.seen.insert(id);
        is_new
    }
}

fn too_deep(page: PageId) -> Damage {
    let (expected, found) = (format!("a depth up to {DEPTH_MAX}"), "a deeper page".to_owned());
    Damage { page, expected, found }
}
