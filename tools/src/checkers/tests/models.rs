//! The model against what etcd is known to do.

use bytes::Bytes;
use urd_proto::etcdserverpb::request_op::Request as Op;
use urd_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
    RangeRequest, RangeResponse, RequestOp, TxnRequest,
};

use crate::checkers::execute::{Executed, Refusal, State};
use crate::checkers::history::{Request, Response, Timeline};
use crate::checkers::model::Model;

fn put(key: &str, value: &str) -> PutRequest {
    let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
    PutRequest { key, value, ..PutRequest::default() }
}

fn all() -> RangeRequest {
    RangeRequest { key: "a".into(), range_end: Bytes::from_static(&[0]), ..RangeRequest::default() }
}

fn range(model: &Model, request: RangeRequest) -> RangeResponse {
    match model.execute(&Request::Range(request)).unwrap().response {
        Response::Range(response) => response,
        other => panic!("{other:?}"),
    }
}

fn keys(response: &RangeResponse) -> Vec<&[u8]> {
    response.kvs.iter().map(|kv| &kv.key[..]).collect()
}

fn run(model: &mut Model, request: Request) -> Executed {
    model.run(&request).unwrap()
}

/// a = 3, b = 2 (put twice), c = 1.
fn three() -> Model {
    let mut model = Model::with_leases();
    for (key, value) in [("a", "3"), ("b", "9"), ("c", "1"), ("b", "2")] {
        run(&mut model, Request::Put(put(key, value)));
    }
    model
}

#[test]
fn versions_begin_anew_after_a_deletion() {
    let mut model = three();
    let kv =
        range(&model, RangeRequest { key: "b".into(), ..RangeRequest::default() }).kvs.remove(0);
    assert_eq!((kv.version, kv.create_revision, kv.mod_revision), (2, 3, 5));
    let delete = DeleteRangeRequest { key: "b".into(), prev_kv: true, ..Default::default() };
    let executed = run(&mut model, Request::DeleteRange(delete.clone()));
    assert_eq!(executed.events[0].prev_kv, Some(kv));
    assert!(run(&mut model, Request::DeleteRange(delete)).events.is_empty());
    let executed = run(&mut model, Request::Put(put("b", "new")));
    let kv = executed.events[0].kv.clone().unwrap();
    assert_eq!((kv.version, kv.create_revision, kv.mod_revision), (1, 7, 7));
    assert_eq!(model.find(b"b", 5).unwrap().value, "2");
    assert_eq!(model.find(b"b", 6), None);
}

#[test]
fn ranges_are_sorted_filtered_and_cut() {
    let model = three();
    let by = |sort_target: i32, sort_order: i32, limit: i64| {
        range(&model, RangeRequest { sort_target, sort_order, limit, ..all() })
    };
    assert_eq!(keys(&by(0, 2, 2)), [b"c", b"b"]);
    assert_eq!(keys(&by(4, 1, 0)), [b"c", b"b", b"a"]);
    assert_eq!(keys(&by(3, 2, 1)), [b"b"]);
    // Without an order only the first `limit + 1` keys are sorted.
    assert_eq!(keys(&by(4, 0, 1)), [b"b"]);
    let cut = by(0, 0, 2);
    assert_eq!((keys(&cut), cut.count, cut.more), (vec![&b"a"[..], b"b"], 3, true));
    let filtered = range(&model, RangeRequest { min_mod_revision: 4, ..all() });
    assert_eq!((keys(&filtered), filtered.count), (vec![&b"b"[..], b"c"], 3));
    let counted = range(&model, RangeRequest { count_only: true, limit: 1, ..all() });
    assert_eq!((counted.kvs.len(), counted.count, counted.more), (0, 3, false));
    let bare =
        range(&model, RangeRequest { keys_only: true, sort_target: 4, sort_order: 1, ..all() });
    assert_eq!((keys(&bare), bare.kvs[0].value.len()), (vec![&b"c"[..], b"b", b"a"], 0));
    assert_eq!(keys(&range(&model, RangeRequest { revision: 2, ..all() })), [b"a"]);
}

#[test]
fn transactions_have_one_revision_and_see_themselves() {
    let mut model = three();
    let op = |request| RequestOp { request: Some(request) };
    let txn = TxnRequest {
        success: vec![
            op(Op::RequestPut(put("x", "1"))),
            op(Op::RequestPut(put("a", "4"))),
            op(Op::RequestRange(all())),
        ],
        ..TxnRequest::default()
    };
    let executed = run(&mut model, Request::Txn(txn));
    assert_eq!((executed.events.len(), model.revision()), (2, 6));
    let Response::Txn(response) = executed.response else { panic!("a txn's response") };
    let mut kvs = Vec::new();
    Response::Txn(response).for_each_key_value(&mut |kv| kvs.push(kv.clone()));
    assert_eq!(kvs.iter().map(|kv| kv.mod_revision).collect::<Vec<_>>(), [6, 5, 4, 6]);
}

#[test]
fn leases_take_their_keys_along() {
    let mut model = three();
    let with = |key: &str, lease| Request::Put(PutRequest { lease, ..put(key, "leased") });
    assert_eq!(model.run(&with("a", 7)), Err(Refusal::LeaseNotFound));
    let grant = Request::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 9 });
    run(&mut model, grant.clone());
    assert_eq!(model.run(&grant), Err(Refusal::LeaseExists));
    run(&mut model, with("b", 7));
    run(&mut model, with("a", 7));
    run(&mut model, with("x", 7));
    run(&mut model, Request::Put(put("x", "free")));
    let kept = PutRequest { ignore_lease: true, ..put("a", "kept") };
    run(&mut model, Request::Put(kept));
    let executed = run(&mut model, Request::LeaseRevoke(LeaseRevokeRequest { id: 7 }));
    let deleted: Vec<_> =
        executed.events.iter().map(|event| event.kv.clone().unwrap().key).collect();
    assert_eq!(deleted, ["a", "b"]);
    assert_eq!(model.run(&with("a", 7)), Err(Refusal::LeaseNotFound));
    assert!(!model.is_attached(7, model.revision()) && model.is_attached(7, 7));
}

#[test]
fn refusals_are_etcds() {
    let mut model = three();
    let compact = |revision| Request::Compaction(CompactionRequest { revision, physical: false });
    assert_eq!(model.run(&compact(6)), Err(Refusal::FutureRevision));
    run(&mut model, compact(4));
    assert_eq!(model.run(&compact(4)), Err(Refusal::Compacted));
    let at = |revision| Request::Range(RangeRequest { revision, ..all() });
    assert_eq!(model.execute(&at(3)), Err(Refusal::Compacted));
    assert_eq!(model.execute(&at(6)), Err(Refusal::FutureRevision));
    assert!(model.execute(&at(4)).is_ok());
    let ignore = Request::Put(PutRequest { ignore_value: true, ..put("none", "") });
    assert_eq!(model.run(&ignore), Err(Refusal::KeyNotFound));
}

#[test]
fn timelines_have_no_gaps() {
    let mut model = three();
    let event = |model: &mut Model| run(model, Request::Put(put("a", "x"))).events;
    let (sixth, seventh) = (event(&mut model), event(&mut model));
    assert!(Timeline::new([(6, sixth.clone())]).is_err(), "it does not begin at 2");
    assert!(Timeline::new([(2, sixth.clone())]).is_err(), "the event is another revision's");
    assert!(Timeline::new([(2, Vec::new())]).is_err());
    assert!(Timeline::of_events(sixth.into_iter().chain(seventh)).is_err());
}
