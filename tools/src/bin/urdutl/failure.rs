//! What an error means to whoever called: is something damaged, or could it not be looked at?

use std::io;
use std::process::ExitCode;
use urd::error::Rejected;
use urd::raft::Fatal;
use urd::server::data_dir::DataDirError;
use urd::store::Fault;
use urd::tree::checkpoint;
use urd_wal::ReadError;

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What is wrong, a line each.
    Damaged(Vec<String>),
    /// Nothing can be said about the data.
    Unusable(String),
}

impl Failure {
    pub(crate) fn damaged(what: impl ToString) -> Failure {
        Failure::Damaged(vec![what.to_string()])
    }

    pub(crate) fn lines(&self) -> &[String] {
        match self {
            Failure::Damaged(lines) => lines,
            Failure::Unusable(line) => std::slice::from_ref(line),
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Damaged(_) => 1,
            Failure::Unusable(_) => 2,
        })
    }
}

impl From<io::Error> for Failure {
    /// The output's: all others come with a context.
    fn from(error: io::Error) -> Failure {
        Failure::Unusable(format!("cannot write the result: {error}"))
    }
}

impl From<DataDirError> for Failure {
    fn from(error: DataDirError) -> Failure {
        match error {
            DataDirError::InUse(_) | DataDirError::Io { .. } => {
                Failure::Unusable(error.to_string())
            }
            DataDirError::Identity { .. } | DataDirError::LogWithoutIdentity(_) => {
                Failure::damaged(error)
            }
        }
    }
}

impl From<checkpoint::OpenError> for Failure {
    fn from(error: checkpoint::OpenError) -> Failure {
        match error {
            checkpoint::OpenError::Io { .. } => Failure::Unusable(error.to_string()),
            checkpoint::OpenError::Damaged(_) => Failure::damaged(error),
        }
    }
}

impl From<urd_wal::OpenError> for Failure {
    fn from(error: urd_wal::OpenError) -> Failure {
        match error {
            urd_wal::OpenError::Damaged(_) => Failure::damaged(error),
            urd_wal::OpenError::Unusable(_)
            | urd_wal::OpenError::Version { .. }
            | urd_wal::OpenError::Full { .. }
            | urd_wal::OpenError::Io { .. } => Failure::Unusable(error.to_string()),
        }
    }
}

impl From<Fatal> for Failure {
    fn from(error: Fatal) -> Failure {
        match error {
            Fatal::Read(ReadError::Io { .. }) => Failure::Unusable(error.to_string()),
            other => Failure::damaged(other),
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        Failure::damaged(fault)
    }
}

impl From<Rejected> for Failure {
    fn from(rejected: Rejected) -> Failure {
        Failure::Unusable(rejected.to_string())
    }
}
