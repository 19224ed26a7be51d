//! The driver of the one raft group: owns raft's state, the log and the store, and turns them in step.
//!
//! Everything here is a plain `fn`: it changes state and says what must be done; [`Turn`] carries the writes to start
//! and the answers to give. Who owns the driver (`server::log_shard`) awaits the disk and the mesh. The steps of a turn,
//! and why they stand in this order, are in the module's page ([`super`]).

use std::collections::VecDeque;
use std::pin::Pin;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, HardState, Message, MessageType};
use raft::{RawNode, StateRole};
use thiserror::Error;
use urd_wal::disk::Disk;
use urd_wal::{Completed, Log, Recovered, Waiting, WriteError, WriteNumber};

use super::entry::{self, MalformedRecord};
use super::pending::Pending;
use super::read_index::Rounds;
use super::replay;
use super::window::Window;
use crate::error::Unavailable;
use crate::ids::{Index, MemberId, PageId, Term};
use crate::limits;
use crate::store::command::DecodeError;
use crate::store::lease::LeaseChange;
use crate::store::{Outcome, Store, Sweep, View};
use crate::tree::{Checkpoint, Statistics, Written};

/// Who this member is and how raft is timed.
#[derive(Clone, Debug)]
pub struct Options {
    /// This member.
    pub member: MemberId,
    /// The group's voters, this one among them.
    pub voters: Vec<MemberId>,
    /// Ticks without a leader before an election.
    pub election_ticks: usize,
    /// Whether elections are probed before they are held.
    pub pre_vote: bool,
    /// Differs at every start of this member, so that read contexts never repeat.
    pub start: u64,
}

impl Options {
    /// For a store that has `applied`.
    fn raft_config(&self, applied: u64) -> raft::Config {
        raft::Config {
            id: self.member.0,
            election_tick: self.election_ticks,
            heartbeat_tick: 1,
            applied,
            max_size_per_msg: limits::BATCH_BYTES as u64,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: self.pre_vote,
            max_committed_size_per_ready: limits::APPLY_BYTES_PER_TURN as u64,
            ..raft::Config::default()
        }
    }
}

/// Why the member must stop. Nothing here can be retried.
#[derive(Debug, Error)]
pub enum Fatal {
    /// A record of the log is not one of ours.
    #[error(transparent)]
    Record(#[from] MalformedRecord),
    /// An entry's data is not a batch of ours.
    #[error("entry {index}: {source}")]
    Batch {
        /// The entry.
        index: u64,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The log cannot be read back.
    #[error("read the log: {0}")]
    Read(#[from] urd_wal::ReadError),
    /// The log refused a write that raft depends on.
    #[error("append to the log: {0}")]
    Append(#[from] urd_wal::AppendError),
    /// The log does not fit what was applied or committed.
    #[error("the log holds entries {first} to {last}, but {what} is {found}")]
    Gap {
        /// First entry in the log.
        first: u64,
        /// Last entry in the log.
        last: u64,
        /// What does not fit.
        what: &'static str,
        /// Its value.
        found: u64,
    },
    /// raft-rs reported an error that our use of it rules out.
    #[error("raft: {0}")]
    Raft(#[from] raft::Error),
}

/// A write of the log that has to be run.
pub struct Write {
    /// Bytes of the entries in it.
    pub bytes: usize,
    /// Does it.
    pub done: Pin<Box<dyn Future<Output = Result<Completed, WriteError>>>>,
}

/// What a turn leaves to be done, in this order.
pub struct Turn<P, R> {
    /// Messages that may leave at once.
    pub messages: Vec<Message>,
    /// A durable write to start; its completion goes to [`Driver::written`].
    pub write: Option<Write>,
    /// Proposals that were applied, each with its requests' outcomes.
    pub outcomes: Vec<(P, Vec<Outcome>)>,
    /// What applied entries did to leases, whoever proposed them.
    pub leases: Vec<LeaseChange>,
    /// Proposals whose entries were replaced, or whose leader is no more.
    pub lost: Vec<P>,
    /// Reads that may go on: all they must see is applied.
    pub readable: Vec<R>,
    /// Reads whose round ended without an index.
    pub unreadable: Vec<R>,
}

impl<P, R> Default for Turn<P, R> {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            write: None,
            outcomes: Vec::new(),
            leases: Vec::new(),
            lost: Vec::new(),
            readable: Vec::new(),
            unreadable: Vec::new(),
        }
    }
}

/// What a finished ready waits for.
struct Flight {
    /// The log write that makes it durable: its own, or the last one before it.
    write: WriteNumber,
    /// raft's number of the ready.
    ready: u64,
    /// Messages that may leave only then.
    messages: Vec<Message>,
}

/// See the module's page.
pub struct Driver<D: Disk, P, R> {
    node: RawNode<Window>,
    window: Window,
    log: Log<D>,
    store: Store,
    pending: Pending<P>,
    rounds: Rounds<R>,
    /// Reads with their index, which is not applied yet.
    awaiting_apply: VecDeque<(Index, R)>,
    /// Committed entries that are not applied yet.
    committed: VecDeque<Entry>,
    /// None behind this one is applied; see [`Driver::set_apply_limit`].
    apply_limit: Index,
    /// Readies not yet durable. Invariant: write and ready numbers never fall.
    flights: VecDeque<Flight>,
    last_write: WriteNumber,
    /// The newest hard state, while the log has an older one.
    unsaved: Option<HardState>,
    was_leader: bool,
    /// Whether the store has changed since it was published.
    changed: bool,
    /// Whether compacted revisions are left to remove.
    sweeping: bool,
    /// What the log has beyond the newest checkpoint.
    since_checkpoint: Since,
    /// What the one under way takes of that.
    in_checkpoint: Since,
    /// Whether checkpoints and snapshots have left nothing to tidy up.
    tidied: bool,
}

/// A part of the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Since {
    /// Entries in it.
    pub entries: u64,
    /// Bytes of data in them.
    pub bytes: usize,
}

impl<D: Disk, P, R> Driver<D, P, R> {
    /// Takes up where the log ends: replays what is known committed into `store`, and hands the rest to raft.
    pub fn open(
        options: &Options,
        mut log: Log<D>,
        recovered: &Recovered,
        mut store: Store,
    ) -> Result<Self, Fatal> {
        let entries = log.entries();
        let hard_state = replay::hard_state(&entries, recovered.hard_state.as_deref(), &store)?;
        let applied = store.applied().0;
        let voters = options.voters.iter().map(|member| member.0).collect();
        let conf_state = ConfState { voters, ..ConfState::default() };
        let mut bytes = 0;
        let base = replay::replay(&entries, &mut store, hard_state.commit, &mut bytes)?;
        let window = Window::new(base, hard_state.clone(), conf_state);
        let last = log.last_index();
        replay::for_each_entry(&entries, base.0 + 1, last, |entry| {
            bytes += entry.data.len();
            window.append(std::slice::from_ref(&entry));
            Ok::<_, Fatal>(())
        })?;
        let entries = last.saturating_sub(applied);
        if last < applied {
            // The checkpoint is ahead of the log's end; the log goes on behind it.
            log.trim_prefix(applied + 1);
        }

        let config = options.raft_config(base.0);
        let node = RawNode::new(&config, window.clone(), &super::logging::logger())?;
        Ok(Self {
            node,
            window,
            log,
            store,
            pending: Pending::default(),
            rounds: Rounds::new(options.member, options.start),
            awaiting_apply: VecDeque::new(),
            committed: VecDeque::new(),
            apply_limit: Index(u64::MAX),
            flights: VecDeque::new(),
            last_write: WriteNumber::default(),
            unsaved: None,
            was_leader: false,
            changed: true,
            sweeping: true,
            since_checkpoint: Since { entries, bytes },
            in_checkpoint: Since::default(),
            tidied: false,
        })
    }

    /// Calls an election at once, where this member is the only voter and nobody can object.
    pub fn campaign_if_alone(&mut self) -> Result<(), Fatal> {
        if self.node.raft.prs().conf().voters().ids().iter().eq([self.node.raft.id]) {
            self.node.campaign()?;
        }
        Ok(())
    }

    /// One tick of raft's clock.
    pub fn tick(&mut self) {
        self.node.tick();
    }

    /// Whether the log has room for an entry of `bytes`. Without it, wait until a segment was prepared.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.log.has_room(entry::HEAD_BYTES + bytes + urd_wal::ENTRY_BYTES)
    }

    /// Proposes one batch, for which there must be room, as one entry. `proposal` comes back with its outcome, or as lost.
    pub fn propose(&mut self, batch: Bytes, proposal: P) -> Result<(), (Unavailable, P)> {
        if self.node.raft.state != StateRole::Leader {
            return Err((Unavailable::NoLeader, proposal));
        }
        match self.step_proposal(batch) {
            Ok(()) => {
                let index = Index(self.node.raft.raft_log.last_index());
                self.pending.push(index, Term(self.node.raft.term), proposal);
                Ok(())
            }
            Err(_) => Err((Unavailable::NoLeader, proposal)),
        }
    }

    /// `RawNode::propose` would copy the data into a `Vec` of its own.
    fn step_proposal(&mut self, batch: Bytes) -> raft::Result<()> {
        let entry = Entry { data: batch, ..Entry::default() };
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.node.raft.id;
        message.set_entries(vec![entry].into());
        self.node.raft.step(message)
    }

    /// Opens one round for all `readers`.
    pub fn read_index(&mut self, readers: Vec<R>) -> Result<(), (Unavailable, Vec<R>)> {
        // raft-rs drops a read index silently before the leader's first commit of its term.
        if self.node.raft.leader_id == 0 || !self.ready_to_lead() {
            return Err((Unavailable::NoLeader, readers));
        }
        let context = self.rounds.open(readers);
        self.node.read_index(context.to_bytes());
        Ok(())
    }

    /// Whether a leader here has committed an entry of its own term; true on a follower, which asks its leader.
    fn ready_to_lead(&self) -> bool {
        self.node.raft.state != StateRole::Leader || self.node.raft.commit_to_current_term()
    }

    /// A write has completed. Some readies may be durable now; the next turn sees what follows from it.
    /// Returns the messages that waited for it.
    pub fn written(&mut self, completed: Completed) -> Vec<Message> {
        let durable = self.log.completed(completed);
        let mut messages = Vec::new();
        let mut ready = None;
        while let Some(flight) = self.flights.pop_front_if(|flight| flight.write <= durable) {
            ready = Some(flight.ready);
            messages.extend(flight.messages);
        }
        if let Some(ready) = ready {
            self.node.on_persist_ready(ready);
        }
        messages
    }

    /// One turn, or `None` if there is nothing to do; `waiting` is for the write it may start. The numbers are those of
    /// the module's page.
    pub fn turn(&mut self, waiting: Waiting) -> Result<Option<Turn<P, R>>, Fatal> {
        let mut turn = Turn::default();
        if !self.node.has_ready() {
            if !self.may_apply() {
                return Ok(None);
            }
            self.apply(&mut turn)?;
            self.node.advance_apply_to(self.store.applied().0);
            self.settle(&mut turn);
            return Ok(Some(turn));
        }
        let mut ready = self.node.ready();
        // 1. Messages that depend on nothing unwritten.
        turn.messages = ready.take_messages();
        // 2. Entries become readable, and their write starts.
        let entries = ready.take_entries();
        self.window.append(&entries);
        if let Some(state) = ready.hs() {
            self.window.set_hard_state(state.clone());
            self.unsaved = Some(state.clone());
        }
        turn.write = self.append(waiting, &entries, ready.must_sync())?;
        // 3. Committed entries are applied while the disk works.
        self.committed.extend(ready.take_committed_entries());
        self.apply(&mut turn)?;
        for state in ready.take_read_states() {
            self.awaiting_apply
                .extend(self.rounds.confirmed(&state.request_ctx, Index(state.index)));
        }
        turn.unreadable = self.on_role(&mut turn.lost);
        // 4. raft goes on; durability follows.
        let (number, persisted) = (ready.number(), ready.take_persisted_messages());
        self.node.advance_append_async(ready);
        self.node.advance_apply_to(self.store.applied().0);
        // 5. What waits for durability; without a write under way, nothing does.
        if self.flights.is_empty() && turn.write.is_none() {
            self.node.on_persist_ready(number);
            turn.messages.extend(persisted);
        } else {
            self.flights.push_back(Flight {
                write: self.last_write,
                ready: number,
                messages: persisted,
            });
        }
        self.settle(&mut turn);
        Ok(Some(turn))
    }

    /// Holds entries behind `limit` back from being applied, committed or not, until it is raised. What follows from
    /// their being applied (outcomes, reads) waits with them. Without a limit: `u64::MAX`, as at first.
    pub fn set_apply_limit(&mut self, limit: Index) {
        self.apply_limit = limit;
    }

    /// The entries in the log that are not applied, committed or not, in order: index, term and batch.
    pub fn unapplied(&self) -> Vec<(Index, Term, Bytes)> {
        let entries = self.window.behind(self.store.applied().0).into_iter();
        entries.map(|entry| (Index(entry.index), Term(entry.term), entry.data)).collect()
    }

    fn may_apply(&self) -> bool {
        self.committed.front().is_some_and(|entry| Index(entry.index) <= self.apply_limit)
    }

    /// Applies what is committed, up to the limit.
    fn apply(&mut self, turn: &mut Turn<P, R>) -> Result<(), Fatal> {
        let limit = self.apply_limit;
        while let Some(entry) = self.committed.pop_front_if(|entry| Index(entry.index) <= limit) {
            let settled = self.pending.settle(Index(entry.index), Term(entry.term));
            turn.lost.extend(settled.lost);
            self.changed = true;
            self.sweeping = true;
            let results = replay::apply(&mut self.store, entry)?;
            turn.leases.extend_from_slice(self.store.lease_changes());
            if let Some(proposal) = settled.applied {
                turn.outcomes.push((proposal, results));
            }
        }
        Ok(())
    }

    /// What follows from what was applied.
    fn settle(&mut self, turn: &mut Turn<P, R>) {
        turn.readable = self.readable();
        self.window.shrink(
            self.store.applied().0,
            limits::WINDOW_ENTRIES_MAX,
            limits::WINDOW_BYTES_MAX,
        );
    }

    /// Appends `entries`, and the hard state if it changed; a changed commit index alone is not worth a write.
    fn append(
        &mut self,
        waiting: Waiting,
        entries: &[Entry],
        must_sync: bool,
    ) -> Result<Option<Write>, Fatal> {
        if entries.is_empty() && !must_sync {
            return Ok(None);
        }
        let hard_state = self.unsaved.take().map(|state| entry::encode_hard_state(&state));
        let heads: Vec<Vec<u8>> = entries.iter().map(entry::encode_head).collect();
        let records: Vec<urd_wal::Entry<'_>> = entries
            .iter()
            .zip(&heads)
            .map(|(entry, head)| urd_wal::Entry {
                index: entry.index,
                payload: [head, &entry.data],
            })
            .collect();
        let hard_state = hard_state.as_ref().map(|state| &state[..]);
        let write = self.log.append_waiting(waiting, hard_state, &records)?;
        self.last_write = write.number;
        let bytes = entries.iter().map(|entry| entry.data.len()).sum();
        self.since_checkpoint.entries += entries.len() as u64;
        self.since_checkpoint.bytes += bytes;
        Ok(Some(Write { bytes, done: Box::pin(write.done) }))
    }

    /// A leader that is no more cannot say what becomes of its proposals, and its rounds will not be confirmed.
    fn on_role(&mut self, lost: &mut Vec<P>) -> Vec<R> {
        let leader = self.node.raft.state == StateRole::Leader;
        let stepped_down = self.was_leader && !leader;
        self.was_leader = leader;
        if !stepped_down {
            return Vec::new();
        }
        lost.extend(self.pending.fail_all());
        self.rounds.fail_all()
    }

    fn readable(&mut self) -> Vec<R> {
        let applied = self.store.applied();
        let mut readable = Vec::new();
        while let Some((_, reader)) =
            self.awaiting_apply.pop_front_if(|(index, _)| *index <= applied)
        {
            readable.push(reader);
        }
        readable
    }

    /// Freezes what has changed, for readers; without a change, the view is the one before.
    pub fn publish(&mut self) -> View {
        if std::mem::take(&mut self.changed) {
            self.tidied = false;
            self.store.publish()
        } else {
            self.store.view()
        }
    }

    /// What a restart would replay: the log beyond the newest checkpoint, or the one under way.
    pub fn since_checkpoint(&self) -> Since {
        self.since_checkpoint
    }

    /// Whether a checkpoint is under way, or its pages are still in the heap: then no other can begin.
    pub fn is_checkpointing(&self) -> bool {
        self.store.is_checkpointing()
    }

    /// Begins a checkpoint of the published state.
    pub fn begin_checkpoint(&mut self) -> Checkpoint {
        self.in_checkpoint = std::mem::take(&mut self.since_checkpoint);
        self.store.begin_checkpoint()
    }

    /// A checkpoint is durable: the log before it is not needed any more.
    pub fn end_checkpoint(&mut self, written: Written) {
        let index = written.stamp().index;
        self.store.end_checkpoint(written);
        self.tidied = false;
        // Applied is committed, and with this member alone it is in its log; beside others it may not be, yet.
        self.log.trim_prefix(index.0.min(self.log.last_index()) + 1);
    }

    /// A checkpoint found no room. The next one may try again.
    pub fn give_up_checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.since_checkpoint.entries += self.in_checkpoint.entries;
        self.since_checkpoint.bytes += self.in_checkpoint.bytes;
        self.store.give_up_checkpoint(checkpoint);
        self.tidied = false;
    }

    /// Where the checkpoint file could end; see [`crate::tree::Tree::dense_end`].
    pub fn dense_end(&self) -> PageId {
        self.store.dense_end()
    }

    /// Moves pages from `limit` on to the front, those of some leaves; see [`crate::tree::Tree::relocate`].
    pub fn relocate(&mut self, from: &[u8], limit: PageId, leaves: usize) -> Option<Vec<u8>> {
        self.changed = true;
        self.store.relocate(from, limit, leaves)
    }

    /// Gives up free pages at the end of the file.
    pub fn cut_end(&mut self) {
        self.store.cut_end();
    }

    /// A bounded slice of tidying up. True when nothing is left.
    pub fn tidy(&mut self) -> bool {
        if !self.tidied {
            self.tidied = self.store.tidy(limits::TIDY_PAGES_PER_SLICE);
        }
        self.tidied
    }

    /// Sizes of the tree.
    pub fn statistics(&self) -> Statistics {
        self.store.statistics()
    }

    /// Where [`Driver::compact_slice`] would go on, if there is something to do.
    pub fn pending_sweep(&self) -> Option<Sweep> {
        self.sweeping.then(|| self.store.pending_sweep()).flatten()
    }

    /// A bounded slice of a compaction under way. True when none is left.
    pub fn compact_slice(&mut self) -> bool {
        if self.sweeping {
            self.changed = true;
            self.sweeping = !self.store.compact_slice(limits::COMPACT_REVISIONS_PER_SLICE);
        }
        !self.sweeping
    }

    /// The log, for its background work.
    pub fn log(&mut self) -> &mut Log<D> {
        &mut self.log
    }

    /// Proposals without an outcome.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Writes that have not completed.
    pub fn writes_in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Whether this member leads and has committed an entry of its term, so that it can serve.
    pub fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader && self.ready_to_lead()
    }

    /// Raft's term.
    pub fn term(&self) -> Term {
        Term(self.node.raft.term)
    }

    /// The leader, if one is known.
    pub fn leader(&self) -> Option<MemberId> {
        (self.node.raft.leader_id != 0).then_some(MemberId(self.node.raft.leader_id))
    }

    /// Index of the newest entry applied.
    pub fn applied(&self) -> Index {
        self.store.applied()
    }

    /// Index of the newest entry known committed.
    pub fn committed(&self) -> Index {
        Index(self.node.raft.raft_log.committed)
    }

    /// Closes the log. All writes must have completed.
    pub fn into_log(self) -> Log<D> {
        self.log
    }
}
