//! What a member does where its quota is used up: by the services' rules, and as an operator wants it.

use std::time::Instant;

use urd::api::call::Status;
use urd::api::quota;
use urd::error::Unavailable;
use urd::ids::MemberId;
use urd::store::command::Command;
use urd_proto::etcdserverpb::alarm_request::AlarmAction;
use urd_proto::etcdserverpb::{AlarmRequest, AlarmType};

use super::{Owner, Process};
use crate::simulator::calls::Reply;

impl Process {
    /// What the services ask before they propose anything.
    pub(super) fn has_no_room(&self, command: &Command) -> bool {
        let quota_bytes = self.settings.space.quota_bytes;
        quota::exceeds(quota_bytes, self.bytes_in_use, quota::cost(command))
    }

    /// Has the alarm raised that says so, unless it is raised.
    pub(super) fn raise_alarm(&mut self, owner: Owner) -> bool {
        let Some(raise) = quota::alarm_to_raise(&self.view, MemberId(self.id)) else {
            return false;
        };
        self.effects.alarms += 1;
        self.enqueue(owner, &Command::Alarm(raise));
        true
    }

    /// An alarm of a member is raised, or disarmed.
    pub(in crate::simulator) fn set_alarm(&mut self, member_id: u64, action: AlarmAction) {
        let (action, alarm) = (action.into(), AlarmType::Nospace.into());
        self.enqueue(Owner::Nobody, &Command::Alarm(AlarmRequest { action, member_id, alarm }));
    }

    /// An operator wants all of v2's keys gone.
    pub(in crate::simulator) fn delete_v2(&mut self, now: Instant) {
        for command in self.traffic.delete_all(now) {
            self.enqueue(Owner::V2, &command);
        }
    }
}

/// What a client is told where there is no room.
pub(super) fn no_space() -> Reply {
    Reply::Refused(Status::from(Unavailable::NoSpace).message.into_owned())
}
