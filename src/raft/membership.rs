//! What a leader asks itself before it proposes a change of the members: would the cluster survive it?
//!
//! The rules are etcd's: those of `--strict-reconfig-check`, and that a learner is promoted only once it has caught up.
//! They look at what the leader alone knows, connections and progress, so they are no part of the replicated state: a
//! change that passes here may still be refused when it is applied (`store::members`), and one of an earlier leader is
//! applied without being asked about again.
//!
//! And from the table of members to raft-rs's configuration: [`step_to`]. It waits for nobody and sends nothing.

use std::time::Duration;

use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState};

use crate::error::Unavailable;
use crate::ids::{Index, MemberId};
use crate::limits;
use crate::store::command::Command;
use crate::store::members::{Members, is_started};

/// What a leader knows of another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub member: MemberId,
    /// How long it has been connected; `None` when it is not.
    pub connected: Option<Duration>,
    /// Up to where its log is known to be the leader's.
    pub matched: Index,
}

/// What a leader knows.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// This member, which leads.
    pub own: MemberId,
    /// The end of its log, as far as it is durable.
    pub own_matched: Index,
    /// As applied.
    pub members: &'a Members,
    /// The others, as far as anything is known of them.
    pub peers: &'a [Peer],
    /// `--strict-reconfig-check`.
    pub strict: bool,
}

impl Standing<'_> {
    /// Whether a change may be proposed now.
    ///
    /// # Errors
    /// etcd's reason why not.
    pub fn judge(&self, change: &Command) -> Result<(), Unavailable> {
        match change {
            Command::MemberAdd(request) => self.may_add(request.is_learner),
            Command::MemberRemove(request) => self.may_remove(MemberId(request.id)),
            Command::MemberPromote(request) => self.may_promote(MemberId(request.id)),
            _ => Ok(()),
        }
    }

    fn may_add(&self, is_learner: bool) -> Result<(), Unavailable> {
        if !self.strict {
            return Ok(());
        }
        let (voters, started) = self.count(None);
        // One that runs alone may get a second member, although that one has yet to start.
        let is_second = voters == 1 && started == 1;
        if !is_learner && !is_second && started < quorum(voters + 1) {
            return Err(Unavailable::NotEnoughStarted);
        }
        if self.connected_voters() < voters {
            return Err(Unavailable::Unhealthy);
        }
        Ok(())
    }

    fn may_remove(&self, id: MemberId) -> Result<(), Unavailable> {
        if !self.strict || self.members.is_learner(id) {
            return Ok(());
        }
        let (left, started) = self.count(Some(id));
        if started < quorum(left) {
            return Err(Unavailable::NotEnoughStarted);
        }
        // One that is down is no part of the quorum that there is.
        let is_down = id != self.own && self.peer(id).is_none_or(|peer| peer.connected.is_none());
        let voters = self.members.voters().count();
        if !is_down && self.connected_voters() < 2 + voters.saturating_sub(1) / 2 {
            return Err(Unavailable::Unhealthy);
        }
        Ok(())
    }

    fn may_promote(&self, id: MemberId) -> Result<(), Unavailable> {
        // Of one that raft does not know, the table says what is wrong.
        if self.members.is_learner(id) {
            let matched = self.peer(id).map_or(0, |peer| peer.matched.0);
            let behind = u128::from(matched) * 100
                < u128::from(self.own_matched.0) * u128::from(limits::LEARNER_READY_PERCENT);
            if behind {
                return Err(Unavailable::LearnerNotReady);
            }
        }
        let (voters, started) = self.count(None);
        // With the learner, which counts as started.
        if self.strict && started + 1 < quorum(voters + 1) {
            return Err(Unavailable::NotEnoughStarted);
        }
        Ok(())
    }

    /// Voters, and how many of them were ever started, without one of them.
    fn count(&self, without: Option<MemberId>) -> (usize, usize) {
        let counted =
            || self.members.voters().filter(move |voter| Some(MemberId(voter.id)) != without);
        (counted().count(), counted().filter(|voter| is_started(voter)).count())
    }

    /// Voters that have been connected for a while, this member among them.
    fn connected_voters(&self) -> usize {
        let is_connected = |id: MemberId| {
            let connected = self.peer(id).and_then(|peer| peer.connected);
            id == self.own || connected.is_some_and(|since| since >= limits::HEALTH_INTERVAL)
        };
        self.members.voters().filter(|voter| is_connected(MemberId(voter.id))).count()
    }

    fn peer(&self, id: MemberId) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.member == id)
    }
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Raft's configuration by the table of members.
pub(super) fn conf_state(members: &Members) -> ConfState {
    let (voters, learners) = members.conf();
    let ids = |members: Vec<MemberId>| members.iter().map(|member| member.0).collect();
    ConfState { voters: ids(voters), learners: ids(learners), ..ConfState::default() }
}

/// The change of one member that leads from raft's configuration to that of the table; `None` when they are the same.
pub(super) fn step_to(members: &Members, conf: &ConfState) -> Option<ConfChangeV2> {
    let wanted = conf_state(members);
    let change = |ids: &[u64], known: &[u64], change_type: ConfChangeType| {
        let id = ids.iter().find(|id| !known.contains(id))?;
        Some(single(change_type, *id))
    };
    let all = [&wanted.voters[..], &wanted.learners].concat();
    let known = [&conf.voters[..], &conf.learners].concat();
    let step = change(&wanted.voters, &conf.voters, ConfChangeType::AddNode)
        .or_else(|| change(&wanted.learners, &conf.learners, ConfChangeType::AddLearnerNode))
        .or_else(|| change(&known, &all, ConfChangeType::RemoveNode))?;
    Some(ConfChangeV2 { changes: vec![step].into(), ..ConfChangeV2::default() })
}

/// What raft-rs is told of a change when it is proposed. It looks at nothing but that there is one.
pub(super) fn announced(change: &Command) -> Option<ConfChangeV2> {
    let (change_type, node_id) = match change {
        Command::MemberAdd(request) if request.is_learner => {
            (ConfChangeType::AddLearnerNode, request.id)
        }
        Command::MemberAdd(request) => (ConfChangeType::AddNode, request.id),
        Command::MemberPromote(request) => (ConfChangeType::AddNode, request.id),
        Command::MemberRemove(request) => (ConfChangeType::RemoveNode, request.id),
        _ => return None,
    };
    let step = single(change_type, node_id);
    Some(ConfChangeV2 { changes: vec![step].into(), ..ConfChangeV2::default() })
}

fn single(change_type: ConfChangeType, node_id: u64) -> ConfChangeSingle {
    ConfChangeSingle { change_type, node_id, ..ConfChangeSingle::default() }
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::ConfChangeType::{AddLearnerNode, AddNode, RemoveNode};
    use urd_proto::etcdserverpb::{Member, MemberPromoteRequest, MemberRemoveRequest};

    use super::*;
    use crate::store::Store;
    use crate::store::command::MemberAdd;

    const LONG: Option<Duration> = Some(Duration::from_secs(5));
    const SHORT: Option<Duration> = Some(Duration::from_secs(4));

    /// Members 1 and up; of each, whether it was started and whether it is a learner.
    fn members(of: &[(bool, bool)]) -> Store {
        let members = of.iter().zip(1..).map(|(&(is_started, is_learner), id)| Member {
            id,
            name: if is_started { "started" } else { "" }.to_owned(),
            is_learner,
            ..Member::default()
        });
        let mut store = Store::new();
        store.bootstrap(&members.collect::<Vec<_>>());
        store
    }

    const VOTER: (bool, bool) = (true, false);
    const UNSTARTED: (bool, bool) = (false, false);
    const LEARNER: (bool, bool) = (true, true);

    fn add(is_learner: bool) -> Command {
        Command::MemberAdd(MemberAdd { id: 9, is_learner, ..MemberAdd::default() })
    }

    fn remove(id: u64) -> Command {
        Command::MemberRemove(MemberRemoveRequest { id })
    }

    fn promote(id: u64) -> Command {
        Command::MemberPromote(MemberPromoteRequest { id })
    }

    /// What member 1 says that leads; `connected` are those from 2 on.
    fn judge(
        of: &[(bool, bool)],
        connected: &[Option<Duration>],
        change: &Command,
    ) -> Result<(), Unavailable> {
        let store = members(of);
        let peers = connected.iter().zip(2..).map(|(&connected, id)| Peer {
            member: MemberId(id),
            connected,
            matched: Index(if connected.is_some() { 100 } else { 0 }),
        });
        let peers: Vec<Peer> = peers.collect();
        let standing = Standing {
            own: MemberId(1),
            own_matched: Index(100),
            members: store.members(),
            peers: &peers,
            strict: true,
        };
        let lax = Standing { strict: false, ..standing };
        if !matches!(change, Command::MemberPromote(_)) {
            assert_eq!(lax.judge(change), Ok(()), "only the strict are asked");
        }
        standing.judge(change)
    }

    const NOT_ENOUGH: Result<(), Unavailable> = Err(Unavailable::NotEnoughStarted);
    const UNHEALTHY: Result<(), Unavailable> = Err(Unavailable::Unhealthy);
    const BEHIND: Result<(), Unavailable> = Err(Unavailable::LearnerNotReady);

    #[test]
    fn one_is_added_while_all_are_there() {
        let (voter, learner) = (add(false), add(true));
        assert_eq!(judge(&[VOTER], &[], &voter), Ok(()), "the second of all");
        assert_eq!(judge(&[VOTER, UNSTARTED], &[None], &voter), NOT_ENOUGH);
        assert_eq!(judge(&[VOTER, UNSTARTED], &[None], &learner), UNHEALTHY);
        assert_eq!(judge(&[VOTER, VOTER], &[LONG], &voter), Ok(()));
        assert_eq!(judge(&[VOTER, VOTER], &[SHORT], &voter), UNHEALTHY);
        assert_eq!(judge(&[VOTER, VOTER, VOTER], &[LONG, None], &voter), UNHEALTHY);
        assert_eq!(judge(&[VOTER, VOTER, VOTER], &[LONG, None], &learner), UNHEALTHY);
        assert_eq!(judge(&[VOTER, VOTER, UNSTARTED], &[LONG, None], &voter), NOT_ENOUGH);
        // Learners count neither way.
        assert_eq!(judge(&[VOTER, VOTER, LEARNER], &[LONG, None], &voter), Ok(()));
        assert_eq!(judge(&[VOTER, UNSTARTED, LEARNER], &[None, LONG], &voter), NOT_ENOUGH);
    }

    #[test]
    fn one_is_removed_while_the_rest_can_go_on() {
        assert_eq!(judge(&[VOTER], &[], &remove(1)), NOT_ENOUGH, "the only one");
        assert_eq!(judge(&[VOTER, UNSTARTED], &[None], &remove(2)), Ok(()));
        assert_eq!(judge(&[VOTER, UNSTARTED], &[None], &remove(1)), NOT_ENOUGH);
        assert_eq!(judge(&[VOTER, VOTER, UNSTARTED], &[LONG, None], &remove(2)), NOT_ENOUGH);
        let three = [VOTER, VOTER, VOTER];
        for id in 1..=3 {
            assert_eq!(judge(&three, &[LONG, LONG], &remove(id)), Ok(()), "{id}");
        }
        assert_eq!(judge(&three, &[LONG, None], &remove(3)), Ok(()), "that is down");
        assert_eq!(judge(&three, &[LONG, None], &remove(2)), UNHEALTHY);
        assert_eq!(judge(&three, &[LONG, None], &remove(1)), UNHEALTHY);
        assert_eq!(judge(&three, &[LONG, SHORT], &remove(3)), UNHEALTHY);
        assert_eq!(judge(&[VOTER, VOTER, LEARNER], &[None, None], &remove(3)), Ok(()));
        // Of nobody: that is said when it is applied.
        assert_eq!(judge(&three, &[LONG, LONG], &remove(7)), Ok(()));
    }

    #[test]
    fn a_learner_is_promoted_once_it_has_caught_up() {
        assert_eq!(judge(&[VOTER, LEARNER], &[LONG], &promote(2)), Ok(()));
        assert_eq!(judge(&[VOTER, LEARNER], &[None], &promote(2)), BEHIND);
        assert_eq!(judge(&[VOTER, LEARNER], &[], &promote(2)), BEHIND);
        let learner = [VOTER, UNSTARTED, UNSTARTED, LEARNER];
        assert_eq!(judge(&learner, &[None, None, LONG], &promote(4)), NOT_ENOUGH);
        // What is wrong with these is said when it is applied.
        assert_eq!(judge(&[VOTER], &[], &promote(1)), Ok(()));
        assert_eq!(judge(&[VOTER], &[], &promote(7)), Ok(()));

        let store = members(&[VOTER, LEARNER]);
        for (matched, outcome) in [(89, BEHIND), (90, Ok(()))] {
            let connected = LONG;
            let peers = [Peer { member: MemberId(2), connected, matched: Index(matched) }];
            let standing = Standing {
                own: MemberId(1),
                own_matched: Index(100),
                members: store.members(),
                peers: &peers,
                strict: false,
            };
            assert_eq!(standing.judge(&promote(2)), outcome, "{matched}");
        }
    }

    #[test]
    fn rafts_configuration_follows_the_table() {
        let conf = |voters: &[u64], learners: &[u64]| ConfState {
            voters: voters.to_vec(),
            learners: learners.to_vec(),
            ..ConfState::default()
        };
        let store = members(&[VOTER, VOTER, LEARNER]);
        let step = |from: &ConfState| {
            step_to(store.members(), from).map(|step| {
                let [change] = step.changes.as_ref() else { panic!("one at a time") };
                (change.change_type, change.node_id)
            })
        };
        assert_eq!(conf_state(store.members()), conf(&[1, 2], &[3]));
        assert_eq!(step(&conf(&[2, 1], &[3])), None, "in whichever order");
        assert_eq!(step(&conf(&[1], &[3])), Some((AddNode, 2)));
        assert_eq!(step(&conf(&[1, 2], &[])), Some((AddLearnerNode, 3)));
        assert_eq!(step(&conf(&[1], &[2, 3])), Some((AddNode, 2)), "promoted");
        assert_eq!(step(&conf(&[1, 2, 4], &[3])), Some((RemoveNode, 4)));
        assert_eq!(step(&conf(&[1, 2], &[3, 4])), Some((RemoveNode, 4)));
    }
}
