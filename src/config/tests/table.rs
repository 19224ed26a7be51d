//! The table of flags: complete, without contradictions, and obeyed.

use std::collections::BTreeSet;

use super::{Loaded, failure, load, run};
use crate::config::flags::{Flag, Kind, Standing, find};
use crate::config::table::FLAGS;

/// Every flag in etcd 3.7.1's help, besides `version` and `help`.
const ETCD_3_7: &str = "
    advertise-client-urls auth-token auth-token-ttl auto-compaction-mode auto-compaction-retention
    auto-tls backend-batch-interval backend-batch-limit backend-bbolt-freelist-type bcrypt-cost
    bootstrap-defrag-threshold-megabytes cert-file cipher-suites client-cert-allowed-hostname
    client-cert-auth client-cert-file client-crl-file client-key-file compact-hash-check-time
    compaction-batch-limit compaction-sleep-interval config-file corrupt-check-time cors data-dir
    discovery discovery-cacert discovery-cert discovery-dial-timeout discovery-endpoints
    discovery-fallback discovery-insecure-skip-tls-verify discovery-insecure-transport
    discovery-keepalive-time discovery-keepalive-timeout discovery-key discovery-password
    discovery-proxy discovery-request-timeout discovery-srv discovery-srv-name discovery-token
    discovery-user distributed-tracing-address distributed-tracing-instance-id
    distributed-tracing-sampling-rate distributed-tracing-service-name downgrade-check-time
    election-timeout enable-distributed-tracing enable-grpc-gateway enable-log-rotation
    enable-pprof feature-gates force-new-cluster grpc-keepalive-interval grpc-keepalive-min-time
    grpc-keepalive-timeout heartbeat-interval host-whitelist initial-advertise-peer-urls
    initial-cluster initial-cluster-state initial-cluster-token initial-election-tick-advance
    key-file listen-client-http-urls listen-client-urls listen-metrics-urls listen-peer-urls
    log-format log-level log-outputs log-rotation-config-json logger max-concurrent-streams
    max-learners max-request-bytes max-snapshots max-txn-ops max-wals memory-mlock metrics name
    peer-auto-tls peer-cert-allowed-cn peer-cert-allowed-hostname peer-cert-file
    peer-client-cert-auth peer-client-cert-file peer-client-key-file peer-crl-file peer-key-file
    peer-skip-client-san-verification peer-trusted-ca-file pre-vote quota-backend-bytes
    raft-read-timeout raft-write-timeout self-signed-cert-validity snapshot-catchup-entries
    snapshot-count socket-reuse-address socket-reuse-port strict-reconfig-check tls-max-version
    tls-min-version trusted-ca-file unsafe-no-fsync v2-deprecation wal-dir warning-apply-duration
    warning-unary-request-duration watch-progress-notify-interval";

/// What 3.4 to 3.6 had besides.
const ETCD_DROPPED: &str = "
    debug enable-v2 experimental-backend-bbolt-freelist-type
    experimental-bootstrap-defrag-threshold-megabytes experimental-compact-hash-check-enabled
    experimental-compact-hash-check-time experimental-compaction-batch-limit
    experimental-compaction-sleep-interval experimental-corrupt-check-time
    experimental-distributed-tracing-address experimental-distributed-tracing-instance-id
    experimental-distributed-tracing-sampling-rate experimental-distributed-tracing-service-name
    experimental-downgrade-check-time experimental-enable-distributed-tracing
    experimental-enable-lease-checkpoint experimental-enable-lease-checkpoint-persist
    experimental-enable-v2v3 experimental-initial-corrupt-check experimental-max-learners
    experimental-memory-mlock experimental-peer-skip-client-san-verification
    experimental-set-member-localaddr experimental-snapshot-catchup-entries
    experimental-stop-grpc-service-on-defrag experimental-txn-mode-write-with-shared-buffer
    experimental-wait-cluster-ready-timeout experimental-warning-apply-duration
    experimental-warning-unary-request-duration experimental-watch-progress-notify-interval
    log-output log-package-levels next-cluster-version-compatible proxy proxy-dial-timeout
    proxy-failure-wait proxy-read-timeout proxy-refresh-interval proxy-write-timeout";

const OURS: &str = "shards cpus v2-history";

#[test]
fn it_has_every_flag_once() {
    let names: BTreeSet<&str> = FLAGS.iter().map(|flag| flag.name).collect();
    assert_eq!(names.len(), FLAGS.len(), "a name stands twice");
    let known: BTreeSet<&str> =
        [ETCD_3_7, ETCD_DROPPED, OURS].iter().flat_map(|list| list.split_whitespace()).collect();
    let missing: Vec<_> = known.difference(&names).collect();
    let extra: Vec<_> = names.difference(&known).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, extra {extra:?}");
}

#[test]
fn defaults_and_harmless_values_have_the_right_form() {
    for flag in FLAGS {
        let given = flag.harmless.iter().chain(Some(&flag.default).filter(|text| !text.is_empty()));
        for value in given {
            let normal = flag.kind.check(value).unwrap_or_else(|reason| {
                panic!("--{} does not take its own {value:?}: {reason}", flag.name)
            });
            assert_eq!(normal, **value, "--{} is compared in normal form", flag.name);
        }
    }
}

#[test]
fn what_has_no_effect_says_so_and_why() {
    for flag in FLAGS {
        let (why, words) = match flag.standing {
            Standing::Idle { why } => (why, "has no effect"),
            Standing::Removed { why } => (why, "was removed from etcd and has no effect"),
            Standing::Used { .. } | Standing::Refused { .. } => continue,
        };
        let name = flag.name;
        let (_, warnings) = run(&format!("--{name}={}", sample(flag)), &[]);
        assert_eq!(warnings, [format!("--{name} {words}: {why}")]);
    }
}

#[test]
fn what_is_refused_says_why() {
    let mut refused = 0;
    for flag in FLAGS {
        let Standing::Refused { why } = flag.standing else { continue };
        let name = flag.name;
        let text = failure(&format!("--{name}={}", sample(flag)), &[]).to_string();
        assert_eq!(text, format!("--{name} cannot be honoured: {why}"));
        refused += 1;
    }
    assert!(refused > 20, "only {refused} flags are refused: is the test looking at the table?");
}

#[test]
fn harmless_values_pass_in_silence() {
    for flag in FLAGS {
        for value in flag.harmless {
            let (_, warnings) = run(&format!("--{}={value}", flag.name), &[]);
            assert_eq!(warnings, Vec::<String>::new(), "--{}={value}", flag.name);
        }
    }
}

#[test]
fn every_flag_has_a_variable() {
    for flag in FLAGS.iter().filter(|flag| matches!(flag.standing, Standing::Removed { .. })) {
        let variable = format!("{}={}", flag.variable(), sample(flag));
        let (_, warnings) = run("", &[&variable]);
        assert_eq!(warnings.len(), 1, "{variable}: {warnings:?}");
        assert!(warnings[0].contains(&flag.variable()), "{warnings:?}");
    }
    assert_eq!(find("max-request-bytes").unwrap().variable(), "ETCD_MAX_REQUEST_BYTES");
}

#[test]
fn help_lists_every_flag_once_with_its_default() {
    let Ok(Loaded::Help(help)) = load("--help", &[]) else { panic!("no help") };
    for flag in FLAGS {
        let heading = format!("  --{}", flag.name);
        let is_heading = |line: &&str| {
            line.strip_prefix(&heading).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        let listed = help.lines().skip_while(|line| *line != "Member:").filter(is_heading);
        assert_eq!(listed.count(), 1, "--{}", flag.name);
    }
    for line in ["  --name 'default'", "  --data-dir '${name}.urd'", "  --pre-vote 'true'"] {
        assert!(help.lines().any(|shown| shown == line), "{line}");
    }
    for heading in ["Member:", "Clustering:", "Logging:"] {
        assert!(help.lines().any(|line| line == heading), "{heading}");
    }
    let too_long = help.lines().find(|line| line.chars().count() > 100);
    assert_eq!(too_long, None);
}

/// A value of the right form that is not harmless.
fn sample(flag: &Flag) -> String {
    let candidates: &[&str] = match flag.kind {
        Kind::Bool => &["true", "false"],
        Kind::Unsigned => &["7"],
        Kind::Integer => &["-7"],
        Kind::Duration => &["7s"],
        Kind::Text | Kind::List => &["word"],
        Kind::Urls => &["http://127.0.0.1:7"],
        Kind::Choice(words) => words,
    };
    let value = candidates.iter().find(|value| !flag.harmless.contains(value));
    (*value.unwrap_or_else(|| panic!("--{} has only harmless values", flag.name))).to_owned()
}
