//! Proposals that wait for their outcome, matched by index *and* term.
//!
//! An entry at the expected index but of another term is somebody else's: our proposal was replaced and will never be
//! applied, so its clients hear that the leader changed.

use std::collections::VecDeque;

use crate::ids::{Index, Term};

/// The proposals of this member, in the order of their indexes. `P` says whom to tell.
#[derive(Debug)]
pub struct Pending<P> {
    /// Invariant: indexes strictly grow.
    waiting: VecDeque<(Index, Term, P)>,
}

impl<P> Default for Pending<P> {
    fn default() -> Self {
        Self { waiting: VecDeque::new() }
    }
}

/// What became of the proposals up to an applied entry.
#[derive(Debug, PartialEq, Eq)]
pub struct Settled<P> {
    /// Whose entry was applied, if it was one of ours.
    pub applied: Option<P>,
    /// Whose entries were replaced by another leader's.
    pub lost: Vec<P>,
}

impl<P> Pending<P> {
    /// Notes that `proposal` was appended at `index` in `term`.
    pub fn push(&mut self, index: Index, term: Term, proposal: P) {
        if let Some((last, _, _)) = self.waiting.back() {
            assert!(*last < index, "proposal {index} after {last}");
        }
        self.waiting.push_back((index, term, proposal));
    }

    /// The entry at `index` of `term` was applied.
    pub fn settle(&mut self, index: Index, term: Term) -> Settled<P> {
        let mut settled = Settled { applied: None, lost: Vec::new() };
        while let Some((waiting_index, waiting_term, proposal)) =
            self.waiting.pop_front_if(|(waiting, _, _)| *waiting <= index)
        {
            if waiting_index == index && waiting_term == term {
                settled.applied = Some(proposal);
            } else {
                settled.lost.push(proposal);
            }
        }
        settled
    }

    /// Gives up on all: leadership was lost, and their outcome is unknown.
    pub fn fail_all(&mut self) -> Vec<P> {
        self.waiting.drain(..).map(|(_, _, proposal)| proposal).collect()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_reaches_its_proposal() {
        let mut pending = Pending::default();
        pending.push(Index(4), Term(2), "a");
        pending.push(Index(5), Term(2), "b");
        assert_eq!(pending.settle(Index(3), Term(1)), Settled { applied: None, lost: vec![] });
        assert_eq!(pending.settle(Index(4), Term(2)), Settled { applied: Some("a"), lost: vec![] });
        assert_eq!(pending.len(), 1);
    }

    #[test]
    fn another_term_at_the_index_means_that_ours_was_lost() {
        let mut pending = Pending::default();
        pending.push(Index(4), Term(2), "a");
        pending.push(Index(5), Term(2), "b");
        let settled = pending.settle(Index(5), Term(3));
        assert_eq!(settled, Settled { applied: None, lost: vec!["a", "b"] });
        assert!(pending.is_empty());
    }
}
