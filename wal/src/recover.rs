//! What a crash left: [`scan`](mod@crate::scan) reads it, [`decide`] judges it by a table, [`report`] says what was
//! judged, [`repair`] puts the directory in order. Each does only its own part; nothing is written
//! before everything has been judged.
//!
//! # The principle
//!
//! The log is the longest sequence of sound writes, each chained to its predecessor. Where it stops
//! there is either the end of the log or damage, and the bytes at that place cannot say which: a
//! write torn by a power cut and a write damaged afterwards look alike. What can say is a *later*
//! write. Each names the position up to which the log was durable when it was encoded. If any write
//! behind the place claims durability beyond it, then what stood there was durable once and is
//! gone: **damage**, and the log does not open. If none does, nothing that was ever acknowledged
//! can be missing: the log is **cut** there.
//!
//! *What this cannot detect*: damage to writes that no later write vouches for, which are those
//! acknowledged after the last surviving write was encoded: one write, or as many as were in flight
//! together. [`Log::close`](crate::Log::close) and every opening append a write that vouches for
//! all before it, so after an orderly stop, or once the log has been opened again, nothing of that
//! kind remains.
//!
//! The bytes are foreign: no slice is indexed here.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::disk::{Disk, File, Listed, ReadDisk};
use crate::error::{Damage, OpenError, PrepareError};
use crate::format::{self, HeaderFault, Position, SegmentHeader, SegmentId};
use crate::index::{Index, Location};
use crate::scan::{self, Claim, Event, Place, SegmentScan};
use crate::segment::{self, Keep, Name};

/// Everything the files say.
pub(crate) struct Scan {
    /// The segments that follow each other, oldest first.
    pub(crate) chain: Vec<SegmentScan>,
    /// The segments behind the end of the chain that hold writes, by id, and how the first of them
    /// relates to it.
    pub(crate) behind: Vec<SegmentScan>,
    pub(crate) next: Next,
    /// What the chain contains.
    pub(crate) index: Index,
    pub(crate) hard_state: Option<Vec<u8>>,
    /// Files of ours that are no part of the log.
    unused: Vec<String>,
    foreign: Vec<String>,
    /// The highest id that any file may contain.
    id_max: SegmentId,
}

impl Scan {
    /// Where the chain ends. The origin stands before the first segment.
    pub(crate) fn end(&self) -> Position {
        self.chain.last().map_or(Position::default(), SegmentScan::end_position)
    }

    /// What stands where the chain ends. Before the first segment nothing can.
    fn place(&self) -> Place {
        self.chain.last().map_or(Place::Blank, |tail| tail.place)
    }

    /// Takes the next segment in. Whether it continues the chain does not depend on what is behind
    /// it, which is not known yet; where the one before it ends may depend on it.
    fn add(&mut self, mut segment: SegmentScan) {
        let next = self.next(&segment);
        let case = Case { place: self.place(), next, behind: Behind::Nothing };
        if next == Next::Absent {
            self.unused.push(segment::segment_name(segment.id()));
        } else if self.behind.is_empty() && case.row().verdict == Verdict::Continue {
            self.apply();
            self.chain.push(segment);
        } else {
            if self.behind.is_empty() {
                self.next = next;
            }
            segment.events = Vec::new();
            self.behind.push(segment);
        }
    }

    /// How a segment relates to the end of the chain. The first may follow anything: what was
    /// before it was trimmed. One without a single write is as good as not there: it was prepared
    /// and never used, and ids need not be consecutive.
    fn next(&mut self, segment: &SegmentScan) -> Next {
        let Some(link) = segment.link else {
            return if segment.claim_behind.is_some() { Next::Headless } else { Next::Absent };
        };
        match self.chain.last_mut() {
            None => Next::Follows,
            Some(last) => {
                if last.end_at(link) {
                    Next::Follows
                } else {
                    Next::Astray
                }
            }
        }
    }

    /// Applies what the last segment of the chain says happened, now that it is known where it
    /// ends.
    fn apply(&mut self) {
        let first = self.chain.len() == 1;
        let Some(segment) = self.chain.last_mut() else {
            return;
        };
        if let (Some(link), true) = (segment.link, first) {
            self.index = Index::new(link.last);
        }
        for event in std::mem::take(&mut segment.events) {
            match event {
                Event::Entry { index, offset, bytes } => {
                    segment.highest = segment.highest.max(index);
                    let location = Location { segment: segment.header.id, offset, bytes };
                    // The scan has refused every gap within a segment, the link each between two.
                    assert!(self.index.put(index, location), "invariant: a run has no gap");
                }
                Event::Restart { base } => self.index.restart(base),
                Event::HardState(state) => self.hard_state = Some(state),
            }
        }
    }
}

/// What there is behind the last segment of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Absent,
    /// A segment that holds writes, but not its first.
    Headless,
    /// A segment that continues exactly here.
    Follows,
    /// A segment with writes that continue something else.
    Astray,
}

/// What the writes behind the end of the chain claim, wherever they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// There are none.
    Nothing,
    /// There are, but none claims that the log was durable beyond the end of the chain.
    Within,
    /// One does.
    Beyond,
}

/// What is to be done about the place where a segment's run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The log continues in the next segment.
    Continue,
    /// The log ends here as it should.
    End,
    /// The log ends here, and what stands behind was never acknowledged: drop it, and say so.
    Cut,
    /// Something acknowledged is missing: do not open.
    Damaged,
    /// The log says something it cannot have said: do not open.
    Contradiction,
    /// No files can lead here; a fault in this code.
    Impossible,
}

/// A set of values, so that a row can stand for several cases.
type Set<T> = &'static [T];

/// One row: which cases it covers, what is done, why that is right.
pub(crate) struct Row {
    pub(crate) place: Set<Place>,
    pub(crate) next: Set<Next>,
    pub(crate) behind: Set<Behind>,
    pub(crate) verdict: Verdict,
    pub(crate) why: &'static str,
}

/// What a crash can leave where the next write would stand.
const EXPLICABLE: Set<Place> = &[Place::Blank, Place::Leftover, Place::Torn];
/// The decision table. Every case is covered by exactly one row, which a test checks.
pub(crate) const TABLE: &[Row] = &[
    Row {
        place: &[Place::Contradiction],
        next: &[Next::Absent, Next::Headless, Next::Follows, Next::Astray],
        behind: &[Behind::Nothing, Behind::Within, Behind::Beyond],
        verdict: Verdict::Contradiction,
        why: "no crash leaves a sound write in the wrong place, or one that says what cannot be",
    },
    Row {
        place: EXPLICABLE,
        next: &[Next::Follows],
        behind: &[Behind::Nothing, Behind::Within, Behind::Beyond],
        verdict: Verdict::Continue,
        why: "the next segment names this very place and checksum as its predecessor",
    },
    Row {
        place: EXPLICABLE,
        next: &[Next::Absent, Next::Headless, Next::Astray],
        behind: &[Behind::Beyond],
        verdict: Verdict::Damaged,
        why: "a later write knew this place to be durable",
    },
    Row {
        place: &[Place::Blank, Place::Leftover],
        next: &[Next::Absent],
        behind: &[Behind::Nothing],
        verdict: Verdict::End,
        why: "nothing of this segment stands here, and nothing of the log behind",
    },
    Row {
        place: &[Place::Blank, Place::Leftover],
        next: &[Next::Absent],
        behind: &[Behind::Within],
        verdict: Verdict::Cut,
        why: "a write in flight was lost, one behind it was not; neither was acknowledged",
    },
    Row {
        place: &[Place::Torn],
        next: &[Next::Absent],
        behind: &[Behind::Nothing, Behind::Within],
        verdict: Verdict::Cut,
        why: "a write in flight was torn; it was not acknowledged, nor anything behind it",
    },
    Row {
        place: EXPLICABLE,
        next: &[Next::Headless, Next::Astray],
        behind: &[Behind::Within],
        verdict: Verdict::Cut,
        why: "the next segment was begun while a write before it was in flight, which was lost",
    },
    Row {
        place: EXPLICABLE,
        next: &[Next::Headless, Next::Astray],
        behind: &[Behind::Nothing],
        verdict: Verdict::Impossible,
        why: "the next segment's own writes stand behind the end of the chain",
    },
];

/// What the table is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) place: Place,
    pub(crate) next: Next,
    pub(crate) behind: Behind,
}

impl Row {
    pub(crate) fn covers(&self, case: Case) -> bool {
        self.place.contains(&case.place)
            && self.next.contains(&case.next)
            && self.behind.contains(&case.behind)
    }
}

impl Case {
    pub(crate) fn row(self) -> &'static Row {
        let row = TABLE.iter().find(|row| row.covers(self));
        row.expect("invariant: the table covers every case, as its test has enumerated")
    }
}

/// The case at the end of the chain.
pub(crate) fn case(scan: &Scan) -> (Case, Option<Claim>) {
    let end = scan.end();
    let tail = scan.chain.last();
    let rest = tail.and_then(|tail| tail.claim_behind);
    let later = scan.behind.iter().flat_map(|segment| [segment.claim_run, segment.claim_behind]);
    let claim = later.flatten().chain(rest).max();
    let case = Case {
        place: scan.place(),
        next: scan.next,
        behind: match claim {
            None => Behind::Nothing,
            Some(claim) if claim.durable > end => Behind::Beyond,
            Some(_) => Behind::Within,
        },
    };
    (case, claim)
}

/// Reads all files. Fails on what no crash can explain without looking any further: an unreadable
/// file, a segment whose header, durable before its first frame, is not a header of ours.
pub(crate) async fn scan<D: ReadDisk>(disk: &D) -> Result<Scan, OpenError> {
    let listed = disk.list().await;
    let mut listed = listed.map_err(|source| io_error(disk, "list", "", source))?;
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    let mut scan = Scan {
        chain: Vec::new(),
        behind: Vec::new(),
        next: Next::Absent,
        index: Index::new(0),
        hard_state: None,
        unused: Vec::new(),
        foreign: Vec::new(),
        id_max: SegmentId(0),
    };
    // The names of segments sort as their ids do.
    for file in listed {
        match Name::parse(&file.name) {
            Name::Segment(id) => {
                scan.id_max = scan.id_max.max(id);
                scan.add(scan_segment(disk, &file, id)?);
            }
            Name::Spare(id) => {
                scan.id_max = scan.id_max.max(id);
                scan.unused.push(file.name);
            }
            Name::Fill => scan.unused.push(file.name),
            Name::Foreign => scan.foreign.push(file.name),
        }
    }
    // Nothing follows the last segment, so it ends where it ends.
    scan.apply();
    Ok(scan)
}

fn scan_segment<D: ReadDisk>(
    disk: &D,
    file: &Listed,
    id: SegmentId,
) -> Result<SegmentScan, OpenError> {
    let map = disk.map(&file.name, 0..file.bytes);
    let map = map.map_err(|source| io_error(disk, "read", &file.name, source))?;
    let header = SegmentHeader::decode(map.as_ref())
        .map_err(|fault| header_error(disk.path(&file.name), fault))?;
    let damage = |offset: usize, found: String, expected: String| Damage {
        file: disk.path(&file.name),
        offset: offset as u64,
        found,
        expected,
    };
    if header.id != id {
        let (found, expected) =
            (format!("segment id {}", header.id), format!("{id}, as the file's name says"));
        return Err(damage(format::segment_header::ID, found, expected).into());
    }
    if u64::from(header.bytes) != file.bytes {
        let found = format!("a file of {} bytes", file.bytes);
        let expected = format!("{}, as its header says", header.bytes);
        return Err(damage(format::segment_header::BYTES, found, expected).into());
    }
    Ok(scan::scan(map.as_ref(), header))
}

/// Names what is wrong with a header, and what would be right.
fn header_error(file: String, fault: HeaderFault) -> OpenError {
    let (offset, found, expected) = match fault {
        HeaderFault::Version { found } => {
            return OpenError::Version { file, found, supported: format::VERSION };
        }
        HeaderFault::Short { have } => {
            (0, format!("{have} bytes"), format!("a header of {}", format::SEGMENT_HEADER_BYTES))
        }
        HeaderFault::Magic { found } => (
            format::segment_header::MAGIC,
            format!("\"{}\"", found.escape_ascii()),
            format!("\"{}\", which every segment begins with", format::MAGIC.escape_ascii()),
        ),
        HeaderFault::Checksum { found, computed } => (
            format::segment_header::CRC,
            format!("checksum {found:08x}"),
            format!("{computed:08x}, as computed over the header"),
        ),
        HeaderFault::Block { found } => (
            format::segment_header::BLOCK,
            format!("blocks of {found} bytes"),
            format!(
                "a power of two from {} to {}",
                format::BLOCK_BYTES_MIN,
                format::BLOCK_BYTES_MAX
            ),
        ),
        HeaderFault::Bytes { found } => (
            format::segment_header::BYTES,
            format!("a segment of {found} bytes"),
            "whole blocks, and room for a write".to_owned(),
        ),
    };
    Damage { file, offset: offset as u64, found, expected }.into()
}

/// What was judged, and everything needed to say it.
pub(crate) struct Decision {
    pub(crate) row: &'static Row,
    claim: Option<Claim>,
}

/// Asks the table.
pub(crate) fn decide(scan: &Scan) -> Decision {
    let (case, claim) = case(scan);
    Decision { row: case.row(), claim }
}

/// The error a verdict amounts to, or the warnings an operator should see.
pub(crate) fn report<D: ReadDisk>(
    disk: &D,
    scan: &Scan,
    decision: &Decision,
) -> Result<Vec<String>, OpenError> {
    let mut warnings = Vec::new();
    match decision.row.verdict {
        Verdict::Continue | Verdict::End => {}
        Verdict::Cut => warnings.push(format!(
            "{}: cut at offset {}: found {}: {}",
            end_path(disk, scan),
            end_offset(scan),
            found(scan),
            decision.row.why,
        )),
        Verdict::Damaged | Verdict::Contradiction | Verdict::Impossible => {
            let damage = Damage {
                file: end_path(disk, scan),
                offset: end_offset(scan),
                found: found(scan),
                expected: expected(decision),
            };
            return Err(damage.into());
        }
    }
    for name in &scan.foreign {
        warnings.push(format!("{}: not a file of the log, left alone", disk.path(name)));
    }
    Ok(warnings)
}

/// The segment in which the chain ends; or the next, when that holds writes but not its first: then
/// the flaw is there.
fn place_of(scan: &Scan) -> Option<&SegmentScan> {
    let next = scan.behind.first();
    let headless = next.filter(|_| scan.next == Next::Headless);
    headless.or(scan.chain.last()).or(next)
}

fn end_path<D: ReadDisk>(disk: &D, scan: &Scan) -> String {
    let name = place_of(scan).map(|segment| segment::segment_name(segment.id()));
    disk.path(&name.unwrap_or_default())
}

fn end_offset(scan: &Scan) -> u64 {
    place_of(scan).map_or(0, |segment| u64::from(segment.end()))
}

fn found(scan: &Scan) -> String {
    let Some(tail) = place_of(scan) else {
        return "nothing".to_owned();
    };
    let mut found = format!("{} ({})", tail.place, tail.fault);
    let astray = scan.behind.iter().filter(|_| !scan.chain.is_empty());
    if let Some((id, link)) = astray.filter_map(|other| Some((other.id(), other.link?))).next() {
        found += &format!(
            ", and segment {id} which follows checksum {:08x} at {} instead of {:08x} at {}",
            link.previous,
            link.after,
            tail.crc(),
            tail.end_position(),
        );
    }
    found
}

fn expected(decision: &Decision) -> String {
    match (decision.row.verdict, decision.claim) {
        (Verdict::Damaged, Some(claim)) => format!(
            "a write: the one at {} was made when the log was durable up to {}",
            claim.at, claim.durable
        ),
        _ => "a write that continues the log".to_owned(),
    }
}

/// What a running log starts from.
pub(crate) struct Repaired {
    pub(crate) chain: Vec<SegmentScan>,
    pub(crate) index: Index,
    pub(crate) hard_state: Option<Vec<u8>>,
    /// The next id to give out.
    pub(crate) id_next: SegmentId,
}

/// Makes what was found durable, and takes everything that is no part of the log out of its way,
/// before anything is appended. Writes to no file: an earlier process may have died with writes on
/// their way to the disk, and they may arrive yet. What it might still write to is left as it is if
/// it belongs to the log, and removed if not, where a late write does no harm.
///
/// 1. Contents. After a crash of the process alone, a write that had reached the device's cache is
///    read like any other, and a power cut may still take it away. All before the furthest claim is
///    durable; the segments from there on are synced.
/// 2. The segments behind the end of the chain, durably, and unused files. Only then may a segment
///    be made, because two that follow the same one must never exist. To make it syncs the
///    directory, and with it every name that was seen here and not yet durable.
pub(crate) async fn repair<D: Disk>(disk: &D, scan: Scan) -> Result<Repaired, OpenError> {
    let id_next = id_after(scan.id_max)?;
    let durable = scan.chain.iter().filter_map(|segment| segment.claim_run).max();
    let durable = durable.map_or(SegmentId(0), |claim| claim.durable.segment);
    for segment in scan.chain.iter().filter(|segment| segment.id() >= durable) {
        settle(disk, &segment::segment_name(segment.id())).await?;
    }
    for segment in &scan.behind {
        let retired = segment::retire(disk, segment.id(), Keep::No).await;
        retired.map_err(|PrepareError { action, file, source }| OpenError::Io {
            action,
            file,
            source,
        })?;
    }
    for name in &scan.unused {
        let removed = disk.remove(name).await;
        removed.map_err(|source| io_error(disk, "remove", name, source))?;
    }
    let Scan { chain, index, hard_state, .. } = scan;
    Ok(Repaired { chain, index, hard_state, id_next })
}

/// Makes what a file was read to contain durable.
async fn settle<D: Disk>(disk: &D, name: &str) -> Result<(), OpenError> {
    let file = disk.open(name).await;
    let file = file.map_err(|source| io_error(disk, "open", name, source))?;
    let synced = file.sync().await;
    let closed = file.close().await;
    synced.and(closed).map_err(|source| io_error(disk, "sync", name, source))
}

fn io_error<D: ReadDisk>(
    disk: &D,
    action: &'static str,
    name: &str,
    source: std::io::Error,
) -> OpenError {
    OpenError::Io { action, file: disk.path(name), source }
}

/// Ids come from file names, which anybody may have made up, and are counted on from.
fn id_after(id: SegmentId) -> Result<SegmentId, OpenError> {
    if id.0 > format::NUMBER_MAX {
        return Err(OpenError::Unusable(format!("segment {id}: no log comes to such an id")));
    }
    Ok(SegmentId(id.0 + 1))
}
