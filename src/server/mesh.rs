//! What shards and the log shard say to each other, and the channels that carry it.
//!
//! A message is posted without waiting; an [`Outbox`] hands it to the channel in order, through a task of its own when
//! the channel is full. Both directions are bounded by their senders: a shard has a bounded number of batches and rounds
//! without an answer, and the log shard answers each once.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use glommio::channels::shared_channel::{ConnectedSender, SharedReceiver, SharedSender};
use glommio::net::AcceptedTcpStream;

use super::signal::Signal;
use crate::api::node::{LeaseAnswer, LeaseQuestion};
use crate::error::{Error, Unavailable};
use crate::ids::MemberId;
use crate::store::Outcome;
use crate::store::command::BatchBuilder;

/// Messages that a channel holds.
const CHANNEL_MESSAGES: usize = 256;

/// A shard's own number for a batch, a round of reads or a question that it handed to the log shard.
pub type Key = usize;

/// What a shard tells the log shard.
pub enum ToLog {
    /// Propose these requests; answered by [`ToShard::Applied`] or [`ToShard::Failed`].
    Propose {
        /// Who asks.
        shard: usize,
        /// Comes back with the answer.
        key: Key,
        /// The requests.
        batch: BatchBuilder,
    },
    /// Propose this change of the members, a batch of one request; answered like [`ToLog::Propose`].
    Reconfigure {
        /// Who asks.
        shard: usize,
        /// Comes back with the answer.
        key: Key,
        /// The change.
        change: Bytes,
    },
    /// A read index is wanted; answered by [`ToShard::Readable`].
    Read {
        /// Who asks.
        shard: usize,
        /// Comes back with the answer.
        key: Key,
    },
    /// Hand leadership over; answered by [`ToShard::Moved`].
    MoveLeader {
        /// Who asks.
        shard: usize,
        /// Comes back with the answer.
        key: Key,
        /// To whom.
        to: MemberId,
    },
    /// A defragmentation was asked for.
    Defragment,
    /// Questions about leases, each answered once in a [`ToShard::Leases`].
    Leases {
        /// Who asks.
        shard: usize,
        /// Each comes back with its answer.
        questions: Vec<(Key, LeaseQuestion)>,
    },
    /// The shard has answered all its calls and closed its connections.
    Drained,
}

/// What the log shard tells a shard.
pub enum ToShard {
    /// A batch was applied, and the state with it published.
    Applied {
        /// The batch.
        key: Key,
        /// One outcome a request, in order.
        outcomes: Vec<Outcome>,
    },
    /// A batch was not proposed, or its outcome will never be known.
    Failed {
        /// The batch.
        key: Key,
        /// Why.
        unavailable: Unavailable,
    },
    /// A round of reads has its index, and the state up to it is published; or it ended without.
    Readable {
        /// The round.
        key: Key,
        /// Whether the reads may be made.
        outcome: Result<(), Unavailable>,
    },
    /// What is known about leases, after all that it depends on was published.
    Leases {
        /// The questions, and their answers.
        answers: Vec<(Key, LeaseAnswer)>,
    },
    /// Leadership has moved, or not.
    Moved {
        /// The question.
        key: Key,
        /// Whether it has.
        outcome: Result<(), Error>,
    },
    /// A new state was published, and this shard has watchers.
    Published,
    /// Serve this connection.
    Connection(AcceptedTcpStream),
    /// Answer what is in flight, then close.
    Drain,
    /// The log is closed: nothing is left to do.
    End,
}

/// The two ends of the channels between the log shard and one other shard, before their executors run.
pub struct Link {
    /// For the log shard.
    pub log_end: (SharedSender<ToShard>, SharedReceiver<ToLog>),
    /// For the other shard.
    pub shard_end: (SharedSender<ToLog>, SharedReceiver<ToShard>),
}

/// Makes a link.
pub fn link() -> Link {
    let (to_shard, at_shard) = glommio::channels::shared_channel::new_bounded(CHANNEL_MESSAGES);
    let (to_log, at_log) = glommio::channels::shared_channel::new_bounded(CHANNEL_MESSAGES);
    Link { log_end: (to_shard, at_log), shard_end: (to_log, at_shard) }
}

/// Posts messages to another executor, in order.
pub struct Outbox<T: Send + 'static> {
    sender: Rc<ConnectedSender<T>>,
    /// Messages that found the channel full.
    queue: Rc<RefCell<VecDeque<T>>>,
    queued: Rc<Signal>,
    /// Whether the task below is at work: until it is done, later messages queue behind its own.
    draining: Rc<Cell<bool>>,
}

impl<T: Send + 'static> Outbox<T> {
    /// Must be called on the executor that will post.
    pub async fn connect(sender: SharedSender<T>) -> Self {
        let outbox = Self {
            sender: Rc::new(sender.connect().await),
            queue: Rc::default(),
            queued: Rc::default(),
            draining: Rc::default(),
        };
        let (sender, queue) = (Rc::clone(&outbox.sender), Rc::clone(&outbox.queue));
        let (queued, draining) = (Rc::clone(&outbox.queued), Rc::clone(&outbox.draining));
        glommio::spawn_local(async move {
            loop {
                queued.wait().await;
                loop {
                    let Some(message) = queue.borrow_mut().pop_front() else { break };
                    if sender.send(message).await.is_err() {
                        return;
                    }
                }
                draining.set(false);
            }
        })
        .detach();
        outbox
    }

    /// Sends `message`, now or as soon as there is room.
    pub fn post(&self, message: T) {
        if self.draining.get() {
            self.queue.borrow_mut().push_back(message);
            return;
        }
        if let Err(glommio::GlommioError::WouldBlock(glommio::ResourceType::Channel(message))) =
            self.sender.try_send(message)
        {
            self.queue.borrow_mut().push_back(message);
            self.draining.set(true);
            self.queued.set();
        }
        // A closed channel means that the other executor has ended: nobody is left to tell.
    }
}
