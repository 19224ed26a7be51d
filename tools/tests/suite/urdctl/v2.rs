//! The v2 command line: the same lines with etcdctl 3.4 and with urdctl, each against an etcd of its own, and what goes on
//! until something changes.

use std::time::Duration;

use super::{Ctl, Running, Said};
use crate::etcdctl::script::{self, Step};
use crate::harness::{Launch, Program, Server, wait_for};

const COMMANDS_MIN: usize = 140;
const PEER_URL: &str = "http://127.0.0.1:1";
/// Until a key with a TTL is gone.
const EXPIRY_TIMEOUT: Duration = Duration::from_secs(30);

fn start(program: Program) -> Server {
    let launch = Launch::new(program).advertised_peer_url(PEER_URL);
    launch.argument("--enable-v2=true").start()
}

fn etcd() -> Server {
    start(Program::Etcd)
}

fn variables(server: &Server) -> [(String, String); 2] {
    let endpoint = format!("http://{}", server.endpoint());
    [("ETCDCTL_API".to_owned(), "2".to_owned()), ("ETCDCTL_ENDPOINTS".to_owned(), endpoint)]
}

fn command(ctl: Ctl, server: &Server) -> std::process::Command {
    let mut command = ctl.command(&[]);
    command.envs(variables(server));
    command
}

fn run(ctl: Ctl, server: &Server, arguments: &[&str]) -> Said {
    ctl.run(command(ctl, server).args(arguments), b"")
}

/// What it printed, without what belongs to this server and this second.
fn comparable(server: &Server, said: &Said) -> (Option<i32>, String) {
    let mut text = said.stdout().replace(&server.endpoint(), "ENDPOINT");
    // How to use a command: etcdctl 3.4 prints its own to standard output.
    if said.code == Some(1) && text.contains("USAGE:") || said.code == Some(3) {
        text.clear();
    }
    for mark in ["\"expiration\":\"", "\"ttl\":", "TTL: "] {
        while let Some((before, after)) = text.split_once(mark) {
            let rest =
                after.trim_start_matches(|c: char| c.is_ascii_digit() || "-:.TZ".contains(c));
            text = format!("{before}<{}>{rest}", mark.trim_matches(['"', ':', ' ']));
        }
    }
    (said.code, text)
}

#[test]
fn prints_the_same_as_etcdctl_against_etcd() {
    compare(Program::Etcd);
}

#[test]
fn prints_the_same_as_etcdctl_against_the_subject() {
    compare(Program::Subject);
}

fn compare(program: Program) {
    let steps = script::parse(include_str!("v2.script"));
    assert!(steps.len() >= COMMANDS_MIN, "only {} commands", steps.len());
    let (beside_etcdctl, beside_urdctl) = (start(program), start(program));
    let run = |ctl: Ctl, server: &Server, step: &Step| {
        ctl.run(command(ctl, server).args(step.arguments()), &step.input)
    };
    let mut differences = Vec::new();
    for step in &steps {
        let (expected, found) = std::thread::scope(|scope| {
            let expected = scope.spawn(|| run(Ctl::Etcdctl, &beside_etcdctl, step));
            let found = run(Ctl::Urdctl, &beside_urdctl, step);
            (expected.join().expect("the thread that runs etcdctl"), found)
        });
        if comparable(&beside_etcdctl, &expected) != comparable(&beside_urdctl, &found) {
            differences.push(format!(
                "line {}: {}\n  etcdctl: {:?}\n{}{}\n  urdctl: {:?}\n{}{}",
                step.line,
                step.text,
                expected.code,
                expected.stdout(),
                expected.stderr(),
                found.code,
                found.stdout(),
                found.stderr()
            ));
        }
    }
    println!("{} commands compared", steps.len());
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn says_in_etcdctls_words_what_is_wrong() {
    let server = etcd();
    for arguments in [
        &["get", "/notexist"][..],
        &["set", "--swap-with-value", "wrong", "/message", "x"],
        &["rmdir", "/"],
        &["set"],
        &["member", "remove", "abc"],
        &["user", "get", "nobody"],
    ] {
        let (expected, found) =
            (run(Ctl::Etcdctl, &server, arguments), run(Ctl::Urdctl, &server, arguments));
        assert_eq!(found, expected, "{arguments:?}");
    }
}

#[test]
fn keys_with_a_ttl_vanish() {
    let server = etcd();
    assert_eq!(
        run(Ctl::Urdctl, &server, &["set", "/tempkey", "gone with wind", "--ttl", "1"]).expect(0),
        "gone with wind\n"
    );
    wait_for("the key to be gone", EXPIRY_TIMEOUT, || {
        let said = run(Ctl::Urdctl, &server, &["get", "/tempkey"]);
        (said.code == Some(4))
            .then(|| assert!(said.stderr().starts_with("Error:  100: Key not found (/tempkey) [")))
    });
}

#[test]
fn watches_see_what_etcdctl_sees() {
    let (beside_etcdctl, beside_urdctl) = (etcd(), etcd());
    let told = |ctl: Ctl, server: &Server| {
        let set = |key: &str, value: &str| {
            run(Ctl::Urdctl, server, &["set", key, value]).expect(0);
        };
        let watch = |arguments: &[&str]| Running::start(command(ctl, server).args(arguments));
        // With an index behind it a watch misses nothing, whenever it begins.
        set("/message", "zero");
        let mut once = watch(&["watch", "/message", "--after-index", "4"]);
        let mut below = watch(&["watch", "--recursive", "--after-index", "4", "/"]);
        let mut forever = watch(&["watch", "--forever", "--after-index", "4", "/message"]);
        set("/message", "one");
        set("/message", "two");
        let mut lines = once.lines(1);
        assert_eq!(once.wait(), Some(0));
        lines.extend(below.lines(2));
        assert_eq!(below.wait(), Some(0));
        lines.extend(forever.lines(2));
        assert_eq!(forever.interrupt(), Some(0));
        lines
    };
    let expected = told(Ctl::Etcdctl, &beside_etcdctl);
    assert_eq!(told(Ctl::Urdctl, &beside_urdctl), expected);
    assert_eq!(expected, ["one", "[set] /message", "one", "one", "two"]);
}

#[test]
fn exec_watch_runs_a_program_for_each_change() {
    let server = etcd();
    let words = [
        "exec-watch",
        "--recursive",
        "/",
        "--after-index",
        "3",
        "--",
        "sh",
        "-c",
        "echo change detected. $ETCD_WATCH_ACTION $ETCD_WATCH_KEY=$ETCD_WATCH_VALUE $ETCD_WATCH_MODIFIED_INDEX",
    ];
    let mut running = Running::start(command(Ctl::Urdctl, &server).args(words));
    run(Ctl::Urdctl, &server, &["set", "/a/b", "1"]).expect(0);
    assert_eq!(running.line(), "change detected. set /a/b=1 4");
    run(Ctl::Urdctl, &server, &["rm", "/a/b"]).expect(0);
    assert_eq!(running.line(), "change detected. delete /a/b= 5");
    assert_eq!(running.interrupt(), Some(0));
}

#[test]
fn tries_the_next_endpoint() {
    let server = etcd();
    let dead = format!("127.0.0.1:{}", crate::harness::ports::free());
    let endpoints = format!("http://{dead},http://{}", server.endpoint());
    let said = |arguments: &[&str], endpoints: &str| {
        let mut command = Ctl::Urdctl.command(&[("ETCDCTL_ENDPOINTS", endpoints)]);
        Ctl::Urdctl.run(command.args(["--api", "2"]).args(arguments), b"")
    };
    assert_eq!(said(&["set", "/a", "1"], &endpoints).expect(0), "1\n");
    assert_eq!(said(&["--no-sync", "get", "/a"], &endpoints).expect(0), "1\n");
    for (arguments, code) in
        [(&["get", "/a"][..], 2), (&["--no-sync", "get", "/a"], 4), (&["cluster-health"], 4)]
    {
        let said = said(arguments, &dead);
        assert_eq!(said.code, Some(code), "{arguments:?}: {}", said.stderr());
        assert!(
            said.stderr().contains(&format!("{dead}: connection refused")),
            "{}",
            said.stderr()
        );
    }
}
