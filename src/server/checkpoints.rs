//! When a checkpoint is due, and what it is written with.
//!
//! A checkpoint bounds two things: how much log a restart replays, and how many pages are in the heap. It begins when
//! either reaches its bound, or after `--snapshot-count` entries. While one is under way the next waits; what it waits
//! for is at most what was written meanwhile. Puts all over a large tree can fill the heap faster than the medium takes
//! it: then entries come more slowly ([`Checkpoints::pause`]), so that the heap stays bounded.
//!
//! A checkpoint that were written as fast as it can be would keep the medium from the log, and a processor from the shards;
//! and each page that changes meanwhile has to be copied anew. So it takes its time ([`Pace`]): until half of the next one
//! is there.
//!
//! After one that found no room the next waits a while: whoever has a full disk has puts refused by the log already.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use urd_wal::disk::Disk;

use crate::limits;
use crate::raft::Since;
use crate::store::Statistics;
use crate::tree::checkpoint::CheckpointFile;

/// The pause when three times as many pages wait as make a checkpoint begin; it grows with what is beyond twice as many.
const PAUSE: Duration = Duration::from_millis(20);
/// How often a checkpoint looks whether it is time to go on.
const PACE_LOOK: Duration = Duration::from_millis(2);
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
    /// Of the one under way, if there is one.
    pace: Rc<Pace>,
}

/// How fast a checkpoint is written: no faster than it must be.
#[derive(Default)]
pub struct Pace {
    /// Which part of the next checkpoint is there, 0 to 1 and beyond.
    next: Cell<f64>,
}

impl Pace {
    /// Waits until it is time to go on with a checkpoint of which `part` is written: it should be done when half of the next
    /// is there, so that a bit more load than before makes none wait. Without any load it goes on after
    /// [`limits::CHECKPOINT_PAUSE_MAX`].
    pub async fn keep(&self, part: f64) {
        let start = Instant::now();
        while 2.0 * self.next.get() < part && start.elapsed() < limits::CHECKPOINT_PAUSE_MAX {
            glommio::timer::sleep(PACE_LOOK).await;
        }
    }
}

impl<D: Disk> Checkpoints<D> {
    /// None has begun.
    pub fn new(file: CheckpointFile<D>, entries: u64) -> Self {
        Self { file: Rc::new(file), entries, not_before: None, pace: Rc::default() }
    }

    /// Whether there is enough for one, and the time has come.
    pub fn is_due(&self, since: Since, sizes: &Statistics) -> bool {
        self.part(since, sizes) >= 1.0
            && self.not_before.is_none_or(|not_before| Instant::now() >= not_before)
    }

    /// Lets the one under way know how far the next one is.
    pub fn tell_pace(&self, since: Since, sizes: &Statistics) {
        self.pace.next.set(self.part(since, sizes));
    }

    /// Which part of a checkpoint is there.
    fn part(&self, since: Since, sizes: &Statistics) -> f64 {
        let bytes = since.bytes as f64 / limits::CHECKPOINT_LOG_BYTES as f64;
        let entries = since.entries as f64 / self.entries as f64;
        let pages = sizes.pages_unwritten as f64 / limits::CHECKPOINT_HEAP_PAGES as f64;
        bytes.max(entries).max(pages)
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

    /// One has begun; at this pace.
    pub fn begin(&mut self) -> Rc<Pace> {
        self.not_before = None;
        self.pace.next.set(0.0);
        Rc::clone(&self.pace)
    }

    /// One found no room.
    pub fn retry(&mut self) {
        self.not_before = Some(Instant::now() + limits::CHECKPOINT_RETRY);
    }
}
