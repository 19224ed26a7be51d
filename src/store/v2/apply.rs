//! Carries v2's requests out.
//!
//! What etcd refuses is refused in the same order with the same cause: who reads an error's text must not see a difference.

use super::Outcome;
use super::error::{Error, ErrorCode};
use super::event::{Action as EventAction, Event, Node};
use super::get::find;
use super::history;
use super::keys;
use super::meta::{Counts, Ends, Numbers};
use super::path::Path;
use super::record::{Record, is_dir};
use super::request::{Action, Expiry, Request};
use crate::tree::{Counted, Cursor, Read, Tree};

/// What expires before the year 2000 never does: what etcd takes for a time that got lost on the way.
const EXPIRATION_MIN: i64 = 946_684_800 * 1_000_000_000;
/// Nodes whose names are held at once while a directory is removed.
const REMOVED_PER_ROUND: usize = 256;

/// The node of auth that says whether it is enabled, and what it says then.
pub const AUTH_ENABLED: &str = "/enabled";
pub const AUTH_IS_ENABLED: &str = "true";

/// Carries out a request.
pub(in crate::store) fn apply(
    tree: &mut Tree,
    numbers: &mut Numbers,
    request: &Request,
) -> Outcome {
    let (now, bound) = (request.now, request.history);
    let mut change = Change { tree, numbers, now, bound, key: Vec::new(), value: Vec::new() };
    let outcome = change.request(request);
    let counts = &mut change.numbers.counts;
    counts.of(request.action()).count(outcome.is_ok());
    if request.auth && outcome.is_ok() && Path::new(&request.path).as_str() == AUTH_ENABLED {
        change.numbers.auth_enabled = request.value == AUTH_IS_ENABLED;
    }
    outcome
}

/// Has nodes expire; says how many events that made.
pub(in crate::store) fn expire(tree: &mut Tree, numbers: &mut Numbers, request: &Expiry) -> u64 {
    let (now, bound) = (request.cutoff, request.history);
    let mut change = Change { tree, numbers, now, bound, key: Vec::new(), value: Vec::new() };
    let (mut events, mut removed) = (0, 0);
    while removed < request.nodes_max
        && let Some(path) = change.first_expired()
    {
        removed += change.expire(&path);
        events += 1;
    }
    events
}

impl Counts {
    fn of(&mut self, action: Action) -> &mut Ends {
        match action {
            Action::Set => &mut self.sets,
            Action::Create | Action::CreateInOrder => &mut self.creates,
            Action::Update => &mut self.updates,
            Action::CompareAndSwap => &mut self.swaps,
            Action::Delete => &mut self.deletes,
            Action::CompareAndDelete => &mut self.compared_deletes,
        }
    }
}

/// What is to come of the node itself where one is written.
struct Written<'a> {
    action: EventAction,
    path: &'a Path,
    record: Record,
    prev_node: Option<Node>,
    refresh: bool,
}

/// A request under way.
struct Change<'a> {
    tree: &'a mut Tree,
    numbers: &'a mut Numbers,
    now: i64,
    bound: u64,
    /// Reused.
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Change<'_> {
    fn request(&mut self, request: &Request) -> Outcome {
        let path = request.target(self.next_index());
        if path.is_too_long() {
            return Err(self.error(ErrorCode::InvalidField, "the key is too long"));
        }
        match request.action() {
            Action::Set => self.set(&path, request),
            Action::Create | Action::CreateInOrder => self.create(&path, request),
            Action::Update => self.update(&path, request),
            Action::CompareAndSwap => self.compare_and_swap(&path, request),
            Action::Delete => self.delete(&path, request),
            Action::CompareAndDelete => self.compare_and_delete(&path, request),
        }
    }

    fn error(&self, code: ErrorCode, cause: impl Into<String>) -> Error {
        Error::new(code, cause, self.numbers.index)
    }

    fn root_is_read_only(&self) -> Error {
        self.error(ErrorCode::RootReadOnly, "/")
    }

    fn next_index(&self) -> u64 {
        self.numbers.index + 1
    }

    fn find(&self, path: &Path) -> Result<Record, Error> {
        find(self.tree, path, self.numbers.index)
    }

    fn set(&mut self, path: &Path, request: &Request) -> Outcome {
        let found = match self.find(path) {
            Ok(found) => Some(found),
            Err(error) if error.code == ErrorCode::KeyNotFound && !request.refresh => None,
            Err(error) => return Err(error),
        };
        if path.is_root() {
            return Err(self.root_is_read_only());
        }
        if found.as_ref().is_some_and(|found| found.dir) {
            return Err(self.error(ErrorCode::NotFile, path.as_str()));
        }
        let mut record = self.new_record(request);
        match &found {
            Some(found) if request.refresh && !request.dir => record.value = found.value.clone(),
            Some(_) => {}
            None => self.make_directories(path)?,
        }
        if let Some(found) = &found {
            self.forget_expiration(path, found);
        }
        let prev_node = found.map(|found| found.node(path.as_str(), self.now));
        let refresh = request.refresh;
        Ok(self.write(Written { action: EventAction::Set, path, record, prev_node, refresh }))
    }

    fn create(&mut self, path: &Path, request: &Request) -> Outcome {
        if path.is_root() {
            return Err(self.root_is_read_only());
        }
        keys::node(&mut self.key, path.as_str());
        if self.tree.get(&self.key).is_some() {
            return Err(self.error(ErrorCode::NodeExist, path.as_str()));
        }
        self.make_directories(path)?;
        let record = self.new_record(request);
        let (action, prev_node, refresh) = (EventAction::Create, None, false);
        Ok(self.write(Written { action, path, record, prev_node, refresh }))
    }

    fn new_record(&self, request: &Request) -> Record {
        let index = self.next_index();
        Record {
            dir: request.dir,
            modified: index,
            created: index,
            expiration: request.expiration.filter(|expiration| *expiration >= EXPIRATION_MIN),
            value: if request.dir { bytes::Bytes::new() } else { request.value.clone() },
        }
    }

    fn update(&mut self, path: &Path, request: &Request) -> Outcome {
        if path.is_root() {
            return Err(self.root_is_read_only());
        }
        let found = self.find(path)?;
        if found.dir && !request.value.is_empty() {
            return Err(self.error(ErrorCode::NotFile, path.as_str()));
        }
        Ok(self.change(EventAction::Update, path, &found, request))
    }

    fn compare_and_swap(&mut self, path: &Path, request: &Request) -> Outcome {
        if path.is_root() {
            return Err(self.root_is_read_only());
        }
        let found = self.find_as_compared(path, request)?;
        Ok(self.change(EventAction::CompareAndSwap, path, &found, request))
    }

    /// Gives a node another value and expiration.
    fn change(
        &mut self,
        action: EventAction,
        path: &Path,
        found: &Record,
        request: &Request,
    ) -> Event {
        let index = self.next_index();
        let value = if request.refresh { &found.value } else { &request.value };
        self.forget_expiration(path, found);
        let record = Record {
            // A directory's own index stays, though the event has a new one.
            modified: if found.dir { found.modified } else { index },
            expiration: request.expiration,
            value: value.clone(),
            ..*found
        };
        let prev_node = Some(found.node(path.as_str(), self.now));
        self.write(Written { action, path, record, prev_node, refresh: request.refresh })
    }

    fn delete(&mut self, path: &Path, request: &Request) -> Outcome {
        if path.is_root() {
            return Err(self.root_is_read_only());
        }
        let found = self.find(path)?;
        if found.dir && !request.dir && !request.recursive {
            return Err(self.error(ErrorCode::NotFile, path.as_str()));
        }
        if found.dir && !request.recursive && !self.is_empty(path) {
            return Err(self.error(ErrorCode::DirNotEmpty, path.as_str()));
        }
        self.remove(path, &found);
        Ok(self.removed(EventAction::Delete, path, &found))
    }

    fn compare_and_delete(&mut self, path: &Path, request: &Request) -> Outcome {
        let found = self.find_as_compared(path, request)?;
        self.remove(path, &found);
        Ok(self.removed(EventAction::CompareAndDelete, path, &found))
    }

    /// A file, if it is as the request has it.
    fn find_as_compared(&self, path: &Path, request: &Request) -> Result<Record, Error> {
        let found = self.find(path)?;
        if found.dir {
            // etcd has nothing to blame the root by.
            let cause = if path.is_root() { "" } else { path.as_str() };
            return Err(self.error(ErrorCode::NotFile, cause));
        }
        let Request { prev_value, prev_index, .. } = request;
        let has_value = prev_value.is_empty() || *prev_value == found.value;
        let has_index = *prev_index == 0 || *prev_index == found.modified;
        let text = |value| String::from_utf8_lossy(value);
        let values = || format!("[{} != {}]", text(prev_value), text(&found.value));
        let indexes = || format!("[{prev_index} != {}]", found.modified);
        let cause = match (has_value, has_index) {
            (true, true) => return Ok(found),
            (false, true) => values(),
            (true, false) => indexes(),
            (false, false) => format!("{} {}", values(), indexes()),
        };
        Err(self.error(ErrorCode::TestFailed, cause))
    }

    /// Makes the directories that are missing on the way to `path`.
    fn make_directories(&mut self, path: &Path) -> Result<(), Error> {
        let above: Vec<&str> = path.ancestors().collect();
        // Where a directory is, those above it are.
        let mut missing = above.len();
        while let Some(nearest) = missing.checked_sub(1).and_then(|at| above.get(at)) {
            keys::node(&mut self.key, nearest);
            match self.tree.get(&self.key) {
                None => missing -= 1,
                Some(record) if is_dir(record) => break,
                Some(_) => return Err(self.error(ErrorCode::NotDir, *nearest)),
            }
        }
        let index = self.next_index();
        for directory in above.into_iter().skip(missing) {
            self.insert(directory, &Record::on_the_way(index));
        }
        Ok(())
    }

    fn insert(&mut self, path: &str, record: &Record) {
        keys::node(&mut self.key, path);
        record.write(&mut self.value);
        self.tree.insert(&self.key, &self.value, Counted::No);
    }

    /// Puts a node in its place, and tells.
    fn write(&mut self, written: Written<'_>) -> Event {
        let Written { action, path, record, prev_node, refresh } = written;
        self.insert(path.as_str(), &record);
        if let Some(expiration) = record.expiration {
            let node = std::mem::take(&mut self.key);
            keys::expiring(&mut self.value, expiration, record.created, &node);
            self.tree.insert(&self.value, &[], Counted::No);
            self.key = node;
        }
        let modified_index = self.next_index();
        let node = Node { modified_index, ..record.node(path.as_str(), self.now) };
        self.tell(action, node, prev_node, refresh)
    }

    fn tell(
        &mut self,
        action: EventAction,
        node: Node,
        prev_node: Option<Node>,
        refresh: bool,
    ) -> Event {
        self.numbers.index += 1;
        let event = Event { action, node, prev_node, index: self.numbers.index };
        history::add(self.tree, self.numbers, &event, refresh, self.bound);
        event
    }

    fn removed(&mut self, action: EventAction, path: &Path, found: &Record) -> Event {
        let node = Node {
            key: path.as_str().to_owned(),
            dir: found.dir,
            modified_index: self.next_index(),
            created_index: found.created,
            ..Node::default()
        };
        let prev_node = Some(found.node(path.as_str(), self.now));
        self.tell(action, node, prev_node, false)
    }

    fn is_empty(&mut self, path: &Path) -> bool {
        keys::node(&mut self.key, path.as_str());
        let mut cursor = self.tree.cursor();
        let mut begin = self.key.clone();
        keys::begin_content(&mut begin);
        cursor.seek(&begin);
        !cursor.valid() || !keys::is_within(cursor.key(), &self.key)
    }

    /// Removes a node with what is in it; says how many nodes that were.
    fn remove(&mut self, path: &Path, found: &Record) -> u64 {
        let mut removed = 1;
        if found.dir {
            removed += self.remove_content(path);
        }
        self.forget_expiration(path, found);
        keys::node(&mut self.key, path.as_str());
        let was_there = self.tree.remove(&self.key);
        assert!(was_there, "invariant: {path} was found");
        removed
    }

    fn remove_content(&mut self, path: &Path) -> u64 {
        keys::node(&mut self.key, path.as_str());
        let mut begin = self.key.clone();
        keys::begin_content(&mut begin);
        let mut removed = 0;
        loop {
            let mut round = Vec::new();
            let mut cursor = self.tree.cursor();
            cursor.seek(&begin);
            while cursor.valid() && cursor.key().starts_with(&begin) {
                if round.len() == REMOVED_PER_ROUND {
                    break;
                }
                let record = Record::read(cursor.value());
                let record = record.expect("invariant: a node's record was written here");
                round.push((cursor.key().to_vec(), record));
                cursor.next();
            }
            if round.is_empty() {
                return removed;
            }
            removed += round.len() as u64;
            for (key, record) in round {
                if let Some(expiration) = record.expiration {
                    keys::expiring(&mut self.value, expiration, record.created, &key);
                    self.tree.remove(&self.value);
                }
                self.tree.remove(&key);
            }
        }
    }

    fn forget_expiration(&mut self, path: &Path, found: &Record) {
        if let Some(expiration) = found.expiration {
            keys::node(&mut self.key, path.as_str());
            keys::expiring(&mut self.value, expiration, found.created, &self.key);
            let was_there = self.tree.remove(&self.value);
            assert!(was_there, "invariant: what expires stands in both tables");
        }
    }

    fn first_expired(&self) -> Option<Path> {
        let mut cursor = self.tree.cursor();
        cursor.seek(keys::EXPIRING);
        if !cursor.valid() {
            return None;
        }
        let (expiration, _, path) = keys::expiring_key(cursor.key())?;
        (expiration <= self.now).then(|| Path::of_clean(path))
    }

    fn expire(&mut self, path: &Path) -> u64 {
        let found = self.find(path);
        let found = found.unwrap_or_else(|error| panic!("invariant: it is there: {error}"));
        let removed = self.remove(path, &found);
        self.removed(EventAction::Expire, path, &found);
        self.numbers.counts.expired += 1;
        removed
    }
}
