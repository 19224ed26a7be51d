//! Watchers, and whether each gets every event once and in order.
//!
//! Those who write note each acknowledged write at its revision ([`Writes`]); a watcher looks up
//! there when an event's write was acknowledged, whichever thread that happened in.
//!
//! What is checked relies on every write being a revision of its own: events of a watcher have
//! ascending revisions, and are as many as the writes that were acknowledged for what it watches.

use super::site::{Failure, Method, Site, failure, within};
use bytes::Bytes;
use clap::Args;
use glommio::timer::Timer;
use prost::Message as _;
use std::cell::{Cell, RefCell};
use std::iter::Sum;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use urd_proto::etcdserverpb::{
    WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use urd_proto::mvccpb::Event;
use urd_tools::grpc::channel::{Message, Stream};
use urd_tools::grpc::unary::framed;

/// Delay of an event from its write's acknowledgement.
pub(super) const EVENT: &str = "event";
/// Creation of a watcher.
pub(super) const CREATE: &str = "watch-create";
/// The shortest value with a time in it.
pub(super) const VALUE_BYTES_MIN: usize = size_of::<u64>();
/// How often the end is looked for, once all is written.
const LOOK: Duration = Duration::from_millis(5);
/// How long events that nobody expects are waited for, once all others are there.
const SETTLE: Duration = Duration::from_millis(20);

/// Flags of all workloads with watchers.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct WatchingArgs {
    /// How long a watcher may take to be created, and the next event to arrive after the last write
    #[arg(long, default_value = "30s", value_parser = crate::args::parse_duration)]
    pub(crate) event_timeout: Duration,
}

/// What is timed of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// Their delay from the acknowledgement of the write.
    FromAcknowledgement,
    /// That, and the delay from when the put was due, which its value tells ([`value_due`]).
    FromPutToo,
    /// How long a watcher takes from its creation to its last event.
    CatchingUp,
}

/// What is written while others watch, shared by all threads.
pub(super) struct Writes {
    measure: Measure,
    /// Acknowledged writes, by what is watched.
    acknowledged: Vec<AtomicU64>,
    /// Threads that may still write.
    writing: AtomicUsize,
    /// Events that watchers got, of all threads.
    received: AtomicU64,
    times: Times,
}

impl Writes {
    /// `targets`: how many things can be watched.
    pub(super) fn new(targets: usize, measure: Measure) -> Writes {
        Writes {
            measure,
            acknowledged: (0..targets).map(|_| AtomicU64::new(0)).collect(),
            writing: AtomicUsize::new(0),
            received: AtomicU64::new(0),
            times: Times::new(),
        }
    }

    /// One more thread will write. To be said before the load begins.
    pub(super) fn writer_comes(&self) {
        self.writing.fetch_add(1, Ordering::SeqCst);
    }

    /// It has no write under way any more, and begins none.
    pub(super) fn writer_goes(&self) {
        self.writing.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn acknowledged(&self, target: usize, revision: i64, at_ns: u64) {
        self.times.note(revision, at_ns);
        self.acknowledged[target].fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::SeqCst)
    }

    fn expected(&self, target: usize) -> u64 {
        self.acknowledged[target].load(Ordering::SeqCst)
    }

    fn all_written(&self) -> bool {
        self.writing.load(Ordering::SeqCst) == 0
    }
}

/// When each of the last million revisions was acknowledged.
///
/// A slot holds which of the revisions it stands for it belongs to, and the time, in one number, so
/// that readers never see one without the other.
struct Times(Vec<AtomicU64>);

#[derive(Debug, PartialEq, Eq)]
enum Acknowledged {
    NotYet,
    AtNs(u64),
    /// The event is so late that its slot has been used again.
    Forgotten,
}

impl Times {
    const SLOTS: u64 = 1 << 20;
    /// 78 hours.
    const TIME_BITS: u32 = 48;

    fn new() -> Times {
        Times((0..Self::SLOTS).map(|_| AtomicU64::new(0)).collect())
    }

    /// The slot, and the round in which it belongs to `revision`; from 1, as 0 is an empty slot.
    fn place(&self, revision: i64) -> (&AtomicU64, u64) {
        let revision = revision.unsigned_abs();
        let slot = &self.0[(revision % Self::SLOTS) as usize];
        (slot, (revision / Self::SLOTS + 1) % (1 << (u64::BITS - Self::TIME_BITS)))
    }

    fn note(&self, revision: i64, at_ns: u64) {
        let (slot, round) = self.place(revision);
        let time = at_ns % (1 << Self::TIME_BITS);
        slot.store(round << Self::TIME_BITS | time, Ordering::SeqCst);
    }

    fn of(&self, revision: i64) -> Acknowledged {
        let (slot, round) = self.place(revision);
        let held = slot.load(Ordering::SeqCst);
        match (held >> Self::TIME_BITS).cmp(&round) {
            std::cmp::Ordering::Less => Acknowledged::NotYet,
            std::cmp::Ordering::Equal => Acknowledged::AtNs(held % (1 << Self::TIME_BITS)),
            std::cmp::Ordering::Greater => Acknowledged::Forgotten,
        }
    }
}

/// A value that says when its put was due, and then goes on as `letters`, which are as long
/// at least.
pub(super) fn value_due(due_ns: u64, letters: &Bytes) -> Bytes {
    [&due_ns.to_be_bytes(), &letters[VALUE_BYTES_MIN..]].concat().into()
}

/// A watcher to be created: its request, and which of what can be watched it watches.
pub(super) struct WatcherPlan {
    pub(super) request: WatchCreateRequest,
    pub(super) target: usize,
}

/// The watchers of one stream.
pub(super) struct Feed {
    stream: Stream,
    watchers: RefCell<Vec<Watcher>>,
}

struct Watcher {
    target: usize,
    created: Instant,
    events: u64,
    /// Of the last event.
    revision: i64,
}

impl Feed {
    /// Opens the thread's stream number `nth`.
    pub(super) fn open(site: &Site, nth: usize) -> Feed {
        let stream = site.channel(nth).open(Method::Watch.path());
        Feed { stream, watchers: RefCell::default() }
    }

    /// Creates watchers, one after the other.
    pub(super) async fn create(
        &self,
        site: &Site,
        writes: &Writes,
        plans: impl Iterator<Item = WatcherPlan>,
        timeout: Duration,
    ) -> Result<(), String> {
        for plan in plans {
            // Ids that the client chooses are their watchers' places, from 1.
            let watch_id = self.watchers.borrow().len() as i64 + 1;
            let request = WatchCreateRequest { watch_id, ..plan.request };
            let request =
                WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) };
            let begin = Instant::now();
            let watcher = Watcher { target: plan.target, created: begin, events: 0, revision: 0 };
            self.watchers.borrow_mut().push(watcher);
            self.stream.send(&framed(&request));
            let created = async {
                loop {
                    let message = self.next().await?;
                    let at = message.at;
                    if self.absorb(site, writes, message)? == Some(watch_id) {
                        return Ok(at);
                    }
                }
            };
            let at = within(timeout, "creating a watcher", created).await?;
            site.ended(CREATE, begin, at);
        }
        Ok(())
    }

    /// Takes events until the stream ends, or something is wrong with one.
    pub(super) async fn follow(&self, site: &Site, writes: &Writes) -> String {
        loop {
            let taken = match self.next().await {
                Ok(message) => self.absorb(site, writes, message),
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                return error;
            }
        }
    }

    async fn next(&self) -> Result<Message, String> {
        let next = self.stream.next().await.map_err(|error| format!("watch: {error}"))?;
        next.ok_or_else(|| "watch: the server ended the stream".into())
    }

    /// Takes a message. Which watcher it says was created, if so.
    fn absorb(
        &self,
        site: &Site,
        writes: &Writes,
        message: Message,
    ) -> Result<Option<i64>, String> {
        let Message { at, bytes } = message;
        site.record.borrow_mut().message_bytes += bytes.len() as u64;
        let response = WatchResponse::decode(Bytes::from(bytes));
        let response = response.map_err(|error| format!("malformed watch response: {error}"))?;
        if response.canceled {
            return Err(format!("watch: canceled by the server: {}", response.cancel_reason));
        }
        if response.created {
            return Ok(Some(response.watch_id));
        }
        if response.events.is_empty() {
            site.count("progress-notifications", 1);
            return Ok(None);
        }
        if !site.has_begun() {
            return Err("watch: an event before the first write: somebody else writes there".into());
        }
        let mut watchers = self.watchers.borrow_mut();
        let place = usize::try_from(response.watch_id - 1).ok();
        let watcher = place.and_then(|place| watchers.get_mut(place));
        let watcher = watcher.ok_or("watch: events of a watcher that does not exist")?;
        for event in &response.events {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            if revision <= watcher.revision {
                return Err("watch: an event came twice, or after a later one".into());
            }
            watcher.revision = revision;
            watcher.events += 1;
            match writes.measure {
                Measure::CatchingUp => {
                    if watcher.events == writes.expected(watcher.target) {
                        site.ended("catch-up", watcher.created, at);
                    }
                }
                _ => time(site, writes, event, at),
            }
        }
        writes.received.fetch_add(response.events.len() as u64, Ordering::SeqCst);
        Ok(None)
    }
}

/// Notes the delays of an event that came `at`.
fn time(site: &Site, writes: &Writes, event: &Event, at: Instant) {
    let Some(pair) = &event.kv else { return };
    let moment = |ns| site.arrivals.start() + Duration::from_nanos(ns);
    match writes.times.of(pair.mod_revision) {
        Acknowledged::AtNs(ns) => site.ended(EVENT, moment(ns).min(at), at),
        Acknowledged::NotYet => {
            site.ended(EVENT, at, at);
            site.count("events-before-acknowledgement", 1);
        }
        Acknowledged::Forgotten => site.count("events-too-late-to-time", 1),
    }
    if writes.measure == Measure::FromPutToo
        && let Some(due_ns) = pair.value.first_chunk()
    {
        site.ended("event-from-put", moment(u64::from_be_bytes(*due_ns)), at);
    }
}

/// The feeds of a thread, followed.
pub(super) struct Following {
    feeds: Vec<Rc<Feed>>,
    tasks: Vec<glommio::Task<()>>,
    /// Something was wrong with one.
    broken: Rc<Cell<bool>>,
}

impl Following {
    pub(super) fn begin(site: &Rc<Site>, writes: &Arc<Writes>, feeds: Vec<Feed>) -> Following {
        let feeds: Vec<_> = feeds.into_iter().map(Rc::new).collect();
        let broken = Rc::new(Cell::new(false));
        let follow = |feed: &Rc<Feed>| {
            let (site, writes) = (site.clone(), writes.clone());
            let (feed, broken) = (feed.clone(), broken.clone());
            glommio::spawn_local(async move {
                let error = feed.follow(&site, &writes).await;
                broken.set(true);
                site.failed(failure(EVENT)(error));
            })
        };
        let tasks = feeds.iter().map(follow).collect();
        Following { feeds, tasks, broken }
    }

    /// Whether no further events are to be expected.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Waits for the events of all writes, as long as one comes within `timeout`; then judges.
    pub(super) async fn finish(self, site: &Site, writes: &Writes, timeout: Duration) {
        let (mut before, mut deadline) = (0, Instant::now() + timeout);
        while !self.broken.get() {
            let events = self.events();
            let written = writes.all_written();
            if written && events >= self.expected(writes) {
                break;
            }
            if events != before || !written {
                (before, deadline) = (events, Instant::now() + timeout);
            }
            if Instant::now() > deadline {
                break;
            }
            Timer::new(LOOK).await;
        }
        Timer::new(SETTLE).await;
        site.count("events-expected", self.expected(writes));
        site.count("events-received", self.events());
        // What broke was noted, and then nobody waited for the rest.
        if !self.broken.get()
            && let Some(error) = self.judge(writes, timeout)
        {
            site.failed(Failure { kind: EVENT, error });
        }
        for task in self.tasks {
            task.cancel().await;
        }
    }

    fn watchers<T: Sum>(&self, of: impl Fn(&Watcher) -> T) -> T {
        self.feeds.iter().map(|feed| feed.watchers.borrow().iter().map(&of).sum()).sum()
    }

    fn events(&self) -> u64 {
        self.watchers(|watcher| watcher.events)
    }

    fn expected(&self, writes: &Writes) -> u64 {
        self.watchers(|watcher| writes.expected(watcher.target))
    }

    /// What is wrong with what the watchers got.
    fn judge(&self, writes: &Writes, timeout: Duration) -> Option<String> {
        let expected = |watcher: &Watcher| writes.expected(watcher.target);
        let missing = self.watchers(|w| expected(w).saturating_sub(w.events));
        let surplus = self.watchers(|w| w.events.saturating_sub(expected(w)));
        match (missing, surplus) {
            (0, 0) => None,
            (0, surplus) => Some(format!("watch: {surplus} events more than acknowledged writes")),
            (missing, _) => {
                Some(format!("watch: {missing} events missing, none within {timeout:?}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_tell_their_revisions_apart() {
        let times = Times::new();
        let slots = Times::SLOTS as i64;
        assert_eq!(times.of(5), Acknowledged::NotYet);
        times.note(5, 0);
        assert_eq!(times.of(5), Acknowledged::AtNs(0), "the first nanosecond is a time");
        assert_eq!(times.of(6), Acknowledged::NotYet);
        assert_eq!(times.of(5 + slots), Acknowledged::NotYet);
        times.note(5 + slots, 1 << 40);
        assert_eq!(times.of(5 + slots), Acknowledged::AtNs(1 << 40));
        assert_eq!(times.of(5), Acknowledged::Forgotten);
    }

    #[test]
    fn values_keep_their_length() {
        assert_eq!(value_due(1, &Bytes::from("12345678")), &b"\0\0\0\0\0\0\0\x01"[..]);
        assert_eq!(value_due(2, &Bytes::from("123456789")), &b"\0\0\0\0\0\0\0\x029"[..]);
    }

    #[test]
    fn writes_end_with_their_last_writer() {
        let writes = Writes::new(2, Measure::FromAcknowledgement);
        writes.writer_comes();
        writes.writer_comes();
        writes.acknowledged(1, 7, 100);
        writes.writer_goes();
        assert!(!writes.all_written());
        writes.writer_goes();
        assert!(writes.all_written());
        assert_eq!((writes.expected(0), writes.expected(1)), (0, 1));
        assert_eq!(writes.times.of(7), Acknowledged::AtNs(100));
    }
}
