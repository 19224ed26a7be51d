//! Auth's nodes: in the same tree, and out of clients' sight.

use super::*;
use crate::store::v2::{AUTH_ENABLED, AUTH_IS_ENABLED, ErrorCode};

fn auth(request: Request) -> Request {
    Request { auth: true, ..request }
}

#[test]
fn clients_do_not_see_them() {
    let mut feed = Feed::new();
    feed.apply(set("/users/a", "client's")).unwrap();
    feed.apply(auth(set("/users/a", "auth's"))).unwrap();
    feed.apply(auth(delete("/none"))).unwrap_err();
    let since = feed.view().v2_index() + 1;
    feed.apply(auth(set("/users/b", "auth's"))).unwrap();
    let view = feed.view();
    for hidden in [false, true] {
        let everything = Interest { hidden, ..all_below("/") };
        assert_eq!(first_event(&view, &everything, since), Ok(None));
    }
    let listed = view.v2_get(&Path::root(), true, START).unwrap().node;
    assert_eq!(listed.nodes.len(), 1, "{listed:?}");
    for path in ["2/users/b", "/2/users/b", "/users/b", "/../2/users/b"] {
        let found = view.v2_get(&Path::new(path), false, START);
        assert_eq!(found.unwrap_err().code, ErrorCode::KeyNotFound, "{path}");
    }
    let value = |path| view.v2_get(&path, false, START).unwrap().node.value.unwrap();
    assert_eq!(value(Path::new("/users/a")), "client's");
    assert_eq!(value(Path::auth("/users/a")), "auth's");
    let users = view.v2_get(&Path::auth("/users"), false, START).unwrap().node.nodes;
    assert_eq!(users.iter().map(|node| &node.key).collect::<Vec<_>>(), ["2/users/a", "2/users/b"]);

    let root = feed.apply(auth(delete("/"))).unwrap_err();
    assert_eq!(root.code, ErrorCode::RootReadOnly);
    feed.apply(delete("/users")).unwrap();
    assert!(feed.view().v2_get(&Path::auth("/users/a"), false, START).is_ok());
    feed.apply(auth(delete("/users"))).unwrap();
    feed.finish();
}

#[test]
fn whether_it_is_enabled_is_at_hand() {
    let mut feed = Feed::new();
    assert!(!feed.view().v2_auth_enabled());
    feed.apply(set(AUTH_ENABLED, AUTH_IS_ENABLED)).unwrap();
    assert!(!feed.view().v2_auth_enabled(), "a client's node says nothing");
    feed.apply(auth(set(AUTH_ENABLED, AUTH_IS_ENABLED))).unwrap();
    assert!(feed.view().v2_auth_enabled());
    feed.apply(auth(set("/users/a", "false"))).unwrap();
    assert!(feed.view().v2_auth_enabled());
    feed.apply(auth(request(Action::Create, AUTH_ENABLED))).unwrap_err();
    assert!(feed.view().v2_auth_enabled(), "what is refused changes nothing");
    feed.apply(auth(set(AUTH_ENABLED, "false"))).unwrap();
    assert!(!feed.view().v2_auth_enabled());
    feed.finish();
}
