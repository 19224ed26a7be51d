//! The network between the members' log shards: raft's messages, states, and questions, over TCP in frames of our own,
//! which `FORMAT.md` draws.
//!
//! Each member dials each other: a *control* connection for small messages, so that a heartbeat never waits behind
//! entries, and a *bulk* connection for appends and forwarded proposals, in order. Both are made again and again, with a
//! growing pause, to each of the peer's addresses in turn. Questions share a third one, which is made when there is
//! something to ask. A state has a connection of its own, so that neither waits for it.
//!
//! Messages are dropped when a queue is full or a connection is lost; raft sends again, and is told that the peer is
//! unreachable. A connection on which nothing is heard for a while, pings included, is closed.
//!
//! Who comes in says which cluster and member it is, and whom it wants. A stranger, a member of another cluster, one that
//! was removed: each is refused, hears why, and both sides log it once. What members send is checked as any foreign
//! bytes: lengths before memory is spent, checksums, and what raft-rs takes for granted.
//!
//! It knows nothing of the driver and decides nothing: what arrives goes to [`Events`].

mod connection;
mod frame;
mod incoming;
mod message;
mod peer;
pub mod probe;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use glommio::net::AcceptedTcpStream;
use raft::eraftpb::Message;
use thiserror::Error;

use self::connection::{Reader, Writer, within};
use self::frame::{Hello, Kind, Numbered, Purpose, VERSION};
pub use self::message::announcement;
use self::peer::{Ended, add, dial};
use crate::ids::{ClusterId, MemberId};
use crate::limits;

/// Who this member is, and how the network is timed and bounded.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster; a connection of another one is refused.
    pub cluster: ClusterId,
    /// This member.
    pub member: MemberId,
    /// Jitter of the back-off comes from it.
    pub seed: u64,
    /// How often the other side of a connection is asked whether it is there.
    pub ping_interval: Duration,
    /// A control connection that was silent for as long is dead.
    pub silence_max: Duration,
    /// Messages that wait for one peer, on each of its two connections.
    pub queue_messages_max: usize,
    /// Bytes of them.
    pub queue_bytes_max: usize,
    /// How long a connection may take to be made and to say who it is.
    pub handshake_timeout: Duration,
    /// How long [`Transport::stop`], and the removal of a peer, wait for what is queued to leave.
    pub flush_timeout: Duration,
}

impl Options {
    /// The usual bounds, with dead links noticed within two election timeouts.
    pub fn new(
        cluster: ClusterId,
        member: MemberId,
        seed: u64,
        election_timeout: Duration,
    ) -> Self {
        Self {
            cluster,
            member,
            seed,
            ping_interval: election_timeout / 4,
            silence_max: election_timeout * 2,
            queue_messages_max: limits::PEER_QUEUE_MESSAGES_MAX,
            queue_bytes_max: limits::PEER_QUEUE_BYTES_MAX,
            handshake_timeout: limits::PEER_HANDSHAKE_TIMEOUT,
            flush_timeout: limits::PEER_FLUSH_TIMEOUT,
        }
    }
}

/// Where a member listens: what its peer URL says behind the scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an address, an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub id: MemberId,
    /// Its peer URLs, tried in turn.
    pub addresses: Vec<Address>,
}

/// An answer that is being made.
pub type Answering = Pin<Box<dyn Future<Output = Result<Bytes, String>>>>;

/// What the transport reports to its owner. Called from the transport's own tasks, never from inside a call of one of
/// the transport's methods. Who implements it and holds the transport holds it weakly.
pub trait Events {
    /// A message of a member, which raft may step.
    fn message(&self, message: Message);
    /// Messages to `peer` were lost: raft is told by `report_unreachable`.
    fn unreachable(&self, peer: MemberId);
    /// A question; `from` is `None` when a process asks that is no member (yet). Which kinds such a one may ask is decided
    /// here: `Err` is the text that the asker gets. The future is dropped when the asker has gone.
    fn asked(&self, from: Option<MemberId>, kind: u8, body: Bytes) -> Answering;
    /// A snapshot arrives; see [`SnapshotReader`].
    fn snapshot(&self, from: MemberId, header: Bytes, reader: SnapshotReader);
    /// A peer would not talk to us, and said why.
    fn refused(&self, refusal: &Refusal);
    /// Whether `member` once was one and was removed: it is told so.
    fn was_removed(&self, member: MemberId) -> bool;
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It speaks another version of the protocol.
    Version,
    /// It is of another cluster.
    Cluster,
    /// It wanted another member.
    WrongMember,
    /// Its member is none of this cluster, or its addition is not known here yet.
    Unknown,
    /// Its member was removed.
    Removed,
    /// Who is not a member may only ask questions.
    NotAllowed,
    /// Too many connections.
    Busy,
    /// The process is stopping.
    Stopping,
    /// What it sent was damaged, or is not of this protocol.
    Malformed,
}

/// What the other side said.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{address} (member {peer}) refused: {text}")]
pub struct Refusal {
    /// The member that was dialled; 0 for an address alone.
    pub peer: MemberId,
    /// Where.
    pub address: String,
    /// Why.
    pub reason: Reason,
    /// The same in the refusing side's words.
    pub text: String,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AskError {
    /// No such peer.
    #[error("member {0} is not known")]
    UnknownPeer(MemberId),
    /// The other side would not talk to us.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no connection, or it broke before the answer came.
    #[error("{0}")]
    Unreachable(String),
    /// The answer took too long.
    #[error("no answer in time")]
    TimedOut,
    /// Too many questions to this peer wait for their answers, or this one is too long.
    #[error("{0}")]
    TooMuch(&'static str),
    /// The other side answered that it cannot.
    #[error("{0}")]
    Failed(String),
}

/// Why a snapshot did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// No such peer.
    #[error("member {0} is not known")]
    UnknownPeer(MemberId),
    /// The other side would not talk to us.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The receiver took it and would not have it.
    #[error("the receiver rejected the snapshot: {0}")]
    Rejected(String),
    /// The connection could not be made, or broke.
    #[error("{0}")]
    Broken(String),
    /// The sending side ran out of what it sends.
    #[error("cannot go on: {0}")]
    Source(String),
}

/// The receiving end of a state. Dropped without [`finish`](Self::finish) it breaks the transfer.
pub struct SnapshotReader {
    reader: Reader,
    writer: Writer,
    statistics: Rc<Statistics>,
    is_whole: bool,
    /// The sender has yet to hear that the last piece is dealt with.
    owes_taken: bool,
}

impl SnapshotReader {
    fn new(reader: Reader, writer: Writer, statistics: Rc<Statistics>) -> Self {
        Self { reader, writer, statistics, is_whole: false, owes_taken: false }
    }

    /// The next piece, as it was sent; `None` after the last one, when all have arrived whole. Who asks for it has dealt
    /// with the one before; the sender waits until then.
    ///
    /// # Errors
    /// The connection broke, or what came is no piece.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        if self.is_whole {
            return Ok(None);
        }
        if std::mem::take(&mut self.owes_taken) {
            let mut out = Vec::new();
            frame::put(&mut out, Kind::Taken, |_| {});
            self.writer.write(&out, limits::PEER_STALL_MAX).await.map_err(snapshot_broken)?;
        }
        let frame = self.reader.frame_within(limits::PEER_SNAPSHOT_STALL_MAX).await;
        let (kind, body) = frame.map_err(snapshot_broken)?;
        add(&self.statistics.received_bytes, (frame::HEAD_BYTES + body.len()) as u64);
        match kind {
            Kind::Piece => {
                self.owes_taken = true;
                Ok(Some(body))
            }
            Kind::End => {
                self.is_whole = true;
                Ok(None)
            }
            _ => Err(SnapshotError::Broken("a frame that may not stand here".to_owned())),
        }
    }

    /// Tells the sender whether the state was taken, or why not.
    ///
    /// # Errors
    /// The sender has gone.
    pub async fn finish(self, verdict: Result<(), String>) -> Result<(), SnapshotError> {
        let mut out = Vec::new();
        frame::put(&mut out, Kind::Verdict, |out| match &verdict {
            Ok(()) => out.push(0),
            Err(text) => {
                out.push(1);
                out.extend_from_slice(text.as_bytes());
            }
        });
        let written = self.writer.write(&out, limits::PEER_STALL_MAX).await;
        self.writer.close().await;
        written.map_err(snapshot_broken)
    }
}

fn snapshot_broken(broken: connection::Broken) -> SnapshotError {
    SnapshotError::Broken(broken.to_string())
}

/// What the receiver of a state says between and behind its pieces: `true` where it waits for the next one.
async fn heard(reader: &mut Reader, time: Duration) -> Result<bool, SnapshotError> {
    let (kind, body) = reader.frame_within(time).await.map_err(snapshot_broken)?;
    match (kind, body.split_first()) {
        (Kind::Taken, None) => Ok(true),
        (Kind::Verdict, Some((0, _))) => Ok(false),
        (Kind::Verdict, Some((_, text))) => {
            Err(SnapshotError::Rejected(String::from_utf8_lossy(text).into_owned()))
        }
        _ => Err(SnapshotError::Broken("a frame that may not stand here".to_owned())),
    }
}

/// What went to a peer and came from it since the transport was started. Only this executor counts.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Bytes sent, in frames.
    pub sent_bytes: Cell<u64>,
    /// Bytes received.
    pub received_bytes: Cell<u64>,
    /// Raft's messages sent.
    pub sent_messages: Cell<u64>,
    /// Raft's messages received.
    pub received_messages: Cell<u64>,
    /// Appends queued for it.
    pub sent_appends: Cell<u64>,
    /// Appends received.
    pub received_appends: Cell<u64>,
    /// Raft's messages dropped: the peer was away, or the queue full.
    pub dropped_messages: Cell<u64>,
    /// Times that a connection broke or could not be made.
    pub failures: Cell<u64>,
    /// Those of the control connection.
    pub round_trips: Cell<RoundTrips>,
}

/// Round trips that were measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundTrips {
    /// Their number.
    pub count: u64,
    /// All together.
    pub total: Duration,
    /// The squares of their seconds together.
    pub squares: f64,
    /// The last one.
    pub last: Duration,
    /// The shortest one.
    pub shortest: Duration,
    /// The longest one.
    pub longest: Duration,
}

impl RoundTrips {
    /// With one more.
    #[must_use]
    fn and(self, took: Duration) -> Self {
        let shortest = if self.count == 0 { took } else { self.shortest.min(took) };
        Self {
            count: self.count + 1,
            total: self.total + took,
            squares: self.squares + took.as_secs_f64() * took.as_secs_f64(),
            last: took,
            shortest,
            longest: self.longest.max(took),
        }
    }

    /// Their standard deviation.
    #[must_use]
    pub fn deviation(&self) -> Duration {
        let count = self.count.max(1) as f64;
        let mean = self.total.as_secs_f64() / count;
        let variance = self.squares / count - mean * mean;
        Duration::from_secs_f64(variance.max(0.0).sqrt())
    }
}

/// See the module's page. Lives on one executor.
pub struct Transport {
    inner: Rc<Inner>,
}

/// What the transport's tasks share.
struct Inner {
    options: Options,
    events: Rc<dyn Events>,
    peers: RefCell<BTreeMap<MemberId, Rc<peer::Peer>>>,
    /// Pings carry the time since then.
    started: Instant,
    is_stopping: Cell<bool>,
    /// Connections of who is no member.
    strangers: Cell<usize>,
    dropped_unknown: Cell<u64>,
    /// The last refusal that was logged.
    said: RefCell<String>,
}

impl Inner {
    fn peer(&self, id: MemberId) -> Option<Rc<peer::Peer>> {
        self.peers.borrow().get(&id).cloned()
    }

    fn hello(&self, to: MemberId, purpose: Purpose) -> Hello {
        let Options { cluster, member: from, .. } = self.options;
        Hello { version: VERSION, cluster, from, to, purpose }
    }

    fn nanoseconds(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn put_ping(&self, out: &mut Vec<u8>) {
        let now = self.nanoseconds();
        frame::put(out, Kind::Ping, |out| out.extend_from_slice(&now.to_le_bytes()));
    }
}

impl Transport {
    /// Without peers yet. Must be called on the executor that it lives on.
    pub fn start(options: Options, events: Rc<dyn Events>) -> Rc<Self> {
        let inner = Rc::new(Inner {
            options,
            events,
            peers: RefCell::default(),
            started: Instant::now(),
            is_stopping: Cell::new(false),
            strangers: Cell::new(0),
            dropped_unknown: Cell::new(0),
            said: RefCell::default(),
        });
        Rc::new(Self { inner })
    }

    /// Makes these the peers (this member among them is skipped): new ones are dialled, others dropped after what is
    /// queued for them has left, bounded in time, so that a removed member still hears of its removal.
    pub fn set_peers(&self, peers: &[Peer]) {
        let mut known = self.inner.peers.borrow_mut();
        let leaving: Vec<MemberId> =
            known.keys().copied().filter(|id| !peers.iter().any(|peer| peer.id == *id)).collect();
        for peer in leaving.into_iter().filter_map(|id| known.remove(&id)) {
            let patience = self.inner.options.flush_timeout;
            glommio::spawn_local(async move {
                let begin = Instant::now();
                while !(peer.control.is_idle() && peer.bulk.is_idle()) && begin.elapsed() < patience
                {
                    glommio::timer::sleep(patience / 20).await;
                }
                peer.leave();
            })
            .detach();
        }
        for Peer { id, addresses } in
            peers.iter().filter(|peer| peer.id != self.inner.options.member)
        {
            if let Some(peer) = known.get(id) {
                peer.addresses.replace(addresses.clone());
                continue;
            }
            let peer = peer::Peer::new(*id, addresses.clone(), self.inner.options.seed);
            peer.start(&self.inner);
            known.insert(*id, peer);
        }
    }

    /// Queues messages to their members.
    pub fn send(&self, messages: Vec<Message>) {
        let mut unreachable = Vec::new();
        for message in messages {
            let to = MemberId(message.to);
            let Some(peer) = self.inner.peer(to) else {
                add(&self.inner.dropped_unknown, 1);
                continue;
            };
            if !peer.send(&self.inner, message) && !unreachable.contains(&to) {
                unreachable.push(to);
            }
        }
        if !unreachable.is_empty() {
            // Not from inside the owner's own call.
            let inner = Rc::clone(&self.inner);
            glommio::spawn_local(async move {
                unreachable.into_iter().for_each(|peer| inner.events.unreachable(peer));
            })
            .detach();
        }
    }

    /// Serves a connection that a listener accepted.
    pub fn serve(&self, accepted: AcceptedTcpStream) {
        glommio::spawn_local(incoming::serve(Rc::clone(&self.inner), accepted)).detach();
    }

    /// Asks a member, and waits for its answer.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn ask(
        &self,
        to: MemberId,
        kind: u8,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, AskError> {
        let peer = self.inner.peer(to).ok_or(AskError::UnknownPeer(to))?;
        let (number, answer) = peer.questions.ask(kind, body)?;
        let answered = async {
            let gone = || AskError::Unreachable("the peer is no member any more".to_owned());
            answer.await.unwrap_or_else(|_| Err(gone()))
        };
        let answer = within(timeout, AskError::TimedOut, answered).await;
        if answer == Err(AskError::TimedOut) {
            peer.questions.forget(number);
        }
        answer
    }

    /// Sends a state and waits for the receiver's verdict. `next` gives the pieces, which arrive as they are, each asked for
    /// when the receiver has dealt with the one before; an error of it breaks the transfer.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub async fn stream_snapshot(
        &self,
        to: MemberId,
        header: Bytes,
        mut next: impl AsyncFnMut() -> Result<Option<Bytes>, String>,
    ) -> Result<(), SnapshotError> {
        let peer = self.inner.peer(to).ok_or(SnapshotError::UnknownPeer(to))?;
        let addresses = peer.addresses.borrow().clone();
        let hello = self.inner.hello(to, Purpose::Snapshot);
        let mut dialled = Err(SnapshotError::Broken("it has no address".to_owned()));
        for nth in 0..addresses.len() {
            dialled = match dial(&addresses, nth, hello, self.inner.options.handshake_timeout).await
            {
                Ok(connection) => Ok(connection),
                Err(Ended::Refused(refusal)) => Err(SnapshotError::Refused(refusal)),
                Err(Ended::Broken(text)) => Err(SnapshotError::Broken(text)),
            };
            if dialled.is_ok() {
                break;
            }
        }
        let (mut reader, writer) = dialled?;
        let send = async |kind: Kind, body: &[u8]| {
            let mut out = Vec::with_capacity(frame::HEAD_BYTES + body.len());
            frame::put(&mut out, kind, |out| out.extend_from_slice(body));
            writer.write(&out, limits::PEER_SNAPSHOT_STALL_MAX).await.map_err(snapshot_broken)?;
            add(&peer.statistics.sent_bytes, out.len() as u64);
            Ok::<_, SnapshotError>(())
        };
        send(Kind::Header, &header).await?;
        while let Some(piece) = next().await.map_err(SnapshotError::Source)? {
            assert!(piece.len() <= limits::PEER_SNAPSHOT_PIECE_BYTES, "a piece is too long");
            send(Kind::Piece, &piece).await?;
            if !heard(&mut reader, limits::PEER_SNAPSHOT_STALL_MAX).await? {
                return Err(SnapshotError::Broken("a verdict before the end".to_owned()));
            }
        }
        send(Kind::End, &[]).await?;
        // The last piece is dealt with by now: what comes is the verdict.
        match heard(&mut reader, limits::PEER_VERDICT_TIMEOUT).await? {
            false => Ok(()),
            true => Err(SnapshotError::Broken("no verdict".to_owned())),
        }
    }

    /// Since when both control connections with `peer`, ours and its own, are up.
    pub fn active_since(&self, peer: MemberId) -> Option<Instant> {
        self.inner.peer(peer)?.active_since()
    }

    /// The counters of a peer.
    pub fn statistics(&self, peer: MemberId) -> Option<Rc<Statistics>> {
        Some(Rc::clone(&self.inner.peer(peer)?.statistics))
    }

    /// Messages dropped because they went to nobody known.
    pub fn dropped_unknown(&self) -> u64 {
        self.inner.dropped_unknown.get()
    }

    /// Ends: what is queued leaves, bounded in time. The connections end with the executor.
    pub async fn stop(&self) {
        self.inner.is_stopping.set(true);
        let begin = Instant::now();
        let patience = self.inner.options.flush_timeout;
        let is_idle = |peer: &Rc<peer::Peer>| {
            // What waits for a connection that is not there will not leave.
            peer.outgoing_since.get().is_none() || (peer.control.is_idle() && peer.bulk.is_idle())
        };
        while !self.inner.peers.borrow().values().all(is_idle) && begin.elapsed() < patience {
            glommio::timer::sleep(patience / 100).await;
        }
    }
}

/// Asks whoever listens at `address`, without being a member: how a joining process finds the cluster's members.
///
/// # Errors
/// See [`AskError`].
pub async fn ask_address(
    address: &Address,
    kind: u8,
    body: Bytes,
    timeout: Duration,
) -> Result<Bytes, AskError> {
    let hello = Hello {
        version: VERSION,
        cluster: ClusterId(0),
        from: MemberId(0),
        to: MemberId(0),
        purpose: Purpose::Question,
    };
    let asked = async {
        let dialled = dial(std::slice::from_ref(address), 0, hello, timeout).await;
        let (mut reader, writer) = dialled.map_err(|ended| match ended {
            Ended::Refused(refusal) => AskError::Refused(refusal),
            Ended::Broken(text) => AskError::Unreachable(text),
        })?;
        let broken = |error: connection::Broken| AskError::Unreachable(error.to_string());
        let mut out = Vec::new();
        let question = Numbered { number: 1, kind, body };
        frame::put(&mut out, Kind::Question, |out| question.encode(out));
        writer.write(&out, timeout).await.map_err(broken)?;
        reader.body_max = limits::PEER_QUESTION_BYTES_MAX + 9;
        let (kind, body) = reader.frame().await.map_err(broken)?;
        let answer = Numbered::decode(body)
            .map_err(|malformed| AskError::Unreachable(malformed.to_string()))?;
        match (kind, answer.kind) {
            (Kind::Answer, 0) => Ok(answer.body),
            (Kind::Answer, _) => {
                Err(AskError::Failed(String::from_utf8_lossy(&answer.body).into_owned()))
            }
            _ => Err(AskError::Unreachable("no answer".to_owned())),
        }
    };
    within(timeout, AskError::TimedOut, asked).await
}
