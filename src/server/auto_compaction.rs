//! `--auto-compaction-mode` and `--auto-compaction-retention`: history ends without anybody asking.
//!
//! As in etcd: *periodic* keeps the revisions of the last period, looked at ten times in it (or in an hour, if that is
//! shorter) and compacted once in it (or once an hour); *revision* keeps the newest so many, looked at every five
//! minutes. Only a member that leads proposes it, so that it happens once in a cluster.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use prost::Message;
use urd_proto::etcdserverpb::CompactionRequest;

use super::shard::Shard;
use super::told::Told;
use crate::api::node::Node;
use crate::config::AutoCompaction;
use crate::ids::Revision;
use crate::store::command::Kind;

/// A period is divided into so many looks, but an hour at most is.
const LOOKS: u32 = 10;
const LOOKED_AT_MAX: Duration = Duration::from_secs(3600);
/// However short the period is.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// How often `revision` looks.
const REVISION_INTERVAL: Duration = Duration::from_secs(300);

/// Proposes compactions for as long as the executor runs.
pub async fn run(shard: Rc<Shard>, mode: AutoCompaction) {
    let Some(mut plan) = Plan::new(mode) else { return };
    loop {
        glommio::timer::sleep(plan.interval).await;
        let published = shard.published();
        let due = plan.look(published.view.revision());
        let leads = published.leader == Some(shard.identity().member);
        if let Some(revision) = due
            && revision > published.view.compacted()
            && leads
        {
            tracing::info!(revision = revision.0, "compacting by itself");
            let request = CompactionRequest { revision: revision.0, physical: false };
            let reply = Box::new(Told { what: "compact by itself" });
            shard.propose(Kind::Compaction, &request.encode_to_vec().into(), reply);
        }
    }
}

/// When to compact, and up to where.
#[derive(Debug)]
struct Plan {
    interval: Duration,
    /// What was newest at the last looks, of which so many are kept.
    seen: VecDeque<Revision>,
    looks_kept: usize,
    looks_since: u32,
    /// Revisions to keep, for `revision`.
    retention: Option<i64>,
}

impl Plan {
    fn new(mode: AutoCompaction) -> Option<Self> {
        let (interval, looks_kept, retention) = match mode {
            AutoCompaction::Off => return None,
            AutoCompaction::Periodic(period) => {
                let interval = (period.min(LOOKED_AT_MAX) / LOOKS).max(INTERVAL_MIN);
                let looks = period.as_nanos() / interval.as_nanos().max(1);
                (interval, usize::try_from(looks).unwrap_or(usize::MAX), None)
            }
            AutoCompaction::Revision(retention) => (REVISION_INTERVAL, 0, Some(retention)),
        };
        Some(Self { interval, seen: VecDeque::new(), looks_kept, looks_since: 0, retention })
    }

    /// A look, an interval after the one before. Says up to where to compact now.
    fn look(&mut self, newest: Revision) -> Option<Revision> {
        if let Some(retention) = self.retention {
            return Some(Revision(newest.0 - retention)).filter(|revision| revision.0 > 0);
        }
        self.seen.push_back(newest);
        self.looks_since += 1;
        if self.seen.len() <= self.looks_kept {
            return None;
        }
        let oldest = self.seen.pop_front()?;
        if self.looks_since < LOOKS {
            return None;
        }
        self.looks_since = 0;
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_kept_and_compacted_once_in_it() {
        let mut plan = Plan::new(AutoCompaction::Periodic(Duration::from_secs(100))).unwrap();
        assert_eq!(plan.interval, Duration::from_secs(10));
        let due: Vec<_> =
            (1..=35).filter_map(|nth| plan.look(Revision(nth)).map(|due| (nth, due.0))).collect();
        // What was newest a period before.
        assert_eq!(due, [(11, 1), (21, 11), (31, 21)]);
    }

    #[test]
    fn a_long_period_is_compacted_every_hour() {
        let mut plan = Plan::new(AutoCompaction::Periodic(Duration::from_secs(5 * 3600))).unwrap();
        assert_eq!(plan.interval, Duration::from_secs(360));
        let due: Vec<_> =
            (1..=75).filter_map(|nth| plan.look(Revision(nth)).map(|due| (nth, due.0))).collect();
        assert_eq!(due, [(51, 1), (61, 11), (71, 21)]);
    }

    #[test]
    fn so_many_revisions_are_kept() {
        let mut plan = Plan::new(AutoCompaction::Revision(100)).unwrap();
        assert_eq!(plan.interval, Duration::from_secs(300));
        assert_eq!(plan.look(Revision(100)), None);
        assert_eq!(plan.look(Revision(150)), Some(Revision(50)));
        assert!(Plan::new(AutoCompaction::Off).is_none());
    }
}
