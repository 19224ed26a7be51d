//! The command line and the environment, read by the rules of Go's flag package, as etcd does.
//!
//! `-flag`, `--flag`, `--flag=value`, `--flag value`; a boolean never takes the next word; the last
//! of equal flags counts; the first word that is no flag ends the flags, and etcd takes no words.
//! A variable counts when it is not empty and its flag was not given. (etcd stops when both are
//! given. Urd lets the flag win and warns.)

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::failure::{Failure, did_you_mean};
use super::flags::{self, Flag, Kind};
use super::settings::{Origin, Settings};
use super::table::FLAGS;

/// Variables that begin like flags' but are not: container images of etcd set the first, and etcd
/// reads the second on processors that it does not test.
const OTHER_VARIABLES: [&str; 2] = ["ETCD_VERSION", "ETCD_UNSUPPORTED_ARCH"];

/// What the command line asks for.
#[derive(Debug)]
pub(super) enum Command {
    Run(Settings),
    Help,
    Version,
}

/// Reads the arguments, the program's name not among them.
pub(super) fn command_line(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Command, Failure> {
    let mut arguments = arguments.into_iter().map(unicode);
    let mut settings = Settings::default();
    let mut version = false;
    let mut bare_boolean = None;
    while let Some(argument) = arguments.next() {
        let argument = argument?;
        if argument == "--" {
            return match arguments.next() {
                Some(word) => Err(Failure::NotAFlag { word: word?, after: None }),
                None => Ok(finish(settings, version)),
            };
        }
        let Some((name, value)) = split(&argument)? else {
            return Err(Failure::NotAFlag { word: argument, after: bare_boolean });
        };
        bare_boolean = None;
        match name {
            "help" | "h" => return Ok(Command::Help),
            "version" => {
                version =
                    value.is_none_or(|value| Kind::Bool.check(value).as_deref() == Ok("true"));
                continue;
            }
            _ => {}
        }
        let Some(flag) = flags::find(name) else {
            let nearest = flags::nearest(name);
            return Err(Failure::UnknownFlag { name: name.to_owned(), nearest });
        };
        match (value, flag.kind) {
            (Some(value), _) => settings.set(flag, value, Origin::CommandLine)?,
            (None, Kind::Bool) => {
                bare_boolean = Some(flag.name);
                settings.set(flag, "true", Origin::CommandLine)?;
            }
            (None, _) => {
                let value = arguments.next().ok_or(Failure::MissingValue(flag.name))??;
                settings.set(flag, &value, Origin::CommandLine)?;
            }
        }
    }
    Ok(finish(settings, version))
}

fn finish(settings: Settings, version: bool) -> Command {
    if version { Command::Version } else { Command::Run(settings) }
}

/// The name without its dashes and the value after the equals sign; nothing if it is no flag.
fn split(argument: &str) -> Result<Option<(&str, Option<&str>)>, Failure> {
    let Some(name) = argument.strip_prefix('-').filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let name = name.strip_prefix('-').unwrap_or(name);
    if name.is_empty() || name.starts_with(['-', '=']) {
        return Err(Failure::FlagSyntax(argument.to_owned()));
    }
    Ok(Some(match name.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (name, None),
    }))
}

fn unicode(argument: OsString) -> Result<String, Failure> {
    argument
        .into_string()
        .map_err(|argument| Failure::NotUnicode(format!("the argument {argument:?}")))
}

/// The variables that begin with `ETCD_`.
#[derive(Debug)]
pub(super) struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    pub(super) fn read(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Environment, Failure> {
        let mut ours = BTreeMap::new();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with("ETCD_")) else {
                continue;
            };
            let value = value
                .into_string()
                .map_err(|_| Failure::NotUnicode(format!("the value of {name}")))?;
            ours.insert(name.to_owned(), value);
        }
        for name in OTHER_VARIABLES {
            ours.remove(name);
        }
        Ok(Environment { variables: ours })
    }

    /// Takes the variable of one flag. An empty one counts as none.
    pub(super) fn take(&mut self, flag: &Flag) -> Option<(String, String)> {
        self.variables.remove_entry(&flag.variable()).filter(|(_, value)| !value.is_empty())
    }

    /// The names of the variables left.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// Sets what the command line has not.
    pub(super) fn apply(
        mut self,
        settings: &mut Settings,
        warnings: &mut Vec<String>,
    ) -> Result<(), Failure> {
        for flag in FLAGS {
            let Some((variable, value)) = self.take(flag) else { continue };
            if settings.is_set(flag.name) {
                let name = flag.name;
                warnings.push(format!("{variable} is ignored, because --{name} is given as well"));
            } else {
                settings.set(flag, &value, Origin::Environment(variable))?;
            }
        }
        // Only the name: whatever it is, its value may be a secret.
        for name in self.names() {
            let flag = name["ETCD_".len()..].to_ascii_lowercase().replace('_', "-");
            let nearest = flags::nearest(&flag).and_then(flags::find).map(Flag::variable);
            let hint = did_you_mean("", nearest.as_deref());
            warnings.push(format!("unrecognized environment variable {name}{hint}"));
        }
        Ok(())
    }
}
