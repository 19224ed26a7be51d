//! Which processors the shards run on.

use std::hash::{Hash, Hasher};
use std::io;
use std::num::NonZeroUsize;

use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// What a background thread's nice value is raised by: beside a busy shard it gets a third of a processor.
const BACKGROUND_NICE: i32 = 5;
/// The largest that there is.
const NICE_MAX: i32 = 19;

/// What tells the servers of one machine apart, so that their log shards, which are the busiest, spread over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Of the members on this host that the server knows of, it is the one of this number.
    OnHost(usize),
    /// It knows of no other: what distinguishes it, such as its name and addresses, hashed.
    Salt(u64),
}

impl Place {
    /// See [`Place::Salt`].
    pub fn of_salt(salt: &impl Hash) -> Self {
        let mut hasher = Fnv::default();
        salt.hash(&mut hasher);
        Self::Salt(hasher.finish())
    }
}

/// One processor for each shard, the log shard's first, beginning where `place` says. More shards than processors share
/// them in turn.
pub fn assign(shards: Option<NonZeroUsize>, cpus: &[usize], place: Place) -> Vec<usize> {
    let count = shards.map_or(cpus.len(), NonZeroUsize::get);
    let place = match place {
        Place::OnHost(number) => number as u64,
        Place::Salt(salt) => salt,
    };
    let first =
        usize::try_from(place % (cpus.len().max(1) as u64)).expect("invariant: below a usize");
    cpus.iter().copied().cycle().skip(first).take(count).collect()
}

/// Makes the calling thread one for work that nobody waits for: it may run on any of `cpus`, and gives way to shards.
/// Otherwise it would stay on the processor of the executor that started it, and take half of that.
///
/// # Errors
/// The system's; the thread works all the same.
pub fn make_background(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    sched_setaffinity(None, &set)?;
    // On Linux a priority is a thread's.
    let nice = getpriority_process(None)?;
    setpriority_process(None, (nice + BACKGROUND_NICE).min(NICE_MAX))?;
    Ok(())
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
        let assigned = assign(NonZeroUsize::new(5), &[2, 3], Place::of_salt(&"a"));
        assert_eq!(assigned.len(), 5);
        assert_eq!(assigned[0], assigned[2]);
        assert_ne!(assigned[0], assigned[1]);
        assert_eq!(assign(None, &[2, 3, 7], Place::of_salt(&"a")).len(), 3);
    }

    #[test]
    fn log_shards_of_several_servers_spread_out() {
        let first = |place| assign(None, &[0, 1], place)[0];
        let on_first =
            (0..64).filter(|server| first(Place::of_salt(&format!("infra{server}"))) == 0).count();
        assert!((16..=48).contains(&on_first), "{on_first} of 64 on one of two processors");
        let known: Vec<usize> = (0..3).map(|number| first(Place::OnHost(number))).collect();
        assert_eq!(known, [0, 1, 0]);
    }

    #[test]
    fn background_work_runs_anywhere_and_gives_way() {
        let cpus = allowed().unwrap();
        let thread = std::thread::spawn(move || {
            let before = getpriority_process(None).unwrap();
            // One that is bound already, as a thread of an executor's pool is.
            let mut set = CpuSet::new();
            set.set(cpus[0]);
            sched_setaffinity(None, &set).unwrap();
            make_background(&cpus).unwrap();
            let nice = getpriority_process(None).unwrap();
            assert_eq!(nice, (before + BACKGROUND_NICE).min(NICE_MAX));
            assert_eq!(allowed().unwrap(), cpus);
        });
        thread.join().unwrap();
    }

    #[test]
    fn this_process_may_run_somewhere() {
        assert!(!allowed().unwrap().is_empty());
    }
}
