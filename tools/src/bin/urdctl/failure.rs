//! Why a command did not end well, and the exit code that says so to a script: etcdctl's, number by number.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

/// What ends the program other than success.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    /// Nothing if the reasons have been printed already.
    text: Option<String>,
}

impl Failure {
    /// The server refused, or something went wrong that has no code of its own.
    pub(crate) fn error(text: impl Display) -> Failure {
        Failure::with_code(1, text)
    }

    pub(crate) fn connection(text: impl Display) -> Failure {
        Failure::with_code(2, text)
    }

    /// Standard input of `txn` or `watch` could not be read.
    pub(crate) fn invalid_input(text: impl Display) -> Failure {
        Failure::with_code(3, text)
    }

    /// A flag is right, its value is none that exists.
    pub(crate) fn bad_feature(text: impl Display) -> Failure {
        Failure::with_code(4, text)
    }

    pub(crate) fn interrupted(text: impl Display) -> Failure {
        Failure::with_code(5, text)
    }

    pub(crate) fn bad_arguments(text: impl Display) -> Failure {
        Failure::with_code(128, text)
    }

    /// For whoever has said already what is wrong.
    pub(crate) fn silent(code: u8) -> Failure {
        Failure { code, text: None }
    }

    pub(crate) fn with_code(code: u8, text: impl Display) -> Failure {
        Failure { code, text: Some(text.to_string()) }
    }

    /// The same failure, with what was being done before it.
    pub(crate) fn context(self, what: &str) -> Failure {
        Failure { text: self.text.map(|text| format!("{what} ({text})")), ..self }
    }

    /// The same failure under another code.
    pub(crate) fn code(self, code: u8) -> Failure {
        Failure { code, ..self }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl From<io::Error> for Failure {
    /// Standard output's: all others come with a context.
    fn from(error: io::Error) -> Failure {
        Failure::error(format!("cannot write the result: {error}"))
    }
}
