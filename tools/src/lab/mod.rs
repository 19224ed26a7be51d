//! What a cluster of real processes is set up with, and broken with: networks whose links can be cut, disks that can be
//! filled, members that can be killed and paused.
//!
//! Tests and `torture` share it. It neither waits for anything nor asks a member anything; whoever uses it
//! does, with the client that they have.

pub mod disk;
pub mod member;
pub mod network;
pub mod ports;

use std::process::{Command, Output};

/// Runs a command to its end. The error says all there is to say.
pub fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {}", output.status, text.trim()))
}
