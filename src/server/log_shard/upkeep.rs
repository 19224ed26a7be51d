//! The log shard's work between requests: segments, defragmentations, checkpoints.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use urd_wal::disk::Disk;

use super::super::defragment::{Defragment, Step};
use super::{Failure, LogShard};
use crate::tree::checkpoint::{self, Written};

/// How long to wait before another try to make a segment, after a full disk refused one.
pub(super) const PREPARE_RETRY: Duration = Duration::from_secs(1);

/// A checkpoint to begin, due or not.
pub(super) struct Wanted {
    /// Whether to cut the file behind it.
    cut: bool,
}

impl<D: Disk + 'static> LogShard<D> {
    /// Has the next segment made ready, one at a time.
    pub(super) fn prepare(&mut self) {
        if self.preparing || self.prepare_from.is_some_and(|from| Instant::now() < from) {
            return;
        }
        self.prepare_from = None;
        let Some(prepare) = self.driver.log().prepare() else { return };
        self.preparing = true;
        let inbox = Rc::clone(&self.inbox);
        glommio::spawn_local(async move {
            let prepared = prepare.run().await;
            inbox.prepared.replace(Some(prepared));
            inbox.signal.set();
        })
        .detach();
    }

    /// Goes on with a defragmentation; true when it has more to do at once.
    pub(super) fn defragment(&mut self) -> bool {
        if self.defragment.is_none() {
            self.defragment = Defragment::begin(&self.shared.defragment);
        }
        if self.driver.is_checkpointing() || self.wanted.is_some() || !self.may_relocate() {
            return false;
        }
        let Some(defragment) = &mut self.defragment else { return false };
        match defragment.step(&mut self.driver) {
            Step::Checkpoint { cut } => {
                self.wanted = Some(Wanted { cut });
                false
            }
            Step::Again => true,
            Step::Done => {
                self.end_defragment(true);
                // Another may have been asked for meanwhile.
                true
            }
        }
    }

    pub(super) fn end_defragment(&mut self, is_done: bool) {
        self.wanted = None;
        if let Some(defragment) = self.defragment.take() {
            defragment.end(&self.shared.defragment, is_done);
        }
    }

    /// Begins a checkpoint when one is wanted or due.
    pub(super) fn checkpoint(&mut self) {
        let sizes = self.driver.statistics();
        self.checkpoints.tell_pace(self.driver.since_checkpoint(), &sizes);
        self.inbox.entries.set((self.driver.last_index(), self.driver.window_bytes()));
        let is_due = || self.checkpoints.is_due(self.driver.since_checkpoint(), &sizes);
        if self.driver.is_checkpointing() || (self.wanted.is_none() && !is_due()) {
            return;
        }
        // Somebody waits for one that is wanted.
        let (is_wanted, cut) = match self.wanted.take() {
            Some(wanted) => (true, wanted.cut),
            None => (false, false),
        };
        let checkpoint = self.driver.begin_checkpoint();
        let pace = self.checkpoints.begin();
        let (file, inbox) = (Rc::clone(&self.checkpoints.file), Rc::clone(&self.inbox));
        let shared = Arc::clone(&self.shared);
        let write = async move {
            let (start, bytes) = (Instant::now(), checkpoint.bytes());
            let pause = async |part| match is_wanted {
                true => {}
                false => pace.keep(part).await,
            };
            let mut written = checkpoint.write_with_pauses(&file, pause).await;
            if let Ok(checkpoint) = &written {
                tracing::debug!(bytes, took = ?start.elapsed(), "wrote a checkpoint");
                shared.metrics.checkpoint(start.elapsed());
                if cut && let Err(failure) = file.cut(checkpoint).await {
                    written = Err(failure);
                }
            }
            inbox.checkpointed.replace(Some(written));
            inbox.signal.set();
        };
        glommio::spawn_local(write).detach();
    }

    pub(super) fn checkpointed(
        &mut self,
        checkpointed: Result<Written, checkpoint::Failure>,
    ) -> Result<(), Failure> {
        match checkpointed {
            Ok(written) => self.driver.end_checkpoint(written),
            Err(ref failure @ checkpoint::Failure::Full { ref checkpoint, .. }) => {
                tracing::warn!("cannot write a checkpoint, trying again: {failure}");
                self.driver.give_up_checkpoint(checkpoint);
                self.checkpoints.retry();
                self.end_defragment(false);
            }
            Err(failure @ checkpoint::Failure::Io { .. }) => return Err(failure.into()),
        }
        Ok(())
    }
}
