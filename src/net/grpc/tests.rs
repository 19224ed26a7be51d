//! Framing and headers, by tables, and by bytes drawn at random.

#![allow(clippy::indexing_slicing)]

use super::*;

const BYTES_MAX: usize = 1000;

fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    let mut frame = vec![flag];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

/// Assembles a body that arrives in pieces of the given sizes.
fn assemble(body: &[u8], mut piece: impl FnMut() -> usize) -> Result<Bytes, Status> {
    let mut assembler = Assembler::framed(BYTES_MAX);
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, tail) = rest.split_at(piece().clamp(1, rest.len()));
        rest = tail;
        assembler.push(Bytes::copy_from_slice(chunk))?;
        assert!(assembler.len() <= BYTES_MAX + HEAD_BYTES, "more is kept than the limit allows");
    }
    assembler.finish()
}

/// The result in whole and in every size of pieces, which must agree.
fn check(body: &[u8], expected: Result<&[u8], (Code, &str)>) {
    for piece in (1..=body.len().max(1)).rev() {
        let result = assemble(body, || piece);
        let result = result.as_ref().map(|message| &message[..]);
        let result = result.map_err(|status| (status.code, &*status.message));
        assert_eq!(result, expected, "in pieces of {piece}");
    }
}

#[test]
fn one_message_is_assembled() {
    check(&frame(0, b""), Ok(b""));
    check(&frame(0, b"a message"), Ok(b"a message"));
    check(&frame(0, &[7; BYTES_MAX]), Ok(&[7; BYTES_MAX]));
}

#[test]
fn a_message_in_one_chunk_is_not_copied() {
    let body = Bytes::from(frame(0, b"a message"));
    let mut assembler = Assembler::framed(BYTES_MAX);
    assembler.push(body.clone()).unwrap();
    assert_eq!(assembler.finish().unwrap().as_ptr(), body[HEAD_BYTES..].as_ptr());
}

#[test]
fn malformed_bodies_get_a_status() {
    check(b"", Err((Code::Internal, "grpc: no request message in the call")));
    check(&frame(0, b"a message")[..4], Err((Code::Internal, "unexpected EOF")));
    check(&frame(0, b"a message")[..5], Err((Code::Internal, "unexpected EOF")));
    check(&frame(0, b"a message")[..9], Err((Code::Internal, "unexpected EOF")));
    check(
        &frame(1, b"a message"),
        Err((Code::Internal, "grpc: compressed flag set with identity or empty encoding")),
    );
    check(
        &frame(2, b"a message"),
        Err((Code::Internal, "grpc: received unexpected payload format 2")),
    );
    check(
        &[frame(0, b"one"), frame(0, b"two")].concat(),
        Err((Code::Internal, "grpc: more than one request message in the call")),
    );
    check(
        &frame(0, &[0; BYTES_MAX + 1]),
        Err((Code::ResourceExhausted, "grpc: received message larger than max (1001 vs. 1000)")),
    );
    check(
        &[0, 0xff, 0xff, 0xff, 0xff],
        Err((
            Code::ResourceExhausted,
            "grpc: received message larger than max (4294967295 vs. 1000)",
        )),
    );
}

#[test]
fn a_plain_body_is_its_message() {
    let mut assembler = Assembler::plain(4);
    assembler.push(Bytes::from_static(b"ab")).unwrap();
    assembler.push(Bytes::from_static(b"cd")).unwrap();
    assert_eq!(assembler.push(Bytes::from_static(b"e")).unwrap_err().code, Code::ResourceExhausted);
    assert_eq!(Assembler::plain(4).finish().unwrap(), Bytes::new());
}

#[test]
fn random_bodies_never_panic_and_agree_with_the_plain_reading() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..20_000 {
        let mut body = frame(u8::from(random.u8(..) < 20), &vec![1; random.usize(..2 * BYTES_MAX)]);
        match random.u8(..4) {
            0 => body.truncate(random.usize(..=body.len())),
            1 => body.extend(std::iter::repeat_with(|| random.u8(..)).take(7)),
            2 => {
                let at = random.usize(..HEAD_BYTES);
                body[at] = random.u8(..);
            }
            _ => {}
        }
        let whole = unframe_plainly(&body);
        let pieces = assemble(&body, || random.usize(1..200)).map_err(|status| status.code);
        assert_eq!(pieces.as_ref().map(|message| &message[..]), whole.as_deref());
    }
}

/// What a body means, without regard to cost.
fn unframe_plainly(body: &[u8]) -> Result<Vec<u8>, Code> {
    if body.len() < HEAD_BYTES || body[0] != 0 {
        return Err(Code::Internal);
    }
    let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
    match body.len() - HEAD_BYTES {
        _ if length > BYTES_MAX => Err(Code::ResourceExhausted),
        bytes if bytes == length => Ok(body[5..].to_vec()),
        _ => Err(Code::Internal),
    }
}

#[test]
fn timeouts_are_read_in_all_units() {
    for (text, expected) in [
        ("1n", Duration::from_nanos(1)),
        ("20u", Duration::from_micros(20)),
        ("300m", Duration::from_millis(300)),
        ("5S", Duration::from_secs(5)),
        ("2M", Duration::from_secs(120)),
        ("1H", Duration::from_secs(3600)),
        ("0S", Duration::ZERO),
        ("99999999H", Duration::from_secs(99_999_999 * 3600)),
    ] {
        assert_eq!(parse_timeout(text.as_bytes()), Ok(expected), "{text}");
    }
    for text in ["", "S", "5", "5s", "-5S", " 5S", "5 S", "123456789S", "5SS", "0x1S", "\u{664}S"] {
        let status = parse_timeout(text.as_bytes()).unwrap_err();
        assert_eq!(status.code, Code::Internal);
        assert!(status.message.starts_with("malformed grpc-timeout: "), "{}", status.message);
    }
}

#[test]
fn texts_are_percent_encoded() {
    assert_eq!(encode_message("etcdserver: key not found"), "etcdserver: key not found");
    assert_eq!(encode_message("100%"), "100%25");
    assert_eq!(encode_message("a\nb\u{7f}"), "a%0Ab%7F");
    assert_eq!(encode_message("ö"), "%C3%B6");
}

#[test]
fn content_types() {
    for text in ["application/grpc", "application/grpc+proto", "APPLICATION/gRPC; a=b"] {
        assert!(is_grpc(text.as_bytes()), "{text}");
    }
    for text in ["", "application/json", "application/grpc-web", "application/grp"] {
        assert!(!is_grpc(text.as_bytes()), "{text}");
    }
}

#[test]
fn encodings_other_than_identity_are_refused() {
    assert_eq!(check_encoding(b"identity"), Ok(()));
    let status = check_encoding(b"gzip").unwrap_err();
    assert_eq!(status.code, Code::Unimplemented);
    assert_eq!(status.message, "grpc: Decompressor is not installed for grpc-encoding \"gzip\"");
}

#[test]
fn unknown_methods_are_named() {
    let text = |path| unknown_method(path, |service| service == "etcdserverpb.KV").message;
    assert_eq!(text("/etcdserverpb.KV/Nope"), "unknown method Nope for service etcdserverpb.KV");
    assert_eq!(text("/a.B/Nope"), "unknown service a.B");
    assert_eq!(text("/"), "malformed method name: \"/\"");
}
