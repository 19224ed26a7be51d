//! Shared parts of the tools: a lean gRPC client, and the load generator's report.

pub mod grpc;
pub mod report;
