//! Target `config`: flags, variables and a configuration file, as text.
//!
//! An input is lines. Those before a line of three dashes are arguments, one a line; one that begins with `ETCD_` is a
//! variable. What follows is the configuration file, which counts if an argument or a variable names one. The file is
//! shown to the loader as it would be read; nothing is on a disk.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::sync::OnceLock;

use fastrand::Rng;
use urd::config::{Config, Failure, Loaded};

use super::{Outcome, Target, mutate};

/// See the module's page.
#[derive(Clone, Copy, Debug)]
pub struct ConfigTarget;

/// Words of a refusal that count.
const WORDS_MAX: usize = 6;
/// What stands between arguments and file.
const SEPARATOR: &[u8] = b"\n---\n";

const SEEDS: &[&str] = &[
    "",
    "--version\n",
    "--help\n",
    "--name=x\n--data-dir\n/d\n-pre-vote=false\n--listen-client-urls=http://0.0.0.0:1,http://[::1]:2\n\
     --advertise-client-urls=http://a.b:3\n",
    "--initial-cluster=a=http://1.2.3.4:1,b=http://1.2.3.5:2,a=http://c:3\n--name=a\n\
     --initial-advertise-peer-urls=http://1.2.3.4:1,http://c:3\n--initial-cluster-state=existing\n\
     --initial-cluster-token=t\n",
    "ETCD_NAME=y\nETCD_HEARTBEAT_INTERVAL=50\nETCD_ELECTION_TIMEOUT=500\nETCD_AUTO_COMPACTION_RETENTION=1h30m\n\
     ETCD_UNKNOWN=1\n",
    "--auto-compaction-mode=revision\n--auto-compaction-retention=1000\n--quota-backend-bytes=-1\n\
     --max-request-bytes=100\n--max-txn-ops=7\n--max-concurrent-streams=3\n--snapshot-count=9\n",
    "--grpc-keepalive-min-time=5s\n--grpc-keepalive-interval=2h45m\n--grpc-keepalive-timeout=1.5ms\n\
     --corrupt-check-time=1ns\n--shards=2\n--cpus=0-3,7\n--log-level=debug\n--log-outputs=stdout,/x\n\
     --log-format=console\n--log-rotation-config-json={\"maxsize\":1}\n--enable-log-rotation\n",
    "--config-file=/c\n---\nname: z\ndata-dir: /d\nlisten-client-urls: http://1.1.1.1:1\n\
     advertise-client-urls: http://1.1.1.1:1\nheartbeat-interval: 100\nelection-timeout: 1000\n\
     client-transport-security:\n  cert-file: \"\"\n  client-cert-auth: false\nlog-outputs: [stderr, default]\n\
     grpc-keepalive-min-time: 5000000000\n",
    "ETCD_CONFIG_FILE=/c\n---\n{name: &a q, initial-cluster-token: *a, cors: \"*\"}\n# end\n",
    "--config-file=/c\n---\ndiscovery-config:\n  client:\n    secure:\n      cert: |\n        text\n      key: >-\n        more\n\
     \npeer-transport-security: {auto-tls: true}\nunknown-key: 1\n",
];

impl Target for ConfigTarget {
    fn name(&self) -> &'static str {
        "config"
    }

    fn about(&self) -> &'static str {
        "flags and variables, a line each, and behind a line of --- a configuration file"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        SEEDS.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    fn bytes_max(&self) -> usize {
        4 << 10
    }

    fn mutate(&self, input: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
        if random.bool() {
            return mutate::bytes(input, other, random);
        }
        let lines = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let (mut changed, others): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (lines(input), lines(other));
        if random.bool() && !changed.is_empty() {
            let at = random.usize(..changed.len());
            let other = others.first().map_or(&[][..], |line| line);
            mutate::bytes(&mut changed[at], other, random);
        } else {
            mutate::list(&mut changed, &others, random);
        }
        *input = changed.join(&b'\n');
    }

    fn run(&self, input: &[u8]) -> Outcome {
        let separator = input.windows(SEPARATOR.len()).position(|it| it == SEPARATOR);
        let (head, file) = match separator {
            Some(at) => (&input[..at], Some(&input[at + SEPARATOR.len()..])),
            None => (input, None),
        };
        let words: Vec<&[u8]> =
            head.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        let is_variable = |line: &&[u8]| line.starts_with(b"ETCD_");
        let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let arguments = words.iter().filter(|word| !is_variable(word)).map(|word| os(word));
        let variables = words.iter().filter(|word| is_variable(word)).map(|word| {
            let at = word.iter().position(|byte| *byte == b'=').unwrap_or(word.len());
            (os(&word[..at]), os(word.get(at + 1..).unwrap_or_default()))
        });
        let read_file = |_: &std::path::Path| {
            let bytes = file.ok_or(io::ErrorKind::NotFound)?.to_vec();
            String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
        };
        let mut outcome = Outcome::default();
        match Config::load_with(arguments, variables, read_file) {
            Err(failure) => refused(&failure, &mut outcome),
            Ok(Loaded::Help(_)) => outcome.note("help"),
            Ok(Loaded::Version(_)) => outcome.note("version"),
            Ok(Loaded::Run { config, warnings }) => use_of(&config, &warnings, &mut outcome),
        }
        outcome
    }
}

/// Which refusal it is, and of which flag, in words that the help has too: texts repeat what the user wrote, which is
/// endless.
fn refused(failure: &Failure, outcome: &mut Outcome) {
    static WORDS: OnceLock<HashSet<String>> = OnceLock::new();
    let words = WORDS.get_or_init(|| {
        let Ok(Loaded::Help(help)) = Config::load([OsString::from("--help")], []) else {
            unreachable!("invariant: it was asked for")
        };
        words(&help).map(str::to_owned).collect()
    });
    let debug = format!("{failure:?}");
    outcome.note(debug.split([' ', '(', '{']).next().unwrap_or_default());
    let text = failure.to_string();
    for word in self::words(&text).filter(|word| words.contains(*word)).take(WORDS_MAX) {
        outcome.once(word);
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|it: char| !it.is_ascii_alphanumeric() && it != '-').filter(|word| word.len() > 4)
}

/// What a start asks of a configuration before it does anything.
fn use_of(config: &Config, warnings: &[String], outcome: &mut Outcome) {
    config.validate().expect("it was validated");
    assert!(config.election_ticks() >= 5, "an election takes some heartbeats");
    assert!(config.lease_ttl_min() >= 0, "a lease lives for a time");
    let identity = config.identity();
    let first = config.first_members();
    assert!(
        first.iter().any(|member| member.id == identity.member.0),
        "this member is one of the first"
    );
    assert!(!config.log_dir().as_os_str().is_empty() && !config.tree_dir().as_os_str().is_empty());
    outcome.note("run");
    outcome.count("members", first.len());
    outcome.count("clients", config.listen_client_urls.len());
    outcome.note(if config.force_new_cluster { "forced" } else { "" });
    for warning in warnings {
        outcome.once(warning.get(..12).unwrap_or_default());
    }
}
