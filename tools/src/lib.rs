//! Shared parts of the tools: a lean gRPC client, judges of histories, what clusters are broken with, what members say of themselves, and the load
//! generator's report.

pub mod checkers;
pub mod grpc;
pub mod lab;
pub mod members;
pub mod report;
pub mod simulator;
