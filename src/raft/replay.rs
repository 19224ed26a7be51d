//! What a log holds beyond a store: its entries, and applying them.
//!
//! A start replays what is known committed and hands the rest to raft ([`Driver::open`](super::Driver::open)). A tool has
//! no raft: where its member is the only voter it takes all that is durable for committed ([`replay_all`]).

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, HardState};
use thiserror::Error;
use urd_wal::Entries;
use urd_wal::disk::ReadDisk;

use super::driver::Fatal;
use super::entry;
use super::pending::ProposalId;
use crate::ids::{Index, MemberId, Term};
use crate::limits;
use crate::store::command::{Batch, DecodeError};
use crate::store::members::FIRST_INDEX;
use crate::store::{Outcome, Store};

/// Whether what the log holds behind the store's last entry follows it. It does not where the log ends before, or has
/// another entry in that place: then the store came from another member, with a snapshot, and the log has not begun anew
/// behind it yet. What it holds is of no use, or of another history.
///
/// # Errors
/// The log cannot be read there.
pub fn follows<D: ReadDisk>(entries: &Entries<'_, D>, store: &Store) -> Result<bool, Fatal> {
    let applied = store.applied().0;
    if (entries.first()..=entries.last()).contains(&applied) {
        let mut term = None;
        for_each_entry(entries, applied, applied, |entry| {
            term = Some(entry.term);
            Ok::<_, Fatal>(())
        })?;
        return Ok(term == Some(store.term().0));
    }
    Ok(entries.last() >= applied)
}

/// The hard state that the log kept, where log and store fit together: the log begins where the store ends, or before,
/// and holds what is committed; or the store is ahead of it. A store may be of a later term than the hard state is: then
/// this member has not voted in that term, since a vote is durable before it is given.
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
    let is_missing = recorded.is_none() && applied > FIRST_INDEX.0;
    if is_missing || (last > 0 && first > applied + 1) {
        return Err(gap("the last applied entry", applied));
    }
    // Only a changed commit index is not worth a write, so the log may know of less than the checkpoint.
    let committed = hard_state.commit;
    hard_state.commit = committed.max(applied);
    let last = if follows(entries, store)? { last.max(applied) } else { applied };
    // An entry that was committed is the same everywhere.
    if hard_state.commit > last || (last < entries.last() && committed >= applied) {
        return Err(gap("the commit index", committed));
    }
    if hard_state.term < store.term().0 {
        hard_state.term = store.term().0;
        hard_state.vote = 0;
    }
    Ok(hard_state)
}

/// Applies what is durable, follows the store and is committed, and publishes it. That is all of it where `own`, the log's
/// member, is the only voter. Beside others, or where it was removed, what is behind `commit`, the commit index of the hard
/// state, may never be.
///
/// # Errors
/// An entry that is not there, or not one of ours.
pub fn replay_all<D: ReadDisk>(
    entries: &Entries<'_, D>,
    commit: u64,
    own: MemberId,
    store: &mut Store,
) -> Result<(), Fatal> {
    if follows(entries, store)? {
        let each = |store: &mut Store, to: u64| {
            for_each_entry(entries, store.applied().0 + 1, to, |entry| {
                apply(store, entry).map(drop)
            })
        };
        each(store, commit.min(entries.last()))?;
        if store.conf().0.iter().all(|voter| *voter == own) {
            each(store, entries.last())?;
        }
    }
    store.publish();
    Ok(())
}

/// Applies one committed entry.
pub(super) fn apply(store: &mut Store, entry: Entry) -> Result<Vec<Outcome>, Fatal> {
    let (index, term) = (Index(entry.index), Term(entry.term));
    if term < store.term() {
        return Err(Fatal::Unreadable { index: index.0, source: Unreadable::Term });
    }
    let batch = decode_batch(entry)?;
    Ok(store.apply(index, term, &batch))
}

/// Why no member can apply an entry.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Unreadable {
    /// Its data is not a batch of ours.
    #[error(transparent)]
    Batch(#[from] DecodeError),
    /// A change of raft's configuration in an entry that is none, or beside other requests.
    #[error("a change of the members that does not stand alone, or an entry for one without it")]
    Misplaced,
    /// Its term is before that of the entry before it.
    #[error("its term is before that of the entry before it")]
    Term,
}

/// The requests of an entry. Those that change raft's configuration come one at a time, in raft's own kind of entry,
/// whose data are for raft and whose context is our batch.
///
/// # Errors
/// It is not a batch of ours, or not one for that kind of entry.
pub fn decode_batch(entry: Entry) -> Result<Batch, Fatal> {
    let index = entry.index;
    let decode = || {
        let is_conf_change = is_conf_change(&entry);
        let batch = Batch::decode(batch_bytes(entry))?;
        let changes = batch.commands().iter().filter(|command| command.is_conf_change()).count();
        check_kind(is_conf_change, batch.len(), changes)?;
        Ok(batch)
    };
    decode().map_err(|source| Fatal::Unreadable { index, source })
}

/// Whether [`decode_batch`] would read an entry that is about to be proposed.
pub(super) fn check_entry(entry: &Entry) -> Result<(), Unreadable> {
    let (requests, changes) = Batch::check(batch_bytes(entry.clone()))?;
    check_kind(is_conf_change(entry), requests, changes)
}

/// Whether an entry is raft's own kind, for a change of its configuration.
pub(super) fn is_conf_change(entry: &Entry) -> bool {
    entry.entry_type != EntryType::EntryNormal
}

fn batch_bytes(entry: Entry) -> Bytes {
    let is_conf_change = is_conf_change(&entry);
    let Entry { data, mut context, .. } = entry;
    if is_conf_change { context.split_off(context.len().min(ProposalId::BYTES)) } else { data }
}

fn check_kind(is_conf_change: bool, requests: usize, changes: usize) -> Result<(), Unreadable> {
    let is_alone = changes == 1 && requests == 1;
    let fits = if is_conf_change { is_alone } else { changes == 0 };
    if fits { Ok(()) } else { Err(Unreadable::Misplaced) }
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
