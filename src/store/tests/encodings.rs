//! Keys and records as bytes.

use crate::ids::{LeaseId, Revision};
use crate::store::keys::{self, ChangeId, ChangeKind, KvKey};
use crate::store::record::{Record, TOMBSTONE_RECORD, is_tombstone};

fn change(main: i64, sub: u32) -> ChangeId {
    ChangeId { main: Revision(main), sub }
}

fn kv(user_key: &[u8], at: ChangeId) -> Vec<u8> {
    let mut key = Vec::new();
    keys::kv_prefix(&mut key, user_key);
    keys::kv_push_change(&mut key, at);
    key
}

#[test]
fn kv_keys_are_in_the_order_of_user_keys_then_newest_first() {
    let user_keys: [&[u8]; 11] = [
        b"", b"\0", b"\0\0", b"\0\x01", b"\0\xff", b"a", b"a\0", b"a\0\0b", b"a\x01", b"a\xff",
        b"b",
    ];
    let changes = [change(i64::MAX, 1), change(300, 2), change(300, 0), change(2, 7), change(0, 0)];
    let mut encoded = Vec::new();
    for user_key in user_keys {
        for at in changes {
            let key = kv(user_key, at);
            let split = KvKey::split(&key);
            assert_eq!(split.change, at);
            assert_eq!(split.user_key().to_vec(), user_key);
            assert_eq!(split.user_key().len(), user_key.len());
            encoded.push(key);
        }
        let mut end = Vec::new();
        keys::kv_prefix(&mut end, user_key);
        keys::kv_prefix_end(&mut end);
        encoded.push(end);
    }
    keys::kv_end(encoded.last_mut().expect("not empty"));
    assert!(encoded.is_sorted_by(|a, b| a < b));
}

#[test]
fn rev_keys_are_in_the_order_of_changes() {
    let changes = [change(0, 0), change(1, 0), change(1, 1), change(1, 256), change(256, 0)];
    let encode = |at: ChangeId| {
        let mut key = Vec::new();
        keys::rev(&mut key, at);
        assert_eq!(keys::rev_key(&key), Some(at));
        key
    };
    assert!(changes.map(encode).is_sorted());
    assert_eq!(keys::rev_key(&kv(b"", change(1, 0))), None);
    assert_eq!(keys::rev_key(keys::META_KEY), None);

    let mut value = Vec::new();
    keys::rev_mark(&mut value, ChangeKind::Tombstone);
    value.extend_from_slice(b"a\0");
    assert_eq!(keys::rev_value(&value), (ChangeKind::Tombstone, &b"a\0"[..]));
}

#[test]
fn keys_of_leases_are_in_the_order_of_ids_then_of_user_keys() {
    let mut encoded = Vec::new();
    let ids = [i64::MIN, -1, 1, 255, 256, i64::MAX].map(LeaseId);
    for id in ids {
        let mut key = Vec::new();
        keys::lease(&mut key, id);
        assert_eq!(keys::lease_key(&key), Some(id));
        assert_eq!(keys::attached_key(&key), None);
        encoded.push(key);
    }
    for (id, user_key) in
        ids.into_iter().flat_map(|id| [&b""[..], b"\0", b"a"].map(|key| (id, key)))
    {
        let mut key = Vec::new();
        keys::attached(&mut key, id, user_key);
        assert_eq!(keys::attached_key(&key), Some((id, user_key)));
        assert_eq!(keys::lease_key(&key), None);
        encoded.push(key);
    }
    let mut first_change = Vec::new();
    keys::rev(&mut first_change, change(0, 0));
    encoded.push(first_change);
    assert!(encoded.is_sorted_by(|a, b| a < b));
}

#[test]
fn records_are_read_back() {
    let numbers = [1, 127, 128, i64::MAX / 2];
    for (created, version, lease) in
        numbers.into_iter().flat_map(|n| numbers.map(|m| (n, m, n - 1))).chain([(5, 1, -1)])
    {
        let at = change(i64::MAX, 0);
        let record =
            Record { create_revision: Revision(created), version, lease, value: b"\x80value" };
        let mut bytes = Vec::new();
        record.write(at, &mut bytes);
        assert!(!is_tombstone(&bytes));
        assert_eq!(Record::read(at, &bytes), Some(record));
    }
    assert!(is_tombstone(TOMBSTONE_RECORD));
    assert_eq!(Record::read(change(3, 0), TOMBSTONE_RECORD), None);
}

/// What the file's head promises.
#[test]
fn a_new_key_costs_three_bytes_beside_its_value() {
    let mut bytes = Vec::new();
    let record = Record { create_revision: Revision(9), version: 1, lease: 0, value: b"value" };
    record.write(change(9, 0), &mut bytes);
    assert_eq!(bytes.len(), 3 + record.value.len());
}
