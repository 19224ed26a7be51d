//! Header blocks (HPACK, RFC 7541) for a client that keeps no dynamic table for what it receives.
//!
//! We advertise a table size of 0, so every block of a peer's stands for itself: two equal blocks
//! mean the same, and the connection may compare bytes instead of decoding. What we send is fixed
//! too, one kind of call per connection, so it is encoded once, in [`RequestHead`].
//!
//! Not here: an encoder of arbitrary headers, and the peer's dynamic table. A reference into the
//! latter is an error, as the peer was told to have none.

use super::huffman;

/// Names and values of the static table (RFC 7541, appendix A) that a gRPC response can use; the
/// others only by their names.
const STATIC_TABLE: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// Why a header block could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("header block ends inside a field")]
    Truncated,
    #[error("header integer is too large")]
    IntegerTooLarge,
    #[error("header string is not valid Huffman code")]
    Huffman,
    #[error("header field refers to a table entry that does not exist")]
    NoSuchEntry,
    #[error("header table resized beyond the advertised size of 0")]
    TableResized,
}

/// One field of a header block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

/// Decodes a whole block.
pub fn decode(mut block: &[u8]) -> Result<Vec<Field>, HeaderError> {
    let mut fields = Vec::new();
    while let Some(&first) = block.first() {
        // The number of leading zeros tells the representation (RFC 7541, section 6).
        match first.leading_zeros() {
            0 => {
                let index = take_integer(&mut block, 7)?;
                let (name, value) = static_entry(index)?;
                fields.push(Field { name: name.into(), value: value.into() });
            }
            // "With incremental indexing": into a table without room, so nothing to remember.
            1 => fields.push(take_literal(&mut block, 6)?),
            2 => {
                if take_integer(&mut block, 5)? != 0 {
                    return Err(HeaderError::TableResized);
                }
            }
            _ => fields.push(take_literal(&mut block, 4)?),
        }
    }
    Ok(fields)
}

fn static_entry(index: usize) -> Result<(&'static str, &'static str), HeaderError> {
    let nth = index.checked_sub(1).ok_or(HeaderError::NoSuchEntry)?;
    STATIC_TABLE.get(nth).copied().ok_or(HeaderError::NoSuchEntry)
}

fn take_literal(block: &mut &[u8], prefix_bits: u32) -> Result<Field, HeaderError> {
    let index = take_integer(block, prefix_bits)?;
    let name = match index {
        0 => take_string(block)?,
        index => static_entry(index)?.0.into(),
    };
    Ok(Field { name, value: take_string(block)? })
}

fn take_string(block: &mut &[u8]) -> Result<Vec<u8>, HeaderError> {
    let huffman_coded = block.first().ok_or(HeaderError::Truncated)? & 0x80 != 0;
    let length = take_integer(block, 7)?;
    let (string, rest) = block.split_at_checked(length).ok_or(HeaderError::Truncated)?;
    *block = rest;
    if huffman_coded {
        huffman::decode(string).ok_or(HeaderError::Huffman)
    } else {
        Ok(string.to_vec())
    }
}

/// An integer whose first bits share a byte with something else (RFC 7541, section 5.1).
fn take_integer(block: &mut &[u8], prefix_bits: u32) -> Result<usize, HeaderError> {
    /// Five bytes of seven bits hold more than any length that fits in a frame.
    const CONTINUATION_BYTES_MAX: u32 = 5;

    let (&first, mut rest) = block.split_first().ok_or(HeaderError::Truncated)?;
    let mask = (1usize << prefix_bits) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        for nth in 0.. {
            if nth == CONTINUATION_BYTES_MAX {
                return Err(HeaderError::IntegerTooLarge);
            }
            let (&byte, tail) = rest.split_first().ok_or(HeaderError::Truncated)?;
            rest = tail;
            value += usize::from(byte & 0x7f) << (7 * nth);
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *block = rest;
    Ok(value)
}

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

/// The size of a peer's table unless it says otherwise. All entries of a request fit (asserted).
pub(super) const TABLE_BYTES_DEFAULT: usize = 4096;
/// What an entry costs in the table beyond its bytes (RFC 7541, section 4.1).
const ENTRY_OVERHEAD_BYTES: usize = 32;
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
            put_field(&mut entering, 0x40, 6, index, name, value);
            put_field(&mut literal, 0x00, 4, index, name, value);
            // The newest entry has the lowest index.
            let entry = STATIC_TABLE.len() + fields.len() - nth;
            put_integer(&mut indexed, 0x80, 7, entry);
        }
        Some(RequestHead { entering, indexed, literal })
    }
}

fn put_field(out: &mut Vec<u8>, bits: u8, prefix: u32, index: usize, name: &str, value: &str) {
    put_integer(out, bits, prefix, index);
    if index == 0 {
        put_string(out, name);
    }
    put_string(out, value);
}

fn put_string(out: &mut Vec<u8>, string: &str) {
    put_integer(out, 0, 7, string.len());
    out.extend_from_slice(string.as_bytes());
}

fn put_integer(out: &mut Vec<u8>, bits: u8, prefix_bits: u32, value: usize) {
    let mask = (1usize << prefix_bits) - 1;
    if value < mask {
        out.push(bits | value as u8);
        return;
    }
    out.push(bits | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests;
