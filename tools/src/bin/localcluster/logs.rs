//! `localcluster logs`: what a member wrote.

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::launch::tail;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Print what a member wrote
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The member
    name: String,
    /// Only the last lines, of the last 64 KiB at most
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
    /// Print only where it is
    #[arg(long)]
    path: bool,
}

pub(crate) fn run(dir: &Path, args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let log = {
        // To read a log keeps nobody from stopping the member.
        let cluster = Cluster::open(dir)?;
        cluster.log(cluster.find(&args.name)?)
    };
    match args.lines {
        _ if args.path => writeln!(out, "{}", log.display())?,
        Some(lines) => {
            writeln!(out, "{}", tail(&log, lines).map_err(Failure::at(&log))?)?;
        }
        None => {
            let mut file = File::open(&log).map_err(Failure::at(&log))?;
            io::copy(&mut file, out)?;
        }
    }
    Ok(())
}
