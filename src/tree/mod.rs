//! The copy-on-write B+tree that holds all replicated state.

mod cell;
mod check;
mod cursor;
mod directory;
mod freelist;
mod merge;
mod page;
mod pages;
mod read;
mod retired;
mod run;
mod snapshot;
mod split;
mod tree;

#[cfg(test)]
mod tests;

pub use check::Damage;
pub use cursor::Cursor;
pub use read::Read;
pub use snapshot::{Snapshot, SnapshotCursor, SnapshotValue};
pub use tree::{Counted, Statistics, Tree, TreeCursor};
