//! etcdctl and urdctl side by side: each line of `etcdctl.script` and of `lockstep.script` runs with both, each against a
//! server of its own of the same kind, empty at the beginning. Standard output and exit code must be equal, byte by byte.
//!
//! Both servers advertise the same peer URL, so the ids of cluster and member are the same, and with them every header.
//! What is not: the ids of leases (each becomes its name), client ports, times, and the size and raft index of `endpoint
//! status`.
//!
//! Debian's etcdctl is 3.4, and urdctl follows 3.7. Where those differ, [`as_3_7_prints_it`] rewrites what 3.4 printed, a
//! case each; nothing else is forgiven.

use super::{Ctl, Said};
use crate::etcdctl::normalise::{Context, granted};
use crate::etcdctl::script::{self, Step};
use crate::harness::{Launch, Program, Server};

const DIFFERENCES_SHOWN: usize = 12;
/// The least number of command lines of a script.
const COMMANDS_MIN: usize = 130;
const PEER_URL: &str = "http://127.0.0.1:1";

#[test]
fn prints_the_same_as_etcdctl_against_etcd() {
    compare(Program::Etcd, include_str!("../etcdctl/etcdctl.script"));
}

#[test]
fn prints_the_same_as_etcdctl_against_the_subject() {
    compare(Program::Subject, include_str!("../etcdctl/etcdctl.script"));
}

#[test]
fn prints_the_same_of_watches_and_users_against_etcd() {
    compare(Program::Etcd, include_str!("lockstep.script"));
}

#[test]
fn prints_the_same_of_watches_and_users_against_the_subject() {
    compare(Program::Subject, include_str!("lockstep.script"));
}

/// One client with its server.
struct Side {
    ctl: Ctl,
    server: Server,
    leases: Vec<u64>,
}

impl Side {
    fn start(ctl: Ctl, program: Program) -> Side {
        let launch = Launch::new(program).advertised_peer_url(PEER_URL);
        Side { ctl, server: launch.start(), leases: Vec::new() }
    }

    fn run(&mut self, step: &Step) -> Said {
        let step = &step.with_leases(&self.leases);
        let endpoint = self.server.endpoint();
        let mut command =
            self.ctl.command(&[("ETCDCTL_API", "3"), ("ETCDCTL_ENDPOINTS", &endpoint)]);
        command.args(step.arguments());
        // etcdctl 3.7 waits two seconds before it deletes a range, unless it is told so; 3.4 neither waits nor knows the flag.
        let is_range =
            step.has("del") && step.words.iter().filter(|word| !word.starts_with(b"-")).count() > 2;
        if self.ctl == Ctl::Urdctl && is_range {
            command.arg("--range");
        }
        let said = self.ctl.run(&mut command, &step.input);
        self.leases.extend(granted(&said.stdout));
        said
    }

    /// What it printed, without what belongs to this side.
    fn comparable(&self, step: &Step, said: &Said) -> (Option<i32>, Vec<u8>) {
        let step = step.with_leases(&self.leases);
        let said = match self.ctl {
            Ctl::Etcdctl => as_3_7_prints_it(&step, said),
            Ctl::Urdctl => said.clone(),
        };
        let endpoint = self.server.endpoint();
        if is_of_this_run(&step) {
            let text = without_what_3_4_lacks(&step, &said.stdout());
            let peer = self.server.peer_endpoint();
            let context = Context::new(&step, &endpoint, &peer, &self.leases);
            return (said.code, context.stdout(text.as_bytes()).into_bytes());
        }
        let mut bytes = replace(&said.stdout, endpoint.as_bytes(), b"ENDPOINT");
        for (nth, lease) in self.leases.iter().enumerate().rev() {
            let name = format!("LEASE{}", nth + 1).into_bytes();
            bytes = replace(&bytes, format!("{lease:016x}").as_bytes(), &name);
            bytes = replace(&bytes, lease.to_string().as_bytes(), &name);
        }
        (said.code, if step.has("timetolive") { steady(&bytes) } else { bytes })
    }
}

/// What prints times, sizes or raft's indexes, or ids that depend on the time.
fn is_of_this_run(step: &Step) -> bool {
    let is_one_that_prints_them = step.has("status") || step.has("health") || step.has("defrag");
    is_one_that_prints_them && !step.has("protobuf")
}

/// What etcdctl 3.7 prints where 3.4 printed `said`.
fn as_3_7_prints_it(step: &Step, said: &Said) -> Said {
    let mut said = said.clone();
    // How to use a command is said on standard error.
    if said.code == Some(1) && said.stdout.starts_with(b"NAME:\n") {
        said.stdout.clear();
    }
    // That an endpoint is healthy is said on standard output.
    if step.has("health") && said.stdout.is_empty() {
        let healthy = said
            .stderr()
            .lines()
            .filter(|line| line.contains(" is healthy: "))
            .map(|line| format!("{line}\n"))
            .collect::<String>();
        said.stdout = healthy.into_bytes();
    }
    // With the time it took.
    if step.has("defrag") && said.code == Some(0) {
        said.stdout = said
            .stdout()
            .lines()
            .map(|line| format!("{line}. took 1s\n"))
            .collect::<String>()
            .into_bytes();
    }
    // The messages of a transaction's answer have their names of the `.proto` file.
    if step.has("txn") && step.has("json") {
        let names = [
            ("ResponseRange", "response_range"),
            ("ResponsePut", "response_put"),
            ("ResponseDeleteRange", "response_delete_range"),
        ];
        for (name, name_3_7) in names {
            said.stdout = replace(
                &said.stdout,
                format!("\"{name}\":").as_bytes(),
                format!("\"{name_3_7}\":").as_bytes(),
            );
        }
    }
    // A revision that means nothing is left out.
    if step.has("fields") {
        said.stdout = replace(&said.stdout, b"\"Revision\" : 0\n", b"");
    }
    // Ids in hexadecimal.
    if step.has("--hex") && step.has("member") && step.has("json") {
        said.stdout = hex_ids(&said.stdout()).into_bytes();
    }
    said
}

/// `"ID":123` and the header's ids as 3.7 prints them with `--hex`.
fn hex_ids(text: &str) -> String {
    let mut out = text.to_owned();
    for key in ["\"cluster_id\":", "\"member_id\":", "\"ID\":"] {
        let parts: Vec<&str> = out.split(key).collect();
        let mut rewritten = parts.first().map(|part| (*part).to_owned()).unwrap_or_default();
        for part in parts.iter().skip(1) {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            let id: u64 = digits.parse().expect("an id is a number");
            let rest = part.get(digits.len()..).unwrap_or_default();
            rewritten += &format!("{key}\"{id:x}\"{rest}");
        }
        out = rewritten;
    }
    out
}

/// `endpoint status` of 3.7 has columns and fields more than that of 3.4: without them.
fn without_what_3_4_lacks(step: &Step, text: &str) -> String {
    if !step.has("status") {
        return text.to_owned();
    }
    const CELLS_3_7: usize = 16;
    const KEPT: [usize; 10] = [0, 1, 2, 4, 8, 9, 10, 11, 12, 13];
    let keep = |cells: &[&str]| -> Vec<String> {
        KEPT.iter().filter_map(|at| cells.get(*at)).map(|cell| (*cell).to_owned()).collect()
    };
    let line = |line: &str| -> Option<String> {
        if step.has("json") {
            return Some(without_new_members(line));
        }
        let name = line.split(" : ").next().unwrap_or_default().trim_matches('"');
        if [
            "StorageVersion",
            "DBSizeInUse",
            "DBSizeQuota",
            "DowngradeTargetVersion",
            "DowngradeEnabled",
            "RaftTerm",
        ]
        .contains(&name)
        {
            return None;
        }
        if let Some(row) = line.strip_prefix('|') {
            let cells: Vec<&str> = row.trim_end_matches('|').split('|').collect();
            return Some(if cells.len() == CELLS_3_7 {
                format!("|{}|", keep(&cells).join("|"))
            } else {
                line.to_owned()
            });
        }
        if line.starts_with("+-") {
            return Some("+-".to_owned());
        }
        let cells: Vec<&str> = line.split(", ").collect();
        Some(if cells.len() == CELLS_3_7 { keep(&cells).join(", ") } else { line.to_owned() })
    };
    text.split('\n').filter_map(line).collect::<Vec<_>>().join("\n")
}

/// The JSON of `endpoint status` without the members that only 3.7 has.
fn without_new_members(line: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<serde_json::Value>(line) else {
        return line.to_owned();
    };
    for endpoint in value.as_array_mut().into_iter().flatten() {
        if let Some(status) = endpoint["Status"].as_object_mut() {
            for name in ["storageVersion", "dbSizeQuota", "downgradeInfo"] {
                status.remove(name);
            }
        }
    }
    value.to_string()
}

/// `lease timetolive` with the time that is left set to 0, and its keys sorted: etcd gives them in the order of a map.
fn steady(bytes: &[u8]) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    for mark in ["remaining(", "\"ttl\":", "\"TTL\" : "] {
        if let Some((before, after)) = text.split_once(mark) {
            let rest = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
            text = format!("{before}{mark}0{rest}");
        }
    }
    for (mark, gap) in [("attached keys([", " "), ("\"keys\":[", ",")] {
        if let Some((before, after)) = text.split_once(mark) {
            let (keys, rest) = after.split_once(']').expect("the list ends");
            let mut keys: Vec<&str> = keys.split(gap).collect();
            keys.sort_unstable();
            text = format!("{before}{mark}{}]{rest}", keys.join(gap));
        }
    }
    text.into_bytes()
}

fn replace(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(old.len()).position(|window| window == old) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(new);
        rest = &rest[at + old.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// Lines of which 3.7 says something else altogether; tests of their own look at them.
fn is_skipped(step: &Step) -> bool {
    let names_itself = step.has("version");
    // 3.7 has the flag, and shows a hash's revision.
    let is_new = step.has("--count-only") || step.has("hashkv");
    // 3.4 dies on an answer without a header.
    let breaks_3_4 = step.has("alarm") && step.has("fields");
    names_itself || is_new || breaks_3_4
}

/// The id of a new member is made from the time, too: both become `NEW`.
#[test]
fn changes_of_the_membership_are_printed_the_same() {
    for program in [Program::Etcd, Program::Subject] {
        let changes = |ctl: Ctl| {
            let server = Launch::new(program).advertised_peer_url(PEER_URL).start();
            let endpoint = server.endpoint();
            let run = |arguments: &[&str]| {
                let variables = [("ETCDCTL_API", "3"), ("ETCDCTL_ENDPOINTS", &endpoint)];
                ctl.run(ctl.command(&variables).args(arguments), b"")
            };
            let url = "--peer-urls=http://127.0.0.1:2,http://127.0.0.1:3";
            let added = run(&["member", "add", "new", url, "--learner"]);
            let text = added.expect(0);
            let id = text.split_whitespace().nth(1).expect("an id").to_owned();
            let decimal = u64::from_str_radix(&id, 16).expect("in hexadecimal").to_string();
            let rest = [
                run(&["member", "list"]),
                run(&["member", "update", &id, "--peer-urls=http://127.0.0.1:4"]),
                run(&["member", "list", "-w", "fields"]),
                run(&["member", "promote", &id]),
                run(&["member", "remove", &id, "-w", "json"]),
                run(&["member", "list", "-w", "json"]),
            ];
            let comparable = |said: Said| {
                let text = said.stdout().replace(&endpoint, "ENDPOINT");
                let text = text.replace(&id, "NEW").replace(&decimal, "NEW");
                // 3.7 says what the new member is, and leaves out a revision that means nothing.
                let text = text.replace(" added to cluster", " added as learner to cluster");
                let text = text.replace("\"Revision\" : 0\n", "");
                // Members are in the order of their ids, of which one is new: in lists, and in the new one's settings.
                let mut parts: Vec<String> =
                    text.split(['\n', ',', '"']).map(str::to_owned).collect();
                parts.sort_unstable();
                (said.code, parts)
            };
            [added].into_iter().chain(rest).map(comparable).collect::<Vec<_>>()
        };
        assert_eq!(changes(Ctl::Urdctl), changes(Ctl::Etcdctl), "{program:?}");
    }
}

fn compare(program: Program, script: &str) {
    let steps = script::parse(script).into_iter().filter(|step| !is_skipped(step));
    let steps: Vec<Step> = steps.collect();
    assert!(steps.len() >= COMMANDS_MIN, "only {} commands", steps.len());
    let mut etcdctl = Side::start(Ctl::Etcdctl, program);
    let mut urdctl = Side::start(Ctl::Urdctl, program);
    let mut differences = Vec::new();
    for step in &steps {
        let (expected, found) = std::thread::scope(|scope| {
            let expected = scope.spawn(|| etcdctl.run(step));
            let found = urdctl.run(step);
            (expected.join().expect("the thread that runs etcdctl"), found)
        });
        if etcdctl.comparable(step, &expected) != urdctl.comparable(step, &found) {
            differences.push(difference(step, &expected, &found));
        }
        if differences.len() == DIFFERENCES_SHOWN {
            break;
        }
    }
    etcdctl.server.assert_running("after the script");
    urdctl.server.assert_running("after the script");
    println!("{} commands compared", steps.len());
    assert!(
        differences.is_empty(),
        "urdctl printed something else than etcdctl, {} time(s) at least:\n\n{}",
        differences.len(),
        differences.join("\n")
    );
}

fn difference(step: &Step, expected: &Said, found: &Said) -> String {
    let side = |name: &str, said: &Said| {
        let clip = |bytes: &[u8]| -> String {
            String::from_utf8_lossy(bytes)
                .chars()
                .take(900)
                .collect::<String>()
                .replace('\n', "\n    | ")
        };
        format!(
            "  {name}, exit code {:?}:\n    | {}\n  and on standard error:\n    | {}\n",
            said.code,
            clip(&said.stdout),
            clip(&said.stderr)
        )
    };
    format!(
        "line {}, {}: {}\n{}{}",
        step.line,
        step.section,
        step.text,
        side("etcdctl", expected),
        side("urdctl", found)
    )
}
