//! The values given, each with where it was given, before anything is made of them.
//!
//! Whatever speaks first wins here; the order (command line, then environment) is decided by who
//! fills it. A value enters only after its form was checked, so that a mistake is reported at the
//! place where it was made, also for flags that have no effect.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::failure::Failure;
use super::flags::{self, Flag, Kind, Standing};

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the flag's default.
    Default,
    /// As a flag.
    CommandLine,
    /// In this variable.
    Environment(String),
    /// In the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The key, sections joined by dots.
        key: String,
    },
}

impl Origin {
    /// What is put behind a flag's name to say where it was given.
    pub(super) fn suffix(&self) -> String {
        match self {
            Origin::Default | Origin::CommandLine => String::new(),
            Origin::Environment(variable) => format!(" (from {variable})"),
            Origin::File { path, key } => format!(" ({key} in {})", path.display()),
        }
    }
}

/// Values by flag.
#[derive(Debug, Default)]
pub(super) struct Settings {
    values: BTreeMap<&'static str, Setting>,
}

#[derive(Clone, Debug)]
struct Setting {
    value: String,
    origin: Origin,
}

impl Settings {
    /// Checks a value's form and keeps it, in place of an earlier one.
    pub(super) fn set(
        &mut self,
        flag: &'static Flag,
        value: &str,
        origin: Origin,
    ) -> Result<(), Failure> {
        match flag.kind.check(value) {
            Ok(value) => {
                self.values.insert(flag.name, Setting { value, origin });
                Ok(())
            }
            Err(reason) => Err(invalid(flag, value, origin, reason)),
        }
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The names of all flags given.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.values.keys().copied()
    }

    /// The value given, or the flag's default.
    pub(super) fn text(&self, name: &'static str) -> &str {
        match self.values.get(name) {
            Some(setting) => &setting.value,
            None => known(name).default,
        }
    }

    pub(super) fn origin(&self, name: &'static str) -> Origin {
        self.values.get(name).map_or(Origin::Default, |setting| setting.origin.clone())
    }

    /// The value as `read` understands it, or what is wrong with it and where it came from.
    pub(super) fn read<T, E: fmt::Display>(
        &self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, Failure> {
        let value = self.text(name);
        read(value)
            .map_err(|reason| invalid(known(name), value, self.origin(name), reason.to_string()))
    }

    /// What is refused stops the start; what has no effect is told.
    pub(super) fn judge(&self, warnings: &mut Vec<String>) -> Result<(), Failure> {
        for (name, setting) in &self.values {
            let flag = known(name);
            if flag.harmless.contains(&setting.value.as_str()) {
                continue;
            }
            let place = setting.origin.suffix();
            match flag.standing {
                Standing::Used { .. } => {}
                Standing::Idle { why } => {
                    warnings.push(format!("--{name}{place} has no effect: {why}"));
                }
                Standing::Removed { why } => warnings.push(format!(
                    "--{name}{place} was removed from etcd and has no effect: {why}"
                )),
                Standing::Refused { why } => {
                    return Err(Failure::Refused { name, origin: setting.origin.clone(), why });
                }
            }
        }
        Ok(())
    }
}

fn known(name: &str) -> &'static Flag {
    flags::find(name).expect("invariant: the code asks only for flags of the table")
}

fn invalid(flag: &Flag, value: &str, origin: Origin, reason: String) -> Failure {
    let boolean = flag.kind == Kind::Bool;
    Failure::InvalidValue { name: flag.name, boolean, value: value.to_owned(), origin, reason }
}
