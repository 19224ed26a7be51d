//! Reading ahead of v2's requests: the pages that [`apply`](super::apply) is going to need; see
//! [`touch`](crate::store::touch).

use std::hint::black_box;

use super::keys;
use super::path::Path;
use super::request::{Action, Expiry, Request};
use crate::store::View;
use crate::tree::{Cursor, Read};

/// What a lookup takes from the budget.
const LOOKUP_COST_BYTES: usize = 64;

/// Reads what carrying out `request` would; says for how much of the budget.
pub(in crate::store) fn touch(view: &View, request: &Request, budget: usize) -> usize {
    let path = Path::new(&request.path);
    let snapshot = view.snapshot();
    let mut key = Vec::new();
    if let Some(above) = path.ancestors().last() {
        keys::node(&mut key, above);
        black_box(snapshot.get(&key).map(|record| record.len()));
    }
    keys::node(&mut key, path.as_str());
    let removes = request.action() == Action::Delete && request.recursive;
    3 * LOOKUP_COST_BYTES + touch_history(view) + touch_nodes(view, &key, removes, budget)
}

/// The same for what expires.
pub(in crate::store) fn touch_expiry(view: &View, request: &Expiry, budget: usize) -> usize {
    let mut cursor = view.snapshot().cursor();
    cursor.seek(keys::EXPIRING);
    let (mut spent, mut nodes, mut key) = (touch_history(view), 0, Vec::new());
    while cursor.valid()
        && spent < budget
        && nodes < request.nodes_max
        && let Some((expiration, _, path)) = keys::expiring_key(cursor.key())
        && expiration <= request.cutoff
    {
        keys::node(&mut key, &path);
        spent += LOOKUP_COST_BYTES + touch_nodes(view, &key, true, budget - spent);
        nodes += 1;
        cursor.next();
    }
    spent
}

/// The record at a node's key, or its place, and with `content` what is in it.
fn touch_nodes(view: &View, key: &[u8], content: bool, budget: usize) -> usize {
    let mut cursor = view.snapshot().cursor();
    cursor.seek(key);
    let mut spent = 0;
    while cursor.valid() && spent < budget {
        let is_own = cursor.key() == key;
        if !is_own && !(content && keys::is_within(cursor.key(), key)) {
            break;
        }
        spent += LOOKUP_COST_BYTES + cursor.value().len();
        black_box(cursor.value().last().copied());
        if is_own && !content {
            break;
        }
        cursor.next();
    }
    spent
}

/// Where the next event goes, and the oldest that goes then.
fn touch_history(view: &View) -> usize {
    let mut key = Vec::new();
    let mut cursor = view.snapshot().cursor();
    for index in [view.v2().first, view.v2().index] {
        keys::history(&mut key, index);
        cursor.seek(&key);
        if cursor.valid() {
            black_box(cursor.key().last().copied());
        }
    }
    2 * LOOKUP_COST_BYTES
}
