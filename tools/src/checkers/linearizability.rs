//! Were operations carried out one by one, in an order that their times allow?
//!
//! In general that is a search over orders, which takes exponential time. Here it takes about linear time, because every
//! answer names a revision: the order of revisions *is* the order of the writes, and a read stands behind the write that
//! made its revision. So the order is known, and [`check`] only has to look whether it is one:
//!
//! 1. *Rebuild.* The truth's revisions are replayed. Each is made by exactly one acknowledged write, whose
//!    request, executed at the state before, gives exactly its events and its answer. One that no
//!    acknowledged write claims was made by one that was not answered ([`unanswered`] finds which), or by a lease's end.
//! 2. *Real time.* Whatever begins after an answer that names revision r is at r or later; a write
//!    is later. Nobody hears of a revision before the write that makes it has begun.
//! 3. *Reads* give what the state at their revision gives. Serializable reads are bound by that alone: they may be old,
//!    but they cannot be wrong.
//!
//! [`search`](mod@search) is the exponential search. It does not rely on revisions, and judges small histories in
//! tests, so that this file has somebody to disagree with.

use urd_proto::etcdserverpb::ResponseHeader;

use super::Violation;
use super::history::{Answer, FIRST_REVISION, Operation, Request, Response, Timeline};
use super::model::Model;
use unanswered::Unanswered;

mod search;
mod unanswered;

pub use search::search;

/// How much of a response a text shows.
const SHOWN_CHARACTERS: usize = 600;

/// What a history held, for whoever wants to know that it was worth checking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Operations that were answered, refused, and neither.
    pub done: usize,
    pub refused: usize,
    pub unknown: usize,
    /// Revisions made by writes that were answered, by writes that were not, and by leases' ends.
    pub by_answered: usize,
    pub by_unanswered: usize,
    pub by_leases: usize,
    /// Answers compared with the state at their revision, serializable ones and others.
    pub serializable_reads: usize,
    pub linearizable_reads: usize,
}

/// Checks a history of any length against the truth.
pub fn check(operations: &[Operation], timeline: &Timeline) -> Result<Summary, Violation> {
    let mut check = Check::new(operations, timeline);
    let (claims, model) = check.rebuild()?;
    check.real_time(&claims)?;
    check.reads(&claims, &model)?;
    Ok(check.summary)
}

/// Where only a quota makes room short, what takes none is served: nobody could make room otherwise. A full medium has no
/// room for the log of that either.
pub fn refusals_by_quota(operations: &[Operation]) -> Result<(), Violation> {
    let wrongly = |operation: &Operation| {
        operation.answer.is_refused_for_space() && !operation.request.may_grow()
    };
    match operations.iter().position(wrongly) {
        Some(nth) => {
            Err(accuse(operations, &[nth], "what takes no room is refused for want of it"))
        }
        None => Ok(()),
    }
}

/// Which operation made a revision, by revision. A revision without one was made by a lease's end.
type Claims = Vec<Option<usize>>;

struct Check<'a> {
    operations: &'a [Operation],
    timeline: &'a Timeline,
    /// By revision: the operation by whose end it was first known to somebody that the revision is there.
    known: Vec<Option<usize>>,
    /// The answered operations by their end, each with the one of the highest revision so far.
    acknowledged: Vec<(u64, usize)>,
    summary: Summary,
}

impl<'a> Check<'a> {
    fn new(operations: &'a [Operation], timeline: &'a Timeline) -> Check<'a> {
        let mut by_end: Vec<(u64, usize)> = operations
            .iter()
            .enumerate()
            .filter(|(_, operation)| matches!(operation.answer, Answer::Done(_)))
            .filter_map(|(nth, operation)| Some((operation.ended?, nth)))
            .collect();
        by_end.sort_unstable();
        let revision = |nth: usize| operations[nth].revision().unwrap_or_default();
        let mut known = vec![None; index(timeline.last()) + 1];
        let mut next = 0;
        let mut acknowledged: Vec<(u64, usize)> = Vec::with_capacity(by_end.len());
        for (ended, nth) in by_end {
            while next <= index(revision(nth)) && next < known.len() {
                known[next] = Some(nth);
                next += 1;
            }
            let highest = acknowledged.last().map(|(_, highest)| *highest);
            let highest = highest.filter(|highest| revision(*highest) >= revision(nth));
            acknowledged.push((ended, highest.unwrap_or(nth)));
        }
        let mut summary = Summary::default();
        for operation in operations {
            match operation.answer {
                Answer::Done(_) => summary.done += 1,
                Answer::Refused(_) => summary.refused += 1,
                Answer::Unknown => summary.unknown += 1,
            }
        }
        Check { operations, timeline, known, acknowledged, summary }
    }

    /// The operation of the highest revision that was answered before `begun`.
    fn acknowledged_before(&self, begun: u64) -> Option<usize> {
        let later = self.acknowledged.partition_point(|(ended, _)| *ended < begun);
        later.checked_sub(1).map(|nth| self.acknowledged[nth].1)
    }

    /// Step 1 of the file's head.
    fn rebuild(&mut self) -> Result<(Claims, Model), Violation> {
        let mut claims = self.claims()?;
        let mut unanswered = Unanswered::new(self.operations);
        let mut model = Model::new();
        for (revision, events) in self.timeline.since(FIRST_REVISION) {
            match claims[index(revision)] {
                Some(nth) => {
                    self.check_write(nth, revision, &model)?;
                    self.summary.by_answered += 1;
                }
                None if ends_a_lease(&model, revision, self.timeline) => {
                    self.summary.by_leases += 1;
                }
                None => {
                    let known =
                        self.known[index(revision)].and_then(|nth| self.operations[nth].ended);
                    unanswered.explain(revision, events, known, &model)?;
                    self.summary.by_unanswered += 1;
                }
            }
            model.apply(events);
        }
        for (nth, revision) in unanswered.found() {
            claims[index(revision)] = Some(nth);
        }
        Ok((claims, model))
    }

    /// The answered writes by the revisions that their answers name.
    fn claims(&self) -> Result<Claims, Violation> {
        let mut claims: Claims = vec![None; index(self.timeline.last()) + 1];
        for (nth, operation) in self.operations.iter().enumerate() {
            let Answer::Done(response) = &operation.answer else { continue };
            if !response.says_it_wrote() {
                continue;
            }
            let revision = response.revision();
            match claims.get_mut(index(revision)) {
                Some(claim @ None) if revision > FIRST_REVISION => *claim = Some(nth),
                Some(Some(other)) => {
                    return Err(
                        self.accuse(&[*other, nth], "two writes were answered with one revision")
                    );
                }
                _ => {
                    let last = self.timeline.last();
                    let what = format!("a write is lost: the truth ends at revision {last}");
                    return Err(self.accuse(&[nth], &what));
                }
            }
        }
        Ok(claims)
    }

    /// Whether an answered write makes what is there, and was answered with what it made.
    fn check_write(&self, nth: usize, revision: i64, model: &Model) -> Result<(), Violation> {
        let operation = &self.operations[nth];
        let executed = model.execute_at(revision - 1, &operation.request);
        let executed = executed.map_err(|refusal| {
            self.accuse(&[nth], &format!("a write was done that had to be refused: {refusal}"))
        })?;
        if !same_events(&executed.events, self.timeline.events(revision)) {
            let what = format!(
                "a write is not what its revision holds; it makes {}, there is {}",
                cut(&format!("{:?}", executed.events)),
                cut(&format!("{:?}", self.timeline.events(revision)))
            );
            return Err(self.accuse(&[nth], &what));
        }
        self.check_response(nth, executed.response)
    }

    fn check_response(&self, nth: usize, expected: Response) -> Result<(), Violation> {
        let Answer::Done(given) = &self.operations[nth].answer else { return Ok(()) };
        if let (Response::LeaseGrant(_), Response::LeaseGrant(_)) = (&expected, given) {
            // The server chooses the id where none is asked for, and may grant longer.
            return Ok(());
        }
        let (expected, given) = (plain(expected), plain(given.clone()));
        if expected == given {
            return Ok(());
        }
        let what = format!(
            "the answer is wrong; expected {}, got {}",
            cut(&format!("{expected:?}")),
            cut(&format!("{given:?}"))
        );
        Err(self.accuse(&[nth], &what))
    }

    /// Step 2 of the file's head.
    fn real_time(&self, claims: &Claims) -> Result<(), Violation> {
        for (revision, nth) in claims.iter().enumerate().filter_map(|(at, nth)| Some((at, (*nth)?)))
        {
            let (operation, known) = (&self.operations[nth], self.known[revision]);
            let ended = known.and_then(|known| self.operations[known].ended);
            if let (Some(known), Some(ended)) = (known, ended)
                && ended < operation.begun
            {
                let what =
                    format!("revision {revision} was seen before the write that made it began");
                return Err(self.accuse(&[known, nth], &what));
            }
        }
        for (nth, operation) in self.operations.iter().enumerate() {
            let Answer::Done(response) = &operation.answer else { continue };
            let Some(before) = self.acknowledged_before(operation.begun) else { continue };
            let floor = self.operations[before].revision().unwrap_or_default();
            let revision = response.revision();
            if response.says_it_wrote() && revision <= floor {
                let what = "a write went before what was answered when it began";
                return Err(self.accuse(&[before, nth], what));
            }
            if revision < floor && !operation.request.is_serializable() {
                let what = "stale: it begins after an answer that is newer than its own";
                return Err(self.accuse(&[before, nth], what));
            }
        }
        self.refusals_of_the_future()
    }

    /// A revision that somebody was told of is none of the future for a linearizable read.
    fn refusals_of_the_future(&self) -> Result<(), Violation> {
        for (nth, operation) in self.operations.iter().enumerate() {
            let (Request::Range(range), Answer::Refused(reason)) =
                (&operation.request, &operation.answer)
            else {
                continue;
            };
            let Some(before) = self.acknowledged_before(operation.begun) else { continue };
            let floor = self.operations[before].revision().unwrap_or_default();
            if !range.serializable && reason.contains("future revision") && range.revision <= floor
            {
                let what = "stale: a revision is called a future one that was answered before";
                return Err(self.accuse(&[before, nth], what));
            }
        }
        Ok(())
    }

    /// Step 3 of the file's head.
    fn reads(&mut self, claims: &Claims, model: &Model) -> Result<(), Violation> {
        let compactions = self.compactions();
        for (nth, operation) in self.operations.iter().enumerate() {
            let Answer::Done(response) = &operation.answer else { continue };
            let revision = response.revision();
            if revision < FIRST_REVISION || revision > self.timeline.last() {
                let last = self.timeline.last();
                let what = format!("its revision is none, the truth ends at {last}");
                return Err(self.accuse(&[nth], &what));
            }
            if claims[index(revision)] == Some(nth) {
                continue;
            }
            self.check_read(nth, revision, model)?;
            self.check_compacted(nth, &compactions)?;
            if operation.request.is_serializable() {
                self.summary.serializable_reads += 1;
            } else {
                self.summary.linearizable_reads += 1;
            }
        }
        Ok(())
    }

    /// An answer that changed nothing, at its revision.
    fn check_read(&self, nth: usize, revision: i64, model: &Model) -> Result<(), Violation> {
        let request = &self.operations[nth].request;
        if let Request::LeaseRevoke(revoke) = request {
            // Its revision is its own, if keys were attached, or one of another's.
            return match model.is_attached(revoke.id, revision) {
                true => Err(self.accuse(&[nth], "a lease is revoked and a key is still attached")),
                false => Ok(()),
            };
        }
        let executed = model.execute_at(revision, request).map_err(|refusal| {
            self.accuse(&[nth], &format!("it was answered and had to be refused: {refusal}"))
        })?;
        if !executed.events.is_empty() {
            let what = format!(
                "it says that it changed nothing; at revision {revision} it changes {}",
                cut(&format!("{:?}", executed.events))
            );
            return Err(self.accuse(&[nth], &what));
        }
        self.check_response(nth, executed.response)
    }

    /// The answered compactions by their end, each with the one to the highest revision so far.
    fn compactions(&self) -> Vec<(u64, i64, usize)> {
        let mut compactions: Vec<(u64, i64, usize)> = self
            .operations
            .iter()
            .enumerate()
            .filter_map(|(nth, operation)| match (&operation.request, &operation.answer) {
                (Request::Compaction(compaction), Answer::Done(_)) => {
                    Some((operation.ended?, compaction.revision, nth))
                }
                _ => None,
            })
            .collect();
        compactions.sort_unstable();
        let mut highest = (i64::MIN, 0);
        for (_, revision, nth) in &mut compactions {
            highest = highest.max((*revision, *nth));
            (*revision, *nth) = highest;
        }
        compactions
    }

    /// No linearizable read gives a revision that was compacted before it began.
    fn check_compacted(
        &self,
        nth: usize,
        compactions: &[(u64, i64, usize)],
    ) -> Result<(), Violation> {
        let operation = &self.operations[nth];
        let Request::Range(range) = &operation.request else { return Ok(()) };
        let later = compactions.partition_point(|(ended, ..)| *ended < operation.begun);
        let before = later.checked_sub(1).and_then(|last| compactions.get(last));
        match before {
            Some((_, compacted, by))
                if range.revision > 0 && range.revision < *compacted && !range.serializable =>
            {
                Err(self.accuse(&[*by, nth], "stale: a revision is read that was compacted before"))
            }
            _ => Ok(()),
        }
    }

    fn accuse(&self, concerned: &[usize], what: &str) -> Violation {
        accuse(self.operations, concerned, what)
    }
}

/// Says what is wrong with which operations.
fn accuse(operations: &[Operation], concerned: &[usize], what: &str) -> Violation {
    let mut text = what.to_owned();
    for nth in concerned {
        text.push_str(&format!("\n  operation {nth}: {}", operations[*nth]));
    }
    Violation { text, operations: concerned.to_vec() }
}

/// A revision as a place. One that cannot be is none's.
fn index(revision: i64) -> usize {
    usize::try_from(revision).unwrap_or(usize::MAX - 1)
}

/// Whether a revision's events are all that a lease's end makes.
fn ends_a_lease(model: &Model, revision: i64, timeline: &Timeline) -> bool {
    let events = timeline.events(revision);
    let first = events.first().and_then(|event| model.lease_of(event));
    first.is_some_and(|lease| same_events(&model.end_of_lease(lease), events))
}

/// Whether events are the same. Values before them are judged where both have them: a watch need not tell.
fn same_events(expected: &[urd_proto::mvccpb::Event], given: &[urd_proto::mvccpb::Event]) -> bool {
    expected.len() == given.len()
        && expected.iter().zip(given).all(|(expected, given)| {
            let before = given.prev_kv.is_none() || given.prev_kv == expected.prev_kv;
            expected.r#type == given.r#type && expected.kv == given.kv && before
        })
}

/// A response without what says who answered.
fn plain(mut response: Response) -> Response {
    response.for_each_header(&mut |header| {
        *header = ResponseHeader { revision: header.revision, ..ResponseHeader::default() };
    });
    response
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
