//! Why a command did not do what it was asked to.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::path::Path;
use std::process::ExitCode;

#[derive(Debug)]
pub(crate) enum Failure {
    /// It was tried and did not come to pass.
    Failed(String),
    /// What is asked for makes no sense as things are; nothing was done.
    Refused(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Failed(_) => 1,
            Failure::Refused(_) => 2,
        })
    }

    /// What the operating system said about `path`.
    pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> Failure + '_ {
        move |error| Failure::Failed(format!("{}: {error}", path.display()))
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Failed(text) | Failure::Refused(text) => f.write_str(text),
        }
    }
}

impl From<io::Error> for Failure {
    /// The output's: all others come with a context.
    fn from(error: io::Error) -> Failure {
        Failure::Failed(format!("cannot write the result: {error}"))
    }
}
