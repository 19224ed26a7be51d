//! URLs as etcd's flags and membership requests take them: `http://host:port` and nothing behind it.
//!
//! A [`Url`] is what is told to others: advertised, hashed into ids, compared as text. What this process can bind is
//! `config`'s `ListenUrl`.
//!
//! Not here: resolving host names, percent-encoding, paths, queries, credentials.

use std::fmt;

use crate::limits;

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

    /// What it names: two URLs of one place are the same member's. Names are not resolved, but `localhost` is.
    pub fn place(&self) -> (Scheme, &str, u16) {
        let host = if self.host == "localhost" { "127.0.0.1" } else { &self.host };
        (self.scheme, host, self.port)
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

impl AsRef<str> for Url {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A member's peer URLs, in the order given; those given twice are kept.
///
/// # Errors
/// There are none or too many, or one is not in the form that etcd accepts.
pub fn peer_urls(texts: &[String]) -> Result<Vec<String>, String> {
    let is_long = |text: &String| text.len() > limits::MEMBER_URL_BYTES_MAX;
    if texts.is_empty() {
        return Err("no valid URLs given".to_owned());
    }
    if texts.len() > limits::MEMBER_URLS_MAX || texts.iter().any(is_long) {
        return Err("too many URLs, or one is too long".to_owned());
    }
    texts.iter().map(|text| Ok(Url::parse(text)?.text)).collect()
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
