//! Messages of raft as another member sends them: whether they can be one's at all.
//!
//! raft-rs trusts its messages, and ends the process over one that cannot be. So what it takes for granted is asked for
//! here, before a message is handed on. What only the state of this member's own raft can tell is asked by the driver
//! ([`Driver::step`](crate::raft::Driver::step)).
//!
//! What this does not do: look into entries. The driver reads what another member wants proposed; what a leader appends was
//! read or validated by it.

use bytes::Bytes;
use raft::eraftpb::{ConfState, EntryType, Message, MessageType};

use super::frame::Malformed;
use crate::ids::MemberId;
use crate::limits::{self, FOREIGN_NUMBER_MAX};

/// The message in a frame. Its entries share the memory that the frame was received into.
///
/// # Errors
/// It is none, is another member's, or cannot be.
pub(super) fn decode(body: &Bytes, from: MemberId, to: MemberId) -> Result<Message, Malformed> {
    let message: Result<Message, _> = protobuf::Message::parse_from_carllerche_bytes(body);
    let message = message.map_err(|_| Malformed::Body("no message of raft"))?;
    check_ends(&message, from, to)?;
    if message.get_msg_type() == MessageType::MsgSnapshot {
        return Err(Malformed::Body("an announcement of a state that does not follow"));
    }
    check(&message)?;
    Ok(message)
}

/// The message in the header of a state's connection, which announces the state.
///
/// # Errors
/// It is none, is another member's, or cannot be.
pub fn announcement(header: &[u8], from: MemberId, to: MemberId) -> Result<Message, String> {
    read_announcement(header, from, to).map_err(|malformed| malformed.to_string())
}

pub(super) fn read_announcement(
    header: &[u8],
    from: MemberId,
    to: MemberId,
) -> Result<Message, Malformed> {
    let message: Message = protobuf::Message::parse_from_bytes(header)
        .map_err(|_| Malformed::Body("no message of raft"))?;
    check_ends(&message, from, to)?;
    let metadata = message.get_snapshot().get_metadata();
    let is_announcement = message.get_msg_type() == MessageType::MsgSnapshot
        && metadata.index > 0
        && metadata.term > 0
        && metadata.term <= message.term
        && is_sound(metadata.get_conf_state());
    if !is_announcement {
        return Err(Malformed::Body("no announcement of a state"));
    }
    check(&message)?;
    Ok(message)
}

fn check_ends(message: &Message, from: MemberId, to: MemberId) -> Result<(), Malformed> {
    if message.from == from.0 && message.to == to.0 {
        return Ok(());
    }
    Err(Malformed::Body("a message from or to another member"))
}

/// Members change one at a time, so no group is ever between two configurations; and each member is in it once.
fn is_sound(conf: &ConfState) -> bool {
    let mut ids = [&conf.voters[..], &conf.learners].concat();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    let is_between =
        !conf.voters_outgoing.is_empty() || !conf.learners_next.is_empty() || conf.auto_leave;
    !conf.voters.is_empty() && ids.len() == count && !ids.contains(&0) && !is_between
}

/// What raft-rs takes for granted.
fn check(message: &Message) -> Result<(), Malformed> {
    let malformed = |what| Err(Malformed::Body(what));
    check_numbers(message)?;
    // A member that knows of no term yet could not answer who has less than its own.
    if message.priority != 0 || message.deprecated_priority != 0 {
        return malformed("a message of a priority");
    }
    // raft-rs would send that member nothing else any more.
    if message.request_snapshot != 0 {
        return malformed("a request for a state, which only the leader orders");
    }
    match message.get_msg_type() {
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgCheckQuorum
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus => return malformed("a message that a member tells itself"),
        MessageType::MsgAppend => check_append(message)?,
        MessageType::MsgPropose if message.entries.is_empty() => {
            return malformed("a proposal of nothing");
        }
        // A change of members is asked of the leader, which makes the proposal.
        MessageType::MsgPropose
            if message.entries.iter().any(|it| it.entry_type != EntryType::EntryNormal) =>
        {
            return malformed("a proposal of another kind than members forward");
        }
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp if message.entries.len() != 1 => {
            return malformed("a read index without its context");
        }
        _ => {}
    }
    // Without a term raft-rs takes a message for one of the member's own.
    let has_term = message.term > 0;
    let needs_term =
        !matches!(message.get_msg_type(), MessageType::MsgPropose | MessageType::MsgReadIndex);
    if needs_term && !has_term {
        return malformed("a message of no term");
    }
    if !needs_term && has_term {
        return malformed("a request to the leader that is of a term");
    }
    Ok(())
}

fn check_numbers(message: &Message) -> Result<(), Malformed> {
    if message.entries.len() > limits::PEER_ENTRIES_PER_MESSAGE_MAX {
        return Err(Malformed::Body("a message with too many entries"));
    }
    let metadata = message.get_snapshot().get_metadata();
    let numbers = [
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.reject_hint,
        metadata.index,
        metadata.term,
    ];
    let of_entries = message.entries.iter().flat_map(|entry| [entry.index, entry.term]);
    if numbers.into_iter().chain(of_entries).any(|number| number > FOREIGN_NUMBER_MAX) {
        return Err(Malformed::Body("a message with a number that no cluster comes to"));
    }
    Ok(())
}

/// The entries follow each other and the one before them, and no term falls.
fn check_append(message: &Message) -> Result<(), Malformed> {
    // raft-rs finds that an entry which is not there has term 0, and so would append behind a gap.
    let has_term = message.log_term > 0 || message.index == 0;
    if !has_term || message.log_term > message.term {
        return Err(Malformed::Body("an append behind an entry of no term"));
    }
    let follows = message.entries.iter().zip(message.index + 1..);
    if !follows.into_iter().all(|(entry, index)| entry.index == index) {
        return Err(Malformed::Body("an append of entries that do not follow each other"));
    }
    // For the same reason it would find that such an entry is there already.
    if message.entries.first().is_some_and(|first| first.term == 0) {
        return Err(Malformed::Body("an append of entries of no term"));
    }
    let terms = message.entries.iter().map(|entry| entry.term);
    let terms = std::iter::once(message.log_term).chain(terms).chain([message.term]);
    if !terms.is_sorted() {
        return Err(Malformed::Body("an append of entries whose terms fall"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use protobuf::Message as _;
    use raft::eraftpb::Entry;

    use super::*;

    const FROM: MemberId = MemberId(2);
    const TO: MemberId = MemberId(1);

    fn message(message_type: MessageType) -> Message {
        let mut message = Message { from: FROM.0, to: TO.0, term: 5, ..Message::default() };
        message.set_msg_type(message_type);
        message
    }

    /// An append behind entry 7 of term 3, of entries with these indexes and terms.
    fn append(entries: &[(u64, u64)]) -> Message {
        let mut append = message(MessageType::MsgAppend);
        (append.index, append.log_term) = (7, 3);
        let entry = |&(index, term): &(u64, u64)| Entry { index, term, ..Entry::default() };
        append.set_entries(entries.iter().map(entry).collect());
        append
    }

    fn announced(index: u64, term: u64, conf: ConfState) -> Message {
        let mut message = message(MessageType::MsgSnapshot);
        let metadata = message.mut_snapshot().mut_metadata();
        (metadata.index, metadata.term) = (index, term);
        metadata.set_conf_state(conf);
        message
    }

    fn conf(voters: &[u64], learners: &[u64]) -> ConfState {
        ConfState { voters: voters.to_vec(), learners: learners.to_vec(), ..ConfState::default() }
    }

    fn judge(message: &Message) -> Result<Message, Malformed> {
        decode(&message.write_to_bytes().unwrap().into(), FROM, TO)
    }

    fn judge_announcement(message: &Message) -> Result<Message, String> {
        announcement(&message.write_to_bytes().unwrap(), FROM, TO)
    }

    #[test]
    fn what_members_send_passes() {
        for entries in [&[][..], &[(8, 3)], &[(8, 3), (9, 4), (10, 5)]] {
            assert_eq!(judge(&append(entries)), Ok(append(entries)));
        }
        // The beginning of a log that no state stands before.
        let mut first = append(&[(1, 1)]);
        (first.index, first.log_term) = (0, 0);
        assert!(judge(&first).is_ok());
        for of_a_term in [
            MessageType::MsgAppendResponse,
            MessageType::MsgHeartbeat,
            MessageType::MsgHeartbeatResponse,
            MessageType::MsgRequestVote,
            MessageType::MsgRequestVoteResponse,
            MessageType::MsgRequestPreVote,
            MessageType::MsgRequestPreVoteResponse,
            MessageType::MsgTimeoutNow,
            MessageType::MsgTransferLeader,
        ] {
            assert!(judge(&message(of_a_term)).is_ok(), "{of_a_term:?}");
        }
        for of_none in [MessageType::MsgPropose, MessageType::MsgReadIndex] {
            let mut asked = message(of_none);
            asked.term = 0;
            asked.mut_entries().push(Entry::default());
            assert!(judge(&asked).is_ok(), "{of_none:?}");
        }
        assert!(judge_announcement(&announced(9, 5, conf(&[1, 2], &[3]))).is_ok());
    }

    #[test]
    fn what_raft_could_not_bear_is_refused() {
        let mut cases = vec![
            ("a gap", append(&[(9, 3)])),
            ("a gap within", append(&[(8, 3), (10, 3)])),
            ("a falling term", append(&[(8, 4), (9, 3)])),
            ("a term below the one before", append(&[(8, 2)])),
            ("a term beyond the message's", append(&[(8, 6)])),
            ("a state without its pages", announced(9, 5, conf(&[1], &[]))),
            ("a proposal of nothing", Message { term: 0, ..message(MessageType::MsgPropose) }),
            (
                "a question without a context",
                Message { term: 0, ..message(MessageType::MsgReadIndex) },
            ),
            ("an index without a context", message(MessageType::MsgReadIndexResp)),
        ];
        let mut change = Message { term: 0, ..message(MessageType::MsgPropose) };
        let entry_type = EntryType::EntryConfChangeV2;
        change.mut_entries().push(Entry { entry_type, ..Entry::default() });
        cases.push(("a change of members", change));
        for own in [
            MessageType::MsgHup,
            MessageType::MsgBeat,
            MessageType::MsgCheckQuorum,
            MessageType::MsgUnreachable,
            MessageType::MsgSnapStatus,
        ] {
            cases.push(("what a member tells itself", message(own)));
        }
        for (what, of_none) in [
            ("an append", append(&[])),
            ("a heartbeat", message(MessageType::MsgHeartbeat)),
            ("a vote", message(MessageType::MsgRequestVote)),
            ("what comes before a vote", message(MessageType::MsgRequestPreVoteResponse)),
        ] {
            cases.push((what, Message { term: 0, ..of_none }));
        }
        let edited = |edit: fn(&mut Message)| {
            let mut append = append(&[(8, 3)]);
            edit(&mut append);
            append
        };
        cases.push(("behind an entry of no term", edited(|it| it.log_term = 0)));
        cases.push(("behind an entry of a later term", edited(|it| it.log_term = 6)));
        cases.push(("a term without an end", edited(|it| it.term = u64::MAX)));
        cases.push(("a term that cannot be counted on from", edited(|it| it.term = (1 << 61) + 1)));
        cases.push(("an index without an end", edited(|it| it.index = u64::MAX)));
        cases.push(("a commit without an end", edited(|it| it.commit = u64::MAX)));
        cases.push(("of a priority", edited(|it| it.priority = -1)));
        cases.push(("of a priority, as once said", edited(|it| it.deprecated_priority = 1)));
        cases.push(("that wants a state", edited(|it| it.request_snapshot = 1)));
        let begins = |entries| Message { index: 0, log_term: 0, ..append(entries) };
        cases.push(("an entry of no term", begins(&[(1, 0)])));
        cases.push(("entries of no term before one of some", begins(&[(1, 0), (2, 0), (3, 1)])));
        cases.push(("another's", edited(|it| it.from = 3)));
        cases.push(("to another", edited(|it| it.to = 3)));
        for (what, message) in cases {
            assert!(judge(&message).is_err(), "{what}");
        }
        assert!(decode(&Bytes::from_static(b"\xff"), FROM, TO).is_err());
    }

    #[test]
    fn announcements_that_no_group_makes_are_refused() {
        let mut between = conf(&[1, 2], &[]);
        between.voters_outgoing.push(3);
        for (what, message) in [
            ("no state", announced(0, 5, conf(&[1], &[]))),
            ("of no term", announced(9, 0, conf(&[1], &[]))),
            ("of a later term", announced(9, 6, conf(&[1], &[]))),
            ("of nobody", announced(9, 5, conf(&[], &[1]))),
            ("one twice", announced(9, 5, conf(&[1, 1], &[]))),
            ("one as both", announced(9, 5, conf(&[1, 2], &[2]))),
            ("member 0", announced(9, 5, conf(&[0, 1], &[]))),
            ("between two groups", announced(9, 5, between)),
            ("another message", message(MessageType::MsgHeartbeat)),
        ] {
            assert!(judge_announcement(&message).is_err(), "{what}");
        }
    }
}
