//! Errors of the start, with cause and remedy.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use super::data_dir::DataDirError;
use super::log_shard::Failure;
use crate::raft::Fatal;

/// Why a member did not start, or ended otherwise than by being told to.
#[derive(Debug, Error)]
pub enum RunError {
    /// See [`DataDirError`].
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// An address cannot be listened on.
    #[error("listen on {address} for {purpose}: {source}{}", remedy_listen(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Clients, peers or metrics.
        purpose: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The processors could not be found out, or those asked for are not allowed.
    #[error("{0}")]
    Cpus(String),
    /// An executor did not start.
    #[error("start an io_uring executor: {what}{}", remedy_io_uring(what))]
    Executor {
        /// What was said.
        what: String,
    },
    /// The log cannot be opened.
    #[error("open the log in {directory}: {source}")]
    OpenLog {
        /// Where.
        directory: String,
        /// Why.
        source: urd_wal::OpenError,
    },
    /// The log does not make sense.
    #[error("replay the log: {0}")]
    Replay(Fatal),
    /// Signals cannot be handled.
    #[error("handle signals: {0}")]
    Signals(io::Error),
    /// The member ended while it ran.
    #[error(transparent)]
    Failed(#[from] Failure),
}

fn remedy_listen(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            " (another process listens there: stop it, or choose another port)"
        }
        io::ErrorKind::AddrNotAvailable => " (no interface of this machine has that address)",
        io::ErrorKind::PermissionDenied => {
            " (ports below 1024 need CAP_NET_BIND_SERVICE: choose another, or grant it)"
        }
        _ => "",
    }
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
