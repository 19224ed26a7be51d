//! Who may be elected, and when.

use urd_proto::etcdserverpb::MemberRemoveRequest;

use super::group::Group;
use crate::ids::MemberId;
use crate::store::command::Command;

/// Two members, the first of which leads.
fn led_by_1() -> Group {
    led_by_1_of(2)
}

fn led_by_1_of(members: u64) -> Group {
    let mut group = Group::new(members);
    lead(&mut group, 1);
    group
}

fn lead(group: &mut Group, id: u64) {
    while !group.driver(id).leads() {
        group.tick(id);
        group.deliver(0, 0, 1000);
    }
}

fn remove(group: &mut Group, at: u64, id: u64) {
    let command = Command::MemberRemove(MemberRemoveRequest { id });
    group.change(at, &format!("remove {id}"), &command);
}

/// Two members, the first of which leads and has proposed that the second one goes; that one has taken over, and knows no
/// more than that. What is under way says that the first one has what it needs to commit it.
fn led_by_2_that_is_to_go() -> Group {
    let mut group = led_by_1();
    let_2_lead_that_is_to_go(&mut group);
    assert_eq!(group.driver(2).last_index().0, group.driver(2).committed().0 + 2);
    group
}

fn let_2_lead_that_is_to_go(group: &mut Group) {
    remove(group, 1, 2);
    group.deliver(1, 2, 1000);
    for _ in 0..40 {
        group.network.clear();
        group.tick(1);
    }
    group.network.clear();
    while group.driver(2).leader() != Some(MemberId(2)) {
        group.tick(2);
        group.deliver(2, 1, 1000);
        group.deliver(1, 2, 1000);
    }
    group.deliver(2, 1, 1000);
}

#[test]
fn a_leader_that_is_to_go_hands_over() {
    let mut group = led_by_1();
    remove(&mut group, 1, 1);
    assert!(group.events.ends_with("1: cannot remove 1: no leader\n"), "{}", group.events);
    group.deliver(0, 0, 1000);
    assert!(group.driver(2).leads());
    remove(&mut group, 2, 1);
    group.deliver(0, 0, 1000);
    assert!(group.driver(2).is_alone());
    group.put(2, "a", "1");
    group.check_acknowledged();
    assert_eq!(group.acknowledged.len(), 1, "without an election");
}

/// raft-rs takes an election that needs no other vote for won at once, and ends the process unless all entries are written.
#[test]
fn who_is_left_alone_leads_when_its_entries_are_written() {
    for is_told_to_lead in [true, false] {
        let mut group = led_by_2_that_is_to_go();
        group.deliver(1, 2, 1000);
        group.put(2, "a", "1");
        let late = group.network.pop_back().expect("the put");
        assert_eq!((late.to, late.entries.len()), (1, 1));
        // What has said so before the put is lost; the next sign of life says it again.
        group.network.clear();
        group.tick(2);
        group.deliver(2, 1, 1000);
        assert!(group.driver(1).is_alone());
        group.node(1).holds_writes = true;
        group.deliver_one(late);
        if !is_told_to_lead {
            group.cuts.insert((2, 1));
        }
        group.deliver(0, 0, 1000);
        assert!(!group.driver(2).is_leaving(), "the other one knows");
        for _ in 0..50 {
            group.tick(1);
        }
        assert!(!group.driver(1).leads(), "an entry is not written");
        group.node(1).holds_writes = false;
        group.work(1);
        group.settle();
        assert!(group.driver(1).leads());
        group.put(1, "b", "2");
        group.check_acknowledged();
        assert_eq!(group.acknowledged.last().map(|(key, ..)| &key[..]), Some("b"));
    }
}

/// Else the other one would need its vote for ever.
#[test]
fn a_leader_that_was_removed_stays_until_others_know() {
    let mut group = led_by_2_that_is_to_go();
    group.deliver(1, 2, 1000);
    group.network.clear();
    assert!(group.driver(2).is_leaving() && !group.driver(1).is_alone());
    assert!(!group.driver(2).can_propose() && !group.driver(2).can_read());
    group.tick(2);
    group.deliver(0, 0, 1000);
    assert!(!group.driver(2).is_leaving() && group.driver(1).is_alone());
    group.settle();
    assert!(group.driver(1).leads());
}

/// The answer to a sign of life does not wait for the disk otherwise.
#[test]
fn who_knows_of_a_removal_says_so_when_that_is_durable() {
    let mut group = led_by_2_that_is_to_go();
    group.deliver(1, 2, 1000);
    group.network.clear();
    group.node(1).holds_writes = true;
    group.tick(2);
    group.deliver(0, 0, 1000);
    assert!(group.driver(1).committed() == group.driver(2).committed());
    assert!(group.driver(2).is_leaving() && !group.driver(1).is_alone());
    group.node(1).holds_writes = false;
    group.work(1);
    group.deliver(0, 0, 1000);
    assert!(!group.driver(2).is_leaving() && group.driver(1).is_alone());
}

/// It gives leadership up meanwhile, and is there to vote, or to be voted for, when the other one comes back.
#[test]
fn a_leader_that_was_removed_waits_for_the_other_one_however_long() {
    for is_first in [true, false] {
        let mut group = led_by_2_that_is_to_go();
        group.deliver(1, 2, 1000);
        group.network.clear();
        group.cuts.extend([(1, 2), (2, 1)]);
        for _ in 0..200 {
            group.tick(1);
            group.tick(2);
            group.network.clear();
        }
        assert!(group.driver(2).is_leaving() && group.driver(2).leader().is_none());
        group.cuts.clear();
        for _ in 0..60 {
            group.tick(if is_first { 1 } else { 2 });
            group.deliver(0, 0, 1000);
        }
        assert!(!group.driver(2).is_leaving() && group.driver(1).is_alone());
        group.settle();
        assert!(group.driver(1).leads());
    }
}

/// Whether it has led, or not, with entries behind its removal that the other one lacks, or without.
#[test]
fn who_was_removed_waits_for_the_other_one_after_a_restart_too() {
    for is_longer in [true, false] {
        let mut group = led_by_2_that_is_to_go();
        if is_longer {
            group.put(2, "a", "1");
        }
        group.deliver(1, 2, 1000);
        assert!(group.driver(2).is_leaving());
        group.network.clear();
        assert_eq!(group.driver(2).last_index() > group.driver(1).last_index(), is_longer);
        group.crash(2);
        group.start(2);
        for _ in 0..200 {
            group.tick(2);
            group.network.clear();
        }
        assert!(group.driver(2).is_leaving() && !group.driver(2).can_propose());
        for _ in 0..100 {
            group.tick(1);
            group.tick(2);
            group.deliver(0, 0, 1000);
        }
        assert!(!group.driver(2).is_leaving() && group.driver(1).is_alone());
        group.settle();
        assert!(group.driver(1).leads());
        group.put(1, "c", "3");
        group.check_acknowledged();
        assert_eq!(group.acknowledged.last().map(|(key, ..)| &key[..]), Some("c"));
    }
}

/// A learner could not tell the one that stays.
#[test]
fn a_learner_that_knows_is_not_enough() {
    let mut group = led_by_1();
    group.add_member(1, 3, true);
    group.deliver(0, 0, 1000);
    group.add(3);
    for _ in 0..5 {
        group.tick(1);
        group.deliver(0, 0, 1000);
    }
    assert_eq!(group.driver(3).applied(), group.driver(1).applied());
    group.cuts.extend([(1, 3), (3, 1)]);
    let_2_lead_that_is_to_go(&mut group);
    group.cuts.insert((2, 1));
    for _ in 0..100 {
        group.tick(2);
        group.deliver(0, 0, 1000);
    }
    assert!(group.driver(2).is_leaving() && !group.driver(1).is_alone());
    assert_eq!(group.driver(3).applied(), group.driver(2).applied());
    group.cuts.clear();
    group.settle();
    assert!(!group.driver(2).is_leaving() && group.driver(1).leads());
}

/// Three members, the first of which leads and has to remove itself: whom it hands over to cannot lead, though it seems to
/// be well.
fn led_by_1_that_removes_itself() -> Group {
    let mut group = led_by_1_of(3);
    group.cuts.insert((1, 3));
    remove(&mut group, 1, 1);
    for _ in 0..15 {
        group.tick(1);
        group.deliver(0, 0, 1000);
    }
    assert!(group.driver(1).leads());
    remove(&mut group, 1, 1);
    group
}

#[test]
fn a_leader_that_cannot_hand_over_removes_itself() {
    let mut group = led_by_1_that_removes_itself();
    group.deliver(0, 0, 1000);
    assert!(group.events.ends_with("1: remove 1 done\n"), "{}", group.events);
    group.cuts.clear();
    group.settle();
    assert!(!group.driver(1).leads());
}

/// The others need not wait for an election timeout.
#[test]
fn a_leader_that_was_removed_hands_over_when_it_is_stopped() {
    let mut group = led_by_1_that_removes_itself();
    while !group.driver(1).is_leaving() {
        let message = group.network.pop_front().expect("what commits it is on its way");
        group.deliver_one(message);
    }
    group.network.clear();
    let messages = group.driver(1).leave_now();
    group.network.extend(messages);
    group.cuts.clear();
    group.deliver(1, 0, 1000);
    group.crash(1);
    group.deliver(0, 0, 1000);
    assert!(group.driver(2).leads());
}

/// Who hears of its removal is gone at once. Did the leader forget it then, it would need that vote for ever.
#[test]
fn a_removal_is_told_of_when_it_is_durable() {
    let mut group = led_by_1();
    remove(&mut group, 1, 2);
    group.deliver(1, 2, 1000);
    group.node(1).holds_writes = true;
    for _ in 0..5 {
        group.deliver(0, 0, 1000);
        group.tick(1);
    }
    assert!(group.driver(1).committed() > group.driver(2).committed());
    group.crash(1);
    group.start(1);
    group.node(1).holds_writes = false;
    group.settle();
    group.put(1, "a", "1");
    group.deliver(0, 0, 1000);
    group.check_acknowledged();
    assert_eq!(group.acknowledged.len(), 1);
}

/// The heartbeats of its round say no more than that the asking member has acknowledged.
#[test]
fn a_read_index_does_not_tell_of_a_removal_before() {
    let mut group = led_by_1_of(3);
    remove(&mut group, 1, 2);
    group.deliver(1, 2, 1000);
    group.deliver(1, 3, 1000);
    group.cuts.insert((3, 1));
    group.deliver(3, 1, 1000);
    group.cuts.clear();
    group.node(1).holds_writes = true;
    group.deliver(2, 1, 1000);
    let removal = group.driver(1).committed();
    assert_eq!(group.driver(3).last_index(), removal);
    group.ask(3, "read");
    for _ in 0..3 {
        group.deliver(3, 1, 1000);
        group.deliver(1, 3, 1000);
    }
    assert!(group.driver(3).committed() < removal);
    assert!(!group.events.contains("3: reads"), "{}", group.events);
    group.node(1).holds_writes = false;
    group.work(1);
    group.deliver(0, 0, 1000);
    assert!(group.events.contains(&format!("3: reads read at {removal}")), "{}", group.events);
}

/// raft-rs takes a leader's vote for durable, which that of a sole voter is not: it may lead a second time in the term.
#[test]
fn who_alone_votes_sends_nothing_before_its_vote_is_durable() {
    let mut group = Group::new(1);
    lead(&mut group, 1);
    group.add_member(1, 2, true);
    group.add(2);
    group.settle();
    group.crash(1);
    group.start(1);
    group.node(1).holds_writes = true;
    while group.driver(1).leader() != Some(MemberId(1)) {
        group.tick(1);
    }
    // The learner wants to have something written, before the vote is.
    group.deliver(1, 2, 1000);
    group.put(2, "a", "of the learner");
    group.deliver(0, 0, 1000);
    group.crash(1);
    group.start(1);
    group.node(1).holds_writes = false;
    lead(&mut group, 1);
    group.put(1, "a", "of the voter");
    group.settle();
    group.check_equal();
    group.check_acknowledged();
}

/// Three members whose disks are full, the first of which leads.
fn full() -> Group {
    let mut group = led_by_1_of(3);
    for id in 1..=3 {
        group.fill_disk(id);
    }
    let value = "v".repeat(500);
    while (1..=3).all(|id| group.driver(id).has_room(1, 2 * value.len())) {
        group.put(1, "a", &value);
        group.deliver(0, 0, 1000);
    }
    group
}

/// What a new leader appends cannot be refused: room is kept for it.
#[test]
fn members_whose_disks_are_full_elect_a_leader() {
    let mut group = full();
    group.crash(1);
    let leads = |group: &mut Group| (2..=3).any(|id| group.driver(id).leads());
    for _ in 0..200 {
        (2..=3).for_each(|id| group.tick(id));
        group.deliver(0, 0, 1000);
        if leads(&mut group) {
            break;
        }
    }
    assert!(leads(&mut group));
    group.check_equal();
    group.check_acknowledged();
}

#[test]
fn a_change_of_the_members_is_refused_when_the_disk_is_full() {
    let mut group = full();
    remove(&mut group, 1, 3);
    assert!(group.events.ends_with("1: cannot remove 3: no space\n"));
    group.settle();
    assert_eq!(group.driver(1).members().len(), 3);
}

/// Its log may have a change of the members that the others took for committed, or that nobody did.
#[test]
fn who_is_forced_to_go_on_alone_stays_alone() {
    let mut group = led_by_1();
    group.cuts.insert((1, 2));
    group.add_member(1, 3, false);
    group.put(1, "a", "1");
    group.crash(1);
    group.crash(2);
    group.start_alone(1);
    lead(&mut group, 1);
    group.put(1, "b", "2");
    let ids: Vec<u64> = group.driver(1).members().to_vec().iter().map(|it| it.id).collect();
    assert_eq!(ids, [1]);
    group.check_acknowledged();
    assert_eq!(group.acknowledged.len(), 1);
    group.crash(1);
    group.start(1);
    lead(&mut group, 1);
    group.check_acknowledged();
}
