//! What a log holds beyond a store: its entries, and applying them.
//!
//! A start replays what is known committed and hands the rest to raft ([`Driver::open`](super::Driver::open)). A tool has
//! no raft: it takes all that is durable for committed ([`replay_all`]), which it is where the member is the only voter.

use raft::eraftpb::{Entry, EntryType, HardState};
use urd_wal::Entries;
use urd_wal::disk::ReadDisk;

use super::driver::Fatal;
use super::entry;
use crate::ids::{Index, Term};
use crate::limits;
use crate::store::command::Batch;
use crate::store::{Outcome, Store};

/// The hard state that the log kept, where log and store fit together: the log begins where the store ends, or before,
/// and holds what is committed.
///
/// # Errors
/// They do not, or the hard state is none.
pub fn hard_state<D: ReadDisk>(
    entries: &Entries<'_, D>,
    recorded: Option<&[u8]>,
    store: &Store,
) -> Result<HardState, Fatal> {
    let mut hard_state = match recorded {
        Some(bytes) => entry::decode_hard_state(bytes)?,
        None => HardState::default(),
    };
    let (first, last) = (entries.first(), entries.last());
    let gap = |what, found| Fatal::Gap { first, last, what, found };
    let applied = store.applied().0;
    // A log that is empty, or begins behind what the state has, is not the one that made it.
    let is_missing = recorded.is_none() && applied > 0;
    if is_missing || (last > 0 && first > applied + 1) {
        return Err(gap("the last applied entry", applied));
    }
    // Only a changed commit index is not worth a write, so the log may know of less than the checkpoint.
    hard_state.commit = hard_state.commit.max(applied);
    if hard_state.commit > last.max(applied) {
        return Err(gap("the commit index", hard_state.commit));
    }
    Ok(hard_state)
}

/// Applies all that is durable, and publishes it.
///
/// # Errors
/// An entry that is not there, or not one of ours.
pub fn replay_all<D: ReadDisk>(entries: &Entries<'_, D>, store: &mut Store) -> Result<(), Fatal> {
    replay(entries, store, entries.last(), &mut 0)?;
    store.publish();
    Ok(())
}

/// Applies the log up to `commit`, and adds up its bytes. Returns index and term of the last entry that `store` has.
pub(super) fn replay<D: ReadDisk>(
    entries: &Entries<'_, D>,
    store: &mut Store,
    commit: u64,
    bytes: &mut usize,
) -> Result<(u64, u64), Fatal> {
    let mut base = (store.applied().0, store.term().0);
    for_each_entry(entries, base.0 + 1, commit, |entry| {
        base = (entry.index, entry.term);
        *bytes += entry.data.len();
        apply(store, entry).map(drop)
    })?;
    Ok(base)
}

/// Applies one committed entry.
pub(super) fn apply(store: &mut Store, entry: Entry) -> Result<Vec<Outcome>, Fatal> {
    let (index, term) = (Index(entry.index), Term(entry.term));
    // A group whose voters never change has no membership entries; members arrive with their own handling.
    debug_assert_eq!(entry.entry_type, EntryType::EntryNormal);
    let batch = decode_batch(entry)?;
    Ok(store.apply(index, term, &batch))
}

/// The requests of an entry.
///
/// # Errors
/// Its data is not a batch of ours.
pub fn decode_batch(entry: Entry) -> Result<Batch, Fatal> {
    Batch::decode(entry.data).map_err(|source| Fatal::Batch { index: entry.index, source })
}

/// Reads entries `low..=high` in bounded pieces.
///
/// # Errors
/// One is not there, or not one of ours; or what `each` says.
pub fn for_each_entry<D: ReadDisk, E: From<Fatal>>(
    entries: &Entries<'_, D>,
    low: u64,
    high: u64,
    mut each: impl FnMut(Entry) -> Result<(), E>,
) -> Result<(), E> {
    let mut next = low;
    while next <= high {
        let records = entries.read(next, high + 1, limits::REPLAY_BYTES).map_err(Fatal::from)?;
        if records.is_empty() {
            return Err(E::from(Fatal::Gap {
                first: entries.first(),
                last: entries.last(),
                what: "the next entry to read",
                found: next,
            }));
        }
        for (index, payload) in records {
            each(entry::decode(index, payload).map_err(Fatal::from)?)?;
            next = index + 1;
        }
    }
    Ok(())
}
