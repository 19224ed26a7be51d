//! Which processors the shards run on.

use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;

use rustix::thread::{CpuSet, sched_getaffinity};

/// One processor for each shard, the log shard's first.
///
/// The log shard is the busiest. Where several servers share a machine, each starts at another processor, chosen by
/// `salt` (what distinguishes the servers, such as their names and addresses), so that their log shards spread out.
/// More shards than processors share them in turn.
pub fn assign(shards: Option<NonZeroUsize>, cpus: &[usize], salt: &impl Hash) -> Vec<usize> {
    let count = shards.map_or(cpus.len(), NonZeroUsize::get);
    let mut hasher = Fnv::default();
    salt.hash(&mut hasher);
    let first = usize::try_from(hasher.finish() % (cpus.len().max(1) as u64))
        .expect("invariant: below a usize");
    cpus.iter().copied().cycle().skip(first).take(count).collect()
}

/// The processors that this process may use, ascending.
pub fn allowed() -> std::io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// FNV-1a: a hash that is the same at every start, unlike the standard library's.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The low bits of FNV mix badly, and a remainder looks at those.
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_take_processors_in_turn() {
        let assigned = assign(NonZeroUsize::new(5), &[2, 3], &"a");
        assert_eq!(assigned.len(), 5);
        assert_eq!(assigned[0], assigned[2]);
        assert_ne!(assigned[0], assigned[1]);
        assert_eq!(assign(None, &[2, 3, 7], &"a").len(), 3);
    }

    #[test]
    fn log_shards_of_several_servers_spread_out() {
        let firsts: Vec<usize> =
            (0..64).map(|server| assign(None, &[0, 1], &format!("infra{server}"))[0]).collect();
        let on_first = firsts.iter().filter(|cpu| **cpu == 0).count();
        assert!((16..=48).contains(&on_first), "{on_first} of 64 on one of two processors");
    }

    #[test]
    fn this_process_may_run_somewhere() {
        assert!(!allowed().unwrap().is_empty());
    }
}
