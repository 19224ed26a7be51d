//! `etcdserverpb.Cluster`: who the members are. Changing them is for a later issue.

use std::rc::Rc;

use bytes::Bytes;
use urd_proto::etcdserverpb::{Member, MemberListRequest, MemberListResponse};

use super::decode;
use crate::api::call::{Encoded, Reply};
use crate::api::node::{Node, Read, header};

/// `MemberList`.
pub fn member_list<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    match decode::<MemberListRequest>(message) {
        Ok(request) if request.linearizable => node.read(Read::MemberList(reply)),
        Ok(_) => answer(node, reply),
        Err(status) => reply.fail(status),
    }
}

/// Answers with this member, the only one.
pub fn answer<N: Node>(node: &Rc<N>, reply: Box<dyn Reply>) {
    let (identity, published) = (node.identity(), node.published());
    // etcd's membership answers carry no revision.
    let header = header(identity, &published, crate::ids::Revision(0));
    let member = Member {
        id: identity.member.0,
        name: identity.name.clone(),
        peer_ur_ls: identity.peer_urls.clone(),
        client_ur_ls: identity.client_urls.clone(),
        is_learner: false,
    };
    reply.unary(Encoded::new(&MemberListResponse { header: Some(header), members: vec![member] }));
}
