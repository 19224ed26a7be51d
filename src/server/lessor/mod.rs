//! The leader's clock for leases: when each expires, and what is proposed because of it.
//!
//! The store knows which leases there are and for how long they were granted; *when* one is over is decided here, by
//! the monotonic time of the one member that leads, and only takes effect through the log. Time comes in as values.
//!
//! # Proposals
//!
//! At most one entry of the lessor's own is under way ([`Lessor::propose`]), so its outcome is known before the next,
//! and a put waits for no more than one of them. It revokes a bounded number of expired leases, and carries a bounded
//! number of checkpoints. An entry that failed is proposed again after a while.
//!
//! # What survives a leader
//!
//! A new leader, such as this member after a restart, gives each lease what the store says is left of it, from then on:
//! all of its TTL, or less after a *checkpoint*. No lease may end earlier than its holder was told, so:
//!
//! - A checkpoint says what is left at the moment it is proposed, rounded up. A leader that reads it later gives the
//!   lease that much from *then* on: later than it would have ended here, never earlier.
//! - A renewal gives the lease all its TTL again. While the store has a checkpoint of it, or one is under way, a leader to
//!   come would give it less. So the holder is answered only when an entry that clears the checkpoint is applied, and
//!   thus durable. Without a checkpoint there is nothing to clear, and the answer comes from memory.
//! - Between the clearing and the answer no checkpoint can come, since one entry is under way at a time; and the next one
//!   counts from the renewal.
//! - An entry speaks of the leases *as of* what was applied when it was proposed. A lease that is revoked and granted
//!   anew under the same id meanwhile is not touched by it.
//!
//! So a lease may live longer after a crash, by the time since its last checkpoint and the time without a leader. etcd
//! adds an election timeout besides; here a holder that keeps its lease alive has it cleared of checkpoints anyway.
//!
//! Checkpoints cost little: a lease that is renewed before its first checkpoint is due has none, and the interval grows
//! with the number of leases.
//!
//! What this file does not do: it does not read the clock, does no I/O, and does not know shards' channels.

mod wheel;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use urd_proto::etcdserverpb::LeaseCheckpoint;

use self::wheel::{Timer, Wheel};
use crate::api::node::{LeaseAnswer, LeaseQuestion};
use crate::error::Unavailable;
use crate::ids::{LeaseId, Term};
use crate::limits;
use crate::store::View;
use crate::store::command::{BatchBuilder, Command, LeaseCheckpoints, LeaseExpiry};
use crate::store::lease::LeaseChange;

/// The wheel's unit. A lease ends up to so much after its time, and a heartbeat, at which the log shard looks; never
/// before.
const TICK: Duration = Duration::from_millis(100);
/// How long to wait after an entry has failed.
const RETRY: Duration = Duration::from_secs(1);

/// What the store has, or will have when the entry under way is applied, of a lease's remaining TTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    /// All of it.
    Whole,
    /// A checkpoint.
    Part,
    /// A checkpoint that the entry under way clears.
    Clearing,
}

#[derive(Debug)]
struct Timed {
    ttl: Duration,
    expires: Instant,
    stored: Stored,
    /// At its end, or at its next checkpoint. `None`: it has ended.
    timer: Option<Timer>,
}

/// The entry under way.
#[derive(Debug, Default)]
struct UnderWay {
    cleared: Vec<LeaseId>,
    expired: Vec<LeaseId>,
}

/// See the module's page. `A` says who asked.
#[derive(Debug)]
pub struct Lessor<A> {
    leads: bool,
    /// Where the wheel's ticks begin.
    origin: Instant,
    wheel: Wheel<LeaseId>,
    leases: BTreeMap<LeaseId, Timed>,
    /// Leases that have ended and are to be revoked.
    expired: VecDeque<LeaseId>,
    /// Renewed leases with a checkpoint to be cleared.
    clear: VecDeque<LeaseId>,
    /// Leases to be checkpointed.
    checkpoint: VecDeque<LeaseId>,
    /// Who is answered when a lease's checkpoint is cleared, or when it is revoked.
    waiting: BTreeMap<LeaseId, Vec<A>>,
    under_way: Option<UnderWay>,
    /// Not before, because an entry has failed.
    propose_from: Option<Instant>,
    answers: Vec<(A, LeaseAnswer)>,
    renewed: u64,
}

impl<A> Lessor<A> {
    /// A member that does not lead.
    pub fn new(now: Instant) -> Self {
        Self {
            leads: false,
            origin: now,
            wheel: Wheel::new(0),
            leases: BTreeMap::new(),
            expired: VecDeque::new(),
            clear: VecDeque::new(),
            checkpoint: VecDeque::new(),
            waiting: BTreeMap::new(),
            under_way: None,
            propose_from: None,
            answers: Vec::new(),
            renewed: 0,
        }
    }

    /// Whether it was told that this member leads.
    pub fn leads(&self) -> bool {
        self.leads
    }

    /// This member leads in `term` from now on. Not yet, and false, while `view` may lack what earlier leaders did: entries
    /// may be committed and not applied, and what they say of leases is looked up here only. A leader's first entry is
    /// behind all of them.
    pub fn promote(&mut self, now: Instant, term: Term, view: &View) -> bool {
        if view.term() < term {
            return false;
        }
        self.demote(now);
        self.leads = true;
        view.for_each_lease(LeaseId(i64::MIN), usize::MAX, |id, lease| {
            let left = seconds(lease.seconds_left());
            let stored = if lease.remaining == 0 { Stored::Whole } else { Stored::Part };
            let ttl = seconds(lease.ttl);
            self.leases.insert(id, Timed { ttl, expires: now + left, stored, timer: None });
        });
        let ids: Vec<LeaseId> = self.leases.keys().copied().collect();
        for id in ids {
            self.set_timer(id, now);
        }
        true
    }

    /// This member leads no more.
    pub fn demote(&mut self, now: Instant) {
        let mut answers = std::mem::take(&mut self.answers);
        let waiting = std::mem::take(&mut self.waiting).into_values().flatten();
        answers.extend(waiting.map(|asker| (asker, Err(Unavailable::LeaderChanged))));
        *self = Self { answers, renewed: self.renewed, ..Self::new(now) };
    }

    /// An entry was applied, and did this.
    pub fn follow(&mut self, now: Instant, change: LeaseChange) {
        match change {
            LeaseChange::Granted { id, ttl } => {
                let (ttl, stored) = (seconds(ttl), Stored::Whole);
                let timed = Timed { ttl, expires: now + ttl, stored, timer: None };
                self.leases.insert(id, timed);
                self.set_timer(id, now);
            }
            LeaseChange::Revoked { id, .. } => {
                let lease = self.leases.remove(&id);
                if let Some(timer) = lease.and_then(|lease| lease.timer) {
                    self.wheel.remove(timer);
                }
                self.answer_waiting(id, Ok(None));
            }
        }
    }

    /// A question; [`Lessor::take_answers`] has the answer, now or later.
    pub fn ask(&mut self, now: Instant, asker: A, question: LeaseQuestion) {
        let answer = match question {
            _ if !self.leads => Err(Unavailable::NoLeader),
            LeaseQuestion::Remaining(id) => Ok(self.leases.get(&id).map(|lease| {
                let left = lease.expires.saturating_duration_since(now);
                i64::try_from(left.as_secs()).unwrap_or(i64::MAX)
            })),
            LeaseQuestion::Renew(id) => return self.renew(now, asker, id),
        };
        self.answers.push((asker, answer));
    }

    fn renew(&mut self, now: Instant, asker: A, id: LeaseId) {
        let Some(lease) = self.leases.get_mut(&id) else {
            self.answers.push((asker, Ok(None)));
            return;
        };
        if lease.expires <= now {
            // It cannot be saved any more. Its holder hears so once its keys are gone.
            self.waiting.entry(id).or_default().push(asker);
            return;
        }
        self.renewed += 1;
        lease.expires = now + lease.ttl;
        let (stored, ttl) = (lease.stored, whole_seconds(lease.ttl));
        self.set_timer(id, now);
        if stored == Stored::Whole {
            self.answers.push((asker, Ok(Some(ttl))));
            return;
        }
        let waiting = self.waiting.entry(id).or_default();
        if waiting.is_empty() && stored == Stored::Part {
            self.clear.push_back(id);
        }
        waiting.push(asker);
    }

    /// What can be answered by now.
    pub fn take_answers(&mut self) -> Vec<(A, LeaseAnswer)> {
        std::mem::take(&mut self.answers)
    }

    /// Renewals since the last time.
    pub fn take_renewed(&mut self) -> u64 {
        std::mem::take(&mut self.renewed)
    }

    fn answer_waiting(&mut self, id: LeaseId, answer: LeaseAnswer) {
        let waiting = self.waiting.remove(&id).into_iter().flatten();
        self.answers.extend(waiting.map(|asker| (asker, answer)));
    }

    /// Sets a lease's timer to its end, or to its next checkpoint if that is earlier.
    fn set_timer(&mut self, id: LeaseId, now: Instant) {
        let interval = self.checkpoint_interval(id);
        let Some(lease) = self.leases.get_mut(&id) else { return };
        let at = lease.expires.min(now + interval);
        if let Some(timer) = lease.timer.take() {
            self.wheel.remove(timer);
        }
        let tick = at.saturating_duration_since(self.origin).as_nanos().div_ceil(TICK.as_nanos());
        lease.timer = Some(self.wheel.insert(u64::try_from(tick).unwrap_or(u64::MAX), id));
    }

    fn checkpoint_interval(&self, id: LeaseId) -> Duration {
        let ttl = self.leases.get(&id).map_or(Duration::ZERO, |lease| lease.ttl);
        let crowd = self.leases.len() / limits::LEASE_CHECKPOINTS_PER_SECOND;
        limits::LEASE_CHECKPOINT_INTERVAL.max(ttl / 10).max(Duration::from_secs(crowd as u64))
    }

    /// Moves time on. True when there are more timers to look at.
    pub fn advance(&mut self, now: Instant) -> bool {
        let tick = now.saturating_duration_since(self.origin).as_nanos() / TICK.as_nanos();
        let tick = u64::try_from(tick).unwrap_or(u64::MAX);
        let mut due = Vec::new();
        let more = self.wheel.advance(tick, limits::LEASE_TIMERS_PER_PASS, &mut due);
        for id in due {
            let lease = self.leases.get_mut(&id).expect("invariant: a timer goes with its lease");
            lease.timer = None;
            if lease.expires <= now {
                self.expired.push_back(id);
            } else {
                self.checkpoint.push_back(id);
                self.set_timer(id, now);
            }
        }
        more
    }

    /// Has all leases checkpointed, because this member is about to stop.
    pub fn checkpoint_all(&mut self) {
        self.checkpoint = self.leases.keys().copied().collect();
    }

    /// Whether no checkpoint waits to be proposed or applied.
    pub fn is_settled(&self) -> bool {
        self.under_way.is_none() && self.checkpoint.is_empty()
    }

    /// The leases that the next proposal may revoke.
    pub fn due(&self) -> Vec<LeaseId> {
        self.expired.iter().copied().take(limits::LEASES_PER_EXPIRY).collect()
    }

    /// Whether [`Lessor::propose`] would propose something.
    pub fn wants_to_propose(&self, now: Instant) -> bool {
        let waits = self.propose_from.is_some_and(|from| now < from);
        let has_work =
            !(self.expired.is_empty() && self.clear.is_empty() && self.checkpoint.is_empty());
        has_work && !waits && self.under_way.is_none()
    }

    /// What to propose now, if anything; its outcome goes to [`Lessor::applied`] or [`Lessor::failed`]. `view` is the newest.
    pub fn propose(&mut self, now: Instant, view: &View) -> Option<BatchBuilder> {
        if !self.wants_to_propose(now) {
            return None;
        }
        let as_of = view.applied().0;
        let mut batch = BatchBuilder::default();
        let (cleared, checkpoints) = self.next_checkpoints(now);
        if !checkpoints.is_empty() {
            let command = LeaseCheckpoints { as_of, checkpoints };
            batch.append_command(&Command::LeaseCheckpoints(command));
        }
        let expired = self.next_expired(now, view);
        if !expired.is_empty() {
            let leases = expired.iter().map(|id| id.0).collect();
            batch.append_command(&Command::LeaseExpiry(LeaseExpiry { as_of, leases }));
        }
        if batch.is_empty() {
            return None;
        }
        self.under_way = Some(UnderWay { cleared, expired });
        Some(batch)
    }

    /// Checkpoints for the next entry, those to be cleared first: for them somebody waits.
    fn next_checkpoints(&mut self, now: Instant) -> (Vec<LeaseId>, Vec<LeaseCheckpoint>) {
        let (mut cleared, mut checkpoints) = (Vec::new(), Vec::new());
        while checkpoints.len() < limits::LEASE_CHECKPOINTS_PER_ENTRY {
            if let Some(id) = self.clear.pop_front() {
                if let Some(lease) = self.leases.get_mut(&id)
                    && lease.stored == Stored::Part
                {
                    lease.stored = Stored::Clearing;
                    cleared.push(id);
                    checkpoints.push(LeaseCheckpoint { id: id.0, remaining_ttl: 0 });
                }
                continue;
            }
            let Some(id) = self.checkpoint.pop_front() else { break };
            let Some(lease) = self.leases.get_mut(&id) else { continue };
            let left = lease.expires.saturating_duration_since(now);
            let remaining_ttl = whole_seconds(left + Duration::from_nanos(999_999_999));
            let is_news = left > Duration::ZERO && remaining_ttl < whole_seconds(lease.ttl);
            if is_news && lease.stored != Stored::Clearing {
                lease.stored = Stored::Part;
                checkpoints.push(LeaseCheckpoint { id: id.0, remaining_ttl });
            }
        }
        (cleared, checkpoints)
    }

    fn next_expired(&mut self, now: Instant, view: &View) -> Vec<LeaseId> {
        let (mut expired, mut keys) = (Vec::new(), 0);
        while expired.len() < limits::LEASES_PER_EXPIRY && keys < limits::LEASE_KEYS_PER_EXPIRY {
            let Some(id) = self.expired.pop_front() else { break };
            // It may have been revoked, and even granted anew, since its timer was due.
            if self.leases.get(&id).is_some_and(|lease| lease.expires <= now) {
                keys += view.count_attached(id, limits::LEASE_KEYS_PER_EXPIRY);
                expired.push(id);
            }
        }
        expired
    }

    /// The entry under way was applied.
    pub fn applied(&mut self) {
        let Some(UnderWay { cleared, .. }) = self.under_way.take() else { return };
        for id in cleared {
            if let Some(lease) = self.leases.get_mut(&id)
                && lease.stored == Stored::Clearing
            {
                lease.stored = Stored::Whole;
                let ttl = whole_seconds(lease.ttl);
                self.answer_waiting(id, Ok(Some(ttl)));
            }
        }
    }

    /// The entry under way was not proposed, or is lost.
    pub fn failed(&mut self, now: Instant, unavailable: Unavailable) {
        let Some(UnderWay { cleared, expired }) = self.under_way.take() else { return };
        self.propose_from = Some(now + RETRY);
        self.expired.extend(expired);
        // They come again with their timers.
        self.checkpoint.clear();
        for id in cleared {
            if let Some(lease) = self.leases.get_mut(&id)
                && lease.stored == Stored::Clearing
            {
                lease.stored = Stored::Part;
                self.answer_waiting(id, Err(unavailable));
            }
        }
    }
}

/// A TTL; what is negative is over.
fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
