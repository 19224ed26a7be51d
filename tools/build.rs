//! Lets `urd-rings` make the load generator's rings, so that measuring takes less from what is measured.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bin=benchmark=-Wl,--wrap=__sys_io_uring_setup");
}
