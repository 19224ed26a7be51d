//! Header blocks (HPACK, RFC 7541): a [`Decoder`] with its dynamic table, and the few pieces that encoders of known
//! headers are made of.
//!
//! There is no encoder of arbitrary headers with a table: what either end sends is so uniform that each encodes its
//! blocks ahead.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::collections::VecDeque;

use super::huffman;

/// Names and values of the static table (RFC 7541, appendix A).
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

/// Entries of the static table; the newest entry of a dynamic table has the index after it.
pub const STATIC_ENTRIES: usize = STATIC_TABLE.len();
/// The size of a peer's dynamic table unless its settings say otherwise.
pub const TABLE_BYTES_DEFAULT: usize = 4096;
/// What an entry costs in a table, or a field in a list, beyond its bytes (RFC 7541, section 4.1).
pub const ENTRY_OVERHEAD_BYTES: usize = 32;

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
    #[error("header table resized beyond what was advertised")]
    TableResized,
}

/// The fields of one decoded block, in order. Reused from block to block.
#[derive(Clone, Debug)]
pub struct Fields {
    /// Names and values, one after the other.
    bytes: Vec<u8>,
    /// Where each name ends, and each value.
    ends: Vec<(usize, usize)>,
    list_bytes: usize,
    list_bytes_max: usize,
}

impl Fields {
    /// No fields yet, and room for `list_bytes_max` as HTTP/2 counts a list ([`ENTRY_OVERHEAD_BYTES`] for each field).
    #[must_use]
    pub fn new(list_bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), ends: Vec::new(), list_bytes: 0, list_bytes_max }
    }

    /// Whether the block had more than there is room for; what was too much is left out.
    #[must_use]
    pub fn overflowed(&self) -> bool {
        self.list_bytes > self.list_bytes_max
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|(_, value)| *value));
        begins.zip(&self.ends).map(|(begin, &(name, value))| {
            let get = |range: std::ops::Range<usize>| self.bytes.get(range).unwrap_or_default();
            (get(begin..name), get(name..value))
        })
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.list_bytes = 0;
    }

    fn begin(&self) -> usize {
        self.ends.last().map_or(0, |(_, value)| *value)
    }

    fn push(&mut self, name: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(name);
        let name_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.end_field(name_end);
    }

    /// Makes a field of the bytes behind the last one.
    fn end_field(&mut self, name_end: usize) {
        let begin = self.begin();
        self.list_bytes += self.bytes.len() - begin + ENTRY_OVERHEAD_BYTES;
        if self.overflowed() {
            self.bytes.truncate(begin);
        } else {
            self.ends.push((name_end, self.bytes.len()));
        }
    }
}

/// An entry of a dynamic table.
#[derive(Clone, Debug)]
struct Entry {
    bytes: Box<[u8]>,
    name_bytes: usize,
}

impl Entry {
    fn name_and_value(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at_checked(self.name_bytes).unwrap_or_default()
    }

    fn cost(&self) -> usize {
        self.bytes.len() + ENTRY_OVERHEAD_BYTES
    }
}

/// Reads the header blocks of one peer.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Newest first.
    entries: VecDeque<Entry>,
    table_bytes: usize,
    /// What the peer has chosen.
    table_bytes_max: usize,
    /// What we advertised.
    table_bytes_allowed: usize,
}

impl Decoder {
    /// For a peer who was told to keep to `table_bytes`.
    #[must_use]
    pub fn new(table_bytes: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            table_bytes: 0,
            table_bytes_max: table_bytes,
            table_bytes_allowed: table_bytes,
        }
    }

    /// Decodes a whole block into `fields`, which is emptied first.
    pub fn decode(&mut self, mut block: &[u8], fields: &mut Fields) -> Result<(), HeaderError> {
        fields.clear();
        while let Some(&first) = block.first() {
            // The number of leading zeros tells the representation (RFC 7541, section 6).
            match first.leading_zeros() {
                0 => {
                    let (name, value) = self.entry(take_integer(&mut block, 7)?)?;
                    fields.push(name, value);
                }
                1 => self.take_literal(&mut block, 6, true, fields)?,
                2 => self.resize(take_integer(&mut block, 5)?)?,
                _ => self.take_literal(&mut block, 4, false, fields)?,
            }
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), HeaderError> {
        let nth = index.checked_sub(1).ok_or(HeaderError::NoSuchEntry)?;
        if let Some((name, value)) = STATIC_TABLE.get(nth) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let entry = self.entries.get(nth - STATIC_ENTRIES).ok_or(HeaderError::NoSuchEntry)?;
        Ok(entry.name_and_value())
    }

    fn take_literal(
        &mut self,
        block: &mut &[u8],
        prefix_bits: u32,
        enters: bool,
        fields: &mut Fields,
    ) -> Result<(), HeaderError> {
        let begin = fields.begin();
        match take_integer(block, prefix_bits)? {
            0 => take_string(block, &mut fields.bytes)?,
            index => fields.bytes.extend_from_slice(self.entry(index)?.0),
        }
        let name_end = fields.bytes.len();
        take_string(block, &mut fields.bytes)?;
        if enters {
            let bytes = fields.bytes.get(begin..).unwrap_or_default().into();
            self.enter(Entry { bytes, name_bytes: name_end - begin });
        }
        fields.end_field(name_end);
        Ok(())
    }

    fn enter(&mut self, entry: Entry) {
        self.evict(self.table_bytes_max.saturating_sub(entry.cost()));
        // One that is larger than the table empties it and is not kept (RFC 7541, section 4.4).
        if entry.cost() <= self.table_bytes_max {
            self.table_bytes += entry.cost();
            self.entries.push_front(entry);
        }
    }

    fn resize(&mut self, table_bytes: usize) -> Result<(), HeaderError> {
        if table_bytes > self.table_bytes_allowed {
            return Err(HeaderError::TableResized);
        }
        self.table_bytes_max = table_bytes;
        self.evict(table_bytes);
        Ok(())
    }

    fn evict(&mut self, table_bytes: usize) {
        while self.table_bytes > table_bytes {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.table_bytes -= oldest.cost();
        }
    }
}

fn take_string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), HeaderError> {
    let huffman_coded = block.first().ok_or(HeaderError::Truncated)? & 0x80 != 0;
    let length = take_integer(block, 7)?;
    let (string, rest) = block.split_at_checked(length).ok_or(HeaderError::Truncated)?;
    *block = rest;
    if huffman_coded {
        return huffman::decode(string, out).ok_or(HeaderError::Huffman);
    }
    out.extend_from_slice(string);
    Ok(())
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

/// Appends a field as a literal: the representation's first `bits`, of which `prefix_bits` are left for the index of
/// the name in the static table; with index 0 the name is spelt out.
pub fn put_literal(
    out: &mut Vec<u8>,
    bits: u8,
    prefix_bits: u32,
    index: usize,
    name: &[u8],
    value: &[u8],
) {
    put_integer(out, bits, prefix_bits, index);
    if index == 0 {
        put_string(out, name);
    }
    put_string(out, value);
}

/// Appends a string without Huffman code.
pub fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    put_integer(out, 0, 7, string.len());
    out.extend_from_slice(string);
}

/// Appends an integer whose first byte begins with `bits`.
pub fn put_integer(out: &mut Vec<u8>, bits: u8, prefix_bits: u32, value: usize) {
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
