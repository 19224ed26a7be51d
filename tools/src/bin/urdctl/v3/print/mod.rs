//! Answers in the format that `-w` names.
//!
//! [`simple`] and [`fields`] say something else for each kind of answer; [`json`] and protobuf print any message as it is;
//! [`table`] knows four of them. What a format cannot show is refused with etcdctl's exit code.

mod fields;
mod json;
mod simple;
pub(crate) use simple::event_type;
pub(crate) mod table;

use std::io::{self, Write};

use prost::Message;
use urd_proto::etcdserverpb as pb;

use super::endpoint::{EndpointHash, EndpointStatus, Health};
use crate::failure::Failure;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

/// How to print.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    pub format: Format,
    pub hex: bool,
    /// Values without their keys, in simple output.
    pub value_only: bool,
}

/// A message with the name by which the descriptors know it.
pub(crate) trait Named: Message {
    const NAME: &'static str;
}

macro_rules! named {
    ($($message:ident = $name:literal,)*) => {
        $(impl Named for pb::$message {
            const NAME: &'static str = concat!("etcdserverpb.", $name);
        })*
    };
}

named! {
    RangeResponse = "RangeResponse",
    PutResponse = "PutResponse",
    DeleteRangeResponse = "DeleteRangeResponse",
    TxnResponse = "TxnResponse",
    LeaseRevokeResponse = "LeaseRevokeResponse",
    MemberAddResponse = "MemberAddResponse",
    MemberRemoveResponse = "MemberRemoveResponse",
    MemberUpdateResponse = "MemberUpdateResponse",
    MemberPromoteResponse = "MemberPromoteResponse",
    MemberListResponse = "MemberListResponse",
    AlarmResponse = "AlarmResponse",
    MoveLeaderResponse = "MoveLeaderResponse",
    DowngradeResponse = "DowngradeResponse",
    AuthStatusResponse = "AuthStatusResponse",
    AuthUserAddResponse = "AuthUserAddResponse",
    AuthUserGetResponse = "AuthUserGetResponse",
    AuthUserListResponse = "AuthUserListResponse",
    AuthUserDeleteResponse = "AuthUserDeleteResponse",
    AuthUserChangePasswordResponse = "AuthUserChangePasswordResponse",
    AuthUserGrantRoleResponse = "AuthUserGrantRoleResponse",
    AuthUserRevokeRoleResponse = "AuthUserRevokeRoleResponse",
    AuthRoleAddResponse = "AuthRoleAddResponse",
    AuthRoleGetResponse = "AuthRoleGetResponse",
    AuthRoleListResponse = "AuthRoleListResponse",
    AuthRoleDeleteResponse = "AuthRoleDeleteResponse",
    AuthRoleGrantPermissionResponse = "AuthRoleGrantPermissionResponse",
    AuthRoleRevokePermissionResponse = "AuthRoleRevokePermissionResponse",
}

type Header = Option<pb::ResponseHeader>;
/// How an answer looks in one format; nothing where that format cannot show it.
type Shown = Option<String>;

impl Printer {
    pub(crate) fn get(&self, answer: &pb::RangeResponse) -> Result<(), Failure> {
        match self.format {
            Format::Simple => put_bytes(&simple::get(*self, answer)),
            _ => self.show(answer, None, Some(fields::get(*self, answer))),
        }
    }

    pub(crate) fn put(&self, answer: &pb::PutResponse) -> Result<(), Failure> {
        match self.format {
            Format::Simple => put_bytes(&simple::put(*self, answer)),
            _ => self.show(answer, None, Some(fields::put(*self, answer))),
        }
    }

    pub(crate) fn delete(&self, answer: &pb::DeleteRangeResponse) -> Result<(), Failure> {
        match self.format {
            Format::Simple => put_bytes(&simple::delete(*self, answer)),
            _ => self.show(answer, None, Some(fields::delete(*self, answer))),
        }
    }

    pub(crate) fn txn(&self, answer: &pb::TxnResponse) -> Result<(), Failure> {
        match self.format {
            Format::Simple => put_bytes(&simple::txn(*self, answer)),
            _ => self.show(answer, None, Some(fields::txn(*self, answer))),
        }
    }

    pub(crate) fn watch(&self, answer: &pb::WatchResponse) -> Result<(), Failure> {
        match self.format {
            Format::Simple => put_bytes(&simple::watch(*self, answer)),
            Format::Fields => put_text(&fields::watch(*self, answer)),
            Format::Json => put_text(&json::watch(answer)),
            Format::Protobuf => {
                // etcdctl's has these fields and no others.
                let answer = pb::WatchResponse {
                    header: answer.header,
                    created: answer.created,
                    canceled: answer.canceled,
                    compact_revision: answer.compact_revision,
                    events: answer.events.clone(),
                    ..Default::default()
                };
                put_bytes(&answer.encode_to_vec())
            }
            Format::Table => Err(unsupported("table")),
        }
    }

    pub(crate) fn lease_grant(&self, answer: &pb::LeaseGrantResponse) -> Result<(), Failure> {
        let simple = format!("lease {:016x} granted with TTL({}s)\n", answer.id, answer.ttl);
        let fields = fields::lease(*self, &answer.header, answer.id, answer.ttl);
        self.show_texts(&answer.header, simple, fields, &json::lease_grant(answer))
    }

    pub(crate) fn lease_revoke(
        &self,
        id: i64,
        answer: &pb::LeaseRevokeResponse,
    ) -> Result<(), Failure> {
        let fields = fields::header(*self, &answer.header);
        self.show(answer, Some(format!("lease {id:016x} revoked\n")), Some(fields))
    }

    pub(crate) fn keep_alive(&self, answer: &pb::LeaseKeepAliveResponse) -> Result<(), Failure> {
        let simple = format!("lease {:016x} keepalived with TTL({})\n", answer.id, answer.ttl);
        let fields = fields::lease(*self, &answer.header, answer.id, answer.ttl);
        self.show_texts(&answer.header, simple, fields, &json::keep_alive(answer))
    }

    pub(crate) fn time_to_live(
        &self,
        answer: &pb::LeaseTimeToLiveResponse,
        keys: bool,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Simple => put_bytes(&simple::time_to_live(answer, keys)),
            _ => self.show_texts(
                &answer.header,
                String::new(),
                fields::time_to_live(*self, answer),
                &json::time_to_live(answer),
            ),
        }
    }

    pub(crate) fn leases(&self, answer: &pb::LeaseLeasesResponse) -> Result<(), Failure> {
        let fields = fields::leases(*self, answer);
        self.show_texts(&answer.header, simple::leases(answer), fields, &json::leases(answer))
    }

    pub(crate) fn member_list(&self, answer: &pb::MemberListResponse) -> Result<(), Failure> {
        match self.format {
            Format::Table => put_text(&table::members(answer).ruled()),
            Format::Json if self.hex => {
                put_text(&json::hex_members(&answer.header, None, &answer.members))
            }
            _ => {
                let simple = table::members(answer).lines();
                self.show(answer, Some(simple), Some(fields::member_list(*self, answer)))
            }
        }
    }

    /// What a change of the membership answered: `simple` says so in a line, `member` is the new one.
    pub(crate) fn membership(
        &self,
        simple: String,
        answer: &impl Named,
        (header, member, members): (&Header, Option<&pb::Member>, &[pb::Member]),
    ) -> Result<(), Failure> {
        if self.format == Format::Json && self.hex {
            return put_text(&json::hex_members(header, member, members));
        }
        self.show(answer, Some(simple), None)
    }

    pub(crate) fn alarms(&self, answer: &pb::AlarmResponse) -> Result<(), Failure> {
        self.show(answer, Some(simple::alarms(answer)), Some(fields::alarms(*self, answer)))
    }

    pub(crate) fn health(&self, endpoints: &[Health]) -> Result<(), Failure> {
        match self.format {
            Format::Simple => put_text(&simple::health(endpoints)),
            Format::Fields => put_text(&fields::health(endpoints)),
            Format::Json => put_text(&json::health(endpoints)),
            Format::Table => put_text(&table::health(endpoints).ruled()),
            Format::Protobuf => Err(unsupported("protobuf")),
        }
    }

    pub(crate) fn statuses(&self, endpoints: &[EndpointStatus]) -> Result<(), Failure> {
        match self.format {
            Format::Simple => put_text(&table::statuses(endpoints).lines()),
            Format::Fields => put_text(&fields::statuses(*self, endpoints)),
            Format::Json => put_text(&json::statuses(endpoints)),
            Format::Table => put_text(&table::statuses(endpoints).ruled()),
            Format::Protobuf => Err(unsupported("protobuf")),
        }
    }

    pub(crate) fn hashes(&self, endpoints: &[EndpointHash]) -> Result<(), Failure> {
        match self.format {
            Format::Simple => put_text(&table::hashes(endpoints).lines()),
            Format::Fields => put_text(&fields::hashes(*self, endpoints)),
            Format::Json => put_text(&json::hashes(endpoints)),
            Format::Table => put_text(&table::hashes(endpoints).ruled()),
            Format::Protobuf => Err(unsupported("protobuf")),
        }
    }

    /// An answer of which `fields` shows no more than its header.
    pub(crate) fn with_header(
        &self,
        simple: String,
        header: &Header,
        answer: &impl Named,
    ) -> Result<(), Failure> {
        self.show(answer, Some(simple), Some(fields::header(*self, header)))
    }

    pub(crate) fn role(&self, name: &str, answer: &pb::AuthRoleGetResponse) -> Result<(), Failure> {
        match self.format {
            Format::Simple => put_bytes(&simple::role(name, answer)),
            _ => self.show(answer, None, Some(fields::role(*self, answer))),
        }
    }

    pub(crate) fn roles(&self, answer: &pb::AuthRoleListResponse) -> Result<(), Failure> {
        let simple = answer.roles.iter().map(|role| format!("{role}\n")).collect();
        self.show(answer, Some(simple), Some(fields::roles(*self, answer)))
    }

    /// Any message. A format that has no text for it is refused.
    pub(crate) fn show<M: Named>(
        &self,
        answer: &M,
        simple: Shown,
        fields: Shown,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Simple => put_text(&simple.ok_or_else(|| unsupported("simple"))?),
            Format::Fields => put_text(&fields.ok_or_else(|| unsupported("fields"))?),
            Format::Json => put_text(&(json::message(answer) + "\n")),
            Format::Protobuf => put_bytes(&answer.encode_to_vec()),
            Format::Table => Err(unsupported("table")),
        }
    }

    /// An answer that etcdctl keeps in types of its own: their JSON differs from the message's, and all that they have in
    /// protobuf is their header.
    fn show_texts(
        &self,
        header: &Header,
        simple: String,
        fields: String,
        json: &str,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Simple => put_text(&simple),
            Format::Fields => put_text(&fields),
            Format::Json => put_text(json),
            Format::Protobuf => put_bytes(&header.unwrap_or_default().encode_to_vec()),
            Format::Table => Err(unsupported("table")),
        }
    }
}

fn unsupported(format: &str) -> Failure {
    Failure::bad_feature(format!("{format} not supported as output format"))
}

pub(crate) fn put_text(text: &str) -> Result<(), Failure> {
    put_bytes(text.as_bytes())
}

/// Writes to standard output at once: what is printed may be read while the command goes on.
pub(crate) fn put_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    match written {
        // Whoever reads has had enough, as `head` has.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::silent(1)),
        other => Ok(other?),
    }
}
