//! Why a start-up ends before it began: what was wrong, where it was said, what would be right.
//!
//! The texts are those of etcd (and of Go's flag package, which etcd shows) where it has one,
//! because scripts and people search for them; what is added follows after a semicolon.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::settings::Origin;

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum Failure {
    /// No flag has this name.
    #[error("flag provided but not defined: -{name}{}", did_you_mean("--", *nearest))]
    UnknownFlag {
        /// As given, without dashes.
        name: String,
        /// The known flag that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A word that belongs to no flag.
    #[error("{word:?} is not a valid flag{}", after_boolean(*after))]
    NotAFlag {
        /// The word.
        word: String,
        /// The boolean flag before it, which may have been meant to take it.
        after: Option<&'static str>,
    },
    /// Dashes or an equals sign where a name should be.
    #[error("bad flag syntax: {0}")]
    FlagSyntax(String),
    /// The last flag lacks its value.
    #[error("flag needs an argument: -{0}")]
    MissingValue(&'static str),
    /// A value that cannot be read.
    #[error("{}", invalid_value(.name, .boolean, .value, .origin, .reason))]
    InvalidValue {
        /// The flag.
        name: &'static str,
        /// Whether the flag is a boolean, for which Go has an own wording.
        boolean: bool,
        /// What was given.
        value: String,
        /// Where it was given.
        origin: Origin,
        /// What is wrong with it.
        reason: String,
    },
    /// An argument or a variable that is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUnicode(String),
    /// The configuration file cannot be read.
    #[error("read the configuration file {}: {error}", path.display())]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The configuration file is not what it should be.
    #[error("configuration file {}: {reason}", path.display())]
    FileInvalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its place where the parser knows it.
        reason: String,
    },
    /// A flag that asks for protection that this version cannot give, so ignoring it would harm.
    #[error("--{name}{} cannot be honoured: {why}", origin.suffix())]
    Refused {
        /// The flag.
        name: &'static str,
        /// Where it was given.
        origin: Origin,
        /// Why not.
        why: &'static str,
    },
    /// Values that are fine one by one but do not go together, or are out of bounds.
    #[error("{0}")]
    Invalid(String),
}

impl Failure {
    /// 2 for a command line that cannot be parsed, as Go exits; 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::UnknownFlag { .. }
            | Failure::FlagSyntax(_)
            | Failure::MissingValue(_)
            | Failure::InvalidValue { origin: Origin::CommandLine, .. } => 2,
            _ => 1,
        }
    }
}

/// `; did you mean --x?`, or nothing.
pub(super) fn did_you_mean(prefix: &str, nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean {prefix}{name}?")).unwrap_or_default()
}

fn after_boolean(after: Option<&str>) -> String {
    after
        .map(|name| format!("; a boolean takes its value after an equals sign: --{name}=false"))
        .unwrap_or_default()
}

fn invalid_value(name: &str, boolean: &bool, value: &str, origin: &Origin, reason: &str) -> String {
    match origin {
        Origin::CommandLine if *boolean => {
            format!("invalid boolean value {value:?} for -{name}: {reason}")
        }
        Origin::CommandLine | Origin::Default => {
            format!("invalid value {value:?} for flag -{name}: {reason}")
        }
        Origin::Environment(variable) => {
            format!("invalid value {value:?} for {variable}: {reason}")
        }
        Origin::File { path, key } => {
            format!(
                "configuration file {}: invalid value {value:?} for {key}: {reason}",
                path.display()
            )
        }
    }
}
