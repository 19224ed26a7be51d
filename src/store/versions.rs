//! Every version of every key that the store keeps, those that a compaction has yet to remove included: for tools.

use std::ops::ControlFlow;

use super::keys::{self, KvKey};
use super::record::Record;
use super::view::View;
use crate::ids::Revision;
use crate::tree::{Cursor, Read};

/// What one change left of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version<'a> {
    pub key: Vec<u8>,
    pub mod_revision: Revision,
    /// The change's number within its revision.
    pub sub: u32,
    /// `None`: the key was deleted.
    pub value: Option<Value<'a>>,
}

/// What a put wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    pub create_revision: Revision,
    pub version: i64,
    pub lease: i64,
    pub value: &'a [u8],
}

/// Calls `each` for all versions of keys that begin with `prefix`, until it breaks: by key, the newest version first.
pub fn for_each_version<B>(
    view: &View,
    prefix: &[u8],
    mut each: impl FnMut(Version<'_>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let mut from = Vec::new();
    keys::kv_begin(&mut from, prefix);
    let mut cursor = view.snapshot().cursor();
    cursor.seek(&from);
    while cursor.valid() && cursor.key().starts_with(&from) {
        let key = KvKey::split(cursor.key());
        let value = Record::read(key.change, cursor.value()).map(|record| Value {
            create_revision: record.create_revision,
            version: record.version,
            lease: record.lease,
            value: record.value,
        });
        let (mod_revision, sub) = (key.change.main, key.change.sub);
        each(Version { key: key.user_key().to_vec(), mod_revision, sub, value })?;
        cursor.next();
    }
    ControlFlow::Continue(())
}
