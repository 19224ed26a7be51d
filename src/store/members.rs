//! The members of the cluster: who they are, where they are reached, and who votes.
//!
//! They are replicated state like any other: changed by entries, durable with the applied index, carried by a snapshot.
//! Raft's configuration follows from the table ([`Members::conf`]), never the other way round. An id that was removed
//! stays in a table of its own and is never used again.
//!
//! Entries 2 and up change the table; what a *new* cluster begins with stands there as if a snapshot at index 1 had been
//! installed ([`Store::bootstrap`]). All first members compute it from the same flags, so it is the same bytes on each;
//! whoever joins later is brought up by a snapshot, since no log begins at 1, and learns the first members from that.
//!
//! What is wrong with a change is judged when it is applied, against the table alone, so that every member judges alike.
//! Whether a change is *wise* (enough members started, connected, caught up) is the leader's question before it proposes
//! one (`raft::membership`). Whether URLs are such is the api's.

use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message;
pub use urd_proto::etcdserverpb::Member;
use urd_proto::etcdserverpb::{
    MemberAddResponse, MemberPromoteResponse, MemberRemoveResponse, MemberUpdateRequest,
    MemberUpdateResponse,
};

use super::check::Fault;
use super::command::{Command, MemberAdd};
use super::keys;
use super::store::{Outcome, Response, Store};
use super::v2;
use super::view::View;
use crate::error::Rejected;
use crate::ids::{Index, MemberId, Term};
use crate::tree::{Counted, Cursor, Read, Tree};

/// Where a new cluster's log begins: its first members stand at this index, as a snapshot would.
pub const FIRST_INDEX: Index = Index(1);
/// The term of that index.
pub const FIRST_TERM: Term = Term(1);

/// All members, in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members(Vec<Member>);

impl Members {
    /// `None` when a record is not one of ours.
    pub(super) fn read<R: Read>(reader: &R) -> Option<Self> {
        let mut members = Vec::new();
        let mut key = Vec::new();
        keys::member(&mut key, MemberId(0));
        let mut cursor = reader.cursor();
        cursor.seek(&key);
        while cursor.valid()
            && let Some(id) = keys::member_key(cursor.key())
        {
            let member = Member::decode(cursor.value()).ok()?;
            if member.id != id.0 {
                return None;
            }
            members.push(member);
            cursor.next();
        }
        Some(Self(members))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.0.iter()
    }

    /// As etcd lists them.
    #[must_use]
    pub fn to_vec(&self) -> Vec<Member> {
        self.0.clone()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody is known: before a snapshot came, on a member that joins.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one with this id.
    #[must_use]
    pub fn get(&self, id: MemberId) -> Option<&Member> {
        self.0.iter().find(|member| member.id == id.0)
    }

    /// Whether there is one with this id, and it does not vote.
    #[must_use]
    pub fn is_learner(&self, id: MemberId) -> bool {
        self.get(id).is_some_and(|member| member.is_learner)
    }

    /// Those who vote.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.0.iter().filter(|member| !member.is_learner)
    }

    /// Raft's configuration: voters and learners.
    #[must_use]
    pub fn conf(&self) -> (Vec<MemberId>, Vec<MemberId>) {
        let ids = |is_learner: bool| {
            let chosen = self.0.iter().filter(move |member| member.is_learner == is_learner);
            chosen.map(|member| MemberId(member.id)).collect()
        };
        (ids(false), ids(true))
    }

    /// Whether another member than `id` has one of these peer URLs.
    fn have_url(&self, id: u64, peer_urls: &[String]) -> bool {
        let others = self.0.iter().filter(|member| member.id != id);
        others.flat_map(|member| &member.peer_ur_ls).any(|url| peer_urls.contains(url))
    }

    /// What must not be: for `store::check`.
    pub(super) fn faults(&self, tree: &impl Read) -> Vec<String> {
        let mut faults = Vec::new();
        let mut urls = BTreeSet::new();
        for member in &self.0 {
            let id = MemberId(member.id);
            if is_removed(tree, id) {
                faults.push(format!("member {id} was removed, and is there"));
            }
            // One member may name a URL twice, as in etcd.
            let own: BTreeSet<&String> = member.peer_ur_ls.iter().collect();
            for url in own.into_iter().filter(|url| !urls.insert(*url)) {
                faults.push(format!("member {id} has the peer URL {url} of another one"));
            }
        }
        faults
    }
}

/// Whether a member has ever told its name: it was started, or is a first one.
#[must_use]
pub fn is_started(member: &Member) -> bool {
    !member.name.is_empty()
}

fn is_removed<R: Read>(reader: &R, id: MemberId) -> bool {
    let mut key = Vec::new();
    keys::removed(&mut key, id);
    reader.get(&key).is_some()
}

fn write(tree: &mut Tree, member: &Member) {
    let mut key = Vec::new();
    keys::member(&mut key, MemberId(member.id));
    tree.insert(&key, &member.encode_to_vec(), Counted::No);
}

fn remove(tree: &mut Tree, id: MemberId) {
    let mut key = Vec::new();
    keys::member(&mut key, id);
    tree.remove(&key);
    keys::removed(&mut key, id);
    tree.insert(&key, b"", Counted::No);
}

/// A change under way.
struct Change<'a> {
    tree: &'a mut Tree,
    /// As they were before it.
    members: &'a Members,
}

impl Change<'_> {
    fn find(&self, id: u64) -> Result<&Member, Rejected> {
        self.members.get(MemberId(id)).ok_or(Rejected::MemberNotFound)
    }

    fn add(&mut self, request: &MemberAdd) -> Result<Member, Rejected> {
        let MemberAdd { id, ref peer_urls, is_learner, learners_max } = *request;
        if id == 0 || is_removed(self.tree, MemberId(id)) {
            return Err(Rejected::MemberNotFound);
        }
        if self.members.get(MemberId(id)).is_some() {
            return Err(Rejected::MemberExists);
        }
        if self.members.have_url(id, peer_urls) {
            return Err(Rejected::PeerUrlExists);
        }
        let learners = self.members.iter().filter(|member| member.is_learner).count() as u64;
        if is_learner && learners >= learners_max {
            return Err(Rejected::TooManyLearners);
        }
        let member = Member { id, peer_ur_ls: peer_urls.clone(), is_learner, ..Member::default() };
        write(self.tree, &member);
        Ok(member)
    }

    /// Raft cannot do without a voter.
    fn remove(&mut self, id: u64) -> Result<(), Rejected> {
        let member = self.find(id)?;
        if !member.is_learner && self.members.voters().count() == 1 {
            return Err(Rejected::LastVoter);
        }
        remove(self.tree, MemberId(id));
        Ok(())
    }

    fn promote(&mut self, id: u64) -> Result<(), Rejected> {
        let member = self.find(id)?;
        if !member.is_learner {
            return Err(Rejected::MemberNotLearner);
        }
        let member = Member { is_learner: false, ..member.clone() };
        write(self.tree, &member);
        Ok(())
    }

    fn update(&mut self, request: &MemberUpdateRequest) -> Result<(), Rejected> {
        let member = self.find(request.id)?;
        if self.members.have_url(request.id, &request.peer_ur_ls) {
            return Err(Rejected::PeerUrlExists);
        }
        let member = Member { peer_ur_ls: request.peer_ur_ls.clone(), ..member.clone() };
        write(self.tree, &member);
        Ok(())
    }

    fn publish(&mut self, told: &Member) -> Result<(), Rejected> {
        let member = self.find(told.id)?;
        let (name, client_ur_ls) = (told.name.clone(), told.client_ur_ls.clone());
        let member = Member { name, client_ur_ls, ..member.clone() };
        write(self.tree, &member);
        Ok(())
    }
}

impl Store {
    /// Applies a request about members.
    pub(super) fn change_members(&mut self, command: &Command) -> Outcome {
        let before = Arc::clone(&self.members);
        let mut change = Change { tree: &mut self.tree, members: &before };
        // Answers about members carry no revision; the api adds who answers.
        let header = None;
        let mut response = match command {
            Command::MemberAdd(request) => {
                let member = Some(change.add(request)?);
                Response::MemberAdd(MemberAddResponse { header, member, members: Vec::new() })
            }
            Command::MemberRemove(request) => {
                change.remove(request.id)?;
                Response::MemberRemove(MemberRemoveResponse { header, members: Vec::new() })
            }
            Command::MemberPromote(request) => {
                change.promote(request.id)?;
                Response::MemberPromote(MemberPromoteResponse { header, members: Vec::new() })
            }
            Command::MemberUpdate(request) => {
                change.update(request)?;
                Response::MemberUpdate(MemberUpdateResponse { header, members: Vec::new() })
            }
            Command::MemberPublish(told) => {
                change.publish(told)?;
                Response::MemberPublish
            }
            _ => unreachable!("invariant: the caller hands over requests about members"),
        };
        self.read_members();
        match &mut response {
            Response::MemberAdd(MemberAddResponse { members, .. })
            | Response::MemberRemove(MemberRemoveResponse { members, .. })
            | Response::MemberPromote(MemberPromoteResponse { members, .. })
            | Response::MemberUpdate(MemberUpdateResponse { members, .. }) => {
                *members = self.members.to_vec();
            }
            _ => {}
        }
        Ok(response)
    }

    fn read_members(&mut self) {
        let members = Members::read(&self.tree).expect("invariant: they were written here");
        self.members = Arc::new(members);
    }

    /// The members as of the last applied entry, published or not.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Raft's configuration as of the last applied entry: voters and learners.
    #[must_use]
    pub fn conf(&self) -> (Vec<MemberId>, Vec<MemberId>) {
        self.members.conf()
    }

    /// Makes an empty store that of a new cluster: at index 1 and term 1, with these members.
    pub fn bootstrap(&mut self, members: &[Member]) {
        assert!(self.applied() == Index(0) && self.members.is_empty(), "the store is empty");
        self.adopt(members);
        self.v2 = v2::Numbers::of_cluster(members.len());
        self.begin_at(FIRST_INDEX, FIRST_TERM);
        self.publish();
    }

    /// Gives members to the store of a version that knew none. Readers see them at once.
    pub fn adopt(&mut self, members: &[Member]) {
        assert!(self.members.is_empty(), "the store has no members");
        members.iter().for_each(|member| write(&mut self.tree, member));
        self.read_members();
        self.publish();
    }

    /// Whether a member was removed, as of what is applied; its id is never used again.
    pub fn is_removed(&self, id: MemberId) -> bool {
        is_removed(&self.tree, id)
    }

    /// Leaves `member` as the only one, removed before or not; the others count as removed. It is this member's own doing, in no log: make a
    /// checkpoint of it before anything else is written.
    pub fn force_new_cluster(&mut self, member: &Member) {
        for other in self.members.to_vec().iter().filter(|other| other.id != member.id) {
            remove(&mut self.tree, MemberId(other.id));
        }
        let mut key = Vec::new();
        keys::removed(&mut key, MemberId(member.id));
        self.tree.remove(&key);
        write(&mut self.tree, &Member { is_learner: false, ..member.clone() });
        self.read_members();
        self.publish();
    }
}

/// What is to be known of members where damage must not end the process.
pub(super) fn open(tree: &Tree) -> Result<Members, Fault> {
    let mut key = Vec::new();
    for id in [0, u64::MAX] {
        keys::member(&mut key, MemberId(id));
        tree.verify_path(&key).map_err(|damage| Fault::new(&tree.describe(&damage)))?;
    }
    Members::read(tree).ok_or_else(|| Fault::new("a member's record in the tree is not readable"))
}

impl View {
    /// Whether a member was removed, as of this view.
    #[must_use]
    pub fn is_removed(&self, id: MemberId) -> bool {
        is_removed(self.snapshot(), id)
    }
}
