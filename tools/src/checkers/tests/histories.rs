//! Both judges of histories, on the same ones.

use bytes::Bytes;
use fastrand::Rng;
use urd_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, ResponseHeader};

use super::generator::{LARGE, SMALL, history, key};
use crate::checkers::history::{
    Answer, FIRST_REVISION, Operation, Request, Response, Timeline, key_of,
};
use crate::checkers::linearizability::{check, refusals_by_quota, search};
use crate::checkers::model::Model;

/// A history to be spoiled.
struct Case {
    operations: Vec<Operation>,
    timeline: Timeline,
    model: Model,
    rng: Rng,
}

impl Case {
    /// A small history, with a read of every key at its end.
    fn new(seed: u64) -> Case {
        let mut rng = Rng::with_seed(seed);
        let (operations, timeline) = history(&mut rng, SMALL);
        let model = Model::of(&timeline);
        let mut case = Case { operations, timeline, model, rng };
        for nth in 0..SMALL.keys {
            case.add_read(key(nth));
        }
        case
    }

    fn add(&mut self, request: Request, answer: Answer) {
        // Those that are never answered count, too: what they do is seen by what follows.
        let last = self.operations.iter().map(|one| one.begun.max(one.ended.unwrap_or(0))).max();
        let begun = last.unwrap_or(0) + 100;
        let ended = Some(begun + 10);
        self.operations.push(Operation { client: 99, begun, ended, request, answer });
    }

    fn add_read(&mut self, key: Bytes) {
        let request = Request::Range(RangeRequest { key, ..RangeRequest::default() });
        let executed = self.model.execute(&request).unwrap();
        self.add(request, Answer::Done(executed.response));
    }

    /// Some operation for which `wanted` has something to say.
    fn pick<T>(
        &mut self,
        mut wanted: impl FnMut(&Case, usize, &Operation) -> Option<T>,
    ) -> Option<(usize, T)> {
        let mut order: Vec<usize> = (0..self.operations.len()).collect();
        self.rng.shuffle(&mut order);
        let case = &*self;
        order.into_iter().find_map(|nth| Some((nth, wanted(case, nth, &case.operations[nth])?)))
    }

    /// An answered put that the last read of its key shows, with its key and revision.
    fn pick_last_put(&mut self) -> Option<(usize, Bytes, i64)> {
        let picked = self.pick(|case, _, operation| {
            let (Request::Put(put), Some(revision)) = (&operation.request, operation.revision())
            else {
                return None;
            };
            let later = case.timeline.since(revision + 1).flat_map(|(_, events)| events);
            let is_last = !later.into_iter().any(|event| key_of(event) == put.key);
            is_last.then(|| (put.key.clone(), revision))
        });
        picked.map(|(nth, (key, revision))| (nth, key, revision))
    }
}

fn set_revision(operation: &mut Operation, revision: i64) {
    if let Answer::Done(response) = &mut operation.answer {
        response.for_each_header(&mut |header| {
            *header = ResponseHeader { revision, ..ResponseHeader::default() };
        });
    }
}

#[test]
fn valid_histories_pass() {
    for seed in 0..300 {
        let Case { operations, timeline, .. } = Case::new(seed);
        check(&operations, &timeline).unwrap_or_else(|violation| panic!("{seed}: {violation}"));
        search(&operations).unwrap_or_else(|violation| panic!("{seed}: {violation}"));
    }
    for seed in 0..30 {
        let (operations, timeline) = history(&mut Rng::with_seed(seed), LARGE);
        let summary = check(&operations, &timeline);
        let summary = summary.unwrap_or_else(|violation| panic!("{seed}: {violation}"));
        let made = summary.by_answered + summary.by_unanswered + summary.by_leases;
        assert_eq!(made as i64, timeline.last() - FIRST_REVISION);
        assert!(summary.by_unanswered > 0 && summary.by_leases > 0, "{seed}: {summary:?}");
        assert!(summary.serializable_reads > 20 && summary.linearizable_reads > 100);
    }
}

/// Spoils histories until both judges have objected to 40.
fn both_object(text: &str, spoil: impl Fn(&mut Case) -> bool) {
    let mut spoiled = 0;
    for seed in 0.. {
        assert!(seed < 4_000, "only {spoiled} histories could be spoiled");
        let mut case = Case::new(seed);
        if !spoil(&mut case) {
            continue;
        }
        let violation = check(&case.operations, &case.timeline).expect_err("it was spoiled");
        assert!(violation.text.contains(text), "{seed}: {violation}");
        assert!(
            search(&case.operations).is_err(),
            "{seed}: the search takes {violation} for right"
        );
        spoiled += 1;
        if spoiled == 40 {
            return;
        }
    }
}

#[test]
fn stale_reads_are_seen() {
    both_object("stale", |case| {
        let picked = case.pick(|case, _, read| {
            let Request::Range(range) = &read.request else { return None };
            read.response()?;
            // A put of that key that was answered before, and the state that it overwrote.
            case.operations.iter().find_map(|write| {
                let (Request::Put(put), Some(revision)) = (&write.request, write.revision()) else {
                    return None;
                };
                let before = put.key == range.key && write.ended? < read.begun;
                let old = case.model.execute_at(revision - 1, &read.request).ok()?;
                let held = matches!(&old.response, Response::Range(old) if !old.kvs.is_empty());
                (before && held).then_some(old.response)
            })
        });
        let Some((nth, old)) = picked else { return false };
        case.operations[nth].answer = Answer::Done(old);
        true
    });
}

#[test]
fn lost_writes_are_seen() {
    both_object("a write is lost", |case| {
        let Some((nth, key, _)) = case.pick_last_put() else { return false };
        let mut request = case.operations[nth].request.clone();
        if let Request::Put(put) = &mut request {
            put.value = "lost".into();
        }
        let answer = case.model.execute(&request).unwrap().response;
        case.add(request, Answer::Done(answer));
        case.add_read(key);
        true
    });
}

#[test]
fn doubled_writes_are_seen() {
    both_object("carried out twice", |case| {
        let Some((nth, key, _)) = case.pick_last_put() else { return false };
        let request = case.operations[nth].request.clone();
        let again = case.model.run(&request).unwrap();
        case.timeline.push(case.model.revision(), again.events).unwrap();
        case.add_read(key);
        true
    });
}

#[test]
fn writes_carried_out_though_refused_are_seen() {
    both_object("a refused request was carried out", |case| {
        let Some((nth, ..)) = case.pick_last_put() else { return false };
        case.operations[nth].answer = Answer::Refused("etcdserver: no leader".into());
        true
    });
}

#[test]
fn what_takes_no_room_must_not_be_refused_by_a_quota() {
    let refused = |request| Operation {
        client: 0,
        begun: 1,
        ended: Some(2),
        request,
        answer: Answer::Refused("etcdserver: mvcc: database space exceeded".into()),
    };
    let check = |request| refusals_by_quota(&[refused(request)]);
    assert!(check(Request::Put(PutRequest::default())).is_ok());
    let violation = check(Request::DeleteRange(DeleteRangeRequest::default())).unwrap_err();
    assert!(violation.text.contains("what takes no room"), "{violation}");
}

#[test]
fn wrong_previous_values_are_seen() {
    both_object("the answer is wrong", |case| {
        let picked = case.pick(|_, _, operation| match operation.response()? {
            Response::Put(response) => response.prev_kv.clone(),
            _ => None,
        });
        let Some((nth, mut kv)) = picked else { return false };
        kv.value = "never put".into();
        if let Answer::Done(Response::Put(response)) = &mut case.operations[nth].answer {
            response.prev_kv = Some(kv);
        }
        true
    });
}

#[test]
fn wrong_revisions_are_seen() {
    both_object("", |case| {
        let Some((nth, _, revision)) = case.pick_last_put() else { return false };
        set_revision(&mut case.operations[nth], revision + 1);
        true
    });
}

#[test]
fn real_time_inversions_are_seen() {
    both_object("", |case| {
        let put_key = |operation: &Operation| match &operation.request {
            Request::Put(put) if operation.revision().is_some() => Some(put.key.clone()),
            _ => None,
        };
        let picked = case.pick(|case, _, one| {
            let key = put_key(one)?;
            let after = |other: &Operation| Some(other.begun) > one.ended;
            case.operations
                .iter()
                .position(|other| after(other) && put_key(other) == Some(key.clone()))
        });
        let Some((one, other)) = picked else { return false };
        let (early, late) = (case.operations[one].clone(), case.operations[other].clone());
        for (nth, times) in [(one, late), (other, early)] {
            (case.operations[nth].begun, case.operations[nth].ended) = (times.begun, times.ended);
        }
        true
    });
}

#[test]
fn wrong_branches_are_seen() {
    both_object("the answer is wrong", |case| {
        let picked = case.pick(|_, _, operation| match operation.response()? {
            Response::Txn(response) => Some(response.succeeded),
            _ => None,
        });
        let Some((nth, succeeded)) = picked else { return false };
        if let Answer::Done(Response::Txn(response)) = &mut case.operations[nth].answer {
            response.succeeded = !succeeded;
        }
        true
    });
}

#[test]
fn wrong_counts_of_deletions_are_seen() {
    both_object("", |case| {
        let picked = case.pick(|_, _, operation| match operation.response()? {
            Response::DeleteRange(response) => Some(response.deleted),
            _ => None,
        });
        let Some((nth, deleted)) = picked else { return false };
        // Another delete may have been the one that was carried out.
        let unknown = |operation: &Operation| operation.answer == Answer::Unknown;
        if case.operations.iter().any(unknown) {
            return false;
        }
        if let Answer::Done(Response::DeleteRange(response)) = &mut case.operations[nth].answer {
            response.deleted = 1 - deleted;
        }
        true
    });
}

/// Spoils large histories until the check has objected to 10.
fn check_objects(text: &str, spoil: impl Fn(&mut Case) -> bool) {
    let mut spoiled = 0;
    for seed in 0..100 {
        let mut rng = Rng::with_seed(seed);
        let (operations, timeline) = history(&mut rng, LARGE);
        let mut case = Case { model: Model::of(&timeline), operations, timeline, rng };
        if !spoil(&mut case) {
            continue;
        }
        let violation = check(&case.operations, &case.timeline).expect_err("it was spoiled");
        assert!(violation.text.contains(text), "{seed}: {violation}");
        spoiled += 1;
        if spoiled == 10 {
            return;
        }
    }
    panic!("only {spoiled} histories could be spoiled");
}

#[test]
fn serializable_reads_of_the_future_are_seen() {
    // Writes that were not answered may be the first to be found too late.
    check_objects("", |case| {
        let last = case.timeline.last();
        let maker = case.operations.iter().find(|operation| {
            operation.revision() == Some(last)
                && operation.response().is_some_and(Response::says_it_wrote)
        });
        let Some(begun) = maker.map(|maker| maker.begun) else { return false };
        let picked = case.pick(|_, _, read| {
            let early = read.ended.is_some_and(|ended| ended < begun);
            let done = read.response().is_some();
            (early && done && read.request.is_serializable()).then_some(())
        });
        let Some((nth, ())) = picked else { return false };
        let Ok(executed) = case.model.execute(&case.operations[nth].request) else { return false };
        case.operations[nth].answer = Answer::Done(executed.response);
        true
    });
}

#[test]
fn serializable_reads_may_be_old_but_not_wrong() {
    let mut old = 0;
    for seed in 0..10 {
        let mut rng = Rng::with_seed(seed);
        let (mut operations, timeline) = history(&mut rng, LARGE);
        let model = Model::of(&timeline);
        for operation in &mut operations {
            let Some(revision) = operation.revision() else { continue };
            let at = rng.i64(FIRST_REVISION..=revision);
            if !matches!(&operation.request, Request::Range(range) if range.serializable) {
                continue;
            }
            let Ok(executed) = model.execute_at(at, &operation.request) else { continue };
            operation.answer = Answer::Done(executed.response);
            old += 1;
        }
        check(&operations, &timeline).unwrap_or_else(|violation| panic!("{seed}: {violation}"));
    }
    assert!(old > 100, "only {old}");
    check_objects("the answer is wrong", |case| {
        let picked = case.pick(|_, _, read| match (&read.request, read.response()?) {
            (Request::Range(range), Response::Range(response)) if range.serializable => {
                (!response.kvs.is_empty()).then_some(())
            }
            _ => None,
        });
        let Some((nth, ())) = picked else { return false };
        if let Answer::Done(Response::Range(response)) = &mut case.operations[nth].answer {
            response.kvs[0].version += 1;
        }
        true
    });
}

#[test]
fn revisions_that_nobody_made_are_seen() {
    check_objects("was made by nobody", |case| {
        let picked = case.pick(|_, _, operation| {
            let plain = matches!(&operation.request, Request::Put(put) if put.lease == 0);
            (plain && operation.revision().is_some()).then_some(())
        });
        let Some((nth, ())) = picked else { return false };
        case.operations.remove(nth);
        true
    });
}

#[test]
fn reads_of_compacted_revisions_are_seen() {
    check_objects("compacted before", |case| {
        let compacted = case.operations.iter().filter_map(|operation| match &operation.request {
            Request::Compaction(compaction) if operation.revision().is_some() => {
                Some(compaction.revision)
            }
            _ => None,
        });
        let Some(compacted) = compacted.max().filter(|compacted| *compacted > 2) else {
            return false;
        };
        let key = key(0);
        let range = RangeRequest { key, revision: compacted - 1, ..RangeRequest::default() };
        let request = Request::Range(range);
        let executed = case.model.execute(&request).unwrap();
        case.add(request, Answer::Done(executed.response));
        true
    });
}

#[test]
fn violations_name_both_operations() {
    let mut cases = (0..100).map(Case::new);
    let found = cases.find_map(|mut case| case.pick_last_put().map(|(nth, ..)| (case, nth)));
    let (mut case, nth) = found.expect("most histories have puts");
    let twin = case.operations[nth].clone();
    case.operations.push(twin);
    let violation = check(&case.operations, &case.timeline).unwrap_err();
    assert_eq!(violation.operations, [nth, case.operations.len() - 1]);
    assert!(violation.text.contains(&format!("operation {nth}: client")), "{violation}");
}
