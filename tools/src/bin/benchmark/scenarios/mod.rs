//! Workloads of several steps, or with streams: each a file with its flags and what it does.
//!
//! A scenario checks its flags when it is made, and then runs once on every thread, on that
//! thread's [`Site`]. What its threads must know of each other it keeps in itself.

pub(crate) mod kubernetes;
pub(crate) mod lease_keepalive;
mod messages;
pub(crate) mod range;
pub(crate) mod site;
pub(crate) mod stm;
pub(crate) mod txn_mixed;
pub(crate) mod txn_put;
pub(crate) mod watch;
pub(crate) mod watch_get;
pub(crate) mod watch_latency;
pub(crate) mod watching;

use crate::args::{Cli, WorkloadArgs};
use site::Site;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

/// One thread's part of a scenario, going on.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// See the module's documentation.
pub(crate) trait Scenario: Send + Sync {
    /// Sets up, [begins](Site::begin), and puts the load on.
    ///
    /// What fails of the load is noted at the site. An error is what keeps it from beginning.
    fn run(self: Arc<Self>, site: Rc<Site>) -> Running;
}

/// The scenario that is asked for; or a sentence about what makes no sense in it.
pub(crate) fn new(cli: &Cli) -> Result<Arc<dyn Scenario>, String> {
    let seed = cli.common.seed;
    Ok(match &cli.workload {
        WorkloadArgs::Put(_) => unreachable!("invariant: put is no scenario"),
        WorkloadArgs::Range(args) => Arc::new(range::Range::new(args)),
        WorkloadArgs::Watch(args) => Arc::new(watch::Watch::new(args, seed)?),
        WorkloadArgs::WatchLatency(args) => Arc::new(watch_latency::WatchLatency::new(args, seed)),
        WorkloadArgs::WatchGet(args) => Arc::new(watch_get::WatchGet::new(args)),
        WorkloadArgs::LeaseKeepalive(args) => {
            Arc::new(lease_keepalive::LeaseKeepalive::new(args, &cli.common)?)
        }
        WorkloadArgs::TxnPut(args) => Arc::new(txn_put::TxnPut::new(args, seed)?),
        WorkloadArgs::TxnMixed(args) => Arc::new(txn_mixed::TxnMixed::new(args, seed)?),
        WorkloadArgs::Stm(args) => Arc::new(stm::Stm::new(args, seed)?),
        WorkloadArgs::Kubernetes(args) => Arc::new(kubernetes::Kubernetes::new(args, &cli.common)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    /// The command line `benchmark LINE`, which must be well formed.
    pub(super) fn parsed(line: &str) -> Cli {
        Cli::try_parse_from(format!("benchmark {line}").split_whitespace()).unwrap()
    }
}
