//! Alarms: what is wrong with which member, as long as nobody disarms it.
//!
//! They are raised and disarmed by requests through the log, so every member refuses the same from the same entry on:
//! with `NOSPACE` whatever makes the data grow, with `CORRUPT` whatever changes it. Reads are always allowed, and so
//! is what the leader does about expired leases.
//!
//! Who raises one, and why, is not this file's business.

use urd_proto::etcdserverpb::alarm_request::AlarmAction;
use urd_proto::etcdserverpb::request_op::Request;
use urd_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, RequestOp, TxnRequest,
};

use super::command::Command;
use super::keys;
use super::range_scan::header;
use super::view::View;
use crate::error::Rejected;
use crate::ids::Revision;
use crate::tree::{Counted, Cursor, Read, Tree};

/// Which alarms some member has raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Raised {
    no_space: bool,
    corrupt: bool,
}

impl Raised {
    pub(super) fn read<R: Read>(reader: &R) -> Self {
        let mut raised = Self::default();
        for_each(reader, |alarm| match alarm.alarm() {
            AlarmType::Nospace => raised.no_space = true,
            AlarmType::Corrupt => raised.corrupt = true,
            AlarmType::None => {}
        });
        raised
    }

    /// Why a request may not be carried out.
    pub(super) fn refusal(self, command: &Command) -> Option<Rejected> {
        let changes = matches!(
            command,
            Command::Put(_)
                | Command::DeleteRange(_)
                | Command::Txn(_)
                | Command::Compaction(_)
                | Command::LeaseGrant(_)
                | Command::LeaseRevoke(_)
                | Command::V2(_)
        );
        if self.corrupt && changes {
            return Some(Rejected::Corrupt);
        }
        (self.no_space && grows(command)).then_some(Rejected::NoSpace)
    }
}

/// Whether a request may make the data grow. A transaction that deletes and puts does.
fn grows(command: &Command) -> bool {
    match command {
        Command::Put(_) | Command::LeaseGrant(_) => true,
        Command::Txn(request) => has_put(request),
        Command::V2(request) => request.may_grow(),
        _ => false,
    }
}

fn has_put(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|op: &RequestOp| match &op.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(inner)) => has_put(inner),
        _ => false,
    })
}

/// Carries out a request that raises or disarms; one that only asks changes nothing.
pub(super) fn apply(tree: &mut Tree, revision: Revision, request: &AlarmRequest) -> AlarmResponse {
    let alarm = AlarmMember { member_id: request.member_id, alarm: request.alarm };
    let mut key = Vec::new();
    keys::alarm(&mut key, alarm.alarm, alarm.member_id);
    let is_known = alarm.alarm() != AlarmType::None;
    let alarms = match request.action() {
        AlarmAction::Get => list(tree, request.alarm()),
        AlarmAction::Activate if is_known => {
            tree.insert(&key, b"", Counted::No);
            vec![alarm]
        }
        AlarmAction::Deactivate if tree.remove(&key) => vec![alarm],
        AlarmAction::Activate | AlarmAction::Deactivate => Vec::new(),
    };
    AlarmResponse { header: header(revision), alarms }
}

fn list<R: Read>(reader: &R, wanted: AlarmType) -> Vec<AlarmMember> {
    let mut alarms = Vec::new();
    for_each(reader, |alarm| {
        if wanted == AlarmType::None || wanted == alarm.alarm() {
            alarms.push(alarm);
        }
    });
    alarms
}

fn for_each<R: Read>(reader: &R, mut show: impl FnMut(AlarmMember)) {
    let mut key = Vec::new();
    keys::alarm(&mut key, 0, 0);
    let mut cursor = reader.cursor();
    cursor.seek(&key);
    while cursor.valid()
        && let Some((alarm, member_id)) = keys::alarm_key(cursor.key())
    {
        show(AlarmMember { member_id, alarm });
        cursor.next();
    }
}

impl View {
    /// The alarms of a kind that are raised; of all kinds for [`AlarmType::None`].
    #[must_use]
    pub fn alarms(&self, wanted: AlarmType) -> Vec<AlarmMember> {
        list(self.snapshot(), wanted)
    }
}
