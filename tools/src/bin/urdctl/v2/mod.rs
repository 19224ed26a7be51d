//! The v2 command line: the commands of etcdctl 3.4 with `ETCDCTL_API=2`, their outputs and their exit codes.
//!
//! [`keys`] and [`watch`] are about keys, [`members`] about the cluster, [`users`] and [`roles`] about who may do what;
//! [`client`] tries endpoints, [`http`] sends requests, [`node`] is what answers about keys hold and how it is printed.
//!
//! Not here: `backup`, which copies etcd's own files.

mod client;
pub(crate) mod http;
mod keys;
mod members;
mod node;
mod roles;
mod users;
mod watch;

use std::ffi::OsString;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::failure::Failure;
use crate::{go, options, prompt};
use client::Client;

/// A command-line client for etcd's v2 API, with etcdctl's commands and outputs.
///
/// Exit codes are etcdctl's: 0, all is well; 1, wrong arguments; 2, no endpoint could be reached; 4, the server refused; 5, the cluster
/// is not healthy.
#[derive(Debug, Parser)]
#[command(name = "urdctl", version, disable_version_flag = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// URLs of members, separated by commas; also as ETCDCTL_ENDPOINTS (by default `http://127.0.0.1:2379,http://127.0.0.1:4001`)
    #[arg(long, global = true, default_value = "", hide_default_value = true)]
    endpoints: String,
    /// The same, by an older name; also as ETCDCTL_ENDPOINT
    #[arg(long, global = true, default_value = "", hide_default_value = true)]
    endpoint: String,
    /// The same, by its oldest name; also as ETCDCTL_PEERS
    #[arg(short = 'C', long, global = true, default_value = "", hide_default_value = true)]
    peers: String,
    /// Tell on standard error what is sent where
    #[arg(long, global = true)]
    debug: bool,
    /// Use the endpoints as they are given, and not all that the cluster's members advertise
    #[arg(long, global = true)]
    no_sync: bool,
    /// Output format: simple, extended or json
    #[arg(short, long, global = true, default_value = "simple", value_name = "FORMAT")]
    output: String,
    /// `NAME[:PASSWORD]` to authenticate with; also as ETCDCTL_USERNAME
    #[arg(
        short,
        long,
        global = true,
        default_value = "",
        hide_default_value = true,
        value_name = "NAME"
    )]
    username: String,
    /// How long a member may take to be connected to, and to answer
    #[arg(long, global = true, default_value = "2s", value_parser = go::duration, value_name = "TIME")]
    timeout: Duration,
    /// How long a command may take, but for watches
    #[arg(long, global = true, default_value = "5s", value_parser = go::duration, value_name = "TIME")]
    total_timeout: Duration,
    /// Refused: it is about TLS, which is not there yet
    #[arg(long, global = true, value_name = "FILE")]
    cert_file: Option<String>,
    /// Refused: it is about TLS, which is not there yet
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<String>,
    /// Refused: it is about TLS, which is not there yet
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<String>,
    /// Refused: there is no discovery through DNS yet
    #[arg(short = 'D', long, global = true, value_name = "DOMAIN")]
    discovery_srv: Option<String>,
    /// Of discovery through DNS; without effect as long as there is none
    #[arg(long, global = true)]
    insecure_discovery: bool,
    /// Print the version of urdctl
    #[arg(short, long)]
    version: bool,
    /// Which API to speak: 3 (gRPC) or 2 (HTTP); also as ETCDCTL_API
    #[arg(long = "api", global = true, default_value = "2", value_name = "VERSION")]
    _api: String,
}

#[derive(Debug, Subcommand)]
enum Commands {
    /// Ask all members for their health
    ClusterHealth(members::HealthArgs),
    /// Make a key that must not be there
    Mk(keys::MkArgs),
    /// Make a directory that must not be there
    Mkdir(keys::DirArgs),
    /// Remove a key or a directory
    Rm(keys::RmArgs),
    /// Remove an empty directory or a key
    Rmdir(keys::KeyArgs),
    /// Print a key's value
    Get(keys::GetArgs),
    /// List a directory
    Ls(keys::LsArgs),
    /// Set a key
    Set(keys::SetArgs),
    /// Make a directory, or set the TTL of one
    Setdir(keys::DirArgs),
    /// Set a key that must be there
    Update(keys::UpdateArgs),
    /// Set the TTL of a directory that must be there
    Updatedir(keys::DirArgs),
    /// Wait for a change of a key
    Watch(watch::WatchArgs),
    /// Run a program for each change of a key
    ExecWatch(watch::ExecWatchArgs),
    /// List, add, remove and update members
    #[command(subcommand)]
    Member(members::MemberCommand),
    /// Add, change and list users
    #[command(subcommand)]
    User(users::UserCommand),
    /// Add, change and list roles
    #[command(subcommand)]
    Role(roles::RoleCommand),
    /// Turn authentication on and off
    #[command(subcommand)]
    Auth(users::AuthCommand),
}

/// Runs the command line.
pub(crate) fn run(arguments: Vec<OsString>) -> Result<(), Failure> {
    let asks_for_version = arguments.get(1).is_some_and(|word| word == "--version" || word == "-v");
    if asks_for_version {
        println!("urdctl version: {}\nAPI version: 2", env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    let command: Command = options::with_gos_manners(Cli::command());
    let parsed =
        command.try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(cli) => dispatch(&cli.global, cli.command),
        Err(error) => {
            let code = if error.kind() == ErrorKind::InvalidSubcommand { 3 } else { 1 };
            options::parse_failure(&error, code)
        }
    }
}

fn dispatch(global: &Global, command: Commands) -> Result<(), Failure> {
    global.check()?;
    match command {
        Commands::ClusterHealth(args) => members::health(global, &args),
        Commands::Mk(args) => keys::make(global, &args),
        Commands::Mkdir(args) => keys::directory(global, &args, Some(false)),
        Commands::Rm(args) => keys::remove(global, &args),
        Commands::Rmdir(args) => keys::remove_directory(global, &args),
        Commands::Get(args) => keys::get(global, &args),
        Commands::Ls(args) => keys::list(global, &args),
        Commands::Set(args) => keys::set(global, &args),
        Commands::Setdir(args) => keys::directory(global, &args, None),
        Commands::Update(args) => keys::update(global, &args),
        Commands::Updatedir(args) => keys::directory(global, &args, Some(true)),
        Commands::Watch(args) => watch::watch(global, &args),
        Commands::ExecWatch(args) => watch::exec_watch(global, args),
        Commands::Member(command) => members::run(global, &command),
        Commands::User(command) => users::run(global, &command),
        Commands::Role(command) => roles::run(global, &command),
        Commands::Auth(command) => users::auth(global, &command),
    }
}

impl Global {
    fn check(&self) -> Result<(), Failure> {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let files = [
            ("cert-file", "ETCDCTL_CERT_FILE", &self.cert_file),
            ("key-file", "ETCDCTL_KEY_FILE", &self.key_file),
            ("ca-file", "ETCDCTL_CA_FILE", &self.ca_file),
        ];
        let asked = files.iter().find(|(_, variable, file)| file.is_some() || set(variable));
        if let Some((flag, variable, _)) = asked {
            return Err(Failure::with_code(
                1,
                format!(
                    "--{flag} (or {variable}) cannot be honoured: urdctl speaks no TLS yet; leave it out to connect without"
                ),
            ));
        }
        if self.discovery_srv.is_some() || set("ETCDCTL_DISCOVERY_SRV") {
            return Err(Failure::with_code(
                1,
                "--discovery-srv cannot be honoured: urdctl looks nothing up in DNS yet; name the members with --endpoints",
            ));
        }
        Ok(())
    }

    /// From the flags, newest name first, each with its variable behind it.
    fn endpoints(&self) -> Vec<String> {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let given = [
            self.endpoints.clone(),
            variable("ETCDCTL_ENDPOINTS"),
            self.endpoint.clone(),
            variable("ETCDCTL_ENDPOINT"),
            self.peers.clone(),
            variable("ETCDCTL_PEERS"),
        ];
        let given = given.into_iter().find(|endpoints| !endpoints.is_empty());
        let given =
            given.unwrap_or_else(|| "http://127.0.0.1:2379,http://127.0.0.1:4001".to_owned());
        given.split(',').map(|endpoint| endpoint.trim().to_owned()).collect()
    }

    /// User and password.
    fn credentials(&self) -> Result<Option<(String, String)>, Failure> {
        let variable = std::env::var("ETCDCTL_USERNAME").unwrap_or_default();
        let given = if self.username.is_empty() { variable } else { self.username.clone() };
        match given.split_once(':') {
            None if given.is_empty() => Ok(None),
            Some((user, password)) => Ok(Some((user.to_owned(), password.to_owned()))),
            None => {
                let password = prompt::password("Password: ").map_err(|failure| failure.code(1))?;
                Ok(Some((given, password)))
            }
        }
    }

    /// A client of all members.
    fn client(&self) -> Result<Client, Failure> {
        let mut client = Client::new(self)?;
        if !self.no_sync {
            client.sync()?;
        }
        Ok(client)
    }
}

/// What a command of etcdctl 3.4 says without `Error:` in front, and ends with 1.
fn plainly(text: impl std::fmt::Display) -> Failure {
    eprintln!("{text}");
    Failure::silent(1)
}

/// Wrong arguments.
fn wrong(text: &str) -> Failure {
    // etcdctl's line has two spaces behind the colon.
    Failure::with_code(1, format!(" {text}"))
}
