//! `urdutl status`: what checkpoint and log say of themselves.

use crate::failure::Failure;
use crate::member::{Log, Member, Place};
use crate::output::{self, Format};
use serde::Serialize;
use std::io::Write;
use urd::ids::{ClusterId, MemberId};
use urd::raft::entry::decode_hard_state;
use urd::server::data_dir::StoredIdentity;
use urd::store::{Store, View};
use urd::tree::checkpoint::Found;

/// Print what checkpoint and log say of themselves; without a look at all pages
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// How it is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "simple")]
    write_out: Format,
}

pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let member = Member::open(&args.place)?;
    let identity = member.identity()?.as_ref().map(Identity::of);
    let found = member.checkpoint()?;
    let checkpoint = Checkpoint::of(&found);
    // To count live keys begins with a look at the first one.
    let first = found.tree.verify_path(&[]);
    first.map_err(|damage| Failure::damaged(found.tree.describe(&damage)))?;
    let store = StoreNumbers::of(&Store::open(found.tree)?.view());
    let log = LogNumbers::of(&member.log()?)?;
    let status = Status { identity, checkpoint, store, log };
    Ok(output::print(&status, args.write_out, out)?)
}

#[derive(Debug, Serialize)]
struct Status {
    /// Missing where no member was ever started.
    identity: Option<Identity>,
    /// Missing before the first.
    checkpoint: Option<Checkpoint>,
    /// As of the checkpoint; what the log has beyond it is not applied.
    store: StoreNumbers,
    log: LogNumbers,
}

/// Ids as they are printed everywhere: hexadecimal.
#[derive(Debug, Serialize)]
struct Identity {
    cluster_id: String,
    member_id: String,
    /// Of a cluster that the member joined, none.
    first_members: Vec<String>,
}

impl Identity {
    fn of(stored: &StoredIdentity) -> Identity {
        Identity {
            cluster_id: ClusterId(stored.cluster_id).to_string(),
            member_id: MemberId(stored.member_id).to_string(),
            first_members: stored
                .first_members
                .iter()
                .map(|member| MemberId(member.id).to_string())
                .collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Checkpoint {
    number: u64,
    /// The tree's publication that was made durable.
    publication: u64,
    applied_index: u64,
    applied_term: u64,
    /// The root page; at this number times 4096 in the file.
    root: u64,
    depth: u64,
    records: u64,
    /// Pages there is room for, and those not in use.
    pages: u64,
    pages_free: u64,
    /// Length of the file, which grows ahead.
    bytes: u64,
    bytes_in_use: u64,
}

impl Checkpoint {
    fn of(found: &Found) -> Option<Checkpoint> {
        let meta = found.checkpoint?;
        let sizes = found.tree.statistics();
        Some(Checkpoint {
            number: meta.number,
            publication: meta.version,
            applied_index: meta.stamp.index.0,
            applied_term: meta.stamp.term.0,
            root: meta.root.0,
            depth: meta.depth,
            records: meta.records,
            pages: sizes.pages,
            pages_free: sizes.pages_free,
            bytes: found.bytes,
            bytes_in_use: sizes.bytes_in_use,
        })
    }
}

#[derive(Debug, Serialize)]
struct StoreNumbers {
    revision: i64,
    /// -1 before the first compaction.
    compacted_revision: i64,
    live_keys: u64,
}

impl StoreNumbers {
    fn of(view: &View) -> StoreNumbers {
        StoreNumbers {
            revision: view.revision().0,
            compacted_revision: view.compacted().0,
            live_keys: view.live_keys(),
        }
    }
}

#[derive(Debug, Serialize)]
struct LogNumbers {
    first_index: u64,
    /// One less than the first where there are no entries.
    last_index: u64,
    segments: usize,
    /// Size of the segments.
    bytes: u64,
    hard_state: Option<HardState>,
}

#[derive(Debug, Serialize)]
struct HardState {
    term: u64,
    vote: String,
    commit: u64,
}

impl LogNumbers {
    fn of(log: &Log) -> Result<LogNumbers, Failure> {
        let checked = log.checked();
        let hard_state = match log.hard_state() {
            Some(bytes) => {
                let state = decode_hard_state(bytes).map_err(Failure::damaged)?;
                let vote = MemberId(state.vote).to_string();
                Some(HardState { term: state.term, vote, commit: state.commit })
            }
            None => None,
        };
        Ok(LogNumbers {
            first_index: checked.first,
            last_index: checked.last,
            segments: checked.segments,
            bytes: log.bytes(),
            hard_state,
        })
    }
}
