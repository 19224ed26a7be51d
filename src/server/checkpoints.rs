//! When a checkpoint is due, and what it is written with.
//!
//! A checkpoint bounds two things: how much log a restart replays, and how many pages are in the heap. It begins when
//! either reaches its bound, or after `--snapshot-count` entries. While one is under way the next waits; what it waits
//! for is at most what was written meanwhile. Puts all over a large tree can fill the heap faster than the medium takes
//! it: then entries come more slowly ([`Checkpoints::pause`]), so that the heap stays bounded.
//!
//! After one that found no room the next waits a while: whoever has a full disk has puts refused by the log already.

use std::rc::Rc;
use std::time::{Duration, Instant};

use urd_wal::disk::Disk;

use crate::limits;
use crate::raft::Since;
use crate::store::Statistics;
use crate::tree::checkpoint::CheckpointFile;

/// The pause when three times as many pages wait as make a checkpoint begin; it grows with what is beyond twice as many.
const PAUSE: Duration = Duration::from_millis(20);
/// So many times that, at most.
const PAUSES_MAX: f64 = 10.0;

/// See the module's page.
pub struct Checkpoints<D: Disk> {
    /// Where they are written.
    pub file: Rc<CheckpointFile<D>>,
    /// `--snapshot-count`.
    entries: u64,
    /// Not before this.
    not_before: Option<Instant>,
}

impl<D: Disk> Checkpoints<D> {
    /// None has begun.
    pub fn new(file: CheckpointFile<D>, entries: u64) -> Self {
        Self { file: Rc::new(file), entries, not_before: None }
    }

    /// Whether there is enough for one, and the time has come.
    pub fn is_due(&self, since: Since, sizes: &Statistics) -> bool {
        let is_enough = since.bytes >= limits::CHECKPOINT_LOG_BYTES
            || since.entries >= self.entries
            || sizes.pages_unwritten >= limits::CHECKPOINT_HEAP_PAGES;
        is_enough && self.not_before.is_none_or(|not_before| Instant::now() >= not_before)
    }

    /// How long to wait between two entries, with so many pages waiting for the next checkpoint: as long as there are
    /// not many more than make one begin, not at all.
    pub fn pause(&self, pages_waiting: u64) -> Option<Duration> {
        let excess = pages_waiting.checked_sub(2 * limits::CHECKPOINT_HEAP_PAGES)?;
        let part = excess as f64 / limits::CHECKPOINT_HEAP_PAGES as f64;
        Some(PAUSE.mul_f64(part.min(PAUSES_MAX)))
    }

    /// Another file has taken the place of the one they are written to.
    pub fn replace(&mut self, file: CheckpointFile<D>) {
        self.file = Rc::new(file);
        self.not_before = None;
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
