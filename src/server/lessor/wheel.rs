//! A timer wheel: any number of deadlines, of which only those that are reached cost anything.
//!
//! Time is counted in ticks. Level 0 has a slot for each of the next 64 ticks, level 1 one for each of the next 64
//! times 64, and so on. When the time comes that a slot begins, its timers are *reached*: those that are due go out, the
//! others down to a finer level. So setting and removing a timer takes constant time, a timer moves at most
//! [`LEVELS`] times, and nothing is sorted or searched.
//!
//! A slot is a doubly linked ring of nodes in one vector; reaching it links its whole ring behind the reached ones in
//! one step. So [`Wheel::advance`] does no more than it is told to, however many timers fall into one tick, and goes on
//! next time.

/// Slots of a level, as a power of two.
const SLOT_BITS: u32 = 6;
const SLOTS: u64 = 1 << SLOT_BITS;
/// More ticks than any deadline is away: in ticks of 100 ms, 13,000 years.
const LEVELS: usize = 7;
/// The node that begins the ring of reached timers; before it stand those that begin the slots' rings.
const REACHED: u32 = LEVELS as u32 * SLOTS as u32;

/// Names a timer until it is due or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer(u32);

#[derive(Debug)]
struct Node<T> {
    previous: u32,
    next: u32,
    deadline: u64,
    /// `None`: begins a ring, or is free.
    item: Option<T>,
}

/// See the module's page.
#[derive(Debug)]
pub struct Wheel<T> {
    nodes: Vec<Node<T>>,
    /// Nodes to use again.
    free: Vec<u32>,
    /// Invariant: every timer with a deadline up to here is in the ring of reached ones.
    tick: u64,
}

impl<T> Wheel<T> {
    /// A wheel without timers, at `tick`.
    pub fn new(tick: u64) -> Self {
        let ring = |at| Node { previous: at, next: at, deadline: 0, item: None };
        Self { nodes: (0..=REACHED).map(ring).collect(), free: Vec::new(), tick }
    }

    /// Sets a timer. One whose deadline has passed already is due at once.
    pub fn insert(&mut self, deadline: u64, item: T) -> Timer {
        let node = Node { previous: 0, next: 0, deadline, item: Some(item) };
        let at = match self.free.pop() {
            Some(at) => {
                *self.node(at) = node;
                at
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("invariant: fewer timers than u32::MAX")
            }
        };
        self.link(at);
        Timer(at)
    }

    /// Takes a timer back that is not due yet.
    pub fn remove(&mut self, timer: Timer) -> T {
        self.unlink(timer.0);
        self.free.push(timer.0);
        self.node(timer.0).item.take().expect("invariant: a timer is removed once")
    }

    /// Moves on to `tick` and says what is due. Looks at up to `timers_max` timers; true when there are more to look at.
    pub fn advance(&mut self, tick: u64, timers_max: usize, due: &mut Vec<T>) -> bool {
        let mut left = timers_max;
        loop {
            while let first = self.node(REACHED).next
                && first != REACHED
            {
                if left == 0 {
                    return true;
                }
                left -= 1;
                if self.node(first).deadline <= self.tick {
                    due.push(self.remove(Timer(first)));
                } else {
                    self.unlink(first);
                    self.link(first);
                }
            }
            if self.tick >= tick {
                return false;
            }
            self.tick += 1;
            self.reach();
        }
    }

    /// Links the slots that begin with this tick behind the reached timers.
    fn reach(&mut self) {
        for level in 0..LEVELS {
            let shift = SLOT_BITS * level as u32;
            if self.tick & ((1 << shift) - 1) != 0 {
                return;
            }
            self.append_ring(slot(level, self.tick >> shift));
        }
    }

    /// Links a node, by its deadline, into a slot or behind the reached ones.
    fn link(&mut self, at: u32) {
        let ahead = self.node(at).deadline.saturating_sub(self.tick);
        let ring = match ahead.checked_ilog2() {
            None => REACHED,
            Some(log) => {
                // A deadline that is too far away waits in the last slot, and is looked at again then.
                let ahead = ahead.min((1 << (SLOT_BITS * LEVELS as u32)) - 1);
                let level = ((log / SLOT_BITS) as usize).min(LEVELS - 1);
                slot(level, (self.tick + ahead) >> (SLOT_BITS * level as u32))
            }
        };
        let last = std::mem::replace(&mut self.node(ring).previous, at);
        self.node(last).next = at;
        let node = self.node(at);
        (node.previous, node.next) = (last, ring);
    }

    fn unlink(&mut self, at: u32) {
        let (previous, next) = (self.node(at).previous, self.node(at).next);
        self.node(previous).next = next;
        self.node(next).previous = previous;
    }

    /// Moves all of a ring behind the reached timers.
    fn append_ring(&mut self, ring: u32) {
        let (first, last) = (self.node(ring).next, self.node(ring).previous);
        if first == ring {
            return;
        }
        (self.node(ring).next, self.node(ring).previous) = (ring, ring);
        let before = std::mem::replace(&mut self.node(REACHED).previous, last);
        self.node(before).next = first;
        self.node(first).previous = before;
        self.node(last).next = REACHED;
    }

    fn node(&mut self, at: u32) -> &mut Node<T> {
        self.nodes.get_mut(at as usize).expect("invariant: links lead to nodes")
    }
}

/// The node that begins a slot's ring.
fn slot(level: usize, number: u64) -> u32 {
    level as u32 * SLOTS as u32 + (number % SLOTS) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fastrand::Rng;

    use super::*;

    fn due(wheel: &mut Wheel<u32>, tick: u64) -> Vec<u32> {
        let mut due = Vec::new();
        assert!(!wheel.advance(tick, usize::MAX, &mut due));
        due
    }

    #[test]
    fn a_timer_is_due_at_its_tick_and_not_before() {
        for ahead in [1, 2, 63, 64, 65, 127, 128, 4095, 4096, 4097, 262_143, 262_144, 1_000_000] {
            for start in [0, 1, 63, 64, 4095, 12_345] {
                let mut wheel = Wheel::new(start);
                wheel.insert(start + ahead, 7);
                assert!(due(&mut wheel, start + ahead - 1).is_empty(), "{start} + {ahead}");
                assert_eq!(due(&mut wheel, start + ahead), [7], "{start} + {ahead}");
            }
        }
    }

    #[test]
    fn a_timer_in_the_past_is_due_at_once() {
        let mut wheel = Wheel::new(100);
        wheel.insert(100, 1);
        wheel.insert(3, 2);
        assert_eq!(due(&mut wheel, 100), [1, 2]);
    }

    #[test]
    fn the_farthest_deadline_is_kept() {
        let mut wheel = Wheel::new(5);
        let timer = wheel.insert(u64::MAX, 1);
        assert!(due(&mut wheel, 100_000).is_empty());
        assert_eq!(wheel.remove(timer), 1);
    }

    /// Whatever falls into one tick, one step does no more than it may; nothing is lost between steps.
    #[test]
    fn a_step_is_bounded() {
        const TIMERS: u32 = 1000;
        let mut wheel = Wheel::new(0);
        let timers: Vec<Timer> = (0..TIMERS).map(|item| wheel.insert(5000, item)).collect();
        let (mut found, mut steps) = (Vec::new(), 0);
        loop {
            let before = found.len();
            let more = wheel.advance(5000, 10, &mut found);
            assert!(found.len() - before <= 10);
            steps += 1;
            if !more {
                break;
            }
            if steps == 3 {
                // Reached, and not looked at yet.
                assert_eq!(wheel.remove(timers[999]), 999);
            }
        }
        found.sort_unstable();
        assert_eq!(found, (0..TIMERS - 1).collect::<Vec<_>>());
        assert!(steps >= TIMERS / 10, "{steps} steps");
    }

    /// Against a sorted map, with timers set, removed and moved at random, and steps of any size.
    #[test]
    fn agrees_with_a_sorted_map() {
        for seed in 0..20 {
            let mut rng = Rng::with_seed(seed);
            let mut tick = rng.u64(0..100_000);
            let mut wheel = Wheel::new(tick);
            let mut model: BTreeMap<u32, (u64, Timer)> = BTreeMap::new();
            for item in 0..4000 {
                let range = [2, 64, 70, 5000, 300_000][rng.usize(..5)];
                let deadline = tick + rng.u64(0..range);
                model.insert(item, (deadline, wheel.insert(deadline, item)));
                if rng.u8(..4) == 0 {
                    let moved = rng.u32(0..=item);
                    if let Some((deadline, timer)) = model.remove(&moved) {
                        assert_eq!(wheel.remove(timer), moved);
                        if rng.bool() {
                            let deadline = deadline + rng.u64(0..500);
                            model.insert(moved, (deadline, wheel.insert(deadline, moved)));
                        }
                    }
                }
                if rng.u8(..3) > 0 {
                    continue;
                }
                let step = if rng.u8(..50) == 0 { 10_000 } else { 20 };
                tick += rng.u64(0..step);
                let mut found = Vec::new();
                while wheel.advance(tick, rng.usize(1..20), &mut found) {}
                found.sort_unstable();
                let expected: Vec<u32> =
                    model.iter().filter(|(_, at)| at.0 <= tick).map(|(&item, _)| item).collect();
                assert_eq!(found, expected, "seed {seed}, tick {tick}");
                model.retain(|_, at| at.0 > tick);
            }
        }
    }
}
