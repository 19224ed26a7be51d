//! What a thread notes about its requests while the run goes on.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Instant;
use urd_tools::report::{self, Latency, Second, histogram_pairs, latency_histogram};

/// Latencies, throughput over time, and errors by their texts.
pub(crate) struct Record {
    pub(crate) histogram: Histogram<u64>,
    seconds: Vec<SecondSums>,
    pub(crate) error_counts: BTreeMap<String, u64>,
    /// Errors after which the request was asked again.
    pub(crate) survived_counts: BTreeMap<String, u64>,
    pub(crate) message_bytes: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    /// When the last request ended, in nanoseconds from the start.
    pub(crate) end_ns: u64,
    kinds: BTreeMap<&'static str, Kind>,
    pub(crate) counters: BTreeMap<&'static str, u64>,
}

/// What is noted of one kind of request, or of something else that takes time.
pub(crate) struct Kind {
    histogram: Histogram<u64>,
    errors: u64,
    /// The first begin and the last end.
    span: Option<(Instant, Instant)>,
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
            survived_counts: BTreeMap::new(),
            message_bytes: 0,
            bytes_sent: 0,
            bytes_received: 0,
            end_ns: 0,
            kinds: BTreeMap::new(),
            counters: BTreeMap::new(),
        }
    }

    pub(crate) fn kind(&mut self, name: &'static str) -> &mut Kind {
        self.kinds.entry(name).or_insert_with(Kind::new)
    }

    pub(crate) fn count(&mut self, counter: &'static str, more: u64) {
        *self.counters.entry(counter).or_default() += more;
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

    /// Something failed at `now_ns` that is tried elsewhere.
    pub(crate) fn survived(&mut self, now_ns: u64, error: String) {
        self.second(now_ns).errors += 1;
        *self.survived_counts.entry(error).or_default() += 1;
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
        for (error, count) in other.survived_counts {
            *self.survived_counts.entry(error).or_default() += count;
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
        for (name, kind) in other.kinds {
            self.kind(name).merge(&kind);
        }
        for (name, count) in other.counters {
            self.count(name, count);
        }
    }

    pub(crate) fn kinds(&self) -> Vec<report::Kind> {
        self.kinds.iter().map(|(name, kind)| kind.report(name)).collect()
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

impl Kind {
    fn new() -> Kind {
        Kind { histogram: latency_histogram(), errors: 0, span: None }
    }

    /// One that ended well.
    pub(crate) fn ended(&mut self, begin: Instant, end: Instant) {
        let latency_ns = end.saturating_duration_since(begin).as_nanos();
        self.histogram.saturating_record(u64::try_from(latency_ns).unwrap_or(u64::MAX));
        self.extend(begin, end);
    }

    pub(crate) fn failed(&mut self) {
        self.errors += 1;
    }

    fn extend(&mut self, begin: Instant, end: Instant) {
        let (first, last) = self.span.unwrap_or((begin, end));
        self.span = Some((first.min(begin), last.max(end)));
    }

    fn merge(&mut self, other: &Kind) {
        self.histogram
            .add(&other.histogram)
            .expect("invariant: all histograms here have the same bounds");
        self.errors += other.errors;
        if let Some((begin, end)) = other.span {
            self.extend(begin, end);
        }
    }

    fn report(&self, name: &str) -> report::Kind {
        let count = self.histogram.len();
        let span = self.span.map_or_else(Default::default, |(begin, end)| end - begin);
        let seconds = span.as_secs_f64();
        report::Kind {
            name: name.into(),
            count,
            errors: self.errors,
            seconds,
            per_second: if seconds > 0.0 { count as f64 / seconds } else { 0.0 },
            latency: Latency::of(&self.histogram),
            histogram: histogram_pairs(&self.histogram),
        }
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

    #[test]
    fn kinds_span_from_the_first_begin_to_the_last_end() {
        let at = |ms| Instant::now() + std::time::Duration::from_millis(ms);
        let (begin, middle, end) = (at(0), at(500), at(2000));
        let (mut first, mut second) = (Record::new(), Record::new());
        first.kind("event").ended(middle, end);
        second.kind("event").ended(begin, middle);
        second.kind("event").failed();
        second.count("retries", 3);
        first.merge(second);
        let kinds = first.kinds();
        assert_eq!((kinds.len(), kinds[0].count, kinds[0].errors), (1, 2, 1));
        assert!((1.99..2.01).contains(&kinds[0].seconds), "{}", kinds[0].seconds);
        assert!((0.99..1.01).contains(&kinds[0].per_second));
        assert_eq!(first.counters, [("retries", 3)].into());
    }
}
