//! Shared parts of the tools: a lean gRPC client, what members say of themselves, and the load
//! generator's report.

pub mod fuzz;
pub mod grpc;
pub mod members;
pub mod report;
