//! The report for people, in the form of etcd's own tool.

use std::fmt::{self, Display, Formatter};
use urd_tools::report::Report;

/// Rows of the response-time histogram, and the longest bar in it.
const HISTOGRAM_ROWS: usize = 10;
const BAR_WIDTH: u64 = 40;

const SECOND_NS: f64 = 1e9;
const MILLISECOND_NS: f64 = 1e6;

/// A report and how to print it.
pub(crate) struct Text<'a> {
    pub(crate) report: &'a Report,
    /// `--precise`
    pub(crate) precise: bool,
    /// `--sample`
    pub(crate) sample: bool,
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.report.requests > 0 {
            self.summary(f)?;
            self.histogram(f)?;
            self.distribution(f)?;
            match self.sample {
                true => self.samples(f)?,
                false => self.over_time(f)?,
            }
        }
        self.kinds(f)?;
        self.counters(f)?;
        self.failover(f)?;
        self.errors(f)
    }
}

impl Text<'_> {
    fn number(&self, value: f64) -> String {
        if self.precise { format!("{value}") } else { format!("{value:.4}") }
    }

    fn seconds(&self, nanoseconds: f64) -> String {
        self.number(nanoseconds / SECOND_NS)
    }

    fn summary(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let latency = &self.report.latency;
        writeln!(f, "\nSummary:")?;
        writeln!(f, "  Total:\t{} secs.", self.number(self.report.seconds))?;
        writeln!(f, "  Slowest:\t{} secs.", self.seconds(latency.slowest as f64))?;
        writeln!(f, "  Fastest:\t{} secs.", self.seconds(latency.fastest as f64))?;
        writeln!(f, "  Average:\t{} secs.", self.seconds(latency.average))?;
        writeln!(f, "  Stddev:\t{} secs.", self.seconds(latency.stddev))?;
        writeln!(f, "  Requests/sec:\t{}", self.number(self.report.requests_per_second))?;
        writeln!(
            f,
            "  CPU/request:\t{:.2} us (of this load generator)",
            self.report.cpu_us_per_request
        )
    }

    fn histogram(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (fastest, slowest) = (self.report.latency.fastest, self.report.latency.slowest);
        let row_width = (slowest - fastest) as f64 / HISTOGRAM_ROWS as f64;
        let mut rows = [(0.0, 0); HISTOGRAM_ROWS + 1];
        for (nth, row) in rows.iter_mut().enumerate() {
            row.0 = fastest as f64 + row_width * nth as f64;
        }
        for &(value, count) in &self.report.histogram {
            let above = rows.iter().take(HISTOGRAM_ROWS).filter(|row| row.0 < value as f64).count();
            rows[above].1 += count;
        }
        let longest = rows.iter().map(|row| row.1).max().unwrap_or(0).max(1);
        writeln!(f, "\nResponse time histogram:")?;
        for (bound, count) in rows {
            let bar = "∎".repeat((count * BAR_WIDTH / longest) as usize);
            writeln!(f, "  {} [{count}]\t|{bar}", self.seconds(bound))?;
        }
        Ok(())
    }

    fn distribution(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nLatency distribution:")?;
        for (label, value) in self.report.latency.distribution() {
            writeln!(f, "  {label} in {} ms.", self.number(value as f64 / MILLISECOND_NS))?;
        }
        Ok(())
    }

    fn over_time(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nThroughput over time:")?;
        writeln!(f, "  second  requests/s  average ms  slowest ms  errors")?;
        for row in &self.report.over_time {
            let (average, slowest) = (row.average_ns as f64, row.slowest_ns as f64);
            writeln!(
                f,
                "  {:6}  {:10}  {:10.3}  {:10.3}  {:6}",
                row.second,
                row.requests,
                average / MILLISECOND_NS,
                slowest / MILLISECOND_NS,
                row.errors
            )?;
        }
        Ok(())
    }

    fn samples(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nSample in one second (unix latency throughput):")?;
        writeln!(f, "UNIX-SECOND,MIN-LATENCY-MS,AVG-LATENCY-MS,MAX-LATENCY-MS,AVG-THROUGHPUT")?;
        for row in &self.report.over_time {
            let milliseconds = |ns: u64| self.number(ns as f64 / MILLISECOND_NS);
            writeln!(
                f,
                "{},{},{},{},{}",
                self.report.started_unix_seconds + row.second,
                milliseconds(row.fastest_ns),
                milliseconds(row.average_ns),
                milliseconds(row.slowest_ns),
                row.requests
            )?;
        }
        Ok(())
    }

    fn kinds(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for kind in &self.report.kinds {
            writeln!(f, "\nOf kind {}:", kind.name)?;
            writeln!(f, "  Count:\t{} ({} failed)", kind.count, kind.errors)?;
            writeln!(f, "  Per second:\t{}", self.number(kind.per_second))?;
            let latency = &kind.latency;
            for (label, value) in [
                ("Fastest", latency.fastest),
                ("50%", latency.p50),
                ("99%", latency.p99),
                ("99.9%", latency.p99_9),
                ("Slowest", latency.slowest),
            ] {
                writeln!(f, "  {label}:\t{} ms.", self.number(value as f64 / MILLISECOND_NS))?;
            }
        }
        Ok(())
    }

    fn counters(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.report.counters.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nCounted:")?;
        for (name, count) in &self.report.counters {
            writeln!(f, "  {name}:\t{count}")?;
        }
        Ok(())
    }

    fn failover(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(failover) = &self.report.failover else { return Ok(()) };
        writeln!(f, "\nSurvived:")?;
        writeln!(f, "  Errors:\t{}", failover.errors)?;
        let longest_ns = failover.longest_without_answer_ns as f64;
        writeln!(
            f,
            "  Longest time without an answered request:\t{} secs.",
            self.seconds(longest_ns)
        )?;
        for (error, count) in &failover.error_counts {
            writeln!(f, "  [{count}]\t{error}")?;
        }
        Ok(())
    }

    fn errors(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.report.errors == 0 {
            return Ok(());
        }
        writeln!(f, "\nError distribution:")?;
        for (error, count) in &self.report.error_counts {
            writeln!(f, "  [{count}]\t{error}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use urd_tools::report::{Failover, Kind, Latency, Second, histogram_pairs, latency_histogram};

    fn report() -> Report {
        let mut histogram = latency_histogram();
        for nth in 1..=100 {
            histogram.saturating_record(nth * 1_000_000);
        }
        let second = |second, requests| Second { second, requests, ..Second::default() };
        Report {
            requests: 100,
            seconds: 2.0,
            requests_per_second: 50.0,
            latency: Latency::of(&histogram),
            histogram: histogram_pairs(&histogram),
            started_unix_seconds: 1000,
            over_time: vec![second(0, 60), second(1, 40)],
            ..Report::default()
        }
    }

    fn text(report: &Report, sample: bool) -> String {
        Text { report, precise: false, sample }.to_string()
    }

    #[test]
    fn says_what_etcds_tool_says() {
        let text = text(&report(), false);
        for line in ["  Total:\t2.0000 secs.", "  Requests/sec:\t50.0000", "Latency distribution:"]
        {
            assert!(text.contains(line), "{line}: {text}");
        }
        // Every request stands in exactly one row.
        let histogram = text.split("histogram:").nth(1).unwrap().split("Latency").next().unwrap();
        let counts: Vec<u64> = histogram
            .lines()
            .filter_map(|line| line.split(['[', ']']).nth(1)?.parse().ok())
            .collect();
        assert_eq!((counts.len(), counts.iter().sum()), (11, 100), "{histogram}");
    }

    #[test]
    fn samples_are_comma_separated() {
        let text = text(&report(), true);
        assert!(text.contains("\n1000,0.0000,0.0000,0.0000,60\n1001,"), "{text}");
        assert!(!text.contains("Throughput over time"), "{text}");
    }

    #[test]
    fn kinds_and_counters_follow() {
        let histogram = report().latency_histogram();
        let kind = Kind {
            name: "event".into(),
            count: 100,
            per_second: 12.5,
            latency: Latency::of(&histogram),
            ..Kind::default()
        };
        let counters = [("retries".to_string(), 3)].into();
        let text = text(&Report { kinds: vec![kind], counters, ..Report::default() }, false);
        for part in ["Of kind event:\n  Count:\t100 (0 failed)", "12.5000", "99.9%:\t100."] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.ends_with("\nCounted:\n  retries:\t3\n"), "{text}");
    }

    #[test]
    fn survived_errors_are_apart() {
        let error_counts = [("etcdserver: leader changed".to_string(), 3)].into();
        let failover =
            Failover { errors: 3, error_counts, longest_without_answer_ns: 1_250_000_000 };
        let text = text(&Report { failover: Some(failover), ..Report::default() }, false);
        let expected = "\nSurvived:\n  Errors:\t3\n  Longest time without an answered request:\t\
                        1.2500 secs.\n  [3]\tetcdserver: leader changed\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn errors_are_grouped() {
        let error_counts = [("lost".to_string(), 3), ("refused".to_string(), 1)].into();
        let report = Report { errors: 4, error_counts, ..Report::default() };
        assert_eq!(text(&report, false), "\nError distribution:\n  [3]\tlost\n  [1]\trefused\n");
    }
}
