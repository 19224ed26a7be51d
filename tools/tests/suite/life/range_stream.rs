//! RangeStream, which etcd has since 3.7: its chunks, merged, are what Range answers.

use urd_proto::etcdserverpb as pb;

use crate::harness::grpc::{prefix_request, put_request};
use crate::harness::{Client, Program, Server, only_urd};

const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";

#[tokio::test]
async fn chunks_merge_to_what_range_answers() {
    if only_urd("3.4 has no RangeStream") {
        return;
    }
    let server = Server::start_fresh(Program::Subject);
    let mut client = Client::connect(&server.endpoint()).await;
    for number in 0..200 {
        // From empty to 64 KiB: some chunks hold many pairs, some few.
        let value = vec![b'x'; number % 5 * 16 * 1024];
        client.put(put_request(&format!("stream/{number:03}"), &value)).await.expect("put");
    }
    let all = prefix_request("stream/");
    let requests = [
        all.clone(),
        pb::RangeRequest { limit: 7, ..all.clone() },
        pb::RangeRequest { limit: 200, ..all.clone() },
        pb::RangeRequest { keys_only: true, ..all.clone() },
        pb::RangeRequest { count_only: true, ..all.clone() },
        pb::RangeRequest { revision: 100, serializable: true, ..all.clone() },
        prefix_request("nothing"),
    ];
    for request in requests {
        let expected = client.range(request.clone()).await.expect("range");
        let chunks: Vec<pb::RangeStreamResponse> =
            client.collect(RANGE_STREAM, request.clone()).await.expect("range stream");
        println!("{} chunks for {} pairs", chunks.len(), expected.kvs.len());
        assert_eq!(merge(chunks), expected, "{request:?}");
    }
    let future = pb::RangeRequest { revision: 1_000_000, ..all };
    let status = client
        .collect::<_, pb::RangeStreamResponse>(RANGE_STREAM, future)
        .await
        .expect_err("a future revision");
    assert_eq!(status.message(), "etcdserver: mvcc: required revision is a future revision");
}

/// The pairs of all chunks; header, count and `more` come with the last and only with it.
fn merge(chunks: Vec<pb::RangeStreamResponse>) -> pb::RangeResponse {
    let mut merged = pb::RangeResponse::default();
    for chunk in chunks {
        let part = chunk.range_response.expect("every chunk holds a range response");
        assert!(merged.header.is_none(), "a chunk after the one with the header");
        merged.kvs.extend(part.kvs);
        (merged.header, merged.more, merged.count) = (part.header, part.more, part.count);
    }
    merged
}
