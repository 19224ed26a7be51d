//! `localcluster`: several members on this machine, for trying a cluster out, and for breaking one.
//!
//! Members run detached: `start` ends when the cluster works, and later commands find the members
//! by what it wrote to the cluster's directory. [`cluster`] is that directory: who the members are,
//! and one lock, so that two commands do not act at once. [`process`] knows a process by its id
//! *and* the moment it began, so that a stranger who got a dead member's id is never signalled.
//! [`launch`] starts a member, [`ask`] asks one how it is. Each command is a file of its own.
//!
//! It is not `Procfile`'s foreman: that one shows all output in one terminal and ends with it.
//! This one needs no other program, and a named member can be killed, paused and restarted.
//!
//! Exit codes: 0, done; 1, it did not come to pass; 2, the command line is wrong, or asks for what
//! makes no sense now (a member that is not there, a start of what runs).
//!
//! Not here: members on other machines, TLS, and changing the membership (that is etcdctl's).

mod ask;
mod clean;
mod cluster;
mod failure;
mod launch;
mod logs;
mod process;
mod restart;
mod signal;
mod start;
mod status;
mod stop;

use clap::{Parser, Subcommand};
use failure::Failure;
use process::Blow;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs a cluster of several members on this machine.
///
/// Members are named infra1, infra2 and so on. Each has a data directory and a log file of its
/// own under --dir, and runs on when this program ends.
#[derive(Debug, Parser)]
#[command(name = "localcluster", version)]
struct Cli {
    /// The cluster's directory
    #[arg(long, global = true, value_name = "DIR", default_value = "localcluster.urd")]
    dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Start(start::Args),
    Status(status::Args),
    Stop(stop::Args),
    Restart(restart::Args),
    /// End a member at once, as a crash would (SIGKILL)
    Kill(signal::Args),
    /// Hold a member where it is (SIGSTOP), as a machine that hangs
    Pause(signal::Args),
    /// Let a paused member go on (SIGCONT)
    Resume(signal::Args),
    Logs(logs::Args),
    Clean(clean::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // If even this fails there is nobody to tell; the exit code still says it.
            writeln!(io::stderr(), "localcluster: {failure}").ok();
            failure.exit_code()
        }
    }
}

fn run(cli: &Cli, out: &mut impl Write) -> Result<(), Failure> {
    match &cli.command {
        Command::Start(args) => start::run(&cli.dir, args, out),
        Command::Status(args) => status::run(&cli.dir, args, out),
        Command::Stop(args) => stop::run(&cli.dir, args, out),
        Command::Restart(args) => restart::run(&cli.dir, args, out),
        Command::Kill(args) => signal::run(&cli.dir, args, Blow::Kill, out),
        Command::Pause(args) => signal::run(&cli.dir, args, Blow::Pause, out),
        Command::Resume(args) => signal::run(&cli.dir, args, Blow::Resume, out),
        Command::Logs(args) => logs::run(&cli.dir, args, out),
        Command::Clean(args) => clean::run(&cli.dir, args, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_is_well_formed() {
        Cli::command().debug_assert();
    }
}
