//! One thread's place in a scenario: its channels and clients, the schedule, and the record.

use crate::arrivals::{Arrivals, Claim, Request};
use crate::load::LinePlan;
use crate::record::Record;
use crate::run::{Gate, connect_all};
use crate::scenarios::Scenario;
use bytes::Bytes;
use futures_lite::FutureExt;
use glommio::timer::Timer;
use prost::Message;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use urd_tools::grpc::channel::{Answer, Channel};
use urd_tools::grpc::connection::Keep;
use urd_tools::grpc::dial::Dial;
use urd_tools::grpc::unary::framed;

/// The calls that scenarios make; every channel knows all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Range,
    RangeStream,
    Put,
    Txn,
    Watch,
    LeaseGrant,
    LeaseKeepAlive,
}

impl Method {
    /// In the order of the variants.
    pub(crate) const PATHS: [&'static str; 7] = [
        "/etcdserverpb.KV/Range",
        "/etcdserverpb.KV/RangeStream",
        "/etcdserverpb.KV/Put",
        "/etcdserverpb.KV/Txn",
        "/etcdserverpb.Watch/Watch",
        "/etcdserverpb.Lease/LeaseGrant",
        "/etcdserverpb.Lease/LeaseKeepAlive",
    ];

    /// Its place in [`PATHS`](Self::PATHS).
    pub(crate) fn path(self) -> usize {
        self as usize
    }
}

/// What a thread gets.
pub(crate) struct SitePlan {
    pub(crate) thread: usize,
    pub(crate) threads: usize,
    /// Connections of all threads.
    pub(crate) conns: usize,
    pub(crate) lines: Vec<LinePlan>,
}

/// See the module's documentation.
pub(crate) struct Site {
    pub(crate) thread: usize,
    pub(crate) threads: usize,
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) record: RefCell<Record>,
    gate: Arc<Gate>,
    begun: Cell<Begun>,
    /// No further requests are wanted.
    stopped: Cell<bool>,
    dial: Dial,
    channels: RefCell<Vec<Rc<Channel>>>,
    clients: Vec<Client>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    NotYet,
    Yes,
    /// Another thread failed in setting up.
    Never,
}

/// Who has one request under way at a time.
#[derive(Clone)]
pub(crate) struct Client {
    /// Its place in the thread.
    pub(crate) nth: usize,
    /// Its place among all.
    pub(crate) number: u64,
    pub(crate) channel: Rc<Channel>,
}

/// A request that failed, and of which kind it was.
pub(crate) struct Failure {
    pub(crate) kind: &'static str,
    pub(crate) error: String,
}

/// Makes an error a [`Failure`] of `kind`.
pub(crate) fn failure(kind: &'static str) -> impl Fn(String) -> Failure {
    move |error| Failure { kind, error }
}

impl Site {
    /// Connects.
    pub(crate) async fn open(
        plan: SitePlan,
        arrivals: Arc<Arrivals>,
        gate: Arc<Gate>,
    ) -> Result<Rc<Site>, String> {
        let SitePlan { thread, threads, conns, lines } = plan;
        let channels = connect_all(&lines, Channel::connect).await?;
        let channels: Vec<Rc<Channel>> = channels.into_iter().map(Rc::new).collect();
        let mut clients = Vec::new();
        // One each, all around, so that consecutive clients use different connections.
        for round in 0..lines.iter().map(|line| line.clients).max().unwrap_or(0) {
            for (nth_line, (line, channel)) in lines.iter().zip(&channels).enumerate() {
                if round < line.clients {
                    let number = (thread + nth_line * threads + round * conns) as u64;
                    let nth = clients.len();
                    clients.push(Client { nth, number, channel: channel.clone() });
                }
            }
        }
        Ok(Rc::new(Site {
            thread,
            threads,
            arrivals,
            record: RefCell::new(Record::new()),
            gate,
            begun: Cell::new(Begun::NotYet),
            stopped: Cell::new(false),
            dial: lines[0].dial.clone(),
            channels: RefCell::new(channels),
            clients,
        }))
    }

    /// Runs one thread's part. None if another thread could not begin.
    pub(crate) async fn run(
        self: Rc<Self>,
        scenario: Arc<dyn Scenario>,
    ) -> Result<Option<Record>, String> {
        let outcome = scenario.run(self.clone()).await;
        match self.begun.get() {
            Begun::NotYet => {
                self.gate.fail();
                return Err(outcome.err().unwrap_or_else(|| "the load did not begin".into()));
            }
            Begun::Never => return Ok(None),
            Begun::Yes => outcome?,
        }
        let mut record = self.record.replace(Record::new());
        for channel in self.channels.borrow().iter() {
            let (sent, received) = channel.traffic();
            record.bytes_sent += sent;
            record.bytes_received += received;
        }
        Ok(Some(record))
    }

    /// Waits until all threads are set up, then starts the clock.
    pub(crate) fn begin(&self) -> Result<(), String> {
        match self.gate.pass(&self.arrivals) {
            true => {
                self.begun.set(Begun::Yes);
                Ok(())
            }
            false => {
                self.begun.set(Begun::Never);
                Err("another thread failed".into())
            }
        }
    }

    /// The clock has been started.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.get() == Begun::Yes
    }

    /// The channel for the thread's stream number `nth`.
    pub(crate) fn channel(&self, nth: usize) -> Rc<Channel> {
        let channels = self.channels.borrow();
        channels[nth % channels.len()].clone()
    }

    /// One more connection, beside those of the clients.
    pub(crate) async fn another_channel(&self) -> Result<Rc<Channel>, String> {
        let connected = Channel::connect(self.dial.clone()).await;
        let channel = Rc::new(connected.map_err(|error| error.to_string())?);
        self.channels.borrow_mut().push(channel.clone());
        Ok(channel)
    }

    /// This thread's part of `all`.
    pub(crate) fn share(&self, all: u64) -> impl Iterator<Item = u64> + use<> {
        (self.thread as u64..all).step_by(self.threads)
    }

    pub(crate) fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// The next request, once it is due.
    pub(crate) async fn next(&self) -> Option<Request> {
        // In an open loop a free client takes what comes next, and waits for its time.
        let due_before =
            if self.arrivals.is_open_loop() { u64::MAX } else { self.arrivals.now_ns() };
        if self.stopped.get() {
            return None;
        }
        let Claim::Taken(request) = self.arrivals.claim(due_before) else { return None };
        let due = self.arrivals.due_at(&request);
        let wait = due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            Timer::new(wait).await;
        }
        (!self.stopped.get()).then_some(request)
    }

    /// Ends what waits for [`next`](Self::next).
    pub(crate) fn stop(&self) {
        self.stopped.set(true);
    }

    /// All clients carry out requests by `operation`, which notes those that end well.
    pub(crate) async fn drive<F>(self: &Rc<Self>, operation: F)
    where
        F: AsyncFn(&Client, Request) -> Result<(), Failure> + 'static,
    {
        let operation = Rc::new(operation);
        let drive = |client: Client| {
            let (site, operation) = (self.clone(), operation.clone());
            glommio::spawn_local(async move {
                while let Some(request) = site.next().await {
                    if let Err(failure) = operation(&client, request).await {
                        site.failed(failure);
                        if client.channel.is_dead() {
                            return;
                        }
                    }
                }
            })
        };
        let clients: Vec<_> = self.clients.iter().cloned().map(drive).collect();
        for client in clients {
            client.await;
        }
    }

    /// A request of `kind` was answered OK at `at`.
    pub(crate) fn answered(&self, kind: &'static str, request: &Request, at: Instant) {
        let mut record = self.record.borrow_mut();
        record.answered(self.arrivals.ns_of(at), request.due_ns, 0);
        record.kind(kind).ended(self.arrivals.due_at(request), at);
    }

    /// Something beside the requests ended well.
    pub(crate) fn ended(&self, kind: &'static str, begin: Instant, end: Instant) {
        self.record.borrow_mut().kind(kind).ended(begin, end);
    }

    pub(crate) fn count(&self, counter: &'static str, more: u64) {
        self.record.borrow_mut().count(counter, more);
    }

    pub(crate) fn failed(&self, failure: Failure) {
        let mut record = self.record.borrow_mut();
        record.failed(self.arrivals.now_ns(), failure.error);
        record.kind(failure.kind).failed();
    }

    /// Calls, and says when the answer came.
    pub(crate) async fn call<Q: Message, R: Message + Default>(
        &self,
        channel: &Channel,
        method: Method,
        request: &Q,
    ) -> Result<(R, Instant), String> {
        let Answer { at, outcome } =
            channel.call(method.path(), framed(request), Keep::Message).await;
        let response = outcome.map_err(|error| error.to_string())?;
        self.record.borrow_mut().message_bytes += response.message_bytes;
        let message = R::decode(Bytes::from(response.message));
        Ok((message.map_err(|error| format!("malformed response: {error}"))?, at))
    }
}

/// What `future` results in, unless it takes longer than `timeout`.
pub(crate) async fn within<T>(
    timeout: Duration,
    what: &str,
    future: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let expired = async {
        Timer::new(timeout).await;
        Err(format!("{what}: not within {timeout:?}"))
    };
    future.or(expired).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_name_their_paths() {
        let names = [
            (Method::Range, "Range"),
            (Method::RangeStream, "RangeStream"),
            (Method::Put, "Put"),
            (Method::Txn, "Txn"),
            (Method::Watch, "Watch"),
            (Method::LeaseGrant, "LeaseGrant"),
            (Method::LeaseKeepAlive, "LeaseKeepAlive"),
        ];
        assert_eq!(names.len(), Method::PATHS.len());
        for (method, name) in names {
            assert_eq!(Method::PATHS[method.path()].rsplit('/').next(), Some(name));
        }
    }
}
