//! The log shard's executor: what it opens, connects and starts, in order.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc;
use std::time::Duration;

use futures_lite::future::zip;
use urd_proto::etcdserverpb::Member as ProtoMember;
use urd_wal::disk::uring::UringDisk;
use urd_wal::{Log, OpenError, Recovered};

use super::checkpoints::Checkpoints;
use super::data_dir::StoredIdentity;
use super::frontend::Frontend;
use super::log_shard::{
    self, Doorkeeper, End, Inbox, LogShard, Makings, Membership, Port, Receiving,
};
use super::mesh::{self, Outbox, ToShard};
use super::placement::Placement;
use super::shard::{Shard, Shared, Uplink};
use super::start::RunError;
use super::warming::Warming;
use super::{
    CHECKPOINT_FILE, Said, auto_compaction, bootstrap, corruption, cpus, discovery, publish, random,
};
use crate::config::AutoCompaction;
use crate::limits;
use crate::net;
use crate::raft::transport::{self, Transport};
use crate::raft::{self, Driver};
use crate::store::Store;
use crate::tree::checkpoint::{self, CheckpointFile, Opened};

/// How often a log is opened before its want of room is believed.
const LOG_OPEN_ATTEMPTS: usize = 20;
const LOG_OPEN_RETRY: Duration = Duration::from_millis(100);

/// Everything that the log shard's executor takes along.
pub(super) struct LogExecutor {
    pub(super) directory: PathBuf,
    pub(super) tree_directory: PathBuf,
    pub(super) snapshot_count: u64,
    pub(super) raft: raft::Options,
    pub(super) stored: StoredIdentity,
    /// The members of the cluster that it joins.
    pub(super) joins: Vec<ProtoMember>,
    /// `--force-new-cluster`: this member, as it says of itself.
    pub(super) alone: Option<ProtoMember>,
    pub(super) corruption: corruption::Checks,
    pub(super) tick: Duration,
    pub(super) auto_compaction: AutoCompaction,
    pub(super) membership: Membership,
    pub(super) shared: Arc<Shared>,
    pub(super) options: net::Options,
    pub(super) listeners: Vec<net::Bound>,
    pub(super) peer_listeners: Vec<net::Bound>,
    pub(super) open: Vec<Arc<AtomicUsize>>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) tell: mpsc::Sender<Said>,
    /// Those of all shards.
    pub(super) cpus: Vec<usize>,
}

type MemberDriver = Driver<UringDisk, Vec<log_shard::Part>, log_shard::Reader>;

type LogEnd = (
    glommio::channels::shared_channel::SharedSender<ToShard>,
    glommio::channels::shared_channel::SharedReceiver<mesh::ToLog>,
);

impl LogExecutor {
    pub(super) async fn run(mut self, log_ends: Vec<LogEnd>) -> Result<(), RunError> {
        let cpus = self.cpus.clone();
        // Its one thread writes checkpoints.
        let made = glommio::executor().spawn_blocking(move || cpus::make_background(&cpus)).await;
        if let Err(error) = made {
            tracing::info!(%error, "checkpoints are written at the shards' own priority");
        }
        let inbox = Rc::new(Inbox::new(Warming::new(&self.cpus)));
        let local = Shard::new(0, Arc::clone(&self.shared), Uplink::Local(Rc::clone(&inbox)));
        let compacting = auto_compaction::run(Rc::clone(&local), self.auto_compaction);
        glommio::spawn_local(compacting).detach();
        let publishing = publish::run(Rc::clone(&local), self.shared.told.clone());
        glommio::spawn_local(publishing).detach();
        let own_open = self.open.first().map(Arc::clone).unwrap_or_default();
        let checked = Rc::clone(&local);
        let mut ports =
            vec![Rc::new(Port::Local(Frontend::start(local, self.options.clone(), own_open)))];
        ports.extend(connect_shards(&inbox, log_ends).await);

        let (driver, file, disk) = self.open_driver().await?;
        let own = self.shared.identity.member;
        let transport = self.start_transport(&inbox, disk);
        transport.set_peers(&match driver.members().is_empty() {
            true => discovery::peers(self.joins.iter(), own),
            false => discovery::peers(driver.members().iter(), own),
        });
        corruption::start(&checked, &transport, self.corruption);

        let log_shard = LogShard::new(Makings {
            driver,
            shared: Arc::clone(&self.shared),
            ports: ports.clone(),
            inbox,
            transport,
            checkpoints: Checkpoints::new(file, self.snapshot_count),
            membership: self.membership,
        });
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
        match ended? {
            End::Stopped => Ok(()),
            End::Removed => Err(bootstrap::PermanentlyRemoved(own).into()),
        }
    }

    /// Listens to the other members, and for those to come.
    fn start_transport(&mut self, inbox: &Rc<Inbox<UringDisk>>, disk: UringDisk) -> Rc<Transport> {
        let doorkeeper = Rc::new(Doorkeeper {
            inbox: Rc::clone(inbox),
            shared: Arc::clone(&self.shared),
            receiving: Receiving::new(disk),
        });
        let identity = &self.shared.identity;
        let options = transport::Options::new(
            identity.cluster,
            identity.member,
            self.raft.start,
            self.membership.election_timeout,
        );
        let transport = Transport::start(options, doorkeeper);
        for bound in std::mem::take(&mut self.peer_listeners) {
            let (listener, transport) = (bound.listen(), Rc::clone(&transport));
            glommio::spawn_local(async move {
                loop {
                    match listener.accept().await {
                        Ok(accepted) => transport.serve(accepted),
                        Err(error) => {
                            tracing::warn!(%error, "cannot accept a member's connection");
                            glommio::timer::sleep(Duration::from_millis(100)).await;
                        }
                    }
                }
            })
            .detach();
        }
        transport
    }

    /// Opens the log. A process that was killed lets go of its files a moment after its end, and of the room of those that
    /// the log has no use for.
    async fn open_log(&self) -> Result<(Log<UringDisk>, Recovered), RunError> {
        let directory = || self.directory.display().to_string();
        let mut attempts = 1;
        loop {
            let disk = UringDisk::open(&self.directory)
                .await
                .map_err(|source| RunError::LogDir { directory: directory(), source })?;
            let options = urd_wal::Options {
                segment_bytes: limits::SEGMENT_BYTES,
                ..urd_wal::Options::new(random()?)
            };
            match Log::open(disk, options).await {
                Err(OpenError::Full { .. }) if attempts < LOG_OPEN_ATTEMPTS => {
                    attempts += 1;
                    glommio::timer::sleep(LOG_OPEN_RETRY).await;
                }
                opened => {
                    let failed = |source| RunError::OpenLog { directory: directory(), source };
                    return opened.map_err(failed);
                }
            }
        }
    }

    /// Opens the checkpoint and the log, and applies the log to the checkpoint.
    async fn open_driver(
        &self,
    ) -> Result<(MemberDriver, CheckpointFile<UringDisk>, UringDisk), RunError> {
        let (opened, tree_disk) = self.open_tree().await?;
        let stamp = opened.checkpoint.map(|meta| meta.stamp);
        let checkpoint = stamp.map(|stamp| stamp.index.0);
        let mut store = match stamp {
            Some(stamp) => Store::open_at(opened.tree, stamp)?,
            None => Store::open(opened.tree)?,
        };
        let (log, recovered) = self.open_log().await?;
        for warning in &recovered.warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(
            checkpoint,
            first = log.first_index(),
            last = log.last_index(),
            "opened checkpoint and log"
        );
        bootstrap::begin(&mut store, &self.stored, &log.entries());
        let mut driver =
            Driver::open(&self.raft, log, &recovered, store).map_err(RunError::Replay)?;
        if let Some(own) = &self.alone {
            tracing::warn!("forcing a new cluster: this member alone, with all that it has");
            driver.force_new_cluster(own).map_err(RunError::Replay)?;
            // In no log: it must be durable before anything follows it.
            driver.publish();
            let written = driver.begin_checkpoint().write(&opened.file).await;
            driver.end_checkpoint(written.map_err(log_shard::Failure::from)?);
        }
        Ok((driver, opened.file, tree_disk))
    }

    async fn open_tree(&self) -> Result<(Opened<UringDisk>, UringDisk), RunError> {
        let directory = || self.tree_directory.display().to_string();
        let disk = UringDisk::open(&self.tree_directory)
            .await
            .map_err(|source| RunError::TreeDir { directory: directory(), source })?;
        let opened = checkpoint::open(disk.clone(), CHECKPOINT_FILE).await?;
        for warning in &opened.warnings {
            tracing::warn!("{warning}");
        }
        Ok((opened, disk))
    }
}

/// Connects the other shards, in the order of their numbers.
async fn connect_shards(inbox: &Rc<Inbox<UringDisk>>, log_ends: Vec<LogEnd>) -> Vec<Rc<Port>> {
    let mut ports = Vec::new();
    for (to_shard, at_log) in log_ends {
        let (outbox, receiver) = zip(Outbox::connect(to_shard), at_log.connect()).await;
        ports.push(Rc::new(Port::Mesh(outbox)));
        let inbox = Rc::clone(inbox);
        glommio::spawn_local(async move {
            while let Some(message) = receiver.recv().await {
                inbox.push(message);
            }
        })
        .detach();
    }
    ports
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
