//! The table of members: what it begins with, what changes it, and what is refused in which words.

use urd_proto::etcdserverpb::{
    Member, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest,
};

use super::{Feed, bytes, ok, put};
use crate::error::Rejected;
use crate::ids::{Index, MemberId, Term};
use crate::store::command::{Command, MemberAdd};
use crate::store::members::is_started;
use crate::store::{Response, Store, TreeHash};

fn first(id: u64, name: &str) -> Member {
    Member { id, name: name.to_owned(), peer_ur_ls: vec![url(id)], ..Member::default() }
}

fn url(id: u64) -> String {
    format!("http://10.0.0.{id}:2380")
}

/// A cluster of three, as each of its first members has it.
fn three() -> Store {
    let mut store = Store::new();
    // The order in which they are given does not matter.
    store.bootstrap(&[first(3, "c"), first(1, "a"), first(2, "b")]);
    store
}

fn feed() -> Feed {
    Feed { store: three(), index: Index(1) }
}

fn add(id: u64, is_learner: bool) -> Command {
    let peer_urls = vec![url(id)];
    Command::MemberAdd(MemberAdd { id, peer_urls, is_learner, learners_max: 1 })
}

fn remove(id: u64) -> Command {
    Command::MemberRemove(MemberRemoveRequest { id })
}

fn promote(id: u64) -> Command {
    Command::MemberPromote(MemberPromoteRequest { id })
}

fn update(id: u64, peer_url: String) -> Command {
    Command::MemberUpdate(MemberUpdateRequest { id, peer_ur_ls: vec![peer_url] })
}

fn publish(id: u64, name: &str, client_url: &str) -> Command {
    Command::MemberPublish(Member {
        id,
        name: name.to_owned(),
        client_ur_ls: vec![client_url.to_owned()],
        // What else the message could say counts for nothing.
        peer_ur_ls: vec!["http://elsewhere:1".to_owned()],
        is_learner: true,
    })
}

fn ids(members: &[Member]) -> Vec<u64> {
    members.iter().map(|member| member.id).collect()
}

fn conf(store: &Store) -> (Vec<u64>, Vec<u64>) {
    let (voters, learners) = store.conf();
    let numbers = |ids: Vec<MemberId>| ids.iter().map(|id| id.0).collect();
    (numbers(voters), numbers(learners))
}

#[test]
fn a_new_cluster_begins_behind_index_1() {
    let store = three();
    assert_eq!((store.applied(), store.term()), (Index(1), Term(1)));
    assert_eq!(conf(&store), (vec![1, 2, 3], vec![]));
    let view = store.view();
    assert_eq!((view.applied(), view.revision().0), (Index(1), 1));
    assert_eq!(view.members().to_vec(), [first(1, "a"), first(2, "b"), first(3, "c")]);
    assert_eq!(store.check(), []);
}

/// Whoever of the first members leads, the others have what a snapshot of its would give them.
#[test]
fn all_first_members_begin_with_the_same_bytes() {
    let hash = |store: &Store| {
        let mut hash = TreeHash::new(store.view());
        hash.step(usize::MAX).expect("an unbounded step ends it")
    };
    let mut other = Store::new();
    other.bootstrap(&[first(1, "a"), first(2, "b"), first(3, "c")]);
    assert_eq!(hash(&three()), hash(&other));
    let mut elsewhere = Store::new();
    elsewhere.bootstrap(&[first(1, "a"), first(2, "b"), first(4, "c")]);
    assert_ne!(hash(&three()), hash(&elsewhere));
}

#[test]
fn the_hash_of_keys_sees_no_members() {
    let (mut with, mut without) = (feed(), Feed::new());
    let command = Command::Put(put("a", "1"));
    ok(with.apply(&command));
    ok(without.apply(&command));
    ok(with.apply(&add(4, true)));
    let hash = |feed: &mut Feed| feed.view().hash_kv(0).expect("the newest");
    assert_eq!(hash(&mut with), hash(&mut without));
    assert_eq!(with.view().live_keys(), 1);
    with.finish();
}

#[test]
fn one_is_added_promoted_and_removed_for_good() {
    let mut feed = feed();
    let Response::MemberAdd(response) = ok(feed.apply(&add(4, true))) else { panic!() };
    let learner = Member { id: 4, peer_ur_ls: vec![url(4)], is_learner: true, ..Member::default() };
    assert_eq!(response.member, Some(learner));
    assert_eq!(ids(&response.members), [1, 2, 3, 4]);
    assert_eq!(response.header, None, "no revision");
    assert_eq!(conf(&feed.store), (vec![1, 2, 3], vec![4]));
    assert!(feed.store.view().members().get(MemberId(4)).is_none(), "not published yet");
    assert!(feed.view().members().is_learner(MemberId(4)));

    let Response::MemberPromote(response) = ok(feed.apply(&promote(4))) else { panic!() };
    assert!(response.members.iter().all(|member| !member.is_learner));
    assert_eq!(conf(&feed.store), (vec![1, 2, 3, 4], vec![]));

    let Response::MemberRemove(response) = ok(feed.apply(&remove(1))) else { panic!() };
    assert_eq!(ids(&response.members), [2, 3, 4]);
    let view = feed.view();
    assert!(view.is_removed(MemberId(1)) && !view.is_removed(MemberId(2)));
    for again in [add(1, false), remove(1), promote(1), update(1, url(9)), publish(1, "a", "c")] {
        assert_eq!(feed.apply(&again), Err(Rejected::MemberNotFound), "{again:?}");
    }
    // Its URL is free again.
    let request = MemberAdd { id: 5, peer_urls: vec![url(1)], is_learner: false, learners_max: 0 };
    ok(feed.apply(&Command::MemberAdd(request)));
    assert_eq!(view.revision(), feed.view().revision());
    feed.finish();
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let mut feed = feed();
    ok(feed.apply(&add(4, true)));
    let before = feed.view();
    let taken = MemberAdd { id: 5, peer_urls: vec![url(9), url(2)], ..MemberAdd::default() };
    for (command, rejected) in [
        (add(3, false), Rejected::MemberExists),
        (add(0, false), Rejected::MemberNotFound),
        (Command::MemberAdd(taken), Rejected::PeerUrlExists),
        (add(5, true), Rejected::TooManyLearners),
        (remove(5), Rejected::MemberNotFound),
        (promote(5), Rejected::MemberNotFound),
        (promote(1), Rejected::MemberNotLearner),
        (update(5, url(5)), Rejected::MemberNotFound),
        (update(4, url(3)), Rejected::PeerUrlExists),
        (publish(5, "e", "http://c:1"), Rejected::MemberNotFound),
    ] {
        assert_eq!(feed.apply(&command), Err(rejected), "{command:?}");
        assert_eq!(feed.store.members(), before.members(), "{command:?}");
    }
    assert!(!feed.view().is_removed(MemberId(5)));
    feed.finish();
}

/// Raft cannot do without a voter, however many learners there are.
#[test]
fn the_last_voter_stays() {
    let mut store = Store::new();
    store.bootstrap(&[first(1, "a")]);
    let mut feed = Feed { store, index: Index(1) };
    ok(feed.apply(&add(2, true)));
    assert_eq!(feed.apply(&remove(1)), Err(Rejected::LastVoter));
    ok(feed.apply(&remove(2)));
    assert_eq!(feed.apply(&remove(1)), Err(Rejected::LastVoter));
    assert_eq!(conf(&feed.store), (vec![1], vec![]));
    feed.finish();
}

#[test]
fn a_member_tells_its_name_and_moves() {
    let mut feed = feed();
    ok(feed.apply(&add(4, true)));
    assert!(!is_started(feed.store.members().get(MemberId(4)).expect("it was added")));
    assert_eq!(ok(feed.apply(&publish(4, "d", "http://c:1"))), Response::MemberPublish);
    let Response::MemberUpdate(response) = ok(feed.apply(&update(4, url(9)))) else { panic!() };
    let expected = Member {
        id: 4,
        name: "d".to_owned(),
        peer_ur_ls: vec![url(9)],
        client_ur_ls: vec!["http://c:1".to_owned()],
        is_learner: true,
    };
    assert!(is_started(&expected));
    assert_eq!(response.members.last(), Some(&expected));
    // To its own URL it may always move.
    ok(feed.apply(&update(4, url(9))));
    feed.finish();
}

/// Changes of the members are allowed while an alarm is raised: they may be what helps.
#[test]
fn members_change_while_the_quota_is_used_up() {
    use urd_proto::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};
    let mut feed = feed();
    for alarm in [AlarmType::Nospace, AlarmType::Corrupt] {
        ok(feed.apply(&Command::Alarm(AlarmRequest {
            action: AlarmAction::Activate.into(),
            member_id: 1,
            alarm: alarm.into(),
        })));
    }
    ok(feed.apply(&add(4, false)));
    ok(feed.apply(&remove(2)));
    feed.finish();
}

#[test]
fn a_member_goes_on_alone() {
    let mut feed = feed();
    ok(feed.apply(&add(4, true)));
    ok(feed.apply(&Command::Put(put("a", "1"))));
    let own = first(2, "b");
    feed.store.force_new_cluster(&Member { is_learner: true, ..own.clone() });
    assert_eq!(conf(&feed.store), (vec![2], vec![]));
    let view = feed.store.view();
    assert_eq!(view.members().to_vec(), [own]);
    for other in [1, 3, 4] {
        assert!(view.is_removed(MemberId(other)), "{other}");
    }
    let found = view.range(&super::range("a", "")).expect("readable").kvs;
    assert_eq!(found[0].value, bytes("1"));
    assert_eq!(feed.store.applied(), feed.index, "the log goes on where it was");
    feed.finish();
}

/// As its own cluster has removed it, and is lost.
#[test]
fn a_member_that_was_removed_may_go_on_alone() {
    let mut feed = feed();
    ok(feed.apply(&remove(2)));
    assert!(feed.store.is_removed(MemberId(2)));
    feed.store.force_new_cluster(&first(2, "b"));
    assert_eq!(conf(&feed.store), (vec![2], vec![]));
    assert!(!feed.store.is_removed(MemberId(2)) && feed.store.is_removed(MemberId(1)));
    feed.finish();
}

/// A store of the version that ran alone and knew no members.
#[test]
fn an_older_store_is_given_its_member() {
    let mut feed = Feed::new();
    ok(feed.apply(&Command::Put(put("a", "1"))));
    feed.store.adopt(&[first(1, "a")]);
    assert_eq!((feed.store.applied(), conf(&feed.store)), (Index(1), (vec![1], vec![])));
    ok(feed.apply(&add(2, false)));
    feed.finish();
}
