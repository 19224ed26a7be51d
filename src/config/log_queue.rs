//! A bounded buffer between who logs and what may be slow to take it.
//!
//! A shard must never wait for a terminal, a pipe that nobody reads or a slow disk, so a line is
//! put into a buffer and a thread of its own writes the buffer out. When the buffer is full, lines
//! are lost and counted, and a line says how many once there is room: a log with a hole that is
//! marked is better than a server that stands still.
//!
//! Lines stay in order. Who needs them out (an end of the process, a panic) flushes, for a bounded
//! time. What an output refuses is dropped: there is no better place to complain.

use std::io::Write;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes that may wait: some five thousand lines.
pub(super) const WAITING_BYTES_MAX: usize = 1 << 20;

/// The sending side. Clones share one buffer.
#[derive(Clone)]
pub(super) struct LogQueue {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// Something was written.
    drained: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    lost: u64,
    /// The thread has taken bytes that it has not written yet.
    writing: bool,
}

impl LogQueue {
    /// Starts the thread that writes to the outputs. `lost_line` makes the line that tells how many
    /// lines are missing.
    pub(super) fn start(
        outputs: Vec<Box<dyn Write + Send>>,
        lost_line: impl Fn(u64) -> String + Send + 'static,
    ) -> std::io::Result<LogQueue> {
        let queue = LogQueue {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                filled: Condvar::new(),
                drained: Condvar::new(),
            }),
        };
        let shared = Arc::clone(&queue.shared);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || shared.write_forever(outputs, lost_line))?;
        Ok(queue)
    }

    /// Takes a line with its end, or counts it as lost.
    pub(super) fn push(&self, line: &str) {
        let mut state = self.shared.lock();
        if state.waiting.len() + line.len() > WAITING_BYTES_MAX {
            state.lost += 1;
        } else {
            state.waiting.extend_from_slice(line.as_bytes());
        }
        drop(state);
        self.shared.filled.notify_one();
    }

    /// Waits until everything pushed before is written, but no longer than this. True if it is.
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let state = self.shared.lock();
        let busy = |state: &mut State| !state.waiting.is_empty() || state.writing;
        let wait = self.shared.drained.wait_timeout_while(state, timeout, busy);
        let (_state, result) = wait.unwrap_or_else(PoisonError::into_inner);
        !result.timed_out()
    }
}

impl Shared {
    /// The state is whole after every statement, so a panic elsewhere has not spoilt it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_forever(
        &self,
        mut outputs: Vec<Box<dyn Write + Send>>,
        lost_line: impl Fn(u64) -> String,
    ) {
        let mut batch = Vec::new();
        loop {
            let idle = |state: &mut State| state.waiting.is_empty() && state.lost == 0;
            let wait = self.filled.wait_while(self.lock(), idle);
            let mut state = wait.unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut batch, &mut state.waiting);
            let lost = mem::take(&mut state.lost);
            state.writing = true;
            drop(state);

            if lost > 0 {
                batch.extend_from_slice(lost_line(lost).as_bytes());
            }
            for output in &mut outputs {
                drop(output.write_all(&batch).and_then(|()| output.flush()));
            }
            batch.clear();

            self.lock().writing = false;
            self.drained.notify_all();
        }
    }
}
