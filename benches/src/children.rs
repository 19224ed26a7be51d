//! Processes that end with us: when dropped, on an error, and when we are interrupted.
//!
//! Only processes started here are ever signalled, each by the handle of its own.

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::BTreeSet;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often a child's end is looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// What a shell expects of a program ended by a signal, less the signal's number.
const EXIT_CODE_SIGNAL: i32 = 128;

/// The children that live.
static LIVING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());
static INTERRUPTS: Once = Once::new();

fn living() -> MutexGuard<'static, BTreeSet<i32>> {
    LIVING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child process, killed at the latest when this is dropped.
pub struct Guarded {
    child: Child,
    pid: Pid,
}

impl Guarded {
    pub fn spawn(command: &mut Command) -> io::Result<Guarded> {
        INTERRUPTS.call_once(kill_all_when_interrupted);
        // Held while spawning, so that an interruption finds it.
        let mut living = living();
        let child = command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", command.get_program().display()))
        })?;
        let pid = Pid::from_child(&child);
        living.insert(pid.as_raw_nonzero().get());
        Ok(Guarded { child, pid })
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether it ended already.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for its end, so long at most.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + timeout;
        loop {
            let ended = self.ended()?;
            if ended.is_some() || Instant::now() >= deadline {
                return Ok(ended);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Asks it to end, and makes it end if it does not within `timeout`.
    pub fn terminate(mut self, timeout: Duration) -> io::Result<()> {
        kill_process(self.pid, Signal::TERM).ok();
        self.wait(timeout)?;
        Ok(())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Errors here say that it ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
        living().remove(&self.pid.as_raw_nonzero().get());
    }
}

fn kill_all_when_interrupted() {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // The lock is kept: nothing may be started any more.
            let living = living();
            for pid in living.iter().copied().filter_map(Pid::from_raw) {
                kill_process(pid, Signal::KILL).ok();
            }
            std::process::exit(EXIT_CODE_SIGNAL + signal);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(pid: Pid) -> bool {
        rustix::process::test_kill_process(pid).is_ok()
    }

    #[test]
    fn dropping_kills() {
        let child = Guarded::spawn(Command::new("sleep").arg("1000")).unwrap();
        let pid = child.pid();
        assert!(alive(pid));
        drop(child);
        assert!(!alive(pid));
    }

    #[test]
    fn terminating_waits_for_an_orderly_end() {
        let mut child = Guarded::spawn(Command::new("sleep").arg("1000")).unwrap();
        assert!(child.ended().unwrap().is_none());
        let pid = child.pid();
        child.terminate(Duration::from_secs(10)).unwrap();
        assert!(!alive(pid));
    }

    #[test]
    fn missing_program_is_named() {
        let error = Guarded::spawn(&mut Command::new("no-such-program")).err().unwrap();
        assert!(error.to_string().starts_with("no-such-program: "), "{error}");
    }
}
