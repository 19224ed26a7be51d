//! A lean gRPC client for measuring: HTTP/2 without a general-purpose implementation's cost.
//!
//! Why not the `h2` crate: it spends several microseconds per request on allocations, header maps
//! and wake-ups, and a load generator pays them out of the server's two cores. Everything needed
//! for calls and streams on an unencrypted connection is in these files:
//!
//! - [`request_head`]: the headers that are sent (frame heads and header compression are [`urd_http2`]'s),
//! - [`connection`] (and `response`): the state of a connection, free of I/O,
//! - [`status`]: how calls fail,
//! - [`transport`]: the TCP stream under a connection,
//! - [`dial`]: connecting, and connecting again,
//! - [`channel`]: a connection that tasks share, with calls and streams as futures,
//! - [`unary`]: a single call, for questions asked beside the load.
//!
//! Not here: TLS, name resolution beyond the first address, retries (the caller
//! knows what may be retried).

pub mod channel;
pub mod connection;
pub mod dial;
pub mod endpoint;
pub mod request_head;
mod response;
pub mod status;
pub mod transport;
pub mod unary;
