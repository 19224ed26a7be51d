//! A snapshot: an immutable root, and with it every record as one batch left it.
//!
//! Holding one keeps its pages from being used again; dropping the last one lets them go at the writer's next
//! publication. Any thread may read, clone and drop one.

use std::fmt;
use std::sync::{Arc, Weak};

use super::check::Damage;
use super::cursor::{Cursor, PageCursor};
use super::directory::{Directory, LoadedNode, LoadedRun};
use super::map::Shape;
use super::page::Node;
use super::read::{PageValue, Read, Source, count, get};
use crate::ids::PageId;

/// What one publication made visible.
pub(super) struct Root {
    id: PageId,
    /// The root page itself, which every read starts at.
    node: Arc<Node>,
    version: u64,
    sizes: Sizes,
    directory: Arc<Directory>,
}

/// What there is beneath a root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Pages from the root to a leaf, both included.
    pub depth: usize,
    /// Records, counted or not.
    pub records: u64,
    /// Pages, and a few more that checkpoints have for themselves.
    pub pages: u64,
}

impl Root {
    pub(super) fn new(
        id: PageId,
        node: Arc<Node>,
        version: u64,
        sizes: Sizes,
        directory: Arc<Directory>,
    ) -> Root {
        Root { id, node, version, sizes, directory }
    }
}

impl Source for Root {
    type NodeGuard<'a> = LoadedNode<'a>;
    type RunGuard<'a> = LoadedRun<'a>;

    #[inline]
    fn root(&self) -> (PageId, &Node) {
        (self.id, &self.node)
    }

    #[inline]
    fn node(&self, id: PageId) -> LoadedNode<'_> {
        self.directory.node(id)
    }

    #[inline]
    fn run(&self, id: PageId) -> LoadedRun<'_> {
        self.directory.run(id)
    }

    fn run_version(&self, id: PageId) -> u64 {
        self.directory.run_version(id)
    }

    fn verify(&self, shape: Shape, id: PageId) -> Result<(), Damage> {
        self.directory.verify(shape, id)
    }
}

/// An immutable state of the tree; cheap to clone, readable on any thread without locks.
#[derive(Clone)]
pub struct Snapshot {
    root: Arc<Root>,
}

impl Snapshot {
    pub(super) fn new(root: Root) -> Snapshot {
        Snapshot::from_root(Arc::new(root))
    }

    pub(super) fn from_root(root: Arc<Root>) -> Snapshot {
        Snapshot { root }
    }

    pub(super) fn downgrade(&self) -> Weak<Root> {
        Arc::downgrade(&self.root)
    }

    pub(super) fn source(&self) -> &impl Source {
        &*self.root
    }

    pub(super) fn root(&self) -> PageId {
        self.root.id
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.root.directory
    }

    /// What there is in it.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.root.sizes
    }

    /// Tells the kernel whether reads go all over the file, or may be read ahead of.
    pub fn expect_scattered_reads(&self, scattered: bool) {
        if let Some(map) = self.root.directory.map() {
            map.expect_scattered_reads(scattered);
        }
    }

    /// Numbers the publications of one tree, from 1 on.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.root.version
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("version", &self.root.version)
            .field("root", &self.root.id)
            .finish()
    }
}

impl Read for Snapshot {
    type Value<'a> = SnapshotValue<'a>;
    type Cursor<'a> = SnapshotCursor<'a>;

    fn get(&self, key: &[u8]) -> Option<SnapshotValue<'_>> {
        get(&*self.root, key).map(SnapshotValue)
    }

    fn cursor(&self) -> SnapshotCursor<'_> {
        SnapshotCursor(PageCursor::new(&*self.root))
    }

    fn count(&self, from: &[u8], to: Option<&[u8]>) -> u64 {
        count(&*self.root, from, to)
    }
}

/// A value in a snapshot, and the page that holds it.
pub struct SnapshotValue<'a>(PageValue<'a, Root>);

impl std::ops::Deref for SnapshotValue<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// A cursor over a snapshot.
pub struct SnapshotCursor<'a>(PageCursor<'a, Root>);

super::cursor::delegate_cursor!(SnapshotCursor);
