//! `localcluster restart`: members stopped, if they run, and started as they were.

use crate::cluster::Cluster;
use crate::failure::Failure;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Stop a member if it runs, and start it again; all, one after the other
///
/// Each must answer and know a leader before the next is stopped.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The member; all if none is named
    name: Option<String>,
    /// How long its end may take, and its start, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
}

pub(crate) fn run(dir: &Path, args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let timeout = Duration::from_secs(args.timeout);
    let mut cluster = Cluster::open(dir)?;
    for nth in cluster.select(args.name.as_deref())? {
        cluster.stop(&[nth], timeout)?;
        cluster.check_ports(nth)?;
        cluster.launch(nth)?;
        cluster.wait_until_ready(&[nth], timeout)?;
        writeln!(out, "{} runs", cluster.settings.members[nth].name)?;
    }
    Ok(())
}
