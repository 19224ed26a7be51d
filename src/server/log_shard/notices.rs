//! Messages that only say how far the log is committed: they wait a little, and go behind everything else.
//!
//! When an entry is committed, raft tells the followers. A follower needs that to apply the entry, which mostly nobody waits
//! for: the client hears from the leader, and the next entry says the same. So a notice is held back, and left out if
//! entries for the same member leave within [`limits::NOTICE_DELAY`]. It is not held back where somebody waits: for an entry
//! that a follower forwarded, a read index, a change of the members, or the lead.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use raft::eraftpb::{Message, MessageType};
use urd_wal::disk::Disk;

use super::LogShard;
use crate::ids::Index;
use crate::limits;

/// See the module's page.
#[derive(Default)]
pub(super) struct Notices {
    /// The newest for each member that has not left.
    held: BTreeMap<u64, Message>,
    /// Since when the oldest of them waits.
    since: Option<Instant>,
    /// The newest entry that another member forwarded.
    forwarded: Index,
    /// As far as the members have been told that the log is committed.
    told: Index,
    /// A timer will start a pass.
    has_timer: bool,
}

impl Notices {
    /// Another member forwarded the entries up to `index`.
    pub(super) fn note_forwarded(&mut self, index: Index) {
        self.forwarded = self.forwarded.max(index);
    }

    /// Takes out of `messages` what may wait, and puts what may not wait any more in its place.
    pub(super) fn sift(&mut self, messages: Vec<Message>, now: Instant) -> Vec<Message> {
        let mut leaving = Vec::with_capacity(messages.len());
        for message in messages {
            match message.get_msg_type() {
                MessageType::MsgAppend if !message.entries.is_empty() => {
                    // It says the same.
                    self.held.remove(&message.to);
                    self.told = self.told.max(Index(message.commit));
                }
                MessageType::MsgAppend if self.told >= self.forwarded => {
                    self.since.get_or_insert(now);
                    self.held.insert(message.to, message);
                    continue;
                }
                MessageType::MsgAppend => self.told = self.told.max(Index(message.commit)),
                MessageType::MsgReadIndexResp | MessageType::MsgTimeoutNow => {
                    leaving.extend(self.held.remove(&message.to));
                }
                _ => {}
            }
            leaving.push(message);
        }
        leaving
    }

    /// What has waited long enough by `now`; with `None`, all.
    fn release(&mut self, now: Option<Instant>) -> Vec<Message> {
        let is_time = |since: Instant| {
            now.is_none_or(|now| now.duration_since(since) >= limits::NOTICE_DELAY)
        };
        if !self.since.is_some_and(is_time) {
            return Vec::new();
        }
        self.since = None;
        let released: Vec<Message> = std::mem::take(&mut self.held).into_values().collect();
        let told = released.iter().map(|message| Index(message.commit)).max();
        self.told = self.told.max(told.unwrap_or_default());
        released
    }
}

impl<D: Disk + 'static> LogShard<D> {
    /// Sends the notices whose time has come, and sees to it that there is a pass for those that are left.
    pub(super) fn send_notices(&mut self) {
        let released = self.notices.release(Some(Instant::now()));
        self.transport.send(released);
        if self.notices.held.is_empty() || std::mem::replace(&mut self.notices.has_timer, true) {
            return;
        }
        let inbox = Rc::clone(&self.inbox);
        glommio::spawn_local(async move {
            glommio::timer::sleep(limits::NOTICE_DELAY).await;
            inbox.notices_due.set(true);
            inbox.signal.set();
        })
        .detach();
    }

    /// Sends all: a change of the members is not to wait, and may leave one of them without a connection.
    pub(super) fn send_all_notices(&mut self) {
        let released = self.notices.release(None);
        self.transport.send(released);
    }

    /// A timer has run out.
    pub(super) fn note_notices_due(&mut self) {
        if self.inbox.notices_due.take() {
            self.notices.has_timer = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: MessageType, to: u64, commit: u64, entries: usize) -> Message {
        let mut message = Message::default();
        message.set_msg_type(kind);
        (message.to, message.commit) = (to, commit);
        message.set_entries(vec![raft::eraftpb::Entry::default(); entries].into());
        message
    }

    fn told(messages: &[Message]) -> Vec<(u64, u64)> {
        messages.iter().map(|message| (message.to, message.commit)).collect()
    }

    #[test]
    fn a_notice_waits_and_is_replaced_by_entries() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        let append = |to, commit, entries| message(MessageType::MsgAppend, to, commit, entries);
        assert_eq!(notices.sift(vec![append(2, 5, 0), append(3, 5, 0)], now), []);
        assert_eq!(told(&notices.sift(vec![append(2, 5, 1)], now)), [(2, 5)]);
        assert_eq!(notices.sift(vec![append(3, 6, 0)], now), []);
        assert_eq!(notices.release(Some(now)), []);
        let later = now + limits::NOTICE_DELAY;
        assert_eq!(told(&notices.release(Some(later))), [(3, 6)]);
        assert_eq!(notices.release(Some(later + limits::NOTICE_DELAY)), []);
    }

    #[test]
    fn a_notice_that_somebody_waits_for_leaves_at_once() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        let append = |commit| message(MessageType::MsgAppend, 2, commit, 0);
        notices.note_forwarded(Index(7));
        assert_eq!(told(&notices.sift(vec![append(6)], now)), [(2, 6)], "7 is still to come");
        assert_eq!(told(&notices.sift(vec![append(7)], now)), [(2, 7)]);
        assert_eq!(notices.sift(vec![append(8)], now), []);
        let answer = message(MessageType::MsgReadIndexResp, 2, 0, 0);
        assert_eq!(told(&notices.sift(vec![answer], now)), [(2, 8), (2, 0)]);
        assert_eq!(notices.sift(vec![append(9)], now), []);
        let lead = message(MessageType::MsgTimeoutNow, 2, 0, 0);
        assert_eq!(told(&notices.sift(vec![lead], now)), [(2, 9), (2, 0)]);
        assert_eq!(notices.sift(vec![append(10)], now), []);
        assert_eq!(told(&notices.release(None)), [(2, 10)]);
    }
}
