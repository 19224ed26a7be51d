//! Tests of the store as a whole.

use bytes::{Bytes, BytesMut};
use urd_proto::etcdserverpb::{PutRequest, RangeRequest};

use super::command::{Batch, BatchBuilder, Command};
use super::{RangeScan, Response, Step, Store, check};
use crate::ids::{Index, Revision, Term};

#[test]
fn a_put_is_read_back() {
    let mut store = Store::new();
    let mut batch = BatchBuilder::default();
    let put = PutRequest {
        key: Bytes::from_static(b"a\0b"),
        value: Bytes::from_static(b"1"),
        ..PutRequest::default()
    };
    batch.append_command(&Command::Put(put));
    let batch = Batch::decode(batch.finish()).expect("own bytes");
    let outcomes = store.apply(Index(1), Term(1), &batch);
    assert!(matches!(&outcomes[..], [Ok(Response::Put(_))]), "{outcomes:?}");
    let view = store.publish();
    assert_eq!(view.revision(), Revision(2));
    assert_eq!(check(&view), []);

    let request = RangeRequest { key: Bytes::from_static(b"a\0b"), ..RangeRequest::default() };
    let response = view.range(&request).expect("readable");
    assert_eq!((response.kvs.len(), response.count), (1, 1));
    let mut bytes = BytesMut::new();
    let mut scan = RangeScan::new(view, &request).expect("readable");
    assert!(matches!(scan.step(1 << 20, &mut bytes), Step::Done(tail) if tail.count == 1));
}
