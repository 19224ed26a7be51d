//! The linker's part (`src/lib.rs` says what for), for this crate's own tests. A program that links the crate says the
//! same line for itself in its own build script.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg=-Wl,--wrap=__sys_io_uring_setup");
}
