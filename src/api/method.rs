//! The gRPC methods of etcd 3.7, by path.
//!
//! A method that is known but not served yet is answered like an unknown one, with `UNIMPLEMENTED` and its name.

/// A method that Urd serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `etcdserverpb.KV/Range`
    Range,
    /// `etcdserverpb.KV/RangeStream`
    RangeStream,
    /// `etcdserverpb.KV/Put`
    Put,
    /// `etcdserverpb.KV/DeleteRange`
    DeleteRange,
    /// `etcdserverpb.KV/Txn`
    Txn,
    /// `etcdserverpb.KV/Compact`
    Compact,
    /// `etcdserverpb.Watch/Watch`
    Watch,
    /// `etcdserverpb.Lease/LeaseGrant`
    LeaseGrant,
    /// `etcdserverpb.Lease/LeaseRevoke`
    LeaseRevoke,
    /// `etcdserverpb.Lease/LeaseKeepAlive`
    LeaseKeepAlive,
    /// `etcdserverpb.Lease/LeaseTimeToLive`
    LeaseTimeToLive,
    /// `etcdserverpb.Lease/LeaseLeases`
    LeaseLeases,
    /// `etcdserverpb.Cluster/MemberAdd`
    MemberAdd,
    /// `etcdserverpb.Cluster/MemberRemove`
    MemberRemove,
    /// `etcdserverpb.Cluster/MemberUpdate`
    MemberUpdate,
    /// `etcdserverpb.Cluster/MemberPromote`
    MemberPromote,
    /// `etcdserverpb.Cluster/MemberList`
    MemberList,
    /// `etcdserverpb.Maintenance/Alarm`
    Alarm,
    /// `etcdserverpb.Maintenance/Defragment`
    Defragment,
    /// `etcdserverpb.Maintenance/Status`
    Status,
    /// `etcdserverpb.Maintenance/Hash`
    Hash,
    /// `etcdserverpb.Maintenance/HashKV`
    HashKv,
    /// `etcdserverpb.Maintenance/MoveLeader`
    MoveLeader,
    /// `grpc.health.v1.Health/Check`
    HealthCheck,
    /// `grpc.health.v1.Health/Watch`
    HealthWatch,
}

impl Method {
    /// The method of an HTTP/2 `:path`, such as `/etcdserverpb.KV/Put`.
    pub fn parse(path: &str) -> Option<Self> {
        Some(match path {
            "/etcdserverpb.KV/Range" => Self::Range,
            "/etcdserverpb.KV/RangeStream" => Self::RangeStream,
            "/etcdserverpb.KV/Put" => Self::Put,
            "/etcdserverpb.KV/DeleteRange" => Self::DeleteRange,
            "/etcdserverpb.KV/Txn" => Self::Txn,
            "/etcdserverpb.KV/Compact" => Self::Compact,
            "/etcdserverpb.Watch/Watch" => Self::Watch,
            "/etcdserverpb.Lease/LeaseGrant" => Self::LeaseGrant,
            "/etcdserverpb.Lease/LeaseRevoke" => Self::LeaseRevoke,
            "/etcdserverpb.Lease/LeaseKeepAlive" => Self::LeaseKeepAlive,
            "/etcdserverpb.Lease/LeaseTimeToLive" => Self::LeaseTimeToLive,
            "/etcdserverpb.Lease/LeaseLeases" => Self::LeaseLeases,
            "/etcdserverpb.Cluster/MemberAdd" => Self::MemberAdd,
            "/etcdserverpb.Cluster/MemberRemove" => Self::MemberRemove,
            "/etcdserverpb.Cluster/MemberUpdate" => Self::MemberUpdate,
            "/etcdserverpb.Cluster/MemberPromote" => Self::MemberPromote,
            "/etcdserverpb.Cluster/MemberList" => Self::MemberList,
            "/etcdserverpb.Maintenance/Alarm" => Self::Alarm,
            "/etcdserverpb.Maintenance/Defragment" => Self::Defragment,
            "/etcdserverpb.Maintenance/Status" => Self::Status,
            "/etcdserverpb.Maintenance/Hash" => Self::Hash,
            "/etcdserverpb.Maintenance/HashKV" => Self::HashKv,
            "/etcdserverpb.Maintenance/MoveLeader" => Self::MoveLeader,
            "/grpc.health.v1.Health/Check" => Self::HealthCheck,
            "/grpc.health.v1.Health/Watch" => Self::HealthWatch,
            _ => return None,
        })
    }

    /// Whether its caller sends a stream of requests, and not one.
    pub fn streams_requests(self) -> bool {
        matches!(self, Self::Watch | Self::LeaseKeepAlive)
    }

    /// Whether some method of `service`, such as `etcdserverpb.KV`, is served.
    pub fn is_service(service: &str) -> bool {
        matches!(
            service,
            "etcdserverpb.KV"
                | "etcdserverpb.Watch"
                | "etcdserverpb.Lease"
                | "etcdserverpb.Cluster"
                | "etcdserverpb.Maintenance"
                | "grpc.health.v1.Health"
        )
    }
}
