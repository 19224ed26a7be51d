//! Every flag that Urd knows, as data: one row each, nothing else in this file.
//!
//! The names are etcd 3.7's, then those that etcd has dropped but callers still pass, then Urd's
//! own three. A flag moves from `idle` or `refused` to `used` with the change that gives it meaning,
//! and nowhere else has to be told: parsing, the environment, the configuration file, `--help` and
//! the warnings all read this table.

use super::flags::Group::{Clustering, Logging, Member, Placement};
use super::flags::Kind::{self, Bool, Choice, Duration, Integer, List, Text, Unsigned, Urls};
use super::flags::{Flag, Group, Standing};

const fn used(
    group: Group,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag { name, kind, default, standing: Standing::Used { group, help }, harmless: &[] }
}

const fn idle(name: &'static str, kind: Kind, why: &'static str) -> Flag {
    Flag { name, kind, default: "", standing: Standing::Idle { why }, harmless: &[] }
}

const fn removed(name: &'static str, kind: Kind, why: &'static str) -> Flag {
    Flag { name, kind, default: "", standing: Standing::Removed { why }, harmless: &[] }
}

/// Refused unless empty or off, which is what these rows have as their default.
const fn refused(name: &'static str, kind: Kind, why: &'static str) -> Flag {
    let harmless: &[&str] = if matches!(kind, Bool) { &["false"] } else { &[""] };
    Flag { name, kind, default: "", standing: Standing::Refused { why }, harmless }
}

const NO_TLS: &str =
    "TLS is not supported yet, and ignoring it would leave the traffic unprotected";
const TLS_DETAIL: &str = "it tunes TLS, which is not supported yet";
const NO_DISCOVERY: &str =
    "discovery is not supported yet, and ignoring it would start a cluster of its own";
const DISCOVERY_DETAIL: &str = "it tunes discovery, which is not supported yet";
const NO_AUTH: &str = "v3's authentication is not served yet";
const BACKEND: &str = "it tunes bbolt, and Urd has another store";
const COMPACTION: &str = "Urd compacts in slices of its own size";
const ROTATION: &str = "log files are appended to; rotate them from outside";
const TRACING: &str = "traces are not exported yet";
const SLOW_WARNING: &str = "slow requests are not logged yet";
const PEERS: &str = "there are no connections to other members yet";
const LEASES: &str = "what leases have left is always checkpointed, through the log";
const NO_DOWNGRADE: &str = "downgrades are not served yet";
const SOCKETS: &str = "the listeners set their socket options themselves";
const V2_PROXY: &str = "the v2 proxy is gone from etcd";
const V2: &str = "v2 has a store beside v3's, as in etcd 3.4";
const RENAMED: &str = "its name lost `experimental-` in 3.6, and the flag has no effect here";
const GATE: &str = "it became a feature gate in 3.6, and there is none here";

const LEVELS: &[&str] = &["debug", "info", "warn", "error", "panic", "fatal"];

#[rustfmt::skip] // One row a line, or two, keeps this a table.
pub(super) const FLAGS: &[Flag] = &[
    // In use.
    used(Member, "name", Text, "default", "Name of this member, as --initial-cluster has it."),
    used(Member, "data-dir", Text, "${name}.urd", "Directory of everything this member keeps."),
    used(Member, "wal-dir", Text, "", "Directory of the log; in the data directory if empty."),
    used(Member, "listen-client-urls", Urls, "http://localhost:2379",
        "Where clients are served: gRPC, and HTTP unless --listen-client-http-urls is set."),
    used(Member, "listen-client-http-urls", Urls, "",
        "Where clients are served over HTTP only; --listen-client-urls is then for gRPC only."),
    used(Member, "listen-peer-urls", Urls, "http://localhost:2380",
        "Where the other members reach this one."),
    used(Member, "listen-metrics-urls", Urls, "", "Where metrics and health are served besides."),
    used(Member, "heartbeat-interval", Unsigned, "100",
        "Milliseconds between a leader's heartbeats."),
    used(Member, "election-timeout", Unsigned, "1000",
        "Milliseconds without a leader until an election; at least 5 heartbeats."),
    used(Member, "pre-vote", Bool, "true",
        "Ask before an election whether it can be won, so that no member disturbs in vain."),
    used(Member, "max-txn-ops", Unsigned, "128", "Operations that one transaction may have."),
    used(Member, "max-request-bytes", Unsigned, "1572864", "Size of the largest request taken."),
    used(Member, "max-concurrent-streams", Unsigned, "4294967295",
        "Streams that one client connection may have open."),
    used(Member, "grpc-keepalive-min-time", Duration, "5s",
        "A client that pings more often than this is disconnected."),
    used(Member, "grpc-keepalive-interval", Duration, "2h",
        "How long a connection is silent before the server pings it (0: never)."),
    used(Member, "grpc-keepalive-timeout", Duration, "20s",
        "How long the answer to that ping may take (0: any time)."),
    used(Member, "quota-backend-bytes", Integer, "0",
        "Bytes of data beyond which puts are refused and an alarm is raised (0: 2 GiB, negative: none)."),
    used(Member, "snapshot-count", Unsigned, "100000",
        "Log entries after which a checkpoint begins. Many bytes make one begin earlier."),
    used(Member, "auto-compaction-mode", Choice(&["periodic", "revision"]), "periodic",
        "What --auto-compaction-retention counts: time, or revisions."),
    used(Member, "auto-compaction-retention", Text, "0",
        "History kept: hours or a duration, or revisions. Older is compacted by itself (0: never)."),
    used(Member, "watch-progress-notify-interval", Duration, "10m",
        "How often a watcher that asked for it is told that nothing happened."),
    used(Member, "cors", List, "*",
        "Origins that browsers may let use this member: URLs, or * for all."),
    used(Member, "enable-v2", Bool, "true", "Serve etcd's v2 API, too."),
    used(Member, "v2-history", Unsigned, "1000",
        "Events of v2 kept for clients that wait for one of the past; 1000 to 10000000."),
    used(Member, "config-file", Text, "",
        "YAML file with these names as keys; all other flags and variables are then ignored."),
    used(Clustering, "initial-advertise-peer-urls", Urls, "http://localhost:2380",
        "Where other members are told to reach this one."),
    used(Clustering, "advertise-client-urls", Urls, "http://localhost:2379",
        "Where clients are told to reach this member; required with --listen-client-urls."),
    used(Clustering, "initial-cluster", Text, "",
        "Members at the start, NAME=URL,...; from --name and its peer URLs if empty."),
    used(Clustering, "initial-cluster-state", Choice(&["new", "existing"]), "new",
        "Whether the first start makes the cluster (new) or joins it (existing)."),
    used(Clustering, "initial-cluster-token", Text, "etcd-cluster",
        "Tells clusters apart that have equal members; part of the cluster's id."),
    used(Clustering, "strict-reconfig-check", Bool, "true",
        "Refuse changes of the members that would leave too few of them for a quorum."),
    used(Clustering, "max-learners", Integer, "1", "Learners that the cluster may have."),
    used(Clustering, "force-new-cluster", Bool, "false",
        "Go on alone with this member's data: all other members are removed. For a lost majority."),
    used(Clustering, "corrupt-check-time", Duration, "0s",
        "How often the leader compares its hash of the keys' history with the others'; 0 for never."),
    used(Clustering, "compact-hash-check-time", Duration, "0s",
        "The same for the history up to the last compaction; 0 for never."),
    used(Logging, "log-level", Choice(LEVELS), "info",
        "Least severity logged: debug, info, warn, error (panic and fatal mean error)."),
    used(Logging, "log-format", Choice(&["json", "console"]), "json",
        "One JSON object a line, or text."),
    used(Logging, "log-outputs", List, "default",
        "Where the log goes: stderr (the default), stdout, or paths of files."),
    used(Logging, "logger", Text, "zap", "Only zap, the shape of etcd's log lines."),
    used(Placement, "shards", Unsigned, "",
        "Executors, each pinned to a processor; one per processor if empty."),
    used(Placement, "cpus", Text, "",
        "Processors to use, like 0-3,5; all that the process may use if empty."),

    // TLS and access: never ignored, since that would be silently insecure.
    refused("cert-file", Text, NO_TLS),
    refused("key-file", Text, NO_TLS),
    refused("client-cert-auth", Bool, NO_TLS),
    refused("client-cert-file", Text, NO_TLS),
    refused("client-key-file", Text, NO_TLS),
    refused("client-crl-file", Text, NO_TLS),
    refused("client-cert-allowed-hostname", List, NO_TLS),
    refused("trusted-ca-file", Text, NO_TLS),
    refused("auto-tls", Bool, NO_TLS),
    refused("peer-cert-file", Text, NO_TLS),
    refused("peer-key-file", Text, NO_TLS),
    refused("peer-client-cert-auth", Bool, NO_TLS),
    refused("peer-client-cert-file", Text, NO_TLS),
    refused("peer-client-key-file", Text, NO_TLS),
    refused("peer-trusted-ca-file", Text, NO_TLS),
    refused("peer-cert-allowed-cn", List, NO_TLS),
    refused("peer-cert-allowed-hostname", List, NO_TLS),
    refused("peer-auto-tls", Bool, NO_TLS),
    refused("peer-crl-file", Text, NO_TLS),
    idle("peer-skip-client-san-verification", Bool, TLS_DETAIL).unless(&["false"]),
    idle("self-signed-cert-validity", Unsigned, TLS_DETAIL),
    idle("cipher-suites", List, TLS_DETAIL),
    idle("tls-min-version", Text, TLS_DETAIL),
    idle("tls-max-version", Text, TLS_DETAIL),
    refused("host-whitelist", List, "host names are not checked yet").unless(&["", "*"]),
    refused("auth-token", Text, NO_AUTH).unless(&["", "simple"]),
    idle("auth-token-ttl", Unsigned, NO_AUTH),
    idle("bcrypt-cost", Unsigned, NO_AUTH),

    // Discovery: ignoring it would make two clusters out of one.
    refused("discovery-token", Text, NO_DISCOVERY),
    refused("discovery-endpoints", List, NO_DISCOVERY),
    refused("discovery-srv", Text, NO_DISCOVERY),
    refused("discovery-srv-name", Text, NO_DISCOVERY),
    refused("discovery", Text, NO_DISCOVERY),
    idle("discovery-dial-timeout", Duration, DISCOVERY_DETAIL),
    idle("discovery-request-timeout", Duration, DISCOVERY_DETAIL),
    idle("discovery-keepalive-time", Duration, DISCOVERY_DETAIL),
    idle("discovery-keepalive-timeout", Duration, DISCOVERY_DETAIL),
    idle("discovery-insecure-transport", Bool, DISCOVERY_DETAIL),
    idle("discovery-insecure-skip-tls-verify", Bool, DISCOVERY_DETAIL),
    idle("discovery-cert", Text, DISCOVERY_DETAIL),
    idle("discovery-key", Text, DISCOVERY_DETAIL),
    idle("discovery-cacert", Text, DISCOVERY_DETAIL),
    idle("discovery-user", Text, DISCOVERY_DETAIL),
    idle("discovery-password", Text, DISCOVERY_DETAIL),
    idle("discovery-fallback", Choice(&["exit", "proxy"]), DISCOVERY_DETAIL).unless(&["exit"]),
    idle("discovery-proxy", Text, DISCOVERY_DETAIL),

    // Data.
    idle("unsafe-no-fsync", Bool, "acknowledged writes are always durable").unless(&["false"]),
    idle("snapshot-catchup-entries", Unsigned, PEERS),
    idle("max-snapshots", Unsigned, "there is one checkpoint file, which holds the newest two"),
    idle("max-wals", Unsigned, "log segments are recycled, not counted"),
    idle("backend-bbolt-freelist-type", Text, BACKEND),
    idle("backend-batch-interval", Duration, BACKEND),
    idle("backend-batch-limit", Integer, BACKEND),
    idle("bootstrap-defrag-threshold-megabytes", Unsigned, BACKEND),
    idle("memory-mlock", Bool, "memory is not locked").unless(&["false"]),
    idle("compaction-batch-limit", Integer, COMPACTION),
    idle("compaction-sleep-interval", Duration, COMPACTION),

    // Members, watches, requests.
    idle("initial-election-tick-advance", Bool, "one member elects itself at once"),
    idle("raft-read-timeout", Duration, PEERS),
    idle("raft-write-timeout", Duration, PEERS),
    idle("downgrade-check-time", Duration, NO_DOWNGRADE),
    idle("feature-gates", Text, "there are no feature gates here"),
    idle("enable-grpc-gateway", Bool, "the JSON gateway is not served yet").unless(&["false"]),
    idle("socket-reuse-port", Bool, SOCKETS).unless(&["false"]),
    idle("socket-reuse-address", Bool, SOCKETS).unless(&["false"]),

    // Watching the server.
    idle("enable-pprof", Bool, "there is no Go runtime to profile").unless(&["false"]),
    idle("metrics", Text, "all metrics are always served").unless(&["basic"]),
    idle("warning-apply-duration", Duration, SLOW_WARNING),
    idle("warning-unary-request-duration", Duration, SLOW_WARNING),
    idle("enable-log-rotation", Bool, ROTATION).unless(&["false"]),
    idle("log-rotation-config-json", Text, ROTATION),
    idle("enable-distributed-tracing", Bool, TRACING).unless(&["false"]),
    idle("distributed-tracing-address", Text, TRACING),
    idle("distributed-tracing-service-name", Text, TRACING),
    idle("distributed-tracing-instance-id", Text, TRACING),
    idle("distributed-tracing-sampling-rate", Integer, TRACING),

    // Dropped by etcd, still passed.
    removed("v2-deprecation", Text, V2),
    removed("experimental-enable-v2v3", Text, V2),
    removed("debug", Bool, "use --log-level=debug").unless(&["false"]),
    removed("log-output", Text, "use --log-outputs"),
    removed("log-package-levels", Text, "use --log-level"),
    removed("next-cluster-version-compatible", Bool, NO_DOWNGRADE).unless(&["false"]),
    Flag {
        standing: Standing::Refused { why: "the v2 proxy is gone from etcd, and this is a member" },
        ..removed("proxy", Choice(&["off", "readonly", "on"]), "").unless(&["off"])
    },
    removed("proxy-dial-timeout", Unsigned, V2_PROXY),
    removed("proxy-failure-wait", Unsigned, V2_PROXY),
    removed("proxy-read-timeout", Unsigned, V2_PROXY),
    removed("proxy-refresh-interval", Unsigned, V2_PROXY),
    removed("proxy-write-timeout", Unsigned, V2_PROXY),
    removed("experimental-backend-bbolt-freelist-type", Text, RENAMED),
    removed("experimental-bootstrap-defrag-threshold-megabytes", Unsigned, RENAMED),
    removed("experimental-compact-hash-check-enabled", Bool, GATE),
    removed("experimental-compact-hash-check-time", Duration, RENAMED),
    removed("experimental-compaction-batch-limit", Integer, RENAMED),
    removed("experimental-compaction-sleep-interval", Duration, RENAMED),
    removed("experimental-corrupt-check-time", Duration, RENAMED),
    removed("experimental-distributed-tracing-address", Text, RENAMED),
    removed("experimental-distributed-tracing-instance-id", Text, RENAMED),
    removed("experimental-distributed-tracing-sampling-rate", Integer, RENAMED),
    removed("experimental-distributed-tracing-service-name", Text, RENAMED),
    removed("experimental-downgrade-check-time", Duration, RENAMED),
    removed("experimental-enable-distributed-tracing", Bool, RENAMED),
    removed("experimental-enable-lease-checkpoint", Bool, LEASES),
    removed("experimental-enable-lease-checkpoint-persist", Bool, LEASES),
    removed("experimental-initial-corrupt-check", Bool, "the log is always checked at the start"),
    removed("experimental-max-learners", Integer, RENAMED),
    removed("experimental-memory-mlock", Bool, RENAMED),
    removed("experimental-peer-skip-client-san-verification", Bool, RENAMED),
    removed("experimental-set-member-localaddr", Bool, GATE),
    removed("experimental-snapshot-catchup-entries", Unsigned, RENAMED),
    removed("experimental-stop-grpc-service-on-defrag", Bool, GATE),
    removed("experimental-txn-mode-write-with-shared-buffer", Bool, GATE),
    removed("experimental-wait-cluster-ready-timeout", Duration, "it serves once it is ready"),
    removed("experimental-warning-apply-duration", Duration, RENAMED),
    removed("experimental-warning-unary-request-duration", Duration, RENAMED),
    removed("experimental-watch-progress-notify-interval", Duration, RENAMED),
];
