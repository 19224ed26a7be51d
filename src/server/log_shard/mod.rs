//! The shard that owns raft, log and store: joins what all shards sent into one entry, and turns the driver.
//!
//! # One pass
//!
//! 1. Take what came in: proposals and reads from shards, completed writes, other members' messages (`peers`). See
//!    whether pages have to be touched ahead (`warming`): then entries are applied only as far as that is done.
//! 2. All waiting reads share one read index. Without a leader, reads and proposals wait for one, for a while.
//! 3. The lessor's entry, if one is due, joins the queue, and that of v2's expirations (`timers`). Queued batches become one entry, if the disk is idle or the
//!    queue is worth another write beside the one under way (`proposals`).
//! 4. Turn the driver until it has nothing to do; send its messages, start the writes it asks for.
//! 5. Publish what was applied, then answer: whoever hears of a write, or of a read index, finds it published. The
//!    lessor follows what was applied, and answers questions once a read index has confirmed that this member leads.
//! 6. Background (`upkeep`): a slice of a compaction, of a defragmentation, of tidying up; a segment prepared ahead; a
//!    checkpoint begun. States for members that are behind, and from those that are ahead (`catch_up`). What this member
//!    tells the cluster of itself, and what becomes of its membership (`membership`).
//!
//! The pass is a plain function; only [`run`] waits.

mod catch_up;
mod membership;
mod notices;
mod peers;
mod proposals;
pub mod question;
mod timers;
mod upkeep;
mod warm;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use urd_wal::disk::Disk;
use urd_wal::{Completed, Prepared, Waiting, WriteError};

pub use self::catch_up::Receiving;
use self::catch_up::{Installing, Received};
pub use self::membership::Membership;
use self::notices::Notices;
pub use self::peers::Doorkeeper;
use self::peers::{Asker, FromPeer, RemoteQuestions};
pub use self::proposals::Part;
use self::proposals::{Owner, Queued};
use self::upkeep::Wanted;
use super::checkpoints::Checkpoints;
use super::defragment::Defragment;
use super::frontend::Frontend;
use super::lessor::Lessor;
use super::mesh::{Key, Outbox, ToLog, ToShard};
use super::publish::is_published;
use super::shard::Shared;
use super::signal::Signal;
use super::v2_expiry::V2Expiry;
use super::warming::{Ahead, Warming};
use crate::api::node::{LeaseQuestion, Published};
use crate::api::operations::Operations;
use crate::error::Unavailable;
use crate::ids::{Index, MemberId, Revision, Term};
use crate::limits;
use crate::raft::transport::Transport;
use crate::raft::{Driver, Fatal, Write};
use crate::store::Outcome;
use crate::store::lease::LeaseChange;
use crate::tree::checkpoint::{self, Written};

/// What waits for the next pass.
pub struct Inbox<D: Disk> {
    messages: RefCell<VecDeque<ToLog>>,
    peers: RefCell<VecDeque<FromPeer>>,
    received: RefCell<Option<Received<D>>>,
    installed: RefCell<Option<Result<Installing<D>, Failure>>>,
    written: RefCell<VecDeque<Result<Completed, WriteError>>>,
    prepared: RefCell<Option<Prepared<D>>>,
    checkpointed: RefCell<Option<Result<Written, checkpoint::Failure>>>,
    /// See `notices`.
    notices_due: Cell<bool>,
    /// This executor has served reads since the last pass.
    reads_seen: Cell<bool>,
    /// How long a log write typically takes.
    write_time: Cell<Duration>,
    /// The log's last index and [`Driver::window_bytes`], as of the last pass.
    entries: Cell<(Index, usize)>,
    signal: Signal,
    /// What keeps this executor from waiting for pages.
    pub warming: Warming,
}

impl<D: Disk> Inbox<D> {
    /// Nothing waits.
    pub fn new(warming: Warming) -> Self {
        Self {
            messages: RefCell::default(),
            peers: RefCell::default(),
            received: RefCell::default(),
            installed: RefCell::default(),
            written: RefCell::default(),
            prepared: RefCell::default(),
            checkpointed: RefCell::default(),
            notices_due: Cell::new(false),
            reads_seen: Cell::new(false),
            write_time: Cell::new(2 * limits::LONE_WRITE_TIME_MAX),
            entries: Cell::default(),
            signal: Signal::default(),
            warming,
        }
    }

    /// A shard says something.
    pub fn push(&self, message: ToLog) {
        self.messages.borrow_mut().push_back(message);
        self.signal.set();
    }

    /// There is more to do, behind what the kernel has for this executor: while a task is always runnable, glommio looks for
    /// arrivals at its preemption timer only, and a request would wait that long for background work. A timer is looked at
    /// together with them.
    fn signal_behind_arrivals(self: &Rc<Self>) {
        let inbox = Rc::clone(self);
        glommio::spawn_local(async move {
            glommio::timer::sleep(Duration::from_micros(1)).await;
            inbox.signal.set();
        })
        .detach();
    }

    /// Another member says something, or nothing any more.
    fn push_peer(&self, message: FromPeer) {
        self.peers.borrow_mut().push_back(message);
        self.signal.set();
    }

    /// The shard on the log shard's executor serves a read.
    pub fn note_read(&self) {
        self.reads_seen.set(true);
    }

    /// Moves the typical time by an eighth towards what one write took: a median that follows, and that a few slow
    /// writes do not move far.
    fn note_write(&self, took: Duration) {
        let typical = self.write_time.get();
        self.write_time.set(if took > typical { typical * 9 / 8 } else { typical * 7 / 8 });
    }
}

/// Where a shard's answers go.
pub enum Port {
    /// The shard on this executor.
    Local(Rc<Frontend>),
    /// Through the mesh.
    Mesh(Outbox<ToShard>),
}

impl Port {
    /// Tells the shard.
    pub fn post(&self, message: ToShard) {
        match self {
            Self::Local(frontend) => frontend.receive(message),
            Self::Mesh(outbox) => outbox.post(message),
        }
    }
}

/// What waits for a read index, and since when.
pub struct Reader {
    since: Instant,
    who: Who,
}

/// Who waits for a read index.
enum Who {
    /// A shard's round of reads.
    Reads { shard: usize, key: Key },
    /// A shard's questions about leases.
    Leases { shard: usize, questions: Vec<(Key, LeaseQuestion)> },
    /// Another member's.
    RemoteLeases(RemoteQuestions),
}

/// See the module's page.
pub struct LogShard<D: Disk> {
    driver: Driver<D, Vec<Part>, Reader>,
    shared: Arc<Shared>,
    ports: Vec<Rc<Port>>,
    inbox: Rc<Inbox<D>>,
    transport: Rc<Transport>,
    notices: Notices,
    queue: VecDeque<Queued>,
    queued_requests: usize,
    queued_bytes: usize,
    reads: Vec<Reader>,
    v2_expiry: V2Expiry,
    lessor: Lessor<Asker>,
    /// The term in which the lessor was told last that this member leads.
    lessor_term: Term,
    /// Other members' questions about leases that the lessor has.
    remote_questions: slab::Slab<RemoteQuestions>,
    leader: Option<MemberId>,
    /// The newest that was published.
    revision: Revision,
    /// Likewise, of v2.
    v2_index: u64,
    preparing: bool,
    /// When to try again to prepare a segment, after a failure.
    prepare_from: Option<Instant>,
    checkpoints: Checkpoints<D>,
    /// No entry before this; see [`Checkpoints::pause`].
    propose_from: Option<Instant>,
    /// [`Driver::changes`] when the last slice of a compaction began.
    swept_at: u64,
    /// A sweep waits for shards with watchers.
    sweep_waits: Rc<Cell<bool>>,
    defragment: Option<Defragment>,
    /// A checkpoint that the defragmentation waits for.
    wanted: Option<Wanted>,
    membership: Membership,
    /// A state of another member is being put in the place of this one's.
    is_installing: bool,
    /// Bytes of the entries that other members' messages of this pass brought.
    appended_bytes: usize,
    /// Writes that have begun and not completed: when.
    writing: VecDeque<(u64, Instant)>,
    writes_begun: u64,
    /// When `/metrics` was last told of traffic between members.
    peers_counted: Instant,
    /// Shards that have drained; used while stopping.
    drained: usize,
    /// What leases have left was checkpointed for the last time; used while stopping.
    leases_saved: bool,
    /// Until when this member waits for another to lead; used while stopping.
    hand_over_until: Option<Instant>,
}

/// Why the log shard ended otherwise than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// See [`Fatal`].
    #[error(transparent)]
    Driver(#[from] Fatal),
    /// A write failed: what the disk holds is unknown, so nothing more may be acknowledged.
    #[error("write to the log: {0}")]
    Write(#[from] WriteError),
    /// The checkpoint file's content is unknown.
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] checkpoint::Failure),
    /// A state that was received could not be put in the place of this member's own.
    #[error("take over a received state: {0}")]
    Install(String),
    /// The log could not be closed.
    #[error("close the log: {0}")]
    Close(urd_wal::CloseError),
}

/// How the log shard ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to stop.
    Stopped,
    /// This member was removed from the cluster.
    Removed,
}

/// What a log shard is made of.
pub struct Makings<D: Disk> {
    /// Opened.
    pub driver: Driver<D, Vec<Part>, Reader>,
    /// What all shards share.
    pub shared: Arc<Shared>,
    /// In the order of the shards' numbers.
    pub ports: Vec<Rc<Port>>,
    /// Where shards and other members post to.
    pub inbox: Rc<Inbox<D>>,
    /// The way to other members.
    pub transport: Rc<Transport>,
    /// When they are due.
    pub checkpoints: Checkpoints<D>,
    /// What is checked before a change of membership.
    pub membership: Membership,
}

impl<D: Disk + 'static> LogShard<D> {
    /// A log shard that has not begun.
    pub fn new(makings: Makings<D>) -> Self {
        let Makings { driver, shared, ports, inbox, transport, checkpoints, membership } = makings;
        let v2_expiry = V2Expiry::new(shared.limits.v2_history);
        Self {
            driver,
            shared,
            v2_expiry,
            ports,
            inbox,
            transport,
            notices: Notices::default(),
            queue: VecDeque::new(),
            queued_requests: 0,
            queued_bytes: 0,
            reads: Vec::new(),
            lessor: Lessor::new(Instant::now()),
            lessor_term: Term(0),
            remote_questions: slab::Slab::new(),
            leader: None,
            revision: Revision(0),
            v2_index: 0,
            preparing: false,
            prepare_from: None,
            checkpoints,
            propose_from: None,
            swept_at: 0,
            sweep_waits: Rc::default(),
            defragment: None,
            wanted: None,
            membership,
            is_installing: false,
            appended_bytes: 0,
            writing: VecDeque::new(),
            writes_begun: 0,
            peers_counted: Instant::now(),
            drained: 0,
            leases_saved: false,
            hand_over_until: None,
        }
    }

    /// One pass; see the module's page. True when background work is left for another pass.
    fn pass(&mut self) -> Result<bool, Failure> {
        self.note_notices_due();
        let mut more = self.take_inbox()?;
        if self.is_installing {
            // Nothing may step between the question whether raft wants a state and its taking over.
            return Ok(false);
        }
        self.hold_back();
        let mut applied = Applied::default();
        let waiting = if self.is_lone_append() { Waiting::Thread } else { Waiting::Task };
        self.turn(waiting, &mut applied)?;
        self.start_reads();
        more |= self.propose_about_leases();
        self.propose_v2_expiry();
        self.propose_changes();
        loop {
            let waiting = if self.is_lone_request() { Waiting::Thread } else { Waiting::Task };
            let proposed = self.propose();
            self.turn(waiting, &mut applied)?;
            if !proposed {
                break;
            }
        }
        self.inbox.reads_seen.set(false);
        self.warm_entries();
        more |= self.sweep();
        more |= self.defragment();
        self.publish();
        if applied.members_changed {
            self.send_all_notices();
            self.follow_members();
        }
        self.follow_leases(&applied.leases);
        self.count(&applied);
        self.answer(applied);
        self.answer_about_leases();
        self.send_notices();
        self.follow_transfers();
        more |= !self.driver.tidy();
        self.prepare();
        self.begin_install()?;
        if !self.is_installing {
            self.checkpoint();
        }
        let waits = self.inbox.warming.expiry.get() == Ahead::UnderWay;
        let has_due = !waits && self.lessor.wants_to_propose(Instant::now());
        Ok(more || has_due || self.wants_v2_expiry())
    }

    /// Turns the driver until it has nothing to do.
    fn turn(&mut self, waiting: Waiting, applied: &mut Applied) -> Result<(), Failure> {
        while let Some(turn) = self.driver.turn(waiting)? {
            // Those that need not wait for its own disk: a leader's appends, mostly.
            let messages = self.notices.sift(turn.messages, Instant::now());
            let has_left = messages.is_empty();
            self.transport.send(messages);
            if let Some(write) = turn.write {
                match waiting {
                    Waiting::Thread if has_left => self.write(write)?,
                    _ => self.start_write(write, waiting),
                }
            }
            for (message, view) in turn.snapshots {
                self.send_state(message, view);
            }
            applied.outcomes.extend(turn.outcomes);
            applied.leases.extend(turn.leases);
            applied.members_changed |= turn.members_changed;
            applied.lost.extend(turn.lost);
            applied.readable.extend(turn.readable);
            // They ask again, as soon as there is somebody to ask.
            self.reads.extend(turn.unreadable);
        }
        Ok(())
    }

    /// True when messages of other members are left for another pass.
    fn take_inbox(&mut self) -> Result<bool, Failure> {
        if let Some(installed) = self.inbox.installed.take() {
            self.install(installed?)?;
        }
        if let Some(prepared) = self.inbox.prepared.take() {
            self.preparing = false;
            if let Err(error) = self.driver.log().prepared(prepared) {
                tracing::warn!("cannot prepare the next log segment, trying again: {error}");
                self.prepare_from = Some(Instant::now() + upkeep::PREPARE_RETRY);
            }
        }
        if let Some(checkpointed) = self.inbox.checkpointed.take() {
            self.checkpointed(checkpointed)?;
        }
        for completed in self.inbox.written.take() {
            self.writing.pop_front();
            let messages = self.driver.written(completed?);
            self.transport.send(messages);
        }
        for message in self.inbox.messages.take() {
            match message {
                ToLog::Propose { shard, key, batch } => {
                    self.enqueue(Owner::Shard { shard, key }, batch);
                }
                ToLog::Reconfigure { shard, key, change } => self.want_change(shard, key, change),
                ToLog::MoveLeader { shard, key, to } => self.move_leader(shard, key, to),
                ToLog::Read { shard, key } => self.wait_for_index(Who::Reads { shard, key }),
                ToLog::Leases { shard, questions } => {
                    self.wait_for_index(Who::Leases { shard, questions });
                }
                // The pass looks by itself whether there is one to begin.
                ToLog::Defragment => {}
                ToLog::Drained => self.drained += 1,
            }
        }
        if self.is_installing { Ok(false) } else { self.take_messages() }
    }

    fn wait_for_index(&mut self, who: Who) {
        self.reads.push(Reader { since: Instant::now(), who });
    }

    fn start_reads(&mut self) {
        if self.reads.is_empty() {
            return;
        }
        self.forward_questions();
        if !self.driver.can_read() || self.reads.is_empty() {
            return;
        }
        let readers = std::mem::take(&mut self.reads);
        if let Err((_, readers)) = self.driver.read_index(readers) {
            self.reads = readers;
        }
    }

    /// Another tick of the heartbeat's interval: raft's clock goes on, and what has waited for too long ends.
    fn tick(&mut self) {
        if self.is_installing {
            return;
        }
        let (late, again) = self.driver.tick();
        for parts in late {
            self.fail(parts, Unavailable::TimedOut);
        }
        self.reads.extend(again);
        if let Some(write) = self.driver.vouch() {
            self.start_write(write, Waiting::Task);
        }
        let now = Instant::now();
        let overdue = |since: Instant| now.duration_since(since) > limits::REQUEST_TIMEOUT;
        let late: Vec<Reader> = self.reads.extract_if(.., |reader| overdue(reader.since)).collect();
        for reader in late {
            self.tell_reader(reader, Err(Unavailable::TimedOut));
        }
        self.end_overdue_batches(now);
        self.end_overdue_changes(now);
        self.leave_a_stuck_disk(now);
        if now.duration_since(self.peers_counted) >= limits::PEER_COUNT_INTERVAL {
            self.peers_counted = now;
            self.count_peers();
        }
    }

    fn start_write(&mut self, write: Write, waiting: Waiting) {
        self.writes_begun += 1;
        self.writing.push_back((self.writes_begun, Instant::now()));
        let inbox = Rc::clone(&self.inbox);
        let shared = Arc::clone(&self.shared);
        glommio::spawn_local(async move {
            if waiting == Waiting::Thread {
                // A new task begins at once; the tasks that send messages to other members are runnable by now, and come
                // before one that yields.
                futures_lite::future::yield_now().await;
            }
            let start = Instant::now();
            let result = write.done.await;
            let took = start.elapsed();
            inbox.note_write(took);
            shared.metrics.wal_write(took, write.bytes as u64);
            inbox.written.borrow_mut().push_back(result);
            inbox.signal.set();
        })
        .detach();
    }

    /// Does a write that completes when it is polled first.
    fn write(&mut self, mut write: Write) -> Result<(), Failure> {
        let start = Instant::now();
        let polled = write.done.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(result) = polled else {
            unreachable!("invariant: a write that the thread waits for is done at once")
        };
        let took = start.elapsed();
        self.inbox.note_write(took);
        self.shared.metrics.wal_write(took, write.bytes as u64);
        let messages = self.driver.written(result?);
        self.transport.send(messages);
        Ok(())
    }

    /// A leader whose disk does not answer cannot serve, though its heartbeats go on: another should lead.
    fn leave_a_stuck_disk(&mut self, now: Instant) {
        let stuck = self.writing.front().is_some_and(|(_, begun)| {
            now.duration_since(*begun) > self.membership.election_timeout
        });
        if stuck
            && !self.driver.is_transferring()
            && let Some(successor) = self.driver.successor()
        {
            tracing::warn!(%successor, "a write to the log does not end: handing leadership over");
            self.driver.transfer_leader(successor);
        }
    }

    fn publish(&mut self) {
        let published = Published {
            view: self.driver.publish(),
            term: self.driver.term(),
            leader: self.driver.leader(),
            committed: self.driver.committed(),
            sizes: self.driver.statistics(),
        };
        self.shared.metrics.pending(self.driver.pending());
        if published.leader != self.leader {
            self.leader = published.leader;
            self.shared.metrics.leader_changed();
            self.follow_new_leader();
        }
        let (revision, v2_index) = (published.view.revision(), published.view.v2_index());
        self.shared.bytes_in_use.store(published.sizes.bytes_in_use, Ordering::Relaxed);
        self.shared.published.store(Arc::new(published));
        let is_news = std::mem::replace(&mut self.revision, revision) != revision;
        let is_v2_news = std::mem::replace(&mut self.v2_index, v2_index) != v2_index;
        if is_news || is_v2_news {
            self.tell_watchers(is_news, is_v2_news);
        }
    }

    fn follow_new_leader(&self) {
        match self.leader {
            Some(leader) if leader == self.shared.identity.member => {
                tracing::info!(term = self.driver.term().0, "this member leads");
            }
            Some(leader) => tracing::info!(%leader, term = self.driver.term().0, "a member leads"),
            None => tracing::warn!(term = self.driver.term().0, "there is no leader"),
        }
    }

    /// Tells the shards that have watchers and have not been told already.
    fn tell_watchers(&self, is_news: bool, is_v2_news: bool) {
        for (watching, port) in self.shared.watching.iter().zip(&self.ports) {
            let is_wanted = (is_news && watching.wanted.load(Ordering::SeqCst))
                || (is_v2_news && watching.wants_v2.load(Ordering::SeqCst));
            if is_wanted && !watching.told.swap(true, Ordering::SeqCst) {
                port.post(ToShard::Published);
            }
        }
    }

    fn answer(&mut self, applied: Applied) {
        for (parts, outcomes) in applied.outcomes {
            let mut outcomes = outcomes.into_iter();
            for Part { owner, requests } in parts {
                let own = outcomes.by_ref().take(requests).collect();
                match owner {
                    Owner::Shard { shard, key } => {
                        self.tell(shard, ToShard::Applied { key, outcomes: own });
                    }
                    Owner::Lessor(term) if self.is_lessors_term(term) => self.lessor.applied(),
                    Owner::Lessor(_) => {}
                    Owner::V2Expiry => self.v2_expiry.applied(),
                }
            }
        }
        for parts in applied.lost {
            self.fail(parts, Unavailable::LeaderChanged);
        }
        for reader in applied.readable {
            self.tell_reader(reader, Ok(()));
        }
    }

    fn count(&self, applied: &Applied) {
        let mut operations = Operations::default();
        applied.leases.iter().for_each(|change| operations.add_lease(change));
        for (_, outcomes) in &applied.outcomes {
            outcomes.iter().flatten().for_each(|response| operations.add(response));
            self.shared.metrics.applied(outcomes.len());
        }
        self.shared.metrics.operations(&operations);
    }

    fn tell_reader(&mut self, reader: Reader, outcome: Result<(), Unavailable>) {
        match (reader.who, outcome) {
            (Who::Reads { shard, key }, outcome) => {
                self.tell(shard, ToShard::Readable { key, outcome });
            }
            (Who::Leases { shard, questions }, Ok(())) => {
                let now = Instant::now();
                for (key, question) in questions {
                    self.lessor.ask(now, Asker::Shard { shard, key }, question);
                }
            }
            (Who::Leases { shard, questions }, Err(unavailable)) => {
                let refuse = |(key, _)| (key, Err(unavailable));
                let answers = questions.into_iter().map(refuse).collect();
                self.tell(shard, ToShard::Leases { answers });
            }
            (Who::RemoteLeases(questions), outcome) => self.ask_for_another(questions, outcome),
        }
    }

    fn tell(&self, shard: usize, message: ToShard) {
        self.ports.get(shard).expect("invariant: every shard has a port").post(message);
    }

    /// Whether what leases have left was checkpointed, for whoever leads next; begins with it.
    fn has_saved_leases(&mut self) -> bool {
        if !self.lessor.leads() {
            // It waits for what earlier leaders did.
            return false;
        }
        if !std::mem::replace(&mut self.leases_saved, true) {
            self.lessor.checkpoint_all();
            self.inbox.signal.set();
        }
        self.lessor.is_settled()
    }

    /// Whether another member leads, or none can be expected to; begins to hand over.
    fn has_handed_over(&mut self) -> bool {
        let Some(successor) = self.driver.successor() else { return true };
        let now = Instant::now();
        let until =
            *self.hand_over_until.get_or_insert_with(|| now + 2 * self.membership.election_timeout);
        if !self.driver.is_transferring() && now < until {
            tracing::info!(%successor, "handing leadership over");
            self.driver.transfer_leader(successor);
            self.inbox.signal.set();
        }
        now >= until
    }

    /// Whether nothing is queued, proposed or being written.
    fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.driver.pending() == 0
            && self.driver.writes_in_flight() == 0
            && !self.preparing
            && !self.is_installing
    }

    /// Whether clients can be served: a leader is known, and the cluster knows how this member is reached.
    fn is_ready(&self) -> bool {
        self.driver.can_read() && is_published(&self.shared.published.load(), &self.shared.told)
    }
}

/// What the turns of one pass left to answer.
#[derive(Default)]
struct Applied {
    outcomes: Vec<(Vec<Part>, Vec<Outcome>)>,
    leases: Vec<LeaseChange>,
    members_changed: bool,
    lost: Vec<Vec<Part>>,
    readable: Vec<Reader>,
}

/// Runs passes until `stop` is set, every shard has drained and nothing is in flight; then closes the log.
///
/// `tick` is raft's; `on_stop` is called once, when `stop` is seen first, or this member was removed from the cluster.
pub async fn run<D: Disk + 'static>(
    mut log_shard: LogShard<D>,
    tick: Duration,
    stop: Arc<AtomicBool>,
    on_ready: impl FnOnce(),
    on_stop: impl FnOnce(),
) -> Result<End, Failure> {
    let inbox = Rc::clone(&log_shard.inbox);
    let ticks = Rc::new(Cell::new(0_u32));
    {
        let (inbox, ticks) = (Rc::clone(&inbox), Rc::clone(&ticks));
        glommio::spawn_local(async move {
            loop {
                glommio::timer::sleep(tick).await;
                ticks.set(ticks.get() + 1);
                inbox.signal.set();
            }
        })
        .detach();
    }
    log_shard.driver.campaign_if_alone()?;
    if log_shard.driver.is_leaving() {
        log_shard.membership.note_removed();
    }
    let mut on_ready = Some(on_ready);
    let mut on_stop = Some(on_stop);
    inbox.signal.set();
    loop {
        inbox.signal.wait().await;
        // Behind what is runnable now, so that it can join this pass.
        futures_lite::future::yield_now().await;
        // A process that was paused has not measured time: one tick stands for all that it missed.
        if ticks.take() > 0 {
            log_shard.tick();
        }
        if log_shard.pass()? {
            inbox.signal_behind_arrivals();
        }
        if on_ready.is_some()
            && log_shard.is_ready()
            && let Some(on_ready) = on_ready.take()
        {
            on_ready();
        }
        let is_removed = log_shard.membership.is_removed();
        let is_told_to_stop = stop.load(Ordering::Relaxed);
        if is_told_to_stop || is_removed {
            if let Some(on_stop) = on_stop.take() {
                on_stop();
            }
            if let Some(end) = log_shard.end(is_told_to_stop) {
                log_shard.transport.stop().await;
                log_shard.driver.into_log().close().await.map_err(Failure::Close)?;
                return Ok(end);
            }
        }
    }
}

impl<D: Disk + 'static> LogShard<D> {
    /// The end, once all that a stop waits for is done. One who was removed waits for nobody but those who have yet to know,
    /// unless it is told to stop: then others may need what it has, which must not be called useless.
    fn end(&mut self, is_told_to_stop: bool) -> Option<End> {
        if self.drained < self.ports.len() {
            return None;
        }
        if self.membership.is_removed() {
            let end = if self.may_leave() { End::Removed } else { End::Stopped };
            let is_over = (is_told_to_stop || end == End::Removed) && self.is_disk_idle();
            return is_over.then(|| {
                self.transport.send(self.driver.leave_now());
                end
            });
        }
        let has_settled = !self.driver.leads() || self.has_saved_leases();
        let is_over = has_settled && self.has_handed_over() && self.is_idle_or_alone();
        is_over.then_some(End::Stopped)
    }

    /// Whether this member was removed, and nobody needs it any more.
    fn may_leave(&self) -> bool {
        let membership = &self.membership;
        membership.is_removed() && (membership.is_refused() || !self.driver.is_leaving())
    }

    /// Without a leader nothing that waits can be answered; a stop does not wait for it.
    fn is_idle_or_alone(&self) -> bool {
        if self.driver.leader().is_some() {
            return self.is_idle();
        }
        self.is_disk_idle()
    }

    fn is_disk_idle(&self) -> bool {
        self.driver.writes_in_flight() == 0 && !self.preparing && !self.is_installing
    }
}
