//! Messages that pass for another member's and say what cannot be: the driver passes them over, or says what is wrong.

use raft::eraftpb::{Entry, Message, MessageType};
use urd_proto::etcdserverpb::MemberRemoveRequest;

use super::group::Group;
use crate::ids::MemberId;
use crate::raft::Fatal;
use crate::store::command::{BatchBuilder, Command, FORMAT_VERSION};

/// A message of the group's term from member 2 to member 1, which leads.
fn message(group: &mut Group, message_type: MessageType) -> Message {
    let term = group.driver(1).term().0;
    let mut message = Message { from: 2, to: 1, term, ..Message::default() };
    message.set_msg_type(message_type);
    message
}

/// Three members, the first of which leads and has some entries.
fn led_by_1() -> Group {
    let mut group = Group::new(3);
    while !group.driver(1).leads() {
        group.tick(1);
        group.deliver(0, 0, 1000);
    }
    group.put(1, "a", "1");
    group.deliver(0, 0, 1000);
    group
}

/// raft-rs would look for what follows entries that nobody has, and end the process.
#[test]
fn an_acknowledgement_of_more_than_there_is_is_passed_over() {
    for beyond in [1, 7, 1 << 40] {
        let mut group = led_by_1();
        let last = group.driver(1).last_index().0;
        let mut told = message(&mut group, MessageType::MsgAppendResponse);
        told.index = last + beyond;
        told.commit = last + beyond;
        group.driver(1).step(told).expect("it is passed over");
        group.work(1);
        group.put(1, "b", "2");
        group.deliver(0, 0, 1000);
        group.settle();
        group.check_equal();
        group.check_acknowledged();
    }
}

/// In the log it would stop every member, again and again.
#[test]
fn a_proposal_that_nobody_could_apply_is_refused_by_the_leader() {
    let mut removes = BatchBuilder::default();
    removes.append_command(&Command::MemberRemove(MemberRemoveRequest { id: 3 }));
    let cases: [(&str, Vec<u8>); 5] = [
        ("of another version", vec![FORMAT_VERSION + 1]),
        ("a kind that does not exist", vec![FORMAT_VERSION, 99, 0, 0, 0, 0]),
        ("cut short", vec![FORMAT_VERSION, 1, 9, 0, 0, 0, 1]),
        ("no message", vec![FORMAT_VERSION, 1, 1, 0, 0, 0, 0xff]),
        ("a change of the members that raft would not hear of", removes.finish().to_vec()),
    ];
    for (what, data) in cases {
        let mut group = led_by_1();
        let last = group.driver(1).last_index();
        let mut proposal = message(&mut group, MessageType::MsgPropose);
        proposal.term = 0;
        proposal.set_entries(vec![Entry { data: data.into(), ..Entry::default() }].into());
        group.deliver_one(proposal);
        assert_eq!(group.driver(1).last_index(), last, "{what}");
        group.put(2, "b", "2");
        group.deliver(0, 0, 1000);
        group.settle();
        group.check_equal();
        group.check_acknowledged();
        assert_eq!(group.acknowledged.len(), 2, "{what}: another of its proposals is taken");
    }
}

/// raft-rs would take over a state that it was not given.
#[test]
fn a_state_of_another_history_ends_the_member() {
    let mut group = led_by_1();
    let committed = group.driver(1).committed().0;
    let mut announced = message(&mut group, MessageType::MsgSnapshot);
    announced.term += 1;
    let term = announced.term;
    let metadata = announced.mut_snapshot().mut_metadata();
    (metadata.index, metadata.term) = (committed, term);
    metadata.mut_conf_state().voters = vec![1, 2, 3];
    assert!(!group.driver(1).wants_snapshot(&announced));
    let ended = group.driver(1).step(announced).expect_err("it is not of this cluster");
    assert!(
        matches!(ended, Fatal::Diverged { leader: MemberId(2), index, .. } if index == committed),
        "{ended}"
    );
}

/// raft-rs would lead with entries that are not written, and end the process.
#[test]
fn a_vote_that_nobody_has_asked_for_is_passed_over() {
    let mut group = led_by_1();
    group.node(2).holds_writes = true;
    group.put(1, "b", "2");
    group.deliver(1, 2, 1000);
    let before = group.driver(2).term();
    group.cuts.insert((1, 2));
    while group.driver(2).term() == before {
        group.tick(2);
        // It is to stand for election, but what asks for votes waits for its disk.
        let mut grant = message(&mut group, MessageType::MsgRequestPreVoteResponse);
        (grant.from, grant.to, grant.term) = (3, 2, before.0 + 1);
        group.driver(2).step(grant).expect("it is a vote, or too early");
        group.work(2);
    }
    let mut vote = message(&mut group, MessageType::MsgRequestVoteResponse);
    (vote.from, vote.to, vote.term) = (3, 2, before.0 + 1);
    group.driver(2).step(vote).expect("it is passed over");
    assert!(!group.driver(2).leads());
    group.node(2).holds_writes = false;
    group.cuts.clear();
    group.work(2);
    group.settle();
    group.check_equal();
    group.check_acknowledged();
}

/// raft-rs would lead at once, with entries that are not written, and end the process.
#[test]
fn who_leads_alone_is_not_made_to_stand_again() {
    let mut group = Group::new(1);
    while !group.driver(1).leads() {
        group.tick(1);
    }
    group.node(1).holds_writes = true;
    group.put(1, "a", "1");
    let mut told = message(&mut group, MessageType::MsgTimeoutNow);
    told.term += 1;
    group.driver(1).step(told).expect("it is passed over");
    group.node(1).holds_writes = false;
    group.work(1);
    assert!(group.driver(1).leads());
    group.check_acknowledged();
    assert_eq!(group.acknowledged.len(), 1);
}

/// raft-rs keeps what it wanted to send as a leader before: of a state the announcement alone would go.
#[test]
fn a_state_that_a_former_leadership_ordered_is_not_sent() {
    let mut group = Group::with_window(1, 0);
    while !group.driver(1).leads() {
        group.tick(1);
    }
    group.add_member(1, 2, true);
    group.add(2);
    group.settle();
    group.put(1, "a", "1");
    group.settle();
    // What the next leadership knows of the learner is a guess.
    group.crash(1);
    group.start(1);
    group.cuts.insert((1, 2));
    while !group.driver(1).leads() {
        group.tick(1);
    }
    group.deliver(0, 0, 1000);
    group.forget_window(1);
    let mut rejected = message(&mut group, MessageType::MsgAppendResponse);
    (rejected.index, rejected.reject) = (group.driver(1).last_index().0 - 1, true);
    let mut told = message(&mut group, MessageType::MsgTimeoutNow);
    told.term += 1;
    for message in [rejected, told] {
        group.driver(1).step(message).expect("it may be");
    }
    group.work(1);
    assert!(group.network.iter().all(|it| it.get_msg_type() != MessageType::MsgSnapshot));
    group.cuts.clear();
    group.put(1, "b", "2");
    group.settle();
    group.check_equal();
    group.check_acknowledged();
}

/// raft-rs would order a state, which nobody can have asked for, behind a vote that is not written.
#[test]
fn an_answer_to_a_term_that_nobody_has_heard_of_is_passed_over() {
    let mut group = Group::with_window(1, 0);
    while !group.driver(1).leads() {
        group.tick(1);
    }
    group.add_member(1, 2, true);
    group.add(2);
    group.settle();
    group.put(1, "a", "1");
    group.settle();
    group.forget_window(1);
    let last = group.driver(1).last_index().0;
    let mut told = message(&mut group, MessageType::MsgTimeoutNow);
    told.term += 1;
    let mut rejected = message(&mut group, MessageType::MsgAppendResponse);
    (rejected.term, rejected.index, rejected.reject) = (told.term + 1, last, true);
    // In one pass, before any turn.
    for message in [told, rejected] {
        group.driver(1).step(message).expect("it may be, or is passed over");
    }
    group.work(1);
    group.put(1, "b", "2");
    group.settle();
    group.check_equal();
    group.check_acknowledged();
}
