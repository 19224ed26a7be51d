//! The operator: replaces members that cannot start any more, and others now and then, one step at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use urd::ids::{Index, MemberId};
use urd::raft::membership::{Peer, Standing};
use urd::store::command::{Command, MemberAdd};
use urd::store::members::Members;
use urd_proto::etcdserverpb::{Member as Record, MemberPromoteRequest, MemberRemoveRequest};

use super::member::Member;
use super::network::Network;
use super::settings::Time;

/// What a first member, or one that is added, is known by.
pub(super) fn record(id: u64) -> Record {
    let name = format!("m{id}");
    Record { id, name, peer_ur_ls: peer_urls(id), ..Record::default() }
}

fn peer_urls(id: u64) -> Vec<String> {
    vec![format!("http://127.0.0.1:{}", 20_000 + id)]
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Admin {
    /// How many voters there are to be.
    size: usize,
    next_id: u64,
    /// One that is to be replaced, though nothing is wrong with it.
    pub(super) unwanted: Option<u64>,
    /// The last one whose removal was proposed. As long as it is a member, that may yet come to pass.
    removing: Option<u64>,
    /// Changes that were proposed.
    pub(super) proposed: u64,
}

impl Admin {
    pub(super) fn new(members: u64) -> Self {
        let size = usize::try_from(members).unwrap_or(usize::MAX);
        Self { size, next_id: members + 1, unwanted: None, removing: None, proposed: 0 }
    }

    /// Whether one of these members may be about to be removed.
    pub(super) fn is_removing(&self, members: &Members) -> bool {
        let removing = self.removing.is_some_and(|id| members.get(MemberId(id)).is_some());
        removing || self.unwanted.is_some()
    }

    /// Proposes the next step at the leader, if there is one to take.
    pub(super) fn step(
        &mut self,
        members: &mut BTreeMap<u64, Member>,
        network: &Network,
        now: Time,
        rng: &mut Rng,
    ) {
        let leads = |member: &&Member| member.process.as_ref().is_some_and(|it| it.leads());
        let Some(leader) = members.values().find(leads).map(|member| member.id) else { return };
        let Some(change) = self.next(leader, members, rng) else { return };
        if !is_safe(leader, &change, members, network, now) {
            return;
        }
        let process = members.get_mut(&leader).and_then(|member| member.process.as_mut());
        if process.is_some_and(|process| process.change_members(&change)) {
            self.proposed += 1;
            match change {
                Command::MemberAdd(_) => self.next_id += 1,
                Command::MemberRemove(removal) => self.removing = Some(removal.id),
                _ => {}
            }
        } else if matches!(change, Command::MemberRemove(removal) if removal.id == leader) {
            // It hands over first.
            self.unwanted = Some(leader);
        }
    }

    fn next(
        &mut self,
        leader: u64,
        members: &BTreeMap<u64, Member>,
        rng: &mut Rng,
    ) -> Option<Command> {
        let view = &members.get(&leader)?.process.as_ref()?.view;
        let known = view.members();
        let is_lost = |id: u64| {
            members.get(&id).is_some_and(|member| member.hurt.is_some() || member.is_gone)
        };
        if let Some(lost) = known.iter().find(|member| is_lost(member.id)) {
            return Some(Command::MemberRemove(MemberRemoveRequest { id: lost.id }));
        }
        if let Some(learner) = known.iter().find(|member| known.is_learner(MemberId(member.id))) {
            return Some(Command::MemberPromote(MemberPromoteRequest { id: learner.id }));
        }
        if known.len() < self.size {
            return Some(Command::MemberAdd(MemberAdd {
                id: self.next_id,
                peer_urls: peer_urls(self.next_id),
                is_learner: rng.bool(),
                learners_max: 1,
            }));
        }
        // One alone has nobody to hand over to.
        let unwanted = self.unwanted.take().filter(|_| self.size > 1)?;
        known.get(MemberId(unwanted))?;
        // Nobody takes a member away that is well while another is not.
        let runs =
            |id: u64| members.get(&id).is_some_and(|it| it.process.is_some() && !it.has_lied);
        if !known.iter().all(|member| runs(member.id)) {
            return None;
        }
        Some(Command::MemberRemove(MemberRemoveRequest { id: unwanted }))
    }
}

/// What a leader asks itself before it proposes a change.
fn is_safe(
    leader: u64,
    change: &Command,
    members: &BTreeMap<u64, Member>,
    network: &Network,
    now: Time,
) -> bool {
    let Some(process) = members.get(&leader).and_then(|member| member.process.as_ref()) else {
        return false;
    };
    let is_connected = |id: u64| {
        let runs =
            members.get(&id).is_some_and(|it| it.process.is_some() && it.paused_until <= now);
        runs && !network.is_cut(leader, id, now) && !network.is_cut(id, leader, now)
    };
    let matched = |id: MemberId| process.driver.follower(id).map_or(Index(0), |it| it.matched);
    let known = process.view.members();
    let others = known.iter().map(|member| member.id).filter(|id| *id != leader);
    let peers: Vec<Peer> = others
        .map(|id| Peer {
            member: MemberId(id),
            connected: is_connected(id).then_some(Duration::from_secs(10)),
            matched: matched(MemberId(id)),
        })
        .collect();
    let own = MemberId(leader);
    let standing =
        Standing { own, own_matched: matched(own), members: known, peers: &peers, strict: true };
    standing.judge(change).is_ok()
}
