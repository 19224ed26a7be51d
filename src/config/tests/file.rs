//! Configuration files.

use std::time::Duration;

use super::{file, run};
use crate::config::{Config, Failure};

/// Loads a file alone.
#[track_caller]
fn load(text: &str) -> (Config, Vec<String>) {
    let (_directory, path) = file(text);
    run(&format!("--config-file {}", path.display()), &[])
}

/// The failure of a file, with the file's path taken out of the text.
#[track_caller]
fn failure(text: &str) -> String {
    let (_directory, path) = file(text);
    let failure = super::failure(&format!("--config-file {}", path.display()), &[]);
    assert_eq!(failure.exit_code(), 1);
    failure.to_string().replace(&path.display().to_string(), "FILE")
}

#[test]
fn keys_are_the_flags_names() {
    let (config, warnings) = load(
        "# A comment.\n\
         name: m1\n\
         data-dir: '/d'\n\
         wal-dir:\n\
         heartbeat-interval: 10\n\
         election-timeout: \"50\"\n\
         pre-vote: false\n\
         listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:2\n\
         advertise-client-urls: [http://a:1, http://b:2]\n\
         initial-cluster-token: 0123\n\
         log-outputs: [stdout, /l]\n\
         max-request-bytes: 1000\n\
         cpus: 0-3\n\
         shards: 2\n",
    );
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(config.name, "m1");
    assert_eq!(config.data_dir.to_str(), Some("/d"));
    assert_eq!(config.wal_dir, None);
    assert_eq!(config.heartbeat_interval, Duration::from_millis(10));
    assert_eq!(config.election_timeout, Duration::from_millis(50));
    assert!(!config.pre_vote);
    assert_eq!(
        super::texts(&config.listen_client_urls),
        ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    );
    assert_eq!(super::texts(&config.advertise_client_urls), ["http://a:1", "http://b:2"]);
    assert_eq!(config.log.outputs.len(), 2);
    assert_eq!(config.max_request_bytes, 1000);
    assert_eq!(config.cpus, Some(vec![0, 1, 2, 3]));
    assert_eq!(config.shards.map(std::num::NonZeroUsize::get), Some(2));
}

#[test]
fn durations_are_nanoseconds_or_text() {
    let (config, _) = load(
        "grpc-keepalive-min-time: 1000000000\n\
         grpc-keepalive-interval: 2s\n\
         grpc-keepalive-timeout: \"3000000000\"\n",
    );
    assert_eq!(config.grpc_keepalive.min_time, Duration::from_secs(1));
    assert_eq!(config.grpc_keepalive.interval, Duration::from_secs(2));
    assert_eq!(config.grpc_keepalive.timeout, Duration::from_secs(3));
}

#[test]
fn a_file_without_values_is_the_default() {
    for text in
        ["", "# only this\n", "---\n", "name:\ndata-dir: ''\n", "client-transport-security:\n"]
    {
        assert_eq!(load(text), (Config::default(), Vec::new()), "{text:?}");
    }
}

/// The keys and values of the sample that etcd ships: it starts a member, and what has no effect is
/// said.
#[test]
fn etcds_sample_is_accepted() {
    let (config, warnings) = load(
        "name: 'default'\n\
         data-dir:\n\
         wal-dir:\n\
         snapshot-count: 10000\n\
         heartbeat-interval: 100\n\
         election-timeout: 1000\n\
         quota-backend-bytes: 0\n\
         listen-peer-urls: http://localhost:2380\n\
         listen-client-urls: http://localhost:2379\n\
         max-snapshots: 5\n\
         max-wals: 5\n\
         cors:\n\
         initial-advertise-peer-urls: http://localhost:2380\n\
         advertise-client-urls: http://localhost:2379\n\
         discovery:\n\
         discovery-fallback: 'proxy'\n\
         discovery-proxy:\n\
         discovery-srv:\n\
         initial-cluster:\n\
         initial-cluster-token: 'etcd-cluster'\n\
         initial-cluster-state: 'new'\n\
         strict-reconfig-check: false\n\
         enable-pprof: true\n\
         proxy: 'off'\n\
         proxy-failure-wait: 5000\n\
         client-transport-security:\n  cert-file:\n  key-file:\n  client-cert-auth: false\n  \
           trusted-ca-file:\n  auto-tls: false\n\
         peer-transport-security:\n  cert-file:\n  key-file:\n  client-cert-auth: false\n  \
           trusted-ca-file:\n  auto-tls: false\n  allowed-cn:\n  allowed-hostname:\n\
         self-signed-cert-validity: 1\n\
         log-level: debug\n\
         logger: zap\n\
         log-outputs: [stderr]\n\
         force-new-cluster: false\n\
         auto-compaction-mode: periodic\n\
         auto-compaction-retention: \"1\"\n\
         cipher-suites: [\n  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,\n  \
           TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384\n]\n\
         tls-min-version: 'TLS1.2'\n\
         tls-max-version: 'TLS1.3'\n",
    );
    let mut expected = Config::default();
    expected.log.level = crate::config::logging::Level::Debug;
    // A plain number means hours.
    let hour = std::time::Duration::from_secs(3600);
    expected.auto_compaction = crate::config::AutoCompaction::Periodic(hour);
    expected.snapshot_count = 10_000;
    expected.strict_reconfig_check = false;
    assert_eq!(config, expected);
    let names: Vec<_> = warnings.iter().map(|text| text.split(' ').next().unwrap()).collect();
    assert_eq!(
        names,
        [
            "--cipher-suites",
            "--discovery-fallback",
            "--enable-pprof",
            "--max-snapshots",
            "--max-wals",
            "--proxy-failure-wait",
            "--self-signed-cert-validity",
            "--tls-max-version",
            "--tls-min-version",
        ]
    );
    assert!(warnings[0].contains(" (cipher-suites in "), "{}", warnings[0]);
}

#[test]
fn sections_are_judged_like_flags() {
    for (text, start) in [
        (
            "client-transport-security: { cert-file: /c }",
            "--cert-file (client-transport-security.cert-file in FILE) cannot be honoured: TLS",
        ),
        (
            "client-transport-security: { client-cert-auth: true }",
            "--client-cert-auth (client-transport-security.client-cert-auth in FILE) cannot",
        ),
        (
            "client-transport-security: { allowed-cn: [a, b] }",
            "--client-cert-allowed-hostname (client-transport-security.allowed-cn in FILE) cannot",
        ),
        (
            "peer-transport-security:\n  auto-tls: true",
            "--peer-auto-tls (peer-transport-security.auto-tls in FILE) cannot be honoured: TLS",
        ),
        (
            "discovery-config:\n  client:\n    endpoints: [http://a:1]",
            "--discovery-endpoints (discovery-config.client.endpoints in FILE) cannot be honoured",
        ),
        ("listen-client-urls: https://127.0.0.1:1", "--listen-client-urls: TLS is not supported"),
    ] {
        let failure = failure(text);
        assert!(failure.starts_with(start), "{text}: {failure}");
    }
    let (_, warnings) = load("socket-options:\n  reuse-port: true\n");
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("--socket-reuse-port (socket-options.reuse-port in "));
}

#[test]
fn wrong_files_are_named_with_the_place() {
    for (text, expected) in [
        ("nam: x", "configuration file FILE: unknown key \"nam\"; did you mean name?"),
        ("zzzz: x", "configuration file FILE: unknown key \"zzzz\""),
        (
            "client-transport-security: { certfile: /c }",
            "configuration file FILE: unknown key \"client-transport-security.certfile\"; did you \
             mean client-transport-security.cert-file?",
        ),
        ("config-file: x", "configuration file FILE: it cannot name another configuration file"),
        ("name: { a: b }", "configuration file FILE: unknown key \"name.a\""),
        ("- a", "configuration file FILE: it is not a map of names to values"),
        ("just text", "configuration file FILE: it is not a map of names to values"),
        ("cors: [[a]]", "configuration file FILE: cors must be a list of plain values"),
        (
            "heartbeat-interval: x",
            "configuration file FILE: invalid value \"x\" for heartbeat-interval: parse error",
        ),
        ("pre-vote: 2", "configuration file FILE: invalid value \"2\" for pre-vote: parse error"),
        (
            "listen-peer-urls: x",
            "configuration file FILE: invalid value \"x\" for listen-peer-urls: URL scheme must be \
             http, https, unix, or unixs: x",
        ),
        (
            "max-txn-ops: 1.5",
            "configuration file FILE: invalid value \"1.5\" for max-txn-ops: parse error",
        ),
    ] {
        assert_eq!(failure(text), expected, "{text}");
    }
    for text in ["name: [", "name: a\nname: b\n", "name: 'a", "a: &x b\nc: *y\n", "\u{0}"] {
        let failure = failure(text);
        assert!(failure.starts_with("configuration file FILE: "), "{text:?}: {failure}");
    }
    let deep = format!("{}1{}", "{a: ".repeat(2000), "}".repeat(2000));
    assert!(failure(&deep).starts_with("configuration file FILE: "));
}

#[test]
fn a_missing_file_is_named() {
    let failure = super::failure("--config-file /nonexistent/urd.yml", &[]);
    assert!(matches!(failure, Failure::FileUnreadable { .. }));
    let text = failure.to_string();
    assert!(text.starts_with("read the configuration file /nonexistent/urd.yml: "), "{text}");
}

#[test]
fn the_file_stands_alone() {
    let (_directory, path) = file("name: from-file\n");
    let path = path.display();
    let (config, warnings) = run(
        &format!("--name f --config-file={path} --shards 1"),
        &["ETCD_DATA_DIR=/e", "ETCD_CONFIG_FILE=/other"],
    );
    assert_eq!(config.name, "from-file");
    assert_eq!(config.data_dir.to_str(), Some("from-file.urd"));
    assert_eq!(config.shards, None);
    assert_eq!(
        warnings,
        [format!("only the configuration file {path} counts, not --name, --shards, ETCD_DATA_DIR")]
    );

    let variable = format!("ETCD_CONFIG_FILE={path}");
    let (config, warnings) = run("", &[&variable]);
    assert_eq!((config.name.as_str(), warnings), ("from-file", Vec::new()));
    // Wrong flags are still wrong.
    super::failure(&format!("--config-file={path} --nope"), &[]);
}

/// etcd keeps advertising the default in this case, so Urd must; but nobody means it.
#[test]
fn a_file_that_moves_the_listener_alone_is_warned_about() {
    let (config, warnings) = load("listen-client-urls: http://127.0.0.1:1");
    assert_eq!(super::texts(&config.advertise_client_urls), ["http://localhost:2379"]);
    assert_eq!(
        warnings,
        ["advertise-client-urls is not set, so clients are told http://localhost:2379 and not \
          http://127.0.0.1:1"]
    );
}
