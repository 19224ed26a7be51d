//! What needs root, and taking it away again.
//!
//! A release build ends at a panic without a destructor being run, so whoever may panic is another process than the one that
//! cleans up. This one does little else than wait.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tempfile::TempDir;
use urd_tools::lab::disk::Disk;
use urd_tools::lab::network::Namespaces;

use crate::Cli;

/// Names of our namespaces begin so.
const KIND: &str = "urd-torture-";
/// Room for the log's segments (64 MiB each, made ahead), a checkpoint, and what full disks leave behind. The files have holes.
const DISK_BYTES: u64 = 1 << 30;
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Exit codes, beside those of the play.
const CANNOT: u8 = 3;
const INTERRUPTED: u8 = 130;

/// Sets the stage, runs the play on it, and clears it.
pub(crate) fn run(cli: &Cli, seed: u64) -> ExitCode {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&interrupted)) {
            eprintln!("torture: signals: {error}");
            return ExitCode::from(CANNOT);
        }
    }
    match Stage::set(usize::from(cli.members)) {
        Ok(mut stage) => {
            let code = stage.perform(cli, seed, &interrupted);
            if cli.keep || code.is_some_and(|code| code != 0) {
                stage.keep();
            }
            ExitCode::from(code.unwrap_or(INTERRUPTED))
        }
        Err(error) => {
            eprintln!("torture: cannot set the stage: {error}");
            ExitCode::from(CANNOT)
        }
    }
}

/// Fields are dropped in this order: a disk must be unmounted before its directory goes.
struct Stage {
    namespaces: Option<Namespaces>,
    disks: Vec<Disk>,
    directory: TempDir,
}

impl Stage {
    fn set(members: usize) -> Result<Stage, String> {
        let directory = tempfile::Builder::new().prefix(KIND).tempdir();
        let directory = directory.map_err(|error| error.to_string())?;
        let mut stage = Stage { namespaces: None, disks: Vec::new(), directory };
        if !rustix::process::geteuid().is_root() {
            println!("without root: links and disks are left alone");
            return Ok(stage);
        }
        stage.namespaces = Some(Namespaces::create(KIND, members)?);
        for nth in 0..members {
            let name = crate::cluster::name(nth);
            match Disk::mount(stage.directory.path(), &name, DISK_BYTES) {
                Ok(disk) => stage.disks.push(disk),
                Err(error) => {
                    println!("disks are left alone, none can be mounted: {error}");
                    std::fs::remove_dir(stage.directory.path().join(name)).ok();
                    break;
                }
            }
        }
        Ok(stage)
    }

    /// Runs the play to its end. The exit code, unless it was interrupted.
    fn perform(&self, cli: &Cli, seed: u64, interrupted: &AtomicBool) -> Option<u8> {
        let mut child = match self.command(cli, seed).and_then(|mut command| {
            command.process_group(0).spawn().map_err(|error| format!("start {command:?}: {error}"))
        }) {
            Ok(child) => child,
            Err(error) => {
                eprintln!("torture: {error}");
                return Some(CANNOT);
            }
        };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.expect("a child's process id is a positive number");
        let mut ended = false;
        while !ended && !interrupted.load(Ordering::Relaxed) {
            thread::sleep(POLL_INTERVAL);
            // Its number must stay taken until its group is gone, so it is not waited for yet.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            ended = !matches!(waitid(WaitId::Pid(pid), options), Ok(None));
        }
        if !ended {
            println!("interrupted");
        }
        end_group(pid);
        let code = child.wait().ok().and_then(|status| status.code());
        // One that a signal ended has none: a panic of a release build.
        ended.then(|| code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
    }

    fn command(&self, cli: &Cli, seed: u64) -> Result<Command, String> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = match &self.namespaces {
            None => Command::new(own),
            Some(namespaces) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &namespaces.network().hub()]).arg(own);
                command.arg("--network").arg(namespaces.network().prefix());
                command
            }
        };
        command.arg("--stage").arg(self.directory.path());
        command.arg("--members").arg(cli.members.to_string());
        command.arg("--seconds").arg(cli.duration().as_secs().to_string());
        command.arg("--seed").arg(seed.to_string());
        if let Some(urd) = &cli.urd {
            command.arg("--urd").arg(urd);
        }
        if !cli.only.is_empty() {
            command.arg("--only").arg(cli.only.join(","));
        }
        Ok(command)
    }

    /// Leaves logs and data where they are. What stands on a disk is copied first: the disks go.
    fn keep(&mut self) {
        self.directory.disable_cleanup(true);
        for disk in self.disks.drain(..) {
            let kept = disk.path().with_extension("kept");
            let copied = Command::new("cp").arg("-a").arg(disk.path()).arg(&kept).output();
            if let Err(error) = copied {
                eprintln!("torture: keep {}: {error}", disk.path().display());
            }
        }
        println!("kept: {}", self.directory.path().display());
    }
}

/// Kills whoever the play has started and not ended, and waits for their end. All are in its process group, whose number is
/// the play's own.
fn end_group(group: Pid) {
    if group_lives(group) {
        kill_process_group(group, Signal::KILL).ok();
    }
    // A disk can be unmounted once its files are closed.
    while group_lives(group) {
        thread::sleep(POLL_INTERVAL);
    }
}

fn group_lives(group: Pid) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes.flatten().any(|process| is_of_group(&process.path(), group))
}

/// Whether a process is of a group and has not ended: the third and the fifth field of its `stat`.
fn is_of_group(process: &Path, group: Pid) -> bool {
    let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
    let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
    let mut fields = rest.split(' ');
    let lives = fields.next().is_some_and(|state| !matches!(state, "Z" | "X"));
    let group = group.as_raw_nonzero().get().to_string();
    lives && fields.nth(1) == Some(&group)
}
