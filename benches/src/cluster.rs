//! Servers under measurement, one or several that are one cluster: fresh data, free ports, all on
//! this machine.

use crate::server::{Member, Program};
use glommio::LocalExecutorBuilder;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use urd_proto::etcdserverpb::StatusResponse;
use urd_tools::grpc::endpoint::Endpoint;
use urd_tools::members;

/// How long it may take until one member leads, or until a member has what the leader has.
const LEADER_TIMEOUT: Duration = Duration::from_secs(30);
const LEVEL_TIMEOUT: Duration = Duration::from_secs(60);
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a removal may take, and how soon one that was refused is tried again.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(8);
const REMOVE_INTERVAL: Duration = Duration::from_millis(200);
/// How often members are asked meanwhile.
const ASK_INTERVAL: Duration = Duration::from_millis(20);

/// A running cluster. Its members and their data are gone when this is dropped.
pub struct Cluster {
    members: Vec<Member>,
    /// Dropped after the members, which write there.
    _directory: TempDir,
}

impl Cluster {
    /// Starts so many members of `program` with fresh data under `root`, each with `flags`, and
    /// waits until all are healthy and one leads.
    pub fn start(
        program: &Program,
        root: &Path,
        members: usize,
        flags: &[&str],
    ) -> io::Result<Cluster> {
        fs::create_dir_all(root)?;
        let directory = tempfile::Builder::new().prefix("data-").tempdir_in(root)?;
        let addresses = free_addresses(2 * members)?;
        let (clients, peers) = addresses.split_at(members);
        let name = |nth: usize| format!("bench{}", nth + 1);
        let named =
            peers.iter().enumerate().map(|(nth, peer)| format!("{}=http://{peer}", name(nth)));
        let initial_cluster = named.collect::<Vec<_>>().join(",");
        let member = |(nth, addresses)| {
            Member::new(program, directory.path(), &name(nth), addresses, &initial_cluster, flags)
        };
        let pairs = clients.iter().copied().zip(peers.iter().copied());
        let members = pairs.enumerate().map(member).collect();
        let mut cluster = Cluster { members, _directory: directory };
        for member in &mut cluster.members {
            member.start()?;
        }
        for member in &mut cluster.members {
            member.wait_until_healthy()?;
        }
        cluster.leader()?;
        Ok(cluster)
    }

    /// `host:port` of each member, for clients.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.address().to_string()).collect()
    }

    /// CPU used so far, by all members.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        self.members.iter().map(Member::cpu_time).sum()
    }

    /// The sum of the members' peaks, which need not have been at the same time.
    pub fn peak_resident_bytes(&self) -> io::Result<u64> {
        self.members.iter().map(Member::peak_resident_bytes).sum()
    }

    /// Waits until a member leads. Says which.
    pub fn leader(&self) -> io::Result<usize> {
        self.wait(LEADER_TIMEOUT, 0, "nobody leads", |statuses| {
            members::leader(statuses.iter().map(Option::as_ref))
        })
    }

    /// Ends member `nth` at once, as a crash would. Says when.
    pub fn kill(&mut self, nth: usize) -> io::Result<Instant> {
        self.members[nth].kill()
    }

    /// Starts member `nth` again, on its data, and waits until it is healthy and has applied all
    /// that the others had when it became so.
    pub fn restart(&mut self, nth: usize) -> io::Result<()> {
        self.members[nth].start()?;
        self.members[nth].wait_until_healthy()?;
        let mut wanted = None;
        self.wait(LEVEL_TIMEOUT, nth, "it does not catch up with the leader", |statuses| {
            if wanted.is_none() {
                let leader = members::leader(statuses.iter().map(Option::as_ref));
                wanted = leader.and_then(|leader| Some(statuses[leader].as_ref()?.raft_index));
            }
            let applied = statuses[nth].as_ref()?.raft_applied_index;
            (applied >= wanted?).then_some(())
        })
    }

    /// Lets another member remove member `nth` from the cluster, as soon as it may be: members have to be connected for a
    /// while. Says when it was asked for the time that it was done.
    pub fn remove(&self, nth: usize) -> io::Result<Instant> {
        let id = self.wait(LEADER_TIMEOUT, nth, "it does not say who it is", |statuses| {
            Some(statuses[nth].as_ref()?.header.as_ref()?.member_id)
        })?;
        let other = (nth + 1) % self.members.len();
        let endpoint: Endpoint =
            self.members[other].address().to_string().parse().map_err(io::Error::other)?;
        let executor = LocalExecutorBuilder::default().make().map_err(io::Error::from)?;
        let deadline = Instant::now() + LEADER_TIMEOUT;
        loop {
            let asked = Instant::now();
            match executor.run(members::remove(&endpoint, id, REMOVE_TIMEOUT)) {
                Ok(_) => return Ok(asked),
                Err(_) if Instant::now() < deadline => thread::sleep(REMOVE_INTERVAL),
                Err(error) => return Err(self.members[other].failed(&error.to_string())),
            }
        }
    }

    /// Ends all members in good order.
    pub fn stop(mut self) -> io::Result<()> {
        self.members.iter_mut().try_for_each(Member::stop)
    }

    /// Asks all members until `found` in what they say; after `timeout` it is the failure `what` of
    /// member `blamed`.
    fn wait<T>(
        &self,
        timeout: Duration,
        blamed: usize,
        what: &str,
        mut found: impl FnMut(&[Option<StatusResponse>]) -> Option<T>,
    ) -> io::Result<T> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(found) = found(&self.statuses()?) {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                return Err(self.members[blamed].failed(&format!("{what} after {timeout:?}")));
            }
            thread::sleep(ASK_INTERVAL);
        }
    }

    fn statuses(&self) -> io::Result<Vec<Option<StatusResponse>>> {
        let endpoints = self.endpoints().into_iter().map(|endpoint| endpoint.parse());
        let endpoints: Vec<Endpoint> =
            endpoints.collect::<Result<_, _>>().map_err(io::Error::other)?;
        let executor = LocalExecutorBuilder::default().make().map_err(io::Error::from)?;
        let answers = executor.run(members::statuses(&endpoints, STATUS_TIMEOUT));
        Ok(answers.into_iter().map(Result::ok).collect())
    }
}

/// Addresses that were free a moment ago.
///
/// Below the ports that the kernel gives to outgoing connections: members dial each other's ports
/// while these are closed, and one from that range can be taken by such a dial.
fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    const PORT_MIN: u16 = 10_000;
    const PORTS: u16 = 20_000;
    /// Where to look next; at first somewhere that depends on the process.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = (std::process::id() % u32::from(PORTS)) as u16;
    let mut addresses = Vec::with_capacity(count);
    for _ in 0..PORTS {
        if addresses.len() == count {
            return Ok(addresses);
        }
        let nth = NEXT.fetch_add(1, Ordering::Relaxed) % PORTS;
        let port = PORT_MIN + ((u32::from(offset) * 7 + u32::from(nth)) % u32::from(PORTS)) as u16;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            addresses.push(address);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "there are no free ports from 10000 to 29999"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_that_ends_is_shown_with_its_log() {
        let root = tempfile::tempdir().unwrap();
        let program = Program { name: "not a server".into(), path: "/bin/echo".into() };
        let error = Cluster::start(&program, root.path(), 3, &[]).err().unwrap().to_string();
        assert!(error.starts_with("not a server (/bin/echo): ended by itself"), "{error}");
        assert!(error.contains("\n--name=bench1 --data-dir="), "what it said: {error}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "its directory is gone");
    }

    #[test]
    fn addresses_differ() {
        let addresses = free_addresses(20).unwrap();
        let ports: std::collections::BTreeSet<u16> =
            addresses.iter().map(SocketAddr::port).collect();
        assert_eq!(ports.len(), 20);
        assert!(ports.iter().all(|port| (10_000..30_000).contains(port)));
    }
}
