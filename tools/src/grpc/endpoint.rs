//! Where a server listens, as users write it.

use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// The port of an endpoint that names none.
const PORT_DEFAULT: u16 = 2379;

/// `host:port`, `http://host:port` or a bare host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`, also what requests name as their authority.
    pub authority: String,
}

/// Why an endpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("{0}: TLS is not supported yet; give an http:// endpoint")]
    Tls(String),
    #[error("{0}: unix sockets are not supported")]
    Unix(String),
    #[error("{0:?} is not HOST:PORT or http://HOST:PORT")]
    Malformed(String),
    #[error("{authority}: {error}")]
    Unresolved { authority: String, error: std::io::Error },
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        let trimmed = text.trim();
        if trimmed.starts_with("https://") || trimmed.starts_with("unixs://") {
            return Err(EndpointError::Tls(trimmed.into()));
        }
        if trimmed.starts_with("unix:") {
            return Err(EndpointError::Unix(trimmed.into()));
        }
        let authority = trimmed.strip_prefix("http://").unwrap_or(trimmed).trim_end_matches('/');
        let malformed = || EndpointError::Malformed(text.into());
        if authority.is_empty() || authority.contains(['/', ' ', '@']) {
            return Err(malformed());
        }
        let host_end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
        match authority[host_end..].split_once(':') {
            None => Ok(Endpoint { authority: format!("{authority}:{PORT_DEFAULT}") }),
            Some((_, port)) => {
                port.parse::<u16>().map_err(|_| malformed())?;
                Ok(Endpoint { authority: authority.into() })
            }
        }
    }
}

impl Endpoint {
    /// The first address of the host. May ask a name server, and then blocks.
    pub fn resolve(&self) -> Result<SocketAddr, EndpointError> {
        let unresolved =
            |error| EndpointError::Unresolved { authority: self.authority.clone(), error };
        let mut addresses = self.authority.to_socket_addrs().map_err(unresolved)?;
        addresses.next().ok_or_else(|| unresolved(std::io::ErrorKind::AddrNotAvailable.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(text: &str) -> String {
        text.parse::<Endpoint>().map_or_else(|error| error.to_string(), |e| e.authority)
    }

    #[test]
    fn takes_what_users_write() {
        assert_eq!(authority("127.0.0.1:2379"), "127.0.0.1:2379");
        assert_eq!(authority(" http://localhost:1/ "), "localhost:1");
        assert_eq!(authority("example"), "example:2379");
        assert_eq!(authority("http://[::1]:7"), "[::1]:7");
        assert_eq!(authority("[::1]"), "[::1]:2379");
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "http://", "a b:1", "host:port", "host:70000", "host:1/path", "::1"] {
            let error = text.parse::<Endpoint>();
            assert!(matches!(error, Err(EndpointError::Malformed(_))), "{text}: {error:?}");
        }
        assert!(authority("https://localhost:2379").contains("TLS is not supported yet"));
        assert!(authority("unix://socket").contains("unix sockets"));
    }
}
