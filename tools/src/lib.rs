//! Shared parts of the tools: a lean gRPC client, what members say of themselves, the load generator's report; judges of
//! histories, a simulator, fuzzers, and what clusters of processes are broken with.

pub mod checkers;
pub mod fuzz;
pub mod grpc;
pub mod lab;
pub mod members;
pub mod report;
pub mod simulator;
