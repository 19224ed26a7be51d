//! Another member, as this one reaches it: two connections that are made again and again, and the queues for them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::or;
use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};
use tokio::sync::{Notify, oneshot};

use super::connection::{Broken, Reader, Writer, connect, halves};
use super::frame::{self, Hello, Kind, Malformed, Numbered, Purpose};
use super::{Address, AskError, Inner, Reason, Refusal, Statistics};
use crate::ids::MemberId;
use crate::limits;
use crate::random::SplitMix64;

/// See the module's page.
pub(super) struct Peer {
    pub(super) id: MemberId,
    pub(super) addresses: RefCell<Vec<Address>>,
    pub(super) control: Queue,
    pub(super) bulk: Queue,
    pub(super) questions: Questions,
    pub(super) statistics: Rc<Statistics>,
    /// Since when the control connection from here, and that from there, are up.
    pub(super) outgoing_since: Cell<Option<Instant>>,
    pub(super) incoming_since: Cell<Option<Instant>>,
    /// It is no peer any more: what is queued leaves, and nothing else.
    pub(super) is_leaving: Cell<bool>,
    /// Its own connections to this member end.
    left: Notify,
    /// The last reason of a failure that was logged, so that each is once.
    said: RefCell<String>,
    random: RefCell<SplitMix64>,
}

/// Messages that wait for one connection.
#[derive(Default)]
pub(super) struct Queue {
    messages: RefCell<VecDeque<Message>>,
    bytes: Cell<usize>,
    wake: Notify,
    /// A write of them is under way.
    is_writing: Cell<bool>,
}

impl Queue {
    /// Queues a message; `false`: there is no room.
    fn push(&self, message: Message, messages_max: usize, bytes_max: usize) -> bool {
        let bytes = size(&message);
        let mut messages = self.messages.borrow_mut();
        let is_full = messages.len() >= messages_max || self.bytes.get() + bytes > bytes_max;
        // A message that is larger than the bound by itself has to pass all the same.
        if is_full && !messages.is_empty() {
            return false;
        }
        messages.push_back(message);
        self.bytes.set(self.bytes.get() + bytes);
        self.wake.notify_one();
        true
    }

    fn pop(&self) -> Option<Message> {
        let message = self.messages.borrow_mut().pop_front()?;
        self.bytes.set(self.bytes.get() - size(&message));
        Some(message)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.messages.borrow().is_empty() && !self.is_writing.get()
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }
}

/// About what a message measures on the wire.
fn size(message: &Message) -> usize {
    let data = |entry: &raft::eraftpb::Entry| entry.data.len() + entry.context.len() + 32;
    64 + message.context.len() + message.entries.iter().map(data).sum::<usize>()
}

/// Questions that wait to be asked, and those that wait for their answers.
#[derive(Default)]
pub(super) struct Questions {
    number: Cell<u64>,
    unasked: RefCell<VecDeque<Numbered>>,
    waiting: RefCell<BTreeMap<u64, oneshot::Sender<Result<Bytes, AskError>>>>,
    wake: Notify,
}

impl Questions {
    /// Asks; the answer comes through the channel.
    pub(super) fn ask(
        &self,
        kind: u8,
        body: Bytes,
    ) -> Result<(u64, oneshot::Receiver<Result<Bytes, AskError>>), AskError> {
        if body.len() > limits::PEER_QUESTION_BYTES_MAX {
            return Err(AskError::TooMuch("the question is too long"));
        }
        if self.waiting.borrow().len() >= limits::PEER_QUESTIONS_MAX {
            return Err(AskError::TooMuch("too many questions wait for their answers"));
        }
        let (sender, receiver) = oneshot::channel();
        let number = self.number.get() + 1;
        self.number.set(number);
        self.waiting.borrow_mut().insert(number, sender);
        self.unasked.borrow_mut().push_back(Numbered { number, kind, body });
        self.wake.notify_one();
        Ok((number, receiver))
    }

    /// Nobody waits for this answer any more.
    pub(super) fn forget(&self, number: u64) {
        self.waiting.borrow_mut().remove(&number);
        self.unasked.borrow_mut().retain(|question| question.number != number);
    }

    fn answer(&self, number: u64, answer: Result<Bytes, AskError>) {
        if let Some(waiting) = self.waiting.borrow_mut().remove(&number) {
            // Whoever asked may have gone.
            waiting.send(answer).ok();
        }
    }

    fn fail_all(&self, error: &AskError) {
        self.unasked.borrow_mut().clear();
        for (_, waiting) in std::mem::take(&mut *self.waiting.borrow_mut()) {
            waiting.send(Err(error.clone())).ok();
        }
    }
}

/// Why a connection could not be made, or ended.
pub(super) enum Ended {
    Refused(Refusal),
    Broken(String),
}

impl From<Broken> for Ended {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken.to_string())
    }
}

/// Makes a connection to one of `addresses`, and says who is there.
pub(super) async fn dial(
    addresses: &[Address],
    nth: usize,
    hello: Hello,
    time: Duration,
) -> Result<(Reader, Writer), Ended> {
    let Some(address) = addresses.get(nth % addresses.len().max(1)) else {
        return Err(Ended::Broken("it has no address".to_owned()));
    };
    let at = |what: String| Ended::Broken(format!("{address}: {what}"));
    let stream = connect(address, time).await.map_err(|error| at(error.to_string()))?;
    let (mut reader, writer) = halves(stream, limits::PEER_STRANGER_BYTES_MAX);
    let mut out = Vec::new();
    frame::put(&mut out, Kind::Hello, |out| hello.encode(out));
    writer.write(&out, time).await.map_err(|broken| at(broken.to_string()))?;
    let (kind, body) = reader.frame_within(time).await.map_err(|broken| at(broken.to_string()))?;
    match kind {
        Kind::Welcome => Ok((reader, writer)),
        Kind::Refusal => {
            let (reason, text) = frame::refusal(&body).map_err(|error| at(error.to_string()))?;
            let address = address.to_string();
            Err(Ended::Refused(Refusal { peer: hello.to, address, reason, text }))
        }
        other => Err(at(format!("{other:?} instead of a welcome"))),
    }
}

impl Peer {
    pub(super) fn new(id: MemberId, addresses: Vec<Address>, seed: u64) -> Rc<Self> {
        Rc::new(Self {
            id,
            addresses: RefCell::new(addresses),
            control: Queue::default(),
            bulk: Queue::default(),
            questions: Questions::default(),
            statistics: Rc::default(),
            outgoing_since: Cell::new(None),
            incoming_since: Cell::new(None),
            is_leaving: Cell::new(false),
            left: Notify::new(),
            said: RefCell::default(),
            random: RefCell::new(SplitMix64::new(seed ^ id.0)),
        })
    }

    /// Starts the tasks that keep its connections.
    pub(super) fn start(self: &Rc<Self>, inner: &Rc<Inner>) {
        for purpose in [Purpose::Control, Purpose::Bulk, Purpose::Question] {
            let (peer, inner) = (Rc::clone(self), Rc::clone(inner));
            glommio::spawn_local(async move { peer.keep(&inner, purpose).await }).detach();
        }
    }

    /// Queues a message, or drops it. True unless an append was dropped.
    pub(super) fn send(&self, inner: &Inner, message: Message) -> bool {
        // An append without entries must not overtake those that have some.
        let is_append = message.get_msg_type() == MessageType::MsgAppend;
        let is_bulk = is_append || message.get_msg_type() == MessageType::MsgPropose;
        let queue = if is_bulk { &self.bulk } else { &self.control };
        let options = &inner.options;
        if queue.push(message, options.queue_messages_max, options.queue_bytes_max) {
            add(&self.statistics.sent_appends, u64::from(is_append));
            return true;
        }
        add(&self.statistics.dropped_messages, 1);
        !is_append
    }

    /// It is no peer any more. Its own connections are closed, so that it dials again, and hears why it is refused.
    pub(super) fn leave(&self) {
        self.is_leaving.set(true);
        self.wake_all();
        self.left.notify_waiters();
    }

    /// Until it is no peer any more.
    pub(super) async fn has_gone(&self) {
        while !self.is_leaving.get() {
            self.left.notified().await;
        }
    }

    /// Lets its tasks look whether they are to end.
    fn wake_all(&self) {
        self.control.wake();
        self.bulk.wake();
        self.questions.wake.notify_one();
    }

    /// Since when each reaches the other.
    pub(super) fn active_since(&self) -> Option<Instant> {
        Some(self.outgoing_since.get()?.max(self.incoming_since.get()?))
    }

    /// Makes one connection again and again.
    async fn keep(&self, inner: &Rc<Inner>, purpose: Purpose) {
        let mut retry = limits::PEER_RETRY_MIN;
        let mut nth = 0;
        loop {
            if purpose == Purpose::Question && self.questions.unasked.borrow().is_empty() {
                // It is made when there is something to ask.
                self.questions.wake.notified().await;
            }
            if self.has_left(purpose) {
                return;
            }
            let hello = inner.hello(self.id, purpose);
            let addresses = self.addresses.borrow().clone();
            let dialled = dial(&addresses, nth, hello, inner.options.handshake_timeout).await;
            nth += 1;
            let ended = match dialled {
                Ok((reader, writer)) => {
                    retry = limits::PEER_RETRY_MIN;
                    self.said.borrow_mut().clear();
                    self.talk(inner, purpose, reader, writer).await
                }
                Err(ended) => Err(ended),
            };
            if purpose == Purpose::Control {
                self.outgoing_since.set(None);
            }
            if self.has_left(purpose) {
                return;
            }
            add(&self.statistics.failures, 1);
            self.lose(inner, purpose, ended.err());
            let jitter = self.random.borrow_mut().next() % 100;
            glommio::timer::sleep(retry.mul_f64(0.75 + jitter as f64 / 200.0)).await;
            retry = (retry * 2).min(limits::PEER_RETRY_MAX);
        }
    }

    /// Whether it is no peer any more, and all that was for it has left.
    fn has_left(&self, purpose: Purpose) -> bool {
        let is_idle = match purpose {
            Purpose::Control => self.control.is_idle(),
            Purpose::Bulk => self.bulk.is_idle(),
            Purpose::Snapshot | Purpose::Question => true,
        };
        self.is_leaving.get() && is_idle
    }

    /// A connection was lost, or could not be made: what waited for it is dropped.
    fn lose(&self, inner: &Inner, purpose: Purpose, ended: Option<Ended>) {
        let text = match &ended {
            None => "closed".to_owned(),
            Some(Ended::Refused(refusal)) => refusal.to_string(),
            Some(Ended::Broken(text)) => text.clone(),
        };
        if *self.said.borrow() != text {
            match &ended {
                Some(Ended::Refused(refusal)) if refusal.reason != Reason::Stopping => {
                    tracing::warn!(member = %self.id, "a member will not talk to this one: {refusal}");
                }
                _ => {
                    tracing::info!(member = %self.id, ?purpose, "no connection to a member: {text}")
                }
            }
            self.said.replace(text.clone());
        }
        let queue = match purpose {
            Purpose::Control => Some(&self.control),
            Purpose::Bulk => Some(&self.bulk),
            Purpose::Snapshot | Purpose::Question => None,
        };
        let mut dropped = 0;
        while let Some(queue) = queue
            && queue.pop().is_some()
        {
            dropped += 1;
        }
        add(&self.statistics.dropped_messages, dropped);
        if purpose == Purpose::Bulk {
            inner.events.unreachable(self.id);
        }
        match (purpose, &ended) {
            (Purpose::Question, Some(Ended::Refused(refusal))) => {
                self.questions.fail_all(&AskError::Refused(refusal.clone()));
            }
            (Purpose::Question, _) => self.questions.fail_all(&AskError::Unreachable(text)),
            _ => {}
        }
        if let Some(Ended::Refused(refusal)) = &ended {
            inner.events.refused(refusal);
        }
    }

    /// Uses a connection until it breaks, or nothing is left for one who leaves.
    async fn talk(
        &self,
        inner: &Rc<Inner>,
        purpose: Purpose,
        reader: Reader,
        writer: Writer,
    ) -> Result<(), Ended> {
        let sent = async {
            match purpose {
                Purpose::Control => {
                    self.outgoing_since.set(Some(Instant::now()));
                    self.send_queued(inner, &self.control, &writer).await
                }
                Purpose::Bulk => self.send_queued(inner, &self.bulk, &writer).await,
                Purpose::Snapshot | Purpose::Question => self.send_questions(inner, &writer).await,
            }
        };
        let ended = or(sent, self.listen(inner, reader)).await;
        self.control.is_writing.set(self.control.is_writing.get() && purpose != Purpose::Control);
        self.bulk.is_writing.set(self.bulk.is_writing.get() && purpose != Purpose::Bulk);
        writer.close().await;
        Ok(ended?)
    }

    /// Takes what the other side says on a connection from here: answers.
    async fn listen(&self, inner: &Inner, mut reader: Reader) -> Result<(), Broken> {
        reader.body_max = limits::PEER_QUESTION_BYTES_MAX + 9;
        loop {
            let (kind, body) = reader.frame_within(inner.options.silence_max).await?;
            add(&self.statistics.received_bytes, (frame::HEAD_BYTES + body.len()) as u64);
            match kind {
                Kind::Pong => self.note_round_trip(inner, &body),
                Kind::Answer => {
                    let Numbered { number, kind, body } = Numbered::decode(body)?;
                    let answer = match kind {
                        0 => Ok(body),
                        _ => Err(AskError::Failed(String::from_utf8_lossy(&body).into_owned())),
                    };
                    self.questions.answer(number, answer);
                }
                _ => return Err(Malformed::Body("a frame that may not stand here").into()),
            }
        }
    }

    fn note_round_trip(&self, inner: &Inner, body: &[u8]) {
        let Some(sent) = body.first_chunk::<8>() else { return };
        let now = inner.nanoseconds();
        let took = Duration::from_nanos(now.saturating_sub(u64::from_le_bytes(*sent)));
        let round_trips = &self.statistics.round_trips;
        round_trips.set(round_trips.get().and(took));
    }

    /// Writes what is queued, many messages at once, and asks now and then whether the other side is there.
    async fn send_queued(
        &self,
        inner: &Inner,
        queue: &Queue,
        writer: &Writer,
    ) -> Result<(), Broken> {
        let mut out = Vec::new();
        // The first ping goes at once: it tells that the connection works.
        let mut ping_at = Instant::now();
        loop {
            out.clear();
            let mut messages = 0;
            while out.len() < limits::PEER_GATHER_BYTES
                && let Some(message) = queue.pop()
            {
                queue.is_writing.set(true);
                frame::put(&mut out, Kind::Message, |out| {
                    message
                        .write_to_vec(out)
                        .expect("invariant: a message whose fields are set is written to a Vec");
                });
                messages += 1;
            }
            let now = Instant::now();
            if now >= ping_at {
                ping_at = now + inner.options.ping_interval;
                inner.put_ping(&mut out);
            }
            if out.is_empty() {
                if self.is_leaving.get() {
                    return Ok(());
                }
                let timer = glommio::timer::sleep(ping_at.saturating_duration_since(now));
                or(queue.wake.notified(), async {
                    timer.await;
                })
                .await;
                continue;
            }
            writer.write(&out, limits::PEER_STALL_MAX).await?;
            queue.is_writing.set(false);
            add(&self.statistics.sent_bytes, out.len() as u64);
            add(&self.statistics.sent_messages, messages);
            if out.capacity() > 4 * limits::PEER_GATHER_BYTES {
                out = Vec::new();
            }
        }
    }

    /// The same for questions.
    async fn send_questions(&self, inner: &Inner, writer: &Writer) -> Result<(), Broken> {
        let mut out = Vec::new();
        loop {
            out.clear();
            while out.len() < limits::PEER_GATHER_BYTES
                && let Some(question) = self.questions.unasked.borrow_mut().pop_front()
            {
                frame::put(&mut out, Kind::Question, |out| question.encode(out));
            }
            if out.is_empty() {
                inner.put_ping(&mut out);
            }
            writer.write(&out, limits::PEER_STALL_MAX).await?;
            add(&self.statistics.sent_bytes, out.len() as u64);
            if self.is_leaving.get() {
                return Ok(());
            }
            let timer = glommio::timer::sleep(inner.options.ping_interval);
            or(self.questions.wake.notified(), async {
                timer.await;
            })
            .await;
        }
    }
}

/// Counts on.
pub(super) fn add(counter: &Cell<u64>, more: u64) {
    counter.set(counter.get() + more);
}
