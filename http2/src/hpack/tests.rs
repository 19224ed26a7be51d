//! HPACK, byte by byte.

use super::*;

type Owned = Vec<(String, String)>;

fn decode_with(decoder: &mut Decoder, block: &[u8]) -> Result<Owned, HeaderError> {
    let mut fields = Fields::new(64 * 1024);
    decoder.decode(block, &mut fields)?;
    assert!(!fields.overflowed());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(fields.iter().map(|(name, value)| (text(name), text(value))).collect())
}

fn decode(block: &[u8]) -> Result<Owned, HeaderError> {
    decode_with(&mut Decoder::new(0), block)
}

fn list(fields: &[(&str, &str)]) -> Result<Owned, HeaderError> {
    Ok(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
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
    assert_eq!(decode(&bytes(custom)), list(&[("custom-key", "custom-header")]));
    let path = "040c 2f73 616d 706c 652f 7061 7468";
    assert_eq!(decode(&bytes(path)), list(&[(":path", "/sample/path")]));
    let never = "1008 7061 7373 776f 7264 0673 6563 7265 74";
    assert_eq!(decode(&bytes(never)), list(&[("password", "secret")]));
    assert_eq!(decode(&[0x82]), list(&[(":method", "GET")]));
    assert_eq!(decode(&[0x20, 0x88]), list(&[(":status", "200")]));
}

/// RFC 7541, appendix C.4: three requests on one connection, Huffman-coded, with a dynamic table.
#[test]
fn keeps_a_table_from_request_to_request() {
    let mut decoder = Decoder::new(TABLE_BYTES_DEFAULT);
    let first = bytes("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff");
    let common = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    let authority = (":authority", "www.example.com");
    assert_eq!(
        decode_with(&mut decoder, &first),
        list(&[common[0], common[1], common[2], authority])
    );
    assert_eq!(decoder.table_bytes, 57);
    let second = bytes("8286 84be 5886 a8eb 1064 9cbf");
    let no_cache = ("cache-control", "no-cache");
    assert_eq!(
        decode_with(&mut decoder, &second),
        list(&[common[0], common[1], common[2], authority, no_cache])
    );
    assert_eq!(decoder.table_bytes, 110);
    let third = bytes("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf");
    let expected = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        authority,
        ("custom-key", "custom-value"),
    ];
    assert_eq!(decode_with(&mut decoder, &third), list(&expected));
    assert_eq!(decoder.table_bytes, 164);
}

/// RFC 7541, appendix C.5: responses that push each other's entries out of a table of 256 bytes.
#[test]
fn evicts_the_oldest_entries() {
    let mut decoder = Decoder::new(256);
    let first = bytes(
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
         2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    );
    assert_eq!(decode_with(&mut decoder, &first).unwrap().len(), 4);
    assert_eq!(decoder.table_bytes, 222);
    let second = bytes("4803 3330 37c1 c0bf");
    assert_eq!(decode_with(&mut decoder, &second).unwrap()[0], (":status".into(), "307".into()));
    assert_eq!(decoder.table_bytes, 222);
    assert_eq!(decoder.entries.len(), 4);

    // Too large for the table: it is read, and the table is empty.
    let mut large = Vec::new();
    put_literal(&mut large, 0x40, 6, 0, b"name", &[b'v'; 300]);
    assert_eq!(decode_with(&mut decoder, &large).unwrap()[0].1.len(), 300);
    assert_eq!((decoder.table_bytes, decoder.entries.len()), (0, 0));
}

#[test]
fn a_smaller_table_drops_entries_and_a_larger_one_is_refused() {
    let mut decoder = Decoder::new(100);
    let mut block = Vec::new();
    put_literal(&mut block, 0x40, 6, 0, b"name", b"value");
    decode_with(&mut decoder, &block).unwrap();
    assert_eq!(decode_with(&mut decoder, &[0x80 | 62]), list(&[("name", "value")]));
    assert_eq!(decode_with(&mut decoder, &[0x20, 0x3f, 69, 0x82]), list(&[(":method", "GET")]));
    assert_eq!(decode_with(&mut decoder, &[0x80 | 62]), Err(HeaderError::NoSuchEntry));
    assert_eq!(decode_with(&mut decoder, &[0x3f, 70]), Err(HeaderError::TableResized));
}

/// RFC 7541, appendix C.6.1: a response with Huffman-coded values.
#[test]
fn reads_huffman_strings() {
    let block = "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
                 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
    let expected = [
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ];
    assert_eq!(decode(&bytes(block)), list(&expected));
}

fn unpack(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    huffman::decode(bytes, &mut out).map(|()| out)
}

#[test]
fn huffman_round_trips_every_byte() {
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(unpack(&huffman::encode(&all)), Some(all));
    assert_eq!(huffman::encode(b"www.example.com"), bytes("f1e3 c2e5 f23a 6ba0 ab90 f4ff"));
    for byte in 0..=255 {
        assert_eq!(unpack(&huffman::encode(&[byte])), Some(vec![byte]));
    }
}

#[test]
fn huffman_padding_is_short_and_ones() {
    // '0' is the code word 00000.
    assert_eq!(unpack(&[0b0000_0111]), Some(b"0".to_vec()));
    assert_eq!(unpack(&[0b0000_0110]), None, "padding that is not ones");
    assert_eq!(unpack(&[0b0000_0111, 0xff]), None, "a byte of padding too many");
    assert_eq!(unpack(&[0xff; 8]), None, "end-of-string inside a string");
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

/// A block of references to one large entry grows to megabytes; only what fits is kept, and the table stays right.
#[test]
fn a_list_is_bounded() {
    let mut decoder = Decoder::new(TABLE_BYTES_DEFAULT);
    let mut block = Vec::new();
    put_literal(&mut block, 0x40, 6, 0, b"name", &[b'v'; 3000]);
    block.extend([0x80 | 62; 1000]);
    put_literal(&mut block, 0x40, 6, 0, b"last", b"one");
    let mut fields = Fields::new(10_000);
    decoder.decode(&block, &mut fields).unwrap();
    assert!(fields.overflowed());
    assert_eq!(fields.iter().count(), 3);
    assert!(fields.bytes.len() < 10_000);
    assert_eq!(decode_with(&mut decoder, &[0x80 | 62]), list(&[("last", "one")]));
}

#[test]
fn any_bytes_are_decoded_or_refused() {
    let seed = 7;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut decoder = Decoder::new(TABLE_BYTES_DEFAULT);
    let mut fields = Fields::new(64 * 1024);
    for _ in 0..20_000 {
        let block: Vec<u8> = (0..rng.usize(..40)).map(|_| rng.u8(..)).collect();
        // Only that it returns matters here, and that the table keeps its bound: no panic, no endless loop.
        decoder.decode(&block, &mut fields).ok();
        assert!(decoder.table_bytes <= TABLE_BYTES_DEFAULT);
        assert_eq!(decoder.table_bytes, decoder.entries.iter().map(Entry::cost).sum::<usize>());
    }
}
