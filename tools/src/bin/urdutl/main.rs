//! `urdutl`: looks at a member's data directory that no server has open.
//!
//! One file a command: [`status`], [`check`], [`hashkv`], [`wal_dump`], [`tree_dump`]. [`member`] opens what they read,
//! [`failure`] says what an error means for the exit code, [`show`] prints requests, [`output`] documents.
//!
//! Nothing is written: the directory is locked against a server as long as a command runs, and opened for reading only.
//! Damage must not end this program as it ends a server, so all pages of a checkpoint are verified before one is read.
//!
//! Exit codes: 0, all is well; 1, something is damaged; 2, the command line is wrong, or the directory cannot be read.
//!
//! Not here: anything that changes a directory, such as restoring or defragmenting one.

mod check;
mod failure;
mod hashkv;
mod member;
mod output;
mod show;
mod status;
mod tree_dump;
mod wal_dump;

use clap::{Parser, Subcommand};
use failure::Failure;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

/// Looks at a data directory of Urd that no server has open.
///
/// Writes nothing to it. Exit codes: 0, all is well; 1, something is damaged; 2, the command line is wrong, or the
/// directory cannot be read (a server has it, or it is not there).
#[derive(Debug, Parser)]
#[command(name = "urdutl", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(status::Args),
    Check(check::Args),
    Hashkv(hashkv::Args),
    /// Look at the log
    #[command(subcommand)]
    Wal(WalCommand),
    /// Look at the checkpoint
    #[command(subcommand)]
    Tree(TreeCommand),
}

#[derive(Debug, Subcommand)]
enum WalCommand {
    Dump(wal_dump::Args),
}

#[derive(Debug, Subcommand)]
enum TreeCommand {
    Dump(tree_dump::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    let ran = run(&cli.command, &mut out);
    match ran.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // What was found before the failure.
            out.flush().ok();
            for line in failure.lines() {
                complain(line);
            }
            failure.exit_code()
        }
    }
}

fn run(command: &Command, out: &mut impl Write) -> Result<(), Failure> {
    match command {
        Command::Status(args) => status::run(args, out),
        Command::Check(args) => check::run(args, out),
        Command::Hashkv(args) => hashkv::run(args, out),
        Command::Wal(WalCommand::Dump(args)) => wal_dump::run(args, out),
        Command::Tree(TreeCommand::Dump(args)) => tree_dump::run(args, out),
    }
}

fn complain(text: &str) {
    // If even this fails there is nobody to tell; the exit code still says it.
    writeln!(io::stderr(), "urdutl: {text}").ok();
}
