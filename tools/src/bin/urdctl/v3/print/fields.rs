//! `-w fields`: every field of an answer on a line of its own, `"Name" : value`.

use urd_proto::etcdserverpb as pb;
use urd_proto::mvccpb::KeyValue;

use super::super::endpoint::{EndpointHash, EndpointStatus, Health};
use super::simple::event_type;
use super::{Header, Printer};
use crate::go;

fn line(name: &str, value: impl std::fmt::Display) -> String {
    format!("\"{name}\" : {value}\n")
}

fn quoted(name: &str, value: &[u8]) -> String {
    line(name, go::quote(value))
}

/// The id of a cluster or a member.
fn id(printer: Printer, name: &str, id: u64) -> String {
    if printer.hex { line(name, format!("{id:x}")) } else { line(name, id) }
}

fn lease_id(printer: Printer, name: &str, id: i64) -> String {
    if printer.hex { line(name, format!("{id:016x}")) } else { line(name, id) }
}

pub(super) fn header(printer: Printer, header: &Header) -> String {
    let header = header.unwrap_or_default();
    let mut text = id(printer, "ClusterID", header.cluster_id);
    text += &id(printer, "MemberID", header.member_id);
    // Answers that have nothing to do with keys come without one.
    if header.revision > 0 {
        text += &line("Revision", header.revision);
    }
    text + &line("RaftTerm", header.raft_term)
}

fn pair(printer: Printer, prefix: &str, pair: &KeyValue) -> String {
    let name = |field: &str| format!("{prefix}{field}");
    quoted(&name("Key"), &pair.key)
        + &line(&name("CreateRevision"), pair.create_revision)
        + &line(&name("ModRevision"), pair.mod_revision)
        + &line(&name("Version"), pair.version)
        + &quoted(&name("Value"), &pair.value)
        + &lease_id(printer, &name("Lease"), pair.lease)
}

pub(super) fn get(printer: Printer, answer: &pb::RangeResponse) -> String {
    let pairs: String = answer.kvs.iter().map(|kv| pair(printer, "", kv)).collect();
    header(printer, &answer.header)
        + &pairs
        + &line("More", answer.more)
        + &line("Count", answer.count)
}

pub(super) fn put(printer: Printer, answer: &pb::PutResponse) -> String {
    let previous: String = answer.prev_kv.iter().map(|kv| pair(printer, "Prev", kv)).collect();
    header(printer, &answer.header) + &previous
}

pub(super) fn delete(printer: Printer, answer: &pb::DeleteRangeResponse) -> String {
    let previous: String = answer.prev_kvs.iter().map(|kv| pair(printer, "Prev", kv)).collect();
    header(printer, &answer.header) + &line("Deleted", answer.deleted) + &previous
}

pub(super) fn txn(printer: Printer, answer: &pb::TxnResponse) -> String {
    use pb::response_op::Response;
    let mut text = header(printer, &answer.header) + &line("Succeeded", answer.succeeded);
    for response in &answer.responses {
        text += &match &response.response {
            Some(Response::ResponseRange(range)) => get(printer, range),
            Some(Response::ResponsePut(answer)) => put(printer, answer),
            Some(Response::ResponseDeleteRange(range)) => delete(printer, range),
            Some(Response::ResponseTxn(inner)) => txn(printer, inner),
            None => quoted("Unknown", b"<nil>"),
        };
    }
    text
}

pub(super) fn watch(printer: Printer, answer: &pb::WatchResponse) -> String {
    let mut text = header(printer, &answer.header);
    for event in &answer.events {
        text += &line("Type", event_type(event));
        text += &event.prev_kv.iter().map(|kv| pair(printer, "Prev", kv)).collect::<String>();
        text += &pair(printer, "", &event.kv.clone().unwrap_or_default());
    }
    text
}

pub(super) fn lease(printer: Printer, of: &Header, id: i64, ttl: i64) -> String {
    header(printer, of) + &lease_id(printer, "ID", id) + &line("TTL", ttl)
}

pub(super) fn time_to_live(printer: Printer, answer: &pb::LeaseTimeToLiveResponse) -> String {
    let keys: String = answer.keys.iter().map(|key| quoted("Key", key)).collect();
    lease(printer, &answer.header, answer.id, answer.ttl)
        + &line("GrantedTTL", answer.granted_ttl)
        + &keys
}

pub(super) fn leases(printer: Printer, answer: &pb::LeaseLeasesResponse) -> String {
    let ids = answer.leases.iter().map(|lease| lease_id(printer, "ID", lease.id));
    header(printer, &answer.header) + &ids.collect::<String>()
}

pub(super) fn member_list(printer: Printer, answer: &pb::MemberListResponse) -> String {
    let mut text = header(printer, &answer.header);
    for member in &answer.members {
        text += &id(printer, "ID", member.id);
        text += &quoted("Name", member.name.as_bytes());
        for url in &member.peer_ur_ls {
            text += &quoted("PeerURL", url.as_bytes());
        }
        for url in &member.client_ur_ls {
            text += &quoted("ClientURL", url.as_bytes());
        }
        text += &line("IsLearner", member.is_learner);
        text += "\n";
    }
    text
}

pub(super) fn health(endpoints: &[Health]) -> String {
    let one = |health: &Health| {
        quoted("Endpoint", health.endpoint.as_bytes())
            + &line("Health", health.error.is_none())
            + &line("Took", &health.took)
            + &line("Error", health.error.as_deref().unwrap_or_default())
            + "\n"
    };
    endpoints.iter().map(one).collect()
}

pub(super) fn statuses(printer: Printer, endpoints: &[EndpointStatus]) -> String {
    let one = |EndpointStatus { endpoint, status }: &EndpointStatus| {
        let downgrade = status.downgrade_info.clone().unwrap_or_default();
        header(printer, &status.header)
            + &quoted("Version", status.version.as_bytes())
            + &quoted("StorageVersion", status.storage_version.as_bytes())
            + &line("DBSize", status.db_size)
            + &line("DBSizeInUse", status.db_size_in_use)
            + &line("DBSizeQuota", status.db_size_quota)
            + &line("Leader", status.leader)
            + &line("IsLearner", status.is_learner)
            + &line("RaftIndex", status.raft_index)
            + &line("RaftAppliedIndex", status.raft_applied_index)
            + &line("Errors", format!("[{}]", status.errors.join(" ")))
            + &quoted("Endpoint", endpoint.as_bytes())
            + &quoted("DowngradeTargetVersion", downgrade.target_version.as_bytes())
            + &line("DowngradeEnabled", downgrade.enabled)
            + "\n"
    };
    endpoints.iter().map(one).collect()
}

pub(super) fn hashes(printer: Printer, endpoints: &[EndpointHash]) -> String {
    let one = |EndpointHash { endpoint, hash }: &EndpointHash| {
        header(printer, &hash.header)
            + &quoted("Endpoint", endpoint.as_bytes())
            + &line("Hash", hash.hash)
            + &line("HashRevision", hash.hash_revision)
            + "\n"
    };
    endpoints.iter().map(one).collect()
}

pub(super) fn alarms(printer: Printer, answer: &pb::AlarmResponse) -> String {
    let one = |alarm: &pb::AlarmMember| {
        id(printer, "MemberID", alarm.member_id)
            + &line("AlarmType", alarm.alarm().as_str_name())
            + "\n"
    };
    header(printer, &answer.header) + &answer.alarms.iter().map(one).collect::<String>()
}

pub(super) fn role(printer: Printer, answer: &pb::AuthRoleGetResponse) -> String {
    let mut text = header(printer, &answer.header);
    for permission in &answer.perm {
        // etcdctl's line has two spaces here.
        text += &line("PermType", format!(" {}", permission.perm_type().as_str_name()));
        text += &quoted("Key", &permission.key);
        text += &quoted("RangeEnd", &permission.range_end);
    }
    text
}

pub(super) fn roles(printer: Printer, answer: &pb::AuthRoleListResponse) -> String {
    let roles: String =
        answer.roles.iter().map(|role| format!(" {}", go::quote(role.as_bytes()))).collect();
    format!("{}\"Roles\" :{roles}\n", header(printer, &answer.header))
}
