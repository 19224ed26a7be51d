//! What a flag is, and how one is found by name. The flags themselves stand in `table`.

use super::table::FLAGS;
use super::values;

/// How the text of a value is read, and whether it may be left away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// May stand alone: `--flag` is `--flag=true`.
    Bool,
    Unsigned,
    Integer,
    Duration,
    /// Any text.
    Text,
    /// Comma-separated texts.
    List,
    /// Comma-separated URLs.
    Urls,
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl Kind {
    /// Checks the form alone and returns the value in one spelling per meaning.
    pub(super) fn check(self, value: &str) -> Result<String, String> {
        match self {
            Kind::Bool => return values::boolean(value).map(|value| value.to_string()),
            Kind::Unsigned => drop(values::unsigned(value)?),
            Kind::Integer => drop(values::integer(value)?),
            Kind::Duration => drop(values::nanoseconds(value)?),
            Kind::Urls => drop(values::urls(value)?),
            Kind::Text | Kind::List => {}
            Kind::Choice(words) => {
                if !words.contains(&value) {
                    return Err(format!("invalid value; must be one of {}", words.join(", ")));
                }
            }
        }
        Ok(value.to_owned())
    }
}

/// The headings of `--help`, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Member,
    Clustering,
    Logging,
    Placement,
}

impl Group {
    pub(super) const ALL: [Group; 4] =
        [Group::Member, Group::Clustering, Group::Logging, Group::Placement];

    pub(super) fn title(self) -> &'static str {
        match self {
            Group::Member => "Member",
            Group::Clustering => "Clustering",
            Group::Logging => "Logging",
            Group::Placement => "Placement on processors (Urd's own)",
        }
    }
}

/// What this version does with a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It does what it says.
    Used { group: Group, help: &'static str },
    /// etcd 3.7 has it; here it changes nothing, and why. Accepted with a warning.
    Idle { why: &'static str },
    /// etcd had it once and callers still pass it. Accepted with a warning.
    Removed { why: &'static str },
    /// Ignoring it would cost security or data, so it stops the start.
    Refused { why: &'static str },
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// In the form a user would write; for flags in use this is where the default comes from.
    pub(super) default: &'static str,
    pub(super) standing: Standing,
    /// Values that ask for nothing beyond what happens anyway: no warning, no refusal.
    pub(super) harmless: &'static [&'static str],
}

impl Flag {
    /// The variable that sets it.
    pub(super) fn variable(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// For rows of the table: see the field.
    pub(super) const fn unless(mut self, harmless: &'static [&'static str]) -> Flag {
        self.harmless = harmless;
        self
    }
}

/// The flag of exactly this name.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// The name that was probably meant, if any is near.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    FLAGS
        .iter()
        .filter(|flag| !matches!(flag.standing, Standing::Removed { .. }))
        .map(|flag| (strsim::jaro_winkler(flag.name, name), flag.name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
