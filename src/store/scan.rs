//! A range request carried out over any state of the tree, in slices.
//!
//! What a request's fields mean together is etcd's, quirks included:
//! - `count` is the number of keys in the range at the revision, whatever limit and filters say.
//! - Filters are applied before the limit. `more` says that the limit cut something off.
//! - The natural order is by key, ascending. A sort target other than the key *without* an order
//!   means ascending, but among the first `limit + 1` keys of the natural order only.
//! - Keys that compare equal stay in the natural order. (etcd's sort is not stable beyond a dozen
//!   keys.)
//! - `keys_only` sorts by the value before it drops it.
//!
//! Orders by key stream: each record goes from its page into the sink as the walk passes. Others
//! collect the keys, sorted as they come and never more than the limit of them, then read the
//! records again to yield them: no slice has a whole sort to do, and no value is held meanwhile.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use urd_proto::etcdserverpb::RangeRequest;
use urd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};

use super::keys::KvKey;
use super::walk::{Bounds, Direction, Live, Progress, Walk};
use crate::error::Rejected;
use crate::ids::Revision;
use crate::tree::{Cursor, Read};

/// Takes the key-values that a range yields.
pub(super) trait Sink {
    /// Returns the bytes it took.
    fn push(&mut self, live: &Live<'_>, shape: Shape) -> usize;
}

/// Which parts of a key-value are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    KeysAndValues,
    KeysOnly,
}

/// How many keys the range holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    /// Taken from the tree: the newest state keeps counts.
    Known(u64),
    /// Being counted by the walk, which therefore goes to the end.
    Walked(u64),
}

/// In which order records leave.
#[derive(Debug)]
enum Order {
    ByKey,
    Sorted(Sorted),
}

/// Bounds on create and mod revisions; 0 is no bound.
#[derive(Clone, Copy, Debug)]
struct Filter {
    mod_min: i64,
    mod_max: i64,
    create_min: i64,
    create_max: i64,
}

impl Filter {
    fn passes(&self, live: &Live<'_>) -> bool {
        let within = |revision: Revision, min: i64, max: i64| {
            (min == 0 || revision.0 >= min) && (max == 0 || revision.0 <= max)
        };
        within(live.mod_revision(), self.mod_min, self.mod_max)
            && within(live.record.create_revision, self.create_min, self.create_max)
    }
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Scan {
    walk: Walk,
    walked: bool,
    shape: Shape,
    filter: Filter,
    order: Order,
    /// Key-values to yield; `None` for all. Never 0: for a client that means all.
    limit: Option<u64>,
    /// Keys to take from the walk at all: 0 when only the count is wanted, `limit + 1` where the
    /// cut comes before the sort (the quirk named above).
    take: Option<u64>,
    taken: u64,
    count: Count,
    more: bool,
}

/// What a finished scan knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScanEnd {
    pub(super) more: bool,
    pub(super) count: i64,
}

/// Whether a range's answer comes in the natural order.
pub(super) fn is_default_order(request: &RangeRequest) -> bool {
    request.sort_order == SortOrder::None as i32
        || (request.sort_target == SortTarget::Key as i32
            && request.sort_order == SortOrder::Ascend as i32)
}

/// Whether a range filters by create or mod revision.
pub(super) fn has_revision_filter(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

impl Scan {
    /// A scan at `revision`, which the caller has found readable in `reader`'s state, whose newest
    /// revision is `newest`.
    pub(super) fn new<R: Read>(
        reader: &R,
        request: &RangeRequest,
        revision: Revision,
        newest: Revision,
    ) -> Result<Self, Rejected> {
        let order = SortOrder::try_from(request.sort_order);
        let order = order.map_err(|_| Rejected::InvalidSortOption)?;
        let target = SortTarget::try_from(request.sort_target);
        let target = target.map_err(|_| Rejected::InvalidSortOption)?;

        let bounds = Bounds::new(&request.key, &request.range_end);
        let limit = u64::try_from(request.limit).ok().filter(|&limit| limit > 0);
        // A walk that reaches the end counts on its way.
        let stops_early = !bounds.is_one_key && (request.count_only || limit.is_some());
        let count = if stops_early && revision == newest {
            Count::Known(reader.count(&bounds.from, Some(&bounds.to)))
        } else {
            Count::Walked(0)
        };
        let descending_by_key = target == SortTarget::Key && order == SortOrder::Descend;
        let sorts = target != SortTarget::Key;
        let cuts_before_sort = sorts && is_default_order(request) && !has_revision_filter(request);
        let direction =
            if descending_by_key { Direction::Descending } else { Direction::Ascending };
        Ok(Self {
            walk: Walk::new(bounds, revision, direction),
            walked: request.count_only && matches!(count, Count::Known(_)),
            shape: if request.keys_only { Shape::KeysOnly } else { Shape::KeysAndValues },
            filter: Filter {
                mod_min: request.min_mod_revision,
                mod_max: request.max_mod_revision,
                create_min: request.min_create_revision,
                create_max: request.max_create_revision,
            },
            order: if sorts { Order::Sorted(Sorted::new(target, order)) } else { Order::ByKey },
            limit,
            take: match limit {
                _ if request.count_only => Some(0),
                Some(limit) if cuts_before_sort => Some(limit.saturating_add(1)),
                _ => None,
            },
            taken: 0,
            count,
            more: false,
        })
    }

    /// Works until `budget` bytes are spent or the end is reached.
    pub(super) fn step<R: Read>(
        &mut self,
        reader: &R,
        mut budget: usize,
        sink: &mut impl Sink,
    ) -> Option<ScanEnd> {
        if !self.walked {
            self.walked = self.walk_slice(reader, &mut budget, sink) == Progress::Done;
            if !self.walked {
                return None;
            }
        }
        if let Order::Sorted(sorted) = &mut self.order
            && sorted.yield_slice(reader, &mut budget, self.shape, sink) == Progress::More
        {
            return None;
        }
        let (Count::Known(count) | Count::Walked(count)) = self.count;
        let count = i64::try_from(count).expect("invariant: fewer keys than i64::MAX");
        Some(ScanEnd { more: self.more, count })
    }

    fn walk_slice<R: Read>(
        &mut self,
        reader: &R,
        budget: &mut usize,
        sink: &mut impl Sink,
    ) -> Progress {
        let Self { walk, shape, filter, order, limit, take, taken, count, more, .. } = self;
        walk.run(reader, budget, |live| {
            if let Count::Walked(count) = count {
                *count += 1;
            }
            let mut bytes = 0;
            let mut finished = take.is_some_and(|take| *taken >= take);
            if !finished && filter.passes(&live) {
                *taken += 1;
                match order {
                    Order::Sorted(sorted) => *more |= sorted.insert(&live, *limit),
                    Order::ByKey if limit.is_some_and(|limit| *taken > limit) => {
                        *more = true;
                        *take = Some(0);
                        finished = true;
                    }
                    Order::ByKey => bytes = sink.push(&live, *shape),
                }
            }
            match count {
                Count::Known(_) if finished => ControlFlow::Break(()),
                _ => ControlFlow::Continue(bytes),
            }
        })
    }
}

/// What a key-value is sorted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SortKey {
    Number(i64),
    NumberDescending(Reverse<i64>),
    Value(Box<[u8]>),
    ValueDescending(Reverse<Box<[u8]>>),
}

/// The keys of a sorted range, in order.
#[derive(Debug)]
struct Sorted {
    target: SortTarget,
    order: SortOrder,
    /// Sort key and place in the natural order to `kv` key.
    keys: BTreeMap<(SortKey, u64), Box<[u8]>>,
    inserted: u64,
}

impl Sorted {
    fn new(target: SortTarget, order: SortOrder) -> Self {
        Self { target, order, keys: BTreeMap::new(), inserted: 0 }
    }

    /// Takes a key. True when the limit pushed one out.
    fn insert(&mut self, live: &Live<'_>, limit: Option<u64>) -> bool {
        let key = (self.sort_key(live), self.inserted);
        self.inserted += 1;
        let is_full = limit.is_some_and(|limit| self.keys.len() as u64 >= limit);
        if is_full {
            if self.keys.last_key_value().is_none_or(|(last, _)| *last < key) {
                return true;
            }
            self.keys.pop_last();
        }
        self.keys.insert(key, live.key.to_boxed_slice());
        is_full
    }

    fn sort_key(&self, live: &Live<'_>) -> SortKey {
        let descending = self.order == SortOrder::Descend;
        let number = match self.target {
            SortTarget::Version => live.record.version,
            SortTarget::Create => live.record.create_revision.0,
            // The key is never collected: it is the natural order.
            SortTarget::Mod | SortTarget::Key => live.mod_revision().0,
            SortTarget::Value => {
                let value = Box::from(live.record.value);
                return if descending {
                    SortKey::ValueDescending(Reverse(value))
                } else {
                    SortKey::Value(value)
                };
            }
        };
        if descending {
            SortKey::NumberDescending(Reverse(number))
        } else {
            SortKey::Number(number)
        }
    }

    fn yield_slice<R: Read>(
        &mut self,
        reader: &R,
        budget: &mut usize,
        shape: Shape,
        sink: &mut impl Sink,
    ) -> Progress {
        let mut cursor = reader.cursor();
        while let Some((_, key)) = self.keys.pop_first() {
            cursor.seek(&key);
            assert!(cursor.valid() && cursor.key() == &*key, "a snapshot lost {key:?}");
            let live = Live::read(cursor.key(), cursor.value());
            let live = live.expect("invariant: only live keys are collected");
            *budget = budget.saturating_sub(sink.push(&live, shape));
            if *budget == 0 && !self.keys.is_empty() {
                return Progress::More;
            }
        }
        Progress::Done
    }
}

impl KvKey<'_> {
    /// The whole key again.
    fn to_boxed_slice(self) -> Box<[u8]> {
        let mut key = self.prefix.to_vec();
        super::keys::kv_push_change(&mut key, self.change);
        key.into_boxed_slice()
    }
}
