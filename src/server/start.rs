//! Errors of the start, with cause and remedy.

use std::io;

use thiserror::Error;

use super::data_dir::DataDirError;
use super::log_shard::Failure;
use crate::net::BindError;
use crate::raft::Fatal;

/// Why a member did not start, or ended otherwise than by being told to.
#[derive(Debug, Error)]
pub enum RunError {
    /// See [`DataDirError`].
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A first start was to join a cluster, and no other member is known.
    #[error(
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs \
         (--initial-cluster-state=existing joins a running cluster, one of whose members --initial-cluster has to name, and \
         which has to run: start a new cluster with --initial-cluster-state=new){}",
        because(reasons)
    )]
    NothingToJoin {
        /// What each of the addresses said.
        reasons: String,
    },
    /// See [`JoinError`](super::bootstrap::JoinError).
    #[error(transparent)]
    Join(#[from] super::bootstrap::JoinError),
    /// See [`AlreadyBootstrapped`](super::bootstrap::AlreadyBootstrapped).
    #[error(transparent)]
    AlreadyBootstrapped(#[from] super::bootstrap::AlreadyBootstrapped),
    /// An address cannot be listened on.
    #[error("{source} (for {purpose})")]
    Listen {
        /// Clients, peers or metrics.
        purpose: &'static str,
        /// Why not.
        source: BindError,
    },
    /// The system gave no random number.
    #[error("get a random number: {0}")]
    Random(io::Error),
    /// The processors could not be found out, or those asked for are not allowed.
    #[error("{0}")]
    Cpus(String),
    /// An executor did not start.
    #[error("start an io_uring executor: {what}{}", remedy_io_uring(what))]
    Executor {
        /// What was said.
        what: String,
    },
    /// The log's directory cannot be used.
    #[error("open the log's directory {directory}: {source}")]
    LogDir {
        /// Where.
        directory: String,
        /// Why.
        source: io::Error,
    },
    /// The log cannot be opened.
    #[error("open the log in {directory}: {source}")]
    OpenLog {
        /// Where.
        directory: String,
        /// Why.
        source: urd_wal::OpenError,
    },
    /// The checkpoint's directory cannot be used.
    #[error("open the checkpoint's directory {directory}: {source}")]
    TreeDir {
        /// Where.
        directory: String,
        /// Why.
        source: io::Error,
    },
    /// The checkpoint cannot be opened.
    #[error("{0}")]
    OpenCheckpoint(#[from] crate::tree::checkpoint::OpenError),
    /// The checkpoint is not one of a store.
    #[error("open the checkpoint: {0}")]
    Store(#[from] crate::store::Fault),
    /// The log does not make sense.
    #[error("replay the log: {0}")]
    Replay(Fatal),
    /// Signals cannot be handled.
    #[error("handle signals: {0}")]
    Signals(io::Error),
    /// It is no member any more.
    #[error(transparent)]
    Removed(#[from] super::bootstrap::PermanentlyRemoved),
    /// The member ended while it ran.
    #[error(transparent)]
    Failed(#[from] Failure),
}

fn because(reasons: &str) -> String {
    if reasons.is_empty() { String::new() } else { format!(": {reasons}") }
}

fn remedy_io_uring(what: &str) -> &'static str {
    let what = what.to_ascii_lowercase();
    if what.contains("memlock") || what.contains("os error 12") {
        " (io_uring needs locked memory: raise it with `ulimit -l unlimited`, LimitMEMLOCK= in a unit, or \
         --ulimit memlock=-1 for a container)"
    } else if what.contains("os error 1)")
        || what.contains("os error 38")
        || what.contains("denied")
    {
        " (io_uring is switched off: set the sysctl kernel.io_uring_disabled to 0, or allow io_uring_setup, \
         io_uring_enter and io_uring_register in the container's seccomp profile; Linux 5.8 or newer is needed)"
    } else {
        ""
    }
}
