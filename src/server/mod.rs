//! Starts and ends a member: executors on cores, the mesh between them, ordered shutdown.
//!
//! The only module that starts executors. One of them, the log shard's, drives raft, log and store (`log_shard`) and
//! accepts connections, which it places (`placement`); every one of them, the log shard's too, serves connections
//! (`frontend`, `shard`). `lessor` is the leader's clock for leases.
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
mod checkpoints;
mod cpus;
pub mod data_dir;
mod defragment;
mod frontend;
mod lessor;
mod log_shard;
mod mesh;
mod placement;
mod shard;
mod signal;
mod start;
mod warming;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_lite::future::zip;
use glommio::{LocalExecutorBuilder, Placement as CorePlacement};
use urd_wal::disk::uring::UringDisk;

use self::checkpoints::Checkpoints;
use self::data_dir::{DataDir, StoredIdentity};
use self::frontend::Frontend;
use self::log_shard::{Inbox, LogShard, Port};
use self::mesh::{Link, Outbox, ToShard};
use self::placement::Placement;
use self::shard::{Shard, Shared, Uplink, Watching};
pub use self::start::RunError;
use self::warming::Warming;
use crate::api::node::{Identity, Limits, Published};
use crate::config::{AutoCompaction, ClusterState, Config, ListenUrl};
use crate::ids::{ClusterId, Index, MemberId, Term};
use crate::limits;
use crate::metrics::Metrics;
use crate::net;
use crate::raft::{self, Driver};
use crate::store::Store;
use crate::tree::checkpoint::{self, CheckpointFile, Opened};

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
    let computed = config.identity();
    let fresh = StoredIdentity::new(computed.cluster.0, computed.member.0, vec![computed.member.0]);
    let stored = match config.initial_cluster_state {
        ClusterState::New => data_dir.identity(fresh, &log_dir)?,
        ClusterState::Existing => data_dir.stored_identity()?.ok_or(RunError::NothingToJoin)?,
    };
    let clients = listen(&config.listen_client_urls, "clients")?;
    let http = listen(&config.listen_client_http_urls, "clients over HTTP")?;
    let metrics = listen(&config.listen_metrics_urls, "metrics")?;
    // Nothing is served there before there are other members; holding the port finds a clash now.
    let _peers = listen(&config.listen_peer_urls, "peers")?;

    let member = Member {
        config,
        stored,
        listeners: clients.into_iter().chain(http).chain(metrics).collect(),
        stop,
    };
    member.run()
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
    listeners: Vec<net::Bound>,
    stop: Arc<AtomicBool>,
}

impl Member<'_> {
    fn run(self) -> Result<(), RunError> {
        let cpus = self.cpus()?;
        let shared = Arc::new(self.shared(cpus.len())?);
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
        let log = LogExecutor {
            directory: self.config.log_dir(),
            tree_directory: self.config.tree_dir(),
            snapshot_count: self.config.snapshot_count,
            raft: self.raft_options()?,
            tick: self.config.heartbeat_interval,
            auto_compaction: self.config.auto_compaction,
            shared,
            options,
            listeners: self.listeners,
            open,
            stop: self.stop,
            tell: tell.clone(),
            cpus: cpus.clone(),
        };
        let log_thread = spawn("urd-log", log_cpu, move || async move {
            let ended = log.run(log_ends).await;
            // Nobody listens once the start was given up; then there is nothing left to say.
            tell.send(Said::Ended(ended)).ok();
        })?;

        let clients = self.config.advertise_client_urls.iter().map(|url| url.as_str());
        listen_to_the_log_shard(
            &told,
            MemberId(self.stored.member_id),
            &clients.collect::<Vec<_>>(),
        )?;
        // The log shard's last words were for the others to end as well.
        for thread in std::iter::once(log_thread).chain(threads) {
            thread.join().map_err(|error| RunError::Executor { what: error.to_string() })?;
        }
        tracing::info!("stopped");
        Ok(())
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
        let addresses: Vec<SocketAddr> =
            self.config.listen_client_urls.iter().map(ListenUrl::address).collect();
        Ok(cpus::assign(self.config.shards, &chosen, &(&self.config.name, addresses)))
    }

    fn shared(&self, shards: usize) -> Result<Shared, RunError> {
        let config = self.config;
        let texts =
            |urls: &[crate::config::Url]| urls.iter().map(|url| url.as_str().to_owned()).collect();
        Ok(Shared {
            identity: Identity {
                cluster: ClusterId(self.stored.cluster_id),
                member: MemberId(self.stored.member_id),
                name: config.name.clone(),
                peer_urls: texts(&config.initial_advertise_peer_urls),
                client_urls: texts(&config.advertise_client_urls),
            },
            limits: Limits {
                request_bytes: config.max_request_bytes,
                txn_ops: config.max_txn_ops,
                watch_progress_interval: config.watch_progress_notify_interval,
                quota_bytes: config.quota_bytes,
                lease_ttl_min: config.lease_ttl_min(),
            },
            start: random()?,
            published: ArcSwap::from_pointee(Published {
                view: Store::new().view(),
                term: Term(0),
                leader: None,
                committed: Index(0),
                sizes: Store::new().statistics(),
            }),
            metrics: Metrics::default(),
            watching: (0..shards).map(|_| Watching::default()).collect(),
            bytes_in_use: AtomicU64::new(0),
            defragment: defragment::Requests::default(),
        })
    }

    fn raft_options(&self) -> Result<raft::Options, RunError> {
        let config = self.config;
        Ok(raft::Options {
            member: MemberId(self.stored.member_id),
            voters: self.stored.voters.iter().copied().map(MemberId).collect(),
            election_ticks: usize::try_from(config.election_ticks()).unwrap_or(usize::MAX).max(2),
            pre_vote: config.pre_vote,
            start: random()?,
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

/// Everything that the log shard's executor takes along.
struct LogExecutor {
    directory: std::path::PathBuf,
    tree_directory: std::path::PathBuf,
    snapshot_count: u64,
    raft: raft::Options,
    tick: Duration,
    auto_compaction: AutoCompaction,
    shared: Arc<Shared>,
    options: net::Options,
    listeners: Vec<net::Bound>,
    open: Vec<Arc<AtomicUsize>>,
    stop: Arc<AtomicBool>,
    tell: mpsc::Sender<Said>,
    /// Those of all shards.
    cpus: Vec<usize>,
}

type MemberDriver = Driver<UringDisk, Vec<log_shard::Part>, log_shard::Reader>;

type LogEnd = (
    glommio::channels::shared_channel::SharedSender<ToShard>,
    glommio::channels::shared_channel::SharedReceiver<mesh::ToLog>,
);

impl LogExecutor {
    async fn run(self, log_ends: Vec<LogEnd>) -> Result<(), RunError> {
        let inbox = Rc::new(Inbox::new(Warming::new(&self.cpus)));
        let local = Shard::new(0, Arc::clone(&self.shared), Uplink::Local(Rc::clone(&inbox)));
        let compacting = auto_compaction::run(Rc::clone(&local), self.auto_compaction);
        glommio::spawn_local(compacting).detach();
        let own_open = self.open.first().map(Arc::clone).unwrap_or_default();
        let mut ports =
            vec![Rc::new(Port::Local(Frontend::start(local, self.options.clone(), own_open)))];
        for (to_shard, at_log) in log_ends {
            let (outbox, receiver) = zip(Outbox::connect(to_shard), at_log.connect()).await;
            ports.push(Rc::new(Port::Mesh(outbox)));
            let inbox = Rc::clone(&inbox);
            glommio::spawn_local(async move {
                while let Some(message) = receiver.recv().await {
                    inbox.push(message);
                }
            })
            .detach();
        }

        let (driver, file) = self.open_driver().await?;
        let checkpoints = Checkpoints::new(file, self.snapshot_count);
        let shared = Arc::clone(&self.shared);
        let log_shard = LogShard::new(driver, shared, ports.clone(), inbox, checkpoints);
        let accepting = Rc::new(RefCell::new(Vec::new()));
        let placement = Rc::new(Placement::new(self.open));
        let on_ready = {
            let (accepting, ports) = (Rc::clone(&accepting), ports.clone());
            let (listeners, tell) = (self.listeners, self.tell);
            move || {
                for bound in listeners {
                    let task = accept(bound.listen(), ports.clone(), Rc::clone(&placement));
                    accepting.borrow_mut().push(glommio::spawn_local(task));
                }
                // Nobody listens once the start was given up.
                tell.send(Said::Ready).ok();
            }
        };
        let drained = ports.clone();
        let on_stop = move || {
            tracing::info!("stopping: no new connections, answering calls in flight");
            // Dropping a task cancels it, and with it its listener.
            accepting.borrow_mut().clear();
            for port in &drained {
                port.post(ToShard::Drain);
            }
        };
        let ended = log_shard::run(log_shard, self.tick, self.stop, on_ready, on_stop).await;
        for port in &ports {
            port.post(ToShard::End);
        }
        Ok(ended?)
    }

    /// Opens the checkpoint and the log, and applies the log to the checkpoint.
    async fn open_driver(&self) -> Result<(MemberDriver, CheckpointFile<UringDisk>), RunError> {
        let opened = self.open_tree().await?;
        let checkpoint = opened.checkpoint.map(|meta| meta.stamp.index.0);
        let store = Store::open(opened.tree)?;
        let directory = || self.directory.display().to_string();
        let failed = |source| RunError::OpenLog { directory: directory(), source };
        let disk = UringDisk::open(&self.directory)
            .await
            .map_err(|source| RunError::LogDir { directory: directory(), source })?;
        let options = urd_wal::Options {
            segment_bytes: limits::SEGMENT_BYTES,
            ..urd_wal::Options::new(random()?)
        };
        let (log, recovered) = urd_wal::Log::open(disk, options).await.map_err(failed)?;
        for warning in &recovered.warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(
            checkpoint,
            first = log.first_index(),
            last = log.last_index(),
            "opened checkpoint and log"
        );
        let driver = Driver::open(&self.raft, log, &recovered, store).map_err(RunError::Replay)?;
        Ok((driver, opened.file))
    }

    async fn open_tree(&self) -> Result<Opened<UringDisk>, RunError> {
        let directory = || self.tree_directory.display().to_string();
        let disk = UringDisk::open(&self.tree_directory)
            .await
            .map_err(|source| RunError::TreeDir { directory: directory(), source })?;
        let opened = checkpoint::open(disk, CHECKPOINT_FILE).await?;
        for warning in &opened.warnings {
            tracing::warn!("{warning}");
        }
        Ok(opened)
    }
}

/// Accepts connections and hands each to the shard that serves it best.
async fn accept(listener: net::Listener, ports: Vec<Rc<Port>>, placement: Rc<Placement>) {
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                let shard = placement.place();
                ports
                    .get(shard)
                    .expect("invariant: every shard has a port")
                    .post(ToShard::Connection(accepted));
            }
            Err(error) => {
                // Out of file descriptors, mostly: connections that close will free some.
                tracing::warn!(%error, "cannot accept a connection");
                glommio::timer::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn spawn<F, T>(
    name: &str,
    cpu: usize,
    body: F,
) -> Result<glommio::ExecutorJoinHandle<T::Output>, RunError>
where
    F: FnOnce() -> T + Send + 'static,
    T: std::future::Future<Output = ()> + 'static,
{
    LocalExecutorBuilder::new(CorePlacement::Fixed(cpu))
        .name(name)
        .spawn(body)
        .map_err(|error| RunError::Executor { what: error.to_string() })
}
