//! A place in a queue: keys below a prefix, one for each session, the oldest of them in front. It is how etcd's own
//! clients lock and elect, so theirs and ours can wait for each other.

use std::rc::Rc;

use bytes::Bytes;
use urd_proto::etcdserverpb as pb;
use urd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use urd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use urd_proto::etcdserverpb::request_op::Request;
use urd_proto::mvccpb::event::EventType;

use super::client::{Client, prefix_end};
use super::methods::{RANGE, TXN};
use super::session::Session;
use super::watching::Watching;
use crate::failure::Failure;

/// Our key in the queue.
#[derive(Debug)]
pub(crate) struct Place {
    client: Rc<Client>,
    prefix: Bytes,
    pub key: Bytes,
    /// Its revision of creation.
    revision: i64,
}

/// The prefix of a queue's keys.
pub(crate) fn prefix_of(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

impl Place {
    /// Takes the last place.
    pub(crate) async fn enter(
        client: Rc<Client>,
        session: &Session,
        name: &[u8],
        value: Bytes,
    ) -> Result<Place, Failure> {
        let prefix = prefix_of(name);
        let key: Bytes = [&prefix[..], format!("{:x}", session.lease).as_bytes()].concat().into();
        let put =
            pb::PutRequest { key: key.clone(), value, lease: session.lease, ..Default::default() };
        let get = pb::RangeRequest { key: key.clone(), ..Default::default() };
        let request = pb::TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![operation(Request::RequestPut(put))],
            failure: vec![operation(Request::RequestRange(get))],
        };
        let answer = client.call(&TXN, &request).await?;
        let revision = answer.header.unwrap_or_default().revision;
        Ok(Place { client, prefix, key, revision })
    }

    /// Waits until nobody is in front. The answer is our own key's.
    pub(crate) async fn wait(&self) -> Result<pb::RangeResponse, Failure> {
        loop {
            let in_front = pb::RangeRequest {
                key: self.prefix.clone(),
                range_end: prefix_end(&self.prefix),
                limit: 1,
                sort_order: SortOrder::Descend.into(),
                sort_target: SortTarget::Create.into(),
                max_create_revision: self.revision - 1,
                ..Default::default()
            };
            let answer = self.client.call(&RANGE, &in_front).await?;
            let Some(other) = answer.kvs.first() else { break };
            let revision = answer.header.unwrap_or_default().revision;
            wait_for_deletion(&self.client, &other.key, revision + 1).await?;
        }
        let own = pb::RangeRequest { key: self.key.clone(), ..Default::default() };
        let own = self.client.call(&RANGE, &own).await?;
        if own.kvs.is_empty() {
            return Err(Failure::error(
                "session expired while waiting: its lease is over, and its key gone",
            ));
        }
        Ok(own)
    }

    /// Gives the place up.
    pub(crate) async fn leave(&self) -> Result<(), Failure> {
        let delete = pb::DeleteRangeRequest { key: self.key.clone(), ..Default::default() };
        let request = pb::TxnRequest {
            compare: vec![created_at(&self.key, self.revision)],
            success: vec![operation(Request::RequestDeleteRange(delete))],
            failure: Vec::new(),
        };
        self.client.call(&TXN, &request).await?;
        Ok(())
    }
}

fn created_at(key: &Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

fn operation(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

async fn wait_for_deletion(client: &Rc<Client>, key: &Bytes, from: i64) -> Result<(), Failure> {
    let request =
        pb::WatchCreateRequest { key: key.clone(), start_revision: from, ..Default::default() };
    let mut watching = Watching::new(Rc::clone(client), request);
    loop {
        let answer = watching.next().await?;
        if answer.canceled {
            return Err(Failure::error(super::watching::why_canceled(&answer)));
        }
        if answer.events.iter().any(|event| event.r#type() == EventType::Delete) {
            return Ok(());
        }
    }
}
