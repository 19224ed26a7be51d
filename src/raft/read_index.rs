//! Linearizable reads: one read index a round, shared by all reads that wait.
//!
//! raft-rs keys a read index by the caller's context bytes and matches heartbeat answers by them. A context that was
//! used before could therefore be confirmed by an answer to its first use, sent before writes that the new read must
//! see. So a context is never used twice: it carries the member, a number drawn anew at each start, and a counter.
//!
//! A round may never be confirmed: its question or the answer was lost, or leadership moved. Then [`Rounds::expire`] or
//! [`Rounds::take_all`] gives its readers back, who ask again in a new round. An answer to the old one that comes late
//! releases nobody.

use std::collections::VecDeque;

use crate::ids::{Index, MemberId};

/// Never the same twice: member, start and sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    member: MemberId,
    start: u64,
    sequence: u64,
}

impl Context {
    const BYTES: usize = 24;

    /// The bytes that raft-rs carries.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        for number in [self.member.0, self.start, self.sequence] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

/// The rounds under way. `R` is what waits for a round's end.
#[derive(Debug)]
pub struct Rounds<R> {
    member: MemberId,
    start: u64,
    sequence: u64,
    /// In the order of their contexts, and of the ticks at which they were opened.
    waiting: VecDeque<Round<R>>,
}

#[derive(Debug)]
struct Round<R> {
    context: Context,
    /// The tick at which it was opened.
    tick: u64,
    readers: Vec<R>,
}

impl<R> Rounds<R> {
    /// `start` differs at every start of this member.
    pub fn new(member: MemberId, start: u64) -> Self {
        Self { member, start, sequence: 0, waiting: VecDeque::new() }
    }

    /// Opens a round for `readers` at `tick`, with a context of its own.
    pub fn open(&mut self, tick: u64, readers: Vec<R>) -> Context {
        self.sequence += 1;
        let context = Context { member: self.member, start: self.start, sequence: self.sequence };
        self.waiting.push_back(Round { context, tick, readers });
        context
    }

    /// raft confirmed `context` at `index`: its readers, and those of earlier rounds, which a later confirmation
    /// covers, may read once `index` is applied. An unknown context confirms nobody.
    pub fn confirmed(&mut self, context: &[u8], index: Index) -> Vec<(Index, R)> {
        let Some(position) =
            self.waiting.iter().position(|round| round.context.to_bytes() == context)
        else {
            return Vec::new();
        };
        self.waiting
            .drain(..=position)
            .flat_map(|round| round.readers)
            .map(|reader| (index, reader))
            .collect()
    }

    /// Gives up on the rounds opened before `tick`: their question or its answer was lost. Their readers may ask again,
    /// under a new context.
    pub fn expire(&mut self, tick: u64) -> Vec<R> {
        let mut readers = Vec::new();
        while let Some(round) = self.waiting.pop_front_if(|round| round.tick < tick) {
            readers.extend(round.readers);
        }
        readers
    }

    /// Gives up on all rounds, whose leader is no more. Their readers may ask again, under a new context.
    pub fn take_all(&mut self) -> Vec<R> {
        self.waiting.drain(..).flat_map(|round| round.readers).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_never_reused() {
        let mut rounds = Rounds::new(MemberId(1), 7);
        let mut seen = Vec::new();
        for reader in 0..100 {
            let context = rounds.open(1, vec![reader]).to_bytes();
            assert!(!seen.contains(&context));
            seen.push(context);
        }
        let other_start = Rounds::new(MemberId(1), 8).open(1, vec![0]).to_bytes();
        assert!(!seen.contains(&other_start));
    }

    #[test]
    fn a_repeated_confirmation_releases_nobody() {
        let mut rounds = Rounds::new(MemberId(1), 7);
        let first = rounds.open(1, vec!["a"]).to_bytes();
        assert_eq!(rounds.confirmed(&first, Index(5)), [(Index(5), "a")]);
        rounds.open(1, vec!["b"]);
        assert!(
            rounds.confirmed(&first, Index(5)).is_empty(),
            "a delayed answer to the first round"
        );
        assert_eq!(rounds.take_all(), ["b"]);
    }

    #[test]
    fn a_later_confirmation_covers_earlier_rounds() {
        let mut rounds = Rounds::new(MemberId(1), 7);
        rounds.open(1, vec!["a"]);
        let second = rounds.open(1, vec!["b"]).to_bytes();
        rounds.open(1, vec!["c"]);
        assert_eq!(rounds.confirmed(&second, Index(9)), [(Index(9), "a"), (Index(9), "b")]);
    }

    #[test]
    fn an_answer_that_comes_after_its_round_was_given_up_releases_nobody() {
        let mut rounds = Rounds::new(MemberId(1), 7);
        let first = rounds.open(1, vec!["a"]).to_bytes();
        rounds.open(5, vec!["b"]);
        assert_eq!(rounds.expire(5), ["a"]);
        let again = rounds.open(6, vec!["a"]).to_bytes();
        assert!(rounds.confirmed(&first, Index(5)).is_empty());
        assert_eq!(rounds.confirmed(&again, Index(7)), [(Index(7), "b"), (Index(7), "a")]);
    }
}
