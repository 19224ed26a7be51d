//! The members: their processes, what they say, and changes of the membership.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use glommio::timer::Timer;
use urd_proto::etcdserverpb::{
    HashKvRequest, HashKvResponse, MemberAddRequest, MemberAddResponse, MemberListRequest,
    MemberListResponse, MemberRemoveRequest, MemberRemoveResponse, MoveLeaderRequest,
    MoveLeaderResponse, RangeRequest, RangeResponse, StatusResponse,
};
use urd_tools::grpc::endpoint::Endpoint;
use urd_tools::grpc::unary::{UnaryError, call};
use urd_tools::lab::member::Member;
use urd_tools::lab::network::Network;
use urd_tools::lab::{disk, ports};
use urd_tools::members;

/// How long mended members may take for anything.
pub(crate) const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// A change of the membership waits for a majority.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Ports within a namespace belong to nobody else.
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// What is left free of a disk that is filled.
const BYTES_LEFT: u64 = 256 << 10;
/// How much of a member's log is shown.
const LOG_BYTES_SHOWN: usize = 3_000;

/// The name of member `nth`.
pub(crate) fn name(nth: usize) -> String {
    format!("infra{}", nth + 1)
}

pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) network: Option<Network>,
    /// Where each member's disk is, if it has one of its own.
    pub(crate) disks: Vec<Option<PathBuf>>,
    /// Of whom it is known that their disk was full when they wrote.
    pub(crate) filled: Vec<bool>,
    urd: PathBuf,
    arguments: Vec<String>,
}

impl Cluster {
    /// Members that do not run yet.
    pub(crate) fn new(
        urd: PathBuf,
        count: usize,
        stage: &Path,
        network: Option<Network>,
        arguments: Vec<String>,
    ) -> Result<Cluster, String> {
        let mut members = Vec::new();
        let mut disks = Vec::new();
        for nth in 0..count {
            let (client, peer) = match &network {
                Some(_) => {
                    let address = Network::address(nth);
                    (format!("{address}:{CLIENT_PORT}"), format!("{address}:{PEER_PORT}"))
                }
                None => {
                    let (client, peer) = (ports::free(), ports::free());
                    (format!("127.0.0.1:{client}"), format!("127.0.0.1:{peer}"))
                }
            };
            let name = name(nth);
            let own = stage.join(&name);
            disks.push(own.is_dir().then(|| own.clone()));
            members.push(Member {
                child: None,
                paused: false,
                client,
                peer,
                namespace: network.as_ref().map(|network| network.namespace(nth)),
                initial: (String::new(), "new"),
                data: own.join("data"),
                log: stage.join(format!("{name}.log")),
                name,
            });
        }
        let all: Vec<String> = members.iter().map(Member::initial_part).collect();
        for member in &mut members {
            member.initial.0 = all.join(",");
            if let Some(parent) = member.data.parent() {
                std::fs::create_dir_all(parent).map_err(|error| error.to_string())?;
            }
        }
        let parsed = members.iter().map(|member| member.client.parse::<Endpoint>());
        let endpoints = parsed.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let filled = vec![false; count];
        Ok(Cluster { members, endpoints, network, disks, filled, urd, arguments })
    }

    pub(crate) fn launch(&mut self, nth: usize) -> Result<(), String> {
        let mut bare = Command::new(&self.urd);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("ETCD_") {
                bare.env_remove(variable);
            }
        }
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.members[nth].launch(bare, &arguments)
    }

    /// Starts those that do not run.
    pub(crate) fn launch_all(&mut self) -> Result<(), String> {
        for nth in 0..self.members.len() {
            if !self.members[nth].runs() {
                self.launch(nth)?;
            }
        }
        Ok(())
    }

    /// Asks a member to end in good order and waits for that.
    pub(crate) async fn stop(&mut self, nth: usize) -> Result<(), String> {
        self.members[nth].terminate();
        self.wait_exit(nth).await
    }

    pub(crate) async fn wait_exit(&mut self, nth: usize) -> Result<(), String> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while self.members[nth].runs() {
            if Instant::now() >= deadline {
                return Err(format!("{} did not end within {SETTLE_TIMEOUT:?}", name(nth)));
            }
            Timer::new(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Fails if a member has ended that nobody ended, and whose disk was not full.
    pub(crate) fn check_running(&mut self) -> Result<(), String> {
        for nth in 0..self.members.len() {
            let ran = self.members[nth].child.is_some();
            if ran && !self.members[nth].runs() && !self.filled[nth] {
                return Err(format!("{} ended by itself:\n{}", name(nth), self.log_end(nth)));
            }
        }
        Ok(())
    }

    pub(crate) fn log_end(&self, nth: usize) -> String {
        let log = std::fs::read(&self.members[nth].log).unwrap_or_default();
        let end = log.get(log.len().saturating_sub(LOG_BYTES_SHOWN)..).unwrap_or_default();
        String::from_utf8_lossy(end).into_owned()
    }

    pub(crate) fn fill(&mut self, nth: usize) -> Result<(), String> {
        self.filled[nth] = true;
        match &self.disks[nth] {
            Some(mount) => disk::fill(mount, BYTES_LEFT),
            None => Ok(()),
        }
    }

    pub(crate) fn free(&self, nth: usize) {
        if let Some(mount) = &self.disks[nth] {
            // None was filled, or it is free already.
            disk::free(mount).ok();
        }
    }

    pub(crate) async fn statuses(&self) -> Vec<Result<StatusResponse, UnaryError>> {
        members::statuses(&self.endpoints, ASK_TIMEOUT).await
    }

    pub(crate) async fn leader(&self) -> Option<usize> {
        let statuses = self.statuses().await;
        members::leader(statuses.iter().map(|status| status.as_ref().ok()))
    }

    /// Why the cluster is not whole, if it is not: each member answers a linearizable read and knows who leads.
    pub(crate) async fn ailing(&self) -> Option<String> {
        let statuses = self.statuses().await;
        let leader = members::leader(statuses.iter().map(|status| status.as_ref().ok()));
        let Some(leader) = leader.and_then(|nth| statuses[nth].as_ref().ok()) else {
            return Some("nobody leads".to_owned());
        };
        for (nth, status) in statuses.iter().enumerate() {
            match status {
                Err(error) => return Some(format!("{}: {error}", name(nth))),
                Ok(status) if status.leader != leader.leader => {
                    return Some(format!("{} knows another leader, or none", name(nth)));
                }
                Ok(_) => {}
            }
            let request = RangeRequest { key: "health".into(), ..RangeRequest::default() };
            let read: Result<RangeResponse, _> =
                call(&self.endpoints[nth], "/etcdserverpb.KV/Range", &request, ASK_TIMEOUT).await;
            if let Err(error) = read {
                return Some(format!("{}: a linearizable read: {error}", name(nth)));
            }
        }
        None
    }

    pub(crate) async fn wait_until_whole(&mut self, timeout: Duration) -> Result<(), String> {
        let deadline = Instant::now() + timeout;
        loop {
            self.check_running()?;
            let Some(why) = self.ailing().await else { return Ok(()) };
            if Instant::now() >= deadline {
                return Err(format!("not whole within {timeout:?}: {why}"));
            }
            Timer::new(POLL_INTERVAL).await;
        }
    }

    pub(crate) async fn hash(
        &self,
        nth: usize,
        revision: i64,
    ) -> Result<HashKvResponse, UnaryError> {
        let (endpoint, path) = (&self.endpoints[nth], "/etcdserverpb.Maintenance/HashKV");
        call(endpoint, path, &HashKvRequest { revision }, CHANGE_TIMEOUT).await
    }

    /// Asks the leader to hand over to another.
    pub(crate) async fn move_leader(&self, to: usize) -> Result<(), String> {
        let Some(leader) = self.leader().await else { return Err("nobody leads".to_owned()) };
        let status = members::status(&self.endpoints[to], ASK_TIMEOUT).await;
        let status = status.map_err(|error| error.to_string())?;
        let request =
            MoveLeaderRequest { target_id: status.header.map_or(0, |header| header.member_id) };
        let path = "/etcdserverpb.Maintenance/MoveLeader";
        let moved: Result<MoveLeaderResponse, _> =
            call(&self.endpoints[leader], path, &request, CHANGE_TIMEOUT).await;
        moved.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Replaces a member by one with an empty directory: removed, wiped, added anew, started.
    pub(crate) async fn replace(&mut self, nth: usize, killed_first: bool) -> Result<(), String> {
        if killed_first {
            self.members[nth].kill();
        }
        let by = (nth + 1) % self.members.len();
        self.remove(by, nth).await?;
        if !killed_first {
            // It hears of its removal and ends; one that does not hear is as gone.
            let ended = futures_lite::future::or(self.wait_exit(nth), async {
                Timer::new(CHANGE_TIMEOUT).await;
                Ok(())
            });
            ended.await?;
            self.members[nth].kill();
        }
        std::fs::remove_dir_all(&self.members[nth].data).map_err(|error| error.to_string())?;
        self.add(by, nth).await?;
        self.launch(nth)
    }

    async fn list(&self, by: usize) -> Result<MemberListResponse, UnaryError> {
        let path = "/etcdserverpb.Cluster/MemberList";
        let request = MemberListRequest { linearizable: true };
        call(&self.endpoints[by], path, &request, CHANGE_TIMEOUT).await
    }

    /// Removes a member, again and again until it is gone: what an attempt came to may be unknown.
    async fn remove(&self, by: usize, nth: usize) -> Result<(), String> {
        let url = format!("http://{}", self.members[nth].peer);
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let error = match self.list(by).await {
                Err(error) => error,
                Ok(list) => {
                    let found = list.members.iter().find(|member| member.peer_ur_ls.contains(&url));
                    let Some(member) = found else { return Ok(()) };
                    let request = MemberRemoveRequest { id: member.id };
                    let path = "/etcdserverpb.Cluster/MemberRemove";
                    let removed: Result<MemberRemoveResponse, _> =
                        call(&self.endpoints[by], path, &request, CHANGE_TIMEOUT).await;
                    match removed {
                        Ok(_) => return Ok(()),
                        Err(error) => error,
                    }
                }
            };
            if Instant::now() >= deadline {
                return Err(format!("{} cannot be removed: {error}", name(nth)));
            }
            Timer::new(POLL_INTERVAL).await;
        }
    }

    /// Adds a member, again and again until it is there.
    async fn add(&mut self, by: usize, nth: usize) -> Result<(), String> {
        let url = format!("http://{}", self.members[nth].peer);
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let request = MemberAddRequest { peer_ur_ls: vec![url.clone()], is_learner: false };
            let path = "/etcdserverpb.Cluster/MemberAdd";
            let added: Result<MemberAddResponse, _> =
                call(&self.endpoints[by], path, &request, CHANGE_TIMEOUT).await;
            let list = self.list(by).await;
            if let Ok(list) = &list
                && list.members.iter().any(|member| member.peer_ur_ls.contains(&url))
            {
                let parts: Vec<String> = self.members.iter().map(Member::initial_part).collect();
                self.members[nth].initial = (parts.join(","), "existing");
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("{} cannot be added: {added:?}", name(nth)));
            }
            Timer::new(POLL_INTERVAL).await;
        }
    }
}
