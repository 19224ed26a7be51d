//! `watch`: many watchers, then puts of what they watch.

use super::messages::{prefix_end, put};
use super::site::{Client, Failure, Method, Site, failure};
use super::watching::{
    Feed, Following, Measure, VALUE_BYTES_MIN, WatcherPlan, WatchingArgs, Writes, value_due,
};
use super::{Running, Scenario};
use crate::args::Limits;
use crate::arrivals::Request;
use crate::workload::{below, check_key_size, key, mixed, value};
use bytes::Bytes;
use clap::Args;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use urd_proto::etcdserverpb::{PutResponse, WatchCreateRequest};

const PUT: &str = "put";

#[derive(Clone, Debug, Args)]
pub(crate) struct WatchArgs {
    /// Number of watch streams
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    streams: u64,
    /// Watchers on each stream
    #[arg(long, default_value_t = 100)]
    watch_per_stream: u64,
    /// Number of keys that are watched and put; watchers and puts go round them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    watched_key_total: u32,
    /// Let every watcher watch the prefix of all these keys, not one of them
    #[arg(long)]
    prefix: bool,
    /// Puts per second, scheduled ahead; 0 starts each when the one before is answered
    #[arg(long, default_value_t = 0)]
    put_rate: u64,
    /// Number of puts; 1000 unless --duration ends the run
    #[arg(long)]
    put_total: Option<u64>,
    /// Bytes of a key, besides the common prefix
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    key_size: u32,
    /// Numbers to take the keys from; 0 makes all watched keys different
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    key_space_size: u64,
    /// Take keys from the key space in their order, not random ones
    #[arg(long, alias = "sequential")]
    sequential_keys: bool,
    /// Bytes of a value, which begins with the time of its put
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(VALUE_BYTES_MIN as i64..))]
    val_size: u32,
    /// Ask for the previous pair with each event
    #[arg(long)]
    prevkv: bool,
    /// Ask for progress notifications
    #[arg(long)]
    progress_notify: bool,
    #[command(flatten)]
    watching: WatchingArgs,
}

impl WatchArgs {
    pub(crate) fn limits(&self) -> Limits {
        Limits { rate: self.put_rate, total: self.put_total, total_default: Some(1000) }
    }
}

pub(crate) struct Watch {
    args: WatchArgs,
    value: Bytes,
    /// The watched keys, and which different one each is.
    keys: Vec<(Bytes, usize)>,
    writes: Arc<Writes>,
}

impl Watch {
    /// Keeps what others put in the same store out of prefix watches.
    const PREFIX: &str = "benchmark-watch/";

    pub(crate) fn new(args: &WatchArgs, seed: u64) -> Result<Watch, String> {
        let total = u64::from(args.watched_key_total);
        let space = if args.key_space_size == 0 { total } else { args.key_space_size };
        check_key_size(args.key_size, space)?;
        let number = |nth| match args.key_space_size == 0 || args.sequential_keys {
            true => nth % space,
            false => below(mixed(seed, nth), space),
        };
        let mut different = BTreeMap::new();
        let watched = |nth| {
            let key = [Self::PREFIX.as_bytes(), &key(number(nth), args.key_size)].concat();
            let next = different.len();
            (key.clone().into(), *different.entry(key).or_insert(next))
        };
        let keys: Vec<(Bytes, usize)> = (0..total).map(watched).collect();
        let targets = if args.prefix { 1 } else { different.len() };
        let writes = Arc::new(Writes::new(targets, Measure::FromPutToo));
        Ok(Watch { args: args.clone(), value: value(seed, args.val_size), keys, writes })
    }

    fn key(&self, nth: u64) -> (Bytes, usize) {
        let (key, target) = &self.keys[(nth % self.keys.len() as u64) as usize];
        (key.clone(), if self.args.prefix { 0 } else { *target })
    }

    /// The watchers of stream `stream`.
    fn watchers(&self, stream: u64) -> impl Iterator<Item = WatcherPlan> {
        let per_stream = self.args.watch_per_stream;
        (stream * per_stream..(stream + 1) * per_stream).map(|nth| {
            let (key, target) = self.key(nth);
            let (key, range_end) = match self.args.prefix {
                true => (Self::PREFIX.into(), prefix_end(Self::PREFIX.as_bytes())),
                false => (key, Bytes::new()),
            };
            let request = WatchCreateRequest {
                key,
                range_end,
                prev_kv: self.args.prevkv,
                progress_notify: self.args.progress_notify,
                ..WatchCreateRequest::default()
            };
            WatcherPlan { request, target }
        })
    }

    /// One thread's streams with their watchers.
    async fn watch(self: &Arc<Self>, site: &Rc<Site>) -> Result<Vec<Feed>, String> {
        let create = |(nth, stream): (usize, u64)| {
            let (this, site) = (self.clone(), site.clone());
            glommio::spawn_local(async move {
                let feed = Feed::open(&site, nth);
                let timeout = this.args.watching.event_timeout;
                feed.create(&site, &this.writes, this.watchers(stream), timeout).await?;
                Ok::<_, String>(feed)
            })
        };
        let creating: Vec<_> = site.share(self.args.streams).enumerate().map(create).collect();
        let mut feeds = Vec::with_capacity(creating.len());
        for created in creating {
            feeds.push(created.await?);
        }
        Ok(feeds)
    }

    async fn put(&self, site: &Site, client: &Client, request: Request) -> Result<(), Failure> {
        let (key, target) = self.key(request.number);
        let put = put(key, value_due(request.due_ns, &self.value));
        let answered = site.call(&client.channel, Method::Put, &put).await;
        let (response, at): (PutResponse, _) = answered.map_err(failure(PUT))?;
        let revision = response.header.map_or(0, |header| header.revision);
        self.writes.acknowledged(target, revision, site.arrivals.ns_of(at));
        site.answered(PUT, &request, at);
        Ok(())
    }
}

impl Scenario for Watch {
    fn run(self: Arc<Self>, site: Rc<Site>) -> Running {
        Box::pin(async move {
            self.writes.writer_comes();
            let feeds = self.watch(&site).await?;
            site.begin()?;
            let following = Following::begin(&site, &self.writes, feeds);
            let (this, there) = (self.clone(), site.clone());
            site.drive(async move |client: &Client, request| {
                this.put(&there, client, request).await
            })
            .await;
            self.writes.writer_goes();
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
    use std::collections::BTreeSet;

    fn watch(line: &str) -> Result<Watch, String> {
        let WorkloadArgs::Watch(args) = parsed(line).workload else { panic!("{line}") };
        Watch::new(&args, 1)
    }

    fn different_keys(watch: &Watch) -> usize {
        watch.keys.iter().map(|(key, _)| key).collect::<BTreeSet<_>>().len()
    }

    #[test]
    fn defaults_are_those_of_etcds_tool() {
        let cli = parsed("watch");
        assert_eq!((cli.rate(), cli.total()), (0, Some(1000)));
        assert_eq!(parsed("watch --duration=3s").total(), None);
        let watch = watch("watch").unwrap();
        assert_eq!((watch.args.streams, watch.watchers(0).count()), (10, 100));
        assert_eq!(watch.keys.len(), 1);
    }

    #[test]
    fn watchers_and_puts_go_round_the_keys() {
        let watch = watch("watch --watched-key-total=30 --watch-per-stream=20").unwrap();
        assert_eq!(different_keys(&watch), 30);
        let targets: Vec<usize> =
            (0..3).flat_map(|stream| watch.watchers(stream)).map(|plan| plan.target).collect();
        assert_eq!(targets, (0..60).map(|nth| nth % 30).collect::<Vec<_>>());
        assert_eq!(watch.key(31), watch.key(1));
    }

    #[test]
    fn equal_keys_are_one_target() {
        let line = "watch --watched-key-total=30 --key-space-size=7";
        for (line, keys) in [(format!("{line} --sequential-keys"), 7..=7), (line.into(), 2..=7)] {
            let watch = watch(&line).unwrap();
            assert!(keys.contains(&different_keys(&watch)));
            let pairs: BTreeSet<_> = watch.keys.iter().collect();
            assert_eq!(pairs.len(), different_keys(&watch), "one target for each key");
        }
    }

    #[test]
    fn prefix_is_one_target_for_all() {
        let watch =
            watch("watch --prefix --watched-key-total=5 --prevkv --progress-notify").unwrap();
        for plan in watch.watchers(0) {
            assert_eq!(plan.target, 0);
            assert!(plan.request.prev_kv && plan.request.progress_notify);
            for (key, _) in &watch.keys {
                assert!(plan.request.key <= *key && *key < plan.request.range_end);
            }
        }
        assert_eq!(watch.key(4).1, 0);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let line = "watch --key-size=1 --watched-key-total=65";
        assert!(watch(line).err().unwrap().contains("--key-size=1"));
    }
}
