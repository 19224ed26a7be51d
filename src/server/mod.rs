//! Starts and ends a member: executors on cores, the mesh between them, ordered shutdown.
//!
//! The only module that starts executors. One of them, the log shard's, drives raft, log and store (`log_shard`) and
//! accepts connections, which it places (`placement`); every one of them, the log shard's too, serves connections
//! (`frontend`, `shard`). `lessor` is the leader's clock for leases, `v2_expiry` that for v2's nodes.
//!
//! # Start
//!
//! What can fail for outside reasons fails first, on the caller's thread: lock, identity, listeners. Then the executors
//! start; the log shard opens and replays the log, and once this member leads, connections are accepted.
//!
//! # End
//!
//! 1. A signal sets a flag, which the log shard sees within a tick.
//! 2. It stops accepting and tells every shard to drain: no new calls, those in flight are answered.
//! 3. Each shard reports when its connections are closed, or its time for that is over.
//! 4. When all have, what leases have left is checkpointed. When nothing is queued or being written any more, the log is
//!    closed and the process ends with 0.

mod aside;
mod auto_compaction;
pub mod bootstrap;
mod checkpoints;
mod corruption;
mod cpus;
pub mod data_dir;
pub mod defragment;
mod discovery;
mod executor;
mod frontend;
pub mod lessor;
mod log_shard;
mod mesh;
mod placement;
mod publish;
mod shard;
mod signal;
mod start;
mod told;
pub mod v2_expiry;
mod warming;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_lite::future::zip;
use glommio::{LocalExecutorBuilder, Placement as CorePlacement};
use urd_proto::etcdserverpb::Member as ProtoMember;

use self::bootstrap::Known;
use self::data_dir::{DataDir, StoredIdentity};
use self::executor::LogExecutor;
use self::frontend::Frontend;
use self::log_shard::Membership;
pub use self::log_shard::question;
use self::mesh::{Link, Outbox, ToShard};
use self::shard::{Shard, Shared, Uplink, Watching};
pub use self::start::RunError;
use crate::api::cors::Origins;
use crate::api::node::{Identity, Limits, Published};
use crate::api::v2;
use crate::config::{ClusterState, Config, ListenUrl};
use crate::ids::{ClusterId, Index, MemberId, Term};
use crate::limits;
use crate::metrics::Metrics;
use crate::net;
use crate::raft;
use crate::store::Store;
use crate::url::Url;

/// The name of the checkpoint file in the tree's directory.
pub const CHECKPOINT_FILE: &str = "checkpoint";

/// Runs a member until it is told to stop by SIGTERM or SIGINT.
pub fn run(config: &Config) -> Result<(), RunError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        // A second signal ends a shutdown that hangs.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(RunError::Signals)?;
    }
    let data_dir = DataDir::open(&config.data_dir)?;
    let log_dir = config.log_dir();
    data_dir::make_private(&log_dir)?;
    data_dir::make_private(&config.tree_dir())?;
    let (stored, known) = identity(config, &data_dir, &log_dir)?;
    let clients = listen(&config.listen_client_urls, "clients")?;
    let http = listen(&config.listen_client_http_urls, "clients over HTTP")?;
    let metrics = listen(&config.listen_metrics_urls, "metrics")?;
    let peer_listeners = listen(&config.listen_peer_urls, "peers")?;

    let member = Member {
        config,
        stored,
        known,
        listeners: clients.into_iter().chain(http).chain(metrics).collect(),
        peer_listeners,
        stop,
    };
    member.run()
}

/// Who this member is, and the members of the cluster that it joins, as long as its own state does not tell them.
fn identity(
    config: &Config,
    data_dir: &DataDir,
    log_dir: &Path,
) -> Result<(StoredIdentity, Option<Known>), RunError> {
    if let Some(mut stored) = data_dir.stored_identity()? {
        stored.complete(&config.name, &texts(&config.initial_advertise_peer_urls));
        let has_state = std::fs::metadata(config.tree_dir().join(CHECKPOINT_FILE))
            .is_ok_and(|file| file.len() > 0);
        // It has joined, and no state has come yet.
        let is_joining = stored.first_members.is_empty() && !has_state;
        let known = is_joining.then(|| discovery::members(config)).transpose()?;
        return Ok((stored, known));
    }
    match config.initial_cluster_state {
        ClusterState::New => {
            let fresh = bootstrap::of_new_cluster(config);
            let own = MemberId(fresh.member_id);
            // Who runs already would say so; nobody has to run.
            if config.initial_cluster.members.len() > 1
                && let Ok(known) = discovery::members(config)
                && known.cluster.0 == fresh.cluster_id
                && known.has_started(own)
            {
                return Err(bootstrap::AlreadyBootstrapped(own).into());
            }
            Ok((data_dir.identity(fresh, log_dir)?, None))
        }
        ClusterState::Existing => {
            let known = discovery::members(config)?;
            let stored = data_dir.identity(known.join(config)?, log_dir)?;
            Ok((stored, Some(known)))
        }
    }
}

fn listen(urls: &[ListenUrl], purpose: &'static str) -> Result<Vec<net::Bound>, RunError> {
    urls.iter()
        .map(|url| {
            let address: SocketAddr = url.address();
            bind(address).map_err(|source| RunError::Listen { purpose, source })
        })
        .collect()
}

/// Binds, and waits a little for an address in use: after `kill -9` the kernel closes a listener only when it has taken
/// the dead process's io_uring down, which may be after its successor starts.
fn bind(address: SocketAddr) -> Result<net::Bound, net::BindError> {
    let give_up = Instant::now() + limits::BIND_PATIENCE;
    loop {
        match net::Bound::bind(address) {
            Err(net::BindError::InUse { .. }) if Instant::now() < give_up => {
                std::thread::sleep(Duration::from_millis(50));
            }
            result => return result,
        }
    }
}

/// What a member is started with.
struct Member<'a> {
    config: &'a Config,
    stored: StoredIdentity,
    /// The cluster that it joins.
    known: Option<Known>,
    listeners: Vec<net::Bound>,
    peer_listeners: Vec<net::Bound>,
    stop: Arc<AtomicBool>,
}

impl Member<'_> {
    fn run(self) -> Result<(), RunError> {
        let cpus = self.cpus()?;
        let shared = Arc::new(self.shared(&cpus)?);
        let open: Vec<Arc<AtomicUsize>> = cpus.iter().map(|_| Arc::default()).collect();
        let options = self.net_options();
        let mut log_ends = Vec::new();
        let mut threads = Vec::new();
        for (id, (cpu, open)) in cpus.iter().zip(&open).enumerate().skip(1) {
            let Link { log_end, shard_end } = mesh::link();
            log_ends.push(log_end);
            let (shared, open, options) = (Arc::clone(&shared), Arc::clone(open), options.clone());
            let (to_log, at_shard) = shard_end;
            threads.push(spawn("urd-shard", *cpu, move || async move {
                // Each end waits for the other, so both directions are connected at once.
                let (outbox, receiver) = zip(Outbox::connect(to_log), at_shard.connect()).await;
                let uplink = Uplink::Mesh(outbox);
                let frontend = Frontend::start(Shard::new(id, shared, uplink), options, open);
                while let Some(message) = receiver.recv().await {
                    if matches!(message, ToShard::End) {
                        break;
                    }
                    frontend.receive(message);
                }
            })?);
        }

        let (tell, told) = mpsc::channel();
        let log_cpu =
            *cpus.first().ok_or_else(|| RunError::Cpus("no processor to run on".into()))?;
        let (config, member) = (self.config, MemberId(self.stored.member_id));
        let log = self.log_executor(shared, open, cpus, tell.clone())?;
        let log_thread = spawn("urd-log", log_cpu, move || async move {
            let ended = log.run(log_ends).await;
            // Nobody listens once the start was given up; then there is nothing left to say.
            tell.send(Said::Ended(ended)).ok();
        })?;

        let clients = config.advertise_client_urls.iter().map(|url| url.as_str());
        listen_to_the_log_shard(&told, member, &clients.collect::<Vec<_>>())?;
        // The log shard's last words were for the others to end as well.
        for thread in std::iter::once(log_thread).chain(threads) {
            thread.join().map_err(|error| RunError::Executor { what: error.to_string() })?;
        }
        tracing::info!("stopped");
        Ok(())
    }

    fn log_executor(
        self,
        shared: Arc<Shared>,
        open: Vec<Arc<AtomicUsize>>,
        cpus: Vec<usize>,
        tell: mpsc::Sender<Said>,
    ) -> Result<LogExecutor, RunError> {
        let config = self.config;
        Ok(LogExecutor {
            directory: config.log_dir(),
            tree_directory: config.tree_dir(),
            snapshot_count: config.snapshot_count,
            raft: self.raft_options()?,
            options: self.net_options(),
            stored: self.stored,
            joins: self.known.map(|known| known.members).unwrap_or_default(),
            alone: config.force_new_cluster.then(|| ProtoMember {
                peer_ur_ls: texts(&config.initial_advertise_peer_urls),
                ..shared.told.clone()
            }),
            corruption: corruption::Checks {
                newest: config.corrupt_check_time,
                compacted: config.compact_hash_check_time,
            },
            tick: config.heartbeat_interval,
            auto_compaction: config.auto_compaction,
            membership: Membership::new(config.election_timeout),
            shared,
            listeners: self.listeners,
            peer_listeners: self.peer_listeners,
            open,
            stop: self.stop,
            tell,
            cpus,
        })
    }

    fn cpus(&self) -> Result<Vec<usize>, RunError> {
        let allowed = cpus::allowed()
            .map_err(|error| RunError::Cpus(format!("find out the processors: {error}")))?;
        let chosen = match &self.config.cpus {
            None => allowed,
            Some(chosen) => {
                if let Some(other) = chosen.iter().find(|cpu| !allowed.contains(cpu)) {
                    return Err(RunError::Cpus(format!(
                        "--cpus names processor {other}, but this process may use only {allowed:?}"
                    )));
                }
                chosen.clone()
            }
        };
        let place = match self.config.place_on_host() {
            Some(number) => cpus::Place::OnHost(number),
            None => {
                let addresses: Vec<SocketAddr> =
                    self.config.listen_client_urls.iter().map(ListenUrl::address).collect();
                cpus::Place::of_salt(&(&self.config.name, addresses))
            }
        };
        Ok(cpus::assign(self.config.shards, &chosen, place))
    }

    fn shared(&self, cpus: &[usize]) -> Result<Shared, RunError> {
        let config = self.config;
        Ok(Shared {
            identity: Identity {
                cluster: ClusterId(self.stored.cluster_id),
                member: MemberId(self.stored.member_id),
            },
            told: ProtoMember {
                id: self.stored.member_id,
                name: config.name.clone(),
                client_ur_ls: texts(&config.advertise_client_urls),
                ..ProtoMember::default()
            },
            strict_reconfig_check: config.strict_reconfig_check,
            limits: Limits {
                request_bytes: config.max_request_bytes,
                txn_ops: config.max_txn_ops,
                watch_progress_interval: config.watch_progress_notify_interval,
                quota_bytes: config.quota_bytes,
                learners: config.max_learners,
                lease_ttl_min: config.lease_ttl_min(),
                election_timeout: config.election_timeout,
                v2: config.enable_v2,
                v2_history: config.v2_history,
            },
            start: random()?,
            started: shard::unix_nanoseconds(),
            origins: Origins::new(config.cors.clone()),
            published: ArcSwap::from_pointee(Published {
                view: Store::new().view(),
                term: Term(0),
                leader: None,
                committed: Index(0),
                sizes: Store::new().statistics(),
            }),
            metrics: Metrics::default(),
            v2_tally: v2::Tally::default(),
            cpus: cpus.to_vec(),
            watching: cpus.iter().map(|_| Watching::default()).collect(),
            bytes_in_use: AtomicU64::new(0),
            defragment: defragment::Requests::default(),
        })
    }

    fn raft_options(&self) -> Result<raft::Options, RunError> {
        let config = self.config;
        Ok(raft::Options {
            member: MemberId(self.stored.member_id),
            election_ticks: usize::try_from(config.election_ticks()).unwrap_or(usize::MAX).max(2),
            pre_vote: config.pre_vote,
            alone: config.force_new_cluster,
            start: random()?,
            request_ticks: u64::try_from(
                limits::REQUEST_TIMEOUT.as_nanos() / config.heartbeat_interval.as_nanos().max(1),
            )
            .unwrap_or(u64::MAX),
            window_entries: limits::WINDOW_ENTRIES_MAX,
            flow: raft::Flow::default(),
        })
    }

    fn net_options(&self) -> net::Options {
        let config = self.config;
        net::Options {
            message_bytes_max: config.max_request_bytes + limits::REQUEST_OVERHEAD_BYTES,
            streams_max: config.max_concurrent_streams,
            keepalive_min_time: config.grpc_keepalive.min_time,
            keepalive_interval: config.grpc_keepalive.interval,
            keepalive_timeout: config.grpc_keepalive.timeout,
            ..net::Options::default()
        }
    }
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(|url| url.as_str().to_owned()).collect()
}

/// A number that nobody can foresee and no earlier start had.
fn random() -> Result<u64, RunError> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| RunError::Random(errno.into()))?;
    Ok(u64::from_le_bytes(bytes))
}

/// What the log shard's thread says.
enum Said {
    Ready,
    Ended(Result<(), RunError>),
}

/// Until it has ended.
fn listen_to_the_log_shard(
    told: &mpsc::Receiver<Said>,
    member: MemberId,
    clients: &[&str],
) -> Result<(), RunError> {
    loop {
        match told.recv() {
            Ok(Said::Ready) => {
                tracing::info!(%member, ?clients, "ready to serve client requests");
            }
            Ok(Said::Ended(ended)) => return ended,
            Err(mpsc::RecvError) => {
                return Err(RunError::Executor { what: "the log shard's thread ended".into() });
            }
        }
    }
}

/// Starts an executor on a thread of its own, and returns once `body` has begun there.
///
/// glommio's executor goes to sleep with its first task still to be run if the kernel lets its thread wait, just before that
/// task, for as long as its preemption timer runs (100 ms): `run_task_queues` then finds that it is to be preempted, runs
/// nothing, and that counts as having nothing to run. Later any timer or message wakes it, that of [`wake_now_and_then`] at
/// the latest; at the start there is none, and the member would never come up. So an executor that does not begin is given
/// up, and left asleep, for another one.
fn spawn<F, T>(
    name: &str,
    cpu: usize,
    body: F,
) -> Result<glommio::ExecutorJoinHandle<T::Output>, RunError>
where
    F: FnOnce() -> T + Send + 'static,
    T: std::future::Future<Output = ()> + 'static,
{
    // Whoever begins first takes it: one that was given up may wake up after all.
    let body = Arc::new(Mutex::new(Some(body)));
    let (tell, told) = mpsc::channel();
    let mut executors = Vec::new();
    loop {
        let (attempt, body, tell) = (executors.len(), Arc::clone(&body), tell.clone());
        let executor = LocalExecutorBuilder::new(CorePlacement::Fixed(cpu))
            .name(name)
            .spawn(move || async move {
                let taken = body.lock().expect("invariant: no holder panics").take();
                if let Some(body) = taken {
                    // It is heard unless the whole start was given up.
                    tell.send(attempt).ok();
                    glommio::spawn_local(wake_now_and_then()).detach();
                    body().await;
                }
            })
            .map_err(|error| RunError::Executor { what: error.to_string() })?;
        executors.push(executor);
        if let Ok(begun) = told.recv_timeout(limits::EXECUTOR_PATIENCE) {
            return Ok(executors.swap_remove(begun));
        }
        tracing::warn!(name, cpu, "an executor did not begin; starting another");
    }
}

/// See [`limits::WAKE_INTERVAL`].
async fn wake_now_and_then() {
    loop {
        glommio::timer::sleep(limits::WAKE_INTERVAL).await;
    }
}
