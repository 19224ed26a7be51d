//! HTTP/1.1 requests over plain sockets, one connection each: all that a command of the v2 API needs.
//!
//! hyper's client is not in the tree's builds, and would bring its connection pool for a program that sends three requests
//! in its life. Bodies are read by length, in chunks, or to the connection's end.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// What may take how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    pub connect: Duration,
    /// Until the answer is there; nothing means for ever, as a watch waits.
    pub answer: Option<Duration>,
}

/// The most that a server's head may have.
const HEAD_BYTES_MAX: u64 = 64 << 10;
/// For requests that are not a command's own.
const DEFAULT: Timeouts =
    Timeouts { connect: Duration::from_secs(2), answer: Some(Duration::from_secs(5)) };

/// What to send.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub method: &'static str,
    /// With the query.
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Error {
    /// Nothing has been sent.
    NotConnected(io::Error),
    /// Whether the server has acted is not known.
    Broken(io::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Error::NotConnected(error) | Error::Broken(error)) = self;
        let text = error.to_string().to_lowercase();
        out.write_str(text.split(" (os error").next().unwrap_or_default())
    }
}

/// `GET path` at an endpoint, which may be given without a scheme.
pub(crate) fn get(endpoint: &str, path: &str) -> Result<Answer, Error> {
    let request = Request { method: "GET", path: path.to_owned(), ..Default::default() };
    send(endpoint, &request, DEFAULT)
}

/// Sends a request, and reads the whole answer.
pub(crate) fn send(endpoint: &str, request: &Request, timeouts: Timeouts) -> Result<Answer, Error> {
    let authority = authority(endpoint).map_err(Error::NotConnected)?;
    let mut stream = connect(authority, timeouts.connect).map_err(Error::NotConnected)?;
    exchange(&mut stream, authority, request, timeouts).map_err(Error::Broken)
}

fn authority(endpoint: &str) -> io::Result<&str> {
    let refused = |why: &str| io::Error::new(ErrorKind::InvalidInput, why.to_owned());
    match endpoint.split_once("://") {
        Some(("http", rest)) => Ok(rest.split('/').next().unwrap_or_default()),
        None => Ok(endpoint.split('/').next().unwrap_or_default()),
        Some(("https", _)) => Err(refused("urdctl speaks no TLS yet, only http://")),
        Some((scheme, _)) => Err(refused(&format!("{scheme}:// is none that urdctl knows"))),
    }
}

fn connect(authority: &str, timeout: Duration) -> io::Result<TcpStream> {
    let with_port =
        if authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
    let mut failed = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in with_port.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn exchange(
    stream: &mut TcpStream,
    authority: &str,
    request: &Request,
    timeouts: Timeouts,
) -> io::Result<Answer> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(timeouts.answer)?;
    stream.set_write_timeout(timeouts.answer)?;
    let mut head = format!(
        "{} {} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: urdctl\r\nConnection: close\r\n",
        request.method, request.path
    );
    for (name, value) in &request.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if request.method != "GET" {
        head += &format!("Content-Length: {}\r\n", request.body.len());
    }
    head += "\r\n";
    stream.write_all(&[head.as_bytes(), &request.body].concat())?;
    let mut reader = BufReader::new(stream);
    let (status, headers) = read_head(&mut reader)?;
    let header = |name: &str| {
        headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    };
    let body =
        if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            read_chunks(&mut reader)?
        } else {
            let mut body = Vec::new();
            match header("content-length").and_then(|length| length.parse().ok()) {
                Some(length) => {
                    reader.take(length).read_to_end(&mut body)?;
                    if body.len() as u64 != length {
                        return Err(broken("the answer's end is missing"));
                    }
                }
                None if status == 204 => {}
                None => {
                    reader.read_to_end(&mut body)?;
                }
            }
            body
        };
    Ok(Answer { status, headers, body })
}

fn broken(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why.to_owned())
}

type Head = (u16, Vec<(String, String)>);

fn read_head(reader: &mut impl BufRead) -> io::Result<Head> {
    let mut reader = reader.take(HEAD_BYTES_MAX);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let status = words.next().and_then(|status| status.parse().ok()).filter(|_| is_http);
    let status = status.ok_or_else(|| broken("not an answer in HTTP/1.1"))?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(broken("the answer's head has no end"));
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None if line.trim_end().is_empty() => return Ok((status, headers)),
            None => return Err(broken("a line of the answer's head has no colon")),
        }
    }
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.take(HEAD_BYTES_MAX).read_line(&mut line)?;
        let length = line.trim_end().split(';').next().unwrap_or_default();
        let length =
            u64::from_str_radix(length, 16).map_err(|_| broken("a chunk without a length"))?;
        let before = body.len() as u64;
        reader.take(length).read_to_end(&mut body)?;
        if body.len() as u64 != before + length {
            return Err(broken("a chunk's end is missing"));
        }
        // The line's end behind a chunk, or behind the last one's length.
        let mut end = String::new();
        reader.take(HEAD_BYTES_MAX).read_line(&mut end)?;
        if length == 0 {
            return Ok(body);
        }
    }
}

/// A path with what it may not hold as it is written as `%XX`.
pub(crate) fn escape_path(path: &str) -> String {
    escape(path, |byte| b"-_.~/$&+,:;=@".contains(&byte))
}

/// Names and values as a query or a form.
pub(crate) fn form(pairs: &[(&str, String)]) -> String {
    let escape = |text: &str| escape(text, |byte| b"-_.~ ".contains(&byte)).replace(' ', "+");
    let pairs = pairs.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn escape(text: &str, is_kept: impl Fn(u8) -> bool) -> String {
    let escape = |byte: u8| {
        if byte.is_ascii_alphanumeric() || is_kept(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_by_length_and_in_chunks() {
        let mut text = &b"HTTP/1.1 201 Created\r\nX-Etcd-Index: 7\r\n\r\n"[..];
        let (status, headers) = read_head(&mut text).expect("a head");
        assert_eq!((status, headers), (201, vec![("X-Etcd-Index".to_owned(), "7".to_owned())]));
        let mut chunks = &b"3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n"[..];
        assert_eq!(read_chunks(&mut chunks).expect("chunks"), b"abcde");
        for wrong in [&b"3\r\nab"[..], b"x\r\n", b"SSH-2.0\r\n\r\n"] {
            assert!(read_chunks(&mut &wrong[..]).is_err());
            assert!(read_head(&mut &wrong[..]).is_err());
        }
    }

    #[test]
    fn paths_and_forms_are_escaped() {
        assert_eq!(escape_path("/v2/keys/a b%/\u{e9}"), "/v2/keys/a%20b%25/%C3%A9");
        assert_eq!(
            form(&[("value", "a b&c=d".to_owned()), ("ttl", "5".to_owned())]),
            "value=a+b%26c%3Dd&ttl=5"
        );
    }
}
