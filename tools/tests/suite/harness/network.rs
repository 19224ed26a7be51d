//! Networks that can be cut: a namespace for each member, joined by a bridge in one more, the hub.
//!
//! The test itself moves into the hub: [`in_network`] makes the namespaces, runs the test program again there with only
//! the calling test, and removes them, whatever came of it. So nothing of the machine's own network is touched, and all
//! addresses may be constants. A link is cut by a rule at the receiver's end, one way; both ways are two rules.
//!
//! It needs root, `ip` (iproute2) and `nft` (nftables); without root a test says so and is passed over.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Tells the inner run which namespaces are its own.
const PREFIX_VARIABLE: &str = "URD_TEST_NETWORK";
const PREFIX: &str = "urd-test-";

/// The namespaces of one test, seen from within the hub.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    prefix: String,
    members: usize,
}

impl Network {
    pub(crate) fn members(&self) -> usize {
        self.members
    }

    /// The namespace of member `nth`.
    pub(crate) fn namespace(&self, nth: usize) -> String {
        format!("{}-{nth}", self.prefix)
    }

    /// Its address, on which it listens for clients and peers.
    pub(crate) fn address(nth: usize) -> String {
        format!("10.99.0.{}", 10 + nth)
    }

    /// Nothing that `from` sends reaches `to` any more.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        let rule = ["add", "rule", "inet", "urd", "input", "ip", "saddr"];
        self.nft(to, &[&rule[..], &[&Self::address(from), "drop"]].concat());
    }

    /// The link between the two, both ways.
    pub(crate) fn cut_both(&self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// All links of a member to others; clients still reach it.
    pub(crate) fn isolate(&self, nth: usize) {
        for other in (0..self.members).filter(|other| *other != nth) {
            self.cut_both(nth, other);
        }
    }

    /// All links are whole again.
    pub(crate) fn heal(&self) {
        for nth in 0..self.members {
            self.nft(nth, &["flush", "chain", "inet", "urd", "input"]);
        }
    }

    fn nft(&self, nth: usize, arguments: &[&str]) {
        let namespace = self.namespace(nth);
        run(Command::new("ip").args(["netns", "exec", &namespace, "nft"]).args(arguments));
    }
}

/// Runs `body` in a network of `members` namespaces. `test` is the calling test's path (`module_path!()` and its name).
pub(crate) fn in_network(test: &str, members: usize, body: impl FnOnce(Network)) {
    if let Ok(prefix) = std::env::var(PREFIX_VARIABLE) {
        return body(Network { prefix, members });
    }
    if !rustix::process::geteuid().is_root() {
        println!("passed over: only root makes network namespaces");
        return;
    }
    let namespaces = Namespaces::create(members);
    let (_, test) = test.split_once("::").expect("module_path!() begins with the crate");
    let own = std::env::current_exe().expect("the test's own path is readable");
    let output = Command::new("ip")
        .args(["netns", "exec", &namespaces.hub()])
        .arg(own)
        .args(["--exact", test, "--nocapture"])
        .env(PREFIX_VARIABLE, &namespaces.prefix)
        .output()
        .unwrap_or_else(|error| panic!("run ip (apt-get install -y iproute2): {error}"));
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{stdout}");
    eprintln!("{stderr}");
    assert!(output.status.success(), "{test}, within its network: {}", output.status);
    assert!(stdout.contains("1 passed"), "{test}: no such test was found within the network");
}

/// Namespaces that are gone when this is dropped.
struct Namespaces {
    prefix: String,
    members: usize,
}

impl Namespaces {
    fn create(members: usize) -> Namespaces {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_leftovers();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}{}-{count}", std::process::id());
        // Made before the first namespace is, so that a failure in the middle removes them, too.
        let namespaces = Namespaces { prefix, members };
        let hub = namespaces.hub();
        ip(&["netns", "add", &hub]);
        ip(&["-n", &hub, "link", "set", "lo", "up"]);
        ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"]);
        ip(&["-n", &hub, "address", "add", "10.99.0.1/24", "dev", "bridge"]);
        ip(&["-n", &hub, "link", "set", "bridge", "up"]);
        let network = Network { prefix: namespaces.prefix.clone(), members };
        for nth in 0..members {
            let (member, port) = (network.namespace(nth), format!("member{nth}"));
            ip(&["netns", "add", &member]);
            ip(&["-n", &member, "link", "set", "lo", "up"]);
            let pair = ["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns"];
            ip(&[&["-n", &hub], &pair[..], &[&member]].concat());
            ip(&["-n", &hub, "link", "set", &port, "master", "bridge", "up"]);
            let address = format!("{}/24", Network::address(nth));
            ip(&["-n", &member, "address", "add", &address, "dev", "eth0"]);
            ip(&["-n", &member, "link", "set", "eth0", "up"]);
            network.nft(nth, &["add", "table", "inet", "urd"]);
            let chain = "{ type filter hook input priority 0 ; }";
            network.nft(nth, &["add", "chain", "inet", "urd", "input", chain]);
        }
        namespaces
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.prefix)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let members = (0..self.members).map(|nth| format!("{}-{nth}", self.prefix));
        for namespace in members.chain([self.hub()]) {
            // One that was never made is as good as one that is gone.
            Command::new("ip").args(["netns", "delete", &namespace]).output().ok();
        }
    }
}

/// Removes what a test left that was killed: its process id is in the name.
fn remove_leftovers() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            Command::new("ip").args(["netns", "delete", &name]).output().ok();
        }
    }
}

fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| {
        panic!("start {command:?} (apt-get install -y iproute2 nftables): {error}")
    });
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {} {text}", output.status);
}
