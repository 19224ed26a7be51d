//! The store: applying entries of many puts, as the log shard does.

use bytes::Bytes;
use fastrand::Rng;
use prost::Message;
use urd::ids::{Index, Term};
use urd::store::Store;
use urd::store::command::{Batch, BatchBuilder, Kind};
use urd_benches::micro::{Hash, Micro};
use urd_proto::etcdserverpb::PutRequest;

const SEED: u64 = 1;
const KEY_SPACE: u64 = 100_000;
const VALUE_BYTES: usize = 256;

fn main() {
    let micro = Micro::from_arguments();
    for batch in [1, 100] {
        let name = format!("store apply, entries of {batch}, per put");
        micro.run(&name, 200_000, |puts| entries(puts, batch), apply);
    }
}

/// Encoded entries with `puts` puts altogether.
fn entries(puts: u64, batch: u64) -> Vec<Bytes> {
    let mut rng = Rng::with_seed(SEED);
    let mut put = || PutRequest {
        key: Bytes::copy_from_slice(&rng.u64(..KEY_SPACE).to_be_bytes()),
        value: vec![7; VALUE_BYTES].into(),
        ..PutRequest::default()
    };
    (0..puts.div_ceil(batch))
        .map(|_| {
            let mut builder = BatchBuilder::with_capacity(0);
            for _ in 0..batch {
                builder.append(Kind::Put, &put().encode_to_vec());
            }
            builder.finish()
        })
        .collect()
}

/// Decodes and applies, and publishes after each entry.
fn apply(entries: Vec<Bytes>, _: u64) -> u64 {
    let mut store = Store::new();
    let mut outcomes = 0;
    for (index, entry) in (1..).zip(entries) {
        let batch = Batch::decode(entry).expect("invariant: encoded above");
        outcomes += store.apply(Index(index), Term(1), &batch).len() as u64;
        store.publish();
    }
    let view = store.view();
    let hash_kv = view.hash_kv(0).expect("invariant: revision 0 is the present one");
    let mut hash = Hash::default();
    hash.add_number(outcomes);
    hash.add_number(hash_kv.hash.into());
    hash.finish()
}
