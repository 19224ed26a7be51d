//! Programs that are run for an event (`watch`, `exec-watch`) or under a lock.

use std::ffi::OsString;
use std::io;
use std::process::{Command, ExitStatus};

use crate::go;

/// How a program ended, or why it did not begin.
#[derive(Debug)]
pub(crate) enum Ended {
    Well,
    Badly(ExitStatus),
    NotStarted(io::Error),
}

/// Runs a program to its end, with `variables` added to the environment.
pub(crate) fn run(words: &[OsString], variables: &[(&str, OsString)]) -> Ended {
    let Some((program, arguments)) = words.split_first() else { return Ended::Well };
    let mut command = Command::new(program);
    command.args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
    match command.status() {
        Ok(status) if status.success() => Ended::Well,
        Ok(status) => Ended::Badly(status),
        Err(error) => Ended::NotStarted(error),
    }
}

impl Ended {
    /// The program's own exit code, where it has one.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Ended::Well => 0,
            Ended::Badly(status) => {
                status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
            }
            Ended::NotStarted(_) => 1,
        }
    }

    /// What went wrong, in Go's words.
    pub(crate) fn reason(&self, words: &[OsString]) -> String {
        use std::os::unix::process::ExitStatusExt;
        match self {
            Ended::Well => String::new(),
            Ended::Badly(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit status {code}"),
                (None, signal) => format!("signal: {}", signal.unwrap_or_default()),
            },
            Ended::NotStarted(error) => {
                let program = words.first().map(|word| word.to_string_lossy().into_owned());
                let program = go::quote(program.unwrap_or_default().as_bytes());
                match error.kind() {
                    io::ErrorKind::NotFound => {
                        format!("exec: {program}: executable file not found in $PATH")
                    }
                    _ => format!("exec: {program}: {error}"),
                }
            }
        }
    }
}
