//! `snapshot save`, and `check`.

use std::path::Path;

use super::{Ctl, urdctl};
use crate::harness::{Program, Server};

/// What etcd's tools find in a snapshot: hash, revision, keys, size. They refuse one that is not whole.
fn status(file: &Path) -> Vec<String> {
    let mut command = Ctl::Etcdctl.command(&[("ETCDCTL_API", "3")]);
    let said = Ctl::Etcdctl.run(command.args(["snapshot", "status"]).arg(file), b"");
    said.expect(0).trim_end().split(", ").map(str::to_owned).collect()
}

#[test]
fn a_snapshot_is_saved_whole() {
    // Urd has no snapshots yet.
    let server = Server::start_fresh(Program::Etcd);
    let endpoint = server.endpoint();
    urdctl(&endpoint, &["put", "a", "1"]).expect(0);
    let file = server.directory().join("snapshot.db");
    let name = file.to_str().expect("UTF-8");
    let said = urdctl(&endpoint, &["snapshot", "save", name]);
    assert_eq!(said.expect(0), format!("Snapshot saved at {name}\n"));
    // Progress is for terminals.
    assert_eq!(said.stderr(), "");
    assert_eq!(status(&file)[1], "2");
    assert!(!server.directory().join("snapshot.db.part").exists());

    let nowhere = server.directory().join("none/snapshot.db");
    let nowhere = nowhere.to_str().expect("UTF-8");
    let said = urdctl(&endpoint, &["snapshot", "save", nowhere]);
    assert_eq!(said.code, Some(5));
    assert!(said.stderr().contains("could not open"), "{}", said.stderr());
    let two = format!("{endpoint},127.0.0.1:1");
    let said = urdctl(&two, &["snapshot", "save", name]);
    assert_eq!(said.code, Some(5));
    assert!(said.stderr().contains("one selected node"), "{}", said.stderr());
}

#[test]
fn a_snapshot_that_fails_leaves_nothing() {
    let server = Server::start_fresh(Program::Etcd);
    let file = server.directory().join("snapshot.db");
    let name = file.to_str().expect("UTF-8");
    let said = urdctl("127.0.0.1:1", &["snapshot", "save", name, "--dial-timeout=100ms"]);
    assert_eq!(said.code, Some(5), "{}", said.stderr());
    assert!(!file.exists() && !server.directory().join("snapshot.db.part").exists());
}

#[test]
fn a_check_leaves_nothing_behind() {
    let server = Server::start_fresh(Program::Subject);
    let endpoint = server.endpoint();
    urdctl(&endpoint, &["put", "mine", "1"]).expect(0);
    let said = urdctl(&endpoint, &["check", "perf", "--duration=1s", "--auto-compact"]);
    // How fast this machine is, is not asked here.
    let verdict = said.stdout().lines().last().map(str::to_owned);
    let expected = if said.code == Some(0) { "PASS" } else { "FAIL" };
    assert_eq!(verdict.as_deref(), Some(expected), "{}{}", said.stdout(), said.stderr());
    for word in ["Compacted with revision", "hroughput", "equest took", "tddev"] {
        assert!(said.stdout().contains(word), "{}", said.stdout());
    }
    assert_eq!(urdctl(&endpoint, &["get", "", "--prefix"]).expect(0), "mine\n1\n");
    let puts: i64 = {
        let json = urdctl(&endpoint, &["get", "mine", "-w", "json"]).expect(0);
        let answer: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        answer["header"]["revision"].as_i64().expect("a revision")
    };
    assert!(puts > 2, "it put next to nothing: revision {puts}");
    // Keys of somebody else's are not touched.
    let said = urdctl(&endpoint, &["check", "perf", "--duration=1s", "--prefix=min"]);
    assert_eq!(said.code, Some(3));
    assert!(said.stderr().contains("prefix \"min\" has keys"), "{}", said.stderr());
    assert_eq!(urdctl(&endpoint, &["get", "mine"]).expect(0), "mine\n1\n");
}
