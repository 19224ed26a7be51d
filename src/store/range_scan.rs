//! Ranges as readers use them: [`RangeScan`] in slices, straight into the response's bytes, and
//! [`collect`] in one piece, for transactions.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};
use urd_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use urd_proto::mvccpb::KeyValue;

use super::scan::{Scan, ScanEnd, Shape, Sink};
use super::view::View;
use super::walk::Live;
use crate::error::Rejected;
use crate::ids::Revision;
use crate::tree::Read;

/// Key of `RangeResponse.kvs` on the wire: field 2, length-delimited.
const KVS_TAG: u8 = 2 << 3 | 2;
/// Keys of `KeyValue`'s fields: the number, and whether a length or a number follows.
const KEY_TAG: u8 = 1 << 3 | 2;
const CREATE_REVISION_TAG: u8 = 2 << 3;
const MOD_REVISION_TAG: u8 = 3 << 3;
const VERSION_TAG: u8 = 4 << 3;
const VALUE_TAG: u8 = 5 << 3 | 2;
const LEASE_TAG: u8 = 6 << 3;

/// A range being read from one view. Between the steps its reader may do other work; the view keeps
/// the state as it was.
#[derive(Debug)]
pub struct RangeScan {
    view: View,
    scan: Scan,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to read.
    More,
    /// All key-values have been written.
    Done(RangeTail),
}

/// The fields of a `RangeResponse` beside its key-values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeTail {
    /// For the header: the newest revision of the view, whichever was read.
    pub revision: Revision,
    pub more: bool,
    pub count: i64,
}

impl RangeScan {
    /// Refuses revisions that are compacted or to come.
    pub fn new(view: View, request: &RangeRequest) -> Result<Self, Rejected> {
        let newest = view.revision();
        let revision = view.meta().readable(request.revision)?;
        let scan = Scan::new(view.snapshot(), request, revision, newest)?;
        Ok(Self { view, scan })
    }

    /// Appends key-values, as fields of a `RangeResponse`, until about `budget_bytes` of work are
    /// done: bytes written, and a small cost for each record passed over. One key-value may exceed
    /// it.
    pub fn step(&mut self, budget_bytes: usize, out: &mut BytesMut) -> Step {
        match self.scan.step(self.view.snapshot(), budget_bytes, out) {
            None => Step::More,
            Some(ScanEnd { more, count }) => {
                Step::Done(RangeTail { revision: self.view.revision(), more, count })
            }
        }
    }

    /// What is read.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }
}

/// A whole range at once. `newest` is what the header says.
pub(super) fn collect<R: Read>(
    reader: &R,
    request: &RangeRequest,
    revision: Revision,
    newest: Revision,
) -> Result<RangeResponse, Rejected> {
    let mut kvs = Vec::new();
    let mut scan = Scan::new(reader, request, revision, newest)?;
    let end = scan.step(reader, usize::MAX, &mut kvs);
    let ScanEnd { more, count } = end.expect("invariant: the budget is unbounded");
    Ok(RangeResponse { header: header(newest), kvs, more, count })
}

/// A header as the store fills it; the api adds who answered.
pub(super) fn header(revision: Revision) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision: revision.0, ..ResponseHeader::default() })
}

/// A key-value that outlives its page.
pub(super) fn key_value(live: &Live<'_>, shape: Shape) -> KeyValue {
    KeyValue {
        key: Bytes::from(live.user_key().to_vec()),
        create_revision: live.record.create_revision.0,
        mod_revision: live.mod_revision().0,
        version: live.record.version,
        value: match shape {
            Shape::KeysAndValues => Bytes::copy_from_slice(live.record.value),
            Shape::KeysOnly => Bytes::new(),
        },
        lease: live.record.lease,
    }
}

impl Sink for Vec<KeyValue> {
    fn push(&mut self, live: &Live<'_>, shape: Shape) -> usize {
        let kv = key_value(live, shape);
        let bytes = kv.key.len() + kv.value.len();
        self.push(kv);
        bytes
    }
}

impl Sink for BytesMut {
    fn push(&mut self, live: &Live<'_>, shape: Shape) -> usize {
        let before = self.len();
        let message_bytes = KeyValueFields::of(live, shape).encoded_len();
        self.reserve(1 + encoded_len_varint(message_bytes as u64) + message_bytes);
        self.put_u8(KVS_TAG);
        encode_varint(message_bytes as u64, self);
        KeyValueFields::of(live, shape).encode(self);
        self.len() - before
    }
}

/// A `KeyValue` message that is never built: its bytes go from the page to where they are wanted.
pub(super) struct KeyValueFields<'a> {
    live: &'a Live<'a>,
    key_bytes: usize,
    value: &'a [u8],
}

impl<'a> KeyValueFields<'a> {
    pub(super) fn of(live: &'a Live<'a>, shape: Shape) -> Self {
        let value = match shape {
            Shape::KeysAndValues => live.record.value,
            Shape::KeysOnly => &[],
        };
        Self { live, key_bytes: live.user_key().len(), value }
    }

    pub(super) fn encoded_len(&self) -> usize {
        let delimited = |len: usize| match len {
            0 => 0,
            len => 1 + encoded_len_varint(len as u64) + len,
        };
        let numbers = self.numbers();
        let numbers = numbers.iter().map(|&(_, number)| match number {
            0 => 0,
            number => 1 + encoded_len_varint(number as u64),
        });
        delimited(self.key_bytes) + delimited(self.value.len()) + numbers.sum::<usize>()
    }

    /// Everything but the value, which may be large: a caller that only hashes need not copy it.
    pub(super) fn encode_head(&self, out: &mut impl BufMut) {
        if self.key_bytes > 0 {
            out.put_u8(KEY_TAG);
            encode_varint(self.key_bytes as u64, out);
            self.live.user_key().write(out);
        }
        let [numbers @ .., _] = self.numbers();
        for (tag, number) in numbers {
            encode_number(tag, number, out);
        }
        if !self.value.is_empty() {
            out.put_u8(VALUE_TAG);
            encode_varint(self.value.len() as u64, out);
        }
    }

    pub(super) fn value(&self) -> &'a [u8] {
        self.value
    }

    /// What stands after the value.
    pub(super) fn encode_tail(&self, out: &mut impl BufMut) {
        encode_number(LEASE_TAG, self.live.record.lease, out);
    }

    fn encode(&self, out: &mut impl BufMut) {
        self.encode_head(out);
        out.put_slice(self.value);
        self.encode_tail(out);
    }

    /// In the order of the fields; the last one stands behind the value.
    fn numbers(&self) -> [(u8, i64); 4] {
        let record = &self.live.record;
        [
            (CREATE_REVISION_TAG, record.create_revision.0),
            (MOD_REVISION_TAG, self.live.mod_revision().0),
            (VERSION_TAG, record.version),
            (LEASE_TAG, record.lease),
        ]
    }
}

/// As proto3 has it, a zero is not written.
fn encode_number(tag: u8, number: i64, out: &mut impl BufMut) {
    if number != 0 {
        out.put_u8(tag);
        encode_varint(number as u64, out);
    }
}

/// A tombstone's `KeyValue` message: the key alone.
pub(super) fn encode_tombstone(user_key: &[u8], out: &mut impl BufMut) {
    if !user_key.is_empty() {
        out.put_u8(KEY_TAG);
        encode_varint(user_key.len() as u64, out);
        out.put_slice(user_key);
    }
}
