//! `watch-latency`: one put at a time, until every watcher has its event.
//!
//! The puts have a connection of their own, so that they do not queue behind events; `--clients`
//! has no part in it.

use super::messages::put;
use super::site::{Failure, Method, Site, failure};
use super::watching::{
    EVENT, Feed, Following, Measure, VALUE_BYTES_MIN, WatcherPlan, WatchingArgs, Writes, value_due,
};
use super::{Running, Scenario};
use crate::args::Limits;
use crate::arrivals::Request;
use crate::workload::value;
use bytes::Bytes;
use clap::Args;
use glommio::timer::Timer;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use urd_proto::etcdserverpb::{PutResponse, WatchCreateRequest};
use urd_tools::grpc::channel::Channel;

const PUT: &str = "put";
/// How often it is looked whether all events of a put came. They are timed as they come.
const LOOK: Duration = Duration::from_micros(100);

#[derive(Clone, Debug, Args)]
pub(crate) struct WatchLatencyArgs {
    /// Number of watch streams
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    streams: u64,
    /// Watchers on each stream
    #[arg(long, default_value_t = 10)]
    watchers_per_stream: u64,
    /// Puts per second, scheduled ahead; 0 puts as soon as all events of the put before came
    #[arg(long, default_value_t = 100)]
    put_rate: u64,
    /// Number of puts; 1000 unless --duration ends the run
    #[arg(long)]
    put_total: Option<u64>,
    /// Bytes of the key
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    key_size: u32,
    /// Bytes of a value, which begins with the time of its put
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(VALUE_BYTES_MIN as i64..))]
    val_size: u32,
    /// Ask for the previous pair with each event
    #[arg(long)]
    prevkv: bool,
    #[command(flatten)]
    watching: WatchingArgs,
}

impl WatchLatencyArgs {
    pub(crate) fn limits(&self) -> Limits {
        Limits { rate: self.put_rate, total: self.put_total, total_default: Some(1000) }
    }
}

pub(crate) struct WatchLatency {
    args: WatchLatencyArgs,
    key: Bytes,
    value: Bytes,
    writes: Arc<Writes>,
}

impl WatchLatency {
    pub(crate) fn new(args: &WatchLatencyArgs, seed: u64) -> WatchLatency {
        let writes = Arc::new(Writes::new(1, Measure::FromPutToo));
        let (key, value) = (value(seed, args.key_size), value(seed, args.val_size));
        WatchLatency { args: args.clone(), key, value, writes }
    }

    fn watchers(&self) -> impl Iterator<Item = WatcherPlan> {
        (0..self.args.watchers_per_stream).map(|_| {
            let request = WatchCreateRequest {
                key: self.key.clone(),
                prev_kv: self.args.prevkv,
                ..WatchCreateRequest::default()
            };
            WatcherPlan { request, target: 0 }
        })
    }

    async fn watch(&self, site: &Site) -> Result<Vec<Feed>, String> {
        let mut feeds = Vec::new();
        for (nth, _) in site.share(self.args.streams).enumerate() {
            let feed = Feed::open(site, nth);
            let timeout = self.args.watching.event_timeout;
            feed.create(site, &self.writes, self.watchers(), timeout).await?;
            feeds.push(feed);
        }
        Ok(feeds)
    }

    /// Puts as scheduled, each after all events of the one before.
    async fn put_all(&self, site: &Site, channel: &Channel, following: &Following) {
        let events_per_put = self.args.streams * self.args.watchers_per_stream;
        let mut expected = 0;
        while let Some(request) = site.next().await {
            if let Err(failure) = self.put(site, channel, request).await {
                site.failed(failure);
                // Whether there will be events is unknown.
                return;
            }
            expected += events_per_put;
            let deadline = Instant::now() + self.args.watching.event_timeout;
            while self.writes.received() < expected {
                if following.is_broken() || Instant::now() > deadline {
                    let error = "watch: not all events of a put arrived".into();
                    return site.failed(Failure { kind: EVENT, error });
                }
                Timer::new(LOOK).await;
            }
        }
    }

    async fn put(&self, site: &Site, channel: &Channel, request: Request) -> Result<(), Failure> {
        let put = put(self.key.clone(), value_due(request.due_ns, &self.value));
        let (response, at): (PutResponse, _) =
            site.call(channel, Method::Put, &put).await.map_err(failure(PUT))?;
        let revision = response.header.map_or(0, |header| header.revision);
        self.writes.acknowledged(0, revision, site.arrivals.ns_of(at));
        site.answered(PUT, &request, at);
        Ok(())
    }
}

impl Scenario for WatchLatency {
    fn run(self: Arc<Self>, site: Rc<Site>) -> Running {
        Box::pin(async move {
            let puts = match site.thread {
                0 => Some(site.another_channel().await?),
                _ => None,
            };
            if puts.is_some() {
                self.writes.writer_comes();
            }
            let feeds = self.watch(&site).await?;
            site.begin()?;
            let following = Following::begin(&site, &self.writes, feeds);
            if let Some(channel) = puts {
                self.put_all(&site, &channel, &following).await;
                self.writes.writer_goes();
            }
            following.finish(&site, &self.writes, self.args.watching.event_timeout).await;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parsed;
    use super::*;
    use crate::args::WorkloadArgs;

    #[test]
    fn defaults_are_those_of_etcds_tool() {
        let cli = parsed("watch-latency");
        assert_eq!((cli.rate(), cli.total()), (100, Some(1000)));
        let WorkloadArgs::WatchLatency(args) = &cli.workload else { panic!("not watch-latency") };
        let latency = WatchLatency::new(args, 1);
        assert_eq!((args.streams, latency.watchers().count()), (10, 10));
        assert_eq!((latency.key.len(), latency.value.len()), (32, 32));
    }
}
