//! Tests in networks that can be cut ([`urd_tools::lab::network`]).
//!
//! The test itself moves into the hub: [`in_network`] makes the namespaces, runs the test program again there with only
//! the calling test, and removes them, whatever came of it.
//!
//! Without root a test says so and is passed over.

use std::process::Command;

use urd_tools::lab::network::{self, Namespaces};

/// Tells the inner run which namespaces are its own.
const PREFIX_VARIABLE: &str = "URD_TEST_NETWORK";
const PREFIX: &str = "urd-test-";

/// The namespaces of one test, seen from within the hub. What cannot be done to them fails the test.
#[derive(Clone, Debug)]
pub(crate) struct Network(network::Network);

impl Network {
    pub(crate) fn members(&self) -> usize {
        self.0.members()
    }

    /// The namespace of member `nth`.
    pub(crate) fn namespace(&self, nth: usize) -> String {
        self.0.namespace(nth)
    }

    /// Its address, on which it listens for clients and peers.
    pub(crate) fn address(nth: usize) -> String {
        network::Network::address(nth)
    }

    /// Nothing that `from` sends reaches `to` any more.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        self.0.cut(from, to).expect("cut a link");
    }

    /// The link between the two, both ways.
    pub(crate) fn cut_both(&self, one: usize, other: usize) {
        self.0.cut_both(one, other).expect("cut a link");
    }

    /// All links of a member to others; clients still reach it.
    pub(crate) fn isolate(&self, nth: usize) {
        self.0.isolate(nth).expect("cut a member off");
    }

    /// All links are whole again.
    pub(crate) fn heal(&self) {
        self.0.heal().expect("heal the links");
    }
}

/// Runs `body` in a network of `members` namespaces. `test` is the calling test's path (`module_path!()` and its name).
pub(crate) fn in_network(test: &str, members: usize, body: impl FnOnce(Network)) {
    if let Ok(prefix) = std::env::var(PREFIX_VARIABLE) {
        return body(Network(network::Network::new(&prefix, members)));
    }
    if !rustix::process::geteuid().is_root() {
        println!("passed over: only root makes network namespaces");
        return;
    }
    let namespaces = Namespaces::create(PREFIX, members).expect("make network namespaces");
    let (_, test) = test.split_once("::").expect("module_path!() begins with the crate");
    let own = std::env::current_exe().expect("the test's own path is readable");
    let output = Command::new("ip")
        .args(["netns", "exec", &namespaces.network().hub()])
        .arg(own)
        .args(["--exact", test, "--nocapture"])
        .env(PREFIX_VARIABLE, namespaces.network().prefix())
        .output()
        .unwrap_or_else(|error| panic!("run ip (apt-get install -y iproute2): {error}"));
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{stdout}");
    eprintln!("{stderr}");
    assert!(output.status.success(), "{test}, within its network: {}", output.status);
    assert!(stdout.contains("1 passed"), "{test}: no such test was found within the network");
}
