//! Each promise of etcd's Watch, by itself, over what watchers were told.
//!
//! | promise | in words |
//! |---|---|
//! | [`ordered`] | events come in the order of revisions |
//! | [`unique`] | none comes twice |
//! | [`atomic`] | all of a revision come in one response, unless fragments were asked for |
//! | [`reliable`] | within what was delivered nothing is missing |
//! | [`resumable`] | a watch from N begins with the first matching event at N or later |
//! | [`bookmarkable`] | at a progress notification of R all up to R was delivered, and nothing up to R comes later |
//! | [`filtered`] | only keys of the range come, and no kind of event that was filtered out |
//! | [`prev_kv_right`] | the key-value before comes if asked for, and is the right one |
//! | [`is_create_right`] | what an event says of its key is true: value, version, and whether it is new |

use std::collections::BTreeMap;

use bytes::Bytes;
use urd_proto::etcdserverpb::WatchResponse;
use urd_proto::etcdserverpb::watch_create_request::FilterType;
use urd_proto::mvccpb::Event;
use urd_proto::mvccpb::event::EventType;

use super::Violation;
use super::execute::State;
use super::history::{Timeline, in_range, key_of, revision_of, shown, shown_range};
use super::model::Model;

/// What one watcher asked for and was told, on one stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchRecord {
    pub key: Bytes,
    pub range_end: Bytes,
    /// As it was asked for; 0: from what comes next.
    pub start_revision: i64,
    pub prev_kv: bool,
    pub filters: Vec<FilterType>,
    pub progress_notify: bool,
    pub fragment: bool,
    /// With the times at which they came.
    pub responses: Vec<(u64, WatchResponse)>,
    /// The revision up to which a stream before this one had delivered, if this one goes on there.
    pub resumed_from: Option<i64>,
}

/// What really happened, ready to be asked.
#[derive(Debug)]
pub struct Truth<'a> {
    timeline: &'a Timeline,
    model: Model,
    /// The highest revision that anybody asked to compact to. What was before an event is not told where it was compacted.
    compacted: i64,
}

impl<'a> Truth<'a> {
    /// `compacted`: the highest revision that anybody asked to compact to, or 0.
    pub fn new(timeline: &'a Timeline, compacted: i64) -> Truth<'a> {
        Truth { timeline, model: Model::of(timeline), compacted }
    }
}

impl WatchRecord {
    /// Nothing before this revision is for this watcher.
    fn start(&self) -> i64 {
        if self.start_revision > 0 {
            return self.start_revision;
        }
        let created = self.responses.iter().find(|(_, response)| response.created);
        created.map_or(1, |(_, response)| header_revision(response) + 1)
    }

    fn events(&self) -> impl Iterator<Item = &Event> {
        self.responses.iter().flat_map(|(_, response)| &response.events)
    }

    fn wants(&self, event: &Event) -> bool {
        let filter = match event.r#type() {
            EventType::Put => FilterType::Noput,
            EventType::Delete => FilterType::Nodelete,
        };
        in_range(key_of(event), &self.key, &self.range_end) && !self.filters.contains(&filter)
    }

    /// What it should be told from its start up to `last`.
    fn expected<'t>(
        &'t self,
        timeline: &'t Timeline,
        last: i64,
    ) -> impl Iterator<Item = &'t Event> {
        let revisions = timeline.since(self.start()).take_while(move |(at, _)| *at <= last);
        revisions.flat_map(|(_, events)| events).filter(|event| self.wants(event))
    }

    fn accuse(&self, what: impl Into<String>) -> Violation {
        let range = shown_range(&self.key, &self.range_end);
        let start = self.start_revision;
        Violation::new(format!("watch of {range} from {start}: {}", what.into()))
    }
}

fn header_revision(response: &WatchResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}

fn is_progress(response: &WatchResponse) -> bool {
    response.events.is_empty() && !response.created && !response.canceled
}

/// An event as texts show it.
fn named(event: &Event) -> String {
    let kind = if event.r#type() == EventType::Put { "put" } else { "delete" };
    format!("{kind} of {} at {}", shown(key_of(event)), revision_of(event))
}

/// All promises, of all watchers.
pub fn check<'r>(
    records: impl IntoIterator<Item = &'r WatchRecord>,
    truth: &Truth<'_>,
) -> Result<(), Violation> {
    for record in records {
        ordered(record)?;
        unique(record, truth)?;
        atomic(record)?;
        filtered(record)?;
        resumable(record, truth)?;
        reliable(record, truth)?;
        bookmarkable(record, truth)?;
        prev_kv_right(record, truth)?;
        is_create_right(record, truth)?;
    }
    Ok(())
}

/// See the module's documentation.
pub fn ordered(record: &WatchRecord) -> Result<(), Violation> {
    let mut last = 0;
    for event in record.events() {
        let revision = revision_of(event);
        if revision < last {
            return Err(record.accuse(format!("out of order: {} after {last}", named(event))));
        }
        last = revision;
    }
    for (_, response) in &record.responses {
        let newest = response.events.last().map_or(0, revision_of);
        let header = header_revision(response);
        if newest > header {
            return Err(record.accuse(format!("an event at {newest} under a header of {header}")));
        }
    }
    Ok(())
}

/// See the module's documentation. A key may change twice in one transaction, and then does in the truth.
pub fn unique(record: &WatchRecord, truth: &Truth<'_>) -> Result<(), Violation> {
    let mut counts: BTreeMap<(i64, &[u8]), usize> = BTreeMap::new();
    for event in record.events() {
        let (revision, key) = (revision_of(event), key_of(event));
        let count = counts.entry((revision, key)).or_default();
        *count += 1;
        let events = truth.timeline.events(revision).iter();
        if *count > events.filter(|event| key_of(event) == key).count().max(1) {
            return Err(record.accuse(format!("{} came twice", named(event))));
        }
    }
    Ok(())
}

/// See the module's documentation.
pub fn atomic(record: &WatchRecord) -> Result<(), Violation> {
    let mut open: Option<(i64, bool)> = None;
    for (_, response) in &record.responses {
        if response.fragment && !record.fragment {
            return Err(record.accuse("a fragment, though none were asked for"));
        }
        let (Some(first), Some(last)) = (response.events.first(), response.events.last()) else {
            continue;
        };
        match open {
            Some((revision, false)) if revision == revision_of(first) => {
                return Err(record.accuse(format!("revision {revision} came in two responses")));
            }
            _ => open = Some((revision_of(last), response.fragment)),
        }
    }
    Ok(())
}

/// See the module's documentation.
pub fn filtered(record: &WatchRecord) -> Result<(), Violation> {
    match record.events().find(|event| !record.wants(event)) {
        Some(event) => Err(record.accuse(format!("{} was not asked for", named(event)))),
        None => Ok(()),
    }
}

/// See the module's documentation.
pub fn resumable(record: &WatchRecord, truth: &Truth<'_>) -> Result<(), Violation> {
    if let Some(resumed) = record.resumed_from
        && record.start_revision != resumed + 1
    {
        return Err(record.accuse(format!("it was to go on behind {resumed}")));
    }
    let Some(first) = record.events().next() else { return Ok(()) };
    let start = record.start();
    if revision_of(first) < start {
        return Err(record.accuse(format!("it begins at {start}, and with {}", named(first))));
    }
    match record.expected(truth.timeline, i64::MAX).next() {
        Some(expected) if same(expected, first) => Ok(()),
        Some(expected) => {
            let (first, expected) = (named(first), named(expected));
            Err(record.accuse(format!("it begins with {first} and not with {expected}")))
        }
        None => Err(record.accuse(format!("{} never happened", named(first)))),
    }
}

/// See the module's documentation.
pub fn reliable(record: &WatchRecord, truth: &Truth<'_>) -> Result<(), Violation> {
    let last = record.events().map(revision_of).max().unwrap_or(0);
    // Of the last revision of a stream that broke off within fragments a part may be missing.
    let broken_off = record.responses.last().is_some_and(|(_, response)| response.fragment);
    let mut expected = record.expected(truth.timeline, last).peekable();
    for event in record.events() {
        match expected.next() {
            Some(next) if same(next, event) => {}
            Some(next) if revision_of(next) <= revision_of(event) => {
                return Err(record.accuse(format!(
                    "missing: {} before {}",
                    named(next),
                    named(event)
                )));
            }
            _ => return Err(record.accuse(format!("{} never happened", named(event)))),
        }
    }
    match expected.next() {
        Some(next) if !(broken_off && revision_of(next) == last) => {
            Err(record.accuse(format!("missing: {}, at the end of {last}", named(next))))
        }
        _ => Ok(()),
    }
}

/// Whether two events are of the same change.
fn same(one: &Event, other: &Event) -> bool {
    one.r#type == other.r#type
        && key_of(one) == key_of(other)
        && revision_of(one) == revision_of(other)
}

/// See the module's documentation.
pub fn bookmarkable(record: &WatchRecord, truth: &Truth<'_>) -> Result<(), Violation> {
    let mut delivered = 0;
    let mut bookmark = 0;
    for (_, response) in &record.responses {
        if is_progress(response) {
            bookmark = header_revision(response).max(bookmark);
            let due = record.expected(truth.timeline, bookmark).count();
            if delivered < due {
                let missing = record.expected(truth.timeline, bookmark).nth(delivered);
                let missing = missing.map(named).unwrap_or_default();
                return Err(record.accuse(format!("progress to {bookmark} without {missing}")));
            }
        }
        for event in &response.events {
            delivered += 1;
            if revision_of(event) <= bookmark {
                let what = format!("{} came after progress to {bookmark}", named(event));
                return Err(record.accuse(what));
            }
        }
    }
    Ok(())
}

/// See the module's documentation.
pub fn prev_kv_right(record: &WatchRecord, truth: &Truth<'_>) -> Result<(), Violation> {
    for event in record.events() {
        let previous = revision_of(event) - 1;
        let before = truth.model.find(key_of(event), previous);
        let right = match (&event.prev_kv, before) {
            (Some(_), _) if !record.prev_kv => false,
            (Some(given), before) => before == Some(given),
            (None, Some(_)) if record.prev_kv => previous < truth.compacted,
            (None, _) => true,
        };
        if !right {
            let (event, given) = (named(event), &event.prev_kv);
            let what = format!("before the {event} stood {before:?}, and it says {given:?}");
            return Err(record.accuse(what));
        }
    }
    Ok(())
}

/// See the module's documentation.
pub fn is_create_right(record: &WatchRecord, truth: &Truth<'_>) -> Result<(), Violation> {
    for event in record.events() {
        let Some(kv) = &event.kv else { return Err(record.accuse("an event without a key")) };
        if event.r#type() == EventType::Put {
            let new = kv.create_revision == kv.mod_revision;
            let was_there = truth.model.find(&kv.key, kv.mod_revision - 1).is_some();
            // A transaction may delete a key and put it anew: then it is new, though it was there.
            if (!new && !was_there) || (kv.version == 1) != new {
                let what = format!(
                    "{} says version {} and creation at {}; the key was {}",
                    named(event),
                    kv.version,
                    kv.create_revision,
                    if was_there { "there" } else { "not there" }
                );
                return Err(record.accuse(what));
            }
        }
        let told = truth.timeline.events(kv.mod_revision).iter();
        if !told.clone().any(|truth| truth.kv == event.kv && truth.r#type == event.r#type) {
            let truth = told.filter(|truth| key_of(truth) == kv.key).collect::<Vec<_>>();
            return Err(record.accuse(format!("{event:?} is told, true is {truth:?}")));
        }
    }
    Ok(())
}
