//! A server process: [`Launch`] says how to start it, [`Server`] is one that answers.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Program, READY_TIMEOUT, http, ports, try_wait_for};

/// Ports taken between our look and the server's bind: start anew this often.
const START_ATTEMPTS: usize = 3;

/// Set when a start timed out: the other tests then fail at once, each for this reason, and not after half an hour.
static NEVER_READY: AtomicBool = AtomicBool::new(false);

/// How the harness's own settings (name, directory, URLs) reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `--name=value`
    Flags,
    /// `-name value`, as Go's flag package reads it
    SingleDashFlags,
    /// `ETCD_NAME=value`
    Environment,
    /// `name: value` in a file that `--config-file` names
    ConfigFile,
}

/// How to start a server.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    program: Program,
    form: Form,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    data_directory: Option<PathBuf>,
    advertised_peer_url: Option<String>,
}

impl Launch {
    pub(crate) fn new(program: Program) -> Self {
        Launch {
            program,
            form: Form::Flags,
            arguments: Vec::new(),
            environment: Vec::new(),
            data_directory: None,
            advertised_peer_url: None,
        }
    }

    /// How the harness's own settings are handed over.
    pub(crate) fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// One more argument, after those of the harness.
    pub(crate) fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// One more environment variable.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A data directory elsewhere than in the server's own directory.
    pub(crate) fn data_directory(mut self, path: &Path) -> Self {
        self.data_directory = Some(path.to_owned());
        self
    }

    /// A peer URL of which its id, and that of its cluster, are made. It must be alone there: nobody listens at it.
    pub(crate) fn advertised_peer_url(mut self, url: &str) -> Self {
        self.advertised_peer_url = Some(url.to_owned());
        self
    }

    /// Starts it and waits until it answers.
    pub(crate) fn start(self) -> Server {
        let directory = scratch_directory();
        let log = directory.path().join("stderr.log");
        let data = self.data_directory.clone().unwrap_or_else(|| directory.path().join("data"));
        let (client_port, peer_port) = (ports::free(), ports::free());
        let mut server =
            Server { launch: self, child: None, client_port, peer_port, data, log, directory };
        server.start();
        server
    }

    /// The bare command: the program without any argument of the harness, in a clean environment.
    pub(crate) fn command(&self) -> Command {
        let path = self.program.path();
        let mut command = Command::new(&path);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(name);
            }
        }
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Runs it with only its own arguments until it ends by itself: for starts that must fail, and for `--version`.
    pub(crate) fn run(self) -> Ended {
        let directory = scratch_directory();
        let (out, err) = (directory.path().join("stdout"), directory.path().join("stderr"));
        let mut command = self.command();
        command.current_dir(directory.path());
        command.stdout(File::create(&out).expect("create a file of ours"));
        command.stderr(File::create(&err).expect("create a file of ours"));
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let read = |path: &Path| {
            String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
        };
        match wait_exit(&mut child, READY_TIMEOUT) {
            Some(status) => Ended { status, stdout: read(&out), stderr: read(&err) },
            None => {
                end(&mut child);
                panic!("{command:?} was to end by itself and did not.\nstderr:\n{}", read(&err))
            }
        }
    }
}

/// A program that ended by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// One running member.
#[derive(Debug)]
pub(crate) struct Server {
    launch: Launch,
    child: Option<Child>,
    client_port: u16,
    peer_port: u16,
    data: PathBuf,
    log: PathBuf,
    directory: TempDir,
}

impl Server {
    /// A member with nothing but defaults.
    pub(crate) fn start_fresh(program: Program) -> Server {
        Launch::new(program).start()
    }

    /// `HOST:PORT` of the client port.
    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    pub(crate) fn peer_endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.peer_port)
    }

    pub(crate) fn data_directory(&self) -> &Path {
        &self.data
    }

    /// A directory of the test's own, removed with the server.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its process id; it must be running.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// What it wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Fails the test if the process has ended by itself.
    pub(crate) fn assert_running(&mut self, after: &str) {
        let status = self
            .child
            .as_mut()
            .expect("the server was started")
            .try_wait()
            .expect("wait for a child");
        if let Some(status) = status {
            self.child = None;
            panic!(
                "{after}: the server ended by itself ({status}); the end of its log:\n{}",
                self.log_tail()
            );
        }
    }

    /// SIGKILL, as a crash of the process: nothing in it runs any more.
    pub(crate) fn kill(&mut self) {
        end(self.child.as_mut().expect("the server runs"));
        self.child = None;
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid() as i32).expect("a child's process id is not 0");
        kill_process(pid, signal).expect("signal a child");
    }

    /// Waits for its end.
    pub(crate) fn wait_exit(&mut self, timeout: Duration) -> ExitStatus {
        let status = wait_exit(self.child.as_mut().expect("the server runs"), timeout);
        match status {
            Some(status) => {
                self.child = None;
                status
            }
            None => panic!(
                "the server did not end within {timeout:?}; the end of its log:\n{}",
                self.log_tail()
            ),
        }
    }

    /// Starts it again on the same directory and ports; how long it took until it answered.
    pub(crate) fn restart(&mut self) -> Duration {
        assert!(self.child.is_none(), "the server still runs");
        let begin = Instant::now();
        self.start();
        begin.elapsed()
    }

    fn start(&mut self) {
        for _ in 1..START_ATTEMPTS {
            if self.attempt().is_ok() {
                return;
            }
            // Fresh ports; what it advertised before means nothing to a single member.
            (self.client_port, self.peer_port) = (ports::free(), ports::free());
        }
        if let Err(text) = self.attempt() {
            panic!("{text}");
        }
    }

    /// One start. An error means that a port was taken meanwhile; everything else fails the test here.
    fn attempt(&mut self) -> Result<(), String> {
        let mut command = self.launch.command();
        self.hand_over_settings(&mut command);
        command.current_dir(self.directory.path());
        let log =
            File::options().create(true).append(true).open(&self.log).expect("open a file of ours");
        let before = self.log().len();
        command.stdout(log.try_clone().expect("clone a descriptor"));
        command.stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        self.child = Some(child);
        let endpoint = self.endpoint();
        assert!(
            !NEVER_READY.load(Ordering::SeqCst),
            "an earlier start of a server was never ready; not waiting for another"
        );
        let ended = try_wait_for(READY_TIMEOUT, || {
            let child = self.child.as_mut()?;
            if let Some(status) = child.try_wait().expect("wait for a child") {
                return Some(Err(status));
            }
            is_healthy(&endpoint).then_some(Ok(()))
        });
        let Some(ended) = ended else {
            NEVER_READY.store(true, Ordering::SeqCst);
            panic!("{command:?}\nwas not healthy within {READY_TIMEOUT:?}");
        };
        let Err(status) = ended else { return Ok(()) };
        self.child = None;
        let log = self.log();
        let fresh = log.get(before..).unwrap_or(&log);
        let text = format!("{command:?}\nended at its start ({status}):\n{fresh}");
        if ["address already in use", "address is in use"].iter().any(|said| fresh.contains(said)) {
            Err(text)
        } else {
            panic!("{text}")
        }
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let (client, peer) = (self.endpoint(), self.peer_endpoint());
        let advertised = &self.launch.advertised_peer_url;
        let advertised = advertised.clone().unwrap_or_else(|| format!("http://{peer}"));
        vec![
            ("name", "member".to_owned()),
            ("data-dir", self.data.display().to_string()),
            ("listen-client-urls", format!("http://{client}")),
            ("advertise-client-urls", format!("http://{client}")),
            ("listen-peer-urls", format!("http://{peer}")),
            ("initial-cluster", format!("member={advertised}")),
            ("initial-advertise-peer-urls", advertised),
        ]
    }

    fn hand_over_settings(&self, command: &mut Command) {
        let settings = self.settings();
        match self.launch.form {
            Form::Flags => {
                command.args(settings.iter().map(|(name, value)| format!("--{name}={value}")));
            }
            Form::SingleDashFlags => {
                command.args(
                    settings.iter().flat_map(|(name, value)| [format!("-{name}"), value.clone()]),
                );
            }
            Form::Environment => {
                let variable =
                    |name: &str| format!("ETCD_{}", name.to_uppercase().replace('-', "_"));
                command.envs(settings.iter().map(|(name, value)| (variable(name), value)));
            }
            Form::ConfigFile => {
                let lines: Vec<String> =
                    settings.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
                let path = self.directory.path().join("config.yaml");
                std::fs::write(&path, lines.concat()).expect("write a file of ours");
                command.arg(format!("--config-file={}", path.display()));
            }
        }
    }

    fn log_tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = self.child.as_mut() {
            end(child);
        }
        if std::thread::panicking() {
            eprintln!("---- the end of {:?}'s log\n{}\n----", self.launch.program, self.log_tail());
        }
    }
}

/// A directory under cargo's target directory: a real disk, where /tmp may be memory.
pub(crate) fn scratch_directory() -> TempDir {
    tempfile::Builder::new()
        .prefix("urd-test-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("make a directory under target/tmp")
}

/// The end of a log.
pub(super) fn tail(log: &Path) -> String {
    const LINES: usize = 40;
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
}

pub(super) fn is_healthy(endpoint: &str) -> bool {
    http::get(endpoint, "/health?exclude=NOSPACE")
        .is_ok_and(|answer| answer.status == 200 && answer.body.contains(r#""health":"true""#))
}

pub(super) fn end(child: &mut Child) {
    // Both fail only when the process is gone already, which is what is wanted.
    child.kill().ok();
    child.wait().ok();
}

fn wait_exit(child: &mut Child, timeout: Duration) -> Option<ExitStatus> {
    try_wait_for(timeout, || child.try_wait().expect("wait for a child"))
}
