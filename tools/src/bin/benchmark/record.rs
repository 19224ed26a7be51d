//! What a thread notes about its requests while the run goes on.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use urd_tools::report::{Second, latency_histogram};

/// Latencies, throughput over time, and errors by their texts.
pub(crate) struct Record {
    pub(crate) histogram: Histogram<u64>,
    seconds: Vec<SecondSums>,
    pub(crate) error_counts: BTreeMap<String, u64>,
    pub(crate) message_bytes: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    /// When the last request ended, in nanoseconds from the start.
    pub(crate) end_ns: u64,
}

#[derive(Clone, Copy, Default)]
struct SecondSums {
    requests: u64,
    errors: u64,
    fastest_ns: u64,
    slowest_ns: u64,
    sum_ns: u64,
}

impl Record {
    pub(crate) fn new() -> Record {
        Record {
            histogram: latency_histogram(),
            seconds: Vec::new(),
            error_counts: BTreeMap::new(),
            message_bytes: 0,
            bytes_sent: 0,
            bytes_received: 0,
            end_ns: 0,
        }
    }

    /// A request that was due at `due_ns` was answered OK at `now_ns`.
    pub(crate) fn answered(&mut self, now_ns: u64, due_ns: u64, message_bytes: u64) {
        let latency_ns = now_ns.saturating_sub(due_ns);
        self.histogram.saturating_record(latency_ns);
        self.message_bytes += message_bytes;
        let second = self.second(now_ns);
        if second.requests == 0 || latency_ns < second.fastest_ns {
            second.fastest_ns = latency_ns;
        }
        second.requests += 1;
        second.slowest_ns = second.slowest_ns.max(latency_ns);
        second.sum_ns += latency_ns;
    }

    /// Something failed at `now_ns`.
    pub(crate) fn failed(&mut self, now_ns: u64, error: String) {
        self.second(now_ns).errors += 1;
        *self.error_counts.entry(error).or_default() += 1;
    }

    fn second(&mut self, now_ns: u64) -> &mut SecondSums {
        const SECOND_NS: u64 = 1_000_000_000;
        self.end_ns = self.end_ns.max(now_ns);
        let nth = (now_ns / SECOND_NS) as usize;
        if nth >= self.seconds.len() {
            self.seconds.resize(nth + 1, SecondSums::default());
        }
        &mut self.seconds[nth]
    }

    /// Adds another thread's.
    pub(crate) fn merge(&mut self, other: Record) {
        self.histogram
            .add(&other.histogram)
            .expect("invariant: all histograms here have the same bounds");
        for (error, count) in other.error_counts {
            *self.error_counts.entry(error).or_default() += count;
        }
        self.message_bytes += other.message_bytes;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.end_ns = self.end_ns.max(other.end_ns);
        if self.seconds.len() < other.seconds.len() {
            self.seconds.resize(other.seconds.len(), SecondSums::default());
        }
        for (sums, other) in self.seconds.iter_mut().zip(other.seconds) {
            sums.merge(other);
        }
    }

    pub(crate) fn over_time(&self) -> Vec<Second> {
        let row = |(nth, sums): (usize, &SecondSums)| Second {
            second: nth as u64,
            requests: sums.requests,
            errors: sums.errors,
            fastest_ns: sums.fastest_ns,
            average_ns: sums.sum_ns.checked_div(sums.requests).unwrap_or(0),
            slowest_ns: sums.slowest_ns,
        };
        self.seconds.iter().enumerate().map(row).collect()
    }
}

impl SecondSums {
    fn merge(&mut self, other: SecondSums) {
        if other.requests > 0 && (self.requests == 0 || other.fastest_ns < self.fastest_ns) {
            self.fastest_ns = other.fastest_ns;
        }
        self.requests += other.requests;
        self.errors += other.errors;
        self.slowest_ns = self.slowest_ns.max(other.slowest_ns);
        self.sum_ns += other.sum_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_is_as_if_one_thread_had_noted_all() {
        let events = [(1_000, 0, false), (2_500_000_000, 900_000, false), (2_600_000_000, 0, true)];
        let note = |record: &mut Record, &(now, due, fails): &(u64, u64, bool)| match fails {
            true => record.failed(now, "error".into()),
            false => record.answered(now, due, 7),
        };
        let (mut one, mut first, mut second) = (Record::new(), Record::new(), Record::new());
        for (nth, event) in events.iter().enumerate() {
            note(&mut one, event);
            note(if nth % 2 == 0 { &mut first } else { &mut second }, event);
        }
        first.merge(second);
        assert_eq!(first.histogram, one.histogram);
        assert_eq!(first.error_counts, one.error_counts);
        assert_eq!(first.over_time(), one.over_time());
        assert_eq!((first.end_ns, first.message_bytes), (2_600_000_000, 14));
        let requests: Vec<u64> = one.over_time().iter().map(|second| second.requests).collect();
        assert_eq!(requests, [1, 0, 1], "a second in which nothing ended is a row too");
    }
}
