//! The headers of requests, encoded once for each kind of call.
//!
//! For what it receives the client keeps no dynamic table, and tells the server so. So every block of a response
//! stands for itself: two equal blocks mean the same, and the connection may compare bytes instead of decoding.

use urd_http2::hpack::{
    ENTRY_OVERHEAD_BYTES, STATIC_ENTRIES, TABLE_BYTES_DEFAULT, put_integer, put_literal,
};

/// Where calls go, and which there are.
///
/// A peer with the usual dynamic table gets what established gRPC clients send it: fields that are
/// entered in the table by the first request, and one byte per field from then on. So a server is
/// charged here what it is charged in production. A peer that allows less gets literals.
#[derive(Clone, Debug)]
pub struct RequestHead {
    authority: String,
    paths: Vec<&'static str>,
}

/// `:method: POST` and `:scheme: http`, both in the static table.
const POST_HTTP: [u8; 2] = [0x83, 0x86];
/// Emptying the dynamic table, at the start of a block.
pub(super) const TABLE_RESIZE_TO_0: u8 = 0x20;

/// Longest authority that is sent.
const AUTHORITY_BYTES_MAX: usize = 1024;

/// A field as it is sent: static-table index of its name (0: none), name, value.
type Field<'a> = (usize, &'static str, &'a str);

impl RequestHead {
    /// The head of calls of `paths` (`/package.Service/Method` each) to `authority` (`host:port`).
    ///
    /// None if the authority is longer than any real one.
    pub fn new(authority: &str, paths: &[&'static str]) -> Option<RequestHead> {
        if authority.len() > AUTHORITY_BYTES_MAX {
            return None;
        }
        let head = RequestHead { authority: authority.into(), paths: paths.into() };
        let entry_bytes =
            |(_, name, value): Field<'_>| ENTRY_OVERHEAD_BYTES + name.len() + value.len();
        let shared: usize = head.shared_fields().map(entry_bytes).into_iter().sum();
        let of_paths: usize = paths.iter().map(|path| entry_bytes(path_field(path))).sum();
        assert!(shared + of_paths <= TABLE_BYTES_DEFAULT, "all fields stay in the peer's table");
        Some(head)
    }

    /// What all calls say, in grpc-go's order; the path stands before it.
    fn shared_fields(&self) -> [Field<'_>; 4] {
        [
            (1, ":authority", &self.authority),
            (31, "content-type", "application/grpc"),
            (58, "user-agent", concat!("urd-benchmark/", env!("CARGO_PKG_VERSION"))),
            (0, "te", "trailers"),
        ]
    }
}

fn path_field(path: &str) -> Field<'_> {
    (4, ":path", path)
}

/// Encodes the heads of one connection's requests.
pub(crate) struct HeadEncoder {
    head: RequestHead,
    table: Table,
    /// Fields entered into the peer's table; the newest has the lowest index.
    entered: usize,
    /// Whether the fields common to all paths are among them, and as which.
    shared_entered: Option<usize>,
    /// By path: as which its field was entered.
    path_entered: Vec<Option<usize>>,
    /// By path: the block that all further calls begin with. Empty: there is none yet.
    ready: Vec<Vec<u8>>,
    /// The block that was asked for last, if it is for one call only.
    once: Vec<u8>,
}

/// What may be put into the peer's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Usual,
    /// Nothing, and it must be emptied first, once.
    ToBeEmptied,
    None,
}

impl HeadEncoder {
    pub(crate) fn new(head: RequestHead) -> HeadEncoder {
        let paths = head.paths.len();
        HeadEncoder {
            head,
            table: Table::Usual,
            entered: 0,
            shared_entered: None,
            path_entered: vec![None; paths],
            ready: vec![Vec::new(); paths],
            once: Vec::new(),
        }
    }

    /// The peer allows a dynamic table of `bytes`.
    pub(super) fn table_size(&mut self, bytes: usize) {
        if bytes < TABLE_BYTES_DEFAULT && self.table == Table::Usual {
            self.table = Table::ToBeEmptied;
            self.ready.fill(Vec::new());
        }
    }

    /// The block of a call of the head's path number `path`.
    pub(crate) fn block(&mut self, path: usize) -> &[u8] {
        if self.ready[path].is_empty() {
            match self.table {
                Table::Usual => self.once = self.entering(path),
                Table::ToBeEmptied => {
                    self.once = [&[TABLE_RESIZE_TO_0][..], &self.literal(path)].concat();
                    self.table = Table::None;
                }
                Table::None => {
                    self.ready[path] = self.literal(path);
                    return &self.ready[path];
                }
            }
            return &self.once;
        }
        &self.ready[path]
    }

    fn literal(&self, path: usize) -> Vec<u8> {
        let mut block = POST_HTTP.to_vec();
        for (index, name, value) in self.fields(path) {
            put_literal(&mut block, 0x00, 4, index, name.as_bytes(), value.as_bytes());
        }
        block
    }

    fn fields(&self, path: usize) -> impl Iterator<Item = Field<'_>> {
        std::iter::once(path_field(self.head.paths[path])).chain(self.head.shared_fields())
    }

    /// Enters what is not in the peer's table yet, and refers to the rest.
    fn entering(&mut self, path: usize) -> Vec<u8> {
        let shared_entered = self.shared_entered;
        let mut block = POST_HTTP.to_vec();
        let mut entered = self.entered;
        for (nth, (index, name, value)) in self.fields(path).enumerate() {
            match shared_entered {
                Some(first) if nth > 0 => put_reference(&mut block, entered, first + nth - 1),
                _ => {
                    put_literal(&mut block, 0x40, 6, index, name.as_bytes(), value.as_bytes());
                    entered += 1;
                }
            }
        }
        self.path_entered[path] = Some(self.entered);
        self.shared_entered = shared_entered.or(Some(self.entered + 1));
        self.entered = entered;
        self.refer();
        block
    }

    /// Writes the blocks of references anew: every entry moves when one is added.
    fn refer(&mut self) {
        let Some(shared) = self.shared_entered else { return };
        for (path, block) in self.path_entered.iter().zip(&mut self.ready) {
            let Some(path) = path else { continue };
            block.clear();
            block.extend_from_slice(&POST_HTTP);
            put_reference(block, self.entered, *path);
            for nth in 0..self.head.shared_fields().len() {
                put_reference(block, self.entered, shared + nth);
            }
        }
    }
}

/// Refers to the field entered as the `nth` when `entered` are.
fn put_reference(block: &mut Vec<u8>, entered: usize, nth: usize) {
    put_integer(block, 0x80, 7, STATIC_ENTRIES + entered - nth);
}

#[cfg(test)]
mod tests {
    use urd_http2::hpack::{Decoder, Fields};

    use super::*;

    const PUT: &str = "/etcdserverpb.KV/Put";
    const RANGE: &str = "/etcdserverpb.KV/Range";

    fn encoder(paths: &[&'static str]) -> HeadEncoder {
        HeadEncoder::new(RequestHead::new("127.0.0.1:2379", paths).unwrap())
    }

    fn block(encoder: &mut HeadEncoder, path: usize) -> Vec<u8> {
        encoder.block(path).to_vec()
    }

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, String)> {
        let mut fields = Fields::new(4096);
        decoder.decode(block, &mut fields).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields.iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn expected(path: &str) -> Vec<(String, String)> {
        let agent = concat!("urd-benchmark/", env!("CARGO_PKG_VERSION"));
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "127.0.0.1:2379"),
            ("content-type", "application/grpc"),
            ("user-agent", agent),
            ("te", "trailers"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    #[test]
    fn heads_say_the_same_however_they_are_encoded() {
        let mut encoder = encoder(&[PUT, RANGE]);
        let mut decoder = Decoder::new(TABLE_BYTES_DEFAULT);
        // Every path entered and referred to, before and after the other one moved the entries.
        for path in [0, 0, 1, 0, 1, 1] {
            let block = block(&mut encoder, path);
            assert_eq!(decode(&mut decoder, &block), expected([PUT, RANGE][path]));
        }
        assert_eq!(block(&mut encoder, 0).len(), 7, "a byte a field");

        encoder.table_size(100);
        for path in [1, 0, 1] {
            let block = block(&mut encoder, path);
            assert_eq!(decode(&mut decoder, &block), expected([PUT, RANGE][path]));
        }
    }

    #[test]
    fn table_is_emptied_once() {
        let mut encoder = encoder(&[PUT]);
        encoder.table_size(100);
        let (first, second) = (block(&mut encoder, 0), block(&mut encoder, 0));
        assert_eq!(first, [&[TABLE_RESIZE_TO_0][..], &second].concat());
        assert_eq!(decode(&mut Decoder::new(0), &second), expected(PUT));
    }

    #[test]
    fn endless_authority_is_refused() {
        assert!(RequestHead::new(&"a".repeat(2000), &[PUT]).is_none());
    }
}
