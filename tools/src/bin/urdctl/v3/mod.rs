//! The v3 command line: every command of etcdctl 3.7.
//!
//! One file a command, or a group of them: its arguments, checked in etcdctl's words and with its exit codes, the calls,
//! and the printing. [`client`] is the connection, [`methods`] the calls there are, [`mod@print`] the formats, [`session`] a
//! lease that is kept alive (under `lock` and `elect`), [`watching`] a watch that survives its connection (under `watch`,
//! `elect` and `make-mirror`).
//!
//! All runs in one thread; what blocks (standard input, programs that are run) has a thread of its own.

mod alarm;
mod auth;
mod check;
mod client;
mod compaction;
mod completion;
mod datascale;
mod defrag;
mod downgrade;
mod elect;
mod endpoint;
mod global;
mod interrupts;
mod kv;
mod lease;
mod load;
mod lock;
mod make_mirror;
mod member;
mod methods;
mod move_leader;
mod print;
mod queue;
mod role;
mod session;
mod snapshot;
mod txn;
mod txn_text;
mod user;
mod watch;
mod watching;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::failure::Failure;
use crate::options;
use global::Global;

/// A command-line client for etcd's v3 API, with etcdctl's commands and outputs.
///
/// Exit codes are etcdctl's: 0, all is well; 1, it failed or was refused by the server; 2, a lease or the cluster could not
/// be reached; 3, standard input is wrong; 4, a flag's value is none that exists; 5, it was cut short; 128, wrong arguments.
#[derive(Debug, Parser)]
#[command(name = "urdctl", disable_version_flag = true, infer_subcommands = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    Get(kv::GetArgs),
    Put(kv::PutArgs),
    Del(kv::DelArgs),
    Txn(txn::TxnArgs),
    Compaction(compaction::CompactionArgs),
    Watch(watch::WatchArgs),
    /// Grant, revoke, list and renew leases
    #[command(subcommand)]
    Lease(lease::LeaseCommand),
    /// List and disarm alarms
    #[command(subcommand)]
    Alarm(alarm::AlarmCommand),
    Defrag(defrag::DefragArgs),
    /// Ask each endpoint for its health, its state, or a hash of its data
    Endpoint(endpoint::EndpointArgs),
    MoveLeader(move_leader::MoveLeaderArgs),
    /// List, add, remove, update and promote members
    #[command(subcommand)]
    Member(member::MemberCommand),
    /// Save a member's data as a file
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Prepare for an older version
    #[command(subcommand)]
    Downgrade(downgrade::DowngradeCommand),
    MakeMirror(make_mirror::MakeMirrorArgs),
    Lock(lock::LockArgs),
    Elect(elect::ElectArgs),
    /// Turn authentication on and off
    #[command(subcommand)]
    Auth(auth::AuthCommand),
    /// Add, change and list users
    #[command(subcommand)]
    User(user::UserCommand),
    /// Add, change and list roles
    #[command(subcommand)]
    Role(role::RoleCommand),
    /// Measure whether a cluster is fast and lean enough
    #[command(subcommand)]
    Check(check::CheckCommand),
    Completion(completion::CompletionArgs),
    /// Print the global options
    Options,
    /// Print the version of urdctl
    Version,
}

/// Runs the command line.
pub(crate) fn run(arguments: Vec<OsString>) -> Result<(), Failure> {
    let variables = options::environment();
    let command = options::with_environment(command(), &variables);
    let matches = match command.clone().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return options::parse_failure(&error, 1),
    };
    options::check_environment(&command, &matches, &variables)?;
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return options::parse_failure(&error, 1),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::error(format!("cannot start: {error}")))?;
    let ran = tokio::task::LocalSet::new().block_on(&runtime, dispatch(&cli.global, cli.command));
    // A thread that reads standard input would be waited for.
    runtime.shutdown_background();
    ran
}

fn command() -> Command {
    options::with_gos_manners(Cli::command())
}

async fn dispatch(global: &Global, command: Commands) -> Result<(), Failure> {
    match command {
        Commands::Completion(args) => return completion::run(&args, command_tree()),
        Commands::Options => return print_options(),
        Commands::Version => return print_version(),
        _ => global.check()?,
    }
    match command {
        Commands::Get(args) => kv::get(global, args).await,
        Commands::Put(args) => kv::put(global, args).await,
        Commands::Del(args) => kv::delete(global, args).await,
        Commands::Txn(args) => txn::run(global, args).await,
        Commands::Compaction(args) => compaction::run(global, args).await,
        Commands::Watch(args) => watch::run(global, args).await,
        Commands::Lease(command) => lease::run(global, command).await,
        Commands::Alarm(command) => alarm::run(global, command).await,
        Commands::Defrag(args) => defrag::run(global, args).await,
        Commands::Endpoint(args) => endpoint::run(global, args).await,
        Commands::MoveLeader(args) => move_leader::run(global, args).await,
        Commands::Member(command) => member::run(global, command).await,
        Commands::Snapshot(command) => snapshot::run(global, command).await,
        Commands::Downgrade(command) => downgrade::run(global, command).await,
        Commands::MakeMirror(args) => make_mirror::run(global, args).await,
        Commands::Lock(args) => lock::run(global, args).await,
        Commands::Elect(args) => elect::run(global, args).await,
        Commands::Auth(command) => auth::run(global, command).await,
        Commands::User(command) => user::run(global, command).await,
        Commands::Role(command) => role::run(global, command).await,
        Commands::Check(command) => check::run(global, command).await,
        Commands::Completion(_) | Commands::Options | Commands::Version => Ok(()),
    }
}

fn command_tree() -> Command {
    command()
}

fn print_options() -> Result<(), Failure> {
    let globals = Global::augment_args(Command::new("urdctl").disable_help_flag(true));
    let mut command = options::with_gos_manners(globals).help_template("{all-args}\n");
    print::put_text(&command.render_help().to_string())
}

fn print_version() -> Result<(), Failure> {
    print::put_text(&format!("urdctl version: {}\nAPI version: 3.7\n", env!("CARGO_PKG_VERSION")))
}

/// An argument's bytes: keys and values need not be text.
fn bytes_of(word: OsString) -> bytes::Bytes {
    word.into_vec().into()
}

/// Arguments that must be text, such as names.
fn texts(words: &[OsString]) -> Vec<String> {
    words.iter().map(|word| word.to_string_lossy().into_owned()).collect()
}
