//! The compiler's counters of edges: this program's one place with `unsafe` code, and only in a build for coverage.
//!
//! In such a build every edge of the control flow adds one to a byte of its own. All bytes of an executable are one
//! section of it. Where that lies the instrumented code says by a call of a C function, which has to be there by name:
//! this is neither possible without `unsafe`, nor is reading the bytes.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64};

/// The section, as far as it can be read eight bytes at a time; a few bytes at either end cannot.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) head: &'static [AtomicU8],
    pub(super) words: &'static [AtomicU64],
    pub(super) tail: &'static [AtomicU8],
}

static COUNTERS: OnceLock<Counters> = OnceLock::new();

/// Those of this executable.
pub(super) fn counters() -> Option<&'static Counters> {
    COUNTERS.get()
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
        // stays mapped as long as the program runs. Nothing else in Rust refers to it. The instrumented code of all
        // threads adds to the bytes without atomic instructions: below the language, on whole bytes, so that what a
        // race loses is counts.
        let bytes = unsafe { std::slice::from_raw_parts(begin.cast::<AtomicU8>(), length) };
        // SAFETY: eight atomic bytes may be read as an atomic word; any bytes are a word.
        let (head, words, tail) = unsafe { bytes.align_to::<AtomicU64>() };
        Counters { head, words, tail }
    });
}
