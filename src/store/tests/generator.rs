//! Random requests from a seed: few keys, so that they meet; odd ones, so that encodings are tried.

use bytes::Bytes;
use fastrand::Rng;
use urd_proto::etcdserverpb::compare::TargetUnion;
use urd_proto::etcdserverpb::request_op::Request;
use urd_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseCheckpoint, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use crate::store::command::{Command, LeaseCheckpoints, LeaseExpiry};

/// Keys that are each other's prefixes, hold zeros and the highest byte, or are long.
fn keys() -> Vec<Bytes> {
    let mut keys: Vec<Bytes> = ["a", "a\0", "a\0\0", "a\0b", "aa", "ab", "b", "b\u{1}", "c", "\0"]
        .into_iter()
        .map(|key| Bytes::from_static(key.as_bytes()))
        .collect();
    keys.push(Bytes::from_static(b"a\xff"));
    keys.push(Bytes::from_static(b"\xff\xff"));
    keys.push(Bytes::from(vec![b'k'; 1500]));
    keys
}

pub(super) struct Generator {
    rng: Rng,
    keys: Vec<Bytes>,
}

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), keys: keys() }
    }

    pub(super) fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    fn key(&mut self) -> Bytes {
        self.keys[self.rng.usize(..self.keys.len())].clone()
    }

    fn value(&mut self) -> Bytes {
        match self.rng.u8(..20) {
            0 => Bytes::new(),
            1 => Bytes::from(vec![b'v'; 3000]),
            2 => Bytes::from_static(b"\0\xff"),
            _ => Bytes::from(self.rng.u8(..10).to_string()),
        }
    }

    /// One key, two of them in any order, from a key on, or nearly everything.
    fn range_end(&mut self) -> Bytes {
        match self.rng.u8(..4) {
            0 => Bytes::from_static(b"\0"),
            1 => self.key(),
            _ => Bytes::new(),
        }
    }

    /// Mostly the newest; else around what there is, a bit beyond, or negative.
    fn revision(&mut self, newest: i64) -> i64 {
        match self.rng.u8(..10) {
            0..5 => 0,
            5 => self.rng.i64(-2..=newest + 2),
            _ => self.rng.i64(1..=newest),
        }
    }

    /// A bound on revisions: mostly none.
    fn bound(&mut self, newest: i64) -> i64 {
        if self.rng.u8(..8) == 0 { self.rng.i64(0..=newest) } else { 0 }
    }

    pub(super) fn range(&mut self, newest: i64) -> RangeRequest {
        RangeRequest {
            key: self.key(),
            range_end: self.range_end(),
            limit: if self.rng.bool() { 0 } else { self.rng.i64(-1..6) },
            revision: self.revision(newest),
            sort_order: if self.rng.bool() { 0 } else { self.rng.i32(0..3) },
            sort_target: if self.rng.bool() { 0 } else { self.rng.i32(0..5) },
            serializable: self.rng.bool(),
            keys_only: self.rng.u8(..5) == 0,
            count_only: self.rng.u8(..5) == 0,
            min_mod_revision: self.bound(newest),
            max_mod_revision: self.bound(newest),
            min_create_revision: self.bound(newest),
            max_create_revision: self.bound(newest),
        }
    }

    pub(super) fn put(&mut self) -> PutRequest {
        let ignore_value = self.rng.u8(..8) == 0;
        PutRequest {
            key: self.key(),
            value: if ignore_value { Bytes::new() } else { self.value() },
            lease: if self.rng.u8(..3) == 0 { self.lease() } else { 0 },
            prev_kv: self.rng.bool(),
            ignore_value,
            ignore_lease: self.rng.u8(..8) == 0,
        }
    }

    pub(super) fn delete_range(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = (self.key(), self.range_end());
        DeleteRangeRequest { key, range_end, prev_kv: self.rng.bool() }
    }

    /// Mostly one of a few; most of those are granted most of the time.
    fn lease(&mut self) -> i64 {
        match self.rng.u8(..20) {
            0 => self.rng.i64(..),
            1 => i64::MIN,
            2 => -1,
            _ => self.rng.i64(1..4),
        }
    }

    fn lease_command(&mut self, entries: u64) -> Command {
        // Now and then of an entry before the lease was granted.
        let as_of = if self.rng.u8(..4) == 0 { self.rng.u64(..=entries) } else { entries };
        match self.rng.u8(..10) {
            0..5 => Command::LeaseGrant(LeaseGrantRequest {
                id: self.lease(),
                ttl: self.rng.i64(1..100),
            }),
            5..7 => Command::LeaseRevoke(LeaseRevokeRequest { id: self.lease() }),
            7..9 => {
                let checkpoint = |generator: &mut Self| LeaseCheckpoint {
                    id: generator.lease(),
                    remaining_ttl: generator.rng.i64(0..50),
                };
                let checkpoints = (0..3).map(|_| checkpoint(self)).collect();
                Command::LeaseCheckpoints(LeaseCheckpoints { as_of, checkpoints })
            }
            _ => {
                let leases = (0..3).map(|_| self.lease()).collect();
                Command::LeaseExpiry(LeaseExpiry { as_of, leases })
            }
        }
    }

    fn compare(&mut self, newest: i64) -> Compare {
        let number = self.rng.i64(0..4);
        let revision = self.rng.i64(0..=newest);
        let (target, union) = match self.rng.u8(..6) {
            0 => (0, TargetUnion::Version(number)),
            1 => (1, TargetUnion::CreateRevision(revision)),
            2 => (2, TargetUnion::ModRevision(revision)),
            3 => (4, TargetUnion::Lease(number)),
            _ => (3, TargetUnion::Value(self.value())),
        };
        Compare {
            result: self.rng.i32(0..4),
            target,
            key: self.key(),
            range_end: self.range_end(),
            target_union: Some(union),
        }
    }

    /// Some are invalid: keys changed twice, for example.
    pub(super) fn txn(&mut self, newest: i64, depth: usize) -> TxnRequest {
        let compares = self.rng.usize(0..3);
        TxnRequest {
            compare: (0..compares).map(|_| self.compare(newest)).collect(),
            success: self.ops(newest, depth),
            failure: self.ops(newest, depth),
        }
    }

    fn ops(&mut self, newest: i64, depth: usize) -> Vec<RequestOp> {
        let ops = self.rng.usize(0..4);
        let mut op = || match self.rng.u8(..10) {
            0..3 => Request::RequestRange(self.range(newest)),
            3..6 => Request::RequestPut(self.put()),
            6..8 => Request::RequestDeleteRange(self.delete_range()),
            _ if depth > 0 => Request::RequestTxn(self.txn(newest, depth - 1)),
            _ => Request::RequestPut(self.put()),
        };
        (0..ops).map(|_| RequestOp { request: Some(op()) }).collect()
    }

    /// After so many entries, of which the newest made revision `newest`.
    pub(super) fn command(&mut self, newest: i64, entries: u64) -> Command {
        match self.rng.u8(..24) {
            0..8 => Command::Put(self.put()),
            8..11 => Command::DeleteRange(self.delete_range()),
            11..19 => Command::Txn(self.txn(newest, 3)),
            19..23 => self.lease_command(entries),
            _ => {
                let revision = self.rng.i64(-1..=newest + 1);
                Command::Compaction(CompactionRequest { revision, physical: false })
            }
        }
    }
}
