//! Leases that end in time, and too early.

use urd_proto::etcdserverpb::PutRequest;

use crate::checkers::history::{Request, Timeline};
use crate::checkers::leases::{LeaseRecord, check};
use crate::checkers::model::Model;

const SECOND: u64 = 1_000_000_000;

#[test]
fn early_ends_are_seen() {
    let mut model = Model::new();
    let put = PutRequest { key: "a".into(), lease: 7, ..PutRequest::default() };
    let put = model.run(&Request::Put(put)).unwrap().events;
    let end = model.expire(7);
    let timeline = Timeline::new([(2, put), (3, end)]).unwrap();
    let record =
        LeaseRecord { id: 7, renewals: vec![(SECOND, 5), (3 * SECOND, 5)], revoked: false };
    let at = |seen: u64| move |revision| (revision == 3).then_some(seen);
    check(std::slice::from_ref(&record), &timeline, at(8 * SECOND)).unwrap();
    let violation =
        check(std::slice::from_ref(&record), &timeline, at(8 * SECOND - 1)).unwrap_err();
    assert!(violation.text.contains("lease 7 ended too early: a"), "{violation}");
    let revoked = LeaseRecord { revoked: true, ..record };
    check(&[revoked], &timeline, at(4 * SECOND)).unwrap();
    check(&[], &timeline, at(0)).expect("it is nobody's");
}
