//! `--config-file`: YAML with the flags' names as keys, and etcd's four sections.
//!
//! A file is flattened to leaves (`peer-transport-security.cert-file`), and every leaf is a flag,
//! so a value is checked and judged alike wherever it stands. As in etcd, an empty value counts as
//! none, and a duration may be a number, of nanoseconds. Other than in etcd, it may also be text
//! (`5s`), and an unknown key stops the start: a misspelt security section must not be lost.

use std::fmt;
use std::io;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::failure::{Failure, did_you_mean};
use super::flags::{self, Kind};
use super::settings::{Origin, Settings};

/// The keys whose place differs from the flag's name.
const SECTIONS: &[(&str, &str)] = &[
    ("client-transport-security.cert-file", "cert-file"),
    ("client-transport-security.key-file", "key-file"),
    ("client-transport-security.client-cert-file", "client-cert-file"),
    ("client-transport-security.client-key-file", "client-key-file"),
    ("client-transport-security.client-cert-auth", "client-cert-auth"),
    ("client-transport-security.trusted-ca-file", "trusted-ca-file"),
    ("client-transport-security.auto-tls", "auto-tls"),
    // No flag sets these two; the nearest in meaning stands for each.
    ("client-transport-security.allowed-cn", "client-cert-allowed-hostname"),
    ("client-transport-security.skip-client-san-verification", "peer-skip-client-san-verification"),
    ("client-transport-security.allowed-hostname", "client-cert-allowed-hostname"),
    ("peer-transport-security.cert-file", "peer-cert-file"),
    ("peer-transport-security.key-file", "peer-key-file"),
    ("peer-transport-security.client-cert-file", "peer-client-cert-file"),
    ("peer-transport-security.client-key-file", "peer-client-key-file"),
    ("peer-transport-security.client-cert-auth", "peer-client-cert-auth"),
    ("peer-transport-security.trusted-ca-file", "peer-trusted-ca-file"),
    ("peer-transport-security.auto-tls", "peer-auto-tls"),
    ("peer-transport-security.allowed-cn", "peer-cert-allowed-cn"),
    ("peer-transport-security.allowed-hostname", "peer-cert-allowed-hostname"),
    ("peer-transport-security.skip-client-san-verification", "peer-skip-client-san-verification"),
    ("socket-options.reuse-port", "socket-reuse-port"),
    ("socket-options.reuse-address", "socket-reuse-address"),
    ("discovery-config.token", "discovery-token"),
    ("discovery-config.client.endpoints", "discovery-endpoints"),
    ("discovery-config.client.dial-timeout", "discovery-dial-timeout"),
    ("discovery-config.client.request-timeout", "discovery-request-timeout"),
    ("discovery-config.client.keepalive-time", "discovery-keepalive-time"),
    ("discovery-config.client.keepalive-timeout", "discovery-keepalive-timeout"),
    ("discovery-config.client.secure.insecure-transport", "discovery-insecure-transport"),
    (
        "discovery-config.client.secure.insecure-skip-tls-verify",
        "discovery-insecure-skip-tls-verify",
    ),
    ("discovery-config.client.secure.cert", "discovery-cert"),
    ("discovery-config.client.secure.key", "discovery-key"),
    ("discovery-config.client.secure.cacert", "discovery-cacert"),
    ("discovery-config.client.auth.username", "discovery-user"),
    ("discovery-config.client.auth.password", "discovery-password"),
];

/// Sections deeper than this are no configuration.
const DEPTH_MAX: usize = 8;

pub(super) fn read(
    path: &Path,
    read_file: impl FnOnce(&Path) -> io::Result<String>,
) -> Result<Settings, Failure> {
    let text = read_file(path)
        .map_err(|error| Failure::FileUnreadable { path: path.to_owned(), error })?;
    let invalid = |reason: String| Failure::FileInvalid { path: path.to_owned(), reason };
    let root: Node = serde_saphyr::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    let mut leaves = Vec::new();
    match root {
        // A file of comments alone.
        Node::Null => {}
        Node::Map(entries) => flatten("", entries, 0, &mut leaves).map_err(invalid)?,
        Node::Scalar(_) | Node::List(_) => {
            return Err(invalid("it is not a map of names to values".to_owned()));
        }
    }
    let mut settings = Settings::default();
    for (key, value) in leaves {
        set(&mut settings, path, key, value)?;
    }
    Ok(settings)
}

fn set(settings: &mut Settings, path: &Path, key: String, value: String) -> Result<(), Failure> {
    let name = SECTIONS.iter().find(|(place, _)| *place == key).map(|(_, name)| *name);
    let name = name.unwrap_or(&key);
    let Some(flag) = flags::find(name) else {
        return Err(Failure::FileInvalid {
            path: path.to_owned(),
            reason: format!("unknown key {key:?}{}", did_you_mean("", nearest(&key))),
        });
    };
    if flag.name == "config-file" {
        let reason = "it cannot name another configuration file".to_owned();
        return Err(Failure::FileInvalid { path: path.to_owned(), reason });
    }
    if value.is_empty() {
        return Ok(());
    }
    let value = if flag.kind == Kind::Duration && value.parse::<i64>().is_ok() {
        format!("{value}ns")
    } else {
        value
    };
    settings.set(flag, &value, Origin::File { path: path.to_owned(), key })
}

fn nearest(key: &str) -> Option<&'static str> {
    if !key.contains('.') {
        return flags::nearest(key);
    }
    SECTIONS
        .iter()
        .map(|(place, _)| (strsim::normalized_damerau_levenshtein(place, key), *place))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, place)| place)
}

fn flatten(
    prefix: &str,
    entries: Vec<(String, Node)>,
    depth: usize,
    leaves: &mut Vec<(String, String)>,
) -> Result<(), String> {
    if depth == DEPTH_MAX {
        return Err(format!("{prefix} is nested too deeply"));
    }
    for (key, node) in entries {
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match node {
            // An empty section, or a key without a value: still a key that must exist.
            Node::Null if SECTIONS.iter().any(|(place, _)| starts_section(place, &key)) => {}
            Node::Null => leaves.push((key, String::new())),
            Node::Scalar(value) => leaves.push((key, value)),
            Node::List(items) => leaves.push((key.clone(), join(&key, items)?)),
            Node::Map(entries) => flatten(&key, entries, depth + 1, leaves)?,
        }
    }
    Ok(())
}

fn starts_section(place: &str, key: &str) -> bool {
    place.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'))
}

fn join(key: &str, items: Vec<Node>) -> Result<String, String> {
    let mut words = Vec::new();
    for item in items {
        match item {
            Node::Scalar(word) => words.push(word),
            Node::Null => {}
            Node::List(_) | Node::Map(_) => {
                return Err(format!("{key} must be a list of plain values"));
            }
        }
    }
    Ok(words.join(","))
}

/// YAML as far as a configuration needs it: scalars are kept as text, whatever their type.
#[derive(Debug)]
enum Node {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain value, a list or a map")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Node::Map(map))
    }
}
