//! This member as the cluster knows it, and changes of the membership: those that its clients want, and what becomes of its
//! own.
//!
//! A change is checked and proposed by the leader, since only the leader knows how far others are. Where this member does
//! not lead, it names the proposal and asks the leader to make it; the outcome comes with the entry, as for any other. A
//! leader that is to go hands over first: what waits here is then asked of the next one.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use slab::Slab;
use tokio::sync::oneshot;
use urd_wal::disk::Disk;

use super::super::discovery;
use super::super::mesh::{Key, ToShard};
use super::LogShard;
use super::peers::FromPeer;
use super::proposals::{Owner, Part};
use super::question::{self, ChangeAnswer, Kind};
use crate::api::node::{PeerTraffic, RoundTrips};
use crate::error::{Rejected, Unavailable};
use crate::ids::{Index, MemberId, Term};
use crate::limits;
use crate::raft::membership::{Peer, Standing};
use crate::store::command::Batch;

/// Changes under way, and what is known of this member's own place in the cluster.
pub struct Membership {
    /// How long a leader may be silent.
    pub election_timeout: Duration,
    /// It was removed from the cluster.
    is_removed: bool,
    /// Another member has said so.
    is_refused: bool,
    /// Changes that clients here want, and that were not proposed yet.
    wanted: VecDeque<Wanted>,
    /// Changes that the leader was asked for, and under which names: their shards hear if it refuses.
    asked: Slab<(Wanted, Bytes)>,
    /// Changes that other members ask for.
    asked_here: VecDeque<(Instant, Bytes, oneshot::Sender<ChangeAnswer>)>,
    /// Who waits for leadership to move, where to, and until when.
    transfers: Vec<(Instant, MemberId, usize, Key)>,
}

/// A change that a client wants.
struct Wanted {
    since: Instant,
    shard: usize,
    key: Key,
    batch: Bytes,
    /// The leader of this term did not take it, and is not to be asked again before that.
    refused: Option<(Term, Instant)>,
}

impl Wanted {
    fn may_ask(&self, term: Term) -> bool {
        self.refused.is_none_or(|(refused, until)| refused != term || Instant::now() >= until)
    }

    fn is_overdue(&self, now: Instant) -> bool {
        now.duration_since(self.since) > limits::REQUEST_TIMEOUT
    }

    /// Whom its outcome is for.
    fn parts(&self) -> Vec<Part> {
        vec![Part { owner: Owner::Shard { shard: self.shard, key: self.key }, requests: 1 }]
    }
}

impl Membership {
    /// Of a member that wants no change.
    pub fn new(election_timeout: Duration) -> Self {
        Self {
            election_timeout,
            is_removed: false,
            is_refused: false,
            wanted: VecDeque::new(),
            asked: Slab::new(),
            asked_here: VecDeque::new(),
            transfers: Vec::new(),
        }
    }

    /// Whether this member was removed from the cluster, and must stop.
    pub(super) fn is_removed(&self) -> bool {
        self.is_removed
    }

    /// Whether another member has said so.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// This member finds itself removed.
    pub(super) fn note_removed(&mut self) {
        if !std::mem::replace(&mut self.is_removed, true) {
            tracing::warn!("this member was removed from the cluster: stopping when others know");
        }
    }

    /// Another member says that this one was removed.
    pub(super) fn note_refused(&mut self) {
        self.is_refused = true;
        if !std::mem::replace(&mut self.is_removed, true) {
            tracing::error!("the cluster has removed this member: stopping");
        }
    }
}

impl<D: Disk + 'static> LogShard<D> {
    /// The members have changed: those whom messages go to, and perhaps this one.
    pub(super) fn follow_members(&mut self) {
        let published = self.shared.published.load();
        let own = self.shared.identity.member;
        self.transport.set_peers(&discovery::peers(published.view.members().iter(), own));
        if published.view.is_removed(own) {
            self.membership.note_removed();
        }
    }

    /// Lets `/metrics` know what went between members.
    pub(super) fn count_peers(&self) {
        let published = self.shared.published.load();
        let own = self.shared.identity.member;
        let members = published.view.members().iter().map(|member| MemberId(member.id));
        let traffic = members.filter(|member| *member != own).filter_map(|member| {
            let counted = self.transport.statistics(member)?;
            let round_trips = counted.round_trips.get();
            Some(PeerTraffic {
                member,
                is_active: self.transport.active_since(member).is_some(),
                sent_bytes: counted.sent_bytes.get(),
                received_bytes: counted.received_bytes.get(),
                sent_appends: counted.sent_appends.get(),
                received_appends: counted.received_appends.get(),
                dropped_messages: counted.dropped_messages.get(),
                failures: counted.failures.get(),
                round_trips: RoundTrips {
                    count: round_trips.count,
                    total: round_trips.total,
                    deviation: round_trips.deviation(),
                    last: round_trips.last,
                    shortest: round_trips.shortest,
                    longest: round_trips.longest,
                },
            })
        });
        self.shared.metrics.peers(traffic.collect());
    }

    /// A client here wants the membership changed.
    pub(super) fn want_change(&mut self, shard: usize, key: Key, batch: Bytes) {
        let since = Instant::now();
        self.membership.wanted.push_back(Wanted { since, shard, key, batch, refused: None });
    }

    /// Another member wants it changed, and takes this one for the leader.
    pub(super) fn want_change_of_another(
        &mut self,
        context: Bytes,
        answer: oneshot::Sender<ChangeAnswer>,
    ) {
        self.membership.asked_here.push_back((Instant::now(), context, answer));
    }

    /// Proposes the changes that wait, one after another; where another member leads, asks it to.
    pub(super) fn propose_changes(&mut self) {
        if self.membership.is_removed || self.driver.can_propose() && !self.driver.leads() {
            for (_, _, answer) in self.membership.asked_here.drain(..) {
                // Whoever asked may have gone.
                answer.send(Err(Unavailable::NoLeader)).ok();
            }
        }
        if !self.driver.can_propose() {
            return;
        }
        if !self.driver.leads() {
            let term = self.driver.term();
            let may_ask = |wanted: &mut Wanted| wanted.may_ask(term);
            while let Some(wanted) = self.membership.wanted.pop_front_if(may_ask) {
                self.ask_for_change(wanted);
            }
            return;
        }
        while !self.driver.is_changing()
            && let Some((_, context, answer)) = self.membership.asked_here.pop_front()
        {
            let proposed = self.check_and_propose(&context);
            answer.send(proposed).ok();
        }
        while !self.driver.is_changing()
            && let Some(wanted) = self.membership.wanted.pop_front()
        {
            let Wanted { shard, key, ref batch, .. } = wanted;
            if let Err(unavailable) = self.judge(batch) {
                self.tell(shard, ToShard::Failed { key, unavailable });
                continue;
            }
            let context = self.driver.name_change(batch, wanted.parts());
            if let Err(unavailable) = self.driver.propose_change(context.clone()) {
                self.driver.forget_change(&context);
                if unavailable == Unavailable::NoSpace && self.prepare_from.is_some() {
                    self.tell(shard, ToShard::Failed { key, unavailable });
                    continue;
                }
                // Another pass finds room for it, once the next segment is there, or who leads.
                return self.membership.wanted.push_front(wanted);
            }
        }
    }

    fn check_and_propose(&mut self, context: &Bytes) -> ChangeAnswer {
        let batch = self.driver.change_in(context).ok_or(Unavailable::NoLeader)?;
        self.judge(&batch)?;
        self.driver.propose_change(context.clone())
    }

    /// What only a leader can judge of a change before it is proposed.
    fn judge(&self, batch: &Bytes) -> ChangeAnswer {
        let Ok(batch) = Batch::decode(batch.clone()) else { return Err(Unavailable::NoLeader) };
        let [change] = batch.commands() else { return Err(Unavailable::NoLeader) };
        let own = self.shared.identity.member;
        let published = self.shared.published.load();
        let members = published.view.members();
        let others = members.iter().map(|member| MemberId(member.id)).filter(|id| *id != own);
        let peers: Vec<Peer> = others
            .map(|member| Peer {
                member,
                connected: self.transport.active_since(member).map(|since| since.elapsed()),
                matched: self.driver.follower(member).map_or(Index(0), |known| known.matched),
            })
            .collect();
        let own_matched = self.driver.follower(own).map_or(Index(0), |known| known.matched);
        let strict = self.shared.strict_reconfig_check;
        Standing { own, own_matched, members, peers: &peers, strict }.judge(change)
    }

    /// Names a change and asks the leader to propose it.
    fn ask_for_change(&mut self, wanted: Wanted) {
        let Some(leader) = self.driver.leader() else {
            let (key, unavailable) = (wanted.key, Unavailable::NoLeader);
            return self.tell(wanted.shard, ToShard::Failed { key, unavailable });
        };
        let context = self.driver.name_change(&wanted.batch, wanted.parts());
        let nth = self.membership.asked.insert((wanted, context.clone()));
        let (transport, inbox) = (Rc::clone(&self.transport), Rc::clone(&self.inbox));
        glommio::spawn_local(async move {
            let timeout = limits::REQUEST_TIMEOUT;
            let said = transport.ask(leader, Kind::Change as u8, context, timeout).await;
            // Without an answer it may have been proposed: whoever waits hears of the entry, or nothing in time.
            let answer = said.ok().and_then(|bytes| question::decode_change_answer(&bytes));
            inbox.push_peer(FromPeer::Changed { nth, answer: answer.unwrap_or(Ok(())) });
        })
        .detach();
    }

    /// The leader has answered. If it was none any more, another one is asked.
    pub(super) fn note_change_answer(&mut self, nth: usize, answer: ChangeAnswer) {
        let Some((mut wanted, context)) = self.membership.asked.try_remove(nth) else { return };
        let Err(unavailable) = answer else { return };
        if self.driver.forget_change(&context).is_none() {
            return;
        }
        if unavailable == Unavailable::NoLeader {
            let until = Instant::now() + self.membership.election_timeout;
            wanted.refused = Some((self.driver.term(), until));
            // It has waited for longer than those that were not asked for yet.
            return self.membership.wanted.push_front(wanted);
        }
        let Wanted { shard, key, .. } = wanted;
        self.tell(shard, ToShard::Failed { key, unavailable });
    }

    /// Changes that found no leader in time.
    pub(super) fn end_overdue_changes(&mut self, now: Instant) {
        let overdue = |since: Instant| now.duration_since(since) > limits::REQUEST_TIMEOUT;
        while let Some(Wanted { shard, key, .. }) =
            self.membership.wanted.pop_front_if(|wanted| wanted.is_overdue(now))
        {
            let unavailable = Unavailable::TimedOut;
            self.tell(shard, ToShard::Failed { key, unavailable });
        }
        while let Some((_, _, answer)) =
            self.membership.asked_here.pop_front_if(|(since, ..)| overdue(*since))
        {
            answer.send(Err(Unavailable::TimedOut)).ok();
        }
    }

    /// A client wants another member to lead.
    pub(super) fn move_leader(&mut self, shard: usize, key: Key, to: MemberId) {
        let outcome = if !self.driver.leads() {
            Some(Err(Rejected::NotLeader.into()))
        } else if to == self.shared.identity.member {
            Some(Ok(()))
        } else if !self.driver.follower(to).is_some_and(|follower| follower.is_voter) {
            Some(Err(Rejected::BadTransferee.into()))
        } else {
            None
        };
        if let Some(outcome) = outcome {
            return self.tell(shard, ToShard::Moved { key, outcome });
        }
        tracing::info!(%to, "handing leadership over");
        self.driver.transfer_leader(to);
        let until = Instant::now() + self.membership.election_timeout;
        self.membership.transfers.push((until, to, shard, key));
    }

    /// Answers those who wait for leadership to move.
    pub(super) fn follow_transfers(&mut self) {
        if self.membership.transfers.is_empty() {
            return;
        }
        let (now, leader) = (Instant::now(), self.driver.leader());
        let ended: Vec<_> = self
            .membership
            .transfers
            .extract_if(.., |(until, to, ..)| leader == Some(*to) || now >= *until)
            .collect();
        for (_, to, shard, key) in ended {
            let outcome =
                if leader == Some(to) { Ok(()) } else { Err(Unavailable::TransferTimedOut.into()) };
            self.tell(shard, ToShard::Moved { key, outcome });
        }
    }
}
