//! A member for one shard, with neither raft nor disk: what is proposed is applied at once. So calls run through the real
//! services into a real store, in one thread and without waiting.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use urd::api::Reply;
use urd::api::cors::Origins;
use urd::api::node::{
    Identity, LeaseAnswer, LeaseQuestion, Limits, Node, PeerTraffic, Published, Read, V2Answer,
};
use urd::api::v2;
use urd::api::v3::watch::Hub;
use urd::api::v3::{self, kv};
use urd::error::Error;
use urd::ids::{ClusterId, LeaseId, MemberId, Term};
use urd::limits;
use urd::store::command::{Batch, BatchBuilder, Command, Kind};
use urd::store::{self, Outcome, Response, Store};

use super::samples;

/// Turns of all tasks, after which those that are left wait for something that does not come.
const TURNS: usize = 64;
/// bcrypt's lowest: what a password costs tells nothing.
const PASSWORD_COST: u32 = 4;
const NANOSECONDS: i64 = 1_000_000_000;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// See the module's page.
pub(super) struct Member {
    identity: Identity,
    limits: Limits,
    store: RefCell<Store>,
    published: RefCell<Arc<Published>>,
    hub: RefCell<Hub>,
    tasks: RefCell<Vec<Task>>,
    /// They go on in a later turn, as on a real shard: not within the call that asks.
    reads: RefCell<Vec<Read>>,
    large: Cell<usize>,
    /// In nanoseconds of Unix time.
    now: Cell<i64>,
    leases: Cell<i64>,
    v2_hub: RefCell<v2::Hub>,
    v2_tally: v2::Tally,
    v2_logins: v2::Logins,
    origins: Origins,
}

impl Member {
    /// One that has applied a few commands.
    pub(super) fn new() -> Rc<Self> {
        Self::with(&samples::commands()[..6])
    }

    /// One that has applied these.
    pub(super) fn with(commands: &[Command]) -> Rc<Self> {
        let limits = Limits {
            request_bytes: 1 << 16,
            txn_ops: 16,
            watch_progress_interval: Duration::from_secs(600),
            quota_bytes: 1 << 30,
            learners: 1,
            lease_ttl_min: 2,
            election_timeout: Duration::from_secs(1),
            v2: true,
            v2_history: 20,
        };
        let mut store = samples::first_store();
        samples::apply(&mut store, commands);
        let published = Arc::new(published(&store));
        Rc::new(Self {
            identity: Identity { cluster: ClusterId(1), member: MemberId(1) },
            limits,
            store: RefCell::new(store),
            published: RefCell::new(published),
            hub: RefCell::new(Hub::new(1 << 14)),
            tasks: RefCell::default(),
            reads: RefCell::default(),
            large: Cell::new(0),
            now: Cell::new(1_700_000_000 * NANOSECONDS),
            leases: Cell::new(100),
            v2_hub: RefCell::default(),
            v2_tally: v2::Tally::default(),
            v2_logins: v2::Logins::with_cost(PASSWORD_COST),
            origins: Origins::default(),
        })
    }

    /// Lets all tasks go on as far as they can.
    pub(super) fn work(self: &Rc<Self>) {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        for _ in 0..TURNS {
            for read in self.reads.take() {
                v3::resume(self, read, Ok(()));
            }
            let mut tasks = std::mem::take(&mut *self.tasks.borrow_mut());
            tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
            let mut all = self.tasks.borrow_mut();
            let has_spawned = !all.is_empty();
            tasks.append(&mut all);
            *all = tasks;
            drop(all);
            while v3::watch::follow(&**self) | v2::follow(&**self) {}
            let was_woken = woken.0.swap(false, Ordering::Relaxed);
            if !was_woken && !has_spawned && self.reads.borrow().is_empty() {
                return;
            }
        }
    }

    /// Lets time pass, and what is over by then expire as a leader has it expire.
    pub(super) fn pass(&self, seconds: u16) {
        self.now.set(self.now.get() + i64::from(seconds) * NANOSECONDS);
        let mut batch = BatchBuilder::default();
        batch.append_command(&Command::V2Expiry(store::v2::Expiry {
            cutoff: self.now.get(),
            nodes_max: limits::V2_NODES_PER_EXPIRY,
            history: self.limits.v2_history,
        }));
        self.apply(batch.finish());
    }

    /// Those who wait for changes of v2's keys.
    pub(super) fn v2_waiters(&self) -> usize {
        let counted = self.v2_tally.waiters.load(Ordering::Relaxed);
        let waiters = self.v2_hub.borrow().len();
        assert_eq!(counted, waiters as u64, "who waits is counted");
        waiters
    }

    /// The faults of its store.
    pub(super) fn faults(&self) -> Vec<urd::store::Fault> {
        self.store.borrow().check()
    }

    /// Whoever waits has gone.
    pub(super) fn forget_tasks(&self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
    }

    fn apply(&self, batch: Bytes) -> Vec<Outcome> {
        let batch = Batch::decode(batch).expect("what was validated can be read");
        let mut store = self.store.borrow_mut();
        let (index, term) = (store.applied().next(), store.term());
        let outcomes = store.apply(index, term, &batch);
        store.publish();
        while !store.compact_slice(64) {}
        store.publish();
        *self.published.borrow_mut() = Arc::new(published(&store));
        outcomes
    }

    fn answer(&self, batch: Bytes, reply: Box<dyn Reply>) {
        let mut outcomes = self.apply(batch);
        let outcome = outcomes.pop().expect("one request, one outcome");
        let published = self.published();
        kv::answer(self, &published, reply, outcome);
    }
}

/// Whether any task can go on.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn published(store: &Store) -> Published {
    Published {
        view: store.view(),
        term: Term(2),
        leader: Some(MemberId(1)),
        committed: store.applied(),
        sizes: store.statistics(),
    }
}

impl Node for Member {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn is_learner(&self) -> bool {
        false
    }

    fn unix_seconds(&self) -> u64 {
        u64::try_from(self.now.get() / NANOSECONDS).unwrap_or_default()
    }

    fn unix_nanoseconds(&self) -> i64 {
        self.now.get()
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published.borrow())
    }

    fn bytes_in_use(&self) -> u64 {
        self.published.borrow().sizes.bytes_in_use
    }

    fn propose(&self, kind: Kind, message: &Bytes, reply: Box<dyn Reply>) {
        let mut batch = BatchBuilder::default();
        batch.append(kind, message);
        self.answer(batch.finish(), reply);
    }

    fn propose_v2(&self, request: store::v2::Request) -> oneshot::Receiver<V2Answer> {
        let history = self.limits.v2_history;
        let mut batch = BatchBuilder::default();
        batch.append_v2(&store::v2::Request { history, ..request });
        let answer = match self.apply(batch.finish()).pop() {
            Some(Ok(Response::V2(outcome))) => Ok(*outcome),
            Some(Err(rejected)) => Err(rejected.into()),
            other => unreachable!("one request of v2, not {other:?}"),
        };
        let (sender, receiver) = oneshot::channel();
        // Whoever asked may have gone.
        sender.send(answer).ok();
        receiver
    }

    fn v2_hub(&self) -> &RefCell<v2::Hub> {
        &self.v2_hub
    }

    fn set_v2_watching(&self, _: bool) {}

    fn v2_tally(&self) -> &v2::Tally {
        &self.v2_tally
    }

    fn peer_traffic(&self) -> Arc<Vec<PeerTraffic>> {
        Arc::default()
    }

    fn v2_logins(&self) -> &v2::Logins {
        &self.v2_logins
    }

    fn started(&self) -> i64 {
        self.unix_nanoseconds()
    }

    fn leader_since(&self) -> Option<(MemberId, i64)> {
        Some((MemberId(1), self.unix_nanoseconds()))
    }

    fn origins(&self) -> &Origins {
        &self.origins
    }

    fn reconfigure(&self, change: Bytes, reply: Box<dyn Reply>) {
        self.answer(change, reply);
    }

    fn read(&self, read: Read) {
        self.reads.borrow_mut().push(read);
    }

    fn defragment(&self) -> u64 {
        1
    }

    fn defragmented(&self, _: u64) -> Option<bool> {
        Some(true)
    }

    fn ask(&self, question: LeaseQuestion) -> oneshot::Receiver<LeaseAnswer> {
        let (sender, receiver) = oneshot::channel();
        let (LeaseQuestion::Renew(LeaseId(id)) | LeaseQuestion::Remaining(LeaseId(id))) = question;
        // Whoever asked may have gone.
        sender.send(Ok((id % 2 == 1).then_some(7))).ok();
        receiver
    }

    fn move_leader(&self, _: MemberId) -> oneshot::Receiver<Result<(), Error>> {
        let (sender, receiver) = oneshot::channel();
        sender.send(Ok(())).ok();
        receiver
    }

    fn is_leaderless(&self) -> bool {
        false
    }

    fn leader_lost(&self) -> impl Future<Output = ()> + 'static {
        std::future::pending()
    }

    fn choose_lease(&self) -> LeaseId {
        self.leases.set(self.leases.get() + 1);
        LeaseId(self.leases.get())
    }

    fn hub(&self) -> &RefCell<Hub> {
        &self.hub
    }

    fn is_draining(&self) -> bool {
        false
    }

    fn drained(&self) -> impl Future<Output = ()> + 'static {
        std::future::pending()
    }

    fn set_watching(&self, _: bool) {}

    fn note_watched(&self, _: urd::ids::Revision) {}

    fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        self.tasks.borrow_mut().push(Box::pin(work));
    }

    fn reads_aside(&self) -> bool {
        false
    }

    fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        std::future::ready(work())
    }

    fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        std::future::ready(work())
    }

    fn sleep(&self, _: Duration) -> impl Future<Output = ()> + 'static {
        let mut slept = false;
        std::future::poll_fn(move |context| {
            if std::mem::replace(&mut slept, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    fn large_answers(&self) -> &Cell<usize> {
        &self.large
    }

    fn count_range(&self) {}

    fn metrics(&self) -> String {
        String::new()
    }
}
