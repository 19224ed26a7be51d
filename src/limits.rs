//! Every bound in one place, with the relations between them checked at compile time.
//!
//! A bound that a user would want to move is a flag (`config`); its default stands here too.

use std::time::Duration;

/// One mebibyte.
pub const MIB: usize = 1 << 20;

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
/// Log writes under way at once.
pub const LOG_WRITES_IN_FLIGHT: usize = 8;

/// Size of a log segment.
pub const SEGMENT_BYTES: usize = 64 * MIB;

/// How long a request may wait for its outcome when the client set no deadline: etcd's 5 s and two elections.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);
/// How long an ordered shutdown waits for requests in flight.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

const _: () = assert!(REQUEST_BYTES_DEFAULT <= REQUEST_BYTES_MAX);
const _: () =
    assert!(REQUEST_BYTES_MAX + REQUEST_OVERHEAD_BYTES + BATCH_BYTES <= SEGMENT_BYTES / 2);
