//! HTTP/1.1 over a plain socket: enough to speak with a server's endpoints, and nothing hidden in between.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer, headers as sent.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// The first header of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// `GET path`, or why there is no answer.
pub(crate) fn get(endpoint: &str, path: &str) -> std::io::Result<Answer> {
    request(endpoint, "GET", path)
}

/// A request without a body, on a connection of its own.
pub(crate) fn request(endpoint: &str, method: &str, path: &str) -> std::io::Result<Answer> {
    let timeout = Duration::from_secs(5);
    exchange(endpoint, timeout, &Request { method, path, headers: &[], body: b"" })
}

/// What a test sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub method: &'a str,
    /// With the query.
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

/// A request on a connection of its own, and its answer, for which nobody waits longer than `timeout`.
pub(crate) fn exchange(
    endpoint: &str,
    timeout: Duration,
    request: &Request<'_>,
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(endpoint)?;
    stream.set_read_timeout(Some(timeout))?;
    send(&mut stream, endpoint, request, "Connection: close\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let Request { method, path, .. } = request;
    parse(&bytes).ok_or_else(|| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        std::io::Error::other(format!("{method} {path}: not an HTTP/1.1 answer: {text:?}"))
    })
}

fn send(
    stream: &mut TcpStream,
    endpoint: &str,
    request: &Request<'_>,
    more: &str,
) -> std::io::Result<()> {
    let Request { method, path, headers, body } = request;
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: {endpoint}\r\n{more}").into_bytes();
    for (name, value) in *headers {
        write!(bytes, "{name}: {value}\r\n")?;
    }
    if !body.is_empty() {
        write!(bytes, "Content-Length: {}\r\n", body.len())?;
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    stream.write_all(&bytes)
}

/// An answer that comes in pieces: its head, and then one chunk after the other.
#[derive(Debug)]
pub(crate) struct Poll {
    stream: BufReader<TcpStream>,
    /// What came first; its body is empty unless it came whole.
    pub head: Answer,
}

impl Poll {
    /// Sends a GET, and reads the head of its answer.
    pub(crate) fn open(endpoint: &str, path: &str, timeout: Duration) -> std::io::Result<Poll> {
        let mut stream = TcpStream::connect(endpoint)?;
        stream.set_read_timeout(Some(timeout))?;
        send(&mut stream, endpoint, &Request { method: "GET", path, headers: &[], body: b"" }, "")?;
        let mut stream = BufReader::new(stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_until(b'\n', &mut head)? == 0 {
                return Err(std::io::Error::other(format!("GET {path}: closed before its answer")));
            }
        }
        let mut head = parse(&head).ok_or_else(|| {
            std::io::Error::other(format!("GET {path}: not an HTTP/1.1 answer: {head:?}"))
        })?;
        if let Some(length) = head.header("content-length").and_then(|text| text.parse().ok()) {
            let mut body = vec![0; length];
            stream.read_exact(&mut body)?;
            head.body = String::from_utf8_lossy(&body).into_owned();
        }
        Ok(Poll { stream, head })
    }

    /// The next chunk; `None` where the body ends.
    pub(crate) fn next(&mut self) -> std::io::Result<Option<String>> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16)
            .map_err(|_| std::io::Error::other(format!("not a chunk's length: {line:?}")))?;
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk)?;
        chunk.truncate(length);
        Ok((length > 0).then(|| String::from_utf8_lossy(&chunk).into_owned()))
    }
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let rest = bytes.get(end + 4..)?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked =
        headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    // An answer to HEAD says what would come, and nothing comes.
    let body = if chunked && !rest.is_empty() { dechunk(rest)? } else { rest.to_vec() };
    Some(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let length =
            usize::from_str_radix(std::str::from_utf8(rest.get(..line)?).ok()?.trim(), 16).ok()?;
        rest = rest.get(line + 2..)?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}

/// The value of a Prometheus sample without labels.
pub(crate) fn metric(endpoint: &str, name: &str) -> f64 {
    let answer = get(endpoint, "/metrics").unwrap_or_else(|error| panic!("read /metrics: {error}"));
    answer
        .body
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
        .unwrap_or_else(|| panic!("/metrics of {endpoint} has no {name}:\n{}", answer.body))
}
