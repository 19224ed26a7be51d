//! The driver of the one raft group: owns raft's state, the log and the store, and turns them in step.
//!
//! Everything here is a plain `fn`: it changes state and says what must be done; [`Turn`] carries the writes to start
//! and the answers to give. Who owns the driver (`server::log_shard`) awaits the disk and the mesh. The steps of a turn,
//! and why they stand in this order, are in the module's page ([`super`]).

mod group;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, HardState, Message, MessageType};
use raft::{RawNode, StateRole};
use thiserror::Error;
use urd_wal::disk::Disk;
use urd_wal::{Completed, Entries, Log, Recovered, Waiting, WriteError, WriteNumber};

use super::changes::Changes;
use super::entry::{self, MalformedRecord};
use super::membership;
use super::pending::Pending;
use super::read_index::Rounds;
use super::replay::{self, Unreadable};
use super::window::Window;
use crate::ids::{Index, MemberId, Term};
use crate::limits::{self, WINDOW_BYTES_MAX};
use crate::random::SplitMix64;
use crate::store::lease::LeaseChange;
use crate::store::members::Members;
use crate::store::{Outcome, Store, View};

/// Who this member is and how raft is timed.
#[derive(Clone, Debug)]
pub struct Options {
    /// This member.
    pub member: MemberId,
    /// Ticks without a leader before an election.
    pub election_ticks: usize,
    /// Whether elections are probed before they are held.
    pub pre_vote: bool,
    /// Whether all that is durable counts as committed: it is to go on as the only member
    /// ([`Driver::force_new_cluster`]), and what it has must be applied before, or it would change the members again.
    pub alone: bool,
    /// Differs at every start of this member, so that names of proposals and read contexts never repeat.
    pub start: u64,
    /// Ticks after which nobody waits for a proposal any more.
    pub request_ticks: u64,
    /// Applied entries kept in memory for members that lag a little, as long as there are others:
    /// [`limits::WINDOW_ENTRIES_MAX`] but in tests.
    pub window_entries: usize,
    /// How much travels and is applied at once.
    pub flow: Flow,
}

/// How much travels and is applied at once: what `limits` says, but in tests. Of entries each is at least one.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Bytes of entries in one message.
    pub message_bytes: u64,
    /// Appends that a member has not acknowledged.
    pub appends_in_flight: usize,
    /// Bytes of committed entries that raft hands out in one turn.
    pub apply_bytes: u64,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            message_bytes: limits::BATCH_BYTES as u64,
            appends_in_flight: limits::APPENDS_IN_FLIGHT,
            apply_bytes: limits::APPLY_BYTES_PER_TURN as u64,
        }
    }
}

impl Options {
    /// For a store that has `applied`.
    fn raft_config(&self, applied: u64) -> raft::Config {
        raft::Config {
            id: self.member.0,
            election_tick: self.election_ticks,
            heartbeat_tick: 1,
            applied,
            max_size_per_msg: self.flow.message_bytes,
            max_inflight_msgs: self.flow.appends_in_flight,
            check_quorum: true,
            pre_vote: self.pre_vote,
            max_committed_size_per_ready: self.flow.apply_bytes,
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
    /// An entry cannot be applied.
    #[error("entry {index}: {source}")]
    Unreadable {
        /// The entry.
        index: u64,
        /// What is wrong with it.
        source: Unreadable,
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
    /// The leader relies on entries that are not here.
    #[error(
        "member {leader} leads and knows of entry {known} in this member's log, which ends at {last}: the log was lost or \
         replaced by an older one; remove this member from the cluster, and add it anew with an empty data directory"
    )]
    Lost {
        /// Who says so.
        leader: MemberId,
        /// What this member had acknowledged.
        known: u64,
        /// What it has.
        last: u64,
    },
    /// The leader has another entry where this member knows one to be committed.
    #[error(
        "member {leader} leads and has another entry {index} than this member, which knows {committed} to be committed: \
         their logs are not of one cluster"
    )]
    Diverged {
        /// Who has it.
        leader: MemberId,
        /// The entry.
        index: u64,
        /// What is committed here.
        committed: u64,
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
    /// States to be sent to members that are behind the window, each with the message that announces it. What becomes of
    /// them goes to [`Driver::report_snapshot`].
    pub snapshots: Vec<(Message, View)>,
    /// A durable write to start; its completion goes to [`Driver::written`].
    pub write: Option<Write>,
    /// Proposals that were applied, each with its requests' outcomes.
    pub outcomes: Vec<(P, Vec<Outcome>)>,
    /// What applied entries did to leases, whoever proposed them.
    pub leases: Vec<LeaseChange>,
    /// Whether the members, or what is known of them, have changed.
    pub members_changed: bool,
    /// Proposals whose outcome will not be known here: an entry of a later leader was applied before they were.
    pub lost: Vec<P>,
    /// Reads that may go on: all they must see is applied.
    pub readable: Vec<R>,
    /// Reads whose round ended without an index. They may ask again.
    pub unreadable: Vec<R>,
}

impl<P, R> Default for Turn<P, R> {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            snapshots: Vec::new(),
            write: None,
            outcomes: Vec::new(),
            leases: Vec::new(),
            members_changed: false,
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
    /// raft's number of the ready; none of a write that is the log's own.
    ready: Option<u64>,
    /// Whether the write has a new term or vote.
    has_vote: bool,
    /// Messages that may leave only then.
    messages: Vec<Message>,
}

/// What this member is to the group.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// One of its members.
    Member,
    /// It was removed by this entry, or one before, and goes on until others know.
    Leaving { removal: Index },
    /// None any more: raft goes no further here.
    Gone,
}

impl Place {
    /// As the table of members says, with raft's configuration: the table's, and of who leaves itself too.
    fn at_start(own: MemberId, store: &Store) -> (Self, ConfState) {
        let mut conf = membership::conf_state(store.members());
        if !store.is_removed(own) {
            return (Self::Member, conf);
        }
        conf.voters.push(own.0);
        (Self::Leaving { removal: store.applied() }, conf)
    }
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
    /// Entries behind this one are not to be applied yet.
    apply_limit: Index,
    changes: Changes,
    /// Readies not yet durable. Invariant: write and ready numbers never fall.
    flights: VecDeque<Flight>,
    last_write: WriteNumber,
    /// The tick in which it was made.
    last_write_tick: u64,
    /// The last write that is durable with all before it.
    durable: WriteNumber,
    /// The newest hard state, while the log has an older one.
    unsaved: Option<HardState>,
    /// Term and vote as the log has them, or will have when the writes under way are durable.
    voted: (u64, u64),
    /// The leader at the last turn; 0 for none.
    leader: u64,
    /// The term in which this member, to be removed, wanted another one to lead.
    handed_over_in: Term,
    /// Term and state for which `timeout`, the ticks until an election, was drawn.
    role: (u64, StateRole),
    timeout: usize,
    random: SplitMix64,
    /// Ticks since the start.
    ticks: u64,
    request_ticks: u64,
    window_entries: usize,
    /// A round of reads without an answer for so long is asked again.
    round_ticks: u64,
    /// What was published last, for members that are behind.
    published: View,
    /// Members that were sent a state, and the entries behind it that they will need.
    catching_up: BTreeMap<MemberId, Index>,
    place: Place,
    /// Some other voter has said that it knows this to be committed.
    told: Index,
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

/// What the log has behind `store`: into the window, and into the store as far as it is committed. Returns its bytes.
fn fill<D: Disk>(
    window: &Window,
    store: &mut Store,
    entries: &Entries<'_, D>,
    committed: u64,
    window_entries: usize,
) -> Result<usize, Fatal> {
    let mut bytes = 0;
    // What is applied already may be of use to members that lag.
    replay::for_each_entry(entries, store.applied().0 + 1, entries.last(), |entry| {
        bytes += entry.data.len();
        window.append(std::slice::from_ref(&entry));
        if entry.index <= committed {
            replay::apply(store, entry)?;
            window.shrink(store.applied().0, window_entries, WINDOW_BYTES_MAX);
        }
        Ok::<_, Fatal>(())
    })?;
    Ok(bytes)
}

impl<D: Disk, P, R> Driver<D, P, R> {
    /// Takes up where the log ends: replays what is known committed into `store`, and hands the rest to raft. `store` is
    /// what a checkpoint holds, or the first state of a new cluster, or empty where this member is about to join one.
    pub fn open(
        options: &Options,
        mut log: Log<D>,
        recovered: &Recovered,
        mut store: Store,
    ) -> Result<Self, Fatal> {
        let entries = log.entries();
        let mut hard_state = replay::hard_state(&entries, recovered.hard_state.as_deref(), &store)?;
        let applied = (store.applied().0, store.term().0);
        if !replay::follows(&entries, &store)? {
            // What it has is of no use: it goes on behind the checkpoint, and says so with its next write.
            log.restart(applied.0);
        }
        let (entries, last) = (log.entries(), log.last_index());
        if options.alone {
            hard_state.commit = hard_state.commit.max(last);
        }
        let window = Window::new(applied, hard_state.clone(), ConfState::default());
        let bytes = fill(&window, &mut store, &entries, hard_state.commit, options.window_entries)?;
        let (place, conf) = Place::at_start(options.member, &store);
        window.set_conf_state(conf);
        let config = options.raft_config(store.applied().0);
        let node = RawNode::new(&config, window.clone(), &super::logging::logger())?;
        let mut driver = Self {
            changes: Changes::of(&window.behind(store.applied().0)),
            node,
            window,
            log,
            published: store.view(),
            store,
            pending: Pending::new(options.member, options.start),
            rounds: Rounds::new(options.member, options.start),
            awaiting_apply: VecDeque::new(),
            committed: VecDeque::new(),
            apply_limit: Index(u64::MAX),
            flights: VecDeque::new(),
            last_write: WriteNumber::default(),
            last_write_tick: 0,
            durable: WriteNumber::default(),
            unsaved: None,
            voted: (hard_state.term, hard_state.vote),
            leader: 0,
            handed_over_in: Term(0),
            role: (u64::MAX, StateRole::Follower),
            timeout: 0,
            // Two members must not draw the same timeouts, whatever their ids and starts have in common.
            random: SplitMix64::new(SplitMix64::new(options.member.0).next() ^ options.start),
            ticks: 0,
            request_ticks: options.request_ticks,
            window_entries: options.window_entries,
            round_ticks: options.election_ticks as u64,
            catching_up: BTreeMap::new(),
            place,
            told: Index(0),
            changed: true,
            sweeping: true,
            since_checkpoint: Since { entries: last.saturating_sub(applied.0), bytes },
            in_checkpoint: Since::default(),
            tidied: false,
        };
        driver.own_timeout();
        Ok(driver)
    }

    /// A write has completed. Some readies may be durable now; the next turn sees what follows from it.
    /// Returns the messages that waited for it.
    pub fn written(&mut self, completed: Completed) -> Vec<Message> {
        self.durable = self.log.completed(completed);
        let durable = self.durable;
        let mut messages = Vec::new();
        let mut ready = None;
        while let Some(flight) = self.flights.pop_front_if(|flight| flight.write <= durable) {
            ready = flight.ready.or(ready);
            messages.extend(flight.messages);
        }
        if let Some(ready) = ready.filter(|_| !self.has_left()) {
            self.node.on_persist_ready(ready);
            // There may be no turn: a state that was taken over leaves raft nothing to do, and until it knows, its clock stands.
            self.report_applied();
        }
        messages
    }

    /// Holds entries behind `limit` back from being applied, committed or not, until it is raised: whoever owns the driver
    /// wants their pages in memory first. What follows from their being applied (outcomes, reads) waits with them. Without
    /// a limit: `u64::MAX`, as at first.
    pub fn set_apply_limit(&mut self, limit: Index) {
        self.apply_limit = limit;
    }

    /// The entries in the log that are not applied, committed or not, in order: index, term and batch.
    pub fn unapplied(&self) -> Vec<(Index, Term, Bytes)> {
        let entries = self.window.behind(self.store.applied().0).into_iter();
        entries.map(|entry| (Index(entry.index), Term(entry.term), entry.data)).collect()
    }

    /// One turn, or `None` if there is nothing to do; `waiting` is for the write it may start. The numbers are those of
    /// the module's page.
    pub fn turn(&mut self, waiting: Waiting) -> Result<Option<Turn<P, R>>, Fatal> {
        let has_ready = !self.has_left() && self.node.has_ready();
        if !has_ready && !self.can_apply() && !self.may_leave() {
            return Ok(None);
        }
        let mut turn = Turn::default();
        if has_ready {
            self.take_ready(waiting, &mut turn)?;
        }
        self.apply(&mut turn)?;
        if self.may_leave() {
            self.leave(&mut turn);
        }
        self.follow_leader(&mut turn);
        let applied = self.store.applied();
        while let Some((_, reader)) =
            self.awaiting_apply.pop_front_if(|(index, _)| *index <= applied)
        {
            turn.readable.push(reader);
        }
        self.shrink_window();
        Ok(Some(turn))
    }

    /// Steps 1 to 4.
    fn take_ready(&mut self, waiting: Waiting, turn: &mut Turn<P, R>) -> Result<(), Fatal> {
        self.forget_former_states();
        let mut ready = self.node.ready();
        // 1. Messages that depend on nothing unwritten, mostly.
        let messages = ready.take_messages();
        // 2. Entries become readable, and their write starts.
        let snapshot = ready.snapshot().get_metadata().index;
        assert!(
            snapshot == 0 || snapshot == self.store.applied().0,
            "raft took over snapshot {snapshot}, and the store is at {}",
            self.store.applied()
        );
        let entries = ready.take_entries();
        self.window.append(&entries);
        let mut has_vote = false;
        if let Some(state) = ready.hs() {
            self.window.set_hard_state(state.clone());
            has_vote = self.voted != (state.term, state.vote);
            self.voted = (state.term, state.vote);
            self.unsaved = Some(state.clone());
        }
        self.changes.append(&entries);
        let committed = self.node.raft.raft_log.committed;
        let must_say = self.changes.is_unsaid(committed) && self.unsaved.is_some();
        let must_save = ready.must_sync() || must_say;
        turn.write = self.append(waiting, &entries, must_save)?;
        // 3. What is committed can be applied.
        self.changes.said(committed, self.last_write);
        let unwritten = self.changes.unwritten(self.durable);
        let vote = match has_vote {
            true => Some(self.last_write),
            false => self.flights.iter().rfind(|it| it.has_vote).map(|flight| flight.write),
        };
        let awaited = |message: &Message| {
            let vote = vote.filter(|_| !group::depends_on_nothing(message, true));
            let change = unwritten.filter(|(change, _)| group::tells_of(message, *change));
            vote.max(change.map(|(_, write)| write))
        };
        let (held, messages): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|message| awaited(message).is_some());
        self.sort_messages(messages, turn);
        self.committed.extend(ready.take_committed_entries());
        for state in ready.take_read_states() {
            self.awaiting_apply
                .extend(self.rounds.confirmed(&state.request_ctx, Index(state.index)));
        }
        // 4. raft goes on; durability follows. Without a write under way, nothing waits for it.
        let (number, persisted) = (ready.number(), ready.take_persisted_messages());
        self.node.advance_append_async(ready);
        if self.flights.is_empty() && turn.write.is_none() {
            assert!(held.is_empty(), "invariant: they wait for a write");
            self.node.on_persist_ready(number);
            self.sort_messages(persisted, turn);
            return Ok(());
        }
        let is_free = |message: &Message| {
            group::depends_on_nothing(message, vote.is_some()) && awaited(message).is_none()
        };
        let (free, messages) = persisted.into_iter().partition(is_free);
        self.sort_messages(free, turn);
        let (write, ready) = (self.last_write, Some(number));
        self.flights.push_back(Flight { write, ready, has_vote, messages });
        self.hold(held.into_iter().map(|message| (awaited(&message).unwrap_or(write), message)));
        Ok(())
    }

    /// States that were ordered by a leadership which is over: raft-rs keeps its messages, but they would go without the
    /// state that they announce.
    fn forget_former_states(&mut self) {
        let raft = &mut self.node.raft;
        let (leads, term) = (raft.state == StateRole::Leader, raft.term);
        raft.msgs.retain(|message| {
            message.get_msg_type() != MessageType::MsgSnapshot || leads && message.term == term
        });
    }

    /// Keeps messages until the writes are durable that they wait for, which are under way.
    fn hold(&mut self, messages: impl Iterator<Item = (WriteNumber, Message)>) {
        for (write, message) in messages {
            let is_state = message.get_msg_type() == MessageType::MsgSnapshot;
            assert!(!is_state, "invariant: a state is ordered for who was heard in this term");
            // Behind that very write, or later ones would overtake it.
            let flight = self.flights.iter_mut().rfind(|flight| flight.write <= write);
            flight.expect("invariant: what is awaited is under way").messages.push(message);
        }
    }

    fn can_apply(&self) -> bool {
        let Some(Entry { index, .. }) = self.committed.front() else { return false };
        *index <= self.apply_limit.0 && self.changes.may_apply(Index(*index), self.durable)
    }

    /// Step 5: committed entries are applied while the disk works.
    fn apply(&mut self, turn: &mut Turn<P, R>) -> Result<(), Fatal> {
        while self.can_apply()
            && let Some(entry) = self.committed.pop_front()
        {
            self.changed = true;
            self.sweeping = true;
            let members: *const Members = self.store.members();
            let settled = self.pending.settle(&entry.context);
            let is_conf_change = replay::is_conf_change(&entry);
            turn.lost.extend(self.pending.outlive(entry.term));
            let outcomes = replay::apply(&mut self.store, entry)?;
            if is_conf_change {
                self.changes.applied();
                self.follow_members(turn)?;
            }
            turn.leases.extend_from_slice(self.store.lease_changes());
            turn.members_changed |= !std::ptr::eq(members, self.store.members());
            if let Some(proposal) = settled {
                turn.outcomes.push((proposal, outcomes));
            }
        }
        if !self.has_left() {
            self.report_applied();
        }
        Ok(())
    }

    /// Tells raft how far the store is. A state that was taken over counts once raft knows it durable.
    fn report_applied(&mut self) {
        let log = &self.node.raft.raft_log;
        let applied = self.store.applied().0.min(log.committed).min(log.persisted);
        if applied > log.applied {
            self.node.advance_apply_to(applied);
        }
    }

    /// Appends `entries`, and the hard state if it changed; a changed commit index alone is worth a write only where a
    /// change of the members waits for it.
    fn append(
        &mut self,
        waiting: Waiting,
        entries: &[Entry],
        must_save: bool,
    ) -> Result<Option<Write>, Fatal> {
        if entries.is_empty() && !must_save {
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
        (self.last_write, self.last_write_tick) = (write.number, self.ticks);
        let bytes = entries.iter().map(|entry| entry.data.len()).sum();
        self.since_checkpoint.entries += entries.len() as u64;
        self.since_checkpoint.bytes += bytes;
        Ok(Some(Write { bytes, done: Box::pin(write.done) }))
    }

    /// Bytes of the entries that are kept in memory: more than usual, where a member that is sent a state will need them.
    pub fn window_bytes(&self) -> usize {
        self.window.bytes()
    }

    /// Lets go of applied entries that no member needs.
    fn shrink_window(&mut self) {
        let needed = self.published.applied().0.min(self.store.applied().0);
        let (entries, bytes) = match self.is_alone() {
            true => (limits::WINDOW_ENTRIES_MAX_ALONE, limits::WINDOW_BYTES_MAX_ALONE),
            false => (self.window_entries, WINDOW_BYTES_MAX),
        };
        self.forget_caught_up();
        let Some(floor) = self.catching_up.values().min() else {
            return self.window.shrink(needed, entries, bytes);
        };
        self.window.shrink(needed.min(floor.0), entries, bytes);
        if self.window.bytes() > limits::CATCH_UP_BYTES_MAX {
            // They are too slow; they will need another state.
            self.catching_up.clear();
        }
    }

    /// Freezes what has changed, for readers; without a change, the view is the one before.
    pub fn publish(&mut self) -> View {
        if std::mem::take(&mut self.changed) {
            self.tidied = false;
            self.published = self.store.publish();
            if !self.is_alone() {
                let (applied, term) = (self.published.applied(), self.published.term());
                self.window.set_snapshot(
                    applied.0,
                    term.0,
                    membership::conf_state(self.store.members()),
                );
            }
        }
        self.published.clone()
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

    /// Closes the log. All writes must have completed.
    pub fn into_log(self) -> Log<D> {
        self.log
    }
}
