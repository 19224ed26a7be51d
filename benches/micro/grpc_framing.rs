//! gRPC framing of answers: encoding a message and putting its head before it.
//!
//! The way in is private to `net` and measured by whole servers only.

use bytes::Bytes;
use urd::api::Encoded;
use urd_benches::micro::{Hash, Micro};
use urd_proto::etcdserverpb::{PutResponse, RangeResponse, ResponseHeader};
use urd_proto::mvccpb::KeyValue;

/// Frames at either end that go into the hash; each in full would cost more than what is measured.
const HEAD_HASHED_BYTES: usize = 16;

fn main() {
    let micro = Micro::from_arguments();
    let header = |revision: u64| ResponseHeader {
        cluster_id: 0x0123_4567_89ab_cdef,
        member_id: 0xfedc_ba98_7654_3210,
        revision: revision.cast_signed(),
        raft_term: 2,
    };
    let put = |nth| PutResponse { header: Some(header(nth)), ..PutResponse::default() };
    micro.run("gRPC frame of a put's answer", 5_000_000, |_| (), |(), n| frames(n, put));

    let kv = KeyValue {
        key: Bytes::from_static(b"benchkey"),
        value: vec![7; 256].into(),
        ..KeyValue::default()
    };
    let range = |nth| RangeResponse {
        header: Some(header(nth)),
        kvs: vec![kv.clone()],
        count: 1,
        more: false,
    };
    micro.run("gRPC frame of a range's answer", 5_000_000, |_| (), |(), n| frames(n, range));
}

fn frames<M: prost::Message>(operations: u64, message: impl Fn(u64) -> M) -> u64 {
    let mut hash = Hash::default();
    for nth in 0..operations {
        let mut encoded = Encoded::new(&message(nth));
        let frame = encoded.frame().expect("invariant: it is small");
        hash.add(&frame[..HEAD_HASHED_BYTES]);
        hash.add_number(frame.len() as u64);
    }
    hash.finish()
}
