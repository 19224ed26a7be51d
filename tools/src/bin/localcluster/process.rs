//! A process that outlives the program that started it, known again for certain.
//!
//! A process id alone names nobody: after its process has ended, the kernel gives it to another.
//! So the moment of its begin is kept beside it, and the program's file. Signals go through a
//! descriptor of the process that was opened *before* the look at these: whoever gets the id after
//! that look does not get the signal.

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How often a process's end is looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Who a process is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// When it began, in the kernel's ticks since the machine's start.
    start_ticks: u64,
    /// The program's file.
    program: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Paused,
    Stopped,
}

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// Asked to end in good order.
    Terminate,
    Kill,
    Pause,
    Resume,
}

impl Process {
    /// The child that was just started from `program`, and not yet waited for.
    pub(crate) fn of_child(pid: u32, program: &Path) -> Option<Process> {
        let pid = i32::try_from(pid).ok()?;
        Some(Process { pid, start_ticks: stat(pid)?.start_ticks, program: program.into() })
    }

    pub(crate) fn state(&self) -> State {
        let Some(stat) = stat(self.pid).filter(|stat| stat.start_ticks == self.start_ticks) else {
            return State::Stopped;
        };
        match stat.state {
            // Ended, and whoever should have asked for its exit code has not.
            'Z' | 'X' => State::Stopped,
            _ if !self.runs_its_program() => State::Stopped,
            'T' | 't' => State::Paused,
            _ => State::Running,
        }
    }

    /// False says that it is gone.
    pub(crate) fn strike(&self, blow: Blow) -> Result<bool, String> {
        let failed = |errno: Errno| format!("process {}: {errno}", self.pid);
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(false) };
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(Errno::SRCH) => return Ok(false),
            Err(errno) => return Err(failed(errno)),
        };
        if self.state() == State::Stopped {
            return Ok(false);
        }
        let signals: &[Signal] = match blow {
            // A paused process hears of it only when it goes on.
            Blow::Terminate => &[Signal::TERM, Signal::CONT],
            Blow::Kill => &[Signal::KILL],
            Blow::Pause => &[Signal::STOP],
            Blow::Resume => &[Signal::CONT],
        };
        for signal in signals {
            match pidfd_send_signal(&descriptor, *signal) {
                Ok(()) => {}
                Err(Errno::SRCH) => return Ok(false),
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(true)
    }

    /// Waits until it is in `state`, so long at most; whether it is.
    pub(crate) fn wait_for(&self, state: State, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.state() != state {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(POLL_INTERVAL);
        }
        true
    }

    /// The file may have been replaced by a newer build meanwhile.
    fn runs_its_program(&self) -> bool {
        match fs::read_link(format!("/proc/{}/exe", self.pid)) {
            Ok(file) => {
                let text = file.to_string_lossy();
                Path::new(text.strip_suffix(" (deleted)").unwrap_or(&text)) == self.program
            }
            // Not ours to look at: then its begin must do.
            Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
        }
    }
}

/// What the kernel says of a process.
struct Stat {
    state: char,
    start_ticks: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Its third and its 22nd field.
fn parse_stat(stat: &str) -> Option<Stat> {
    // The second field, the name, is in parentheses and may contain anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some(Stat { state, start_ticks: fields.nth(22 - 4)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn sleeper() -> (Child, Process) {
        let program = fs::canonicalize("/bin/sleep").unwrap();
        let child = Command::new(&program).arg("1000").spawn().unwrap();
        let process = Process::of_child(child.id(), &program).unwrap();
        assert!(process.wait_for(State::Running, TIMEOUT));
        (child, process)
    }

    #[test]
    fn states_follow_the_blows() {
        let (mut child, process) = sleeper();
        assert_eq!(process.strike(Blow::Pause), Ok(true));
        assert!(process.wait_for(State::Paused, TIMEOUT));
        assert_eq!(process.strike(Blow::Resume), Ok(true));
        assert!(process.wait_for(State::Running, TIMEOUT));
        assert_eq!(process.strike(Blow::Pause), Ok(true));
        assert_eq!(process.strike(Blow::Terminate), Ok(true), "a paused one, too");
        assert!(process.wait_for(State::Stopped, TIMEOUT), "though nobody waited for it");
        child.wait().unwrap();
        assert_eq!(process.strike(Blow::Kill), Ok(false));
    }

    #[test]
    fn stranger_with_the_same_id_is_left_alone() {
        let (mut child, process) = sleeper();
        let later = Process { start_ticks: process.start_ticks + 1, ..process.clone() };
        let other = Process { program: "/bin/other".into(), ..process.clone() };
        for stranger in [later, other] {
            assert_eq!(stranger.state(), State::Stopped);
            assert_eq!(stranger.strike(Blow::Kill), Ok(false));
        }
        assert_eq!(process.state(), State::Running);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn names_may_look_like_fields() {
        let stat = "7 (a) b) 1) T 1 7 7 0 -1 4194304 100 0 0 0 31 11 5 5 20 0 1 0 4242 1000 100";
        let stat = parse_stat(stat).unwrap();
        assert_eq!((stat.state, stat.start_ticks), ('T', 4242));
        assert!(parse_stat("7 (a) S 1").is_none());
    }
}
