//! The links between members: when a message arrives, if it does.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::settings::{Links, Time};

/// From and to.
type Link = (u64, u64);

/// See the module's page.
#[derive(Debug)]
pub(super) struct Network {
    links: Links,
    /// Until when a link loses everything.
    cut: BTreeMap<Link, Time>,
    /// Until when it keeps everything back.
    clogged: BTreeMap<Link, Time>,
    /// When the last message of a link arrives.
    last: BTreeMap<Link, Time>,
    /// Messages lost, doubled, kept back.
    pub(super) counts: [u64; 3],
}

impl Network {
    pub(super) fn new(links: Links) -> Self {
        Self {
            links,
            cut: BTreeMap::new(),
            clogged: BTreeMap::new(),
            last: BTreeMap::new(),
            counts: [0; 3],
        }
    }

    /// All links work from now on, and lose nothing.
    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.clogged.clear();
        (self.links.lost, self.links.doubled, self.links.late) = (0, 0, 0);
    }

    pub(super) fn cut(&mut self, from: u64, to: u64, until: Time) {
        self.cut.insert((from, to), until);
    }

    pub(super) fn clog(&mut self, from: u64, to: u64, until: Time) {
        self.clogged.insert((from, to), until);
    }

    pub(super) fn is_cut(&self, from: u64, to: u64, now: Time) -> bool {
        self.cut.get(&(from, to)).is_some_and(|until| now < *until)
    }

    /// When a message that leaves now arrives: never, once, or twice.
    pub(super) fn arrivals(&mut self, rng: &mut Rng, from: u64, to: u64, now: Time) -> Vec<Time> {
        let Links { delay_min, delay_max, lost, doubled, late, late_max, reorder } = self.links;
        if self.is_cut(from, to, now) || rng.u32(0..1000) < lost {
            self.counts[0] += 1;
            return Vec::new();
        }
        let mut at = now + rng.u64(delay_min..=delay_max);
        if rng.u32(0..1000) < late {
            self.counts[2] += 1;
            at += rng.u64(0..=late_max);
        }
        if let Some(until) = self.clogged.get(&(from, to)) {
            at = at.max(*until);
        }
        if !reorder {
            let last = self.last.entry((from, to)).or_default();
            at = at.max(*last + 1);
            *last = at;
        }
        let mut arrivals = vec![at];
        if rng.u32(0..1000) < doubled {
            self.counts[1] += 1;
            arrivals.push(at + rng.u64(1..=late_max));
        }
        arrivals
    }
}
