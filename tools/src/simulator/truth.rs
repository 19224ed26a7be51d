//! What really happened: every revision's events, as the member that was first to publish them had it, and what each
//! member must have at equal indexes.

use std::collections::BTreeMap;

use urd::ids::{Index, Revision};
use urd::store::watch::{event, for_each_change};
use urd::store::{View, v2};
use urd_proto::mvccpb::Event;

/// Members compare what they hold at each index that is a multiple of this.
const COMPARE_EVERY: u64 = 5;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// From revision 2 on, without gaps.
    pub(super) events: Vec<(i64, Vec<Event>)>,
    /// Per index: who was there first, at which revision, with which hash.
    states: BTreeMap<Index, (u64, Revision, [u32; 2])>,
    /// Of v2, what requests have done, as whoever proposed them heard it.
    pub(super) v2_answered: Vec<v2::Event>,
    /// Who led in each term.
    leaders: BTreeMap<u64, u64>,
}

impl Truth {
    /// A member has published a view.
    pub(super) fn observe(&mut self, member: u64, view: &View) -> Result<(), String> {
        self.extend(view)?;
        let index = view.applied();
        if !index.0.is_multiple_of(COMPARE_EVERY) {
            return Ok(());
        }
        let hash = view.hash_kv(0).map_err(|error| format!("member {member}: {error}"))?.hash;
        let hash = [hash, view.v2_hash()];
        let found = (member, view.revision(), hash);
        let (other, revision, expected) = *self.states.entry(index).or_insert(found);
        if (revision, expected) != (view.revision(), hash) {
            return Err(format!(
                "after entry {index} member {member} is at revision {} with hashes {hash:?}, and member {other} was at {revision} \
                 with {expected:?}",
                view.revision()
            ));
        }
        Ok(())
    }

    fn extend(&mut self, view: &View) -> Result<(), String> {
        let next = self.newest() + 1;
        if view.revision().0 < next {
            return Ok(());
        }
        let mut events: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
        for_each_change(view, Revision(next), usize::MAX, |change| {
            let told = event(view, change, true);
            events.entry(change.revision().0).or_default().push(told);
        });
        for revision in next..=view.revision().0 {
            let told = events.remove(&revision);
            let told = told.ok_or_else(|| format!("nothing happened at revision {revision}"))?;
            self.events.push((revision, told));
        }
        Ok(())
    }

    /// The newest revision that anybody has published.
    pub(super) fn newest(&self) -> i64 {
        self.events.last().map_or(1, |(revision, _)| *revision)
    }

    /// A member leads in a term.
    pub(super) fn observe_leader(&mut self, term: u64, member: u64) -> Result<(), String> {
        let leader = *self.leaders.entry(term).or_insert(member);
        match leader == member {
            true => Ok(()),
            false => Err(format!("members {leader} and {member} both lead in term {term}")),
        }
    }
}
