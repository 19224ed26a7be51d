//! A progress bar, for people at a terminal only.
//!
//! It has a thread of its own that looks a few times a second, so the load knows nothing of it.

use crate::arrivals::Arrivals;
use std::io::{IsTerminal, Write, stderr};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(200);
const WIDTH: usize = 40;

/// The bar, or nothing if nobody looks.
pub(crate) struct Progress(Option<(mpsc::Sender<()>, JoinHandle<()>)>);

impl Progress {
    pub(crate) fn start(arrivals: Arc<Arrivals>) -> Progress {
        if !stderr().is_terminal() {
            return Progress(None);
        }
        let (stop, stopped) = mpsc::channel::<()>();
        let draw = move || {
            let mut before = 0;
            while stopped.recv_timeout(INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                let taken = arrivals.taken();
                let per_second = (taken - before) as f64 / INTERVAL.as_secs_f64();
                before = taken;
                // A terminal that went away is no reason to stop measuring.
                stderr().write_all(line(arrivals.progress(), taken, per_second).as_bytes()).ok();
            }
            stderr().write_all(b"\r\x1b[K").ok();
        };
        Progress(Some((stop, thread::spawn(draw))))
    }

    /// Wipes the bar away.
    pub(crate) fn stop(self) {
        if let Some((stop, drawing)) = self.0 {
            drop(stop);
            drawing.join().ok();
        }
    }
}

fn line(progress: f64, requests: u64, per_second: f64) -> String {
    let filled = (progress * WIDTH as f64) as usize;
    let bar = format!("{}{}", "=".repeat(filled), " ".repeat(WIDTH - filled));
    format!("\r\x1b[K[{bar}] {:3.0}% {requests} requests, {per_second:.0}/s", progress * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar_fills_up() {
        assert!(line(0.0, 0, 0.0).contains(&format!("[{}]   0% 0 requests, 0/s", " ".repeat(40))));
        assert!(line(1.0, 7, 3.2).contains(&format!("[{}] 100% 7 requests, 3/s", "=".repeat(40))));
    }
}
