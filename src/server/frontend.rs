//! A shard with its connections: what a port or the mesh delivers to.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures_lite::future::or;

use super::mesh::{ToLog, ToShard};
use super::shard::Shard;
use crate::limits;
use crate::metrics::NetworkChange;
use crate::net;

/// How often a shard adds its connections' counters to the member's.
const COUNT_INTERVAL: Duration = Duration::from_millis(500);

/// What was added to the member's counters already.
#[derive(Clone, Copy, Default)]
struct Counted {
    open: i64,
    received: u64,
    sent: u64,
}

/// See the module's page.
pub struct Frontend {
    shard: Rc<Shard>,
    connections: Rc<net::Connections>,
    /// Open connections, for whoever places new ones.
    open: Arc<AtomicUsize>,
    counted: Cell<Counted>,
}

impl Frontend {
    /// Starts the shard's tasks.
    pub fn start(shard: Rc<Shard>, options: net::Options, open: Arc<AtomicUsize>) -> Rc<Self> {
        shard.start();
        let frontend = Rc::new(Self {
            shard,
            connections: net::Connections::new(options),
            open,
            counted: Cell::default(),
        });
        let counting = Rc::clone(&frontend);
        glommio::spawn_local(async move {
            loop {
                glommio::timer::sleep(COUNT_INTERVAL).await;
                counting.count();
            }
        })
        .detach();
        frontend
    }

    /// Acts on what the log shard says.
    pub fn receive(self: &Rc<Self>, message: ToShard) {
        match message {
            ToShard::Connection(accepted) => {
                let frontend = Rc::clone(self);
                glommio::spawn_local(async move {
                    let stream = accepted.bind_to_executor();
                    net::serve(
                        stream,
                        Rc::clone(&frontend.shard),
                        Rc::clone(&frontend.connections),
                    )
                    .await;
                    frontend.open.fetch_sub(1, Relaxed);
                })
                .detach();
            }
            ToShard::Drain => {
                let frontend = Rc::clone(self);
                glommio::spawn_local(async move {
                    let late = async {
                        glommio::timer::sleep(limits::SHUTDOWN_TIMEOUT).await;
                        tracing::warn!("closing connections whose calls did not end in time");
                    };
                    frontend.shard.drain();
                    frontend.connections.drain();
                    or(frontend.connections.drained(), late).await;
                    frontend.shard.post(ToLog::Drained);
                })
                .detach();
            }
            // Only the executors of other shards end by it; the log shard's ends by itself.
            ToShard::End => {}
            message => self.shard.receive(message),
        }
    }

    fn count(&self) {
        self.shard.count();
        let statistics = self.connections.statistics();
        let now = Counted {
            open: i64::try_from(statistics.open.get()).unwrap_or(i64::MAX),
            received: statistics.message_received_bytes.get(),
            sent: statistics.message_sent_bytes.get(),
        };
        let before = self.counted.replace(now);
        self.shard.shared().metrics.network(&NetworkChange {
            connections: now.open - before.open,
            bytes_received: now.received - before.received,
            bytes_sent: now.sent - before.sent,
        });
    }
}
