//! `urdutl wal dump`: the log's entries, readable.

use crate::failure::Failure;
use crate::member::{Member, Place};
use crate::show;
use std::io::Write;
use urd::ids::MemberId;
use urd::raft::entry::decode_hard_state;
use urd::raft::replay;

/// Print the log: the hard state, then each entry with its index, its term and its requests
///
/// Of values only the lengths are printed, not what is in them. Entries from before the checkpoint that are still there
/// are printed too.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Begin with this entry, or the first one behind it that is there
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from: u64,
    /// End with this entry [default: the last]
    #[arg(long, value_name = "INDEX")]
    to: Option<u64>,
}

pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let log = Member::open(&args.place)?.log()?;
    match log.hard_state() {
        Some(bytes) => {
            let state = decode_hard_state(bytes).map_err(Failure::damaged)?;
            let vote = MemberId(state.vote);
            writeln!(out, "hard state: term {}, vote {vote}, commit {}", state.term, state.commit)?;
        }
        None => writeln!(out, "hard state: none")?,
    }
    let entries = log.entries();
    let last = args.to.map_or(entries.last(), |to| to.min(entries.last()));
    let mut faults = Vec::new();
    replay::for_each_entry(&entries, args.from.max(entries.first()), last, |entry| {
        write!(out, "entry {} term {}: ", entry.index, entry.term)?;
        match replay::decode_batch(entry) {
            Ok(batch) => {
                writeln!(out, "{} requests", batch.len())?;
                for command in batch.commands() {
                    writeln!(out, "  {}", show::command(command))?;
                }
            }
            Err(fault) => {
                writeln!(out, "not readable")?;
                faults.push(fault.to_string());
            }
        }
        Ok::<_, Failure>(())
    })?;
    if faults.is_empty() { Ok(()) } else { Err(Failure::Damaged(faults)) }
}
