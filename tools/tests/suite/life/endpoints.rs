//! The HTTP/1.1 endpoints, against etcd's where 3.4 has them and against 3.7's texts where it has not.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::grpc::put_request;
use crate::harness::{Client, Program, Server, http, only_urd};

fn get(server: &Server, path: &str) -> http::Answer {
    http::get(&server.endpoint(), path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
}

fn json(answer: &http::Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().expect("a JSON object").keys().cloned().collect()
}

#[test]
fn version_and_health_have_etcds_shape() {
    let (etcd, subject) =
        (Server::start_fresh(Program::Etcd), Server::start_fresh(Program::Subject));
    for path in ["/version", "/health"] {
        let (expected, found) = (get(&etcd, path), get(&subject, path));
        assert_eq!((found.status, expected.status), (200, 200), "{path}");
        let (expected_keys, found_keys) = (keys(&json(&expected)), keys(&json(&found)));
        assert!(
            expected_keys.is_subset(&found_keys),
            "{path}: {expected_keys:?}, found {found_keys:?}"
        );
    }
    assert_eq!(json(&get(&subject, "/health"))["health"], "true");
    for server in [&etcd, &subject] {
        let answer = http::request(&server.endpoint(), "POST", "/health").expect("an answer");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")), "{answer:?}");
        assert_eq!(get(server, "/no-such-path").status, 404);
    }
}

#[test]
fn version_is_etcd_3_7_and_names_urd() {
    if only_urd("it is another version") {
        return;
    }
    let server = Server::start_fresh(Program::Subject);
    let answer = get(&server, "/version");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let version = json(&answer);
    assert_eq!(version["etcdserver"], "3.7.1");
    assert_eq!(version["etcdcluster"], "3.7.0");
    assert!(version["urd"].is_string(), "{version}");
    assert_eq!(get(&server, "/health").body.trim_end(), r#"{"health":"true","reason":""}"#);
    assert_eq!(get(&server, "/health?serializable=true&exclude=NOSPACE").status, 200);
}

#[test]
fn livez_and_readyz_answer_as_etcd_3_7() {
    if only_urd("3.4.23 has neither") {
        return;
    }
    let server = Server::start_fresh(Program::Subject);
    let expected: &[(&str, &[&str])] = &[
        ("/livez", &["ok"]),
        ("/readyz", &["ok"]),
        ("/livez/serializable_read", &["ok"]),
        ("/readyz/data_corruption", &["ok"]),
        ("/readyz/serializable_read", &["ok"]),
        ("/readyz/linearizable_read", &["ok"]),
        ("/readyz/non_learner", &["ok"]),
        ("/livez?verbose", &["[+]serializable_read ok", "ok"]),
        ("/livez?exclude=serializable_read&verbose=true", &["ok"]),
        (
            "/readyz?verbose",
            &[
                "[+]data_corruption ok",
                "[+]linearizable_read ok",
                "[+]non_learner ok",
                "[+]serializable_read ok",
                "ok",
            ],
        ),
        (
            "/readyz?verbose&exclude=linearizable_read&exclude=non_learner",
            &["[+]data_corruption ok", "[+]serializable_read ok", "ok"],
        ),
        ("/readyz?exclude=no_such_check", &["ok"]),
        ("/readyz/linearizable_read?verbose", &["[+]linearizable_read ok", "ok"]),
    ];
    for (path, lines) in expected {
        let answer = get(&server, path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(answer.body.ends_with("ok\n"), "{path}: {:?}", answer.body);
        // etcd prints the checks in the order of a Go map: none.
        let mut found: Vec<&str> = answer.body.lines().collect();
        found.sort_unstable();
        assert_eq!(&found, lines, "{path}");
    }
    let answer = http::request(&server.endpoint(), "POST", "/readyz").expect("an answer");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")), "{answer:?}");
    assert_eq!(get(&server, "/readyz/no_such_check").status, 404);
}

/// Read by the alerts and dashboards that come with etcd.
const METRICS: &[&str] = &[
    "etcd_disk_wal_fsync_duration_seconds_count",
    "etcd_disk_wal_fsync_duration_seconds_sum",
    "etcd_mvcc_put_total",
    "etcd_server_has_leader",
    "etcd_server_is_leader",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_failed_total",
    "etcd_server_proposals_pending",
    "process_resident_memory_bytes",
];

#[tokio::test]
async fn metrics_bear_etcds_names_and_move() {
    let server = Server::start_fresh(Program::Subject);
    let endpoint = server.endpoint();
    for name in METRICS {
        http::metric(&endpoint, name);
    }
    assert_eq!(http::metric(&endpoint, "etcd_server_has_leader"), 1.0);
    let before: Vec<f64> = MOVING.iter().map(|name| http::metric(&endpoint, name)).collect();
    let mut client = Client::connect(&endpoint).await;
    for number in 0..10_u8 {
        client.put(put_request("metric", &[number])).await.expect("put");
    }
    for (name, before) in MOVING.iter().zip(before) {
        let after = http::metric(&endpoint, name);
        assert!(after >= before + 10.0, "{name}: {before}, and {after} ten puts later");
    }
}

/// Grow with each put that comes alone.
const MOVING: &[&str] = &["etcd_mvcc_put_total", "etcd_disk_wal_fsync_duration_seconds_count"];

#[test]
fn metrics_are_in_prometheus_text_format() {
    let server = Server::start_fresh(Program::Subject);
    let answer = get(&server, "/metrics");
    let content_type = answer.header("content-type").unwrap_or_default();
    assert!(content_type.starts_with("text/plain"), "{content_type}");
    let mut typed = BTreeSet::new();
    for line in answer.body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(
                ["counter", "gauge", "histogram", "summary", "untyped"].contains(&kind),
                "{line}"
            );
            assert!(typed.insert(name.to_owned()), "two types for {name}");
        } else if !line.starts_with('#') && !line.is_empty() {
            let (series, value) =
                line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line}"));
            assert!(value.parse::<f64>().is_ok() || value == "+Inf", "not a number: {line}");
            let name = series.split('{').next().unwrap_or_default();
            let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let known = typed.contains(name) || stem.is_some_and(|stem| typed.contains(stem));
            assert!(known, "a sample without a TYPE line before it: {line}");
        }
    }
}
