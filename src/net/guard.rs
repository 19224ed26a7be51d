//! Watches the frames a client sends, for floods that HTTP/2 allows and a server should not.
//!
//! `h2` answers pings and settings by itself and hides them, so the adapter that feeds it shows every byte to a
//! [`Guard`] first. The guard follows frame heads only: nine bytes each, payloads are skipped, which costs a few
//! nanoseconds a frame. It judges
//!
//! - pings by gRPC's keepalive rule, as etcd does: a ping sooner than `--grpc-keepalive-min-time` after the last one
//!   (or, with no call under way, sooner than two hours) is a strike, the third strike ends the connection with
//!   `too_many_pings`; whatever the server sends for a call forgives them, since clients measure bandwidth by
//!   pings that follow data;
//! - frames that carry nothing (settings, acknowledgements, priorities, empty data, unknown types) by a budget for
//!   each second;
//! - resets by a budget of their own. What a reset leaves behind is bounded elsewhere: a call counts as under way
//!   until the service has answered it, whether or not its stream is still there.
//!
//! It validates no frame: what is malformed is `h2`'s to refuse. It knows nothing of streams' states.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::time::{Duration, Instant};

use super::authority::accept_url;

const HEAD_BYTES: usize = 9;

const TYPE_DATA: u8 = 0;
const TYPE_HEADERS: u8 = 1;
const TYPE_RESET: u8 = 3;
const TYPE_PING: u8 = 6;
const TYPE_WINDOW_UPDATE: u8 = 8;
const TYPE_CONTINUATION: u8 = 9;

const FLAG_ACK: u8 = 1;
const FLAG_END_STREAM: u8 = 1;

/// Pings that may come too early before the connection ends; the next one is the last.
const PING_STRIKES_MAX: u32 = 2;
/// With no call under way there is nothing to keep alive, so pings may come this often only.
const PING_IDLE_INTERVAL: Duration = Duration::from_secs(2 * 3600);

/// The limits that a guard enforces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Frames without a payload of use in one second.
    pub(super) idle_frames_per_second: u32,
    /// Resets in one second.
    pub(super) resets_per_second: u32,
    /// How often a client with calls under way may ping.
    pub(super) ping_interval_min: Duration,
}

/// What a client did too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flood {
    Pings,
    Frames,
    Resets,
}

impl Flood {
    /// The debug data of the GOAWAY frame. Go's clients know `too_many_pings` and slow down.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Pings => "too_many_pings",
            Self::Frames => "too_many_control_frames",
            Self::Resets => "too_many_resets",
        }
    }
}

/// The frame that is being received.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    fn parse(&[a, b, c, kind, flags, s0, s1, s2, s3]: &[u8; HEAD_BYTES]) -> Self {
        Self {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        }
    }
}

/// The guard of one connection.
#[derive(Debug)]
pub(super) struct Guard {
    limits: Limits,
    /// A head that the last read cut off: its first `partial_len` bytes.
    partial: [u8; HEAD_BYTES],
    partial_len: usize,
    /// Bytes of the current payload that are still to come.
    payload_left: usize,
    current: Head,

    second: u64,
    idle_frames: u32,
    resets: u32,
    ping_last: Option<Instant>,
    ping_strikes: u32,
    flood: Option<Flood>,

    /// The highest stream a client opened: what a GOAWAY of ours names as the last.
    stream_last: u32,
    /// Streams whose DATA or RST_STREAM has arrived whole, while someone waits for a body.
    touched: Vec<u32>,
    touched_wanted: bool,
}

/// What a guard must know of the moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// The current second, coarse.
    pub(super) second: u64,
    /// Calls under way.
    pub(super) calls: usize,
}

impl Guard {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            partial: [0; HEAD_BYTES],
            partial_len: 0,
            payload_left: 0,
            current: Head::default(),
            second: 0,
            idle_frames: 0,
            resets: 0,
            ping_last: None,
            ping_strikes: 0,
            flood: None,
            stream_last: 0,
            touched: Vec::new(),
            touched_wanted: false,
        }
    }

    /// The first limit that was exceeded.
    pub(super) fn flood(&self) -> Option<Flood> {
        self.flood
    }

    /// The highest stream a client opened.
    pub(super) fn stream_last(&self) -> u32 {
        self.stream_last
    }

    /// The server sent something for a call.
    pub(super) fn forgive_pings(&mut self) {
        self.ping_strikes = 0;
    }

    /// Whether to remember the streams that receive data.
    pub(super) fn want_touched(&mut self, wanted: bool) {
        self.touched_wanted = wanted;
        if !wanted {
            self.touched.clear();
        }
    }

    /// Takes the remembered streams, oldest first, with repetitions.
    pub(super) fn take_touched(&mut self, into: &mut Vec<u32>) {
        into.append(&mut self.touched);
    }

    /// Follows what was received after the client preface. Header blocks are made acceptable to `h2` on the way, see
    /// [`accept_url`].
    pub(super) fn observe(&mut self, mut bytes: &mut [u8], moment: Moment) {
        if moment.second != self.second {
            self.second = moment.second;
            self.idle_frames = 0;
            self.resets = 0;
        }
        loop {
            if self.payload_left > 0 {
                let skipped = self.payload_left.min(bytes.len());
                self.payload_left -= skipped;
                let Some((payload, rest)) = bytes.split_at_mut_checked(skipped) else { return };
                if self.current.kind == TYPE_HEADERS {
                    accept_url(payload);
                }
                bytes = rest;
                if self.payload_left > 0 {
                    return;
                }
                self.frame_end();
            }
            let mut rest = &*bytes;
            let head = self.next_head(&mut rest);
            let taken = bytes.len() - rest.len();
            bytes = bytes.split_at_mut_checked(taken).map_or(&mut [], |(_, rest)| rest);
            let Some(head) = head else { return };
            self.frame_begin(head, moment);
        }
    }

    /// Takes a head off the front of `bytes`, or keeps what there is of it.
    fn next_head(&mut self, bytes: &mut &[u8]) -> Option<Head> {
        if self.partial_len == 0
            && let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>()
        {
            *bytes = rest;
            return Some(Head::parse(head));
        }
        while self.partial_len < HEAD_BYTES {
            let (&byte, rest) = bytes.split_first()?;
            *bytes = rest;
            *self.partial.get_mut(self.partial_len)? = byte;
            self.partial_len += 1;
        }
        self.partial_len = 0;
        Some(Head::parse(&self.partial))
    }

    fn frame_begin(&mut self, head: Head, moment: Moment) {
        self.current = head;
        self.payload_left = head.length;
        match head.kind {
            TYPE_HEADERS => self.stream_last = self.stream_last.max(head.stream),
            TYPE_DATA if head.length == 0 && head.flags & FLAG_END_STREAM == 0 => {
                self.count_idle_frame();
            }
            // Window updates answer what the server sends, and continuations `h2` limits itself.
            TYPE_DATA | TYPE_WINDOW_UPDATE | TYPE_CONTINUATION => {}
            TYPE_RESET => self.count_reset(),
            TYPE_PING if head.flags & FLAG_ACK == 0 => self.count_ping(moment),
            // Settings, acknowledgements, priorities, and what is unknown.
            _ => self.count_idle_frame(),
        }
        if head.length == 0 {
            self.frame_end();
        }
    }

    fn frame_end(&mut self) {
        if self.touched_wanted && matches!(self.current.kind, TYPE_DATA | TYPE_RESET) {
            self.touched.push(self.current.stream);
        }
    }

    fn count_idle_frame(&mut self) {
        self.idle_frames += 1;
        if self.idle_frames > self.limits.idle_frames_per_second {
            self.flood.get_or_insert(Flood::Frames);
        }
    }

    fn count_reset(&mut self) {
        self.resets += 1;
        if self.resets > self.limits.resets_per_second {
            self.flood.get_or_insert(Flood::Resets);
        }
    }

    fn count_ping(&mut self, moment: Moment) {
        let now = Instant::now();
        let interval =
            if moment.calls == 0 { PING_IDLE_INTERVAL } else { self.limits.ping_interval_min };
        if self.ping_last.is_some_and(|last| now.duration_since(last) < interval) {
            self.ping_strikes += 1;
        }
        self.ping_last = Some(now);
        if self.ping_strikes > PING_STRIKES_MAX {
            self.flood.get_or_insert(Flood::Pings);
        }
    }
}

#[cfg(test)]
mod tests;
