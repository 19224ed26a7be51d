//! A whole cluster in one thread, from one seed: the real driver, log, store, tree, checkpoints, lessor and watch hub, on
//! simulated disks, links and clocks, with faults in all of them, and checkers that know nothing of the code.
//!
//! Everything that is random comes from the seed, and time passes only from event to event: a seed gives the same run
//! every time. A run is a stretch with faults, then one without, in which the cluster must get well within two minutes of
//! its own time; then all power goes once more. Then are judged:
//!
//! - the clients' history, against a model ([`crate::checkers::linearizability`]): nothing acknowledged is lost, carried
//!   out twice or seen too late, and no refused request is carried out;
//! - what each watcher was told ([`crate::checkers::watching`]);
//! - while it runs: that members hold the same at equal indexes, that one member leads a term, that no lease ends early;
//! - that every member starts on what its disk holds, unless a bit of it was flipped; then it must say so, or nothing may
//!   come of it. A member so hurt is removed and replaced by another one. So is one whose disk had lied, and lost what it
//!   had said was durable: nothing is promised for that one, but the others lose nothing by it.
//!
//! Some seeds draw a quota that is soon used up. Members refuse what takes room, and raise the alarm, by the same rules
//! as the services (`urd::api::quota`); the operator deletes, compacts, defragments and disarms (`cluster/room`); and in the
//! end, as in every run, a put must be served. Half of the seeds draw [`sites`], where the real code does what it hardly
//! ever does. A report counts both.
//!
//! What it leaves out: the members' connections (but for their frames and what they refuse) and the shards with their
//! sockets, which run on an executor of their own; `torture` has those. The pass of the log shard is made here in the same order
//! ([`process`](self)), of the same parts. Disks do not misplace writes that they said were durable.

mod admin;
mod calls;
mod clients;
mod cluster;
mod faults;
mod member;
mod network;
mod process;
pub mod scenarios;
mod settings;
pub mod sites;
#[cfg(test)]
mod tests;
mod truth;
mod v2;
mod watchers;

use std::fmt;
use std::ops::AddAssign;

use urd_proto::mvccpb::Event;

use crate::checkers::history::Operation;

pub use self::faults::{Counts, Fault};
pub use self::settings::{Canary, Faults, Links, Settings, Space, Time};
pub use self::sites::Site;

/// What a run, or many, came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Microseconds of simulated time.
    pub simulated: Time,
    /// Requests of clients.
    pub operations: u64,
    /// The newest revision.
    pub revisions: i64,
    /// Changes of v2's keys that were answered.
    pub v2_changes: u64,
    /// Events that watchers were told of.
    pub events_watched: u64,
    /// Faults by kind.
    pub faults: Counts,
    /// What was done at sites.
    pub sites: sites::Counts,
    /// Requests that were refused because the quota is used up, alarms raised for it, and how often all were disarmed
    /// once there was room again.
    pub space: [u64; 3],
    /// Messages lost, doubled and kept back.
    pub messages: [u64; 3],
    /// Processes started.
    pub starts: u64,
    /// States that members have taken over.
    pub states_taken: u64,
    /// Changes of membership that were proposed.
    pub changes_of_members: u64,
}

impl AddAssign<&Report> for Report {
    fn add_assign(&mut self, other: &Report) {
        self.simulated += other.simulated;
        self.operations += other.operations;
        self.revisions += other.revisions;
        self.v2_changes += other.v2_changes;
        self.events_watched += other.events_watched;
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (site, count) in &other.sites {
            *self.sites.entry(*site).or_default() += count;
        }
        for (sum, count) in self.space.iter_mut().zip(other.space) {
            *sum += count;
        }
        for (sum, count) in self.messages.iter_mut().zip(other.messages) {
            *sum += count;
        }
        self.starts += other.starts;
        self.states_taken += other.states_taken;
        self.changes_of_members += other.changes_of_members;
    }
}

/// Runs a cluster.
///
/// # Errors
/// What was violated.
pub fn run(settings: Settings) -> Result<Report, Box<Failure>> {
    let mut cluster = cluster::Cluster::new(settings);
    cluster.run().map_err(|violation| Box::new(cluster.failure(violation)))
}

/// What was violated, and what is known about it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What, and where.
    pub violation: String,
    /// What clients asked and heard.
    pub history: Vec<Operation>,
    /// What really happened, by revision.
    pub events: Vec<(i64, Vec<Event>)>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.violation)
    }
}
