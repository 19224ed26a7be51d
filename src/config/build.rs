//! Settings and defaults to a [`Config`], field by field. Whether the fields go together is
//! `validate`'s question; whether a single value means anything is answered here.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::failure::Failure;
use super::settings::{Origin, Settings};
use super::{
    AutoCompaction, ClusterState, Config, InitialCluster, Keepalive, ListenUrl, logging, values,
};
use crate::limits;
use crate::url::Url;

pub(super) fn config(settings: &Settings, warnings: &mut Vec<String>) -> Result<Config, Failure> {
    let name = settings.text("name").to_owned();
    let initial_advertise_peer_urls = settings.read("initial-advertise-peer-urls", values::urls)?;
    Ok(Config {
        data_dir: data_dir(settings, &name),
        wal_dir: path(settings, "wal-dir"),
        listen_client_urls: listen(settings, "listen-client-urls")?,
        listen_client_http_urls: listen(settings, "listen-client-http-urls")?,
        listen_peer_urls: listen(settings, "listen-peer-urls")?,
        listen_metrics_urls: listen(settings, "listen-metrics-urls")?,
        advertise_client_urls: advertise_client_urls(settings, warnings)?,
        initial_cluster: initial_cluster(settings, &name, &initial_advertise_peer_urls)?,
        initial_advertise_peer_urls,
        initial_cluster_token: settings.text("initial-cluster-token").to_owned(),
        initial_cluster_state: match settings.text("initial-cluster-state") {
            "existing" => ClusterState::Existing,
            _ => ClusterState::New,
        },
        strict_reconfig_check: settings.read("strict-reconfig-check", values::boolean)?,
        max_learners: settings.read("max-learners", |text| {
            u64::try_from(values::integer(text)?).map_err(|_| "must not be negative".to_owned())
        })?,
        force_new_cluster: settings.read("force-new-cluster", values::boolean)?,
        corrupt_check_time: settings.read("corrupt-check-time", values::duration)?,
        compact_hash_check_time: settings.read("compact-hash-check-time", values::duration)?,
        heartbeat_interval: milliseconds(settings, "heartbeat-interval")?,
        election_timeout: milliseconds(settings, "election-timeout")?,
        pre_vote: settings.read("pre-vote", values::boolean)?,
        max_request_bytes: number(settings, "max-request-bytes")?,
        max_txn_ops: number(settings, "max-txn-ops")?,
        max_concurrent_streams: streams(settings)?,
        grpc_keepalive: Keepalive {
            min_time: settings.read("grpc-keepalive-min-time", values::duration)?,
            interval: settings.read("grpc-keepalive-interval", values::duration)?,
            timeout: settings.read("grpc-keepalive-timeout", values::duration)?,
        },
        auto_compaction: auto_compaction(settings)?,
        quota_bytes: match settings.read("quota-backend-bytes", values::integer)? {
            0 => limits::QUOTA_BYTES_DEFAULT,
            bytes => bytes,
        },
        snapshot_count: snapshot_count(settings)?,
        cors: settings.read("cors", values::origins)?,
        enable_v2: settings.read("enable-v2", values::boolean)?,
        v2_history: v2_history(settings)?,
        watch_progress_notify_interval: settings
            .read("watch-progress-notify-interval", values::duration)?,
        shards: shards(settings)?,
        cpus: match settings.text("cpus") {
            "" => None,
            _ => Some(settings.read("cpus", values::cpus)?),
        },
        log: log(settings, warnings)?,
        name,
    })
}

fn snapshot_count(settings: &Settings) -> Result<u64, Failure> {
    settings.read("snapshot-count", |text| match values::unsigned(text)? {
        0 => Err("there must be at least one entry between two checkpoints".to_owned()),
        entries => Ok(entries),
    })
}

/// Clients rely on what etcd keeps.
fn v2_history(settings: &Settings) -> Result<u64, Failure> {
    let bounds = limits::V2_HISTORY_EVENTS_DEFAULT..=limits::V2_HISTORY_EVENTS_MAX;
    settings.read("v2-history", |text| match values::unsigned(text)? {
        events if bounds.contains(&events) => Ok(events),
        _ => Err(format!("must be from {} to {}", bounds.start(), bounds.end())),
    })
}

/// A plain number means hours, or revisions, as the mode has it; 0 turns it off.
fn auto_compaction(settings: &Settings) -> Result<AutoCompaction, Failure> {
    const HOUR: Duration = Duration::from_secs(3600);
    let text = settings.text("auto-compaction-retention");
    let number = text.parse::<i64>().ok();
    let invalid = |reason: &str| {
        let text = format!("--auto-compaction-retention {text:?} {reason}");
        Err(Failure::Invalid(text))
    };
    match (settings.text("auto-compaction-mode"), number) {
        (_, Some(0)) => Ok(AutoCompaction::Off),
        (_, Some(..0)) => invalid("must not be negative"),
        ("revision", Some(revisions)) => Ok(AutoCompaction::Revision(revisions)),
        ("revision", None) => invalid("must be a number of revisions"),
        (_, Some(hours)) => match u32::try_from(hours) {
            Ok(hours) => Ok(AutoCompaction::Periodic(HOUR * hours)),
            Err(_) => invalid("is too long"),
        },
        (_, None) => match settings.read("auto-compaction-retention", values::duration)? {
            Duration::ZERO => Ok(AutoCompaction::Off),
            period => Ok(AutoCompaction::Periodic(period)),
        },
    }
}

fn path(settings: &Settings, name: &'static str) -> Option<PathBuf> {
    Some(settings.text(name)).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn data_dir(settings: &Settings, name: &str) -> PathBuf {
    let given = settings.is_set("data-dir").then(|| path(settings, "data-dir")).flatten();
    given.unwrap_or_else(|| PathBuf::from(format!("{name}.urd")))
}

fn listen(settings: &Settings, name: &'static str) -> Result<Vec<ListenUrl>, Failure> {
    let urls = settings.read(name, values::urls)?;
    urls.into_iter()
        .map(|url| url.try_into().map_err(|reason| Failure::Invalid(format!("--{name}: {reason}"))))
        .collect()
}

/// Whoever listens elsewhere than by default must say where clients are to go: the default would
/// send them astray. In a file etcd keeps the default all the same, so there it is only a warning.
fn advertise_client_urls(
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Result<Vec<Url>, Failure> {
    let missing =
        settings.is_set("listen-client-urls") && !settings.is_set("advertise-client-urls");
    let urls = settings.read("advertise-client-urls", values::urls)?;
    if !missing {
        return Ok(urls);
    }
    let origin = settings.origin("listen-client-urls");
    if !matches!(origin, Origin::File { .. }) {
        return Err(Failure::Invalid(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly"
                .to_owned(),
        ));
    }
    if settings.read("listen-client-urls", values::urls)? != urls {
        let default = settings.text("advertise-client-urls");
        warnings.push(format!(
            "advertise-client-urls is not set, so clients are told {default} and not {}",
            settings.text("listen-client-urls")
        ));
    }
    Ok(urls)
}

fn initial_cluster(
    settings: &Settings,
    name: &str,
    peer_urls: &[Url],
) -> Result<InitialCluster, Failure> {
    let text = settings.text("initial-cluster");
    let mut members: BTreeMap<String, Vec<Url>> = BTreeMap::new();
    if text.is_empty() {
        members.insert(name.to_owned(), peer_urls.to_vec());
        return Ok(InitialCluster { members });
    }
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, url) = part.split_once('=').unwrap_or((part, ""));
        let url = Url::parse(url).map_err(|reason| {
            Failure::Invalid(format!("error setting up initial cluster: {reason}"))
        })?;
        members.entry(name.trim().to_owned()).or_default().push(url);
    }
    for urls in members.values_mut() {
        urls.sort_unstable();
    }
    Ok(InitialCluster { members })
}

fn milliseconds(settings: &Settings, name: &'static str) -> Result<Duration, Failure> {
    Ok(Duration::from_millis(settings.read(name, values::unsigned)?))
}

fn number(settings: &Settings, name: &'static str) -> Result<usize, Failure> {
    settings.read(name, |text| {
        usize::try_from(values::unsigned(text)?).map_err(|_| "value out of range".to_owned())
    })
}

/// Zero is no limit, as in gRPC for Go.
fn streams(settings: &Settings) -> Result<u32, Failure> {
    let streams = settings.read("max-concurrent-streams", |text| {
        u32::try_from(values::unsigned(text)?).map_err(|_| "value out of range".to_owned())
    })?;
    Ok(if streams == 0 { u32::MAX } else { streams })
}

fn shards(settings: &Settings) -> Result<Option<NonZeroUsize>, Failure> {
    if settings.text("shards").is_empty() {
        return Ok(None);
    }
    settings.read("shards", |text| {
        let shards = usize::try_from(values::unsigned(text)?).ok().and_then(NonZeroUsize::new);
        shards.map(Some).ok_or("there must be at least one").map_err(str::to_owned)
    })
}

fn log(settings: &Settings, warnings: &mut Vec<String>) -> Result<logging::Options, Failure> {
    match settings.text("logger") {
        "zap" => {}
        "capnslog" => {
            return Err(Failure::Invalid("--logger=capnslog is removed in v3.5".to_owned()));
        }
        other => return Err(Failure::Invalid(format!("unknown logger option {other:?}"))),
    }
    let level = settings.read("log-level", str::parse)?;
    let format = settings.read("log-format", str::parse)?;
    let mut words = values::list(settings.text("log-outputs"));
    if words.is_empty() {
        words.push("default".to_owned());
    }
    if words.len() > 1 && words.iter().any(|word| word == "default") {
        let reason = "multi logoutput for \"default\" is not supported yet";
        return Err(Failure::Invalid(reason.to_owned()));
    }
    if words.iter().any(|word| word == "systemd/journal") {
        warnings.push(
            "--log-outputs=systemd/journal writes to stderr, which systemd takes to its journal"
                .to_owned(),
        );
    }
    let outputs = words.iter().map(|word| logging::Output::from(word.as_str())).collect();
    Ok(logging::Options { level, format, outputs })
}
