//! Changes of bytes that know nothing of what the bytes mean.

use std::ops::Range;

use fastrand::Rng;

/// Numbers at which code goes another way: the ends of types, and what stands beside them.
const INTERESTING: [u64; 24] = [
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    31,
    32,
    63,
    64,
    100,
    127,
    128,
    255,
    256,
    4096,
    i16::MAX as u64,
    u16::MAX as u64,
    i32::MAX as u64,
    u32::MAX as u64,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX,
];

/// Bytes that one change adds at most.
const ADDED_BYTES_MAX: usize = 64;

/// One of the numbers at which code goes another way, or one beside it, or any.
pub fn number(random: &mut Rng) -> u64 {
    let chosen = INTERESTING[random.usize(..INTERESTING.len())];
    match random.u8(..8) {
        0 => chosen.wrapping_add(1),
        1 => chosen.wrapping_sub(1),
        2 => random.u64(..),
        3 => random.u64(..1000),
        _ => chosen,
    }
}

/// A number near `value`, or one of its own.
pub fn number_near(value: u64, random: &mut Rng) -> u64 {
    match random.u8(..6) {
        0 => value.wrapping_add(1),
        1 => value.wrapping_sub(1),
        2 => value ^ (1 << random.u32(..64)),
        3 => value.wrapping_add(random.u64(..20)),
        _ => number(random),
    }
}

/// A part of something so long; empty only if that is.
pub fn range(length: usize, random: &mut Rng) -> Range<usize> {
    if length == 0 {
        return 0..0;
    }
    let begin = random.usize(..length);
    let long = if random.bool() { length - begin } else { (length - begin).min(16) };
    begin..begin + random.usize(1..=long)
}

/// Changes `bytes` in one way; `other` is where more may be taken from.
pub fn bytes(bytes: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
    if bytes.is_empty() {
        return insert(bytes, other, random);
    }
    let at = random.usize(..bytes.len());
    match random.u8(..16) {
        0..3 => bytes[at] ^= 1 << random.u32(..8),
        3 => bytes[at] = random.u8(..),
        4..7 => overwrite_number(bytes, random),
        7 => add_to_number(bytes, random),
        8 => bytes.truncate(at),
        9 => {
            let added = random.usize(1..=ADDED_BYTES_MAX);
            bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(added));
        }
        10 => {
            bytes.drain(range(bytes.len(), random));
        }
        11 => {
            let copied = bytes[range(bytes.len(), random)].to_vec();
            insert_at(bytes, &copied, random);
        }
        12 => {
            let part = range(bytes.len(), random);
            bytes[part].fill(if random.bool() { 0 } else { 0xff });
        }
        13 => {
            // The beginning of one and the end of the other.
            bytes.truncate(random.usize(..=bytes.len()));
            bytes.extend_from_slice(&other[random.usize(..=other.len())..]);
        }
        14 => {
            let from = &other[range(other.len(), random)];
            let length = from.len().min(bytes.len() - at);
            bytes[at..at + length].copy_from_slice(&from[..length]);
        }
        _ => insert(bytes, other, random),
    }
}

fn insert(bytes: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
    if other.is_empty() || random.bool() {
        let length = random.usize(1..=8);
        let fresh: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
        insert_at(bytes, &fresh, random);
    } else {
        insert_at(bytes, &other[range(other.len(), random)], random);
    }
}

fn insert_at(bytes: &mut Vec<u8>, added: &[u8], random: &mut Rng) {
    let at = random.usize(..=bytes.len());
    bytes.splice(at..at, added.iter().copied());
}

fn overwrite_number(bytes: &mut [u8], random: &mut Rng) {
    let at = random.usize(..bytes.len());
    let width = [1, 2, 4, 8][random.usize(..4)].min(bytes.len() - at);
    put_number(&mut bytes[at..at + width], number(random), random.bool());
}

fn add_to_number(bytes: &mut [u8], random: &mut Rng) {
    let at = random.usize(..bytes.len());
    let width = [1, 2, 4, 8][random.usize(..4)].min(bytes.len() - at);
    let (place, little) = (&mut bytes[at..at + width], random.bool());
    let mut value = 0_u64;
    for nth in 0..width {
        let byte = if little { place[width - 1 - nth] } else { place[nth] };
        value = value << 8 | u64::from(byte);
    }
    let change = random.u64(1..=16);
    let value = if random.bool() { value.wrapping_add(change) } else { value.wrapping_sub(change) };
    put_number(place, value, little);
}

/// Fills `place` with the lowest bytes of `value`.
fn put_number(place: &mut [u8], value: u64, little: bool) {
    for (nth, byte) in place.iter_mut().enumerate() {
        *byte = value.to_le_bytes()[nth];
    }
    if !little {
        place.reverse();
    }
}

/// Changes a list of things as [`bytes()`] changes bytes: one is repeated, dropped, moved, or taken from `other`.
pub fn list<T: Clone>(list: &mut Vec<T>, other: &[T], random: &mut Rng) {
    let any = |random: &mut Rng, length: usize| random.usize(..length);
    match random.u8(..6) {
        _ if list.is_empty() => list.extend(other.iter().cloned()),
        0 => {
            list.remove(any(random, list.len()));
        }
        1 => {
            let one = list[any(random, list.len())].clone();
            list.insert(any(random, list.len() + 1), one);
        }
        2 => {
            let (one, two) = (any(random, list.len()), any(random, list.len()));
            list.swap(one, two);
        }
        3 if !other.is_empty() => {
            let one = other[any(random, other.len())].clone();
            list.insert(any(random, list.len() + 1), one);
        }
        4 if !other.is_empty() => {
            list.truncate(any(random, list.len() + 1));
            list.extend_from_slice(&other[any(random, other.len())..]);
        }
        _ => list.truncate(any(random, list.len() + 1)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_of_change_is_made_and_none_panics() {
        let mut random = Rng::with_seed(1);
        let seed: Vec<u8> = (0..40).collect();
        let mut lengths = BTreeSet::new();
        let mut changed = 0;
        for _ in 0..5000 {
            let mut copy = seed[..random.usize(..=seed.len())].to_vec();
            let before = copy.clone();
            bytes(&mut copy, &seed, &mut random);
            changed += usize::from(copy != before);
            lengths.insert(copy.len());
            let mut names = vec!["a", "b"];
            list(&mut names, &["c"], &mut random);
        }
        assert!(changed > 4000 && lengths.len() > 60, "{changed} {lengths:?}");
    }
}
