//! The limits and times of the connections of one server.

use std::time::Duration;

use crate::limits;

/// Limits and times, from the configuration; [`Options::default`] is what etcd does.
#[derive(Clone, Debug)]
pub struct Options {
    /// The largest request message, without gRPC's frame head: `--max-request-bytes` and
    /// [`limits::REQUEST_OVERHEAD_BYTES`].
    pub message_bytes_max: usize,
    /// `--max-concurrent-streams`; more than [`limits::STREAMS_PER_CONNECTION_MAX`] means that many.
    pub streams_max: u32,
    /// How long a client may take to show which protocol it speaks, and how long until its first request over
    /// HTTP/1.1, or between two, is whole.
    pub handshake_timeout: Duration,
    /// See `handshake_timeout`.
    pub http1_idle_timeout: Duration,
    /// `--grpc-keepalive-interval`: a connection silent for this long is pinged. Zero: never.
    pub keepalive_interval: Duration,
    /// `--grpc-keepalive-timeout`: and closed when it stays silent for this long after.
    pub keepalive_timeout: Duration,
    /// `--grpc-keepalive-min-time`: how often a client may ping.
    pub keepalive_min_time: Duration,
    /// How long a client may leave bytes of ours unread in the socket.
    pub send_timeout: Duration,
    /// How long the rest of a request that has begun may take when the client set no deadline.
    pub body_timeout: Duration,
    /// How often connections are looked at for the times above, which are as coarse as this.
    pub tick: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            message_bytes_max: limits::REQUEST_BYTES_DEFAULT + limits::REQUEST_OVERHEAD_BYTES,
            streams_max: limits::STREAMS_PER_CONNECTION_MAX,
            handshake_timeout: Duration::from_secs(10),
            http1_idle_timeout: Duration::from_secs(75),
            keepalive_interval: Duration::from_secs(2 * 3600),
            keepalive_timeout: Duration::from_secs(20),
            keepalive_min_time: Duration::from_secs(5),
            send_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            tick: Duration::from_secs(1),
        }
    }
}

impl Options {
    /// A duration in ticks, rounded up, so that a time limit is never shorter than asked.
    pub(super) fn ticks(&self, duration: Duration) -> u64 {
        let tick = self.tick.as_nanos().max(1);
        u64::try_from(duration.as_nanos().div_ceil(tick)).unwrap_or(u64::MAX)
    }
}

/// The most that a connection may receive before others have their turn.
pub(super) const TURN_RECEIVE_BYTES: usize = 64 * 1024;
/// The most requests that one turn of a connection hands to the service.
pub(super) const TURN_REQUESTS: usize = 256;
/// Frames gathered for one send. A full buffer is sent at once.
pub(super) const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// Drained send buffers that a shard keeps for the next turn of any connection.
pub(super) const SEND_BUFFERS_KEPT: usize = 4;

/// Answers queued on a connection and not yet sent: beyond this it takes no new request.
pub(super) const QUEUED_BYTES_MAX: usize = 4 * limits::MIB;
/// Requests handed to the service and not yet answered, in bytes: beyond this a connection takes no new request.
pub(super) const HELD_BYTES_MAX: usize = 64 * limits::MIB;
/// Requests that have begun and not ended, in bytes that arrived: beyond this the next piece is refused.
pub(super) const BODIES_BYTES_MAX: usize = 64 * limits::MIB;
/// What a client may send on one stream before we take it: so much that the largest request etcd takes by default
/// needs no window update on its way.
pub(super) const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// And on all streams of a connection.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes of a request's header list, as HTTP/2 counts them.
pub(super) const HEADER_LIST_BYTES: u32 = 64 * 1024;

/// Frames without use in one second, and resets. A client whose calls all time out at once resets as many streams
/// as it had open, so the latter is generous.
pub(super) const IDLE_FRAMES_PER_SECOND: u32 = 1000;
/// See [`IDLE_FRAMES_PER_SECOND`].
pub(super) const RESETS_PER_SECOND: u32 = 8192;

const _: () = assert!(STREAM_WINDOW_BYTES < CONNECTION_WINDOW_BYTES);
const _: () = assert!(limits::REQUEST_BYTES_DEFAULT < STREAM_WINDOW_BYTES as usize);
