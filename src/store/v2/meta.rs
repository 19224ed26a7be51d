//! v2's own numbers, in one record of the tree.
//!
//! ```text
//! index    8        the newest index
//! first    8        the oldest event that is kept, if there is one
//! bytes    8        of the events that are kept
//! counts   13 * 8   what was done, in the order of `Counts`
//! auth     8        1 when auth is enabled, else 0
//! ```
//!
//! All big-endian. Without a record, nothing was written yet.

use crate::limits::NUMBER_MAX;
use crate::store::check::Fault;
use crate::store::keys::V2_NUMBERS_KEY;
use crate::tree::{Read, Tree};

const COUNTS: usize = 13;
const NUMBERS_BYTES: usize = (4 + COUNTS) * 8;

/// The index before the first write in a cluster that begins with one member: etcd has three writes of its own by then.
const FIRST_INDEX: u64 = 3;

/// See the file's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    pub index: u64,
    /// Events before this one were dropped. Invariant: at most one more than `index`.
    pub first: u64,
    pub(super) bytes: u64,
    pub(super) counts: Counts,
    /// What auth's own node says, at hand for every request.
    pub(super) auth_enabled: bool,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            index: FIRST_INDEX,
            first: 1,
            bytes: 0,
            counts: Counts::default(),
            auth_enabled: false,
        }
    }
}

/// How many requests of each kind have had which end, as etcd's `/v2/stats/store` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub sets: Ends,
    pub creates: Ends,
    pub updates: Ends,
    pub swaps: Ends,
    pub deletes: Ends,
    pub compared_deletes: Ends,
    pub expired: u64,
}

/// Successes and failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    pub success: u64,
    pub fail: u64,
}

impl Ends {
    pub(super) fn count(&mut self, is_success: bool) {
        if is_success { self.success += 1 } else { self.fail += 1 }
    }
}

impl Numbers {
    /// Those of a new cluster. Each of its first members would have had etcd write twice, and their version once.
    pub(in crate::store) fn of_cluster(members: usize) -> Self {
        Self { index: 2 * members as u64 + 1, ..Self::default() }
    }

    pub(in crate::store) fn encode(&self) -> [u8; NUMBERS_BYTES] {
        let Self { index, first, bytes, counts, auth_enabled } = self;
        let Counts { sets, creates, updates, swaps, deletes, compared_deletes, expired } = counts;
        let mut encoded = [0; NUMBERS_BYTES];
        let ends = [sets, creates, updates, swaps, deletes, compared_deletes];
        let ends = ends.into_iter().flat_map(|ends| [ends.success, ends.fail]);
        let numbers = [*index, *first, *bytes].into_iter().chain(ends).chain([*expired]);
        let numbers = numbers.chain([u64::from(*auth_enabled)]);
        for (field, number) in encoded.chunks_exact_mut(8).zip(numbers) {
            field.copy_from_slice(&number.to_be_bytes());
        }
        encoded
    }

    /// Those of a tree.
    pub(in crate::store) fn open(tree: &Tree) -> Result<Self, Fault> {
        tree.verify_path(V2_NUMBERS_KEY).map_err(|damage| Fault::new(&tree.describe(&damage)))?;
        match tree.get(V2_NUMBERS_KEY) {
            None => Ok(Self::default()),
            Some(numbers) => Self::decode(numbers)
                .ok_or_else(|| Fault::new("v2's numbers in the tree are not readable")),
        }
    }

    /// `None` when the bytes are not those of such a record.
    pub(in crate::store) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; NUMBERS_BYTES] = bytes.try_into().ok()?;
        let (numbers, _) = bytes.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|number| u64::from_be_bytes(*number));
        let mut next = || numbers.next();
        let (index, first, bytes) = (next()?, next()?, next()?);
        let mut ends = || Some(Ends { success: next()?, fail: next()? });
        let (sets, creates, updates) = (ends()?, ends()?, ends()?);
        let (swaps, deletes, compared_deletes) = (ends()?, ends()?, ends()?);
        let expired = next()?;
        let auth_enabled = match next()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let counts = Counts { sets, creates, updates, swaps, deletes, compared_deletes, expired };
        let is_sound = index <= NUMBER_MAX && (1..=index + 1).contains(&first);
        is_sound.then_some(Self { index, first, bytes, counts, auth_enabled })
    }
}
