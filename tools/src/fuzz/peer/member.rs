//! A member as its log shard drives it, with its disk in memory; and groups of three whose conversations are recorded.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_lite::future::block_on;
use raft::eraftpb::{Message, MessageType};
use urd::ids::{Index, MemberId, Term};
use urd::raft::{Driver, Fatal, Flow, Options, Turn, Write};
use urd::store::Store;
use urd::store::command::{Batch, BatchBuilder, Command};
use urd::tree::checkpoint::{self, CheckpointFile};
use urd_wal::disk::memory::MemoryDisk;
use urd_wal::{Log, Waiting};

use super::{Piece, local};
use crate::fuzz::{Outcome, samples};

const BLOCK: u32 = 4096;
const SEGMENT_BYTES: u32 = 64 << 10;
const CHECKPOINT: &str = "checkpoint";
const ELECTION_TICKS: usize = 6;
const REQUEST_TICKS: u64 = 30;
/// Turns without an end would be a hang; this many are one.
const TURNS_MAX: usize = 10_000;

/// The member has ended.
pub(super) struct Ended;

/// See the module's page.
pub(super) struct Member {
    id: u64,
    driver: Driver<MemoryDisk, u64, u64>,
    file: CheckpointFile<MemoryDisk>,
    writes: VecDeque<Write>,
    pub(super) holds_writes: bool,
    /// What it has sent.
    sent: Vec<Message>,
    proposals: u64,
    reads: usize,
    /// The state is another member's, and not in the file.
    has_foreign_state: bool,
}

impl Member {
    /// A first member of a new cluster, which has applied these.
    pub(super) fn new(id: u64, commands: &[Command]) -> Self {
        Self::begin(id, |store| {
            store.bootstrap(&samples::members());
            for command in commands {
                samples::apply(store, std::slice::from_ref(command));
            }
        })
    }

    /// One that joins a cluster that is there.
    pub(super) fn joining(id: u64) -> Self {
        Self::begin(id, |_| ())
    }

    fn begin(id: u64, with: impl FnOnce(&mut Store)) -> Self {
        let disk = MemoryDisk::new(BLOCK);
        let options = urd_wal::Options { segment_bytes: SEGMENT_BYTES, salt: id };
        let (log, recovered) = block_on(Log::open(disk.clone(), options)).expect("a fresh log");
        let opened = block_on(checkpoint::open(disk, CHECKPOINT)).expect("a fresh file");
        let mut store = Store::open(opened.tree).expect("an empty store");
        with(&mut store);
        let options = Options {
            member: MemberId(id),
            election_ticks: ELECTION_TICKS,
            pre_vote: true,
            alone: false,
            start: 1,
            request_ticks: REQUEST_TICKS,
            window_entries: urd::limits::WINDOW_ENTRIES_MAX,
            flow: Flow::default(),
        };
        let driver = Driver::open(&options, log, &recovered, store).expect("a driver");
        Self {
            id,
            driver,
            file: opened.file,
            writes: VecDeque::new(),
            holds_writes: false,
            sent: Vec::new(),
            proposals: 0,
            reads: 0,
            has_foreign_state: false,
        }
    }

    pub(super) fn tick(&mut self) {
        let (_, again) = self.driver.tick();
        if !again.is_empty() {
            // Whoever reads is told that there is no leader.
            self.driver.read_index(again).ok();
        }
    }

    /// As `server::log_shard::peers` takes a message that the transport let pass.
    pub(super) fn step(&mut self, message: Message, outcome: &mut Outcome) -> Result<(), Ended> {
        outcome.once(&format!("{:?}", message.get_msg_type()));
        let bytes = message.entries.iter().map(|entry| entry.data.len() + entry.context.len());
        if !message.entries.is_empty() && !self.driver.has_room(message.entries.len(), bytes.sum())
        {
            outcome.once("no-room");
            return Ok(());
        }
        let is_for_leader = matches!(
            message.get_msg_type(),
            MessageType::MsgPropose | MessageType::MsgReadIndex | MessageType::MsgTransferLeader
        );
        if is_for_leader && self.driver.leader() != Some(MemberId(self.id)) {
            return Ok(());
        }
        let stepped = self.driver.step(message);
        end(stepped, outcome)
    }

    pub(super) fn put(&mut self, key: &[u8]) {
        let mut batch = BatchBuilder::default();
        let mut put = samples::put("", b"value", 0);
        put.key =
            if key.is_empty() { Bytes::from_static(b"k") } else { Bytes::copy_from_slice(key) };
        batch.append_command(&Command::Put(put));
        self.proposals += 1;
        if self.driver.can_propose() && self.driver.has_room(1, batch.byte_len()) {
            // A client hears that there is no leader.
            self.driver.propose(batch.finish(), self.proposals).ok();
        }
    }

    pub(super) fn read(&mut self) {
        self.proposals += 1;
        // As before.
        self.driver.read_index(vec![self.proposals]).ok();
    }

    pub(super) fn hand_over(&mut self, to: u64) {
        if self.driver.leads() {
            self.driver.transfer_leader(MemberId(to));
        }
    }

    pub(super) fn change(&mut self) {
        let mut batch = BatchBuilder::default();
        let changes = samples::changes();
        batch.append_command(&changes[self.proposals as usize % changes.len()]);
        self.proposals += 1;
        let context = self.driver.name_change(&batch.finish(), self.proposals);
        if self.driver.propose_change(context.clone()).is_err() {
            self.driver.forget_change(&context);
        }
    }

    pub(super) fn checkpoint(&mut self) {
        if self.has_foreign_state || self.driver.writes_in_flight() > 0 {
            return;
        }
        self.driver.publish();
        let checkpoint = self.driver.begin_checkpoint();
        let written = block_on(checkpoint.write(&self.file)).expect("a disk that works");
        self.driver.end_checkpoint(written);
        while !self.driver.tidy() {}
    }

    /// As `server::log_shard::catch_up` takes a state that has arrived with its announcement. What is in it is of no
    /// interest here, but for the index and the term.
    pub(super) fn take_state(
        &mut self,
        message: Message,
        outcome: &mut Outcome,
    ) -> Result<(), Ended> {
        let metadata = message.get_snapshot().get_metadata();
        let (index, term) = (Index(metadata.index), Term(metadata.term));
        let mut store = samples::first_store();
        if index <= store.applied() || term < store.term() {
            outcome.once("no-such-state");
            return Ok(());
        }
        store.apply(index, term, &Batch::default());
        store.publish();
        // The log shard waits for writes under way before it asks.
        while self.finish_write(true) {}
        if !self.driver.wants_snapshot(&message) {
            outcome.once("not-wanted");
            let stepped = self.driver.step(message);
            return end(stepped, outcome);
        }
        outcome.once("wanted");
        self.has_foreign_state = true;
        let installed = self.driver.install(message, store);
        end(installed, outcome)
    }

    /// Turns until nothing is left to do, its writes done unless they are held.
    pub(super) fn work(&mut self, outcome: &mut Outcome) -> Result<(), Ended> {
        for _ in 0..TURNS_MAX {
            if let Some(prepare) = self.driver.log().prepare() {
                let prepared = block_on(prepare.run());
                self.driver.log().prepared(prepared).expect("a disk that works");
            }
            match self.driver.turn(Waiting::Task) {
                Ok(Some(turn)) => self.follow(turn),
                Ok(None) if self.finish_write(!self.holds_writes) => {}
                Ok(None) => {
                    self.driver.publish();
                    return Ok(());
                }
                Err(fatal) => return end(Err(fatal), outcome),
            }
        }
        panic!("the driver turns without an end");
    }

    fn finish_write(&mut self, may: bool) -> bool {
        let Some(write) = self.writes.pop_front_if(|_| may) else { return false };
        let completed = block_on(write.done).expect("a disk that works");
        self.sent.extend(self.driver.written(completed));
        true
    }

    fn follow(&mut self, turn: Turn<u64, u64>) {
        self.sent.extend(turn.messages);
        for (message, _) in turn.snapshots {
            // Nobody is there to take it.
            let index = Index(message.get_snapshot().get_metadata().index);
            self.driver.report_snapshot(MemberId(message.to), index, false);
        }
        self.writes.extend(turn.write);
        self.reads += turn.readable.len();
        if !turn.unreadable.is_empty() && self.driver.can_read() {
            // As at the first time.
            self.driver.read_index(turn.unreadable).ok();
        }
    }

    pub(super) fn describe(&mut self, outcome: &mut Outcome) {
        let role = match self.driver.leader() {
            Some(leader) if leader.0 == self.id => "leads",
            Some(_) => "follows",
            None => "alone",
        };
        outcome.note(role);
        outcome.count("applied", self.driver.applied().0 as usize);
        outcome.count("last", self.driver.last_index().0 as usize);
        outcome.count("reads", self.reads);
        outcome.count("members", self.driver.members().len());
    }
}

fn end(result: Result<(), Fatal>, outcome: &mut Outcome) -> Result<(), Ended> {
    result.map_err(|fatal| {
        outcome.note("FATAL");
        outcome.text(&fatal);
        Ended
    })
}

/// Three members in one thread. What comes to member 1, and happens there, is recorded.
struct Group {
    members: Vec<Member>,
    recorded: Vec<Piece>,
}

impl Group {
    fn new() -> Self {
        let members = (1..=3).map(|id| Member::new(id, &[])).collect();
        Self { members, recorded: Vec::new() }
    }

    fn member(&mut self, id: u64) -> &mut Member {
        &mut self.members[id as usize - 1]
    }

    fn tick(&mut self, id: u64) {
        if id == 1 {
            self.recorded.push(Piece::ticks(1));
        }
        self.member(id).tick();
        self.deliver();
    }

    /// Something happens at a member.
    fn happen(&mut self, id: u64, kind: u8) {
        if id == 1 {
            self.recorded.push(Piece::happening(kind, b"\x02"));
        }
        let member = self.member(id);
        match kind {
            local::PUT => member.put(b"key"),
            local::READ => member.read(),
            local::HAND_OVER => member.hand_over(2),
            local::HOLD_WRITES => member.holds_writes = true,
            local::LET_WRITES => member.holds_writes = false,
            local::CHECKPOINT => member.checkpoint(),
            _ => member.change(),
        }
        self.deliver();
    }

    /// Delivers until nothing is under way.
    fn deliver(&mut self) {
        let mut outcome = Outcome::default();
        loop {
            let mut messages = Vec::new();
            for member in &mut self.members {
                assert!(member.work(&mut outcome).is_ok(), "a sound group: {outcome}");
                messages.append(&mut member.sent);
            }
            if messages.is_empty() {
                return;
            }
            for message in messages {
                if message.to == 1 {
                    self.recorded.push(Piece::message(&message));
                }
                let to = (message.to as usize).checked_sub(1);
                if let Some(member) = to.and_then(|to| self.members.get_mut(to)) {
                    assert!(member.step(message, &mut outcome).is_ok(), "a sound group: {outcome}");
                }
            }
        }
    }
}

/// What member 1 heard, and what happened there, in some histories.
pub(super) fn conversations() -> Vec<Vec<Piece>> {
    let mut all = Vec::new();
    for first in 1..=3 {
        let mut group = Group::new();
        for _ in 0..3 * ELECTION_TICKS {
            group.tick(first);
        }
        all.push(group.recorded.clone());
        for id in 1..=3 {
            group.happen(id, local::PUT);
            group.happen(id, local::READ);
        }
        all.push(group.recorded.clone());
        group.happen(1, local::CHECKPOINT);
        group.happen(first, local::CHANGE);
        group.happen(first, local::HAND_OVER);
        group.tick(first);
        group.happen(2, local::PUT);
        all.push(group.recorded.clone());
        // Another leads, and has what the first one has not heard of.
        group.happen(1, local::HOLD_WRITES);
        for _ in 0..3 * ELECTION_TICKS {
            group.tick(1 + first % 3);
        }
        group.happen(1 + first % 3, local::PUT);
        group.happen(1, local::LET_WRITES);
        group.tick(1 + first % 3);
        all.push(group.recorded);
    }
    all
}
