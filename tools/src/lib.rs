//! Shared parts of the tools: a lean gRPC client, judges of histories, what members say of themselves, and the load
//! generator's report.

pub mod checkers;
pub mod grpc;
pub mod members;
pub mod report;
pub mod simulator;
