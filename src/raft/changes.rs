//! The changes of the members in the log that are not applied yet: whether others may hear that one is committed, and when it
//! takes effect. Both only once that is durable here; see the module's page ([`super`]), "Members".

use std::collections::VecDeque;

use raft::eraftpb::Entry;
use urd_wal::WriteNumber;

use super::replay;
use crate::ids::Index;

/// Each with the write of the log that says it is committed, if it is. In the log's order.
#[derive(Debug)]
pub struct Changes(VecDeque<(Index, Option<WriteNumber>)>);

impl Changes {
    /// Those among the entries that a start has not applied.
    pub fn of(entries: &[Entry]) -> Self {
        let mut changes = Self(VecDeque::new());
        changes.append(entries);
        changes
    }

    /// The log has new entries. Those that they replace are gone.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        while self.0.pop_back_if(|(index, _)| index.0 >= first.index).is_some() {}
        let new = entries.iter().filter(|entry| replay::is_conf_change(entry));
        self.0.extend(new.map(|entry| (Index(entry.index), None)));
    }

    /// Whether one is `committed` of which the log does not say so, nor any write of it.
    pub fn is_unsaid(&self, committed: u64) -> bool {
        self.0.iter().any(|(index, write)| index.0 <= committed && write.is_none())
    }

    /// `write`, or one before it, says what is `committed`.
    pub fn said(&mut self, committed: u64, write: WriteNumber) {
        for (index, said) in &mut self.0 {
            if index.0 <= committed {
                said.get_or_insert(write);
            }
        }
    }

    /// The first one that is committed while the write which says so is not durable.
    pub fn unwritten(&self, durable: WriteNumber) -> Option<(Index, WriteNumber)> {
        let mut said = self.0.iter().filter_map(|(index, write)| Some((*index, (*write)?)));
        said.find(|(_, write)| *write > durable)
    }

    /// Whether the entry at `index` may be applied, one of these or not.
    pub fn may_apply(&self, index: Index, durable: WriteNumber) -> bool {
        let waits = |write: &Option<WriteNumber>| write.is_none_or(|write| write > durable);
        !self.0.front().is_some_and(|(change, write)| *change == index && waits(write))
    }

    /// The first one was applied.
    pub fn applied(&mut self) {
        self.0.pop_front();
    }

    /// The log begins anew.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::EntryType;

    use super::*;

    fn write(number: u64) -> WriteNumber {
        WriteNumber(number)
    }

    fn entry(index: u64, is_change: bool) -> Entry {
        let mut entry = Entry { index, ..Entry::default() };
        if is_change {
            entry.set_entry_type(EntryType::EntryConfChangeV2);
        }
        entry
    }

    #[test]
    fn a_change_waits_for_the_write_that_says_it_is_committed() {
        let mut changes = Changes::of(&[entry(4, false), entry(5, true)]);
        assert!(!changes.is_unsaid(4) && changes.is_unsaid(5));
        assert!(changes.may_apply(Index(4), write(0)) && !changes.may_apply(Index(5), write(9)));
        changes.said(4, write(1));
        assert_eq!(changes.unwritten(write(0)), None);
        changes.said(6, write(2));
        changes.said(7, write(3));
        assert!(!changes.is_unsaid(7));
        assert_eq!(changes.unwritten(write(1)), Some((Index(5), write(2))));
        assert!(!changes.may_apply(Index(5), write(1)) && changes.may_apply(Index(5), write(2)));
        assert_eq!(changes.unwritten(write(2)), None);
        changes.applied();
        assert!(changes.may_apply(Index(5), write(0)));
    }

    #[test]
    fn what_another_leader_replaces_is_gone() {
        let mut changes = Changes::of(&[entry(4, true), entry(5, true), entry(6, false)]);
        changes.append(&[entry(5, false), entry(6, true)]);
        changes.said(4, write(1));
        changes.applied();
        assert!(changes.may_apply(Index(5), write(0)) && !changes.may_apply(Index(6), write(9)));
        changes.append(&[]);
        assert!(changes.is_unsaid(6));
        changes.clear();
        assert!(!changes.is_unsaid(6));
    }
}
