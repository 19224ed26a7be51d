//! The operator makes room where the quota is used up, as etcd's users are told to: delete, compact, defragment, look
//! whether there is room, disarm.

use urd_proto::etcdserverpb::AlarmType;
use urd_proto::etcdserverpb::alarm_request::AlarmAction;

use super::Cluster;
use crate::simulator::calls::{Call, CallId};

/// Looks of the operator within which there must be room; then all is done again.
const LOOKS_MAX: u32 = 100;

/// What the operator is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// Nothing; or it is about to delete.
    #[default]
    Idle,
    Deleting,
    Deleted,
    Compacting,
    Compacted,
    /// It has looked so often whether there is room and all is disarmed.
    Waiting(u32),
}

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Room {
    step: Step,
    /// A put by which it looks whether puts are served, and whether that one was.
    put: Option<(CallId, bool)>,
    /// Alarms that members have raised themselves.
    pub(super) alarms: u64,
    /// How often there was room again.
    pub(super) made: u64,
}

impl Room {
    /// What the operator has asked for was answered, or given up.
    pub(super) fn heard(&mut self, call: CallId, is_done: bool) {
        if let Some((put, was_done)) = &mut self.put
            && *put == call
        {
            *was_done = is_done;
            return;
        }
        self.step = match (self.step, is_done) {
            (Step::Deleting, true) => Step::Deleted,
            // A client may have compacted as far before: then there is nothing to compact.
            (Step::Compacting, _) => Step::Compacted,
            (_, _) => Step::Idle,
        };
    }

    pub(super) fn begin_put(&mut self, call: CallId) {
        self.put = Some((call, false));
    }

    pub(super) fn was_put(&self) -> bool {
        self.put.is_some_and(|(_, was_done)| was_done)
    }
}

impl Cluster {
    /// The operator looks for alarms, and sees to them.
    pub(super) fn make_room(&mut self) {
        let Some(alarms) = self.alarms() else { return };
        if alarms.is_empty() {
            self.room.made += u64::from(matches!(self.room.step, Step::Waiting(_)));
            self.room.step = Step::Idle;
            return;
        }
        if self.now < self.alarms_until && !self.is_calm {
            return;
        }
        if !self.settings.space.is_bounded() {
            return self.disarm(&alarms);
        }
        match self.room.step {
            Step::Idle => {
                let delete = self.clients.delete_all(self.now);
                self.operate(Step::Deleting, delete);
            }
            Step::Deleted => {
                let compact = self.clients.compact_all(self.now);
                self.operate(Step::Compacting, compact);
            }
            Step::Compacted => {
                self.tidy();
                self.room.step = Step::Waiting(0);
            }
            Step::Waiting(LOOKS_MAX) => self.room.step = Step::Idle,
            Step::Waiting(looks) => {
                self.room.step = Step::Waiting(looks + 1);
                if self.has_room() {
                    self.disarm(&alarms);
                }
            }
            Step::Deleting | Step::Compacting => {}
        }
    }

    fn operate(&mut self, step: Step, (call, what): (CallId, Call)) {
        self.room.step = step;
        self.send_call(call, what);
    }

    /// The members for whom an alarm is raised, as the leader knows; `None` without one.
    fn alarms(&self) -> Option<Vec<u64>> {
        let mut processes = self.members.values().filter_map(|it| it.process.as_ref());
        let leader = processes.find(|process| process.leads())?;
        let alarms = leader.view.alarms(AlarmType::None);
        Some(alarms.into_iter().map(|alarm| alarm.member_id).collect())
    }

    fn disarm(&mut self, alarms: &[u64]) {
        let mut processes = self.members.values_mut().filter_map(|it| it.process.as_mut());
        let Some(leader) = processes.find(|process| process.leads()) else { return };
        for member in alarms {
            leader.set_alarm(*member, AlarmAction::Deactivate);
        }
    }

    /// All of v2's keys go, and all members are defragmented.
    fn tidy(&mut self) {
        for member in self.members.values_mut() {
            let now = member.clock(self.origin, self.now);
            let Some(process) = &mut member.process else { continue };
            if process.leads() {
                process.delete_v2(now);
            }
            process.ask_defragment();
        }
    }

    /// Whether no member that runs has more than three quarters of its quota in use.
    fn has_room(&self) -> bool {
        let quota = self.settings.space.quota_bytes.unsigned_abs();
        let mut processes = self.members.values().filter_map(|it| it.process.as_ref());
        processes.all(|process| process.bytes_in_use * 4 < quota * 3)
    }
}
