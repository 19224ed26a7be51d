//! `localcluster kill`, `pause` and `resume`: a signal to one named member.

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::process::{Blow, State};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// The kernel does it at once, unless the process is within a disk's answer.
const TIMEOUT: Duration = Duration::from_secs(30);

// Not a doc comment: clap would print it as that of every command.
// The three commands' arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The member
    name: String,
}

pub(crate) fn run(
    dir: &Path,
    args: &Args,
    blow: Blow,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let cluster = Cluster::open(dir)?;
    let member = &cluster.settings.members[cluster.find(&args.name)?];
    let name = &member.name;
    let not_running = || Failure::Refused(format!("{name}: not running"));
    let process = member.process.as_ref().ok_or_else(not_running)?;
    let (becomes, done) = match blow {
        Blow::Terminate | Blow::Kill => (State::Stopped, "killed"),
        Blow::Pause => (State::Paused, "paused"),
        Blow::Resume => (State::Running, "resumed"),
    };
    let struck = process.strike(blow);
    if !struck.map_err(|error| Failure::Failed(format!("{name}: {error}")))? {
        return Err(not_running());
    }
    if !process.wait_for(becomes, TIMEOUT) {
        return Err(Failure::Failed(format!("{name}: not {done} after {TIMEOUT:?}")));
    }
    writeln!(out, "{name} {done}")?;
    Ok(())
}
