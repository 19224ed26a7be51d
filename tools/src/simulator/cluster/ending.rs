//! The end: nothing goes wrong any more, and the cluster must get well within a bounded time. Then everything that
//! clients, watchers and members have seen is judged.

use std::collections::BTreeMap;

use urd::ids::Index;
use urd_proto::etcdserverpb::AlarmType;

use super::super::settings::{MILLISECOND, SECOND, Time};
use super::super::{Failure, Report, member::Loss, v2};
use super::Cluster;
use crate::checkers::history::Timeline;
use crate::checkers::{linearizability, watching};

/// So long the cluster may take to get well.
const RECOVERY: Time = 120 * SECOND;
/// The same without pre-vote. A member that does not know yet that another one votes asks it for nothing, and raises its own
/// term with every election that it cannot win; the other's requests are of too low a term for it until chance lets them
/// overtake.
const RECOVERY_WITHOUT_PRE_VOTE: Time = 20 * RECOVERY;
/// So much may happen in a [`RECOVERY`], about thirty times what ever does: members that tell each other the same again and
/// again are not well.
const EVENTS: u64 = 1_000_000;

impl Cluster {
    /// Lets the cluster run, get well, and be judged.
    pub(in crate::simulator) fn run(&mut self) -> Result<Report, String> {
        self.run_until(self.settings.duration)?;
        self.calm();
        self.recover()?;
        self.restart_all()?;
        self.recover()?;
        self.put_again()?;
        self.recover()?;
        self.judge()
    }

    /// Whatever has happened, a put is served in the end, once there is room.
    fn put_again(&mut self) -> Result<(), String> {
        let end = self.now + RECOVERY;
        while self.now < end {
            let (call, what) = self.clients.try_put(self.now);
            self.room.begin_put(call);
            self.send_call(call, what);
            self.run_until(self.now + self.settings.patience + MILLISECOND)?;
            if self.room.was_put() {
                return Ok(());
            }
        }
        Err(format!("no put is served within {} s: {}", RECOVERY / SECOND, self.describe()))
    }

    fn calm(&mut self) {
        self.is_calm = true;
        self.network.heal();
        let now = self.now;
        for member in self.members.values_mut() {
            member.disk.set_capacity(u64::MAX);
            member.paused_until = member.paused_until.min(now);
            member.slow = (1, 0);
        }
    }

    /// All members lose their power, and start from what their disks hold.
    fn restart_all(&mut self) -> Result<(), String> {
        let ids: Vec<u64> =
            self.members.iter().filter(|(_, it)| it.process.is_some()).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.lose(id, Loss::Power));
        self.run_until(self.now + self.settings.tick)
    }

    fn recover(&mut self) -> Result<(), String> {
        let time = if self.settings.pre_vote { RECOVERY } else { RECOVERY_WITHOUT_PRE_VOTE };
        let end = self.now + time;
        let (mut step, before) = (10 * self.settings.tick, self.happened);
        while self.now < end {
            self.run_until(self.now + step)?;
            if self.is_well() {
                return Ok(());
            }
            let events = self.happened - before;
            if events > EVENTS * (time / RECOVERY) {
                return Err(format!(
                    "the cluster does not come to rest, {events} events and on: {}",
                    self.describe()
                ));
            }
            step = (2 * step).min(5 * SECOND);
        }
        Err(format!(
            "the cluster does not get well within {} s: {}",
            time / SECOND,
            self.describe()
        ))
    }

    /// Whether a leader knows as many members as there are to be, all run, vote, and have what it has.
    fn is_well(&self) -> bool {
        let processes = || self.members.values().filter_map(|it| it.process.as_ref());
        let Some(leader) = processes().find(|process| process.leads()) else { return false };
        let known = leader.view.members();
        let wanted = usize::try_from(self.settings.members).unwrap_or(usize::MAX);
        let all_run = known.iter().all(|member| {
            let process = self.members.get(&member.id).and_then(|it| it.process.as_ref());
            process.is_some_and(|it| it.view.applied() == leader.view.applied())
        });
        known.len() == wanted
            && known.voters().count() == wanted
            && all_run
            && processes().count() == wanted
            && leader.view.alarms(AlarmType::None).is_empty()
            && leader.driver.last_index() == leader.view.applied()
            && self.clients.under_way.is_empty()
    }

    fn describe(&self) -> String {
        let mut texts = Vec::new();
        for (id, member) in &self.members {
            let text = match (&member.process, &member.hurt) {
                (Some(process), _) => format!(
                    "{id} {} in term {}, applied {}, committed {}, last {}, {} jobs, members {:?}",
                    match process.driver.leader() {
                        Some(leader) if leader.0 == *id => "leads".to_owned(),
                        Some(leader) => format!("follows {leader}"),
                        None => "has no leader".to_owned(),
                    },
                    process.driver.term(),
                    process.view.applied(),
                    process.driver.committed(),
                    process.driver.last_index(),
                    member.jobs.len(),
                    process.view.members().iter().map(|it| it.id).collect::<Vec<_>>()
                ),
                (None, Some(reason)) => format!("{id} is hurt: {reason}"),
                (None, None) if member.is_gone => format!("{id} is gone"),
                (None, None) => format!("{id} is down"),
            };
            texts.push(text);
        }
        texts.push(format!("{} calls under way", self.clients.under_way.len()));
        texts.join("; ")
    }

    /// What is known when something is violated.
    pub(in crate::simulator) fn failure(&mut self, violation: String) -> Failure {
        Failure {
            violation: format!("at {} us: {violation}", self.now),
            history: std::mem::take(&mut self.clients.history),
            events: std::mem::take(&mut self.truth.events),
        }
    }

    fn judge(&mut self) -> Result<Report, String> {
        self.watchers.end();
        let mut states: BTreeMap<Index, (u64, [u32; 2])> = BTreeMap::new();
        for (id, member) in &self.members {
            let Some(process) = &member.process else { continue };
            let view = &process.view;
            let hash = view.hash_kv(0).map_err(|error| error.to_string())?.hash;
            let hash = [hash, view.v2_hash()];
            let (other, expected) = *states.entry(view.applied()).or_insert((*id, hash));
            if hash != expected {
                return Err(format!(
                    "in the end member {id} has hashes {hash:?}, {other} {expected:?}"
                ));
            }
            if let Some(fault) = urd::store::check(view).first() {
                return Err(format!("in the end, member {id}: {fault}"));
            }
            v2::check(view, &self.truth.v2_answered, self.settings.space.v2_history)
                .map_err(|fault| format!("in the end, member {id}: {fault}"))?;
        }
        let events = self.truth.events.iter().cloned();
        let timeline = Timeline::new(events).map_err(|violation| violation.to_string())?;
        linearizability::check(&self.clients.history, &timeline)
            .map_err(|violation| violation.to_string())?;
        linearizability::refusals_by_quota(&self.clients.history)
            .map_err(|violation| violation.to_string())?;
        let truth = watching::Truth::new(&timeline, self.clients.compacted);
        watching::check(&self.watchers.records, &truth)
            .map_err(|violation| violation.to_string())?;
        let watched = self.watchers.records.iter().flat_map(|record| &record.responses);
        let events_watched = watched.map(|(_, response)| response.events.len() as u64).sum();
        let [lost, doubled, late] = self.network.counts;
        Ok(Report {
            simulated: self.now,
            operations: self.clients.history.len() as u64,
            revisions: self.truth.newest(),
            v2_changes: self.truth.v2_answered.len() as u64,
            events_watched,
            faults: self.counts.clone(),
            sites: self.sites.counts(),
            space: [self.clients.refused_for_space, self.room.alarms, self.room.made],
            messages: [lost, doubled, late],
            starts: self.starts,
            states_taken: self.states_taken,
            changes_of_members: self.admin.proposed,
        })
    }
}
