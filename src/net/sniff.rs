//! Tells HTTP/2 from HTTP/1.1 by the first bytes of a connection.
//!
//! HTTP/2 without TLS begins with a fixed preface, chosen so that no HTTP/1.1 request can begin like it. All else is
//! left to the HTTP/1.1 parser, which answers `400 Bad Request` to what is no HTTP.

/// What an HTTP/2 client sends first.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// The protocol that `bytes` begin, or `None` while they are too few to tell.
pub(super) fn sniff(bytes: &[u8]) -> Option<Protocol> {
    if bytes.starts_with(PREFACE) {
        Some(Protocol::Http2)
    } else if PREFACE.starts_with(bytes) {
        None
    } else {
        Some(Protocol::Http1)
    }
}
