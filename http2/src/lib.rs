//! The bytes of HTTP/2: frame heads ([`frame`], RFC 9113) and header blocks ([`hpack`], RFC 7541).
//!
//! Both ends use it, the server's connections and the load generator's, so it knows neither requests nor responses,
//! holds no sockets and keeps no state but a decoder's table. What a frame means depends on the connection's state,
//! which stands with each end.
//!
//! Every byte that comes in was chosen by a peer: nothing here indexes without a check, or believes a length.

pub mod frame;
pub mod hpack;
mod huffman;
