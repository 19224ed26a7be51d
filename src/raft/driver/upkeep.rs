//! What keeps the state durable, small and tidy between turns: checkpoints, compactions, defragmentations.

use urd_wal::disk::Disk;

use super::{Driver, Flight, Since, Write};
use crate::ids::PageId;
use crate::limits;
use crate::store::Sweep;
use crate::tree::{Checkpoint, Statistics, Written};

impl<D: Disk, P, R> Driver<D, P, R> {
    /// A write for a log that has been at rest for a while, from which on damage to its last entry is known for what it is
    /// ([`Log::vouch`](urd_wal::Log::vouch)); to be run as any other. Ask after every tick.
    pub fn vouch(&mut self) -> Option<Write> {
        let rested = self.ticks.saturating_sub(self.last_write_tick);
        if rested < limits::LOG_REST_TICKS || !self.flights.is_empty() {
            return None;
        }
        let write = self.log.vouch()?;
        (self.last_write, self.last_write_tick) = (write.number, self.ticks);
        self.flights.push_back(Flight {
            write: write.number,
            ready: None,
            has_vote: false,
            messages: Vec::new(),
        });
        Some(Write { bytes: 0, done: Box::pin(write.done) })
    }

    /// What a restart would replay: the log beyond the newest checkpoint, or the one under way.
    pub fn since_checkpoint(&self) -> Since {
        self.since_checkpoint
    }

    /// Whether a checkpoint is under way, or its pages are still in the heap: then no other can begin.
    pub fn is_checkpointing(&self) -> bool {
        self.store.is_checkpointing()
    }

    /// Begins a checkpoint of the published state.
    pub fn begin_checkpoint(&mut self) -> Checkpoint {
        self.in_checkpoint = std::mem::take(&mut self.since_checkpoint);
        self.store.begin_checkpoint()
    }

    /// A checkpoint is durable: the log before it is not needed any more.
    pub fn end_checkpoint(&mut self, written: Written) {
        let index = written.stamp().index;
        self.store.end_checkpoint(written);
        self.tidied = false;
        // Applied is committed, and with this member alone it is in its log; beside others it may not be, yet.
        self.log.trim_prefix(index.0.min(self.log.last_index()) + 1);
    }

    /// A checkpoint found no room. The next one may try again.
    pub fn give_up_checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.since_checkpoint.entries += self.in_checkpoint.entries;
        self.since_checkpoint.bytes += self.in_checkpoint.bytes;
        self.store.give_up_checkpoint(checkpoint);
        self.tidied = false;
    }

    /// Where the checkpoint file could end; see [`crate::tree::Tree::dense_end`].
    pub fn dense_end(&self) -> PageId {
        self.store.dense_end()
    }

    /// Moves pages from `limit` on to the front, those of some leaves; see [`crate::tree::Tree::relocate`].
    pub fn relocate(&mut self, from: &[u8], limit: PageId, leaves: usize) -> Option<Vec<u8>> {
        self.changed = true;
        self.store.relocate(from, limit, leaves)
    }

    /// Gives up free pages at the end of the file.
    pub fn cut_end(&mut self) {
        self.store.cut_end();
    }

    /// A bounded slice of tidying up. True when nothing is left.
    pub fn tidy(&mut self) -> bool {
        if !self.tidied {
            self.tidied = self.store.tidy(limits::TIDY_PAGES_PER_SLICE);
        }
        self.tidied
    }

    /// Sizes of the tree.
    pub fn statistics(&self) -> Statistics {
        self.store.statistics()
    }

    /// Where [`Driver::compact_slice`] would go on, if there is something to do.
    pub fn pending_sweep(&self) -> Option<Sweep> {
        self.sweeping.then(|| self.store.pending_sweep()).flatten()
    }

    /// How many changes to keys were applied since the start.
    pub fn changes(&self) -> u64 {
        self.store.changes()
    }

    /// A slice of a compaction under way, bounded by the changes that it looks at. True when none is left.
    pub fn compact_slice(&mut self, changes: usize) -> bool {
        if self.sweeping {
            self.changed = true;
            self.sweeping = !self.store.compact_slice(changes);
        }
        !self.sweeping
    }
}
