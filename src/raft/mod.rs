//! Drives the one raft group over raft-rs with its asynchronous ready: the log's writes overlap with everything else.
//!
//! # A turn
//!
//! [`Driver::turn`](driver::Driver::turn) takes one `Ready` from raft-rs. Between `ready()` and `advance_append_async`
//! nothing may step or propose; the turn owns the node meanwhile, so the compiler says so.
//!
//! 1. `messages` leave. A leader's appends need not wait for its own disk (raft thesis, 10.2.1), unless they say that a
//!    change of the members is committed, or its own vote is still on its way there, as that of a sole voter may be.
//! 2. New entries go into the [`window`] *before* step 4, since raft-rs reads them back from there; their append to
//!    the log starts: hard state and entries, one durable write.
//! 3. What is committed joins the queue of entries to apply. It is durable on a quorum already, and here: raft-rs hands
//!    out only what it knows to be durable in this member's own log too.
//! 4. `advance_append_async`: raft may make the next ready. Several writes may be under way.
//! 5. Committed entries are applied to the store, in order, while the disk works. The owner may hold them back
//!    ([`Driver::set_apply_limit`](driver::Driver::set_apply_limit)): then raft goes on, and what is committed waits.
//! 6. A write completed: [`Driver::written`](driver::Driver::written) asks the log how far it is durable *without a
//!    gap*, tells raft by `on_persist_ready` of the last ready so covered, and only then releases `persisted_messages`
//!    (a follower's votes and acknowledgements: promise 2 of the design).
//!
//! A ready without a write of its own counts as durable with the last write before it, never earlier: term and vote in
//! that write must not be overtaken. Three kinds of a follower's messages wait for nothing: a forwarded proposal and a
//! question for a read index, which say nothing of this member's log, and the answer to a heartbeat, unless a term or
//! vote is on its way to the disk. So a busy disk does not delay other members' reads.
//!
//! # Who waits for what
//!
//! [`pending`] holds proposals by name: each travels in its entry's context, so that whoever made it, leader or follower,
//! recognises it when it is applied. [`read_index`] holds the rounds of linearizable reads, whose contexts are never
//! used twice. A new hard state that differs in its commit index only is written with the next entries: after a crash a
//! lower commit index makes raft commit again what it had, nothing else. The one exception is a change of the members.
//!
//! # Members
//!
//! Who is in the group stands in the store's table of members, and nowhere else: raft's `ConfState` is read from it at a
//! start, and each change goes through the table first, which may refuse it ([`membership`]). A change is one entry of
//! raft's kind whose context carries our command; one change at a time, as in etcd.
//!
//! A change takes effect only once it is durable here that it is committed. A member that had acted on it, and at its
//! next start went by the members of before, could be elected by a majority of those, while the others go by the change:
//! two majorities without a member in common, once two changes have passed. So the hard state is written when a change is
//! committed, and the change is applied behind that write. No message that tells of it leaves before ([`changes`]): a
//! member that hears of its removal is gone, and of two the other one could not be elected any more if it had forgotten it.
//!
//! A leader that is to be removed hands over first, and the next one proposes it (raft thesis, 4.2.2). Of two, who leads
//! never proposes its own removal: it hands over, or the change is not made. One that has found the entry in its log when it
//! came to lead commits it itself. raft-rs cannot lead a group that it is not in; so its configuration stays, also over a
//! restart, while its own clients are served no more. It goes on as a member of the group before, which may lead, vote and be
//! elected (the two groups differ in one member, so their majorities meet), until most of those who stay have said that they
//! know of the commit, or, when it does not lead, one voter has; or one refuses it; or it is told to stop. By what they
//! knew before they may need its vote, or entries that it has: of two the other one needs both. (Of four, that one voter
//! may be lost for good before it has told the two that are left: they need three of four, and stay without a leader.)
//!
//! The first members of a new cluster stand in every first member's store from the start, as if each had taken over a
//! state at index 1. So the log begins at 2, and a member that joins later is always sent a state, with the first
//! members in it.
//!
//! A member that is behind the [`window`] is sent the state that was published last (`server` has the way there);
//! [`Driver::install`](driver::Driver::install) takes it over. What the sender hears of it
//! ([`Driver::report_snapshot`](driver::Driver::report_snapshot)) is about that one state; and the entries behind it stay in
//! the window until the receiver itself has said how far its log is.
//!
//! # What it deliberately does not do
//!
//! It does not wait, read clocks, draw random numbers, or send: whoever owns the driver does. ([`transport`] is the way to
//! other members, and knows nothing of the driver.)

pub mod arrival;
pub mod changes;
pub mod driver;
pub mod entry;
mod logging;
pub mod membership;
pub mod pending;
pub mod read_index;
pub mod replay;
pub mod transport;
pub mod window;

#[cfg(test)]
mod tests;

pub use driver::{Driver, Fatal, Flow, Options, Since, Turn, Write};
