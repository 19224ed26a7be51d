//! Leases: what was granted, for how long, and which keys go with it.
//!
//! ```text
//! lease      varints: TTL granted; of it left when last checkpointed, 0 for all; index of the entry that granted it
//! attached   empty: the key says it all
//! ```
//!
//! A put attaches its key, an overwriting one moves it, a deletion detaches it (`mvcc`). A revocation
//! deletes all keys attached, in one revision and in the order of the keys; without any it makes no revision.
//!
//! The index tells a lease from an earlier one of the same id, which a client may choose: a leader proposes what it
//! knows of a lease *as of* some entry, and meanwhile the lease may be revoked and its id granted anew.
//!
//! What this file does not do: it has no clock. When a lease expires is known to the leader's `server::lessor`, which
//! follows [`LeaseChange`]s and proposes what must happen.

use prost::encoding::{decode_varint, encode_varint};
use urd_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse,
};

use super::command::LeaseCheckpoints;
use super::keys;
use super::mvcc::Writer;
use super::range_scan::header;
use super::view::View;
use crate::error::Rejected;
use crate::ids::{Index, LeaseId};
use crate::tree::{Counted, Cursor, Read};

/// A lease as the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Seconds granted.
    pub ttl: i64,
    /// Seconds left when last checkpointed; 0: no checkpoint since it was granted or renewed.
    pub remaining: i64,
    /// The entry that granted it.
    pub granted: Index,
}

impl Lease {
    /// What stands where a lease's id could, and is none.
    pub const NONE: LeaseId = LeaseId(0);

    /// How long a leader gives it that knows no more than the store.
    #[must_use]
    pub fn seconds_left(&self) -> i64 {
        if self.remaining == 0 { self.ttl } else { self.remaining }
    }

    /// Whether these bytes are a lease's: for those whom damage must not end.
    pub(super) fn is_sound(mut bytes: &[u8]) -> bool {
        (0..3).all(|_| decode_varint(&mut bytes).is_ok())
    }

    fn read(mut bytes: &[u8]) -> Self {
        let mut number =
            || decode_varint(&mut bytes).expect("invariant: a lease's numbers are whole");
        Self { ttl: number() as i64, remaining: number() as i64, granted: Index(number()) }
    }

    fn write(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
        encode_varint(self.ttl as u64, buffer);
        encode_varint(self.remaining as u64, buffer);
        encode_varint(self.granted.0, buffer);
    }
}

/// What an entry did to a lease, as far as a leader cannot know before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// It exists now.
    Granted { id: LeaseId, ttl: i64 },
    /// It exists no more, because somebody revoked it or because it was found expired.
    Revoked { id: LeaseId, expired: bool },
}

/// The lease of an id, if there is one.
pub(super) fn find<R: Read>(reader: &R, id: LeaseId) -> Option<Lease> {
    let mut key = Vec::new();
    keys::lease(&mut key, id);
    reader.get(&key).map(|record| Lease::read(&record))
}

/// Shows the keys attached to a lease from `from` on, in their order, for as long as `show` says so.
pub(super) fn walk_attached<R: Read>(
    reader: &R,
    id: LeaseId,
    from: &[u8],
    mut show: impl FnMut(&[u8]) -> bool,
) {
    let mut place = Vec::new();
    keys::attached(&mut place, id, from);
    let mut cursor = reader.cursor();
    cursor.seek(&place);
    while cursor.valid()
        && let Some((lease, user_key)) = keys::attached_key(cursor.key())
        && lease == id
        && show(user_key)
    {
        cursor.next();
    }
}

impl View {
    /// The lease of an id, if there is one.
    #[must_use]
    pub fn lease(&self, id: LeaseId) -> Option<Lease> {
        find(self.snapshot(), id)
    }

    /// Shows up to `leases_max` leases from `from` on, in the order of their ids. Says where to go on, if there are more.
    pub fn for_each_lease(
        &self,
        from: LeaseId,
        leases_max: usize,
        mut show: impl FnMut(LeaseId, Lease),
    ) -> Option<LeaseId> {
        let mut place = Vec::new();
        keys::lease(&mut place, from);
        let mut cursor = self.snapshot().cursor();
        cursor.seek(&place);
        let mut shown = 0;
        while cursor.valid()
            && let Some(id) = keys::lease_key(cursor.key())
        {
            if shown == leases_max {
                return Some(id);
            }
            shown += 1;
            show(id, Lease::read(cursor.value()));
            cursor.next();
        }
        None
    }

    /// Shows the keys attached to a lease from `from` on, in their order, until about `bytes_max` of them were shown.
    /// Says where to go on, if there are more.
    pub fn for_each_attached(
        &self,
        id: LeaseId,
        from: &[u8],
        bytes_max: usize,
        mut show: impl FnMut(&[u8]),
    ) -> Option<Vec<u8>> {
        let (mut next, mut bytes) = (None, 0);
        walk_attached(self.snapshot(), id, from, |user_key| {
            if bytes >= bytes_max {
                next = Some(user_key.to_vec());
                return false;
            }
            bytes += user_key.len() + ATTACHED_COST_BYTES;
            show(user_key);
            true
        });
        next
    }

    /// How many keys are attached to a lease, counted no further than `max`.
    #[must_use]
    pub fn count_attached(&self, id: LeaseId, max: usize) -> usize {
        let mut count = 0;
        walk_attached(self.snapshot(), id, &[], |_| {
            count += 1;
            count < max
        });
        count
    }
}

/// What one attached key takes from a slice's budget, beside its bytes.
const ATTACHED_COST_BYTES: usize = 16;

/// A request about leases under way.
pub(super) struct Leases<'a, 'tree> {
    writer: &'a mut Writer<'tree>,
    /// The entry that is applied.
    index: Index,
    changes: &'a mut Vec<LeaseChange>,
}

impl<'a, 'tree> Leases<'a, 'tree> {
    pub(super) fn new(
        writer: &'a mut Writer<'tree>,
        index: Index,
        changes: &'a mut Vec<LeaseChange>,
    ) -> Self {
        Self { writer, index, changes }
    }

    pub(super) fn grant(
        &mut self,
        request: &LeaseGrantRequest,
    ) -> Result<LeaseGrantResponse, Rejected> {
        let (id, ttl) = (LeaseId(request.id), request.ttl);
        if id == Lease::NONE {
            return Err(Rejected::LeaseNotFound);
        }
        if find(self.writer.tree(), id).is_some() {
            return Err(Rejected::LeaseExists);
        }
        self.write(id, &Lease { ttl, remaining: 0, granted: self.index });
        self.changes.push(LeaseChange::Granted { id, ttl });
        Ok(LeaseGrantResponse {
            header: header(self.writer.revision()),
            id: id.0,
            ttl,
            error: String::new(),
        })
    }

    pub(super) fn revoke(
        &mut self,
        request: &LeaseRevokeRequest,
    ) -> Result<LeaseRevokeResponse, Rejected> {
        let id = LeaseId(request.id);
        find(self.writer.tree(), id).ok_or(Rejected::LeaseNotFound)?;
        self.remove(id, false);
        Ok(LeaseRevokeResponse { header: header(self.writer.revision()) })
    }

    /// Revokes a lease that was found expired by a member that had applied entries up to `as_of`.
    pub(super) fn expire(&mut self, id: LeaseId, as_of: Index) {
        if self.find_as_of(id, as_of).is_some() {
            self.remove(id, true);
        }
    }

    pub(super) fn checkpoint(&mut self, request: &LeaseCheckpoints) {
        for checkpoint in &request.checkpoints {
            let (id, remaining) = (LeaseId(checkpoint.id), checkpoint.remaining_ttl);
            if let Some(lease) = self.find_as_of(id, Index(request.as_of)) {
                self.write(id, &Lease { remaining, ..lease });
            }
        }
    }

    /// The lease of an id, if it is the one that a member knew which had applied entries up to `as_of`.
    fn find_as_of(&self, id: LeaseId, as_of: Index) -> Option<Lease> {
        find(self.writer.tree(), id).filter(|lease| lease.granted <= as_of)
    }

    fn write(&mut self, id: LeaseId, lease: &Lease) {
        let (mut key, mut record) = (Vec::new(), Vec::new());
        keys::lease(&mut key, id);
        lease.write(&mut record);
        self.writer.tree_mut().insert(&key, &record, Counted::No);
    }

    fn remove(&mut self, id: LeaseId, expired: bool) {
        self.writer.delete_attached(id);
        let mut key = Vec::new();
        keys::lease(&mut key, id);
        let found = self.writer.tree_mut().remove(&key);
        assert!(found, "invariant: lease {id} was found");
        self.changes.push(LeaseChange::Revoked { id, expired });
    }
}
