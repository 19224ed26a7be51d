//! The links between members: when a message arrives, if it does.

use std::collections::BTreeMap;
use std::fmt::Display;

use fastrand::Rng;
use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};
use urd::ids::MemberId;
use urd::raft::transport::probe::Heard;
use urd::raft::transport::{self, probe};

use super::settings::{Links, Time};

/// What `message` is at its other end: its bytes go through the frames and rules of the members' connections.
/// With `bytewise` they are received one by one.
pub(super) fn cross(message: &Message, bytewise: bool) -> Result<Message, String> {
    let (from, to) = (MemberId(message.from), MemberId(message.to));
    let refused = |what: &dyn Display| format!("{message:?} is refused: {what}");
    let bytes = message.write_to_bytes().map_err(|error| refused(&error))?;
    if message.get_msg_type() == MessageType::MsgSnapshot {
        return transport::announcement(&bytes, from, to).map_err(|what| refused(&what));
    }
    let frame = probe::frame(probe::MESSAGE, &bytes).ok_or_else(|| refused(&"no frame"))?;
    let piece = if bytewise { 1 } else { frame.len() };
    match probe::hear_pieces(frame.chunks(piece), from, to) {
        (mut heard, None) => match heard.pop() {
            Some(Heard::Message(message)) => Ok(message),
            other => Err(refused(&format!("{other:?}"))),
        },
        (_, Some(what)) => Err(refused(&what)),
    }
}

/// From and to.
type Link = (u64, u64);

/// See the module's page.
#[derive(Debug)]
pub(super) struct Network {
    links: Links,
    /// Until when a link loses everything.
    cut: BTreeMap<Link, Time>,
    /// Until when it keeps everything back.
    clogged: BTreeMap<Link, Time>,
    /// When the last message of a link arrives.
    last: BTreeMap<Link, Time>,
    /// Messages lost, doubled, kept back.
    pub(super) counts: [u64; 3],
}

impl Network {
    pub(super) fn new(links: Links) -> Self {
        Self {
            links,
            cut: BTreeMap::new(),
            clogged: BTreeMap::new(),
            last: BTreeMap::new(),
            counts: [0; 3],
        }
    }

    /// All links work from now on, and lose nothing.
    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.clogged.clear();
        (self.links.lost, self.links.doubled, self.links.late) = (0, 0, 0);
    }

    pub(super) fn cut(&mut self, from: u64, to: u64, until: Time) {
        self.cut.insert((from, to), until);
    }

    pub(super) fn clog(&mut self, from: u64, to: u64, until: Time) {
        self.clogged.insert((from, to), until);
    }

    pub(super) fn is_cut(&self, from: u64, to: u64, now: Time) -> bool {
        self.cut.get(&(from, to)).is_some_and(|until| now < *until)
    }

    /// When a message that leaves now arrives: never, once, or twice.
    pub(super) fn arrivals(&mut self, rng: &mut Rng, from: u64, to: u64, now: Time) -> Vec<Time> {
        let Links { delay_min, delay_max, lost, doubled, late, late_max, reorder } = self.links;
        if self.is_cut(from, to, now) || rng.u32(0..1000) < lost {
            self.counts[0] += 1;
            return Vec::new();
        }
        let mut at = now + rng.u64(delay_min..=delay_max);
        if rng.u32(0..1000) < late {
            self.counts[2] += 1;
            at += rng.u64(0..=late_max);
        }
        if let Some(until) = self.clogged.get(&(from, to)) {
            at = at.max(*until);
        }
        if !reorder {
            let last = self.last.entry((from, to)).or_default();
            at = at.max(*last + 1);
            *last = at;
        }
        let mut arrivals = vec![at];
        if rng.u32(0..1000) < doubled {
            self.counts[1] += 1;
            arrivals.push(at + rng.u64(1..=late_max));
        }
        arrivals
    }
}
