//! Sites: places where the real code may do what it hardly ever does, and a seed wants it done often.
//!
//! None of them is in the product. Each acts through a seam that the product has anyway: what the driver, the log, the
//! tree and the hub are opened with, what the disk and the network do, and what the owner of a driver may decide. What
//! happens there is allowed at any time, so no checker makes a difference.

use std::cell::RefCell;
use std::collections::BTreeMap;

use fastrand::Rng;

/// A place, and what is done there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// An entry is made of one request, though more wait.
    OneRequest,
    /// The round that reads wait for begins a pass late.
    LateRound,
    /// What is committed is not applied in this pass, as when its pages are not in memory.
    HeldBack,
    /// The next segment of the log is prepared late.
    LateSegment,
    /// A checkpoint is due at once.
    DueCheckpoint,
    /// What a checkpoint has written leaves the heap a pass late.
    LateTidying,
    /// Of a compaction nothing is done in this pass.
    LateSweep,
    /// A process keeps no applied entry in memory.
    NoWindow,
    /// A process makes the smallest segments that there may be.
    SmallSegments,
    /// A process sends one entry a message, few messages at once, and has few handed out to apply.
    NarrowFlow,
    /// A process has room for one response a watcher.
    SmallOutbox,
    /// A process splits whatever it tells a watcher that takes fragments.
    Fragments,
    /// The flushes of a disk return late, until its process ends.
    LateFlushes,
    /// A state is sent in pieces of about a page.
    SmallPieces,
    /// A message is received byte by byte.
    Bytewise,
}

/// All of them, each with the most that its [`Odds`] may be.
const ALL: &[(Site, u32)] = &[
    (Site::OneRequest, 500),
    (Site::LateRound, 700),
    (Site::HeldBack, 500),
    (Site::LateSegment, 700),
    (Site::DueCheckpoint, 200),
    (Site::LateTidying, 700),
    (Site::LateSweep, 700),
    (Site::NoWindow, 1000),
    (Site::SmallSegments, 1000),
    (Site::NarrowFlow, 1000),
    (Site::SmallOutbox, 1000),
    (Site::Fragments, 1000),
    (Site::LateFlushes, 1000),
    (Site::SmallPieces, 1000),
    (Site::Bytewise, 200),
];

/// Of a thousand times that a site is come by, how often something is done there; never where it has none.
pub type Odds = BTreeMap<Site, u32>;

/// How often something was done at each.
pub type Counts = BTreeMap<Site, u64>;

/// What a seed draws: half of them nothing, the others about half of the sites.
pub(super) fn draw(rng: &mut Rng) -> Odds {
    if rng.bool() {
        return Odds::new();
    }
    let drawn = ALL.iter().filter_map(|(site, most)| {
        let odds = rng.u32(1..=*most);
        rng.bool().then_some((*site, odds))
    });
    drawn.collect()
}

/// All sites, as often as there may be.
pub(super) fn all() -> Odds {
    ALL.iter().map(|(site, most)| (*site, most / 2)).collect()
}

/// The sites of a run. They draw from a sequence of their own.
#[derive(Debug)]
pub(super) struct Sites {
    odds: Odds,
    rng: RefCell<Rng>,
    counts: RefCell<Counts>,
}

impl Sites {
    pub(super) fn new(odds: &Odds, seed: u64) -> Self {
        Self {
            odds: odds.clone(),
            rng: RefCell::new(Rng::with_seed(seed ^ 0x517e_5000)),
            counts: RefCell::default(),
        }
    }

    /// Whether it is to be done now; then it is counted.
    pub(super) fn acts(&self, site: Site) -> bool {
        let Some(odds) = self.odds.get(&site) else { return false };
        let acts = self.rng.borrow_mut().u32(0..1000) < *odds;
        if acts {
            *self.counts.borrow_mut().entry(site).or_default() += 1;
        }
        acts
    }

    /// A number below `bound`.
    pub(super) fn below(&self, bound: u64) -> u64 {
        self.rng.borrow_mut().u64(0..bound)
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts.borrow().clone()
    }
}
