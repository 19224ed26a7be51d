//! Measuring whole servers: what `compare` and `failover` (with etcd) and `regress` (with an
//! earlier Urd) share.
//!
//! All start one server or cluster at a time. `compare` and `regress` put a load on it with
//! `benchmark`, and look at what that and `/proc` say; `failover` kills its leader. The modules,
//! from the bottom: [`children`] sees to it that nothing outlives us; [`process`] reads `/proc`;
//! [`server`] is a member, which [`cluster`] starts and stops; [`trial`] is one load on one fresh
//! cluster; [`prober`] is the client of `failover`; [`statistics`] and [`judge`] make figures and
//! verdicts of many trials; [`floor`] measures the hardware beneath; [`table`] prints; [`cargo`] builds.
//!
//! The micro benches in `micro/` measure single modules; [`micro`] runs them.

pub mod cargo;
pub mod children;
pub mod cluster;
pub mod floor;
pub mod judge;
pub mod micro;
pub mod prober;
pub mod process;
pub mod server;
pub mod statistics;
pub mod table;
pub mod trial;
