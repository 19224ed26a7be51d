//! Which code was reached, as far as the compiler has prepared the program for it (`--cfg urd_coverage`, see the README).
//!
//! Each edge of the control flow has a counter of a byte. How often an edge was passed in a run falls into one of eight
//! classes (once, twice, three times, up to 7, 15, 31, 127, and more), and a run has news if it reached a class of an edge
//! that none has reached before. A counter that has come round to 0 looks as if its edge had not been reached.

use std::mem;

/// Counters that are looked at together.
const GROUP: usize = 64;

/// The classes of each edge that runs have reached so far, a bit each.
#[derive(Debug, Default)]
pub struct Coverage {
    /// Of the last run.
    counts: Vec<u8>,
    seen: Vec<u8>,
    edges: usize,
}

impl Coverage {
    /// What is counted from here on is the next run's.
    pub fn begin(&self) {
        #[cfg(urd_coverage)]
        super::counters::clear();
    }

    /// Looks at what was counted; whether it has news.
    pub fn end(&mut self) -> bool {
        #[cfg(urd_coverage)]
        super::counters::copy(&mut self.counts);
        let counts = mem::take(&mut self.counts);
        let mut has_news = false;
        // There are far more counters than a run reaches.
        let groups = counts.chunks(GROUP).enumerate().filter(|(_, group)| **group != [0; GROUP]);
        for (nth, group) in groups {
            for (at, &count) in group.iter().enumerate().filter(|(_, count)| **count != 0) {
                has_news |= self.note(nth * GROUP + at, count);
            }
        }
        self.counts = counts;
        has_news
    }

    /// Edges that were reached, and how many there are; `None` in a build without counters.
    #[must_use]
    pub fn edges(&self) -> Option<(usize, usize)> {
        #[cfg(urd_coverage)]
        return super::counters::count().map(|all| (self.edges, all));
        #[cfg(not(urd_coverage))]
        None
    }

    fn note(&mut self, edge: usize, count: u8) -> bool {
        if edge >= self.seen.len() {
            self.seen.resize(edge + 1, 0);
        }
        let seen = &mut self.seen[edge];
        self.edges += usize::from(*seen == 0);
        let class = class(count);
        let is_new = *seen & class == 0;
        *seen |= class;
        is_new
    }
}

/// The bit of a count that is not 0.
fn class(count: u8) -> u8 {
    match count {
        0..4 => 1 << count.saturating_sub(1),
        4..8 => 1 << 3,
        8..16 => 1 << 4,
        16..32 => 1 << 5,
        32..128 => 1 << 6,
        128.. => 1 << 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_of_an_edge_is_news_once() {
        let mut coverage = Coverage::default();
        assert!(coverage.note(7, 1));
        assert!(!coverage.note(7, 1));
        assert!(coverage.note(7, 5) && !coverage.note(7, 4));
        assert!(coverage.note(3, 255));
        assert_eq!(coverage.edges, 2);
        let classes: std::collections::BTreeSet<u8> = (1..=u8::MAX).map(class).collect();
        assert_eq!(classes.len(), 8);
        assert!((1..=u8::MAX).all(|count| class(count) >= class(count - 1)), "they are in order");
    }

    /// Only in a build for coverage is there anything to count.
    #[test]
    fn edges_are_counted_where_they_can_be() {
        let mut coverage = Coverage::default();
        coverage.begin();
        let has_news = coverage.end();
        assert_eq!(has_news, cfg!(urd_coverage));
        assert_eq!(coverage.edges().is_some(), cfg!(urd_coverage));
    }
}
