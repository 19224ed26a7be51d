//! raft-rs logs through `slog`; this hands its lines to `tracing`.
//!
//! Only the message is kept, not slog's key-value pairs: raft-rs repeats what matters in the text, and its lines are
//! for debugging the group, not for operators.

use slog::{Discard, Drain, Level, Logger, Never, OwnedKVList, Record, o};

/// Where raft-rs's lines go.
pub fn logger() -> Logger {
    if tracing::enabled!(target: "raft", tracing::Level::WARN) {
        Logger::root(Forward, o!())
    } else {
        Logger::root(Discard, o!())
    }
}

struct Forward;

impl Drain for Forward {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), Never> {
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", record.msg()),
            Level::Warning => tracing::warn!(target: "raft", "{}", record.msg()),
            Level::Info => tracing::debug!(target: "raft", "{}", record.msg()),
            Level::Debug | Level::Trace => tracing::trace!(target: "raft", "{}", record.msg()),
        }
        Ok(())
    }
}
