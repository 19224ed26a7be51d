//! Target `peer`: what other members send, through the transport into a real driver.
//!
//! An input is pieces: a byte for who sends it (members 2 and 3), two for its length, then what comes on the connection,
//! mostly one frame. The transport judges it as it judges a connection, and what it lets pass goes to member 1's driver
//! as the log shard would hand it over. A ping stands for ticks of the clock, and a question of a kind that no member
//! asks for something that happens at member 1 itself ([`local`]): so one input is a whole history.
//!
//! Nothing may panic. An error of the driver that ends the member is an outcome: where it should have been refused at the
//! door, the outcome's text says so to whoever reads it.

mod member;

use bytes::Bytes;
use fastrand::Rng;
use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};
use urd::ids::MemberId;
use urd::raft::transport::probe::{self, Heard};
use urd::server::bootstrap;
use urd::server::question;

use self::member::Member;
use super::{Outcome, Target, mutate, protobuf as wire, samples};

/// Who is fed.
pub const OWN: MemberId = MemberId(1);
/// Sender and length.
const PIECE_HEAD_BYTES: usize = 3;
/// A question's number and kind.
const QUESTION_HEAD_BYTES: usize = 9;
/// Ticks at once, at most.
const TICKS_MAX: usize = 24;
/// Ticks after everything: what was broken shows when an election or a heartbeat is due.
const LAST_TICKS: usize = 30;
/// Pieces of an input that count.
const PIECES_MAX: usize = 96;

/// What happens at member 1 itself, as kinds of questions that no member asks.
pub mod local {
    /// A client puts a key.
    pub const PUT: u8 = 100;
    /// A client reads.
    pub const READ: u8 = 101;
    /// Leadership is to be handed to the member in the body.
    pub const HAND_OVER: u8 = 102;
    /// The disk does not answer any more.
    pub const HOLD_WRITES: u8 = 103;
    /// It answers again.
    pub const LET_WRITES: u8 = 104;
    /// A checkpoint is made, and the log before it goes.
    pub const CHECKPOINT: u8 = 105;
    /// Somebody wants a learner added.
    pub const CHANGE: u8 = 106;
    /// At the beginning: the member joins, and knows nothing yet.
    pub const JOIN: u8 = 107;
}

/// See the module's page.
pub struct Peer {
    seeds: Vec<Vec<u8>>,
}

impl Default for Peer {
    fn default() -> Self {
        Self::new()
    }
}

impl Peer {
    /// Records the conversations of real groups.
    pub fn new() -> Self {
        let mut seeds = member::conversations();
        let join = |pieces: &Vec<Piece>| {
            let joins = Piece::happening(local::JOIN, b"");
            std::iter::once(joins).chain(pieces.iter().cloned()).collect()
        };
        seeds.extend(seeds.iter().map(join).collect::<Vec<_>>());
        Self { seeds: seeds.iter().map(|pieces| encode(pieces)).collect() }
    }
}

impl Target for Peer {
    fn name(&self) -> &'static str {
        "peer"
    }

    fn about(&self) -> &'static str {
        "pieces of what members 2 and 3 send to member 1: sender, length (u16), bytes on the wire"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        self.seeds.clone()
    }

    fn mutate(&self, input: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
        if random.u8(..16) == 0 {
            return mutate::bytes(input, other, random);
        }
        let (mut pieces, others) = (decode(input), decode(other));
        match random.u8(..8) {
            _ if pieces.is_empty() => pieces = others,
            0 => mutate::list(&mut pieces, &others, random),
            1 => {
                let at = random.usize(..=pieces.len());
                pieces.insert(at, happening(random));
            }
            2 => {
                let at = random.usize(..=pieces.len());
                pieces.insert(at, made_up(random));
            }
            _ => {
                let at = random.usize(..pieces.len());
                let other = if others.is_empty() { at } else { random.usize(..others.len()) };
                let other = others.get(other).map_or(&[][..], |piece| &piece.body);
                pieces[at].change(other, random);
            }
        }
        *input = encode(&pieces);
    }

    fn run(&self, input: &[u8]) -> Outcome {
        let mut outcome = Outcome::default();
        let joins = decode(input).first().is_some_and(Piece::joins);
        let mut member = if joins { Member::joining(OWN.0) } else { Member::new(OWN.0, &[]) };
        let mut rest = input;
        for _ in 0..PIECES_MAX {
            let Some((from, bytes)) = next_piece(&mut rest) else { break };
            let (heard, malformed) = probe::hear(bytes, from, OWN);
            for one in heard {
                if take(&mut member, from, one, &mut outcome).is_err() {
                    return outcome;
                }
            }
            if let Some(malformed) = malformed {
                let mut part = Outcome::default();
                part.text(&malformed);
                outcome.part(&part);
            }
        }
        member.holds_writes = false;
        for _ in 0..LAST_TICKS {
            member.tick();
            if member.work(&mut outcome).is_err() {
                return outcome;
            }
        }
        member.describe(&mut outcome);
        outcome
    }
}

/// What a member does about what it heard. An error has ended it.
fn take(
    member: &mut Member,
    from: MemberId,
    heard: Heard,
    outcome: &mut Outcome,
) -> Result<(), member::Ended> {
    match heard {
        Heard::Message(message) => member.step(message, outcome)?,
        Heard::Ping(body) => {
            let ticks = body.first().map_or(1, |ticks| usize::from(*ticks) % TICKS_MAX);
            for _ in 0..ticks {
                member.tick();
                member.work(outcome)?;
            }
        }
        Heard::Question(kind, body) => match kind {
            local::PUT => member.put(&body),
            local::READ => member.read(),
            local::HAND_OVER => member.hand_over(body.first().map_or(2, |to| u64::from(*to % 4))),
            local::HOLD_WRITES => member.holds_writes = true,
            local::LET_WRITES => member.holds_writes = false,
            local::CHECKPOINT => member.checkpoint(),
            local::CHANGE => member.change(),
            local::JOIN => {}
            kind => ask(kind, body, outcome),
        },
        Heard::Announcement(message) => member.take_state(message, outcome)?,
        Heard::Other(kind) => outcome.once(&format!("frame{kind}")),
    }
    if from != OWN {
        member.work(outcome)?;
    }
    Ok(())
}

/// Questions and answers beside raft.
fn ask(kind: u8, body: Bytes, outcome: &mut Outcome) {
    let decoded = match question::Kind::from_byte(kind) {
        Some(question::Kind::Leases) => {
            let count = body.len() / 9;
            question::decode_leases(body.clone()).is_some()
                || question::decode_lease_answers(body, count).is_some()
        }
        Some(question::Kind::Change) => question::decode_change_answer(&body).is_some(),
        Some(question::Kind::Hash) => question::HashAnswer::decode(&body).is_some(),
        Some(question::Kind::Members) => {
            bootstrap::is_question(&body) || bootstrap::Known::decode(&body).is_ok()
        }
        None => false,
    };
    outcome.once(if decoded { "understood" } else { "not-understood" });
}

/// A piece of an input: who sends it, and a frame.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    from: u64,
    kind: u8,
    body: Vec<u8>,
}

impl Piece {
    fn message(message: &Message) -> Self {
        let body = message.write_to_bytes().expect("invariant: it has all its fields");
        Self { from: message.from, kind: probe::MESSAGE, body }
    }

    fn ticks(ticks: u8) -> Self {
        Self { from: 2, kind: probe::PING, body: vec![ticks] }
    }

    fn happening(kind: u8, about: &[u8]) -> Self {
        let mut body = vec![0; QUESTION_HEAD_BYTES - 1];
        body.push(kind);
        body.extend_from_slice(about);
        Self { from: 2, kind: probe::QUESTION, body }
    }

    fn joins(&self) -> bool {
        self.kind == probe::QUESTION && self.body.get(QUESTION_HEAD_BYTES - 1) == Some(&local::JOIN)
    }

    fn change(&mut self, other: &[u8], random: &mut Rng) {
        if self.kind != probe::MESSAGE && self.kind != probe::HEADER {
            return mutate::bytes(&mut self.body, other, random);
        }
        match random.u8(..12) {
            0 => return self.kind = random.u8(1..13),
            1 => return mutate::bytes(&mut self.body, other, random),
            _ => wire::message(&mut self.body, other, random),
        }
        let Ok(mut message) = Message::parse_from_bytes(&self.body) else { return };
        if random.u8(..8) == 0 {
            message.set_msg_type(any_type(random));
        }
        // Otherwise it would not get far.
        if random.u8(..10) > 0 {
            (message.from, message.to) = (self.from, OWN.0);
            let first = message.index.wrapping_add(1);
            for (entry, nth) in message.mut_entries().iter_mut().zip(0..) {
                if random.u8(..4) > 0 {
                    entry.index = first.wrapping_add(nth);
                }
            }
        }
        self.body = message.write_to_bytes().unwrap_or_default();
    }
}

fn any_type(random: &mut Rng) -> MessageType {
    use MessageType::*;
    const ALL: [MessageType; 19] = [
        MsgHup,
        MsgBeat,
        MsgPropose,
        MsgAppend,
        MsgAppendResponse,
        MsgRequestVote,
        MsgRequestVoteResponse,
        MsgSnapshot,
        MsgHeartbeat,
        MsgHeartbeatResponse,
        MsgUnreachable,
        MsgSnapStatus,
        MsgCheckQuorum,
        MsgTransferLeader,
        MsgTimeoutNow,
        MsgReadIndex,
        MsgReadIndexResp,
        MsgRequestPreVote,
        MsgRequestPreVoteResponse,
    ];
    ALL[random.usize(..ALL.len())]
}

/// Something that happens at the member.
fn happening(random: &mut Rng) -> Piece {
    match random.u8(..10) {
        0..4 => Piece::ticks(random.u8(..24)),
        _ => Piece::happening(random.u8(local::PUT..=local::JOIN), &[random.u8(..4)]),
    }
}

/// A message of any type with small numbers.
fn made_up(random: &mut Rng) -> Piece {
    let mut message = Message::default();
    message.set_msg_type(any_type(random));
    (message.from, message.to) = (random.u64(2..4), OWN.0);
    message.term = random.u64(1..6);
    message.index = random.u64(..12);
    message.log_term = random.u64(..4);
    message.commit = random.u64(..12);
    message.commit_term = random.u64(..4);
    message.reject = random.u8(..4) == 0;
    message.reject_hint = random.u64(..12);
    message.priority = if random.u8(..16) == 0 { random.i64(-2..2) } else { 0 };
    message.request_snapshot = if random.u8(..16) == 0 { random.u64(..12) } else { 0 };
    for nth in 0..random.u64(..3) {
        let index = message.index + 1 + nth;
        let mut entry = raft::eraftpb::Entry { index, term: random.u64(..5), ..Default::default() };
        if random.bool() {
            entry.data = samples::batch(&samples::commands()[..1]);
        }
        if random.u8(..6) == 0 {
            entry.set_entry_type(raft::eraftpb::EntryType::EntryConfChangeV2);
        }
        message.mut_entries().push(entry);
    }
    let mut piece = Piece::message(&message);
    if message.get_msg_type() == MessageType::MsgSnapshot {
        let metadata = message.mut_snapshot().mut_metadata();
        (metadata.index, metadata.term) = (random.u64(..20), random.u64(..5));
        metadata.mut_conf_state().voters = vec![1, 2, 3];
        piece = Piece::message(&message);
        piece.kind = if random.bool() { probe::HEADER } else { probe::MESSAGE };
    }
    piece
}

fn next_piece<'a>(bytes: &mut &'a [u8]) -> Option<(MemberId, &'a [u8])> {
    let (&[from, low, high], rest) = bytes.split_first_chunk::<PIECE_HEAD_BYTES>()?;
    let length = usize::from(u16::from_le_bytes([low, high]));
    let (piece, rest) = rest.split_at(length.min(rest.len()));
    *bytes = rest;
    Some((MemberId(2 + u64::from(from % 2)), piece))
}

/// The pieces of an input, as if each was one frame.
fn decode(mut bytes: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    while let Some((from, frame)) = next_piece(&mut bytes) {
        if let Some((head, body)) = frame.split_first_chunk::<{ probe::HEAD_BYTES }>() {
            pieces.push(Piece { from: from.0, kind: head[4], body: body.to_vec() });
        }
    }
    pieces
}

fn encode(pieces: &[Piece]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Piece { from, kind, body } in pieces {
        let body = &body[..body.len().min(usize::from(u16::MAX) - probe::HEAD_BYTES)];
        let frame = probe::frame(*kind, body).unwrap_or_default();
        bytes.push(u8::try_from(from % 2).unwrap_or(0));
        bytes.extend_from_slice(&u16::try_from(frame.len()).unwrap_or(0).to_le_bytes());
        bytes.extend(frame);
    }
    bytes
}
