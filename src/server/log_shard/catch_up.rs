//! Whole states between members: for one that is behind what the leader's window still has.
//!
//! raft announces a state by a message without data ([`Window`](crate::raft::window::Window)). The state itself, the pages
//! of the view that was published when raft asked, goes on a connection of its own, read by another thread, so that
//! neither the leader's puts nor its heartbeats wait for it.
//!
//! # Its pace
//!
//! Whoever writes meanwhile shares with a state all that it needs: the medium, the network, both ends' processors. So the
//! receiver rests as long as a piece took it, and the sender, who sends no chunk before the one before is dealt with, rests
//! [`RESTS`] times as long as that took. It does not where nobody writes; nor when more of the room for the entries
//! that come meanwhile, which are kept in memory, is used up than of the state is sent ([`Pace`]).
//!
//! # Taking one over
//!
//! 1. [`Receiving`] writes the pages to a file beside the checkpoint, verifies them, makes the file durable, and looks at
//!    what is in it ([`arrival`]). One state arrives at a time.
//! 2. The log shard asks the driver whether raft will take it over. From here on nothing is stepped.
//! 3. When no write to the log and no checkpoint is under way, the file takes the checkpoint's place, at once or not at
//!    all, and is opened.
//! 4. The driver takes over store and message. Only then does the sender hear that the state arrived.
//!
//! A transfer that breaks leaves nothing behind; raft orders another one. Snapshots of the state before stay readable
//! for those who hold them. Watchers read on from the new state by revision, or are told that it was compacted.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use protobuf::Message as _;
use raft::eraftpb::Message;
use tokio::sync::oneshot;
use urd_wal::disk::Disk;

use super::peers::FromPeer;
use super::{Failure, Inbox, LogShard};
use crate::ids::{Index, MemberId};
use crate::limits;
use crate::raft::arrival;
use crate::raft::transport::{SnapshotReader, announcement};
use crate::server::CHECKPOINT_FILE;
use crate::store::{Store, View};
use crate::tree::checkpoint::Opened;
use crate::tree::import::{Import, Incoming};

/// The longest that the receiver rests behind a piece.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// How many times as long as a chunk took the sender rests behind it.
const RESTS: u32 = 3;
/// And how long at most: a slow medium is not to make a member wait for a state much longer than it must.
const REST_MAX: Duration = Duration::from_millis(50);
/// What of [`limits::CATCH_UP_BYTES_MAX`] may be used up by the end of a transfer: the entries that follow it are to be
/// sent from there too, and what a state takes varies.
const ROOM_BYTES: usize = (limits::CATCH_UP_BYTES_MAX - limits::WINDOW_BYTES_MAX) / 2;

/// Where states of other members arrive.
pub struct Receiving<D: Disk> {
    disk: D,
    is_busy: Cell<bool>,
}

/// The place of the one state that may arrive at a time.
struct Place<'a>(&'a Cell<bool>);

impl<'a> Place<'a> {
    fn take(is_busy: &'a Cell<bool>) -> Option<Self> {
        // Only one that has the place may ever be made: to drop it gives the place back.
        (!is_busy.replace(true)).then(|| Self(is_busy))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// A state that arrived whole and is durable beside this member's own.
pub(super) struct Received<D: Disk> {
    message: Message,
    incoming: Incoming<D>,
    verdict: oneshot::Sender<Result<(), String>>,
}

/// A state that has taken the place of this member's own.
pub(super) struct Installing<D: Disk> {
    message: Message,
    opened: Opened<D>,
    verdict: oneshot::Sender<Result<(), String>>,
}

/// Behind a piece of a state that began at `begun`, leaves as long to others.
async fn leave_room(begun: Instant) {
    glommio::timer::sleep(begun.elapsed().min(PAUSE_MAX)).await;
}

/// How fast a state is sent.
#[derive(Default)]
struct Pace {
    /// The last entry that there was when the last chunk was sent.
    last: Index,
}

impl Pace {
    /// How long to rest behind a chunk that took so long, with this part of the state sent, the log up to `last` there, and
    /// so many bytes of it in memory.
    fn rest(&mut self, took: Duration, sent: f64, (last, bytes): (Index, usize)) -> Duration {
        let is_idle = std::mem::replace(&mut self.last, last) == last;
        let used = bytes.saturating_sub(limits::WINDOW_BYTES_MAX);
        let has_haste = used as f64 > sent * ROOM_BYTES as f64;
        if is_idle || has_haste { Duration::ZERO } else { (took * RESTS).min(REST_MAX) }
    }
}

impl<D: Disk + 'static> Receiving<D> {
    /// In the directory of the checkpoint.
    pub fn new(disk: D) -> Rc<Self> {
        Rc::new(Self { disk, is_busy: Cell::new(false) })
    }

    /// A state arrives at this member: `header` is the message that announces it.
    pub(super) fn receive(
        self: Rc<Self>,
        inbox: Rc<Inbox<D>>,
        (from, own): (MemberId, MemberId),
        header: &[u8],
        mut reader: SnapshotReader,
    ) {
        let message = announcement(header, from, own);
        glommio::spawn_local(async move {
            // Only who has the place gives it back: two states must never be written to the same file.
            let place = Place::take(&self.is_busy);
            let received = match (message, &place) {
                (_, None) => Err("another state is arriving already".to_owned()),
                (Err(malformed), _) => Err(format!("its announcement: {malformed}")),
                (Ok(message), Some(_)) => self.take(&inbox, message, &mut reader).await,
            };
            match &received {
                Ok(()) => tracing::info!(%from, "took over the state of another member"),
                Err(reason) => tracing::warn!(%from, "did not take over a state: {reason}"),
            }
            // The sender may have gone; it will ask again.
            reader.finish(received).await.ok();
        })
        .detach();
    }

    async fn take(
        &self,
        inbox: &Rc<Inbox<D>>,
        message: Message,
        reader: &mut SnapshotReader,
    ) -> Result<(), String> {
        let metadata = message.get_snapshot().get_metadata();
        tracing::info!(from = %MemberId(message.from), index = metadata.index, "receiving a state");
        let mut import = Import::begin(self.disk.clone(), CHECKPOINT_FILE)
            .await
            .map_err(|error| error.to_string())?;
        loop {
            match reader.next().await {
                // A chunk that is refused takes the file with it.
                Ok(Some(chunk)) => {
                    let mut begun = Instant::now();
                    let pause = async || {
                        leave_room(begun).await;
                        begun = Instant::now();
                    };
                    let written = import.write_with_pauses(&chunk, pause).await;
                    import = written.map_err(|error| error.to_string())?;
                }
                Ok(None) => break,
                Err(error) => {
                    import.discard().await;
                    return Err(error.to_string());
                }
            }
        }
        let incoming = import.finish().await.map_err(|error| error.to_string())?;
        if let Err(reason) = arrival::judge(&incoming, &message).await {
            incoming.discard().await;
            return Err(reason);
        }
        let (verdict, judged) = oneshot::channel();
        inbox.received.replace(Some(Received { message, incoming, verdict }));
        inbox.signal.set();
        judged.await.unwrap_or_else(|_| Err("stopped".to_owned()))
    }
}

impl<D: Disk + 'static> LogShard<D> {
    /// Sends a state to a member that is behind.
    pub(super) fn send_state(&self, message: Message, view: View) {
        let to = MemberId(message.to);
        let (transport, inbox) = (Rc::clone(&self.transport), Rc::clone(&self.inbox));
        let index = message.get_snapshot().get_metadata().index;
        glommio::spawn_local(async move {
            tracing::info!(%to, index, "sending a state to a member that is behind");
            let is_taken = match message.write_to_bytes() {
                Err(error) => {
                    tracing::error!(%error, "cannot encode an announcement");
                    false
                }
                Ok(header) => {
                    let mut export = Some(view.export());
                    let mut begun: Option<Instant> = None;
                    let mut pace = Pace::default();
                    let next = async || {
                        let mut source = export.take().ok_or("the one before has failed")?;
                        if let Some(begun) = begun {
                            let (took, sent) = (begun.elapsed(), source.progress().part());
                            let rest = pace.rest(took, sent, inbox.entries.get());
                            glommio::timer::sleep(rest).await;
                        }
                        begun = Some(Instant::now());
                        // A page that was evicted is waited for there, not here.
                        let (source, chunk) = glommio::executor()
                            .spawn_blocking(move || {
                                let chunk = source.next_chunk();
                                (source, chunk)
                            })
                            .await;
                        export = Some(source);
                        chunk.map_err(|damage| damage.to_string())
                    };
                    let sent = transport.stream_snapshot(to, header.into(), next).await;
                    if let Err(error) = &sent {
                        tracing::warn!(%to, index, "the state did not arrive: {error}");
                    }
                    sent.is_ok()
                }
            };
            inbox.push_peer(FromPeer::StateSent { to, index: Index(index), is_taken });
        })
        .detach();
    }

    /// Puts a state that has arrived in the place of this member's own, if raft will take it over and nothing is in its
    /// way. From then on, nothing is stepped until it has been.
    pub(super) fn begin_install(&mut self) -> Result<(), Failure> {
        let inbox = Rc::clone(&self.inbox);
        let mut received = inbox.received.borrow_mut();
        let Some(Received { message, .. }) = &*received else { return Ok(()) };
        if self.driver.writes_in_flight() > 0 || self.driver.is_checkpointing() {
            // Their ends start another pass.
            return Ok(());
        }
        let wants = self.driver.wants_snapshot(message);
        let Some(Received { message, incoming, verdict }) = received.take() else { return Ok(()) };
        if !wants {
            // It has what the state would bring: raft says so to the leader.
            self.driver.step(message)?;
            glommio::spawn_local(async move {
                // The next state would be written to the same file.
                incoming.discard().await;
                // Whoever waits may have gone.
                verdict.send(Err("this member has come further by itself".to_owned())).ok();
            })
            .detach();
            self.inbox.signal.set();
            return Ok(());
        }
        self.is_installing = true;
        self.end_defragment(false);
        let inbox = Rc::clone(&self.inbox);
        glommio::spawn_local(async move {
            let installed = match incoming.install().await {
                Ok(opened) => Ok(Installing { message, opened, verdict }),
                Err(error) => Err(Failure::Install(error.to_string())),
            };
            inbox.installed.replace(Some(installed));
            inbox.signal.set();
        })
        .detach();
        Ok(())
    }

    /// A state is in the place of this member's own: goes on with it.
    pub(super) fn install(&mut self, installing: Installing<D>) -> Result<(), Failure> {
        let Installing { message, opened, verdict } = installing;
        for warning in &opened.warnings {
            tracing::warn!("{warning}");
        }
        let store =
            Store::open(opened.tree).map_err(|fault| Failure::Install(fault.to_string()))?;
        self.checkpoints.replace(opened.file);
        self.driver.install(message, store)?;
        self.is_installing = false;
        // Whoever waits may have gone.
        verdict.send(Ok(())).ok();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_by_who_has_it_only() {
        let is_busy = Cell::new(false);
        let place = Place::take(&is_busy);
        assert!(place.is_some());
        assert!(Place::take(&is_busy).is_none());
        assert!(Place::take(&is_busy).is_none(), "who was refused has given it back");
        drop(place);
        assert!(Place::take(&is_busy).is_some());
    }

    #[test]
    fn a_state_gives_way_to_who_writes_unless_entries_pile_up() {
        let mut pace = Pace::default();
        let took = Duration::from_millis(10);
        let usual = limits::WINDOW_BYTES_MAX;
        assert_eq!(pace.rest(took, 0.1, (Index(5), usual)), took * RESTS);
        assert_eq!(pace.rest(took, 0.1, (Index(5), usual)), Duration::ZERO, "nobody writes");
        assert_eq!(pace.rest(took * 100, 0.1, (Index(6), usual)), REST_MAX);
        // A tenth of the room is used up: well with a fifth of the state sent, not with a twentieth.
        let tenth = usual + ROOM_BYTES / 10;
        assert_eq!(pace.rest(took, 0.2, (Index(7), tenth)), took * RESTS);
        assert_eq!(pace.rest(took, 0.05, (Index(8), tenth)), Duration::ZERO);
        let all = limits::CATCH_UP_BYTES_MAX;
        assert_eq!(pace.rest(took, 1.0, (Index(9), all)), Duration::ZERO);
    }
}
