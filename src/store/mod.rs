//! The store: etcd's key-value semantics as a deterministic state machine.
//!
//! Entries of the raft log go in ([`Store::apply`]), outcomes come out, and after each batch a
//! [`View`] that any shard may read. The same entries give the same outcomes and the same data on
//! every member: nothing here looks at a clock, a random number, a socket or the order of a hash
//! map.
//!
//! - [`command`]: an entry's bytes. [`validate`]: what is wrong with a request by itself.
//! - `keys`, `record`, `meta`: how data lie in the one tree.
//! - `mvcc`: puts and deletions. `txn`: transactions. [`lease`]: leases and what is attached to them. [`members`]: who they are. `compaction`: removing old revisions.
//! - [`v2`]: the keyspace of etcd's v2 API, beside all that.
//! - [`watch`]: what changed since. `walk`, `scan`, `range_scan`: reading. `hash`: comparing members. `check`: is it all sound?
//!   `versions`: every version that is kept. `touch`: reading ahead of the writer.
//!
//! All keys' versions stand in one copy-on-write tree. There is no index beside it to build at
//! start or keep in memory: a range is one walk over neighbouring records, and counting live keys
//! adds up what the branches know.
//!
//! What it does not do: it does not know when a lease expires (`server::lessor` does), and writes no
//! file.

pub mod command;
pub mod lease;
pub mod members;
pub mod v2;
pub mod validate;
pub mod watch;

mod alarm;
mod check;
mod compaction;
mod hash;
mod keys;
mod meta;
mod mvcc;
mod range_scan;
mod record;
mod scan;
#[expect(clippy::module_inception, reason = "the file is named after the type it exports")]
mod store;
mod touch;
mod txn;
mod versions;
mod view;
mod walk;

#[cfg(test)]
mod tests;

pub use check::{Fault, check};
pub use compaction::Sweep;
pub use hash::{HashKv, HashScan, TreeHash};
pub use range_scan::{RangeScan, RangeTail, Step};
pub use store::{Outcome, Response, Store};
pub use touch::touch;
pub use txn::{is_read_only, is_serializable};
pub use versions::{Value, Version, for_each_version};
pub use view::View;

/// Sizes of the tree that holds the state.
pub use crate::tree::Statistics;
