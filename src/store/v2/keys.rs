//! The keys of v2's tables; [`keys`](crate::store::keys) has them beside the others.

use super::path;
use crate::store::keys::{V2_EXPIRING, V2_HISTORY, V2_NODE};

/// Whose nodes: clients'.
const CLIENTS: u8 = b'1';
/// Those of users and roles.
const AUTH: u8 = b'2';

/// Before each part of a path.
const SEPARATOR: u8 = 0x00;
/// Before what stands for [`SEPARATOR`], or for itself.
const ESCAPE: u8 = 0x01;
const ESCAPED_SEPARATOR: u8 = 0x01;
const ESCAPED_ESCAPE: u8 = 0x02;

/// Writes the key of the node at `path`; of the root, what all nodes' keys begin with.
pub(super) fn node(buffer: &mut Vec<u8>, path: &str) {
    let (space, path) = match path.strip_prefix(path::AUTH) {
        Some(path) => (AUTH, path),
        None => (CLIENTS, path),
    };
    buffer.clear();
    buffer.extend_from_slice(&[V2_NODE, space]);
    push_path(buffer, path);
}

fn push_path(buffer: &mut Vec<u8>, path: &str) {
    if path == "/" {
        return;
    }
    for &byte in path.as_bytes() {
        match byte {
            b'/' => buffer.push(SEPARATOR),
            SEPARATOR => buffer.extend_from_slice(&[ESCAPE, ESCAPED_SEPARATOR]),
            ESCAPE => buffer.extend_from_slice(&[ESCAPE, ESCAPED_ESCAPE]),
            byte => buffer.push(byte),
        }
    }
}

/// Turns a directory's key into the place before all that is in it.
pub(super) fn begin_content(key: &mut Vec<u8>) {
    key.push(SEPARATOR);
}

/// Turns a node's key into the first place behind it and all that is in it.
pub(super) fn end_content(key: &mut Vec<u8>) {
    // No name goes on with it, since it would be followed by what it stands for: that comes later.
    key.push(SEPARATOR + 1);
}

/// Whether the node of a key stands in the directory with the key `above`, at any depth.
pub(super) fn is_within(key: &[u8], above: &[u8]) -> bool {
    key.strip_prefix(above).is_some_and(|rest| rest.first() == Some(&SEPARATOR))
}

/// The path that a node's key names, or `None` when it is none's.
pub(super) fn path(key: &[u8]) -> Option<String> {
    let (table, name) = key.split_first()?;
    if *table == V2_NODE { name_path(name) } else { None }
}

/// The path of a name as it stands in a key, its space first. The root has no record.
fn name_path(name: &[u8]) -> Option<String> {
    let (&space, mut rest) = name.split_first()?;
    if ![CLIENTS, AUTH].contains(&space) || rest.first() != Some(&SEPARATOR) {
        return None;
    }
    let mut path = Vec::with_capacity(rest.len() + 1);
    if space == AUTH {
        path.extend_from_slice(path::AUTH.as_bytes());
    }
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            SEPARATOR => path.push(b'/'),
            ESCAPE => {
                let (&escaped, tail) = rest.split_first()?;
                rest = tail;
                path.push(match escaped {
                    ESCAPED_SEPARATOR => SEPARATOR,
                    ESCAPED_ESCAPE => ESCAPE,
                    _ => return None,
                });
            }
            byte => path.push(byte),
        }
    }
    String::from_utf8(path).ok()
}

/// Writes the `expiring` key of a node, whose own key is `node`.
pub(super) fn expiring(buffer: &mut Vec<u8>, expiration: i64, created: u64, node: &[u8]) {
    buffer.clear();
    buffer.push(V2_EXPIRING);
    buffer.extend_from_slice(&(expiration ^ i64::MIN).to_be_bytes());
    buffer.extend_from_slice(&created.to_be_bytes());
    buffer.extend_from_slice(node.get(1..).unwrap_or_default());
}

/// The expiration, the created index and the path of an `expiring` key, or `None` when it is none.
pub(super) fn expiring_key(key: &[u8]) -> Option<(i64, u64, String)> {
    let (table, rest) = key.split_first()?;
    let (expiration, rest) = rest.split_first_chunk::<8>()?;
    let (created, name) = rest.split_first_chunk::<8>()?;
    let path = name_path(name)?;
    let expiration = i64::from_be_bytes(*expiration) ^ i64::MIN;
    (*table == V2_EXPIRING).then_some((expiration, u64::from_be_bytes(*created), path))
}

/// What all `expiring` keys begin with.
pub(super) const EXPIRING: &[u8] = &[V2_EXPIRING];

/// Writes the `history` key of the event with this index.
pub(super) fn history(buffer: &mut Vec<u8>, index: u64) {
    buffer.clear();
    buffer.push(V2_HISTORY);
    buffer.extend_from_slice(&index.to_be_bytes());
}

/// The index of a `history` key, or `None` when it is none.
pub(super) fn history_key(key: &[u8]) -> Option<u64> {
    let key: &[u8; 9] = key.try_into().ok()?;
    let (table, index) = key.split_first()?;
    let index = u64::from_be_bytes(index.try_into().ok()?);
    (*table == V2_HISTORY).then_some(index)
}

/// Whether a record of v2's tables has a key that can be taken apart.
pub(in crate::store) fn is_sound(key: &[u8]) -> bool {
    path(key).is_some() || history_key(key).is_some() || expiring_key(key).is_some()
}
