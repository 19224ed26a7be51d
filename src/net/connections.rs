//! The connections of one shard: their registry, their clock, and how they are told to end.
//!
//! One task a shard keeps time for all: once in a tick it looks at every connection's [`Control`], a few cells, and
//! wakes only those that have something to do. An idle connection costs no timer and no poll. The same task expires
//! the deadlines of calls.
//!
//! It neither reads nor writes sockets; each connection's own task does.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use glommio::timer::Timer;
use slab::Slab;

use super::deadline::{self, Deadlines};
use super::http2::Calls;
use super::options::{Options, SEND_BUFFER_BYTES, SEND_BUFFERS_KEPT};
use super::statistics::{Statistics, add};
use crate::limits;

/// How long a connection that we ended is read from, so that the client sees why before it sees a reset.
const LINGER: Duration = Duration::from_secs(1);

/// The connections of one shard. Created on the shard's executor, and given to each [`serve`](super::serve).
pub struct Connections {
    options: Options,
    statistics: Statistics,
    controls: RefCell<Slab<Rc<Control>>>,
    deadlines: Deadlines<Expiry>,
    send_buffers: RefCell<Vec<Vec<u8>>>,
    started: Instant,
    tick: Cell<u64>,
    draining: Cell<bool>,
    drained: RefCell<Vec<Waker>>,
    alarm: Rc<Alarm>,
}

/// The call whose deadline passes.
struct Expiry {
    calls: Weak<Calls>,
    key: usize,
}

impl Connections {
    /// No connections yet. Spawns the task that keeps time, on the current executor.
    pub fn new(mut options: Options) -> Rc<Self> {
        options.streams_max = options.streams_max.clamp(1, limits::STREAMS_PER_CONNECTION_MAX);
        let alarm = Rc::new(Alarm::default());
        let connections = Rc::new(Self {
            options,
            statistics: Statistics::default(),
            controls: RefCell::new(Slab::new()),
            deadlines: Deadlines::new(),
            send_buffers: RefCell::new(Vec::new()),
            started: Instant::now(),
            tick: Cell::new(0),
            draining: Cell::new(false),
            drained: RefCell::new(Vec::new()),
            alarm: Rc::clone(&alarm),
        });
        glommio::spawn_local(keep_time(Rc::downgrade(&connections), alarm)).detach();
        connections
    }

    /// What they have done so far.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Begins to end all connections: no new requests, calls under way are answered, then each is closed. Connections
    /// that come later are closed at once.
    pub fn drain(&self) {
        self.draining.set(true);
        for (_, control) in self.controls.borrow().iter() {
            control.drain.set(true);
            control.wake();
        }
        self.wake_drained();
    }

    /// Ends all connections without regard to calls under way, after [`Connections::drain`] took too long.
    pub fn abort(&self) {
        self.draining.set(true);
        for (_, control) in self.controls.borrow().iter() {
            control.close();
        }
    }

    /// Waits until no connection is left.
    pub async fn drained(&self) {
        poll_fn(|context| {
            if self.controls.borrow().is_empty() {
                return Poll::Ready(());
            }
            self.drained.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Registers a connection until the returned value is dropped.
    pub(super) fn open(self: &Rc<Self>) -> Open {
        let is_first = self.controls.borrow().is_empty();
        if is_first {
            // The clock has stood still while there was nobody to look at.
            self.tick.set(self.tick_at(Instant::now()));
            self.alarm.ring();
        }
        let control = Rc::new(Control::new(self.tick.get()));
        let key = self.controls.borrow_mut().insert(Rc::clone(&control));
        self.statistics.open.set(self.statistics.open.get() + 1);
        add(&self.statistics.accepted, 1);
        Open { connections: Rc::clone(self), control, key }
    }

    /// The current tick, as of the last look.
    pub(super) fn tick(&self) -> u64 {
        self.tick.get()
    }

    /// The current second, as coarse as a tick.
    pub(super) fn second(&self) -> u64 {
        let nanos = u128::from(self.tick.get()) * self.options.tick.as_nanos();
        u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX)
    }

    fn tick_at(&self, now: Instant) -> u64 {
        let elapsed = now.duration_since(self.started).as_nanos();
        u64::try_from(elapsed / self.options.tick.as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    /// Notes the deadline of a call.
    pub(super) fn deadline_insert(
        &self,
        at: Instant,
        calls: Weak<Calls>,
        key: usize,
    ) -> deadline::Key {
        let (key, is_earliest) = self.deadlines.insert(at, Expiry { calls, key });
        if is_earliest && self.alarm.planned.get().is_none_or(|planned| at < planned) {
            self.alarm.ring();
        }
        key
    }

    /// Forgets the deadline of a call.
    pub(super) fn deadline_remove(&self, key: deadline::Key) {
        self.deadlines.remove(key);
    }

    /// An empty buffer to gather frames in; most turns need one, and only between its first write and its send.
    pub(super) fn send_buffer_take(&self) -> Vec<u8> {
        self.send_buffers.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub(super) fn send_buffer_return(&self, mut buffer: Vec<u8>) {
        let mut kept = self.send_buffers.borrow_mut();
        if kept.len() < SEND_BUFFERS_KEPT && buffer.capacity() <= 2 * SEND_BUFFER_BYTES {
            buffer.clear();
            kept.push(buffer);
        }
    }

    /// Does what is due, and says how long there is nothing to do.
    fn on_time(&self, now: Instant) -> Option<Duration> {
        let tick = self.tick_at(now);
        if tick != self.tick.replace(tick) {
            for (_, control) in self.controls.borrow().iter() {
                if control.look(&self.options, tick) == Look::TimedOut {
                    add(&self.statistics.timeouts, 1);
                }
            }
        }

        let mut expired = Vec::new();
        self.deadlines.expire(now, &mut expired);
        for Expiry { calls, key } in expired {
            if let Some(calls) = calls.upgrade() {
                calls.expire(key);
            }
        }

        let tick_next = (!self.controls.borrow().is_empty()).then_some(self.options.tick);
        let deadline_next = self
            .deadlines
            .earliest()
            .map(|at| at.saturating_duration_since(now).max(deadline::GRANULARITY));
        tick_next.into_iter().chain(deadline_next).min()
    }

    fn wake_drained(&self) {
        if self.controls.borrow().is_empty() {
            for waker in self.drained.borrow_mut().drain(..) {
                waker.wake();
            }
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.alarm.ring();
    }
}

/// The shard's clock task; ends with the connections it keeps time for.
async fn keep_time(connections: Weak<Connections>, alarm: Rc<Alarm>) {
    loop {
        let now = Instant::now();
        let Some(wait) = connections.upgrade().map(|connections| connections.on_time(now)) else {
            return;
        };
        alarm.planned.set(wait.map(|wait| now + wait));
        alarm.sleep(wait).await;
    }
}

/// Lets the clock task be woken before its time.
#[derive(Default)]
struct Alarm {
    rung: Cell<bool>,
    planned: Cell<Option<Instant>>,
    waker: RefCell<Option<Waker>>,
}

impl Alarm {
    fn ring(&self) {
        self.rung.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    async fn sleep(&self, wait: Option<Duration>) {
        let mut timer = wait.map(Timer::new);
        poll_fn(|context| {
            if self.rung.take() {
                return Poll::Ready(());
            }
            if let Some(timer) = &mut timer
                && Pin::new(timer).poll(context).is_ready()
            {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A registered connection.
pub(super) struct Open {
    pub(super) connections: Rc<Connections>,
    pub(super) control: Rc<Control>,
    key: usize,
}

impl Drop for Open {
    fn drop(&mut self) {
        let statistics = &self.connections.statistics;
        statistics.open.set(statistics.open.get() - 1);
        self.connections.controls.borrow_mut().remove(self.key);
        self.connections.wake_drained();
    }
}

/// What a connection waits for, which decides how long it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The client has yet to show its protocol.
    Handshake,
    /// HTTP/1.1, until the next request is whole.
    Http1Idle,
    /// HTTP/1.1, a request is being answered.
    Http1Busy,
    /// HTTP/2: silence is allowed as long as pings are answered.
    Http2,
    /// We said all we had to, and wait for the client to see it.
    Linger,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Well,
    TimedOut,
}

/// What a connection's task and its shard's clock know of each other.
pub(super) struct Control {
    waker: RefCell<Option<Waker>>,
    phase: Cell<Phase>,
    /// The tick in which the phase began.
    phase_since: Cell<u64>,
    /// The tick of the last receive.
    received: Cell<u64>,
    /// The tick since which the socket takes no more bytes.
    blocked_since: Cell<Option<u64>>,
    /// The tick in which a ping was ordered that nothing has followed.
    pinged: Cell<Option<u64>>,

    /// Orders to the connection's task.
    pub(super) close: Cell<bool>,
    pub(super) drain: Cell<bool>,
    pub(super) ping: Cell<bool>,
}

impl Control {
    fn new(tick: u64) -> Self {
        Self {
            waker: RefCell::new(None),
            phase: Cell::new(Phase::Handshake),
            phase_since: Cell::new(tick),
            received: Cell::new(tick),
            blocked_since: Cell::new(None),
            pinged: Cell::new(None),
            close: Cell::new(false),
            drain: Cell::new(false),
            ping: Cell::new(false),
        }
    }

    /// Remembers the task to wake; every poll of a connection calls it.
    pub(super) fn register(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    pub(super) fn close(&self) {
        self.close.set(true);
        self.wake();
    }

    pub(super) fn enter(&self, phase: Phase, tick: u64) {
        self.phase.set(phase);
        self.phase_since.set(tick);
    }

    pub(super) fn on_received(&self, tick: u64) {
        self.received.set(tick);
        self.pinged.set(None);
    }

    pub(super) fn on_blocked(&self, tick: u64) {
        if self.blocked_since.get().is_none() {
            self.blocked_since.set(Some(tick));
        }
    }

    pub(super) fn on_sent(&self) {
        self.blocked_since.set(None);
    }

    /// Compares what the connection waits for with the time it may take.
    fn look(&self, options: &Options, tick: u64) -> Look {
        // One tick more than asked, because the tick in which something began was not a whole one.
        let passed =
            |since: u64, limit: Duration| tick.saturating_sub(since) > options.ticks(limit);
        let since = self.phase_since.get();
        let mut timed_out = match self.phase.get() {
            Phase::Handshake => passed(since, options.handshake_timeout),
            Phase::Http1Idle => passed(since, options.http1_idle_timeout),
            Phase::Linger => passed(since, LINGER),
            Phase::Http1Busy => false,
            Phase::Http2 => match self.pinged.get() {
                Some(pinged) => passed(pinged, options.keepalive_timeout),
                None => {
                    if !options.keepalive_interval.is_zero()
                        && passed(self.received.get(), options.keepalive_interval)
                    {
                        self.pinged.set(Some(tick));
                        self.ping.set(true);
                        self.wake();
                    }
                    false
                }
            },
        };
        timed_out |=
            self.blocked_since.get().is_some_and(|since| passed(since, options.send_timeout));
        if !timed_out || self.close.get() {
            return Look::Well;
        }
        self.close();
        Look::TimedOut
    }
}
