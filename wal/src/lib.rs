//! The append-only log: opaque payloads with an index, durable in order.

pub mod disk;
mod error;
mod format;
mod index;
mod log;
mod options;
mod recover;
mod scan;
mod segment;
mod writer;

pub use error::{
    AppendError, CheckError, CloseError, Damage, OpenError, PrepareError, ReadError, WriteError,
};
pub use format::{Position, SegmentId};
pub use log::check::{Checked, check};
pub use log::{HARD_STATE_BYTES_MAX, Log, Recovered, Write};
pub use options::{Options, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
pub use segment::{Prepare, Prepared};
pub use writer::{Completed, ENTRY_BYTES, Entry, WriteNumber};

#[cfg(test)]
mod tests;
