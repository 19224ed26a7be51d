//! The load of one thread: a task per connection, all clients of which are states in it.
//!
//! A client is not a task. It is either a call open on its connection, a request waiting for room
//! there, or (with `--rate`) an entry in the thread's list of idle clients. So a wake-up serves as
//! many clients as the server answered at once, with one receive and one send.
//!
//! What a lost connection does: calls that were open fail, and are counted; their clients go on
//! with the next requests, which wait until the connection is made again, at most the dial
//! timeout. After that the connection and its clients give up.

use crate::arrivals::{Arrivals, Claim, Request};
use crate::record::Record;
use crate::workload::Workload;
use glommio::timer::Timer;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
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
    ) -> Rc<Load> {
        let line = |plan| Line {
            plan,
            queue: RefCell::default(),
            waker: RefCell::default(),
            dead: Cell::new(false),
        };
        Rc::new(Load {
            arrivals,
            workload: RefCell::new(workload),
            record: RefCell::new(Record::new()),
            lines: plans.into_iter().map(line).collect(),
            idle: RefCell::default(),
            pacer: RefCell::default(),
            over: Cell::new(false),
        })
    }

    /// Counts what failed beside the requests.
    pub(crate) fn failed(&self, error: String) {
        self.record.borrow_mut().failed(self.arrivals.now_ns(), error);
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
            let ended = poll_fn(|cx| self.poll_converse(cx, nth, &mut link)).await;
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
                    self.fail(nth, connection.abandon(), &error.to_string());
                }
            }
            match line.plan.dial.again(finished > 0).await {
                Ok(again) => link = Link::new(again),
                Err(error) => return self.give_up(nth, &error.to_string()),
            }
        }
    }

    fn fail(&self, nth: usize, requests: impl Iterator<Item = Request>, error: &str) {
        for _ in requests {
            let now_ns = self.arrivals.now_ns();
            self.record.borrow_mut().failed(now_ns, error.to_owned());
            self.next(nth, now_ns);
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
                if link.connection.draining() {
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
                    line.sleep(cx);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Ended::Lost(error)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn start_calls(&self, line: &Line, connection: &mut Connection<Request>) {
        let mut queue = line.queue.borrow_mut();
        if queue.is_empty() {
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
        let mut record = self.record.borrow_mut();
        for Finished { context: request, outcome } in finished {
            match outcome {
                Ok(response) => record.answered(now_ns, request.due_ns, response.message_bytes),
                Err(CallError::Unprocessed) if !request.retried => {
                    let again = Request { retried: true, ..request };
                    self.lines[nth].queue.borrow_mut().push_front(again);
                    continue;
                }
                Err(error) => record.failed(now_ns, error.to_string()),
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

    fn sleep(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &*waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
    }
}
