//! Which code was reached, as far as the compiler has prepared the program for it (`--cfg urd_coverage`, see the README).
//!
//! Each edge of the control flow has a counter of a byte. How often an edge was passed in a run falls into one of eight
//! classes (once, twice, three times, up to 7, 15, 31, 127, and more), and a run has news if it reached a class of an edge
//! that none has reached before. A counter that has come round to 0 looks as if its edge had not been reached.

/// The classes of each edge that runs have reached so far, a bit each.
#[derive(Debug, Default)]
pub struct Coverage {
    seen: Vec<u8>,
    edges: usize,
}

impl Coverage {
    /// What is counted from here on is the next run's.
    pub fn begin(&self) {
        take(|_, _| {});
    }

    /// Looks at what was counted; whether it has news.
    pub fn end(&mut self) -> bool {
        let mut has_news = false;
        take(|edge, count| has_news |= self.note(edge, count));
        has_news
    }

    /// Edges that were reached, and how many there are; `None` in a build without counters.
    #[must_use]
    pub fn edges(&self) -> Option<(usize, usize)> {
        count().map(|all| (self.edges, all))
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

#[cfg(not(urd_coverage))]
fn count() -> Option<usize> {
    None
}

#[cfg(not(urd_coverage))]
fn take(_: impl FnMut(usize, u8)) {}

#[cfg(urd_coverage)]
fn count() -> Option<usize> {
    let counters = super::counters::counters()?;
    Some(counters.head.len() + size_of_val(counters.words) + counters.tail.len())
}

/// Shows all counters that are not 0, with their numbers, and clears them.
#[cfg(urd_coverage)]
fn take(mut show: impl FnMut(usize, u8)) {
    use std::sync::atomic::AtomicU8;
    use std::sync::atomic::Ordering::Relaxed;

    /// Words that are looked at together. There are far more counters than a run reaches, and this is done between any two.
    const GROUP: usize = 16;

    let Some(counters) = super::counters::counters() else { return };
    let mut show_bytes = |first: usize, bytes: &[AtomicU8]| {
        for (nth, byte) in bytes.iter().enumerate() {
            let count = byte.load(Relaxed);
            if count != 0 {
                byte.store(0, Relaxed);
                show(first + nth, count);
            }
        }
    };
    let words = counters.head.len();
    show_bytes(0, counters.head);
    show_bytes(words + size_of_val(counters.words), counters.tail);
    for (nth, group) in counters.words.chunks(GROUP).enumerate() {
        if group.iter().fold(0, |all, word| all | word.load(Relaxed)) == 0 {
            continue;
        }
        for (at, word) in group.iter().enumerate() {
            let counts = word.load(Relaxed);
            if counts == 0 {
                continue;
            }
            word.store(0, Relaxed);
            let first = words + (nth * GROUP + at) * size_of::<u64>();
            for (byte, count) in counts.to_le_bytes().into_iter().enumerate() {
                if count != 0 {
                    show(first + byte, count);
                }
            }
        }
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
