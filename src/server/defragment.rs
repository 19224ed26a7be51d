//! Defragmentation: the steps between a request for it and a shorter file.
//!
//! ```text
//! Begin ──checkpoint──> Move ──slices──> Save ──checkpoint──> Cut ──checkpoint, cut──> done
//! ```
//!
//! The first checkpoint frees what the one before it kept, so that there is room at the front; pages from there on are
//! then moved, a few leaves a pass; the second makes the moved ones durable and frees the old ones; the third describes a
//! file that ends earlier, and what is behind it is given back. Puts and reads go on all the while. Requests that come
//! while one is served wait for a defragmentation of their own.
//!
//! A snapshot that is held for long, by a slow reader of a large range, keeps its pages where they are: then less is
//! given back.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use urd_wal::disk::Disk;

use crate::ids::PageId;
use crate::limits;
use crate::raft::Driver;

/// What shards ask for, and what has become of it.
#[derive(Default)]
pub struct Requests {
    asked: AtomicU64,
    done: AtomicU64,
    /// The last one that ended for want of room.
    failed: AtomicU64,
}

impl Requests {
    /// Asks for one. The log shard has to be woken.
    pub fn ask(&self) -> u64 {
        self.asked.fetch_add(1, SeqCst) + 1
    }

    /// What has become of request `number`: `None` as long as it is not through, then whether it was carried out.
    pub fn outcome(&self, number: u64) -> Option<bool> {
        (self.done.load(SeqCst) >= number).then(|| self.failed.load(SeqCst) < number)
    }
}

/// Where a defragmentation stands.
enum Phase {
    Begin,
    Move { from: Vec<u8>, limit: Option<PageId> },
    Save,
    Cut,
    End,
}

/// A defragmentation under way.
pub struct Defragment {
    phase: Phase,
    /// The newest request that it answers.
    serves: u64,
}

/// What the log shard has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write a checkpoint, and cut the file behind it if told so.
    Checkpoint {
        /// Whether to cut.
        cut: bool,
    },
    /// Come back in the next pass.
    Again,
    /// It is through.
    Done,
}

impl Defragment {
    /// One for all requests so far; `None` without any.
    pub fn begin(requests: &Requests) -> Option<Self> {
        let asked = requests.asked.load(SeqCst);
        (asked > requests.done.load(SeqCst)).then_some(Self { phase: Phase::Begin, serves: asked })
    }

    /// The next step. Not to be called while a checkpoint is under way, or its pages are being tidied up.
    pub fn step<D: Disk, P, R>(&mut self, driver: &mut Driver<D, P, R>) -> Step {
        match &mut self.phase {
            Phase::Begin => {
                self.phase = Phase::Move { from: Vec::new(), limit: None };
                Step::Checkpoint { cut: false }
            }
            Phase::Move { from, limit } => {
                let limit = *limit.get_or_insert_with(|| driver.dense_end());
                match driver.relocate(from, limit, limits::RELOCATE_LEAVES_PER_SLICE) {
                    Some(next) => *from = next,
                    None => self.phase = Phase::Save,
                }
                Step::Again
            }
            Phase::Save => {
                self.phase = Phase::Cut;
                Step::Checkpoint { cut: false }
            }
            Phase::Cut => {
                driver.cut_end();
                self.phase = Phase::End;
                Step::Checkpoint { cut: true }
            }
            Phase::End => Step::Done,
        }
    }

    /// From where on the next step moves pages, and which; `None` when it moves none.
    pub fn next_slice<D: Disk, P, R>(&self, driver: &Driver<D, P, R>) -> Option<(Vec<u8>, PageId)> {
        match &self.phase {
            Phase::Move { from, limit } => {
                Some((from.clone(), limit.unwrap_or_else(|| driver.dense_end())))
            }
            _ => None,
        }
    }

    /// Tells those who asked.
    pub fn end(self, requests: &Requests, is_done: bool) {
        if !is_done {
            requests.failed.store(self.serves, SeqCst);
        }
        requests.done.store(self.serves, SeqCst);
    }
}
