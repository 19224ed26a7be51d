//! What differs from run to run, drawn from the seed.

use fastrand::Rng;

use super::member::SEGMENT_BYTES_MIN;
use super::sites;
use super::v2::HISTORY;

/// Microseconds since the run began.
pub type Time = u64;

/// A millisecond.
pub const MILLISECOND: Time = 1_000;
/// A second.
pub const SECOND: Time = 1_000_000;

/// A bug that the rig plants, to show that it would be found. The product's code knows nothing of them: each acts on what
/// goes through a seam.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Canary {
    /// The medium says that writes to the log are durable before they are.
    AckBeforeDurable,
    /// The names of read contexts and proposals begin anew at every start of a member.
    ReuseReadContext,
    /// A member forgets at a start whom it has voted for.
    LoseVote,
    /// A member's checkpoint says that it lacks its last entry.
    ApplyTwice,
    /// What an earlier use of a segment has left behind its end is taken for an entry.
    SkipTailCheck,
    /// A watcher is told of a revision in two halves.
    SplitRevision,
    /// A member answers reads from what it has, whoever leads.
    StaleRead,
    /// All clocks of members run three times too fast, so that leases end early.
    FastClocks,
    /// What is refused for want of room is carried out all the same.
    CarryOutRefused,
}

/// How messages travel.
#[derive(Clone, Debug)]
pub struct Links {
    /// The shortest way.
    pub delay_min: Time,
    /// The longest, without trouble.
    pub delay_max: Time,
    /// Of a thousand messages, those that are lost.
    pub lost: u32,
    /// Those that arrive twice, the second one up to [`Links::late_max`] later.
    pub doubled: u32,
    /// Those that are kept back for up to [`Links::late_max`].
    pub late: u32,
    /// See above.
    pub late_max: Time,
    /// Whether messages overtake each other.
    pub reorder: bool,
}

/// How often each fault is chosen, against the others; 0 for never.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The time between two, on average; 0 for none at all.
    pub interval: Time,
    /// A process is killed, the machine runs on.
    pub kill: u32,
    /// The power goes at one member.
    pub power: u32,
    /// The power goes within the next operations of a member's disk.
    pub power_at: u32,
    /// The power goes everywhere.
    pub blackout: u32,
    /// A member hangs for a while.
    pub pause: u32,
    /// One member is cut off from all, both ways.
    pub isolate: u32,
    /// The members fall into two parts.
    pub split: u32,
    /// One link is cut, one way.
    pub cut: u32,
    /// One link keeps everything back for a while, one way.
    pub clog: u32,
    /// A disk is slow for a while.
    pub slow: u32,
    /// A disk is full for a while.
    pub full: u32,
    /// An operation of a disk fails.
    pub fail: u32,
    /// A bit of a member's files flips while it is down.
    pub flip: u32,
    /// A disk says for a while that writes are durable, and a power cut takes them away all the same.
    pub lie: u32,
    /// The alarm is raised that says a member's space is used up, for a while.
    pub no_space: u32,
    /// Leadership is moved.
    pub transfer: u32,
    /// A member is replaced by another one.
    pub replace: u32,
    /// A defragmentation.
    pub defragment: u32,
    /// A checkpoint that is not due.
    pub checkpoint: u32,
    /// Of a hundred votes, those after which the voter is killed at once.
    pub votes: u32,
    /// Whether a process that is lost is back within a millisecond.
    pub back_at_once: bool,
}

/// See the module's page.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where all of it comes from.
    pub seed: u64,
    /// First members.
    pub members: u64,
    /// The unit of raft's clock.
    pub tick: Time,
    /// Ticks without a leader before an election.
    pub election_ticks: usize,
    /// Whether elections are probed.
    pub pre_vote: bool,
    /// Size of a segment of the log.
    pub segment_bytes: u32,
    /// Entries after which a checkpoint is due.
    pub checkpoint_entries: u64,
    /// Applied entries that are kept in memory.
    pub window_entries: usize,
    /// Requests in one entry.
    pub batch_max: usize,
    /// Changes that a slice of a compaction looks at.
    pub slice_max: usize,
    /// Clocks run fast or slow by up to this many of a million.
    pub drift: u32,
    /// The time between two polls of what a disk is at.
    pub disk_delay: Time,
    /// Polls that a write may take.
    pub disk_polls: u32,
    /// Clients.
    pub clients: u32,
    /// Watchers.
    pub watchers: u32,
    /// Keys.
    pub keys: u32,
    /// How long a client thinks, on average.
    pub think: Time,
    /// How long a client waits for an answer.
    pub patience: Time,
    /// How long faults go on.
    pub duration: Time,
    /// See there.
    pub links: Links,
    /// See there.
    pub faults: Faults,
    /// What is planted.
    pub canary: Option<Canary>,
    /// See there.
    pub space: Space,
    /// See there.
    pub sites: sites::Odds,
}

/// How much there is room for, and how much is written.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// `--quota-backend-bytes` of each member, as the flag has it: 0 for none.
    pub quota_bytes: i64,
    /// Values have fewer bytes than this beyond those that make them differ.
    pub padding: usize,
    /// Events of v2 that are kept.
    pub v2_history: u64,
}

impl Default for Space {
    fn default() -> Self {
        Self { quota_bytes: 0, padding: 1, v2_history: HISTORY }
    }
}

impl Space {
    fn of(rng: &mut Rng) -> Self {
        match rng.u32(0..4) {
            0 => Self::small(rng),
            _ => Self::default(),
        }
    }

    /// So little that it is used up now and then, and that what is left of everything once it was deleted and compacted
    /// takes a part of it only.
    fn small(rng: &mut Rng) -> Self {
        Self {
            quota_bytes: rng.i64(24..50) * 4096,
            padding: rng.usize(1000..4000),
            v2_history: rng.u64(1..50),
        }
    }

    /// Whether it may be used up.
    pub(super) fn is_bounded(&self) -> bool {
        self.quota_bytes > 0
    }
}

impl Settings {
    /// Those of `seed`.
    #[must_use]
    pub fn of(seed: u64, canary: Option<Canary>) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x5e77_1265);
        let tick = *pick(&mut rng, &[10, 20, 50, 100]) * MILLISECOND;
        let mut settings = Self {
            seed,
            members: *pick(&mut rng, &[1, 2, 3, 3, 3, 5]),
            tick,
            election_ticks: rng.usize(5..15),
            pre_vote: rng.u32(0..4) > 0,
            segment_bytes: 1 << rng.u32(14..20),
            checkpoint_entries: rng.u64(5..300),
            window_entries: *pick(&mut rng, &[1, 8, 50, 1000]),
            batch_max: *pick(&mut rng, &[1, 3, 100]),
            slice_max: rng.usize(1..64),
            drift: *pick(&mut rng, &[0, 100, 20_000]),
            disk_delay: rng.u64(50..2_000),
            disk_polls: rng.u32(1..4),
            clients: rng.u32(2..8),
            watchers: rng.u32(1..4),
            keys: rng.u32(2..12),
            think: rng.u64(2..40) * MILLISECOND,
            patience: 40 * tick,
            duration: rng.u64(60..300) * tick,
            links: Links::of(&mut rng, tick),
            faults: Faults::of(&mut rng, tick),
            canary,
            space: Space::default(),
            sites: sites::Odds::new(),
        };
        settings.faults.draw_later_kinds(&mut rng);
        // A planted bug comes to light soonest in the plainest of runs.
        if canary.is_none() {
            settings.space = Space::of(&mut rng);
            settings.sites = sites::draw(&mut rng);
        }
        // Segments of 16 blocks at least.
        settings.segment_bytes = settings.segment_bytes.max(SEGMENT_BYTES_MIN);
        settings.sharpen();
        settings
    }

    /// Many clients write large values where there is little room.
    pub(super) fn fill_up(&mut self) {
        self.space = Space { quota_bytes: 24 * 4096, padding: 4000, v2_history: 10 };
        (self.clients, self.think) = (20, 2 * MILLISECOND);
        (self.disk_delay, self.disk_polls) = (50, 1);
    }

    /// More of the faults that bring a planted bug to light.
    fn sharpen(&mut self) {
        if self.canary == Some(Canary::CarryOutRefused) {
            return self.fill_up();
        }
        let faults = &mut self.faults;
        match self.canary {
            Some(Canary::AckBeforeDurable) => {
                self.members = self.members.min(3);
                (faults.power, faults.blackout) = (10, 10);
            }
            Some(Canary::ReuseReadContext) => {
                self.members = 3;
                (faults.kill, faults.clog, faults.isolate) = (20, 10, 0);
                self.links.doubled = self.links.doubled.max(50);
                self.links.late_max = 20 * self.tick;
            }
            Some(Canary::LoseVote) => {
                (self.members, self.duration) = (3, 1000 * self.tick);
                (faults.isolate, faults.split, faults.votes) = (20, 10, 90);
                (faults.flip, faults.replace, faults.back_at_once) = (0, 0, true);
                (self.pre_vote, self.election_ticks) = (false, 5);
                (self.links.late, self.links.late_max) = (300, 4 * self.tick);
            }
            Some(Canary::ApplyTwice | Canary::SkipTailCheck) => {
                (faults.kill, faults.power) = (20, 10);
            }
            Some(Canary::StaleRead) => self.members = self.members.max(3),
            Some(Canary::SplitRevision | Canary::FastClocks | Canary::CarryOutRefused) | None => {
                return;
            }
        }
        if faults.interval == 0 || self.canary.is_some() {
            faults.interval = 4 * self.tick;
        }
    }
}

impl Links {
    fn of(rng: &mut Rng, tick: Time) -> Self {
        let is_bad = rng.bool();
        let delay_min = rng.u64(50..500);
        Self {
            delay_min,
            delay_max: delay_min + rng.u64(100..tick / 2),
            lost: if is_bad { rng.u32(0..100) } else { 0 },
            doubled: if is_bad { rng.u32(0..50) } else { 0 },
            late: if is_bad { rng.u32(0..30) } else { 0 },
            late_max: tick * rng.u64(1..30),
            reorder: rng.bool(),
        }
    }
}

impl Faults {
    fn of(rng: &mut Rng, tick: Time) -> Self {
        let mut weight = || if rng.u32(0..3) == 0 { 0 } else { rng.u32(1..10) };
        Self {
            kill: weight(),
            power: weight(),
            power_at: weight(),
            blackout: weight() / 3,
            pause: weight(),
            isolate: weight(),
            split: weight(),
            cut: weight(),
            clog: weight(),
            slow: weight(),
            full: weight() / 2,
            fail: weight() / 2,
            flip: weight() / 2,
            lie: 0,
            no_space: 0,
            transfer: weight(),
            replace: weight(),
            defragment: weight(),
            checkpoint: weight(),
            votes: weight() * 2,
            back_at_once: false,
            interval: if rng.u32(0..12) == 0 { 0 } else { tick * rng.u64(2..30) },
        }
    }

    /// Kinds that came later are drawn behind everything else, so that a seed draws what it always has.
    fn draw_later_kinds(&mut self, rng: &mut Rng) {
        let mut weight = || if rng.bool() { 0 } else { rng.u32(1..5) };
        (self.lie, self.no_space) = (weight(), weight());
    }
}

fn pick<'a, T>(rng: &mut Rng, choices: &'a [T]) -> &'a T {
    &choices[rng.usize(..choices.len())]
}
