//! What a command line, an environment and a file come to. The texts of refusals are those that
//! etcd 3.4 printed for the same arguments, up to what Urd adds after a semicolon.

mod file;
mod logging;
mod table;
mod values;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::logging::{Format, Level, Output};
use super::*;
use crate::identity::{cluster_id, member_id};
use crate::limits;

/// Arguments separated by spaces, variables as `NAME=value`.
fn load(arguments: &str, variables: &[&str]) -> Result<Loaded, Failure> {
    let variables = variables.iter().map(|variable| {
        let (name, value) = variable.split_once('=').expect("NAME=value");
        (OsString::from(name), OsString::from(value))
    });
    Config::load(arguments.split_whitespace().map(OsString::from), variables)
}

#[track_caller]
fn run(arguments: &str, variables: &[&str]) -> (Config, Vec<String>) {
    match load(arguments, variables) {
        Ok(Loaded::Run { config, warnings }) => (*config, warnings),
        other => panic!("{arguments:?} {variables:?} gave {other:?}"),
    }
}

#[track_caller]
fn config(arguments: &str) -> Config {
    let (config, warnings) = run(arguments, &[]);
    assert_eq!(warnings, Vec::<String>::new(), "warnings of {arguments:?}");
    config
}

#[track_caller]
fn failure(arguments: &str, variables: &[&str]) -> Failure {
    match load(arguments, variables) {
        Err(failure) => failure,
        Ok(other) => panic!("{arguments:?} {variables:?} gave {other:?}"),
    }
}

fn texts(urls: &[impl ToString]) -> Vec<String> {
    urls.iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_are_etcds() {
    let config = config("");
    assert_eq!(config, Config::default());
    config.validate().expect("the defaults are valid");

    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir, Path::new("default.urd"));
    assert_eq!(config.wal_dir, None);
    assert_eq!(config.log_dir(), Path::new("default.urd/wal"));
    assert_eq!(texts(&config.listen_client_urls), ["http://localhost:2379"]);
    assert_eq!(config.listen_client_urls[0].address(), SocketAddr::from(([127, 0, 0, 1], 2379)));
    assert_eq!(texts(&config.listen_peer_urls), ["http://localhost:2380"]);
    assert!(config.listen_client_http_urls.is_empty());
    assert!(config.listen_metrics_urls.is_empty());
    assert_eq!(texts(&config.advertise_client_urls), ["http://localhost:2379"]);
    assert_eq!(texts(&config.initial_advertise_peer_urls), ["http://localhost:2380"]);
    assert_eq!(config.initial_cluster.to_string(), "default=http://localhost:2380");
    assert_eq!(config.initial_cluster_token, "etcd-cluster");
    assert_eq!(config.initial_cluster_state, ClusterState::New);
    assert_eq!(config.heartbeat_interval, Duration::from_millis(100));
    assert_eq!(config.election_timeout, Duration::from_secs(1));
    assert!(config.pre_vote);
    assert_eq!(config.max_request_bytes, limits::REQUEST_BYTES_DEFAULT);
    assert_eq!(config.max_txn_ops, limits::TXN_OPS_DEFAULT);
    assert_eq!(config.max_concurrent_streams, u32::MAX);
    let [min_time, interval, timeout] = [5, 7200, 20].map(Duration::from_secs);
    assert_eq!(config.grpc_keepalive, Keepalive { min_time, interval, timeout });
    assert_eq!((config.shards, config.cpus), (None, None));
    assert_eq!(config.log.level, Level::Info);
    assert_eq!(config.log.format, Format::Json);
    assert_eq!(config.log.outputs, [Output::Stderr]);
}

#[test]
fn every_form_of_a_flag_is_read() {
    for form in ["--name=x", "--name x", "-name=x", "-name x", "--name=y --name=x", "-name x --"] {
        let config = config(form);
        assert_eq!(config.name, "x", "{form}");
        assert_eq!(config.data_dir, Path::new("x.urd"), "{form}");
        assert_eq!(config.initial_cluster.to_string(), "x=http://localhost:2380", "{form}");
    }
    // What looks like a flag is a value where a value is due, as in Go.
    assert_eq!(config("--initial-cluster-token --name").initial_cluster_token, "--name");
    assert_eq!(config("--initial-cluster-token a=b=c").initial_cluster_token, "a=b=c");
    assert_eq!(config("--initial-cluster-token=").initial_cluster_token, "");

    for (form, expected) in [
        ("--pre-vote", true),
        ("-pre-vote --name x", true),
        ("--pre-vote=true", true),
        ("--pre-vote=T", true),
        ("--pre-vote=1", true),
        ("--pre-vote=false", false),
        ("-pre-vote=0", false),
    ] {
        assert_eq!(config(form).pre_vote, expected, "{form}");
    }
}

#[test]
fn every_flag_in_use_reaches_its_field() {
    let config = config(
        "--name m1 --data-dir /d --wal-dir /w --listen-client-urls http://0.0.0.0:1,http://[::1]:2 \
         --listen-client-http-urls http://127.0.0.1:3 --listen-peer-urls http://127.0.0.1:4 \
         --listen-metrics-urls http://127.0.0.1:0 --advertise-client-urls https://b:6,http://a:5 \
         --initial-advertise-peer-urls http://p:7 --initial-cluster m1=http://p:7 \
         --initial-cluster-token t --initial-cluster-state existing --heartbeat-interval 10 \
         --election-timeout 50 --pre-vote=false --max-request-bytes 0x100 --max-txn-ops 5 \
         --max-concurrent-streams 0 --grpc-keepalive-min-time 1m30s --grpc-keepalive-interval 0 \
         --grpc-keepalive-timeout 1.5s --shards 2 --cpus 3,0-1 --log-level debug \
         --log-format console --log-outputs /l,stdout,stderr --logger zap",
    );
    assert_eq!(config.name, "m1");
    assert_eq!(config.data_dir, Path::new("/d"));
    assert_eq!(config.log_dir(), Path::new("/w"));
    let addresses: Vec<_> = config.listen_client_urls.iter().map(ListenUrl::address).collect();
    assert_eq!(addresses, ["0.0.0.0:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
    assert_eq!(texts(&config.listen_client_http_urls), ["http://127.0.0.1:3"]);
    assert_eq!(texts(&config.listen_peer_urls), ["http://127.0.0.1:4"]);
    assert_eq!(texts(&config.listen_metrics_urls), ["http://127.0.0.1:0"]);
    assert_eq!(texts(&config.advertise_client_urls), ["http://a:5", "https://b:6"]);
    assert_eq!(texts(&config.initial_advertise_peer_urls), ["http://p:7"]);
    assert_eq!(config.initial_cluster.to_string(), "m1=http://p:7");
    assert_eq!(config.initial_cluster_token, "t");
    assert_eq!(config.initial_cluster_state, ClusterState::Existing);
    assert_eq!(config.heartbeat_interval, Duration::from_millis(10));
    assert_eq!(config.election_timeout, Duration::from_millis(50));
    assert!(!config.pre_vote);
    assert_eq!(config.max_request_bytes, 256);
    assert_eq!(config.max_txn_ops, 5);
    assert_eq!(config.max_concurrent_streams, u32::MAX);
    assert_eq!(config.grpc_keepalive.min_time, Duration::from_secs(90));
    assert_eq!(config.grpc_keepalive.interval, Duration::ZERO);
    assert_eq!(config.grpc_keepalive.timeout, Duration::from_millis(1500));
    assert_eq!(config.shards.map(NonZeroUsize::get), Some(2));
    assert_eq!(config.cpus, Some(vec![0, 1, 3]));
    assert_eq!(config.log.level, Level::Debug);
    assert_eq!(config.log.format, Format::Console);
    assert_eq!(config.log.outputs, [Output::File("/l".into()), Output::Stderr, Output::Stdout]);
}

#[test]
fn v2_is_served_unless_it_is_turned_off_and_keeps_what_clients_rely_on() {
    let read = |arguments: &str| {
        let Config { enable_v2, v2_history, .. } = config(arguments);
        (enable_v2, v2_history)
    };
    assert_eq!(read(""), (true, 1000));
    assert_eq!(read("--enable-v2"), (true, 1000));
    assert_eq!(read("--enable-v2=false --v2-history 10000000"), (false, 10_000_000));
    for events in ["0", "999", "10000001"] {
        let text = failure(&format!("--v2-history={events}"), &[]).to_string();
        assert!(text.contains("must be from 1000 to 10000000"), "{text}");
    }
}

#[test]
fn origins_are_urls_or_all() {
    let read = |arguments: &str| config(arguments).cors;
    assert_eq!(read(""), ["*"]);
    assert_eq!(read("--cors="), ["*"]);
    assert_eq!(read("--cors http://b:1,http://a:1"), ["http://a:1", "http://b:1"]);
    failure("--cors=ftp://a:1", &[]);
    failure("--cors=http://a", &[]);
}

#[test]
fn retention_is_read_as_its_mode_has_it() {
    let read = |arguments: &str| config(arguments).auto_compaction;
    let periodic = |seconds| AutoCompaction::Periodic(Duration::from_secs(seconds));
    assert_eq!(read(""), AutoCompaction::Off);
    assert_eq!(read("--auto-compaction-retention=0"), AutoCompaction::Off);
    assert_eq!(read("--auto-compaction-retention=0s"), AutoCompaction::Off);
    assert_eq!(read("--auto-compaction-retention=10"), periodic(36_000));
    assert_eq!(read("--auto-compaction-retention=30m"), periodic(1800));
    let revisions = "--auto-compaction-mode=revision --auto-compaction-retention=1000";
    assert_eq!(read(revisions), AutoCompaction::Revision(1000));
    for wrong in ["-1", "99999999999", "soon", "-5s"] {
        failure(&format!("--auto-compaction-retention={wrong}"), &[]);
    }
    failure("--auto-compaction-mode=revision --auto-compaction-retention=5m", &[]);
    failure("--auto-compaction-mode=never", &[]);
}

#[test]
fn wrong_command_lines_fail_as_etcds_do() {
    let refusals = [
        ("--nam x", 2, "flag provided but not defined: -nam; did you mean --name?"),
        (
            "--listen-client-url x",
            2,
            "flag provided but not defined: -listen-client-url; did you mean --listen-client-urls?",
        ),
        ("--zzz", 2, "flag provided but not defined: -zzz"),
        ("--name", 2, "flag needs an argument: -name"),
        ("---x", 2, "bad flag syntax: ---x"),
        ("-=x", 2, "bad flag syntax: -=x"),
        ("foo", 1, "\"foo\" is not a valid flag"),
        ("-", 1, "\"-\" is not a valid flag"),
        ("-- --name", 1, "\"--name\" is not a valid flag"),
        (
            "--pre-vote false",
            1,
            "\"false\" is not a valid flag; a boolean takes its value after an \
            equals sign: --pre-vote=false",
        ),
        ("--pre-vote=maybe", 2, "invalid boolean value \"maybe\" for -pre-vote: parse error"),
        ("--enable-v2=maybe", 2, "invalid boolean value \"maybe\" for -enable-v2: parse error"),
        (
            "--heartbeat-interval=x",
            2,
            "invalid value \"x\" for flag -heartbeat-interval: parse error",
        ),
        (
            "--heartbeat-interval=99999999999999999999",
            2,
            "invalid value \"99999999999999999999\" for flag -heartbeat-interval: value out of \
             range",
        ),
        (
            "--quota-backend-bytes x",
            2,
            "invalid value \"x\" for flag -quota-backend-bytes: parse error",
        ),
        (
            "--grpc-keepalive-timeout 5",
            2,
            "invalid value \"5\" for flag -grpc-keepalive-timeout: parse error",
        ),
        (
            "--grpc-keepalive-timeout -5s",
            2,
            "invalid value \"-5s\" for flag -grpc-keepalive-timeout: must not be negative",
        ),
        (
            "--initial-cluster-state x",
            2,
            "invalid value \"x\" for flag -initial-cluster-state: \
            invalid value; must be one of new, existing",
        ),
        (
            "--log-level loud",
            2,
            "invalid value \"loud\" for flag -log-level: invalid value; must \
            be one of debug, info, warn, error, panic, fatal",
        ),
        (
            "--max-concurrent-streams 4294967296",
            2,
            "invalid value \"4294967296\" for flag -max-concurrent-streams: value out of range",
        ),
        ("--shards 0", 2, "invalid value \"0\" for flag -shards: there must be at least one"),
        ("--cpus 3-1", 2, "invalid value \"3-1\" for flag -cpus: the range 3-1 runs backwards"),
        (
            "--listen-client-urls ftp://x",
            2,
            "invalid value \"ftp://x\" for flag \
            -listen-client-urls: URL scheme must be http, https, unix, or unixs: ftp://x",
        ),
        (
            "--listen-client-urls http://127.0.0.1",
            2,
            "invalid value \"http://127.0.0.1\" for flag \
            -listen-client-urls: URL address does not have the form \"host:port\": \
             http://127.0.0.1",
        ),
        (
            "--listen-peer-urls http://localhost:1/",
            2,
            "invalid value \"http://localhost:1/\" for \
            flag -listen-peer-urls: URL must not contain a path: http://localhost:1/",
        ),
    ];
    check_refusals(&refusals);
}

#[test]
fn values_that_do_not_go_together_fail_as_etcds_do() {
    let refusals = [
        (
            "--listen-client-urls http://localhost:23790",
            1,
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            "--listen-client-urls http://example.com:2379 --advertise-client-urls http://x:1",
            1,
            "--listen-client-urls: expected IP in URL for binding (http://example.com:2379)",
        ),
        (
            "--listen-peer-urls http://:2380",
            1,
            "--listen-peer-urls: expected IP in URL for binding (http://:2380)",
        ),
        (
            "--advertise-client-urls http://:2379",
            1,
            "--advertise-client-urls \"http://:2379\" must \
            be in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" \
            (unexpected empty host (http://:2379))",
        ),
        (
            "--initial-advertise-peer-urls http://:1",
            1,
            "--initial-advertise-peer-urls \
            \"http://:1\" must be \"host:port\" (unexpected empty host (http://:1))",
        ),
        ("--listen-peer-urls=", 1, "--listen-peer-urls must have at least one URL"),
        ("--advertise-client-urls=", 1, "--advertise-client-urls must have at least one URL"),
        ("--heartbeat-interval 0", 1, "--heartbeat-interval must be >0 (set to 0ms)"),
        ("--election-timeout 0", 1, "--election-timeout must be >0 (set to 0ms)"),
        (
            "--election-timeout 499",
            1,
            "--election-timeout[499ms] should be at least as 5 times as \
            --heartbeat-interval[100ms]",
        ),
        (
            "--election-timeout 50001",
            1,
            "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
        ),
        (
            "--heartbeat-interval 18446744073709551615",
            1,
            "--election-timeout[1000ms] should be at \
            least as 5 times as --heartbeat-interval[18446744073709551615ms]",
        ),
        (
            "--max-request-bytes 0",
            1,
            "--max-request-bytes must be 1 to 16777216 (set to 0): a \
            request must fit in the log several times",
        ),
        (
            "--max-request-bytes 16777217",
            1,
            "--max-request-bytes must be 1 to 16777216 (set to \
            16777217): a request must fit in the log several times",
        ),
        ("--max-txn-ops 0", 1, "--max-txn-ops must be >0 (set to 0)"),
        (
            "--shards 3 --cpus 0,1",
            1,
            "--shards=3 is more than the 2 processors of --cpus: each shard needs its own",
        ),
        ("--name=", 1, "--name must not be empty"),
        (
            "--initial-cluster a=http://localhost:2380",
            1,
            "couldn't find local name \"default\" in the initial cluster configuration",
        ),
        (
            "--initial-cluster default=foo",
            1,
            "error setting up initial cluster: URL scheme must be \
            http, https, unix, or unixs: foo",
        ),
        (
            "--initial-cluster default=http://localhost:2381",
            1,
            "--initial-cluster has \
            default=http://localhost:2381 but missing from \
            --initial-advertise-peer-urls=http://localhost:2380",
        ),
        (
            "--initial-advertise-peer-urls http://a:1,http://b:2 \
             --initial-cluster default=http://a:1",
            1,
            "--initial-advertise-peer-urls has http://b:2 but missing from \
            --initial-cluster=default=http://a:1",
        ),
        (
            "--initial-cluster default=http://localhost:2380,b=http://localhost:2380",
            1,
            "initial \
            cluster b=http://localhost:2380,default=http://localhost:2380 has duplicate url",
        ),
        (
            "--max-learners -1",
            2,
            "invalid value \"-1\" for flag -max-learners: must not be negative",
        ),
        ("--log-outputs a,default", 1, "multi logoutput for \"default\" is not supported yet"),
        ("--logger capnslog", 1, "--logger=capnslog is removed in v3.5"),
        ("--logger x", 1, "unknown logger option \"x\""),
    ];
    check_refusals(&refusals);
}

#[test]
fn what_would_be_insecure_is_refused() {
    for arguments in [
        "--listen-client-urls https://127.0.0.1:2379 --advertise-client-urls https://a:2379",
        "--listen-peer-urls https://127.0.0.1:2380",
        "--listen-metrics-urls https://127.0.0.1:2381",
        "--listen-client-http-urls https://127.0.0.1:2381",
        "--cert-file /c --key-file /k",
        "--trusted-ca-file /c",
        "--client-cert-auth",
        "--auto-tls=true",
        "--peer-auto-tls",
        "--peer-cert-file /c",
    ] {
        let failure = failure(arguments, &[]);
        let text = failure.to_string();
        assert!(text.contains("TLS is not supported yet"), "{arguments}: {text}");
        assert_eq!(failure.exit_code(), 1, "{arguments}");
    }
    assert_eq!(
        failure("", &["ETCD_CERT_FILE=/c"]).to_string(),
        "--cert-file (from ETCD_CERT_FILE) cannot be honoured: TLS is not supported yet, and \
         ignoring it would leave the traffic unprotected"
    );
    check_refusals(&[
        (
            "--listen-client-urls unix://s --advertise-client-urls unix://s",
            1,
            "--listen-client-urls: unix sockets are not supported yet, so unix://s cannot be \
            listened on",
        ),
        (
            "--host-whitelist a",
            1,
            "--host-whitelist cannot be honoured: host names are not checked yet",
        ),
        (
            "--auth-token jwt,pub-key=a",
            1,
            "--auth-token cannot be honoured: v3's authentication is not served yet",
        ),
        (
            "--proxy on",
            1,
            "--proxy cannot be honoured: the v2 proxy is gone from etcd, and this is a member",
        ),
    ]);
}

#[track_caller]
fn check_refusals(refusals: &[(&str, u8, &str)]) {
    for (arguments, exit_code, text) in refusals {
        let failure = failure(arguments, &[]);
        assert_eq!(failure.to_string(), *text, "{arguments}");
        assert_eq!(failure.exit_code(), *exit_code, "{arguments}");
    }
}

#[test]
fn members_of_one_host_know_their_places() {
    let place = |name: &str, cluster: &str| {
        let own = cluster.split(',').find_map(|member| member.strip_prefix(&format!("{name}=")));
        let own = own.expect("a member of the cluster");
        let arguments = format!(
            "--name {name} --initial-cluster {cluster} --initial-advertise-peer-urls {own}"
        );
        run(&arguments, &[]).0.place_on_host()
    };
    let cluster =
        "c=http://127.0.0.1:3,a=http://127.0.0.1:1,b=http://localhost:2,d=http://10.0.0.9:1";
    let places = ["a", "b", "c", "d"].map(|name| place(name, cluster));
    assert_eq!(places, [Some(0), Some(1), Some(2), None]);
    assert_eq!(run("", &[]).0.place_on_host(), None);
}

#[test]
fn the_environment_fills_what_flags_leave() {
    let (config, warnings) =
        run("", &["ETCD_NAME=e", "ETCD_PRE_VOTE=0", "ETCD_DATA_DIR=", "PATH=/"]);
    assert_eq!((config.name.as_str(), config.pre_vote), ("e", false));
    assert_eq!(config.data_dir, Path::new("e.urd"));
    assert_eq!(warnings, Vec::<String>::new());

    let (config, warnings) = run("--name f", &["ETCD_NAME=e"]);
    assert_eq!(config.name, "f");
    assert_eq!(warnings, ["ETCD_NAME is ignored, because --name is given as well"]);

    let (_, warnings) = run("", &["ETCD_MAX_SNAPSHOTS=5"]);
    assert_eq!(
        warnings,
        [
            "--max-snapshots (from ETCD_MAX_SNAPSHOTS) has no effect: there is one checkpoint file, which holds the newest two"
        ]
    );

    let variables =
        ["ETCD_NAMES=secret", "ETCD_VERSION=v3", "ETCD_UNSUPPORTED_ARCH=arm", "ETCD_Q=1"];
    let (_, warnings) = run("", &variables);
    assert_eq!(
        warnings,
        [
            "unrecognized environment variable ETCD_NAMES; did you mean ETCD_NAME?",
            "unrecognized environment variable ETCD_Q",
        ]
    );

    let failure = failure("", &["ETCD_HEARTBEAT_INTERVAL=x"]);
    assert_eq!(failure.to_string(), "invalid value \"x\" for ETCD_HEARTBEAT_INTERVAL: parse error");
    assert_eq!(failure.exit_code(), 1);
    // As for a flag: whoever sets it elsewhere must say where clients are to go.
    let failure = self::failure("", &["ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:1"]);
    assert!(failure.to_string().starts_with("--advertise-client-urls is required"), "{failure}");
}

#[cfg(unix)]
#[test]
fn what_is_not_unicode_is_an_error() {
    use std::os::unix::ffi::OsStringExt;

    let bad = || OsString::from_vec(vec![b'x', 0xff]);
    let failure = Config::load([bad()], []).unwrap_err();
    assert_eq!(failure.to_string(), "the argument \"x\\xFF\" is not UTF-8");
    let failure = Config::load([], [(OsString::from("ETCD_NAME"), bad())]).unwrap_err();
    assert_eq!(failure.to_string(), "the value of ETCD_NAME is not UTF-8");
    // Other programs' variables are none of our business.
    Config::load([], [(OsString::from("OTHER"), bad()), (bad(), bad())]).unwrap();
}

#[test]
fn help_and_version_come_before_all_else() {
    for arguments in ["--help", "-h", "--name x -help", "--heartbeat-interval 0 --help"] {
        assert!(matches!(load(arguments, &[]), Ok(Loaded::Help(_))), "{arguments}");
    }
    for arguments in ["--version", "-version", "--version=true", "--version --heartbeat-interval 0"]
    {
        let Ok(Loaded::Version(text)) = load(arguments, &[]) else { panic!("{arguments}") };
        let lines: Vec<_> = text.lines().collect();
        let ours = format!("urd Version: {}", env!("CARGO_PKG_VERSION"));
        assert_eq!(lines, [ours.as_str(), "etcd Version: 3.7.1"]);
    }
    config("--version=false");
    // Mistakes before them count, as in Go.
    failure("--nope --help", &[]);
}

#[test]
fn local_names_of_one_place_match() {
    config(
        "--initial-advertise-peer-urls http://127.0.0.1:2380 \
         --initial-cluster default=http://localhost:2380",
    );
}

#[test]
fn ids_are_etcds() {
    let id = |arguments| {
        let identity = config(arguments).identity();
        (identity.member.to_string(), identity.cluster.to_string())
    };
    // Seen on running etcd servers with these flags.
    assert_eq!(id(""), ("8e9e05c52164694d".into(), "cdf818194e3a8c32".into()));
    assert_eq!(
        id("--name m1 --initial-advertise-peer-urls http://127.0.0.1:23811 \
            --initial-cluster-token tok-7"),
        ("25fa19a17d3a2cf9".into(), "e9bf0dca6b322471".into())
    );

    let url = |text| Url::parse(text).unwrap();
    let urls = [url("http://b:1"), url("http://a:1")];
    let sorted = [url("http://a:1"), url("http://b:1")];
    assert_eq!(member_id(&urls, "t"), member_id(&sorted, "t"));
    assert_ne!(member_id(&urls, "t"), member_id(&urls, "u"));
    let members = ["http://10.0.1.10:2380", "http://10.0.1.11:2380", "http://10.0.1.12:2380"]
        .map(|text| member_id(&[url(text)], "etcd-cluster"));
    let mut turned = members;
    turned.reverse();
    assert_eq!(cluster_id(&members), cluster_id(&turned));
    assert_ne!(cluster_id(&members), cluster_id(&members[1..]));
}

/// A file that is gone when the test is.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("urd.yml");
    std::fs::write(&path, text).expect("write the file");
    (directory, path)
}
