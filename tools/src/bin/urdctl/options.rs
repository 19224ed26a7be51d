//! What both APIs' command lines share: flags as Go programs take them, and the `ETCDCTL_*` environment.
//!
//! clap's own manners differ from those of etcdctl's parser in a few points, which [`with_gos_manners`] evens out for a
//! whole tree of commands: `--flag=false`, values that begin with a dash, and the last of a flag given twice.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::failure::Failure;
use crate::go;

const PREFIX: &str = "ETCDCTL_";
/// Variables that are read elsewhere, and no flags.
const NO_FLAGS: &[&str] = &["ETCDCTL_API", "ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"];

/// Lets every command take its flags as etcdctl does.
pub(crate) fn with_gos_manners(command: Command) -> Command {
    let command = command.args_override_self(true).mut_args(|arg| {
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            arg.action(ArgAction::Set)
                .value_parser(go::flag_bool)
                .num_args(0..=1)
                .require_equals(true)
                .default_value("false")
                .default_missing_value("true")
                .hide_default_value(true)
                .hide_possible_values(true)
                .value_name("BOOL")
        } else if arg.is_positional() || !arg.get_action().takes_values() {
            arg
        } else {
            arg.allow_hyphen_values(true)
        }
    });
    command.mut_subcommands(with_gos_manners)
}

/// `command`'s global flags take their defaults from the environment. `variables` is the environment.
pub(crate) fn with_environment(command: Command, variables: &BTreeMap<String, String>) -> Command {
    command.mut_args(|arg| match variable_of(&arg).and_then(|name| variables.get(&name)) {
        Some(value) if !value.is_empty() => {
            arg.default_value(value.clone()).hide_default_value(true)
        }
        _ => arg,
    })
}

/// The environment's variables that are etcdctl's.
pub(crate) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, lossy(value))))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect()
}

fn lossy(value: OsString) -> String {
    value.to_string_lossy().into_owned()
}

fn variable_of(arg: &Arg) -> Option<String> {
    let long = arg.get_long().filter(|_| arg.is_global_set())?;
    Some(format!("{PREFIX}{}", long.to_uppercase().replace('-', "_")))
}

/// A flag and its variable at once are a mistake, and a variable that is no flag's probably one too.
pub(crate) fn check_environment(
    command: &Command,
    matches: &ArgMatches,
    variables: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    let mut innermost = matches;
    while let Some((_, inner)) = innermost.subcommand() {
        innermost = inner;
    }
    let flags: BTreeMap<String, &Arg> =
        command.get_arguments().filter_map(|arg| Some((variable_of(arg)?, arg))).collect();
    for (name, value) in variables.iter().filter(|(name, _)| !NO_FLAGS.contains(&&name[..])) {
        let Some(arg) = flags.get(name) else {
            eprintln!("warning: unrecognized environment variable {name}={value}");
            continue;
        };
        let from_command_line = [matches, innermost].iter().any(|matches| {
            matches.try_contains_id(arg.get_id().as_str()).is_ok()
                && matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
        });
        if from_command_line && !value.is_empty() {
            return Err(Failure::error(format!(
                "conflicting environment variable {} is shadowed by corresponding command-line flag (either \
                 unset environment variable or disable flag)",
                go::quote(name.as_bytes())
            )));
        }
    }
    Ok(())
}

/// Help goes to standard output and is no failure; everything else is one, in etcdctl's form.
pub(crate) fn parse_failure(error: &clap::Error, code: u8) -> Result<(), Failure> {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            print!("{text}");
            Ok(())
        }
        _ => {
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            Err(Failure::with_code(code, text.trim_end()))
        }
    }
}
