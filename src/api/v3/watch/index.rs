//! Which groups of watchers a key concerns.
//!
//! Single keys and prefixes, which is what nearly everybody watches, are found by a few lookups however many there are:
//! prefixes of a key are met from the longest to the shortest, each lookup leading to the next one there is. Ranges of
//! any other shape stand in a list by their begin, and each that begins at the key or before costs a look.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;

/// What is watched: one key, or the keys from `key` up to a bound.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    pub(super) key: Bytes,
    pub(super) end: End,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    OneKey,
    Before(Bytes),
    None,
}

impl Range {
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::OneKey => self.key == key,
            End::Before(end) => self.key <= key && key < &end[..],
            End::None => self.key <= key,
        }
    }

    /// Whether it is the keys that begin with its first one.
    fn is_prefix(&self) -> bool {
        let End::Before(end) = &self.end else { return false };
        match (self.key.split_last(), end.split_last()) {
            (Some((last, rest)), Some((end_last, end_rest))) => {
                rest == end_rest && last.checked_add(1) == Some(*end_last)
            }
            _ => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Options {
    pub(super) prev_kv: bool,
    pub(super) no_put: bool,
    pub(super) no_delete: bool,
}

impl Options {
    const LEAST: Options = Options { prev_kv: false, no_put: false, no_delete: false };
    const MOST: Options = Options { prev_kv: true, no_put: true, no_delete: true };
}

type Table = BTreeMap<(Range, Options), usize>;

/// The groups, by what they watch.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: Table,
    prefixes: Table,
    others: Table,
}

impl Index {
    pub(super) fn entry(
        &mut self,
        range: Range,
        options: Options,
    ) -> Entry<'_, (Range, Options), usize> {
        self.table(&range).entry((range, options))
    }

    pub(super) fn remove(&mut self, range: Range, options: Options) {
        self.table(&range).remove(&(range, options));
    }

    fn table(&mut self, range: &Range) -> &mut Table {
        match range.end {
            End::OneKey => &mut self.keys,
            End::Before(_) if range.is_prefix() => &mut self.prefixes,
            End::Before(_) | End::None => &mut self.others,
        }
    }

    /// Shows the groups that watch `key`.
    pub(super) fn for_each_match(&self, key: &[u8], mut show: impl FnMut(usize)) {
        if !self.keys.is_empty() {
            for_each_at(&self.keys, key, &mut show);
        }
        if !self.prefixes.is_empty() {
            self.for_each_prefix(key, &mut show);
        }
        if !self.others.is_empty() {
            let begun = self.others.range(..=last_at(key));
            begun.filter(|((range, _), _)| range.contains(key)).for_each(|(_, group)| show(*group));
        }
    }

    fn for_each_prefix(&self, key: &[u8], show: &mut impl FnMut(usize)) {
        // No prefix of `key` longer than this is left.
        let mut longest = key.len();
        while let Some(((range, _), _)) =
            self.prefixes.range(..=last_at(&key[..longest])).next_back()
        {
            // What is found begins as `key` does for so long; a longer prefix of `key` would stand behind it.
            let common = range.key.iter().zip(key).take_while(|(a, b)| a == b).count();
            longest = common;
            if common == range.key.len() {
                for_each_at(&self.prefixes, &range.key, show);
                let Some(shorter) = common.checked_sub(1) else { return };
                longest = shorter;
            }
        }
    }
}

/// The groups of ranges that begin at `key`.
fn for_each_at(table: &Table, key: &[u8], show: &mut impl FnMut(usize)) {
    let first = Range { key: Bytes::copy_from_slice(key), end: End::OneKey };
    let range = table.range((first, Options::LEAST)..=last_at(key));
    range.for_each(|(_, group)| show(*group));
}

/// Behind all ranges that begin at `key`.
fn last_at(key: &[u8]) -> (Range, Options) {
    (Range { key: Bytes::copy_from_slice(key), end: End::None }, Options::MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(rng: &mut fastrand::Rng) -> Range {
        let key = key(rng, 1);
        let end = match rng.u8(..6) {
            0 => End::None,
            1 => End::OneKey,
            2 => End::Before([&key[..], &[0]].concat().into()),
            _ => {
                let mut end = key.to_vec();
                let last = end.last_mut().unwrap();
                *last = last.checked_add(1).unwrap_or(255);
                End::Before(end.into())
            }
        };
        Range { key, end }
    }

    /// Few letters and few bytes, so that keys and prefixes meet; the last letter has no successor.
    fn key(rng: &mut fastrand::Rng, least: usize) -> Bytes {
        (0..rng.usize(least..5)).map(|_| [b'a', b'b', 255][rng.usize(..3)]).collect()
    }

    #[test]
    fn finds_what_a_look_at_each_finds() {
        let mut rng = fastrand::Rng::with_seed(4);
        let (mut index, mut all) = (Index::default(), BTreeMap::new());
        for round in 0..3000 {
            let options = Options { prev_kv: rng.bool(), ..Options::LEAST };
            let place = (range(&mut rng), options);
            if rng.u8(..3) == 0 {
                all.remove(&place);
                index.remove(place.0, place.1);
            } else {
                all.insert(place.clone(), round);
                index.entry(place.0, place.1).insert_entry(round);
            }
            let key = key(&mut rng, 0);
            let mut found = Vec::new();
            index.for_each_match(&key, |group| found.push(group));
            found.sort_unstable();
            let contains =
                |((range, _), group): (&(Range, _), &usize)| range.contains(&key).then_some(*group);
            let mut expected: Vec<_> = all.iter().filter_map(contains).collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "{key:?}");
        }
        assert!(index.keys.len() > 9 && index.prefixes.len() > 9 && index.others.len() > 9);
    }
}
