//! Changes of a protobuf message that leave it one: its fields are changed, and the lengths around them made right.
//!
//! It knows the wire format and no schema. What might be a message within a message is taken for one now and then.

use fastrand::Rng;
use prost::encoding::{decode_varint, encode_varint};

use super::mutate;

/// Messages nested deeper are changed as bytes.
const DEPTH_MAX: usize = 12;
/// The highest number of a field that is made up.
const TAG_MAX: u64 = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    tag: u64,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(Vec<u8>),
    Fixed32([u8; 4]),
}

/// Changes `message` in one way; `other` is where more may be taken from.
pub fn message(message: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
    change(message, other, random, 0);
}

fn change(message: &mut Vec<u8>, other: &[u8], random: &mut Rng, depth: usize) {
    let Some(mut fields) = parse(message).filter(|_| depth < DEPTH_MAX) else {
        return mutate::bytes(message, other, random);
    };
    match random.u8(..10) {
        0 => {
            let others = parse(other).unwrap_or_default();
            mutate::list(&mut fields, &others, random);
        }
        1 => fields.push(Field { tag: random.u64(1..=TAG_MAX), value: made_up(random) }),
        2 if !fields.is_empty() => {
            let at = random.usize(..fields.len());
            fields[at].tag = random.u64(1..=TAG_MAX);
        }
        // The message within itself: depth is a bound of its own.
        3 if !fields.is_empty() => {
            let at = random.usize(..fields.len());
            if let Value::Bytes(inner) = &mut fields[at].value {
                let tag = random.u64(1..=TAG_MAX);
                *inner = encode(&[Field { tag, value: Value::Bytes(message.clone()) }]);
            }
        }
        _ if fields.is_empty() => fields.push(Field { tag: 1, value: made_up(random) }),
        _ => {
            let at = random.usize(..fields.len());
            change_value(&mut fields[at].value, other, random, depth);
        }
    }
    *message = encode(&fields);
}

fn change_value(value: &mut Value, other: &[u8], random: &mut Rng, depth: usize) {
    match value {
        Value::Varint(number) => *number = mutate::number_near(*number, random),
        Value::Fixed64(bytes) => *bytes = mutate::number(random).to_le_bytes(),
        Value::Fixed32(bytes) => {
            let [a, b, c, d, ..] = mutate::number(random).to_le_bytes();
            *bytes = [a, b, c, d];
        }
        Value::Bytes(bytes) if random.u8(..4) > 0 && parse(bytes).is_some() => {
            change(bytes, other, random, depth + 1);
        }
        Value::Bytes(bytes) => mutate::bytes(bytes, other, random),
    }
}

fn made_up(random: &mut Rng) -> Value {
    match random.u8(..4) {
        0 => Value::Bytes(Vec::new()),
        1 => Value::Bytes(vec![random.u8(..); random.usize(1..40)]),
        2 => Value::Fixed64(mutate::number(random).to_le_bytes()),
        _ => Value::Varint(mutate::number(random)),
    }
}

/// The fields of a message; `None` for what is none.
fn parse(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = decode_varint(&mut bytes).ok()?;
        let (tag, wire) = (key >> 3, key & 7);
        if tag == 0 {
            return None;
        }
        let value = match wire {
            0 => Value::Varint(decode_varint(&mut bytes).ok()?),
            1 => Value::Fixed64(*take(&mut bytes, 8)?.first_chunk()?),
            2 => {
                let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                Value::Bytes(take(&mut bytes, length)?.to_vec())
            }
            5 => Value::Fixed32(*take(&mut bytes, 4)?.first_chunk()?),
            _ => return None,
        };
        fields.push(Field { tag, value });
    }
    Some(fields)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn encode(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Field { tag, value } in fields {
        let wire = match value {
            Value::Varint(_) => 0,
            Value::Fixed64(_) => 1,
            Value::Bytes(_) => 2,
            Value::Fixed32(_) => 5,
        };
        encode_varint(tag << 3 | wire, &mut bytes);
        match value {
            Value::Varint(number) => encode_varint(*number, &mut bytes),
            Value::Fixed64(fixed) => bytes.extend_from_slice(fixed),
            Value::Bytes(inner) => {
                encode_varint(inner.len() as u64, &mut bytes);
                bytes.extend_from_slice(inner);
            }
            Value::Fixed32(fixed) => bytes.extend_from_slice(fixed),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use urd_proto::etcdserverpb::PutRequest;

    use super::*;

    #[test]
    fn fields_survive_and_changes_leave_a_message() {
        let put = PutRequest { key: "key".into(), lease: -7, prev_kv: true, ..Default::default() };
        let bytes = put.encode_to_vec();
        assert_eq!(encode(&parse(&bytes).unwrap()), bytes);
        assert_eq!(parse(b"\x0a\x05ab"), None);
        let mut random = Rng::with_seed(2);
        let mut decoded = 0;
        for _ in 0..1000 {
            let mut copy = bytes.clone();
            message(&mut copy, &bytes, &mut random);
            assert!(parse(&copy).is_some());
            decoded += usize::from(PutRequest::decode(&copy[..]).is_ok());
        }
        assert!(decoded > 600, "{decoded}");
    }
}
