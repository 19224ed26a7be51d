//! Which page ids may be used: a set of free ones, and the end of those ever used.
//!
//! Single pages come from the lowest free id, so that the file stays dense at its front. A run takes the first stretch
//! that is long enough, from where the last search ended, and gives up after a bounded number of stretches: then it
//! comes from the end. All decisions depend on the calls alone.
//!
//! It does not know why a page is free, or that a snapshot may still see one: `retired` hands over pages that nobody
//! sees.

use super::directory::PAGES_MAX;
use crate::ids::PageId;

/// The first two pages of a file are the checkpoint's meta pages.
pub(super) const FIRST_PAGE: PageId = PageId(2);

/// Stretches of free pages that one search for a run looks at.
const RUN_SEARCH_STRETCHES_MAX: usize = 64;

/// The free page ids.
pub(super) struct Freelist {
    free: BitSet,
    /// Number of ids in `free`.
    count: u64,
    /// Ids from here on were never used.
    end: u64,
    /// Where the next search for a run begins.
    run_hint: usize,
}

impl Freelist {
    pub(super) fn new() -> Freelist {
        Freelist { free: BitSet::default(), count: 0, end: FIRST_PAGE.0, run_hint: 0 }
    }

    /// The set that [`words`](Freelist::words) wrote down, of ids before `end`; `None` if it has others.
    pub(super) fn from_words(words: Vec<u64>, end: PageId) -> Option<Freelist> {
        let count = words.iter().map(|word| u64::from(word.count_ones())).sum();
        let free = BitSet::from_words(words);
        let is_outside = free.first_from(index(end)).is_some()
            || free.first_from(0).is_some_and(|first| first < index(FIRST_PAGE));
        (!is_outside).then_some(Freelist { free, count, end: end.0, run_hint: 0 })
    }

    /// The free ids, a bit each, id 0 the lowest of the first word.
    pub(super) fn words(&self) -> &[u64] {
        &self.free.levels[0]
    }

    /// The first of `pages` consecutive ids, now used.
    pub(super) fn allocate(&mut self, pages: usize) -> PageId {
        let found = if pages == 1 { self.free.first_from(0) } else { self.find_run(pages) };
        let Some(start) = found else {
            let start = self.end;
            self.end += pages as u64;
            assert!(self.end <= PAGES_MAX, "the tree is full: {PAGES_MAX} pages are in use");
            return PageId(start);
        };
        for id in start..start + pages {
            self.free.remove(id);
        }
        self.count -= pages as u64;
        PageId(start as u64)
    }

    /// Frees `pages` ids from `start` on.
    pub(super) fn release(&mut self, start: PageId, pages: usize) {
        debug_assert!(start >= FIRST_PAGE && start.0 + pages as u64 <= self.end);
        let start = index(start);
        for id in start..start + pages {
            let was_used = self.free.insert(id);
            assert!(was_used, "invariant: page {id} is freed once");
        }
        self.count += pages as u64;
    }

    /// Lets the next search for a run begin at the front.
    pub(super) fn rewind(&mut self) {
        self.run_hint = 0;
    }

    /// Gives back the free ids at the end, as if they had never been used. Returns the new end.
    pub(super) fn cut_end(&mut self) -> PageId {
        while self.end > FIRST_PAGE.0 && self.is_free(PageId(self.end - 1)) {
            self.end -= 1;
            self.free.remove(index(PageId(self.end)));
            self.count -= 1;
        }
        self.rewind();
        self.end()
    }

    /// Number of free ids.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The first id never used: the length of the file in pages.
    pub(super) fn end(&self) -> PageId {
        PageId(self.end)
    }

    pub(super) fn is_free(&self, id: PageId) -> bool {
        self.free.contains(index(id))
    }

    fn find_run(&mut self, pages: usize) -> Option<usize> {
        let mut at = self.run_hint;
        let mut wrapped = at == 0;
        for _ in 0..RUN_SEARCH_STRETCHES_MAX {
            let Some(start) = self.free.first_from(at) else {
                if wrapped {
                    break;
                }
                (at, wrapped) = (0, true);
                continue;
            };
            let len = (start..start + pages).take_while(|&id| self.free.contains(id)).count();
            if len == pages {
                self.run_hint = start + pages;
                return Some(start);
            }
            at = start + len;
        }
        self.run_hint = if wrapped { 0 } else { at };
        None
    }
}

#[expect(clippy::cast_possible_truncation, reason = "an id is below PAGES_MAX")]
fn index(id: PageId) -> usize {
    id.0 as usize
}

const WORD_BITS: usize = u64::BITS as usize;

/// A set of small numbers whose least member is found in a step per level: a bit in level n + 1 says that a word of
/// level n is not zero.
#[derive(Default)]
struct BitSet {
    levels: [Vec<u64>; LEVELS],
}

/// Enough for one word at the top.
const LEVELS: usize = 5;

const _: () = assert!(PAGES_MAX <= 1 << (6 * LEVELS) && WORD_BITS == 1 << 6);

impl BitSet {
    /// Whether `bit` was absent.
    fn insert(&mut self, bit: usize) -> bool {
        self.grow(bit);
        let absent = !self.contains(bit);
        let mut bit = bit;
        for level in &mut self.levels {
            level[bit / WORD_BITS] |= 1 << (bit % WORD_BITS);
            bit /= WORD_BITS;
        }
        absent
    }

    fn from_words(words: Vec<u64>) -> BitSet {
        let mut set = BitSet { levels: [words, vec![], vec![], vec![], vec![]] };
        for height in 1..LEVELS {
            let below = &set.levels[height - 1];
            let any = |words: &[u64]| {
                let bits = words.iter().enumerate().map(|(nth, word)| u64::from(*word != 0) << nth);
                bits.fold(0, |word, bit| word | bit)
            };
            set.levels[height] = below.chunks(WORD_BITS).map(any).collect();
        }
        set
    }

    fn remove(&mut self, bit: usize) {
        let mut bit = bit;
        for level in &mut self.levels {
            let word = &mut level[bit / WORD_BITS];
            *word &= !(1 << (bit % WORD_BITS));
            if *word != 0 {
                break;
            }
            bit /= WORD_BITS;
        }
    }

    fn contains(&self, bit: usize) -> bool {
        let word = self.levels[0].get(bit / WORD_BITS);
        word.is_some_and(|word| word & (1 << (bit % WORD_BITS)) != 0)
    }

    /// The least member that is not below `from`.
    fn first_from(&self, from: usize) -> Option<usize> {
        let mut at = from;
        let mut height = 0;
        // Up, until a word has a member at or behind the place looked at; the next level looks behind this word.
        loop {
            let level = self.levels.get(height)?;
            let word = level.get(at / WORD_BITS).map_or(0, |word| word & (!0 << (at % WORD_BITS)));
            if word != 0 {
                at = at / WORD_BITS * WORD_BITS + word.trailing_zeros() as usize;
                break;
            }
            at = at / WORD_BITS + 1;
            height += 1;
        }
        // Down, to the least member beneath.
        for level in self.levels[..height].iter().rev() {
            at = at * WORD_BITS + level[at].trailing_zeros() as usize;
        }
        Some(at)
    }

    /// Makes room for `bit` on all levels.
    fn grow(&mut self, bit: usize) {
        let mut words = bit / WORD_BITS + 1;
        for level in &mut self.levels {
            if level.len() < words {
                level.resize(words, 0);
            }
            words = words.div_ceil(WORD_BITS);
        }
    }
}
