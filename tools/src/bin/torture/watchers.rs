//! Watchers, each on a connection of its own, that go on elsewhere when theirs breaks or falls silent.
//!
//! The first watches everything from the first revision on: what it is told is the truth that all else is held against.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use futures_lite::FutureExt;
use glommio::timer::Timer;
use prost::Message;
use urd_proto::etcdserverpb::watch_create_request::FilterType;
use urd_proto::etcdserverpb::watch_request::RequestUnion;
use urd_proto::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use urd_tools::checkers::history::revision_of;
use urd_tools::checkers::watching::WatchRecord;
use urd_tools::grpc::channel::Stream;
use urd_tools::grpc::endpoint::Endpoint;
use urd_tools::grpc::unary::framed;

use crate::bulk;
use crate::line::{Line, WATCH};
use crate::load::{self, Task};
use crate::record::Record;

/// How often progress is asked for.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(400);
/// A stream that says nothing for so long is given up, though progress was asked for.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// A stream is left for another after so long.
const STREAM_SECONDS: std::ops::Range<u64> = 4..25;

pub(crate) fn start(endpoints: &[Endpoint], record: &Arc<Record>, mut rng: Rng) -> Vec<Task> {
    let everything = WatchRecord {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        start_revision: 1,
        prev_kv: true,
        ..WatchRecord::default()
    };
    let all_keys = WatchRecord {
        key: load::PREFIX.into(),
        range_end: load::PREFIX_END.into(),
        ..WatchRecord::default()
    };
    let plans = [
        everything,
        WatchRecord { prev_kv: true, progress_notify: true, ..all_keys.clone() },
        WatchRecord { fragment: true, ..all_keys.clone() },
        WatchRecord { filters: vec![FilterType::Noput], prev_kv: true, ..all_keys.clone() },
        WatchRecord { filters: vec![FilterType::Nodelete], ..all_keys },
        WatchRecord { key: "k/07".into(), prev_kv: true, ..WatchRecord::default() },
        WatchRecord { key: "lease/".into(), range_end: "lease0".into(), ..WatchRecord::default() },
        WatchRecord {
            key: bulk::PREFIX.into(),
            range_end: bulk::PREFIX_END.into(),
            prev_kv: true,
            fragment: true,
            ..WatchRecord::default()
        },
    ];
    let watcher = |(nth, plan)| Watcher {
        line: Line::new(endpoints, nth),
        record: Arc::clone(record),
        rng: rng.fork(),
        tells_the_truth: nth == 0,
        plan,
        last: None,
    };
    let watchers = plans.into_iter().enumerate().map(watcher);
    watchers.map(|watcher| glommio::spawn_local(watcher.run())).collect()
}

struct Watcher {
    line: Line,
    record: Arc<Record>,
    rng: Rng,
    tells_the_truth: bool,
    /// What it asks for, without responses.
    plan: WatchRecord,
    /// The revision up to which it was told everything.
    last: Option<i64>,
}

impl Watcher {
    async fn run(mut self) {
        while !self.record.watches_are_over() {
            if !self.line.connect().await {
                continue;
            }
            let mut stream = self.plan.clone();
            if let Some(last) = self.last {
                (stream.start_revision, stream.resumed_from) = (last + 1, Some(last));
            }
            self.follow(&mut stream).await;
            self.record.watch(stream);
            self.line.leave();
        }
    }

    /// One stream, to its end.
    async fn follow(&mut self, watch: &mut WatchRecord) {
        let Some(stream) = self.line.open(WATCH) else { return };
        send(&stream, RequestUnion::CreateRequest(create_request(watch)));
        let until = Instant::now() + Duration::from_secs(self.rng.u64(STREAM_SECONDS));
        let (mut heard, mut asked) = (Instant::now(), Instant::now());
        while Instant::now() < until && !self.record.watches_are_over() {
            let message = async { Some(stream.next().await) };
            let expired = async {
                Timer::new(PROGRESS_INTERVAL).await;
                None
            };
            match message.or(expired).await {
                Some(Ok(Some(message))) => {
                    heard = Instant::now();
                    let at = self.record.at(message.at);
                    let is_large = message.bytes.len() > bulk::SHARED_BYTES_MIN;
                    let Ok(mut response) = WatchResponse::decode(Bytes::from(message.bytes)) else {
                        return;
                    };
                    for event in response.events.iter_mut().filter(|_| is_large) {
                        event.kv.iter_mut().chain(&mut event.prev_kv).for_each(bulk::share);
                    }
                    if !self.hear(watch, at, response) {
                        return;
                    }
                }
                Some(_) => return,
                None if heard.elapsed() > SILENCE_MAX => return,
                None => {}
            }
            if asked.elapsed() >= PROGRESS_INTERVAL {
                asked = Instant::now();
                send(&stream, RequestUnion::ProgressRequest(WatchProgressRequest {}));
            }
        }
    }

    /// Takes a response. False: it was the last.
    fn hear(&mut self, watch: &mut WatchRecord, at: u64, response: WatchResponse) -> bool {
        let goes_on = !response.canceled;
        if self.tells_the_truth {
            self.record.truth(&response.events);
        }
        if response.canceled && response.compact_revision > 0 {
            // What it missed is compacted. It begins anew with what comes next.
            self.last = None;
        } else if let Some(last) = response.events.last() {
            // Of a revision in fragments the rest may never come: then it comes again, whole.
            let whole = revision_of(last) - i64::from(response.fragment);
            self.last = Some(whole);
        }
        watch.responses.push((at, response));
        goes_on
    }
}

fn create_request(watch: &WatchRecord) -> WatchCreateRequest {
    WatchCreateRequest {
        key: watch.key.clone(),
        range_end: watch.range_end.clone(),
        start_revision: watch.start_revision,
        progress_notify: watch.progress_notify,
        filters: watch.filters.iter().map(|filter| i32::from(*filter)).collect(),
        prev_kv: watch.prev_kv,
        watch_id: 0,
        fragment: watch.fragment,
    }
}

fn send(stream: &Stream, request: RequestUnion) {
    stream.send(&framed(&WatchRequest { request_union: Some(request) }));
}
