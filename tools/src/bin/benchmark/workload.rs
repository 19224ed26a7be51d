//! The requests: encoded once, only the key changes.
//!
//! Keys are made as etcd's own tool makes them: a number in the key space as a signed varint, the
//! rest zeros. That tool does not clear its buffer between keys, so a short varint there keeps the
//! end of a longer one before it, and the keys are more than `--key-space-size` says; here they
//! are not.

use crate::args::{Consistency, PutArgs, RangeArgs};
use bytes::Bytes;
use urd_proto::etcdserverpb::{PutRequest, RangeRequest};
use urd_tools::grpc::connection::MESSAGE_HEAD_BYTES;
use urd_tools::grpc::unary::framed;

/// The longest varint.
const VARINT_BYTES_MAX: usize = 10;

/// What is sent for each request.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// The call's path.
    pub(crate) path: &'static str,
    /// The message, with gRPC's head.
    message: Vec<u8>,
    keys: Option<Keys>,
}

/// How the keys of a put run through their space.
#[derive(Clone, Debug)]
struct Keys {
    /// Where the varint stands in the message.
    begin: usize,
    space: u64,
    order: Order,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Sequential,
    Random { seed: u64 },
}

impl Workload {
    pub(crate) fn put(args: &PutArgs, seed: u64) -> Result<Workload, String> {
        let key_bytes = args.key_size as usize;
        check_key_size(args.key_size, args.key_space_size)?;
        let request = PutRequest {
            key: Bytes::from(vec![0; key_bytes]),
            value: value(seed, args.val_size),
            ..PutRequest::default()
        };
        let order = match args.sequential_keys {
            true => Order::Sequential,
            false => Order::Random { seed },
        };
        // The key is the first field: its tag, its length, itself.
        let begin = MESSAGE_HEAD_BYTES + 1 + prost::length_delimiter_len(key_bytes);
        Ok(Workload {
            path: "/etcdserverpb.KV/Put",
            message: framed(&request),
            keys: Some(Keys { begin, space: args.key_space_size, order }),
        })
    }

    pub(crate) fn range(args: &RangeArgs) -> Workload {
        Workload {
            path: "/etcdserverpb.KV/Range",
            message: framed(&range_request(args)),
            keys: None,
        }
    }

    /// The message of request `number`. A pure function of it, so that a run can be repeated
    /// whatever the timing and the number of threads.
    pub(crate) fn message(&mut self, number: u64) -> &[u8] {
        if let Some(keys) = &self.keys {
            let key = match keys.order {
                Order::Sequential => number % keys.space,
                Order::Random { seed } => below(mixed(seed, number), keys.space),
            };
            let (bytes, _) = varint(key);
            let length = varint(keys.space - 1).1;
            self.message[keys.begin..keys.begin + length].copy_from_slice(&bytes[..length]);
        }
        &self.message
    }
}

/// What `range` asks for, if at once.
pub(crate) fn range_request(args: &RangeArgs) -> RangeRequest {
    RangeRequest {
        key: Bytes::from(args.key.clone()),
        range_end: Bytes::from(args.end.clone().unwrap_or_default()),
        limit: args.limit,
        serializable: args.consistency == Consistency::Serializable,
        count_only: args.count_only,
        keys_only: args.keys_only,
        ..RangeRequest::default()
    }
}

/// Whether keys of `key_size` bytes can hold the numbers below `space`.
pub(crate) fn check_key_size(key_size: u32, space: u64) -> Result<(), String> {
    let varint_bytes = varint(space - 1).1;
    if varint_bytes > key_size as usize {
        return Err(format!(
            "--key-size={key_size} cannot hold the keys of --key-space-size={space}: {varint_bytes} bytes"
        ));
    }
    Ok(())
}

/// The key of `number`, `size` bytes long, which must hold it ([`check_key_size`]).
pub(crate) fn key(number: u64, size: u32) -> Bytes {
    let (bytes, length) = varint(number);
    let mut key = vec![0; size as usize];
    key[..length].copy_from_slice(&bytes[..length]);
    key.into()
}

/// A value of `size` letters and digits.
pub(crate) fn value(seed: u64, size: u32) -> Bytes {
    (0..size).map(|nth| printable(mixed(seed, u64::from(nth)))).collect()
}

/// A signed (zigzag) varint, zeros after it, and its length. `value` fits in an `i64`.
fn varint(value: u64) -> ([u8; VARINT_BYTES_MAX], usize) {
    let mut bytes = [0; VARINT_BYTES_MAX];
    let mut rest = value << 1;
    let mut length = 0;
    while rest >= 0x80 {
        bytes[length] = rest as u8 | 0x80;
        rest >>= 7;
        length += 1;
    }
    bytes[length] = rest as u8;
    (bytes, length + 1)
}

/// The `nth` number of the sequence that `seed` begins (SplitMix64).
pub(crate) fn mixed(seed: u64, nth: u64) -> u64 {
    let mut z = seed.wrapping_add(nth.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Maps a random number to one below `bound`.
pub(crate) fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

fn printable(random: u64) -> u8 {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    LETTERS[below(random, LETTERS.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, WorkloadArgs};
    use clap::Parser;
    use prost::Message;
    use std::collections::BTreeSet;

    fn workload(line: &str, seed: u64) -> Result<Workload, String> {
        let cli = Cli::try_parse_from(format!("benchmark {line}").split_whitespace()).unwrap();
        match &cli.workload {
            WorkloadArgs::Put(put) => Workload::put(put, seed),
            WorkloadArgs::Range(range) => Ok(Workload::range(range)),
            other => panic!("{} has no requests that are all alike", other.name()),
        }
    }

    fn put(workload: &mut Workload, number: u64) -> PutRequest {
        let message = workload.message(number);
        let length = u32::from_be_bytes(message[1..5].try_into().unwrap()) as usize;
        assert_eq!((message[0], message.len()), (0, MESSAGE_HEAD_BYTES + length));
        PutRequest::decode(&message[MESSAGE_HEAD_BYTES..]).unwrap()
    }

    #[test]
    fn keys_are_varints_in_their_order() {
        let mut workload =
            workload("put --sequential-keys --key-space-size=10000 --val-size=3", 1).unwrap();
        assert_eq!(put(&mut workload, 0).key, &[0; 8][..]);
        assert_eq!(put(&mut workload, 63).key, &[126, 0, 0, 0, 0, 0, 0, 0][..]);
        assert_eq!(put(&mut workload, 64).key, &[0x80, 1, 0, 0, 0, 0, 0, 0][..]);
        assert_eq!(put(&mut workload, 8192).key, &[0x80, 0x80, 1, 0, 0, 0, 0, 0][..]);
        assert_eq!(put(&mut workload, 10_001).key, &[2, 0, 0, 0, 0, 0, 0, 0][..], "nothing stays");
        assert_eq!(put(&mut workload, 0).value.len(), 3);
    }

    #[test]
    fn random_keys_fill_their_space_and_repeat_by_seed() {
        let line = "put --key-space-size=100 --key-size=200";
        let keys = |seed| -> Vec<Bytes> {
            let mut workload = workload(line, seed).unwrap();
            (0..2000).map(|number| put(&mut workload, number).key).collect()
        };
        assert_eq!(keys(1), keys(1));
        assert_ne!(keys(1), keys(2));
        assert_eq!(keys(1).iter().collect::<BTreeSet<_>>().len(), 100);
        assert!(keys(1).iter().all(|key| key.len() == 200));
    }

    #[test]
    fn single_keys_are_those_of_put() {
        let mut workload =
            workload("put --sequential-keys --key-space-size=10000 --key-size=9", 1).unwrap();
        for number in [0, 63, 64, 8192, 9999] {
            assert_eq!(key(number, 9), put(&mut workload, number).key);
        }
        assert_eq!(value(1, 8), put(&mut workload, 0).value);
    }

    #[test]
    fn keys_must_hold_their_space() {
        assert!(workload("put --key-size=1 --key-space-size=64", 1).is_ok());
        let error = workload("put --key-size=1 --key-space-size=65", 1).unwrap_err();
        assert!(error.contains("--key-size=1"), "{error}");
    }

    #[test]
    fn ranges_ask_for_what_the_flags_say() {
        let mut range = workload("range a z --limit=3 --consistency=s --count-only", 1).unwrap();
        let request = RangeRequest::decode(&range.message(9)[MESSAGE_HEAD_BYTES..]).unwrap();
        assert_eq!((&*request.key, &*request.range_end, request.limit), (&b"a"[..], &b"z"[..], 3));
        assert!(request.serializable && request.count_only && !request.keys_only);
    }
}
