//! Requests of HTTP/1.1 as text, and changes of them that know what stands where.

use fastrand::Rng;
use serde_json::{Map, Value};

use super::super::mutate;
use super::seeds::{AUTHORIZATIONS, HEADERS, JSON_VALUES, METHODS, NAMES, PATHS, VALUES};

const HEAD_END: &[u8] = b"\r\n\r\n";
const CONTENT_LENGTH: &str = "content-length";

/// A request, taken apart as far as it can be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) query: Vec<u8>,
    /// What stands behind the target, the headers except for the body's length.
    pub(super) version: Vec<u8>,
    pub(super) headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// The first request in `bytes`; all that follows its head is its body.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(HEAD_END.len()).position(|window| window == HEAD_END)?;
        let (head, body) = (&bytes[..end], &bytes[end + HEAD_END.len()..]);
        let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end());
        let mut words = lines.next()?.splitn(3, |byte| *byte == b' ');
        let (method, target) = (words.next()?.to_vec(), words.next()?);
        let version = words.next().unwrap_or_default().to_vec();
        let (path, query) = halves(target, b'?');
        let headers = lines.map(|line| halves(line, b':'));
        let headers = headers.map(|(name, value)| (name, value.trim_ascii_start().to_vec()));
        let is_length = |name: &[u8]| name.eq_ignore_ascii_case(CONTENT_LENGTH.as_bytes());
        Some(Self {
            method,
            path,
            query,
            version,
            headers: headers.filter(|(name, _)| !is_length(name)).collect(),
            body: body.to_vec(),
        })
    }

    /// As it is sent, with the length of its body.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = [&self.method[..], b" ", &self.path].concat();
        if !self.query.is_empty() {
            bytes.push(b'?');
            bytes.extend_from_slice(&self.query);
        }
        bytes.push(b' ');
        bytes.extend_from_slice(&self.version);
        for (name, value) in &self.headers {
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
        }
        if !self.body.is_empty() && self.header("transfer-encoding").is_none() {
            bytes
                .extend_from_slice(format!("\r\n{CONTENT_LENGTH}: {}", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(HEAD_END);
        bytes.extend_from_slice(&self.body);
        bytes
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        let is = |known: &[u8]| known.eq_ignore_ascii_case(name.as_bytes());
        self.headers.iter().find(|(known, _)| is(known)).map(|(_, value)| &value[..])
    }

    fn set_header(&mut self, name: &str, value: &[u8]) {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name.as_bytes()));
        self.headers.push((name.as_bytes().to_vec(), value.to_vec()));
    }

    /// Changes it in one way; `other` is where more may be taken from.
    pub(super) fn change(&mut self, other: &Self, random: &mut Rng) {
        match random.u8(..16) {
            0 => self.method = any(METHODS, random).into(),
            1 | 2 => self.path = any(PATHS, random).into(),
            3 => change_path(&mut self.path, &other.path, random),
            4..7 => change_fields(&mut self.query, &other.query, random),
            7..9 if self.body.starts_with(b"{") => change_json(&mut self.body, random),
            7..9 => {
                self.set_header("Content-Type", b"application/x-www-form-urlencoded");
                change_fields(&mut self.body, &other.body, random);
            }
            9 => {
                let (name, value) = HEADERS[random.usize(..HEADERS.len())];
                self.set_header(name, value.as_bytes());
            }
            10 => self.set_header("Authorization", any(AUTHORIZATIONS, random).as_bytes()),
            11 => mutate::list(&mut self.headers, &other.headers, random),
            12 => mutate::bytes(&mut self.body, &other.body, random),
            13 => mutate::bytes(&mut self.query, &other.query, random),
            14 => self.body.clone_from(&other.body),
            _ => {
                if let Some((_, value)) = self.headers.last_mut() {
                    mutate::bytes(value, any(AUTHORIZATIONS, random).as_bytes(), random);
                }
            }
        }
    }
}

fn any<'a>(from: &[&'a str], random: &mut Rng) -> &'a str {
    from[random.usize(..from.len())]
}

fn halves(text: &[u8], at: u8) -> (Vec<u8>, Vec<u8>) {
    let mut halves = text.splitn(2, |byte| *byte == at);
    let first = halves.next().unwrap_or_default().to_vec();
    (first, halves.next().unwrap_or_default().to_vec())
}

/// A part more, fewer, or another one.
fn change_path(path: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
    let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    match random.u8(..4) {
        0 => {
            mutate::list(&mut parts, &other.split(|byte| *byte == b'/').collect::<Vec<_>>(), random)
        }
        1 => {
            // As deep as it gets, and deeper.
            let count = random.usize(1..300);
            parts.extend(std::iter::repeat_n(&b"a"[..], count));
        }
        _ => {
            let at = random.usize(..=parts.len());
            parts.insert(at, any(VALUES, random).as_bytes());
        }
    }
    let joined = parts.join(&b'/');
    *path = joined;
}

/// Of a query or a form.
fn change_fields(text: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
    let split = |text: &[u8]| -> Vec<Vec<u8>> {
        let fields = text.split(|byte| *byte == b'&').filter(|field| !field.is_empty());
        fields.map(<[u8]>::to_vec).collect()
    };
    let mut fields = split(text);
    if random.u8(..4) == 0 {
        mutate::list(&mut fields, &split(other), random);
    } else {
        let name = any(NAMES, random);
        if random.bool() {
            fields.retain(|field| !field.starts_with(name.as_bytes()));
        }
        let value = match random.u8(..4) {
            0 => mutate::number(random).to_string(),
            1 => random.u8(..40).to_string(),
            _ => any(VALUES, random).to_owned(),
        };
        let at = random.usize(..=fields.len());
        fields.insert(at, format!("{name}={value}").into_bytes());
    }
    *text = fields.join(&b'&');
}

fn change_json(text: &mut Vec<u8>, random: &mut Rng) {
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(text) else {
        return mutate::bytes(text, b"{}[]\",:null", random);
    };
    change_object(&mut fields, random);
    *text = Value::Object(fields).to_string().into_bytes();
}

fn change_object(fields: &mut Map<String, Value>, random: &mut Rng) {
    const FIELDS: &[&str] = &[
        "user",
        "password",
        "roles",
        "grant",
        "revoke",
        "role",
        "permissions",
        "kv",
        "read",
        "write",
        "peerURLs",
        "USER",
    ];
    let names: Vec<String> = fields.keys().cloned().collect();
    let known = names.get(random.usize(..names.len().max(1)));
    match (random.u8(..6), known) {
        (0, Some(name)) => {
            fields.remove(name);
        }
        (1..4, Some(name)) => match fields.get_mut(name) {
            Some(Value::Object(below)) => change_object(below, random),
            Some(value) => *value = json(random),
            None => {}
        },
        _ => {
            fields.insert(any(FIELDS, random).to_owned(), json(random));
        }
    }
}

fn json(random: &mut Rng) -> Value {
    serde_json::from_str(any(JSON_VALUES, random)).expect("JSON of ours")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_apart_and_put_together() {
        let text =
            b"PUT /v2/keys/a?ttl=1 HTTP/1.1\r\nHost: x\r\ncontent-length: 9\r\n\r\nvalue=bar";
        let request = Request::parse(text).unwrap();
        assert_eq!((&request.path[..], &request.query[..]), (&b"/v2/keys/a"[..], &b"ttl=1"[..]));
        assert_eq!((request.headers.len(), &request.body[..]), (1, &b"value=bar"[..]));
        assert_eq!(request.encode(), text);
        assert_eq!(Request::parse(b"GET /\r\n"), None);
    }

    #[test]
    fn changed_requests_are_requests() {
        let mut random = Rng::with_seed(1);
        let mut paths = std::collections::BTreeSet::new();
        for _ in 0..2000 {
            let [mut request, other] =
                [0, 1].map(|_| Request::parse(&super::super::seeds::request(&mut random)).unwrap());
            request.change(&other, &mut random);
            assert!(Request::parse(&request.encode()).is_some(), "{request:?}");
            paths.insert(request.path);
        }
        assert!(paths.len() > PATHS.len());
    }
}
