//! The shard that owns raft, log and store: joins what all shards sent into one entry, and turns the driver.
//!
//! # One pass
//!
//! 1. Take what came in: proposals and reads from shards, completed writes. See whether pages have to be touched ahead
//!    (`warming`): then entries are applied only as far as that is done.
//! 2. All waiting reads share one read index.
//! 3. The lessor's entry, if one is due, joins the queue. Queued batches become one entry, if the disk is idle or the
//!    queue is worth another write beside the one under way. Waiting costs nothing then: what gathers meanwhile shares
//!    the next write. A lone request's write is waited for by the thread itself.
//! 4. Turn the driver until it has nothing to do; start the writes it asks for.
//! 5. Publish what was applied, then answer: whoever hears of a write, or of a read index, finds it published. The
//!    lessor follows what was applied, and answers questions once a read index has confirmed that this member leads.
//! 6. Background: a slice of a compaction, of a defragmentation, of tidying up; a segment prepared ahead; a checkpoint
//!    begun.
//!
//! The pass is a plain function; only [`run`] waits.

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

use super::checkpoints::Checkpoints;
use super::defragment::{Defragment, Step};
use super::frontend::Frontend;
use super::lessor::Lessor;
use super::mesh::{Key, Outbox, ToLog, ToShard};
use super::shard::Shared;
use super::signal::Signal;
use super::warming::{Ahead, Warming};
use crate::api::node::{LeaseAnswer, LeaseQuestion, Published};
use crate::api::operations::Operations;
use crate::error::Unavailable;
use crate::ids::{MemberId, Revision};
use crate::limits;
use crate::raft::{Driver, Fatal, Write};
use crate::store::Outcome;
use crate::store::command::BatchBuilder;
use crate::store::lease::LeaseChange;
use crate::tree::checkpoint::{self, Written};

/// What waits for the next pass.
pub struct Inbox<D: Disk> {
    messages: RefCell<VecDeque<ToLog>>,
    written: RefCell<VecDeque<Result<Completed, WriteError>>>,
    prepared: RefCell<Option<Prepared<D>>>,
    checkpointed: RefCell<Option<Result<Written, checkpoint::Failure>>>,
    /// This executor has served reads since the last pass.
    reads_seen: Cell<bool>,
    /// How long a log write typically takes.
    write_time: Cell<Duration>,
    signal: Signal,
    /// What keeps this executor from waiting for pages.
    pub warming: Warming,
}

impl<D: Disk> Inbox<D> {
    /// Nothing waits.
    pub fn new(warming: Warming) -> Self {
        Self {
            messages: RefCell::default(),
            written: RefCell::default(),
            prepared: RefCell::default(),
            checkpointed: RefCell::default(),
            reads_seen: Cell::new(false),
            write_time: Cell::new(2 * limits::LONE_WRITE_TIME_MAX),
            signal: Signal::default(),
            warming,
        }
    }

    /// A shard says something.
    pub fn push(&self, message: ToLog) {
        self.messages.borrow_mut().push_back(message);
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

/// A share of an entry: whose it is, and how many of the entry's requests are its own.
pub struct Part {
    owner: Owner,
    requests: usize,
}

/// Who proposed a batch.
#[derive(Clone, Copy)]
enum Owner {
    Shard { shard: usize, key: Key },
    Lessor,
}

/// Who waits for a read index.
pub enum Reader {
    /// A shard's round of reads.
    Reads { shard: usize, key: Key },
    /// A shard's questions about leases.
    Leases { shard: usize, questions: Vec<(Key, LeaseQuestion)> },
}

/// Whose question about a lease it is.
#[derive(Debug)]
struct Asker {
    shard: usize,
    key: Key,
}

/// A batch that waits to be proposed, of one shard or joined of several.
struct Queued {
    parts: Vec<Part>,
    batch: BatchBuilder,
}

/// See the module's page.
pub struct LogShard<D: Disk> {
    driver: Driver<D, Vec<Part>, Reader>,
    shared: Arc<Shared>,
    ports: Vec<Rc<Port>>,
    inbox: Rc<Inbox<D>>,
    queue: VecDeque<Queued>,
    queued_requests: usize,
    queued_bytes: usize,
    reads: Vec<Reader>,
    lessor: Lessor<Asker>,
    leader: Option<MemberId>,
    /// The newest that was published.
    revision: Revision,
    preparing: bool,
    /// When to try again to prepare a segment, after a failure.
    prepare_from: Option<Instant>,
    checkpoints: Checkpoints<D>,
    /// No entry before this; see [`Checkpoints::pause`].
    propose_from: Option<Instant>,
    defragment: Option<Defragment>,
    /// A checkpoint that the defragmentation waits for.
    wanted: Option<Wanted>,
    /// Shards that have drained; used while stopping.
    drained: usize,
    /// What leases have left was checkpointed for the last time; used while stopping.
    leases_saved: bool,
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
    /// The log could not be closed.
    #[error("close the log: {0}")]
    Close(urd_wal::CloseError),
}

impl<D: Disk + 'static> LogShard<D> {
    /// Takes over an opened driver; `ports` are in the order of the shards' numbers.
    pub fn new(
        driver: Driver<D, Vec<Part>, Reader>,
        shared: Arc<Shared>,
        ports: Vec<Rc<Port>>,
        inbox: Rc<Inbox<D>>,
        checkpoints: Checkpoints<D>,
    ) -> Self {
        Self {
            driver,
            shared,
            ports,
            inbox,
            queue: VecDeque::new(),
            queued_requests: 0,
            queued_bytes: 0,
            reads: Vec::new(),
            lessor: Lessor::new(Instant::now()),
            leader: None,
            revision: Revision(0),
            preparing: false,
            prepare_from: None,
            checkpoints,
            propose_from: None,
            defragment: None,
            wanted: None,
            drained: 0,
            leases_saved: false,
        }
    }
}

impl<D: Disk + 'static> LogShard<D> {
    /// One pass; see the module's page. True when background work is left for another pass.
    fn pass(&mut self) -> Result<bool, Failure> {
        self.take_inbox()?;
        self.hold_back();
        self.start_reads();
        let more_timers = self.propose_about_leases();
        let mut applied = Applied::default();
        loop {
            let waiting = if self.is_alone() { Waiting::Thread } else { Waiting::Task };
            let proposed = self.propose();
            self.turn(waiting, &mut applied)?;
            if !proposed {
                break;
            }
        }
        self.inbox.reads_seen.set(false);
        self.warm_entries();
        let mut more = self.sweep();
        more |= self.defragment();
        self.publish();
        self.follow_leases(&applied.leases);
        self.count(&applied);
        self.answer(applied);
        self.answer_about_leases();
        more |= !self.driver.tidy();
        self.prepare();
        self.checkpoint();
        let waits = self.inbox.warming.expiry.get() == Ahead::UnderWay;
        Ok(more || more_timers || (!waits && self.lessor.wants_to_propose(Instant::now())))
    }

    /// Turns the driver until it has nothing to do.
    fn turn(&mut self, waiting: Waiting, applied: &mut Applied) -> Result<(), Failure> {
        while let Some(turn) = self.driver.turn(waiting)? {
            if let Some(write) = turn.write {
                match waiting {
                    Waiting::Task => self.start_write(write),
                    Waiting::Thread => self.write(write)?,
                }
            }
            applied.outcomes.extend(turn.outcomes);
            applied.leases.extend(turn.leases);
            applied.lost.extend(turn.lost);
            applied.readable.extend(turn.readable);
            applied.unreadable.extend(turn.unreadable);
            // A group of one has nobody to send to; the transport takes these when members arrive.
            debug_assert!(turn.messages.is_empty());
        }
        Ok(())
    }

    fn take_inbox(&mut self) -> Result<(), Failure> {
        if let Some(prepared) = self.inbox.prepared.take() {
            self.preparing = false;
            if let Err(error) = self.driver.log().prepared(prepared) {
                tracing::warn!("cannot prepare the next log segment, trying again: {error}");
                self.prepare_from = Some(Instant::now() + PREPARE_RETRY);
            }
        }
        if let Some(checkpointed) = self.inbox.checkpointed.take() {
            self.checkpointed(checkpointed)?;
        }
        for completed in self.inbox.written.take() {
            let messages = self.driver.written(completed?);
            debug_assert!(messages.is_empty());
        }
        for message in self.inbox.messages.take() {
            match message {
                ToLog::Propose { shard, key, batch } => {
                    self.enqueue(Owner::Shard { shard, key }, batch);
                }
                ToLog::Read { shard, key } => self.reads.push(Reader::Reads { shard, key }),
                ToLog::Leases { shard, questions } => {
                    self.reads.push(Reader::Leases { shard, questions });
                }
                // The pass looks by itself whether there is one to begin.
                ToLog::Defragment => {}
                ToLog::Drained => self.drained += 1,
            }
        }
        Ok(())
    }

    fn enqueue(&mut self, owner: Owner, batch: BatchBuilder) {
        self.queued_requests += batch.len();
        self.queued_bytes += batch.byte_len();
        let parts = vec![Part { owner, requests: batch.len() }];
        self.queue.push_back(Queued { parts, batch });
    }

    /// Lets the lessor's time go on. True when it has more timers to look at.
    fn propose_about_leases(&mut self) -> bool {
        let now = Instant::now();
        let more = self.lessor.advance(now);
        if self.lessor.wants_to_propose(now) && self.may_propose_about_leases() {
            let published = self.shared.published.load();
            if let Some(batch) = self.lessor.propose(now, &published.view) {
                self.enqueue(Owner::Lessor, batch);
            }
        }
        more
    }

    /// Tells the lessor what has become of leadership and of leases.
    fn follow_leases(&mut self, changes: &[LeaseChange]) {
        let now = Instant::now();
        match (self.driver.leads(), self.lessor.leads()) {
            (true, true) => changes.iter().for_each(|change| self.lessor.follow(now, *change)),
            (true, false) => self.lessor.promote(now, &self.shared.published.load().view),
            (false, true) => {
                self.lessor.demote(now);
                self.forget_lessors_batch();
            }
            (false, false) => {}
        }
    }

    /// What the lessor wanted to say in an earlier term must not be said in a later one: it may be wrong by then.
    fn forget_lessors_batch(&mut self) {
        let is_lessors =
            |queued: &Queued| queued.parts.iter().any(|part| matches!(part.owner, Owner::Lessor));
        if let Some(at) = self.queue.iter().position(is_lessors)
            && let Some(Queued { parts, batch }) = self.queue.remove(at)
        {
            self.forget(&batch);
            // Others may have been joined to it.
            self.fail(parts, Unavailable::NoLeader);
        }
    }

    fn answer_about_leases(&mut self) {
        let leases_renewed = self.lessor.take_renewed();
        if leases_renewed > 0 {
            self.shared.metrics.operations(&Operations { leases_renewed, ..Operations::default() });
        }
        let mut answers: Vec<Vec<(Key, LeaseAnswer)>> = Vec::new();
        for (Asker { shard, key }, answer) in self.lessor.take_answers() {
            if answers.len() <= shard {
                answers.resize_with(shard + 1, Vec::new);
            }
            if let Some(own) = answers.get_mut(shard) {
                own.push((key, answer));
            }
        }
        for (shard, answers) in answers.into_iter().enumerate().filter(|(_, own)| !own.is_empty()) {
            self.tell(shard, ToShard::Leases { answers });
        }
    }

    fn start_reads(&mut self) {
        if self.reads.is_empty() {
            return;
        }
        let readers = std::mem::take(&mut self.reads);
        if let Err((unavailable, readers)) = self.driver.read_index(readers) {
            for reader in readers {
                self.tell_reader(reader, Err(unavailable));
            }
        }
    }

    /// Whether the queue should become an entry now.
    fn worth_a_write(&self) -> bool {
        match self.driver.writes_in_flight() {
            0 => !self.queue.is_empty(),
            writes => {
                writes < limits::LOG_WRITES_IN_FLIGHT
                    && (self.queued_requests >= limits::BATCH_REQUESTS_WORTH_A_WRITE
                        || self.queued_bytes >= limits::BATCH_BYTES_WORTH_A_WRITE)
            }
        }
    }

    /// Whether one request is all there is to do, and soon done: then the thread waits for its write. Whoever comes
    /// meanwhile could not have been written earlier, since a small write waits for the one before it.
    fn is_alone(&self) -> bool {
        self.queued_requests == 1
            && self.driver.writes_in_flight() == 0
            && !self.inbox.reads_seen.get()
            && !self.inbox.warming.is_on()
            && self.inbox.write_time.get() < limits::LONE_WRITE_TIME_MAX
    }

    /// Makes one entry of the queue, if it is worth one. Says whether it did.
    fn propose(&mut self) -> bool {
        if !self.worth_a_write() || self.is_pausing() {
            return false;
        }
        let Some(Queued { mut parts, mut batch }) = self.queue.pop_front() else { return false };
        while let Some(next) = self.queue.pop_front_if(|next| {
            batch.byte_len() + next.batch.byte_len() <= limits::BATCH_BYTES
                && batch.len() + next.batch.len() <= limits::BATCH_REQUESTS_MAX
        }) {
            batch.join(&next.batch);
            parts.extend(next.parts);
        }
        if !self.driver.has_room(batch.byte_len()) {
            if self.prepare_from.is_none() {
                // The next segment is being made; its coming starts another pass.
                self.queue.push_front(Queued { parts, batch });
                return false;
            }
            self.forget(&batch);
            self.fail(parts, Unavailable::NoSpace);
            return true;
        }
        self.forget(&batch);
        if let Err((unavailable, parts)) = self.driver.propose(batch.finish(), parts) {
            self.fail(parts, unavailable);
        }
        true
    }

    /// Whether entries come more slowly now, because checkpoints do not keep up, and it is not time for one yet. Tells
    /// itself when it is.
    fn is_pausing(&mut self) -> bool {
        let now = Instant::now();
        if self.propose_from.is_some_and(|from| now < from) {
            return true;
        }
        let pause = self.checkpoints.pause(self.driver.statistics().pages_unwritten);
        self.propose_from = pause.map(|pause| now + pause);
        if let Some(pause) = pause {
            let inbox = Rc::clone(&self.inbox);
            glommio::spawn_local(async move {
                glommio::timer::sleep(pause).await;
                inbox.signal.set();
            })
            .detach();
        }
        false
    }

    /// Takes a batch out of the queue's sums.
    fn forget(&mut self, batch: &BatchBuilder) {
        self.queued_requests -= batch.len();
        self.queued_bytes = self.queue.iter().map(|queued| queued.batch.byte_len()).sum();
    }

    fn start_write(&self, write: Write) {
        let inbox = Rc::clone(&self.inbox);
        let shared = Arc::clone(&self.shared);
        glommio::spawn_local(async move {
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
        debug_assert!(messages.is_empty());
        Ok(())
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
        }
        let revision = published.view.revision();
        self.shared.bytes_in_use.store(published.sizes.bytes_in_use, Ordering::Relaxed);
        self.shared.published.store(Arc::new(published));
        if std::mem::replace(&mut self.revision, revision) != revision {
            self.tell_watchers();
        }
    }

    /// Tells the shards that have watchers and have not been told already.
    fn tell_watchers(&self) {
        for (watching, port) in self.shared.watching.iter().zip(&self.ports) {
            if watching.wanted.load(Ordering::SeqCst) && !watching.told.swap(true, Ordering::SeqCst)
            {
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
                    Owner::Lessor => self.lessor.applied(),
                }
            }
        }
        for parts in applied.lost {
            self.fail(parts, Unavailable::LeaderChanged);
        }
        for reader in applied.readable {
            self.tell_reader(reader, Ok(()));
        }
        for reader in applied.unreadable {
            self.tell_reader(reader, Err(Unavailable::LeaderChanged));
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

    fn fail(&mut self, parts: Vec<Part>, unavailable: Unavailable) {
        for Part { owner, requests } in parts {
            self.shared.metrics.failed(requests);
            match owner {
                Owner::Shard { shard, key } => {
                    self.tell(shard, ToShard::Failed { key, unavailable });
                }
                Owner::Lessor => self.lessor.failed(Instant::now(), unavailable),
            }
        }
    }

    fn tell_reader(&mut self, reader: Reader, outcome: Result<(), Unavailable>) {
        match (reader, outcome) {
            (Reader::Reads { shard, key }, outcome) => {
                self.tell(shard, ToShard::Readable { key, outcome });
            }
            (Reader::Leases { shard, questions }, Ok(())) => {
                let now = Instant::now();
                for (key, question) in questions {
                    self.lessor.ask(now, Asker { shard, key }, question);
                }
            }
            (Reader::Leases { shard, questions }, Err(unavailable)) => {
                let refuse = |(key, _)| (key, Err(unavailable));
                let answers = questions.into_iter().map(refuse).collect();
                self.tell(shard, ToShard::Leases { answers });
            }
        }
    }

    fn tell(&self, shard: usize, message: ToShard) {
        self.ports.get(shard).expect("invariant: every shard has a port").post(message);
    }

    /// Has the next segment made ready, one at a time.
    fn prepare(&mut self) {
        if self.preparing || self.prepare_from.is_some_and(|from| Instant::now() < from) {
            return;
        }
        self.prepare_from = None;
        let Some(prepare) = self.driver.log().prepare() else { return };
        self.preparing = true;
        let inbox = Rc::clone(&self.inbox);
        glommio::spawn_local(async move {
            let prepared = prepare.run().await;
            inbox.prepared.replace(Some(prepared));
            inbox.signal.set();
        })
        .detach();
    }

    /// Goes on with a defragmentation; true when it has more to do at once.
    fn defragment(&mut self) -> bool {
        if self.defragment.is_none() {
            self.defragment = Defragment::begin(&self.shared.defragment);
        }
        if self.driver.is_checkpointing() || self.wanted.is_some() || !self.may_relocate() {
            return false;
        }
        let Some(defragment) = &mut self.defragment else { return false };
        match defragment.step(&mut self.driver) {
            Step::Checkpoint { cut } => {
                self.wanted = Some(Wanted { cut });
                false
            }
            Step::Again => true,
            Step::Done => {
                self.end_defragment(true);
                // Another may have been asked for meanwhile.
                true
            }
        }
    }

    fn end_defragment(&mut self, is_done: bool) {
        self.wanted = None;
        if let Some(defragment) = self.defragment.take() {
            defragment.end(&self.shared.defragment, is_done);
        }
    }

    /// Begins a checkpoint when one is wanted or due.
    fn checkpoint(&mut self) {
        let sizes = self.driver.statistics();
        let is_due = || self.checkpoints.is_due(self.driver.since_checkpoint(), &sizes);
        if self.driver.is_checkpointing() || (self.wanted.is_none() && !is_due()) {
            return;
        }
        let cut = self.wanted.take().is_some_and(|wanted| wanted.cut);
        let checkpoint = self.driver.begin_checkpoint();
        self.checkpoints.begin();
        let (file, inbox) = (Rc::clone(&self.checkpoints.file), Rc::clone(&self.inbox));
        let shared = Arc::clone(&self.shared);
        let write = async move {
            let (start, bytes) = (Instant::now(), checkpoint.bytes());
            let mut written = checkpoint.write(&file).await;
            if let Ok(checkpoint) = &written {
                tracing::debug!(bytes, took = ?start.elapsed(), "wrote a checkpoint");
                shared.metrics.checkpoint(start.elapsed());
                if cut && let Err(failure) = file.cut(checkpoint).await {
                    written = Err(failure);
                }
            }
            inbox.checkpointed.replace(Some(written));
            inbox.signal.set();
        };
        glommio::spawn_local(write).detach();
    }

    fn checkpointed(
        &mut self,
        checkpointed: Result<Written, checkpoint::Failure>,
    ) -> Result<(), Failure> {
        match checkpointed {
            Ok(written) => self.driver.end_checkpoint(written),
            Err(checkpoint::Failure::Full { ref checkpoint, .. }) => {
                self.driver.give_up_checkpoint(checkpoint);
                self.checkpoints.retry();
                self.end_defragment(false);
            }
            Err(failure @ checkpoint::Failure::Io { .. }) => return Err(failure.into()),
        }
        Ok(())
    }

    /// Whether what leases have left was checkpointed, for whoever leads next; begins with it.
    fn has_saved_leases(&mut self) -> bool {
        if !std::mem::replace(&mut self.leases_saved, true) {
            self.lessor.checkpoint_all();
            self.inbox.signal.set();
        }
        self.lessor.is_settled()
    }

    /// Whether nothing is queued, proposed or being written.
    fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.driver.pending() == 0
            && self.driver.writes_in_flight() == 0
            && !self.preparing
    }
}

/// How long to wait before another try to make a segment, after a full disk refused one.
const PREPARE_RETRY: Duration = Duration::from_secs(1);

/// A checkpoint to begin, due or not.
struct Wanted {
    /// Whether to cut the file behind it.
    cut: bool,
}

/// What the turns of one pass left to answer.
#[derive(Default)]
struct Applied {
    outcomes: Vec<(Vec<Part>, Vec<Outcome>)>,
    leases: Vec<LeaseChange>,
    lost: Vec<Vec<Part>>,
    readable: Vec<Reader>,
    unreadable: Vec<Reader>,
}

/// Runs passes until `stop` is set, every shard has drained and nothing is in flight; then closes the log.
///
/// `tick` is raft's; `on_stop` is called once, when `stop` is seen first.
pub async fn run<D: Disk + 'static>(
    mut log_shard: LogShard<D>,
    tick: Duration,
    stop: Arc<AtomicBool>,
    on_ready: impl FnOnce(),
    on_stop: impl FnOnce(),
) -> Result<(), Failure> {
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
    let mut on_ready = Some(on_ready);
    let mut on_stop = Some(on_stop);
    inbox.signal.set();
    loop {
        inbox.signal.wait().await;
        // Behind what is runnable now, so that it can join this pass.
        futures_lite::future::yield_now().await;
        for _ in 0..ticks.take() {
            log_shard.driver.tick();
        }
        if log_shard.pass()? {
            inbox.signal.set();
        }
        if log_shard.driver.leads()
            && let Some(on_ready) = on_ready.take()
        {
            on_ready();
        }
        if stop.load(Ordering::Relaxed) {
            if let Some(on_stop) = on_stop.take() {
                on_stop();
            }
            if log_shard.drained == log_shard.ports.len()
                && log_shard.has_saved_leases()
                && log_shard.is_idle()
            {
                let log = log_shard.driver.into_log();
                return log.close().await.map_err(Failure::Close);
            }
        }
    }
}
