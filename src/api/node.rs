//! What the services need of the member behind them. `server` implements it, once a shard.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use urd_proto::etcdserverpb::{RangeRequest, ResponseHeader, TxnRequest};

use super::call::Reply;
use super::cors::Origins;
use super::v3::watch::Hub;
use crate::error::{Error, Unavailable};
use crate::ids::{ClusterId, Index, LeaseId, MemberId, Revision, Term};
use crate::store::command::Kind;
use crate::store::{Statistics, View, v2};

/// What every member tells about itself, fixed while it runs.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// This member. What else is known of it stands in the table of members.
    pub member: MemberId,
}

/// The limits that the services check.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `--max-request-bytes`.
    pub request_bytes: usize,
    /// `--max-txn-ops`.
    pub txn_ops: usize,
    /// `--watch-progress-notify-interval`.
    pub watch_progress_interval: Duration,
    /// `--quota-backend-bytes`, its default filled in; negative: none.
    pub quota_bytes: i64,
    /// `--max-learners`.
    pub learners: u64,
    /// The shortest TTL of a lease, in seconds; it follows from the election timeout.
    pub lease_ttl_min: i64,
    /// How long a leader may be silent.
    pub election_timeout: Duration,
    /// `--enable-v2`.
    pub v2: bool,
    /// `--v2-history`.
    pub v2_history: u64,
}

/// What went to another member and came from it.
#[derive(Clone, Copy, Debug)]
pub struct PeerTraffic {
    /// Who.
    pub member: MemberId,
    /// Whether both can reach each other now.
    pub is_active: bool,
    /// Bytes sent to it.
    pub sent_bytes: u64,
    /// Bytes received from it.
    pub received_bytes: u64,
    /// Appends sent to it.
    pub sent_appends: u64,
    /// Appends received from it.
    pub received_appends: u64,
    /// Messages that were not sent, because it was away or too slow.
    pub dropped_messages: u64,
    /// Times that a connection broke or could not be made.
    pub failures: u64,
    /// Measured beside raft's messages.
    pub round_trips: RoundTrips,
}

/// Round trips between two members.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundTrips {
    /// Their number.
    pub count: u64,
    /// All together.
    pub total: Duration,
    /// Their standard deviation.
    pub deviation: Duration,
    /// The last one.
    pub last: Duration,
    /// The shortest one.
    pub shortest: Duration,
    /// The longest one.
    pub longest: Duration,
}

/// What the log shard publishes after every batch it applied. Readers on all shards take the newest.
#[derive(Debug)]
pub struct Published {
    /// The state, frozen.
    pub view: View,
    /// Raft's term.
    pub term: Term,
    /// The leader, if one is known.
    pub leader: Option<MemberId>,
    /// Newest entry known committed.
    pub committed: Index,
    /// How large the tree is.
    pub sizes: Statistics,
}

/// A linearizable read that waits for its index, and what to do then.
pub enum Read {
    /// Answer a range.
    Range(RangeRequest, Box<dyn Reply>),
    /// Answer a range in pieces.
    RangeStream(RangeRequest, Box<dyn Reply>),
    /// Answer a transaction that writes nothing.
    Txn(TxnRequest, Box<dyn Reply>),
    /// Answer the list of members.
    MemberList(Box<dyn Reply>),
    /// Tell a task that waits.
    Wake(oneshot::Sender<Result<(), Unavailable>>),
}

/// What only the leader knows of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseQuestion {
    /// Let it live for another TTL; the answer is its TTL.
    Renew(LeaseId),
    /// How many seconds has it left?
    Remaining(LeaseId),
}

/// Seconds; `None` when there is no such lease.
pub type LeaseAnswer = Result<Option<i64>, Unavailable>;

/// What became of a proposal about v2's keys: v2's own refusals are an outcome.
pub type V2Answer = Result<v2::Outcome, Error>;

/// The member, as one shard sees it.
pub trait Node: Sized + 'static {
    /// Fixed facts.
    fn identity(&self) -> &Identity;
    /// Whether this member is a learner, as of the newest state.
    fn is_learner(&self) -> bool;
    /// Seconds of Unix time.
    fn unix_seconds(&self) -> u64;
    /// Nanoseconds of Unix time.
    fn unix_nanoseconds(&self) -> i64;
    /// Fixed limits.
    fn limits(&self) -> &Limits;
    /// The newest state.
    fn published(&self) -> Arc<Published>;
    /// Bytes of the tree's pages in use, as last published.
    fn bytes_in_use(&self) -> u64;
    /// Proposes a validated request by its bytes. The outcome goes to [`super::v3::kv::answer`].
    fn propose(&self, kind: Kind, message: &Bytes, reply: Box<dyn Reply>);
    /// Proposes a request about v2's keys, and tells what became of it. How many events are kept is filled in.
    fn propose_v2(&self, request: v2::Request) -> oneshot::Receiver<V2Answer>;
    /// Those of this shard who wait for events of v2.
    fn v2_hub(&self) -> &RefCell<super::v2::Hub>;
    /// Whether this shard wants to hear of v2's events, by [`super::v2::follow`].
    fn set_v2_watching(&self, watching: bool);
    /// What the whole member has counted for v2's statistics.
    fn v2_tally(&self) -> &super::v2::Tally;
    /// What has gone between this member and each other one, as of a little while ago.
    fn peer_traffic(&self) -> Arc<Vec<PeerTraffic>>;
    /// What this shard knows of v2's users' passwords.
    fn v2_logins(&self) -> &super::v2::Logins;
    /// When this member was started, in nanoseconds of Unix time.
    fn started(&self) -> i64;
    /// Who leads, and since when this member knows, likewise, to half a second.
    fn leader_since(&self) -> Option<(MemberId, i64)>;
    /// Whom browsers may let ask.
    fn origins(&self) -> &Origins;
    /// Proposes a change of who votes or learns: a batch of one validated request. The outcome goes as that of
    /// [`Node::propose`].
    fn reconfigure(&self, change: Bytes, reply: Box<dyn Reply>);
    /// Lets `read` go on, by [`super::v3::resume`], once everything acknowledged before this call can be read.
    fn read(&self, read: Read);
    /// Asks for a defragmentation of this member's file; the number is for [`Node::defragmented`].
    fn defragment(&self) -> u64;
    /// What has become of it: `None` as long as it is not through, then whether it was carried out.
    fn defragmented(&self, number: u64) -> Option<bool>;
    /// Asks the leader about a lease. The answer is as of a time after the question.
    fn ask(&self, question: LeaseQuestion) -> oneshot::Receiver<LeaseAnswer>;
    /// Has leadership handed over to `to`; answered when it leads, or does not in time.
    fn move_leader(&self, to: MemberId) -> oneshot::Receiver<Result<(), Error>>;
    /// Whether no leader is known.
    fn is_leaderless(&self) -> bool;
    /// Waits until no leader has been known for a while.
    fn leader_lost(&self) -> impl Future<Output = ()> + 'static;
    /// An id for a new lease: positive, and most likely not taken.
    fn choose_lease(&self) -> LeaseId;
    /// The watchers of this shard.
    fn hub(&self) -> &RefCell<Hub>;
    /// Whether the member is about to stop: streams end, so that their connections can.
    fn is_draining(&self) -> bool;
    /// Waits until [`Node::is_draining`].
    fn drained(&self) -> impl Future<Output = ()> + 'static;
    /// Whether this shard wants to hear of what is published, by [`super::v3::watch::follow`].
    fn set_watching(&self, watching: bool);
    /// Says that everything before this revision was looked at. What has not been, no sweep takes away.
    fn note_watched(&self, next: Revision);
    /// Runs work that may take longer than a turn.
    fn spawn(&self, work: impl Future<Output = ()> + 'static);
    /// Whether reading the tree may wait for the medium, and hold up others than this shard's callers: then what reads it
    /// goes [`aside`](Node::aside).
    fn reads_aside(&self) -> bool;
    /// Runs work on a thread beside the shard's, if [`Node::reads_aside`] says so, else at once.
    fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static;
    /// Runs work that takes a processor for long on a thread beside the shard's.
    fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static;
    /// Waits.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static;
    /// How many large answers this shard is making.
    fn large_answers(&self) -> &Cell<usize>;
    /// Notes that a range was answered.
    fn count_range(&self);
    /// The text of `/metrics`.
    fn metrics(&self) -> String;
}

/// The header of every answer.
pub fn header(identity: &Identity, published: &Published, revision: Revision) -> ResponseHeader {
    ResponseHeader {
        cluster_id: identity.cluster.0,
        member_id: identity.member.0,
        revision: revision.0,
        raft_term: published.term.0,
    }
}

/// Waits until a linearizable read may be made.
pub async fn linearizable<N: Node>(node: &Rc<N>) -> Result<(), Unavailable> {
    let (sender, receiver) = oneshot::channel();
    node.read(Read::Wake(sender));
    receiver.await.unwrap_or(Err(Unavailable::Stopped))
}
