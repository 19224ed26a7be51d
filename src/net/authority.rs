//! Lets clients in whose `:authority` is a whole URL.
//!
//! Old Go clients (etcdctl 3.4 with `--endpoints=http://host:port`, for the commands that ask one endpoint) send
//! `:authority: http://host:port`. grpc-go's server takes it; `h2` refuses the stream, since a URL is no authority, and
//! has no switch for it. Nothing here looks at the authority, so the bytes are made acceptable before `h2` sees them.
//!
//! HPACK (RFC 7541) gives the value a fixed form: an incrementally indexed literal with the static name 1 (0x41), a
//! Huffman-coded string. The codes of `:` and `B` have seven bits each, those of `/` and `-` six, so `http://` becomes
//! `httpB--` in place: same length, and what the client later names by its index is the same on both sides.
//!
//! It does not follow a value that is torn between two receives: such a request is refused as before.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

/// `:authority`, literal with incremental indexing.
const NAME: u8 = 0x41;
/// The length byte's mark of a Huffman-coded string.
const HUFFMAN: u8 = 0x80;
/// `http://`, Huffman-coded, but for its last bit, which is 0 as the first of the next byte.
const URL: [u8; 5] = [0x9d, 0x29, 0xae, 0xe3, 0x0c];
/// `httpB--`, likewise.
const HOST: [u8; 5] = [0x9d, 0x29, 0xae, 0xea, 0xcb];

/// Rewrites a URL's scheme in a piece of a header block.
pub(super) fn accept_url(block: &mut [u8]) {
    const PATTERN: usize = 2 + URL.len();
    let found = block.windows(PATTERN).position(|window| {
        window.first() == Some(&NAME)
            && window.get(1).is_some_and(|length| length & HUFFMAN != 0)
            && window.ends_with(&URL)
    });
    let Some(at) = found else { return };
    // The last bits of both prefixes lie in the next byte: the first bit of what follows is `/`'s or `-`'s, 0 in both.
    if let Some(place) = block.get_mut(at + 2..at + PATTERN) {
        place.copy_from_slice(&HOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_a_host() {
        let mut block = vec![0x83, 0x86, NAME, HUFFMAN | 16];
        block.extend(URL);
        block.extend([0x5f, 0x00]);
        accept_url(&mut block);
        assert_eq!(block[4..9], HOST);
        assert_eq!(block[9..], [0x5f, 0x00]);
    }

    #[test]
    fn anything_else_is_left_alone() {
        let mut other_name = vec![0x44, HUFFMAN | 16];
        other_name.extend(URL);
        let mut plain = vec![NAME, 16];
        plain.extend(URL);
        let torn = vec![NAME, HUFFMAN | 16, 0x9d, 0x29];
        for block in [other_name, plain, torn, Vec::new()] {
            let mut seen = block.clone();
            accept_url(&mut seen);
            assert_eq!(seen, block);
        }
    }
}
