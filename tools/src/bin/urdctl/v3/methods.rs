//! The calls that urdctl makes: path, message types, and whether a call changes anything.

use std::marker::PhantomData;

use urd_proto::etcdserverpb as pb;

/// What a call does to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It may be made again elsewhere.
    Read,
    /// Made twice, it may be something else than made once.
    Change,
}

/// One RPC, which takes a `Q` and answers an `A`.
#[derive(Debug)]
pub(crate) struct Method<Q, A> {
    pub path: &'static str,
    pub effect: Effect,
    types: PhantomData<fn(Q) -> A>,
}

macro_rules! methods {
    ($($name:ident: $service:literal / $method:literal, $request:ident -> $answer:ident, $effect:ident;)*) => {
        $(pub(crate) const $name: Method<pb::$request, pb::$answer> = Method {
            path: concat!("/etcdserverpb.", $service, "/", $method),
            effect: Effect::$effect,
            types: PhantomData,
        };)*
    };
}

methods! {
    RANGE: "KV" / "Range", RangeRequest -> RangeResponse, Read;
    RANGE_STREAM: "KV" / "RangeStream", RangeRequest -> RangeStreamResponse, Read;
    PUT: "KV" / "Put", PutRequest -> PutResponse, Change;
    DELETE_RANGE: "KV" / "DeleteRange", DeleteRangeRequest -> DeleteRangeResponse, Change;
    TXN: "KV" / "Txn", TxnRequest -> TxnResponse, Change;
    COMPACT: "KV" / "Compact", CompactionRequest -> CompactionResponse, Change;
    WATCH: "Watch" / "Watch", WatchRequest -> WatchResponse, Read;
    LEASE_GRANT: "Lease" / "LeaseGrant", LeaseGrantRequest -> LeaseGrantResponse, Change;
    LEASE_REVOKE: "Lease" / "LeaseRevoke", LeaseRevokeRequest -> LeaseRevokeResponse, Change;
    LEASE_KEEP_ALIVE: "Lease" / "LeaseKeepAlive", LeaseKeepAliveRequest -> LeaseKeepAliveResponse, Read;
    LEASE_TIME_TO_LIVE: "Lease" / "LeaseTimeToLive", LeaseTimeToLiveRequest -> LeaseTimeToLiveResponse, Read;
    LEASE_LEASES: "Lease" / "LeaseLeases", LeaseLeasesRequest -> LeaseLeasesResponse, Read;
    MEMBER_ADD: "Cluster" / "MemberAdd", MemberAddRequest -> MemberAddResponse, Change;
    MEMBER_REMOVE: "Cluster" / "MemberRemove", MemberRemoveRequest -> MemberRemoveResponse, Change;
    MEMBER_UPDATE: "Cluster" / "MemberUpdate", MemberUpdateRequest -> MemberUpdateResponse, Change;
    MEMBER_PROMOTE: "Cluster" / "MemberPromote", MemberPromoteRequest -> MemberPromoteResponse, Change;
    MEMBER_LIST: "Cluster" / "MemberList", MemberListRequest -> MemberListResponse, Read;
    ALARM_CHANGE: "Maintenance" / "Alarm", AlarmRequest -> AlarmResponse, Change;
    ALARM_LIST: "Maintenance" / "Alarm", AlarmRequest -> AlarmResponse, Read;
    STATUS: "Maintenance" / "Status", StatusRequest -> StatusResponse, Read;
    DEFRAGMENT: "Maintenance" / "Defragment", DefragmentRequest -> DefragmentResponse, Change;
    HASH_KV: "Maintenance" / "HashKV", HashKvRequest -> HashKvResponse, Read;
    SNAPSHOT: "Maintenance" / "Snapshot", SnapshotRequest -> SnapshotResponse, Read;
    MOVE_LEADER: "Maintenance" / "MoveLeader", MoveLeaderRequest -> MoveLeaderResponse, Change;
    DOWNGRADE: "Maintenance" / "Downgrade", DowngradeRequest -> DowngradeResponse, Change;
    AUTH_ENABLE: "Auth" / "AuthEnable", AuthEnableRequest -> AuthEnableResponse, Change;
    AUTH_DISABLE: "Auth" / "AuthDisable", AuthDisableRequest -> AuthDisableResponse, Change;
    AUTH_STATUS: "Auth" / "AuthStatus", AuthStatusRequest -> AuthStatusResponse, Read;
    AUTHENTICATE: "Auth" / "Authenticate", AuthenticateRequest -> AuthenticateResponse, Read;
    USER_ADD: "Auth" / "UserAdd", AuthUserAddRequest -> AuthUserAddResponse, Change;
    USER_GET: "Auth" / "UserGet", AuthUserGetRequest -> AuthUserGetResponse, Read;
    USER_LIST: "Auth" / "UserList", AuthUserListRequest -> AuthUserListResponse, Read;
    USER_DELETE: "Auth" / "UserDelete", AuthUserDeleteRequest -> AuthUserDeleteResponse, Change;
    USER_CHANGE_PASSWORD: "Auth" / "UserChangePassword",
        AuthUserChangePasswordRequest -> AuthUserChangePasswordResponse, Change;
    USER_GRANT_ROLE: "Auth" / "UserGrantRole", AuthUserGrantRoleRequest -> AuthUserGrantRoleResponse, Change;
    USER_REVOKE_ROLE: "Auth" / "UserRevokeRole", AuthUserRevokeRoleRequest -> AuthUserRevokeRoleResponse, Change;
    ROLE_ADD: "Auth" / "RoleAdd", AuthRoleAddRequest -> AuthRoleAddResponse, Change;
    ROLE_GET: "Auth" / "RoleGet", AuthRoleGetRequest -> AuthRoleGetResponse, Read;
    ROLE_LIST: "Auth" / "RoleList", AuthRoleListRequest -> AuthRoleListResponse, Read;
    ROLE_DELETE: "Auth" / "RoleDelete", AuthRoleDeleteRequest -> AuthRoleDeleteResponse, Change;
    ROLE_GRANT_PERMISSION: "Auth" / "RoleGrantPermission",
        AuthRoleGrantPermissionRequest -> AuthRoleGrantPermissionResponse, Change;
    ROLE_REVOKE_PERMISSION: "Auth" / "RoleRevokePermission",
        AuthRoleRevokePermissionRequest -> AuthRoleRevokePermissionResponse, Change;
}
