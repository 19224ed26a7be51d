//! Names: what clients mean, and how they lie in the tree.

use super::super::{Path, keys};

#[test]
fn paths_are_cleaned_as_by_go() {
    for (raw, clean) in [
        ("", "/"),
        ("/", "/"),
        ("a", "/a"),
        ("//a///b//", "/a/b"),
        ("/a/./b/.", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/b/../../..", "/"),
        ("/../../a", "/a"),
        ("/a/...", "/a/..."),
        ("/..a/.b", "/..a/.b"),
    ] {
        assert_eq!(Path::new(raw).as_str(), clean, "{raw:?}");
        assert_eq!(Path::new(clean).as_str(), clean);
    }
}

#[test]
fn parts_and_ancestors() {
    let path = Path::new("/a/bc/d");
    assert_eq!(path.parts().collect::<Vec<_>>(), ["a", "bc", "d"]);
    assert_eq!(path.ancestors().collect::<Vec<_>>(), ["/a", "/a/bc"]);
    assert_eq!(path.name(), "d");
    assert_eq!(Path::root().ancestors().count(), 0);
    assert_eq!(Path::new("/a").ancestors().count(), 0);
    assert_eq!(Path::root().name(), "");
    for (path, above, is_within) in [
        ("/a/b", "/a", true),
        ("/a/b", "/", true),
        ("/", "/", true),
        ("/a", "/a", true),
        ("/ab", "/a", false),
        ("/a", "/a/b", false),
    ] {
        assert_eq!(Path::new(path).is_within(above), is_within, "{path} {above}");
    }
}

/// Content follows its directory, and what has a longer name comes behind it.
#[test]
fn keys_are_in_depth_first_order() {
    let ordered = ["/", "/a", "/a/\0", "/a/\0/x", "/a/\0a", "/a/\u{1}", "/a/b", "/a/b/c", "/a/c"];
    let ordered: Vec<&str> =
        ordered.into_iter().chain(["/a\0", "/a\u{1}", "/a\u{2}", "/a-b", "/ab", "/ä"]).collect();
    let key = |path: &str| {
        let mut key = Vec::new();
        keys::node(&mut key, path);
        key
    };
    for pair in ordered.windows(2) {
        assert!(key(pair[0]) < key(pair[1]), "{pair:?}");
    }
    for path in &ordered {
        let own = key(path);
        let (mut begin, mut end) = (own.clone(), own.clone());
        keys::begin_content(&mut begin);
        keys::end_content(&mut end);
        for other in &ordered {
            let is_content = path != other && Path::new(other).is_within(path);
            let is_between = (begin.clone()..end.clone()).contains(&key(other));
            assert_eq!(is_between, is_content, "{other} in {path}");
            assert_eq!(keys::is_within(&key(other), &own), is_content, "{other} in {path}");
        }
    }
    for path in ordered.into_iter().skip(1) {
        assert_eq!(keys::path(&key(path)).as_deref(), Some(path));
        let mut expiring = Vec::new();
        keys::expiring(&mut expiring, -7, 9, &key(path));
        assert_eq!(keys::expiring_key(&expiring), Some((-7, 9, path.to_owned())));
    }
    assert_eq!(keys::path(&key("/")), None, "the root has no record");
}

#[test]
fn too_long_is_refused() {
    let deep = "/a".repeat(crate::limits::V2_PATH_PARTS_MAX);
    assert!(!Path::new(&deep).is_too_long());
    assert!(Path::new(&(deep + "/a")).is_too_long());
    let long = format!("/{}", "a".repeat(crate::limits::V2_PATH_BYTES_MAX - 1));
    assert!(!Path::new(&long).is_too_long());
    assert!(Path::new(&(long + "a")).is_too_long());
}
