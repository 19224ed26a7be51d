//! Large values, while a disk is full: so that its log must grow, and cannot.
//!
//! All are beginnings of one text, each of another length. So every value is put once, and yet the record of a long run needs
//! the memory of one of them ([`share`]).

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use glommio::timer::Timer;
use urd_proto::etcdserverpb::PutRequest;
use urd_proto::mvccpb::KeyValue;
use urd_tools::checkers::history::Request;
use urd_tools::grpc::endpoint::Endpoint;

use crate::line::Line;
use crate::record::Record;

/// Its number as a client.
const CLIENT: u32 = 200;
/// All its keys begin so.
pub(crate) const PREFIX: &str = "bulk/";
/// The first key behind them.
pub(crate) const PREFIX_END: &str = "bulk0";
const KEYS: usize = 4;
/// Values are this long, and up to [`LENGTHS`] longer.
const VALUE_BYTES: usize = 900_000;
const LENGTHS: usize = 400_000;
const PAUSE: Duration = Duration::from_millis(20);
/// Messages longer than this are worth a look.
pub(crate) const SHARED_BYTES_MIN: usize = 64 * 1024;

static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
    let mut text = Vec::with_capacity(VALUE_BYTES + LENGTHS);
    for nth in 0_u64.. {
        if text.len() >= VALUE_BYTES + LENGTHS {
            break;
        }
        text.extend_from_slice(&nth.to_be_bytes());
    }
    Bytes::from(text)
});

/// Makes a key-value of a large message share the text, so that the message's memory can go.
pub(crate) fn share(kv: &mut KeyValue) {
    kv.key = Bytes::copy_from_slice(&kv.key);
    match TEXT.get(..kv.value.len()) {
        Some(text) if kv.value.len() >= VALUE_BYTES && text == kv.value => {
            kv.value = TEXT.slice(..kv.value.len());
        }
        _ => kv.value = Bytes::copy_from_slice(&kv.value),
    }
}

/// Puts large values whenever the record says that a disk is full.
pub(crate) async fn run(endpoints: Vec<Endpoint>, record: Arc<Record>) {
    let mut line = Line::new(&endpoints, 0);
    let mut made = 0;
    while !record.load_is_over() {
        Timer::new(PAUSE).await;
        if made == LENGTHS || !record.takes_bulk() {
            continue;
        }
        made += 1;
        let key = Bytes::from(format!("{PREFIX}{}", made % KEYS));
        let value = TEXT.slice(..VALUE_BYTES + made);
        line.ask(&record, CLIENT, Request::Put(PutRequest { key, value, ..PutRequest::default() }))
            .await;
    }
}
