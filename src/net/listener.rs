//! Listening sockets.
//!
//! glommio's own `bind` sets `SO_REUSEPORT`, so that two servers could listen on one port and each get some of the
//! connections, silently. Here the standard library binds, which sets `SO_REUSEADDR` only: a second server is told
//! that the address is in use.
//!
//! It does not place connections on shards: [`Listener::accept`] yields what any executor can take over.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::time::Duration;

use glommio::net::{AcceptedTcpStream, TcpListener};
use rustix::io::Errno;
use thiserror::Error;

/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 4096;
/// How long to wait for a descriptor to become free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
pub enum BindError {
    /// Another socket listens there.
    #[error(
        "cannot listen on {address}: the address is in use; another server may be running \
         (`ss -ltnp` shows which), stop it or choose another address"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The address is no address of this machine.
    #[error(
        "cannot listen on {address}: this machine has no such address; listen on one of its own \
         (`ip address` shows them), or on 0.0.0.0 for all"
    )]
    NotAvailable {
        /// The address.
        address: SocketAddr,
    },
    /// Not permitted, such as a port below 1024 without the capability.
    #[error(
        "cannot listen on {address}: permission denied; ports below 1024 need CAP_NET_BIND_SERVICE"
    )]
    NotPermitted {
        /// The address.
        address: SocketAddr,
    },
    /// Something else.
    #[error("cannot listen on {address}: {source}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl BindError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address },
            io::ErrorKind::AddrNotAvailable => Self::NotAvailable { address },
            io::ErrorKind::PermissionDenied => Self::NotPermitted { address },
            _ => Self::Other { address, source },
        }
    }
}

/// A bound address, not yet tied to an executor, so that start-up can bind before it starts any.
#[derive(Debug)]
pub struct Bound(StdListener);

impl Bound {
    /// Binds `address` and lets clients connect; they wait in the backlog until someone accepts.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let error = |source| BindError::new(address, source);
        let listener = StdListener::bind(address).map_err(error)?;
        // The standard library's backlog is short for a thousand clients that connect at once; to listen again only
        // changes it.
        rustix::net::listen(&listener, BACKLOG).map_err(|errno| error(errno.into()))?;
        Ok(Self(listener))
    }

    /// Where it listens: with port 0 asked for, the port that was given.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Ties the socket to the executor of this thread.
    #[allow(unsafe_code)]
    pub fn listen(self) -> Listener {
        // SAFETY: the descriptor is a listening TCP socket, and `into_raw_fd` has just given up its ownership, so the
        // new listener is the only owner.
        Listener(unsafe { TcpListener::from_raw_fd(self.0.into_raw_fd()) })
    }
}

/// A listening socket on an executor.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Waits for the next connection. [`AcceptedTcpStream::bind_to_executor`] must follow, on any executor, or its
    /// descriptor stays open.
    ///
    /// What concerns one connection only is skipped, and a process out of descriptors waits for some to be closed,
    /// so an error here means that the socket itself is of no use any more.
    pub async fn accept(&self) -> io::Result<AcceptedTcpStream> {
        let mut exhausted = false;
        loop {
            let error = match self.0.shared_accept().await {
                Ok(accepted) => return Ok(accepted),
                Err(error) => io::Error::from(error),
            };
            match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::CONNABORTED | Errno::INTR | Errno::PROTO | Errno::PERM) => {}
                Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    if !exhausted {
                        exhausted = true;
                        tracing::warn!(
                            %error,
                            "cannot accept connections; raise the limit of open files (ulimit -n)"
                        );
                    }
                    glommio::timer::sleep(ACCEPT_PAUSE).await;
                }
                _ => return Err(error),
            }
        }
    }
}
