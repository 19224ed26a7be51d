//! Watches made of a truth pass; each validator objects to one spoiled for it.

use bytes::Bytes;
use fastrand::Rng;
use urd_proto::etcdserverpb::watch_create_request::FilterType;
use urd_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use urd_proto::mvccpb::Event;
use urd_proto::mvccpb::event::EventType;

use super::generator::{LARGE, history, key};
use crate::checkers::Violation;
use crate::checkers::history::{Timeline, in_range, key_of, revision_of};
use crate::checkers::watching::{
    Truth, WatchRecord, atomic, bookmarkable, check, filtered, is_create_right, ordered,
    prev_kv_right, reliable, resumable, unique,
};

fn timeline() -> Timeline {
    history(&mut Rng::with_seed(5), LARGE).1
}

fn response(revision: i64, events: Vec<Event>) -> (u64, WatchResponse) {
    let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
    (0, WatchResponse { header, events, ..WatchResponse::default() })
}

/// What a correct server tells a watcher, in responses of some revisions each, with progress in between.
fn served(timeline: &Timeline, mut record: WatchRecord, rng: &mut Rng) -> WatchRecord {
    let mut events = Vec::new();
    for (revision, made) in timeline.since(record.start_revision) {
        let filter = |event: &Event| match event.r#type() {
            EventType::Put => FilterType::Noput,
            EventType::Delete => FilterType::Nodelete,
        };
        let wanted = made.iter().filter(|event| {
            in_range(key_of(event), &record.key, &record.range_end)
                && !record.filters.contains(&filter(event))
        });
        events.extend(wanted.cloned().map(|mut event| {
            event.prev_kv = event.prev_kv.filter(|_| record.prev_kv);
            event
        }));
        if rng.u32(..4) == 0 && !events.is_empty() {
            record.responses.push(response(revision, std::mem::take(&mut events)));
            if rng.bool() {
                record.responses.push(response(revision, Vec::new()));
            }
        }
    }
    record
}

fn everything() -> WatchRecord {
    WatchRecord {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        start_revision: 1,
        prev_kv: true,
        ..WatchRecord::default()
    }
}

#[test]
fn valid_watches_pass() {
    let timeline = timeline();
    let truth = Truth::new(&timeline, 0);
    let mut rng = Rng::with_seed(1);
    let mut records = vec![served(&timeline, everything(), &mut rng)];
    for _ in 0..50 {
        let start_revision = rng.i64(1..timeline.last());
        let filters = [FilterType::Noput, FilterType::Nodelete];
        records.push(served(
            &timeline,
            WatchRecord {
                key: key(rng.u32(..12)),
                range_end: if rng.bool() { Bytes::from_static(&[0]) } else { Bytes::new() },
                start_revision,
                prev_kv: rng.bool(),
                filters: filters[..rng.usize(..2)].to_vec(),
                resumed_from: Some(start_revision - 1).filter(|_| rng.bool()),
                ..WatchRecord::default()
            },
            &mut rng,
        ));
    }
    assert!(records.iter().map(|record| record.responses.len()).sum::<usize>() > 1_000);
    check(&records, &truth).unwrap();
    // A start of 0 means what comes after the creation.
    let mut record = everything();
    record.start_revision = 0;
    let (time, mut created) = response(9, Vec::new());
    created.created = true;
    record.responses.push((time, created));
    record.responses.push(response(10, timeline.events(10).to_vec()));
    check([&record], &truth).unwrap();
}

/// A watch on everything, spoiled, and what its validator says to it.
fn spoiled(
    spoil: impl FnOnce(&mut WatchRecord),
    validator: impl FnOnce(&WatchRecord, &Truth<'_>) -> Result<(), Violation>,
    text: &str,
) {
    let timeline = timeline();
    let truth = Truth::new(&timeline, 0);
    let mut record = served(&timeline, everything(), &mut Rng::with_seed(2));
    validator_of_all(&record, &truth);
    spoil(&mut record);
    let violation = validator(&record, &truth).expect_err("it was spoiled");
    assert!(violation.text.contains(text), "{violation}");
    check([&record], &truth).expect_err("it was spoiled");
}

fn validator_of_all(record: &WatchRecord, truth: &Truth<'_>) {
    check([record], truth).expect("it was not spoiled yet");
}

/// The place of the first response after the tenth with that many events.
fn find(record: &WatchRecord, events: usize) -> usize {
    let later = record.responses.iter().skip(10);
    10 + later.clone().position(|(_, response)| response.events.len() >= events).unwrap()
}

/// The place of the first response after the tenth that has a revision of several events, and where those begin.
fn find_txn(record: &WatchRecord) -> (usize, usize) {
    let responses = record.responses.iter().enumerate().skip(10);
    let mut within = responses.filter_map(|(nth, (_, response))| {
        let pairs = response.events.windows(2);
        Some((nth, pairs.into_iter().position(|p| revision_of(&p[0]) == revision_of(&p[1]))?))
    });
    within.next().expect("there are transactions")
}

#[test]
fn disorder_is_seen() {
    let swap = |record: &mut WatchRecord| {
        let (one, other) = (find(record, 1), find(record, 1) + 1);
        let other = (other..).find(|nth| !record.responses[*nth].1.events.is_empty()).unwrap();
        record.responses.swap(one, other);
    };
    spoiled(swap, |record, _| ordered(record), "out of order");
}

#[test]
fn repetition_is_seen() {
    let repeat = |record: &mut WatchRecord| {
        let nth = find(record, 1);
        let again = record.responses[nth].clone();
        record.responses.insert(nth, again);
    };
    spoiled(repeat, unique, "came twice");
}

#[test]
fn split_revisions_are_seen() {
    let split = |record: &mut WatchRecord| {
        let (nth, at) = find_txn(record);
        let (time, mut first) = record.responses[nth].clone();
        let rest = first.events.split_off(at + 1);
        record.responses[nth].1.events = rest;
        record.responses.insert(nth, (time, first));
    };
    spoiled(split, |record, _| atomic(record), "in two responses");
    let timeline = timeline();
    let mut record = served(&timeline, everything(), &mut Rng::with_seed(2));
    record.fragment = true;
    split(&mut record);
    let first = find_txn(&served(&timeline, everything(), &mut Rng::with_seed(2))).0;
    record.responses[first].1.fragment = true;
    check([&record], &Truth::new(&timeline, 0)).expect("fragments were asked for");
}

#[test]
fn gaps_are_seen() {
    let drop_one = |record: &mut WatchRecord| {
        let nth = find(record, 2);
        record.responses[nth].1.events.remove(0);
    };
    spoiled(drop_one, reliable, "missing");
    let drop_response = |record: &mut WatchRecord| {
        let nth = find(record, 1);
        record.responses.remove(nth);
    };
    spoiled(drop_response, reliable, "missing");
    let invent = |record: &mut WatchRecord| {
        let nth = find(record, 1);
        record.responses[nth].1.events[0].kv.as_mut().unwrap().key = "k00 never put".into();
    };
    spoiled(invent, reliable, "missing");
}

#[test]
fn wrong_beginnings_are_seen() {
    let late = |record: &mut WatchRecord| {
        record.responses.drain(..5);
    };
    spoiled(late, resumable, "and not with");
    spoiled(|record| record.start_revision = 40, resumable, "it begins at 40");
    spoiled(|record| record.resumed_from = Some(7), resumable, "go on behind 7");
}

#[test]
fn wrong_bookmarks_are_seen() {
    let early = |record: &mut WatchRecord| {
        let nth = find(record, 1);
        let revision = record.responses[nth].1.header.unwrap().revision;
        record.responses.insert(nth, response(revision, Vec::new()));
    };
    spoiled(early, bookmarkable, "without");
}

#[test]
fn unwanted_events_are_seen() {
    spoiled(|record| record.key = key(1), |record, _| filtered(record), "not asked for");
    let filter = |record: &mut WatchRecord| record.filters.push(FilterType::Nodelete);
    spoiled(filter, |record, _| filtered(record), "not asked for");
}

#[test]
fn wrong_previous_values_are_seen() {
    let with_previous = |record: &WatchRecord| {
        let all = record.responses.iter().enumerate().skip(10);
        let mut all = all.filter_map(|(nth, (_, response))| {
            Some((nth, response.events.iter().position(|event| event.prev_kv.is_some())?))
        });
        all.next().unwrap()
    };
    let missing = |record: &mut WatchRecord| {
        let (nth, at) = with_previous(record);
        record.responses[nth].1.events[at].prev_kv = None;
    };
    spoiled(missing, prev_kv_right, "before the");
    let wrong = |record: &mut WatchRecord| {
        let (nth, at) = with_previous(record);
        record.responses[nth].1.events[at].prev_kv.as_mut().unwrap().value = "wrong".into();
    };
    spoiled(wrong, prev_kv_right, "before the");
    spoiled(|record| record.prev_kv = false, prev_kv_right, "before the");
    let timeline = timeline();
    let mut record = served(&timeline, everything(), &mut Rng::with_seed(2));
    missing(&mut record);
    let compacted = Truth::new(&timeline, timeline.last());
    prev_kv_right(&record, &compacted).expect("it was compacted");
}

#[test]
fn wrong_creations_are_seen() {
    let first_put = |record: &WatchRecord| {
        let all = record.responses.iter().enumerate();
        let mut puts = all.filter_map(|(nth, (_, response))| {
            let is_put = |event: &Event| event.r#type() == EventType::Put;
            Some((nth, response.events.iter().position(is_put)?))
        });
        puts.next().unwrap()
    };
    let version = |record: &mut WatchRecord| {
        let (nth, at) = first_put(record);
        record.responses[nth].1.events[at].kv.as_mut().unwrap().version += 1;
    };
    spoiled(version, is_create_right, "says version");
    let value = |record: &mut WatchRecord| {
        let (nth, at) = first_put(record);
        record.responses[nth].1.events[at].kv.as_mut().unwrap().value = "wrong".into();
    };
    spoiled(value, is_create_right, "true is");
}
