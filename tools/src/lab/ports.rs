//! Free ports that stay free.
//!
//! Port 0 would give one from the kernel's ephemeral range, and while a killed server is down any outgoing connection
//! of any test may be given the same number. So candidates come from below that range and are proved free by binding.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below Linux's default `net.ipv4.ip_local_port_range`, above what services use.
const FIRST: u16 = 18_000;
const COUNT: u16 = 14_000;

static OFFSET: AtomicU16 = AtomicU16::new(0);

/// A port on 127.0.0.1 that nothing listens on and no other caller in this process was given.
pub fn free() -> u16 {
    // Two test processes at once start far apart.
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let offset = OFFSET.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_add(offset.wrapping_mul(7))) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT)
}
