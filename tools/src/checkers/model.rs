//! All states that a store has been in, and what a request does at any of them.
//!
//! Of each key all versions are kept, so a state is as cheap as the keys that are asked for. Nothing is ever removed: a
//! compaction only makes the model refuse what a server would.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use urd_proto::mvccpb::event::EventType;
use urd_proto::mvccpb::{Event, KeyValue};

use super::execute::{Executed, Point, Refusal, State, end_lease, execute};
use super::history::{FIRST_REVISION, Request, Timeline, in_range, key_of, revision_of};

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Model {
    revision: i64,
    compacted: i64,
    /// Of each key its versions, by ascending revision.
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// The live keys of each lease, as of the newest revision.
    attached: BTreeMap<i64, BTreeSet<Bytes>>,
    /// Which leases there are; none: nobody knows, any may be named.
    leases: Option<BTreeSet<i64>>,
}

/// What a key was from a revision on.
#[derive(Clone, Debug)]
struct Version {
    revision: i64,
    /// None: deleted.
    kv: Option<KeyValue>,
}

impl Default for Model {
    fn default() -> Model {
        Model::new()
    }
}

impl Model {
    /// An empty store. Any lease may be named: revisions do not tell when a lease was granted.
    pub fn new() -> Model {
        Model {
            revision: FIRST_REVISION,
            compacted: -1,
            keys: BTreeMap::new(),
            attached: BTreeMap::new(),
            leases: None,
        }
    }

    /// An empty store that knows which leases there are, for whoever carries out all requests in order.
    pub fn with_leases() -> Model {
        Model { leases: Some(BTreeSet::new()), ..Model::new() }
    }

    /// The states of a timeline.
    pub fn of(timeline: &Timeline) -> Model {
        let mut model = Model::new();
        for (_, events) in timeline.since(FIRST_REVISION) {
            model.apply(events);
        }
        model
    }

    /// The newest revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// What a request would do now.
    pub fn execute(&self, request: &Request) -> Result<Executed, Refusal> {
        self.execute_at(self.revision, request)
    }

    /// What a request would have done when `revision` was the newest.
    pub fn execute_at(&self, revision: i64, request: &Request) -> Result<Executed, Refusal> {
        execute(self, self.point(revision), request)
    }

    /// Carries out a request.
    pub fn run(&mut self, request: &Request) -> Result<Executed, Refusal> {
        let executed = self.execute(request)?;
        self.apply(&executed.events);
        match (request, &mut self.leases) {
            (Request::Compaction(compaction), _) => self.compacted = compaction.revision,
            (Request::LeaseGrant(grant), Some(leases)) => {
                leases.insert(grant.id);
            }
            (Request::LeaseRevoke(revoke), Some(leases)) => {
                leases.remove(&revoke.id);
            }
            _ => {}
        }
        Ok(executed)
    }

    /// Ends a lease that has expired. Returns what that changed.
    pub fn expire(&mut self, id: i64) -> Vec<Event> {
        let events = self.end_of_lease(id);
        self.apply(&events);
        if let Some(leases) = &mut self.leases {
            leases.remove(&id);
        }
        events
    }

    /// What the end of a lease would change now.
    pub fn end_of_lease(&self, id: i64) -> Vec<Event> {
        if !self.attached.contains_key(&id) {
            return Vec::new();
        }
        end_lease(self, self.point(self.revision), id)
    }

    /// Takes over the events of the next revision, whatever made them.
    pub fn apply(&mut self, events: &[Event]) {
        for event in events {
            self.revision = revision_of(event);
            let Some(kv) = &event.kv else { continue };
            let before = self.find(&kv.key, self.revision).map_or(0, |before| before.lease);
            let now = (event.r#type() == EventType::Put).then(|| kv.clone());
            let lease = now.as_ref().map_or(0, |now| now.lease);
            self.move_lease(&kv.key, before, lease);
            let version = Version { revision: self.revision, kv: now };
            let versions = self.keys.entry(kv.key.clone()).or_default();
            match versions.last_mut() {
                // A transaction may change a key twice; what it was in between nobody ever sees.
                Some(last) if last.revision == version.revision => *last = version,
                _ => versions.push(version),
            }
        }
    }

    fn move_lease(&mut self, key: &Bytes, from: i64, to: i64) {
        if let Some(keys) = self.attached.get_mut(&from) {
            keys.remove(key);
            if keys.is_empty() {
                self.attached.remove(&from);
            }
        }
        if to != 0 {
            self.attached.entry(to).or_default().insert(key.clone());
        }
    }

    /// Whether a live key named that lease as of a revision.
    pub fn is_attached(&self, id: i64, revision: i64) -> bool {
        self.select(&[], &[0], revision).iter().any(|kv| kv.lease == id)
    }

    /// The lease of the key that an event is about, as of the newest revision.
    pub fn lease_of(&self, event: &Event) -> Option<i64> {
        let kv = self.find(key_of(event), self.revision)?;
        Some(kv.lease).filter(|lease| *lease != 0)
    }

    fn point(&self, newest: i64) -> Point {
        Point { newest, next: newest + 1, compacted: self.compacted }
    }
}

impl State for Model {
    fn find(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        self.keys.get(key).and_then(|versions| live_at(versions, revision))
    }

    fn select(&self, key: &[u8], end: &[u8], revision: i64) -> Vec<&KeyValue> {
        let from = (Bound::Included(key), Bound::Unbounded);
        let candidates = self.keys.range::<[u8], _>(from);
        let selected = candidates.take_while(|(at, _)| in_range(at, key, end));
        selected.filter_map(|(_, versions)| live_at(versions, revision)).collect()
    }

    fn has_lease(&self, id: i64) -> Option<bool> {
        self.leases.as_ref().map(|leases| leases.contains(&id))
    }
}

fn live_at(versions: &[Version], revision: i64) -> Option<&KeyValue> {
    let later = versions.partition_point(|version| version.revision <= revision);
    later.checked_sub(1).and_then(|nth| versions.get(nth)).and_then(|version| version.kv.as_ref())
}
