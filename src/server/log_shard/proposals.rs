//! What waits to be proposed: batches of shards, of the lessor and of this member itself, joined into entries.
//!
//! Without a leader, or while one hands over, batches wait for the next, for as long as a request may take.

use std::rc::Rc;
use std::time::Instant;

use urd_wal::disk::Disk;

use super::super::mesh::{Key, ToShard};
use super::LogShard;
use crate::error::Unavailable;
use crate::ids::Term;
use crate::limits;
use crate::store::command::BatchBuilder;

/// A share of an entry: whose it is, and how many of the entry's requests are its own.
pub struct Part {
    pub(super) owner: Owner,
    pub(super) requests: usize,
}

/// Who proposed a batch.
#[derive(Clone, Copy)]
pub(super) enum Owner {
    Shard {
        shard: usize,
        key: Key,
    },
    /// In this term.
    Lessor(Term),
    V2Expiry,
}

/// A batch that waits to be proposed, of one shard or joined of several.
pub(super) struct Queued {
    pub(super) since: Instant,
    pub(super) parts: Vec<Part>,
    pub(super) batch: BatchBuilder,
}

impl<D: Disk + 'static> LogShard<D> {
    pub(super) fn enqueue(&mut self, owner: Owner, batch: BatchBuilder) {
        self.queued_requests += batch.len();
        self.queued_bytes += batch.byte_len();
        let parts = vec![Part { owner, requests: batch.len() }];
        self.queue.push_back(Queued { since: Instant::now(), parts, batch });
    }

    /// What the lessor wanted to say in an earlier term must not be said in a later one: it may be wrong by then.
    pub(super) fn forget_lessors_batch(&mut self) {
        let is_lessors = |queued: &Queued| {
            queued.parts.iter().any(|part| matches!(part.owner, Owner::Lessor(_)))
        };
        if let Some(at) = self.queue.iter().position(is_lessors)
            && let Some(Queued { parts, batch, .. }) = self.queue.remove(at)
        {
            self.forget(&batch);
            // Others may have been joined to it.
            self.fail(parts, Unavailable::NoLeader);
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

    /// Whether one request is all there is to do, and soon done: then the thread waits for its write, once the messages
    /// for other members have left. Whoever comes meanwhile could not have been written earlier, since a small write waits
    /// for the one before it.
    pub(super) fn is_lone_request(&self) -> bool {
        self.queued_requests == 1
            && self.driver.writes_in_flight() == 0
            && self.is_quick_to_write()
            && (self.driver.is_alone() || self.driver.leads())
    }

    /// Whether a few entries of the leader's are all there is to do, and soon done: then the thread waits for their write,
    /// and the acknowledgement leaves without a turn through io_uring and the executor.
    pub(super) fn is_lone_append(&self) -> bool {
        (1..=limits::LONE_APPEND_BYTES_MAX).contains(&self.appended_bytes)
            && self.driver.writes_in_flight() == 0
            && self.queue.is_empty()
            && !self.driver.leads()
            && self.is_quick_to_write()
    }

    /// Whether a small write is worth waiting for with the thread.
    fn is_quick_to_write(&self) -> bool {
        !self.inbox.reads_seen.get()
            && !self.inbox.warming.is_on()
            && self.inbox.write_time.get() < limits::LONE_WRITE_TIME_MAX
    }

    /// Makes one entry of the queue, if it is worth one. Says whether it did.
    pub(super) fn propose(&mut self) -> bool {
        if !self.driver.can_propose() || !self.worth_a_write() || self.is_pausing() {
            return false;
        }
        let Some(Queued { since, mut parts, mut batch }) = self.queue.pop_front() else {
            return false;
        };
        while let Some(next) = self.queue.pop_front_if(|next| {
            batch.byte_len() + next.batch.byte_len() <= limits::BATCH_BYTES
                && batch.len() + next.batch.len() <= limits::BATCH_REQUESTS_MAX
        }) {
            batch.join(&next.batch);
            parts.extend(next.parts);
        }
        if self.driver.leads() && !self.driver.has_room(1, batch.byte_len()) {
            if self.prepare_from.is_none() {
                // The next segment is being made; its coming starts another pass.
                self.queue.push_front(Queued { since, parts, batch });
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

    /// Batches that found no leader in time.
    pub(super) fn end_overdue_batches(&mut self, now: Instant) {
        while let Some(Queued { parts, batch, .. }) = self
            .queue
            .pop_front_if(|first| now.duration_since(first.since) > limits::REQUEST_TIMEOUT)
        {
            self.forget(&batch);
            self.fail(parts, Unavailable::TimedOut);
        }
    }

    /// Whether the lessor still waits for what it proposed in `term`: what it is told of another term is not about that.
    pub(super) fn is_lessors_term(&self, term: Term) -> bool {
        self.lessor.leads() && self.lessor_term == term
    }

    pub(super) fn fail(&mut self, parts: Vec<Part>, unavailable: Unavailable) {
        for Part { owner, requests } in parts {
            self.shared.metrics.failed(requests);
            match owner {
                Owner::Shard { shard, key } => {
                    self.tell(shard, ToShard::Failed { key, unavailable });
                }
                Owner::Lessor(term) if self.is_lessors_term(term) => {
                    self.lessor.failed(Instant::now(), unavailable);
                }
                Owner::Lessor(_) => {}
                Owner::V2Expiry => self.v2_expiry.failed(Instant::now()),
            }
        }
    }
}
