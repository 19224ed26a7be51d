//! What goes out on a connection: frames in the order in which they will be sent.
//!
//! Frames gather in one buffer, which the connection's task sends once a turn. A small answer is written there at
//! once, as three frames; what no window or no room lets pass waits with its stream, and [`Sender::is_open`] says
//! when it may go on.
//!
//! Header blocks are few, and known: an answer's head and its trailers enter the client's dynamic table when they
//! are first sent, and take a byte or two from then on. A client with a table too small for that gets literals.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use http::{HeaderMap, StatusCode};
use urd_http2::frame::{
    ErrorCode, HEAD_BYTES, Head, PAYLOAD_BYTES_MAX, WINDOW_DEFAULT, WINDOW_MAX, flag, kind,
};
use urd_http2::hpack::{
    ENTRY_OVERHEAD_BYTES, STATIC_ENTRIES, TABLE_BYTES_DEFAULT, put_integer, put_literal,
};

use crate::api::{Code, Status};
use crate::net::grpc;
use crate::net::options::SEND_BUFFER_BYTES;

const CONTENT_TYPE: &str = "content-type";
/// The index of that name in the static table.
const CONTENT_TYPE_INDEX: usize = 31;
const GRPC: &[u8] = b"application/grpc";
const GRPC_STATUS: &str = "grpc-status";
/// `:status: 200`, in the static table.
const STATUS_200: u8 = 0x88;
/// `:status`, as the name of a literal.
const STATUS_INDEX: usize = 8;
/// What both entries take in the client's table.
const ENTRIES_BYTES: usize =
    2 * ENTRY_OVERHEAD_BYTES + CONTENT_TYPE.len() + GRPC.len() + GRPC_STATUS.len() + 1;
/// Bits of a field that enters the table, of a literal that does not, of an index, and of a table's new size.
const ENTERING: (u8, u32) = (0x40, 6);
const LITERAL: (u8, u32) = (0x00, 4);
const INDEXED: (u8, u32) = (0x80, 7);
const RESIZE: (u8, u32) = (0x20, 5);

/// See the module's page.
#[derive(Debug)]
pub(super) struct Sender {
    /// Frames, of which `sent` bytes have gone.
    pub(super) out: Vec<u8>,
    pub(super) sent: usize,
    /// Bytes of data that the client takes on all streams.
    window: i64,
    table: Table,
    /// The data frame that `out` ends with, which more data of its stream may join.
    last_data: Option<LastData>,
}

#[derive(Clone, Copy, Debug)]
struct LastData {
    stream: u32,
    /// Where the frame begins in `out`.
    at: usize,
}

/// The client's dynamic table, as our blocks have filled it.
#[derive(Debug)]
struct Table {
    bytes_max: usize,
    /// To be told to the client in the next block.
    resized: bool,
    has_content_type: bool,
    has_status: bool,
}

impl Sender {
    pub(super) fn new() -> Self {
        Self {
            out: Vec::new(),
            sent: 0,
            window: WINDOW_DEFAULT,
            table: Table {
                bytes_max: TABLE_BYTES_DEFAULT,
                resized: false,
                has_content_type: false,
                has_status: false,
            },
            last_data: None,
        }
    }

    /// Takes an empty buffer to write into.
    pub(super) fn renew(&mut self, out: Vec<u8>) {
        self.out = out;
        self.last_data = None;
    }

    /// Whether the buffer takes more before it is sent.
    pub(super) fn has_room(&self) -> bool {
        self.out.len() - self.sent < SEND_BUFFER_BYTES
    }

    /// Whether data may be written now.
    pub(super) fn is_open(&self) -> bool {
        self.window > 0 && self.has_room()
    }

    /// The client takes more; false if it claims more than there can be.
    pub(super) fn widen(&mut self, bytes: u32) -> bool {
        self.window += i64::from(bytes);
        self.window <= WINDOW_MAX
    }

    /// The client allows a dynamic table of so many bytes.
    pub(super) fn set_table_bytes(&mut self, bytes: u32) {
        let bytes_max = usize::try_from(bytes).unwrap_or(usize::MAX).min(TABLE_BYTES_DEFAULT);
        if bytes_max != self.table.bytes_max {
            self.table =
                Table { bytes_max, resized: true, has_content_type: false, has_status: false };
        }
    }

    /// Appends a frame with its payload.
    pub(super) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let at = self.out.len();
        self.last_data = (kind == kind::DATA && flags == 0).then_some(LastData { stream, at });
        Head { length: payload.len(), kind, flags, stream }.put(&mut self.out);
        self.out.extend_from_slice(payload);
    }

    pub(super) fn reset(&mut self, stream: u32, code: ErrorCode) {
        self.frame(kind::RST_STREAM, 0, stream, &code.0.to_be_bytes());
    }

    pub(super) fn go_away(&mut self, stream_last: u32, code: ErrorCode, reason: &str) {
        let payload =
            [&stream_last.to_be_bytes()[..], &code.0.to_be_bytes()[..], reason.as_bytes()].concat();
        self.frame(kind::GOAWAY, 0, 0, &payload);
    }

    pub(super) fn window_update(&mut self, stream: u32, bytes: u32) {
        self.frame(kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
    }

    /// Writes as much of `data` as the buffer, the connection and `window`, the stream's, let pass; says how much.
    pub(super) fn data(&mut self, stream: u32, window: &mut i64, data: &[u8]) -> usize {
        let mut written = 0;
        while written < data.len() && self.is_open() && *window > 0 {
            let open = usize::try_from(self.window.min(*window)).unwrap_or_default();
            let rest = data.get(written..).unwrap_or_default();
            let joined = self.join_last_data(stream, rest.get(..open.min(rest.len())));
            let piece = if joined > 0 {
                joined
            } else {
                let piece = rest.len().min(open).min(PAYLOAD_BYTES_MAX);
                self.frame(kind::DATA, 0, stream, rest.get(..piece).unwrap_or_default());
                piece
            };
            self.window -= piece as i64;
            *window -= piece as i64;
            written += piece;
        }
        written
    }

    /// Adds data to the frame that the buffer ends with, if that is the stream's and has not begun to leave; says how
    /// much. Many small messages would else be as many frames, which some clients take for an attack.
    fn join_last_data(&mut self, stream: u32, data: Option<&[u8]>) -> usize {
        let Some(LastData { stream: last, at }) = self.last_data else { return 0 };
        if last != stream || at < self.sent {
            return 0;
        }
        let Some(length) = self.out.len().checked_sub(at + HEAD_BYTES) else { return 0 };
        let data = data.unwrap_or_default();
        let piece = data.len().min(PAYLOAD_BYTES_MAX.saturating_sub(length));
        self.out.extend_from_slice(data.get(..piece).unwrap_or_default());
        let [_, bytes @ ..] = u32::try_from(length + piece).unwrap_or_default().to_be_bytes();
        if let Some(place) = self.out.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(&bytes);
        }
        piece
    }

    /// Ends a stream that has no more data.
    pub(super) fn end(&mut self, stream: u32) {
        self.frame(kind::DATA, flag::END_STREAM, stream, &[]);
    }

    /// The head of a gRPC answer with messages.
    pub(super) fn grpc_head(&mut self, stream: u32) {
        let at = self.begin_block();
        self.out.push(STATUS_200);
        let table = &mut self.table;
        if table.has_content_type {
            let index = STATIC_ENTRIES + 1 + usize::from(table.has_status);
            put_integer(&mut self.out, INDEXED.0, INDEXED.1, index);
        } else {
            table.has_content_type = table.bytes_max >= ENTRIES_BYTES;
            let (bits, prefix) = if table.has_content_type { ENTERING } else { LITERAL };
            put_literal(&mut self.out, bits, prefix, CONTENT_TYPE_INDEX, b"", GRPC);
        }
        self.end_block(at, stream, flag::END_HEADERS);
    }

    /// The end of a gRPC answer that has had its head.
    pub(super) fn grpc_trailers(&mut self, stream: u32, status: &Status) {
        let at = self.begin_block();
        self.put_status(status);
        self.end_block(at, stream, flag::END_HEADERS | flag::END_STREAM);
    }

    /// A gRPC answer that is nothing but a status.
    pub(super) fn grpc_status_only(&mut self, stream: u32, http: StatusCode, status: &Status) {
        let at = self.begin_block();
        self.put_http_status(http);
        let (bits, prefix) = LITERAL;
        put_literal(&mut self.out, bits, prefix, CONTENT_TYPE_INDEX, b"", GRPC);
        self.put_status(status);
        // Required where an encoding was refused, and true everywhere.
        if status.code == Code::Unimplemented {
            put_literal(&mut self.out, bits, prefix, 0, b"grpc-accept-encoding", b"identity");
        }
        self.end_block(at, stream, flag::END_HEADERS | flag::END_STREAM);
    }

    /// The head of a plain answer; `ends`: there is no body.
    pub(super) fn http_head(
        &mut self,
        stream: u32,
        http: StatusCode,
        headers: &HeaderMap,
        ends: bool,
    ) {
        let at = self.begin_block();
        self.put_http_status(http);
        let (bits, prefix) = LITERAL;
        for (name, value) in headers {
            put_literal(&mut self.out, bits, prefix, 0, name.as_ref(), value.as_bytes());
        }
        let ends = if ends { flag::END_STREAM } else { 0 };
        self.end_block(at, stream, flag::END_HEADERS | ends);
    }

    fn put_http_status(&mut self, http: StatusCode) {
        if http == StatusCode::OK {
            self.out.push(STATUS_200);
        } else {
            let (bits, prefix) = LITERAL;
            put_literal(&mut self.out, bits, prefix, STATUS_INDEX, b"", http.as_str().as_bytes());
        }
    }

    fn put_status(&mut self, status: &Status) {
        let table = &mut self.table;
        let is_ok = status.code == Code::Ok;
        if is_ok && table.has_status {
            return put_integer(&mut self.out, INDEXED.0, INDEXED.1, STATIC_ENTRIES + 1);
        }
        // Behind the content type, so that the indexes of both are known.
        let enters = is_ok && table.has_content_type;
        table.has_status |= enters;
        let (bits, prefix) = if enters { ENTERING } else { LITERAL };
        let code = (status.code as u32).to_string();
        put_literal(&mut self.out, bits, prefix, 0, GRPC_STATUS.as_bytes(), code.as_bytes());
        if !status.message.is_empty() {
            let message = grpc::encode_message(&status.message);
            let (bits, prefix) = LITERAL;
            put_literal(&mut self.out, bits, prefix, 0, b"grpc-message", &message);
        }
    }

    /// Leaves room for the head of a HEADERS frame; says where the frame begins.
    fn begin_block(&mut self) -> usize {
        self.last_data = None;
        let at = self.out.len();
        self.out.extend_from_slice(&[0; HEAD_BYTES]);
        if std::mem::take(&mut self.table.resized) {
            // To nothing and up again: the table is empty then, whatever was in it.
            put_integer(&mut self.out, RESIZE.0, RESIZE.1, 0);
            if self.table.bytes_max > 0 {
                put_integer(&mut self.out, RESIZE.0, RESIZE.1, self.table.bytes_max);
            }
        }
        at
    }

    /// Fills in the frame's head; a block too long for one frame goes on in others.
    fn end_block(&mut self, at: usize, stream: u32, flags: u8) {
        let length = self.out.len() - at - HEAD_BYTES;
        if length > PAYLOAD_BYTES_MAX {
            return self.split_block(at, stream, flags);
        }
        let mut head = Vec::with_capacity(HEAD_BYTES);
        Head { length, kind: kind::HEADERS, flags, stream }.put(&mut head);
        self.out.iter_mut().skip(at).zip(head).for_each(|(place, byte)| *place = byte);
    }

    #[cold]
    fn split_block(&mut self, at: usize, stream: u32, flags: u8) {
        let block = self.out.split_off(at);
        let block = block.get(HEAD_BYTES..).unwrap_or_default();
        let pieces = block.len().div_ceil(PAYLOAD_BYTES_MAX);
        for (nth, piece) in block.chunks(PAYLOAD_BYTES_MAX).enumerate() {
            let kind = if nth == 0 { kind::HEADERS } else { kind::CONTINUATION };
            let mut own = if nth == 0 { flags & !flag::END_HEADERS } else { 0 };
            if nth + 1 == pieces {
                own |= flag::END_HEADERS;
            }
            self.frame(kind, own, stream, piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use urd_http2::hpack::{Decoder, Fields};

    use super::*;

    /// The blocks in `sender`'s buffer, as a client with a table of `table_bytes` reads them.
    fn blocks(sender: &mut Sender, decoder: &mut Decoder) -> Vec<Vec<(String, String)>> {
        let out = std::mem::take(&mut sender.out);
        let mut rest = &out[..];
        let mut read = Vec::new();
        let mut block = Vec::new();
        while let Some(head) = Head::parse(rest) {
            let payload = &rest[HEAD_BYTES..HEAD_BYTES + head.length];
            rest = &rest[HEAD_BYTES + head.length..];
            if !matches!(head.kind, kind::HEADERS | kind::CONTINUATION) {
                continue;
            }
            block.extend_from_slice(payload);
            if head.has(flag::END_HEADERS) {
                let mut fields = Fields::new(1 << 20);
                decoder.decode(&block, &mut fields).unwrap();
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                read.push(fields.iter().map(|(name, value)| (text(name), text(value))).collect());
                block.clear();
            }
        }
        assert!(rest.is_empty() && block.is_empty());
        read
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn blocks_say_the_same_whatever_the_table() {
        let head = vec![pair(":status", "200"), pair("content-type", "application/grpc")];
        let trailers = vec![pair("grpc-status", "0")];
        for table_bytes in [0, 50, 200, 4096] {
            let mut sender = Sender::new();
            let mut decoder = Decoder::new(table_bytes);
            sender.set_table_bytes(table_bytes as u32);
            for round in 0..3 {
                sender.grpc_head(1);
                sender.grpc_head(3);
                sender.grpc_trailers(1, &Status::OK);
                sender.grpc_trailers(3, &Status::new(Code::Unknown, "why\n"));
                sender.grpc_head(5);
                let bytes = sender.out.len();
                let read = blocks(&mut sender, &mut decoder);
                assert_eq!(read[..3], [head.clone(), head.clone(), trailers.clone()]);
                assert_eq!(read[3], [pair("grpc-status", "2"), pair("grpc-message", "why%0A")]);
                assert_eq!(read[4], head);
                if round > 0 && table_bytes >= 200 {
                    assert!(bytes < 110, "{bytes}");
                }
            }
            // Smaller in the middle of the connection, and larger again.
            for table_bytes in [20, 4096] {
                sender.set_table_bytes(table_bytes);
                sender.grpc_head(7);
                sender.grpc_trailers(7, &Status::OK);
                let mut decoder = Decoder::new(4096);
                let read = blocks(&mut sender, &mut decoder);
                assert_eq!(read, [head.clone(), trailers.clone()]);
            }
        }
    }

    #[test]
    fn a_long_block_goes_on_in_other_frames() {
        let mut sender = Sender::new();
        let text = "x".repeat(40_000);
        sender.grpc_status_only(1, StatusCode::OK, &Status::new(Code::Internal, text.clone()));
        assert_eq!(sender.out[3], kind::HEADERS);
        assert_eq!(sender.out[4], flag::END_STREAM);
        let read = blocks(&mut sender, &mut Decoder::new(4096));
        assert_eq!(read[0].last().unwrap(), &pair("grpc-message", &text));
    }

    #[test]
    fn small_data_of_one_stream_share_a_frame() {
        let mut sender = Sender::new();
        let mut window = 60_000;
        let lengths = |sender: &Sender| {
            let mut rest = &sender.out[..];
            let mut lengths = Vec::new();
            while let Some(head) = Head::parse(rest) {
                lengths.push((head.stream, head.length));
                rest = &rest[HEAD_BYTES + head.length..];
            }
            assert!(rest.is_empty());
            lengths
        };
        for _ in 0..3 {
            assert_eq!(sender.data(1, &mut window, &[7; 6000]), 6000);
        }
        assert_eq!(sender.data(3, &mut window, &[8; 10]), 10);
        assert_eq!(sender.data(1, &mut window, &[9; 10]), 10);
        assert_eq!(lengths(&sender), [(1, 16_384), (1, 1616), (3, 10), (1, 10)]);
        // What has begun to leave stays as it is, and a new buffer begins anew.
        sender.sent = sender.out.len() - 5;
        assert_eq!(sender.data(1, &mut window, &[9; 10]), 10);
        assert_eq!(lengths(&sender).len(), 5);
        let bytes = sender.out.len();
        sender.renew(vec![0; bytes]);
        sender.sent = 0;
        assert_eq!(sender.data(1, &mut window, &[9; 10]), 10);
        assert_eq!(sender.out.len(), bytes + HEAD_BYTES + 10);
    }

    #[test]
    fn data_keeps_to_both_windows() {
        let mut sender = Sender::new();
        let data = vec![7; 100_000];
        let mut window = 20_000;
        assert_eq!(sender.data(1, &mut window, &data), 20_000);
        assert_eq!(window, 0);
        window = 1_000_000;
        assert_eq!(sender.data(1, &mut window, &data), 65_535 - 20_000);
        assert!(!sender.is_open());
        assert!(sender.widen(10));
        assert_eq!(sender.data(1, &mut window, &data), 10);
        assert!(!sender.widen(u32::MAX));
    }
}
