//! `kubernetes`: the calls of Kubernetes' API servers, in a mix of one's choice.
//!
//! | kind | calls |
//! |---|---|
//! | `create` | Txn: if the key does not exist, put; else get |
//! | `update`, `delete` | Txn: if the mod revision is the known one, put or delete; else get |
//! | `get` | Range of one key |
//! | `list` | Ranges of the prefix in pages, pinned to the first one's revision (or RangeStream) |
//! | `record` | an Event object: Txn as `create`, with a lease of about an hour, shared by many |
//! | `lease-grant` | the leases of these, as they are needed |
//! | `event` | what watchers of the prefix get, with previous pairs and progress notifications |
//!
//! All objects are created before the clock starts. Each belongs to one thread, and while one
//! client works on it no other does; so conditions fail only where `--conflict-percent` wants it,
//! and as often: the update first comes with an older revision, is refused, and is retried with
//! what the failure branch read. That counts as a conflict and not as an error.
//!
//! Not here: the compaction every five minutes; start it beside the load.

mod objects;

use super::lease_keepalive::grant;
use super::messages::{
    delete_op, get, pair_read, prefix_end, put, put_op, range_op, unchanged_since,
};
use super::range::{pages, stream};
use super::site::{Client, Failure, Method, Site, failure};
use super::watching::{CREATE, Feed, Following, Measure, WatcherPlan, WatchingArgs, Writes};
use super::{Running, Scenario};
use crate::args::{Amount, Common};
use crate::arrivals::Request;
use crate::workload::{below, mixed, value};
use bytes::Bytes;
use clap::Args;
use objects::{Object, Objects};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use urd_proto::etcdserverpb::{
    PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse, WatchCreateRequest,
};

/// Leases of Event objects: how long, and by how much and for how many they are shared.
const LEASE_TTL_SECONDS: i64 = 60 * 60 + LEASE_SHARED_FOR.as_secs() as i64;
const LEASE_SHARED_FOR: Duration = Duration::from_secs(60);
const LEASE_OBJECTS_MAX: u64 = 1000;
/// Attempts at one update; with one client an object, the second succeeds.
const ATTEMPTS_MAX: usize = 10;

#[derive(Clone, Debug, Args)]
pub(crate) struct KubernetesArgs {
    #[command(flatten)]
    pub(crate) amount: Amount,
    /// Weight of creations in the mix
    #[arg(long, default_value_t = 10)]
    create_weight: u32,
    /// Weight of updates in the mix
    #[arg(long, default_value_t = 60)]
    update_weight: u32,
    /// Weight of deletions in the mix
    #[arg(long, default_value_t = 10)]
    delete_weight: u32,
    /// Weight of reads of one object in the mix
    #[arg(long, default_value_t = 9)]
    get_weight: u32,
    /// Weight of lists of all objects in the mix
    #[arg(long, default_value_t = 1)]
    list_weight: u32,
    /// Weight of creations of Event objects, which have leases, in the mix; 0 grants no lease
    #[arg(long, default_value_t = 10)]
    event_weight: u32,
    /// Percentage of updates that first come with an outdated revision
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=100))]
    conflict_percent: u64,
    /// Number of objects before the load
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    objects: u64,
    /// Bytes of an object
    #[arg(long, default_value_t = 1024)]
    val_size: u32,
    /// Where the objects are
    #[arg(long, default_value = "/registry/pods/benchmark/")]
    prefix: String,
    /// Where the Event objects are
    #[arg(long, default_value = "/registry/events/benchmark/")]
    event_prefix: String,
    /// Number of watchers of the prefix, each with a stream of its own
    #[arg(long, default_value_t = 3)]
    watchers: u64,
    /// Most objects in a page of a list
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(i64).range(1..))]
    page: i64,
    /// List over RangeStream, which etcd has since 3.7, and not in pages
    #[arg(long)]
    list_stream: bool,
    #[command(flatten)]
    watching: WatchingArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Create,
    Update,
    Delete,
    Get,
    List,
    Record,
}

impl Operation {
    fn kind(self) -> &'static str {
        match self {
            Operation::Create => "create",
            Operation::Update => "update",
            Operation::Delete => "delete",
            Operation::Get => "get",
            Operation::List => "list",
            Operation::Record => "record",
        }
    }
}

pub(crate) struct Kubernetes {
    args: KubernetesArgs,
    clients: usize,
    seed: u64,
    value: Bytes,
    /// Tells this run's Event objects from those of others.
    run: u128,
    writes: Arc<Writes>,
    /// The last revision of the objects created before the load.
    revision: AtomicI64,
}

/// One thread's part.
struct Part {
    plan: Arc<Kubernetes>,
    site: Rc<Site>,
    objects: RefCell<Objects>,
    lease: Cell<Option<Lease>>,
}

/// The lease that Event objects get now.
#[derive(Clone, Copy)]
struct Lease {
    id: i64,
    granted: Instant,
    objects: u64,
}

impl Lease {
    fn is_good(&self) -> bool {
        self.objects < LEASE_OBJECTS_MAX && self.granted.elapsed() < LEASE_SHARED_FOR
    }
}

impl Kubernetes {
    pub(crate) fn new(args: &KubernetesArgs, common: &Common) -> Result<Kubernetes, String> {
        if args.prefix.is_empty() || args.event_prefix.starts_with(&args.prefix) {
            return Err("--prefix must not be empty, nor begin --event-prefix".into());
        }
        let run = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let kubernetes = Kubernetes {
            args: args.clone(),
            clients: common.clients as usize,
            seed: common.seed,
            value: value(common.seed, args.val_size),
            run,
            writes: Arc::new(Writes::new(1, Measure::FromAcknowledgement)),
            revision: AtomicI64::new(0),
        };
        match kubernetes.weights().iter().all(|(weight, _)| *weight == 0) {
            true => Err("all weights of the mix are 0".into()),
            false => Ok(kubernetes),
        }
    }

    fn weights(&self) -> [(u32, Operation); 6] {
        let args = &self.args;
        [
            (args.create_weight, Operation::Create),
            (args.update_weight, Operation::Update),
            (args.delete_weight, Operation::Delete),
            (args.get_weight, Operation::Get),
            (args.list_weight, Operation::List),
            (args.event_weight, Operation::Record),
        ]
    }

    /// What request `number` is to do. A pure function of it.
    fn operation(&self, number: u64) -> Operation {
        let weights = self.weights();
        let all = weights.iter().map(|(weight, _)| u64::from(*weight)).sum();
        let mut drawn = below(mixed(self.seed, number), all);
        for (weight, operation) in weights {
            match drawn.checked_sub(weight.into()) {
                Some(rest) => drawn = rest,
                None => return operation,
            }
        }
        unreachable!("invariant: what is drawn is below the sum of the weights")
    }

    fn key(&self, number: u64) -> Bytes {
        format!("{}object-{number:09}", self.args.prefix).into()
    }

    /// All of the prefix, from its beginning.
    fn list(&self) -> RangeRequest {
        let range_end = prefix_end(self.args.prefix.as_bytes());
        let limit = if self.args.list_stream { 0 } else { self.args.page };
        RangeRequest { range_end, limit, ..get(self.args.prefix.clone().into()) }
    }

    async fn watch(&self, site: &Site, nth: usize) -> Result<Feed, String> {
        let feed = Feed::open(site, nth);
        let request = WatchCreateRequest {
            key: self.args.prefix.clone().into(),
            range_end: prefix_end(self.args.prefix.as_bytes()),
            start_revision: self.revision.load(Ordering::SeqCst) + 1,
            prev_kv: true,
            progress_notify: true,
            ..WatchCreateRequest::default()
        };
        let plans = std::iter::once(WatcherPlan { request, target: 0 });
        feed.create(site, &self.writes, plans, self.args.watching.event_timeout).await?;
        Ok(feed)
    }
}

/// `operation` if the key was last changed at `revision`; else a read of it.
fn optimistic(key: Bytes, revision: i64, operation: RequestOp) -> TxnRequest {
    TxnRequest {
        compare: vec![unchanged_since(key.clone(), revision)],
        success: vec![operation],
        failure: vec![range_op(get(key))],
    }
}

impl Part {
    /// Carries out `transaction`. The revision it made and when; or, if it did not hold, the mod
    /// revision of what is there.
    async fn transact(
        &self,
        client: &Client,
        transaction: &TxnRequest,
    ) -> Result<Result<(i64, Instant), i64>, String> {
        let (response, at): (TxnResponse, _) =
            self.site.call(&client.channel, Method::Txn, transaction).await?;
        if response.succeeded {
            return Ok(Ok((response.header.map_or(0, |header| header.revision), at)));
        }
        let read = response.responses.first().ok_or("the failure branch read nothing")?;
        Ok(Err(pair_read(read)?.map_or(0, |pair| pair.mod_revision)))
    }

    /// Changes `object`, from `revision` or what turns out to be its revision. When that was done;
    /// the object knows its new revision.
    async fn change(
        &self,
        client: &Client,
        object: &mut Object,
        mut revision: i64,
        operation: RequestOp,
    ) -> Result<Instant, String> {
        for _ in 0..ATTEMPTS_MAX {
            let key = self.plan.key(object.number);
            let transaction = optimistic(key, revision, operation.clone());
            match self.transact(client, &transaction).await? {
                Ok((made, at)) => {
                    object.revision = made;
                    return Ok(at);
                }
                Err(found) => {
                    self.site.count("conflicts", 1);
                    revision = found;
                }
            }
        }
        Err(format!("no success in {ATTEMPTS_MAX} attempts"))
    }

    fn put(&self, object: &Object) -> RequestOp {
        put_op(put(self.plan.key(object.number), self.plan.value.clone()))
    }

    /// Creates all objects of this thread, or learns of those that are there.
    async fn fill(self: Rc<Self>, client: Client) -> Result<(), String> {
        loop {
            let absent = self.objects.borrow_mut().take_absent_below(self.plan.args.objects);
            let Some(mut object) = absent else { return Ok(()) };
            let operation = self.put(&object);
            self.change(&client, &mut object, 0, operation).await?;
            self.plan.revision.fetch_max(object.revision, Ordering::SeqCst);
            self.objects.borrow_mut().give_present(object);
        }
    }

    async fn operate(&self, client: &Client, request: Request) -> Result<(), Failure> {
        let random = mixed(!self.plan.seed, request.number);
        let operation = self.objects.borrow().possible(self.plan.operation(request.number));
        let at = match operation {
            Operation::Create => self.create(client).await,
            Operation::Update => self.update(client, random).await,
            Operation::Delete => self.delete(client, random).await,
            Operation::Get => self.get(client, random).await,
            Operation::List => self.list(client).await,
            Operation::Record => self.record(client, request.number).await,
        };
        let at = at.map_err(failure(operation.kind()))?;
        self.site.answered(operation.kind(), &request, at);
        Ok(())
    }

    fn written(&self, object: &Object, at: Instant) {
        let at_ns = self.site.arrivals.ns_of(at);
        self.plan.writes.acknowledged(0, object.revision, at_ns);
    }

    async fn create(&self, client: &Client) -> Result<Instant, String> {
        let mut object = self.objects.borrow_mut().take_absent();
        let operation = self.put(&object);
        let created = self.change(client, &mut object, 0, operation).await;
        if let Ok(at) = created {
            self.written(&object, at);
        }
        // After an error nobody knows whether it is there; who takes it next finds out.
        self.objects.borrow_mut().give_present(object);
        created
    }

    async fn update(&self, client: &Client, random: u64) -> Result<Instant, String> {
        let mut object = self.objects.borrow_mut().take_present(random);
        let outdated = random % 100 < self.plan.args.conflict_percent;
        let revision = object.revision - i64::from(outdated);
        let operation = self.put(&object);
        let updated = self.change(client, &mut object, revision, operation).await;
        if let Ok(at) = updated {
            self.written(&object, at);
        }
        self.objects.borrow_mut().give_present(object);
        updated
    }

    async fn delete(&self, client: &Client, random: u64) -> Result<Instant, String> {
        let mut object = self.objects.borrow_mut().take_present(random);
        let (revision, operation) = (object.revision, delete_op(self.plan.key(object.number)));
        let deleted = self.change(client, &mut object, revision, operation).await;
        match deleted {
            Ok(at) => {
                self.written(&object, at);
                self.objects.borrow_mut().give_absent(object);
            }
            Err(_) => self.objects.borrow_mut().give_present(object),
        }
        deleted
    }

    async fn get(&self, client: &Client, random: u64) -> Result<Instant, String> {
        let number = self.objects.borrow().present(random);
        let request = get(self.plan.key(number));
        let (_, at): (RangeResponse, _) =
            self.site.call(&client.channel, Method::Range, &request).await?;
        Ok(at)
    }

    async fn list(&self, client: &Client) -> Result<Instant, String> {
        let request = self.plan.list();
        let read = match self.plan.args.list_stream {
            true => stream(&self.site, &client.channel, &request).await?,
            false => pages(&self.site, &client.channel, &request).await?,
        };
        self.site.count("listed-objects", read.keys);
        self.site.count("list-parts", read.parts);
        Ok(read.at)
    }

    /// Creates an Event object.
    async fn record(&self, client: &Client, number: u64) -> Result<Instant, String> {
        let lease = self.lease(client).await?;
        let name = format!("{}{:x}.{number:x}", self.plan.args.event_prefix, self.plan.run);
        let key = Bytes::from(name);
        let put = PutRequest { lease, ..put(key.clone(), self.plan.value.clone()) };
        match self.transact(client, &optimistic(key, 0, put_op(put))).await? {
            Ok((_, at)) => Ok(at),
            Err(_) => Err("an Event object of this run exists already".into()),
        }
    }

    /// The lease for one more Event object.
    async fn lease(&self, client: &Client) -> Result<i64, String> {
        let lease = match self.lease.get().filter(Lease::is_good) {
            Some(lease) => lease,
            None => {
                let begin = Instant::now();
                let id = grant(&self.site, client, LEASE_TTL_SECONDS).await?;
                self.site.ended("lease-grant", begin, Instant::now());
                Lease { id, granted: begin, objects: 0 }
            }
        };
        self.lease.set(Some(Lease { objects: lease.objects + 1, ..lease }));
        Ok(lease.id)
    }

    async fn watch(&self) -> Following {
        let mut feeds = Vec::new();
        for (nth, _) in self.site.share(self.plan.args.watchers).enumerate() {
            match self.plan.watch(&self.site, nth).await {
                Ok(feed) => feeds.push(feed),
                Err(error) => self.site.failed(failure(CREATE)(error)),
            }
        }
        Following::begin(&self.site, &self.plan.writes, feeds)
    }
}

impl Scenario for Kubernetes {
    fn run(self: Arc<Self>, site: Rc<Site>) -> Running {
        Box::pin(async move {
            self.writes.writer_comes();
            // The first threads have clients, if not all do.
            let sharing = site.threads.min(self.clients) as u64;
            let part = Rc::new(Part {
                plan: self.clone(),
                site: site.clone(),
                objects: RefCell::new(Objects::new(site.thread as u64, sharing)),
                lease: Cell::new(None),
            });
            let fill = |client: &Client| glommio::spawn_local(part.clone().fill(client.clone()));
            let filling: Vec<_> = site.clients().iter().map(fill).collect();
            for filled in filling {
                filled.await?;
            }
            // Learning of objects that were there is none of the load's conflicts.
            site.record.borrow_mut().counters.clear();
            site.begin()?;
            let watching = {
                let part = part.clone();
                glommio::spawn_local(async move { part.watch().await })
            };
            let there = part.clone();
            site.drive(async move |client: &Client, request| there.operate(client, request).await)
                .await;
            self.writes.writer_goes();
            let following = watching.await;
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
    use std::collections::BTreeMap;

    fn kubernetes(line: &str) -> Result<Kubernetes, String> {
        let cli = parsed(line);
        let WorkloadArgs::Kubernetes(args) = &cli.workload else { panic!("{line}") };
        Kubernetes::new(args, &cli.common)
    }

    #[test]
    fn mix_is_as_the_weights_say() {
        let kubernetes = kubernetes("kubernetes").unwrap();
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for number in 0..100_000 {
            *counts.entry(kubernetes.operation(number).kind()).or_default() += 1;
        }
        let expected = [
            ("create", 10),
            ("update", 60),
            ("delete", 10),
            ("get", 9),
            ("list", 1),
            ("record", 10),
        ];
        for (kind, percent) in expected {
            let difference = counts[kind].abs_diff(percent * 1000);
            assert!(difference < 500, "{kind}: {counts:?}");
        }
    }

    #[test]
    fn weight_0_is_never() {
        let line = "kubernetes --create-weight=0 --update-weight=0 --delete-weight=0 \
                    --get-weight=0 --event-weight=0";
        let lists = kubernetes(line).unwrap();
        assert!((0..100).all(|number| lists.operation(number) == Operation::List));
        let error = kubernetes(&format!("{line} --list-weight=0")).err().unwrap();
        assert!(error.contains("weights"), "{error}");
    }

    #[test]
    fn transactions_are_those_of_kubernetes() {
        let kubernetes = kubernetes("kubernetes").unwrap();
        let (key, value) = (kubernetes.key(7), kubernetes.value.clone());
        assert!(key.starts_with(b"/registry/pods/benchmark/"));
        let txn = optimistic(key.clone(), 42, put_op(put(key.clone(), value)));
        assert_eq!((txn.compare.len(), txn.success.len(), txn.failure.len()), (1, 1, 1));
        assert_eq!(txn.compare[0], unchanged_since(key, 42));
        let list = kubernetes.list();
        assert_eq!((list.limit, &*list.range_end), (500, &b"/registry/pods/benchmark0"[..]));
    }

    #[test]
    fn prefixes_must_be_apart() {
        for flags in ["--prefix=/registry/", "--prefix= --event-prefix=x"] {
            assert!(kubernetes(&format!("kubernetes {flags}")).is_err(), "{flags}");
        }
    }
}
