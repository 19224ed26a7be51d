//! The headers of a request, encoded once: all calls of a connection are of one kind.
//!
//! For what it receives the client keeps no dynamic table, and tells the server so. So every block of a response
//! stands for itself: two equal blocks mean the same, and the connection may compare bytes instead of decoding.

use urd_http2::hpack::{
    ENTRY_OVERHEAD_BYTES, STATIC_ENTRIES, TABLE_BYTES_DEFAULT, put_integer, put_literal,
};

/// The headers of one kind of call to one server, encoded ahead.
///
/// A peer with the usual dynamic table gets what established gRPC clients send it: fields that are
/// entered in the table by the first request, and one byte per field from then on. So a server is
/// charged here what it is charged in production. A peer that allows less gets literals.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Enters the fields into the peer's table.
    pub(super) entering: Vec<u8>,
    /// Refers to the fields entered.
    pub(super) indexed: Vec<u8>,
    /// Uses no dynamic table.
    pub(super) literal: Vec<u8>,
}

/// `:method: POST` and `:scheme: http`, both in the static table.
const POST_HTTP: [u8; 2] = [0x83, 0x86];
/// Emptying the dynamic table, at the start of a block.
pub(super) const TABLE_RESIZE_TO_0: u8 = 0x20;

/// Longest authority and path that are sent.
const STRING_BYTES_MAX: usize = 1024;

impl RequestHead {
    /// The head of calls of `path` (`/package.Service/Method`) to `authority` (`host:port`).
    ///
    /// None if either is longer than any real one.
    pub fn new(authority: &str, path: &str) -> Option<RequestHead> {
        if authority.len() > STRING_BYTES_MAX || path.len() > STRING_BYTES_MAX {
            return None;
        }
        // Static-table index of the name (0: none), name, value; in grpc-go's order.
        let fields: [(usize, &str, &str); 5] = [
            (4, ":path", path),
            (1, ":authority", authority),
            (31, "content-type", "application/grpc"),
            (58, "user-agent", concat!("urd-benchmark/", env!("CARGO_PKG_VERSION"))),
            (0, "te", "trailers"),
        ];
        let entry_bytes = |name: &str, value: &str| ENTRY_OVERHEAD_BYTES + name.len() + value.len();
        let table_bytes: usize =
            fields.iter().map(|(_, name, value)| entry_bytes(name, value)).sum();
        assert!(table_bytes <= TABLE_BYTES_DEFAULT, "all fields stay in the peer's table");

        let mut entering = POST_HTTP.to_vec();
        let mut indexed = POST_HTTP.to_vec();
        let mut literal = POST_HTTP.to_vec();
        for (nth, (index, name, value)) in fields.into_iter().enumerate() {
            put_literal(&mut entering, 0x40, 6, index, name.as_bytes(), value.as_bytes());
            put_literal(&mut literal, 0x00, 4, index, name.as_bytes(), value.as_bytes());
            // The newest entry has the lowest index.
            let entry = STATIC_ENTRIES + fields.len() - nth;
            put_integer(&mut indexed, 0x80, 7, entry);
        }
        Some(RequestHead { entering, indexed, literal })
    }
}

#[cfg(test)]
mod tests {
    use urd_http2::hpack::{Decoder, Fields};

    use super::*;

    fn decode(block: &[u8]) -> Vec<(String, String)> {
        let mut fields = Fields::new(4096);
        Decoder::new(TABLE_BYTES_DEFAULT).decode(block, &mut fields).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields.iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn request_heads_say_the_same() {
        let head = RequestHead::new("127.0.0.1:2379", "/etcdserverpb.KV/Put").unwrap();
        let fields = decode(&head.literal);
        assert_eq!(fields, decode(&head.entering));
        assert_eq!(fields, decode(&[&head.entering[..], &head.indexed[..]].concat())[7..]);
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(fields[0], field(":method", "POST"));
        assert_eq!(fields[1], field(":scheme", "http"));
        assert_eq!(fields[2], field(":path", "/etcdserverpb.KV/Put"));
        assert_eq!(fields[3], field(":authority", "127.0.0.1:2379"));
        assert_eq!(fields[6], field("te", "trailers"));
        assert!(RequestHead::new(&"a".repeat(2000), "/").is_none());
    }
}
