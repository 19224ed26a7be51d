//! `urdctl`, as users run it: beside etcdctl, and where things fail.
//!
//! | module | asks |
//! |---|---|
//! | [`lockstep`] | does it print the same as etcdctl, and end with the same code, command by command? |
//! | [`flags`] | flags, environment, help, what is refused |
//! | [`failover`] | endpoints that are not there, members that die |
//! | [`running`] | commands that go on: watch, lock, elect, lease keep-alive, make-mirror |
//! | [`files`] | snapshot save, check |
//! | [`v2`] | the v2 command line beside etcdctl's |

mod failover;
mod files;
mod flags;
mod lockstep;
mod running;
mod v2;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{etcdctl_path, wait_for};

/// How long a command may take. A busy CI machine sets it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The two clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ctl {
    Etcdctl,
    Urdctl,
}

/// What one run said.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Said {
    fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// What was printed, if the run ended with `code`.
    #[track_caller]
    fn expect(&self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout(), self.stderr());
        self.stdout()
    }
}

impl Ctl {
    /// Without anything of etcdctl's environment but `variables`.
    fn command(self, variables: &[(&str, &str)]) -> Command {
        let mut command = match self {
            Ctl::Etcdctl => Command::new(etcdctl_path()),
            Ctl::Urdctl => Command::new(Path::new(env!("CARGO_BIN_EXE_urdctl"))),
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCDCTL_") {
                command.env_remove(name);
            }
        }
        command.envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    fn run(self, command: &mut Command, input: &[u8]) -> Said {
        let mut child = spawn(command);
        let mut stdin = child.stdin.take().expect("standard input is piped");
        let input = input.to_vec();
        // A broken pipe says that a command reads none of it, which is its right.
        let writer = std::thread::spawn(move || stdin.write_all(&input).ok());
        let waiter = std::thread::spawn(move || child.wait_with_output());
        wait_for(&format!("the end of {command:?}"), TIMEOUT, || {
            waiter.is_finished().then_some(())
        });
        writer.join().expect("the thread that writes standard input");
        let output = waiter.join().expect("the thread that waits").expect("wait for a child");
        Said { code: output.status.code(), stdout: output.stdout, stderr: output.stderr }
    }
}

fn spawn(command: &mut Command) -> Child {
    command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"))
}

/// `urdctl` against an endpoint.
fn urdctl(endpoints: &str, arguments: &[&str]) -> Said {
    let mut command = Ctl::Urdctl.command(&[("ETCDCTL_ENDPOINTS", endpoints)]);
    Ctl::Urdctl.run(command.args(arguments), b"")
}

/// A command that goes on; ended when dropped.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    complaints: mpsc::Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let mut child = spawn(command);
        let lines = lines_of(child.stdout.take().expect("standard output is piped"));
        let complaints = lines_of(child.stderr.take().expect("standard error is piped"));
        Running { child, lines, complaints }
    }

    fn urdctl(endpoints: &str, arguments: &[&str]) -> Running {
        let mut command = Ctl::Urdctl.command(&[("ETCDCTL_ENDPOINTS", endpoints)]);
        Running::start(command.args(arguments))
    }

    /// Waits for so many lines of standard output.
    #[track_caller]
    fn lines(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.line()).collect()
    }

    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(TIMEOUT).unwrap_or_else(|error| {
            panic!(
                "no more lines ({error}); it said: {:?}",
                self.complaints.try_iter().collect::<Vec<_>>()
            )
        })
    }

    /// Waits for a line of standard error with `word` in it.
    #[track_caller]
    fn complaint(&self, word: &str) -> String {
        loop {
            let line = self.complaints.recv_timeout(TIMEOUT);
            let line = line.unwrap_or_else(|error| panic!("no line with {word:?} ({error})"));
            if line.contains(word) {
                return line;
            }
        }
    }

    fn type_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("standard input is piped");
        writeln!(stdin, "{line}").expect("write to a child");
    }

    /// Interrupts it, as Ctrl-C does. The answer is its exit code.
    #[track_caller]
    fn interrupt(&mut self) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a child's process id is not 0");
        kill_process(pid, Signal::INT).expect("signal a child");
        self.wait()
    }

    #[track_caller]
    fn wait(&mut self) -> Option<i32> {
        wait_for("the end of a command", TIMEOUT, || {
            self.child.try_wait().expect("wait for a child").map(|status| status.code())
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn lines_of(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
