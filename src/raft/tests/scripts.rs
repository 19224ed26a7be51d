//! Runs the scripts in `src/raft/scripts`: one behaviour each, commands after `>`, below them what happened. The whole file
//! is compared, so a change of behaviour is reviewed as a change of text.
//!
//! `URD_UPDATE_SCRIPTS=1` writes what happens; then the difference is for a reviewer.
//!
//! ```text
//! group N [ENTRIES]           a new cluster of members 1 to N, which must come first; applied entries kept in memory
//! tick ID [TIMES]             a member's clock goes on
//! deliver [FROM TO [COUNT]]   messages arrive, and those that follow from them; 0 is any member
//! network                     what is under way
//! cut FROM TO    heal [FROM TO]
//! drop [FROM TO]   keep and repeat: copy FROM TO, paste
//! hold ID   let ID            writes to a member's log stay under way, or end
//! put ID KEY VALUE   read ID NAME
//! add ID NEW   learn ID NEW   promote ID OTHER   remove ID OTHER   start ID   join NEW
//! move ID OTHER               leadership
//! crash ID   checkpoint ID   forget ID (the entries in memory that are applied)
//! late   tell                 senders hear later what became of their states; they hear it
//! settle                      ticks and deliveries until all are level, then they are compared
//! state                       each member in numbers
//! ```

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use raft::eraftpb::{Message, MessageType};
use urd_proto::etcdserverpb::{MemberPromoteRequest, MemberRemoveRequest};

use super::group::Group;
use crate::ids::MemberId;
use crate::store::command::Command;

#[test]
fn scripts_give_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/raft/scripts");
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .expect("the scripts are there")
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let script = fs::read_to_string(&path).expect("readable");
        let happened = run(&script);
        if env::var_os("URD_UPDATE_SCRIPTS").is_some() {
            fs::write(&path, happened).expect("writable");
            continue;
        }
        assert_eq!(happened, script, "{} differs (left: as it is)", path.display());
    }
}

/// The script with what happens.
fn run(script: &str) -> String {
    let mut runner = Runner { group: Group::new(0), copies: Vec::new() };
    let mut happened = String::new();
    for line in script.lines() {
        let Some(command) = line.strip_prefix("> ") else {
            // What happened before goes; comments and the empty lines that divide commands stay.
            if line.is_empty() || line.starts_with('#') {
                writeln!(happened, "{line}").expect("a String grows");
            }
            continue;
        };
        writeln!(happened, "{line}").expect("a String grows");
        runner.run(command);
        happened.push_str(&std::mem::take(&mut runner.group.events));
    }
    happened
}

struct Runner {
    group: Group,
    copies: Vec<Message>,
}

impl Runner {
    fn run(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let number = |at: usize| words.get(at).map_or(0, |word| word.parse().expect("a number"));
        let word = |at: usize| *words.get(at).expect("a word");
        let group = &mut self.group;
        match word(0) {
            "group" if number(2) == 0 => *group = Group::new(number(1)),
            "group" => {
                let window_entries = usize::try_from(number(2)).expect("small");
                *group = Group::with_window(number(1), window_entries);
            }
            "tick" => (0..number(2).max(1)).for_each(|_| group.tick(number(1))),
            "deliver" => {
                let count = if number(3) == 0 { 10_000 } else { number(3) };
                group.deliver(number(1), number(2), usize::try_from(count).expect("small"));
            }
            "network" => {
                for message in &group.network {
                    writeln!(group.events, "{}", show(message)).expect("a String grows");
                }
            }
            "cut" => {
                group.cuts.insert((number(1), number(2)));
            }
            "heal" if words.len() == 1 => group.cuts.clear(),
            "heal" => {
                group.cuts.remove(&(number(1), number(2)));
            }
            "drop" => group.network.retain(|message| !goes(message, number(1), number(2))),
            "copy" => {
                let going =
                    group.network.iter().filter(|message| goes(message, number(1), number(2)));
                self.copies.extend(going.cloned());
            }
            "paste" => group.network.extend(self.copies.drain(..)),
            "hold" => group.node(number(1)).holds_writes = true,
            "let" => {
                group.node(number(1)).holds_writes = false;
                group.work(number(1));
            }
            "put" => group.put(number(1), word(2), word(3)),
            "read" => group.ask(number(1), word(2)),
            "add" => group.add_member(number(1), number(2), false),
            "learn" => group.add_member(number(1), number(2), true),
            "promote" => {
                let promote = Command::MemberPromote(MemberPromoteRequest { id: number(2) });
                group.change(number(1), &command.replace(&format!(" {}", number(1)), ""), &promote);
            }
            "remove" => {
                let remove = Command::MemberRemove(MemberRemoveRequest { id: number(2) });
                group.change(number(1), &format!("remove {}", number(2)), &remove);
            }
            "join" => group.add(number(1)),
            "start" => group.start(number(1)),
            "crash" => group.crash(number(1)),
            "move" => {
                group.driver(number(1)).transfer_leader(MemberId(number(2)));
                group.work(number(1));
            }
            "checkpoint" => group.checkpoint(number(1)),
            "forget" => group.forget_window(number(1)),
            "late" => group.tells_late = true,
            "tell" => group.tell_verdicts(),
            "settle" => {
                group.settle();
                let applied = group.check_equal();
                writeln!(group.events, "all are level at {applied}").expect("a String grows");
            }
            "state" => {
                let state = group.describe();
                group.events.push_str(&state);
            }
            other => panic!("no such command: {other}"),
        }
    }
}

fn goes(message: &Message, from: u64, to: u64) -> bool {
    (from == 0 || message.from == from) && (to == 0 || message.to == to)
}

/// A message in a line.
fn show(message: &Message) -> String {
    let kind = match message.get_msg_type() {
        MessageType::MsgAppend => "append",
        MessageType::MsgAppendResponse if message.reject => "refuses append",
        MessageType::MsgAppendResponse => "has",
        MessageType::MsgHeartbeat => "heartbeat",
        MessageType::MsgHeartbeatResponse => "heard",
        MessageType::MsgRequestPreVote => "would you vote",
        MessageType::MsgRequestPreVoteResponse if message.reject => "would not vote",
        MessageType::MsgRequestPreVoteResponse => "would vote",
        MessageType::MsgRequestVote => "vote",
        MessageType::MsgRequestVoteResponse if message.reject => "votes not",
        MessageType::MsgRequestVoteResponse => "votes",
        MessageType::MsgPropose => "propose",
        MessageType::MsgReadIndex => "read index?",
        MessageType::MsgReadIndexResp => "read index",
        MessageType::MsgSnapshot => "state",
        MessageType::MsgTimeoutNow => "lead now",
        _ => "other",
    };
    let mut line = format!("{} -> {}: {kind}, term {}", message.from, message.to, message.term);
    if message.index > 0 {
        write!(line, ", index {}", message.index).expect("a String grows");
    }
    if message.commit > 0 {
        write!(line, ", commit {}", message.commit).expect("a String grows");
    }
    if let (Some(first), Some(last)) = (message.entries.first(), message.entries.last())
        && first.index > 0
    {
        write!(line, ", entries {} to {}", first.index, last.index).expect("a String grows");
    }
    line
}
