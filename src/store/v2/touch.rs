//! Reading ahead of v2's requests: the pages that [`apply`](super::apply()) is going to need; see
//! [`touch`](crate::store::touch()).

use std::hint::black_box;

use super::keys;
use super::record::Record;
use super::request::{Action, Expiry, Request};
use crate::store::View;
use crate::tree::{Cursor, Neighbours, Read};

/// What a lookup takes from the budget.
const LOOKUP_COST_BYTES: usize = 64;

/// Reads what carrying out `request` would; says for how much of the budget.
pub(in crate::store) fn touch(view: &View, request: &Request, budget: usize) -> usize {
    let mut touch = Touch { view, budget, spent: 0, key: Vec::new() };
    touch.request(request);
    touch.spent
}

/// The same for what expires.
pub(in crate::store) fn touch_expiry(view: &View, request: &Expiry, budget: usize) -> usize {
    let mut touch = Touch { view, budget, spent: 0, key: Vec::new() };
    touch.expiry(request);
    touch.spent
}

struct Touch<'a> {
    view: &'a View,
    budget: usize,
    spent: usize,
    /// Reused.
    key: Vec<u8>,
}

impl Touch<'_> {
    fn request(&mut self, request: &Request) {
        self.history();
        let next = self.view.v2_index() + 1;
        let path = request.target(next);
        // Those that are missing come next to the nearest that is there.
        for above in path.ancestors() {
            keys::node(&mut self.key, above);
            self.look_up();
        }
        let mut key = Vec::new();
        keys::node(&mut key, path.as_str());
        let removes = matches!(request.action(), Action::Delete | Action::CompareAndDelete);
        let created = self.nodes(&key, removes && request.recursive).unwrap_or(next);
        if removes {
            self.neighbours(&key, Neighbours::OfSparse);
        }
        if let Some(expiration) = request.expiration {
            let keeps = matches!(request.action(), Action::Update | Action::CompareAndSwap);
            let created = if keeps { created } else { next };
            keys::expiring(&mut self.key, expiration, created, &key);
            self.look_up();
        }
    }

    fn expiry(&mut self, request: &Expiry) {
        self.history();
        let mut cursor = self.view.snapshot().cursor();
        cursor.seek(keys::EXPIRING);
        let (mut nodes, mut key) = (0, Vec::new());
        while cursor.valid()
            && self.spent < self.budget
            && nodes < request.nodes_max
            && let Some((expiration, _, path)) = keys::expiring_key(cursor.key())
            && expiration <= request.cutoff
        {
            keys::node(&mut key, &path);
            self.nodes(&key, true);
            self.neighbours(&key, Neighbours::OfSparse);
            nodes += 1;
            cursor.next();
        }
        self.neighbours(keys::EXPIRING, Neighbours::Always);
    }

    /// The node at a key, or its place, and with `content` what is in it. Says when it was created.
    fn nodes(&mut self, key: &[u8], content: bool) -> Option<u64> {
        let mut cursor = self.view.snapshot().cursor();
        cursor.seek(key);
        let mut created = None;
        while cursor.valid() && self.spent < self.budget {
            let is_own = cursor.key() == key;
            let is_content = || content && keys::is_within(cursor.key(), key);
            if !is_own && !is_content() {
                break;
            }
            self.spent += LOOKUP_COST_BYTES + cursor.value().len();
            if let Some(record) = Record::read(cursor.value()) {
                self.expiration(&record, cursor.key());
                created = created.or(is_own.then_some(record.created));
            }
            if is_own && !content {
                break;
            }
            cursor.next();
        }
        if content {
            self.neighbours(key, Neighbours::Always);
            let mut end = key.to_vec();
            keys::end_content(&mut end);
            self.neighbours(&end, Neighbours::Always);
        }
        created
    }

    /// Where a node stands among those that expire: it is going to be removed from there.
    fn expiration(&mut self, record: &Record, node: &[u8]) {
        if let Some(expiration) = record.expiration {
            let mut key = Vec::new();
            keys::expiring(&mut key, expiration, record.created, node);
            self.neighbours(&key, Neighbours::OfSparse);
        }
    }

    /// Where the next event goes, and the oldest that goes then.
    fn history(&mut self) {
        let mut key = Vec::new();
        keys::history(&mut key, self.view.v2().first);
        self.neighbours(&key, Neighbours::OfSparse);
        keys::history(&mut self.key, self.view.v2_index() + 1);
        self.look_up();
    }

    fn neighbours(&mut self, key: &[u8], of: Neighbours) {
        self.spent += LOOKUP_COST_BYTES;
        self.view.snapshot().touch_neighbours(key, of);
    }

    /// What stands at `key`, or its place.
    fn look_up(&mut self) {
        self.spent += LOOKUP_COST_BYTES;
        let mut cursor = self.view.snapshot().cursor();
        cursor.seek(&self.key);
        if cursor.valid() {
            black_box(cursor.key().last().copied());
        }
    }
}
