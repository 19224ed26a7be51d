//! etcdctl, as users run it: every line of `etcdctl.script` against etcd and against the subject, outputs compared.
//!
//! Both servers start empty and see the same commands, so everything must be equal but what belongs to the run: ids,
//! sizes, ports, raft's terms and indexes, version numbers, times (`normalise.rs` lists them). Hashes of the key space
//! (`endpoint hashkv`) are compared to the bit. `URD_TEST_SHOW=1` with `--nocapture` prints what etcd answers, for whoever
//! adds a line to the script.

pub(crate) mod normalise;
pub(crate) mod script;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{Program, Server, etcdctl_path, wait_for};
use script::Step;

/// Differences shown before the report ends: a wrong revision early makes every later line differ.
const DIFFERENCES_SHOWN: usize = 12;
/// The least number of command lines that the script must hold.
const COMMANDS_MIN: usize = 120;
/// How long one command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

#[test]
fn prints_the_same_against_etcd_and_the_subject() {
    let steps = script::parse(include_str!("etcdctl.script"));
    assert!(steps.len() >= COMMANDS_MIN, "only {} commands in the script", steps.len());
    let mut etcd = Server::start_fresh(Program::Etcd);
    let mut subject = Server::start_fresh(Program::Subject);
    let (mut etcd_leases, mut subject_leases) = (Vec::new(), Vec::new());
    let mut differences = Vec::new();
    let show = std::env::var_os("URD_TEST_SHOW").is_some();
    for step in &steps {
        let (expected, found) = std::thread::scope(|scope| {
            let expected = scope.spawn(|| run(step, &etcd, &mut etcd_leases));
            let found = run(step, &subject, &mut subject_leases);
            (expected.join().expect("the thread that runs etcdctl against etcd"), found)
        });
        if show {
            println!("etcdctl {}\n{expected:#?}", step.text);
        }
        if expected != found {
            differences.push(difference(step, &expected, &found));
        }
        if differences.len() == DIFFERENCES_SHOWN {
            break;
        }
    }
    etcd.assert_running("after the script");
    subject.assert_running("after the script");
    println!("{} commands compared", steps.len());
    assert!(
        differences.is_empty(),
        "etcdctl printed something else against the subject, {} time(s) at least:\n\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// What one command did, normalised.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    exit_code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs a command. `leases` are the ids that the server has granted so far.
fn run(step: &Step, server: &Server, leases: &mut Vec<u64>) -> Outcome {
    let step = &step.with_leases(leases);
    let mut command = Command::new(etcdctl_path());
    command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", server.endpoint());
    command.args(step.arguments());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let input = step.input.clone();
    // Writing in a thread: a large input must not wait for a command that reads none of it. A broken pipe says just
    // that, and is the command's right.
    let writer = std::thread::spawn(move || stdin.write_all(&input).ok());
    let pid = child.id();
    let waiter = std::thread::spawn(move || child.wait_with_output());
    wait_for(&format!("`etcdctl {}` (process {pid})", step.text), COMMAND_TIMEOUT, || {
        waiter.is_finished().then_some(())
    });
    writer.join().expect("the thread that writes standard input");
    let output = waiter.join().expect("the thread that waits").expect("wait for a child");
    let (endpoint, peer_endpoint) = (server.endpoint(), server.peer_endpoint());
    leases.extend(normalise::granted(&output.stdout));
    let context = normalise::Context::new(step, &endpoint, &peer_endpoint, leases);
    Outcome {
        exit_code: output.status.code(),
        stdout: context.stdout(&output.stdout),
        stderr: context.stderr(&output.stderr),
    }
}

fn difference(step: &Step, expected: &Outcome, found: &Outcome) -> String {
    let mut text =
        format!("etcdctl.script:{}, {}:\n  etcdctl {}\n", step.line, step.section, step.text);
    if expected.exit_code != found.exit_code {
        text +=
            &format!("  exit code: etcd {:?}, subject {:?}\n", expected.exit_code, found.exit_code);
    }
    text += &lines_that_differ("stdout", &expected.stdout, &found.stdout);
    text += &lines_that_differ("stderr", &expected.stderr, &found.stderr);
    text
}

/// The lines between the common beginning and the common end: `-` as etcd has them, `+` as the subject does.
fn lines_that_differ(name: &str, expected: &str, found: &str) -> String {
    const LINES_SHOWN: usize = 12;
    if expected == found {
        return String::new();
    }
    let (expected, found): (Vec<&str>, Vec<&str>) =
        (expected.lines().collect(), found.lines().collect());
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = expected.iter().zip(&found).take_while(same).count();
    let rest = expected.len().min(found.len()) - head;
    let tail = expected.iter().rev().zip(found.iter().rev()).take(rest).take_while(same).count();
    let mut text = format!("  {name}, from line {}:\n", head + 1);
    for (sign, lines) in [("-", &expected), ("+", &found)] {
        let middle = lines.get(head..lines.len() - tail).unwrap_or_default();
        for line in middle.iter().take(LINES_SHOWN) {
            text += &format!("    {sign} {}\n", clip(line));
        }
        if middle.len() > LINES_SHOWN {
            text += &format!("    {sign} ... and {} more lines\n", middle.len() - LINES_SHOWN);
        }
    }
    text
}

fn clip(line: &str) -> String {
    const CHARACTERS: usize = 400;
    let mut text: String = line.chars().take(CHARACTERS).collect();
    if line.chars().count() > CHARACTERS {
        text += "...";
    }
    text
}
