//! Reading nodes. A directory's content comes in order of names, without what is hidden, in slices of bounded size.

use super::error::{Error, ErrorCode};
use super::event::{Action, Event, Node};
use super::keys;
use super::meta::Counts;
use super::path::Path;
use super::record::{Record, is_dir};
use crate::store::View;
use crate::tree::{Cursor, Read};

/// The node at a path.
///
/// # Errors
/// [`ErrorCode::KeyNotFound`] with the first part of the path that is not there, [`ErrorCode::NotDir`] with a file on the
/// way.
pub(super) fn find<R: Read>(reader: &R, path: &Path, index: u64) -> Result<Record, Error> {
    if path.is_root() {
        return Ok(Record::ROOT);
    }
    let mut key = Vec::new();
    keys::node(&mut key, path.as_str());
    if let Some(record) = reader.get(&key) {
        let record = Record::read(&record);
        return Ok(record.expect("invariant: a node's record was written here"));
    }
    for above in path.ancestors() {
        keys::node(&mut key, above);
        match reader.get(&key) {
            None => return Err(Error::new(ErrorCode::KeyNotFound, above, index)),
            Some(record) if !is_dir(&record) => {
                return Err(Error::new(ErrorCode::NotDir, above, index));
            }
            Some(_) => {}
        }
    }
    Err(Error::new(ErrorCode::KeyNotFound, path.as_str(), index))
}

/// A node being read, with what is in it.
#[derive(Debug)]
pub struct Listing {
    view: View,
    recursive: bool,
    now: i64,
    /// Where to go on, and where the end is. Equal: nothing is left.
    next: Vec<u8>,
    end: Vec<u8>,
    /// Directories whose content is not complete, from the node itself down, each with its key.
    open: Vec<(Vec<u8>, Node)>,
    /// Of the keys and values so far.
    bytes: usize,
}

impl Listing {
    /// Begins with the node at `path`. `recursive`: with what is in its directories, too. `now` is in nanoseconds of Unix
    /// time; remaining times-to-live are as of then.
    ///
    /// # Errors
    /// There is no such node.
    pub fn new(view: View, path: &Path, recursive: bool, now: i64) -> Result<Self, Error> {
        let record = find(view.snapshot(), path, view.v2_index())?;
        let mut key = Vec::new();
        keys::node(&mut key, path.as_str());
        let (mut next, mut end) = (key.clone(), key.clone());
        keys::end_content(&mut end);
        if record.dir {
            keys::begin_content(&mut next);
        } else {
            next.clone_from(&end);
        }
        let open = vec![(key, record.node(path.as_str(), now))];
        Ok(Self { view, recursive, now, next, end, open, bytes: 0 })
    }

    /// What the keys and values measure that were read so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reads up to `nodes_max` nodes more; the whole answer once there are no more.
    pub fn step(&mut self, nodes_max: usize) -> Option<Event> {
        let Self { view, recursive, now, next, end, open, bytes } = self;
        let mut cursor = view.snapshot().cursor();
        cursor.seek(next);
        let mut seen = 0;
        while cursor.valid() && cursor.key() < end.as_slice() {
            if seen == nodes_max {
                next.clear();
                next.extend_from_slice(cursor.key());
                return None;
            }
            seen += 1;
            let path = keys::path(cursor.key()).expect("invariant: a node's key was written here");
            let path = Path::of_clean(path);
            let is_hidden = path.name().starts_with('_');
            if !is_hidden {
                let record = Record::read(cursor.value());
                let record = record.expect("invariant: a node's record was written here");
                *bytes += path.as_str().len() + cursor.value().len();
                close(open, cursor.key());
                open.push((cursor.key().to_vec(), record.node(path.as_str(), *now)));
            }
            if (is_hidden || !*recursive) && is_dir(cursor.value()) {
                next.clear();
                next.extend_from_slice(cursor.key());
                keys::end_content(next);
                cursor.seek(next);
            } else {
                cursor.next();
            }
        }
        next.clone_from(end);
        while open.len() > 1 {
            close_last(open);
        }
        let (_, node) = open.pop()?;
        Some(Event { action: Action::Get, node, prev_node: None, index: view.v2_index() })
    }
}

/// Puts into their directories the open nodes that `key` does not stand in.
fn close(open: &mut Vec<(Vec<u8>, Node)>, key: &[u8]) {
    while open.len() > 1
        && let Some((above, _)) = open.last()
        && !keys::is_within(key, above)
    {
        close_last(open);
    }
}

fn close_last(open: &mut Vec<(Vec<u8>, Node)>) {
    if let Some((_, node)) = open.pop()
        && let Some((_, directory)) = open.last_mut()
    {
        directory.nodes.push(node);
    }
}

impl View {
    /// A node, with what is in it, at once; see [`Listing`].
    ///
    /// # Errors
    /// There is no such node.
    pub fn v2_get(&self, path: &Path, recursive: bool, now: i64) -> Result<Event, Error> {
        let mut listing = Listing::new(self.clone(), path, recursive, now)?;
        Ok(listing.step(usize::MAX).expect("invariant: there is no bound"))
    }

    /// What requests have come to. What was read, each member counts itself.
    #[must_use]
    pub fn v2_statistics(&self) -> Counts {
        self.v2().counts
    }

    /// Whether v2's requests are judged by users and roles.
    #[must_use]
    pub fn v2_auth_enabled(&self) -> bool {
        self.v2().auth_enabled
    }

    /// When the first node expires, in nanoseconds of Unix time, if one does.
    #[must_use]
    pub fn v2_first_expiration(&self) -> Option<i64> {
        let mut cursor = self.snapshot().cursor();
        cursor.seek(keys::EXPIRING);
        if !cursor.valid() {
            return None;
        }
        keys::expiring_key(cursor.key()).map(|(expiration, ..)| expiration)
    }
}
