//! `--survive-failover`: which failures mean "try elsewhere", where that is, and how long nobody
//! was served.
//!
//! A request that fails so is asked again by its client, on a connection made anew: with
//! `--target-leader` to whoever leads then, otherwise to the endpoint after the one that failed.
//! Its latency is from when it was first due, so the outage is in it. A put may so be carried out
//! twice, as with every client that asks again.
//!
//! Deliberately not here: going back to an endpoint that works again; the connections stay where
//! they went until they are lost there.

use glommio::timer::Timer;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use urd_tools::grpc::connection::{Connection, ConnectionError};
use urd_tools::grpc::dial::Dial;
use urd_tools::grpc::endpoint::Endpoint;
use urd_tools::grpc::status::{CallError, Code};
use urd_tools::grpc::transport::{Transport, TransportError};
use urd_tools::grpc::unary::UnaryError;
use urd_tools::members;

/// The pause after an attempt that led to nothing: short beside an election.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);
/// How long one member may hold up an attempt: one that is paused accepts and says nothing.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(1);
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);
/// Nothing received for so long, with calls open, is a failure. etcd itself gives up a request
/// after 7 s, with a text that says more.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(8);
/// After so long without an answer from anybody there is nothing to survive any more.
const HOPELESS_AFTER: Duration = Duration::from_secs(60);

/// An error that another member, or the same one later, would not give.
pub(crate) trait TryElsewhere {
    fn means_try_elsewhere(&self) -> bool;
}

impl TryElsewhere for CallError {
    fn means_try_elsewhere(&self) -> bool {
        const UNAVAILABLE: Code = Code(14);
        match self {
            CallError::Status { code, .. } => *code == UNAVAILABLE,
            CallError::Unprocessed | CallError::Lost(_) => true,
            _ => false,
        }
    }
}

impl TryElsewhere for TransportError {
    fn means_try_elsewhere(&self) -> bool {
        match self {
            TransportError::Connect { .. } | TransportError::Io(_) | TransportError::Closed => true,
            TransportError::Connection(error) => matches!(error, ConnectionError::Goaway { .. }),
        }
    }
}

impl TryElsewhere for UnaryError {
    fn means_try_elsewhere(&self) -> bool {
        match self {
            UnaryError::Transport(error) => error.means_try_elsewhere(),
            UnaryError::Call(error) => error.means_try_elsewhere(),
            UnaryError::TimedOut(..) => true,
            _ => false,
        }
    }
}

/// When requests were answered OK, by all threads.
#[derive(Debug, Default)]
pub(crate) struct Served {
    last_ns: AtomicU64,
    longest_without_ns: AtomicU64,
}

impl Served {
    /// A request was answered OK at `now_ns` from the start.
    pub(crate) fn note(&self, now_ns: u64) {
        let last_ns = self.last_ns.fetch_max(now_ns, Ordering::Relaxed);
        self.longest_without_ns.fetch_max(now_ns.saturating_sub(last_ns), Ordering::Relaxed);
    }

    /// The longest time without an answer in a run that ended at `end_ns`.
    pub(crate) fn longest_without_ns(&self, end_ns: u64) -> u64 {
        self.longest_without_ns.load(Ordering::Relaxed).max(self.since_last_ns(end_ns))
    }

    fn since_last_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.last_ns.load(Ordering::Relaxed))
    }
}

/// What the threads need to survive.
#[derive(Clone, Debug)]
pub(crate) struct FailoverPlan {
    /// All endpoints, not only those that connections go to first, and how to connect there.
    pub(crate) places: Vec<(Endpoint, Dial)>,
    pub(crate) target_leader: bool,
    pub(crate) served: Arc<Served>,
}

/// One thread's part of it.
pub(crate) struct Failover {
    plan: FailoverPlan,
    /// The leader's place as found last, and when that was asked for.
    leader: RefCell<Option<(Instant, Result<usize, String>)>>,
    /// Somebody is asking.
    asking: Cell<bool>,
}

impl Failover {
    pub(crate) fn new(plan: FailoverPlan) -> Failover {
        Failover { plan, leader: RefCell::default(), asking: Cell::new(false) }
    }

    pub(crate) fn served(&self) -> &Served {
        &self.plan.served
    }

    /// Nobody was served for so long that the cluster must be taken for dead.
    pub(crate) fn is_hopeless(&self, now_ns: u64) -> bool {
        Duration::from_nanos(self.plan.served.since_last_ns(now_ns)) >= HOPELESS_AFTER
    }

    /// Connects to the leader, or else to the endpoint after `dial`'s. Once, without a pause; an
    /// error is counted by its text.
    pub(crate) async fn connect<T>(
        &self,
        dial: &Dial,
    ) -> Result<(Dial, Transport, Connection<T>), String> {
        let place = match self.plan.target_leader {
            true => self.leader().await?,
            false => self.place_after(dial),
        };
        let (_, dial) = &self.plan.places[place];
        let brief = Dial { timeout: dial.timeout.min(CONNECT_TIMEOUT_MAX), ..dial.clone() };
        let (transport, connection) = brief.connect().await.map_err(|error| error.to_string())?;
        Ok((dial.clone(), transport, connection))
    }

    pub(crate) fn targets_leader(&self) -> bool {
        self.plan.target_leader
    }

    /// The endpoint after that of `dial`.
    pub(crate) fn after(&self, dial: &Dial) -> Dial {
        self.plan.places[self.place_after(dial)].1.clone()
    }

    fn place_after(&self, dial: &Dial) -> usize {
        let places = &self.plan.places;
        let place = places.iter().position(|(_, other)| other.address == dial.address);
        place.map_or(0, |place| (place + 1) % places.len())
    }

    /// Who leads, as the members say from now on. One asks for all connections of the thread.
    async fn leader(&self) -> Result<usize, String> {
        let wanted = Instant::now();
        loop {
            if let Some((asked, found)) = &*self.leader.borrow()
                && *asked >= wanted
            {
                return found.clone();
            }
            if self.asking.replace(true) {
                Timer::new(PAUSE / 4).await;
                continue;
            }
            let asked = Instant::now();
            let endpoints: Vec<Endpoint> =
                self.plan.places.iter().map(|(endpoint, _)| endpoint.clone()).collect();
            let answers = members::statuses(&endpoints, STATUS_TIMEOUT).await;
            let leader = members::leader(answers.iter().map(|answer| answer.as_ref().ok()));
            let found = leader.ok_or_else(|| "none of the endpoints is the leader".into());
            self.leader.replace(Some((asked, found)));
            self.asking.set(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_another_member_may_do_better_is_tried_elsewhere() {
        let status =
            |code, message: &str| CallError::Status { code: Code(code), message: message.into() };
        for survived in [
            status(14, "etcdserver: leader changed"),
            status(14, "etcdserver: request timed out"),
            CallError::Lost("connection lost: closed by the server".into()),
            CallError::Unprocessed,
        ] {
            assert!(survived.means_try_elsewhere(), "{survived}");
        }
        for failure in [
            status(8, "etcdserver: mvcc: database space exceeded"),
            status(15, "etcdserver: corrupt cluster"),
            CallError::Malformed("its content type is not gRPC's"),
        ] {
            assert!(!failure.means_try_elsewhere(), "{failure}");
        }
        assert!(TransportError::Closed.means_try_elsewhere());
        let broken = ConnectionError::Protocol("a frame longer than allowed");
        assert!(!TransportError::Connection(broken).means_try_elsewhere());
    }

    #[test]
    fn longest_time_without_answers_may_be_at_either_end() {
        let served = Served::default();
        served.note(500);
        assert_eq!(served.longest_without_ns(600), 500, "nobody was served at first");
        served.note(700);
        served.note(650);
        assert_eq!(served.longest_without_ns(700), 500, "threads may note in any order");
        served.note(1300);
        assert_eq!(served.longest_without_ns(1400), 600);
        assert_eq!(served.longest_without_ns(5000), 3700, "or to the very end");
    }
}
