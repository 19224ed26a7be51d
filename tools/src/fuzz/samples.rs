//! Valid things that targets begin with: requests of every kind, and stores that have applied them.

use bytes::Bytes;
use prost::Message;
use urd::api::Method;
use urd::ids::{Index, Term};
use urd::store::command::{
    Batch, BatchBuilder, Command, Kind, LeaseCheckpoints, LeaseExpiry, MemberAdd,
};
use urd::store::v2::{self, Action, Expiry};
use urd::store::{Store, TreeHash, View};
use urd_proto::etcdserverpb::compare::TargetUnion;
use urd_proto::etcdserverpb::request_op::Request;
use urd_proto::etcdserverpb::watch_request::RequestUnion;
use urd_proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, LeaseCheckpoint,
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, Member,
    MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest, MoveLeaderRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
};

/// The members of every sample cluster: voters 1 to 3.
pub fn members() -> Vec<Member> {
    let member = |id: u64| Member {
        id,
        name: format!("m{id}"),
        peer_ur_ls: vec![format!("http://127.0.0.1:{}", 2380 + id)],
        ..Member::default()
    };
    (1..=3).map(member).collect()
}

/// A put.
pub fn put(key: &str, value: &[u8], lease: i64) -> PutRequest {
    PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value),
        lease,
        ..PutRequest::default()
    }
}

fn range(key: &'static str, range_end: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), range_end: range_end.into(), ..RangeRequest::default() }
}

fn delete(key: &'static str, range_end: &'static str) -> DeleteRangeRequest {
    let (key, range_end) = (key.into(), range_end.into());
    DeleteRangeRequest { key, range_end, prev_kv: true }
}

/// Compares of every target, operations of every kind, and a transaction within it.
pub fn txn() -> TxnRequest {
    let compare = |target: i32, union| Compare {
        target,
        key: "a".into(),
        target_union: Some(union),
        ..Compare::default()
    };
    let op = |request| RequestOp { request: Some(request) };
    let nested = TxnRequest {
        success: vec![op(Request::RequestPut(put("n", b"nested", 0)))],
        ..TxnRequest::default()
    };
    TxnRequest {
        compare: vec![
            compare(0, TargetUnion::Version(1)),
            compare(1, TargetUnion::CreateRevision(2)),
            compare(2, TargetUnion::ModRevision(2)),
            compare(3, TargetUnion::Value("v".into())),
            compare(4, TargetUnion::Lease(0)),
        ],
        success: vec![
            op(Request::RequestRange(range("a", "z"))),
            op(Request::RequestPut(put("b", b"w", 0))),
            op(Request::RequestDeleteRange(delete("c", "d"))),
            op(Request::RequestTxn(nested.clone())),
        ],
        failure: vec![op(Request::RequestTxn(nested)), op(Request::RequestPut(put("e", b"", 7)))],
    }
}

/// Commands of every kind that need no entry of their own.
pub fn commands() -> Vec<Command> {
    vec![
        Command::Put(put("a", b"v", 0)),
        Command::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 60 }),
        Command::Put(put("leased", b"x", 7)),
        Command::Put(PutRequest { ignore_value: true, prev_kv: true, ..put("a", b"", 0) }),
        Command::Put(PutRequest { ignore_lease: true, ..put("leased", b"y", 0) }),
        Command::Txn(txn()),
        Command::DeleteRange(delete("a", "\0")),
        Command::Put(put("a", &[b'l'; 3000], 7)),
        Command::LeaseCheckpoints(LeaseCheckpoints {
            as_of: 2,
            checkpoints: vec![LeaseCheckpoint { id: 7, remaining_ttl: 30 }],
        }),
        Command::Alarm(AlarmRequest { action: 1, member_id: 1, alarm: 1 }),
        Command::Alarm(AlarmRequest { action: 2, member_id: 1, alarm: 1 }),
        Command::Compaction(CompactionRequest { revision: 3, physical: true }),
        Command::LeaseExpiry(LeaseExpiry { as_of: 9, leases: vec![7, 8] }),
        Command::LeaseGrant(LeaseGrantRequest { id: -1, ttl: i64::MAX }),
        Command::LeaseRevoke(LeaseRevokeRequest { id: -1 }),
        Command::MemberUpdate(MemberUpdateRequest {
            id: 2,
            peer_ur_ls: vec!["http://127.0.0.1:9".to_owned()],
        }),
        Command::MemberPublish(Member { id: 3, name: "third".to_owned(), ..Member::default() }),
        node("/a/b", Action::Set, Some(2_000_000_000_000_000_000)),
        node("/q", Action::CreateInOrder, None),
        node("/a", Action::Update, None),
        node("/a/b", Action::CompareAndSwap, None),
        node("/a/b", Action::Delete, None),
        Command::V2Expiry(Expiry { cutoff: i64::MAX, nodes_max: 10, history: 3 }),
    ]
}

fn node(path: &str, action: Action, expiration: Option<i64>) -> Command {
    Command::V2(v2::Request {
        action: action.into(),
        path: path.to_owned(),
        value: "v".into(),
        expiration,
        now: 1_700_000_000_000_000_000,
        history: 3,
        ..v2::Request::default()
    })
}

/// Commands that have an entry of their own.
pub fn changes() -> Vec<Command> {
    let add = MemberAdd {
        id: 9,
        peer_urls: vec!["http://127.0.0.1:2389".to_owned()],
        is_learner: true,
        learners_max: 1,
    };
    vec![
        Command::MemberAdd(add),
        Command::MemberPromote(MemberPromoteRequest { id: 9 }),
        Command::MemberRemove(MemberRemoveRequest { id: 9 }),
    ]
}

/// A batch of these.
pub fn batch(commands: &[Command]) -> Bytes {
    let mut batch = BatchBuilder::default();
    commands.iter().for_each(|command| batch.append_command(command));
    batch.finish()
}

/// The store of a new cluster.
pub fn first_store() -> Store {
    let mut store = Store::new();
    store.bootstrap(&members());
    store
}

/// Applies the commands in one entry more.
pub fn apply(store: &mut Store, commands: &[Command]) {
    let batch = Batch::decode(batch(commands)).expect("a batch of ours");
    store.apply(store.applied().next(), store.term().max(Term(2)), &batch);
    store.publish();
}

/// Gives an empty store a bit of everything: history, long keys and values, leases, several levels of the tree.
pub fn fill(store: &mut Store, entries: usize) {
    store.bootstrap(&members());
    apply(store, &[Command::LeaseGrant(LeaseGrantRequest { id: 5, ttl: 60 })]);
    for nth in 0..entries {
        let key = if nth % 17 == 0 { "k".repeat(1500) } else { format!("key {nth:04}") };
        let value = vec![b'v'; if nth % 13 == 0 { 5000 } else { 20 + nth % 50 }];
        let lease = if nth % 5 == 0 { 5 } else { 0 };
        apply(store, &[Command::Put(put(&key, &value, lease))]);
    }
    for command in commands() {
        apply(store, &[command]);
    }
    for change in changes() {
        apply(store, &[change]);
    }
}

/// Everything that a view holds, in numbers that differ when anything does.
pub fn digest(view: &View) -> (Index, u32) {
    let hash = TreeHash::new(view.clone()).step(usize::MAX);
    (view.applied(), hash.expect("the budget is unbounded"))
}

/// A call of each unary method, valid as it is.
pub fn calls() -> Vec<(Method, Vec<u8>)> {
    let urls = || vec!["http://127.0.0.1:2389".to_owned()];
    vec![
        (Method::Range, range("a", "z").encode_to_vec()),
        (Method::Range, RangeRequest { serializable: true, ..range("a", "\0") }.encode_to_vec()),
        (Method::RangeStream, range("\0", "\0").encode_to_vec()),
        (Method::Put, put("a", b"v", 0).encode_to_vec()),
        (Method::Put, PutRequest { prev_kv: true, ..put("key 0003", b"w", 5) }.encode_to_vec()),
        (Method::DeleteRange, delete("a", "c").encode_to_vec()),
        (Method::Txn, txn().encode_to_vec()),
        (
            Method::Txn,
            TxnRequest {
                success: vec![RequestOp { request: Some(Request::RequestRange(range("a", "z"))) }],
                ..TxnRequest::default()
            }
            .encode_to_vec(),
        ),
        (Method::Compact, CompactionRequest { revision: 5, physical: false }.encode_to_vec()),
        (Method::Compact, CompactionRequest { revision: 6, physical: true }.encode_to_vec()),
        (Method::LeaseGrant, LeaseGrantRequest { id: 0, ttl: 10 }.encode_to_vec()),
        (Method::LeaseGrant, LeaseGrantRequest { id: 12, ttl: 10 }.encode_to_vec()),
        (Method::LeaseRevoke, LeaseRevokeRequest { id: 5 }.encode_to_vec()),
        (Method::LeaseTimeToLive, LeaseTimeToLiveRequest { id: 5, keys: true }.encode_to_vec()),
        (Method::LeaseLeases, Vec::new()),
        (
            Method::MemberAdd,
            MemberAddRequest { peer_ur_ls: urls(), is_learner: true }.encode_to_vec(),
        ),
        (Method::MemberRemove, MemberRemoveRequest { id: 3 }.encode_to_vec()),
        (Method::MemberUpdate, MemberUpdateRequest { id: 3, peer_ur_ls: urls() }.encode_to_vec()),
        (Method::MemberPromote, MemberPromoteRequest { id: 3 }.encode_to_vec()),
        (Method::MemberList, MemberListRequest { linearizable: true }.encode_to_vec()),
        (Method::Alarm, AlarmRequest { action: 0, member_id: 0, alarm: 0 }.encode_to_vec()),
        (Method::Alarm, AlarmRequest { action: 1, member_id: 1, alarm: 1 }.encode_to_vec()),
        (Method::Defragment, Vec::new()),
        (Method::Status, Vec::new()),
        (Method::Hash, Vec::new()),
        (Method::HashKv, HashKvRequest { revision: 9 }.encode_to_vec()),
        (Method::MoveLeader, MoveLeaderRequest { target_id: 2 }.encode_to_vec()),
        (Method::HealthCheck, Vec::new()),
        (Method::HealthWatch, Vec::new()),
    ]
}

/// The requests of the methods that stream them.
pub fn streams() -> Vec<(Method, Vec<Vec<u8>>)> {
    let watch = |request| WatchRequest { request_union: Some(request) }.encode_to_vec();
    let create = WatchCreateRequest {
        key: "a".into(),
        range_end: "z".into(),
        start_revision: 2,
        progress_notify: true,
        filters: vec![1],
        prev_kv: true,
        fragment: true,
        ..WatchCreateRequest::default()
    };
    let all = WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        watch_id: 9,
        start_revision: 1,
        ..WatchCreateRequest::default()
    };
    vec![
        (
            Method::Watch,
            vec![
                watch(RequestUnion::CreateRequest(create)),
                watch(RequestUnion::CreateRequest(all)),
                watch(RequestUnion::ProgressRequest(WatchProgressRequest {})),
                watch(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 9 })),
            ],
        ),
        (
            Method::LeaseKeepAlive,
            vec![
                LeaseKeepAliveRequest { id: 5 }.encode_to_vec(),
                LeaseKeepAliveRequest { id: 6 }.encode_to_vec(),
            ],
        ),
    ]
}

/// Of a command's kind, by number.
pub fn kinds() -> Vec<u8> {
    (1..=Kind::MemberPublish as u8).collect()
}
