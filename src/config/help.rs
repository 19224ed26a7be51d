//! The texts of `--help` and `--version`.

use super::flags::{Flag, Group, Kind, Standing};
use super::table::FLAGS;
use crate::version::ETCD_VERSION;

const USAGE: &str = "\
Urd, a durable key-value store for metadata that speaks etcd's API.

Usage:
  urd [flags]                 Start a member.
  urd --config-file FILE      Start a member; only the file counts.
  urd --version               Print the versions of Urd and of the API.
  urd --help                  Print this.

A flag is written --name=value, --name value, or with a single dash; a boolean may stand alone.
Every flag can be set by a variable instead: --data-dir by ETCD_DATA_DIR. A flag wins.
";

/// The line about Urd comes first; the one about etcd is what etcd's own tools look for.
pub(super) fn version() -> String {
    format!("urd Version: {}\netcd Version: {ETCD_VERSION}\n", env!("CARGO_PKG_VERSION"))
}

pub(super) fn help() -> String {
    let mut text = USAGE.to_owned();
    for group in Group::ALL {
        text.push_str(&format!("\n{}:\n", group.title()));
        for flag in FLAGS {
            if let Standing::Used { group: of, help } = flag.standing
                && of == group
            {
                text.push_str(&format!("  --{}{}\n    {help}\n", flag.name, shown_default(flag)));
            }
        }
    }
    section(&mut text, "Refused, because ignoring them would cost security or data", |standing| {
        match standing {
            Standing::Refused { why } => Some(why),
            _ => None,
        }
    });
    section(&mut text, "etcd's flags that have no effect here; a warning says so", |standing| {
        match standing {
            Standing::Idle { why } => Some(why),
            _ => None,
        }
    });
    section(
        &mut text,
        "No longer etcd's flags, and without effect here",
        |standing| match standing {
            Standing::Removed { why } => Some(why),
            _ => None,
        },
    );
    text
}

fn shown_default(flag: &Flag) -> String {
    match (flag.kind, flag.default) {
        (Kind::Bool | Kind::Unsigned | Kind::Integer, "") => String::new(),
        (_, default) => format!(" '{default}'"),
    }
}

/// One line per reason, since many flags share one.
fn section(text: &mut String, title: &str, why: impl Fn(Standing) -> Option<&'static str>) {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for flag in FLAGS {
        let Some(why) = why(flag.standing) else { continue };
        match reasons.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, names)) => names.push(flag.name),
            None => reasons.push((why, vec![flag.name])),
        }
    }
    text.push_str(&format!("\n{title}:\n"));
    for (reason, names) in reasons {
        for name in names {
            text.push_str(&format!("  --{name}\n"));
        }
        text.push_str(&format!("    {reason}.\n"));
    }
}
