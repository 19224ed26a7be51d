//! A member as a process: how it is started, and what can be done to it.
//!
//! The process is our child and is not waited for before it is let go of, so its id names it and nobody else.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A member of a cluster, running or not.
#[derive(Debug)]
pub struct Member {
    pub name: String,
    /// Where it listens, `host:port`.
    pub client: String,
    pub peer: String,
    /// The network namespace that it runs in.
    pub namespace: Option<String>,
    /// `--initial-cluster` and `--initial-cluster-state`.
    pub initial: (String, &'static str),
    pub data: PathBuf,
    /// All that it writes, from its first start on.
    pub log: PathBuf,
    pub child: Option<Child>,
    pub paused: bool,
}

impl Member {
    /// Its part of `--initial-cluster`.
    pub fn initial_part(&self) -> String {
        format!("{}=http://{}", self.name, self.peer)
    }

    /// Starts it with the program of `bare` and that one's environment and arguments.
    pub fn launch(&mut self, bare: Command, arguments: &[&str]) -> Result<(), String> {
        assert!(self.child.is_none(), "{} still runs", self.name);
        let mut command = match &self.namespace {
            None => bare,
            Some(namespace) => within(namespace, &bare),
        };
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(|error| format!("{}: {error}", self.log.display()))?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        command
            .arg(format!("--name={}", self.name))
            .arg(format!("--data-dir={}", self.data.display()))
            .arg(format!("--listen-client-urls=http://{}", self.client))
            .arg(format!("--advertise-client-urls=http://{}", self.client))
            .arg(format!("--listen-peer-urls=http://{}", self.peer))
            .arg(format!("--initial-advertise-peer-urls=http://{}", self.peer))
            .arg(format!("--initial-cluster={}", self.initial.0))
            .arg(format!("--initial-cluster-state={}", self.initial.1))
            .arg("--initial-cluster-token=urd-test")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        if let Some(directory) = self.log.parent() {
            command.current_dir(directory);
        }
        let child = command.spawn().map_err(|error| format!("start {command:?}: {error}"))?;
        self.child = Some(child);
        Ok(())
    }

    /// Whether its process is there. One that has ended by itself is let go of.
    pub fn runs(&mut self) -> bool {
        let Some(child) = &mut self.child else { return false };
        if child.try_wait().is_ok_and(|status| status.is_none()) {
            return true;
        }
        (self.child, self.paused) = (None, false);
        false
    }

    /// SIGKILL, as a crash of the process. Nothing if it does not run.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
        self.paused = false;
    }

    /// SIGSTOP: it hangs, its sockets stay open.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
        self.paused = true;
    }

    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
        self.paused = false;
    }

    /// Asks it to end in good order.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().and_then(|child| Pid::from_raw(child.id() as i32));
        // One that has ended meanwhile is still our child, and does not mind.
        if let Some(pid) = pid {
            kill_process(pid, signal).ok();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The same command in a network namespace.
fn within(namespace: &str, bare: &Command) -> Command {
    let mut within = Command::new("ip");
    within.args(["netns", "exec", namespace]).arg(bare.get_program()).args(bare.get_args());
    for (variable, value) in bare.get_envs() {
        match value {
            Some(value) => within.env(variable, value),
            None => within.env_remove(variable),
        };
    }
    within
}
