//! When requests are due, and which one is next.
//!
//! One counter serves all threads. Closed loop: a client that has its answer takes the next
//! request at once. Open loop (`--rate`): request *n* is due *n* / rate seconds after the start,
//! whether or not the server keeps up; who takes it late measures from when it was due.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A request taken by a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Its place in the run, from 0.
    pub(crate) number: u64,
    /// When it was due, in nanoseconds from the start.
    pub(crate) due_ns: u64,
    /// It was given to a server that did not begin with it.
    pub(crate) retried: bool,
}

/// The answer to "what next?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Taken(Request),
    /// The next one is due then, in nanoseconds from the start.
    NotBefore(u64),
    /// There is none any more.
    Exhausted,
}

/// The schedule of a run.
#[derive(Debug)]
pub(crate) struct Arrivals {
    start: OnceLock<Instant>,
    next: AtomicU64,
    total: u64,
    /// Requests per second; 0 in a closed loop.
    rate: u64,
    duration_ns: u64,
}

impl Arrivals {
    /// `total` and `duration`: whichever is reached first ends it; none and zero are no limit.
    pub(crate) fn new(total: Option<u64>, rate: u64, duration: Duration) -> Arrivals {
        let duration_ns = if duration.is_zero() { u64::MAX } else { nanoseconds(duration) };
        let total = total.unwrap_or(u64::MAX);
        Arrivals { start: OnceLock::new(), next: AtomicU64::new(0), total, rate, duration_ns }
    }

    /// Starts the clock; whoever is second finds it running.
    pub(crate) fn start(&self) -> Instant {
        *self.start.get_or_init(Instant::now)
    }

    /// When a request was due.
    pub(crate) fn due_at(&self, request: &Request) -> Instant {
        self.start() + Duration::from_nanos(request.due_ns)
    }

    /// A moment in nanoseconds from the start.
    pub(crate) fn ns_of(&self, at: Instant) -> u64 {
        nanoseconds(at.saturating_duration_since(self.start()))
    }

    /// Nanoseconds since the start.
    pub(crate) fn now_ns(&self) -> u64 {
        nanoseconds(self.start().elapsed())
    }

    pub(crate) fn is_open_loop(&self) -> bool {
        self.rate > 0
    }

    /// The time for the load is over at `now_ns`.
    pub(crate) fn is_past(&self, now_ns: u64) -> bool {
        now_ns >= self.duration_ns
    }

    /// Requests taken so far.
    pub(crate) fn taken(&self) -> u64 {
        self.next.load(Ordering::Relaxed).min(self.total)
    }

    /// How much of the run is over, from 0 to 1. Who asks does not start the clock.
    pub(crate) fn progress(&self) -> f64 {
        let elapsed_ns = self.start.get().map_or(0, |start| nanoseconds(start.elapsed()));
        let taken = self.taken() as f64 / self.total as f64;
        let elapsed = elapsed_ns as f64 / self.duration_ns as f64;
        taken.max(elapsed).min(1.0)
    }

    /// Takes the next request, if it is due at `now_ns`.
    pub(crate) fn claim(&self, now_ns: u64) -> Claim {
        if !self.is_open_loop() {
            if self.is_past(now_ns) {
                return Claim::Exhausted;
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            return match number < self.total {
                true => Claim::Taken(Request { number, due_ns: now_ns, retried: false }),
                false => Claim::Exhausted,
            };
        }
        let mut number = self.next.load(Ordering::Relaxed);
        loop {
            let due_ns = self.due_ns(number);
            if number >= self.total || due_ns >= self.duration_ns {
                return Claim::Exhausted;
            }
            if due_ns > now_ns {
                return Claim::NotBefore(due_ns);
            }
            let taken = self.next.compare_exchange_weak(
                number,
                number + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match taken {
                Ok(_) => return Claim::Taken(Request { number, due_ns, retried: false }),
                Err(other) => number = other,
            }
        }
    }

    fn due_ns(&self, number: u64) -> u64 {
        const SECOND_NS: u128 = 1_000_000_000;
        let due = u128::from(number) * SECOND_NS / u128::from(self.rate);
        u64::try_from(due).unwrap_or(u64::MAX)
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(number: u64, due_ns: u64) -> Claim {
        Claim::Taken(Request { number, due_ns, retried: false })
    }

    #[test]
    fn closed_loop_is_due_when_asked_for() {
        let arrivals = Arrivals::new(Some(2), 0, Duration::ZERO);
        assert_eq!(arrivals.claim(10), taken(0, 10));
        assert_eq!(arrivals.claim(17), taken(1, 17));
        assert_eq!(arrivals.claim(18), Claim::Exhausted);
        assert_eq!(arrivals.taken(), 2);
    }

    #[test]
    fn open_loop_is_due_as_scheduled_however_late_it_is_taken() {
        let arrivals = Arrivals::new(Some(4), 1000, Duration::ZERO);
        assert_eq!(arrivals.claim(0), taken(0, 0));
        assert_eq!(arrivals.claim(999_999), Claim::NotBefore(1_000_000));
        // The server stalled for five milliseconds: all of it counts.
        assert_eq!(arrivals.claim(5_000_000), taken(1, 1_000_000));
        assert_eq!(arrivals.claim(5_000_000), taken(2, 2_000_000));
        assert_eq!(arrivals.claim(5_000_000), taken(3, 3_000_000));
        assert_eq!(arrivals.claim(5_000_000), Claim::Exhausted);
    }

    #[test]
    fn looking_at_progress_starts_no_clock() {
        let arrivals = Arrivals::new(None, 0, Duration::from_secs(1));
        assert!(arrivals.progress() == 0.0 && arrivals.start.get().is_none());
    }

    #[test]
    fn duration_ends_both_loops() {
        let second = Duration::from_secs(1);
        let closed = Arrivals::new(None, 0, second);
        assert_eq!(closed.claim(999_999_999), taken(0, 999_999_999));
        assert_eq!(closed.claim(1_000_000_000), Claim::Exhausted);

        let open = Arrivals::new(None, 2, second);
        assert_eq!(open.claim(u64::MAX), taken(0, 0));
        assert_eq!(open.claim(u64::MAX), taken(1, 500_000_000));
        assert_eq!(open.claim(u64::MAX), Claim::Exhausted, "due at the end is after it");
    }
}
