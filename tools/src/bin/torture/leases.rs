//! Holders of leases: each grants one, attaches keys, keeps it alive for a while, and revokes it or lets it run out.
//!
//! Only the lease's end deletes these keys.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use futures_lite::FutureExt;
use glommio::timer::Timer;
use prost::Message;
use urd_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
    PutRequest,
};
use urd_tools::checkers::history::{Answer, Request, Response};
use urd_tools::checkers::leases::LeaseRecord;
use urd_tools::grpc::channel::Stream;
use urd_tools::grpc::endpoint::Endpoint;
use urd_tools::grpc::unary::framed;

use crate::line::{KEEP_ALIVE, Line};
use crate::load::Task;
use crate::record::Record;

const HOLDERS: u32 = 4;
/// Their numbers as clients begin here.
const FIRST_CLIENT: u32 = 100;
/// All keys of leases begin so.
pub(crate) const PREFIX: &str = "lease/";
/// The first key behind them.
pub(crate) const PREFIX_END: &str = "lease0";
/// Seconds; the shortest that is granted is longer than an election.
const TTL: std::ops::Range<i64> = 3..8;
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE_MILLIS: std::ops::Range<u64> = 100..800;

pub(crate) fn start(endpoints: &[Endpoint], record: &Arc<Record>, mut rng: Rng) -> Vec<Task> {
    let holder = |nth| Holder {
        client: FIRST_CLIENT + nth,
        line: Line::new(endpoints, nth as usize),
        record: Arc::clone(record),
        rng: rng.fork(),
        keys: 0,
    };
    (0..HOLDERS).map(holder).map(|holder| glommio::spawn_local(holder.run())).collect()
}

struct Holder {
    client: u32,
    line: Line,
    record: Arc<Record>,
    rng: Rng,
    keys: u64,
}

impl Holder {
    async fn run(mut self) {
        while !self.record.load_is_over() {
            let lease = self.hold().await;
            self.record.lease(lease);
            self.pause().await;
        }
    }

    async fn ask(&mut self, request: Request) -> Option<Answer> {
        self.line.ask(&self.record, self.client, request).await
    }

    async fn pause(&mut self) {
        Timer::new(Duration::from_millis(self.rng.u64(PAUSE_MILLIS))).await;
    }

    /// One lease from its grant to the end of care for it.
    async fn hold(&mut self) -> LeaseRecord {
        let mut lease = LeaseRecord { id: self.rng.i64(1..), ..LeaseRecord::default() };
        let grant = LeaseGrantRequest { ttl: self.rng.i64(TTL), id: lease.id };
        let asked = self.record.now();
        match self.ask(Request::LeaseGrant(grant)).await {
            Some(Answer::Done(Response::LeaseGrant(granted))) => {
                lease.renewals.push((asked, granted.ttl));
            }
            _ => return lease,
        }
        for _ in 0..self.rng.u32(1..4) {
            self.attach(lease.id).await;
        }
        let mut stream = None;
        for _ in 0..self.rng.u32(0..10) {
            self.pause().await;
            if self.record.load_is_over() {
                return lease;
            }
            match self.keep_alive(&mut stream, lease.id).await {
                Some((_, 0)) => return lease,
                Some(renewal) => lease.renewals.push(renewal),
                None => {}
            }
        }
        if self.rng.bool() {
            lease.revoked = true;
            self.ask(Request::LeaseRevoke(LeaseRevokeRequest { id: lease.id })).await;
        }
        lease
    }

    async fn attach(&mut self, lease: i64) {
        self.keys += 1;
        let text = format!("{PREFIX}{}/{}", self.client, self.keys);
        let (key, value) = (Bytes::from(text), Bytes::from(format!("of {lease:x}")));
        self.ask(Request::Put(PutRequest { key, value, lease, ..PutRequest::default() })).await;
    }

    /// When it was asked, and for how long it is renewed; 0: it is there no more.
    async fn keep_alive(&mut self, stream: &mut Option<Stream>, id: i64) -> Option<(u64, i64)> {
        if !self.line.connect().await {
            *stream = None;
            return None;
        }
        if stream.is_none() {
            *stream = self.line.open(KEEP_ALIVE);
        }
        let open = stream.as_ref()?;
        let asked = self.record.now();
        open.send(&framed(&LeaseKeepAliveRequest { id }));
        let answered = async { open.next().await.ok().flatten() };
        let expired = async {
            Timer::new(KEEP_ALIVE_TIMEOUT).await;
            None
        };
        let message = answered.or(expired).await;
        let answer = message
            .and_then(|message| LeaseKeepAliveResponse::decode(Bytes::from(message.bytes)).ok())
            .filter(|answer| answer.id == id);
        if answer.is_none() {
            // A late answer must not be taken for the next one.
            *stream = None;
            self.line.leave();
        }
        answer.map(|answer| (asked, answer.ttl.max(0)))
    }
}
