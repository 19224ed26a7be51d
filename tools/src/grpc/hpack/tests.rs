//! HPACK, byte by byte.

use super::*;

fn field(name: &str, value: &str) -> Field {
    Field { name: name.into(), value: value.into() }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// RFC 7541, appendices C.2.1 to C.2.4.
#[test]
fn reads_every_representation() {
    let custom = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    assert_eq!(decode(&bytes(custom)), Ok(vec![field("custom-key", "custom-header")]));
    let path = "040c 2f73 616d 706c 652f 7061 7468";
    assert_eq!(decode(&bytes(path)), Ok(vec![field(":path", "/sample/path")]));
    let never = "1008 7061 7373 776f 7264 0673 6563 7265 74";
    assert_eq!(decode(&bytes(never)), Ok(vec![field("password", "secret")]));
    assert_eq!(decode(&[0x82]), Ok(vec![field(":method", "GET")]));
    assert_eq!(decode(&[TABLE_RESIZE_TO_0, 0x88]), Ok(vec![field(":status", "200")]));
}

/// RFC 7541, appendix C.6.1: a response with Huffman-coded values.
#[test]
fn reads_huffman_strings() {
    let block = "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
                 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
    let expected = vec![
        field(":status", "302"),
        field("cache-control", "private"),
        field("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        field("location", "https://www.example.com"),
    ];
    assert_eq!(decode(&bytes(block)), Ok(expected));
}

#[test]
fn huffman_round_trips_every_byte() {
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(huffman::decode(&huffman::encode(&all)), Some(all));
    assert_eq!(huffman::encode(b"www.example.com"), bytes("f1e3 c2e5 f23a 6ba0 ab90 f4ff"));
    for byte in 0..=255 {
        assert_eq!(huffman::decode(&huffman::encode(&[byte])), Some(vec![byte]));
    }
}

#[test]
fn huffman_padding_is_short_and_ones() {
    // '0' is the code word 00000.
    assert_eq!(huffman::decode(&[0b0000_0111]), Some(b"0".to_vec()));
    assert_eq!(huffman::decode(&[0b0000_0110]), None, "padding that is not ones");
    assert_eq!(huffman::decode(&[0b0000_0111, 0xff]), None, "a byte of padding too many");
    assert_eq!(huffman::decode(&[0xff; 8]), None, "end-of-string inside a string");
}

#[test]
fn refuses_what_is_malformed() {
    assert_eq!(decode(&[0x80]), Err(HeaderError::NoSuchEntry));
    assert_eq!(decode(&[0x80 | 62]), Err(HeaderError::NoSuchEntry), "the dynamic table");
    assert_eq!(decode(&[0x3f, 0x00]), Err(HeaderError::TableResized));
    assert_eq!(decode(&[0x48, 0x03, b'2']), Err(HeaderError::Truncated));
    assert_eq!(decode(&[0x48]), Err(HeaderError::Truncated));
    assert_eq!(decode(&[0xff, 0x80]), Err(HeaderError::Truncated));
    let endless = [0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    assert_eq!(decode(&endless), Err(HeaderError::IntegerTooLarge));
    assert_eq!(decode(&[0x48, 0x81, 0x00]), Err(HeaderError::Huffman));
}

#[test]
fn any_bytes_are_decoded_or_refused() {
    let seed = 7;
    let mut rng = fastrand::Rng::with_seed(seed);
    for round in 0..20_000 {
        let block: Vec<u8> = (0..rng.usize(..40)).map(|_| rng.u8(..)).collect();
        // Only that it returns matters here: no panic, no endless loop.
        let decoded = std::panic::catch_unwind(|| decode(&block).is_ok());
        assert!(decoded.is_ok(), "seed {seed}, round {round}, block {block:02x?}");
    }
}

#[test]
fn request_heads_say_the_same() {
    let head = RequestHead::new("127.0.0.1:2379", "/etcdserverpb.KV/Put").unwrap();
    let fields = decode(&head.literal).unwrap();
    assert_eq!(fields, decode(&head.entering).unwrap());
    assert_eq!(fields[0], field(":method", "POST"));
    assert_eq!(fields[1], field(":scheme", "http"));
    assert_eq!(fields[2], field(":path", "/etcdserverpb.KV/Put"));
    assert_eq!(fields[3], field(":authority", "127.0.0.1:2379"));
    assert_eq!(fields[6], field("te", "trailers"));
    // Five entries were made; the oldest has the highest index.
    assert_eq!(head.indexed, [0x83, 0x86, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]);
    assert!(RequestHead::new(&"a".repeat(2000), "/").is_none());
}
