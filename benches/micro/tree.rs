//! The tree: inserting in order and at random, looking up, and reading ranges from a snapshot.

use fastrand::Rng;
use urd::tree::{Counted, Cursor, Read, Snapshot, Tree};
use urd_benches::micro::{Hash, Micro};

const SEED: u64 = 1;
const VALUE: [u8; 256] = [7; 256];
/// Inserts between two publications: a batch of the log shard's.
const BATCH: u64 = 1000;
const RANGE_RECORDS: u64 = 100;

fn main() {
    let micro = Micro::from_arguments();
    let random = |operations: u64| {
        let mut rng = Rng::with_seed(SEED);
        (0..operations).map(|_| rng.u64(..)).collect::<Vec<u64>>()
    };
    micro.run("tree insert, ascending", 1_000_000, |n| (0..n).collect(), insert);
    micro.run("tree insert, random", 1_000_000, random, insert);
    micro.run("tree get, random", 1_000_000, filled, get);
    micro.run("tree range of 100 records, per record", 5_000_000, filled, range);
}

fn insert(keys: Vec<u64>, _: u64) -> u64 {
    let mut tree = Tree::new();
    for batch in keys.chunks(BATCH as usize) {
        for key in batch {
            tree.insert(&key.to_be_bytes(), &VALUE, Counted::Yes);
        }
        tree.publish();
    }
    let mut hash = Hash::default();
    hash.add_number(tree.count(&[], None));
    hash.finish()
}

/// A snapshot of records with the keys 0 to one less than a tenth of the operations.
fn filled(operations: u64) -> (Snapshot, u64) {
    let records = (operations / 10).max(RANGE_RECORDS);
    let mut tree = Tree::new();
    for key in 0..records {
        tree.insert(&key.to_be_bytes(), &VALUE, Counted::Yes);
    }
    (tree.publish(), records)
}

fn get((snapshot, records): (Snapshot, u64), operations: u64) -> u64 {
    let mut rng = Rng::with_seed(SEED);
    let mut found = 0;
    for _ in 0..operations {
        let value = snapshot.get(&rng.u64(..records).to_be_bytes());
        found += value.map_or(0, |value| u64::from(value[0]));
    }
    found
}

fn range((snapshot, records): (Snapshot, u64), operations: u64) -> u64 {
    let mut rng = Rng::with_seed(SEED);
    let mut hash = Hash::default();
    for _ in 0..operations / RANGE_RECORDS {
        let mut cursor = snapshot.cursor();
        cursor.seek(&rng.u64(..records).to_be_bytes());
        let mut left = RANGE_RECORDS;
        while left > 0 && cursor.valid() {
            hash.add(&cursor.key()[..8]);
            hash.add_number(cursor.value().len() as u64);
            cursor.next();
            left -= 1;
        }
    }
    hash.finish()
}
