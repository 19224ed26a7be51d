//! Flags, their environment, help, and what only 3.7 has.

use std::process::Stdio;

use super::{Ctl, Said, urdctl};
use crate::harness::{Program, Server, only_urd};

fn with(variables: &[(&str, &str)], arguments: &[&str]) -> Said {
    Ctl::Urdctl.run(Ctl::Urdctl.command(variables).args(arguments), b"")
}

#[test]
fn the_environment_has_flags_too() {
    let server = Server::start_fresh(Program::Subject);
    let endpoint = server.endpoint();
    let here = ("ETCDCTL_ENDPOINTS", &endpoint[..]);
    with(&[here], &["put", "a", "1"]).expect(0);
    let json = with(&[here, ("ETCDCTL_WRITE_OUT", "json")], &["get", "a"]).expect(0);
    assert!(json.starts_with("{\"header\":"), "{json}");
    assert_eq!(with(&[here, ("ETCDCTL_HEX", "true")], &["get", "a"]).expect(0), "\\x61\n\\x31\n");
    assert_eq!(with(&[here, ("ETCDCTL_API", "3")], &["get", "a"]).expect(0), "a\n1\n");

    let both = with(&[here, ("ETCDCTL_WRITE_OUT", "json")], &["get", "a", "-w", "fields"]);
    assert_eq!(both.code, Some(1));
    let text = "conflicting environment variable \"ETCDCTL_WRITE_OUT\" is shadowed by corresponding command-line flag";
    assert!(both.stderr().contains(text), "{}", both.stderr());

    let unknown = with(&[here, ("ETCDCTL_FOO", "bar")], &["get", "a"]);
    assert_eq!(unknown.expect(0), "a\n1\n");
    assert_eq!(unknown.stderr(), "warning: unrecognized environment variable ETCDCTL_FOO=bar\n");
    for (name, value) in [("ETCDCTL_COMMAND_TIMEOUT", "soon"), ("ETCDCTL_API", "4")] {
        let wrong = with(&[here, (name, value)], &["get", "a"]);
        assert_eq!(wrong.code, Some(1), "{name}");
        assert!(wrong.stderr().contains(value), "{}", wrong.stderr());
    }
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    for (arguments, why) in [
        (&["--cacert=/x"][..], "no TLS yet"),
        (&["--cert=/x"], "no TLS yet"),
        (&["--key=/x"], "no TLS yet"),
        (&["--insecure-transport=false"], "no TLS yet"),
        (&["--insecure-skip-tls-verify"], "no TLS yet"),
        (&["--discovery-srv=example.com"], "DNS"),
        (&["--endpoints=https://127.0.0.1:1"], "no TLS yet"),
        (&["--endpoints=unix:///x"], "TCP only"),
        (&["--cert="], "empty string is passed to --cert option"),
    ] {
        let said = with(&[], &[&["get", "a"], arguments].concat());
        assert_eq!(said.code, Some(128), "{arguments:?}: {}", said.stderr());
        assert!(said.stderr().contains(why), "{arguments:?}: {}", said.stderr());
    }
    let said = with(&[("ETCDCTL_CACERT", "/x")], &["get", "a"]);
    assert_eq!(said.code, Some(128));
    for (variables, arguments) in [
        (&[("ETCDCTL_API", "2")][..], &["--cert-file=/x", "get", "a"][..]),
        (&[("ETCDCTL_API", "2"), ("ETCDCTL_CA_FILE", "/x")], &["get", "a"]),
    ] {
        let said = with(variables, arguments);
        assert_eq!(said.code, Some(1));
        assert!(said.stderr().contains("no TLS yet"), "{}", said.stderr());
    }
}

/// The names below `Commands:` of a help text.
fn commands_of(help: &str) -> Vec<String> {
    let list = help.split("Commands:\n").nth(1).unwrap_or_default();
    list.lines()
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Asks every command for help. The answer is how many there are.
fn every_command_has_help(api: &str) -> usize {
    let help =
        |words: &[&str]| with(&[("ETCDCTL_API", api)], &[words, &["--help"]].concat()).expect(0);
    let mut count = 0;
    for command in commands_of(&help(&[])) {
        let text = help(&[&command]);
        assert!(text.contains("Usage: urdctl "), "{command}: {text}");
        assert!(text.contains("--endpoints <"), "{command}: {text}");
        count += 1;
        for inner in commands_of(&text) {
            let text = help(&[&command, &inner]);
            assert!(text.contains("Usage: urdctl "), "{command} {inner}: {text}");
            count += 1;
        }
    }
    count
}

#[test]
fn every_command_of_both_apis_has_help() {
    // etcdctl 3.7 has 24 commands, some with commands of their own; 3.4 has 17 of v2, without `backup`.
    assert!(every_command_has_help("3") >= 50);
    assert!(every_command_has_help("2") >= 34);
    let options = with(&[], &["options"]).expect(0);
    assert!(options.contains("--command-timeout <TIME>"), "{options}");
    // A group without its command shows what there is.
    assert!(with(&[], &["lease"]).expect(0).contains("keep-alive"));
}

#[test]
fn says_what_would_be_right() {
    let said = with(&[], &["no-such-command"]);
    assert_eq!(said.code, Some(1));
    assert!(said.stderr().starts_with("Error: unrecognized subcommand"), "{}", said.stderr());
    let said = with(&[], &["get", "a", "-w", "nonsense"]);
    assert_eq!(said.code, Some(4));
    assert!(
        said.stderr().contains("fields, json, protobuf, simple and table"),
        "{}",
        said.stderr()
    );
    let said = with(&[], &["get", "a", "--prefx"]);
    assert_eq!(said.code, Some(1));
    assert!(said.stderr().contains("--prefix"), "{}", said.stderr());
}

#[test]
fn shells_can_complete_it() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = with(&[], &["completion", shell]).expect(0);
        for word in ["urdctl", "timetolive", "command-timeout"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
        if shell == "bash" {
            let mut bash = std::process::Command::new("bash");
            bash.arg("-n").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            Ctl::Urdctl.run(&mut bash, script.as_bytes()).expect(0);
        }
    }
    assert_eq!(with(&[], &["completion", "tcsh"]).code, Some(1));
    assert_eq!(
        with(&[], &["version"]).expect(0),
        format!("urdctl version: {}\nAPI version: 3.7\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn has_what_is_new_in_3_7() {
    let server = Server::start_fresh(Program::Subject);
    let endpoint = server.endpoint();
    let said = |arguments: &[&str]| urdctl(&endpoint, arguments);
    for key in ["a", "b", "c"] {
        said(&["put", key, "v"]).expect(0);
    }
    let count = said(&["get", "a", "z", "--count-only", "-w", "fields"]).expect(0);
    assert!(count.ends_with("\"More\" : false\n\"Count\" : 3\n"), "{count}");
    assert_eq!(said(&["get", "a", "--count-only"]).code, Some(128));
    assert_eq!(said(&["get", "a", "--count-only", "--keys-only"]).code, Some(128));
    let keys = ["get", "a", "z", "--keys-only"];
    let narrowed = |flag: &str| said(&[&keys[..], &[flag]].concat()).expect(0).replace('\n', "");
    assert_eq!(narrowed("--min-mod-rev=3"), "bc");
    assert_eq!(narrowed("--max-mod-rev=3"), "ab");
    assert_eq!(narrowed("--min-create-rev=4"), "c");
    assert_eq!(narrowed("--max-create-rev=2"), "a");
    assert_eq!(said(&["get", "a", "--min-mod-rev=5", "--max-mod-rev=4"]).code, Some(4));
    // Any beginning of a name that is no other's.
    assert_eq!(said(&["comp", "2"]).expect(1), "");
    assert_eq!(said(&["compa", "2"]).expect(0), "compacted revision 2\n");
    assert_eq!(said(&["member", "list", "--consistency=x"]).code, Some(4));
    assert_eq!(said(&["del", "a", "b", "--range"]).expect(0), "1\n");
    let slow = said(&["del", "b", "c"]);
    assert_eq!(slow.expect(0), "1\n");
    assert!(
        slow.stderr().contains("Keys between \"b\" and \"c\" will be deleted"),
        "{}",
        slow.stderr()
    );
    let hash = said(&["endpoint", "hashkv"]).expect(0);
    assert_eq!(hash.trim_end().split(", ").count(), 3, "{hash}");
    assert!(hash.ends_with(", 6\n") || only_urd("etcd 3.4 has no hash revision"), "{hash}");
    let status = said(&["endpoint", "status"]).expect(0);
    assert_eq!(status.trim_end_matches('\n').split(", ").count(), 16, "{status}");
    let table = said(&["endpoint", "hashkv", "-w", "table"]).expect(0);
    assert!(table.contains("| HASH REVISION |"), "{table}");
}

#[test]
fn reads_a_range_as_a_stream() {
    if only_urd("etcd 3.4 has no RangeStream") {
        return;
    }
    let server = Server::start_fresh(Program::Subject);
    let endpoint = server.endpoint();
    for number in 0..30 {
        urdctl(&endpoint, &["put", &format!("k/{number:02}"), "v"]).expect(0);
    }
    let whole = ["get", "k/", "--prefix", "-w", "json"];
    let stream = urdctl(&endpoint, &[&whole[..], &["--stream"]].concat()).expect(0);
    assert_eq!(stream, urdctl(&endpoint, &whole).expect(0));
}
