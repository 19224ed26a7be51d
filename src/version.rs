//! The versions that clients, operators and disks are told.

/// The etcd whose API this is. Clients choose features by it.
pub const ETCD_VERSION: &str = "3.7.1";

/// The cluster version and storage version that go with [`ETCD_VERSION`].
pub const ETCD_CLUSTER_VERSION: &str = "3.7.0";
