//! Debian's etcdctl with `ETCDCTL_API=2`: what it prints against etcd, it prints against the subject.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;

use super::pair::{ANSWER_TIMEOUT, Asked, Pair, replace_after, set};
use crate::harness::{etcdctl_path, wait_for};

/// A command a line, in the words of a shell: quotes keep spaces together. All run, one after the other.
const COMMANDS: &str = r#"
    set /message "hello, etcd"
    get /message
    -o extended get /message
    -o json get /message
    get /notexist
    set /tempkey "gone with wind" --ttl 5000
    get /tempkey
    set --swap-with-value wrong /message "hi"
    set --swap-with-value "hello, etcd" /message "hi"
    set --swap-with-index 1 /message "x"
    mk /foo bar
    mk /foo bar
    mk --in-order /queue job1
    mk --in-order /queue job2
    ls --sort /queue
    update /message "hi again"
    update /notexist x
    update --ttl 3000 /message "I'm changed"
    get /message
    rm --with-value wrong /foo
    rm --with-index 1 /foo
    rm --with-value bar /foo
    mk /foo bar
    rm /foo
    rm /foo
    mkdir /dir
    mkdir /dir
    mkdir /dir/subdir/
    setdir /other
    updatedir --ttl 4000 /other
    updatedir --ttl 4000 /none
    rm /dir
    rmdir /dir
    rm --recursive /dir
    rmdir /other
    ls /none
    ls --sort /
    ls --sort -p /
    ls --sort --recursive /
    ls --sort --recursive -p /
    -o extended ls --sort /
    get /queue
    set /queue x
    set /message/below x
    get --quorum /message
    cluster-health
    member list
    member remove x
    member remove 12345
    watch --after-index 3 /message
    watch --recursive --after-index 3 /
    -o json watch --after-index 3 /message
"#;

/// The same of users and roles.
const AUTH_COMMANDS: &str = r#"
    user list
    role list
    auth enable
    user add root:pw
    user add amy:pw
    user add amy:pw
    user get amy
    role add ra
    role add ra
    role grant ra --path /foo/* --readwrite
    role grant ra --path /ex --read
    role get ra
    role revoke ra --path /ex --read
    role get ra
    role add zeta
    role list
    user grant amy --roles ra
    user grant amy --roles ra
    user revoke amy --roles zeta
    user get amy
    user get nope
    auth enable
    auth enable
    user list
    -u root:pw user list
    -u root:pw role revoke guest --path /* --readwrite
    -u root:pw role get guest
    set /foo/a 1
    -u amy:pw set /foo/a 1
    -u amy:pw get /foo/a
    -u amy:bad get /foo/a
    -u root:pw user remove root
    -u root:pw role remove root
    -u root:pw user remove amy
    -u amy:pw get /foo/a
    -u root:pw role remove ra
    -u root:pw ls /
    auth disable
    -u root:pw auth disable
    user list
    role list
"#;

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (nth, part) in line.trim().split('"').enumerate() {
        if nth % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn etcdctl(endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(etcdctl_path());
    command
        .env("ETCDCTL_API", "2")
        .args(["--endpoints", &format!("http://{endpoint}")])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// Ports and members' ids differ from server to server.
fn comparable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let length = |rest: &str, of: fn(char) -> bool| rest.find(|c| !of(c)).unwrap_or(rest.len());
    let text = replace_after(&text, "127.0.0.1:", |rest| {
        (length(rest, |c| c.is_ascii_digit()), "PORT".to_owned())
    });
    let text =
        replace_after(&text, "member ", |rest| match length(rest, |c| c.is_ascii_hexdigit()) {
            id @ 12..=16 => (id, "ID".to_owned()),
            _ => (0, String::new()),
        });
    // Where members are listed, a line begins with the id; of remaining times only the thousands are the same.
    let lines = text.lines().map(|line| match line.split_once(": name=") {
        Some((_, rest)) => format!("ID: name={rest}"),
        None => match line.strip_prefix("TTL: ").and_then(|ttl| ttl.parse::<i64>().ok()) {
            Some(ttl) => format!("TTL: {}", (ttl + 500) / 1000 * 1000),
            None => line.to_owned(),
        },
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn printed(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), comparable(&output.stdout), comparable(&output.stderr))
}

#[test]
fn it_prints_the_same() {
    compare(COMMANDS);
}

#[test]
fn it_prints_the_same_of_users_and_roles() {
    compare(AUTH_COMMANDS);
}

fn compare(commands: &str) {
    let pair = Pair::start(&[]);
    for line in commands.lines().filter(|line| !line.trim().is_empty()) {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let run = |endpoint: &str| {
            let output = etcdctl(endpoint, &words).output().expect("run etcdctl");
            printed(&output)
        };
        assert_eq!(run(&pair.etcd), run(&pair.subject), "etcdctl {line}: etcd's, the subject's");
    }
}

#[test]
fn a_key_is_gone_when_its_time_is_over() {
    let pair = Pair::start(&[]);
    for endpoint in [&pair.etcd, &pair.subject] {
        let run = |words: &[&str]| etcdctl(endpoint, words).output().expect("run etcdctl");
        assert!(run(&["set", "/tempkey", "gone with wind", "--ttl", "1"]).status.success());
        wait_for("the key to be gone", ANSWER_TIMEOUT, || {
            let got = run(&["get", "/tempkey"]);
            let said = String::from_utf8_lossy(&got.stderr);
            said.contains("Error:  100: Key not found (/tempkey)").then_some(())
        });
        let events = run(&["watch", "--after-index", "3", "/tempkey"]);
        assert_eq!(String::from_utf8_lossy(&events.stdout), "gone with wind\n");
    }
}

/// Waits until somebody waits at an endpoint.
fn until_waiting(endpoint: &str) {
    until_watchers_are(endpoint, 1);
}

fn until_watchers_are(endpoint: &str, count: usize) {
    wait_for("those who wait for an event", ANSWER_TIMEOUT, || {
        let counted = Asked::new("GET", "/v2/stats/store").send(endpoint);
        counted.body.contains(&format!("\"watchers\":{count}}}")).then_some(())
    });
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts a command, lets `events` happen once it waits, and returns so many lines that it prints.
fn lines(endpoint: &str, words: &[&str], count: usize, events: impl Fn()) -> Vec<String> {
    let mut command = etcdctl(endpoint, words);
    let mut running = Running(command.stdout(Stdio::piped()).spawn().expect("run etcdctl"));
    until_waiting(endpoint);
    events();
    let mut output = BufReader::new(running.0.stdout.take().expect("it is piped"));
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        loop {
            let mut line = String::new();
            let read = output.read_line(&mut line).expect("read what etcdctl prints");
            if tell.send(line).is_err() || read == 0 {
                return;
            }
        }
    });
    let next = |_| told.recv_timeout(ANSWER_TIMEOUT).expect("etcdctl prints another line");
    let lines = (0..count).map(next).collect();
    drop(running);
    // Else whoever watches next would be taken to wait before it does.
    until_watchers_are(endpoint, 0);
    lines
}

#[test]
fn who_waits_is_told() {
    let pair = Pair::start(&[]);
    for endpoint in [&pair.etcd, &pair.subject] {
        let put = |key, value| drop(set(endpoint, key, value));
        assert_eq!(
            lines(endpoint, &["watch", "/message"], 2, || put("/message", "Hello world")),
            ["Hello world\n", ""]
        );
        assert_eq!(
            lines(endpoint, &["watch", "--recursive", "/"], 2, || put("/a/b", "deep")),
            ["[set] /a/b\n", "deep\n"]
        );
        let twice = || {
            put("/message", "Hello world 1");
            put("/message", "Hello world 2");
        };
        assert_eq!(
            lines(endpoint, &["watch", "--forever", "/message"], 2, twice),
            ["Hello world 1\n", "Hello world 2\n"]
        );
        let run = ["exec-watch", "--recursive", "/", "--", "sh", "-c", "echo change detected."];
        assert_eq!(lines(endpoint, &run, 2, twice), ["change detected.\n", "change detected.\n"]);
    }
}

#[test]
fn what_is_not_there_yet_is_waited_for() {
    let pair = Pair::start(&[]);
    for endpoint in [&pair.etcd, &pair.subject] {
        let mut command = etcdctl(endpoint, &["-o", "json", "watch", "/message"]);
        let mut running = Running(command.stdout(Stdio::piped()).spawn().expect("run etcdctl"));
        until_waiting(endpoint);
        set(endpoint, "/message", "x");
        let mut text = String::new();
        let mut output = running.0.stdout.take().expect("it is piped");
        output.read_to_string(&mut text).expect("read what etcdctl prints");
        assert!(text.contains("\"action\":\"set\"") && text.contains("\"value\":\"x\""), "{text}");
        assert!(running.0.wait().expect("wait for a child").success());
    }
}
