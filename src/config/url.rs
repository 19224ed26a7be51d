//! URLs as etcd's flags take them: `http://host:port` and nothing behind it.
//!
//! A [`Url`] is what is told to others (advertised, hashed into ids, compared as text). A
//! [`ListenUrl`] is one that this process can bind: plain HTTP on a literal address. The second is
//! made from the first by a check that names what is missing, so that an `https://` URL can never
//! end up as an unencrypted listener.
//!
//! Not here: resolving host names, percent-encoding, paths, queries, credentials.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How to talk to the other side of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Unencrypted TCP.
    Http,
    /// TLS on TCP. Such a URL can be advertised (a proxy may end TLS) but not listened on.
    Https,
    /// A unix socket; `host` holds what follows the scheme.
    Unix,
    /// TLS on a unix socket.
    Unixs,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Unix => "unix",
            Scheme::Unixs => "unixs",
        }
    }
}

/// A URL in the form that etcd accepts, printed as it was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    /// The text; first, so that URLs sort as etcd sorts them.
    text: String,
    scheme: Scheme,
    /// Without the brackets of an IPv6 address.
    host: String,
    /// 0 for unix sockets, or to let the kernel choose.
    port: u16,
}

impl Url {
    /// Reads one URL; the error is etcd's text where etcd has one.
    pub fn parse(text: &str) -> Result<Url, String> {
        let text = text.trim();
        let bad_scheme = || format!("URL scheme must be http, https, unix, or unixs: {text}");
        let (scheme, rest) = text.split_once("://").ok_or_else(bad_scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(bad_scheme()),
        };
        if matches!(scheme, Scheme::Unix | Scheme::Unixs) {
            let host = rest.to_owned();
            return Ok(Url { text: text.to_owned(), scheme, host, port: 0 });
        }
        let authority_len = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(authority_len);
        let (host, port) = split_host_port(authority)
            .ok_or_else(|| format!("URL address does not have the form \"host:port\": {text}"))?;
        if tail.starts_with('/') {
            return Err(format!("URL must not contain a path: {text}"));
        }
        if !tail.is_empty() || host.contains(['@', ' ']) {
            return Err(format!("URL must be only a scheme, a host and a port: {text}"));
        }
        let port = port.parse().map_err(|_| format!("URL port must be 0 to 65535: {text}"))?;
        let text = format!("{}://{rest}", scheme.as_str());
        Ok(Url { text, scheme, host: host.to_owned(), port })
    }

    /// As given, without surrounding space.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// See [`Scheme`].
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 lets the kernel choose.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

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
        match url.scheme {
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
        let ip = match url.host.as_str() {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host.parse().map_err(|_| format!("expected IP in URL for binding ({url})"))?,
        };
        let address = SocketAddr::new(ip, url.port);
        Ok(ListenUrl { url, address })
    }
}

/// Splits at the last colon outside brackets. A bare IPv6 address has no port that could be told.
fn split_host_port(authority: &str) -> Option<(&str, &str)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return Some((host, port.strip_prefix(':')?));
    }
    let (host, port) = authority.split_once(':')?;
    if port.contains(':') { None } else { Some((host, port)) }
}
