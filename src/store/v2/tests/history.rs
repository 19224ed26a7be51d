//! Events that are kept, and who hears of them.

use super::{Feed, SECOND, all_below, delete, first_event, request, set};
use crate::ids::Term;
use crate::limits;
use crate::store::command::{Batch, Command};
use crate::store::v2::{Action, ErrorCode, Expiry, Interest, Path, Request, Sought};
use crate::store::{Response, Store};

fn exactly(path: &str) -> Interest {
    Interest { path: Path::new(path), recursive: false, hidden: false }
}

#[test]
fn the_oldest_goes_first() {
    let mut feed = Feed::new();
    feed.history = 3;
    for nth in 0..5 {
        feed.apply(set("/a", &nth.to_string())).expect("nothing speaks against it");
    }
    let view = feed.view();
    assert_eq!(view.v2_index(), 8);
    let error = first_event(&view, &exactly("/a"), 5).expect_err("it has gone");
    assert_eq!(error.code, ErrorCode::EventIndexCleared);
    assert_eq!(error.cause, "the requested history has been cleared [6/5]");
    assert_eq!(error.index, 8);
    let event = first_event(&view, &exactly("/a"), 6).expect("it is kept").expect("it is meant");
    assert_eq!((event.index, event.node.value.as_deref()), (6, Some(&b"2"[..])));
    assert_eq!(first_event(&view, &exactly("/a"), 9), Ok(None));
    assert_eq!(first_event(&view, &exactly("/a"), u64::MAX), Ok(None));
    feed.finish();
}

/// Before anything was dropped nothing is missing, whatever index is asked for.
#[test]
fn nothing_is_cleared_at_first() {
    let mut feed = Feed::new();
    assert_eq!(first_event(&feed.view(), &all_below("/"), 1), Ok(None));
    feed.apply(set("/a", "1")).expect("nothing speaks against it");
    let view = feed.view();
    assert_eq!(first_event(&view, &all_below("/"), 1).unwrap().unwrap().index, 4);
    let error = first_event(&view, &all_below("/"), 0).expect_err("no event has this index");
    assert_eq!(error.code, ErrorCode::EventIndexCleared);
    feed.finish();
}

/// A bound that shrinks is reached a step at a time, and one that grows is not at all until events come.
#[test]
fn the_bound_may_change() {
    let mut feed = Feed::new();
    feed.history = 100;
    (0..100).for_each(|_| drop(feed.apply(set("/a", "1"))));
    let kept = |feed: &mut Feed| feed.view().v2_index() - feed.view().v2().first + 1;
    assert_eq!(kept(&mut feed), 100);
    feed.history = 1;
    feed.apply(set("/a", "1")).expect("nothing speaks against it");
    assert_eq!(kept(&mut feed), 101 - 16);
    (0..10).for_each(|_| drop(feed.apply(set("/a", "1"))));
    assert_eq!(kept(&mut feed), 1);
    feed.history = 5;
    (0..10).for_each(|_| drop(feed.apply(set("/a", "1"))));
    assert_eq!(kept(&mut feed), 5);
    feed.finish();
}

/// Whatever the number: as if what is kept were as large as it may be.
#[test]
fn bytes_are_bounded() {
    let mut feed = Feed::new();
    (0..5).for_each(|nth| drop(feed.apply(set("/a", &nth.to_string()))));
    feed.store.v2.bytes = limits::V2_HISTORY_BYTES_MAX;
    feed.apply(set("/a", "5")).expect("nothing speaks against it");
    let after = feed.store.v2;
    assert!(after.bytes <= limits::V2_HISTORY_BYTES_MAX);
    assert!((5..=6).contains(&after.first), "no more than has to go: {after:?}");
    feed.store.v2.bytes = 2 * limits::V2_HISTORY_BYTES_MAX;
    feed.apply(set("/a", "6")).expect("nothing speaks against it");
    let after = feed.store.v2;
    assert_eq!((after.first, after.index), (10, 10), "the newest stays");
}

#[test]
fn a_refresh_is_kept_and_told_to_nobody() {
    let mut feed = Feed::new();
    feed.apply(set("/a", "1")).expect("nothing speaks against it");
    let refresh = Request {
        refresh: true,
        expiration: Some(feed.now + 10 * SECOND),
        ..request(Action::Update, "/a")
    };
    let event = feed.apply(refresh).expect("it is there");
    assert_eq!((event.index, event.node.value.as_deref()), (5, Some(&b"1"[..])));
    assert_eq!(first_event(&feed.view(), &exactly("/a"), 5), Ok(None));
    feed.apply(set("/b", "1")).expect("nothing speaks against it");
    let found = first_event(&feed.view(), &all_below("/"), 5).unwrap().unwrap();
    assert_eq!(found.node.key, "/b");
    feed.finish();
}

#[test]
fn a_removed_directory_is_told_below_and_no_sibling_is() {
    let mut feed = Feed::new();
    feed.apply(set("/a/b/c", "1")).expect("nothing speaks against it");
    feed.apply(delete("/a/b")).expect("it is there");
    let view = feed.view();
    for (interest, hears) in [
        (exactly("/a/b/c"), true),
        (exactly("/a/b/c/d"), true),
        (exactly("/a/b"), true),
        (exactly("/a/bc"), false),
        (exactly("/a"), false),
        (all_below("/a"), true),
        (all_below("/"), true),
        (all_below("/a/bc"), false),
    ] {
        let found = first_event(&view, &interest, 5).expect("it is kept");
        assert_eq!(found.is_some(), hears, "{interest:?}");
    }
    feed.finish();
}

#[test]
fn hidden_is_what_is_below_and_begins_with_an_underscore() {
    let mut feed = Feed::new();
    feed.apply(set("/a/_b/c", "1")).expect("nothing speaks against it");
    let view = feed.view();
    for (interest, hears) in [
        (all_below("/"), false),
        (all_below("/a"), false),
        (all_below("/a/_b"), true),
        (exactly("/a/_b/c"), true),
        (Interest { hidden: true, ..all_below("/a") }, true),
        (Interest { hidden: true, ..exactly("/a") }, false),
    ] {
        let found = first_event(&view, &interest, 4).expect("it is kept");
        assert_eq!(found.is_some(), hears, "{interest:?}");
    }
    feed.finish();
}

#[test]
fn a_search_has_an_end() {
    let mut feed = Feed::new();
    (0..10).for_each(|_| drop(feed.apply(set("/a", "1"))));
    let view = feed.view();
    assert_eq!(view.v2_event_since(&exactly("/b"), 4, 6), Ok(Sought::More(10)));
    assert_eq!(view.v2_event_since(&exactly("/b"), 10, 6), Ok(Sought::NotYet));
    let mut seen = Vec::new();
    let next = view.v2_for_each_event(6, 3, |event| {
        seen.push(event.index());
        true
    });
    assert_eq!((next, seen), (Ok(9), vec![6, 7, 8]));
    let next = view.v2_for_each_event(6, 9, |event| event.index() < 7);
    assert_eq!(next, Ok(8));
    feed.finish();
}

/// An expiry takes so many nodes, whole directories, the earliest first.
#[test]
fn what_expires_is_bounded() {
    let mut feed = Feed::new();
    let at = |seconds| Some(super::START + seconds * SECOND);
    for (path, seconds) in [("/late", 9), ("/dir", 1), ("/x", 2), ("/y", 3)] {
        let dir = path == "/dir";
        let request = Request { expiration: at(seconds), dir, ..request(Action::Set, path) };
        feed.apply(request).expect("nothing speaks against it");
    }
    (0..5).for_each(|nth| drop(feed.apply(set(&format!("/dir/{nth}"), "1"))));
    feed.now += 5 * SECOND;
    assert_eq!(feed.view().v2_first_expiration(), at(1));
    assert_eq!(feed.expire(2), 1, "the directory alone has more");
    assert_eq!(feed.view().v2_first_expiration(), at(2));
    assert_eq!(feed.expire(0), 0);
    assert_eq!(feed.expire(9), 2);
    let view = feed.view();
    assert_eq!(view.v2_statistics().expired, 3);
    let left = view.v2_get(&Path::root(), true, feed.now).expect("it is there").node.nodes;
    assert_eq!(left.iter().map(|node| node.key.as_str()).collect::<Vec<_>>(), ["/late"]);
    assert_eq!(left[0].ttl, 4);
    feed.finish();
}

/// With an alarm, what may grow or change is refused as v3's requests are.
#[test]
fn alarms_hold_for_v2() {
    use crate::error::Rejected;
    use urd_proto::etcdserverpb::AlarmRequest;
    let mut feed = Feed::new();
    feed.apply(set("/a", "1")).expect("nothing speaks against it");
    let alarm = |alarm| Command::Alarm(AlarmRequest { action: 1, member_id: 1, alarm });
    feed.command(&alarm(1)).expect("it is raised");
    let refused = feed.command(&Command::V2(set("/a", "2")));
    assert_eq!(refused, Err(Rejected::NoSpace));
    assert!(
        matches!(feed.command(&Command::V2(delete("/a"))), Ok(Response::V2(outcome)) if outcome.is_ok())
    );
    feed.command(&alarm(2)).expect("it is raised");
    assert_eq!(feed.command(&Command::V2(delete("/a"))), Err(Rejected::Corrupt));
    let expiry = Expiry { cutoff: i64::MAX, nodes_max: 1, history: 1 };
    assert_eq!(feed.command(&Command::V2Expiry(expiry)), Ok(Response::V2Expiry(0)));
    feed.finish();
}

/// A new cluster's index is what etcd's is by then, and stays with the data.
#[test]
fn a_cluster_begins_as_etcds_does() {
    use urd_proto::etcdserverpb::Member;
    let member =
        |id| Member { id, peer_ur_ls: vec![format!("http://m:{id}")], ..Member::default() };
    for (members, index) in [(1, 3), (3, 7), (5, 11)] {
        let mut store = Store::new();
        store.bootstrap(&(1..=members).map(member).collect::<Vec<_>>());
        assert_eq!(store.publish().v2_index(), index);
        store.apply(store.applied().next(), Term(1), &Batch::default());
        assert_eq!(store.publish().v2_index(), index);
        assert_eq!(store.check(), []);
    }
}
