//! A set of page ids, a bit each: cheap to change, cheap to walk when most of a large range is absent.

use crate::ids::PageId;

const WORD_BITS: usize = u64::BITS as usize;

/// A set of page ids.
#[derive(Default)]
pub(super) struct Marks {
    words: Vec<u64>,
    len: u64,
}

impl Marks {
    #[inline]
    pub(super) fn insert(&mut self, id: PageId) {
        let (word, bit) = position(id);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.len += u64::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    #[inline]
    pub(super) fn remove(&mut self, id: PageId) {
        let (word, bit) = position(id);
        if let Some(word) = self.words.get_mut(word) {
            self.len -= u64::from(*word & bit != 0);
            *word &= !bit;
        }
    }

    pub(super) fn contains(&self, id: PageId) -> bool {
        let (word, bit) = position(id);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The members, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = PageId> + '_ {
        self.words.iter().enumerate().flat_map(|(nth, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(PageId((nth * WORD_BITS + bit) as u64))
            })
        })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "an id is below PAGES_MAX")]
fn position(id: PageId) -> (usize, u64) {
    (id.0 as usize / WORD_BITS, 1 << (id.0 as usize % WORD_BITS))
}
