//! Does the load generator do what it says, and count it? Every workload runs for a moment on the subject and on etcd.
//!
//! Only counts are judged: its own report's, and the server's revisions and keys. How fast anything was says nothing
//! here.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use urd_proto::etcdserverpb as pb;

use crate::harness::grpc::{get_request, prefix_request, put_request};
use crate::harness::{Client, Program, Server, only_urd, try_wait_for};

/// No run here takes a second of it.
const RUN_TIMEOUT: Duration = Duration::from_secs(120);

/// What a run of the load generator left.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs `benchmark LINE`.
fn run(server: &Server, line: &str) -> Run {
    let path = |name: &str| server.directory().join(name);
    let create = |name: &str| File::create(path(name)).expect("create a file of ours");
    let mut child = Command::new(env!("CARGO_BIN_EXE_benchmark"))
        .arg(format!("--endpoints={}", server.endpoint()))
        .args(line.split_whitespace())
        .stdin(Stdio::null())
        .stdout(create("benchmark.out"))
        .stderr(create("benchmark.err"))
        .spawn()
        .expect("start benchmark");
    let status = try_wait_for(RUN_TIMEOUT, || child.try_wait().expect("wait for a child"));
    if status.is_none() {
        child.kill().expect("kill a child");
    }
    let read = |name: &str| std::fs::read_to_string(path(name)).expect("read a file of ours");
    let status = status.unwrap_or_else(|| panic!("benchmark {line}: not over in {RUN_TIMEOUT:?}"));
    Run { code: status.code(), stdout: read("benchmark.out"), stderr: read("benchmark.err") }
}

/// The report of a run in which all went well.
struct Report(Value);

fn report(server: &Server, line: &str) -> Report {
    let Run { code, stdout, stderr } = run(server, &format!("--output=json {line}"));
    assert_eq!(code, Some(0), "benchmark {line}\n{stdout}\n{stderr}");
    let report: Value = serde_json::from_str(&stdout).expect("a report in JSON");
    assert_eq!(report["errors"], 0);
    Report(report)
}

impl Report {
    fn requests(&self) -> u64 {
        self.0["requests"].as_u64().expect("a number of requests")
    }

    /// How many of each kind.
    fn kinds(&self) -> BTreeMap<&str, u64> {
        let kinds = self.0["kinds"].as_array().expect("kinds");
        let count = |kind: &Value| {
            assert_eq!(kind["errors"], 0);
            let recorded = kind["histogram"].as_array().expect("a histogram");
            let recorded: u64 = recorded.iter().filter_map(|pair| pair[1].as_u64()).sum();
            assert_eq!(kind["count"], recorded, "every one is in the histogram");
            recorded
        };
        kinds.iter().map(|kind| (kind["name"].as_str().expect("a name"), count(kind))).collect()
    }

    fn counter(&self, name: &str) -> u64 {
        self.0["counters"][name]
            .as_u64()
            .unwrap_or_else(|| panic!("no {name}: {}", self.0["counters"]))
    }
}

/// Both servers, one after the other.
fn on_both(mut test: impl AsyncFnMut(&Server, &mut Client)) {
    let runtime = tokio::runtime::Runtime::new().expect("make a runtime");
    for program in [Program::Subject, Program::Etcd] {
        let server = Server::start_fresh(program);
        runtime.block_on(async {
            let mut client = Client::connect(&server.endpoint()).await;
            test(&server, &mut client).await;
        });
    }
}

async fn revision(client: &mut Client) -> u64 {
    let range = client.range(get_request("any")).await.expect("range");
    range.header.expect("a header").revision.unsigned_abs()
}

async fn count(client: &mut Client, request: pb::RangeRequest) -> u64 {
    let request = pb::RangeRequest { count_only: true, ..request };
    client.range(request).await.expect("range").count.unsigned_abs()
}

async fn count_all(client: &mut Client) -> u64 {
    let all = pb::RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..pb::RangeRequest::default()
    };
    count(client, all).await
}

/// Whether there are leases; Urd is to have them.
async fn serves_leases(client: &mut Client) -> bool {
    let request = pb::LeaseGrantRequest { ttl: 60, id: 0 };
    let granted: Result<pb::LeaseGrantResponse, _> =
        client.call("/etcdserverpb.Lease/LeaseGrant", request).await;
    match granted {
        Ok(_) => true,
        Err(status) => {
            assert_eq!(status.code(), tonic::Code::Unimplemented, "{status:?}");
            false
        }
    }
}

#[test]
fn transactions_are_as_many_as_asked_for() {
    on_both(async |server, client| {
        let line = "--conns=3 --clients=8 --threads=2 txn-put --total=200 --txn-ops=3 --key-space-size=100";
        let report = report(server, line);
        assert_eq!((report.requests(), report.counter("puts")), (200, 600));
        assert_eq!(report.kinds(), [("txn", 200)].into());
        assert_eq!((revision(client).await, count_all(client).await), (201, 100));

        let line = "--conns=2 --clients=4 txn-mixed --total=300 --rw-ratio=2 --key-space-size=7";
        let report = self::report(server, line);
        let kinds = report.kinds();
        assert_eq!(kinds["txn-put"] + kinds["txn-range"], 300);
        assert_eq!(revision(client).await, 201 + kinds["txn-put"], "ranges make no revision");
    });
}

#[test]
fn optimistic_transactions_succeed_once_each() {
    on_both(async |server, client| {
        let mut expected = 1;
        for (isolation, may_retry) in [("c", false), ("r", true), ("s", true), ("ss", true)] {
            let line = format!(
                "--conns=2 --clients=8 stm --total=100 --keys=5 --keys-per-txn=4 --isolation={isolation}"
            );
            let report = report(server, &line);
            assert_eq!(report.kinds(), [("stm", 100)].into());
            assert!(may_retry || report.counter("retries") == 0);
            // Attempts that failed wrote nothing.
            expected += 100;
            assert_eq!(revision(client).await, expected, "{isolation}");
        }
        let report = report(server, "stm --total=10 --keys=5 --keys-per-txn=4 --isolation=ss");
        assert_eq!(report.counter("retries"), 0, "one client has nobody to conflict with");
    });
}

/// Keys from `page/` on, and one behind them.
async fn put_pairs(client: &mut Client, pairs: u64) {
    for number in 0..pairs {
        client.put(put_request(&format!("page/{number:03}"), b"value")).await.expect("put");
    }
    client.put(put_request("page0", b"behind")).await.expect("put");
}

#[test]
fn pages_bring_all_keys() {
    on_both(async |server, client| {
        put_pairs(client, 95).await;
        let line =
            "--conns=2 --clients=3 --threads=2 range page/ page0 --total=7 --paginate --limit=10";
        let report = report(server, line);
        assert_eq!((report.counter("keys"), report.counter("pages")), (7 * 95, 7 * 10));
        assert_eq!(report.kinds(), [("range-pages", 7)].into());
        let one = self::report(server, "range page0 --total=2 --paginate --limit=1");
        assert_eq!((one.counter("keys"), one.counter("pages")), (2, 2), "one key is a page");
    });
}

#[tokio::test]
async fn range_streams_bring_all_keys() {
    if only_urd("3.4 has no RangeStream") {
        return;
    }
    let server = Server::start_fresh(Program::Subject);
    put_pairs(&mut Client::connect(&server.endpoint()).await, 95).await;
    let report = report(&server, "--conns=2 --clients=3 range page/ page0 --total=7 --stream");
    assert_eq!((report.requests(), report.counter("keys")), (7, 7 * 95));
    assert_eq!(report.kinds(), [("range-stream", 7)].into());
    assert!(report.counter("chunks") >= 7);
}

#[test]
fn missing_range_stream_is_said() {
    let server = Server::start_fresh(Program::Etcd);
    let run = run(&server, "range a z --total=3 --stream");
    assert_eq!(run.code, Some(1));
    assert!(run.stdout.contains("[3]\tthe server has no RangeStream"), "{}", run.stdout);
}

#[test]
fn watchers_get_every_event_once() {
    on_both(async |server, client| {
        // The keys are different ones: streams times watchers watch one each, and puts go round.
        let one_each = "--conns=3 --clients=4 --threads=2 watch --put-total=120 --streams=4 \
                        --watch-per-stream=10 --watched-key-total=40 --prevkv --progress-notify";
        let on_one_key =
            "--conns=2 --clients=4 watch --put-total=50 --streams=3 --watch-per-stream=7";
        let on_a_prefix = "--conns=2 --threads=2 --clients=2 watch --put-total=50 --put-rate=500 \
                           --streams=3 --watch-per-stream=5 --watched-key-total=9 --prefix";
        for (line, puts, watchers, events) in [
            (one_each, 120, 40, 120),
            (on_one_key, 50, 21, 50 * 21),
            (on_a_prefix, 50, 15, 50 * 15),
        ] {
            let before = revision(client).await;
            let report = report(server, line);
            let expected = [
                ("event", events),
                ("event-from-put", events),
                ("put", puts),
                ("watch-create", watchers),
            ];
            assert_eq!(report.kinds(), expected.into(), "{line}");
            assert_eq!(report.requests(), puts);
            assert_eq!(report.counter("events-expected"), events);
            assert_eq!(report.counter("events-received"), events);
            assert_eq!(revision(client).await, before + puts);
        }
    });
}

#[test]
fn each_put_waits_for_its_events() {
    on_both(async |server, _| {
        let line = "--conns=2 --threads=2 watch-latency --put-total=20 --put-rate=0 --streams=3 \
                    --watchers-per-stream=4";
        let report = report(server, line);
        let expected = [("event", 240), ("event-from-put", 240), ("put", 20), ("watch-create", 12)];
        assert_eq!(report.kinds(), expected.into());
    });
}

#[test]
fn late_watchers_catch_up() {
    on_both(async |server, client| {
        let line =
            "--conns=2 --threads=2 --clients=4 watch-get --watchers=50 --streams=3 --events=6";
        // The second run must not see the first one's events.
        for run in 1..=2 {
            let report = report(server, line);
            let kinds = report.kinds();
            assert_eq!((kinds["catch-up"], kinds["watch-create"]), (50, 50));
            assert!(report.requests() > 0 && kinds["get"] == report.requests());
            assert_eq!(report.counter("events-received"), 300);
            assert_eq!(revision(client).await, 1 + 6 * run);
        }
    });
}

#[test]
fn leases_are_kept_alive() {
    on_both(async |server, client| {
        let line = "--conns=2 --clients=5 --threads=2 lease-keepalive --total=200 --leases=12";
        if !serves_leases(client).await {
            let run = run(server, line);
            assert_eq!(run.code, Some(1));
            assert!(run.stderr.contains("granting a lease: rpc error"), "{}", run.stderr);
            return;
        }
        let leases = async |client: &mut Client| {
            let listed: pb::LeaseLeasesResponse = client
                .call("/etcdserverpb.Lease/LeaseLeases", pb::LeaseLeasesRequest {})
                .await
                .expect("list leases");
            listed.leases.len()
        };
        let before = leases(client).await;
        let report = report(server, line);
        assert_eq!(report.kinds(), [("keepalive", 200), ("lease-grant", 12)].into());
        assert_eq!(leases(client).await, before + 12);
    });
}

#[test]
fn kubernetes_mix_adds_up() {
    on_both(async |server, client| {
        let with_leases = serves_leases(client).await;
        let line = format!(
            "--conns=3 --clients=8 --threads=2 kubernetes --total=500 --objects=120 --page=50 \
             --val-size=100 --conflict-percent=20 --watchers=3 --list-weight=5 --event-weight={}",
            if with_leases { 10 } else { 0 }
        );
        let before = revision(client).await;
        let report = report(server, &line);
        let kinds = report.kinds();
        let of = |kind: &str| kinds.get(kind).copied().unwrap_or(0);
        let writes = of("create") + of("update") + of("delete");
        assert_eq!(report.requests(), writes + of("get") + of("list") + of("record"));
        assert_eq!(report.requests(), 500);
        assert_eq!((of("event"), of("watch-create")), (3 * writes, 3));
        assert_eq!(report.counter("events-received"), 3 * writes);
        assert!(report.counter("conflicts") > 0 && of("list") > 0 && of("delete") > 0);
        // The objects before the load, and every write, made a revision; conflicts did not.
        assert_eq!(revision(client).await, before + 120 + writes + of("record"));
        let objects = count(client, prefix_request("/registry/pods/")).await;
        assert_eq!(objects, 120 + of("create") - of("delete"));
        let records = client.range(prefix_request("/registry/events/")).await.expect("range").kvs;
        assert_eq!(records.len() as u64, of("record"));
        assert_eq!(of("record") > 0, with_leases);
        assert!(records.iter().all(|pair| pair.lease != 0));
        assert_eq!(of("lease-grant") > 0, with_leases);
    });
}

#[test]
fn command_lines_that_make_no_sense_end_with_2() {
    let server = Server::start_fresh(Program::Subject);
    for (line, complaint) in [
        ("txn-put --txn-ops=2", "--key-space-size=1 is too small"),
        ("txn-mixed --rw-ratio=-1", "--rw-ratio"),
        ("stm --keys-per-txn=2", "--keys=1"),
        ("stm --isolation=x", "--isolation"),
        ("range a --paginate", "--limit"),
        ("put --key-size=1 --key-space-size=1000", "--key-size=1"),
        ("watch --val-size=7", "--val-size"),
        ("watch --key-size=1 --watched-key-total=1000", "--key-size=1"),
        ("--clients=2 lease-keepalive --leases=1", "--leases=1"),
        ("kubernetes --prefix=/registry/", "--prefix"),
        ("no-such-workload", "no-such-workload"),
    ] {
        let run = run(&server, line);
        assert_eq!(run.code, Some(2), "{line}: {}", run.stderr);
        assert!(run.stderr.contains(complaint), "{line}: {}", run.stderr);
        assert!(run.stdout.is_empty(), "{line}");
    }
}
