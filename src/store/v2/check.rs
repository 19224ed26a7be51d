//! Is what a view has of v2 sound?
//!
//! - Every node stands in a directory, and has indexes that follow each other, none beyond the newest.
//! - What expires stands in the table of those that do, and nothing else.
//! - Of the history every event is there from the oldest that is kept on, and its bytes are those that are counted.

use super::history;
use super::keys;
use super::meta::Numbers;
use super::path;
use super::record::{Record, is_dir};
use crate::store::View;
use crate::store::keys::V2_NUMBERS_KEY;
use crate::tree::{Cursor, Read};

/// Whether the value of a record of v2's tables can be read: for those whom damage must not end.
pub(in crate::store) fn is_sound(key: &[u8], value: &[u8]) -> bool {
    if keys::path(key).is_some() {
        return Record::read(value).is_some();
    }
    if let Some(index) = keys::history_key(key) {
        return history::event(index, value).is_some();
    }
    key != V2_NUMBERS_KEY || Numbers::decode(value).is_some()
}

impl View {
    /// A hash of all that it has of v2: equal on all members at equal indexes of the log. It takes as long as the data is
    /// large.
    #[must_use]
    pub fn v2_hash(&self) -> u32 {
        let mut hash = crc32c::crc32c(&self.v2().encode());
        let mut cursor = self.snapshot().cursor();
        cursor.seek(keys::EXPIRING);
        while cursor.valid() && keys::is_sound(cursor.key()) {
            hash = crc32c::crc32c_append(hash, cursor.key());
            hash = crc32c::crc32c_append(hash, cursor.value());
            cursor.next();
        }
        hash
    }
}

/// Shows the faults of a view whose records can be read.
pub(in crate::store) fn check(view: &View, mut fault: impl FnMut(String)) {
    let stored = view.snapshot().get(V2_NUMBERS_KEY).and_then(|it| Numbers::decode(&it));
    if stored.unwrap_or_default() != *view.v2() {
        fault(format!("the view says {:?} of v2, its tree {stored:?}", view.v2()));
    }
    let expiring = nodes(view, &mut fault);
    expirations(view, expiring, &mut fault);
    events(view, &mut fault);
}

/// Table `v2 node`; says how many of them expire.
fn nodes(view: &View, fault: &mut impl FnMut(String)) -> u64 {
    let snapshot = view.snapshot();
    let (mut key, mut place) = (Vec::new(), Vec::new());
    let mut expiring = 0;
    keys::node(&mut place, "/");
    let mut cursor = snapshot.cursor();
    cursor.seek(&place);
    while cursor.valid()
        && let Some(path) = keys::path(cursor.key())
    {
        let record = Record::read(cursor.value()).unwrap_or(Record::ROOT);
        if let Some((above, _)) = path.rsplit_once('/')
            && !above.is_empty()
            && above != path::AUTH
        {
            keys::node(&mut key, above);
            if snapshot.get(&key).is_none_or(|above| !is_dir(&above)) {
                fault(format!("v2 node {path:?} stands in no directory"));
            }
        }
        if record.created > record.modified || record.modified > view.v2_index() {
            fault(format!("v2 node {path:?} is of {record:?}, the index is {}", view.v2_index()));
        }
        if let Some(expiration) = record.expiration {
            expiring += 1;
            keys::expiring(&mut key, expiration, record.created, cursor.key());
            if snapshot.get(&key).is_none() {
                fault(format!("v2 node {path:?} expires, and is not among those that do"));
            }
        }
        cursor.next();
    }
    expiring
}

/// Table `v2 expiring`: with equal numbers and what [`nodes`] has looked for, it has what it should.
fn expirations(view: &View, expiring: u64, fault: &mut impl FnMut(String)) {
    let mut cursor = view.snapshot().cursor();
    cursor.seek(keys::EXPIRING);
    let mut found = 0;
    while cursor.valid() && keys::expiring_key(cursor.key()).is_some() {
        found += 1;
        cursor.next();
    }
    if found != expiring {
        fault(format!("{found} v2 nodes are among those that expire, {expiring} do"));
    }
}

/// Table `v2 history`.
fn events(view: &View, fault: &mut impl FnMut(String)) {
    let Numbers { index, first, bytes, .. } = *view.v2();
    let mut key = Vec::new();
    keys::history(&mut key, 0);
    let mut cursor = view.snapshot().cursor();
    cursor.seek(&key);
    let (mut found, mut last) = (0, None);
    while cursor.valid()
        && let Some(at) = keys::history_key(cursor.key())
    {
        found += (cursor.key().len() + cursor.value().len()) as u64;
        if !(first..=index).contains(&at) || last.is_some_and(|last| at != last + 1) {
            fault(format!("v2 event {at} comes after {last:?}, kept are {first} to {index}"));
        }
        last = Some(at);
        cursor.next();
    }
    if last.is_some_and(|last| last != index) {
        fault(format!("the newest v2 event is {last:?}, the index {index}"));
    }
    if found != bytes {
        fault(format!("v2's events have {found} bytes, counted are {bytes}"));
    }
}
