//! A connection that tasks of one executor share: calls and streams as futures.
//!
//! What it costs beside the bare [`Connection`] is a task switch or two for each answer. In return
//! a workload of several steps reads from top to bottom.
//!
//! A lost connection fails the calls and streams that were open. It is made again at once, so that
//! later calls wait at most the dial timeout; if that fails, all calls fail from then on. A call
//! that the server did not begin with is sent again, once. Dropping the channel ends it.
//!
//! Not here: timeouts of calls, and bounds of what waits in a stream's inbox; who opens a stream
//! reads it.

use super::connection::{Connection, Finished, Keep, Response};
use super::dial::Dial;
use super::status::CallError;
use super::transport::{Transport, TransportError};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Receives before other connections get their turn.
const RECEIVES_PER_TURN: usize = 16;

/// The end of a call.
#[derive(Debug)]
pub struct Answer {
    /// When it was received.
    pub at: Instant,
    pub outcome: Result<Response, CallError>,
}

/// A message of a stream.
#[derive(Debug)]
pub struct Message {
    /// When it was received.
    pub at: Instant,
    pub bytes: Vec<u8>,
}

/// See the module's documentation.
pub struct Channel {
    shared: Rc<Shared>,
    /// Cancelled when dropped.
    _driver: glommio::Task<()>,
}

/// An open stream.
pub struct Stream {
    shared: Rc<Shared>,
    call: Rc<Call>,
}

struct Shared {
    dial: Dial,
    /// To be started, when there is room.
    waiting: RefCell<VecDeque<Rc<Call>>>,
    /// Streams with something to send.
    sending: RefCell<Vec<Rc<Call>>>,
    /// The driver's.
    waker: RefCell<Option<Waker>>,
    /// Why there is no connection any more.
    dead: RefCell<Option<String>>,
    bytes_sent: Cell<u64>,
    bytes_received: Cell<u64>,
}

/// A call or stream, from its start to its end.
struct Call {
    path: usize,
    keep: Keep,
    /// The client sends a stream, too.
    open_ended: bool,
    state: RefCell<CallState>,
}

#[derive(Default)]
struct CallState {
    /// The request; or, of an open-ended call, what is to be sent next.
    request: Vec<u8>,
    /// Its stream, once started.
    stream: Option<u32>,
    retried: bool,
    inbox: VecDeque<Message>,
    end: Option<Answer>,
    waker: Option<Waker>,
}

/// The connection as it is now.
struct Link {
    transport: Transport,
    connection: Connection<Rc<Call>>,
    /// Calls with streams of answers.
    streams: HashMap<u32, Rc<Call>>,
    /// Something was answered on it.
    used: bool,
}

/// Why a link is not used any more.
enum Ended {
    /// The server wants no further calls here.
    Drained,
    Lost(TransportError),
}

impl Channel {
    /// Connects.
    pub async fn connect(dial: Dial) -> Result<Channel, TransportError> {
        let link = Link::new(dial.connect().await?);
        let shared = Rc::new(Shared {
            dial,
            waiting: RefCell::default(),
            sending: RefCell::default(),
            waker: RefCell::default(),
            dead: RefCell::default(),
            bytes_sent: Cell::new(0),
            bytes_received: Cell::new(0),
        });
        let _driver = glommio::spawn_local(shared.clone().drive(link));
        Ok(Channel { shared, _driver })
    }

    /// The connection is lost for good.
    pub fn is_dead(&self) -> bool {
        self.shared.dead.borrow().is_some()
    }

    /// Bytes sent and received so far.
    pub fn traffic(&self) -> (u64, u64) {
        (self.shared.bytes_sent.get(), self.shared.bytes_received.get())
    }

    /// Calls the head's path number `path`. `request` begins with gRPC's message head.
    pub async fn call(&self, path: usize, request: Vec<u8>, keep: Keep) -> Answer {
        let call = self.shared.begin(path, request, keep, false);
        poll_fn(|cx| {
            let mut state = call.state.borrow_mut();
            match state.end.take() {
                Some(answer) => Poll::Ready(answer),
                None => state.sleep(cx),
            }
        })
        .await
    }

    /// Calls the head's path number `path`, whose answer is a stream.
    pub fn stream(&self, path: usize, request: Vec<u8>) -> Stream {
        let call = self.shared.begin(path, request, Keep::Each, false);
        Stream { shared: self.shared.clone(), call }
    }

    /// Opens a stream of the head's path number `path`.
    pub fn open(&self, path: usize) -> Stream {
        let call = self.shared.begin(path, Vec::new(), Keep::Each, true);
        Stream { shared: self.shared.clone(), call }
    }
}

impl Stream {
    /// Sends a message, which begins with gRPC's message head. After the stream's end nothing
    /// happens; [`next`](Self::next) says why it ended.
    pub fn send(&self, message: &[u8]) {
        let mut state = self.call.state.borrow_mut();
        if state.end.is_some() {
            return;
        }
        let scheduled = !state.request.is_empty();
        state.request.extend_from_slice(message);
        if !scheduled && state.stream.is_some() {
            self.shared.sending.borrow_mut().push(self.call.clone());
            self.shared.wake();
        }
    }

    /// The next message; none once the server ended the stream in good order.
    pub async fn next(&self) -> Result<Option<Message>, CallError> {
        poll_fn(|cx| {
            let mut state = self.call.state.borrow_mut();
            match (state.inbox.pop_front(), &state.end) {
                (Some(message), _) => Poll::Ready(Ok(Some(message))),
                (None, None) => state.sleep(cx),
                (None, Some(answer)) => Poll::Ready(answer.outcome.clone().map(|_| None)),
            }
        })
        .await
    }
}

impl CallState {
    fn sleep<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        remember(&mut self.waker, cx);
        Poll::Pending
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Call {
    /// Ends it; who waits for it learns so.
    fn end(&self, at: Instant, outcome: Result<Response, CallError>) {
        let mut state = self.state.borrow_mut();
        state.end = Some(Answer { at, outcome });
        state.wake();
    }
}

impl Shared {
    fn begin(&self, path: usize, request: Vec<u8>, keep: Keep, open_ended: bool) -> Rc<Call> {
        let state = RefCell::new(CallState { request, ..CallState::default() });
        let call = Rc::new(Call { path, keep, open_ended, state });
        match &*self.dead.borrow() {
            Some(reason) => call.end(Instant::now(), Err(CallError::Lost(reason.clone()))),
            None => {
                self.waiting.borrow_mut().push_back(call.clone());
                self.wake();
            }
        }
        call
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// The driver: the connection, again and again if it must be.
    async fn drive(self: Rc<Self>, mut link: Link) {
        loop {
            let ended = poll_fn(|cx| self.poll_converse(cx, &mut link)).await;
            let Link { transport, mut connection, used, .. } = link;
            drop(transport);
            if let Ended::Lost(error) = ended {
                // What ended before the loss was noticed was handed out already.
                connection.take_finished(&mut Vec::new());
                fail(connection.abandon(), &error.to_string());
            }
            match self.dial.again(used).await {
                Ok(again) => link = Link::new(again),
                Err(error) => {
                    let reason = error.to_string();
                    fail(self.waiting.take().into_iter(), &reason);
                    self.dead.replace(Some(reason));
                    return;
                }
            }
        }
    }

    /// Sends what is due and hands out what is answered, until there is nothing to do but wait.
    fn poll_converse(&self, cx: &mut Context<'_>, link: &mut Link) -> Poll<Ended> {
        for _ in 0..RECEIVES_PER_TURN {
            self.start(link);
            if let Poll::Ready(Err(error)) = link.transport.poll_send(cx, &mut link.connection) {
                return Poll::Ready(Ended::Lost(error));
            }
            if link.connection.draining() && link.connection.calls_open() == 0 {
                return Poll::Ready(Ended::Drained);
            }
            let received = link.transport.poll_receive(cx, &mut link.connection);
            // What came whole before an error came.
            self.hand_out(link);
            match received {
                Poll::Pending => {
                    remember(&mut self.waker.borrow_mut(), cx);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Ended::Lost(error)),
            }
        }
        remember(&mut self.waker.borrow_mut(), cx);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn start(&self, link: &mut Link) {
        let connection = &mut link.connection;
        let mut waiting = self.waiting.borrow_mut();
        while connection.room() > 0 {
            let Some(call) = waiting.pop_front() else { break };
            let (path, keep) = (call.path, call.keep);
            let mut state = call.state.borrow_mut();
            let stream = if call.open_ended {
                let stream = connection.open_stream(path, call.clone());
                connection.send(stream, &std::mem::take(&mut state.request));
                stream
            } else {
                connection.start_at(path, &state.request, keep, call.clone())
            };
            state.stream = Some(stream);
            if keep == Keep::Each {
                link.streams.insert(stream, call.clone());
            }
        }
        for call in self.sending.take() {
            let mut state = call.state.borrow_mut();
            // One that ended was failed already; its number may belong to a connection lost.
            if let (Some(stream), None) = (state.stream, &state.end) {
                connection.send(stream, &std::mem::take(&mut state.request));
            }
        }
    }

    fn hand_out(&self, link: &mut Link) {
        self.bytes_sent.update(|bytes| bytes + std::mem::take(&mut link.transport.bytes_sent));
        self.bytes_received
            .update(|bytes| bytes + std::mem::take(&mut link.transport.bytes_received));
        let (mut messages, mut finished) = (Vec::new(), Vec::new());
        link.connection.take_messages(&mut messages);
        link.connection.take_finished(&mut finished);
        if messages.is_empty() && finished.is_empty() {
            return;
        }
        link.used = true;
        let at = Instant::now();
        for arrived in messages {
            if let Some(call) = link.streams.get(&arrived.stream) {
                let mut state = call.state.borrow_mut();
                state.inbox.push_back(Message { at, bytes: arrived.message });
                state.wake();
            }
        }
        for Finished { context: call, outcome } in finished {
            let mut state = call.state.borrow_mut();
            if let Some(stream) = state.stream.take() {
                link.streams.remove(&stream);
            }
            if outcome == Err(CallError::Unprocessed) && !state.retried && !call.open_ended {
                state.retried = true;
                self.waiting.borrow_mut().push_front(call.clone());
                continue;
            }
            drop(state);
            call.end(at, outcome);
        }
    }
}

impl Link {
    fn new((transport, connection): (Transport, Connection<Rc<Call>>)) -> Link {
        Link { transport, connection, streams: HashMap::new(), used: false }
    }
}

fn fail(calls: impl Iterator<Item = Rc<Call>>, reason: &str) {
    for call in calls {
        call.end(Instant::now(), Err(CallError::Lost(reason.into())));
    }
}

fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *slot = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests;
