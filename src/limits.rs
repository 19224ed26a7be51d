//! Every bound in one place, with the relations between them checked at compile time.
//!
//! A bound that a user would want to move is a flag (`config`); its default stands here too.

use std::time::Duration;

/// One mebibyte.
pub const MIB: usize = 1 << 20;

/// No term, index, revision or version is beyond this: they are counted on from.
pub const NUMBER_MAX: u64 = 1 << 62;
/// Nor one that another member tells: what is counted on from there is to be readable at the next start.
pub const FOREIGN_NUMBER_MAX: u64 = NUMBER_MAX / 2;

/// Largest request message a client may send unless `--max-request-bytes` says otherwise: etcd's 1.5 MiB.
pub const REQUEST_BYTES_DEFAULT: usize = 3 * MIB / 2;
/// What etcd's gRPC server allows beyond `--max-request-bytes` for the message around the request.
pub const REQUEST_OVERHEAD_BYTES: usize = 512 * 1024;
/// The most that `--max-request-bytes` may be set to: one request must fit in a batch, a batch in a segment.
pub const REQUEST_BYTES_MAX: usize = 16 * MIB;
/// Operations in one transaction unless `--max-txn-ops` says otherwise.
pub const TXN_OPS_DEFAULT: usize = 128;
/// Streams that one connection may have open, however large `--max-concurrent-streams` is.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 16 * 1024;

/// A batch (one raft entry) is closed at this size; only a single larger request makes a larger one.
pub const BATCH_BYTES: usize = MIB;
/// Requests in one batch.
pub const BATCH_REQUESTS_MAX: usize = 4096;
/// Proposals that wait for their outcome on one shard; the next gets "too many requests", as etcd's gap of 5,000 does.
pub const PROPOSALS_PER_SHARD_MAX: usize = 65_536;
/// Bytes of proposals that wait on one shard, whichever connections they came from.
pub const PROPOSAL_BYTES_PER_SHARD_MAX: usize = 256 * MIB;
/// Log writes under way at once.
pub const LOG_WRITES_IN_FLIGHT: usize = 8;
/// Ticks of raft's clock without a write to the log until a small one vouches for the last. As many as an election takes:
/// shorter would write twice for clients that put once in a while.
pub const LOG_REST_TICKS: u64 = 10;

/// A lone request's write is waited for by the whole shard as long as writes typically take less than this.
pub const LONE_WRITE_TIME_MAX: Duration = Duration::from_millis(1);

/// So large may the entries be that a follower's thread writes itself, for the same reason.
pub const LONE_APPEND_BYTES_MAX: usize = 16 * 1024;

/// Requests or bytes that make a batch worth another write while one is under way; below, waiting gathers more.
pub const BATCH_REQUESTS_WORTH_A_WRITE: usize = 128;
/// See [`BATCH_REQUESTS_WORTH_A_WRITE`].
pub const BATCH_BYTES_WORTH_A_WRITE: usize = 64 * 1024;
/// Committed data that one turn applies.
pub const APPLY_BYTES_PER_TURN: usize = 4 * MIB;
/// Entries' data of other members' messages that one pass takes; only a single larger entry makes it more.
pub const STEP_BYTES_PER_PASS: usize = 8 * MIB;
/// Of what a request reads, the most that is touched ahead of its being applied, in bytes and costs of records.
pub const TOUCH_BYTES_PER_COMMAND: usize = MIB;
/// Log read at once while it is replayed.
pub const REPLAY_BYTES: usize = 4 * MIB;
/// Applied entries kept in memory for members that lag a little; one further behind is sent a state.
pub const WINDOW_ENTRIES_MAX: usize = 8192;
/// Bytes of applied entries kept in memory.
pub const WINDOW_BYTES_MAX: usize = 64 * MIB;
/// Applied entries kept in memory where there is no other member.
pub const WINDOW_ENTRIES_MAX_ALONE: usize = 64;
/// Bytes of applied entries kept in memory where there is no other member.
pub const WINDOW_BYTES_MAX_ALONE: usize = MIB;
/// Bytes of entries kept in memory for a member that is being sent a state, and that will need them.
pub const CATCH_UP_BYTES_MAX: usize = 512 * MIB;
/// Appends that a member has not acknowledged, at most.
pub const APPENDS_IN_FLIGHT: usize = 64;
/// Changes that one background slice of a compaction looks at, at least: what waits meanwhile waits some tens of
/// microseconds.
pub const COMPACT_CHANGES_PER_SLICE_MIN: usize = 32;
/// The same, at most: a slice looks at twice as many as were made since the last one, so that a sweep gains on writes.
pub const COMPACT_CHANGES_PER_SLICE_MAX: usize = 512;

/// `--quota-backend-bytes` unless it says otherwise: etcd's 2 GiB.
pub const QUOTA_BYTES_DEFAULT: i64 = 2 << 30;
/// Log bytes after which a checkpoint begins: what a restart replays, in a second or so where requests are small.
pub const CHECKPOINT_LOG_BYTES: usize = 64 * MIB;
/// Pages in the heap, not written yet, after which one begins.
pub const CHECKPOINT_HEAP_PAGES: u64 = 512 * MIB as u64 / 4096;
/// Leaves that one background slice of a defragmentation looks at.
pub const RELOCATE_LEAVES_PER_SLICE: usize = 64;
/// Pages that one background slice takes out of the heap: some ten microseconds each, and requests wait for a slice.
pub const TIDY_PAGES_PER_SLICE: usize = 64;
/// The longest pause between two pieces of a checkpoint, which has at most 256 where memory made it begin.
pub const CHECKPOINT_PAUSE_MAX: Duration = Duration::from_millis(50);
/// How long to wait before another try, after a checkpoint found no room.
pub const CHECKPOINT_RETRY: Duration = Duration::from_secs(10);

/// The longest TTL of a lease, in seconds: etcd's.
pub const LEASE_TTL_MAX: i64 = 9_000_000_000;
/// Lease timers that one pass of the log shard looks at.
pub const LEASE_TIMERS_PER_PASS: usize = 4096;
/// Expired leases that one entry revokes; a put beside them waits until they are applied.
pub const LEASES_PER_EXPIRY: usize = 512;
/// Keys attached to the leases of one such entry. Only a lease that has more by itself makes a larger one.
pub const LEASE_KEYS_PER_EXPIRY: usize = 1024;
/// A lease's remaining TTL is checkpointed no more often than this, nor than ten times in its TTL.
pub const LEASE_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// Checkpoints of all leases together, on average: the interval grows with the number of leases.
pub const LEASE_CHECKPOINTS_PER_SECOND: usize = 5000;
/// Checkpoints in one entry.
pub const LEASE_CHECKPOINTS_PER_ENTRY: usize = 512;
/// Keep-alives and questions about leases that wait for the log shard's answer on one shard.
pub const LEASE_QUESTIONS_PER_SHARD_MAX: usize = 65_536;
/// Keep-alives of one stream that wait for their answers; no further one is read.
pub const KEEP_ALIVES_PER_STREAM: usize = 64;

/// Bytes of the longest path of a v2 node. A request makes all directories on the way, each with its whole path.
pub const V2_PATH_BYTES_MAX: usize = 16 * 1024;
/// Parts of the deepest one.
pub const V2_PATH_PARTS_MAX: usize = 256;
/// v2's events kept unless `--v2-history` says otherwise: as many as etcd keeps.
pub const V2_HISTORY_EVENTS_DEFAULT: u64 = 1000;
/// The most that it may say.
pub const V2_HISTORY_EVENTS_MAX: u64 = 10_000_000;
/// Bytes of the events kept, however many they may be.
pub const V2_HISTORY_BYTES_MAX: u64 = 256 * MIB as u64;
/// Nodes that one slice of a read of v2's lists before its shard turns to other work.
pub const V2_NODES_PER_SLICE: usize = 1024;
/// v2 nodes that one entry has expire; a write beside them waits until they are gone.
pub const V2_NODES_PER_EXPIRY: u64 = 1024;

/// Room made at first for a range's answer.
pub const RANGE_FIRST_BYTES: usize = 512;
/// How much of a range one slice encodes before the shard turns to other work; also a piece of a streamed range.
pub const RANGE_SLICE_BYTES: usize = 256 * 1024;
/// Answers larger than a slice that one shard makes at once.
pub const LARGE_ANSWERS_PER_SHARD_MAX: usize = 4;
/// The largest answer to a range: what etcd's clients accept by default (the largest signed 32-bit number).
pub const RESPONSE_BYTES_MAX: usize = i32::MAX as usize - MIB;

/// Messages that wait for one peer on one connection: raft-rs has up to 256 appends to a peer under way.
pub const PEER_QUEUE_MESSAGES_MAX: usize = 4096;
/// Bytes of them. Entries are shared with the window, so this mostly bounds what a write to a slow peer may take.
pub const PEER_QUEUE_BYTES_MAX: usize = 64 * MIB;
/// The largest frame with a message in it: one entry larger than all others, or as many as raft puts in one message.
pub const PEER_MESSAGE_BYTES_MAX: usize =
    REQUEST_BYTES_MAX + REQUEST_OVERHEAD_BYTES + 2 * BATCH_BYTES;
/// The same where only messages without entries travel.
pub const PEER_CONTROL_BYTES_MAX: usize = 64 * 1024;
/// Entries in one message: raft fills it by bytes, and an entry takes four at least.
pub const PEER_ENTRIES_PER_MESSAGE_MAX: usize = BATCH_BYTES / 4;
/// How long a message waits that only says how far the log is committed: the next entry says the same.
pub const NOTICE_DELAY: Duration = Duration::from_micros(200);
/// Messages are gathered for one write up to this size.
pub const PEER_GATHER_BYTES: usize = 256 * 1024;
/// A question's or an answer's body.
pub const PEER_QUESTION_BYTES_MAX: usize = 4 * MIB;
/// A question's body, of one who is not a member.
pub const PEER_STRANGER_BYTES_MAX: usize = 64 * 1024;
/// Questions of one member that wait for their answers.
pub const PEER_QUESTIONS_MAX: usize = 1024;
/// A piece of a snapshot.
pub const PEER_SNAPSHOT_PIECE_BYTES: usize = MIB;
/// What goes ahead of a snapshot.
pub const PEER_SNAPSHOT_HEADER_BYTES_MAX: usize = MIB;
/// Connections that have not said who they are yet, or are of nobody who is a member.
pub const PEER_STRANGERS_MAX: usize = 64;
/// How long a connection may take to be made, and to say who it is.
pub const PEER_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long what is queued for a peer may take to leave at the end.
pub const PEER_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// A bulk connection, a question's or a snapshot's on which nothing moves for as long is dead.
pub const PEER_STALL_MAX: Duration = Duration::from_secs(15);
/// How long either side of a state's transfer waits for the other to go on.
pub const PEER_SNAPSHOT_STALL_MAX: Duration = Duration::from_secs(60);
/// How long the sender of a state waits until the receiver has taken it over.
pub const PEER_VERDICT_TIMEOUT: Duration = Duration::from_secs(120);
/// Before a connection is made anew; doubled each time.
pub const PEER_RETRY_MIN: Duration = Duration::from_millis(25);
/// The longest such pause, after failures.
pub const PEER_RETRY_MAX: Duration = Duration::from_secs(1);
/// The pause after a refusal that time alone does not mend.
pub const PEER_RETRY_REFUSED: Duration = Duration::from_secs(5);

/// Size of a log segment.
pub const SEGMENT_BYTES: u32 = 64 << 20;

/// Bytes hashed before other work of the shard gets its turn.
pub const HASH_SLICE_BYTES: usize = 256 * 1024;
/// A member whose connections have lasted so long counts as healthy for a change of membership, as in etcd.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(5);
/// How often `/metrics` hears of the traffic between members.
pub const PEER_COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// How long a request may wait for its outcome when the client set no deadline: etcd's 5 s and two elections.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);
/// How long a start waits for an address that is in use.
pub const BIND_PATIENCE: Duration = Duration::from_secs(3);
/// How long a start waits for an executor to begin; one that has begun asleep never does.
pub const EXECUTOR_PATIENCE: Duration = Duration::from_secs(2);
/// Peer URLs that a member may have.
pub const MEMBER_URLS_MAX: usize = 32;
/// The longest of them.
pub const MEMBER_URL_BYTES_MAX: usize = 1024;
/// The longest list of members that a member which joins takes from another one.
pub const MEMBER_LIST_BYTES_MAX: usize = 4 * MIB;
/// How long members must have been connected for a change of the members to be safe: etcd's.
pub const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
/// How much of the leader's log a learner must have to be promoted: etcd's.
pub const LEARNER_READY_PERCENT: u64 = 90;
/// How long an ordered shutdown waits for requests in flight.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// A timer of every executor. glommio's may go to sleep with tasks to run, if its thread had to wait for a processor for as
/// long as its preemption timer runs just before them: then this wakes it.
pub const WAKE_INTERVAL: Duration = Duration::from_millis(100);

const _: () = assert!(REQUEST_BYTES_MAX < PROPOSAL_BYTES_PER_SHARD_MAX);
const _: () = assert!(BATCH_BYTES_WORTH_A_WRITE <= BATCH_BYTES);
const _: () = assert!(PEER_MESSAGE_BYTES_MAX < PEER_QUEUE_BYTES_MAX);
// An id takes up to 10 bytes as a varint, a checkpoint two numbers and four bytes around them.
const _: () = assert!(LEASES_PER_EXPIRY * 10 + LEASE_CHECKPOINTS_PER_ENTRY * 24 < BATCH_BYTES);
const _: () = assert!(BATCH_REQUESTS_WORTH_A_WRITE <= BATCH_REQUESTS_MAX);
const _: () = assert!(COMPACT_CHANGES_PER_SLICE_MIN <= COMPACT_CHANGES_PER_SLICE_MAX);
const _: () = assert!(WINDOW_BYTES_MAX > REQUEST_BYTES_MAX);
const _: () = assert!(CATCH_UP_BYTES_MAX > WINDOW_BYTES_MAX);
const _: () = assert!(REQUEST_BYTES_DEFAULT <= REQUEST_BYTES_MAX);
const _: () =
    assert!(REQUEST_BYTES_MAX + REQUEST_OVERHEAD_BYTES + BATCH_BYTES <= SEGMENT_BYTES as usize / 2);
