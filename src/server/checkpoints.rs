//! When a checkpoint is due, and what it is written with.
//!
//! A checkpoint bounds two things: how much log a restart replays, and how many pages are in the heap. It begins when
//! either reaches its bound, or after `--snapshot-count` entries. While one is under way the next waits; what it waits
//! for is at most what was written meanwhile.
//!
//! After one that found no room the next waits a while: whoever has a full disk has puts refused by the log already.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use glommio::{Latency, Shares, SharesManager, TaskQueueHandle};
use urd_wal::disk::Disk;

use crate::limits;
use crate::raft::Since;
use crate::store::Statistics;
use crate::tree::checkpoint::CheckpointFile;

/// Shares of the executor's time, beside 1000 that the shard's other work has, while there is other work: at least, and
/// when as many pages wait for the next checkpoint as make one begin. More slowly, puts at full rate would fill the heap
/// faster than checkpoints empty it.
const SHARES_MIN: usize = 100;
const SHARES_MAX: usize = 1000;
const SHARES_INTERVAL: Duration = Duration::from_millis(50);

/// The shares, by how many pages wait.
#[derive(Default)]
struct Urgency {
    pages: Cell<u64>,
}

impl SharesManager for Urgency {
    fn shares(&self) -> usize {
        let full = limits::CHECKPOINT_HEAP_PAGES;
        let part = self.pages.get().min(full) * (SHARES_MAX - SHARES_MIN) as u64 / full;
        SHARES_MIN + usize::try_from(part).unwrap_or(SHARES_MAX)
    }

    fn adjustment_period(&self) -> Duration {
        SHARES_INTERVAL
    }
}

/// See the module's page.
pub struct Checkpoints<D: Disk> {
    /// Where they are written.
    pub file: Rc<CheckpointFile<D>>,
    /// The task queue in which they are.
    pub queue: TaskQueueHandle,
    /// `--snapshot-count`.
    entries: u64,
    /// Not before this.
    not_before: Option<Instant>,
    urgency: Rc<Urgency>,
}

impl<D: Disk> Checkpoints<D> {
    /// On the executor that will write them.
    pub fn new(file: CheckpointFile<D>, entries: u64) -> Self {
        let urgency = Rc::new(Urgency::default());
        let shares = Shares::Dynamic(Rc::clone(&urgency) as Rc<dyn SharesManager>);
        let queue =
            glommio::executor().create_task_queue(shares, Latency::NotImportant, "checkpoints");
        Self { file: Rc::new(file), queue, entries, not_before: None, urgency }
    }

    /// Whether there is enough for one, and the time has come.
    pub fn is_due(&self, since: Since, sizes: &Statistics) -> bool {
        let is_enough = since.bytes >= limits::CHECKPOINT_LOG_BYTES
            || since.entries >= self.entries
            || sizes.pages_unwritten >= limits::CHECKPOINT_HEAP_PAGES;
        is_enough && self.not_before.is_none_or(|not_before| Instant::now() >= not_before)
    }

    /// So many pages wait for the next one.
    pub fn note_waiting(&self, pages: u64) {
        self.urgency.pages.set(pages);
    }

    /// One has begun.
    pub fn begin(&mut self) {
        self.not_before = None;
    }

    /// One found no room.
    pub fn retry(&mut self) {
        self.not_before = Some(Instant::now() + limits::CHECKPOINT_RETRY);
    }
}
