//! `etcdserverpb.Cluster`: who the members are, and changes of that.
//!
//! A request is checked here as far as it is wrong by itself; the table of members judges the rest when it is applied
//! (`store::members`), and the leader before that whether the cluster would survive it (`raft::membership`). Answers
//! about members carry no revision, as etcd's.

use std::rc::Rc;

use bytes::Bytes;
use prost::Message;
use urd_proto::etcdserverpb::{
    MemberAddRequest, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberRemoveRequest, MemberUpdateRequest,
};

use super::decode;
use super::kv::check_size;
use crate::api::call::{Encoded, Reply, Status};
use crate::api::node::{Node, Read, header};
use crate::error::Rejected;
use crate::identity::added_member_id;
use crate::ids::Revision;
use crate::store::command::{BatchBuilder, Command, Kind, MemberAdd};
use crate::url;

/// `MemberAdd`.
pub fn member_add<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    let checked = decode::<MemberAddRequest>(message).and_then(|request| {
        check_size(node, message)?;
        let mut peer_urls = checked_urls(&request.peer_ur_ls)?;
        peer_urls.sort_unstable();
        Ok(Command::MemberAdd(MemberAdd {
            id: added_member_id(&peer_urls, node.unix_seconds()).0,
            peer_urls,
            is_learner: request.is_learner,
            learners_max: node.limits().learners,
        }))
    });
    reconfigure(node, checked, reply);
}

/// `MemberRemove`.
pub fn member_remove<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    reconfigure(node, decode::<MemberRemoveRequest>(message).map(Command::MemberRemove), reply);
}

/// `MemberPromote`.
pub fn member_promote<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    reconfigure(node, decode::<MemberPromoteRequest>(message).map(Command::MemberPromote), reply);
}

fn reconfigure<N: Node>(node: &Rc<N>, checked: Result<Command, Status>, reply: Box<dyn Reply>) {
    match checked {
        Ok(change) => {
            let mut batch = BatchBuilder::default();
            batch.append_command(&change);
            node.reconfigure(batch.finish(), reply);
        }
        Err(status) => reply.fail(status),
    }
}

/// `MemberUpdate`. It changes nothing of raft's, so it is a request like any other. etcd keeps the URLs in the order
/// given, unlike those of a member that is added, and so do we.
pub fn member_update<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    let checked = decode::<MemberUpdateRequest>(message).and_then(|request| {
        check_size(node, message)?;
        let peer_ur_ls = checked_urls(&request.peer_ur_ls)?;
        Ok(MemberUpdateRequest { peer_ur_ls, ..request })
    });
    match checked {
        Ok(request) => node.propose(Kind::MemberUpdate, &request.encode_to_vec().into(), reply),
        Err(status) => reply.fail(status),
    }
}

fn checked_urls(peer_urls: &[String]) -> Result<Vec<String>, Status> {
    url::peer_urls(peer_urls).map_err(|_| Rejected::MemberBadUrls.into())
}

/// `MemberList`.
pub fn member_list<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    match decode::<MemberListRequest>(message) {
        Ok(request) if request.linearizable => node.read(Read::MemberList(reply)),
        Ok(_) => answer(node, reply),
        Err(status) => reply.fail(status),
    }
}

/// Answers with the members of the newest state.
pub fn answer<N: Node>(node: &Rc<N>, reply: Box<dyn Reply>) {
    let published = node.published();
    let header = header(node.identity(), &published, Revision(0));
    let members = published.view.members().to_vec();
    reply.unary(Encoded::new(&MemberListResponse { header: Some(header), members }));
}
