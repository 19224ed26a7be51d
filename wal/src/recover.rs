//! What a crash left: [`scan`] reads it, [`decide`] judges it by a table, [`report`] says what was
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
#![deny(clippy::indexing_slicing)]

use crate::disk::{Disk, Listed};
use crate::error::{Damage, OpenError, PrepareError};
use crate::format::{self, HeaderFault, Position, SegmentHeader, SegmentId};
use crate::index::{Index, Location};
use crate::scan::{self, Claim, Event, Place, SegmentScan};
use crate::segment::{self, Keep, Name, SPARES_MAX, Spare};

/// Everything the files say.
pub(crate) struct Scan {
    /// The segments that follow each other, oldest first.
    pub(crate) chain: Vec<SegmentScan>,
    /// The segments behind the end of the chain, by id.
    pub(crate) behind: Vec<SegmentScan>,
    /// What the chain contains.
    pub(crate) index: Index,
    pub(crate) hard_state: Option<Vec<u8>>,
    spares: Vec<Spare>,
    fills: Vec<String>,
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

    fn add(&mut self, mut segment: SegmentScan) {
        // Whether a segment continues the chain does not depend on what is behind it, which is not
        // known yet.
        let case = Case { place: self.place(), next: self.next(&segment), behind: Behind::Nothing };
        if self.behind.is_empty() && case.row().verdict == Verdict::Continue {
            self.apply(&mut segment);
            self.chain.push(segment);
        } else {
            segment.events = Vec::new();
            self.behind.push(segment);
        }
    }

    /// How a segment relates to the end of the chain. The first may follow anything: what was
    /// before it was trimmed.
    fn next(&self, segment: &SegmentScan) -> Next {
        match (segment.link, self.chain.last()) {
            (None, _) => Next::Unused,
            (Some(_), None) => Next::Follows,
            (Some(link), Some(last)) => {
                let follows = link.after == last.end_position()
                    && link.previous == last.crc
                    && link.last == last.last;
                if follows { Next::Follows } else { Next::Astray }
            }
        }
    }

    fn apply(&mut self, segment: &mut SegmentScan) {
        if let (Some(link), true) = (segment.link, self.chain.is_empty()) {
            self.index = Index::new(link.last);
        }
        for event in segment.events.drain(..) {
            match event {
                Event::Entry { index, offset, bytes } => {
                    let location = Location { segment: segment.header.id, offset, bytes };
                    // The scan has refused every gap within a segment, and the link every gap
                    // between two.
                    assert!(self.index.put(index, location), "invariant: a scanned run has no gap");
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
    /// A segment without a sound first write: prepared and never used, or its first write was torn.
    Unused,
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

const SOUND: Set<Place> = &[Place::Blank, Place::Leftover, Place::Unchained, Place::Torn];
const NOT_FOLLOWED: Set<Next> = &[Next::Absent, Next::Unused, Next::Astray];

/// The decision table. Every case is covered by exactly one row, which a test checks.
pub(crate) const TABLE: &[Row] = &[
    Row {
        place: &[Place::Contradiction],
        next: &[Next::Absent, Next::Unused, Next::Astray, Next::Follows],
        behind: &[Behind::Nothing, Behind::Within, Behind::Beyond],
        verdict: Verdict::Contradiction,
        why: "a sound, chained write is no accident of a crash; cutting it would lose its content",
    },
    Row {
        place: SOUND,
        next: &[Next::Follows],
        behind: &[Behind::Nothing, Behind::Within, Behind::Beyond],
        verdict: Verdict::Continue,
        why: "the next segment names this very place and checksum as its predecessor",
    },
    Row {
        place: SOUND,
        next: NOT_FOLLOWED,
        behind: &[Behind::Beyond],
        verdict: Verdict::Damaged,
        why: "a later write knew this place to be durable",
    },
    Row {
        place: &[Place::Blank, Place::Leftover],
        next: &[Next::Absent, Next::Unused],
        behind: &[Behind::Nothing],
        verdict: Verdict::End,
        why: "nothing of this time stands here or behind",
    },
    Row {
        place: &[Place::Blank, Place::Leftover],
        next: &[Next::Absent, Next::Unused],
        behind: &[Behind::Within],
        verdict: Verdict::Cut,
        why: "a write in flight was lost, one behind it was not; neither was acknowledged",
    },
    Row {
        place: &[Place::Torn],
        next: &[Next::Absent, Next::Unused],
        behind: &[Behind::Nothing, Behind::Within],
        verdict: Verdict::Cut,
        why: "a write in flight was torn; it was not acknowledged, nor anything behind it",
    },
    Row {
        place: &[Place::Unchained],
        next: &[Next::Absent, Next::Unused],
        behind: &[Behind::Within],
        verdict: Verdict::Cut,
        why: "its predecessor was in flight with it and is not what stands here now",
    },
    Row {
        place: SOUND,
        next: &[Next::Astray],
        behind: &[Behind::Within],
        verdict: Verdict::Cut,
        why: "the next segment was begun while the end of this one was still in flight",
    },
    Row {
        place: &[Place::Unchained],
        next: &[Next::Absent, Next::Unused],
        behind: &[Behind::Nothing],
        verdict: Verdict::Impossible,
        why: "the unchained write itself stands behind the end of the chain",
    },
    Row {
        place: SOUND,
        next: &[Next::Astray],
        behind: &[Behind::Nothing],
        verdict: Verdict::Impossible,
        why: "the writes of the astray segment stand behind the end of the chain",
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
        next: scan.behind.first().map_or(Next::Absent, |segment| scan.next(segment)),
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
pub(crate) async fn scan<D: Disk>(disk: &D) -> Result<Scan, OpenError> {
    let io = |action, file: String| move |source| OpenError::Io { action, file, source };
    let mut listed = disk.list().await.map_err(io("list", disk.path("")))?;
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    let mut scan = Scan {
        chain: Vec::new(),
        behind: Vec::new(),
        index: Index::new(0),
        hard_state: None,
        spares: Vec::new(),
        fills: Vec::new(),
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
                scan.spares.push(Spare { id, bytes: file.bytes });
            }
            Name::Fill => scan.fills.push(file.name),
            Name::Foreign => scan.foreign.push(file.name),
        }
    }
    Ok(scan)
}

fn scan_segment<D: Disk>(disk: &D, file: &Listed, id: SegmentId) -> Result<SegmentScan, OpenError> {
    let map = disk.map(&file.name, 0..file.bytes).map_err(|source| OpenError::Io {
        action: "read",
        file: disk.path(&file.name),
        source,
    })?;
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
    pub(crate) case: Case,
    claim: Option<Claim>,
}

/// Asks the table.
pub(crate) fn decide(scan: &Scan) -> Decision {
    let (case, claim) = case(scan);
    Decision { row: case.row(), case, claim }
}

/// The error a verdict amounts to, or the warnings an operator should see.
pub(crate) fn report<D: Disk>(
    disk: &D,
    scan: &Scan,
    decision: &Decision,
) -> Result<Vec<String>, OpenError> {
    let mut warnings = disk.warnings();
    match decision.row.verdict {
        Verdict::Continue | Verdict::End => {}
        Verdict::Cut => warnings.push(format!(
            "{}: cut at offset {}: found {}: {}",
            end_path(disk, scan),
            scan.end().offset,
            found(scan, decision),
            decision.row.why,
        )),
        Verdict::Damaged | Verdict::Contradiction | Verdict::Impossible => {
            let damage = Damage {
                file: end_path(disk, scan),
                offset: u64::from(scan.end().offset),
                found: found(scan, decision),
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

/// The file in which the chain ends, or that should have begun it.
fn end_path<D: Disk>(disk: &D, scan: &Scan) -> String {
    let segment = scan.chain.last().or(scan.behind.first());
    disk.path(&segment.map_or(String::new(), |segment| segment::segment_name(segment.id())))
}

fn found(scan: &Scan, decision: &Decision) -> String {
    let Some(tail) = scan.chain.last().or(scan.behind.first()) else {
        return "nothing".to_owned();
    };
    let mut found = format!("{} ({})", tail.place, tail.fault);
    let next = scan.behind.first().filter(|_| !scan.chain.is_empty());
    if let (Next::Astray, Some(segment), Some(link)) =
        (decision.case.next, next, next.and_then(|segment| segment.link))
    {
        found += &format!(
            ", and segment {} which follows checksum {:08x} at {} instead of {:08x} at {}",
            segment.id(),
            link.previous,
            link.after,
            tail.crc,
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
    pub(crate) spares: Vec<Spare>,
    /// The next id to give out.
    pub(crate) id_next: SegmentId,
}

/// Takes everything that is no part of the log out of its way, durably, before anything is
/// appended.
///
/// A segment behind the end of the chain must lose its name first: it holds writes with its id that
/// chain to writes which are no more. Under a new id they are leftovers like any other. The newest
/// goes first, so that a crash in between leaves what this same procedure finishes.
pub(crate) async fn repair<D: Disk>(
    disk: &D,
    scan: Scan,
    segment_bytes: u32,
) -> Result<Repaired, OpenError> {
    let Scan { chain, behind, index, hard_state, spares, fills, id_max, .. } = scan;
    let io = |error: PrepareError| OpenError::Io {
        action: error.action,
        file: error.file,
        source: error.source,
    };
    let remove = async |name: String| {
        let result = disk.remove(&name).await;
        result.map_err(|source| OpenError::Io { action: "remove", file: disk.path(&name), source })
    };
    let mut kept: Vec<Spare> = Vec::new();
    let fits =
        |bytes: u64, kept: &[Spare]| bytes == u64::from(segment_bytes) && kept.len() < SPARES_MAX;
    for name in fills {
        remove(name).await?;
    }
    for spare in spares {
        if fits(spare.bytes, &kept) {
            kept.push(spare);
        } else {
            remove(segment::spare_name(spare.id)).await?;
        }
    }
    for segment in behind.iter().rev() {
        let bytes = u64::from(segment.header.bytes);
        let keep = if fits(bytes, &kept) { Keep::AsSpare } else { Keep::No };
        segment::retire(disk, segment.id(), keep).await.map_err(io)?;
        if keep == Keep::AsSpare {
            kept.push(Spare { id: segment.id(), bytes });
        }
    }
    Ok(Repaired { chain, index, hard_state, spares: kept, id_next: id_after(id_max)? })
}

/// Ids come from file names, which anybody may have made up.
fn id_after(id: SegmentId) -> Result<SegmentId, OpenError> {
    let next = id.0.checked_add(1).map(SegmentId);
    next.ok_or_else(|| OpenError::Unusable(format!("segment {id}: there is no id after this one")))
}
