//! Linearizable reads: one read index a round, shared by all reads that wait.
//!
//! raft-rs keys a read index by the caller's context bytes and matches heartbeat answers by them. A context that was
//! used before could therefore be confirmed by an answer to its first use, sent before writes that the new read must
//! see. So a context is never used twice: it carries the member, a number drawn anew at each start, and a counter.
//!
//! A round that is never confirmed (leadership lost) is failed by [`Rounds::fail_all`]; its reads are retried by their
//! clients under new contexts.

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
    /// In the order of their contexts.
    waiting: VecDeque<(Context, Vec<R>)>,
}

impl<R> Rounds<R> {
    /// `start` differs at every start of this member.
    pub fn new(member: MemberId, start: u64) -> Self {
        Self { member, start, sequence: 0, waiting: VecDeque::new() }
    }

    /// Opens a round for `readers`, with a context of its own.
    pub fn open(&mut self, readers: Vec<R>) -> Context {
        self.sequence += 1;
        let context = Context { member: self.member, start: self.start, sequence: self.sequence };
        self.waiting.push_back((context, readers));
        context
    }

    /// raft confirmed `context` at `index`: its readers, and those of earlier rounds, which a later confirmation
    /// covers, may read once `index` is applied. An unknown context confirms nobody.
    pub fn confirmed(&mut self, context: &[u8], index: Index) -> Vec<(Index, R)> {
        let Some(position) =
            self.waiting.iter().position(|(waiting, _)| waiting.to_bytes() == context)
        else {
            return Vec::new();
        };
        self.waiting
            .drain(..=position)
            .flat_map(|(_, readers)| readers)
            .map(|reader| (index, reader))
            .collect()
    }

    /// Ends all rounds without an index: those readers must not read.
    pub fn fail_all(&mut self) -> Vec<R> {
        self.waiting.drain(..).flat_map(|(_, readers)| readers).collect()
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
            let context = rounds.open(vec![reader]).to_bytes();
            assert!(!seen.contains(&context));
            seen.push(context);
        }
        let other_start = Rounds::new(MemberId(1), 8).open(vec![0]).to_bytes();
        assert!(!seen.contains(&other_start));
    }

    #[test]
    fn a_repeated_confirmation_releases_nobody() {
        let mut rounds = Rounds::new(MemberId(1), 7);
        let first = rounds.open(vec!["a"]).to_bytes();
        assert_eq!(rounds.confirmed(&first, Index(5)), [(Index(5), "a")]);
        rounds.open(vec!["b"]);
        assert!(
            rounds.confirmed(&first, Index(5)).is_empty(),
            "a delayed answer to the first round"
        );
        assert_eq!(rounds.fail_all(), ["b"]);
    }

    #[test]
    fn a_later_confirmation_covers_earlier_rounds() {
        let mut rounds = Rounds::new(MemberId(1), 7);
        rounds.open(vec!["a"]);
        let second = rounds.open(vec!["b"]).to_bytes();
        rounds.open(vec!["c"]);
        assert_eq!(rounds.confirmed(&second, Index(9)), [(Index(9), "a"), (Index(9), "b")]);
    }
}
