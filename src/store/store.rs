//! The store itself: applies entries, one after another.

use std::sync::Arc;

use urd_proto::etcdserverpb::{
    AlarmResponse, CompactionRequest, CompactionResponse, DeleteRangeResponse, LeaseGrantResponse,
    LeaseRevokeResponse, MemberAddResponse, MemberPromoteResponse, MemberRemoveResponse,
    MemberUpdateResponse, PutRequest, PutResponse, TxnResponse,
};

use super::alarm::{self, Raised};
use super::check::{Fault, check};
use super::command::{Batch, Command};
use super::compaction::{self, Sweep};
use super::keys::{META_KEY, V2_NUMBERS_KEY};
use super::lease::{LeaseChange, Leases};
use super::members::{self, Members};
use super::meta::Meta;
use super::mvcc::{Scratch, Writer, check_put};
use super::range_scan::header;
use super::txn;
use super::v2;
use super::view::View;
use crate::error::Rejected;
use crate::ids::{Index, LeaseId, PageId, Revision, Term};
use crate::tree::{Checkpoint, Counted, Read, Stamp, Statistics, Tree, Written};

/// What became of a request: part of the applied result, equal on every member.
pub type Outcome = Result<Response, Rejected>;

/// The answer to a request. Of its header the revision is set; the api adds who answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compaction(CompactionResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseRevoke(LeaseRevokeResponse),
    /// Nobody waits for it but the member that proposed it.
    LeaseCheckpoints,
    /// As before.
    LeaseExpiry,
    Alarm(AlarmResponse),
    MemberAdd(MemberAddResponse),
    MemberRemove(MemberRemoveResponse),
    MemberPromote(MemberPromoteResponse),
    MemberUpdate(MemberUpdateResponse),
    /// Nobody waits for it but the member itself.
    MemberPublish,
    V2(Box<v2::Outcome>),
    /// Nobody waits for it but the member that proposed it: how many events it made.
    V2Expiry(u64),
}

/// The replicated state and its one writer.
#[derive(Debug, Default)]
pub struct Store {
    pub(super) tree: Tree,
    /// What the next published view says of itself.
    meta: Meta,
    /// What the newest published one says.
    published: Meta,
    sweep: Option<Sweep>,
    /// See [`View::thinned`].
    thinned: Revision,
    scratch: Scratch,
    /// Changes to keys since it was opened.
    changes: u64,
    /// What the last entry did to leases.
    lease_changes: Vec<LeaseChange>,
    /// As the tree has them.
    alarms: Raised,
    /// As the tree has them.
    pub(super) members: Arc<Members>,
    published_members: Arc<Members>,
    pub(super) v2: v2::Numbers,
    /// As the tree has them.
    published_v2: Arc<v2::Numbers>,
}

impl Store {
    /// An empty store, at revision 1, before the first entry.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Tree::new())
    }

    /// The state that `tree` holds, as a checkpoint file gives it back.
    ///
    /// # Errors
    /// A tree that is not empty, and has no numbers of a store that this version reads; or damage where they stand.
    pub fn open(tree: Tree) -> Result<Self, Fault> {
        tree.verify_path(META_KEY).map_err(|damage| Fault::new(&tree.describe(&damage)))?;
        let meta = match tree.get(META_KEY) {
            Some(numbers) => Meta::decode(numbers)
                .ok_or_else(|| Fault::new("the store's numbers in the tree are not readable"))?,
            None if tree.statistics().records == 0 => return Ok(Self::of(tree)),
            None => return Err(Fault::new("the tree has records, but not the store's numbers")),
        };
        let alarms = Raised::read(&tree);
        let members = Arc::new(members::open(&tree)?);
        let published_members = Arc::clone(&members);
        let v2 = v2::Numbers::open(&tree)?;
        Ok(Self {
            tree,
            meta,
            published: meta,
            // How far an earlier sweep came is not known.
            thinned: meta.compacted,
            alarms,
            members,
            published_members,
            v2,
            published_v2: Arc::new(v2),
            ..Self::default()
        })
    }

    /// The same, of a tree that was received from another member, or written as a checkpoint, with `stamp` beside it.
    ///
    /// # Errors
    /// As [`Store::open`], or the tree's numbers are not those of the stamp.
    pub fn open_at(tree: Tree, stamp: Stamp) -> Result<Self, Fault> {
        let store = Self::open(tree)?;
        let found = Stamp { index: store.applied(), term: store.term() };
        if found != stamp {
            let text =
                format!("the tree says that it contains {found:?}, beside it stands {stamp:?}");
            return Err(Fault::new(&text));
        }
        Ok(store)
    }

    fn of(tree: Tree) -> Self {
        let mut store = Self { tree, ..Self::default() };
        store.publish_tree();
        store
    }

    /// Applies one entry: its requests in order, one outcome for each. Every entry is applied once
    /// and in the log's order. Readers see nothing of it before [`Store::publish`].
    pub fn apply(&mut self, index: Index, term: Term, batch: &Batch) -> Vec<Outcome> {
        let Meta { applied, term: applied_term, .. } = self.meta;
        assert!(index > applied, "entry {index} comes after entry {applied}");
        assert!(term >= applied_term, "entry {index} goes back from term {applied_term} to {term}");
        self.lease_changes.clear();
        let commands = batch.commands().iter();
        let outcomes = commands.map(|command| self.apply_command(index, command)).collect();
        self.meta.applied = index;
        self.meta.term = term;
        self.meta.check();
        outcomes
    }

    fn apply_command(&mut self, index: Index, command: &Command) -> Outcome {
        if let Some(refusal) = self.alarms.refusal(command) {
            return Err(refusal);
        }
        match command {
            Command::Put(request) => self.put(request).map(Response::Put),
            Command::DeleteRange(request) => {
                self.write(|writer, _| Ok(writer.delete_range(request))).map(Response::DeleteRange)
            }
            Command::Txn(request) => {
                self.write(|writer, meta| txn::apply(writer, meta, request)).map(Response::Txn)
            }
            Command::Compaction(request) => self.compact(request).map(Response::Compaction),
            Command::LeaseGrant(request) => {
                self.lease(index, |leases| leases.grant(request)).map(Response::LeaseGrant)
            }
            Command::LeaseRevoke(request) => {
                self.lease(index, |leases| leases.revoke(request)).map(Response::LeaseRevoke)
            }
            Command::LeaseCheckpoints(request) => self.lease(index, |leases| {
                leases.checkpoint(request);
                Ok(Response::LeaseCheckpoints)
            }),
            Command::LeaseExpiry(request) => {
                // Each lease's keys go in a revision of their own.
                for &id in &request.leases {
                    self.lease(index, |leases| {
                        leases.expire(LeaseId(id), Index(request.as_of));
                        Ok(())
                    })?;
                }
                Ok(Response::LeaseExpiry)
            }
            Command::Alarm(request) => {
                let response = alarm::apply(&mut self.tree, self.meta.revision, request);
                self.alarms = Raised::read(&self.tree);
                Ok(Response::Alarm(response))
            }
            Command::MemberAdd(_)
            | Command::MemberRemove(_)
            | Command::MemberPromote(_)
            | Command::MemberUpdate(_)
            | Command::MemberPublish(_) => self.change_members(command),
            Command::V2(request) => {
                let outcome = v2::apply(&mut self.tree, &mut self.v2, request);
                Ok(Response::V2(Box::new(outcome)))
            }
            Command::V2Expiry(request) => {
                Ok(Response::V2Expiry(v2::expire(&mut self.tree, &mut self.v2, request)))
            }
        }
    }

    /// Runs a request about leases.
    fn lease<T>(
        &mut self,
        index: Index,
        request: impl FnOnce(&mut Leases<'_, '_>) -> Result<T, Rejected>,
    ) -> Result<T, Rejected> {
        let mut changes = std::mem::take(&mut self.lease_changes);
        let result = self.write(|writer, _| request(&mut Leases::new(writer, index, &mut changes)));
        self.lease_changes = changes;
        result
    }

    /// What the last entry did to leases, in order. A leader's timers follow it.
    #[must_use]
    pub fn lease_changes(&self) -> &[LeaseChange] {
        &self.lease_changes
    }

    fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Rejected> {
        self.write(|writer, meta| {
            check_put(writer.tree(), request, meta.revision)?;
            Ok(writer.put(request))
        })
    }

    /// Runs a request that may change keys and takes its revision over.
    fn write<T>(
        &mut self,
        request: impl FnOnce(&mut Writer<'_>, &Meta) -> Result<T, Rejected>,
    ) -> Result<T, Rejected> {
        let begin = self.meta.revision;
        let mut writer = Writer::new(&mut self.tree, &mut self.scratch, begin);
        let result = request(&mut writer, &self.meta);
        let revision = writer.revision();
        self.changes += u64::from(writer.changes());
        assert!(result.is_ok() || revision == begin, "a rejected request has changed keys");
        self.meta.revision = revision;
        result
    }

    fn compact(&mut self, request: &CompactionRequest) -> Result<CompactionResponse, Rejected> {
        let revision = Revision(request.revision);
        if revision <= self.meta.compacted {
            return Err(Rejected::Compacted);
        }
        if revision > self.meta.revision {
            return Err(Rejected::FutureRevision);
        }
        self.meta.compacted = revision;
        Ok(CompactionResponse { header: header(self.meta.revision) })
    }

    /// How many changes to keys were applied since the store was opened.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// A step of the background work that compactions leave: looks at up to `changes` of the old
    /// ones and removes what nobody can read any more. True when nothing is left to do.
    pub fn compact_slice(&mut self, changes: usize) -> bool {
        if let Some(Sweep { target, .. }) = self.pending_sweep() {
            self.thinned = self.thinned.max(target);
        }
        let is_done = compaction::slice(&mut self.tree, &mut self.meta, &mut self.sweep, changes);
        self.meta.check();
        is_done
    }

    /// Where the entries of an empty store begin, if not at 1.
    pub(super) fn begin_at(&mut self, applied: Index, term: Term) {
        (self.meta.applied, self.meta.term) = (applied, term);
    }

    /// Where [`Store::compact_slice`] would go on, if there is something to do.
    #[must_use]
    pub fn pending_sweep(&self) -> Option<Sweep> {
        compaction::pending(&self.meta, self.sweep)
    }

    /// Lets readers see all that has been applied.
    pub fn publish(&mut self) -> View {
        self.publish_tree();
        self.view()
    }

    fn publish_tree(&mut self) {
        self.tree.insert(META_KEY, &self.meta.encode(), Counted::No);
        if self.v2 != *self.published_v2 {
            self.tree.insert(V2_NUMBERS_KEY, &self.v2.encode(), Counted::No);
            self.published_v2 = Arc::new(self.v2);
        }
        self.tree.publish();
        self.published = self.meta;
        self.published_members = Arc::clone(&self.members);
    }

    /// What was published last.
    #[must_use]
    pub fn view(&self) -> View {
        let members = Arc::clone(&self.published_members);
        let (snapshot, v2) = (self.tree.snapshot(), Arc::clone(&self.published_v2));
        View::new(snapshot, self.published, members, self.thinned, v2)
    }

    /// Begins to make the published state durable, all that was applied being published; see
    /// [`Tree::begin_checkpoint`].
    pub fn begin_checkpoint(&mut self) -> Checkpoint {
        assert_eq!(self.meta.applied, self.published.applied, "a checkpoint follows a publication");
        let stamp = Stamp { index: self.meta.applied, term: self.meta.term };
        self.tree.begin_checkpoint(stamp)
    }

    /// See [`Tree::end_checkpoint`].
    pub fn end_checkpoint(&mut self, written: Written) {
        self.tree.end_checkpoint(written);
    }

    /// See [`Tree::give_up_checkpoint`].
    pub fn give_up_checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.tree.give_up_checkpoint(checkpoint);
    }

    /// See [`Tree::is_checkpointing`].
    #[must_use]
    pub fn is_checkpointing(&self) -> bool {
        self.tree.is_checkpointing()
    }

    /// See [`Tree::dense_end`].
    #[must_use]
    pub fn dense_end(&self) -> PageId {
        self.tree.dense_end()
    }

    /// See [`Tree::relocate`].
    pub fn relocate(&mut self, from: &[u8], limit: PageId, leaves: usize) -> Option<Vec<u8>> {
        self.tree.relocate(from, limit, leaves)
    }

    /// See [`Tree::cut_end`].
    pub fn cut_end(&mut self) {
        self.tree.cut_end();
    }

    /// See [`Tree::tidy`].
    pub fn tidy(&mut self, pages: usize) -> bool {
        self.tree.tidy(pages)
    }

    /// The last entry that was applied; 0 before the first.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.meta.applied
    }

    /// The term of that entry.
    #[must_use]
    pub fn term(&self) -> Term {
        self.meta.term
    }

    /// The faults of the newest view and of the tree's books; none if all is well. It takes as long
    /// as the data is large.
    #[must_use]
    pub fn check(&self) -> Vec<Fault> {
        match self.tree.check() {
            Err(damage) => vec![Fault::from(damage)],
            Ok(()) => check(&self.view()),
        }
    }

    /// How many pages of the file have been read.
    #[cfg(test)]
    pub(super) fn pages_read(&self) -> usize {
        self.tree.pages_read()
    }

    /// Sizes of the tree.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.tree.statistics()
    }
}
