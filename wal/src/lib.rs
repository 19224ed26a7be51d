//! The append-only log: opaque payloads with an index, durable in order.
//!
//! A member of a raft group must not forget what it has acknowledged, whatever happens to its
//! process or its power. This crate is where that is kept: [`Log::append`] encodes entries and a
//! *hard state* into one write, the write is durable when it completes, and [`Log::open`] finds it
//! again. `FORMAT.md` specifies the bytes and argues, scenario by scenario, why what is found is
//! what was appended.
//!
//! # How it is built
//!
//! - **One append is one write, and one write is one durable batch.** Segments are files that were
//!   filled with zeros beforehand, so a write through `O_DIRECT | O_DSYNC` changes no metadata and
//!   needs no flush after it.
//! - **Writes overlap, acknowledgements do not.** Several writes are in flight and complete in any
//!   order; [`Log::completed`] moves the durable boundary only over those without a hole before.
//! - **Each write names what was durable when it was encoded.** With that, recovery tells a tail
//!   that a power cut tore, which is cut, from damage, which is refused by file and offset.
//! - **Each opening begins a segment of its own, and a process writes only to files that it made.**
//!   So neither the leftovers of an earlier process nor a write of it that arrives late can be
//!   taken for data, or destroy any.
//! - **Sync mutates, async waits.** The log is changed by plain functions; futures own what they
//!   need and borrow nothing. The medium is a trait ([`disk::Disk`]), so the same code runs on
//!   io_uring and on a disk in memory that fails on demand.
//!
//! | file | what it does |
//! |---|---|
//! | `format` | bytes: what stands where, encoding and verifying. No I/O |
//! | `scan` | reads one segment as far as it makes sense, and gathers evidence behind that |
//! | `recover` | scan, decide (the table), report, repair |
//! | `segment` | files: how one is made, recycled, and what its name promises |
//! | `writer` | lays out one write; the window of writes in flight |
//! | `index` | where each entry stands |
//! | `log` | the log as its owner sees it; `log::read`, `log::check`, `log::offline` |
//! | `disk` | the seam to the medium: `uring`, `memory`, `read_only`, and `map`, the only unsafe code |
//!
//! # What is assumed of the medium
//!
//! That a completed durable write survives a power cut; that a write changes nothing outside its
//! blocks; that a rename is atomic and durable after a sync of the directory. Nothing is assumed of
//! a write that has not completed: it may be there, or not, or in part, or arrive after its process
//! has died. The whole list, and what becomes of a medium that breaks it, is in `FORMAT.md`.
//!
//! # What it deliberately does not do
//!
//! - It does not know what its payloads mean, nor what a vote is.
//! - It does not retry or roll back a failed write: the log refuses everything from then on, and
//!   **the process must end** ([`WriteError`]).
//! - It does not detect damage to the very last writes before a crash, which nothing vouches for:
//!   see `FORMAT.md`, "What stays undetected".
//! - It does not lock its directory, batch, compress, encrypt or keep snapshots.
//! - It does not log: what an operator should know is returned, and said once by whoever consumes
//!   it.

pub mod disk;
mod error;
mod format;
mod index;
mod log;
mod options;
mod recover;
mod scan;
mod segment;
mod writer;

pub use error::{
    AppendError, CheckError, CloseError, Damage, OpenError, PrepareError, ReadError, WriteError,
};
pub use format::{Position, SegmentId};
pub use log::check::{Checked, check};
pub use log::offline::Offline;
pub use log::read::Entries;
pub use log::{HARD_STATE_BYTES_MAX, Log, Recovered, Waiting, Write};
pub use options::{Options, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
pub use segment::{Prepare, Prepared};
pub use writer::{Completed, ENTRY_BYTES, Entry, WriteNumber};

#[cfg(test)]
mod tests;
