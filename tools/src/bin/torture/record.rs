//! What clients write down, all by one clock.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Instant;

use urd_proto::mvccpb::Event;
use urd_tools::checkers::history::{Operation, revision_of};
use urd_tools::checkers::leases::LeaseRecord;
use urd_tools::checkers::watching::WatchRecord;

pub(crate) struct Record {
    begun: Instant,
    operations: Mutex<Vec<Operation>>,
    watches: Mutex<Vec<WatchRecord>>,
    leases: Mutex<Vec<LeaseRecord>>,
    truth: Mutex<Vec<Event>>,
    faults: Mutex<Vec<(u64, String)>>,
    /// The newest revision that the truth has.
    told: AtomicI64,
    /// How many large values are still to be put: a disk is full, and ought to be written to.
    bulk_wanted: AtomicUsize,
    /// No more requests are to be made.
    load_is_over: AtomicBool,
    /// No more events are to be waited for.
    watches_are_over: AtomicBool,
}

/// A record that is complete.
pub(crate) struct Collected {
    pub(crate) operations: Vec<Operation>,
    pub(crate) watches: Vec<WatchRecord>,
    pub(crate) leases: Vec<LeaseRecord>,
    pub(crate) truth: Vec<Event>,
    pub(crate) faults: Vec<(u64, String)>,
}

impl Record {
    pub(crate) fn new() -> Record {
        Record {
            begun: Instant::now(),
            operations: Mutex::default(),
            watches: Mutex::default(),
            leases: Mutex::default(),
            truth: Mutex::default(),
            faults: Mutex::default(),
            told: AtomicI64::new(1),
            bulk_wanted: AtomicUsize::new(0),
            load_is_over: AtomicBool::new(false),
            watches_are_over: AtomicBool::new(false),
        }
    }

    /// Nanoseconds since the begin.
    pub(crate) fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    pub(crate) fn at(&self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_duration_since(self.begun).as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn operation(&self, operation: Operation) {
        push(&self.operations, operation);
    }

    pub(crate) fn operations(&self) -> usize {
        self.operations.lock().map_or(0, |operations| operations.len())
    }

    pub(crate) fn watch(&self, watch: WatchRecord) {
        push(&self.watches, watch);
    }

    pub(crate) fn lease(&self, lease: LeaseRecord) {
        push(&self.leases, lease);
    }

    /// Says on the terminal what is done to the cluster, and notes it.
    pub(crate) fn fault(&self, text: &str) {
        let now = self.now();
        println!("{:8.3} s  {text}", now as f64 / 1e9);
        push(&self.faults, (now, text.to_owned()));
    }

    /// Events of the watch on everything, in the order in which they came.
    pub(crate) fn truth(&self, events: &[Event]) {
        if let Some(last) = events.last() {
            self.truth.lock().expect("no holder panics").extend_from_slice(events);
            self.told.store(revision_of(last), Ordering::Relaxed);
        }
    }

    pub(crate) fn told(&self) -> i64 {
        self.told.load(Ordering::Relaxed)
    }

    pub(crate) fn want_bulk(&self, values: usize) {
        self.bulk_wanted.store(values, Ordering::Relaxed);
    }

    /// Whether one more is wanted, which is then taken to be put.
    pub(crate) fn takes_bulk(&self) -> bool {
        let less = |wanted: usize| wanted.checked_sub(1);
        self.bulk_wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    pub(crate) fn end_load(&self) {
        self.load_is_over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn end_watches(&self) {
        self.watches_are_over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn load_is_over(&self) -> bool {
        self.load_is_over.load(Ordering::Relaxed)
    }

    pub(crate) fn watches_are_over(&self) -> bool {
        self.watches_are_over.load(Ordering::Relaxed)
    }

    /// All of it; nothing is left.
    pub(crate) fn collect(&self) -> Collected {
        Collected {
            operations: take(&self.operations),
            watches: take(&self.watches),
            leases: take(&self.leases),
            truth: take(&self.truth),
            faults: take(&self.faults),
        }
    }
}

impl Collected {
    /// When somebody was told first of each revision, by watchers or by answers.
    pub(crate) fn seen(&self) -> BTreeMap<i64, u64> {
        let mut seen: BTreeMap<i64, u64> = BTreeMap::new();
        let mut note = |revision: i64, at: u64| {
            let first = seen.entry(revision).or_insert(at);
            *first = at.min(*first);
        };
        for watch in &self.watches {
            for (at, response) in &watch.responses {
                response.events.iter().for_each(|event| note(revision_of(event), *at));
            }
        }
        for operation in &self.operations {
            if let (Some(revision), Some(ended)) = (operation.revision(), operation.ended) {
                note(revision, ended);
            }
        }
        seen
    }
}

fn push<T>(list: &Mutex<Vec<T>>, item: T) {
    list.lock().expect("no holder panics").push(item);
}

fn take<T>(list: &Mutex<Vec<T>>) -> Vec<T> {
    std::mem::take(&mut *list.lock().expect("no holder panics"))
}
