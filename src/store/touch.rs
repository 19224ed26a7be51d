//! Reading ahead: the pages that work on the writer's tree is going to need, read through a published view on another
//! thread, so that the writer finds them in memory.
//!
//! What is *touched* goes the ways that the work itself will go: the same walks and lookups, whose result is dropped.
//! The view is a little older than what the work meets; what was changed meanwhile was in memory then, and mostly is
//! still.
//!
//! What is not covered, because it is rare: some pages next to one that a removal has left nearly empty, and long
//! separators in branches. And no touch goes on for ever: each has a budget, in bytes and costs of records looked at, as
//! slices have.
//!
//! What this file does not do: it changes nothing, and no outcome depends on it.

use std::ops::ControlFlow;

use urd_proto::etcdserverpb::compare::CompareTarget;
use urd_proto::etcdserverpb::request_op::Request;
use urd_proto::etcdserverpb::{PutRequest, RangeRequest, TxnRequest};

use super::command::Command;
use super::compaction::{Sweep, find_superseded};
use super::keys;
use super::lease::{Lease, walk_attached};
use super::scan::{Scan, Shape, Sink};
use super::v2;
use super::view::View;
use super::walk::{Bounds, Direction, Live, Walk};
use crate::ids::{LeaseId, PageId};
use crate::tree::{Cursor, Neighbours, Read};

/// What a lookup takes from the budget.
const LOOKUP_COST_BYTES: usize = 64;
/// Touching one byte of each of these reads them all.
const PAGE_BYTES: usize = 4096;

/// Reads what applying `command` would read, for about `budget` bytes of it.
pub fn touch(view: &View, command: &Command, budget: usize) {
    Touch { view, budget, key: Vec::new() }.command(command);
}

impl View {
    /// Reads what the next slice of a sweep would, of so many changes.
    pub fn touch_sweep(&self, sweep: Sweep, changes_max: usize) {
        let mut key = Vec::new();
        let slice = find_superseded(self.snapshot(), sweep.target, sweep.next, changes_max);
        for (change, user_key) in slice.superseded {
            keys::kv_prefix(&mut key, &user_key);
            keys::kv_push_change(&mut key, change);
            self.snapshot().touch_neighbours(&key, Neighbours::OfSparse);
            if let Some(record) = self.snapshot().get(&key) {
                // A long value's first page says how many there are to free.
                std::hint::black_box(record.first().copied());
            }
        }
    }

    /// Reads what [`Store::relocate`](super::Store::relocate) would, called in the same way.
    pub fn touch_leaves(&self, from: &[u8], limit: PageId, leaves: usize) {
        self.snapshot().touch_leaves(from, limit, leaves);
    }

    /// Reads what tells how many keys are attached to each of these leases, up to so many a lease.
    pub fn touch_leases(&self, leases: &[LeaseId], keys_max: usize) {
        for &id in leases {
            std::hint::black_box((self.lease(id), self.count_attached(id, keys_max)));
        }
    }
}

struct Touch<'a> {
    view: &'a View,
    budget: usize,
    /// Reused.
    key: Vec<u8>,
}

impl Touch<'_> {
    fn command(&mut self, command: &Command) {
        match command {
            Command::Put(request) => self.put(request),
            Command::DeleteRange(request) => {
                self.deletion(&request.key, &request.range_end, request.prev_kv);
            }
            Command::Txn(request) => self.txn(request),
            Command::LeaseGrant(request) => self.lease(LeaseId(request.id)),
            Command::LeaseRevoke(request) => self.revocation(LeaseId(request.id)),
            Command::LeaseCheckpoints(request) => {
                for checkpoint in &request.checkpoints {
                    self.lease(LeaseId(checkpoint.id));
                }
            }
            Command::LeaseExpiry(request) => {
                for &id in &request.leases {
                    self.revocation(LeaseId(id));
                }
            }
            // The table of members is small, and read often enough to stay.
            Command::Compaction(_)
            | Command::Alarm(_)
            | Command::MemberAdd(_)
            | Command::MemberRemove(_)
            | Command::MemberPromote(_)
            | Command::MemberUpdate(_)
            | Command::MemberPublish(_) => {}
            Command::V2(request) => self.v2(v2::touch(self.view, request, self.budget)),
            Command::V2Expiry(request) => {
                self.v2(v2::touch_expiry(self.view, request, self.budget))
            }
        }
    }

    fn v2(&mut self, spent: usize) {
        self.spend(spent);
    }

    fn put(&mut self, request: &PutRequest) {
        let whole = request.prev_kv || request.ignore_value;
        let before = self.newest(&request.key, whole);
        self.lease(LeaseId(request.lease));
        self.attached(LeaseId(request.lease), &request.key);
        if let Some(before) = before {
            self.attached(before, &request.key);
        }
    }

    /// The record that the next version of a key supersedes, and so the place of that version. Returns its lease.
    fn newest(&mut self, user_key: &[u8], whole: bool) -> Option<LeaseId> {
        if !self.spend(LOOKUP_COST_BYTES) {
            return None;
        }
        keys::kv_prefix(&mut self.key, user_key);
        let mut cursor = self.view.snapshot().cursor();
        cursor.seek(&self.key);
        if !cursor.valid() || !cursor.key().starts_with(&self.key) {
            return None;
        }
        let live = Live::read(cursor.key(), cursor.value())?;
        if whole {
            touch_bytes(live.record.value);
        }
        Some(LeaseId(live.record.lease))
    }

    fn deletion(&mut self, key: &[u8], range_end: &[u8], whole: bool) {
        self.walk(key, range_end, whole, |touch, live| {
            let lease = LeaseId(live.record.lease);
            if lease != Lease::NONE {
                touch.attached(lease, &live.user_key().to_vec());
            }
        });
    }

    fn txn(&mut self, request: &TxnRequest) {
        for compare in &request.compare {
            let whole = compare.target == CompareTarget::Value as i32;
            self.walk(&compare.key, &compare.range_end, whole, |_, _| {});
        }
        // Which branch it will be depends on what is applied before.
        for op in request.success.iter().chain(&request.failure) {
            match &op.request {
                Some(Request::RequestRange(range)) => self.range(range),
                Some(Request::RequestPut(put)) => self.put(put),
                Some(Request::RequestDeleteRange(delete)) => {
                    self.deletion(&delete.key, &delete.range_end, delete.prev_kv);
                }
                Some(Request::RequestTxn(nested)) => self.txn(nested),
                None => {}
            }
        }
    }

    fn range(&mut self, request: &RangeRequest) {
        let newest = self.view.revision();
        let reader = self.view.snapshot();
        let Ok(revision) = self.view.meta().readable(request.revision) else { return };
        if let Ok(mut scan) = Scan::new(reader, request, revision, newest) {
            let mut seen = Seen(0);
            scan.step(reader, self.budget, &mut seen);
            self.spend(seen.0);
        }
    }

    /// The keys of a range.
    fn walk(
        &mut self,
        key: &[u8],
        range_end: &[u8],
        whole: bool,
        mut show: impl FnMut(&mut Self, &Live<'_>),
    ) {
        let bounds = Bounds::new(key, range_end);
        let mut walk = Walk::new(bounds, self.view.revision(), Direction::Ascending);
        let (reader, mut budget) = (self.view.snapshot(), self.budget);
        walk.run(reader, &mut budget, |live| {
            let value = if whole { live.record.value } else { &[] };
            touch_bytes(value);
            show(self, &live);
            if self.spend(LOOKUP_COST_BYTES + value.len()) {
                ControlFlow::Continue(LOOKUP_COST_BYTES + value.len())
            } else {
                ControlFlow::Break(())
            }
        });
    }

    /// The record of a lease, or its place.
    fn lease(&mut self, id: LeaseId) {
        if id != Lease::NONE && self.spend(LOOKUP_COST_BYTES) {
            std::hint::black_box(self.view.lease(id));
        }
    }

    /// The record that attaches a key to a lease, or its place.
    fn attached(&mut self, lease: LeaseId, user_key: &[u8]) {
        if lease != Lease::NONE && self.spend(LOOKUP_COST_BYTES) {
            keys::attached(&mut self.key, lease, user_key);
            let mut cursor = self.view.snapshot().cursor();
            cursor.seek(&self.key);
            if cursor.valid() {
                touch_bytes(cursor.key());
            }
        }
    }

    fn revocation(&mut self, id: LeaseId) {
        self.lease(id);
        let snapshot = self.view.snapshot();
        keys::lease(&mut self.key, id);
        snapshot.touch_neighbours(&self.key, Neighbours::OfSparse);
        // All of its keys' places there will be empty; those in between are read by the walk.
        keys::attached(&mut self.key, id, &[]);
        snapshot.touch_neighbours(&self.key, Neighbours::Always);
        let mut last = Vec::new();
        walk_attached(snapshot, id, &[], |user_key| {
            last.clear();
            last.extend_from_slice(user_key);
            self.newest(user_key, false);
            self.budget > 0
        });
        keys::attached(&mut self.key, id, &last);
        snapshot.touch_neighbours(&self.key, Neighbours::Always);
    }

    /// False when nothing is left.
    fn spend(&mut self, bytes: usize) -> bool {
        let had = self.budget > 0;
        self.budget = self.budget.saturating_sub(bytes);
        had
    }
}

/// Takes what a range yields, and drops it.
struct Seen(usize);

impl Sink for Seen {
    fn push(&mut self, live: &Live<'_>, shape: Shape) -> usize {
        let value = match shape {
            Shape::KeysAndValues => live.record.value,
            Shape::KeysOnly => &[],
        };
        touch_bytes(value);
        self.0 += LOOKUP_COST_BYTES + value.len();
        LOOKUP_COST_BYTES + value.len()
    }
}

fn touch_bytes(bytes: &[u8]) {
    std::hint::black_box(bytes.iter().step_by(PAGE_BYTES).fold(0_u8, |sum, byte| sum ^ byte));
    std::hint::black_box(bytes.last());
}
