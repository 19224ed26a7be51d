//! The group's side of the driver: messages, proposals, read indexes, leadership, membership.

use std::mem;

use bytes::{BufMut, Bytes, BytesMut};
use protobuf::Message as _;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{Progress, ProgressState, SnapshotStatus, StateRole};
use urd_wal::disk::Disk;

use super::super::entry;
use super::super::membership;
use super::super::pending::ProposalId;
use super::super::replay::{self, Unreadable};
use super::{Driver, Fatal, Place, Turn};
use crate::error::Unavailable;
use crate::ids::{Index, MemberId, Term};
use crate::limits;
use crate::store::Store;
use crate::store::command::{Batch, Command};
use crate::store::members::{Member, Members};

/// What the log needs for an entry beside its data.
const ENTRY_HEAD_BYTES: usize = entry::HEAD_BYTES + ProposalId::BYTES + urd_wal::ENTRY_BYTES;

// Whatever another member sends fits an empty segment, a mebibyte of which is enough for what the log keeps free. Else its
// receiver would wait for room for ever.
const _: () = assert!(
    limits::PEER_ENTRIES_PER_MESSAGE_MAX * ENTRY_HEAD_BYTES
        + limits::PEER_MESSAGE_BYTES_MAX
        + (1 << 20)
        <= limits::SEGMENT_BYTES as usize
);

/// Whether a follower's message may leave before the writes under way are durable: a question, or a sign of life that
/// says no more than a term which is durable.
pub(super) fn depends_on_nothing(message: &Message, vote_in_flight: bool) -> bool {
    match message.get_msg_type() {
        MessageType::MsgPropose | MessageType::MsgReadIndex => true,
        MessageType::MsgHeartbeatResponse => !vote_in_flight,
        _ => false,
    }
}

/// Whether a message says that the entry at `index` is committed, and does not wait for the writes under way by itself.
pub(super) fn tells_of(message: &Message, index: Index) -> bool {
    use MessageType::{
        MsgAppend, MsgHeartbeat, MsgHeartbeatResponse, MsgReadIndexResp, MsgRequestPreVoteResponse,
        MsgRequestVoteResponse,
    };
    let committed = match message.get_msg_type() {
        MsgAppend
        | MsgHeartbeat
        | MsgHeartbeatResponse
        | MsgRequestPreVoteResponse
        | MsgRequestVoteResponse => message.commit,
        // raft-rs takes the index to read at for committed.
        MsgReadIndexResp => message.index,
        _ => return false,
    };
    committed >= index.0
}

/// Whether all members will be able to apply what another one forwarded. Once it is in the log it stops whoever is not.
fn check_proposal(message: &Message) -> Result<(), Unreadable> {
    if message.get_msg_type() != MessageType::MsgPropose {
        return Ok(());
    }
    message.entries.iter().try_for_each(replay::check_entry)
}

/// How far another member is, as the leader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    /// Up to here its log is known to be equal.
    pub matched: Index,
    /// Whether it was heard of within an election timeout.
    pub is_active: bool,
    /// Whether it may vote.
    pub is_voter: bool,
}

impl<D: Disk, P, R> Driver<D, P, R> {
    /// Calls an election at once, where this member is the only voter and nobody can object.
    pub fn campaign_if_alone(&mut self) -> Result<(), Fatal> {
        if self.is_alone() && !self.must_not_stand() {
            self.node.campaign()?;
        }
        Ok(())
    }

    /// Lets go of all that is applied, as after much more load than a test makes.
    #[cfg(test)]
    pub(in crate::raft) fn forget_window(&mut self) {
        self.window.shrink(self.store.applied().0, 0, 0);
    }

    /// Whether this member is all of the group.
    pub fn is_alone(&self) -> bool {
        let id = self.node.raft.id;
        self.node.raft.prs().iter().all(|(other, _)| *other == id)
            && self.node.raft.prs().get(id).is_some()
    }

    /// One tick of raft's clock. Returns the proposals that have waited for too long, and the reads whose round was not
    /// answered: they may ask again.
    pub fn tick(&mut self) -> (Vec<P>, Vec<R>) {
        if !self.has_left() && !self.must_not_stand() {
            self.node.tick();
        }
        self.own_timeout();
        self.ticks += 1;
        let late = self.pending.expire(self.ticks.saturating_sub(self.request_ticks));
        let again = self.rounds.expire(self.ticks.saturating_sub(self.round_ticks));
        (late, again)
    }

    /// Takes a message of another member.
    ///
    /// # Errors
    /// What it says cannot be, unless a log was lost. raft-rs would panic.
    pub fn step(&mut self, message: Message) -> Result<(), Fatal> {
        if self.has_left() {
            return Ok(());
        }
        self.check(&message)?;
        if self.cannot_be(&message) {
            return Ok(());
        }
        if let Err(reason) = check_proposal(&message) {
            let from = MemberId(message.from);
            tracing::warn!(%from, "refused what another member wants to be proposed: {reason}");
            return Ok(());
        }
        // A learner that knows cannot go on to tell the others.
        if message.commit > self.told.0
            && self.node.raft.prs().conf().voters().contains(message.from)
        {
            self.told = Index(message.commit);
        }
        let stepped = self.node.step(message);
        self.own_timeout();
        match stepped {
            // From a member that was removed, or for a leader that is none any more: whoever asked hears nothing, and
            // gives up in time.
            Ok(()) | Err(raft::Error::StepPeerNotFound | raft::Error::ProposalDropped) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether raft-rs must not come to call an election now.
    ///
    /// It may not know yet that a state was taken over for good, and would panic for want of entries before it. Or this
    /// member is the only voter, as another has left: raft-rs takes the election for won at once, and would panic unless all
    /// entries are durable.
    fn must_not_stand(&self) -> bool {
        let raft = &self.node.raft;
        let is_behind = raft.raft_log.applied < self.store.applied().0;
        is_behind || raft.state != StateRole::Leader && self.would_lead_unwritten()
    }

    /// Whether this member is the only voter, and not all of its entries are durable.
    fn would_lead_unwritten(&self) -> bool {
        let raft = &self.node.raft;
        raft.prs().conf().voters().ids().iter().all(|id| id == raft.id) && self.has_unwritten()
    }

    /// Whether term and vote are not durable: no turn has come to them, or their write is under way.
    fn has_unwritten_vote(&self) -> bool {
        let raft = &self.node.raft;
        self.voted != (raft.term, raft.vote) || self.flights.iter().any(|flight| flight.has_vote)
    }

    /// Whether raft does not know all of its entries to be durable.
    fn has_unwritten(&self) -> bool {
        self.node.raft.raft_log.persisted < self.node.raft.raft_log.last_index()
    }

    /// raft-rs draws the time until an election from a generator of its own; this one is seeded, so that a run can be
    /// repeated.
    pub(super) fn own_timeout(&mut self) {
        let raft = &mut self.node.raft;
        let role = (raft.term, raft.state);
        if self.role != role {
            self.role = role;
            let ticks = raft.election_timeout() as u64;
            self.timeout = raft.election_timeout() + (self.random.next() % ticks) as usize;
        }
        raft.set_randomized_election_timeout(self.timeout);
    }

    /// Whether a message says what no member that works can have seen of this one, or comes too early: it is passed over.
    fn cannot_be(&self, message: &Message) -> bool {
        use MessageType::{
            MsgAppendResponse, MsgHeartbeatResponse, MsgRequestPreVoteResponse,
            MsgRequestVoteResponse, MsgTimeoutNow,
        };
        let raft = &self.node.raft;
        match message.get_msg_type() {
            // Nobody has heard of this term yet: that waits for its vote.
            MsgAppendResponse | MsgHeartbeatResponse
                if message.term == raft.term && self.has_unwritten_vote() =>
            {
                raft.state == StateRole::Leader
            }
            // Of this term, nobody has more entries than their leader. raft-rs would send what follows them.
            MsgAppendResponse => {
                message.term == raft.term
                    && raft.state == StateRole::Leader
                    && !message.reject
                    && message.index > raft.raft_log.last_index()
            }
            // Nobody was asked yet: that waits for the entries. raft-rs would lead without them.
            MsgRequestVoteResponse if raft.state == StateRole::Candidate => {
                self.has_unwritten() && message.term == raft.term
            }
            MsgRequestPreVoteResponse | MsgRequestVoteResponse => self.must_not_stand(),
            // Of a later term, it makes a leader a follower first.
            MsgTimeoutNow => self.must_not_stand() || self.would_lead_unwritten(),
            _ => false,
        }
    }

    fn check(&self, message: &Message) -> Result<(), Fatal> {
        if message.term < self.node.raft.term {
            return Ok(());
        }
        let (log, leader) = (&self.node.raft.raft_log, MemberId(message.from));
        let (committed, last) = (log.committed, log.last_index());
        match message.get_msg_type() {
            MessageType::MsgHeartbeat if message.commit > last.max(committed) => {
                Err(Fatal::Lost { leader, known: message.commit, last })
            }
            MessageType::MsgAppend
                if log.match_term(message.index, message.log_term)
                    && message.entries.first().is_some_and(|first| first.index <= committed) =>
            {
                let conflict = log.find_conflict(&message.entries);
                if conflict == 0 || conflict > committed {
                    return Ok(());
                }
                Err(Fatal::Diverged { leader, index: conflict, committed })
            }
            MessageType::MsgSnapshot => {
                // Of entries before, the terms may not be known here any more, and raft-rs lets them be.
                let metadata = message.get_snapshot().get_metadata();
                let index = metadata.index;
                if index != committed || log.match_term(index, metadata.term) {
                    return Ok(());
                }
                Err(Fatal::Diverged { leader, index, committed })
            }
            _ => Ok(()),
        }
    }

    /// Whether the log has room for entries of `bytes` in all. Without it, wait until a segment was prepared.
    pub fn has_room(&self, entries: usize, bytes: usize) -> bool {
        self.log.has_room(entries * ENTRY_HEAD_BYTES + bytes)
    }

    /// Whether a proposal would be taken now: there is a leader, which can serve and does not hand over.
    pub fn can_propose(&self) -> bool {
        let raft = &self.node.raft;
        self.is_member()
            && raft.leader_id != 0
            && self.ready_to_lead()
            && raft.lead_transferee.is_none()
    }

    /// Proposes one batch, for which there must be room, as one entry. `proposal` comes back with its outcome, or as lost.
    pub fn propose(&mut self, batch: Bytes, proposal: P) -> Result<(), (Unavailable, P)> {
        let id = self.pending.name();
        let context = Bytes::copy_from_slice(&id.to_bytes());
        match self.step_proposal(Entry { data: batch, context, ..Entry::default() }) {
            Ok(()) => {
                self.pending.push(id, self.ticks, self.node.raft.term, proposal);
                Ok(())
            }
            Err(_) => Err((Unavailable::NoLeader, proposal)),
        }
    }

    /// Names a change of membership, a batch of one command, for [`Driver::propose_change`] of the leader. `proposal` comes
    /// back as from [`Driver::propose`].
    pub fn name_change(&mut self, batch: &[u8], proposal: P) -> Bytes {
        let id = self.pending.name();
        self.pending.push(id, self.ticks, self.node.raft.term, proposal);
        let mut context = BytesMut::with_capacity(ProposalId::BYTES + batch.len());
        context.put_slice(&id.to_bytes());
        context.put_slice(batch);
        context.freeze()
    }

    /// The batch in a change's context.
    pub fn change_in(&self, context: &Bytes) -> Option<Bytes> {
        (context.len() > ProposalId::BYTES).then(|| context.slice(ProposalId::BYTES..))
    }

    /// Takes back a change that was named and will not be proposed.
    pub fn forget_change(&mut self, context: &[u8]) -> Option<P> {
        self.pending.settle(context)
    }

    /// Proposes a change of membership, as named by the member that wants it. A leader that is to go hands over instead:
    /// clients wait for no election then, and who proposes the change is there when it has taken effect.
    ///
    /// # Errors
    /// This member does not lead, or not any more, or another change is under way, or the log has no room for it.
    pub fn propose_change(&mut self, context: Bytes) -> Result<(), Unavailable> {
        let refused = Err(Unavailable::NoLeader);
        let batch = self.change_in(&context).and_then(|batch| Batch::decode(batch).ok());
        let Some([command]) = batch.as_ref().map(Batch::commands) else { return refused };
        let Some(change) = membership::announced(command) else { return refused };
        let leads = self.is_member() && self.node.raft.state == StateRole::Leader;
        if !leads || self.node.raft.has_pending_conf() {
            return refused;
        }
        let is_own = matches!(command, Command::MemberRemove(it) if it.id == self.node.raft.id);
        // Once in a term: it may be that nobody can lead but this one. Of two the other one has to: it is needed anyway, and
        // what it has not heard of when this one is gone, nobody could tell it.
        let term = self.term();
        let must_hand_over = self.handed_over_in != term || self.others().count() == 1;
        if is_own && must_hand_over && self.others().next().is_some() {
            if let Some(successor) = self.successor() {
                self.handed_over_in = term;
                self.transfer_leader(successor);
            }
            return refused;
        }
        let Ok(data) = change.write_to_bytes() else { return refused };
        if !self.has_room(1, data.len() + context.len()) {
            return Err(Unavailable::NoSpace);
        }
        let entry = Entry {
            entry_type: EntryType::EntryConfChangeV2,
            data: data.into(),
            context,
            ..Entry::default()
        };
        self.step_proposal(entry).map_err(|_| Unavailable::NoLeader)
    }

    /// Whether a change of membership is under way, which another one has to wait for.
    pub fn is_changing(&self) -> bool {
        self.node.raft.has_pending_conf()
    }

    /// `RawNode::propose` would copy the data into a `Vec` of its own.
    fn step_proposal(&mut self, entry: Entry) -> raft::Result<()> {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.node.raft.id;
        message.set_entries(vec![entry].into());
        self.node.raft.step(message)
    }

    /// The members, as of what is applied.
    pub fn members(&self) -> &Members {
        self.store.members()
    }

    /// Leaves this member alone in the group, at a start, as it says of itself, with the peer URLs that the group knows: see
    /// [`Store::force_new_cluster`](crate::store::Store::force_new_cluster).
    pub fn force_new_cluster(&mut self, own: &Member) -> Result<(), Fatal> {
        let known = self.members().get(MemberId(own.id)).unwrap_or(own);
        let peer_ur_ls = known.peer_ur_ls.clone();
        self.store.force_new_cluster(&Member { peer_ur_ls, ..own.clone() });
        // raft-rs changes one member at a time.
        let mut conf = self.node.raft.prs().conf().to_conf_state();
        while let Some(step) = membership::step_to(self.store.members(), &conf) {
            conf = self.node.apply_conf_change(&step)?;
        }
        self.window.set_conf_state(conf);
        self.place = Place::Member;
        self.changed = true;
        Ok(())
    }

    /// Lets raft's configuration follow the table of members, one change of which was applied. Its own removal is not for
    /// this member's raft, which cannot lead a group that it is not in.
    pub(super) fn follow_members(&mut self, turn: &mut Turn<P, R>) -> Result<(), Fatal> {
        let own = MemberId(self.node.raft.id);
        if !self.is_member() {
            return Ok(());
        }
        if self.store.members().get(own).is_none() {
            self.window.set_conf_state(membership::conf_state(self.store.members()));
            self.place = Place::Leaving { removal: self.store.applied() };
            turn.lost.extend(self.pending.fail_all());
            turn.unreadable.extend(self.rounds.take_all());
            return Ok(());
        }
        let conf = self.node.raft.prs().conf().to_conf_state();
        let Some(step) = membership::step_to(self.store.members(), &conf) else { return Ok(()) };
        self.node.apply_conf_change(&step)?;
        self.window.set_conf_state(membership::conf_state(self.store.members()));
        Ok(())
    }

    /// Whether others know that this member was removed: most of those who stay, where it leads, and else one voter, which
    /// goes on to tell them. By what they knew before they may need a vote of it, which nobody could give any more.
    pub(super) fn may_leave(&self) -> bool {
        let Place::Leaving { removal } = self.place else { return false };
        if self.node.raft.state != StateRole::Leader {
            return self.told >= removal;
        }
        let knows = |it: &(u64, &Progress)| it.1.committed_index >= removal.0;
        self.others().filter(knows).count() > self.others().count() / 2
    }

    /// The voters but this one.
    fn others(&self) -> impl Iterator<Item = (u64, &Progress)> {
        let (own, prs) = (self.node.raft.id, self.node.raft.prs());
        let others = prs.iter().map(|(id, progress)| (*id, progress));
        others.filter(move |(id, _)| *id != own && prs.conf().voters().contains(*id))
    }

    /// Leaves before others know, as an operator wants it or one of them says: what has to be sent yet.
    pub fn leave_now(&mut self) -> Vec<Message> {
        let mut turn = Turn::default();
        if self.is_leaving() {
            self.leave(&mut turn);
        }
        turn.messages
    }

    /// Goes no further, and lets another take over at once.
    pub(super) fn leave(&mut self, turn: &mut Turn<P, R>) {
        self.place = Place::Gone;
        if self.node.raft.state == StateRole::Leader
            && let Some(successor) = self.furthest(|_| true)
        {
            self.node.raft.send_timeout_now(successor.0);
            let messages = mem::take(&mut self.node.raft.msgs);
            self.sort_messages(messages, turn);
        }
    }

    fn is_member(&self) -> bool {
        matches!(self.place, Place::Member)
    }

    /// Whether this member was removed, and stays until others know.
    pub fn is_leaving(&self) -> bool {
        matches!(self.place, Place::Leaving { .. })
    }

    /// Whether this member has gone for good.
    pub(super) fn has_left(&self) -> bool {
        matches!(self.place, Place::Gone)
    }

    /// Opens one round for all `readers`.
    pub fn read_index(&mut self, readers: Vec<R>) -> Result<(), (Unavailable, Vec<R>)> {
        if !self.can_read() {
            return Err((Unavailable::NoLeader, readers));
        }
        let context = self.rounds.open(self.ticks, readers);
        self.node.read_index(context.to_bytes());
        Ok(())
    }

    /// Whether a read index would be asked for now. raft-rs drops one silently without a leader, and before the leader's
    /// first commit of its term.
    pub fn can_read(&self) -> bool {
        self.is_member() && self.node.raft.leader_id != 0 && self.ready_to_lead()
    }

    /// Whether a leader here has committed an entry of its own term; true on a follower, which asks its leader.
    fn ready_to_lead(&self) -> bool {
        self.node.raft.state != StateRole::Leader || self.node.raft.commit_to_current_term()
    }

    /// When another member leads, reads that waited for the one before will not be heard of. Proposals may: it has their
    /// entries, or will replace them.
    pub(super) fn follow_leader(&mut self, turn: &mut Turn<P, R>) {
        let leader = self.node.raft.leader_id;
        let before = mem::replace(&mut self.leader, leader);
        if before != leader && before != 0 {
            turn.unreadable.extend(self.rounds.take_all());
            self.catching_up.clear();
        }
    }

    /// Announcements of states go with the state that they announce.
    pub(super) fn sort_messages(&mut self, messages: Vec<Message>, turn: &mut Turn<P, R>) {
        for message in messages {
            if message.get_msg_type() != MessageType::MsgSnapshot {
                turn.messages.push(message);
                continue;
            }
            let index = message.get_snapshot().get_metadata().index;
            assert_eq!(index, self.published.applied().0, "raft orders what was published last");
            self.catching_up.insert(MemberId(message.to), Index(index));
            turn.snapshots.push((message, self.published.clone()));
        }
    }

    /// The state at `index` was sent to `member`, which has taken it over; or not.
    pub fn report_snapshot(&mut self, member: MemberId, index: Index, is_taken: bool) {
        // The member's own word that it has a state may be here first. Another may have been ordered since, and is under way.
        let progress = self.node.raft.prs().get(member.0);
        let is_awaited = progress.is_some_and(|progress| {
            progress.state == ProgressState::Snapshot && progress.pending_snapshot == index.0
        });
        if self.has_left() || !is_awaited {
            return;
        }
        let status = if is_taken { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.node.report_snapshot(member.0, status);
        if !is_taken {
            self.catching_up.remove(&member);
        }
    }

    /// Messages to `member` were lost.
    pub fn report_unreachable(&mut self, member: MemberId) {
        if !self.has_left() {
            self.node.report_unreachable(member.0);
        }
    }

    /// Members that have all that was published need no more of the window than others.
    pub(super) fn forget_caught_up(&mut self) {
        if self.catching_up.is_empty() {
            return;
        }
        let (prs, published) = (self.node.raft.prs(), self.published.applied().0);
        self.catching_up.retain(|member, index| {
            let Some(progress) = prs.get(member.0) else { return false };
            *index = Index(index.0.max(progress.matched));
            // That a state has arrived is not yet what its receiver says of its log.
            progress.state == ProgressState::Snapshot || progress.matched < published
        });
    }

    /// Whether raft will take over the state that `message` announces, once this member has it. No message may come between
    /// the question and the state's taking over.
    pub fn wants_snapshot(&self, message: &Message) -> bool {
        let raft = &self.node.raft;
        let metadata = message.get_snapshot().get_metadata();
        let conf = metadata.get_conf_state();
        message.term >= raft.term
            && (raft.state != StateRole::Leader || message.term > raft.term)
            && metadata.index > raft.raft_log.committed
            && !raft.raft_log.match_term(metadata.index, metadata.term)
            && conf.voters.iter().chain(&conf.learners).any(|member| *member == raft.id)
    }

    /// Takes over the state that `message` announced, which is durable in the place of this member's own. No write and no
    /// checkpoint may be under way.
    pub fn install(&mut self, message: Message, store: Store) -> Result<(), Fatal> {
        assert!(self.flights.is_empty(), "writes to the log are under way");
        let (applied, term) = (store.applied().0, store.term().0);
        // Before the window begins there: raft would find that it has what the state would bring.
        self.node.step(message)?;
        assert!(self.node.snap().is_some(), "raft does not take over state {applied}");
        self.store = store;
        self.committed.clear();
        self.changes.clear();
        self.window.restart((applied, term), membership::conf_state(self.store.members()));
        self.log.restart(applied);
        self.since_checkpoint = super::Since::default();
        self.changed = true;
        self.sweeping = true;
        self.tidied = false;
        Ok(())
    }

    /// Whether this member leads and has committed an entry of its term, so that it can serve.
    pub fn leads(&self) -> bool {
        self.is_member() && self.node.raft.state == StateRole::Leader && self.ready_to_lead()
    }

    /// Raft's term.
    pub fn term(&self) -> Term {
        Term(self.node.raft.term)
    }

    /// The leader, if one is known.
    pub fn leader(&self) -> Option<MemberId> {
        (self.node.raft.leader_id != 0).then_some(MemberId(self.node.raft.leader_id))
    }

    /// Index of the newest entry applied.
    pub fn applied(&self) -> Index {
        self.store.applied()
    }

    /// Index of the newest entry known committed.
    pub fn committed(&self) -> Index {
        Index(self.node.raft.raft_log.committed)
    }

    /// Index of the newest entry.
    pub fn last_index(&self) -> Index {
        Index(self.node.raft.raft_log.last_index())
    }

    /// What the leader knows of another member; `None` where this member does not lead, or does not know it.
    pub fn follower(&self, member: MemberId) -> Option<Follower> {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return None;
        }
        raft.prs().get(member.0).map(|progress| Follower {
            matched: Index(progress.matched),
            is_active: progress.recent_active || member.0 == raft.id,
            is_voter: raft.prs().conf().voters().contains(member.0),
        })
    }

    /// Hands leadership over; raft gives up after an election timeout. [`Driver::leader`] tells.
    pub fn transfer_leader(&mut self, to: MemberId) {
        self.node.transfer_leader(to.0);
    }

    /// Whether leadership is being handed over.
    pub fn is_transferring(&self) -> bool {
        self.node.raft.lead_transferee.is_some()
    }

    /// Who should lead when this member stops: the voter that is furthest among those heard of lately.
    pub fn successor(&self) -> Option<MemberId> {
        let leads = self.node.raft.state == StateRole::Leader;
        leads.then(|| self.furthest(|progress| progress.recent_active)).flatten()
    }

    /// The voter beside this one that is furthest, of several one heard of lately.
    fn furthest(&self, may: impl Fn(&Progress) -> bool) -> Option<MemberId> {
        let others = self.others().filter(|(_, progress)| may(progress));
        others
            .max_by_key(|(id, progress)| (progress.matched, progress.recent_active, *id))
            .map(|(id, _)| MemberId(id))
    }
}
