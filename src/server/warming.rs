//! Warming: when pages have to be read from the medium, threads beside the log shard read them before it needs them.
//!
//! The checkpoint file is mapped (`tree`), and the kernel keeps as much of it in memory as there is room for. What does
//! not fit is read by whichever thread touches it, which waits; on the log shard everybody would. So while there is such
//! pressure:
//!
//! - An entry's pages are touched beside its write to the log, and it is not applied before that is done.
//! - A slice of a sweep, of a defragmentation or of leases to expire begins when its pages have been touched.
//! - Reads of connections on the log shard's executor are made by threads ([`Warming::reads`]).
//! - The kernel is told to expect reads all over the file: reading ahead would push out what is needed.
//!
//! Without pressure there is none of it: all that is done then is to look, at most every [`LOOK_INTERVAL`], how many major
//! faults the process has had, whichever thread had them. Those of the threads here keep warming on for as long as it is
//! of use.
//!
//! What this file does not do: it does not know what an entry touches (`store::touch`), nor when a pass takes place
//! (`log_shard::warm`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::aside::Pool;
use crate::ids::{Index, Term};

/// How often to look at most.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// So many faults within [`WINDOW`] are pressure: a fault may cost ten milliseconds where much is read ahead. Few are none,
/// such as of a page of the program that is used for the first time.
const FAULTS_TO_BEGIN: u64 = 4;
/// Where faults are counted until there are enough.
const WINDOW: Duration = Duration::from_secs(1);
/// Pressure has ended when there was no fault for so long.
const QUIET: Duration = Duration::from_secs(2);
/// What touches the pages of entries and of background work: how many pages the medium is asked for at once.
const ENTRY_THREADS: usize = 16;
/// What reads for connections. Threads of their own, so that a read in memory does not queue behind entries that are not.
const READ_THREADS: usize = 8;

/// Whether pages have to be read from the medium now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pressure {
    /// When it was looked at last, and the faults until then.
    looked: Option<(Instant, u64)>,
    /// The begin of the window, and the faults until then.
    window: Option<(Instant, u64)>,
    /// When there was a fault last; `None` without pressure.
    faulted: Option<Instant>,
}

impl Pressure {
    fn is_due(&self, now: Instant) -> bool {
        self.looked.is_none_or(|(at, _)| now.saturating_duration_since(at) >= LOOK_INTERVAL)
    }

    /// Looks: the process has had so many faults until now.
    fn look(&mut self, now: Instant, faults: u64) {
        let (_, before) = self.looked.replace((now, faults)).unwrap_or((now, faults));
        let (begin, at_begin) = *self.window.get_or_insert((now, faults));
        if faults.saturating_sub(at_begin) >= FAULTS_TO_BEGIN || (self.is_on() && faults > before) {
            self.faulted = Some(now);
        } else if self.faulted.is_some_and(|at| now.saturating_duration_since(at) >= QUIET) {
            self.faulted = None;
        }
        if now.saturating_duration_since(begin) >= WINDOW {
            self.window = Some((now, faults));
        }
    }

    fn is_on(&self) -> bool {
        self.faulted.is_some()
    }
}

/// Entries whose pages are being touched, in the log's order, until they are applied.
#[derive(Debug, Default)]
pub struct Order {
    /// Invariant: indexes are consecutive.
    begun: VecDeque<Begun>,
}

#[derive(Debug)]
struct Begun {
    index: Index,
    term: Term,
    /// Parts of it that are still being touched.
    parts: usize,
}

impl Order {
    /// Whether an entry is here.
    pub fn knows(&self, index: Index, term: Term) -> bool {
        self.begun.iter().any(|begun| begun.index == index && begun.term == term)
    }

    /// Takes in an entry, in parts to be [`done`](Order::done). What was here at its index was replaced, and with it what
    /// was behind.
    pub fn begin(&mut self, index: Index, term: Term, parts: usize) {
        while self.begun.pop_back_if(|begun| begun.index >= index).is_some() {}
        self.begun.push_back(Begun { index, term, parts });
    }

    /// A part of an entry was touched.
    pub fn done(&mut self, index: Index, term: Term) {
        let mut begun = self.begun.iter_mut();
        if let Some(begun) = begun.find(|begun| begun.index == index && begun.term == term) {
            begun.parts = begun.parts.saturating_sub(1);
        }
    }

    /// The last entry that may be applied, behind `applied`.
    pub fn limit(&mut self, applied: Index) -> Index {
        while self.begun.pop_front_if(|begun| begun.index <= applied).is_some() {}
        let ready = self.begun.iter().take_while(|begun| begun.parts == 0).last();
        ready.map_or(applied, |begun| begun.index)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.begun.clear();
    }
}

/// Whether the next slice of some background work has been touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ahead {
    #[default]
    Not,
    UnderWay,
    Done,
}

/// See the module's page.
pub struct Warming {
    faults: Option<File>,
    pressure: Cell<Pressure>,
    /// Entries.
    pub order: RefCell<Order>,
    /// A sweep's next slice.
    pub sweep: Cell<Ahead>,
    /// A defragmentation's.
    pub relocation: Cell<Ahead>,
    /// Leases to expire.
    pub expiry: Cell<Ahead>,
    /// Touches for the log shard.
    pub entries: Pool,
    /// Reads for connections.
    pub reads: Rc<Pool>,
}

impl Warming {
    /// Its threads may run on these processors.
    pub fn new(cpus: &[usize]) -> Self {
        let faults = File::open(STATISTICS)
            .inspect_err(|error| {
                tracing::warn!("{STATISTICS}: {error}: pages will not be read ahead of the writer");
            })
            .ok();
        Self {
            faults,
            pressure: Cell::default(),
            order: RefCell::default(),
            sweep: Cell::default(),
            relocation: Cell::default(),
            expiry: Cell::default(),
            entries: Pool::new("urd-warm", ENTRY_THREADS, cpus.to_vec()),
            reads: Rc::new(Pool::new("urd-read", READ_THREADS, cpus.to_vec())),
        }
    }

    /// Whether there is pressure.
    pub fn is_on(&self) -> bool {
        self.pressure.get().is_on()
    }

    /// Looks, if it is time to. True when that has changed [`Warming::is_on`].
    pub fn look(&self, now: Instant) -> bool {
        let mut pressure = self.pressure.get();
        if pressure.is_due(now)
            && let Some(faults) = self.faults.as_ref().and_then(major_faults)
        {
            pressure.look(now, faults);
        }
        self.pressure.replace(pressure).is_on() != pressure.is_on()
    }
}

/// What the kernel knows of this process.
const STATISTICS: &str = "/proc/self/stat";
/// The place of the number of major faults in it, behind the program's name, which is in parentheses.
const MAJOR_FAULTS_AT: usize = 9;

/// The page faults of all threads that had to wait for a medium, since the start.
fn major_faults(statistics: &File) -> Option<u64> {
    let mut bytes = [0; 1024];
    let len = statistics.read_at(&mut bytes, 0).ok()?;
    let behind_name = bytes[..len].rsplit(|&byte| byte == b')').next()?;
    std::str::from_utf8(behind_name)
        .ok()?
        .split_ascii_whitespace()
        .nth(MAJOR_FAULTS_AT)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_begins_with_faults_and_ends_after_a_quiet_while() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut pressure = Pressure::default();
        assert!(pressure.is_due(start));
        pressure.look(start, 1_000_000);
        assert!(!pressure.is_on(), "what was before the first look does not count");
        assert!(!pressure.is_due(at(19)) && pressure.is_due(at(20)));
        pressure.look(at(20), 1_000_003);
        pressure.look(at(1000), 1_000_003);
        pressure.look(at(1980), 1_000_006);
        pressure.look(at(2000), 1_000_006);
        assert!(!pressure.is_on(), "three faults a second are none");
        pressure.look(at(2020), 1_000_008);
        assert!(!pressure.is_on());
        pressure.look(at(2900), 1_000_010);
        assert!(pressure.is_on());
        pressure.look(at(4000), 1_000_011);
        pressure.look(at(5999), 1_000_011);
        assert!(pressure.is_on(), "the last fault was less than two seconds ago");
        pressure.look(at(6000), 1_000_011);
        assert!(!pressure.is_on());
        pressure.look(at(6020), 1_000_012);
        assert!(!pressure.is_on(), "one fault does not bring it back");
    }

    #[test]
    fn the_kernel_tells_the_faults() {
        let file = File::open(STATISTICS).unwrap();
        let first = major_faults(&file).unwrap();
        assert!(major_faults(&file).unwrap() >= first);
    }

    #[test]
    fn entries_are_applied_in_order_once_they_are_warm() {
        let mut order = Order::default();
        let (term, next) = (Term(1), Term(2));
        assert_eq!(order.limit(Index(7)), Index(7));
        order.begin(Index(8), term, 2);
        order.begin(Index(9), term, 1);
        assert!(order.knows(Index(8), term) && !order.knows(Index(8), next));
        order.done(Index(9), term);
        assert_eq!(order.limit(Index(7)), Index(7), "9 is warm, but 8 is not");
        order.done(Index(8), term);
        assert_eq!(order.limit(Index(7)), Index(7), "half of 8 is not");
        order.done(Index(8), term);
        assert_eq!(order.limit(Index(7)), Index(9));

        // Another leader replaces 9, after 8 was applied.
        order.begin(Index(10), term, 1);
        order.begin(Index(9), next, 1);
        assert!(!order.knows(Index(10), term));
        order.done(Index(9), term);
        order.done(Index(10), term);
        assert_eq!(order.limit(Index(8)), Index(8));
        order.done(Index(9), next);
        assert_eq!(order.limit(Index(8)), Index(9));
        // One without commands is warm.
        order.begin(Index(10), next, 0);
        assert_eq!(order.limit(Index(9)), Index(10));
        order.clear();
        assert_eq!(order.limit(Index(10)), Index(10));
    }
}
