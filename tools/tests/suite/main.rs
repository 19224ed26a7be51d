//! The tests across processes: a real server, started as a user starts it, spoken to over its sockets.
//!
//! One binary on purpose: every test links tonic, and linking it once is most of the build time saved.
//!
//! | module | asks |
//! |---|---|
//! | [`etcdctl`] | does Debian's etcdctl print the same against Urd as against etcd? |
//! | [`differential`] | do thousands of random requests get equal answers from Urd and etcd? |
//! | [`client_crate`] | does a client library of others work? |
//! | [`cluster`] | does a cluster lose nothing, and serve nothing stale, whatever is broken? |
//! | [`crash`] | is what was acknowledged still there after `kill -9`? |
//! | [`hostile`] | does a bad client hurt anyone but itself? |
//! | [`benchmark`] | does the load generator do what it says, and count it? |
//! | [`lease`] | do keys vanish with their leases, in time and not before, across crashes too? |
//! | [`watch`] | are watchers told the same as by etcd? |
//! | [`space`] | does a full quota refuse what etcd's does, and does a defragmentation give space back? |
//! | [`torture`] | does everything hold while all kinds of things break at once? |
//! | [`life`] | start, stop, flags, HTTP endpoints, a full disk |
//! | [`v2`] | does the older API over HTTP answer as etcd's, wait as etcd's, and keep what it acknowledged? |
//! | [`urdutl`] | does the offline tool see what is in a directory, and what is damaged? |
//! | [`urdctl`] | does the command-line client print what etcdctl prints, and survive what fails? |
//!
//! The server under test is the *subject*: the `urd` built beside this test, or `URD_BIN`. With
//! `URD_TEST_SUBJECT=/usr/bin/etcd` the subject is etcd itself, which proves the tests: what etcd's own behaviour
//! fails is a wrong test. Tests that ask for more than etcd 3.4 gives say so and pass at once in that mode.
//!
//! Nothing here knows Urd's insides: no crate of ours is linked but the wire messages and what the tools share.

mod benchmark;
mod client_crate;
mod cluster;
mod crash;
mod differential;
mod etcdctl;
mod harness;
mod hostile;
mod lease;
mod life;
mod space;
mod torture;
mod urdctl;
mod urdutl;
mod v2;
mod watch;
