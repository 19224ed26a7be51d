//! etcd's v2 API, which Debian's etcd 3.4 still serves with `--enable-v2`: the reference for every body, header and status.
//!
//! | module | asks |
//! |---|---|
//! | [`differential`] | do random requests get equal answers, of one member and through a follower of three? |
//! | [`transcript`] | do the requests that a user makes, one by one? |
//! | [`etcdctl`] | does etcdctl print the same with `ETCDCTL_API=2`? |
//! | [`auth`] | do users and roles answer, permit and refuse the same, and stay what they are? |
//! | [`waits`] | is everybody who waits told, and nobody kept who went away? |
//! | [`cluster`] | do data and index survive kills, snapshots and expiry, alike on all members? |
//!
//! [`pair`] keeps the subject and etcd side by side, at the same index, and compares what they answer.

mod auth;
mod cluster;
mod differential;
mod etcdctl;
mod pair;
mod transcript;
mod waits;
