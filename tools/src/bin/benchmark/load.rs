//! The load of one thread: a task per connection, all clients of which are states in it.
//!
//! A client is not a task. It is either a call open on its connection, a request waiting for room
//! there, or (with `--rate`) an entry in the thread's list of idle clients. So a wake-up serves as
//! many clients as the server answered at once, with one receive and one send.
//!
//! What a lost connection does: calls that were open fail, and are counted; their clients go on
//! with the next requests, which wait until the connection is made again, at most the dial
//! timeout. After that the connection and its clients give up. With `--survive-failover` the calls
//! are asked again, and the connection is made elsewhere ([`failover`]).

use crate::arrivals::{Arrivals, Claim, Request};
use crate::failover::{self, Failover, FailoverPlan, TryElsewhere};
use crate::record::Record;
use crate::workload::Workload;
use futures_lite::FutureExt;
use glommio::timer::Timer;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use urd_tools::grpc::connection::{Connection, Finished, Keep};
use urd_tools::grpc::dial::Dial;
use urd_tools::grpc::status::CallError;
use urd_tools::grpc::transport::{Transport, TransportError};

/// Receives of one connection before others get their turn.
const RECEIVES_PER_TURN: usize = 16;

/// One connection to be held, and how many clients use it.
#[derive(Clone, Debug)]
pub(crate) struct LinePlan {
    pub(crate) dial: Dial,
    pub(crate) clients: usize,
}

/// What the connection tasks of a thread share.
pub(crate) struct Load {
    arrivals: Arc<Arrivals>,
    workload: RefCell<Workload>,
    record: RefCell<Record>,
    lines: Vec<Line>,
    /// Without it every failure is final.
    failover: Option<Failover>,
    /// The lines of idle clients, in the order in which they became so. Open loop only.
    idle: RefCell<VecDeque<usize>>,
    /// Woken when a client becomes idle.
    pacer: RefCell<Option<Waker>>,
    /// There are no requests any more.
    over: Cell<bool>,
}

/// A connection through its reconnects.
struct Line {
    plan: LinePlan,
    /// Requests taken and not sent yet.
    queue: RefCell<VecDeque<Request>>,
    waker: RefCell<Option<Waker>>,
    /// It could not be connected again.
    dead: Cell<bool>,
    /// Where it is connected, or was.
    dial: RefCell<Dial>,
    /// The server said to try elsewhere: no more calls here.
    leaving: Cell<bool>,
    /// Since when calls are open and nothing was received.
    silent_since: Cell<Option<Instant>>,
}

/// A connection as it is now.
pub(crate) struct Link {
    transport: Transport,
    connection: Connection<Request>,
    /// Calls that ended on it.
    finished: u64,
}

/// Why a link is not used any more.
enum Ended {
    /// All requests of the run are answered, as far as this line has to do with them.
    Over,
    /// The server wants no further calls here.
    Drained,
    Lost(TransportError),
    /// Calls are open, and nothing was received for long.
    Silent,
}

impl Link {
    fn new((transport, connection): (Transport, Connection<Request>)) -> Link {
        Link { transport, connection, finished: 0 }
    }

    /// Connects and waits for the server's settings.
    pub(crate) async fn connect(dial: &Dial) -> Result<Link, TransportError> {
        Ok(Link::new(dial.connect().await?))
    }
}

impl Load {
    pub(crate) fn new(
        arrivals: Arc<Arrivals>,
        workload: Workload,
        plans: Vec<LinePlan>,
        failover: Option<FailoverPlan>,
    ) -> Rc<Load> {
        let line = |plan: LinePlan| Line {
            dial: RefCell::new(plan.dial.clone()),
            plan,
            queue: RefCell::default(),
            waker: RefCell::default(),
            dead: Cell::new(false),
            leaving: Cell::new(false),
            silent_since: Cell::new(None),
        };
        Rc::new(Load {
            arrivals,
            workload: RefCell::new(workload),
            record: RefCell::new(Record::new()),
            lines: plans.into_iter().map(line).collect(),
            failover: failover.map(Failover::new),
            idle: RefCell::default(),
            pacer: RefCell::default(),
            over: Cell::new(false),
        })
    }

    /// Counts what failed beside the requests.
    pub(crate) fn failed(&self, error: &impl TryElsewhere, text: String) {
        let (mut record, now_ns) = (self.record.borrow_mut(), self.arrivals.now_ns());
        match self.survives(error) {
            true => record.survived(now_ns, text),
            false => record.failed(now_ns, text),
        }
    }

    fn survives(&self, error: &impl TryElsewhere) -> bool {
        self.failover.is_some() && error.means_try_elsewhere()
    }

    /// Runs to the end over `links`, one per plan. Returns what was noted.
    pub(crate) async fn run(self: Rc<Self>, links: Vec<Link>) -> Record {
        let clients: usize = self.lines.iter().map(|line| line.plan.clients).sum();
        self.over.set(clients == 0);
        // Requests are taken by clients and not by connections: one each, all around.
        let now_ns = self.arrivals.now_ns();
        let rounds = self.lines.iter().map(|line| line.plan.clients).max().unwrap_or(0);
        for round in 0..rounds {
            for (nth, line) in self.lines.iter().enumerate() {
                if round < line.plan.clients {
                    self.next(nth, now_ns);
                }
            }
        }
        let pacer = glommio::spawn_local(self.clone().pace());
        let drive = |(nth, link)| glommio::spawn_local(self.clone().drive(nth, link));
        let tasks: Vec<_> = links.into_iter().enumerate().map(drive).collect();
        for task in tasks {
            task.await;
        }
        pacer.cancel().await;
        self.record.replace(Record::new())
    }

    /// Finds a client of line `nth` its next request.
    fn next(&self, nth: usize, now_ns: u64) {
        match self.arrivals.claim(now_ns) {
            Claim::Taken(request) => self.lines[nth].queue.borrow_mut().push_back(request),
            Claim::NotBefore(_) => {
                self.idle.borrow_mut().push_back(nth);
                if let Some(pacer) = self.pacer.borrow_mut().take() {
                    pacer.wake();
                }
            }
            Claim::Exhausted => self.set_over(),
        }
    }

    fn set_over(&self) {
        if !self.over.replace(true) {
            // Lines with idle clients only would sleep on.
            self.lines.iter().for_each(Line::wake);
        }
    }

    /// Open loop: hands requests to idle clients as they fall due.
    async fn pace(self: Rc<Self>) {
        if !self.arrivals.is_open_loop() {
            return pending().await;
        }
        loop {
            poll_fn(|cx| {
                if !self.idle.borrow().is_empty() {
                    return Poll::Ready(());
                }
                self.pacer.replace(Some(cx.waker().clone()));
                Poll::Pending
            })
            .await;
            let now_ns = self.arrivals.now_ns();
            match self.arrivals.claim(now_ns) {
                Claim::Taken(request) => self.hand_over(request),
                Claim::NotBefore(due_ns) => {
                    Timer::new(Duration::from_nanos(due_ns - now_ns)).await;
                }
                Claim::Exhausted => return self.set_over(),
            }
        }
    }

    /// Gives a due request to the client that has been idle longest.
    fn hand_over(&self, request: Request) {
        loop {
            let Some(nth) = self.idle.borrow_mut().pop_front() else {
                let error = "not sent: all connections are lost".into();
                return self.record.borrow_mut().failed(self.arrivals.now_ns(), error);
            };
            let line = &self.lines[nth];
            if !line.dead.get() {
                line.queue.borrow_mut().push_back(request);
                return line.wake();
            }
        }
    }

    /// A line's task: its connection, again and again if it must be.
    async fn drive(self: Rc<Self>, nth: usize, mut link: Link) {
        let line = &self.lines[nth];
        loop {
            let ended = self.converse(nth, &mut link).await;
            let Link { mut transport, mut connection, finished } = link;
            {
                let mut record = self.record.borrow_mut();
                record.bytes_sent += std::mem::take(&mut transport.bytes_sent);
                record.bytes_received += std::mem::take(&mut transport.bytes_received);
            }
            drop(transport);
            match ended {
                Ended::Over => return,
                Ended::Drained => {}
                Ended::Lost(error) => {
                    // What ended before the loss was noticed has been noted already.
                    connection.take_finished(&mut Vec::new());
                    let survives = self.survives(&error);
                    self.fail(nth, connection.abandon(), &error.to_string(), survives);
                }
                Ended::Silent => {
                    let error = format!("connection lost: silent for {:?}", failover::SILENCE_MAX);
                    self.fail(nth, connection.abandon(), &error, true);
                }
            }
            let used = finished > 0 && !line.leaving.replace(false);
            let again = match &self.failover {
                None => {
                    let again = line.plan.dial.again(used).await;
                    again.map(Link::new).map_err(|error| error.to_string())
                }
                Some(failover) => match self.elsewhere(failover, nth, used).await {
                    None => return,
                    Some(again) => again,
                },
            };
            match again {
                Ok(again) => link = again,
                Err(error) => return self.give_up(nth, &error),
            }
        }
    }

    async fn converse(&self, nth: usize, link: &mut Link) -> Ended {
        let conversing = poll_fn(|cx| self.poll_converse(cx, nth, link));
        match &self.failover {
            None => conversing.await,
            Some(_) => conversing.or(self.silence(nth)).await,
        }
    }

    /// Waits until line `nth` is silent for too long.
    async fn silence(&self, nth: usize) -> Ended {
        loop {
            Timer::new(failover::SILENCE_MAX / 8).await;
            let since = self.lines[nth].silent_since.get();
            if since.is_some_and(|since| since.elapsed() >= failover::SILENCE_MAX) {
                return Ended::Silent;
            }
        }
    }

    /// Connects a line again, to whom `failover` says. None if nothing is left to do there; an
    /// error if there is no hope.
    async fn elsewhere(
        &self,
        failover: &Failover,
        nth: usize,
        used: bool,
    ) -> Option<Result<Link, String>> {
        let line = &self.lines[nth];
        let mut pause = if used { Duration::ZERO } else { failover::PAUSE };
        loop {
            if self.arrivals.is_past(self.arrivals.now_ns()) {
                // Its failure has been counted already.
                line.queue.borrow_mut().clear();
                self.set_over();
            }
            if self.over.get() && line.queue.borrow().is_empty() {
                return None;
            }
            Timer::new(pause).await;
            let dial = line.dial.borrow().clone();
            match failover.connect(&dial).await {
                Ok((dial, transport, connection)) => {
                    line.dial.replace(dial);
                    return Some(Ok(Link::new((transport, connection))));
                }
                Err(error) if failover.is_hopeless(self.arrivals.now_ns()) => {
                    return Some(Err(error));
                }
                Err(error) => {
                    self.record.borrow_mut().survived(self.arrivals.now_ns(), error);
                    if !failover.targets_leader() {
                        line.dial.replace(failover.after(&dial));
                    }
                }
            }
            pause = failover::PAUSE;
        }
    }

    /// Calls that were open when their connection was lost; they are asked again if `survives`.
    fn fail(
        &self,
        nth: usize,
        requests: impl Iterator<Item = Request>,
        error: &str,
        survives: bool,
    ) {
        for request in requests {
            let now_ns = self.arrivals.now_ns();
            match survives {
                true => self.ask_again(nth, request, now_ns, error.to_owned()),
                false => {
                    self.record.borrow_mut().failed(now_ns, error.to_owned());
                    self.next(nth, now_ns);
                }
            }
        }
    }

    /// A request of line `nth` that failed and may be carried out elsewhere.
    fn ask_again(&self, nth: usize, request: Request, now_ns: u64, error: String) {
        self.record.borrow_mut().survived(now_ns, error);
        match self.arrivals.is_past(now_ns) {
            true => self.set_over(),
            false => self.lines[nth].queue.borrow_mut().push_front(request),
        }
    }

    /// A line that cannot be connected any more: its waiting requests fail, its clients end.
    fn give_up(&self, nth: usize, error: &str) {
        let line = &self.lines[nth];
        line.dead.set(true);
        let mut record = self.record.borrow_mut();
        let now_ns = self.arrivals.now_ns();
        let waiting = std::mem::take(&mut *line.queue.borrow_mut());
        // The loss of a connection is an error even if no request waited for it.
        for _ in 0..waiting.len().max(1) {
            record.failed(now_ns, error.to_owned());
        }
    }

    /// Sends what is due and takes what is answered, until there is nothing to do but wait.
    fn poll_converse(&self, cx: &mut Context<'_>, nth: usize, link: &mut Link) -> Poll<Ended> {
        let line = &self.lines[nth];
        let mut finished = Vec::new();
        for _ in 0..RECEIVES_PER_TURN {
            self.start_calls(line, &mut link.connection);
            if let Poll::Ready(Err(error)) = link.transport.poll_send(cx, &mut link.connection) {
                return Poll::Ready(Ended::Lost(error));
            }
            if link.connection.calls_open() == 0 {
                if self.over.get() && line.queue.borrow().is_empty() {
                    return Poll::Ready(Ended::Over);
                }
                if link.connection.draining() || line.leaving.get() {
                    return Poll::Ready(Ended::Drained);
                }
            }
            let received = link.transport.poll_receive(cx, &mut link.connection);
            // Answers that came whole before an error are answers.
            link.connection.take_finished(&mut finished);
            if !finished.is_empty() {
                link.finished += finished.len() as u64;
                self.note(nth, finished.drain(..));
            }
            match received {
                Poll::Pending => {
                    if self.failover.is_some() {
                        line.note_silence(link.connection.calls_open() > 0);
                    }
                    line.sleep(cx);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) => line.silent_since.set(None),
                Poll::Ready(Err(error)) => return Poll::Ready(Ended::Lost(error)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn start_calls(&self, line: &Line, connection: &mut Connection<Request>) {
        let mut queue = line.queue.borrow_mut();
        if queue.is_empty() || line.leaving.get() {
            return;
        }
        let mut workload = self.workload.borrow_mut();
        while connection.room() > 0 {
            let Some(request) = queue.pop_front() else { return };
            connection.start(workload.message(request.number), Keep::Nothing, request);
        }
    }

    fn note(&self, nth: usize, finished: impl Iterator<Item = Finished<Request>>) {
        let now_ns = self.arrivals.now_ns();
        for Finished { context: request, outcome } in finished {
            match outcome {
                Ok(response) => {
                    if let Some(failover) = &self.failover {
                        failover.served().note(now_ns);
                    }
                    let message_bytes = response.message_bytes;
                    self.record.borrow_mut().answered(now_ns, request.due_ns, message_bytes);
                }
                Err(CallError::Unprocessed) if !request.retried => {
                    let again = Request { retried: true, ..request };
                    self.lines[nth].queue.borrow_mut().push_front(again);
                    continue;
                }
                Err(error) if self.survives(&error) => {
                    self.lines[nth].leaving.set(true);
                    self.ask_again(nth, request, now_ns, error.to_string());
                    continue;
                }
                Err(error) => self.record.borrow_mut().failed(now_ns, error.to_string()),
            }
            self.next(nth, now_ns);
        }
    }
}

impl Line {
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn note_silence(&self, calls_open: bool) {
        if !calls_open {
            self.silent_since.set(None);
        } else if self.silent_since.get().is_none() {
            self.silent_since.set(Some(Instant::now()));
        }
    }

    fn sleep(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &*waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
    }
}
