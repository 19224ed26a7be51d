//! `-w simple`: keys and values, a line each.

use urd_proto::authpb::{Permission, permission};
use urd_proto::etcdserverpb as pb;
use urd_proto::mvccpb::{Event, KeyValue, event::EventType};

use super::super::client::prefix_end;
use super::super::endpoint::Health;
use super::Printer;

pub(super) fn get(printer: Printer, answer: &pb::RangeResponse) -> Vec<u8> {
    let mut out = Vec::new();
    pairs(printer, &answer.kvs, &mut out);
    out
}

pub(super) fn put(printer: Printer, answer: &pb::PutResponse) -> Vec<u8> {
    let mut out = b"OK\n".to_vec();
    pairs(printer, answer.prev_kv.as_slice(), &mut out);
    out
}

pub(super) fn delete(printer: Printer, answer: &pb::DeleteRangeResponse) -> Vec<u8> {
    let mut out = format!("{}\n", answer.deleted).into_bytes();
    pairs(printer, &answer.prev_kvs, &mut out);
    out
}

pub(super) fn txn(printer: Printer, answer: &pb::TxnResponse) -> Vec<u8> {
    use pb::response_op::Response;
    let mut out = if answer.succeeded { b"SUCCESS\n".to_vec() } else { b"FAILURE\n".to_vec() };
    for response in &answer.responses {
        out.push(b'\n');
        out.extend(match &response.response {
            Some(Response::ResponseRange(range)) => get(printer, range),
            Some(Response::ResponsePut(answer)) => put(printer, answer),
            Some(Response::ResponseDeleteRange(range)) => delete(printer, range),
            Some(Response::ResponseTxn(inner)) => txn(printer, inner),
            None => b"unexpected response\n".to_vec(),
        });
    }
    out
}

pub(super) fn watch(printer: Printer, answer: &pb::WatchResponse) -> Vec<u8> {
    let mut out = Vec::new();
    for event in &answer.events {
        out.extend(format!("{}\n", event_type(event)).into_bytes());
        pairs(printer, event.prev_kv.as_slice(), &mut out);
        pairs(printer, &[event.kv.clone().unwrap_or_default()], &mut out);
    }
    out
}

pub(crate) fn event_type(event: &Event) -> &'static str {
    match event.r#type() {
        EventType::Put => "PUT",
        EventType::Delete => "DELETE",
    }
}

fn pairs(printer: Printer, pairs: &[KeyValue], out: &mut Vec<u8>) {
    let mut line = |bytes: &[u8]| {
        if printer.hex {
            bytes.iter().for_each(|byte| out.extend(format!("\\x{byte:02x}").into_bytes()));
        } else {
            out.extend_from_slice(bytes);
        }
        out.push(b'\n');
    };
    for pair in pairs {
        if !printer.value_only {
            line(&pair.key);
        }
        line(&pair.value);
    }
}

pub(super) fn time_to_live(answer: &pb::LeaseTimeToLiveResponse, keys: bool) -> Vec<u8> {
    if answer.granted_ttl == 0 && answer.ttl == -1 {
        return format!("lease {:016x} already expired\n", answer.id).into_bytes();
    }
    let mut out = format!(
        "lease {:016x} granted with TTL({}s), remaining({}s)",
        answer.id, answer.granted_ttl, answer.ttl
    )
    .into_bytes();
    if keys {
        out.extend_from_slice(b", attached keys([");
        out.extend_from_slice(&answer.keys.join(&b' '));
        out.extend_from_slice(b"])");
    }
    out.push(b'\n');
    out
}

pub(super) fn leases(answer: &pb::LeaseLeasesResponse) -> String {
    let ids = answer.leases.iter().map(|lease| format!("{:016x}\n", lease.id));
    format!("found {} leases\n{}", answer.leases.len(), ids.collect::<String>())
}

pub(super) fn alarms(answer: &pb::AlarmResponse) -> String {
    let line = |alarm: &pb::AlarmMember| {
        // What is zero is left out, as in any message's text.
        let member = if alarm.member_id == 0 {
            String::new()
        } else {
            format!("memberID:{} ", alarm.member_id)
        };
        let kind = match alarm.alarm() {
            pb::AlarmType::None => String::new(),
            kind => format!("alarm:{} ", kind.as_str_name()),
        };
        format!("{member}{kind}\n")
    };
    answer.alarms.iter().map(line).collect()
}

/// What is unhealthy goes to standard error.
pub(super) fn health(endpoints: &[Health]) -> String {
    let mut out = String::new();
    for health in endpoints {
        match &health.error {
            None => {
                out += &format!(
                    "{} is healthy: successfully committed proposal: took = {}\n",
                    health.endpoint, health.took
                );
            }
            Some(error) => {
                eprintln!("{} is unhealthy: failed to commit proposal: {error}", health.endpoint);
            }
        }
    }
    out
}

pub(super) fn role(name: &str, answer: &pb::AuthRoleGetResponse) -> Vec<u8> {
    let mut out = format!("Role {name}\n").into_bytes();
    let is_all_powerful = name == "root" && answer.perm.is_empty();
    for (title, wanted) in
        [("KV Read:\n", permission::Type::Read), ("KV Write:\n", permission::Type::Write)]
    {
        out.extend_from_slice(title.as_bytes());
        if is_all_powerful {
            out.extend_from_slice(b"\t[, <open ended>\n");
        }
        let permits = |permission: &&Permission| {
            [wanted, permission::Type::Readwrite].contains(&permission.perm_type())
        };
        for permission in answer.perm.iter().filter(permits) {
            range_of(permission, &mut out);
        }
    }
    out
}

fn range_of(permission: &Permission, out: &mut Vec<u8>) {
    let (key, end) = (&permission.key, &permission.range_end);
    out.push(b'\t');
    if end.is_empty() {
        out.extend_from_slice(key);
    } else {
        out.push(b'[');
        out.extend_from_slice(key);
        out.extend_from_slice(b", ");
        if end.as_ref() == b"\0" {
            out.extend_from_slice(b"<open ended>");
        } else {
            out.extend_from_slice(end);
            out.push(b')');
        }
        if !key.is_empty() && prefix_end(key) == *end {
            out.extend_from_slice(b" (prefix ");
            out.extend_from_slice(key);
            out.push(b')');
        }
    }
    out.push(b'\n');
}
