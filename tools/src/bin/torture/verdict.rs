//! The end: do all members hold the same, and was every promise kept?

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use glommio::timer::Timer;
use urd_proto::etcdserverpb::RangeRequest;
use urd_proto::mvccpb::Event;
use urd_tools::checkers::history::{Answer, Operation, Request, Response, Timeline};
use urd_tools::checkers::watching::Truth;
use urd_tools::checkers::{Violation, leases as lease_checker, linearizability, watching};

use crate::cluster::{Cluster, POLL_INTERVAL, SETTLE_TIMEOUT, name};
use crate::leases;
use crate::line::Line;
use crate::record::{Collected, Record};

/// The number of whoever reads at the end, as a client.
const CLIENT: u32 = 2_000;
/// How much of a value a written history has.
const SHOWN_BYTES: usize = 64;

/// Waits until nothing happens any more: all leases have ended, all members and the truth are at one revision. Then
/// compares the members' data.
pub(crate) async fn settle(cluster: &mut Cluster, record: &Arc<Record>) -> Result<(), String> {
    let mut line = Line::new(&cluster.endpoints, 0);
    wait_for_leases(&mut line, record).await?;
    let revision = read_everything(&mut line, record).await?;
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    while record.told() < revision {
        if Instant::now() >= deadline {
            return Err(format!("the truth stays at {}, read was {revision}", record.told()));
        }
        Timer::new(POLL_INTERVAL).await;
    }
    compare_hashes(cluster, revision).await
}

/// Nobody keeps a lease alive any more, so their keys go.
async fn wait_for_leases(line: &mut Line, record: &Record) -> Result<(), String> {
    let (key, range_end) = (leases::PREFIX.into(), leases::PREFIX_END.into());
    let range = RangeRequest { key, range_end, count_only: true, ..RangeRequest::default() };
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    loop {
        let answer = line.ask(record, CLIENT, Request::Range(range.clone())).await;
        if let Some(Answer::Done(Response::Range(response))) = &answer
            && response.count == 0
        {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(format!("leases do not end: {answer:?}"));
        }
        Timer::new(POLL_INTERVAL).await;
    }
}

/// A last look at all keys. Its revision.
async fn read_everything(line: &mut Line, record: &Record) -> Result<i64, String> {
    let all = Bytes::from_static(&[0]);
    let range = RangeRequest { key: all.clone(), range_end: all, ..RangeRequest::default() };
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    loop {
        match line.ask(record, CLIENT, Request::Range(range.clone())).await {
            Some(Answer::Done(response)) => return Ok(response.revision()),
            answer if Instant::now() >= deadline => {
                return Err(format!("no last read: {answer:?}"));
            }
            _ => {
                Timer::new(POLL_INTERVAL).await;
            }
        }
    }
}

/// HashKV of one revision, of all members.
async fn compare_hashes(cluster: &Cluster, revision: i64) -> Result<(), String> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    loop {
        let mut hashes = Vec::new();
        let mut missing = Vec::new();
        for nth in 0..cluster.members.len() {
            match cluster.hash(nth, revision).await {
                Ok(hash) => hashes.push((hash.compact_revision, hash.hash)),
                Err(error) => missing.push(format!("{}: {error}", name(nth))),
            }
        }
        // A member may be behind with a compaction, too.
        let comparable = hashes.iter().all(|(compacted, _)| *compacted == hashes[0].0);
        if missing.is_empty() && comparable {
            if hashes.iter().all(|hash| *hash == hashes[0]) {
                println!("all members have HashKV {:08x} at revision {revision}", hashes[0].1);
                return Ok(());
            }
            return Err(format!("members differ at {revision}: (compacted, hash) {hashes:?}"));
        }
        if Instant::now() >= deadline {
            return Err(format!("no hashes to compare: {hashes:?} {missing:?}"));
        }
        Timer::new(POLL_INTERVAL).await;
    }
}

/// All checkers. Writes the history to a file if one objects.
pub(crate) fn judge(mut collected: Collected, seed: u64) -> Result<(), String> {
    let begun = Instant::now();
    match check(&collected) {
        Ok(text) => {
            println!("{text}; checked in {:.1} s", begun.elapsed().as_secs_f64());
            Ok(())
        }
        Err(violation) => {
            // Said at once: the history may be long.
            println!("WRONG: {violation}");
            let file = format!("torture-{seed}.history");
            let written = write_out(&file, &mut collected, &violation);
            let written = match written {
                Ok(()) => format!("the history stands in {file}"),
                Err(error) => format!("the history could not be written to {file}: {error}"),
            };
            Err(format!("{violation}\n{written}"))
        }
    }
}

fn check(collected: &Collected) -> Result<String, Violation> {
    let timeline = Timeline::of_events(collected.truth.iter().cloned())?;
    let summary = linearizability::check(&collected.operations, &timeline)?;
    let compactions = collected.operations.iter().filter_map(|operation| match operation.request {
        Request::Compaction(compaction) => Some(compaction.revision),
        _ => None,
    });
    let truth = Truth::new(&timeline, compactions.max().unwrap_or(0));
    watching::check(&collected.watches, &truth)?;
    let seen = collected.seen();
    lease_checker::check(&collected.leases, &timeline, |revision| seen.get(&revision).copied())?;
    let faults = collected.faults.len();
    let watched = collected.watches.iter().flat_map(|watch| &watch.responses);
    let watched: usize = watched.map(|(_, response)| response.events.len()).sum();
    Ok(format!(
        "right: {} revisions, {summary:?}, {} watch streams with {watched} events, {} leases, {faults} notes of faults",
        timeline.last(),
        collected.watches.len(),
        collected.leases.len(),
    ))
}

fn write_out(file: &str, collected: &mut Collected, violation: &Violation) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    writeln!(out, "{violation}\n\nFaults:")?;
    for (at, fault) in &collected.faults {
        writeln!(out, "{:.3} ms: {fault}", *at as f64 / 1e6)?;
    }
    writeln!(out, "\nOperations:")?;
    for (nth, operation) in collected.operations.iter_mut().enumerate() {
        shorten(operation);
        let (request, answer) = (&operation.request, &operation.answer);
        writeln!(out, "{nth}: {operation}\n    {request:?}\n    {answer:?}")?;
    }
    writeln!(out, "\nEvents:")?;
    for event in &mut collected.truth {
        shorten_event(event);
        writeln!(out, "{event:?}")?;
    }
    writeln!(out, "\nWatches:")?;
    for watch in &mut collected.watches {
        let responses = watch.responses.iter_mut();
        responses.flat_map(|(_, response)| &mut response.events).for_each(shorten_event);
        writeln!(out, "{watch:?}")?;
    }
    writeln!(out, "\nLeases:")?;
    for lease in &collected.leases {
        writeln!(out, "{lease:?}")?;
    }
    out.flush()
}

/// Cuts large values: their beginnings are enough to know them by.
fn shorten(operation: &mut Operation) {
    if let Request::Put(put) = &mut operation.request {
        put.value.truncate(SHOWN_BYTES);
    }
    if let Answer::Done(response) = &mut operation.answer {
        response.for_each_key_value(&mut |kv| kv.value.truncate(SHOWN_BYTES));
    }
}

fn shorten_event(event: &mut Event) {
    event.kv.iter_mut().chain(&mut event.prev_kv).for_each(|kv| kv.value.truncate(SHOWN_BYTES));
}
