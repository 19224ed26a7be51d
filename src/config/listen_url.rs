//! URLs that this process can listen on: plain HTTP on a literal address.
//!
//! A [`ListenUrl`] is made from a [`Url`] by a check that names what is missing, so that an `https://` URL can never end
//! up as an unencrypted listener.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::url::{Scheme, Url};

/// A URL that can be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenUrl {
    url: Url,
    address: SocketAddr,
}

impl ListenUrl {
    /// What to bind. `localhost` is 127.0.0.1, as etcd binds it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL as configured.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl TryFrom<Url> for ListenUrl {
    type Error = String;

    fn try_from(url: Url) -> Result<ListenUrl, String> {
        match url.scheme() {
            Scheme::Http => {}
            Scheme::Https => {
                return Err(format!("TLS is not supported yet, so {url} cannot be listened on"));
            }
            Scheme::Unix | Scheme::Unixs => {
                return Err(format!(
                    "unix sockets are not supported yet, so {url} cannot be listened on"
                ));
            }
        }
        let ip = match url.host() {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host.parse().map_err(|_| format!("expected IP in URL for binding ({url})"))?,
        };
        let address = SocketAddr::new(ip, url.port());
        Ok(ListenUrl { url, address })
    }
}
