//! Is a view sound? Walks everything and compares what the tables say about each other.
//!
//! - Every record can be read.
//! - Every `rev` record has its `kv` record and the other way round, of the same kind.
//! - Counted are exactly the newest versions of live keys.
//! - Within a key, versions follow each other: 1 and a new create revision after a tombstone, else
//!   one more and the same create revision.
//! - Attached to a lease are exactly the live keys whose newest version names it, and there is that lease.
//! - No member was removed, and no two share a peer URL.
//! - v2's keys and events are as [`v2`] has them.
//! - No change is beyond the newest revision, and the `meta` record says what the view says.
//! - The tree below is sound by its own check; of a [`Store`](super::Store), its books too.
//!
//! It takes as long as the data is large; tests end with it, and so may an operator's tool.

use std::fmt;

use super::keys::{self, ChangeKind, KvKey};
use super::lease::{self, Lease};
use super::members::Members;
use super::meta::Meta;
use super::record::{self, Record, is_tombstone};
use super::v2;
use super::view::View;
use crate::ids::{LeaseId, Revision};
use crate::tree::{Cursor, Damage, Read};

/// Faults after which a check stops: more tell no more.
const FAULTS_MAX: usize = 20;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(String);

impl Fault {
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Damage> for Fault {
    fn from(damage: Damage) -> Self {
        Self(format!("the tree is damaged: {damage}"))
    }
}

/// The faults of a view; none if all is well.
#[must_use]
pub fn check(view: &View) -> Vec<Fault> {
    let mut check = Check { view, faults: Vec::new(), changes: 0, live: 0, leased: 0 };
    if let Err(damage) = view.snapshot().check() {
        // What follows relies on the order of keys.
        return vec![Fault::from(damage)];
    }
    check.records();
    if !check.faults.is_empty() {
        // Neither can what follows read them.
        return check.faults;
    }
    check.meta();
    check.versions();
    check.revisions();
    check.counts();
    check.attachments();
    check.members();
    v2::check(view, |text| check.fault(text));
    check.faults
}

struct Check<'a> {
    view: &'a View,
    faults: Vec<Fault>,
    /// Records in `kv`.
    changes: u64,
    /// Of these, newest versions of live keys.
    live: u64,
    /// Of these, keys with a lease.
    leased: u64,
}

/// A record that the walk over `kv` has passed.
struct Seen {
    prefix: Vec<u8>,
    /// Create revision and version; `None` for a tombstone.
    numbers: Option<(Revision, i64)>,
}

impl Check<'_> {
    fn fault(&mut self, text: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault(text));
        }
    }

    /// Each record by itself: can it be read?
    fn records(&mut self) {
        let mut cursor = self.view.snapshot().cursor();
        cursor.seek(&[]);
        while cursor.valid() {
            let (key, value) = (cursor.key(), cursor.value());
            let is_value_sound = || match key.first() {
                Some(&keys::KV) => record::is_sound(KvKey::split(key).change, value),
                Some(&keys::V2_NODE | &keys::V2_HISTORY) => v2::is_sound(key, value),
                Some(_) if key == keys::V2_NUMBERS_KEY => v2::is_sound(key, value),
                _ => keys::lease_key(key).is_none() || Lease::is_sound(value),
            };
            if !keys::is_sound(key, value) || !is_value_sound() {
                self.fault(format!("the record at {} is not readable", key.escape_ascii()));
            }
            cursor.next();
        }
    }

    fn meta(&mut self) {
        let stored = self.view.snapshot().get(keys::META_KEY).and_then(|it| Meta::decode(&it));
        if stored.as_ref() != Some(self.view.meta()) {
            self.fault(format!("the view says {:?}, its tree {stored:?}", self.view.meta()));
        }
    }

    /// The members' tables, and that the view says the same.
    fn members(&mut self) {
        let snapshot = self.view.snapshot();
        match Members::read(snapshot) {
            Some(members) if members == *self.view.members() => {
                members.faults(snapshot).into_iter().for_each(|fault| self.fault(fault));
            }
            stored => {
                self.fault(format!(
                    "the view has members {:?}, its tree {stored:?}",
                    self.view.members()
                ));
            }
        }
    }

    /// Table `kv`: each record by itself, beside the next older one of its key, and in `rev`.
    fn versions(&mut self) {
        let snapshot = self.view.snapshot();
        let mut cursor = snapshot.cursor();
        let mut rev_key = Vec::new();
        // The record before the cursor: the next newer one, if it is of the same key.
        let mut newer: Option<Seen> = None;
        cursor.seek(&[keys::KV]);
        while cursor.valid() && cursor.key().first() == Some(&keys::KV) {
            let key = KvKey::split(cursor.key());
            let name = cursor.key().escape_ascii().to_string();
            let record = Record::read(key.change, cursor.value());
            let is_newest = newer.as_ref().is_none_or(|newer| newer.prefix != key.prefix);
            let is_live = is_newest && record.is_some();
            self.changes += 1;
            self.live += u64::from(is_live);
            if cursor.counted() != is_live {
                self.fault(format!("{name} counts: {}, live: {is_live}", cursor.counted()));
            }
            if key.change.main > self.view.revision() {
                self.fault(format!("{name} is beyond revision {}", self.view.revision()));
            }
            if let Some(record) = record
                && is_live
                && record.lease != 0
            {
                self.leased += 1;
                self.attached(&name, LeaseId(record.lease), &key.user_key().to_vec());
            }
            let numbers = record.map(|record| (record.create_revision, record.version));
            if let (false, Some(Seen { numbers: Some(newer), .. })) = (is_newest, newer) {
                self.sequence(&name, numbers, newer);
            }
            newer = Some(Seen { prefix: key.prefix.to_vec(), numbers });

            keys::rev(&mut rev_key, key.change);
            let expected = match record {
                Some(_) => ChangeKind::Put,
                None => ChangeKind::Tombstone,
            };
            let stored = snapshot.get(&rev_key);
            let stored = stored.as_ref().map(|value| keys::rev_value(value));
            if stored != Some((expected, &key.user_key().to_vec())) {
                self.fault(format!("{name} stands in rev as {stored:?}"));
            }
            cursor.next();
        }
    }

    /// A live key with a lease.
    fn attached(&mut self, name: &str, id: LeaseId, user_key: &[u8]) {
        let snapshot = self.view.snapshot();
        let mut attached = Vec::new();
        keys::attached(&mut attached, id, user_key);
        if snapshot.get(&attached).is_none() {
            self.fault(format!("{name} is not attached to its lease {id}"));
        }
        if lease::find(snapshot, id).is_none() {
            self.fault(format!("{name} has lease {id}, which is not there"));
        }
    }

    /// Table `attached`: with equal numbers of both and [`Check::attached`], it has what `kv` says.
    fn attachments(&mut self) {
        let mut cursor = self.view.snapshot().cursor();
        let mut place = Vec::new();
        keys::attached(&mut place, LeaseId(i64::MIN), &[]);
        cursor.seek(&place);
        let mut attached = 0;
        while cursor.valid() && keys::attached_key(cursor.key()).is_some() {
            attached += 1;
            cursor.next();
        }
        if attached != self.leased {
            self.fault(format!("{attached} keys are attached, {} have a lease", self.leased));
        }
    }

    /// A version (`None`: a tombstone) and the one after it: create revision and version number.
    fn sequence(&mut self, name: &str, older: Option<(Revision, i64)>, newer: (Revision, i64)) {
        let follows = match older {
            None => newer.1 == 1,
            Some((created, version)) => newer == (created, version + 1),
        };
        if !follows {
            self.fault(format!("{name} is {older:?}, the version after it {newer:?}"));
        }
    }

    /// Table `rev`: each change has its record. With equal numbers of both and [`Check::versions`],
    /// they are the same.
    fn revisions(&mut self) {
        let snapshot = self.view.snapshot();
        let mut cursor = snapshot.cursor();
        let mut buffer = Vec::new();
        let mut changes = 0;
        keys::rev(&mut buffer, keys::ChangeId::first_of(Revision(0)));
        cursor.seek(&buffer);
        while cursor.valid()
            && let Some(change) = keys::rev_key(cursor.key())
        {
            changes += 1;
            let (kind, user_key) = keys::rev_value(cursor.value());
            keys::kv_prefix(&mut buffer, user_key);
            keys::kv_push_change(&mut buffer, change);
            let is_sound = snapshot
                .get(&buffer)
                .is_some_and(|record| is_tombstone(&record) == (kind == ChangeKind::Tombstone));
            if !is_sound {
                self.fault(format!("{change:?} has no record of its kind in kv"));
            }
            cursor.next();
        }
        if changes != self.changes {
            self.fault(format!("{changes} changes in rev, {} in kv", self.changes));
        }
    }

    fn counts(&mut self) {
        let counted = self.view.snapshot().count(&[], None);
        if counted != self.live {
            self.fault(format!("the tree counts {counted} live keys, there are {}", self.live));
        }
    }
}
