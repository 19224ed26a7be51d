//! Lets `urd-rings` make the server's rings.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bin=urd=-Wl,--wrap=__sys_io_uring_setup");
}
