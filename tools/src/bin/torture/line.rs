//! A client's connection: to some member, and to another after a failure.

use std::time::Duration;

use bytes::Bytes;
use futures_lite::FutureExt;
use glommio::timer::Timer;
use prost::Message;
use urd_tools::checkers::history::{Answer, Operation, Request, Response};
use urd_tools::grpc::channel::{Channel, Stream};
use urd_tools::grpc::connection::Keep;
use urd_tools::grpc::dial::Dial;
use urd_tools::grpc::endpoint::Endpoint;
use urd_tools::grpc::request_head::RequestHead;
use urd_tools::grpc::status::{CallError, Code};
use urd_tools::grpc::unary::framed;

use crate::bulk;
use crate::record::Record;

/// All that clients call.
const PATHS: [&str; 9] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/DeleteRange",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/Compact",
    "/etcdserverpb.Lease/LeaseGrant",
    "/etcdserverpb.Lease/LeaseRevoke",
    KEEP_ALIVE,
    WATCH,
];
pub(crate) const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
pub(crate) const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// Longer than an election, shorter than the servers' own patience.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Between attempts to connect.
const PAUSE: Duration = Duration::from_millis(50);

/// gRPC codes with which a server says that the request is wrong or not possible: it was not carried out.
const REFUSALS: [Code; 7] = [Code(3), Code(5), Code(6), Code(8), Code(9), Code(11), Code(12)];

pub(crate) struct Line {
    endpoints: Vec<Endpoint>,
    place: usize,
    channel: Option<Channel>,
}

impl Line {
    pub(crate) fn new(endpoints: &[Endpoint], place: usize) -> Line {
        Line { endpoints: endpoints.to_vec(), place: place % endpoints.len(), channel: None }
    }

    /// Connects to some member, if one lets it. False: not now.
    pub(crate) async fn connect(&mut self) -> bool {
        if self.channel.as_ref().is_some_and(|channel| !channel.is_dead()) {
            return true;
        }
        self.channel = None;
        self.place = (self.place + 1) % self.endpoints.len();
        let endpoint = &self.endpoints[self.place];
        let head = RequestHead::new(&endpoint.authority, &PATHS);
        if let (Some(head), Ok(address)) = (head, endpoint.resolve()) {
            self.channel =
                Channel::connect(Dial { address, head, timeout: DIAL_TIMEOUT }).await.ok();
        }
        if self.channel.is_none() {
            Timer::new(PAUSE).await;
        }
        self.channel.is_some()
    }

    /// The next request goes elsewhere.
    pub(crate) fn leave(&mut self) {
        self.channel = None;
    }

    /// Opens a stream, on a connection that is there.
    pub(crate) fn open(&self, path: &str) -> Option<Stream> {
        self.channel.as_ref().map(|channel| channel.open(place(path)))
    }

    /// Sends a request and writes down what came of it; nothing if no member takes it.
    pub(crate) async fn ask(
        &mut self,
        record: &Record,
        client: u32,
        request: Request,
    ) -> Option<Answer> {
        if !self.connect().await {
            return None;
        }
        let begun = record.now();
        let answer = self.answer(&request).await;
        let ended = Some(record.now());
        if answer == Answer::Unknown {
            self.leave();
        }
        let operation = Operation { client, begun, ended, request, answer: answer.clone() };
        record.operation(operation);
        Some(answer)
    }

    async fn answer(&self, request: &Request) -> Answer {
        match request {
            Request::Range(range) => self.call(0, range, Response::Range).await,
            Request::Put(put) => self.call(1, put, Response::Put).await,
            Request::DeleteRange(delete) => self.call(2, delete, Response::DeleteRange).await,
            Request::Txn(txn) => self.call(3, txn, Response::Txn).await,
            Request::Compaction(compaction) => self.call(4, compaction, Response::Compaction).await,
            Request::LeaseGrant(grant) => self.call(5, grant, Response::LeaseGrant).await,
            Request::LeaseRevoke(revoke) => self.call(6, revoke, Response::LeaseRevoke).await,
        }
    }

    async fn call<Q: Message, R: Message + Default>(
        &self,
        path: usize,
        request: &Q,
        wrap: fn(R) -> Response,
    ) -> Answer {
        let Some(channel) = &self.channel else { return Answer::Unknown };
        let called =
            async { Some(channel.call(path, framed(request), Keep::Message).await.outcome) };
        let expired = async {
            Timer::new(CALL_TIMEOUT).await;
            None
        };
        match called.or(expired).await {
            Some(Ok(response)) => match R::decode(Bytes::from(response.message)) {
                Ok(decoded) => {
                    let mut wrapped = wrap(decoded);
                    if response.message_bytes > bulk::SHARED_BYTES_MIN as u64 {
                        wrapped.for_each_key_value(&mut bulk::share);
                    }
                    Answer::Done(wrapped)
                }
                Err(_) => Answer::Unknown,
            },
            Some(Err(CallError::Status { code, message })) if REFUSALS.contains(&code) => {
                Answer::Refused(message)
            }
            Some(Err(error @ CallError::Unprocessed)) => Answer::Refused(error.to_string()),
            Some(Err(_)) | None => Answer::Unknown,
        }
    }
}

fn place(path: &str) -> usize {
    PATHS.iter().position(|known| *known == path).expect("all paths are known")
}
