//! From the wire to a command and back: decoding, validation, and answers with etcd's header. No state of its own.
//!
//! [`call`] is the interface to the wire codecs in `net`.

pub mod call;
pub mod method;

pub use call::{Call, Cancelled, Code, Encoded, Reply, ReplyStream, Service, Status};
pub use method::Method;
