//! A gRPC client that sends exactly the message it is given and hands back exactly the one it gets.
//!
//! tonic carries it, so the transport is not ours: what this client accepts, other people's clients accept. It does not
//! retry and does not fill fields.

use std::time::Duration;

use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;
use urd_proto::etcdserverpb as pb;

/// Larger than any answer a test asks for.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// One connection to one server; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    grpc: Grpc<Channel>,
}

/// A unary method: its path, and its two types.
macro_rules! unary {
    ($($name:ident($path:literal): $request:ident -> $response:ident;)*) => {
        $(pub(crate) async fn $name(&mut self, request: pb::$request) -> Result<pb::$response, Status> {
            self.call($path, request).await
        })*
    };
}

impl Client {
    /// Connects; the server must be there.
    pub(crate) async fn connect(endpoint: &str) -> Client {
        Self::try_connect(endpoint)
            .await
            .unwrap_or_else(|error| panic!("connect to {endpoint}: {error:?}"))
    }

    pub(crate) async fn try_connect(endpoint: &str) -> Result<Client, tonic::transport::Error> {
        let channel = Endpoint::from_shared(format!("http://{endpoint}"))?
            .connect_timeout(Duration::from_secs(10))
            .connect()
            .await?;
        let grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Client { grpc })
    }

    /// One unary call.
    pub(crate) async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.send(path, Request::new(request)).await
    }

    /// One unary call with metadata or a deadline of the test's.
    pub(crate) async fn send<Q, A>(
        &mut self,
        path: &'static str,
        request: Request<Q>,
    ) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.ready().await?;
        let codec = ProstCodec::<Q, A>::default();
        let response = self.grpc.unary(request, PathAndQuery::from_static(path), codec).await?;
        Ok(response.into_inner())
    }

    /// One call with a stream of answers, all of them.
    pub(crate) async fn collect<Q, A>(
        &mut self,
        path: &'static str,
        request: Q,
    ) -> Result<Vec<A>, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.ready().await?;
        let codec = ProstCodec::<Q, A>::default();
        let path = PathAndQuery::from_static(path);
        let mut stream =
            self.grpc.server_streaming(Request::new(request), path, codec).await?.into_inner();
        let mut messages = Vec::new();
        while let Some(message) = stream.message().await? {
            messages.push(message);
        }
        Ok(messages)
    }

    /// One call with streams both ways.
    pub(crate) async fn converse<Q, A>(
        &mut self,
        path: &'static str,
        requests: impl tokio_stream::Stream<Item = Q> + Send + 'static,
    ) -> Result<tonic::Streaming<A>, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.ready().await?;
        let codec = ProstCodec::<Q, A>::default();
        let path = PathAndQuery::from_static(path);
        Ok(self.grpc.streaming(Request::new(requests), path, codec).await?.into_inner())
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.grpc
            .ready()
            .await
            .map_err(|error| Status::unavailable(format!("not connected: {error}")))
    }

    unary! {
        range("/etcdserverpb.KV/Range"): RangeRequest -> RangeResponse;
        put("/etcdserverpb.KV/Put"): PutRequest -> PutResponse;
        delete_range("/etcdserverpb.KV/DeleteRange"): DeleteRangeRequest -> DeleteRangeResponse;
        txn("/etcdserverpb.KV/Txn"): TxnRequest -> TxnResponse;
        compact("/etcdserverpb.KV/Compact"): CompactionRequest -> CompactionResponse;
        lease_grant("/etcdserverpb.Lease/LeaseGrant"): LeaseGrantRequest -> LeaseGrantResponse;
        lease_revoke("/etcdserverpb.Lease/LeaseRevoke"): LeaseRevokeRequest -> LeaseRevokeResponse;
        lease_time_to_live("/etcdserverpb.Lease/LeaseTimeToLive"): LeaseTimeToLiveRequest -> LeaseTimeToLiveResponse;
        lease_leases("/etcdserverpb.Lease/LeaseLeases"): LeaseLeasesRequest -> LeaseLeasesResponse;
        hash_kv("/etcdserverpb.Maintenance/HashKV"): HashKvRequest -> HashKvResponse;
    }
}

/// `key = value`, nothing else.
pub(crate) fn put_request(key: &str, value: &[u8]) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_vec().into(),
        ..Default::default()
    }
}

/// One key, linearizable.
pub(crate) fn get_request(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

/// All keys that start with `prefix` (which must not end in 0xff).
pub(crate) fn prefix_request(prefix: &str) -> pb::RangeRequest {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    pb::RangeRequest { key: prefix.to_owned().into(), range_end: end.into(), ..Default::default() }
}
