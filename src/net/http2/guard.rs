//! Counts what HTTP/2 allows and a server should not suffer without end.
//!
//! - Pings, by gRPC's keepalive rule, as etcd has it: a ping sooner than `--grpc-keepalive-min-time` after the last
//!   one (or, with no call under way, sooner than two hours) is a strike, the third strike ends the connection with
//!   `too_many_pings`. Whatever the server sends for a call forgives them, since clients measure bandwidth by pings
//!   that follow data.
//! - Frames that carry nothing (settings, acknowledgements, priorities, empty data, unknown types), by a budget for
//!   each second.
//! - Resets, by a budget of their own. What a reset leaves behind is bounded elsewhere: a call counts until the
//!   service has answered it, whether or not its stream is still there.

use std::time::{Duration, Instant};

/// Pings that may come too early before the connection ends; the next one is the last.
const PING_STRIKES_MAX: u32 = 2;
/// With no call under way there is nothing to keep alive, so pings may come this often only.
const PING_IDLE_INTERVAL: Duration = Duration::from_secs(2 * 3600);

/// The limits that a guard enforces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Frames without a payload of use in one second.
    pub(super) idle_frames_per_second: u32,
    /// Resets in one second.
    pub(super) resets_per_second: u32,
    /// How often a client with calls under way may ping.
    pub(super) ping_interval_min: Duration,
}

/// What a client did too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flood {
    Pings,
    Frames,
    Resets,
}

impl Flood {
    /// The debug data of the GOAWAY frame. Go's clients know `too_many_pings` and slow down.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Pings => "too_many_pings",
            Self::Frames => "too_many_control_frames",
            Self::Resets => "too_many_resets",
        }
    }
}

/// The guard of one connection.
#[derive(Debug)]
pub(super) struct Guard {
    limits: Limits,
    second: u64,
    idle_frames: u32,
    resets: u32,
    ping_last: Option<Instant>,
    ping_strikes: u32,
}

impl Guard {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, second: 0, idle_frames: 0, resets: 0, ping_last: None, ping_strikes: 0 }
    }

    /// The current second, as coarse as the caller's clock.
    pub(super) fn set_second(&mut self, second: u64) {
        if second != self.second {
            self.second = second;
            self.idle_frames = 0;
            self.resets = 0;
        }
    }

    /// The server sent something for a call.
    pub(super) fn forgive_pings(&mut self) {
        self.ping_strikes = 0;
    }

    pub(super) fn idle_frame(&mut self) -> Result<(), Flood> {
        self.idle_frames += 1;
        if self.idle_frames > self.limits.idle_frames_per_second {
            return Err(Flood::Frames);
        }
        Ok(())
    }

    pub(super) fn reset(&mut self) -> Result<(), Flood> {
        self.resets += 1;
        if self.resets > self.limits.resets_per_second {
            return Err(Flood::Resets);
        }
        Ok(())
    }

    pub(super) fn ping(&mut self, now: Instant, has_calls: bool) -> Result<(), Flood> {
        let interval = if has_calls { self.limits.ping_interval_min } else { PING_IDLE_INTERVAL };
        if self.ping_last.is_some_and(|last| now.duration_since(last) < interval) {
            self.ping_strikes += 1;
        }
        self.ping_last = Some(now);
        if self.ping_strikes > PING_STRIKES_MAX {
            return Err(Flood::Pings);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        idle_frames_per_second: 3,
        resets_per_second: 2,
        ping_interval_min: Duration::from_secs(5),
    };

    #[test]
    fn budgets_are_for_each_second() {
        let mut guard = Guard::new(LIMITS);
        for second in 1..4 {
            guard.set_second(second);
            assert!((0..3).all(|_| guard.idle_frame().is_ok()));
            assert!((0..2).all(|_| guard.reset().is_ok()));
        }
        assert_eq!(guard.idle_frame(), Err(Flood::Frames));
        assert_eq!(guard.reset(), Err(Flood::Resets));
    }

    #[test]
    fn the_third_early_ping_is_one_too_many() {
        let mut guard = Guard::new(LIMITS);
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!([0, 5, 10].into_iter().all(|second| guard.ping(at(second), true).is_ok()));
        assert!([11, 12].into_iter().all(|second| guard.ping(at(second), true).is_ok()));
        assert_eq!(guard.ping(at(13), true), Err(Flood::Pings));

        let mut guard = Guard::new(LIMITS);
        assert!([0, 1, 2].into_iter().all(|second| guard.ping(at(second), true).is_ok()));
        guard.forgive_pings();
        assert!([3, 4].into_iter().all(|second| guard.ping(at(second), true).is_ok()));
        assert_eq!(guard.ping(at(5), true), Err(Flood::Pings));
    }

    #[test]
    fn without_calls_pings_may_come_every_two_hours() {
        let mut guard = Guard::new(LIMITS);
        let begin = Instant::now();
        let at = |minutes: u64| begin + Duration::from_secs(60 * minutes);
        assert!([0, 121, 242].into_iter().all(|minute| guard.ping(at(minute), false).is_ok()));
        assert!([300, 360].into_iter().all(|minute| guard.ping(at(minute), false).is_ok()));
        assert_eq!(guard.ping(at(400), false), Err(Flood::Pings));
    }
}
