//! From the wire to a command and back: decoding, validation, and answers with etcd's header. No state of its own.
//!
//! [`call`] is the interface to the wire codecs in `net`, [`node`] the one to the member behind. Between them stand the
//! gRPC services ([`v3`]), the plain HTTP endpoints ([`http`]), etcd's older API over HTTP ([`v2`]), the space quota and
//! the table of error texts ([`status`]).

pub mod call;
pub mod cors;
pub mod http;
pub mod method;
pub mod node;
pub mod operations;
pub mod quota;
pub mod status;
pub mod v2;
pub mod v3;

pub use call::{Body, Call, Cancelled, Code, Encoded, Pieces, Reply, ReplyStream, Service, Status};
pub use method::Method;
