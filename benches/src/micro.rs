//! The runner of the micro benches.
//!
//! Each bench is a closure that does a number of operations and returns a hash of what it computed:
//! printed, it keeps the work from being optimised away, and shows at a glance whether two builds
//! computed the same. `cargo bench` runs them at full size, several times, and prints the median;
//! under `cargo test` they run once and tiny, so that they cannot rot.
//!
//! Not here: statistics beyond a median and its spread. Whether a build is slower is decided by
//! `regress`, on whole servers.

use crate::statistics::Sample;
use std::hash::{DefaultHasher, Hasher};
use std::time::{Duration, Instant};

/// How often a bench is repeated at full size.
const REPETITIONS: usize = 7;
/// Full size over the size under test.
const TEST_DIVISOR: u64 = 1000;

/// One bench program.
#[derive(Debug)]
pub struct Micro {
    full_size: bool,
}

impl Micro {
    /// Looks for the flag that `cargo bench` gives and `cargo test` does not.
    pub fn from_arguments() -> Micro {
        Micro { full_size: std::env::args().any(|argument| argument == "--bench") }
    }

    /// Runs and prints one bench. `prepare` is not measured; `body` does `operations` operations on
    /// what it made, and returns their hash.
    pub fn run<S>(
        &self,
        name: &str,
        operations: u64,
        mut prepare: impl FnMut(u64) -> S,
        mut body: impl FnMut(S, u64) -> u64,
    ) {
        let (operations, repetitions) = match self.full_size {
            true => (operations, REPETITIONS),
            false => ((operations / TEST_DIVISOR).max(1), 1),
        };
        let mut hashes = Vec::new();
        let mut times = Vec::new();
        for _ in 0..repetitions {
            let state = prepare(operations);
            let begin = Instant::now();
            hashes.push(body(state, operations));
            times.push(nanoseconds_each(begin.elapsed(), operations));
        }
        let hash = hashes[0];
        assert!(hashes.iter().all(|other| *other == hash), "{name}: {hashes:x?} should be equal");
        let sample = Sample::of(times).expect("invariant: there is a repetition");
        println!(
            "{name}: {:.0} ns ({:.0} - {:.0}), {operations} operations, hash {hash:016x}",
            sample.median, sample.min, sample.max
        );
    }
}

fn nanoseconds_each(duration: Duration, operations: u64) -> f64 {
    duration.as_secs_f64() * 1e9 / operations as f64
}

/// Collects results into a hash.
#[derive(Debug, Default)]
pub struct Hash(DefaultHasher);

impl Hash {
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    pub fn add_number(&mut self, number: u64) {
        self.0.write_u64(number);
    }

    pub fn finish(&self) -> u64 {
        self.0.finish()
    }
}
