//! The messages of etcd 3.7's client API, compiled from `.proto` files of our own.
//!
//! Names, numbers and types are etcd's, since they are the wire contract; a test in `tools/`
//! compares every one of them with the descriptors that a client ships. `bytes` fields are
//! [`bytes::Bytes`]: decoding from a `Bytes` shares its memory, so a value is not copied between
//! the socket's buffer and its consumer.
//!
//! Only messages are generated. Services are dispatched by path in the server (`api`), so no stub
//! or server code of any RPC framework comes in here, and no logic either.

macro_rules! package {
    ($(#[$doc:meta])* $module:ident, $file:literal) => {
        $(#[$doc])*
        #[allow(clippy::all, clippy::pedantic, missing_docs, rustdoc::all, unreachable_pub)]
        pub mod $module {
            include!(concat!(env!("OUT_DIR"), "/", $file, ".rs"));
        }
    };
}

package! {
    /// The services KV, Watch, Lease, Cluster, Maintenance and Auth.
    etcdserverpb, "etcdserverpb"
}
package! {
    /// Key-value records and events.
    mvccpb, "mvccpb"
}
package! {
    /// Users, roles and permissions.
    authpb, "authpb"
}
package! {
    /// The Lock service.
    v3lockpb, "v3lockpb"
}
package! {
    /// The Election service.
    v3electionpb, "v3electionpb"
}
package! {
    /// gRPC's health service, `grpc.health.v1`.
    grpc_health_v1, "grpc.health.v1"
}

/// All of the above as an encoded `google.protobuf.FileDescriptorSet`, without source positions.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
