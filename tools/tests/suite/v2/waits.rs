//! Those who wait for events: all are told, and nobody is kept who went away.

use std::time::{Duration, Instant};

use super::pair::{ANSWER_TIMEOUT, Asked, Pair, index, set};
use crate::harness::http::Poll;
use crate::harness::{Launch, Program, Server, wait_for};

const MANY: usize = 1000;

fn start() -> Server {
    Launch::new(Program::Subject).argument("--enable-v2=true").start()
}

fn open(endpoint: &str, path: &str) -> Poll {
    Poll::open(endpoint, path, ANSWER_TIMEOUT).unwrap_or_else(|error| panic!("GET {path}: {error}"))
}

fn watchers(endpoint: &str) -> usize {
    let counted = Asked::new("GET", "/v2/stats/store").send(endpoint);
    let counted: serde_json::Value = serde_json::from_str(&counted.body).expect("JSON");
    let watchers = counted["watchers"].as_u64().expect("a number");
    usize::try_from(watchers).expect("a small number")
}

fn until_watchers(endpoint: &str, count: usize) {
    wait_for("so many who wait", ANSWER_TIMEOUT, || (watchers(endpoint) == count).then_some(()));
}

/// A thousand who wait for one key are woken by one set, and cost nothing afterwards.
#[test]
fn a_thousand_are_woken_by_one_set() {
    let server = start();
    let endpoint = server.endpoint();
    let mut polls: Vec<Poll> =
        (0..MANY).map(|_| open(&endpoint, "/v2/keys/bell?wait=true")).collect();
    until_watchers(&endpoint, MANY);
    // What concerns nobody wakes nobody.
    set(&endpoint, "/other", "x");
    assert_eq!(watchers(&endpoint), MANY);

    let begin = Instant::now();
    let rung = index(&set(&endpoint, "/bell", "ding"));
    let expected = format!(
        "{{\"action\":\"set\",\"node\":{{\"key\":\"/bell\",\"value\":\"ding\",\
         \"modifiedIndex\":{rung},\"createdIndex\":{rung}}}}}\n"
    );
    for poll in &mut polls {
        assert_eq!(poll.next().expect("an event").as_deref(), Some(expected.as_str()));
    }
    println!("the last of {MANY} was told {:?} after the set was sent", begin.elapsed());
    for poll in &mut polls {
        assert_eq!(poll.next().expect("an end"), None);
    }
    until_watchers(&endpoint, 0);
}

/// A client that goes away frees its wait, with or without events.
#[test]
fn who_goes_away_is_forgotten() {
    let server = start();
    let endpoint = server.endpoint();
    let polls: Vec<Poll> = (0..20)
        .map(|nth| open(&endpoint, &format!("/v2/keys/k?wait=true&stream={}", nth % 2 == 0)))
        .collect();
    until_watchers(&endpoint, 20);
    drop(polls);
    until_watchers(&endpoint, 0);
}

/// A stream tells every event in order, those of the past too.
#[test]
fn a_stream_goes_on() {
    let server = start();
    let endpoint = server.endpoint();
    let first = index(&set(&endpoint, "/k/0", "0"));
    let path = format!("/v2/keys/k?wait=true&recursive=true&stream=true&waitIndex={first}");
    let mut poll = open(&endpoint, &path);
    // Far more than are kept for one who does not read.
    for nth in 1..300 {
        set(&endpoint, &format!("/k/{nth}"), &nth.to_string());
    }
    // etcd tells the first one only, if it is in the past.
    let told = if crate::harness::subject_is_etcd() { 1 } else { 300 };
    for nth in 0..told {
        let event = poll.next().expect("an event").expect("a stream does not end");
        assert!(event.contains(&format!("\"key\":\"/k/{nth}\"")), "{nth}: {event}");
    }
}

/// Events are kept across a restart, which is more than etcd promises.
#[test]
fn what_happened_before_a_restart_is_known() {
    if crate::harness::only_urd("its history is in the tree") {
        return;
    }
    let mut server = start();
    let endpoint = server.endpoint();
    let happened = index(&set(&endpoint, "/k", "before"));
    server.kill();
    server.restart();
    let endpoint = server.endpoint();
    let mut poll = open(&endpoint, &format!("/v2/keys/k?wait=true&waitIndex={happened}"));
    let event = poll.next().expect("an event").expect("one event");
    assert!(event.contains("\"value\":\"before\""), "{event}");
}

/// An orderly stop ends those who wait, at once.
#[test]
fn a_stop_does_not_wait_for_those_who_wait() {
    let mut server = start();
    let endpoint = server.endpoint();
    let mut polls: Vec<Poll> =
        (0..10).map(|_| open(&endpoint, "/v2/keys/k?wait=true&stream=true")).collect();
    until_watchers(&endpoint, polls.len());
    server.signal(rustix::process::Signal::TERM);
    for poll in &mut polls {
        // An end, or a connection that was cut.
        assert!(!matches!(poll.next(), Ok(Some(_))));
    }
    server.wait_exit(Duration::from_secs(30));
}

/// A directory's removal concerns those who wait for what was in it; of what is hidden only they hear who name it.
#[test]
fn the_right_ones_are_told() {
    let pair = Pair::start(&[]);
    for key in ["/dir/a", "/dir/sub/b", "/dir/_h/c", "/other"] {
        pair.ask(&Asked::new("PUT", format!("/v2/keys{key}")).form("value=1"));
    }
    let wait = |path: &str| pair.wait(&format!("/v2/keys{path}"));
    let mut told = [
        wait("/dir/a?wait=true"),
        wait("/dir/sub/b?wait=true"),
        wait("/dir/sub?wait=true&recursive=true"),
        wait("/dir?wait=true"),
        wait("/?wait=true&recursive=true"),
        wait("/dir/_h/c?wait=true"),
    ];
    pair.ask(&Asked::new("DELETE", "/v2/keys/dir?recursive=true"));
    for polls in &mut told {
        let event = Pair::event("the removal", polls).expect("an event");
        assert!(event.contains("\"action\":\"delete\""), "{event}");
    }

    let mut hidden = wait("/dir/_h?wait=true&recursive=true");
    let mut open = wait("/dir?wait=true&recursive=true");
    pair.ask(&Asked::new("PUT", "/v2/keys/dir/_h/c").form("value=2"));
    pair.ask(&Asked::new("PUT", "/v2/keys/dir/seen").form("value=3"));
    let event = Pair::event("the hidden one", &mut hidden).expect("an event");
    assert!(event.contains("\"key\":\"/dir/_h/c\""), "{event}");
    let event = Pair::event("the open one", &mut open).expect("an event");
    assert!(event.contains("\"key\":\"/dir/seen\""), "{event}");

    // A refresh wakes nobody.
    pair.ask(&Asked::new("PUT", "/v2/keys/life").form("value=1&ttl=5000"));
    let mut polls = wait("/life?wait=true");
    pair.ask(&Asked::new("PUT", "/v2/keys/life").form("refresh=true&ttl=9000"));
    pair.ask(&Asked::new("PUT", "/v2/keys/life").form("value=2"));
    let event = Pair::event("life", &mut polls).expect("an event");
    assert!(event.contains("\"node\":{\"key\":\"/life\",\"value\":\"2\""), "{event}");
}

/// Beyond the history there is an error; a longer history is Urd's.
#[test]
fn old_events_are_gone() {
    let pair = Pair::start(&[]);
    for nth in 0..1100 {
        for endpoint in [&pair.etcd, &pair.subject] {
            set(endpoint, "/k", &nth.to_string());
        }
    }
    let answer = pair.ask(&Asked::new("GET", "/v2/keys/k?wait=true&waitIndex=50"));
    assert!(answer.body.contains("\"errorCode\":401"), "{answer:?}");
    for back in [999, 1000, 1001] {
        let since = index(&answer) - back;
        let path = format!("/v2/keys/k?wait=true&waitIndex={since}");
        let mut polls = pair.wait(&path);
        assert_eq!(polls[1].head.status == 200, back < 1000, "{back}");
        if back < 1000 {
            Pair::event(&path, &mut polls).expect("an event");
        }
    }
}
