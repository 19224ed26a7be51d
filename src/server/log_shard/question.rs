//! What members ask each other beside raft, and the answers, as bytes.
//!
//! Little-endian. Bytes from another member are checked like any foreign ones.
//!
//! ```text
//! leases      questions: (kind u8: 0 renew, 1 remaining | lease i64) ...
//!             answers:   (kind u8: 0 no such lease, 1 seconds, 2.. why there is no answer | seconds i64) ...
//! change      question:  the proposal's name and its batch, as the entry's context will have them
//!             answer:    empty when it was proposed, or why not u8
//! hash        question:  revision i64
//!             answer:    hash u32 | compacted i64 | revision i64
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::api::node::{LeaseAnswer, LeaseQuestion};
use crate::error::Unavailable;
use crate::ids::LeaseId;

/// Which question it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// About leases; to the leader.
    Leases = 1,
    /// To propose a change of membership; to the leader.
    Change = 2,
    /// For the hash of the keys' history up to a revision.
    Hash = 3,
    /// For the members, asked by one who is about to join.
    Members = 4,
}

impl Kind {
    /// The kind with this number.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Leases, Self::Change, Self::Hash, Self::Members]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

const ENTRY_BYTES: usize = 9;

/// Questions about leases.
pub fn encode_leases(questions: impl ExactSizeIterator<Item = LeaseQuestion>) -> Bytes {
    let mut bytes = BytesMut::with_capacity(questions.len() * ENTRY_BYTES);
    for question in questions {
        let (kind, id) = match question {
            LeaseQuestion::Renew(id) => (0, id),
            LeaseQuestion::Remaining(id) => (1, id),
        };
        bytes.put_u8(kind);
        bytes.put_i64_le(id.0);
    }
    bytes.freeze()
}

/// The questions that [`encode_leases`] wrote.
pub fn decode_leases(mut bytes: Bytes) -> Option<Vec<LeaseQuestion>> {
    let mut questions = Vec::with_capacity(bytes.len() / ENTRY_BYTES);
    while bytes.remaining() >= ENTRY_BYTES {
        let kind = bytes.get_u8();
        let id = LeaseId(bytes.get_i64_le());
        questions.push(match kind {
            0 => LeaseQuestion::Renew(id),
            1 => LeaseQuestion::Remaining(id),
            _ => return None,
        });
    }
    bytes.is_empty().then_some(questions)
}

/// Why the leader has no answer, by number.
const REASONS: [Unavailable; 9] = [
    Unavailable::NoLeader,
    Unavailable::LeaderChanged,
    Unavailable::TimedOut,
    Unavailable::TooManyRequests,
    Unavailable::NoSpace,
    Unavailable::Stopped,
    Unavailable::NotEnoughStarted,
    Unavailable::Unhealthy,
    Unavailable::LearnerNotReady,
];

/// Answers to questions about leases.
pub fn encode_lease_answers(answers: &[LeaseAnswer]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(answers.len() * ENTRY_BYTES);
    for answer in answers {
        let (kind, seconds) = match answer {
            Ok(None) => (0, 0),
            Ok(Some(seconds)) => (1, *seconds),
            Err(reason) => (2 + reason_number(*reason), 0),
        };
        bytes.put_u8(kind);
        bytes.put_i64_le(seconds);
    }
    bytes.freeze()
}

/// The answers that [`encode_lease_answers`] wrote, so many.
pub fn decode_lease_answers(mut bytes: Bytes, count: usize) -> Option<Vec<LeaseAnswer>> {
    if bytes.len() != count * ENTRY_BYTES {
        return None;
    }
    let mut answers = Vec::with_capacity(count);
    while bytes.has_remaining() {
        let (kind, seconds) = (bytes.get_u8(), bytes.get_i64_le());
        answers.push(match kind {
            0 => Ok(None),
            1 => Ok(Some(seconds)),
            reason => Err(*REASONS.get(usize::from(reason - 2))?),
        });
    }
    Some(answers)
}

fn reason_number(reason: Unavailable) -> u8 {
    let place = REASONS.iter().position(|other| *other == reason);
    // A reason that is not told by number is one to try again for, like the first.
    place.and_then(|place| u8::try_from(place).ok()).unwrap_or(0)
}

/// What became of a wish to change the membership: it was proposed, or why not.
pub type ChangeAnswer = Result<(), Unavailable>;

/// The answer to a wish to change the membership.
pub fn encode_change_answer(answer: ChangeAnswer) -> Bytes {
    match answer {
        Ok(()) => Bytes::new(),
        Err(reason) => Bytes::copy_from_slice(&[reason_number(reason)]),
    }
}

/// The answer that [`encode_change_answer`] wrote.
pub fn decode_change_answer(bytes: &[u8]) -> Option<ChangeAnswer> {
    match *bytes {
        [] => Some(Ok(())),
        [number] => Some(Err(*REASONS.get(usize::from(number))?)),
        _ => None,
    }
}

/// A hash of the keys' history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashAnswer {
    /// The hash.
    pub hash: u32,
    /// Where the history begins.
    pub compacted: i64,
    /// Where it ends.
    pub revision: i64,
}

impl HashAnswer {
    /// As bytes.
    pub fn encode(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(20);
        bytes.put_u32_le(self.hash);
        bytes.put_i64_le(self.compacted);
        bytes.put_i64_le(self.revision);
        bytes.freeze()
    }

    /// From the bytes of [`HashAnswer::encode`].
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        (bytes.len() == 20).then(|| Self {
            hash: bytes.get_u32_le(),
            compacted: bytes.get_i64_le(),
            revision: bytes.get_i64_le(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_about_leases_survive_the_wire() {
        let questions = [LeaseQuestion::Renew(LeaseId(-7)), LeaseQuestion::Remaining(LeaseId(9))];
        let bytes = encode_leases(questions.into_iter());
        assert_eq!(decode_leases(bytes.clone()).unwrap(), questions);
        for cut in 1..bytes.len() {
            let cut_short = decode_leases(bytes.slice(..cut));
            assert!(cut_short.is_none_or(|found| found.len() < questions.len()));
        }
        let mut answers: Vec<LeaseAnswer> = vec![Ok(None), Ok(Some(60))];
        answers.extend(REASONS.map(Err));
        let bytes = encode_lease_answers(&answers);
        assert_eq!(decode_lease_answers(bytes.clone(), answers.len()).unwrap(), answers);
        assert!(decode_lease_answers(bytes, answers.len() + 1).is_none());
    }

    #[test]
    fn answers_to_changes_survive_the_wire() {
        let mut answers: Vec<ChangeAnswer> = vec![Ok(())];
        answers.extend(REASONS.map(Err));
        for answer in answers {
            assert_eq!(decode_change_answer(&encode_change_answer(answer)), Some(answer));
        }
        assert_eq!(decode_change_answer(&[200]), None);
        assert_eq!(decode_change_answer(&[1, 1]), None);
    }

    #[test]
    fn foreign_bytes_are_refused() {
        assert_eq!(decode_leases(Bytes::from_static(&[2, 0, 0, 0, 0, 0, 0, 0, 0])), None);
        assert_eq!(
            decode_lease_answers(Bytes::from_static(&[99, 0, 0, 0, 0, 0, 0, 0, 0]), 1),
            None
        );
        assert_eq!(HashAnswer::decode(&[0; 19]), None);
        let hash = HashAnswer { hash: 1, compacted: -1, revision: 9 };
        assert_eq!(HashAnswer::decode(&hash.encode()), Some(hash));
        assert_eq!(Kind::from_byte(0), None);
        assert_eq!(Kind::from_byte(Kind::Hash as u8), Some(Kind::Hash));
    }
}
