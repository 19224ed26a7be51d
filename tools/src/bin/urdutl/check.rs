//! `urdutl check`: is everything sound, and what is wrong where?
//!
//! Checkpoint and log are checked each by itself first, so that damage in one does not hide damage in the other; then
//! what the log makes of the checkpoint, in memory. What would read a page comes after all pages have been verified.

use crate::failure::Failure;
use crate::member::{Log, Member, Place, check_store, check_tree, replay};
use std::io::Write;
use urd::raft::replay::{decode_batch, for_each_entry};
use urd::store::Store;
use urd::tree::Stamp;
use urd::tree::checkpoint::Found;

/// Check checkpoint and log in full, and say what is wrong where
///
/// Verifies every page of the newest checkpoint and the tree that they are, the tables in it, every write of the log, and
/// that the log goes on where the checkpoint ends; then applies the log in memory and checks what comes of it. Takes as
/// long as the data is large.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
}

pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let member = Member::open(&args.place)?;
    let mut faults = Faults::default();
    let identity = faults.note(member.identity())?;
    if let Some(None) = identity {
        let directory = args.place.data_dir.display();
        faults.add(format!("{directory}: no identity.json, without which no server starts here"));
    }
    let checkpoint = faults.note(member.checkpoint())?;
    let log = faults.note(member.log())?;
    let stamp = checkpoint.as_ref().and_then(|found| found.checkpoint).map(|meta| meta.stamp);
    let store = match checkpoint {
        Some(found) => {
            describe_checkpoint(&found, out)?;
            faults.note(check_checkpoint(found))?
        }
        None => None,
    };
    if let Some(log) = &log {
        describe_log(log, out)?;
        let checked = check_entries(log, stamp.unwrap_or_default(), &mut faults);
        faults.note(checked)?;
    }
    // What is applied to something damaged says nothing.
    if faults.0.is_empty()
        && let (Some(mut store), Some(log)) = (store, log)
    {
        let replayed = replay(identity.flatten().as_ref(), &log, &mut store)
            .and_then(|()| check_store(&store));
        if faults.note(replayed)?.is_some() {
            let view = store.view();
            writeln!(out, "both: revision {}, {} live keys", view.revision(), view.live_keys())?;
        }
    }
    if !faults.0.is_empty() {
        return Err(Failure::Damaged(faults.0));
    }
    Ok(writeln!(out, "clean")?)
}

/// What was found to be wrong so far.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, fault: String) {
        self.0.push(fault);
    }

    /// Notes damage, so that the check goes on; what cannot be looked at ends it.
    fn note<T>(&mut self, result: Result<T, Failure>) -> Result<Option<T>, Failure> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Failure::Damaged(lines)) => {
                self.0.extend(lines);
                Ok(None)
            }
            Err(unusable) => Err(unusable),
        }
    }
}

fn describe_checkpoint(found: &Found, out: &mut impl Write) -> Result<(), Failure> {
    let Some(meta) = found.checkpoint else {
        return Ok(writeln!(out, "checkpoint: none")?);
    };
    let sizes = found.tree.statistics();
    let (number, pages) = (meta.number, sizes.pages - sizes.pages_free);
    let (index, records) = (meta.stamp.index, meta.records);
    Ok(writeln!(out, "checkpoint: {number} of entry {index}, {records} records, {pages} pages")?)
}

fn describe_log(log: &Log, out: &mut impl Write) -> Result<(), Failure> {
    let it = log.checked();
    let (first, last) = (it.first, it.last);
    Ok(writeln!(
        out,
        "log: entries {first} to {last}, {} writes, {} segments",
        it.writes, it.segments
    )?)
}

/// Checks every page of a checkpoint, the tree, the tables in it, and that its meta page says what they do.
fn check_checkpoint(found: Found) -> Result<Store, Failure> {
    let Found { tree, checkpoint, .. } = found;
    check_tree(&tree)?;
    let store = Store::open(tree)?;
    check_store(&store)?;
    let stamp = checkpoint.map(|meta| meta.stamp).unwrap_or_default();
    let applied = Stamp { index: store.applied(), term: store.term() };
    if applied != stamp {
        let said = format!("the checkpoint's meta page says {stamp:?}, its store {applied:?}");
        return Err(Failure::damaged(said));
    }
    Ok(store)
}

/// Reads and decodes every entry. Terms never fall, and the entry that the checkpoint ends with is of the term it says.
fn check_entries(log: &Log, stamp: Stamp, faults: &mut Faults) -> Result<(), Failure> {
    let entries = log.entries();
    let mut last_term = 0;
    for_each_entry(&entries, entries.first(), entries.last(), |entry| {
        let (index, term) = (entry.index, entry.term);
        if index == stamp.index.0 + 1 {
            last_term = last_term.max(stamp.term.0);
        }
        if term < last_term {
            faults.add(format!("entry {index}: term {term} after term {last_term}"));
        }
        if index == stamp.index.0 && term != stamp.term.0 {
            faults.add(format!(
                "entry {index}: term {term}, the checkpoint that ends with it says {}",
                stamp.term
            ));
        }
        last_term = term;
        faults.note(decode_batch(entry).map_err(Failure::from)).map(drop)
    })
}
