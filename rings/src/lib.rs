//! How io_uring's rings are made for glommio: a completion waits for a shard's next entry into the kernel, and does not
//! interrupt the shard.
//!
//! The last part of a completion runs in the thread that asked for it. The kernel interrupts that thread for it at once,
//! unless the ring has `IORING_SETUP_COOP_TASKRUN` (`io_uring_setup(2)`, Linux 5.19): then it is done when the thread
//! enters the kernel anyway, as a shard does after each round. For small requests the interrupts cost more than a third
//! of a server's time (figures: `benches/RESULTS.md`). glommio 0.9 does not set the flag, and has no option for it. So the
//! linker puts a function of ours before the one C function in which glommio's copy of liburing makes a ring.
//!
//! What a program does to have it: `use urd_rings as _;`, and in its build script
//! `cargo::rustc-link-arg-bin=NAME=-Wl,--wrap=__sys_io_uring_setup`. One without the other does not link, or does
//! nothing: [`is_cooperative`] tells.
//!
//! An executor makes its rings in this order: the main one, the one for storage that is polled, and the latency ring.
//! The last must go on interrupting: it is by a look at its memory, without entering the kernel, that glommio
//! sees whether a task has run for too long.
//!
//! Nothing else changes. Where the kernel does not know the flag, the rings are as glommio asks for them.

use std::cell::Cell;
use std::ffi::{c_int, c_uint};

use rustix::io_uring::{IoringSetupFlags, io_uring_params};

/// Which ring a thread's executor makes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Main,
    Latency,
}

thread_local! {
    static NEXT: Cell<Next> = const { Cell::new(Next::Main) };
    static COOPERATIVE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the last main ring that this thread made waits with completions.
pub fn is_cooperative() -> bool {
    COOPERATIVE.get()
}

/// Whether a ring asked for with `flags` should wait with completions, and which ring comes after it.
fn plan(next: Next, flags: IoringSetupFlags) -> (bool, Next) {
    if flags.contains(IoringSetupFlags::IOPOLL) {
        return (false, Next::Latency);
    }
    (next == Next::Main, Next::Main)
}

// rustix keeps the kernel's layout of the parameters, and calls them open to new fields: so does the kernel.
#[allow(unsafe_code, improper_ctypes, improper_ctypes_definitions)]
mod linked {
    use super::*;

    unsafe extern "C" {
        /// liburing's own: makes a ring, or answers -1 with the reason in `errno`.
        #[link_name = "__real___sys_io_uring_setup"]
        fn real(entries: c_uint, params: *mut io_uring_params) -> c_int;
    }

    /// Called in place of [`real`].
    ///
    /// # Safety
    /// As for [`real`]: `params` points to parameters that the caller alone has.
    #[unsafe(export_name = "__wrap___sys_io_uring_setup")]
    unsafe extern "C" fn setup(entries: c_uint, params: *mut io_uring_params) -> c_int {
        // SAFETY: the caller's promise.
        let asked = unsafe { (*params).flags };
        let (cooperative, next) = plan(NEXT.get(), asked);
        NEXT.set(next);
        if cooperative {
            // SAFETY: the caller's promise. A setup that the kernel refuses writes nothing to the parameters.
            let ring = unsafe {
                (*params).flags = asked | IoringSetupFlags::COOP_TASKRUN;
                real(entries, params)
            };
            COOPERATIVE.set(ring >= 0);
            if ring >= 0 {
                return ring;
            }
        }
        // SAFETY: the caller's promise. It finds `errno` as this call leaves it.
        unsafe {
            (*params).flags = asked;
            real(entries, params)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_ring_waits_and_the_latency_ring_does_not() {
        let (plain, polled) = (IoringSetupFlags::empty(), IoringSetupFlags::IOPOLL);
        let mut next = Next::Main;
        let mut waits = Vec::new();
        // A ring that only asks what the kernel can do, and two executors.
        for flags in [plain, plain, polled, plain, plain, polled, plain] {
            let (cooperative, after) = plan(next, flags);
            waits.push(cooperative);
            next = after;
        }
        assert_eq!(waits, [true, true, false, false, true, false, false]);
    }
}
