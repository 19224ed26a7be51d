//! Leases as their holders see them: in time, across crashes and stops, many at once, and with bad input.

mod crowd;
mod input;
mod life;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use urd_proto::etcdserverpb as pb;

use crate::harness::grpc::put_request;
use crate::harness::{Client, Program, Server};

const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server with a client.
struct Bench {
    server: Server,
    client: Client,
}

impl Bench {
    async fn start(program: Program) -> Bench {
        let server = tokio::task::spawn_blocking(move || Server::start_fresh(program))
            .await
            .expect("a server");
        let client = Client::connect(&server.endpoint()).await;
        Bench { server, client }
    }

    async fn restart(&mut self) {
        self.server.restart();
        self.client = Client::connect(&self.server.endpoint()).await;
    }

    async fn grant(&mut self, id: i64, ttl: i64) {
        let granted = self.client.lease_grant(pb::LeaseGrantRequest { id, ttl }).await;
        assert_eq!(granted.expect("a lease").ttl, ttl);
    }

    async fn put(&mut self, key: &str, lease: i64) {
        let put = pb::PutRequest { lease, ..put_request(key, b"") };
        self.client.put(put).await.expect("put");
    }

    /// Seconds left, -1 without such a lease.
    async fn remaining(&mut self, id: i64) -> i64 {
        let request = pb::LeaseTimeToLiveRequest { id, keys: false };
        self.client.lease_time_to_live(request).await.expect("an answer").ttl
    }

    /// The TTL that one keep-alive is answered with.
    async fn keep_alive(&mut self, id: i64) -> i64 {
        let (requests, mut answers) = keep_alives(&mut self.client).await;
        requests.send(pb::LeaseKeepAliveRequest { id }).expect("the stream is open");
        let answer = answers.message().await.expect("an answer").expect("one");
        assert_eq!(answer.id, id);
        answer.ttl
    }
}

type KeepAlives = (
    mpsc::UnboundedSender<pb::LeaseKeepAliveRequest>,
    tonic::Streaming<pb::LeaseKeepAliveResponse>,
);

/// A stream of keep-alives. A first one, of no lease, because a server may send its headers with its first answer only.
async fn keep_alives(client: &mut Client) -> KeepAlives {
    let (requests, receiver) = mpsc::unbounded_channel();
    requests.send(pb::LeaseKeepAliveRequest { id: 0 }).expect("it is open");
    let mut answers = client
        .converse(KEEP_ALIVE, UnboundedReceiverStream::new(receiver))
        .await
        .expect("a stream of keep-alives");
    let first: pb::LeaseKeepAliveResponse =
        answers.message().await.expect("an answer").expect("one");
    assert_eq!((first.id, first.ttl), (0, 0));
    (requests, answers)
}
