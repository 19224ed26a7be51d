//! What must hold between the fields of a [`Config`], and their bounds.
//!
//! It is checked on the struct and not on the flags, so that a configuration made in code is held
//! to the same. The texts are etcd's where etcd checks the same.

use std::collections::BTreeSet;

use super::failure::Failure;
use super::{Config, InitialCluster};
use crate::limits;
use crate::url::Url;

/// etcd's bound: a longer outage than this is not what an election timeout is for.
const ELECTION_TIMEOUT_MS_MAX: u128 = 50_000;

impl Config {
    /// Checks bounds and relations.
    pub fn validate(&self) -> Result<(), Failure> {
        if self.name.is_empty() {
            return invalid("--name must not be empty");
        }
        self.validate_urls()?;
        self.validate_timing()?;
        self.validate_limits()?;
        self.validate_cluster()
    }

    fn validate_urls(&self) -> Result<(), Failure> {
        for (name, empty) in [
            ("listen-client-urls", self.listen_client_urls.is_empty()),
            ("listen-peer-urls", self.listen_peer_urls.is_empty()),
            ("advertise-client-urls", self.advertise_client_urls.is_empty()),
            ("initial-advertise-peer-urls", self.initial_advertise_peer_urls.is_empty()),
        ] {
            if empty {
                return invalid(format!("--{name} must have at least one URL"));
            }
        }
        if let Some(url) = hostless(&self.initial_advertise_peer_urls) {
            return invalid(format!(
                "--initial-advertise-peer-urls {:?} must be \"host:port\" \
                 (unexpected empty host ({url}))",
                joined(&self.initial_advertise_peer_urls)
            ));
        }
        if let Some(url) = hostless(&self.advertise_client_urls) {
            return invalid(format!(
                "--advertise-client-urls {:?} must be in the format \"host:port\", \
                 \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" \
                 (unexpected empty host ({url}))",
                joined(&self.advertise_client_urls)
            ));
        }
        Ok(())
    }

    fn validate_timing(&self) -> Result<(), Failure> {
        let heartbeat = self.heartbeat_interval.as_millis();
        let election = self.election_timeout.as_millis();
        if heartbeat == 0 {
            return invalid("--heartbeat-interval must be >0 (set to 0ms)");
        }
        if election == 0 {
            return invalid("--election-timeout must be >0 (set to 0ms)");
        }
        if 5 * heartbeat > election {
            return invalid(format!(
                "--election-timeout[{election}ms] should be at least as 5 times as \
                 --heartbeat-interval[{heartbeat}ms]"
            ));
        }
        if election > ELECTION_TIMEOUT_MS_MAX {
            return invalid(format!(
                "--election-timeout[{election}ms] is too long, and should be set less than \
                 {ELECTION_TIMEOUT_MS_MAX}ms"
            ));
        }
        Ok(())
    }

    fn validate_limits(&self) -> Result<(), Failure> {
        let (bytes, bytes_max) = (self.max_request_bytes, limits::REQUEST_BYTES_MAX);
        if bytes == 0 || bytes > bytes_max {
            return invalid(format!(
                "--max-request-bytes must be 1 to {bytes_max} (set to {bytes}): a request must fit \
                 in the log several times"
            ));
        }
        if self.watch_progress_notify_interval.is_zero() {
            return invalid("--watch-progress-notify-interval must be >0 (set to 0s)");
        }
        if self.max_txn_ops == 0 {
            return invalid("--max-txn-ops must be >0 (set to 0)");
        }
        if let (Some(shards), Some(cpus)) = (self.shards, &self.cpus)
            && shards.get() > cpus.len()
        {
            return invalid(format!(
                "--shards={shards} is more than the {} processors of --cpus: each shard needs \
                 its own",
                cpus.len()
            ));
        }
        Ok(())
    }

    /// The cluster must have this member, at the URLs that it advertises.
    fn validate_cluster(&self) -> Result<(), Failure> {
        let cluster = &self.initial_cluster;
        let Some(listed) = cluster.members.get(&self.name) else {
            return invalid(format!(
                "couldn't find local name {:?} in the initial cluster configuration",
                self.name
            ));
        };
        let advertised = &self.initial_advertise_peer_urls;
        let missing = missing(listed, advertised);
        if !missing.is_empty() {
            return invalid(format!(
                "--initial-cluster has {} but missing from --initial-advertise-peer-urls={}",
                named(&self.name, &missing),
                joined(advertised)
            ));
        }
        let unlisted = self::missing(advertised, listed);
        if !unlisted.is_empty() {
            return invalid(format!(
                "--initial-advertise-peer-urls has {} but missing from --initial-cluster={cluster}",
                joined(&unlisted)
            ));
        }
        if has_duplicate_url(cluster) {
            return invalid(format!("initial cluster {cluster} has duplicate url"));
        }
        Ok(())
    }
}

fn invalid(reason: impl Into<String>) -> Result<(), Failure> {
    Err(Failure::Invalid(reason.into()))
}

fn hostless(urls: &[Url]) -> Option<&Url> {
    urls.iter().find(|url| url.host().is_empty())
}

/// Those of the first that the second lacks. etcd resolves names before it compares; of that only
/// `localhost` is done here.
fn missing(urls: &[Url], from: &[Url]) -> Vec<Url> {
    let has = |url: &Url| from.iter().any(|other| other.place() == url.place());
    urls.iter().filter(|url| !has(url)).cloned().collect()
}

fn has_duplicate_url(cluster: &InitialCluster) -> bool {
    let mut seen = BTreeSet::new();
    cluster.members.values().flatten().any(|url| !seen.insert(url))
}

fn joined(urls: &[Url]) -> String {
    urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",")
}

fn named(name: &str, urls: &[Url]) -> String {
    urls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",")
}
