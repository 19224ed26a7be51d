//! The tree: one copy-on-write B+tree over byte strings that holds all replicated state, so that one root is one
//! consistent snapshot of everything.
//!
//! There is one writer, [`Tree`], and any number of readers with a [`Snapshot`] on any thread. Both read through
//! [`Read`] and [`Cursor`]; the writer also sees the batch it is working on. Tables are key prefixes, and the store's
//! affair.
//!
//! # How a batch goes
//!
//! 1. The first change to a published page copies it to a new page id, and with it the pages above it up to the root,
//!    because a parent refers to a child by id. Further changes in the batch find the copies and change them in place:
//!    a page is copied once a batch, however many requests touch it. The page replaced is put on the batch's list.
//!    Whether a page is the batch's own is not recorded anywhere: it is when the writer alone refers to it (`pages`).
//! 2. [`Tree::publish`] stores the batch's pages in the directory, the table from page id to page that readers use
//!    (`directory`), and makes a new root. From then on nobody writes these pages.
//! 3. A replaced page waits on the list of the newest version that sees it. When the last snapshot of that version is
//!    dropped, the page moves to an older version that is held and sees it too, or is free (`retired`). Its slot in the
//!    directory is cleared and its id may be used again (`freelist`).
//!
//! ```text
//!   Tree (log shard)                      directory                 Snapshot (any shard)
//!   slots: id -> own Arc<page>  publish>  id -> Arc<page>  <reads   root id, version
//!   changes pages in place                a slot changes only       keeps its version's pages
//!   that nobody else refers to            when nobody sees it       from being used again
//! ```
//!
//! # What a page is
//!
//! `FORMAT.md` draws it to the byte. Leaves hold records in key order, branches hold children between separators. Each
//! branch cell carries how many counted records are beneath it, so [`Read::count`] takes two descents, not a walk. A
//! key or value too long for a page stands in a run of pages of its own, contiguous, so that it is one slice whatever
//! its length. Bytes are the same in memory and in a file.
//!
//! # Invariants
//!
//! [`Tree::check`] verifies them, at the end of every test, and in debug builds after each batch of a small tree:
//!
//! - A page id is in the tree once, or waits for snapshots to go, or is free; a run's ids all at once.
//! - A page that a held snapshot sees does not change, and is not free.
//! - Keys rise within a page, and lie between the separators above it. All leaves are equally deep.
//! - A branch's cells carry the exact number of counted records beneath; so does each page's header.
//! - No page is empty, except the root of an empty tree; a root branch has two children or more.
//! - A cell fits twice in a page, and a branch has room for 14 children, whatever the keys: hence the bound on depth.
//! - The same calls on a new tree make the same pages, byte for byte.
//!
//! # The file
//!
//! [`checkpoint`] makes a published snapshot durable in a file, in the background, and finds it again. Pages that it has
//! written leave the heap: the directory's slot is emptied, and readers find the page in the file, mapped (`map`). The
//! tree that comes back reads its pages from there; nothing is loaded. Where damage must not end the process, as in a
//! tool that looks for it, `verify` comes before any reading.
//!
//! # A copy
//!
//! [`export`] makes a stream of a snapshot, for a member that is behind; [`import`] makes a checkpoint file of such a
//! stream and puts it in the old one's place. The bytes in between are `stream`'s; `assemble` and `foreign` judge them.
//!
//! # What it does not do, on purpose
//!
//! - No I/O but for checkpoints (`checkpoint` and `import` write, `map` reads), and those through the log's disk seam.
//! - No errors: what goes wrong in here is a bug, and panics. Running out of page ids does too, at a tebibyte; a quota
//!   far below it is the caller's.
//! - No second writer, no rollback of a batch, no key compression, no cells moved between siblings (`merge` says why
//!   that is not needed).
//! - Memory of pages that a snapshot sees stays until it is dropped, and the pages are then freed by the next
//!   publications, not at once: a writer that stops publishing frees nothing.

mod assemble;
mod cell;
mod check;
pub mod checkpoint;
mod cursor;
mod directory;
pub mod export;
mod file;
mod foreign;
mod freelist;
pub mod import;
mod map;
mod marks;
mod merge;
mod page;
mod pages;
mod read;
mod relocate;
mod retired;
mod run;
mod snapshot;
mod split;
mod stream;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use check::Damage;
pub use checkpoint::{Checkpoint, Written};
pub use cursor::Cursor;
pub use export::Export;
pub use file::{Meta, Stamp};
pub use import::{Import, Incoming};
pub use merge::Neighbours;
pub use read::Read;
pub use snapshot::{Sizes, Snapshot, SnapshotCursor, SnapshotValue};
pub use writer::{Counted, Statistics, Tree, TreeCursor};
