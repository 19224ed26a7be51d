//! The log shard's part in [`Warming`](super::super::warming): what is touched ahead, and what waits for it.
//!
//! With warming off every method here lets its work go on at once.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use urd_wal::disk::Disk;

use super::super::warming::{Ahead, Warming};
use super::LogShard;
use crate::ids::{Index, Term};
use crate::limits;
use crate::store::command::Batch;
use crate::store::{self, Sweep, View};

/// How long a sweep waits before it looks again whether it may go on.
const SWEEP_PATIENCE: Duration = Duration::from_millis(1);
/// Threads that the pages of one entry are touched by, at most.
const PARTS_MAX: usize = 16;

impl<D: Disk + 'static> LogShard<D> {
    /// Looks for pressure, and sets how far entries may be applied in this pass.
    pub(super) fn hold_back(&mut self) {
        let warming = &self.inbox.warming;
        if warming.look(Instant::now()) {
            tracing::debug!(warming = warming.is_on(), "memory pressure has changed");
            self.shared.published.load().view.expect_scattered_reads(warming.is_on());
        }
        let mut order = warming.order.borrow_mut();
        let limit = if warming.is_on() {
            order.limit(self.driver.applied())
        } else {
            order.clear();
            Index(u64::MAX)
        };
        drop(order);
        self.driver.set_apply_limit(limit);
    }

    /// Has the pages touched that entries will need which are not applied yet.
    pub(super) fn warm_entries(&self) {
        if self.inbox.warming.is_on() {
            for (index, term, batch) in self.driver.unapplied() {
                if !self.inbox.warming.order.borrow().knows(index, term) {
                    self.warm_entry(index, term, batch);
                }
            }
        }
    }

    fn warm_entry(&self, index: Index, term: Term, batch: Bytes) {
        // An entry that cannot be read, or is of another kind, has nothing to touch; it is judged when it is applied.
        let batch = Batch::decode(batch).unwrap_or_default();
        let parts = batch.len().min(PARTS_MAX);
        self.shared.metrics.touched();
        self.inbox.warming.order.borrow_mut().begin(index, term, parts);
        let batch = Arc::new(batch);
        for part in 0..parts {
            let (view, batch) = (self.newest_view(), Arc::clone(&batch));
            let touched = self.inbox.warming.entries.run(move || {
                for command in batch.commands().iter().skip(part).step_by(parts) {
                    store::touch(&view, command, limits::TOUCH_BYTES_PER_COMMAND);
                }
            });
            let inbox = Rc::clone(&self.inbox);
            glommio::spawn_local(async move {
                touched.await;
                inbox.warming.order.borrow_mut().done(index, term);
                inbox.signal.set();
            })
            .detach();
        }
        if parts == 0 {
            self.inbox.signal.set();
        }
    }

    /// A slice of a compaction, if its pages have been touched. True when there is more to do at once.
    pub(super) fn sweep(&mut self) -> bool {
        let Some(Sweep { target, .. }) = self.driver.pending_sweep() else { return false };
        // Nobody sees it as compacted yet: the next pass is after its publication.
        if self.shared.published.load().view.compacted() < target {
            return true;
        }
        if !self.shared.watching.iter().all(|watching| watching.is_past(target)) {
            self.sweep_later();
            return false;
        }
        if self.inbox.warming.is_on()
            && let Some(sweep) = self.driver.pending_sweep()
            && !self.is_touched(
                |warming| &warming.sweep,
                move |view| view.touch_sweep(sweep, limits::COMPACT_CHANGES_PER_SLICE_MAX),
            )
        {
            return false;
        }
        let changes = self.sweep_slice();
        !self.driver.compact_slice(changes)
    }

    /// Shards with watchers have yet to look at what the sweep would take away. They will soon.
    fn sweep_later(&self) {
        let (inbox, waits) = (Rc::clone(&self.inbox), Rc::clone(&self.sweep_waits));
        if waits.replace(true) {
            return;
        }
        glommio::spawn_local(async move {
            glommio::timer::sleep(SWEEP_PATIENCE).await;
            waits.set(false);
            inbox.signal.set();
        })
        .detach();
    }

    /// How many changes the next slice looks at: as few as let the sweep go faster than writes do, so that little waits for
    /// a slice.
    fn sweep_slice(&mut self) -> usize {
        let changes = self.driver.changes();
        let new = changes.saturating_sub(std::mem::replace(&mut self.swept_at, changes));
        let twice = usize::try_from(2 * new).unwrap_or(usize::MAX);
        twice.clamp(limits::COMPACT_CHANGES_PER_SLICE_MIN, limits::COMPACT_CHANGES_PER_SLICE_MAX)
    }

    /// Whether the pages have been touched that the next step of the defragmentation moves.
    pub(super) fn may_relocate(&self) -> bool {
        let Some((from, limit)) =
            self.defragment.as_ref().and_then(|defragment| defragment.next_slice(&self.driver))
        else {
            return true;
        };
        self.is_touched(
            |warming| &warming.relocation,
            move |view| view.touch_leaves(&from, limit, limits::RELOCATE_LEAVES_PER_SLICE),
        )
    }

    /// Whether the pages have been touched that tell the lessor what to propose.
    pub(super) fn may_propose_about_leases(&self) -> bool {
        let due = self.lessor.due();
        due.is_empty()
            || self.is_touched(
                |warming| &warming.expiry,
                move |view| view.touch_leases(&due, limits::LEASE_KEYS_PER_EXPIRY + 1),
            )
    }

    /// Whether `touch` has been done since it was asked for first; then it will be asked for anew. Starts it, and lets the
    /// next pass come when it is done.
    fn is_touched(
        &self,
        ahead: fn(&Warming) -> &Cell<Ahead>,
        touch: impl FnOnce(&View) + Send + 'static,
    ) -> bool {
        let state = ahead(&self.inbox.warming);
        match state.get() {
            _ if !self.inbox.warming.is_on() => true,
            Ahead::UnderWay => false,
            Ahead::Done => {
                state.set(Ahead::Not);
                true
            }
            Ahead::Not => {
                state.set(Ahead::UnderWay);
                let view = self.newest_view();
                let touched = self.inbox.warming.entries.run(move || touch(&view));
                let inbox = Rc::clone(&self.inbox);
                glommio::spawn_local(async move {
                    touched.await;
                    ahead(&inbox.warming).set(Ahead::Done);
                    inbox.signal.set();
                })
                .detach();
                false
            }
        }
    }

    fn newest_view(&self) -> View {
        self.shared.published.load().view.clone()
    }
}
