//! What the members of a cluster say of themselves, and who of them leads.

use crate::grpc::endpoint::Endpoint;
use crate::grpc::unary::{UnaryError, call};
use std::time::Duration;
use urd_proto::etcdserverpb::{
    MemberRemoveRequest, MemberRemoveResponse, StatusRequest, StatusResponse,
};

/// Asks a member how it is.
pub async fn status(endpoint: &Endpoint, timeout: Duration) -> Result<StatusResponse, UnaryError> {
    call(endpoint, "/etcdserverpb.Maintenance/Status", &StatusRequest::default(), timeout).await
}

/// Asks all of them at once. What one does not answer holds up the others at most for `timeout`.
pub async fn statuses(
    endpoints: &[Endpoint],
    timeout: Duration,
) -> Vec<Result<StatusResponse, UnaryError>> {
    let ask = |endpoint: &Endpoint| {
        let endpoint = endpoint.clone();
        glommio::spawn_local(async move { status(&endpoint, timeout).await })
    };
    let asked: Vec<_> = endpoints.iter().map(ask).collect();
    let mut answers = Vec::with_capacity(asked.len());
    for answer in asked {
        answers.push(answer.await);
    }
    answers
}

/// Asks a member to remove the one with this id from the cluster.
pub async fn remove(
    endpoint: &Endpoint,
    id: u64,
    timeout: Duration,
) -> Result<MemberRemoveResponse, UnaryError> {
    call(endpoint, "/etcdserverpb.Cluster/MemberRemove", &MemberRemoveRequest { id }, timeout).await
}

/// The member's own word on whether it leads.
pub fn says_it_leads(status: &StatusResponse) -> bool {
    let member = status.header.as_ref().map_or(0, |header| header.member_id);
    member != 0 && member == status.leader
}

/// The leader's place among `statuses`. Of two that say they lead (one was cut off and has not
/// noticed) it is the one of the later term.
pub fn leader<'a>(statuses: impl Iterator<Item = Option<&'a StatusResponse>>) -> Option<usize> {
    let leading = |(nth, status): (usize, Option<&StatusResponse>)| {
        status.filter(|status| says_it_leads(status)).map(|status| (status.raft_term, nth))
    };
    statuses.enumerate().filter_map(leading).max().map(|(_, nth)| nth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use urd_proto::etcdserverpb::ResponseHeader;

    fn member(id: u64, leader: u64, raft_term: u64) -> StatusResponse {
        let header = Some(ResponseHeader { member_id: id, ..ResponseHeader::default() });
        StatusResponse { header, leader, raft_term, ..StatusResponse::default() }
    }

    #[test]
    fn leader_is_who_says_so_in_the_latest_term() {
        let find = |members: &[StatusResponse]| leader(members.iter().map(Some));
        assert_eq!(find(&[member(1, 2, 5), member(2, 2, 5)]), Some(1));
        assert_eq!(find(&[member(1, 1, 5), member(2, 2, 6), member(3, 2, 6)]), Some(1));
        assert_eq!(find(&[member(1, 2, 5), member(3, 2, 5)]), None, "it is not among them");
        assert_eq!(find(&[member(0, 0, 5)]), None);
        assert_eq!(leader([None, Some(&member(7, 7, 1))].into_iter()), Some(1));
    }
}
