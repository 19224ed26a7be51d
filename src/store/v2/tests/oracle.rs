//! v2's semantics over a map of whole paths: slow, and plain enough to be right.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::SECOND;
use crate::store::v2::{
    Action, Error, ErrorCode, Event, EventAction, Interest, Node, Outcome, Path, Request,
};

#[derive(Clone, Debug, PartialEq)]
struct Own {
    /// `None`: a directory.
    value: Option<Bytes>,
    expiration: Option<i64>,
    created: u64,
    modified: u64,
}

#[derive(Debug)]
pub(super) struct Oracle {
    nodes: BTreeMap<String, Own>,
    pub(super) index: u64,
    /// With whether it is a refresh.
    events: Vec<(Event, bool)>,
}

type Refusal = (ErrorCode, String);

impl Oracle {
    pub(super) fn new() -> Self {
        Self { nodes: BTreeMap::new(), index: 3, events: Vec::new() }
    }

    pub(super) fn apply(&mut self, request: &Request, bound: usize) -> Outcome {
        let path = match request.action() {
            Action::CreateInOrder => format!("{}/{:020}", request.path, self.index + 1),
            _ => request.path.clone(),
        };
        let path = Path::new(&path);
        let result = self.event(request, path.as_str());
        let (event, refresh) =
            result.map_err(|(code, cause)| Error { code, cause, index: self.index })?;
        self.index += 1;
        self.keep(event.clone(), refresh, bound);
        Ok(event)
    }

    fn keep(&mut self, event: Event, refresh: bool, bound: usize) {
        self.events.push((event, refresh));
        while self.events.len() > bound {
            self.events.remove(0);
        }
    }

    fn event(&mut self, request: &Request, path: &str) -> Result<(Event, bool), Refusal> {
        use Action::{
            CompareAndDelete, CompareAndSwap, Create, CreateInOrder, Delete, Set, Update,
        };
        let action = request.action();
        let read_only = (ErrorCode::RootReadOnly, "/".to_owned());
        let is_root = path == "/";
        let found = self.find(path);
        if is_root && action == CompareAndDelete {
            return Err((ErrorCode::NotFile, String::new()));
        }
        if is_root {
            return Err(read_only);
        }
        let found = match (action, found) {
            (Set, Err((ErrorCode::KeyNotFound, _))) if !request.refresh => None,
            (Create | CreateInOrder, Ok(_)) => return Err((ErrorCode::NodeExist, path.to_owned())),
            (Create | CreateInOrder, Err((ErrorCode::KeyNotFound, _))) => None,
            (_, Err(refusal)) => return Err(refusal),
            (_, Ok(own)) => Some(own),
        };
        let is_dir = found.as_ref().is_some_and(|own| own.value.is_none());
        let not_file = (ErrorCode::NotFile, path.to_owned());
        match action {
            Set | CompareAndSwap | CompareAndDelete if is_dir => return Err(not_file),
            Update if is_dir && !request.value.is_empty() => return Err(not_file),
            Delete if is_dir && !request.dir && !request.recursive => return Err(not_file),
            Delete if is_dir && !request.recursive && self.has_children(path) => {
                return Err((ErrorCode::DirNotEmpty, path.to_owned()));
            }
            _ => {}
        }
        if matches!(action, CompareAndSwap | CompareAndDelete) {
            compare(request, found.as_ref().expect("it was found"))?;
        }
        let next = self.index + 1;
        let prev_node = found.as_ref().map(|own| node(path, own, request.now));
        if matches!(action, Delete | CompareAndDelete) {
            let removed = self.remove(path);
            let kind =
                if action == Delete { EventAction::Delete } else { EventAction::CompareAndDelete };
            return Ok((self.removal(kind, path, &removed, request.now), false));
        }
        let changes = matches!(action, Update | CompareAndSwap);
        let refresh = request.refresh && !matches!(action, Create | CreateInOrder);
        let stays_dir = if changes { is_dir } else { request.dir };
        let value = match &found {
            Some(own) if refresh => own.value.clone().unwrap_or_default(),
            _ => request.value.clone(),
        };
        let lasting = |at: &i64| !changes && *at < 946_684_800 * SECOND;
        let own = Own {
            value: (!stays_dir).then_some(value),
            expiration: request.expiration.filter(|at| !lasting(at)),
            created: found.as_ref().filter(|_| changes).map_or(next, |own| own.created),
            modified: found.as_ref().filter(|_| changes && is_dir).map_or(next, |own| own.modified),
        };
        for (end, _) in path.match_indices('/').skip(1) {
            let above = Own { value: None, expiration: None, created: next, modified: next };
            self.nodes.entry(path[..end].to_owned()).or_insert(above);
        }
        self.nodes.insert(path.to_owned(), own.clone());
        let action = match action {
            Set => EventAction::Set,
            Create | CreateInOrder => EventAction::Create,
            Update => EventAction::Update,
            _ => EventAction::CompareAndSwap,
        };
        let written = Node { modified_index: next, ..node(path, &own, request.now) };
        Ok((Event { action, node: written, prev_node, index: next }, refresh))
    }

    /// As etcd walks: from the root, to the first part that is not there or no directory.
    fn find(&self, path: &str) -> Result<Own, Refusal> {
        let mut own = Own { value: None, expiration: None, created: 0, modified: 0 };
        let mut at = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if own.value.is_some() {
                return Err((ErrorCode::NotDir, at));
            }
            at = format!("{at}/{part}");
            match self.nodes.get(&at) {
                Some(found) => own = found.clone(),
                None => return Err((ErrorCode::KeyNotFound, at)),
            }
        }
        Ok(own)
    }

    fn has_children(&self, path: &str) -> bool {
        self.nodes.keys().any(|other| other != path && Path::new(other).is_within(path))
    }

    fn remove(&mut self, path: &str) -> Own {
        let own = self.nodes.get(path).expect("it was found").clone();
        self.nodes.retain(|other, _| !Path::new(other).is_within(path));
        own
    }

    fn removal(&self, action: EventAction, path: &str, own: &Own, now: i64) -> Event {
        let index = self.index + 1;
        let left = Node {
            key: path.to_owned(),
            dir: own.value.is_none(),
            created_index: own.created,
            modified_index: index,
            ..Node::default()
        };
        Event { action, node: left, prev_node: Some(node(path, own, now)), index }
    }

    /// Says how many events it made.
    pub(super) fn expire(&mut self, now: i64, nodes_max: usize, bound: usize) -> u64 {
        let (mut events, mut removed) = (0, 0);
        while removed < nodes_max {
            let expired = self
                .nodes
                .iter()
                .filter_map(|(path, own)| Some((own.expiration?, own.created, order(path))))
                .filter(|(expiration, ..)| *expiration <= now)
                .min();
            let Some((_, _, path)) = expired else { break };
            let path = format!("/{}", path.join("/"));
            let before = self.nodes.len();
            let own = self.remove(&path);
            removed += before - self.nodes.len();
            let event = self.removal(EventAction::Expire, &path, &own, now);
            self.index += 1;
            self.keep(event, false, bound);
            events += 1;
        }
        events
    }

    pub(super) fn get(&self, path: &str, recursive: bool, now: i64) -> Outcome {
        let own = self.find(path);
        let own = own.map_err(|(code, cause)| Error { code, cause, index: self.index })?;
        let mut found = node(path, &own, now);
        found.nodes = self.children(path, recursive, now);
        Ok(Event { action: EventAction::Get, node: found, prev_node: None, index: self.index })
    }

    fn children(&self, path: &str, recursive: bool, now: i64) -> Vec<Node> {
        let parent = |other: &str| match other.rsplit_once('/') {
            Some(("", _)) | None => "/".to_owned(),
            Some((above, _)) => above.to_owned(),
        };
        let mut children: Vec<Node> = self
            .nodes
            .iter()
            .filter(|(other, _)| parent(other) == path)
            .filter(|(other, _)| !other.rsplit('/').next().is_some_and(|it| it.starts_with('_')))
            .map(|(other, own)| node(other, own, now))
            .collect();
        if recursive {
            for child in &mut children {
                child.nodes = self.children(&child.key, true, now);
            }
        }
        children.sort_by(|a, b| a.key.cmp(&b.key));
        children
    }

    pub(super) fn event_since(
        &self,
        interest: &Interest,
        since: u64,
        bound: u64,
    ) -> Result<Option<Event>, ()> {
        // As in etcd, what was written before the first request takes its part.
        let first = if self.events.is_empty() { 1 } else { (self.index + 1).saturating_sub(bound) };
        if since < first.max(1) {
            return Err(());
        }
        let path = interest.path.as_str();
        let concerns = |event: &Event| {
            let key = &event.node.key;
            let removed_dir = event.prev_node.as_ref().is_some_and(|node| node.dir)
                && matches!(event.action, EventAction::Delete | EventAction::Expire);
            let parts = |path: &str| order(path);
            let (key_parts, own_parts) = (parts(key), parts(path));
            let below = key_parts.strip_prefix(own_parts.as_slice());
            let is_hidden = below.is_some_and(|rest| rest.iter().any(|it| it.starts_with('_')));
            key == path
                || (removed_dir && own_parts.starts_with(&key_parts))
                || (interest.recursive && below.is_some() && (interest.hidden || !is_hidden))
        };
        let mut events = self.events.iter().filter(|(event, _)| event.index >= since);
        let found = events.find(|(event, refresh)| !refresh && concerns(event));
        Ok(found.map(|(event, _)| event.clone()))
    }
}

/// The parts of a path: in this order directories come before what is in them.
fn order(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn compare(request: &Request, own: &Own) -> Result<(), Refusal> {
    let value = own.value.as_ref().expect("a file");
    let has_value = request.prev_value.is_empty() || request.prev_value == *value;
    let has_index = request.prev_index == 0 || request.prev_index == own.modified;
    let mut causes = Vec::new();
    if !has_value {
        let text = |value| String::from_utf8_lossy(value);
        causes.push(format!("[{} != {}]", text(&request.prev_value), text(value)));
    }
    if !has_index {
        causes.push(format!("[{} != {}]", request.prev_index, own.modified));
    }
    if causes.is_empty() { Ok(()) } else { Err((ErrorCode::TestFailed, causes.join(" "))) }
}

fn node(path: &str, own: &Own, now: i64) -> Node {
    let ttl = own.expiration.map_or(0, |at| {
        let left = at.saturating_sub(now);
        if left > 0 { (left + SECOND - 1) / SECOND } else { left / SECOND }
    });
    Node {
        key: path.to_owned(),
        value: own.value.clone(),
        dir: own.value.is_none(),
        expiration: own.expiration,
        ttl,
        nodes: Vec::new(),
        modified_index: own.modified,
        created_index: own.created,
    }
}
