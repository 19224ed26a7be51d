//! The writer's pages: which are its own to change, and what becomes of them.
//!
//! A page made or copied in the batch under way carries that batch's version; the writer alone refers to it and changes
//! it in place. Any other page is shared with readers, in the heap or in the checkpoint file, and is copied to a new id
//! first, once a batch. `Arc::get_mut` holds the one against the other.
//!
//! Publishing stores the batch's pages in the directory. Pages that the batch replaced wait in `retired` until no
//! snapshot sees them; pages that it made and dropped again are free at once. Pages that a checkpoint has not written
//! yet are marked, and what a checkpoint needs of the books is taken and given back in `checkpoint`.

use std::sync::Arc;

use super::cell::RunRef;
use super::check::Damage;
use super::directory::Directory;
use super::freelist::{FIRST_PAGE, Freelist};
use super::map::{Map, Shape};
use super::marks::Marks;
use super::page::{Kind, Node};
use super::retired::{Retired, Versions};
use super::run::{Run, run_pages};
use super::snapshot::{Root, Sizes, Snapshot};
use crate::ids::PageId;

/// What the writer has in the heap at a page id. A run stands at its first page.
enum Slot {
    /// A page in the file, the further page of a run, or a free one.
    Vacant,
    Node(Arc<Node>),
    Run(Arc<Run>),
}

pub(super) struct Pages {
    slots: Vec<Slot>,
    freelist: Freelist,
    versions: Versions,
    /// Pages that nobody sees any more, and that wait for their turn to become free.
    unseen: Vec<Retired>,
    /// Pages that wait, for either reason.
    waiting: u64,
    directory: Arc<Directory>,
    /// Pages made in this batch. An id is listed more than once when it was dropped and used again.
    dirty: Vec<PageId>,
    /// Published pages that this batch replaced.
    replaced: Vec<Retired>,
    /// Published pages of the tree that no checkpoint has taken.
    unwritten: Marks,
    /// Buffers of freed pages, which the next copies are made in; at most [`SPARE_MAX`]. A replacing insert takes a tenth
    /// less time with them than with the allocator, and a third less while the pages are in the CPU's caches.
    spare: Vec<Arc<Node>>,
    /// The version that the batch under way will be published as.
    version: u64,
}

/// Two mebibytes of pages: what a large batch copies.
const SPARE_MAX: usize = 512;

/// Pages that a publication frees beyond twice as many as its batch replaced: the end of a checkpoint, or of a snapshot
/// held for long, lets go of many at once.
const FREED_MAX: usize = 64;

impl Pages {
    pub(super) fn new(map: Option<Map>) -> Pages {
        Pages::resume(map, Freelist::new(), 1)
    }

    /// The pages of a file: those that `freelist` does not say are free. The next publication is `version`.
    pub(super) fn resume(map: Option<Map>, freelist: Freelist, version: u64) -> Pages {
        Pages {
            slots: Vec::new(),
            freelist,
            versions: Versions::default(),
            unseen: Vec::new(),
            waiting: 0,
            directory: Arc::new(Directory::new(map)),
            dirty: Vec::new(),
            replaced: Vec::new(),
            unwritten: Marks::default(),
            spare: Vec::new(),
            version,
        }
    }

    #[inline]
    pub(super) fn node(&self, id: PageId) -> &Node {
        match self.slots.get(index(id)) {
            Some(Slot::Node(node)) => node,
            _ => self.directory.file(id).node(id),
        }
    }

    /// The data of the run at `id`.
    #[inline]
    pub(super) fn run(&self, id: PageId) -> &[u8] {
        match self.slots.get(index(id)) {
            Some(Slot::Run(run)) => run.data(),
            _ => self.directory.file(id).run(id),
        }
    }

    /// The batch that wrote the run at `id`.
    pub(super) fn run_version(&self, id: PageId) -> u64 {
        match self.slots.get(index(id)) {
            Some(Slot::Run(run)) => run.version(),
            _ => self.directory.file(id).version(id),
        }
    }

    /// Verifies the page or run at `id` where it is read from the file.
    pub(super) fn verify(&self, shape: Shape, id: PageId) -> Result<(), Damage> {
        match self.slots.get(index(id)) {
            Some(Slot::Node(_) | Slot::Run(_)) => Ok(()),
            Some(Slot::Vacant) | None => self.directory.file(id).verify_as(shape, id),
        }
    }

    /// The page `id`, which [`writable`](Pages::writable) returned in this batch.
    #[inline]
    pub(super) fn node_mut(&mut self, id: PageId) -> &mut Node {
        match self.slots.get_mut(index(id)) {
            Some(Slot::Node(node)) => {
                Arc::get_mut(node).expect("invariant: the caller made the page writable")
            }
            _ => unreachable!("invariant: page {id} is a leaf or branch in the heap"),
        }
    }

    /// Two different pages, both writable.
    pub(super) fn two_nodes_mut(&mut self, a: PageId, b: PageId) -> (&mut Node, &mut Node) {
        match self.slots.get_disjoint_mut([index(a), index(b)]) {
            Ok([Slot::Node(a), Slot::Node(b)]) => (
                Arc::get_mut(a).expect("invariant: the caller made the page writable"),
                Arc::get_mut(b).expect("invariant: the caller made the page writable"),
            ),
            _ => unreachable!("invariant: pages {a} and {b} are two leaves or branches"),
        }
    }

    /// Two different pages, the first one writable.
    pub(super) fn node_mut_and(&mut self, a: PageId, b: PageId) -> (&mut Node, &Node) {
        let in_heap = matches!(self.slots.get(index(b)), Some(Slot::Node(_)));
        if !in_heap {
            let Some(Slot::Node(a)) = self.slots.get_mut(index(a)) else {
                unreachable!("invariant: page {a} is a leaf or branch in the heap");
            };
            let a = Arc::get_mut(a).expect("invariant: the caller made the page writable");
            return (a, self.directory.file(b).node(b));
        }
        match self.slots.get_disjoint_mut([index(a), index(b)]) {
            Ok([Slot::Node(a), Slot::Node(b)]) => {
                (Arc::get_mut(a).expect("invariant: the caller made the page writable"), b)
            }
            _ => unreachable!("invariant: pages {a} and {b} are two leaves or branches"),
        }
    }

    /// The id under which page `id` may be changed: its own when this batch made it, else that of a copy.
    pub(super) fn writable(&mut self, id: PageId) -> PageId {
        if self.node(id).version() == self.version { id } else { self.copy(id) }
    }

    /// Replaces a leaf or branch by its copy, and says where that is.
    pub(super) fn copy(&mut self, id: PageId) -> PageId {
        let spare = self.spare.pop();
        let node = self.node(id);
        let born = node.version();
        let mut copy = match spare {
            Some(mut spare) => {
                *Arc::get_mut(&mut spare).expect("invariant: nobody refers to a spare page") =
                    *node;
                spare
            }
            None => Arc::new(*node),
        };
        Arc::get_mut(&mut copy)
            .expect("invariant: nobody refers to a new page")
            .set_version(self.version);
        self.drop_page(id, 1, born);
        self.place(Slot::Node(copy), 1)
    }

    /// A new empty page.
    pub(super) fn add_node(&mut self, kind: Kind) -> PageId {
        self.place(Slot::Node(Arc::new(Node::new(kind, self.version))), 1)
    }

    /// A new run that holds `data`.
    pub(super) fn add_run(&mut self, data: &[u8]) -> RunRef {
        let run = Run::new(data, self.version);
        let len = u32::try_from(data.len()).expect("invariant: keys and values are bounded");
        RunRef { page: self.place(Slot::Run(Arc::new(run)), run_pages(data.len())), len }
    }

    /// Drops a leaf or branch that the tree no longer refers to.
    pub(super) fn drop_node(&mut self, id: PageId) {
        self.drop_page(id, 1, self.node(id).version());
    }

    /// Drops a run that the tree no longer refers to.
    pub(super) fn drop_run(&mut self, run: RunRef) {
        self.drop_page(run.page, run_pages(run.len as usize), self.run_version(run.page));
    }

    fn drop_page(&mut self, page: PageId, pages: usize, born: u64) {
        if born == self.version {
            self.free(page, pages);
        } else {
            self.unwritten.remove(page);
            let pages = u32::try_from(pages).expect("invariant: a run's length is bounded");
            self.replaced.push(Retired { page, pages, born });
        }
    }

    /// Ends the batch: its pages, beneath `root`, become a snapshot of `records` and `depth`.
    pub(super) fn publish(&mut self, root: PageId, depth: usize, records: u64) -> Snapshot {
        for id in self.dirty.drain(..) {
            match &self.slots[index(id)] {
                Slot::Node(node) => self.directory.store_node(id, Arc::clone(node)),
                Slot::Run(run) => self.directory.store_run(id, Arc::clone(run)),
                Slot::Vacant => continue,
            }
            self.unwritten.insert(id);
        }
        let replaced = std::mem::take(&mut self.replaced);
        self.waiting += replaced.iter().map(|retired| u64::from(retired.pages)).sum::<u64>();
        let snapshot = self.snapshot(root, self.version, depth, records);
        self.versions.push(self.version, snapshot.downgrade(), replaced);
        self.version += 1;
        snapshot
    }

    /// The root of a file becomes the newest snapshot.
    pub(super) fn publish_file(&mut self, root: PageId, depth: usize, records: u64) -> Snapshot {
        let version = self.version - 1;
        let snapshot = self.snapshot(root, version, depth, records);
        self.versions.push(version, snapshot.downgrade(), Vec::new());
        snapshot
    }

    fn snapshot(&self, root: PageId, version: u64, depth: usize, records: u64) -> Snapshot {
        let node = match self.slots.get(index(root)) {
            Some(Slot::Node(node)) => Arc::clone(node),
            _ => Arc::new(*self.node(root)),
        };
        let pages = self.freelist.end().0 - self.freelist.count() - self.waiting - FIRST_PAGE.0;
        let sizes = Sizes { depth, records, pages };
        Snapshot::new(Root::new(root, node, version, sizes, Arc::clone(&self.directory)))
    }

    /// Frees pages that no snapshot sees; `replaced` is how many the last batch gave up. The newest version is seen by
    /// the writer itself. True when none is left.
    pub(super) fn reclaim(&mut self, replaced: usize) -> bool {
        self.versions.sweep(&mut self.unseen);
        let kept = self.unseen.len().saturating_sub(2 * replaced + FREED_MAX);
        for retired in self.unseen.split_off(kept) {
            match self.slots.get(index(retired.page)) {
                Some(Slot::Node(_)) => self.directory.clear_node(retired.page),
                Some(Slot::Run(_)) => self.directory.clear_run(retired.page),
                Some(Slot::Vacant) | None => {}
            }
            self.waiting -= u64::from(retired.pages);
            self.free(retired.page, retired.pages as usize);
        }
        self.unseen.is_empty()
    }

    pub(super) fn freelist(&self) -> &Freelist {
        &self.freelist
    }

    pub(super) fn freelist_mut(&mut self) -> &mut Freelist {
        &mut self.freelist
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// How many published pages wait to become free.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Published pages that the newest snapshot does not see, and that are not free.
    pub(super) fn waiting_pages(&self) -> impl Iterator<Item = Retired> + '_ {
        self.versions.iter().chain(self.unseen.iter().copied())
    }

    /// All snapshots that someone holds, for the checker.
    pub(super) fn snapshots(&self) -> impl Iterator<Item = Snapshot> + '_ {
        self.versions.snapshots()
    }

    /// Published pages that the batch under way replaced.
    pub(super) fn replaced(&self) -> &[Retired] {
        &self.replaced
    }

    /// Whether nothing was changed since the last publication.
    pub(super) fn is_published(&self) -> bool {
        self.dirty.is_empty() && self.replaced.is_empty()
    }

    /// The version of the batch under way.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Pages of the tree that no checkpoint has taken.
    pub(super) fn unwritten(&self) -> u64 {
        self.unwritten.len()
    }

    /// Hands out the pages that no checkpoint has taken, in ascending order.
    pub(super) fn take_unwritten(&mut self) -> Vec<PageId> {
        std::mem::take(&mut self.unwritten).iter().collect()
    }

    /// Takes back pages of a checkpoint that was given up, but for those that have gone meanwhile.
    pub(super) fn put_unwritten(&mut self, pages: &[PageId]) {
        let mut gone = Marks::default();
        for retired in self.waiting_pages().chain(self.replaced.iter().copied()) {
            gone.insert(retired.page);
        }
        for &page in pages.iter().filter(|&&page| !gone.contains(page)) {
            self.unwritten.insert(page);
        }
    }

    /// Page `id` has been written: from here on it is read from the file.
    pub(super) fn unload(&mut self, id: PageId) {
        let slot = self.slots.get_mut(index(id)).map(|slot| std::mem::replace(slot, Slot::Vacant));
        self.directory.file(id).set_verified(id);
        match slot {
            Some(Slot::Node(node)) => {
                self.directory.clear_node(id);
                self.spare(node);
            }
            Some(Slot::Run(_)) => self.directory.clear_run(id),
            Some(Slot::Vacant) | None => unreachable!("invariant: page {id} is in the heap"),
        }
    }

    /// Gives back the free ids at the end. Returns the new end.
    pub(super) fn cut_end(&mut self) -> PageId {
        let end = self.freelist.cut_end();
        self.slots.truncate(index(end));
        // What this batch made there, it has dropped again.
        self.dirty.retain(|&id| id < end);
        end
    }

    /// How many leaves, branches and runs are in the heap.
    #[cfg(test)]
    pub(super) fn in_heap(&self) -> usize {
        self.slots.iter().filter(|slot| !matches!(slot, Slot::Vacant)).count()
    }

    /// How many pages start at `id`; 0 when nothing does. For the checker: it may read the page.
    pub(super) fn pages_at(&self, id: PageId) -> usize {
        match self.slots.get(index(id)) {
            Some(Slot::Node(_)) => 1,
            Some(Slot::Run(run)) => run_pages(run.data().len()),
            Some(Slot::Vacant) | None => match self.directory.map() {
                Some(map) if id < map.end() && !self.freelist.is_free(id) => map.pages_at(id),
                _ => 0,
            },
        }
    }

    /// Puts a new page where there is room for it.
    fn place(&mut self, slot: Slot, pages: usize) -> PageId {
        let id = self.freelist.allocate(pages);
        let end = index(self.freelist.end());
        if self.slots.len() < end {
            self.slots.resize_with(end, || Slot::Vacant);
        }
        self.slots[index(id)] = slot;
        self.dirty.push(id);
        id
    }

    fn free(&mut self, id: PageId, pages: usize) {
        let slot = self.slots.get_mut(index(id)).map(|slot| std::mem::replace(slot, Slot::Vacant));
        self.freelist.release(id, pages);
        if let Some(Slot::Node(node)) = slot {
            self.spare(node);
        }
    }

    /// Keeps a buffer. A reader that is about to let go of the page keeps it instead; then it is not ours to use again.
    fn spare(&mut self, mut node: Arc<Node>) {
        if self.spare.len() < SPARE_MAX && Arc::get_mut(&mut node).is_some() {
            self.spare.push(node);
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "an id is below PAGES_MAX")]
fn index(id: PageId) -> usize {
    id.0 as usize
}
