//! A group of drivers in one thread: their disks are in memory, their messages go through a queue that a test can cut,
//! keep back, or repeat. Nothing happens by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use bytes::Bytes;
use futures_lite::future::block_on;
use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};
use urd_proto::etcdserverpb::{Member, PutRequest, RangeRequest};
use urd_wal::disk::memory::MemoryDisk;
use urd_wal::{Log, Waiting};

use crate::ids::{Index, MemberId};
use crate::limits;
use crate::raft::transport::{self, probe};
use crate::raft::{Driver, Flow, Options, Turn, Write};
use crate::store::command::{BatchBuilder, Command, MemberAdd};
use crate::store::{Outcome, Response, Store, View};
use crate::tree::checkpoint::{self, CheckpointFile};
use crate::tree::import::Import;

const BLOCK: u32 = 4096;
const SEGMENT_BYTES: u32 = 1 << 20;
const CHECKPOINT: &str = "checkpoint";
/// Ticks without a leader before an election, at least.
const ELECTION_TICKS: usize = 10;

type GroupDriver = Driver<MemoryDisk, String, String>;

/// A member, running or not.
pub(super) struct Node {
    disk: MemoryDisk,
    running: Option<Running>,
    starts: u64,
    /// Writes stay under way until they are let go.
    pub(super) holds_writes: bool,
}

struct Running {
    driver: GroupDriver,
    file: CheckpointFile<MemoryDisk>,
    writes: VecDeque<Write>,
}

/// See the module's page.
pub(super) struct Group {
    /// Applied entries that a member keeps in memory.
    window_entries: usize,
    first: Vec<Member>,
    nodes: BTreeMap<u64, Node>,
    /// Messages under way, in the order in which they were sent.
    pub(super) network: VecDeque<Message>,
    /// States that go with announcements under way.
    states: Vec<(Message, View)>,
    /// Senders hear what became of their states only when they are told.
    pub(super) tells_late: bool,
    /// What they have not heard: sender, receiver, which state, and whether it was taken over.
    verdicts: Vec<(u64, u64, Index, bool)>,
    /// Links that lose what goes over them, from and to.
    pub(super) cuts: BTreeSet<(u64, u64)>,
    /// What happened since it was last told.
    pub(super) events: String,
    /// Puts that were acknowledged: key, value, revision.
    pub(super) acknowledged: Vec<(String, String, i64)>,
    /// What a read must see at least: what was acknowledged when it was asked for.
    reads: BTreeMap<String, i64>,
}

/// What a member sends, the transport of another lets pass.
fn assert_passes(message: &Message) {
    let (from, to) = (MemberId(message.from), MemberId(message.to));
    let bytes = message.write_to_bytes().expect("a message");
    let refused = if message.get_msg_type() == MessageType::MsgSnapshot {
        transport::announcement(&bytes, from, to).err()
    } else {
        let frame = probe::frame(probe::MESSAGE, &bytes).expect("a frame of a message");
        probe::hear(&frame, from, to).1
    };
    assert_eq!(refused, None, "{message:?}");
}

fn peer_urls(id: u64) -> Vec<String> {
    vec![format!("http://127.0.0.1:{}", 2380 + id)]
}

fn first_member(id: u64) -> Member {
    Member { id, peer_ur_ls: peer_urls(id), ..Member::default() }
}

impl Group {
    /// A new cluster of members 1 to `count`.
    pub(super) fn new(count: u64) -> Self {
        Self::with_window(count, limits::WINDOW_ENTRIES_MAX)
    }

    /// One whose members keep so many applied entries in memory.
    pub(super) fn with_window(count: u64, window_entries: usize) -> Self {
        let mut group = Self {
            window_entries,
            first: (1..=count).map(first_member).collect(),
            nodes: BTreeMap::new(),
            network: VecDeque::new(),
            states: Vec::new(),
            tells_late: false,
            verdicts: Vec::new(),
            cuts: BTreeSet::new(),
            events: String::new(),
            acknowledged: Vec::new(),
            reads: BTreeMap::new(),
        };
        for id in 1..=count {
            group.add(id);
        }
        group
    }

    /// Another process, which knows nothing yet.
    pub(super) fn add(&mut self, id: u64) {
        let disk = MemoryDisk::new(BLOCK);
        self.nodes.insert(id, Node { disk, running: None, starts: 0, holds_writes: false });
        self.start(id);
    }

    pub(super) fn start(&mut self, id: u64) {
        self.start_with(id, false);
    }

    /// As the only member, with all that it has.
    pub(super) fn start_alone(&mut self, id: u64) {
        self.start_with(id, true);
    }

    fn start_with(&mut self, id: u64, alone: bool) {
        let first = self.first.clone();
        let node = self.nodes.get_mut(&id).expect("a member");
        node.starts += 1;
        let options = urd_wal::Options { segment_bytes: SEGMENT_BYTES, salt: node.starts };
        let (log, recovered) = block_on(Log::open(node.disk.clone(), options)).expect("a log");
        let opened = block_on(checkpoint::open(node.disk.clone(), CHECKPOINT)).expect("a file");
        let is_first = first.iter().any(|member| member.id == id);
        let mut store = Store::open(opened.tree).expect("a store");
        if opened.checkpoint.is_none() && is_first {
            store.bootstrap(&first);
        }
        let options = Options {
            member: MemberId(id),
            election_ticks: ELECTION_TICKS,
            pre_vote: true,
            alone,
            start: node.starts,
            request_ticks: 50,
            window_entries: self.window_entries,
            flow: Flow::default(),
        };
        let driver = GroupDriver::open(&options, log, &recovered, store).expect("a driver");
        node.running = Some(Running { driver, file: opened.file, writes: VecDeque::new() });
        if alone {
            let own = Member { id, ..Member::default() };
            self.driver(id).force_new_cluster(&own).expect("it goes on alone");
            self.checkpoint(id);
        }
        self.work(id);
    }

    /// The process is gone; its disk keeps what was written.
    pub(super) fn crash(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("a member");
        node.running = None;
        node.disk = node.disk.copy();
    }

    /// From here on its disk has no room for another segment.
    pub(super) fn fill_disk(&mut self, id: u64) {
        self.node(id).disk.set_capacity(0);
    }

    pub(super) fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    pub(super) fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("a member")
    }

    pub(super) fn driver(&mut self, id: u64) -> &mut GroupDriver {
        &mut self.running(id).driver
    }

    fn running(&mut self, id: u64) -> &mut Running {
        self.nodes.get_mut(&id).and_then(|node| node.running.as_mut()).expect("a running member")
    }

    pub(super) fn is_running(&self, id: u64) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.running.is_some())
    }

    fn note(&mut self, text: std::fmt::Arguments<'_>) {
        self.events.write_fmt(text).expect("a String grows");
        self.events.push('\n');
    }

    /// One tick of a member's clock.
    pub(super) fn tick(&mut self, id: u64) {
        let (late, again) = self.driver(id).tick();
        for proposal in late {
            self.note(format_args!("{id}: gave up on {proposal}"));
        }
        if !again.is_empty() {
            self.read(id, again);
        }
        self.work(id);
    }

    /// A client wants to read at a member.
    pub(super) fn ask(&mut self, id: u64, reader: &str) {
        let newest = self.acknowledged.iter().map(|(_, _, revision)| *revision).max();
        self.reads.insert(reader.to_owned(), newest.unwrap_or(1));
        self.read(id, vec![reader.to_owned()]);
    }

    /// Asks for a read index.
    fn read(&mut self, id: u64, readers: Vec<String>) {
        if let Err((unavailable, readers)) = self.driver(id).read_index(readers) {
            self.note(format_args!("{id}: cannot read {}: {unavailable}", readers.join(" ")));
        }
        self.work(id);
    }

    /// Proposes a put.
    pub(super) fn put(&mut self, id: u64, key: &str, value: &str) {
        let mut batch = BatchBuilder::default();
        batch.append_command(&Command::Put(PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            ..PutRequest::default()
        }));
        let proposal = format!("put {key} {value}");
        if let Err((unavailable, proposal)) = self.driver(id).propose(batch.finish(), proposal) {
            self.note(format_args!("{id}: cannot {proposal}: {unavailable}"));
        }
        self.work(id);
    }

    /// Proposes a change of membership, at the leader.
    pub(super) fn change(&mut self, id: u64, what: &str, command: &Command) {
        let mut batch = BatchBuilder::default();
        batch.append_command(command);
        let driver = self.driver(id);
        let context = driver.name_change(&batch.finish(), what.to_owned());
        if let Err(unavailable) = driver.propose_change(context.clone()) {
            driver.forget_change(&context);
            self.note(format_args!("{id}: cannot {what}: {unavailable}"));
        }
        self.work(id);
    }

    /// Adds a member, or a learner.
    pub(super) fn add_member(&mut self, at: u64, id: u64, is_learner: bool) {
        let learners_max = 1;
        let add = MemberAdd { id, peer_urls: peer_urls(id), is_learner, learners_max };
        let what = if is_learner { format!("add learner {id}") } else { format!("add {id}") };
        self.change(at, &what, &Command::MemberAdd(add));
    }

    /// Turns a member until it has nothing to do, its writes done unless they are held.
    pub(super) fn work(&mut self, id: u64) {
        loop {
            let Some(running) = self.nodes.get_mut(&id).and_then(|node| node.running.as_mut())
            else {
                return;
            };
            if let Some(prepare) = running.driver.log().prepare() {
                let prepared = block_on(prepare.run());
                // Without room, the log says so when it is asked for some.
                running.driver.log().prepared(prepared).ok();
            }
            match running.driver.turn(Waiting::Task).expect("a sound group") {
                Some(turn) => self.follow(id, turn),
                None if self.finish_write(id) => {}
                None => break,
            }
        }
        self.running(id).driver.publish();
    }

    /// Ends the oldest write, unless writes are held.
    fn finish_write(&mut self, id: u64) -> bool {
        let node = self.nodes.get_mut(&id).expect("a member");
        let Some(running) = node.running.as_mut().filter(|_| !node.holds_writes) else {
            return false;
        };
        let Some(write) = running.writes.pop_front() else { return false };
        let completed = block_on(write.done).expect("a disk that works");
        let messages = running.driver.written(completed);
        self.send(messages);
        true
    }

    fn follow(&mut self, id: u64, turn: Turn<String, String>) {
        self.send(turn.messages);
        for (message, view) in turn.snapshots {
            self.states.push((message.clone(), view));
            self.send(vec![message]);
        }
        if let Some(write) = turn.write {
            self.running(id).writes.push_back(write);
        }
        for (proposal, outcomes) in turn.outcomes {
            for outcome in outcomes {
                self.note_outcome(id, &proposal, &outcome);
            }
        }
        for proposal in turn.lost {
            self.note(format_args!("{id}: lost {proposal}"));
        }
        for reader in turn.readable {
            let view = self.driver(id).publish();
            let needed = self.reads.get(&reader).expect("it was asked for");
            let (applied, revision) = (view.applied(), view.revision());
            assert!(
                revision.0 >= *needed,
                "member {id} reads {reader} at revision {revision}, and {needed} was acknowledged before"
            );
            self.note(format_args!("{id}: reads {reader} at {applied}"));
        }
        if !turn.unreadable.is_empty() {
            self.note(format_args!("{id}: asks again for {}", turn.unreadable.join(" ")));
            if self.driver(id).can_read() {
                let readers = turn.unreadable;
                self.driver(id).read_index(readers).expect("it can");
            }
        }
    }

    fn note_outcome(&mut self, id: u64, proposal: &str, outcome: &Outcome) {
        match outcome {
            Ok(response) => {
                if let (Response::Put(put), ["put", key, value]) =
                    (response, &proposal.split(' ').collect::<Vec<_>>()[..])
                {
                    let revision = put.header.as_ref().expect("a header").revision;
                    self.acknowledged.push(((*key).to_owned(), (*value).to_owned(), revision));
                }
                self.note(format_args!("{id}: {proposal} done"));
            }
            Err(rejected) => self.note(format_args!("{id}: {proposal} rejected: {rejected}")),
        }
    }

    fn send(&mut self, messages: Vec<Message>) {
        self.network.extend(messages);
    }

    /// Delivers what is under way, and what follows from it, from `from` to `to` (0: all), `rounds` times at most.
    pub(super) fn deliver(&mut self, from: u64, to: u64, mut messages: usize) {
        let is_meant = |message: &Message| {
            (from == 0 || message.from == from) && (to == 0 || message.to == to)
        };
        while messages > 0
            && let Some(at) = self.network.iter().position(is_meant)
        {
            let message = self.network.remove(at).expect("it was found");
            self.deliver_one(message);
            messages -= 1;
        }
    }

    /// Delivers one message, unless its link is cut or nobody is there.
    pub(super) fn deliver_one(&mut self, message: Message) {
        let (from, to) = (message.from, message.to);
        assert_passes(&message);
        let is_lost = self.cuts.contains(&(from, to)) || !self.is_running(to);
        if message.get_msg_type() == MessageType::MsgSnapshot {
            let at = self.states.iter().position(|(announced, _)| *announced == message);
            let state = at.map(|at| self.states.remove(at).1);
            let index = Index(message.get_snapshot().get_metadata().index);
            let is_taken = !is_lost && state.is_some_and(|state| self.install(message, &state));
            self.verdicts.push((from, to, index, is_taken));
            if !self.tells_late {
                self.tell_verdicts();
            }
            return;
        }
        if is_lost {
            return;
        }
        self.driver(to).step(message).expect("a sound group");
        self.work(to);
    }

    /// Senders hear what became of their states.
    pub(super) fn tell_verdicts(&mut self) {
        for (from, to, index, is_taken) in std::mem::take(&mut self.verdicts) {
            if self.is_running(from) {
                self.driver(from).report_snapshot(MemberId(to), index, is_taken);
                self.work(from);
            }
        }
    }

    /// A state has arrived.
    fn install(&mut self, message: Message, state: &View) -> bool {
        let to = message.to;
        let index = message.get_snapshot().get_metadata().index;
        if !self.driver(to).wants_snapshot(&message) {
            self.driver(to).step(message).expect("a sound group");
            self.work(to);
            return false;
        }
        while self.finish_write(to) {}
        let disk = self.node(to).disk.clone();
        let opened = block_on(async {
            let mut import = Import::begin(disk, CHECKPOINT).await.expect("a disk that works");
            let mut export = state.export();
            while let Some(chunk) = export.next_chunk().expect("a sound tree") {
                import = import.write(&chunk).await.expect("a disk that works");
            }
            let incoming = import.finish().await.expect("a whole state");
            incoming.install().await.expect("a disk that works")
        });
        let store = Store::open(opened.tree).expect("a store");
        let running = self.running(to);
        running.file = opened.file;
        running.driver.install(message, store).expect("a state that raft wants");
        self.note(format_args!("{to}: took over a state of {index}"));
        self.work(to);
        true
    }

    /// A checkpoint of a member: its log before it is gone.
    pub(super) fn checkpoint(&mut self, id: u64) {
        let running = self.running(id);
        running.driver.publish();
        let checkpoint = running.driver.begin_checkpoint();
        let written = block_on(checkpoint.write(&running.file)).expect("a disk that works");
        running.driver.end_checkpoint(written);
        while !running.driver.tidy() {}
    }

    /// Lets go of the window but for what no member may lack: as after much more load than a test makes.
    pub(super) fn forget_window(&mut self, id: u64) {
        self.driver(id).forget_window();
    }

    /// The members that run, in numbers.
    pub(super) fn describe(&mut self) -> String {
        let mut text = String::new();
        for id in self.ids() {
            let line = if self.is_running(id) {
                let driver = self.driver(id);
                let role = match driver.leader() {
                    Some(leader) if leader == MemberId(id) => "leads".to_owned(),
                    Some(leader) => format!("follows {leader}"),
                    None => "has no leader".to_owned(),
                };
                let applied = driver.publish().applied();
                format!(
                    "{id} {role}, term {}, committed {}, applied {applied}",
                    driver.term(),
                    driver.committed()
                )
            } else {
                format!("{id} is down")
            };
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    /// The processes that run and are members, as the leader knows; without one, all that run.
    fn members_running(&mut self) -> Vec<u64> {
        let running: Vec<u64> = self.ids().into_iter().filter(|id| self.is_running(*id)).collect();
        let leader = running.iter().copied().find(|id| self.driver(*id).leads());
        let Some(leader) = leader else { return running };
        let view = self.driver(leader).publish();
        let is_member = |id: &u64| view.members().get(MemberId(*id)).is_some();
        running.into_iter().filter(is_member).collect()
    }

    /// Whether all that run have applied the same, to the last record.
    pub(super) fn check_equal(&mut self) -> Index {
        let running = self.members_running();
        let mut states = running.iter().map(|id| {
            let view = self.driver(*id).publish();
            (view.applied(), view.revision(), view.hash_kv(0).expect("a hash"))
        });
        let first = states.next().expect("a running member");
        for (other, id) in states.zip(&running[1..]) {
            assert_eq!(other, first, "member {id} differs from {}", running[0]);
        }
        first.0
    }

    /// Whether all that was acknowledged is there, as it was, on the members that run.
    pub(super) fn check_acknowledged(&mut self) {
        let acknowledged = std::mem::take(&mut self.acknowledged);
        for id in self.members_running() {
            let view = self.driver(id).publish();
            for (key, value, revision) in &acknowledged {
                let request = RangeRequest {
                    key: Bytes::copy_from_slice(key.as_bytes()),
                    revision: *revision,
                    ..RangeRequest::default()
                };
                let found = view.range(&request).expect("not compacted").kvs;
                let found: Vec<_> =
                    found.iter().map(|kv| (&kv.value[..], kv.mod_revision)).collect();
                assert_eq!(
                    found,
                    [(value.as_bytes(), *revision)],
                    "member {id}: put {key} {value} was acknowledged at revision {revision}"
                );
            }
        }
        self.acknowledged = acknowledged;
    }

    /// Ticks all and delivers everything, until a member leads and all have what it has.
    pub(super) fn settle(&mut self) {
        for _ in 0..200 {
            for id in self.ids() {
                if self.is_running(id) {
                    self.tick(id);
                }
            }
            self.deliver(0, 0, 10_000);
            let running = self.members_running();
            let applied: BTreeSet<Index> =
                running.iter().map(|id| self.driver(*id).publish().applied()).collect();
            let leads = running.iter().any(|id| self.driver(*id).leads());
            if leads && applied.len() == 1 && self.network.is_empty() {
                return;
            }
        }
        panic!("the group does not settle:\n{}", self.describe());
    }
}
