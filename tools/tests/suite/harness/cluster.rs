//! Several members of one cluster, each a process of its own, broken and mended by name.
//!
//! They are infra1, infra2 and so on, on loopback ports; or each in a namespace of a [`Network`], whose links can be
//! cut. As with a single [`Server`](super::Server), processes and directories are gone when the cluster is dropped, and
//! the ends of all logs are printed if the test panics.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use prost::Message;
use tempfile::TempDir;
use urd_proto::etcdserverpb as pb;
use urd_tools::lab::member::Member;

use super::{
    Client, Launch, Network, Program, READY_TIMEOUT, ports, scratch_directory, server, try_wait_for,
};

/// How long a cluster may take to find a leader, to apply what is missing, and so on: many elections.
pub(crate) const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
/// One that does not answer in this time is paused or cut off.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Changing the membership waits for a majority, and etcd for a while before it strictly checks it.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Ports within a namespace belong to nobody else.
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Cluster {
    program: Program,
    arguments: Vec<String>,
    members: Vec<Member>,
    network: Option<Network>,
    /// Members made so far, for the next one's name.
    made: usize,
    directory: TempDir,
}

impl Cluster {
    /// Starts so many members, with more arguments for each, and waits until all are healthy.
    pub(crate) fn start(program: Program, members: usize, arguments: &[&str]) -> Cluster {
        Self::start_in(program, members, None, arguments)
    }

    /// The same, each in its namespace.
    pub(crate) fn start_in_network(program: Program, network: Network) -> Cluster {
        Self::start_in(program, network.members(), Some(network), &[])
    }

    fn start_in(
        program: Program,
        members: usize,
        network: Option<Network>,
        arguments: &[&str],
    ) -> Cluster {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let directory = scratch_directory();
        let mut cluster =
            Cluster { program, arguments, members: Vec::new(), network, made: 0, directory };
        for _ in 0..members {
            cluster.make();
        }
        let all: Vec<String> = cluster.members.iter().map(Member::initial_part).collect();
        let all = all.join(",");
        for member in &mut cluster.members {
            member.initial = (all.clone(), "new");
        }
        for name in cluster.names() {
            cluster.launch(&name);
        }
        for name in cluster.names() {
            cluster.wait_until_healthy(&name);
        }
        cluster
    }

    /// Makes one more member, not started.
    fn make(&mut self) -> &mut Member {
        let nth = self.made;
        self.made += 1;
        let name = format!("infra{}", self.made);
        let (client, peer) = match &self.network {
            Some(_) => {
                let address = Network::address(nth);
                (format!("{address}:{CLIENT_PORT}"), format!("{address}:{PEER_PORT}"))
            }
            None => {
                let (client, peer) = (ports::free(), ports::free());
                (format!("127.0.0.1:{client}"), format!("127.0.0.1:{peer}"))
            }
        };
        self.members.push(Member {
            child: None,
            paused: false,
            client,
            peer,
            namespace: self.network.as_ref().map(|network| network.namespace(nth)),
            initial: (String::new(), "new"),
            data: self.directory.path().join(&name),
            log: self.directory.path().join(format!("{name}.log")),
            name,
        });
        self.members.last_mut().expect("one was pushed")
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.members.iter().map(|member| member.name.clone()).collect()
    }

    /// The one named's place, which is also that of its namespace.
    pub(crate) fn place(&self, name: &str) -> usize {
        let found = self.members.iter().position(|member| member.name == name);
        found.unwrap_or_else(|| panic!("{name}: there is {:?}", self.names()))
    }

    pub(crate) fn network(&self) -> &Network {
        self.network.as_ref().expect("the cluster was started in a network")
    }

    pub(crate) fn endpoint(&self, name: &str) -> String {
        self.members[self.place(name)].client.clone()
    }

    /// Those of all members, running or not.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client.clone()).collect()
    }

    pub(crate) async fn client(&self, name: &str) -> Client {
        Client::connect(&self.endpoint(name)).await
    }

    /// SIGKILL, as a crash of the process.
    pub(crate) fn kill(&mut self, name: &str) {
        let place = self.place(name);
        let member = &mut self.members[place];
        assert!(member.child.is_some(), "{name} does not run");
        member.kill();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait_exit(&mut self, name: &str) {
        let place = self.place(name);
        let child = self.members[place].child.as_mut().expect("the member runs");
        let status = try_wait_for(SETTLE_TIMEOUT, || child.try_wait().expect("wait for a child"));
        assert!(status.is_some(), "{name} did not end within {SETTLE_TIMEOUT:?}");
        self.members[place].child = None;
    }

    /// SIGSTOP: it hangs, its sockets stay open.
    pub(crate) fn pause(&mut self, name: &str) {
        let place = self.place(name);
        self.members[place].pause();
    }

    pub(crate) fn resume(&mut self, name: &str) {
        let place = self.place(name);
        self.members[place].resume();
    }

    /// Starts one that was killed or stopped, on its old data, and waits until it is healthy.
    pub(crate) fn restart(&mut self, name: &str) {
        self.launch(name);
        self.wait_until_healthy(name);
    }

    /// What a member has written, from its first start on.
    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.log_path(name)).expect("the log of a member of ours")
    }

    pub(crate) fn log_path(&self, name: &str) -> PathBuf {
        self.members[self.place(name)].log.clone()
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.members[self.place(name)].data.clone()
    }

    pub(crate) fn peer_url(&self, name: &str) -> String {
        format!("http://{}", self.members[self.place(name)].peer)
    }

    /// What it is told at its next starts of the cluster that it belongs to.
    pub(crate) fn set_initial(&mut self, name: &str, cluster: &str, state: &'static str) {
        let place = self.place(name);
        self.members[place].initial = (cluster.to_owned(), state);
    }

    pub(crate) fn is_healthy(&self, name: &str) -> bool {
        server::is_healthy(&self.endpoint(name))
    }

    /// One that says that it joins, and that nobody has added. Not started.
    pub(crate) fn make_stranger(&mut self, known: &str) -> String {
        let known = self.members[self.place(known)].initial_part();
        let member = self.make();
        member.initial = (format!("{known},{}", member.initial_part()), "existing");
        member.name.clone()
    }

    /// A linearizable get of `key` from one that hangs: it is on its way when it goes on.
    pub(crate) fn read_of_paused(
        &self,
        name: &str,
    ) -> tokio::task::JoinHandle<Result<pb::RangeResponse, tonic::Status>> {
        let endpoint = self.endpoint(name);
        tokio::spawn(async move {
            let mut client = Client::connect(&endpoint).await;
            client.range(super::get_request("key")).await
        })
    }

    /// Starts it, without waiting for anything.
    pub(crate) fn launch(&mut self, name: &str) {
        self.launch_with(name, &[]);
    }

    /// The same, with more arguments, this once.
    pub(crate) fn launch_with(&mut self, name: &str, more: &[&str]) {
        let place = self.place(name);
        let bare = Launch::new(self.program).command();
        let mut arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        arguments.extend(more);
        self.members[place].launch(bare, &arguments).expect("start a member");
    }

    /// Healthy means that it knows a leader and a linearizable read works.
    fn wait_until_healthy(&mut self, name: &str) {
        let place = self.place(name);
        let member = &mut self.members[place];
        let child = member.child.as_mut().expect("the member runs");
        let healthy = try_wait_for(READY_TIMEOUT, || {
            if let Some(status) = child.try_wait().expect("wait for a child") {
                panic!("{name} ended at its start: {status}");
            }
            server::is_healthy(&member.client).then_some(())
        });
        assert!(healthy.is_some(), "{name} was not healthy within {READY_TIMEOUT:?}");
    }

    /// Calls a member, that may be in any state.
    pub(crate) async fn call<Q, A>(&self, name: &str, path: &'static str, request: Q) -> Option<A>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let endpoint = self.endpoint(name);
        let call = async {
            let mut client = Client::try_connect(&endpoint).await.ok()?;
            client.call(path, request).await.ok()
        };
        tokio::time::timeout(CALL_TIMEOUT, call).await.ok().flatten()
    }

    pub(crate) async fn status(&self, name: &str) -> Option<pb::StatusResponse> {
        self.call(name, "/etcdserverpb.Maintenance/Status", pb::StatusRequest {}).await
    }

    /// Who leads in the latest term, by its own word. Those that do not run are not asked.
    pub(crate) async fn leader(&self) -> Option<String> {
        let mut leader = None;
        let mut term = 0;
        for member in self.members.iter().filter(|m| m.child.is_some() && !m.paused) {
            let Some(status) = self.status(&member.name).await else { continue };
            let own = status.header.map_or(0, |header| header.member_id);
            if own != 0 && own == status.leader && status.raft_term > term {
                (leader, term) = (Some(member.name.clone()), status.raft_term);
            }
        }
        leader
    }

    pub(crate) async fn wait_for_leader(&self) -> String {
        self.wait_for_leader_but("").await
    }

    /// Waits until another leads.
    pub(crate) async fn wait_for_leader_but(&self, former: &str) -> String {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            if let Some(leader) = self.leader().await.filter(|leader| leader != former) {
                return leader;
            }
            assert!(Instant::now() < deadline, "nobody else than {former:?} leads");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Some member that does not lead.
    pub(crate) async fn follower(&self) -> String {
        let leader = self.wait_for_leader().await;
        let names = self.names();
        names.into_iter().find(|name| *name != leader).expect("there is more than one member")
    }

    /// Adds a member through `by`, starts it with no data and waits until it is healthy. A learner is promoted once it
    /// may be.
    pub(crate) async fn add(&mut self, by: &str, learner: bool) -> String {
        let member = self.make();
        let (name, peer) = (member.name.clone(), format!("http://{}", member.peer));
        let request = pb::MemberAddRequest { peer_ur_ls: vec![peer.clone()], is_learner: learner };
        let answer: pb::MemberAddResponse =
            self.change(by, "/etcdserverpb.Cluster/MemberAdd", request).await;
        let new = answer.member.expect("the new member is in the answer").id;
        let initial = answer.members.iter().flat_map(|member| {
            let name = if member.id == new { &name } else { &member.name };
            member.peer_ur_ls.iter().map(move |url| format!("{name}={url}"))
        });
        let initial = initial.collect::<Vec<_>>().join(",");
        let place = self.place(&name);
        self.members[place].initial = (initial, "existing");
        self.launch(&name);
        if learner {
            let request = pb::MemberPromoteRequest { id: new };
            let path = "/etcdserverpb.Cluster/MemberPromote";
            let _: pb::MemberPromoteResponse = self.change(by, path, request).await;
        }
        self.wait_until_healthy(&name);
        name
    }

    /// Adds a learner through `by`, starts it with no data, and waits until it has the members' state.
    pub(crate) async fn add_learner(&mut self, by: &str) -> String {
        let member = self.make();
        let (name, peer) = (member.name.clone(), format!("http://{}", member.peer));
        let request = pb::MemberAddRequest { peer_ur_ls: vec![peer.clone()], is_learner: true };
        let answer: pb::MemberAddResponse =
            self.change(by, "/etcdserverpb.Cluster/MemberAdd", request).await;
        let known = &self.members[self.place(by)];
        let initial = format!("{}=http://{},{name}={peer}", known.name, known.peer);
        assert_eq!(answer.members.len(), 2);
        let place = self.place(&name);
        self.members[place].initial = (initial, "existing");
        self.launch(&name);
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while self.status(&name).await.is_none() {
            assert!(Instant::now() < deadline, "the learner does not answer");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        name
    }

    /// Removes a member through `by`, waits until its process has ended, and forgets it.
    pub(crate) async fn remove(&mut self, by: &str, name: &str) {
        self.expel(by, name).await;
        let place = self.place(name);
        self.members.remove(place);
    }

    /// The same, and keeps its data.
    pub(crate) async fn expel(&mut self, by: &str, name: &str) {
        let status = self.status(name).await.expect("the member to remove answers");
        let id = status.header.expect("every answer has a header").member_id;
        let request = pb::MemberRemoveRequest { id };
        let path = "/etcdserverpb.Cluster/MemberRemove";
        let _: pb::MemberRemoveResponse = self.change(by, path, request).await;
        self.wait_exit(name);
    }

    /// A change of the membership, again and again until it is allowed.
    async fn change<Q, A>(&self, by: &str, path: &'static str, request: Q) -> A
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let mut client = self.client(by).await;
            let call = client.call(path, request.clone());
            let error = match tokio::time::timeout(CHANGE_TIMEOUT, call).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(status)) => status.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            assert!(Instant::now() < deadline, "{path} by {by}: {error}");
            tokio::time::sleep(POLL_INTERVAL * 10).await;
        }
    }

    /// Waits until all members have applied the same, then compares their HashKV.
    pub(crate) async fn assert_equal(&self) {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let mut hashes = Vec::new();
            for member in &self.members {
                let path = "/etcdserverpb.Maintenance/HashKV";
                let answer: Option<pb::HashKvResponse> =
                    self.call(&member.name, path, pb::HashKvRequest { revision: 0 }).await;
                hashes.push(answer.map(|answer| {
                    let revision = answer.header.map_or(0, |header| header.revision);
                    (revision, answer.hash, answer.compact_revision)
                }));
            }
            if hashes[0].is_some() && hashes.iter().all(|hash| *hash == hashes[0]) {
                return;
            }
            // Unequal at one revision stays unequal: nothing to wait for.
            let same_revision = |hash: &Option<(i64, u32, i64)>| {
                hash.is_some() && hash.map(|h| (h.0, h.2)) == hashes[0].map(|h| (h.0, h.2))
            };
            let differs = hashes.iter().all(same_revision);
            assert!(
                !differs && Instant::now() < deadline,
                "members differ: (revision, hash, compacted) {hashes:?} of {:?}",
                self.names()
            );
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.kill();
            if std::thread::panicking() {
                let tail = server::tail(&member.log);
                eprintln!("---- the end of {}'s log\n{tail}\n----", member.name);
            }
        }
    }
}
