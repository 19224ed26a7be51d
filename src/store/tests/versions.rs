//! All versions that are kept are told, those of a prefix alone, in order.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{Feed, compact, delete, ok, put};
use crate::store::command::Command;
use crate::store::{View, for_each_version};

/// Key, mod revision, sub, and of a put create revision, version and value, as a line each.
fn told(view: &View, prefix: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let end = for_each_version(view, prefix, |version| {
        let value = version.value.map_or("deleted".to_owned(), |it| {
            let (created, version) = (it.create_revision, it.version);
            format!("{created} {version} {}", it.value.escape_ascii())
        });
        let (key, revision) = (version.key.escape_ascii(), version.mod_revision);
        lines.push(format!("{key} {revision}.{} {value}", version.sub));
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(end, ControlFlow::Continue(()));
    lines
}

#[test]
fn versions_by_key_the_newest_first() {
    let mut feed = Feed::new();
    for key in ["a", "b", "a\0", "a\0c", "ab"] {
        let key = Bytes::from(key.to_owned().into_bytes());
        ok(feed.apply(&Command::Put(urd_proto::etcdserverpb::PutRequest { key, ..put("", "1") })));
    }
    ok(feed.apply(&Command::Put(put("a", "2"))));
    ok(feed.apply(&Command::DeleteRange(delete("a", "b"))));
    let view = feed.view();
    assert_eq!(view.live_keys(), 1);
    let all = [
        "a 8.0 deleted",
        "a 7.0 2 2 2",
        "a 2.0 2 1 1",
        "a\\x00 8.1 deleted",
        "a\\x00 4.0 4 1 1",
        "a\\x00c 8.2 deleted",
        "a\\x00c 5.0 5 1 1",
        "ab 8.3 deleted",
        "ab 6.0 6 1 1",
        "b 3.0 3 1 1",
    ];
    assert_eq!(told(&view, b""), all);
    assert_eq!(told(&view, b"a\0"), all[3..7]);
    assert_eq!(told(&view, b"b"), all[9..]);
    assert_eq!(told(&view, b"c"), [""; 0]);
    // A deletion at the compacted revision itself would be kept.
    ok(feed.apply(&Command::Put(put("b", "1"))));
    ok(feed.apply(&compact(9)));
    while !feed.store.compact_slice(100) {}
    assert_eq!(told(&feed.view(), b""), ["b 9.0 3 2 1"]);
    let first = for_each_version(&feed.view(), b"", |version| ControlFlow::Break(version.key));
    assert_eq!(first, ControlFlow::Break(b"b".to_vec()));
    feed.finish();
}
