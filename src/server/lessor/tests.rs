//! The lessor against a store, with a clock of the test's own; its wheel has tests of its own.

use super::*;
use crate::ids::Index;
use crate::store::Store;
use crate::store::command::Batch;
use urd_proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, PutRequest};

type Answer = (u32, LeaseAnswer);

/// A member that leads, with a store and a log of one entry after the other.
struct Bench {
    start: Instant,
    now: Instant,
    store: Store,
    index: Index,
    lessor: Lessor<u32>,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        let mut bench = Self {
            start: now,
            now,
            store: Store::new(),
            index: Index(0),
            lessor: Lessor::new(now),
        };
        bench.restart();
        bench
    }

    /// Another leader, who knows no more than the store.
    fn restart(&mut self) {
        self.lessor = Lessor::new(self.now);
        let view = self.store.publish();
        assert!(self.lessor.promote(self.now, view.term(), &view));
    }

    fn apply(&mut self, batch: BatchBuilder) {
        self.index = self.index.next();
        let batch = Batch::decode(batch.finish()).expect("own bytes");
        self.store.apply(self.index, Term(1), &batch);
        for change in self.store.lease_changes() {
            self.lessor.follow(self.now, *change);
        }
        self.store.publish();
    }

    fn command(&mut self, command: &Command) {
        let mut batch = BatchBuilder::default();
        batch.append_command(command);
        self.apply(batch);
    }

    fn grant(&mut self, id: i64, ttl: i64) {
        self.command(&Command::LeaseGrant(LeaseGrantRequest { id, ttl }));
    }

    /// Grants leases 1 to `leases`, in one entry.
    fn grant_many(&mut self, leases: i64, ttl: i64) {
        let mut batch = BatchBuilder::default();
        for id in 1..=leases {
            batch.append_command(&Command::LeaseGrant(LeaseGrantRequest { id, ttl }));
        }
        self.apply(batch);
    }

    fn revoke(&mut self, id: i64) {
        self.command(&Command::LeaseRevoke(LeaseRevokeRequest { id }));
    }

    fn ask(&mut self, asker: u32, question: LeaseQuestion) -> Vec<Answer> {
        self.lessor.ask(self.now, asker, question);
        self.lessor.take_answers()
    }

    fn renew(&mut self, asker: u32, id: i64) -> Vec<Answer> {
        self.ask(asker, LeaseQuestion::Renew(LeaseId(id)))
    }

    fn remaining(&mut self, id: i64) -> Option<i64> {
        let answers = self.ask(0, LeaseQuestion::Remaining(LeaseId(id)));
        answers[0].1.expect("it leads")
    }

    /// The next entry, if there is one.
    fn propose(&mut self) -> Option<BatchBuilder> {
        while self.lessor.advance(self.now) {}
        self.lessor.propose(self.now, &self.store.view())
    }

    /// Carries out all that is due.
    fn settle(&mut self) {
        while let Some(batch) = self.propose() {
            self.apply(batch);
            self.lessor.applied();
        }
    }

    fn sleep(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
    }

    /// Sleeps, and does what is due on the way.
    fn live(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.sleep(100);
            self.settle();
        }
    }

    fn exists(&self, id: i64) -> bool {
        self.store.view().lease(LeaseId(id)).is_some()
    }

    fn checkpointed(&self, id: i64) -> i64 {
        self.store.view().lease(LeaseId(id)).expect("it exists").remaining
    }
}

#[test]
fn a_lease_ends_after_its_time_and_not_before() {
    let mut bench = Bench::new();
    bench.sleep(50);
    bench.grant(7, 2);
    assert_eq!(bench.remaining(7), Some(2));
    bench.sleep(1999);
    bench.settle();
    assert!(bench.exists(7));
    assert_eq!(bench.remaining(7), Some(0));
    bench.sleep(101);
    bench.settle();
    assert!(!bench.exists(7));
    assert_eq!(bench.remaining(7), None);
}

#[test]
fn a_renewal_gives_the_whole_ttl_again() {
    let mut bench = Bench::new();
    bench.grant(7, 3);
    for asker in 1..10 {
        bench.sleep(2500);
        bench.settle();
        assert_eq!(bench.renew(asker, 7), [(asker, Ok(Some(3)))]);
        assert_eq!(bench.remaining(7), Some(3));
    }
    bench.live(4);
    assert!(!bench.exists(7));
    assert_eq!(bench.renew(1, 7), [(1, Ok(None))]);
}

/// It cannot be saved, and its holder hears so when its keys are gone.
#[test]
fn a_renewal_that_comes_too_late_waits_for_the_revocation() {
    let mut bench = Bench::new();
    bench.grant(7, 2);
    bench.sleep(2000);
    assert_eq!(bench.renew(1, 7), []);
    let entry = bench.propose().expect("the expiry");
    assert_eq!(bench.renew(2, 7), []);
    bench.apply(entry);
    bench.lessor.applied();
    assert_eq!(bench.lessor.take_answers(), [(1, Ok(None)), (2, Ok(None))]);
}

#[test]
fn what_is_left_survives_a_leader() {
    let mut bench = Bench::new();
    bench.grant(7, 60);
    bench.live(31);
    bench.restart();
    // Checkpointed after 6, 12, ... 30 seconds.
    assert_eq!(bench.remaining(7), Some(30));
    bench.live(13);
    bench.restart();
    assert_eq!(bench.remaining(7), Some(18));
    bench.live(19);
    assert!(!bench.exists(7));
}

/// However leaders change, a lease lives at least as long as its holder was told.
#[test]
fn no_lease_ends_before_its_holder_was_told() {
    let mut rng = fastrand::Rng::with_seed(1);
    for round in 0..100 {
        let mut bench = Bench::new();
        let ttl = rng.i64(2..90);
        bench.grant(7, ttl);
        let mut promised = bench.now + seconds(ttl);
        let mut entry: Option<BatchBuilder> = None;
        let mut asked = BTreeMap::new();
        for step in 0..400 {
            bench.sleep(rng.u64(0..1500));
            match rng.u8(..10) {
                0 => {
                    // What was under way reaches the log, or not.
                    if let Some(entry) = entry.take().filter(|_| rng.bool()) {
                        bench.apply(entry);
                    }
                    bench.restart();
                }
                1..4 => {
                    asked.insert(step, bench.now);
                    bench.lessor.ask(bench.now, step, LeaseQuestion::Renew(LeaseId(7)));
                }
                4..7 => {
                    if let Some(entry) = entry.take() {
                        bench.apply(entry);
                        bench.lessor.applied();
                    }
                }
                _ => entry = entry.or(bench.propose()),
            }
            for (step, answer) in bench.lessor.take_answers() {
                if answer == Ok(Some(ttl)) {
                    promised = promised.max(asked[&step] + seconds(ttl));
                }
            }
            let at = bench.now - bench.start;
            assert!(
                bench.exists(7) || bench.now >= promised,
                "round {round}, step {step}, at {at:?}: a lease of {ttl} s has ended too early"
            );
            if !bench.exists(7) {
                break;
            }
        }
    }
}

/// A checkpoint that a leader to come would read must be gone before the holder relies on the renewal.
#[test]
fn a_renewal_after_a_checkpoint_is_answered_when_that_is_cleared() {
    let mut bench = Bench::new();
    bench.grant(7, 60);
    bench.live(7);
    assert_eq!(bench.checkpointed(7), 54);
    assert_eq!(bench.renew(1, 7), []);
    let entry = bench.propose().expect("it is cleared");
    assert_eq!(bench.renew(2, 7), []);
    bench.apply(entry);
    bench.lessor.applied();
    assert_eq!(bench.checkpointed(7), 0);
    assert_eq!(bench.lessor.take_answers(), [(1, Ok(Some(60))), (2, Ok(Some(60)))]);
    assert_eq!(bench.renew(3, 7), [(3, Ok(Some(60)))]);
}

/// So must one that is only under way.
#[test]
fn a_renewal_beside_a_checkpoint_under_way_waits_too() {
    let mut bench = Bench::new();
    bench.grant(7, 60);
    bench.sleep(6100);
    let checkpoint = bench.propose().expect("a checkpoint");
    assert_eq!(bench.renew(1, 7), []);
    bench.apply(checkpoint);
    bench.lessor.applied();
    assert_eq!(bench.lessor.take_answers(), []);
    bench.settle();
    assert_eq!(bench.checkpointed(7), 0);
    assert_eq!(bench.lessor.take_answers(), [(1, Ok(Some(60)))]);
}

#[test]
fn a_lease_that_is_kept_alive_often_is_never_checkpointed() {
    let mut bench = Bench::new();
    bench.grant(7, 12);
    for asker in 0..20 {
        bench.live(4);
        assert_eq!(bench.renew(asker, 7), [(asker, Ok(Some(12)))]);
        assert_eq!(bench.checkpointed(7), 0);
    }
}

#[test]
fn an_entry_that_failed_is_proposed_again_after_a_while() {
    let mut bench = Bench::new();
    bench.grant(7, 2);
    bench.grant(8, 60);
    bench.live(1);
    bench.command(&Command::LeaseCheckpoints(LeaseCheckpoints {
        as_of: bench.index.0,
        checkpoints: vec![LeaseCheckpoint { id: 8, remaining_ttl: 30 }],
    }));
    bench.restart();
    bench.sleep(2500);
    assert_eq!(bench.renew(1, 8), []);
    assert!(bench.propose().is_some());
    bench.lessor.failed(bench.now, Unavailable::NoSpace);
    assert_eq!(bench.lessor.take_answers(), [(1, Err(Unavailable::NoSpace))]);
    assert!(bench.propose().is_none(), "not at once");
    bench.sleep(1000);
    assert_eq!(bench.renew(2, 8), []);
    bench.settle();
    assert!(!bench.exists(7));
    assert_eq!(bench.lessor.take_answers(), [(2, Ok(Some(60)))]);
}

/// The id of an expired lease may be taken again before the entry that revokes it is applied.
#[test]
fn a_lease_granted_anew_is_not_ended_for_the_old_one() {
    let mut bench = Bench::new();
    bench.grant(7, 2);
    bench.sleep(2500);
    let expiry = bench.propose().expect("the expiry");
    bench.revoke(7);
    bench.grant(7, 30);
    bench.apply(expiry);
    bench.lessor.applied();
    assert!(bench.exists(7));
    assert_eq!(bench.remaining(7), Some(30));
}

#[test]
fn entries_are_bounded_and_nothing_is_left_behind() {
    const LEASES: i64 = 5000;
    let mut bench = Bench::new();
    bench.grant_many(LEASES, 2);
    // Two with many keys.
    for (lease, keys) in [(1, 1500), (2, 600)] {
        for key in 0..keys {
            let key = format!("{lease}/{key}").into();
            bench.command(&Command::Put(PutRequest { key, lease, ..PutRequest::default() }));
        }
    }
    bench.sleep(3000);
    let mut entries = 0;
    while let Some(batch) = bench.propose() {
        let decoded = Batch::decode(batch.clone().finish()).expect("own bytes");
        let [Command::LeaseExpiry(expiry)] = decoded.commands() else {
            panic!("{:?}", decoded.commands())
        };
        assert!(expiry.leases.len() <= limits::LEASES_PER_EXPIRY);
        let keys = |id: &i64| {
            bench.store.view().count_attached(LeaseId(*id), limits::LEASE_KEYS_PER_EXPIRY)
        };
        let before_last = &expiry.leases[..expiry.leases.len() - 1];
        assert!(before_last.iter().map(keys).sum::<usize>() < limits::LEASE_KEYS_PER_EXPIRY);
        bench.apply(batch);
        bench.lessor.applied();
        entries += 1;
    }
    assert!(entries >= LEASES as usize / limits::LEASES_PER_EXPIRY, "{entries} entries");
    assert_eq!(bench.store.view().for_each_lease(LeaseId(0), 0, |_, _| ()), None);
    assert_eq!(bench.store.check(), []);
}

#[test]
fn all_are_checkpointed_before_a_stop() {
    let mut bench = Bench::new();
    bench.grant_many(2000, 60);
    bench.sleep(3500);
    bench.grant(3000, 60);
    bench.settle();
    bench.lessor.checkpoint_all();
    assert!(!bench.lessor.is_settled());
    bench.settle();
    assert!(bench.lessor.is_settled());
    // What has all its time left needs none.
    assert_eq!([1, 2000, 3000].map(|id| bench.checkpointed(id)), [57, 57, 0]);
}

#[test]
fn the_interval_grows_with_the_number_of_leases() {
    let mut bench = Bench::new();
    let leases = limits::LEASE_CHECKPOINTS_PER_SECOND as i64 * 8;
    bench.grant_many(leases, 20);
    bench.live(7);
    assert_eq!(bench.checkpointed(leases), 0);
    bench.live(2);
    assert!(bench.checkpointed(leases) > 0);
}

#[test]
fn who_does_not_lead_knows_nothing() {
    let mut bench = Bench::new();
    bench.grant(7, 60);
    bench.live(7);
    assert_eq!(bench.renew(1, 7), []);
    bench.lessor.demote(bench.now);
    assert_eq!(bench.lessor.take_answers(), [(1, Err(Unavailable::LeaderChanged))]);
    assert_eq!(bench.renew(2, 7), [(2, Err(Unavailable::NoLeader))]);
    bench.live(100);
    assert!(bench.exists(7));
    // An outcome from before says nothing any more.
    bench.lessor.applied();
    bench.lessor.failed(bench.now, Unavailable::LeaderChanged);
}

/// What is committed may not be applied yet: a lease would end before its holder was told.
#[test]
fn a_leader_waits_for_what_earlier_ones_did() {
    let mut bench = Bench::new();
    bench.grant(1, 60);
    bench.live(40);
    let before = bench.store.view();
    bench.restart();
    assert_eq!(bench.remaining(1), Some(24), "it was checkpointed, 36 s after it was granted");
    assert_eq!(bench.renew(7, 1), []);
    bench.settle();
    assert_eq!(bench.lessor.take_answers(), [(7, Ok(Some(60)))]);
    // The next leader has the entry that cleared the checkpoint, and its own first one behind it.
    bench.lessor = Lessor::new(bench.now);
    assert!(!bench.lessor.promote(bench.now, Term(2), &before));
    assert!(!bench.lessor.leads());
    bench.index = bench.index.next();
    bench.store.apply(bench.index, Term(2), &Batch::default());
    let view = bench.store.publish();
    assert!(bench.lessor.promote(bench.now, Term(2), &view));
    assert_eq!(bench.remaining(1), Some(60));
}
