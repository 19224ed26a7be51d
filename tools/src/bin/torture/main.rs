//! `torture`: a cluster of real processes under load and under faults, and judges of all that its clients saw.
//!
//! [`stage`] sets up what root is needed for (network namespaces, small disks), runs this program again within it, and takes
//! everything away again, whatever became of that: the members are in the process group of the inner run, and end with it.
//! The inner run ([`play`]) starts the members ([`cluster`]), a thread of clients ([`load`], [`leases`], [`watchers`], [`bulk`]) that
//! write down what they ask and hear ([`record`], over [`line`](mod@line)s), and breaks one thing after the other ([`faults`]).
//! In the end all is mended, the cluster must become whole, and [`verdict`] has the checkers judge the record.
//!
//! Exit codes: 0, nothing is wrong; 1, a promise was broken, or the cluster did not become whole; 2, the command line is wrong;
//! 3, the stage cannot be set up here. Without root the members share the loopback network, and nothing is done to links and disks.
//!
//! A seed chooses the faults and the requests, and not when they meet: a run cannot be repeated exactly.

mod bulk;
mod cluster;
mod faults;
mod leases;
mod line;
mod load;
mod play;
mod record;
mod stage;
mod verdict;
mod watchers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

#[derive(Clone, Debug, Parser)]
#[command(
    about = "Breaks a cluster in every way it knows, under load, and checks all that clients saw"
)]
struct Cli {
    /// Number of members
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=5))]
    members: u8,
    /// How long things are broken
    #[arg(long, default_value_t = 5, conflicts_with = "seconds")]
    minutes: u64,
    /// The same, in seconds
    #[arg(long)]
    seconds: Option<u64>,
    /// What chooses faults and requests; random if not given
    #[arg(long)]
    seed: Option<u64>,
    /// The server [default: urd beside this program]
    #[arg(long, value_name = "PATH")]
    urd: Option<PathBuf>,
    /// Keep the members' directories and logs
    #[arg(long)]
    keep: bool,
    /// Only these faults, by the first words of their texts, such as "kill" or "wipe"
    #[arg(long, value_name = "FAULT", value_delimiter = ',')]
    only: Vec<String>,
    /// The directory of the stage; given to the inner run
    #[arg(long, hide = true)]
    stage: Option<PathBuf>,
    /// The prefix of the network namespaces; given to the inner run
    #[arg(long, hide = true)]
    network: Option<String>,
}

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    let seed = *cli.seed.get_or_insert_with(|| fastrand::u64(..1_000_000));
    match cli.stage.clone() {
        None => stage::run(&cli, seed),
        Some(directory) => play::run(&cli, seed, &directory),
    }
}

impl Cli {
    fn duration(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.seconds.unwrap_or(self.minutes * 60))
    }
}
