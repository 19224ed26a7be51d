//! HPACK's Huffman code (RFC 7541, section 5.2 and appendix B), decoding only.
//!
//! The code is canonical: within one length, code words ascend with the symbol. So the lengths say
//! it all, and the tables below are derived from them at compile time.

/// Code lengths of the 256 byte values, in bits, from appendix B.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// The longest code word. Of that length is also the end-of-string symbol, the last code word of
/// all, which no valid string contains.
const LENGTH_MAX: usize = 30;
/// Padding is the beginning of end-of-string: fewer than a byte's worth of ones.
const PADDING_BITS_MAX: u32 = 7;

/// For each length: its first code word, how many there are, and where its symbols begin.
struct Tables {
    first: [u32; LENGTH_MAX + 1],
    count: [u32; LENGTH_MAX + 1],
    offset: [usize; LENGTH_MAX + 1],
    symbols: [u8; 256],
}

const TABLES: Tables = tables();

const fn tables() -> Tables {
    let mut tables = Tables {
        first: [0; LENGTH_MAX + 1],
        count: [0; LENGTH_MAX + 1],
        offset: [0; LENGTH_MAX + 1],
        symbols: [0; 256],
    };
    let (mut code, mut filled, mut length) = (0, 0, 1);
    while length <= LENGTH_MAX {
        code <<= 1;
        tables.first[length] = code;
        tables.offset[length] = filled;
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                tables.symbols[filled] = symbol as u8;
                filled += 1;
                code += 1;
            }
            symbol += 1;
        }
        tables.count[length] = (filled - tables.offset[length]) as u32;
        length += 1;
    }
    // Only end-of-string is left over: one code word, all ones.
    assert!(filled == 256 && code == (1 << LENGTH_MAX) - 1);
    tables
}

/// Decodes `input` behind what `output` has; none if it is no valid string of this code.
pub(super) fn decode(input: &[u8], output: &mut Vec<u8>) -> Option<()> {
    output.reserve(input.len() * 8 / 5);
    let mut code = 0;
    let mut length = 0;
    for byte in input {
        for shift in (0..8).rev() {
            code = code << 1 | u32::from(byte >> shift & 1);
            length += 1;
            if length > LENGTH_MAX {
                return None;
            }
            let nth = code.wrapping_sub(TABLES.first[length]);
            if code >= TABLES.first[length] && nth < TABLES.count[length] {
                output.push(TABLES.symbols[TABLES.offset[length] + nth as usize]);
                (code, length) = (0, 0);
            }
        }
    }
    let bits = length as u32;
    let padding_is_ones = code == (1 << bits) - 1;
    (bits <= PADDING_BITS_MAX && padding_is_ones).then_some(())
}

/// Encodes, so that tests can make what decoding is tried on.
#[cfg(test)]
pub(super) fn encode(input: &[u8]) -> Vec<u8> {
    let mut bits = Vec::new();
    for &byte in input {
        let length = LENGTHS[byte as usize] as usize;
        let offset = TABLES.offset[length];
        let nth = TABLES.symbols[offset..].iter().position(|&s| s == byte).unwrap() as u32;
        let code = TABLES.first[length] + nth;
        bits.extend((0..length).rev().map(|shift| code >> shift & 1));
    }
    while !bits.len().is_multiple_of(8) {
        bits.push(1);
    }
    bits.chunks(8).map(|bits| bits.iter().fold(0, |byte, &bit| byte << 1 | bit as u8)).collect()
}
