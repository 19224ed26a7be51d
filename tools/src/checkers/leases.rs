//! A lease's keys stay as long as anybody was told that they would.
//!
//! Whoever is answered a renewal for so many seconds knows that the lease lives from *some* instant behind the question's
//! sending on, for so long at least. So nobody may see its keys vanish before the question's sending and that
//! time, unless it was revoked. How much later they vanish is no promise, only courtesy.

use std::collections::BTreeMap;
use std::time::Duration;

use urd_proto::mvccpb::event::EventType;

use super::Violation;
use super::execute::State;
use super::history::{FIRST_REVISION, Timeline, key_of, shown};
use super::model::Model;

/// What one holder of a lease did and was told. Only its lease's end may delete the keys that it attaches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeaseRecord {
    pub id: i64,
    /// Grant and renewals that were answered: when asked, in nanoseconds, and for how many seconds.
    pub renewals: Vec<(u64, i64)>,
    /// A revocation was sent, whatever became of it.
    pub revoked: bool,
}

/// Checks that no lease ended too early. `seen`: when somebody was told first of a revision's events, if anybody was.
pub fn check(
    records: &[LeaseRecord],
    timeline: &Timeline,
    seen: impl Fn(i64) -> Option<u64>,
) -> Result<(), Violation> {
    let leases: BTreeMap<i64, &LeaseRecord> =
        records.iter().map(|record| (record.id, record)).collect();
    let mut model = Model::new();
    for (revision, events) in timeline.since(FIRST_REVISION) {
        for event in events.iter().filter(|event| event.r#type() == EventType::Delete) {
            let before = model.find(key_of(event), revision - 1).map_or(0, |kv| kv.lease);
            let Some(lease) = leases.get(&before).filter(|lease| !lease.revoked) else { continue };
            let lives = |(asked, seconds): &(u64, i64)| {
                let seconds = Duration::from_secs(u64::try_from(*seconds).unwrap_or(0));
                asked + u64::try_from(seconds.as_nanos()).unwrap_or(u64::MAX / 2)
            };
            let due = lease.renewals.iter().map(lives).max().unwrap_or(0);
            if let Some(seen) = seen(revision).filter(|seen| *seen < due) {
                return Err(Violation::new(format!(
                    "lease {:x} ended too early: {} was deleted at revision {revision}, seen at {} ms, \
                     due not before {} ms",
                    lease.id,
                    shown(key_of(event)),
                    seen / 1_000_000,
                    due / 1_000_000
                )));
            }
        }
        model.apply(events);
    }
    Ok(())
}
