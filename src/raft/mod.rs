//! Drives the one raft group over raft-rs with its asynchronous ready: the log's writes overlap with everything else.
//!
//! # A turn
//!
//! [`Driver::turn`](driver::Driver::turn) takes one `Ready` from raft-rs. Between `ready()` and `advance_append_async`
//! nothing may step or propose; the turn owns the node meanwhile, so the compiler says so.
//!
//! 1. `messages` leave. A leader's appends need not wait for its own disk (raft thesis, 10.2.1).
//! 2. New entries go into the [`window`] *before* step 4, since raft-rs reads them back from there; their append to
//!    the log starts: hard state and entries, one durable write.
//! 3. Committed entries are applied to the store, in order, while the disk works. What is committed is durable on a
//!    quorum already: for a group of one, raft-rs counts its own entries only after step 5 of an earlier turn. The owner
//!    may hold them back ([`Driver::set_apply_limit`](driver::Driver::set_apply_limit)): then raft goes on, and what is
//!    committed waits.
//! 4. `advance_append_async`: raft may make the next ready. Several writes may be under way.
//! 5. A write completed: [`Driver::written`](driver::Driver::written) asks the log how far it is durable *without a
//!    gap*, tells raft by `on_persist_ready` of the last ready so covered, and only then releases `persisted_messages`
//!    (a follower's votes and acknowledgements: promise 2 of the design).
//!
//! A ready without a write of its own counts as durable with the last write before it, never earlier: term and vote in
//! that write must not be overtaken.
//!
//! # Who waits for what
//!
//! [`pending`] holds proposals by index and term; [`read_index`] the rounds of linearizable reads. A new hard state
//! that differs in its commit index only is written with the next entries: after a crash a lower commit index makes
//! raft commit again what it had, nothing else.
//!
//! # What it deliberately does not do
//!
//! It does not wait, read clocks, draw random numbers, or send: whoever owns the driver does. Members other than this
//! one, and snapshots, are for a later change; the messages are carried through the turn for them already.

pub mod driver;
pub mod entry;
mod logging;
pub mod pending;
pub mod read_index;
pub mod replay;
pub mod window;

#[cfg(test)]
mod tests;

pub use driver::{Driver, Fatal, Options, Since, Turn, Write};
