//! When a checkpoint is due, and what it is written with.
//!
//! A checkpoint bounds two things: how much log a restart replays, and how many pages are in the heap. It begins when
//! either reaches its bound, or after `--snapshot-count` entries. While one is under way the next waits; what it waits
//! for is at most what was written meanwhile.
//!
//! After one that found no room the next waits a while: whoever has a full disk has puts refused by the log already.

use std::rc::Rc;
use std::time::Instant;

use glommio::{Latency, Shares, TaskQueueHandle};
use urd_wal::disk::Disk;

use crate::limits;
use crate::raft::Since;
use crate::store::Statistics;
use crate::tree::checkpoint::CheckpointFile;

/// Shares of the executor's time, of 1000 that the shard's other work has: only while there is other work.
const SHARES: usize = 100;

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
}

impl<D: Disk> Checkpoints<D> {
    /// On the executor that will write them.
    pub fn new(file: CheckpointFile<D>, entries: u64) -> Self {
        let shares = Shares::Static(SHARES);
        let queue =
            glommio::executor().create_task_queue(shares, Latency::NotImportant, "checkpoints");
        Self { file: Rc::new(file), queue, entries, not_before: None }
    }

    /// Whether there is enough for one, and the time has come.
    pub fn is_due(&self, since: Since, sizes: &Statistics) -> bool {
        let is_enough = since.bytes >= limits::CHECKPOINT_LOG_BYTES
            || since.entries >= self.entries
            || sizes.pages_unwritten >= limits::CHECKPOINT_HEAP_PAGES;
        is_enough && self.not_before.is_none_or(|not_before| Instant::now() >= not_before)
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
