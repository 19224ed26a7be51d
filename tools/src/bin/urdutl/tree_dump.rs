//! `urdutl tree dump`: every version of every key that the checkpoint holds.

use crate::failure::Failure;
use crate::member::{Member, Place};
use crate::show;
use std::ffi::OsString;
use std::io::{self, Write};
use std::ops::ControlFlow;
use urd::store::{Version, for_each_version};

/// Print the store's numbers, then each version of each key, the newest of a key first
///
/// Of values only the lengths are printed, not what is in them. Versions that a compaction has yet to remove are printed
/// too.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Only keys that begin with this
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: OsString,
    /// Print each key once, deleted ones too, and nothing else
    #[arg(long)]
    keys_only: bool,
    /// Apply the log first, all of it, in memory
    #[arg(long)]
    replay: bool,
}

pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let member = Member::open(&args.place)?;
    let store = if args.replay { member.replayed()? } else { member.store()? };
    let view = store.view();
    if !args.keys_only {
        writeln!(
            out,
            "applied index {} term {}, revision {}, compacted {}, swept {}, {} live keys",
            view.applied(),
            view.term(),
            view.revision(),
            view.compacted(),
            view.swept(),
            view.live_keys()
        )?;
    }
    let mut last = None;
    let ended = for_each_version(&view, args.prefix.as_encoded_bytes(), |version| {
        let written = if !args.keys_only {
            write_version(&version, out)
        } else if last.as_ref() != Some(&version.key) {
            writeln!(out, "{}", show::key(&version.key))
        } else {
            Ok(())
        };
        last = Some(version.key);
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    });
    match ended {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error.into()),
    }
}

fn write_version(version: &Version<'_>, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{} mod={}.{}", show::key(&version.key), version.mod_revision, version.sub)?;
    match &version.value {
        None => writeln!(out, " deleted"),
        Some(it) => writeln!(
            out,
            " create={} version={} lease={:x} value={} bytes",
            it.create_revision,
            it.version,
            it.lease,
            it.value.len()
        ),
    }
}
