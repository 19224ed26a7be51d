//! One member's process: the real driver, log, store, tree, lessor and watch hub, on a disk in memory, in the order of the
//! log shard's pass. What it wants of the world it leaves in [`Effects`]; what a disk is at is a [`Job`].

mod space;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use fastrand::Rng;
use raft::eraftpb::Message;
use urd::api::v3::watch::Hub;
use urd::error::Unavailable;
use urd::ids::{Index, LeaseId, MemberId, Term};
use urd::raft::{Driver, Fatal, Write, arrival};
use urd::server::defragment::{Defragment, Requests, Step};
use urd::server::lessor::Lessor;
use urd::server::v2_expiry::V2Expiry;
use urd::store::command::{BatchBuilder, Command};
use urd::store::lease::LeaseChange;
use urd::store::{Outcome, Response, Store, Sweep, View, v2};
use urd::tree::checkpoint::{self, CheckpointFile, Opened, Written};
use urd::tree::import::{Import, Incoming};
use urd_proto::etcdserverpb::{Member, RangeRequest};
use urd_wal::disk::memory::MemoryDisk;
use urd_wal::{Completed, Prepared, Waiting, WriteError};

use self::space::no_space;
use super::calls::{Call, CallId, Reply};
use super::settings::{Canary, Settings};
use super::sites::{Site, Sites};
use super::v2::Traffic;

/// The checkpoint's file.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// Requests are gathered for one entry up to this size, so that one fits into the smallest segment.
const BATCH_BYTES: usize = 16 << 10;
/// What is called a page where it does not matter.
const PAGE_BYTES: usize = 4096;

/// Whose a request is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner {
    Call(CallId),
    /// The alarm that is raised before this one is refused.
    Refusal(CallId),
    /// In this term.
    Lessor(Term),
    /// The member's own request about v2's keys.
    V2,
    V2Expiry,
    /// The member's own, or an operator's: nobody waits for it.
    Nobody,
}

/// A share of an entry.
#[derive(Debug)]
pub(super) struct Part {
    owner: Owner,
    requests: usize,
}

/// Who waits for a read index.
#[derive(Debug)]
pub(super) enum Reader {
    Range(CallId, RangeRequest),
    KeepAlive(CallId, i64),
}

pub(super) type MemberDriver = Driver<MemoryDisk, Vec<Part>, Reader>;

/// What a disk has done.
pub(super) enum Done {
    Write(Result<Completed, WriteError>),
    Prepared(Prepared<MemoryDisk>),
    Checkpoint(Result<Written, checkpoint::Failure>),
    Received(Result<(Message, Incoming<MemoryDisk>), String>),
    Installed(Message, Box<Result<Opened<MemoryDisk>, String>>),
    Nothing,
}

/// What a disk is at.
pub(super) struct Job {
    pub(super) future: Pin<Box<dyn Future<Output = Done>>>,
    /// Whose state arrives by it: without the link, it breaks off.
    pub(super) receives_from: Option<u64>,
}

impl Job {
    fn write(write: Write) -> Self {
        let future = Box::pin(async move { Done::Write(write.done.await) });
        Self { future, receives_from: None }
    }
}

/// Why a process ends.
#[derive(Debug)]
pub(super) enum End {
    /// Its disk has failed.
    Disk(String),
    /// It is no member any more.
    Removed,
    /// What must not be.
    Fatal(String),
}

impl From<Fatal> for End {
    fn from(fatal: Fatal) -> Self {
        Self::Fatal(fatal.to_string())
    }
}

/// A state that somebody has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) from: u64,
    pub(super) index: Index,
}

impl Sent {
    /// What `message` announces.
    pub(super) fn by(message: &Message) -> Self {
        Self { from: message.from, index: Index(message.get_snapshot().get_metadata().index) }
    }
}

/// What a process wants of the world.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) messages: Vec<Message>,
    /// States for members that are behind.
    pub(super) states: Vec<(Message, View)>,
    pub(super) jobs: Vec<Job>,
    pub(super) replies: Vec<(CallId, Reply)>,
    /// What became of a state that somebody has sent.
    pub(super) verdicts: Vec<(Sent, bool)>,
    pub(super) leases: Vec<LeaseChange>,
    /// What requests about v2's keys have done, as they were answered.
    pub(super) v2: Vec<v2::Event>,
    /// In the order in which they were published.
    pub(super) views: Vec<View>,
    /// Alarms that were raised because the quota is used up.
    pub(super) alarms: u64,
}

/// What turns leave to be answered once it is published.
#[derive(Default)]
struct Applied {
    outcomes: Vec<(Vec<Part>, Vec<Outcome>)>,
    leases: Vec<LeaseChange>,
    lost: Vec<Vec<Part>>,
    readable: Vec<Reader>,
}

/// See the module's page.
pub(super) struct Process {
    id: u64,
    settings: Rc<Settings>,
    sites: Rc<Sites>,
    pub(super) driver: MemberDriver,
    disk: MemoryDisk,
    file: Rc<CheckpointFile<MemoryDisk>>,
    /// What was published last.
    pub(super) view: View,
    /// Bytes of its tree that are in use.
    pub(super) bytes_in_use: u64,
    pub(super) hub: Hub,
    /// It does, for those who take fragments.
    pub(super) splits_responses: bool,
    lessor: Lessor<CallId>,
    /// The term in which the lessor was told last that this member leads.
    lessor_term: Term,
    traffic: Traffic,
    v2_expiry: V2Expiry,
    queue: VecDeque<(Owner, BatchBuilder)>,
    readers: Vec<Reader>,
    defragment: Option<Defragment>,
    /// A checkpoint to begin, and whether to cut the file behind it.
    wanted: Option<bool>,
    asked: Requests,
    received: Option<(Message, Incoming<MemoryDisk>)>,
    /// The state that arrives, until its sender has heard what became of it.
    receives: Option<Sent>,
    is_installing: bool,
    is_preparing: bool,
    /// A full disk has refused a segment.
    prepare_from: Option<Instant>,
    checkpoint_from: Option<Instant>,
    /// It has told its name.
    is_known: bool,
    /// A checkpoint that nothing but the rig wants.
    pub(super) wants_checkpoint: bool,
    pub(super) effects: Effects,
}

impl Process {
    pub(super) fn new(
        id: u64,
        settings: Rc<Settings>,
        sites: Rc<Sites>,
        mut driver: MemberDriver,
        disk: MemoryDisk,
        file: CheckpointFile<MemoryDisk>,
        now: Instant,
    ) -> Self {
        let view = driver.publish();
        let splits_responses = sites.acts(Site::Fragments);
        let mut hub = Hub::new(if splits_responses { 1 } else { usize::MAX });
        if sites.acts(Site::SmallOutbox) {
            hub.bound_outboxes(1);
        }
        Self {
            id,
            bytes_in_use: driver.statistics().bytes_in_use,
            splits_responses,
            driver,
            disk,
            file: Rc::new(file),
            hub,
            lessor: Lessor::new(now),
            lessor_term: Term(0),
            traffic: Traffic::new(id, now, settings.space.v2_history),
            v2_expiry: V2Expiry::new(settings.space.v2_history),
            queue: VecDeque::new(),
            readers: Vec::new(),
            defragment: None,
            wanted: None,
            asked: Requests::default(),
            received: None,
            receives: None,
            is_installing: false,
            is_preparing: false,
            prepare_from: None,
            checkpoint_from: None,
            is_known: false,
            wants_checkpoint: false,
            effects: Effects { views: vec![view.clone()], ..Effects::default() },
            view,
            settings,
            sites,
        }
    }

    pub(super) fn leads(&self) -> bool {
        self.driver.leads()
    }

    /// A client asks.
    pub(super) fn call(&mut self, id: CallId, call: Call) {
        match call {
            Call::Read(request)
                if request.serializable || self.settings.canary == Some(Canary::StaleRead) =>
            {
                let reply = read(&self.view, &request);
                self.effects.replies.push((id, reply));
            }
            Call::Read(request) => self.readers.push(Reader::Range(id, request)),
            Call::KeepAlive(_) if !self.leads() => {
                self.effects.replies.push((id, Reply::Refused("not leader".to_owned())));
            }
            Call::KeepAlive(lease) => self.readers.push(Reader::KeepAlive(id, lease)),
            Call::Write(command) if self.has_no_room(&command) => {
                if self.settings.canary == Some(Canary::CarryOutRefused) {
                    self.enqueue(Owner::Nobody, &command);
                }
                match self.raise_alarm(Owner::Refusal(id)) {
                    true => {}
                    false => self.effects.replies.push((id, no_space())),
                }
            }
            Call::Write(command) => self.enqueue(Owner::Call(id), &command),
        }
    }

    pub(super) fn enqueue(&mut self, owner: Owner, command: &Command) {
        let mut batch = BatchBuilder::default();
        batch.append_command(command);
        self.queue.push_back((owner, batch));
    }

    /// An operator wants the members changed. Whether it was proposed.
    pub(super) fn change_members(&mut self, command: &Command) -> bool {
        if !self.leads() || self.driver.is_changing() || !self.driver.can_propose() {
            return false;
        }
        let mut batch = BatchBuilder::default();
        batch.append_command(command);
        let parts = vec![Part { owner: Owner::Nobody, requests: 1 }];
        let context = self.driver.name_change(&batch.finish(), parts);
        let proposed = self.driver.propose_change(context.clone()).is_ok();
        if !proposed {
            self.driver.forget_change(&context);
        }
        proposed
    }

    /// An operator wants a defragmentation.
    pub(super) fn ask_defragment(&mut self) {
        self.asked.ask();
    }

    /// Another member says something. False when it has to be said again later: the log has no room.
    pub(super) fn step(&mut self, message: Message) -> Result<bool, End> {
        let bytes =
            message.entries.iter().map(|entry| entry.data.len() + entry.context.len()).sum();
        if self.is_installing || !self.driver.has_room(message.entries.len(), bytes) {
            return Ok(self.is_installing);
        }
        self.driver.step(message)?;
        Ok(true)
    }

    /// A tick of raft's. With `is_busy` it has requests of its own, too.
    pub(super) fn tick(&mut self, now: Instant, is_busy: bool) {
        if self.is_installing {
            return;
        }
        if is_busy && self.driver.can_propose() {
            for command in self.traffic.tick(now) {
                match self.has_no_room(&command) {
                    true => _ = self.raise_alarm(Owner::Nobody),
                    false => self.enqueue(Owner::V2, &command),
                }
            }
        }
        let (late, again) = self.driver.tick();
        self.readers.extend(again);
        if let Some(write) = self.driver.vouch() {
            self.effects.jobs.push(Job::write(write));
        }
        for parts in late {
            self.fail(parts, now);
        }
    }

    /// One pass, as the log shard makes it. True when there is more to do at once.
    pub(super) fn pass(&mut self, now: Instant, rng: &mut Rng) -> Result<bool, End> {
        if self.is_installing {
            return Ok(false);
        }
        let mut applied = Applied::default();
        let mut more = self.hold_back();
        self.turn(rng, &mut applied)?;
        more |= self.start_reads();
        more |= self.propose_about_leases(now);
        self.propose_v2_expiry(now);
        self.tell_name();
        while self.propose(now, rng) {
            self.turn(rng, &mut applied)?;
        }
        // The truth is read before a sweep takes anything away.
        self.publish();
        more |= self.sweep(rng);
        more |= self.defragment();
        self.publish();
        self.follow_leases(now, &applied.leases);
        self.answer(now, applied);
        let renewed = self.lessor.take_answers();
        let answers = renewed.into_iter().map(|(call, answer)| match answer {
            Ok(ttl) => (call, Reply::KeptAlive(ttl)),
            Err(unavailable) => (call, Reply::Refused(unavailable.to_string())),
        });
        self.effects.replies.extend(answers);
        more |= self.tidy();
        self.prepare(now);
        self.begin_install()?;
        if !self.is_installing {
            self.checkpoint(now);
        }
        match self.view.is_removed(MemberId(self.id)) && !self.driver.is_leaving() {
            true => Err(End::Removed),
            false => Ok(more),
        }
    }

    /// What is committed may have to wait for its pages, as in the log shard. True when it does.
    fn hold_back(&mut self) -> bool {
        let holds = !self.driver.unapplied().is_empty() && self.sites.acts(Site::HeldBack);
        let limit = match holds {
            true => self.driver.applied().0 + self.sites.below(2),
            false => u64::MAX,
        };
        self.driver.set_apply_limit(Index(limit));
        holds
    }

    fn tidy(&mut self) -> bool {
        let is_late = self.driver.is_checkpointing() && self.sites.acts(Site::LateTidying);
        is_late || !self.driver.tidy()
    }

    /// A slice of a compaction, unless watchers have yet to look at what it takes away.
    fn sweep(&mut self, rng: &mut Rng) -> bool {
        let Some(Sweep { target, .. }) = self.driver.pending_sweep() else { return false };
        if !self.hub.is_empty() && self.hub.next() < target {
            return true;
        }
        if self.sites.acts(Site::LateSweep) {
            return true;
        }
        !self.driver.compact_slice(rng.usize(1..=self.settings.slice_max))
    }

    fn turn(&mut self, rng: &mut Rng, applied: &mut Applied) -> Result<(), End> {
        loop {
            let waiting = if rng.u32(0..4) == 0 { Waiting::Thread } else { Waiting::Task };
            let Some(turn) = self.driver.turn(waiting)? else { return Ok(()) };
            self.effects.messages.extend(turn.messages);
            if let Some(write) = turn.write {
                self.effects.jobs.push(Job::write(write));
            }
            self.effects.states.extend(turn.snapshots);
            applied.outcomes.extend(turn.outcomes);
            applied.leases.extend(turn.leases);
            applied.lost.extend(turn.lost);
            applied.readable.extend(turn.readable);
            self.readers.extend(turn.unreadable);
        }
    }

    /// True when they are to be started in the next pass.
    fn start_reads(&mut self) -> bool {
        if !self.readers.is_empty() && self.driver.can_read() {
            if self.sites.acts(Site::LateRound) {
                return true;
            }
            let readers = std::mem::take(&mut self.readers);
            if let Err((_, readers)) = self.driver.read_index(readers) {
                self.readers = readers;
            }
        }
        false
    }

    fn propose_about_leases(&mut self, now: Instant) -> bool {
        self.end_former_leadership(now);
        let more = self.lessor.advance(now);
        if self.lessor.wants_to_propose(now)
            && let Some(batch) = self.lessor.propose(now, &self.view)
        {
            self.queue.push_back((Owner::Lessor(self.lessor_term), batch));
        }
        more || self.lessor.wants_to_propose(now)
    }

    fn propose_v2_expiry(&mut self, now: Instant) {
        if self.leads() {
            self.v2_expiry.follow(&self.view);
            if let Some(batch) = self.v2_expiry.propose(now, self.traffic.unix(now)) {
                self.queue.push_back((Owner::V2Expiry, batch));
            }
        }
    }

    /// A member publishes its name once it can.
    fn tell_name(&mut self) {
        if !self.is_known && self.driver.can_propose() && !self.view.members().is_empty() {
            self.is_known = true;
            let name = format!("m{}", self.id);
            let client_ur_ls = vec![format!("http://127.0.0.1:{}", 10_000 + self.id)];
            let own = Member { id: self.id, name, client_ur_ls, ..Member::default() };
            self.enqueue(Owner::Nobody, &Command::MemberPublish(own));
        }
    }

    fn propose(&mut self, now: Instant, rng: &mut Rng) -> bool {
        let is_busy = self.driver.writes_in_flight() > 0 && rng.u32(0..8) > 0;
        if !self.driver.can_propose() || is_busy {
            return false;
        }
        let Some((owner, mut batch)) = self.queue.pop_front() else { return false };
        let mut parts = vec![Part { owner, requests: batch.len() }];
        let is_cut = !self.queue.is_empty() && self.sites.acts(Site::OneRequest);
        let most = if is_cut { 1 } else { self.settings.batch_max };
        while parts.len() < most
            && batch.byte_len() < BATCH_BYTES
            && let Some((owner, next)) = self.queue.pop_front()
        {
            parts.push(Part { owner, requests: next.len() });
            batch.join(&next);
        }
        if self.leads() && !self.driver.has_room(1, batch.byte_len()) {
            self.refuse(parts, "no room in the log", now);
            return true;
        }
        if let Err((unavailable, parts)) = self.driver.propose(batch.finish(), parts) {
            self.refuse(parts, &unavailable.to_string(), now);
        }
        true
    }

    /// As in the log shard.
    fn is_lessors_term(&self, term: Term) -> bool {
        self.lessor.leads() && self.lessor_term == term
    }

    /// What was never proposed.
    fn refuse(&mut self, parts: Vec<Part>, reason: &str, now: Instant) {
        for Part { owner, .. } in parts {
            match owner {
                Owner::Call(call) => {
                    self.effects.replies.push((call, Reply::Refused(reason.to_owned())));
                }
                Owner::Lessor(term) if self.is_lessors_term(term) => {
                    self.lessor.failed(now, Unavailable::NoSpace);
                }
                Owner::Refusal(call) => self.effects.replies.push((call, no_space())),
                Owner::V2Expiry => self.v2_expiry.failed(now),
                Owner::Lessor(_) | Owner::V2 | Owner::Nobody => {}
            }
        }
    }

    /// What was proposed, and nobody knows what became of it.
    fn fail(&mut self, parts: Vec<Part>, now: Instant) {
        for Part { owner, .. } in parts {
            match owner {
                Owner::Call(call) => self.effects.replies.push((call, Reply::Unknown)),
                Owner::Refusal(call) => self.effects.replies.push((call, no_space())),
                Owner::Lessor(term) if self.is_lessors_term(term) => {
                    self.lessor.failed(now, Unavailable::LeaderChanged);
                }
                Owner::V2Expiry => self.v2_expiry.failed(now),
                Owner::Lessor(_) | Owner::V2 => {}
                Owner::Nobody => self.is_known = false,
            }
        }
    }

    fn publish(&mut self) {
        let (applied, before) = (self.driver.applied(), self.view.applied());
        self.view = self.driver.publish();
        self.bytes_in_use = self.driver.statistics().bytes_in_use;
        if applied != before {
            self.effects.views.push(self.view.clone());
        }
    }

    fn follow_leases(&mut self, now: Instant, changes: &[LeaseChange]) {
        self.effects.leases.extend_from_slice(changes);
        self.end_former_leadership(now);
        match (self.leads(), self.lessor.leads()) {
            (true, true) => changes.iter().for_each(|change| self.lessor.follow(now, *change)),
            (true, false) => {
                let term = self.driver.term();
                if self.lessor.promote(now, term, &self.view) {
                    self.lessor_term = term;
                }
            }
            (false, _) => {}
        }
    }

    fn end_former_leadership(&mut self, now: Instant) {
        let still_leads = self.leads() && self.driver.term() == self.lessor_term;
        if self.lessor.leads() && !still_leads {
            self.lessor.demote(now);
            self.queue.retain(|(owner, _)| !matches!(owner, Owner::Lessor(_)));
        }
    }

    fn answer(&mut self, now: Instant, applied: Applied) {
        for (parts, outcomes) in applied.outcomes {
            let mut outcomes = outcomes.into_iter();
            for Part { owner, requests } in parts {
                let own: Vec<Outcome> = outcomes.by_ref().take(requests).collect();
                match (owner, own.into_iter().next()) {
                    (Owner::Refusal(call), _) => self.effects.replies.push((call, no_space())),
                    (Owner::Call(call), Some(Ok(response))) => {
                        self.effects.replies.push((call, Reply::Written(response)));
                    }
                    (Owner::Call(call), Some(Err(rejected))) => {
                        self.effects.replies.push((call, Reply::Refused(rejected.to_string())));
                    }
                    (Owner::Lessor(term), _) if self.is_lessors_term(term) => {
                        self.lessor.applied();
                    }
                    (Owner::V2, Some(Ok(Response::V2(outcome)))) => {
                        self.effects.v2.extend(*outcome);
                    }
                    (Owner::V2Expiry, _) => self.v2_expiry.applied(),
                    (Owner::Call(_) | Owner::Lessor(_) | Owner::V2 | Owner::Nobody, _) => {}
                }
            }
        }
        for parts in applied.lost {
            self.fail(parts, now);
        }
        for reader in applied.readable {
            match reader {
                Reader::Range(call, request) => {
                    let reply = read(&self.view, &request);
                    self.effects.replies.push((call, reply));
                }
                Reader::KeepAlive(call, lease) => {
                    let question = urd::api::node::LeaseQuestion::Renew(LeaseId(lease));
                    self.lessor.ask(now, call, question);
                }
            }
        }
    }

    fn prepare(&mut self, now: Instant) {
        if self.is_preparing || self.prepare_from.is_some_and(|from| now < from) {
            return;
        }
        self.prepare_from = None;
        if let Some(prepare) = self.driver.log().prepare() {
            self.is_preparing = true;
            let is_late = self.sites.acts(Site::LateSegment);
            let polls = if is_late { self.sites.below(200) } else { 0 };
            let future = Box::pin(async move {
                wait(polls).await;
                Done::Prepared(prepare.run().await)
            });
            self.effects.jobs.push(Job { future, receives_from: None });
        }
    }

    fn defragment(&mut self) -> bool {
        if self.defragment.is_none() {
            self.defragment = Defragment::begin(&self.asked);
        }
        if self.driver.is_checkpointing() || self.wanted.is_some() {
            return false;
        }
        let Some(defragment) = &mut self.defragment else { return false };
        match defragment.step(&mut self.driver) {
            Step::Checkpoint { cut } => self.wanted = Some(cut),
            Step::Again => return true,
            Step::Done => self.end_defragment(true),
        }
        false
    }

    fn end_defragment(&mut self, is_done: bool) {
        self.wanted = None;
        if let Some(defragment) = self.defragment.take() {
            defragment.end(&self.asked, is_done);
        }
    }

    fn checkpoint(&mut self, now: Instant) {
        let is_due = self.driver.since_checkpoint().entries >= self.settings.checkpoint_entries
            && self.checkpoint_from.is_none_or(|from| now >= from);
        let is_wanted = self.wanted.is_some() || std::mem::take(&mut self.wants_checkpoint);
        if self.driver.is_checkpointing() {
            return;
        }
        let may_be_due = !is_due && !is_wanted && self.driver.since_checkpoint().entries > 0;
        if !(is_due || is_wanted || (may_be_due && self.sites.acts(Site::DueCheckpoint))) {
            return;
        }
        let cut = self.wanted.take().unwrap_or(false);
        let checkpoint = self.driver.begin_checkpoint();
        let file = Rc::clone(&self.file);
        let future = Box::pin(async move {
            let mut written = checkpoint.write(&file).await;
            if cut
                && let Ok(checkpoint) = &written
                && let Err(failure) = file.cut(checkpoint).await
            {
                written = Err(failure);
            }
            Done::Checkpoint(written)
        });
        self.effects.jobs.push(Job { future, receives_from: None });
    }

    /// A state arrives that `message` announces.
    pub(super) fn receive(&mut self, message: Message, state: &View) {
        let (from, sent) = (message.from, Sent::by(&message));
        if self.receives.is_some() {
            self.effects.verdicts.push((sent, false));
            return;
        }
        self.receives = Some(sent);
        let (disk, mut export) = (self.disk.clone(), state.export());
        if self.sites.acts(Site::SmallPieces) {
            export = export.in_chunks_of(PAGE_BYTES);
        }
        let arrive = async move {
            let mut import =
                Import::begin(disk, CHECKPOINT).await.map_err(|error| error.to_string())?;
            while let Some(chunk) = export.next_chunk().map_err(|damage| damage.to_string())? {
                import = import.write(&chunk).await.map_err(|error| error.to_string())?;
            }
            let incoming = import.finish().await.map_err(|error| error.to_string())?;
            arrival::judge(&incoming, &message).await?;
            Ok((message, incoming))
        };
        let future = Box::pin(async move { Done::Received(arrive.await) });
        self.effects.jobs.push(Job { future, receives_from: Some(from) });
    }

    /// The link by which a state arrives is gone.
    pub(super) fn break_off(&mut self) {
        self.effects.verdicts.extend(self.receives.take().map(|sent| (sent, false)));
    }

    /// States whose senders have not heard what became of them: the one that arrives, and those of which this process was
    /// about to tell.
    pub(super) fn unheard(&self) -> Vec<Sent> {
        let told = self.effects.verdicts.iter().map(|(sent, _)| *sent);
        told.chain(self.receives).collect()
    }

    fn begin_install(&mut self) -> Result<(), End> {
        let is_busy = self.driver.writes_in_flight() > 0 || self.driver.is_checkpointing();
        if self.received.is_none() || is_busy {
            return Ok(());
        }
        let Some((message, incoming)) = self.received.take() else { return Ok(()) };
        if !self.driver.wants_snapshot(&message) {
            // It is an old one: raft says so.
            self.driver.step(message)?;
            self.break_off();
            let future = Box::pin(async move {
                incoming.discard().await;
                Done::Nothing
            });
            self.effects.jobs.push(Job { future, receives_from: None });
            return Ok(());
        }
        self.is_installing = true;
        self.end_defragment(false);
        let future = Box::pin(async move {
            let installed = incoming.install().await.map_err(|error| error.to_string());
            Done::Installed(message, Box::new(installed))
        });
        self.effects.jobs.push(Job { future, receives_from: None });
        Ok(())
    }

    /// The disk has done something.
    pub(super) fn done(&mut self, done: Done, now: Instant) -> Result<(), End> {
        let failed = |error: &dyn ToString| End::Disk(error.to_string());
        match done {
            Done::Write(written) => {
                let messages = self.driver.written(written.map_err(|error| failed(&error))?);
                self.effects.messages.extend(messages);
            }
            Done::Prepared(prepared) => {
                self.is_preparing = false;
                if self.driver.log().prepared(prepared).is_err() {
                    self.prepare_from = Some(now + std::time::Duration::from_millis(50));
                }
            }
            Done::Checkpoint(Ok(written)) => self.driver.end_checkpoint(written),
            Done::Checkpoint(Err(checkpoint::Failure::Full { checkpoint, .. })) => {
                self.driver.give_up_checkpoint(&checkpoint);
                self.checkpoint_from = Some(now + std::time::Duration::from_millis(100));
                self.end_defragment(false);
            }
            Done::Checkpoint(Err(failure)) => return Err(failed(&failure)),
            Done::Received(Err(_)) => self.break_off(),
            Done::Received(Ok(arrived)) => self.received = Some(arrived),
            Done::Installed(message, opened) => {
                self.install(message, opened.map_err(End::Disk)?)?
            }
            Done::Nothing => {}
        }
        Ok(())
    }

    fn install(&mut self, message: Message, opened: Opened<MemoryDisk>) -> Result<(), End> {
        let store = Store::open(opened.tree).map_err(|fault| End::Fatal(fault.to_string()))?;
        self.file = Rc::new(opened.file);
        self.driver.install(message, store)?;
        self.is_installing = false;
        self.effects.verdicts.extend(self.receives.take().map(|sent| (sent, true)));
        Ok(())
    }
}

/// Ends when it was polled so often.
async fn wait(mut polls: u64) {
    std::future::poll_fn(|_| match polls.checked_sub(1) {
        Some(left) => {
            polls = left;
            Poll::Pending
        }
        None => Poll::Ready(()),
    })
    .await;
}

fn read(view: &View, request: &RangeRequest) -> Reply {
    match view.range(request) {
        Ok(response) => Reply::Read(response),
        Err(rejected) => Reply::Refused(rejected.to_string()),
    }
}
