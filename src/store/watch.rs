//! What changed, by revision: what watchers are told is read from a view, and kept nowhere else.
//!
//! The `rev` table names each change's key in the order of the changes, so whoever fell behind reads on where they
//! stopped, as long as that was not compacted. A revision is read whole or not at all.

use bytes::Bytes;
use urd_proto::mvccpb::event::EventType;
use urd_proto::mvccpb::{Event, KeyValue};

use super::keys::{self, ChangeId, ChangeKind};
use super::range_scan::key_value;
use super::scan::Shape;
use super::view::View;
use super::walk::{Live, find};
use crate::ids::Revision;
use crate::tree::{Cursor, Read};

/// One change of one key.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The key that changed.
    pub key: &'a [u8],
    id: ChangeId,
    kind: ChangeKind,
}

impl Change<'_> {
    /// Whether the key was deleted, and not put.
    #[must_use]
    pub fn is_delete(&self) -> bool {
        self.kind == ChangeKind::Tombstone
    }

    /// The revision that made it.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.id.main
    }
}

/// Shows the changes of revision `from` and of those after it, whole revisions, until about `changes_max` were shown.
/// Says which revision comes next: the one after the view's newest when all were shown.
pub fn for_each_change(
    view: &View,
    from: Revision,
    changes_max: usize,
    mut show: impl FnMut(Change<'_>),
) -> Revision {
    let mut place = Vec::new();
    // A client may ask for less than the first revision.
    keys::rev(&mut place, ChangeId::first_of(from.max(Revision(0))));
    let mut cursor = view.snapshot().cursor();
    cursor.seek(&place);
    let mut shown = 0;
    let mut last = from;
    while cursor.valid()
        && let Some(id) = keys::rev_key(cursor.key())
    {
        if shown >= changes_max && id.main != last {
            return id.main;
        }
        last = id.main;
        let (kind, key) = keys::rev_value(cursor.value());
        show(Change { key, id, kind });
        shown += 1;
        cursor.next();
    }
    view.revision().next()
}

/// What a watcher is told of a change.
#[must_use]
pub fn event(view: &View, change: Change<'_>, prev_kv: bool) -> Event {
    let mut buffer = Vec::new();
    let previous = Revision(change.id.main.0 - 1);
    let prev_kv = (prev_kv && previous >= view.compacted())
        .then(|| {
            let show = |live: Live<'_>| key_value(&live, Shape::KeysAndValues);
            find(view.snapshot(), &mut buffer, change.key, previous, show)
        })
        .flatten();
    let (kind, kv) = match change.kind {
        ChangeKind::Put => (EventType::Put, put(view, change, &mut buffer)),
        ChangeKind::Tombstone => (EventType::Delete, KeyValue::default()),
    };
    let key = Bytes::copy_from_slice(change.key);
    let kv = KeyValue { key, mod_revision: change.id.main.0, ..kv };
    Event { r#type: kind.into(), kv: Some(kv), prev_kv }
}

/// The key-value that a put wrote.
fn put(view: &View, change: Change<'_>, buffer: &mut Vec<u8>) -> KeyValue {
    keys::kv_prefix(buffer, change.key);
    keys::kv_push_change(buffer, change.id);
    let mut cursor = view.snapshot().cursor();
    cursor.seek(buffer);
    assert!(cursor.valid() && cursor.key() == buffer, "invariant: a change stands in both tables");
    let live = Live::read(cursor.key(), cursor.value());
    live.map(|live| key_value(&live, Shape::KeysAndValues)).unwrap_or_default()
}
