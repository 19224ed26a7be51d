//! What a run of the load generator found, as its JSON says it.
//!
//! A type of the library and not of the program, so that the benches read what the program writes
//! by the same definition. It keeps the whole histogram, not only percentiles: those of several
//! runs cannot be combined, histograms can.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Latencies are recorded in nanoseconds, from this ...
pub const LATENCY_NS_MIN: u64 = 100;
/// ... to this: an hour. What lies beyond is recorded as these.
pub const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Significant decimal digits of a recorded latency.
const LATENCY_DIGITS: u8 = 3;

/// An empty histogram of latencies.
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, LATENCY_DIGITS)
        .expect("invariant: constant bounds, the lowest above 0 and the digits below 6")
}

/// The run as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The subcommand's name.
    pub workload: String,
    pub endpoints: Vec<String>,
    pub conns: usize,
    pub clients: usize,
    pub threads: usize,
    /// Requests per second asked for; 0: as many as the clients get answered.
    pub rate: u64,
    pub seed: u64,
    pub started_unix_seconds: u64,
    /// Requests answered OK. Only these are in the latencies.
    pub requests: u64,
    /// Requests that failed, and what else went wrong.
    pub errors: u64,
    /// The errors by their texts.
    pub error_counts: BTreeMap<String, u64>,
    pub seconds: f64,
    pub requests_per_second: f64,
    pub latency: Latency,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Sum of the sizes of response messages.
    pub message_bytes_received: u64,
    /// The load generator's own cost, user and system.
    pub cpu_seconds: f64,
    pub cpu_us_per_request: f64,
    pub over_time: Vec<Second>,
    /// Pairs of a latency in nanoseconds and how often it was recorded.
    pub histogram: Vec<(u64, u64)>,
    /// What `--survive-failover` survived; none without that flag.
    #[serde(default)]
    pub failover: Option<Failover>,
    /// The requests by their kinds, and what is measured beside requests (events, set-up).
    #[serde(default)]
    pub kinds: Vec<Kind>,
    /// What is counted and has no latency.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
}

/// What a run survived.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Failover {
    /// Failures after which the request, or connecting, was tried elsewhere.
    pub errors: u64,
    /// These by their texts.
    pub error_counts: BTreeMap<String, u64>,
    /// The longest time in which no request was answered OK, in nanoseconds.
    pub longest_without_answer_ns: u64,
}

/// One kind of what a run did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kind {
    pub name: String,
    /// How many ended well. Only these are in the latencies.
    pub count: u64,
    pub errors: u64,
    /// From the begin of the first to the end of the last.
    pub seconds: f64,
    pub per_second: f64,
    pub latency: Latency,
    pub histogram: Vec<(u64, u64)>,
}

/// Latencies in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub fastest: u64,
    pub average: f64,
    pub stddev: f64,
    pub p10: u64,
    pub p25: u64,
    pub p50: u64,
    pub p75: u64,
    pub p90: u64,
    pub p95: u64,
    pub p99: u64,
    pub p99_9: u64,
    pub p99_99: u64,
    pub slowest: u64,
}

/// What ended in one second of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    pub second: u64,
    pub requests: u64,
    pub errors: u64,
    pub fastest_ns: u64,
    pub average_ns: u64,
    pub slowest_ns: u64,
}

impl Latency {
    pub fn of(histogram: &Histogram<u64>) -> Latency {
        if histogram.is_empty() {
            return Latency::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        Latency {
            fastest: histogram.min(),
            average: histogram.mean(),
            stddev: histogram.stdev(),
            p10: at(0.1),
            p25: at(0.25),
            p50: at(0.5),
            p75: at(0.75),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            slowest: histogram.max(),
        }
    }

    /// The distribution, as labels and nanoseconds.
    pub fn distribution(&self) -> [(&'static str, u64); 10] {
        [
            ("10%", self.p10),
            ("25%", self.p25),
            ("50%", self.p50),
            ("75%", self.p75),
            ("90%", self.p90),
            ("95%", self.p95),
            ("99%", self.p99),
            ("99.9%", self.p99_9),
            ("99.99%", self.p99_99),
            ("100%", self.slowest),
        ]
    }
}

impl Report {
    /// The recorded histogram again.
    pub fn latency_histogram(&self) -> Histogram<u64> {
        let mut histogram = latency_histogram();
        for &(value, count) in &self.histogram {
            histogram.saturating_record_n(value, count);
        }
        histogram
    }
}

/// A histogram as pairs, each value standing for its bucket.
pub fn histogram_pairs(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let recorded = histogram.iter_recorded();
    recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_survives_json() {
        let mut histogram = latency_histogram();
        for value in [50, 1_000, 1_001, 123_456_789, LATENCY_NS_MAX * 2] {
            histogram.saturating_record(value);
        }
        let report = Report {
            latency: Latency::of(&histogram),
            histogram: histogram_pairs(&histogram),
            ..Report::default()
        };
        let json = serde_json::to_string(&report).unwrap();
        let read: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(read, report);
        assert_eq!(read.latency_histogram(), histogram);
        assert_eq!(Latency::of(&read.latency_histogram()), report.latency);
    }

    #[test]
    fn nothing_recorded_is_no_latency() {
        assert_eq!(Latency::of(&latency_histogram()), Latency::default());
    }
}
