//! Who hears what became of a request that the member made itself.

use crate::api::call::{Encoded, Reply, ReplyStream, Status};

/// Logs it.
pub struct Told {
    /// What was asked for, as a verb.
    pub what: &'static str,
}

impl Reply for Told {
    fn unary(self: Box<Self>, _: Encoded) {
        tracing::debug!("done: {}", self.what);
    }

    fn fail(self: Box<Self>, status: Status) {
        // A client was quicker, or the leader changed: the next look sees to it.
        tracing::debug!("did not {}: {}", self.what, status.message);
    }

    fn stream(self: Box<Self>) -> Box<dyn ReplyStream> {
        unreachable!("invariant: such a request is answered once")
    }

    fn cancelled(&self) -> bool {
        false
    }

    fn congested(&self) -> bool {
        false
    }
}
