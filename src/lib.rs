//! Urd, a durable key-value store for metadata that speaks etcd's APIs.
//!
//! `ARCHITECTURE.md` beside this file draws the map: which module does what, who may know whom, and what holds at
//! every instant. The binary (`main.rs`) turns its arguments into a [`config::Config`] and hands it to [`server::run`].

pub mod api;
pub mod config;
pub mod error;
pub mod identity;
pub mod ids;
pub mod limits;
pub mod metrics;
pub mod net;
pub mod raft;
mod random;
pub mod server;
pub mod store;
pub mod tree;
pub mod url;
pub mod version;
