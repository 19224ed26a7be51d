//! Where users and roles stand: in nodes of v2's tree that no client's path reaches, changed through the log.
//!
//! A record is changed by comparing its index, so two who change it at once both get their way, one after the other.

use std::rc::Rc;

use super::model::{ROOT, Role, User};
use super::{Refusal, refusal};
use crate::api::node::Node;
use crate::store::View;
use crate::store::v2::{Action, Error, Path, Request};

pub(super) const USERS: &str = "/users";
pub(super) const ROLES: &str = "/roles";

/// The path of a user's or role's node; `None` for what is no name.
pub(super) fn path(directory: &str, name: &str) -> Option<String> {
    let is_name = !["", ".", ".."].contains(&name) && !name.contains('/');
    is_name.then(|| format!("{directory}/{name}"))
}

/// A record's text, and its index.
fn find(view: &View, directory: &str, name: &str) -> Option<(bytes::Bytes, u64)> {
    let path = Path::auth(&path(directory, name)?);
    let node = view.v2_get(&path, false, 0).ok()?.node;
    Some((node.value?, node.modified_index))
}

/// A user, and the index of its record.
pub(super) fn user(view: &View, name: &str) -> Option<(User, u64)> {
    let (text, index) = find(view, USERS, name)?;
    Some((User::parse(&text).ok()?.with_own_role(), index))
}

/// A role, and the index of its record.
pub(super) fn role(view: &View, name: &str) -> Option<(Role, u64)> {
    if name == ROOT {
        return Some((Role::root(), 0));
    }
    let (text, index) = find(view, ROLES, name)?;
    Some((Role::parse(&text).ok()?, index))
}

/// Those in a directory, in order.
pub(super) fn names(view: &View, directory: &str) -> Vec<String> {
    let found = view.v2_get(&Path::auth(directory), false, 0);
    let nodes = found.map(|found| found.node.nodes).unwrap_or_default();
    let name = |key: &str| key.rsplit('/').next().unwrap_or_default().to_owned();
    nodes.iter().map(|node| name(&node.key)).collect()
}

/// Changes a node. What raft fails to do, clients do not hear the reason of, as from etcd.
pub(super) async fn change<N: Node>(
    node: &Rc<N>,
    action: Action,
    path: String,
    value: String,
    prev_index: u64,
) -> Result<Result<(), Error>, Refusal> {
    if path.len() + value.len() > node.limits().request_bytes {
        return Err(refusal(http::StatusCode::BAD_REQUEST, "etcdserver: request is too large"));
    }
    let request = Request {
        action: action.into(),
        path,
        value: value.into(),
        prev_index,
        now: node.unix_nanoseconds(),
        auth: true,
        ..Request::default()
    };
    match node.propose_v2(request).await {
        Ok(Ok(outcome)) => Ok(outcome.map(|_| ())),
        Ok(Err(_)) | Err(_) => Err(Refusal::internal()),
    }
}
