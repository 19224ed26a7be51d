//! One shard: an executor's connections, its open batch of proposals, its open round of reads and its open questions
//! about leases.
//!
//! Calls that arrive in one pass of the executor's loop gather in the open batch (round, questions); a flushing task, which
//! runs behind them in the executor's queue, hands it to the log shard. Answers come back a batch at a time, and all
//! its calls are answered before any connection flushes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use prost::Message as _;
use slab::Slab;
use tokio::sync::{oneshot, watch};
use urd_proto::etcdserverpb::Member;
use urd_wal::disk::uring::UringDisk;

use super::aside::Pool;
use super::log_shard::Inbox;
use super::mesh::{Key, Outbox, ToLog, ToShard};
use super::signal::Signal;
use crate::api::call::{Body, Call, Reply, Service};
use crate::api::cors::Origins;
use crate::api::node::{
    Identity, LeaseAnswer, LeaseQuestion, Limits, Node, PeerTraffic, Published, Read, V2Answer,
};
use crate::api::v3::watch::Hub;
use crate::api::{http, v2, v3};
use crate::error::{Error, Unavailable};
use crate::ids::{LeaseId, MemberId, Revision};
use crate::limits;
use crate::metrics::Metrics;
use crate::random::SplitMix64;
use crate::store::command::{BatchBuilder, Kind};
use crate::store::{self, Outcome, Response};

/// Batches that one shard may have handed over without an answer; then its open batch grows instead.
const BATCHES_OUT_MAX: usize = 16;

/// The way to the log shard.
pub enum Uplink {
    /// This shard is on the log shard's executor.
    Local(Rc<Inbox<UringDisk>>),
    /// Through the mesh.
    Mesh(Outbox<ToLog>),
}

impl Uplink {
    fn post(&self, message: ToLog) {
        match self {
            Self::Local(inbox) => inbox.push(message),
            Self::Mesh(outbox) => outbox.post(message),
        }
    }
}

/// What all shards of a member share. Everything in it is immutable or atomic.
pub struct Shared {
    /// Fixed facts.
    pub identity: Identity,
    /// What this member tells of itself: id, name, client URLs.
    pub told: Member,
    /// `--strict-reconfig-check`.
    pub strict_reconfig_check: bool,
    /// Fixed limits.
    pub limits: Limits,
    /// A random number of this start.
    pub start: u64,
    /// When it was, in nanoseconds of Unix time.
    pub started: i64,
    /// `--cors`.
    pub origins: Origins,
    /// The newest state.
    pub published: ArcSwap<Published>,
    /// Counters of all shards.
    pub metrics: Metrics,
    /// The same, for v2's statistics.
    pub v2_tally: v2::Tally,
    /// Where the shards run.
    pub cpus: Vec<usize>,
    /// For each shard, whether it has watchers, and whether it was told of what they have not seen.
    pub watching: Vec<Watching>,
    /// Bytes of the tree's pages in use.
    pub bytes_in_use: AtomicU64,
    /// Defragmentations that were asked for.
    pub defragment: super::defragment::Requests,
}

/// What the log shard and one shard with watchers know of each other.
#[derive(Default)]
pub struct Watching {
    /// It has watchers.
    pub wanted: AtomicBool,
    /// Somebody there waits for events of v2.
    pub wants_v2: AtomicBool,
    /// It was told that something was published, and has not looked yet.
    pub told: AtomicBool,
    /// It has looked at everything before this revision.
    pub next: AtomicI64,
}

impl Watching {
    /// Whether this shard has no watcher that may still need a change before `revision`.
    pub fn is_past(&self, revision: Revision) -> bool {
        !self.wanted.load(SeqCst) || self.next.load(SeqCst) >= revision.0
    }
}

/// Who waits for the outcome of a request.
enum Waiter {
    /// A call of v3's.
    Call(Box<dyn Reply>),
    /// A request about v2's keys.
    V2(oneshot::Sender<V2Answer>),
}

impl Waiter {
    fn answer(self, shard: &Shard, published: &Published, outcome: Outcome) {
        match (self, outcome) {
            (Self::Call(reply), outcome) => v3::kv::answer(shard, published, reply, outcome),
            // Whoever waited may have gone.
            (Self::V2(waiting), Ok(Response::V2(outcome))) => drop(waiting.send(Ok(*outcome))),
            (Self::V2(waiting), Err(rejected)) => drop(waiting.send(Err(rejected.into()))),
            (Self::V2(_), Ok(_)) => unreachable!("invariant: its request is of v2"),
        }
    }

    fn fail(self, unavailable: Unavailable) {
        match self {
            Self::Call(reply) => reply.fail(unavailable.into()),
            Self::V2(waiting) => drop(waiting.send(Err(unavailable.into()))),
        }
    }
}

/// Those whose requests stand in a batch, in its order. `None`: answered already, because it took too long.
type Waiters = Vec<Option<Waiter>>;

/// Requests that make one proposal, and who waits for them.
#[derive(Default)]
struct Open {
    batch: BatchBuilder,
    waiters: Waiters,
}

impl Open {
    /// Whether a message of so many bytes would make it larger than a batch should be. An empty one takes any.
    fn is_full_for(&self, message_bytes: usize) -> bool {
        !self.batch.is_empty()
            && (self.batch.byte_len() + message_bytes > limits::BATCH_BYTES
                || self.batch.len() >= limits::BATCH_REQUESTS_MAX)
    }
}

struct Sent {
    at: Instant,
    bytes: usize,
    waiters: Waiters,
}

/// A question about a lease, from when, and where the answer goes. `None`: answered already, because it took too long.
type Asked = (Instant, Option<oneshot::Sender<LeaseAnswer>>);

/// See the module's page.
pub struct Shard {
    id: usize,
    shared: Arc<Shared>,
    uplink: Uplink,
    /// The last one is open; those before it are full and wait to be handed over.
    open: RefCell<VecDeque<Open>>,
    open_reads: RefCell<Vec<Read>>,
    sent: RefCell<Slab<Sent>>,
    sent_reads: RefCell<Slab<(Instant, Vec<Read>)>>,
    open_questions: RefCell<Vec<(Key, LeaseQuestion)>>,
    /// Those in `open_questions`, and those handed over.
    asked: RefCell<Slab<Asked>>,
    /// Who waits for leadership to move.
    moving: RefCell<Slab<oneshot::Sender<Result<(), Error>>>>,
    /// No leader is known, since when; whether for a while.
    leaderless_since: Cell<Option<Instant>>,
    leaderless: watch::Sender<bool>,
    /// Chooses ids for leases.
    lease_ids: RefCell<SplitMix64>,
    /// Calls in `open` and `sent`, and the bytes of their batches.
    waiting: Cell<usize>,
    waiting_bytes: Cell<usize>,
    large_answers: Cell<usize>,
    /// Ranges answered, and not yet added to the member's counters.
    ranges: Cell<u64>,
    /// Something to hand over, or room to do so.
    flush: Signal,
    hub: RefCell<Hub>,
    /// Something was published.
    news: Signal,
    v2_hub: RefCell<v2::Hub>,
    v2_logins: v2::Logins,
    computing: Pool,
    /// Who leads, and since when, in nanoseconds of Unix time, as far as this shard has looked.
    leader_since: Cell<Option<(MemberId, i64)>>,
    draining: watch::Sender<bool>,
}

impl Shard {
    /// A shard whose tasks are not started yet; see [`Shard::start`].
    pub fn new(id: usize, shared: Arc<Shared>, uplink: Uplink) -> Rc<Self> {
        let hub = Hub::new(shared.limits.request_bytes + limits::REQUEST_OVERHEAD_BYTES);
        // Each shard's sequence begins elsewhere.
        let seed = SplitMix64::new(shared.start.wrapping_add(id as u64)).next();
        let computing = Pool::new("urd-compute", 1, shared.cpus.clone());
        Rc::new(Self {
            id,
            shared,
            uplink,
            open: RefCell::default(),
            open_reads: RefCell::default(),
            sent: RefCell::default(),
            sent_reads: RefCell::default(),
            open_questions: RefCell::default(),
            asked: RefCell::default(),
            moving: RefCell::default(),
            leaderless_since: Cell::new(None),
            leaderless: watch::Sender::new(false),
            lease_ids: RefCell::new(SplitMix64::new(seed)),
            waiting: Cell::new(0),
            waiting_bytes: Cell::new(0),
            large_answers: Cell::new(0),
            ranges: Cell::new(0),
            flush: Signal::default(),
            hub: RefCell::new(hub),
            news: Signal::default(),
            v2_hub: RefCell::default(),
            v2_logins: v2::Logins::default(),
            computing,
            leader_since: Cell::new(None),
            draining: watch::Sender::new(false),
        })
    }

    /// Starts the tasks that hand over what gathers, that end what waits too long, and that tell watchers.
    pub fn start(self: &Rc<Self>) {
        let shard = Rc::clone(self);
        glommio::spawn_local(async move {
            loop {
                shard.news.wait().await;
                shard.watching().told.store(false, SeqCst);
                while v3::watch::follow(&*shard) | v2::follow(&*shard) {
                    futures_lite::future::yield_now().await;
                }
            }
        })
        .detach();
        let shard = Rc::clone(self);
        glommio::spawn_local(async move {
            loop {
                glommio::timer::sleep(shard.shared.limits.watch_progress_interval).await;
                shard.hub.borrow_mut().interval();
            }
        })
        .detach();
        let shard = Rc::clone(self);
        glommio::spawn_local(async move {
            loop {
                shard.flush.wait().await;
                // Behind everything that is runnable now, so that it can add to the batch.
                futures_lite::future::yield_now().await;
                shard.hand_over();
            }
        })
        .detach();
        let shard = Rc::clone(self);
        glommio::spawn_local(async move {
            loop {
                glommio::timer::sleep(Duration::from_millis(500)).await;
                let now = Instant::now();
                shard.end_overdue(now);
                shard.look_for_leader(now);
            }
        })
        .detach();
    }

    /// Tells the log shard.
    pub fn post(&self, message: ToLog) {
        self.uplink.post(message);
    }

    /// Adds what this shard has counted to the member's counters.
    pub fn count(&self) {
        self.shared.metrics.ranges(self.ranges.take());
    }

    /// Ends the streams that would not end by themselves.
    pub fn drain(&self) {
        self.draining.send_replace(true);
        self.hub.borrow_mut().wake_all();
        self.v2_hub.borrow_mut().wake_all();
    }

    /// What all shards share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn hand_over(&self) {
        if !self.open_reads.borrow().is_empty() {
            let reads = self.open_reads.take();
            let key = self.sent_reads.borrow_mut().insert((Instant::now(), reads));
            self.uplink.post(ToLog::Read { shard: self.id, key });
        }
        if !self.open_questions.borrow().is_empty() {
            let questions = self.open_questions.take();
            self.uplink.post(ToLog::Leases { shard: self.id, questions });
        }
        let mut sent = self.sent.borrow_mut();
        while sent.len() < BATCHES_OUT_MAX {
            let Some(Open { batch, waiters }) = self.open.borrow_mut().pop_front() else { break };
            let key = sent.insert(Sent { at: Instant::now(), bytes: batch.byte_len(), waiters });
            self.uplink.post(ToLog::Propose { shard: self.id, key, batch });
        }
    }

    /// Acts on what the log shard says; connections and draining are the frontend's business.
    pub fn receive(self: &Rc<Self>, message: ToShard) {
        match message {
            ToShard::Applied { key, outcomes } => {
                let published = self.shared.published.load();
                for (waiter, outcome) in self.settle(key).into_iter().zip(outcomes) {
                    if let Some(waiter) = waiter {
                        waiter.answer(self, &published, outcome);
                    }
                }
            }
            ToShard::Failed { key, unavailable } => {
                for waiter in self.settle(key).into_iter().flatten() {
                    waiter.fail(unavailable);
                }
            }
            ToShard::Readable { key, outcome } => {
                let reads = self.sent_reads.borrow_mut().try_remove(key);
                for read in reads.into_iter().flat_map(|(_, reads)| reads) {
                    v3::resume(self, read, outcome);
                }
            }
            ToShard::Leases { answers } => {
                let mut asked = self.asked.borrow_mut();
                for (key, answer) in answers {
                    if let (_, Some(waiting)) = asked.remove(key) {
                        // Whoever waited may have gone; then nobody is left to tell.
                        waiting.send(answer).ok();
                    }
                }
            }
            ToShard::Moved { key, outcome } => {
                // Whoever waited may have gone.
                self.moving.borrow_mut().remove(key).send(outcome).ok();
            }
            ToShard::Published => self.news.set(),
            ToShard::Connection(_) | ToShard::Drain | ToShard::End => {
                unreachable!("the frontend and the executor take these")
            }
        }
    }

    /// Adds a request to the open batch.
    fn append(&self, bytes: usize, waiter: Waiter, append: impl FnOnce(&mut BatchBuilder)) {
        if self.is_full() {
            return waiter.fail(Unavailable::TooManyRequests);
        }
        let mut batches = self.open.borrow_mut();
        if batches.back().is_none_or(|open| open.is_full_for(bytes)) {
            batches.push_back(Open::default());
            // Its own head, so that the sum comes out even when it is settled.
            self.add_bytes(BatchBuilder::default().byte_len());
        }
        let open = batches.back_mut().expect("invariant: one was pushed if there was none");
        let before = open.batch.byte_len();
        append(&mut open.batch);
        open.waiters.push(Some(waiter));
        self.add_bytes(open.batch.byte_len() - before);
        self.waiting.set(self.waiting.get() + 1);
        self.flush.set();
    }

    fn settle(&self, key: Key) -> Waiters {
        let Sent { bytes, waiters, .. } = self.sent.borrow_mut().remove(key);
        self.waiting.set(self.waiting.get() - waiters.len());
        self.waiting_bytes.set(self.waiting_bytes.get() - bytes);
        if !self.open.borrow().is_empty() {
            self.flush.set();
        }
        waiters
    }

    /// Whether so much waits that nothing more is taken.
    fn is_full(&self) -> bool {
        self.waiting.get() >= limits::PROPOSALS_PER_SHARD_MAX
            || self.waiting_bytes.get() >= limits::PROPOSAL_BYTES_PER_SHARD_MAX
    }

    fn watching(&self) -> &Watching {
        self.shared.watching.get(self.id).expect("invariant: every shard has a place there")
    }

    fn add_bytes(&self, bytes: usize) {
        self.waiting_bytes.set(self.waiting_bytes.get() + bytes);
    }

    /// Notes whether there has been no leader for a while: three election timeouts, as in etcd.
    fn look_for_leader(&self, now: Instant) {
        self.leader_since();
        if !self.is_leaderless() {
            self.leaderless_since.set(None);
            self.leaderless.send_if_modified(|is_so| std::mem::replace(is_so, false));
            return;
        }
        let since = self.leaderless_since.get().unwrap_or(now);
        self.leaderless_since.set(Some(since));
        let is_long = now.duration_since(since) >= 3 * self.shared.limits.election_timeout;
        self.leaderless.send_if_modified(|is_so| !std::mem::replace(is_so, is_long) && is_long);
    }

    /// Answers calls that have waited for too long. Their requests may still be applied.
    fn end_overdue(self: &Rc<Self>, now: Instant) {
        let overdue = |at: Instant| now.duration_since(at) > limits::REQUEST_TIMEOUT;
        let mut late: Waiters = Vec::new();
        let mut late_reads = Vec::new();
        for (_, sent) in self.sent.borrow_mut().iter_mut().filter(|(_, sent)| overdue(sent.at)) {
            late.extend(sent.waiters.iter_mut().map(Option::take));
        }
        for (_, (_, reads)) in
            self.sent_reads.borrow_mut().iter_mut().filter(|(_, (at, _))| overdue(*at))
        {
            late_reads.append(reads);
        }
        for (_, (_, waiting)) in
            self.asked.borrow_mut().iter_mut().filter(|(_, (at, _))| overdue(*at))
        {
            if let Some(waiting) = waiting.take() {
                waiting.send(Err(Unavailable::TimedOut)).ok();
            }
        }
        for waiter in late.into_iter().flatten() {
            waiter.fail(Unavailable::TimedOut);
        }
        for read in late_reads {
            v3::resume(self, read, Err(Unavailable::TimedOut));
        }
    }
}

impl Node for Shard {
    fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    fn published(&self) -> Arc<Published> {
        self.shared.published.load_full()
    }

    fn bytes_in_use(&self) -> u64 {
        self.shared.bytes_in_use.load(Relaxed)
    }

    fn propose(&self, kind: Kind, message: &Bytes, reply: Box<dyn Reply>) {
        let waiter = Waiter::Call(reply);
        self.append(message.len(), waiter, |batch| batch.append(kind, message));
    }

    fn propose_v2(&self, request: store::v2::Request) -> oneshot::Receiver<V2Answer> {
        let (sender, receiver) = oneshot::channel();
        let history = self.shared.limits.v2_history;
        let request = store::v2::Request { history, ..request };
        let bytes = request.encoded_len();
        self.append(bytes, Waiter::V2(sender), |batch| batch.append_v2(&request));
        receiver
    }

    fn v2_hub(&self) -> &RefCell<v2::Hub> {
        &self.v2_hub
    }

    fn set_v2_watching(&self, watching: bool) {
        self.watching().wants_v2.store(watching, SeqCst);
        // What was published before this is looked at in any case.
        self.news.set();
    }

    fn v2_tally(&self) -> &v2::Tally {
        &self.shared.v2_tally
    }

    fn peer_traffic(&self) -> Arc<Vec<PeerTraffic>> {
        self.shared.metrics.peer_traffic()
    }

    fn reconfigure(&self, change: Bytes, reply: Box<dyn Reply>) {
        if self.is_full() {
            return reply.fail(Unavailable::TooManyRequests.into());
        }
        let (at, bytes) = (Instant::now(), change.len());
        self.waiting.set(self.waiting.get() + 1);
        self.add_bytes(bytes);
        let waiters = vec![Some(Waiter::Call(reply))];
        let key = self.sent.borrow_mut().insert(Sent { at, bytes, waiters });
        self.uplink.post(ToLog::Reconfigure { shard: self.id, key, change });
    }

    fn read(&self, read: Read) {
        self.open_reads.borrow_mut().push(read);
        self.flush.set();
    }

    fn defragment(&self) -> u64 {
        let number = self.shared.defragment.ask();
        self.uplink.post(ToLog::Defragment);
        number
    }

    fn defragmented(&self, number: u64) -> Option<bool> {
        self.shared.defragment.outcome(number)
    }

    fn ask(&self, question: LeaseQuestion) -> oneshot::Receiver<LeaseAnswer> {
        let (sender, receiver) = oneshot::channel();
        let mut asked = self.asked.borrow_mut();
        if asked.len() >= limits::LEASE_QUESTIONS_PER_SHARD_MAX {
            sender.send(Err(Unavailable::TooManyRequests)).ok();
        } else {
            let key = asked.insert((Instant::now(), Some(sender)));
            self.open_questions.borrow_mut().push((key, question));
            self.flush.set();
        }
        receiver
    }

    fn move_leader(&self, to: MemberId) -> oneshot::Receiver<Result<(), Error>> {
        let (sender, receiver) = oneshot::channel();
        let key = self.moving.borrow_mut().insert(sender);
        self.uplink.post(ToLog::MoveLeader { shard: self.id, key, to });
        receiver
    }

    fn is_leaderless(&self) -> bool {
        self.shared.published.load().leader.is_none()
    }

    fn leader_lost(&self) -> impl Future<Output = ()> + 'static {
        let mut leaderless = self.leaderless.subscribe();
        async move {
            // An error means that the shard is no more, which ends its streams anyway.
            leaderless.wait_for(|is_so| *is_so).await.ok();
        }
    }

    fn choose_lease(&self) -> LeaseId {
        let id = self.lease_ids.borrow_mut().next() & i64::MAX as u64;
        LeaseId(id.max(1) as i64)
    }

    fn hub(&self) -> &RefCell<Hub> {
        &self.hub
    }

    fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    fn drained(&self) -> impl Future<Output = ()> + 'static {
        let mut draining = self.draining.subscribe();
        async move {
            // An error means that the shard is no more, which is as good.
            draining.wait_for(|draining| *draining).await.ok();
        }
    }

    fn set_watching(&self, watching: bool) {
        let own = self.watching();
        if watching && !own.wanted.load(SeqCst) {
            // How far it has come is noted once it has looked.
            own.next.store(0, SeqCst);
        }
        own.wanted.store(watching, SeqCst);
        // What was published before this is looked at in any case.
        self.news.set();
    }

    fn note_watched(&self, next: Revision) {
        self.watching().next.store(next.0, SeqCst);
    }

    fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        glommio::spawn_local(work).detach();
    }

    fn unix_seconds(&self) -> u64 {
        // Before 1970: a clock that wrong tells nothing more.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn unix_nanoseconds(&self) -> i64 {
        unix_nanoseconds()
    }

    fn v2_logins(&self) -> &v2::Logins {
        &self.v2_logins
    }

    fn started(&self) -> i64 {
        self.shared.started
    }

    fn leader_since(&self) -> Option<(MemberId, i64)> {
        let leader = self.shared.published.load().leader;
        if leader != self.leader_since.get().map(|(leader, _)| leader) {
            self.leader_since.set(leader.map(|leader| (leader, unix_nanoseconds())));
        }
        self.leader_since.get()
    }

    fn origins(&self) -> &Origins {
        &self.shared.origins
    }

    fn is_learner(&self) -> bool {
        let published = self.shared.published.load();
        published.view.members().is_learner(self.shared.identity.member)
    }

    fn reads_aside(&self) -> bool {
        matches!(&self.uplink, Uplink::Local(inbox) if inbox.warming.is_on())
    }

    fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        let pool = match &self.uplink {
            Uplink::Local(inbox) if inbox.warming.is_on() => Some(Rc::clone(&inbox.warming.reads)),
            _ => None,
        };
        async move {
            match pool {
                Some(pool) => pool.run(work).await,
                None => work(),
            }
        }
    }

    fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        self.computing.run(work)
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        glommio::timer::sleep(duration)
    }

    fn large_answers(&self) -> &Cell<usize> {
        &self.large_answers
    }

    fn count_range(&self) {
        self.ranges.set(self.ranges.get() + 1);
        if let Uplink::Local(inbox) = &self.uplink {
            inbox.note_read();
        }
    }

    fn metrics(&self) -> String {
        self.shared.metrics.text(&self.shared.identity, &self.shared.published.load())
    }
}

impl Service for Shard {
    fn call(self: &Rc<Self>, call: Call) {
        v3::dispatch(self, call);
    }

    async fn http(self: &Rc<Self>, request: ::http::Request<Bytes>) -> ::http::Response<Body> {
        http::serve(self, request).await
    }
}

/// Nanoseconds of Unix time.
pub(super) fn unix_nanoseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
