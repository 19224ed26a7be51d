//! Which shard serves a new connection.
//!
//! On the log shard a put needs no hop through the mesh, which is worth more than a second processor while there are
//! few connections. With many, work decides: they are spread, and the log shard, which has raft, log and store to
//! drive besides, takes fewer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Up to so many connections stay on the log shard.
const FEW_CONNECTIONS: usize = 4;

/// A connection on the log shard weighs as much as this many quarters of one elsewhere.
const LOG_SHARD_WEIGHT_QUARTERS: usize = 5;

/// Counts open connections a shard; the log shard is the first.
pub struct Placement {
    open: Vec<Arc<AtomicUsize>>,
}

impl Placement {
    /// For the shards that count in `open`.
    pub fn new(open: Vec<Arc<AtomicUsize>>) -> Self {
        Self { open }
    }

    /// The shard for a new connection, which counts as open there from now on.
    pub fn place(&self) -> usize {
        let open: Vec<usize> = self.open.iter().map(|open| open.load(Relaxed)).collect();
        let shard = choose(&open);
        if let Some(open) = self.open.get(shard) {
            open.fetch_add(1, Relaxed);
        }
        shard
    }
}

fn choose(open: &[usize]) -> usize {
    if open.iter().sum::<usize>() < FEW_CONNECTIONS {
        return 0;
    }
    let weight = |shard: usize| if shard == 0 { LOG_SHARD_WEIGHT_QUARTERS } else { 4 };
    open.iter()
        .enumerate()
        .min_by_key(|(shard, open)| (*open + 1) * weight(*shard))
        .map_or(0, |(shard, _)| shard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_connections_stay_on_the_log_shard() {
        let placement = Placement::new(vec![Arc::default(), Arc::default(), Arc::default()]);
        for _ in 0..FEW_CONNECTIONS {
            assert_eq!(placement.place(), 0);
        }
        assert_ne!(placement.place(), 0);
    }

    #[test]
    fn many_connections_are_spread() {
        let open: Vec<Arc<AtomicUsize>> = vec![Arc::default(), Arc::default()];
        let placement = Placement::new(open.clone());
        for _ in 0..99 {
            placement.place();
        }
        assert_eq!(open[0].load(Relaxed) + open[1].load(Relaxed), 99);
        assert!((40..50).contains(&open[0].load(Relaxed)), "{open:?}");
    }
}
