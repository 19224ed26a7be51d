//! Reads what a server sends on a connection of HTTP/1.1, and panics where no client could.

use http::Method;
use serde_json::Value;

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Bytes(usize),
    /// It comes in chunks.
    Chunks,
    /// It ends with the connection.
    Endless,
}

/// What stands before a body.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// Of the request; none if it did not get as far as the service.
    pub(super) method: Option<Method>,
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    index: Option<String>,
    length: Length,
}

impl Head {
    /// `index`: what v2's index is.
    pub(super) fn check(&self, index: u64) {
        assert!((200..600).contains(&self.status), "{self:?}");
        if let Some(said) = &self.index {
            let said: u64 = said.parse().expect("an index");
            assert!(said <= index, "an answer of index {said}, where there is only {index}");
        }
    }

    /// Whether the body comes as there is something to say.
    pub(super) fn is_endless(&self) -> bool {
        !matches!(self.length, Length::Bytes(_))
    }

    /// `bytes` without the empty line.
    fn parse(bytes: &[u8], method: impl FnOnce() -> Option<Method>) -> Self {
        let text = str::from_utf8(bytes).expect("heads are ASCII");
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1."));
        let status = status.and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status: u16 = status.expect("a line with a status");
        let headers: Vec<(String, &str)> = lines
            .map(|line| line.split_once(": ").expect("a header"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect();
        let header = |name: &str| {
            let mut found = headers.iter().filter(|(known, _)| known == name);
            let value = found.next().map(|(_, value)| (*value).to_owned());
            assert!(found.next().is_none(), "one header {name}");
            value
        };
        let method = if status == CONTINUE { None } else { method() };
        let (length, coding) = (header("content-length"), header("transfer-encoding"));
        let is_empty = status < 200 || [204, 304].contains(&status) || method == Some(Method::HEAD);
        let length = match (coding, length) {
            _ if is_empty => Length::Bytes(0),
            (Some(coding), length) => {
                assert!(coding == "chunked" && length.is_none(), "{coding} {length:?}");
                Length::Chunks
            }
            (None, Some(length)) => Length::Bytes(length.parse().expect("a length")),
            (None, None) => Length::Endless,
        };
        let (content_type, index) = (header("content-type"), header("x-etcd-index"));
        Self { method, status, content_type, index, length }
    }
}

/// What was read.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    Head(Head),
    /// Of a body: all of it, or what came at once.
    Piece(Vec<u8>),
    End,
}

const CONTINUE: u16 = 100;
const HEAD_END: &[u8] = b"\r\n\r\n";
const LINE_END: &[u8] = b"\r\n";

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Reader {
    unread: Vec<u8>,
    /// Of the body that is being read.
    length: Option<Length>,
    /// Where the next answer begins cannot be told.
    is_lost: bool,
}

impl Reader {
    /// What has come whole with `bytes`. `method` is that of the next answer's request, if the service has seen it.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        mut method: impl FnMut() -> Option<Method>,
    ) -> Vec<Heard> {
        self.unread.extend_from_slice(bytes);
        let mut heard = Vec::new();
        while !self.is_lost {
            match self.length {
                None => {
                    let Some(head) = self.take_until(HEAD_END) else { break };
                    let head = Head::parse(&head, &mut method);
                    if head.status == CONTINUE {
                        continue;
                    }
                    // A body that could not be read: whether its request was one for a head only is not known.
                    self.is_lost = head.method.is_none() && head.length != Length::Bytes(0);
                    self.length = Some(head.length);
                    heard.push(Heard::Head(head));
                }
                Some(Length::Bytes(length)) => {
                    if self.unread.len() < length {
                        break;
                    }
                    let body: Vec<u8> = self.unread.drain(..length).collect();
                    heard.extend((!body.is_empty()).then_some(Heard::Piece(body)));
                    self.length = None;
                    heard.push(Heard::End);
                }
                Some(Length::Chunks) => {
                    let Some(chunk) = self.take_chunk() else { break };
                    if chunk.is_empty() {
                        self.length = None;
                        heard.push(Heard::End);
                    } else {
                        heard.push(Heard::Piece(chunk));
                    }
                }
                Some(Length::Endless) => {
                    let piece = std::mem::take(&mut self.unread);
                    heard.extend((!piece.is_empty()).then_some(Heard::Piece(piece)));
                    break;
                }
            }
        }
        heard
    }

    fn take_until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        let at = self.unread.windows(end.len()).position(|window| window == end)?;
        let taken = self.unread.drain(..at + end.len()).take(at).collect();
        Some(taken)
    }

    fn take_chunk(&mut self) -> Option<Vec<u8>> {
        let at = self.unread.windows(2).position(|window| window == LINE_END)?;
        let size = str::from_utf8(&self.unread[..at]).ok();
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok()).expect("a size");
        let (begin, end) = (at + LINE_END.len(), at + LINE_END.len() + size);
        if self.unread.len() < end + LINE_END.len() {
            return None;
        }
        assert_eq!(&self.unread[end..end + LINE_END.len()], LINE_END, "the end of a chunk");
        let chunk = self.unread[begin..end].to_vec();
        self.unread.drain(..end + LINE_END.len());
        Some(chunk)
    }
}

/// The values of a text that is JSON, one after another.
pub(super) fn json(text: &[u8]) -> Vec<Value> {
    let mut values = Vec::new();
    for value in serde_json::Deserializer::from_slice(text).into_iter() {
        match value {
            Ok(value) => values.push(value),
            // Directories may be nested deeper than this reader follows.
            Err(error) if error.to_string().starts_with("recursion limit") => break,
            Err(error) => panic!("no JSON: {error}: {}", String::from_utf8_lossy(text)),
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_however_they_are_cut() {
        let wire = b"HTTP/1.1 100 Continue\r\n\r\n\
                     HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}\
                     HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n\
                     HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n[1]\r\n0\r\n\r\n\
                     HTTP/1.0 200 OK\r\n\r\n[2]";
        for size in [1, 7, wire.len()] {
            let mut methods = [Method::PUT, Method::HEAD, Method::GET, Method::GET].into_iter();
            let (mut reader, mut said) = (Reader::default(), String::new());
            for bytes in wire.chunks(size) {
                for heard in reader.read(bytes, || methods.next()) {
                    match heard {
                        Heard::Head(head) => said.push_str(head.method.unwrap().as_str()),
                        Heard::Piece(piece) => said.push_str(str::from_utf8(&piece).unwrap()),
                        Heard::End => said.push('.'),
                    }
                }
            }
            assert_eq!(said, "PUT{}.HEAD.GET[1].GET[2]", "in pieces of {size}");
        }
    }

    #[test]
    fn json_is_values() {
        assert_eq!(json(b"{\"a\":1}\n[]\n").len(), 2);
        assert!(json(b"").is_empty() && json(&[b'['; 200]).is_empty());
    }

    #[test]
    #[should_panic = "no JSON"]
    fn what_is_no_json_is_found() {
        json(b"{\"a\":\xff}");
    }
}
