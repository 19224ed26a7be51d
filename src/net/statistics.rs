//! What a shard's connections have done, for the metrics. Plain cells: one shard writes, the same shard reads.

use std::cell::{Cell, RefCell};

use crate::api::{Code, Method};

/// gRPC status codes are the numbers below this one.
pub const CODES: usize = 17;

/// Counters of one shard. All but `open` and `calls_open` only grow.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Connections that are open now.
    pub open: Cell<usize>,
    /// Connections accepted.
    pub accepted: Cell<u64>,
    /// Calls handed to the service and not answered yet.
    pub calls_open: Cell<usize>,
    /// Bytes received from and sent to sockets.
    pub received_bytes: Cell<u64>,
    /// See `received_bytes`.
    pub sent_bytes: Cell<u64>,
    /// Bytes of request messages, as in `etcd_network_client_grpc_received_bytes_total`.
    pub message_received_bytes: Cell<u64>,
    /// Bytes of response messages, as in `etcd_network_client_grpc_sent_bytes_total`.
    pub message_sent_bytes: Cell<u64>,
    /// Requests over HTTP/1.1, and over HTTP/2 without gRPC.
    pub http_requests: Cell<u64>,
    /// Connections closed for a flood of useless frames.
    pub floods: Cell<u64>,
    /// Connections closed because the client left bytes unread, or fell silent.
    pub timeouts: Cell<u64>,
    /// gRPC requests refused before they reached the service: malformed, too large, unknown.
    pub refused: Cell<u64>,
    methods: RefCell<Vec<MethodStatistics>>,
}

/// Counters of one gRPC method, as in `grpc_server_*`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MethodStatistics {
    /// Calls that reached the service.
    pub started: u64,
    /// Messages sent: one for a unary call that succeeded, any number for a stream.
    pub messages_sent: u64,
    /// Calls that ended, by their status code's number.
    pub handled: [u64; CODES],
}

impl Statistics {
    /// The counters of `method`.
    pub fn method(&self, method: Method) -> MethodStatistics {
        self.methods.borrow().get(method as usize).copied().unwrap_or_default()
    }

    fn with_method(&self, method: Method, change: impl FnOnce(&mut MethodStatistics)) {
        let mut methods = self.methods.borrow_mut();
        let index = method as usize;
        if methods.len() <= index {
            methods.resize(index + 1, MethodStatistics::default());
        }
        if let Some(statistics) = methods.get_mut(index) {
            change(statistics);
        }
    }

    pub(super) fn call_started(&self, method: Method, message_bytes: usize) {
        add(&self.message_received_bytes, message_bytes as u64);
        self.calls_open.set(self.calls_open.get() + 1);
        self.with_method(method, |method| method.started += 1);
    }

    pub(super) fn call_sent(&self, method: Method, message_bytes: usize) {
        add(&self.message_sent_bytes, message_bytes as u64);
        self.with_method(method, |method| method.messages_sent += 1);
    }

    pub(super) fn call_handled(&self, method: Method, code: Code) {
        self.calls_open.set(self.calls_open.get() - 1);
        self.with_method(method, |method| {
            if let Some(count) = method.handled.get_mut(code as usize) {
                *count += 1;
            }
        });
    }
}

pub(super) fn add(counter: &Cell<u64>, amount: u64) {
    counter.set(counter.get() + amount);
}
