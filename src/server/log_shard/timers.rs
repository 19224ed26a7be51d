//! The leader's clocks: the lessor's, and that of v2's expirations. What they find due they propose, an entry of each at a
//! time, and they follow what is applied.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use urd_wal::disk::Disk;

use super::super::mesh::{Key, ToShard};
use super::proposals::Owner;
use super::{Asker, LogShard};
use crate::api::node::LeaseAnswer;
use crate::api::operations::Operations;
use crate::store::lease::LeaseChange;

impl<D: Disk + 'static> LogShard<D> {
    /// Lets the lessor's time go on. True when it has more timers to look at.
    pub(super) fn propose_about_leases(&mut self) -> bool {
        // The messages of this very pass may have told of a new leader, with whom leases were renewed while this member
        // slept. What the lessor took for expired would be forwarded to it, and end them.
        self.end_former_leadership();
        let now = Instant::now();
        let more = self.lessor.advance(now);
        if self.lessor.wants_to_propose(now) && self.may_propose_about_leases() {
            let published = self.shared.published.load();
            if let Some(batch) = self.lessor.propose(now, &published.view) {
                self.enqueue(Owner::Lessor(self.lessor_term), batch);
            }
        }
        more
    }

    /// Tells the lessor what has become of leadership and of leases.
    pub(super) fn follow_leases(&mut self, changes: &[LeaseChange]) {
        self.end_former_leadership();
        let now = Instant::now();
        match (self.driver.leads(), self.lessor.leads()) {
            (true, true) => changes.iter().for_each(|change| self.lessor.follow(now, *change)),
            (true, false) => {
                let term = self.driver.term();
                if self.lessor.promote(now, term, &self.shared.published.load().view) {
                    self.lessor_term = term;
                }
            }
            (false, _) => {}
        }
    }

    /// Lets the lessor know if this member leads no more, or in another term: somebody else may have led in between.
    fn end_former_leadership(&mut self) {
        let still_leads = self.driver.leads() && self.driver.term() == self.lessor_term;
        if self.lessor.leads() && !still_leads {
            self.lessor.demote(Instant::now());
            self.forget_lessors_batch();
        }
    }

    pub(super) fn answer_about_leases(&mut self) {
        let leases_renewed = self.lessor.take_renewed();
        if leases_renewed > 0 {
            self.shared.metrics.operations(&Operations { leases_renewed, ..Operations::default() });
        }
        let mut answers: Vec<Vec<(Key, LeaseAnswer)>> = Vec::new();
        for (asker, answer) in self.lessor.take_answers() {
            let (shard, key) = match asker {
                Asker::Shard { shard, key } => (shard, key),
                Asker::Remote { call, nth } => {
                    self.note_remote_answer(call, nth, answer);
                    continue;
                }
            };
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

    /// Has nodes of v2 expire whose time is over.
    pub(super) fn propose_v2_expiry(&mut self) {
        if !self.driver.leads() {
            return;
        }
        self.v2_expiry.follow(&self.shared.published.load().view);
        if let Some(batch) = self.v2_expiry.propose(Instant::now(), unix_nanoseconds()) {
            self.enqueue(Owner::V2Expiry, batch);
        }
    }

    /// Whether more nodes are to expire now.
    pub(super) fn wants_v2_expiry(&mut self) -> bool {
        if !self.driver.leads() {
            return false;
        }
        self.v2_expiry.follow(&self.shared.published.load().view);
        self.v2_expiry.wants_to_propose(Instant::now(), unix_nanoseconds())
    }
}

fn unix_nanoseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
