//! How raft's entries and hard state look inside the log's opaque payloads.
//!
//! The log stores two parts a record without joining them: our fixed head, and the entry's data as raft holds it.
//! Little-endian, as everything on disk.
//!
//! ```text
//! entry       0        8      9            13
//!             | term   | kind | context len | context .. | data ..
//! hard state  0        8      16       24
//!             | term   | vote | commit |
//! ```

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, HardState};
use thiserror::Error;

use crate::limits::NUMBER_MAX;

/// Bytes in front of an entry's context and data.
pub const HEAD_BYTES: usize = 13;

/// Bytes of an encoded hard state.
pub const HARD_STATE_BYTES: usize = 24;

/// A record of the log that is not what this version writes: damage that its checksum did not see, or a newer format.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("log record {index}: {what}")]
pub struct MalformedRecord {
    /// The entry's index; 0 for the hard state.
    pub index: u64,
    /// What is wrong with it.
    pub what: &'static str,
}

/// The head that precedes an entry's data in the log.
pub fn encode_head(entry: &Entry) -> Vec<u8> {
    let context_len = u32::try_from(entry.context.len())
        .expect("invariant: contexts are ours and a few bytes long");
    let mut head = Vec::with_capacity(HEAD_BYTES + entry.context.len());
    head.extend_from_slice(&entry.term.to_le_bytes());
    head.push(match entry.entry_type {
        EntryType::EntryNormal => 0,
        EntryType::EntryConfChange => 1,
        EntryType::EntryConfChangeV2 => 2,
    });
    head.extend_from_slice(&context_len.to_le_bytes());
    head.extend_from_slice(&entry.context);
    head
}

/// The entry that a record of the log holds.
pub fn decode(index: u64, payload: impl Into<Bytes>) -> Result<Entry, MalformedRecord> {
    let mut payload: Bytes = payload.into();
    let malformed = |what| MalformedRecord { index, what };
    let head = payload
        .first_chunk::<HEAD_BYTES>()
        .ok_or_else(|| malformed("shorter than an entry's head"))?;
    let [t0, t1, t2, t3, t4, t5, t6, t7, kind, c0, c1, c2, c3] = *head;
    let term = u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
    if term > NUMBER_MAX {
        return Err(malformed("of a term that no group comes to"));
    }
    let context_len = u32::from_le_bytes([c0, c1, c2, c3]) as usize;
    let entry_type = match kind {
        0 => EntryType::EntryNormal,
        1 => EntryType::EntryConfChange,
        2 => EntryType::EntryConfChangeV2,
        _ => return Err(malformed("unknown kind of entry")),
    };
    if payload.len() - HEAD_BYTES < context_len {
        return Err(malformed("shorter than its context"));
    }
    let data = payload.split_off(HEAD_BYTES + context_len);
    Ok(Entry {
        index,
        term,
        entry_type,
        context: payload.split_off(HEAD_BYTES),
        data,
        ..Entry::default()
    })
}

/// The hard state as the log keeps it.
pub fn encode_hard_state(state: &HardState) -> [u8; HARD_STATE_BYTES] {
    let mut bytes = [0; HARD_STATE_BYTES];
    for (place, value) in bytes.chunks_exact_mut(8).zip([state.term, state.vote, state.commit]) {
        place.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// The hard state that the log kept.
pub fn decode_hard_state(bytes: &[u8]) -> Result<HardState, MalformedRecord> {
    let mut numbers = bytes.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number));
    let (Some(term), Some(vote), Some(commit), None, HARD_STATE_BYTES) =
        (numbers.next(), numbers.next(), numbers.next(), numbers.next(), bytes.len())
    else {
        return Err(MalformedRecord { index: 0, what: "hard state of a wrong length" });
    };
    if term.max(commit) > NUMBER_MAX {
        return Err(MalformedRecord { index: 0, what: "hard state that no group comes to" });
    }
    Ok(HardState { term, vote, commit, ..HardState::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_the_log() {
        let entry = Entry {
            index: 7,
            term: 3,
            entry_type: EntryType::EntryConfChangeV2,
            context: Bytes::from_static(b"ctx"),
            data: Bytes::from_static(b"some data"),
            ..Entry::default()
        };
        let mut payload = encode_head(&entry);
        payload.extend_from_slice(&entry.data);
        assert_eq!(decode(7, payload).unwrap(), entry);
    }

    #[test]
    fn foreign_bytes_are_refused() {
        assert!(decode(1, vec![0; HEAD_BYTES - 1]).is_err());
        let mut unknown_kind = vec![0; HEAD_BYTES];
        unknown_kind[8] = 3;
        assert!(decode(1, unknown_kind).is_err());
        let mut long_context = vec![0; HEAD_BYTES];
        long_context[9] = 1;
        assert!(decode(1, long_context).is_err());
        let term = (NUMBER_MAX + 1).to_le_bytes();
        assert!(decode(1, [&term[..], &[0; HEAD_BYTES - 8]].concat()).is_err());
        assert!(decode_hard_state(&[&term[..], &[0; HARD_STATE_BYTES - 8]].concat()).is_err());
        assert!(decode_hard_state(&[&[0; HARD_STATE_BYTES - 8], &term[..]].concat()).is_err());
        assert!(decode_hard_state(&[0; HARD_STATE_BYTES - 1]).is_err());
        assert!(decode_hard_state(&[0; HARD_STATE_BYTES + 8]).is_err());
    }

    #[test]
    fn a_hard_state_survives_the_log() {
        let state = HardState { term: 1, vote: u64::MAX, commit: 1 << 40, ..HardState::default() };
        assert_eq!(decode_hard_state(&encode_hard_state(&state)).unwrap(), state);
    }
}
