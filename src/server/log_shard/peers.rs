//! What comes from other members, and what is asked of them: raft's messages, and questions beside raft.
//!
//! The transport calls the [`Doorkeeper`], which answers what needs no more than the published state, and puts everything
//! else into the log shard's inbox. Messages are stepped in the order in which they came, as far as the log has room for
//! their entries: those that find none wait for the next segment.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_lite::future::yield_now;
use raft::eraftpb::{Message, MessageType};
use tokio::sync::oneshot;
use urd_wal::disk::Disk;

use super::super::bootstrap;
use super::super::mesh::{Key, ToShard};
use super::super::shard::Shared;
use super::catch_up::Receiving;
use super::question::{self, HashAnswer, Kind};
use super::{Failure, Inbox, LogShard, Reader, Who};
use crate::api::node::{LeaseAnswer, LeaseQuestion};
use crate::error::Unavailable;
use crate::ids::{Index, MemberId};
use crate::limits;
use crate::raft::transport::{Answering, Events, Reason, Refusal, SnapshotReader};
use crate::store::HashScan;

/// What another member says, or what has become of what it was told.
pub(super) enum FromPeer {
    /// raft's.
    Message(Message),
    /// Messages to it were lost.
    Unreachable(MemberId),
    /// Questions about leases, for the leader.
    Leases(RemoteQuestions),
    /// It wants its membership, or another's, changed.
    Change { context: Bytes, answer: oneshot::Sender<question::ChangeAnswer> },
    /// What the leader said to such a wish of this member's own.
    Changed { nth: usize, answer: question::ChangeAnswer },
    /// The state that was sent to it.
    StateSent { to: MemberId, index: Index, is_taken: bool },
    /// It says that this member was removed.
    Removed,
}

/// Another member's questions about leases, and the answers so far.
pub struct RemoteQuestions {
    questions: Vec<LeaseQuestion>,
    answers: Vec<Option<LeaseAnswer>>,
    answer: oneshot::Sender<Vec<LeaseAnswer>>,
}

/// Whose question about a lease it is.
#[derive(Debug)]
pub(super) enum Asker {
    /// A shard's.
    Shard { shard: usize, key: Key },
    /// Another member's: which of its calls, and which question in it.
    Remote { call: usize, nth: usize },
}

/// What the transport talks to.
pub struct Doorkeeper<D: Disk> {
    /// Where the log shard looks.
    pub inbox: Rc<Inbox<D>>,
    /// What is published.
    pub shared: Arc<Shared>,
    /// Where states arrive.
    pub receiving: Rc<Receiving<D>>,
}

impl<D: Disk + 'static> Events for Doorkeeper<D> {
    fn message(&self, message: Message) {
        self.inbox.push_peer(FromPeer::Message(message));
    }

    fn unreachable(&self, peer: MemberId) {
        self.inbox.push_peer(FromPeer::Unreachable(peer));
    }

    fn asked(&self, from: Option<MemberId>, kind: u8, body: Bytes) -> Answering {
        let kind = Kind::from_byte(kind);
        match (kind, from) {
            (Some(Kind::Members), _) => {
                if !bootstrap::is_question(&body) {
                    return refuse("a question of another version");
                }
                let published = self.shared.published.load();
                if published.view.members().is_empty() {
                    return refuse("this member is about to join itself");
                }
                let cluster = self.shared.identity.cluster;
                let answer = bootstrap::answer(cluster, published.view.members());
                Box::pin(async move { Ok(answer) })
            }
            (Some(kind), Some(_)) => self.answer(kind, body),
            (Some(_), None) => refuse("only members may ask this"),
            (None, _) => refuse("no such question"),
        }
    }

    fn snapshot(&self, from: MemberId, header: Bytes, reader: SnapshotReader) {
        let ends = (from, self.shared.identity.member);
        Rc::clone(&self.receiving).receive(Rc::clone(&self.inbox), ends, &header, reader);
    }

    fn refused(&self, refusal: &Refusal) {
        if refusal.reason == Reason::Removed {
            self.inbox.push_peer(FromPeer::Removed);
        }
    }

    /// A learner does not say so: whom it sent away may be needed by voters that do not know yet.
    fn was_removed(&self, member: MemberId) -> bool {
        let published = self.shared.published.load();
        let is_learner = published.view.members().is_learner(self.shared.identity.member);
        published.view.is_removed(member) && !is_learner
    }
}

impl<D: Disk + 'static> Doorkeeper<D> {
    fn answer(&self, kind: Kind, body: Bytes) -> Answering {
        match kind {
            Kind::Leases => {
                let Some(questions) = question::decode_leases(body) else {
                    return refuse("malformed questions about leases");
                };
                let (answer, answers) = oneshot::channel();
                let pending = vec![None; questions.len()];
                let questions = RemoteQuestions { questions, answers: pending, answer };
                self.inbox.push_peer(FromPeer::Leases(questions));
                Box::pin(async move {
                    let answers = answers.await.map_err(|_| "stopped".to_owned())?;
                    Ok(question::encode_lease_answers(&answers))
                })
            }
            Kind::Change => {
                let (answer, answered) = oneshot::channel();
                self.inbox.push_peer(FromPeer::Change { context: body, answer });
                Box::pin(async move {
                    let answer = answered.await.map_err(|_| "stopped".to_owned())?;
                    Ok(question::encode_change_answer(answer))
                })
            }
            Kind::Hash => {
                let Some(revision) =
                    body.first_chunk::<8>().map(|bytes| i64::from_le_bytes(*bytes))
                else {
                    return refuse("malformed question for a hash");
                };
                let view = self.shared.published.load().view.clone();
                Box::pin(async move {
                    let mut scan =
                        HashScan::new(view, revision).map_err(|rejected| rejected.to_string())?;
                    loop {
                        if let Some(hash) = scan.step(limits::HASH_SLICE_BYTES) {
                            let (compacted, revision) = (hash.compact_revision, hash.revision);
                            let answer = HashAnswer { hash: hash.hash, compacted, revision };
                            return Ok(answer.encode());
                        }
                        yield_now().await;
                    }
                })
            }
            Kind::Members => refuse("no such question"),
        }
    }
}

fn refuse(why: &'static str) -> Answering {
    Box::pin(async move { Err(why.to_owned()) })
}

impl<D: Disk + 'static> LogShard<D> {
    /// Takes what other members say, as far as the log has room. True when some is left for another pass.
    pub(super) fn take_messages(&mut self) -> Result<bool, Failure> {
        let inbox = Rc::clone(&self.inbox);
        self.appended_bytes = 0;
        let (mut entries, mut bytes) = (0, 0);
        loop {
            let Some(message) = inbox.peers.borrow_mut().pop_front() else { return Ok(false) };
            let FromPeer::Message(message) = message else {
                self.take_from_peer(message);
                continue;
            };
            if !message.entries.is_empty() {
                let more_entries = entries + message.entries.len();
                let more_bytes = bytes
                    + message
                        .entries
                        .iter()
                        .map(|entry| entry.data.len() + entry.context.len())
                        .sum::<usize>();
                let has_room = self.driver.has_room(more_entries, more_bytes);
                // Without a segment to come, which is a full disk, the leader has to send it again.
                if !has_room && self.prepare_from.is_some() && entries == 0 {
                    continue;
                }
                if !has_room || (entries > 0 && more_bytes > limits::STEP_BYTES_PER_PASS) {
                    inbox.peers.borrow_mut().push_front(FromPeer::Message(message));
                    // Those before it have to leave the pass first, or the next segment has to come.
                    return Ok(entries > 0);
                }
                (entries, bytes) = (more_entries, more_bytes);
                self.appended_bytes = bytes;
            }
            self.step(message)?;
        }
    }

    fn step(&mut self, message: Message) -> Result<(), Failure> {
        // raft-rs would pass these on to the leader it knows, in the name of who asked; who asked finds it by itself.
        let is_for_leader = matches!(
            message.get_msg_type(),
            MessageType::MsgPropose | MessageType::MsgReadIndex | MessageType::MsgTransferLeader
        );
        if is_for_leader && self.driver.leader() != Some(self.shared.identity.member) {
            return Ok(());
        }
        let is_forwarded = message.get_msg_type() == MessageType::MsgPropose;
        self.driver.step(message)?;
        if is_forwarded {
            self.notices.note_forwarded(self.driver.last_index());
        }
        Ok(())
    }

    fn take_from_peer(&mut self, message: FromPeer) {
        match message {
            FromPeer::Message(_) => unreachable!("invariant: the caller takes these"),
            FromPeer::Unreachable(peer) => self.driver.report_unreachable(peer),
            FromPeer::Leases(questions) => self.wait_for_index(Who::RemoteLeases(questions)),
            FromPeer::Change { context, answer } => self.want_change_of_another(context, answer),
            FromPeer::Changed { nth, answer } => self.note_change_answer(nth, answer),
            FromPeer::StateSent { to, index, is_taken } => {
                self.driver.report_snapshot(to, index, is_taken);
            }
            FromPeer::Removed => self.membership.note_refused(),
        }
    }

    /// Where another member leads, questions about leases go there and wait for no index here.
    pub(super) fn forward_questions(&mut self) {
        let own = self.shared.identity.member;
        let Some(leader) = self.driver.leader().filter(|leader| *leader != own) else { return };
        let is_question =
            |reader: &mut Reader| matches!(reader.who, Who::Leases { .. } | Who::RemoteLeases(_));
        let readers: Vec<Reader> = self.reads.extract_if(.., is_question).collect();
        for Reader { who, .. } in readers {
            match who {
                Who::Leases { shard, questions } => self.ask_leader(leader, shard, questions),
                // Who asked took this member for the leader, and will ask another.
                Who::RemoteLeases(questions) => questions.end(Unavailable::NoLeader),
                Who::Reads { .. } => unreachable!("invariant: not a question"),
            }
        }
    }

    fn ask_leader(&self, leader: MemberId, shard: usize, questions: Vec<(Key, LeaseQuestion)>) {
        let transport = Rc::clone(&self.transport);
        let port = Rc::clone(self.ports.get(shard).expect("invariant: every shard has a port"));
        glommio::spawn_local(async move {
            let body = question::encode_leases(questions.iter().map(|(_, question)| *question));
            let asked =
                transport.ask(leader, Kind::Leases as u8, body, limits::REQUEST_TIMEOUT).await;
            let answers = match asked {
                Ok(bytes) => question::decode_lease_answers(bytes, questions.len()),
                Err(error) => {
                    tracing::debug!(%leader, %error, "no answer about leases");
                    None
                }
            };
            // Whether a lease was renewed is not known; to renew it again does no harm.
            let answers =
                answers.unwrap_or_else(|| vec![Err(Unavailable::LeaderChanged); questions.len()]);
            let keys = questions.into_iter().map(|(key, _)| key);
            port.post(ToShard::Leases { answers: keys.zip(answers).collect() });
        })
        .detach();
    }

    /// A read index says that this member leads, or there is none: the lessor answers another member's questions.
    pub(super) fn ask_for_another(
        &mut self,
        remote: RemoteQuestions,
        outcome: Result<(), Unavailable>,
    ) {
        if let Err(unavailable) = outcome {
            return remote.end(unavailable);
        }
        if remote.questions.is_empty() {
            return remote.end(Unavailable::NoLeader);
        }
        let now = Instant::now();
        let questions = remote.questions.clone();
        let call = self.remote_questions.insert(remote);
        for (nth, question) in questions.into_iter().enumerate() {
            self.lessor.ask(now, Asker::Remote { call, nth }, question);
        }
    }

    /// The lessor has answered one of another member's questions.
    pub(super) fn note_remote_answer(&mut self, call: usize, nth: usize, answer: LeaseAnswer) {
        let Some(remote) = self.remote_questions.get_mut(call) else { return };
        if let Some(place) = remote.answers.get_mut(nth) {
            *place = Some(answer);
        }
        if remote.answers.iter().all(Option::is_some) {
            let remote = self.remote_questions.remove(call);
            let answers = remote.answers.into_iter().flatten().collect();
            // Whoever asked may have gone.
            remote.answer.send(answers).ok();
        }
    }
}

impl RemoteQuestions {
    /// Answers all of them alike.
    fn end(self, unavailable: Unavailable) {
        let answers = vec![Err(unavailable); self.questions.len()];
        // Whoever asked may have gone.
        self.answer.send(answers).ok();
    }
}
