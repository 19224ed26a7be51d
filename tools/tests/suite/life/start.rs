//! Starts: every way to hand settings over, and every refusal with what is wrong and what would be right.

use std::net::TcpListener;

use urd_proto::etcdserverpb as pb;

use crate::harness::grpc::put_request;
use crate::harness::{Client, Form, Launch, Program, Server, only_urd, ports, scratch_directory};

const MEMBER_LIST: &str = "/etcdserverpb.Cluster/MemberList";

#[tokio::test]
async fn takes_its_settings_in_every_form() {
    for form in [Form::Flags, Form::SingleDashFlags, Form::Environment, Form::ConfigFile] {
        let server = Launch::new(Program::Subject).form(form).start();
        let mut client = Client::connect(&server.endpoint()).await;
        client
            .put(put_request("a", b"1"))
            .await
            .unwrap_or_else(|status| panic!("{form:?}: {status}"));
        let members: pb::MemberListResponse =
            client.call(MEMBER_LIST, pb::MemberListRequest::default()).await.expect("member list");
        let member = members.members.first().expect("one member");
        assert_eq!(member.name, "member", "{form:?}");
        assert_eq!(member.client_ur_ls, [format!("http://{}", server.endpoint())], "{form:?}");
        assert_eq!(member.peer_ur_ls, [format!("http://{}", server.peer_endpoint())], "{form:?}");
        assert!(
            server.data_directory().is_dir(),
            "{form:?}: the data directory is where it was asked for"
        );
        assert!(
            server.log().contains("ready to serve client requests"),
            "{form:?}: {}",
            server.log()
        );
    }
}

#[tokio::test]
async fn prefers_flags_to_the_environment() {
    if only_urd("it refuses to start on such a conflict") {
        return;
    }
    let server = Launch::new(Program::Subject).environment("ETCD_NAME", "another").start();
    let mut client = Client::connect(&server.endpoint()).await;
    let members: pb::MemberListResponse =
        client.call(MEMBER_LIST, pb::MemberListRequest::default()).await.expect("member list");
    assert_eq!(members.members[0].name, "member");
}

#[test]
fn accepts_flags_without_effect_and_says_so() {
    if only_urd("they mean something there") {
        return;
    }
    let server = Launch::new(Program::Subject)
        .argument("--max-wals=7")
        .argument("--backend-batch-interval=100ms")
        .argument("-enable-pprof")
        .start();
    for flag in ["max-wals", "backend-batch-interval"] {
        assert!(server.log().contains(flag), "no warning names {flag}:\n{}", server.log());
    }
}

#[test]
fn keeps_limits_that_flags_set() {
    let limits = Launch::new(Program::Subject)
        .argument("--max-txn-ops=2")
        .argument("--max-request-bytes=1000")
        .start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut client = Client::connect(&limits.endpoint()).await;
        let get = pb::RequestOp {
            request: Some(pb::request_op::Request::RequestRange(pb::RangeRequest {
                key: "a".into(),
                ..Default::default()
            })),
        };
        let txn =
            |count| pb::TxnRequest { success: vec![get.clone(); count], ..Default::default() };
        client.txn(txn(2)).await.expect("as many as allowed");
        let status = client.txn(txn(3)).await.expect_err("one too many");
        assert_eq!(status.message(), "etcdserver: too many operations in txn request");
        client.put(put_request("a", &[b'x'; 900])).await.expect("small enough");
        let status = client.put(put_request("a", &[b'x'; 1100])).await.expect_err("too large");
        assert_eq!(status.message(), "etcdserver: request is too large");
    });
}

/// A start with these arguments must fail, and its words must hold each of `words`.
fn refuses(arguments: &[&str], words: &[&str]) {
    let launch = arguments
        .iter()
        .fold(Launch::new(Program::Subject), |launch, argument| launch.argument(*argument));
    let ended = launch.run();
    assert!(!ended.status.success(), "{arguments:?} ended with {}: {}", ended.status, ended.stderr);
    assert!(
        ended.status.code().is_some(),
        "{arguments:?}: not an exit but {}: {}",
        ended.status,
        ended.stderr
    );
    for word in words {
        let said = format!("{}{}", ended.stdout, ended.stderr).to_lowercase();
        assert!(
            said.contains(&word.to_lowercase()),
            "{arguments:?} does not say {word:?} but:\n{said}"
        );
    }
    assert!(!ended.stderr.contains("panicked"), "{arguments:?} ends in a panic:\n{}", ended.stderr);
}

#[test]
fn names_the_nearest_flag_for_an_unknown_one() {
    if only_urd("it prints its usage") {
        return;
    }
    refuses(
        &["--listen-client-url=http://127.0.0.1:1"],
        &["listen-client-url", "--listen-client-urls"],
    );
    refuses(&["--data-dri", "x"], &["data-dri", "--data-dir"]);
    refuses(&["-nmae=x"], &["nmae", "--name"]);
    refuses(&["--nothing-like-it-at-all=1"], &["nothing-like-it-at-all"]);
}

#[test]
fn says_what_is_wrong_with_a_value() {
    if only_urd("its texts are its own") {
        return;
    }
    refuses(&["--listen-client-urls=127.0.0.1:2379"], &["listen-client-urls", "127.0.0.1:2379"]);
    refuses(&["--heartbeat-interval=soon"], &["heartbeat-interval", "soon"]);
    refuses(&["--election-timeout=50", "--heartbeat-interval=100"], &["election-timeout"]);
    refuses(&["--max-txn-ops=-1"], &["max-txn-ops", "-1"]);
    refuses(&["--initial-cluster=other=http://127.0.0.1:1"], &["initial cluster", "default"]);
    refuses(&["--config-file=/nowhere/at/all.yaml"], &["/nowhere/at/all.yaml"]);
    refuses(&["a-word"], &["a-word"]);
}

#[test]
fn refuses_a_port_in_use() {
    let taken = TcpListener::bind(("127.0.0.1", ports::free())).expect("bind a free port");
    let taken = taken.local_addr().expect("its address");
    let (client, peer) = (format!("http://{taken}"), format!("http://127.0.0.1:{}", ports::free()));
    refuses(
        &[
            "--data-dir=data",
            &format!("--listen-client-urls={client}"),
            &format!("--advertise-client-urls={client}"),
            &format!("--listen-peer-urls={peer}"),
            &format!("--initial-advertise-peer-urls={peer}"),
            &format!("--initial-cluster=default={peer}"),
        ],
        &[&taken.to_string(), "in use"],
    );
}

/// A supervisor starts a killed server again at once, on the same port: what the kernel still has to clean up after the
/// dead one (connections, an io_uring with calls under way) must not be in the way.
#[tokio::test]
async fn listens_again_at_once_after_a_kill() {
    let mut server = Server::start_fresh(Program::Subject);
    let endpoint = server.endpoint();
    for round in 0..5 {
        let mut clients = Vec::new();
        for number in 0..20 {
            let mut client = Client::connect(&endpoint).await;
            client.put(put_request(&format!("{number}"), b"x")).await.expect("put");
            clients.push(client);
        }
        server.kill();
        server.restart();
        assert_eq!(
            server.endpoint(),
            endpoint,
            "kill {round}: the port was still taken; {}",
            server.log()
        );
    }
}

/// The first log segment is small and the next is made ahead: puts must wait for it, not be refused.
#[tokio::test]
async fn takes_large_puts_from_the_start() {
    let server = Server::start_fresh(Program::Subject);
    let mut client = Client::connect(&server.endpoint()).await;
    for number in 0..48 {
        let put = client.put(put_request(&format!("large/{number}"), &vec![b'x'; 1_400_000])).await;
        put.unwrap_or_else(|status| panic!("put {number} of 1.4 MB: {status}"));
    }
}

#[test]
fn refuses_a_data_directory_in_use() {
    if only_urd("it waits for the other to end") {
        return;
    }
    let mut first = Server::start_fresh(Program::Subject);
    let (client, peer) = (
        format!("http://127.0.0.1:{}", ports::free()),
        format!("http://127.0.0.1:{}", ports::free()),
    );
    let directory = first.data_directory().display().to_string();
    refuses(
        &[
            "--name=member",
            &format!("--data-dir={directory}"),
            &format!("--listen-client-urls={client}"),
            &format!("--advertise-client-urls={client}"),
            &format!("--listen-peer-urls={peer}"),
            &format!("--initial-advertise-peer-urls={peer}"),
            &format!("--initial-cluster=member={peer}"),
        ],
        &[&directory],
    );
    first.assert_running("a second server on its directory");
}

/// Nobody else is named in the initial cluster, so there is nobody to learn the cluster from; etcd ends likewise.
#[test]
fn joins_no_cluster_alone_but_goes_on_with_its_own() {
    let alone = Launch::new(Program::Subject).argument("--initial-cluster-state=existing");
    let ended = alone.run();
    assert!(!ended.status.success(), "it started: {}", ended.stderr);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    let text = "could not retrieve cluster information from the given URLs";
    assert!(said.contains(text), "{said}");

    let directory = scratch_directory();
    let start = || Launch::new(Program::Subject).data_directory(directory.path());
    drop(start().start());
    start().argument("--initial-cluster-state=existing").start();
}

#[test]
fn refuses_a_data_directory_that_is_a_file() {
    if only_urd("its texts are its own") {
        return;
    }
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("make a file");
    let path = file.path().display().to_string();
    let (client, peer) = (
        format!("http://127.0.0.1:{}", ports::free()),
        format!("http://127.0.0.1:{}", ports::free()),
    );
    refuses(
        &[
            &format!("--data-dir={path}"),
            &format!("--listen-client-urls={client}"),
            &format!("--advertise-client-urls={client}"),
            &format!("--listen-peer-urls={peer}"),
            &format!("--initial-advertise-peer-urls={peer}"),
            &format!("--initial-cluster=default={peer}"),
        ],
        &[&path],
    );
}

#[test]
fn prints_its_version() {
    let ended = Launch::new(Program::Subject).argument("--version").run();
    assert!(ended.status.success(), "{ended:?}");
    let version = ended.stdout.lines().find_map(|line| line.strip_prefix("etcd Version: "));
    // Test harnesses of client libraries look for this line.
    assert!(version.is_some(), "no line `etcd Version: ...`:\n{}", ended.stdout);
    if !only_urd("it has no other version") {
        assert_eq!(version, Some("3.7.1"));
        assert!(ended.stdout.to_lowercase().contains("urd"), "{}", ended.stdout);
    }
}

#[test]
fn prints_help_that_names_its_flags() {
    let ended = Launch::new(Program::Subject).argument("--help").run();
    let said = format!("{}{}", ended.stdout, ended.stderr);
    for flag in ["--data-dir", "--listen-client-urls", "--initial-cluster", "--quota-backend-bytes"]
    {
        assert!(said.contains(flag), "--help does not name {flag}:\n{said}");
    }
}
