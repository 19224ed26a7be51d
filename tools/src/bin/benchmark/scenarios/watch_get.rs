//! `watch-get`: serializable gets while watchers catch up from an old revision.
//!
//! Before the clock starts, a key is put a few times. Then watchers are created from the first of
//! these revisions on, and until each has all events the clients get another key, on a connection
//! of their own. Reported are the gets, the creations, and how long each watcher took from its
//! creation to its last event (catch-up).

use super::messages::{get, put};
use super::site::{Client, Failure, Method, Site, failure};
use super::watching::{CREATE, Feed, Following, Measure, WatcherPlan, WatchingArgs, Writes};
use super::{Running, Scenario};
use crate::args::Limits;
use crate::arrivals::Request;
use clap::Args;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use urd_proto::etcdserverpb::{PutResponse, RangeRequest, RangeResponse, WatchCreateRequest};
use urd_tools::grpc::channel::Channel;

const GET: &str = "get";
const WATCHED_KEY: &str = "watchkey";

#[derive(Clone, Debug, Args)]
pub(crate) struct WatchGetArgs {
    /// Number of watchers
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    watchers: u64,
    /// Number of watch streams
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    streams: u64,
    /// Events that each watcher has to catch up with
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// Gets per second, scheduled ahead; 0 starts each when the one before is answered
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// The key that is got
    #[arg(long, default_value = "abc")]
    get_key: String,
    #[command(flatten)]
    watching: WatchingArgs,
}

impl WatchGetArgs {
    pub(crate) fn limits(&self) -> Limits {
        // The watchers end the run.
        Limits { rate: self.rate, total: None, total_default: None }
    }
}

pub(crate) struct WatchGet {
    args: WatchGetArgs,
    writes: Arc<Writes>,
    /// The first event's.
    revision: AtomicI64,
}

impl WatchGet {
    pub(crate) fn new(args: &WatchGetArgs) -> WatchGet {
        let writes = Arc::new(Writes::new(1, Measure::CatchingUp));
        WatchGet { args: args.clone(), writes, revision: AtomicI64::new(0) }
    }

    async fn put_events(&self, site: &Site, channel: &Channel) -> Result<(), String> {
        for nth in 0..self.args.events {
            let put = put(WATCHED_KEY.into(), nth.to_string().into());
            let (response, _): (PutResponse, _) = site.call(channel, Method::Put, &put).await?;
            let revision = response.header.map_or(0, |header| header.revision);
            if nth == 0 {
                self.revision.store(revision, Ordering::SeqCst);
            }
            self.writes.acknowledged(0, revision, 0);
        }
        Ok(())
    }

    /// How many watchers stream `stream` has.
    fn watchers_of(&self, stream: u64) -> u64 {
        let WatchGetArgs { watchers, streams, .. } = self.args;
        watchers / streams + u64::from(stream < watchers % streams)
    }

    async fn watch(&self, site: &Site, nth: usize, stream: u64) -> Result<Feed, String> {
        let feed = Feed::open(site, nth);
        let request = WatchCreateRequest {
            key: WATCHED_KEY.into(),
            start_revision: self.revision.load(Ordering::SeqCst),
            ..WatchCreateRequest::default()
        };
        let plan = |_| WatcherPlan { request: request.clone(), target: 0 };
        let plans = (0..self.watchers_of(stream)).map(plan);
        feed.create(site, &self.writes, plans, self.args.watching.event_timeout).await?;
        Ok(feed)
    }

    /// Creates this thread's watchers, and waits until they have all events.
    async fn catch_up(self: Arc<Self>, site: Rc<Site>) {
        let watch = |(nth, stream): (usize, u64)| {
            let (this, site) = (self.clone(), site.clone());
            glommio::spawn_local(async move { this.watch(&site, nth, stream).await })
        };
        let creating: Vec<_> = site.share(self.args.streams).enumerate().map(watch).collect();
        let mut feeds = Vec::new();
        for created in creating {
            match created.await {
                Ok(feed) => feeds.push(feed),
                Err(error) => site.failed(failure(CREATE)(error)),
            }
        }
        let following = Following::begin(&site, &self.writes, feeds);
        following.finish(&site, &self.writes, self.args.watching.event_timeout).await;
        site.stop();
    }

    async fn get(&self, site: &Site, channel: &Channel, request: Request) -> Result<(), Failure> {
        let get = RangeRequest { serializable: true, ..get(self.args.get_key.clone().into()) };
        let answered = site.call(channel, Method::Range, &get).await;
        let (_, at): (RangeResponse, _) = answered.map_err(failure(GET))?;
        site.answered(GET, &request, at);
        Ok(())
    }
}

impl Scenario for WatchGet {
    fn run(self: Arc<Self>, site: Rc<Site>) -> Running {
        Box::pin(async move {
            let gets = site.another_channel().await?;
            if site.thread == 0 {
                self.put_events(&site, &gets).await?;
            }
            site.begin()?;
            let watching = glommio::spawn_local(self.clone().catch_up(site.clone()));
            let there = site.clone();
            site.drive(async move |_: &Client, request| self.get(&there, &gets, request).await)
                .await;
            watching.await;
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
    fn watchers_are_spread_over_the_streams() {
        let cli = parsed("watch-get --watchers=10 --streams=4");
        assert_eq!((cli.rate(), cli.total()), (0, None));
        let WorkloadArgs::WatchGet(args) = &cli.workload else { panic!("not watch-get") };
        let watch_get = WatchGet::new(args);
        let counts: Vec<u64> = (0..4).map(|stream| watch_get.watchers_of(stream)).collect();
        assert_eq!((counts, args.events), (vec![3, 3, 2, 2], 8));
    }
}
