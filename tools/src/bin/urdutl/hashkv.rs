//! `urdutl hashkv`: the hash by which members compare their data, as the server would answer it.

use crate::failure::Failure;
use crate::member::{Member, Place, check_store};
use crate::output::{self, Format};
use serde::Serialize;
use std::io::Write;

/// Print HashKV of checkpoint and log, as a server answers it after its start
///
/// All that is durable in the log counts as applied, which it is for a member that is alone.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Hash up to this revision; 0 means the newest
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    rev: i64,
    /// Leave the log alone: the hash of the checkpoint
    #[arg(long)]
    checkpoint_only: bool,
    /// How it is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "simple")]
    write_out: Format,
}

/// Named as etcd's JSON names them.
#[derive(Debug, Serialize)]
struct Hash {
    hash: u32,
    hash_revision: i64,
    compact_revision: i64,
}

pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let member = Member::open(&args.place)?;
    let store = if args.checkpoint_only { member.store()? } else { member.replayed()? };
    check_store(&store)?;
    let found = store.view().hash_kv(args.rev)?;
    let hash = Hash {
        hash: found.hash,
        hash_revision: found.revision,
        compact_revision: found.compact_revision,
    };
    Ok(output::print(&hash, args.write_out, out)?)
}
