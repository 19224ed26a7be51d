//! The compiler's counters of edges: this program's one place with `unsafe` code, and only in a build for coverage.
//!
//! In such a build every edge of the control flow adds one to a byte of its own. All bytes of an executable are one
//! section of it. Where that lies the instrumented code says by a call of a C function, which has to be there by name:
//! this is neither possible without `unsafe`, nor is reading the bytes.

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU8;

static COUNTERS: OnceLock<&[AtomicU8]> = OnceLock::new();

/// How many there are.
pub(super) fn count() -> Option<usize> {
    COUNTERS.get().map(|counters| counters.len())
}

/// Sets all to 0, by a function of the C library: a loop here would be instrumented, and ten times as slow.
#[allow(unsafe_code)]
pub(super) fn clear() {
    let Some(counters) = COUNTERS.get() else { return };
    // SAFETY: atomic bytes may be written through a shared reference, and 0 is one. All threads count meanwhile, without
    // atomic instructions: below the language, on whole bytes, so that what a race loses is counts.
    unsafe { ptr::write_bytes(counters.as_ptr().cast_mut(), 0, counters.len()) }
}

/// Puts what was counted in the place of what is in `counts`; by a function of the C library too.
#[allow(unsafe_code)]
pub(super) fn copy(counts: &mut Vec<u8>) {
    let Some(counters) = COUNTERS.get() else { return };
    counts.resize(counters.len(), 0);
    // SAFETY: both are as long, and apart. As for threads, see `clear`.
    unsafe { ptr::copy_nonoverlapping(counters.as_ptr().cast(), counts.as_mut_ptr(), counts.len()) }
}

/// Called before `main` by the instrumented code, perhaps by each part of it: always with the same section, since all is
/// linked into one executable.
#[allow(unsafe_code)]
// SAFETY: no other function has this name, which is reserved for this use.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(begin: *mut u8, end: *mut u8) {
    let length = (end as usize).saturating_sub(begin as usize);
    COUNTERS.get_or_init(|| {
        // SAFETY: the linker made `begin` and `end` the bounds of a section of initialized bytes, which is writable and
        // stays mapped as long as the program runs. Nothing else in Rust refers to it.
        unsafe { std::slice::from_raw_parts(begin.cast(), length) }
    });
}
