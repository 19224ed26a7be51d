//! Commands that go on: `watch`, `lock`, `elect`, `lease keep-alive`, `make-mirror`.

use super::{Ctl, Running, urdctl};
use crate::harness::{Program, SETTLE_TIMEOUT, Server, wait_for};

fn subject() -> (Server, String) {
    let server = Server::start_fresh(Program::Subject);
    let endpoint = server.endpoint();
    (server, endpoint)
}

#[test]
fn watch_reads_its_watches_from_standard_input() {
    let (_server, endpoint) = subject();
    urdctl(&endpoint, &["put", "a", "1"]).expect(0);
    let mut watch = Running::urdctl(&endpoint, &["watch", "-i"]);
    watch.type_line("nonsense");
    watch.complaint("Invalid command nonsense (only support watch)");
    watch.type_line("watch a --rev=2");
    assert_eq!(watch.lines(3), ["PUT", "a", "1"]);
    watch.type_line("watch \"b c\" --prev-kv --rev=2 -- sh -c \"echo ran for $ETCD_WATCH_KEY\"");
    watch.type_line("progress");
    assert_eq!(watch.line(), "progress notify: 2");
    urdctl(&endpoint, &["put", "b c", "2"]).expect(0);
    // The first watch may say how far it is, too; the second one's event comes with its program.
    let lines: Vec<String> = std::iter::repeat_with(|| watch.line())
        .filter(|line| !line.starts_with("progress notify"))
        .take(4)
        .collect();
    assert_eq!(lines, ["PUT", "b c", "2", "ran for \"b c\""]);
    drop(watch.child.stdin.take());
    assert_eq!(watch.wait(), Some(3));
}

#[test]
fn watch_takes_its_key_from_the_environment() {
    let (_server, endpoint) = subject();
    urdctl(&endpoint, &["put", "b", "1"]).expect(0);
    let command = |key: &str, end: &str| {
        Ctl::Urdctl.command(&[
            ("ETCDCTL_ENDPOINTS", &endpoint),
            ("ETCDCTL_WATCH_KEY", key),
            ("ETCDCTL_WATCH_RANGE_END", end),
        ])
    };
    let watch = Running::start(command("a", "c").args(["watch", "--rev=1"]));
    assert_eq!(watch.lines(3), ["PUT", "b", "1"]);
    let run = |key: &str, end: &str, arguments: &[&str]| {
        Ctl::Urdctl.run(command(key, end).args(arguments), b"").code
    };
    assert_eq!(run("a", "", &["watch", "b"]), Some(128));
    assert_eq!(run("", "c", &["watch", "b"]), Some(128));
    assert_eq!(run("b", "", &["watch", "--rev=1", "--", "sh", "-c", "exit 9"]), Some(1));
}

#[test]
fn a_lock_is_held_by_one() {
    let (_server, endpoint) = subject();
    let mut first = Running::urdctl(&endpoint, &["lock", "name"]);
    let key = first.line();
    assert!(key.starts_with("name/"), "{key}");
    assert_eq!(first.line(), "");
    let mut second = Running::urdctl(&endpoint, &["lock", "name"]);
    let waiting = || urdctl(&endpoint, &["get", "name/", "--prefix", "--keys-only"]).expect(0);
    wait_for("the second to stand in the queue", SETTLE_TIMEOUT, || {
        (waiting().split_whitespace().count() == 2).then_some(())
    });
    // etcdctl's lock and ours wait for each other.
    let mut third = Running::start(
        Ctl::Etcdctl
            .command(&[("ETCDCTL_API", "3"), ("ETCDCTL_ENDPOINTS", &endpoint)])
            .args(["lock", "name"]),
    );
    wait_for("the third to stand in the queue", SETTLE_TIMEOUT, || {
        (waiting().split_whitespace().count() == 3).then_some(())
    });
    assert!(second.lines.try_recv().is_err(), "two hold one lock");
    assert_eq!(first.interrupt(), Some(0));
    let next = second.line();
    assert!(next.starts_with("name/") && next != key, "{next}");
    assert_eq!(second.line(), "");
    assert!(third.lines.try_recv().is_err(), "two hold one lock");
    assert_eq!(second.interrupt(), Some(0));
    assert!(third.line().starts_with("name/"));
    third.interrupt();
}

#[test]
fn a_lock_is_held_while_a_program_runs() {
    let (_server, endpoint) = subject();
    let words = ["lock", "name", "--", "sh", "-c", "echo $ETCD_LOCK_KEY $ETCD_LOCK_REV; exit 7"];
    let said = urdctl(&endpoint, &words);
    let line = said.expect(7);
    let (key, revision) = line.trim_end().split_once(' ').expect("two words");
    assert!(key.starts_with("name/"), "{line}");
    assert_eq!(revision, "2");
    assert_eq!(said.stderr(), "Error: exit status 7\n");
    assert_eq!(urdctl(&endpoint, &["get", "name/", "--prefix"]).expect(0), "");
    // Nothing is left behind.
    assert_eq!(urdctl(&endpoint, &["lease", "list"]).expect(0), "found 0 leases\n");
    let said = urdctl(&endpoint, &["lock", "name", "no-such-program"]);
    said.expect(1);
    assert!(said.stderr().contains("executable file not found in $PATH"), "{}", said.stderr());
}

#[test]
fn an_election_has_one_leader() {
    let (_server, endpoint) = subject();
    let listener = Running::urdctl(&endpoint, &["elect", "-l", "office"]);
    let mut first = Running::urdctl(&endpoint, &["elect", "office", "first"]);
    let key = first.line();
    assert!(key.starts_with("office/"), "{key}");
    assert_eq!(first.line(), "first");
    assert_eq!(listener.lines(2), [&key[..], "first"]);
    let mut second = Running::urdctl(&endpoint, &["elect", "office", "second"]);
    let keys = || urdctl(&endpoint, &["get", "office/", "--prefix", "--keys-only"]).expect(0);
    wait_for("the second to stand in the queue", SETTLE_TIMEOUT, || {
        (keys().split_whitespace().count() == 2).then_some(())
    });
    assert!(second.lines.try_recv().is_err(), "two are elected");
    assert_eq!(first.interrupt(), Some(0));
    let next = second.line();
    assert_eq!(second.line(), "second");
    assert_eq!(listener.lines(2), [&next[..], "second"]);
    assert_eq!(second.interrupt(), Some(0));
}

#[test]
fn whoever_waits_in_vain_leaves_the_queue() {
    let (_server, endpoint) = subject();
    let mut first = Running::urdctl(&endpoint, &["lock", "name"]);
    first.lines(2);
    let mut second = Running::urdctl(&endpoint, &["lock", "name"]);
    let keys = || urdctl(&endpoint, &["get", "name/", "--prefix", "--keys-only"]).expect(0);
    let queue = |length: usize| {
        wait_for("the queue's length", SETTLE_TIMEOUT, || {
            (keys().split_whitespace().count() == length).then_some(())
        });
    };
    queue(2);
    assert_eq!(second.interrupt(), Some(1));
    second.complaint("context canceled");
    queue(1);
    assert_eq!(first.interrupt(), Some(0));
}

#[test]
fn a_lease_is_kept_alive() {
    let (_server, endpoint) = subject();
    let granted = urdctl(&endpoint, &["lease", "grant", "6"]).expect(0);
    let lease = granted.split_whitespace().nth(1).expect("an id").to_owned();
    let mut keeping = Running::urdctl(&endpoint, &["lease", "keep-alive", &lease]);
    let kept = format!("lease {lease} keepalived with TTL(6)");
    assert_eq!(keeping.lines(2), [&kept[..], &kept]);
    urdctl(&endpoint, &["lease", "revoke", &lease]).expect(0);
    let end = std::iter::repeat_with(|| keeping.line()).find(|line| *line != kept);
    assert_eq!(end.as_deref(), Some(&format!("lease {lease} expired or revoked.")[..]));
    assert_eq!(keeping.wait(), Some(0));
}

#[test]
fn a_mirror_follows() {
    let (_source, from) = subject();
    let (_destination, to) = subject();
    urdctl(&from, &["put", "a/1", "one"]).expect(0);
    urdctl(&from, &["put", "a/2", "two"]).expect(0);
    urdctl(&from, &["put", "b", "other"]).expect(0);
    let mirror =
        Running::urdctl(&from, &["make-mirror", &to, "--prefix=a/", "--dest-prefix=copy/"]);
    let expect = |pairs: &str| {
        wait_for(&format!("{pairs:?} at the destination"), SETTLE_TIMEOUT, || {
            (urdctl(&to, &["get", "", "--prefix"]).expect(0) == pairs).then_some(())
        });
    };
    expect("copy/1\none\ncopy/2\ntwo\n");
    let mut txn = Ctl::Urdctl.command(&[("ETCDCTL_ENDPOINTS", &from)]);
    let lines = b"\nput a/1 eins\ndel a/2\nput a/3 drei\n\n\n";
    Ctl::Urdctl.run(txn.arg("txn"), lines).expect(0);
    expect("copy/1\neins\ncopy/3\ndrei\n");
    // What one transaction changed is changed by one here, too.
    let both = urdctl(&to, &["get", "", "--prefix", "-w", "json"]).expect(0);
    let answer: serde_json::Value = serde_json::from_str(&both).expect("JSON");
    assert_eq!(answer["kvs"][0]["mod_revision"], answer["kvs"][1]["mod_revision"]);
    urdctl(&from, &["del", "a/", "--prefix"]).expect(0);
    expect("");
    drop(mirror);
    for (arguments, code) in [
        (&["make-mirror"][..], 128),
        (&["make-mirror", &to, "--dest-prefix=x", "--no-dest-prefix"], 128),
        (&["make-mirror", &to, "--dest-cert=x"], 128),
    ] {
        assert_eq!(urdctl(&from, arguments).code, Some(code), "{arguments:?}");
    }
}

#[test]
fn a_paused_server_is_named_when_the_time_is_over() {
    let (server, endpoint) = subject();
    urdctl(&endpoint, &["put", "a", "1"]).expect(0);
    server.signal(rustix::process::Signal::STOP);
    let said = urdctl(&endpoint, &["put", "a", "2", "--command-timeout=500ms"]);
    server.signal(rustix::process::Signal::CONT);
    assert_eq!(said.code, Some(1));
    for word in ["context deadline exceeded", &endpoint, "within 500ms", "not known whether"] {
        assert!(said.stderr().contains(word), "{}", said.stderr());
    }
}
