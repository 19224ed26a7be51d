//! What readers get: the state after one batch, immutable, on whichever shard they run.

use std::sync::Arc;

use urd_proto::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};

use super::hash::{HashKv, HashScan};
use super::members::Members;
use super::meta::Meta;
use super::{range_scan, txn, v2};
use crate::error::Rejected;
use crate::ids::{Index, Revision, Term};
use crate::tree::{Export, Read, Snapshot, Stamp};

/// A published state. Clones share it; its pages live as long as one of them.
#[derive(Clone, Debug)]
pub struct View {
    snapshot: Snapshot,
    /// The same numbers stand in the snapshot's `meta` record.
    meta: Meta,
    /// As the snapshot has them.
    members: Arc<Members>,
    thinned: Revision,
    /// As the snapshot has them.
    v2: Arc<v2::Numbers>,
}

impl View {
    pub(super) fn new(
        snapshot: Snapshot,
        meta: Meta,
        members: Arc<Members>,
        thinned: Revision,
        v2: Arc<v2::Numbers>,
    ) -> Self {
        Self { snapshot, meta, members, thinned, v2 }
    }

    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(super) fn meta(&self) -> &Meta {
        &self.meta
    }

    pub(super) fn v2(&self) -> &v2::Numbers {
        &self.v2
    }

    /// The members.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// A copy of the state for a member that is behind.
    #[must_use]
    pub fn export(&self) -> Export {
        let stamp = Stamp { index: self.meta.applied, term: self.meta.term };
        Export::new(self.snapshot.clone(), stamp)
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.meta.revision
    }

    /// Revisions before this one cannot be read; -1 before the first compaction, as etcd says it.
    #[must_use]
    pub fn compacted(&self) -> Revision {
        self.meta.compacted
    }

    /// Up to here superseded revisions have been removed: a *physical* compaction of a revision is
    /// over once this has reached it.
    #[must_use]
    pub fn swept(&self) -> Revision {
        self.meta.swept
    }

    /// Of the revisions before this one, changes that were superseded may be missing: a sweep has begun to remove them.
    #[must_use]
    pub fn thinned(&self) -> Revision {
        self.thinned
    }

    /// How many keys live at the newest revision.
    #[must_use]
    pub fn live_keys(&self) -> u64 {
        self.snapshot.count(&[], None)
    }

    /// The last entry that was applied.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.meta.applied
    }

    /// The term of that entry.
    #[must_use]
    pub fn term(&self) -> Term {
        self.meta.term
    }

    /// Tells the kernel whether reads go all over the file, or may be read ahead of.
    pub fn expect_scattered_reads(&self, scattered: bool) {
        self.snapshot.expect_scattered_reads(scattered);
    }

    /// A whole range at once; [`RangeScan`](super::RangeScan) is for those of unknown size.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Rejected> {
        let revision = self.meta.readable(request.revision)?;
        range_scan::collect(&self.snapshot, request, revision, self.meta.revision)
    }

    /// A transaction that only reads, as [`txn::is_read_only`] tells; it need not be proposed.
    pub fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse, Rejected> {
        txn::read(self, request)
    }

    /// The hash of all revisions up to one (0: the newest), equal to etcd's for the same history.
    /// It takes as long as the data is large; [`HashScan`] does the same in slices.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Rejected> {
        let mut scan = HashScan::new(self.clone(), revision)?;
        let hash = scan.step(usize::MAX);
        Ok(hash.expect("invariant: the budget is unbounded"))
    }
}
