//! Names of nodes: absolute paths without empty, `.` or `..` parts, as Go's `path.Clean` makes them.

use std::fmt;

use crate::limits;

/// What auth's paths have before their first slash. Clients' begin with the slash: none of them is auth's.
pub(super) const AUTH: &str = "2";

/// A node's name: `/`, or parts that each begin with a slash. Behind [`AUTH`], that of a node which no client sees.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(String);

impl Path {
    /// The root's.
    #[must_use]
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// What a client means by `raw`. `..` at the root stays there.
    #[must_use]
    pub fn new(raw: &str) -> Self {
        let mut clean = String::with_capacity(raw.len() + 1);
        for part in raw.split('/') {
            match part {
                "" | "." => {}
                ".." => clean.truncate(clean.rfind('/').unwrap_or(0)),
                part => {
                    clean.push('/');
                    clean.push_str(part);
                }
            }
        }
        if clean.is_empty() { Self::root() } else { Self(clean) }
    }

    /// One of auth's nodes.
    #[must_use]
    pub fn auth(raw: &str) -> Self {
        Self(format!("{AUTH}{}", Self::new(raw)))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0 == "/" || self.0.strip_prefix(AUTH) == Some("/")
    }

    /// The node's own name; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it is longer or deeper than nodes may be.
    #[must_use]
    pub fn is_too_long(&self) -> bool {
        self.0.len() > limits::V2_PATH_BYTES_MAX || self.parts().count() > limits::V2_PATH_PARTS_MAX
    }

    /// The parts, from the root on.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|part| !part.is_empty())
    }

    /// The directories above it, from the root's child on, itself left out.
    pub(super) fn ancestors(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').skip(1).filter_map(|(end, _)| self.0.get(..end))
    }

    /// Whether it stands in the directory `above`, at any depth, or is `above`.
    #[must_use]
    pub fn is_within(&self, above: &str) -> bool {
        Self::is_text_within(&self.0, above)
    }

    /// The same of a path as text.
    pub(super) fn is_text_within(path: &str, above: &str) -> bool {
        if above == "/" {
            return path.starts_with('/');
        }
        let below = path.strip_prefix(above);
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// One that is clean already.
    pub(super) fn of_clean(path: String) -> Self {
        debug_assert!({
            let plain = path.strip_prefix(AUTH).unwrap_or(&path);
            Self::new(plain).0 == plain
        });
        Self(path)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether `key`, at or below `above`, is hidden from those who look at `above`: a part below it begins with `_`.
pub(super) fn is_hidden_below(above: &str, key: &str) -> bool {
    let rest = if above == "/" { Some(key) } else { key.strip_prefix(above) };
    rest.is_some_and(|rest| rest.contains("/_"))
}
