//! Compiles `proto/*.proto` to prost messages and keeps the descriptors beside them. protox stands
//! in for `protoc`, so that a build needs no program that cargo does not bring.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

const SOURCES: [&str; 6] =
    ["rpc.proto", "kv.proto", "auth.proto", "lock.proto", "election.proto", "health.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);

    let mut descriptors = protox::compile(SOURCES, ["proto"])?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors.clone())?;

    // Positions and comments are for the compiler's messages; nobody reads them at run time.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    Ok(())
}
