//! Threads beside an executor, for work that may wait for a page to be read from the medium, or computes for long.
//!
//! Who waits for such a page waits as a thread, so several threads are what lets a medium read several pages at once. They
//! are started with the first work: as long as nothing is to be read there are none. They may run on any of the member's
//! processors, and mostly sleep.
//!
//! Not glommio's pool: its threads stay on the executor's own processor, and one of them writes checkpoints for seconds.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::sync::oneshot;

type Work = Box<dyn FnOnce() + Send>;

/// See the module's page.
pub struct Pool {
    name: &'static str,
    threads: usize,
    cpus: Vec<usize>,
    started: Cell<bool>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    is_closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that panics runs under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Work> {
        let mut queue = self.lock();
        loop {
            if let Some(work) = queue.work.pop_front() {
                return Some(work);
            }
            if queue.is_closed {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Pool {
    /// So many threads, on these processors.
    pub fn new(name: &'static str, threads: usize, cpus: Vec<usize>) -> Self {
        Self { name, threads, cpus, started: Cell::new(false), shared: Arc::default() }
    }

    /// Queues `work`. What it returns arrives on this executor.
    pub fn run<T, F>(&self, work: F) -> impl Future<Output = T> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let work: Work = Box::new(move || {
            // Whoever waited may have gone.
            sender.send(work()).ok();
        });
        if self.started.replace(true) || self.start() {
            self.shared.lock().work.push_back(work);
            self.shared.wake.notify_one();
        } else {
            self.started.set(false);
            work();
        }
        async move { receiver.await.expect("invariant: work that panics ends the process") }
    }

    /// Starts the threads. False when there is not a single one.
    fn start(&self) -> bool {
        let mut cpus = CpuSet::new();
        self.cpus.iter().for_each(|&cpu| cpus.set(cpu));
        for started in 0..self.threads {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name(self.name.to_owned()).spawn(move || {
                // Where it is refused, the thread stays on the processor of the executor that started it.
                sched_setaffinity(None, &cpus).ok();
                while let Some(work) = shared.next() {
                    work();
                }
            });
            if let Err(error) = thread {
                let pool = self.name;
                tracing::warn!(%error, pool, started, "cannot start all threads beside an executor");
                return started > 0;
            }
        }
        self.threads > 0
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.wake.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use futures_lite::future::zip;

    use super::*;

    #[test]
    fn works_at_the_same_time_and_wakes_an_executor_that_sleeps() {
        let executor = glommio::LocalExecutor::default();
        executor.run(async {
            let pool = Pool::new("test", 2, vec![0, 1]);
            let meeting = Arc::new(Barrier::new(2));
            let meet = |answer: u32| {
                let meeting = Arc::clone(&meeting);
                pool.run(move || {
                    meeting.wait();
                    answer
                })
            };
            assert_eq!(zip(meet(1), meet(2)).await, (1, 2));
        });
    }

    #[test]
    fn works_without_threads() {
        let pool = Pool::new("test", 0, vec![0]);
        assert_eq!(futures_lite::future::block_on(pool.run(|| 7)), 7);
    }
}
