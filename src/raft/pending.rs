//! Proposals that wait for their outcome, each known by a number that travels in its entry.
//!
//! A follower's proposal is appended by the leader, so where it will stand in the log, and in which term, is not known
//! here. The entry's context names it instead: whoever proposed an entry recognises it when it is applied. A name is
//! never used twice, so an entry of an earlier start, or of another member, is nobody's.
//!
//! What becomes of a proposal may never be heard: its message was lost, or another leader replaced its entry. Once an entry
//! of a later term is applied, those of earlier terms that are in the log at all have been applied before it: who still
//! waits is given up ([`Pending::outlive`]). And each is after a time ([`Pending::expire`]). Both say that the outcome is
//! unknown: a proposal may still be on its way to a member that leads later.

use std::collections::BTreeMap;

use crate::ids::MemberId;

/// Names a proposal: member, start and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProposalId {
    member: MemberId,
    start: u64,
    sequence: u64,
}

impl ProposalId {
    /// Bytes of a name.
    pub const BYTES: usize = 24;

    /// As an entry's context carries it.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let numbers = [self.member.0, self.start, self.sequence];
        for (place, number) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
            *place = number.to_le_bytes();
        }
        bytes
    }

    /// The name at the front of an entry's context; `None` where nobody waits, as for a leader's first entry.
    pub fn of_context(context: &[u8]) -> Option<Self> {
        let bytes = context.first_chunk::<{ Self::BYTES }>()?;
        let [member, start, sequence] = *bytes.as_chunks::<8>().0.first_chunk::<3>()?;
        let number = u64::from_le_bytes;
        Some(Self {
            member: MemberId(number(member)),
            start: number(start),
            sequence: number(sequence),
        })
    }
}

/// The proposals of this member. `P` says whom to tell.
#[derive(Debug)]
pub struct Pending<P> {
    member: MemberId,
    start: u64,
    sequence: u64,
    /// By number. Invariant: ticks and terms never fall.
    waiting: BTreeMap<u64, Waiting<P>>,
}

/// A proposal that waits.
#[derive(Debug)]
struct Waiting<P> {
    /// When it was proposed.
    tick: u64,
    term: u64,
    proposal: P,
}

impl<P> Pending<P> {
    /// `start` differs at every start of this member.
    pub fn new(member: MemberId, start: u64) -> Self {
        Self { member, start, sequence: 0, waiting: BTreeMap::new() }
    }

    /// A name for the next proposal.
    pub fn name(&mut self) -> ProposalId {
        self.sequence += 1;
        ProposalId { member: self.member, start: self.start, sequence: self.sequence }
    }

    /// Notes that the proposal that was named last was made, at `tick` and in `term`.
    pub fn push(&mut self, id: ProposalId, tick: u64, term: u64, proposal: P) {
        assert_eq!(id.sequence, self.sequence, "proposals wait in the order of their names");
        self.waiting.insert(id.sequence, Waiting { tick, term, proposal });
    }

    /// An entry with `context` was applied: whose it is, if somebody here waits for it.
    pub fn settle(&mut self, context: &[u8]) -> Option<P> {
        let id = ProposalId::of_context(context)?;
        if (id.member, id.start) != (self.member, self.start) {
            return None;
        }
        self.waiting.remove(&id.sequence).map(|waiting| waiting.proposal)
    }

    /// Gives up on all that were proposed before `tick`.
    pub fn expire(&mut self, tick: u64) -> Vec<P> {
        self.give_up_while(|first| first.tick < tick)
    }

    /// Gives up on all that were proposed before `term`, an entry of which was applied.
    pub fn outlive(&mut self, term: u64) -> Vec<P> {
        self.give_up_while(|first| first.term < term)
    }

    /// Gives up on all: nothing will be applied here any more.
    pub fn fail_all(&mut self) -> Vec<P> {
        self.give_up_while(|_| true)
    }

    fn give_up_while(&mut self, is_over: impl Fn(&Waiting<P>) -> bool) -> Vec<P> {
        let mut over = Vec::new();
        while let Some(first) = self.waiting.first_entry()
            && is_over(first.get())
        {
            over.push(first.remove().proposal);
        }
        over
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

    fn pending(proposals: &[(u64, &'static str)]) -> (Pending<&'static str>, Vec<[u8; 24]>) {
        let mut pending = Pending::new(MemberId(7), 3);
        let names = proposals.iter().map(|(tick, proposal)| {
            let id = pending.name();
            pending.push(id, *tick, tick / 2, *proposal);
            id.to_bytes()
        });
        let names = names.collect();
        (pending, names)
    }

    #[test]
    fn an_outcome_reaches_its_proposal_once() {
        let (mut pending, names) = pending(&[(1, "a"), (1, "b")]);
        assert_eq!(pending.settle(&names[1]), Some("b"), "leaders may append in another order");
        assert_eq!(pending.settle(&names[0]), Some("a"));
        assert_eq!(pending.settle(&names[0]), None, "an entry that was appended twice");
        assert!(pending.is_empty());
    }

    #[test]
    fn the_name_may_be_followed_by_more() {
        let (mut pending, names) = pending(&[(1, "a")]);
        let mut context = names[0].to_vec();
        context.extend_from_slice(b"a change of membership");
        assert_eq!(pending.settle(&context), Some("a"));
    }

    #[test]
    fn entries_of_others_are_nobodys() {
        let (mut pending, names) = pending(&[(1, "a")]);
        assert_eq!(pending.settle(b""), None);
        assert_eq!(pending.settle(&names[0][..23]), None);
        for other in
            [Pending::<()>::new(MemberId(8), 3).name(), Pending::<()>::new(MemberId(7), 4).name()]
        {
            assert_eq!(pending.settle(&other.to_bytes()), None);
        }
        assert_eq!(pending.len(), 1);
    }

    #[test]
    fn those_that_wait_too_long_are_given_up() {
        let (mut pending, names) = pending(&[(1, "a"), (2, "b"), (3, "c")]);
        assert_eq!(pending.expire(3), ["a", "b"]);
        assert_eq!(pending.settle(&names[0]), None, "applied after all, and nobody waits");
        assert_eq!(pending.fail_all(), ["c"]);
    }

    #[test]
    fn those_of_terms_that_are_over_are_given_up() {
        let (mut pending, names) = pending(&[(2, "a"), (3, "b"), (4, "c")]);
        assert_eq!(pending.outlive(1), [""; 0]);
        assert_eq!(pending.settle(&names[0]), Some("a"));
        assert_eq!(pending.outlive(2), ["b"]);
        assert_eq!(pending.len(), 1);
    }
}
