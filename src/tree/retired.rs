//! When a replaced page may be used again: the published versions that someone still holds, and what each saw last.
//!
//! A page is seen by the versions from the one that wrote it up to the last one before it was replaced. So a replaced
//! page is listed with the newest version that sees it. When that version's last snapshot is gone, each page on its list
//! goes to the next older version still held, if that one sees the page too, and is free otherwise. A snapshot held for
//! long keeps the pages it sees, and none of those that came and went after it: memory is bounded by the trees held, not
//! by what is written meanwhile.
//!
//! Versions are looked at when a batch is published, a bounded number each time, the newest first, because most
//! snapshots live for one read.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::sync::atomic::{Ordering, fence};

use super::snapshot::{Root, Snapshot};
use crate::ids::PageId;

/// Held versions that one publication looks at.
const SWEEP_MAX: usize = 64;

/// A node or run that the tree no longer refers to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retired {
    pub(super) page: PageId,
    /// How many pages it takes: kept here, so that nobody touches a page, evicted perhaps, to let it go.
    pub(super) pages: u32,
    /// The version that wrote it.
    pub(super) born: u64,
}

/// A published version and the pages of which it is the newest to see them.
struct Held {
    root: Weak<Root>,
    last_seen: Vec<Retired>,
}

/// The published versions, the newest included.
#[derive(Default)]
pub(super) struct Versions {
    held: BTreeMap<u64, Held>,
    /// The sweep goes on below this version.
    sweep_below: u64,
    /// Pages on all lists.
    waiting: usize,
}

impl Versions {
    /// A new newest version; `replaced` are the pages that the one before it sees, and it does not.
    pub(super) fn push(&mut self, version: u64, root: Weak<Root>, replaced: Vec<Retired>) {
        self.waiting += replaced.len();
        if let Some(mut last) = self.held.last_entry() {
            assert!(*last.key() < version, "invariant: versions grow");
            debug_assert!(last.get().last_seen.is_empty());
            last.get_mut().last_seen = replaced;
        } else {
            debug_assert!(replaced.is_empty(), "no version sees a page before the first");
        }
        self.held.insert(version, Held { root, last_seen: Vec::new() });
    }

    /// Moves the pages that no version sees any more to `free`.
    pub(super) fn sweep(&mut self, free: &mut Vec<Retired>) {
        let Some((&newest, _)) = self.held.last_key_value() else { return };
        let superseded = self.held.range(..newest).next_back().map(|(&version, _)| version);
        let mut dead: Vec<u64> = superseded.into_iter().filter(|&v| self.is_dead(v)).collect();
        let mut below = if self.sweep_below == 0 { newest } else { self.sweep_below };
        for (&version, held) in self.held.range(..below.min(newest)).rev().take(SWEEP_MAX) {
            below = version;
            if held.root.strong_count() == 0 && !dead.contains(&version) {
                dead.push(version);
            }
        }
        let is_through = self.held.range(..below).next().is_none();
        self.sweep_below = if is_through { 0 } else { below };
        // Pairs with the decrement of the last reader: its reads of the pages came before their reuse.
        fence(Ordering::Acquire);
        for version in dead {
            self.end(version, free);
        }
    }

    /// Pages that only held snapshots see.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// All waiting pages, for the checker.
    pub(super) fn iter(&self) -> impl Iterator<Item = Retired> + '_ {
        self.held.values().flat_map(|held| held.last_seen.iter().copied())
    }

    /// All snapshots that someone holds, for the checker.
    pub(super) fn snapshots(&self) -> impl Iterator<Item = Snapshot> + '_ {
        self.held.values().filter_map(|held| held.root.upgrade()).map(Snapshot::from_root)
    }

    fn is_dead(&self, version: u64) -> bool {
        self.held.get(&version).is_some_and(|held| held.root.strong_count() == 0)
    }

    fn end(&mut self, version: u64, free: &mut Vec<Retired>) {
        let held = self.held.remove(&version).expect("invariant: a dead version is listed");
        let mut older = self.held.range_mut(..version).next_back();
        for page in held.last_seen {
            match &mut older {
                Some((older, held)) if page.born <= **older => held.last_seen.push(page),
                _ => {
                    self.waiting -= 1;
                    free.push(page);
                }
            }
        }
    }
}
