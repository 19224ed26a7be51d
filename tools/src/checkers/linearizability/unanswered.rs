//! Which of the writes that nobody was answered made which of the revisions that nobody claims.
//!
//! A write without an answer may be carried out any time after its begin, once at most, or never. Several may
//! be able to make a revision's events: two deletes of one key, say. So it is an assignment of revisions to writes, and as
//! in any such (Kuhn's algorithm) a revision that finds all its writes taken asks their revisions to take
//! another. What a request does at a revision depends on the truth alone, and not on the assignment.

use std::collections::BTreeMap;

use urd_proto::mvccpb::Event;

use super::{accuse, same_events};
use crate::checkers::Violation;
use crate::checkers::history::{Answer, Operation, Request, key_of};
use crate::checkers::model::Model;

pub(super) struct Unanswered<'a> {
    operations: &'a [Operation],
    /// The writes without an answer, by their begin.
    writes: Vec<usize>,
    /// The writes that could have made a revision.
    candidates: BTreeMap<i64, Vec<usize>>,
    /// The revision that a write is taken to have made.
    taken: BTreeMap<usize, i64>,
}

impl<'a> Unanswered<'a> {
    pub(super) fn new(operations: &'a [Operation]) -> Unanswered<'a> {
        let mut writes: Vec<usize> = (0..operations.len())
            .filter(|nth| {
                let Operation { request, answer, .. } = &operations[*nth];
                *answer == Answer::Unknown && request.may_write()
            })
            .collect();
        writes.sort_by_key(|nth| operations[*nth].begun);
        Unanswered { operations, writes, candidates: BTreeMap::new(), taken: BTreeMap::new() }
    }

    /// Finds a write for the next revision, which comes to the model's state. `known`: when somebody was told first
    /// that the revision is there.
    pub(super) fn explain(
        &mut self,
        revision: i64,
        events: &[Event],
        known: Option<u64>,
        model: &Model,
    ) -> Result<(), Violation> {
        let in_time = |nth: usize| known.is_none_or(|known| self.operations[nth].begun <= known);
        let candidates: Vec<usize> = self
            .writes
            .iter()
            .copied()
            .take_while(|nth| in_time(*nth))
            .filter(|nth| makes(&self.operations[*nth], revision, events, model))
            .collect();
        self.candidates.insert(revision, candidates);
        if self.assign(revision, &mut Vec::new()) {
            return Ok(());
        }
        Err(self.unexplained(revision, events, model))
    }

    /// Gives a revision a write, and others another where it must be.
    fn assign(&mut self, revision: i64, asked: &mut Vec<usize>) -> bool {
        let candidates = self.candidates.get(&revision).cloned().unwrap_or_default();
        for nth in candidates {
            if asked.contains(&nth) {
                continue;
            }
            asked.push(nth);
            let free = match self.taken.get(&nth).copied() {
                None => true,
                Some(other) => self.assign(other, asked),
            };
            if free {
                self.taken.insert(nth, revision);
                return true;
            }
        }
        false
    }

    /// Says whose the revision looks like, if nobody may have made it.
    fn unexplained(&self, revision: i64, events: &[Event], model: &Model) -> Violation {
        let all = 0..self.operations.len();
        let alike: Vec<usize> = all
            .filter(|nth| makes(&self.operations[*nth], revision, events, model))
            .take(2)
            .collect();
        let why = alike.first().map(|nth| match &self.operations[*nth].answer {
            Answer::Refused(_) => "; a refused request was carried out",
            Answer::Done(_) => "; a write was carried out twice",
            Answer::Unknown => "; too often, or too early, for these",
        });
        let what = format!(
            "revision {revision} was made by nobody: {}{}",
            super::cut(&format!("{events:?}")),
            why.unwrap_or_default()
        );
        accuse(self.operations, &alike, &what)
    }

    /// The writes that were carried out, each with its revision.
    pub(super) fn found(&self) -> impl Iterator<Item = (usize, i64)> {
        self.taken.iter().map(|(nth, revision)| (*nth, *revision))
    }
}

/// Whether a request makes just these events at the state before `revision`.
fn makes(operation: &Operation, revision: i64, events: &[Event], model: &Model) -> bool {
    let request = &operation.request;
    // Most are puts of another key, and need not be tried.
    if let Request::Put(put) = request
        && (events.len() != 1 || events.iter().any(|event| key_of(event) != put.key))
    {
        return false;
    }
    let executed = request.may_write().then(|| model.execute_at(revision - 1, request).ok());
    executed.flatten().is_some_and(|executed| same_events(&executed.events, events))
}
