//! Measuring whole servers: what `compare` (with etcd) and `regress` (with an earlier Urd) share.
//!
//! Both start one server at a time (or, for `compare --members` and `failover`, one cluster), put a load on it with `benchmark`, and look at what the load
//! generator and `/proc` say. The modules, from the bottom: [`children`] sees to it that nothing
//! outlives us; [`process`] reads `/proc`; [`server`] is a member and [`cluster`] starts and stops them; [`trial`] is one
//! load on one fresh cluster; [`prober`] is the client of `failover`; [`statistics`] and [`judge`] make figures and verdicts of many trials;
//! [`floor`] measures the hardware beneath; [`table`] prints; [`cargo`] builds.
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
