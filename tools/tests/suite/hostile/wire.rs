//! HTTP/2 by hand: frames as bytes, on a blocking socket that tells when the other side has had enough.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::CLOSE_MAX;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame with a true length.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame_head(payload.len() as u32, kind, flags, stream);
    bytes.extend_from_slice(payload);
    bytes
}

/// The nine bytes before a payload, which may lie about its length.
pub(crate) fn frame_head(length: u32, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
    let [_, a, b, c] = length.to_be_bytes();
    let mut bytes = vec![a, b, c, kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes
}

/// One parameter of a SETTINGS frame.
pub(crate) fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()
}

/// The header block of a gRPC call: literals without indexing, so that it depends on no state.
pub(crate) fn call_headers(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86]; // :method POST, :scheme http, from the static table
    block.push(0x04); // :path
    string(&mut block, path.as_bytes());
    block.push(0x01); // :authority
    string(&mut block, b"localhost");
    block.extend_from_slice(&[0x0f, 0x10]); // content-type
    string(&mut block, b"application/grpc");
    header(&mut block, b"te", b"trailers");
    block
}

/// A literal header field without indexing.
pub(crate) fn header(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0x00);
    string(block, name);
    string(block, value);
}

/// A literal header field that enters the peer's table.
pub(crate) fn header_indexed(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0x40);
    string(block, name);
    string(block, value);
}

/// HPACK's string: a length with a 7-bit prefix, no Huffman code.
fn string(block: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    if length < 0x7f {
        block.push(length as u8);
    } else {
        block.push(0x7f);
        length -= 0x7f;
        while length >= 0x80 {
            block.push((length % 0x80) as u8 | 0x80);
            length /= 0x80;
        }
        block.push(length as u8);
    }
    block.extend_from_slice(text);
}

/// A gRPC message with its five bytes in front.
pub(crate) fn grpc_frame(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

pub(crate) struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// TCP only.
    pub(crate) fn open(endpoint: &str) -> Connection {
        let stream = TcpStream::connect(endpoint)
            .unwrap_or_else(|error| panic!("connect to {endpoint}: {error}"));
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        stream.set_write_timeout(Some(CLOSE_MAX)).expect("set a timeout");
        Connection { stream }
    }

    /// TCP, preface and SETTINGS with these parameters.
    pub(crate) fn handshake(endpoint: &str, settings: &[u8]) -> Connection {
        let mut connection = Connection::open(endpoint);
        let hello = [PREFACE, &frame(SETTINGS, 0, 0, settings)].concat();
        assert!(connection.send(&hello), "the server closed a new connection");
        connection
    }

    /// False when the other side has closed. A peer that only stops reading fails the test by a timeout.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        match self.stream.write_all(bytes) {
            Ok(()) => true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the server neither reads nor closes this connection")
            }
            Err(_) => false,
        }
    }

    /// As much of `bytes` as the other side takes until it has taken none for `patience`.
    pub(crate) fn send_until_stuck(&mut self, bytes: &[u8], patience: Duration) -> usize {
        self.stream.set_write_timeout(Some(patience)).expect("set a timeout");
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => sent += count,
                Err(_) => break,
            }
        }
        sent
    }

    /// No more from this side.
    pub(crate) fn shut_writing(&mut self) {
        // Fails when the other side is gone already.
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// A thread that reads and forgets, so that the server never waits for this client to read.
    pub(crate) fn drain(&self) {
        let mut stream = self.stream.try_clone().expect("clone a descriptor");
        stream.set_read_timeout(Some(CLOSE_MAX)).expect("set a timeout");
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while matches!(stream.read(&mut buffer), Ok(1..)) {}
        });
    }

    /// Waits for something to read, and reads it.
    pub(crate) fn read_some(&mut self) {
        self.stream.set_read_timeout(Some(CLOSE_MAX)).expect("set a timeout");
        let read = self.stream.read(&mut [0; 4096]).expect("an answer in time");
        assert!(read > 0, "the server closed the connection");
    }

    /// Reads until the other side closes: true if it does in time.
    pub(crate) fn is_closed_in_time(&mut self) -> bool {
        let deadline = Instant::now() + CLOSE_MAX;
        let mut buffer = vec![0; 64 * 1024];
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            self.stream
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))
                .expect("set a timeout");
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return false;
                }
                Err(_) => return true,
            }
        }
        false
    }
}

#[test]
fn writes_long_strings_as_hpack_does() {
    let mut block = Vec::new();
    string(&mut block, &[b'x'; 1337 + 127]);
    assert_eq!(&block[..3], [0x7f, 0xb9, 0x0a]);
    assert_eq!(frame_head(0x01_0203, DATA, END_STREAM, 5), [1, 2, 3, 0, 1, 0, 0, 0, 5]);
}
