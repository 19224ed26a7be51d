//! Writing: one request's changes to keys, all at one new revision.
//!
//! As in etcd: the first change of a request takes the next main revision, further ones count up
//! its sub-revision, and a request that changes nothing takes none. A key's version counts from 1
//! after its creation; a deletion ends it, so the next put creates the key anew. What a request
//! reads, it reads with its own changes so far.
//!
//! Every change costs two records, one in `kv` and one in `rev`, and takes the `Counted` flag off
//! the record it supersedes. Counted are exactly the newest versions of live keys. Attached to a
//! lease are exactly the live keys whose newest version names it.

use std::ops::ControlFlow;

use urd_proto::etcdserverpb::{DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse};
use urd_proto::mvccpb::KeyValue;

use super::keys::{self, ChangeId, ChangeKind, KvKey};
use super::lease::{self, Lease};
use super::range_scan::{header, key_value};
use super::record::{Record, TOMBSTONE_RECORD};
use super::scan::Shape;
use super::walk::{Bounds, Direction, Live, Walk, find};
use crate::error::Rejected;
use crate::ids::{LeaseId, Revision};
use crate::tree::{Counted, Cursor, Read, Tree};

/// Buffers that keys and records are built in, kept from request to request.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    key: Vec<u8>,
    record: Vec<u8>,
}

/// One write request under way.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    tree: &'a mut Tree,
    scratch: &'a mut Scratch,
    /// The newest revision before this request.
    begin: Revision,
    /// Changes made so far.
    changes: u32,
}

impl<'a> Writer<'a> {
    pub(super) fn new(tree: &'a mut Tree, scratch: &'a mut Scratch, begin: Revision) -> Self {
        Self { tree, scratch, begin, changes: 0 }
    }

    /// The state with the changes so far.
    pub(super) fn tree(&self) -> &Tree {
        self.tree
    }

    /// The tables that no change of a key touches.
    pub(super) fn tree_mut(&mut self) -> &mut Tree {
        self.tree
    }

    /// The newest revision, with the changes so far.
    pub(super) fn revision(&self) -> Revision {
        if self.changes == 0 { self.begin } else { self.begin.next() }
    }

    /// Changes made so far.
    pub(super) fn changes(&self) -> u32 {
        self.changes
    }

    fn next_change(&mut self) -> ChangeId {
        let change = ChangeId { main: self.begin.next(), sub: self.changes };
        self.changes = self.changes.checked_add(1).expect("invariant: fewer keys than u32::MAX");
        change
    }

    /// Puts what [`check_put`] let pass.
    pub(super) fn put(&mut self, request: &PutRequest) -> PutResponse {
        let at = self.next_change();
        let Scratch { key, record } = &mut *self.scratch;
        keys::kv_prefix(key, &request.key);
        let prefix_bytes = key.len();

        let mut prev_kv = None;
        let (mut lease_before, mut lease) = (0, request.lease);
        let superseded = newest(self.tree, key, |previous| {
            assert!(previous.key.change < at, "revisions grow: {:?}, {at:?}", previous.key.change);
            prev_kv = request.prev_kv.then(|| key_value(&previous, Shape::KeysAndValues));
            lease_before = previous.record.lease;
            if request.ignore_lease {
                lease = lease_before;
            }
            Record {
                create_revision: previous.record.create_revision,
                version: previous.record.version + 1,
                lease,
                value: if request.ignore_value { previous.record.value } else { &request.value },
            }
            .write(at, record);
            previous.key.change
        });
        match superseded {
            Some(change) => {
                keys::kv_push_change(key, change);
                let found = self.tree.set_counted(key, Counted::No);
                assert!(found, "invariant: a record that was found is there");
                key.truncate(prefix_bytes);
            }
            None => {
                Record { create_revision: at.main, version: 1, lease, value: &request.value }
                    .write(at, record);
            }
        }
        keys::kv_push_change(key, at);
        self.tree.insert(key, record, Counted::Yes);

        keys::rev(key, at);
        keys::rev_mark(record, ChangeKind::Put);
        record.extend_from_slice(&request.key);
        self.tree.insert(key, record, Counted::No);
        if lease != lease_before {
            self.detach(LeaseId(lease_before), &request.key);
            self.attach(LeaseId(lease), &request.key);
        }
        PutResponse { header: header(at.main), prev_kv }
    }

    pub(super) fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let bounds = Bounds::new(&request.key, &request.range_end);
        let mut walk = Walk::new(bounds, self.revision(), Direction::Ascending);
        let mut victims = Victims::default();
        let mut prev_kvs: Vec<KeyValue> = Vec::new();
        walk.run_to_end(self.tree, |live| {
            victims.push(&live);
            if request.prev_kv {
                prev_kvs.push(key_value(&live, Shape::KeysAndValues));
            }
            ControlFlow::Continue(())
        });
        self.delete_all(&victims);
        DeleteRangeResponse {
            header: header(self.revision()),
            deleted: i64::try_from(victims.len()).expect("invariant: fewer keys than i64::MAX"),
            prev_kvs,
        }
    }

    /// Deletes the keys that are attached to a lease, in the order of the keys.
    pub(super) fn delete_attached(&mut self, id: LeaseId) {
        let mut victims = Victims::default();
        let mut prefix = Vec::new();
        lease::walk_attached(self.tree, id, &[], |user_key| {
            keys::kv_prefix(&mut prefix, user_key);
            newest(self.tree, &prefix, |live| victims.push(&live))
                .expect("invariant: an attached key is live");
            true
        });
        self.delete_all(&victims);
    }

    fn attach(&mut self, lease: LeaseId, user_key: &[u8]) {
        if lease != Lease::NONE {
            keys::attached(&mut self.scratch.key, lease, user_key);
            self.tree.insert(&self.scratch.key, &[], Counted::No);
        }
    }

    fn detach(&mut self, lease: LeaseId, user_key: &[u8]) {
        if lease != Lease::NONE {
            keys::attached(&mut self.scratch.key, lease, user_key);
            let found = self.tree.remove(&self.scratch.key);
            assert!(found, "invariant: a live key with a lease is attached to it");
        }
    }

    fn delete_all(&mut self, victims: &Victims) {
        for (newest, lease) in victims.iter() {
            self.delete(newest);
            if lease != Lease::NONE {
                self.detach(lease, &KvKey::split(newest).user_key().to_vec());
            }
        }
    }

    /// Deletes the key whose newest record, a live one, is `newest`. Its lease is the caller's business.
    fn delete(&mut self, newest: &[u8]) {
        let at = self.next_change();
        let KvKey { prefix, change } = KvKey::split(newest);
        assert!(change < at, "revisions grow: {change:?}, {at:?}");
        let found = self.tree.set_counted(newest, Counted::No);
        assert!(found, "invariant: a record that was found is there");

        let Scratch { key, record } = &mut *self.scratch;
        key.clear();
        key.extend_from_slice(prefix);
        keys::kv_push_change(key, at);
        self.tree.insert(key, TOMBSTONE_RECORD, Counted::No);

        keys::rev_mark(record, ChangeKind::Tombstone);
        KvKey::split(newest).user_key().write(record);
        keys::rev(key, at);
        self.tree.insert(key, record, Counted::No);
    }
}

/// What a put asks of the state it comes to.
pub(super) fn check_put<R: Read>(
    reader: &R,
    request: &PutRequest,
    newest: Revision,
) -> Result<(), Rejected> {
    check_lease(reader, request)?;
    check_previous(reader, request, newest)
}

/// Whether there is the lease that a put names.
pub(super) fn check_lease<R: Read>(reader: &R, request: &PutRequest) -> Result<(), Rejected> {
    let id = LeaseId(request.lease);
    let is_there = id == Lease::NONE || lease::find(reader, id).is_some();
    if is_there { Ok(()) } else { Err(Rejected::LeaseNotFound) }
}

/// Whether there is the version whose value or lease a put keeps.
pub(super) fn check_previous<R: Read>(
    reader: &R,
    request: &PutRequest,
    newest: Revision,
) -> Result<(), Rejected> {
    let needs_previous = request.ignore_value || request.ignore_lease;
    if needs_previous && find(reader, &mut Vec::new(), &request.key, newest, |_| ()).is_none() {
        return Err(Rejected::KeyNotFound);
    }
    Ok(())
}

/// Shows the newest version of a key, unless that is a tombstone.
fn newest<R: Read, T>(reader: &R, prefix: &[u8], show: impl FnOnce(Live<'_>) -> T) -> Option<T> {
    let mut cursor = reader.cursor();
    cursor.seek(prefix);
    if !cursor.valid() || !cursor.key().starts_with(prefix) {
        return None;
    }
    Live::read(cursor.key(), cursor.value()).map(show)
}

/// The newest records of keys to delete, in one allocation, and their leases. They are gathered first: a walk
/// cannot go on in a tree that changes under it.
#[derive(Debug, Default)]
struct Victims {
    bytes: Vec<u8>,
    ends: Vec<(usize, LeaseId)>,
}

impl Victims {
    fn push(&mut self, live: &Live<'_>) {
        self.bytes.extend_from_slice(live.key.prefix);
        keys::kv_push_change(&mut self.bytes, live.key.change);
        self.ends.push((self.bytes.len(), LeaseId(live.record.lease)));
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], LeaseId)> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|&(end, _)| end));
        starts.zip(&self.ends).map(|(start, &(end, lease))| (&self.bytes[start..end], lease))
    }
}
