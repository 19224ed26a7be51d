//! What once went wrong in etcd, as its robustness tests keep it, and here, each as the trouble that brought it about.
//!
//! A scenario shapes what a seed draws; the checkers are the same. One report has none: 14571 (enabling auth made members
//! differ) cannot apply before there is auth. Two, 18055 and 20271, were of a file swapped in beneath another swap or a
//! defragmentation; Urd has one owner of file and store, who does one of these at a time, and they are here all the same.

use super::settings::{Faults, Links, MILLISECOND, Settings, Space};
use super::sites;

/// A named scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The number of etcd's report, and what it was about; without a number, it went wrong here.
    pub name: &'static str,
    /// Shapes what was drawn.
    shape: fn(&mut Settings),
}

impl Scenario {
    /// The scenario of a name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|scenario| scenario.name == name)
    }

    /// The settings of `seed`, so shaped.
    #[must_use]
    pub fn settings(&self, seed: u64) -> Settings {
        let mut settings = Settings::of(seed, None);
        settings.links = Links { lost: 0, doubled: 0, late: 0, ..settings.links };
        settings.faults = Faults { interval: 5 * settings.tick, ..Faults::default() };
        settings.members = 3;
        (settings.space, settings.sites) = (Space::default(), sites::Odds::new());
        (self.shape)(&mut settings);
        settings
    }
}

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "13766-revisions-differ-after-a-crash-under-load",
        shape: |settings| {
            busy(settings);
            (settings.faults.kill, settings.faults.power) = (5, 5);
            settings.checkpoint_entries = 10;
        },
    },
    Scenario {
        name: "14370-one-member-loses-a-write-in-a-crash",
        shape: |settings| {
            busy(settings);
            settings.members = 1;
            (settings.faults.power, settings.faults.power_at) = (5, 5);
        },
    },
    Scenario {
        name: "14685-a-crash-in-a-defragmentation",
        shape: |settings| {
            (settings.faults.defragment, settings.faults.power_at, settings.faults.kill) =
                (10, 5, 5);
        },
    },
    Scenario {
        name: "15220-progress-is-told-ahead-of-events",
        shape: |settings| {
            busy(settings);
            settings.watchers = 6;
        },
    },
    Scenario {
        name: "15271-a-watch-goes-back-in-time-behind-a-partition",
        shape: |settings| {
            (settings.watchers, settings.window_entries) = (6, 1);
            (settings.faults.isolate, settings.faults.split) = (10, 5);
        },
    },
    Scenario {
        name: "17247-a-transaction-is-told-of-twice",
        shape: |settings| {
            busy(settings);
            (settings.watchers, settings.batch_max) = (6, 100);
            settings.faults.transfer = 5;
        },
    },
    Scenario {
        name: "17529-a-starved-watch-loses-events",
        shape: |settings| {
            busy(settings);
            (settings.watchers, settings.faults.pause) = (6, 10);
        },
    },
    Scenario {
        name: "17780-revisions-go-back-after-a-crash-in-a-compaction",
        shape: |settings| {
            (settings.members, settings.slice_max) = (1, 1);
            (settings.faults.kill, settings.faults.power_at) = (5, 5);
            settings.checkpoint_entries = 5;
        },
    },
    Scenario {
        name: "18089-a-watch-lacks-a-deletion-that-was-compacted",
        shape: |settings| (settings.watchers, settings.keys, settings.slice_max) = (6, 2, 1),
    },
    Scenario {
        name: "18055-one-state-after-another",
        shape: |settings| {
            settings.window_entries = 1;
            (settings.faults.isolate, settings.faults.kill) = (10, 3);
        },
    },
    Scenario {
        name: "18667-a-transaction-reads-what-is-compacted",
        shape: |settings| (settings.faults.pause, settings.faults.slow) = (5, 5),
    },
    Scenario {
        name: "19179-a-watch-from-the-compacted-revision-lacks-its-deletion",
        shape: |settings| {
            (settings.watchers, settings.keys, settings.slice_max) = (6, 2, 1);
            settings.faults.kill = 5;
        },
    },
    Scenario {
        name: "20221-a-watch-of-the-future-at-a-member-that-lags",
        shape: |settings| {
            settings.watchers = 6;
            (settings.faults.cut, settings.faults.clog, settings.faults.kill) = (5, 5, 5);
        },
    },
    Scenario {
        name: "20221-progress-of-the-future-at-a-member-that-lags",
        shape: |settings| {
            settings.watchers = 6;
            (settings.faults.slow, settings.faults.pause) = (10, 5);
        },
    },
    Scenario {
        name: "20271-a-state-arrives-in-a-defragmentation",
        shape: |settings| {
            (settings.window_entries, settings.slice_max) = (1, 1);
            (settings.faults.defragment, settings.faults.isolate) = (20, 10);
        },
    },
    Scenario {
        name: "20418-a-leader-that-was-paused-serves-stale-reads",
        shape: |settings| {
            busy(settings);
            (settings.faults.pause, settings.faults.transfer) = (10, 2);
            (settings.links.late, settings.links.doubled) = (50, 50);
        },
    },
    Scenario {
        name: "all-have-just-taken-over-a-state",
        shape: |settings| {
            busy(settings);
            (settings.window_entries, settings.links.lost) = (1, 100);
            (settings.faults.isolate, settings.faults.split, settings.faults.kill) = (10, 5, 5);
        },
    },
    Scenario {
        name: "changes-of-members-are-forgotten-in-a-blackout",
        shape: |settings| {
            (settings.faults.replace, settings.faults.blackout) = (10, 10);
            (settings.faults.split, settings.checkpoint_entries) = (5, 300);
        },
    },
    Scenario {
        name: "the-leader-of-two-leaves-while-the-other-writes",
        shape: |settings| {
            busy(settings);
            (settings.members, settings.batch_max, settings.disk_delay) = (2, 1, 2_000);
            (settings.faults.replace, settings.faults.transfer) = (10, 3);
        },
    },
    Scenario {
        name: "the-other-of-two-hangs-while-the-leader-is-removed",
        shape: |settings| {
            busy(settings);
            (settings.members, settings.faults.replace, settings.faults.pause) = (2, 10, 10);
            (settings.faults.clog, settings.faults.isolate, settings.faults.kill) = (5, 5, 3);
        },
    },
    Scenario {
        name: "the-last-write-of-a-log-is-damaged",
        shape: |settings| {
            (settings.clients, settings.think) = (2, 40 * settings.tick);
            (settings.faults.flip, settings.faults.kill) = (10, 3);
        },
    },
    Scenario {
        name: "a-disk-lies",
        shape: |settings| {
            busy(settings);
            (settings.faults.lie, settings.faults.power, settings.faults.blackout) = (10, 5, 3);
        },
    },
    Scenario {
        name: "the-space-is-used-up",
        shape: |settings| {
            busy(settings);
            (settings.faults.no_space, settings.faults.kill, settings.faults.transfer) = (10, 3, 3);
        },
    },
    Scenario {
        name: "the-quota-is-used-up",
        shape: |settings| {
            settings.fill_up();
            (settings.faults.kill, settings.faults.transfer, settings.faults.isolate) = (3, 3, 3);
        },
    },
    Scenario {
        name: "what-is-rare-happens-all-the-time",
        shape: |settings| {
            busy(settings);
            settings.sites = sites::all();
            (settings.watchers, settings.faults.kill, settings.faults.isolate) = (6, 5, 5);
            settings.faults.power = 5;
        },
    },
];

/// Many clients that hardly think.
fn busy(settings: &mut Settings) {
    (settings.clients, settings.think) = (10, 2 * MILLISECOND);
}
