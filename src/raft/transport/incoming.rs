//! Connections that other members make to this one: who may come in, and what may be said.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use futures_lite::future::or;
use glommio::net::AcceptedTcpStream;
use raft::eraftpb::MessageType;
use tokio::sync::Notify;

use super::connection::{Broken, Reader, Writer, halves};
use super::frame::{self, HELLO_BYTES, Hello, Kind, Malformed, Numbered, Purpose, VERSION};
use super::peer::{Peer, add};
use super::{Inner, Reason, SnapshotReader, message};
use crate::ids::MemberId;
use crate::limits;

/// Serves a connection to its end.
pub(super) async fn serve(inner: Rc<Inner>, accepted: AcceptedTcpStream) {
    let stream = accepted.bind_to_executor();
    let address = stream.peer_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
    let (mut reader, writer) = halves(stream, HELLO_BYTES);
    let time = inner.options.handshake_timeout;
    let hello = match reader.frame_within(time).await {
        Ok((Kind::Hello, body)) => Hello::decode(&body),
        Ok((kind, _)) => {
            tracing::debug!(address, "{kind:?} instead of a hello");
            return;
        }
        Err(Broken::Malformed(malformed)) => Err(malformed),
        Err(broken) => {
            tracing::debug!(address, "no hello: {broken}");
            return;
        }
    };
    let judged = match &hello {
        Ok(hello) => inner.judge(hello),
        Err(malformed) => Err((Reason::Malformed, malformed.to_string())),
    };
    let mut out = Vec::new();
    let Ok(hello) = hello.map_err(drop).and_then(|hello| {
        judged.clone().map_err(drop)?;
        Ok(hello)
    }) else {
        let (reason, text) = judged.err().unwrap_or((Reason::Malformed, String::new()));
        inner.note_refused(&address, reason, &text);
        frame::put(&mut out, Kind::Refusal, |out| frame::put_refusal(out, reason, &text));
        // It will find out by itself if it does not hear it.
        writer.write(&out, time).await.ok();
        writer.close().await;
        return;
    };
    frame::put(&mut out, Kind::Welcome, |_| {});
    if writer.write(&out, time).await.is_err() {
        return;
    }
    let _guest = Guest::new(&inner, &hello);
    let peer = inner.peer(hello.from);
    let ended = match (hello.purpose, peer) {
        (Purpose::Control | Purpose::Bulk, Some(peer)) => {
            let taken = take_messages(&inner, &peer, hello.purpose, &mut reader, &writer);
            let gone = async {
                peer.has_gone().await;
                Ok(())
            };
            or(taken, gone).await
        }
        (Purpose::Snapshot, Some(peer)) => take_snapshot(&inner, &peer, reader, writer).await,
        (Purpose::Question, peer) => answer(&inner, peer.as_deref(), &mut reader, &writer).await,
        // It was judged to be a peer, and has left meanwhile.
        (_, None) => Ok(()),
    };
    match ended {
        Ok(()) | Err(Broken::Closed) => {}
        Err(Broken::Malformed(malformed)) => {
            tracing::warn!(address, member = %hello.from, "closed a connection: {malformed}");
        }
        Err(broken) => tracing::debug!(address, member = %hello.from, "{broken}"),
    }
}

/// Counts a connection while it lasts.
struct Guest {
    inner: Rc<Inner>,
    is_stranger: bool,
    control_of: Option<Rc<Peer>>,
    since: Instant,
}

impl Guest {
    fn new(inner: &Rc<Inner>, hello: &Hello) -> Self {
        let is_stranger = hello.from == MemberId(0);
        if is_stranger {
            inner.strangers.set(inner.strangers.get() + 1);
        }
        let since = Instant::now();
        let control_of = inner.peer(hello.from).filter(|_| hello.purpose == Purpose::Control);
        if let Some(peer) = &control_of {
            peer.incoming_since.set(Some(since));
        }
        Self { inner: Rc::clone(inner), is_stranger, control_of, since }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.is_stranger {
            self.inner.strangers.set(self.inner.strangers.get() - 1);
        }
        // Another connection may have come in its place.
        if let Some(peer) = &self.control_of
            && peer.incoming_since.get() == Some(self.since)
        {
            peer.incoming_since.set(None);
        }
    }
}

/// Takes raft's messages.
async fn take_messages(
    inner: &Inner,
    peer: &Peer,
    purpose: Purpose,
    reader: &mut Reader,
    writer: &Writer,
) -> Result<(), Broken> {
    reader.body_max = match purpose {
        Purpose::Control => limits::PEER_CONTROL_BYTES_MAX,
        _ => limits::PEER_MESSAGE_BYTES_MAX,
    };
    let mut out = Vec::new();
    loop {
        let (kind, body) = reader.frame_within(inner.options.silence_max).await?;
        add(&peer.statistics.received_bytes, (frame::HEAD_BYTES + body.len()) as u64);
        match kind {
            Kind::Message => {
                let message = message::decode(&body, peer.id, inner.options.member)?;
                add(&peer.statistics.received_messages, 1);
                let is_append = message.get_msg_type() == MessageType::MsgAppend;
                add(&peer.statistics.received_appends, u64::from(is_append));
                inner.events.message(message);
            }
            Kind::Ping => {
                check_ping(&body)?;
                out.clear();
                frame::put(&mut out, Kind::Pong, |out| out.extend_from_slice(&body));
                writer.write(&out, limits::PEER_STALL_MAX).await?;
            }
            _ => return Err(Malformed::Body("a frame that may not stand here").into()),
        }
    }
}

/// What comes back must be as short as what is asked for: else who takes no answers fills memory.
fn check_ping(body: &[u8]) -> Result<(), Malformed> {
    if body.len() == frame::PING_BYTES {
        return Ok(());
    }
    Err(Malformed::Body("a ping of a wrong length"))
}

async fn take_snapshot(
    inner: &Inner,
    peer: &Peer,
    mut reader: Reader,
    writer: Writer,
) -> Result<(), Broken> {
    reader.body_max = limits::PEER_SNAPSHOT_HEADER_BYTES_MAX;
    let (kind, header) = reader.frame_within(inner.options.handshake_timeout).await?;
    if kind != Kind::Header {
        return Err(Malformed::Body("a snapshot without a header").into());
    }
    reader.body_max = limits::PEER_SNAPSHOT_PIECE_BYTES;
    let statistics = Rc::clone(&peer.statistics);
    inner.events.snapshot(peer.id, header, SnapshotReader::new(reader, writer, statistics));
    Ok(())
}

/// Answers questions, each when its answer is there.
async fn answer(
    inner: &Rc<Inner>,
    peer: Option<&Peer>,
    reader: &mut Reader,
    writer: &Writer,
) -> Result<(), Broken> {
    reader.body_max = match peer {
        Some(_) => limits::PEER_QUESTION_BYTES_MAX + 9,
        None => limits::PEER_STRANGER_BYTES_MAX,
    };
    let out = Rc::new(Answers::default());
    let asked = async {
        loop {
            while out.bytes.borrow().len() > limits::PEER_QUESTION_BYTES_MAX {
                // Who takes nothing asks no more.
                out.taken.notified().await;
            }
            let (kind, body) = reader.frame_within(inner.options.silence_max).await?;
            match kind {
                Kind::Ping => {
                    check_ping(&body)?;
                    out.put(Kind::Pong, |out| out.extend_from_slice(&body));
                }
                Kind::Question => {
                    let question = Numbered::decode(body)?;
                    if out.under_way.get() >= limits::PEER_QUESTIONS_MAX {
                        return Err(Malformed::Body("too many questions at once").into());
                    }
                    let from = peer.map(|peer| peer.id);
                    let answering = inner.events.asked(from, question.kind, question.body);
                    out.under_way.set(out.under_way.get() + 1);
                    let out = Rc::clone(&out);
                    let number = question.number;
                    glommio::spawn_local(async move {
                        let gone = async {
                            while !out.is_closed.get() {
                                out.closed.notified().await;
                            }
                            None
                        };
                        let answer = or(async { Some(answering.await) }, gone).await;
                        out.under_way.set(out.under_way.get() - 1);
                        let (kind, body) = match answer {
                            None => return,
                            Some(Ok(body)) if body.len() <= limits::PEER_QUESTION_BYTES_MAX => {
                                (0, body)
                            }
                            Some(Ok(_)) => (1, Bytes::from_static(b"the answer is too long")),
                            Some(Err(text)) => (1, Bytes::from(text)),
                        };
                        let answer = Numbered { number, kind, body };
                        out.put(Kind::Answer, |out| answer.encode(out));
                    })
                    .detach();
                }
                _ => return Err(Malformed::Body("a frame that may not stand here").into()),
            }
        }
    };
    let ended = or(asked, out.write_to(writer)).await;
    out.is_closed.set(true);
    out.closed.notify_waiters();
    ended
}

/// Answers on their way out.
#[derive(Default)]
struct Answers {
    bytes: RefCell<Vec<u8>>,
    wake: Notify,
    /// They are being written, and others may come.
    taken: Notify,
    under_way: Cell<usize>,
    is_closed: Cell<bool>,
    closed: Notify,
}

impl Answers {
    /// Writes them as they come.
    async fn write_to(&self, writer: &Writer) -> Result<(), Broken> {
        loop {
            let bytes = self.bytes.take();
            self.taken.notify_one();
            if bytes.is_empty() {
                self.wake.notified().await;
                continue;
            }
            writer.write(&bytes, limits::PEER_STALL_MAX).await?;
        }
    }

    fn put(&self, kind: Kind, fill: impl FnOnce(&mut Vec<u8>)) {
        frame::put(&mut self.bytes.borrow_mut(), kind, fill);
        self.wake.notify_one();
    }
}

impl Inner {
    /// Whether who says `hello` may come in, and why not.
    fn judge(&self, hello: &Hello) -> Result<(), (Reason, String)> {
        let own = self.options.member;
        if hello.version != VERSION {
            let text = format!(
                "this member speaks version {VERSION} of the protocol, not {}",
                hello.version
            );
            return Err((Reason::Version, text));
        }
        if self.is_stopping.get() {
            return Err((Reason::Stopping, "this member is stopping".to_owned()));
        }
        let is_stranger = hello.from == MemberId(0);
        if !is_stranger && hello.cluster != self.options.cluster {
            let (own, other) = (self.options.cluster, hello.cluster);
            let text = format!("this is a member of cluster {own}, not of {other}");
            return Err((Reason::Cluster, text));
        }
        // Whomever it wanted: that one may have gone too, and this one have taken its URL.
        if !is_stranger && self.events.was_removed(hello.from) {
            let text = format!("member {} was removed from the cluster", hello.from);
            return Err((Reason::Removed, text));
        }
        if hello.to != MemberId(0) && hello.to != own {
            let text = format!("this is member {own}, not {}", hello.to);
            return Err((Reason::WrongMember, text));
        }
        if is_stranger {
            if hello.purpose != Purpose::Question {
                let text = "who is not a member may only ask questions".to_owned();
                return Err((Reason::NotAllowed, text));
            }
            if self.strangers.get() >= limits::PEER_STRANGERS_MAX {
                return Err((Reason::Busy, "too many connections of strangers".to_owned()));
            }
            return Ok(());
        }
        if hello.from == own || self.peer(hello.from).is_none() {
            let text = format!("member {} is not known here", hello.from);
            return Err((Reason::Unknown, text));
        }
        Ok(())
    }

    /// Logs a refusal, unless it was the last one.
    fn note_refused(&self, address: &str, reason: Reason, text: &str) {
        let said = text.to_owned();
        if self.said.replace(said) != text {
            tracing::warn!(address, ?reason, "refused a connection: {text}");
        }
    }
}
