//! Networks that can be cut: a namespace for each member, joined by a bridge in one more, the hub.
//!
//! Whoever speaks to the members runs in the hub. So nothing of the machine's own network is touched, and all
//! addresses may be constants. A link is cut by a rule at the receiver's end, one way; both ways are two rules.
//!
//! It needs root, `ip` (iproute2) and `nft` (nftables).

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::run;

/// The namespaces of one cluster, seen from within the hub.
#[derive(Clone, Debug)]
pub struct Network {
    prefix: String,
    members: usize,
}

impl Network {
    /// Those that [`Namespaces::create`] made under this prefix.
    pub fn new(prefix: &str, members: usize) -> Network {
        Network { prefix: prefix.to_owned(), members }
    }

    pub fn members(&self) -> usize {
        self.members
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The namespace of member `nth`.
    pub fn namespace(&self, nth: usize) -> String {
        format!("{}-{nth}", self.prefix)
    }

    pub fn hub(&self) -> String {
        format!("{}-hub", self.prefix)
    }

    /// Its address, on which it listens for clients and peers.
    pub fn address(nth: usize) -> String {
        format!("10.99.0.{}", 10 + nth)
    }

    /// Nothing that `from` sends reaches `to` any more.
    pub fn cut(&self, from: usize, to: usize) -> Result<(), String> {
        let rule = ["add", "rule", "inet", "urd", "input", "ip", "saddr"];
        self.nft(to, &[&rule[..], &[&Self::address(from), "drop"]].concat())
    }

    /// The link between the two, both ways.
    pub fn cut_both(&self, one: usize, other: usize) -> Result<(), String> {
        self.cut(one, other)?;
        self.cut(other, one)
    }

    /// All links of a member to others; clients still reach it.
    pub fn isolate(&self, nth: usize) -> Result<(), String> {
        let mut others = (0..self.members).filter(|other| *other != nth);
        others.try_for_each(|other| self.cut_both(nth, other))
    }

    /// All links are whole again.
    pub fn heal(&self) -> Result<(), String> {
        let flush = ["flush", "chain", "inet", "urd", "input"];
        (0..self.members).try_for_each(|nth| self.nft(nth, &flush))
    }

    fn nft(&self, nth: usize, arguments: &[&str]) -> Result<(), String> {
        let namespace = self.namespace(nth);
        run(Command::new("ip").args(["netns", "exec", &namespace, "nft"]).args(arguments))?;
        Ok(())
    }
}

/// Namespaces that are gone when this is dropped.
#[derive(Debug)]
pub struct Namespaces {
    network: Network,
}

impl Namespaces {
    /// Makes them, named by `kind` and this process, once those that a killed process of the same kind left are removed.
    pub fn create(kind: &str, members: usize) -> Result<Namespaces, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_leftovers(kind);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{kind}{}-{count}", std::process::id());
        // Made before the first namespace is, so that a failure in the middle removes them, too.
        let namespaces = Namespaces { network: Network::new(&prefix, members) };
        let network = &namespaces.network;
        let hub = network.hub();
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "set", "lo", "up"])?;
        ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &hub, "address", "add", "10.99.0.1/24", "dev", "bridge"])?;
        ip(&["-n", &hub, "link", "set", "bridge", "up"])?;
        for nth in 0..members {
            let (member, port) = (network.namespace(nth), format!("member{nth}"));
            ip(&["netns", "add", &member])?;
            ip(&["-n", &member, "link", "set", "lo", "up"])?;
            let pair = ["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns"];
            ip(&[&["-n", &hub], &pair[..], &[&member]].concat())?;
            ip(&["-n", &hub, "link", "set", &port, "master", "bridge", "up"])?;
            let address = format!("{}/24", Network::address(nth));
            ip(&["-n", &member, "address", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &member, "link", "set", "eth0", "up"])?;
            network.nft(nth, &["add", "table", "inet", "urd"])?;
            let chain = "{ type filter hook input priority 0 ; }";
            network.nft(nth, &["add", "chain", "inet", "urd", "input", chain])?;
        }
        Ok(namespaces)
    }

    pub fn network(&self) -> &Network {
        &self.network
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let members = (0..self.network.members).map(|nth| self.network.namespace(nth));
        for namespace in members.chain([self.network.hub()]) {
            // One that was never made is as good as one that is gone.
            Command::new("ip").args(["netns", "delete", &namespace]).output().ok();
        }
    }
}

/// Removes what a process left that was killed: its process id is in the name.
fn remove_leftovers(kind: &str) {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(kind).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            Command::new("ip").args(["netns", "delete", &name]).output().ok();
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let hint = "apt-get install -y iproute2 nftables";
    run(Command::new("ip").args(arguments)).map_err(|error| format!("{error} ({hint})"))?;
    Ok(())
}
