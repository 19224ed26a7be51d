//! Random requests from a seed: every field of every KV request, on so few keys that they meet.
//!
//! The generator follows the answers (revision, compacted revision), so that most revisions it asks for exist, some are
//! compacted and some are yet to come. What it never produces, and why, stands in the table at the head of `mod.rs`.

use bytes::Bytes;
use fastrand::Rng;
use urd_proto::etcdserverpb as pb;
use urd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use urd_proto::etcdserverpb::request_op::Request;

use super::Message;

/// One request.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    HashKv(pb::HashKvRequest),
    LeaseGrant(pb::LeaseGrantRequest),
    LeaseRevoke(pb::LeaseRevokeRequest),
    LeaseTimeToLive(pb::LeaseTimeToLiveRequest),
    LeaseLeases(pb::LeaseLeasesRequest),
    LeaseKeepAlive(pb::LeaseKeepAliveRequest),
}

/// Few, in each other's way: prefixes of each other, with the smallest and the largest byte.
const KEYS: &[&[u8]] = &[
    b"\0",
    b"\0\0",
    b"a",
    b"a\0",
    b"a\0\0",
    b"a\xff",
    b"a\xff\xff",
    b"aa",
    b"ab",
    b"b",
    b"b/1",
    b"b/2",
    b"b/3",
    b"b0",
    b"c",
    b"key",
    b"key with spaces",
    b"\x7f",
    b"\x80",
    b"\xfe",
    b"\xff",
    b"\xff\0",
    b"\xff\xff",
];

/// Chosen by the client, so that both servers' are the same. Few, so that they are taken, and revoked, often.
const LEASES: &[i64] = &[1, 2, 3, 4, i64::MAX, -1, i64::MIN];
/// Long enough that none expires while a seed runs.
const TTL: i64 = 100_000;

const VALUES: &[&[u8]] =
    &[b"", b"0", b"1", b"10", b"2", b"\0", b"\xff", b"a longer value, \xc3\xa4 and more of it"];

/// How deep transactions nest.
const DEPTH_MAX: usize = 3;

/// What a transaction may hold besides what is always allowed; see `mod.rs` for the pair that ends etcd.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flavour {
    /// Puts may ask for the value or lease that is there; deletes end before the end of the key space.
    Ignoring,
    /// Deletes may run to the end of the key space.
    Sweeping,
}

pub(crate) struct Generator {
    rng: Rng,
    revision: i64,
    compacted: i64,
    /// Counts puts, so that values differ.
    puts: u64,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Generator { rng: Rng::with_seed(seed), revision: 1, compacted: 0, puts: 0 }
    }

    /// Takes revisions from an answer.
    pub(crate) fn learn(&mut self, operation: &Operation, answer: &super::Answer) {
        let Ok(message) = answer else { return };
        let header = match message {
            Message::Range(message) => &message.header,
            Message::Put(message) => &message.header,
            Message::DeleteRange(message) => &message.header,
            Message::Txn(message) => &message.header,
            Message::Compact(message) => &message.header,
            Message::HashKv(message) => &message.header,
            Message::LeaseGrant(message) => &message.header,
            Message::LeaseRevoke(message) => &message.header,
            Message::LeaseTimeToLive(message) => &message.header,
            Message::LeaseLeases(message) => &message.header,
            // Its revision is that of some time before the answer.
            Message::LeaseKeepAlive(_) => return,
        };
        let header = header.as_ref().expect("every answer has a header");
        assert!(header.revision >= self.revision, "the revision went back: {message:?}");
        self.revision = header.revision;
        if let Operation::Compact(request) = operation {
            self.compacted = self.compacted.max(request.revision);
        }
    }

    pub(crate) fn operation(&mut self) -> Operation {
        match self.rng.u32(0..100) {
            0..=31 => Operation::Range(self.range()),
            32..=37 => self.lease_operation(),
            38..=62 => Operation::Put(self.put(Flavour::Ignoring)),
            63..=71 => Operation::DeleteRange(self.delete_range(Flavour::Sweeping)),
            72..=95 => {
                let flavour = if self.one_in(8) { Flavour::Sweeping } else { Flavour::Ignoring };
                Operation::Txn(self.txn(1, flavour))
            }
            96..=97 => Operation::Compact(self.compact()),
            _ => Operation::HashKv(self.hash_kv()),
        }
    }

    fn range(&mut self) -> pb::RangeRequest {
        let key = self.key();
        let range_end = self.range_end(&key);
        pb::RangeRequest {
            key,
            range_end,
            limit: if self.one_in(3) { self.rng.i64(-1..8) } else { 0 },
            revision: self.revision_to_read(),
            sort_order: if self.one_in(2) { self.rng.i32(0..3) } else { 0 },
            sort_target: if self.one_in(2) { self.rng.i32(0..5) } else { 0 },
            serializable: self.one_in(3),
            keys_only: self.one_in(5),
            count_only: self.one_in(8),
            min_mod_revision: self.filter(),
            max_mod_revision: self.filter(),
            min_create_revision: self.filter(),
            max_create_revision: self.filter(),
        }
    }

    fn put(&mut self, flavour: Flavour) -> pb::PutRequest {
        let ignore_value = flavour == Flavour::Ignoring && self.one_in(10);
        let ignore_lease = flavour == Flavour::Ignoring && self.one_in(10);
        // Now and then both, which is refused.
        let value = if ignore_value && !self.one_in(5) { Bytes::new() } else { self.value() };
        let lease = if ignore_lease && !self.one_in(5) { 0 } else { self.lease() };
        pb::PutRequest {
            key: self.key(),
            value,
            lease,
            prev_kv: self.one_in(3),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete_range(&mut self, flavour: Flavour) -> pb::DeleteRangeRequest {
        let key = self.key();
        let range_end = match flavour {
            Flavour::Sweeping if self.one_in(12) => Bytes::from_static(b"\0"),
            Flavour::Sweeping => self.range_end_narrow(&key),
            Flavour::Ignoring => {
                let end = self.range_end_narrow(&key);
                // An inverted or endless range escapes etcd's check for keys both put and deleted.
                if end.is_empty() || end > key { end } else { Bytes::new() }
            }
        };
        pb::DeleteRangeRequest { key, range_end, prev_kv: self.one_in(2) }
    }

    fn txn(&mut self, depth: usize, flavour: Flavour) -> pb::TxnRequest {
        let compares = self.rng.usize(0..3);
        let compare = (0..compares).map(|_| self.compare()).collect();
        let success = self.operations(depth, flavour);
        let failure = self.operations(depth, flavour);
        pb::TxnRequest { compare, success, failure }
    }

    fn operations(&mut self, depth: usize, flavour: Flavour) -> Vec<pb::RequestOp> {
        let count = if self.one_in(60) { self.rng.usize(120..132) } else { self.rng.usize(0..4) };
        // Many operations: ranges only, for puts on so few keys would collide.
        let only_ranges = count > 100;
        (0..count)
            .map(|_| {
                let request = match self.rng.u32(0..100) {
                    _ if only_ranges => Some(Request::RequestRange(self.range())),
                    0..=39 => Some(Request::RequestPut(self.put(flavour))),
                    40..=64 => Some(Request::RequestRange(self.range())),
                    65..=79 => Some(Request::RequestDeleteRange(self.delete_range(flavour))),
                    80..=98 if depth < DEPTH_MAX => {
                        Some(Request::RequestTxn(self.txn(depth + 1, flavour)))
                    }
                    80..=98 => Some(Request::RequestRange(self.range())),
                    _ => None,
                };
                pb::RequestOp { request }
            })
            .collect()
    }

    fn compare(&mut self) -> pb::Compare {
        let key = self.key();
        let range_end = if self.one_in(4) { self.range_end(&key) } else { Bytes::new() };
        let target = self.rng.i32(0..5);
        // Now and then the value of another target, or none: both read as zero.
        let value_of = if self.one_in(15) { self.rng.i32(0..6) } else { target };
        let target_union = match CompareTarget::try_from(value_of) {
            Ok(CompareTarget::Version) => Some(TargetUnion::Version(self.rng.i64(0..4))),
            Ok(CompareTarget::Create) => Some(TargetUnion::CreateRevision(self.revision_near())),
            Ok(CompareTarget::Mod) => Some(TargetUnion::ModRevision(self.revision_near())),
            Ok(CompareTarget::Value) => Some(TargetUnion::Value(self.value_plain())),
            Ok(CompareTarget::Lease) => Some(TargetUnion::Lease(self.lease())),
            Err(_) => None,
        };
        let result = if self.one_in(50) { 4 } else { self.rng.i32(0..4) };
        debug_assert!(CompareResult::try_from(3).is_ok() && CompareResult::try_from(4).is_err());
        pb::Compare { result, target, key, range_end, target_union }
    }

    fn compact(&mut self) -> pb::CompactionRequest {
        let revision = match self.rng.u32(0..10) {
            0 => self.revision + self.rng.i64(1..100),
            1 => self.rng.i64(1..self.compacted.max(1) + 1),
            2 => self.revision,
            3 => self.rng.i64(-2..1),
            _ => self.compacted + self.rng.i64(0..(self.revision - self.compacted).max(1)),
        };
        pb::CompactionRequest { revision, physical: self.one_in(2) }
    }

    fn hash_kv(&mut self) -> pb::HashKvRequest {
        let revision = match self.rng.u32(0..6) {
            0 => self.revision + self.rng.i64(1..100),
            1 if self.compacted > 1 => self.rng.i64(1..self.compacted),
            2 | 3 if self.revision > self.compacted => {
                self.rng.i64(self.compacted + 1..self.revision + 1)
            }
            _ => 0,
        };
        pb::HashKvRequest { revision }
    }

    fn key(&mut self) -> Bytes {
        if self.one_in(100) { Bytes::new() } else { Bytes::from_static(self.pick(KEYS)) }
    }

    fn value(&mut self) -> Bytes {
        self.puts += 1;
        if self.one_in(2) { format!("value {}", self.puts).into() } else { self.value_plain() }
    }

    fn value_plain(&mut self) -> Bytes {
        Bytes::from_static(self.pick(VALUES))
    }

    /// Mostly none. Of the others most are granted most of the time.
    fn lease(&mut self) -> i64 {
        if self.one_in(4) { self.some_lease() } else { 0 }
    }

    fn some_lease(&mut self) -> i64 {
        if self.one_in(10) { self.rng.i64(5..50) } else { LEASES[self.rng.usize(..LEASES.len())] }
    }

    fn lease_operation(&mut self) -> Operation {
        let id = self.some_lease();
        match self.rng.u32(0..20) {
            0..=7 => {
                let ttl = if self.one_in(20) { i64::MAX } else { TTL + self.rng.i64(0..1000) };
                Operation::LeaseGrant(pb::LeaseGrantRequest { id, ttl })
            }
            8..=11 => Operation::LeaseRevoke(pb::LeaseRevokeRequest { id }),
            12..=15 => {
                Operation::LeaseTimeToLive(pb::LeaseTimeToLiveRequest { id, keys: self.rng.bool() })
            }
            16 | 17 => Operation::LeaseKeepAlive(pb::LeaseKeepAliveRequest { id }),
            _ => Operation::LeaseLeases(pb::LeaseLeasesRequest {}),
        }
    }

    /// None, endless, a prefix, or any key: equal and inverted ranges come by themselves.
    fn range_end(&mut self, key: &Bytes) -> Bytes {
        if self.one_in(4) { Bytes::from_static(b"\0") } else { self.range_end_narrow(key) }
    }

    fn range_end_narrow(&mut self, key: &Bytes) -> Bytes {
        match self.rng.u32(0..4) {
            0 | 1 => Bytes::new(),
            2 => prefix_end(key),
            _ => Bytes::from_static(self.pick(KEYS)),
        }
    }

    /// Zero half the time; of the rest most exist, some are compacted, future or negative.
    fn revision_to_read(&mut self) -> i64 {
        match self.rng.u32(0..20) {
            0..=11 => 0,
            12 => self.revision + self.rng.i64(1..20),
            13 => self.rng.i64(0..self.compacted + 1),
            14 if self.one_in(4) => self.rng.i64(-3..0),
            _ => self.rng.i64(self.compacted..self.revision + 1),
        }
    }

    fn revision_near(&mut self) -> i64 {
        if self.one_in(3) { 0 } else { (self.revision - self.rng.i64(0..40)).max(0) }
    }

    fn filter(&mut self) -> i64 {
        if self.one_in(8) { (self.revision - self.rng.i64(0..60)).max(0) } else { 0 }
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.rng.u32(0..count) == 0
    }

    fn pick(&mut self, items: &[&'static [u8]]) -> &'static [u8] {
        self.rng.choice(items).expect("the tables are not empty")
    }
}

/// The first key after all that start with `key`; "\0", the end of the key space, where there is none.
fn prefix_end(key: &[u8]) -> Bytes {
    let mut end = key.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}

#[test]
fn ends_prefixes_as_clients_do() {
    assert_eq!(prefix_end(b"a"), "b");
    assert_eq!(&prefix_end(b"a\xff")[..], b"b");
    assert_eq!(&prefix_end(b"\xff\xff")[..], b"\0");
}

#[test]
fn one_seed_gives_one_sequence() {
    let requests = |seed| {
        let mut generator = Generator::new(seed);
        (0..200).map(|_| format!("{:?}", generator.operation())).collect::<Vec<_>>()
    };
    assert_eq!(requests(7), requests(7));
    assert_ne!(requests(7), requests(8));
}
