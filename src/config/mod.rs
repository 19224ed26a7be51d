//! What a member is started with: etcd's flags, variables and configuration file in, one checked
//! [`Config`] out.
//!
//! The way of a value: `parse` (command line, environment) or `file` (YAML) finds its flag in
//! `table` and puts its text into `settings`, which checks the form; `build` makes a [`Config`] of
//! the settings and the defaults; [`Config::validate`] checks what goes together. `help` prints the
//! table, `logging` sets up the log.
//!
//! Three rules hold throughout. A flag that has no effect is accepted and *said* to have none. A
//! flag whose absence would cost security or data is never accepted silently. An unknown one is an
//! error that names the nearest known.
//!
//! This module reads the configuration file and nothing else: it binds no address, makes no
//! directory, asks for no processor, prints nothing and ends no process; `main` and `server` do.

mod build;
mod failure;
mod file;
mod flags;
mod help;
mod listen_url;
mod log_queue;
pub mod logging;
mod parse;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod validate;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::failure::Failure;
pub use self::listen_url::ListenUrl;
use self::parse::{Command, Environment};
pub use self::settings::Origin;
use self::settings::Settings;
use crate::identity::{self, FirstMember, Identity};
use crate::ids::MemberId;
use crate::url::Url;

/// Everything that a member is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This member's name in the initial cluster.
    pub name: String,
    /// Everything this member keeps.
    pub data_dir: PathBuf,
    /// The log, if it does not stand in the data directory. See [`Config::log_dir`].
    pub wal_dir: Option<PathBuf>,

    /// Clients: gRPC, and HTTP unless `listen_client_http_urls` has any. Not empty.
    pub listen_client_urls: Vec<ListenUrl>,
    /// Clients: HTTP alone.
    pub listen_client_http_urls: Vec<ListenUrl>,
    /// Other members. Not empty.
    pub listen_peer_urls: Vec<ListenUrl>,
    /// Metrics and health, besides the client URLs.
    pub listen_metrics_urls: Vec<ListenUrl>,
    /// What clients are told.
    pub advertise_client_urls: Vec<Url>,
    /// What other members are told; equal to this member's URLs in `initial_cluster`.
    pub initial_advertise_peer_urls: Vec<Url>,

    /// The members at the start, this one among them.
    pub initial_cluster: InitialCluster,
    /// Part of the ids, see [`crate::identity`].
    pub initial_cluster_token: String,
    /// Whether a first start makes the cluster or joins it.
    pub initial_cluster_state: ClusterState,
    /// Whether a change of the members is refused that would leave the cluster without a quorum.
    pub strict_reconfig_check: bool,
    /// Learners that the cluster may have.
    pub max_learners: u64,
    /// Whether this member goes on alone, as the only one of its cluster.
    pub force_new_cluster: bool,

    /// How often the members' newest data are compared; zero for never.
    pub corrupt_check_time: Duration,
    /// How often their data up to the last compaction are; zero for never.
    pub compact_hash_check_time: Duration,

    /// The tick of raft.
    pub heartbeat_interval: Duration,
    /// Five heartbeats or more.
    pub election_timeout: Duration,
    /// Whether elections are probed before they are held.
    pub pre_vote: bool,

    /// At most [`crate::limits::REQUEST_BYTES_MAX`].
    pub max_request_bytes: usize,
    /// Operations in one transaction.
    pub max_txn_ops: usize,
    /// Per connection. [`crate::limits::STREAMS_PER_CONNECTION_MAX`] holds besides.
    pub max_concurrent_streams: u32,
    /// Pings on client connections.
    pub grpc_keepalive: Keepalive,

    /// When history ends by itself.
    pub auto_compaction: AutoCompaction,
    /// `--quota-backend-bytes`, its default filled in; negative: none.
    pub quota_bytes: i64,
    /// `--snapshot-count`: entries of the log after which a checkpoint begins, if nothing else makes one begin before.
    pub snapshot_count: u64,
    /// Origins that browsers may let use this member, `*` for all. Not empty.
    pub cors: Vec<String>,
    /// Whether the v2 API is served.
    pub enable_v2: bool,
    /// Events of v2 that are kept; at most [`crate::limits::V2_HISTORY_EVENTS_MAX`].
    pub v2_history: u64,
    /// How often watchers that want to know are told that nothing happened.
    pub watch_progress_notify_interval: Duration,

    /// Executors; one per processor if not given.
    pub shards: Option<NonZeroUsize>,
    /// Processors to use, ascending; all that the process may use if not given.
    pub cpus: Option<Vec<usize>>,

    /// Where the log goes, and what of it.
    pub log: logging::Options,
}

/// Whether a first start makes the cluster or joins it. Without effect once there is data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// All initial members start it together.
    New,
    /// The cluster runs and has this member added already.
    Existing,
}

/// Whether history is compacted without anybody asking, and how much of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// It is not.
    Off,
    /// The revisions of so much time are kept.
    Periodic(Duration),
    /// So many revisions are kept.
    Revision(i64),
}

/// HTTP/2 pings. Zero means off, as etcd has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// A client that pings more often is disconnected.
    pub min_time: Duration,
    /// Silence after which the server pings; zero for never.
    pub interval: Duration,
    /// How long the answer may take; zero for any time.
    pub timeout: Duration,
}

/// Names of members and their peer URLs, as `--initial-cluster` has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialCluster {
    /// URLs sorted, duplicates kept so that they can be reported.
    pub members: BTreeMap<String, Vec<Url>>,
}

/// What a command line comes to.
#[derive(Debug)]
pub enum Loaded {
    /// Start a member.
    Run {
        /// Checked.
        config: Box<Config>,
        /// What was given and has no effect; for the log, once there is one.
        warnings: Vec<String>,
    },
    /// Print this and exit with 0.
    Help(String),
    /// Print this and exit with 0.
    Version(String),
}

impl Config {
    /// Reads the arguments (without the program's name) and the environment, and the configuration
    /// file that one of them names.
    pub fn load(
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, Failure> {
        Self::load_with(arguments, environment, |path| fs::read_to_string(path))
    }

    /// The same, where `read_file` reads the configuration file.
    pub fn load_with(
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        read_file: impl FnOnce(&Path) -> io::Result<String>,
    ) -> Result<Loaded, Failure> {
        let mut settings = match parse::command_line(arguments)? {
            Command::Help => return Ok(Loaded::Help(help::help())),
            Command::Version => return Ok(Loaded::Version(help::version())),
            Command::Run(settings) => settings,
        };
        let mut environment = Environment::read(environment)?;
        let mut warnings = Vec::new();
        if let Some(path) = config_file(&settings, &mut environment) {
            warnings.extend(ignored(&path, &settings, &environment));
            settings = file::read(&path, read_file)?;
        } else {
            environment.apply(&mut settings, &mut warnings)?;
        }
        settings.judge(&mut warnings)?;
        let config = build::config(&settings, &mut warnings)?;
        config.validate()?;
        Ok(Loaded::Run { config: Box::new(config), warnings })
    }

    /// Heartbeats without a leader until an election.
    pub fn election_ticks(&self) -> u128 {
        self.election_timeout.as_millis() / self.heartbeat_interval.as_millis().max(1)
    }

    /// The shortest TTL of a lease, in seconds: one and a half election timeouts, counted in heartbeats as etcd does.
    pub fn lease_ttl_min(&self) -> i64 {
        let milliseconds = 3 * self.election_ticks() / 2 * self.heartbeat_interval.as_millis();
        i64::try_from(milliseconds.div_ceil(1000)).unwrap_or(i64::MAX)
    }

    /// Where the log is kept.
    pub fn log_dir(&self) -> PathBuf {
        log_dir(&self.data_dir, self.wal_dir.as_deref())
    }

    /// The directory of the checkpoint file.
    pub fn tree_dir(&self) -> PathBuf {
        tree_dir(&self.data_dir)
    }

    /// The ids of this member and its cluster at their start.
    pub fn identity(&self) -> Identity {
        let ids: Vec<_> = self.first_members().iter().map(|member| MemberId(member.id)).collect();
        let cluster = &self.initial_cluster.members;
        let own = cluster.get(&self.name).unwrap_or(&self.initial_advertise_peer_urls);
        let member = identity::member_id(own, &self.initial_cluster_token);
        Identity { member, cluster: identity::cluster_id(&ids) }
    }

    /// This member's number among those of the initial cluster that are on its host, as their peer URLs say; `None` if it
    /// knows of no other there.
    pub fn place_on_host(&self) -> Option<usize> {
        let (_, own_host, own_port) =
            self.initial_cluster.members.get(&self.name)?.first()?.place();
        let firsts = self.initial_cluster.members.values().filter_map(|urls| urls.first());
        let mut ports: Vec<u16> = firsts
            .map(Url::place)
            .filter(|(_, host, _)| *host == own_host)
            .map(|(_, _, port)| port)
            .collect();
        ports.sort_unstable();
        let has_others = ports.len() > 1;
        ports.iter().position(|port| *port == own_port).filter(|_| has_others)
    }

    /// The members of the initial cluster with their ids, in the order of these.
    pub fn first_members(&self) -> Vec<FirstMember> {
        let token = &self.initial_cluster_token;
        let members = self.initial_cluster.members.iter();
        let mut members: Vec<FirstMember> = members
            .map(|(name, urls)| FirstMember {
                id: identity::member_id(urls, token).0,
                name: name.clone(),
                peer_urls: urls.iter().map(|url| url.as_str().to_owned()).collect(),
            })
            .collect();
        members.sort_unstable_by_key(|member| member.id);
        members
    }
}

impl Default for Config {
    /// What a member gets that is started without any flag.
    fn default() -> Config {
        let config = build::config(&Settings::default(), &mut Vec::new());
        config.expect("invariant: the table's defaults make a configuration")
    }
}

impl fmt::Display for InitialCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, urls) in &self.members {
            for url in urls {
                write!(f, "{separator}{name}={url}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

/// Where a member with these directories keeps its log.
pub fn log_dir(data_dir: &Path, wal_dir: Option<&Path>) -> PathBuf {
    wal_dir.map_or_else(|| data_dir.join("wal"), Path::to_owned)
}

/// Where a member with this data directory keeps its checkpoint file.
pub fn tree_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("tree")
}

fn config_file(settings: &Settings, environment: &mut Environment) -> Option<PathBuf> {
    let flag = flags::find("config-file").expect("invariant: the table has config-file");
    let variable = environment.take(flag);
    if settings.is_set("config-file") {
        return Some(settings.text("config-file").into())
            .filter(|path: &PathBuf| path != Path::new(""));
    }
    variable.map(|(_, path)| path.into())
}

/// etcd lets the file stand alone. Whoever gave more than the file should know.
fn ignored(path: &Path, settings: &Settings, environment: &Environment) -> Option<String> {
    let flags = settings.names().filter(|name| *name != "config-file");
    let mut ignored: Vec<String> = flags.map(|name| format!("--{name}")).collect();
    ignored.extend(environment.names().map(str::to_owned));
    if ignored.is_empty() {
        return None;
    }
    let path = path.display();
    Some(format!("only the configuration file {path} counts, not {}", ignored.join(", ")))
}
