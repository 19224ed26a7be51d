//! `-w json`: messages as Go's encoder of structs prints them.
//!
//! Any message is printed from its descriptor: fields in their order, under their names in the `.proto` file, without
//! those that are zero; numbers as numbers, bytes in base64. Some answers etcdctl keeps in types of its own, whose JSON
//! differs; those have a function each.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};
use urd_proto::etcdserverpb as pb;
use urd_proto::mvccpb::Event;

use super::super::endpoint::{EndpointHash, EndpointStatus, Health};
use super::{Header, Named};
use crate::go::json_string as string;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(urd_proto::FILE_DESCRIPTOR_SET).expect("our own descriptors can be read")
});

/// Any message.
pub(super) fn message<M: Named>(message: &M) -> String {
    of_type(M::NAME, message)
}

fn of_type(name: &str, message: &impl Message) -> String {
    let descriptor = POOL.get_message_by_name(name).expect("our own messages have descriptors");
    let dynamic = DynamicMessage::decode(descriptor, &message.encode_to_vec()[..]);
    object(&dynamic.expect("a message can be read back"))
}

fn object(message: &DynamicMessage) -> String {
    let mut members = Vec::new();
    for field in message.descriptor().fields().filter(|field| message.has_field(field)) {
        let value = message.get_field(&field);
        let member = format!("{}:{}", string(field.name()), self::value(&value));
        if field.containing_oneof().is_some() {
            // One of several: in etcd's Go types an object of its own, named `Response`.
            members.push(format!("\"Response\":{{{member}}}"));
        } else {
            members.push(member);
        }
    }
    format!("{{{}}}", members.join(","))
}

fn value(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::I32(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::U32(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        Value::EnumNumber(value) => value.to_string(),
        Value::F32(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        Value::String(text) => string(text),
        Value::Bytes(bytes) => base64(bytes),
        Value::Message(message) => object(message),
        Value::List(values) => list(values.iter().map(self::value)),
        // etcd's messages have no maps.
        Value::Map(_) => "{}".to_owned(),
    }
}

fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(","))
}

fn base64(bytes: &[u8]) -> String {
    format!("\"{}\"", BASE64.encode(bytes))
}

/// A header's members, to be followed by others of the same object.
fn flattened(header: &Header) -> String {
    let Some(header) = header else { return String::new() };
    let members = of_type("etcdserverpb.ResponseHeader", header);
    let members = members.trim_start_matches('{').trim_end_matches('}');
    if members.is_empty() { String::new() } else { format!("{members},") }
}

pub(super) fn lease_grant(answer: &pb::LeaseGrantResponse) -> String {
    let (header, error) = (flattened(&answer.header), string(&answer.error));
    format!("{{{header}\"ID\":{},\"TTL\":{},\"Error\":{error}}}\n", answer.id, answer.ttl)
}

pub(super) fn keep_alive(answer: &pb::LeaseKeepAliveResponse) -> String {
    format!("{{{}\"ID\":{},\"TTL\":{}}}\n", flattened(&answer.header), answer.id, answer.ttl)
}

pub(super) fn time_to_live(answer: &pb::LeaseTimeToLiveResponse) -> String {
    let keys = match &answer.keys[..] {
        [] => "null".to_owned(),
        keys => list(keys.iter().map(|key| base64(key))),
    };
    format!(
        "{{{}\"id\":{},\"ttl\":{},\"granted-ttl\":{},\"keys\":{keys}}}\n",
        flattened(&answer.header),
        answer.id,
        answer.ttl,
        answer.granted_ttl
    )
}

pub(super) fn leases(answer: &pb::LeaseLeasesResponse) -> String {
    let leases = list(answer.leases.iter().map(|lease| format!("{{\"id\":{}}}", lease.id)));
    format!("{{{}\"leases\":{leases}}}\n", flattened(&answer.header))
}

pub(super) fn watch(answer: &pb::WatchResponse) -> String {
    let header = answer
        .header
        .as_ref()
        .map_or("null".to_owned(), |header| of_type("etcdserverpb.ResponseHeader", header));
    let events = list(answer.events.iter().map(event));
    format!(
        "{{\"Header\":{header},\"Events\":{events},\"CompactRevision\":{},\"Canceled\":{},\"Created\":{}}}\n",
        answer.compact_revision, answer.canceled, answer.created
    )
}

fn event(event: &Event) -> String {
    of_type("mvccpb.Event", event)
}

/// With ids in hexadecimal, which only members have.
pub(super) fn hex_members(
    header: &Header,
    member: Option<&pb::Member>,
    members: &[pb::Member],
) -> String {
    let header = header.unwrap_or_default();
    let mut head = format!(
        "\"cluster_id\":\"{:x}\",\"member_id\":\"{:x}\"",
        header.cluster_id, header.member_id
    );
    if header.revision != 0 {
        head += &format!(",\"revision\":{}", header.revision);
    }
    if header.raft_term != 0 {
        head += &format!(",\"raft_term\":{}", header.raft_term);
    }
    let member =
        member.map_or(String::new(), |member| format!("\"member\":{},", hex_member(member)));
    let members = list(members.iter().map(hex_member));
    format!("{{\"header\":{{{head}}},{member}\"members\":{members}}}\n")
}

fn hex_member(member: &pb::Member) -> String {
    let rest = of_type("etcdserverpb.Member", &pb::Member { id: 0, ..member.clone() });
    let rest = rest.trim_start_matches('{');
    let comma = if rest == "}" { "" } else { "," };
    format!("{{\"ID\":\"{:x}\"{comma}{rest}", member.id)
}

pub(super) fn health(endpoints: &[Health]) -> String {
    let one = |health: &Health| {
        let error = health
            .error
            .as_ref()
            .map_or(String::new(), |error| format!(",\"error\":{}", string(error)));
        format!(
            "{{\"endpoint\":{},\"health\":{},\"took\":{}{error}}}",
            string(&health.endpoint),
            health.error.is_none(),
            string(&health.took)
        )
    };
    list(endpoints.iter().map(one)) + "\n"
}

pub(super) fn statuses(endpoints: &[EndpointStatus]) -> String {
    let one = |EndpointStatus { endpoint, status }: &EndpointStatus| {
        let status = of_type("etcdserverpb.StatusResponse", status);
        format!("{{\"Endpoint\":{},\"Status\":{status}}}", string(endpoint))
    };
    nothing_is_null(endpoints.iter().map(one))
}

pub(super) fn hashes(endpoints: &[EndpointHash]) -> String {
    let one = |EndpointHash { endpoint, hash }: &EndpointHash| {
        let hash = of_type("etcdserverpb.HashKVResponse", hash);
        format!("{{\"Endpoint\":{},\"HashKV\":{hash}}}", string(endpoint))
    };
    nothing_is_null(endpoints.iter().map(one))
}

/// In Go a list to which nothing was appended is none.
fn nothing_is_null(values: impl ExactSizeIterator<Item = String>) -> String {
    if values.len() == 0 { "null\n".to_owned() } else { list(values) + "\n" }
}

#[cfg(test)]
mod tests {
    use urd_proto::mvccpb::KeyValue;

    use super::*;

    #[test]
    fn messages_are_printed_as_go_does() {
        let kv = KeyValue {
            key: "a".into(),
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            value: "<&>".into(),
            lease: 0,
        };
        let range = pb::RangeResponse {
            header: Some(pb::ResponseHeader {
                cluster_id: u64::MAX,
                revision: 3,
                ..Default::default()
            }),
            kvs: vec![kv],
            more: false,
            count: 1,
        };
        let expected = "{\"header\":{\"cluster_id\":18446744073709551615,\"revision\":3},\"kvs\":[{\"key\":\"YQ==\",\
             \"create_revision\":2,\"mod_revision\":3,\"version\":2,\"value\":\"PCY+\"}],\"count\":1}";
        assert_eq!(message(&range), expected);
        let response = pb::response_op::Response::ResponseRange(pb::RangeResponse::default());
        let txn = pb::TxnResponse {
            header: None,
            succeeded: true,
            responses: vec![pb::ResponseOp { response: Some(response) }],
        };
        assert_eq!(
            message(&txn),
            "{\"succeeded\":true,\"responses\":[{\"Response\":{\"response_range\":{}}}]}"
        );
        assert_eq!(string("a<\u{1}\"\u{e9}"), "\"a\\u003c\\u0001\\\"\u{e9}\"");
    }
}
