//! A client that puts all the time, at all members of a cluster, and notes what is acknowledged.
//!
//! A put is sent to each member at a steady pace, whether or not earlier ones were answered: one
//! that a member sits on (because it forwarded it to a leader that is gone) hides nothing of what
//! happens to the next. This is what a client sees that tries all endpoints, at a resolution of the
//! pace. It is a light load; more of it can be put on beside it.

use glommio::timer::Timer;
use glommio::{LocalExecutor, LocalExecutorBuilder};
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use urd_proto::etcdserverpb::PutRequest;
use urd_tools::grpc::channel::Channel;
use urd_tools::grpc::connection::Keep;
use urd_tools::grpc::dial::Dial;
use urd_tools::grpc::endpoint::Endpoint;
use urd_tools::grpc::request_head::RequestHead;
use urd_tools::grpc::unary::framed;

/// Between two puts to the same member; those to different ones are between each other.
const PACE: Duration = Duration::from_millis(6);
/// Puts under way at one member at most: what etcd holds for the 7 s until it gives up.
const UNDER_WAY_MAX: usize = 1500;
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const VALUE_BYTES: usize = 256;
/// How often the notes are looked at while waiting.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Runs on a thread of its own, until dropped.
pub struct Prober {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    acknowledged: Mutex<Vec<Acknowledged>>,
    stop: AtomicBool,
}

/// A put that was acknowledged.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    sent: Instant,
    at: Instant,
}

impl Prober {
    /// Begins, and waits until a put was acknowledged.
    pub fn start(endpoints: &[String]) -> io::Result<Prober> {
        const FIRST_TIMEOUT: Duration = Duration::from_secs(10);
        let endpoints: Vec<Endpoint> = endpoints
            .iter()
            .map(|endpoint| endpoint.parse())
            .collect::<Result<_, _>>()
            .map_err(io::Error::other)?;
        let dials = endpoints.iter().map(dial).collect::<io::Result<Vec<Dial>>>()?;
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        // Made here, so that an error is seen; it cannot leave its thread.
        let (made, is_made) = std::sync::mpsc::sync_channel(1);
        let thread = thread::spawn(move || match LocalExecutorBuilder::default().make() {
            Ok(executor) => {
                made.send(Ok(())).ok();
                probe(&executor, dials, &of_thread);
            }
            Err(error) => {
                made.send(Err(io::Error::from(error))).ok();
            }
        });
        let prober = Prober { shared, thread: Some(thread) };
        is_made.recv().map_err(io::Error::other)??;
        prober.first_after(Instant::now(), FIRST_TIMEOUT)?;
        Ok(prober)
    }

    /// Waits until a put sent after `begin` was acknowledged. Says when that was.
    pub fn first_after(&self, begin: Instant, timeout: Duration) -> io::Result<Instant> {
        loop {
            if let Some(at) = first_after(&self.shared.acknowledged(), begin) {
                return Ok(at);
            }
            if begin.elapsed() >= timeout {
                let late = format!("no put was acknowledged within {timeout:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, late));
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// The longest time from `begin` to now in which nothing was acknowledged.
    pub fn longest_gap(&self, begin: Instant) -> Duration {
        longest_gap(&self.shared.acknowledged(), begin, Instant::now())
    }

    /// Forgets what was acknowledged so far.
    pub fn forget(&self) {
        self.shared.acknowledged().clear();
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed, and what it measured is missed by who waits for it.
            thread.join().ok();
        }
    }
}

impl Shared {
    fn acknowledged(&self) -> MutexGuard<'_, Vec<Acknowledged>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the first acknowledgement came of what was sent after `begin`.
fn first_after(acknowledged: &[Acknowledged], begin: Instant) -> Option<Instant> {
    let after = acknowledged.iter().filter(|put| put.sent > begin);
    after.map(|put| put.at).min()
}

/// The longest time between acknowledgements, from `begin` to `end`.
fn longest_gap(acknowledged: &[Acknowledged], begin: Instant, end: Instant) -> Duration {
    let within = acknowledged.iter().map(|put| put.at).filter(|at| (begin..end).contains(at));
    let mut times: Vec<Instant> = within.chain([begin, end]).collect();
    times.sort_unstable();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

fn dial(endpoint: &Endpoint) -> io::Result<Dial> {
    let head = RequestHead::new(&endpoint.authority, &["/etcdserverpb.KV/Put"]);
    Ok(Dial {
        address: endpoint.resolve().map_err(io::Error::other)?,
        head: head.ok_or_else(|| io::Error::other("host name too long"))?,
        timeout: CONNECT_TIMEOUT,
    })
}

fn probe(executor: &LocalExecutor, dials: Vec<Dial>, shared: &Arc<Shared>) {
    executor.run(async {
        let members = dials.len() as u32;
        let mut tasks = Vec::new();
        for (nth, dial) in dials.into_iter().enumerate() {
            let shared = shared.clone();
            tasks.push(glommio::spawn_local(async move {
                Timer::new(PACE * nth as u32 / members).await;
                probe_member(nth, dial, shared).await;
            }));
        }
        for task in tasks {
            task.await;
        }
    });
}

async fn probe_member(nth: usize, dial: Dial, shared: Arc<Shared>) {
    let request = PutRequest {
        key: format!("probe{nth}").into(),
        value: vec![b'v'; VALUE_BYTES].into(),
        ..PutRequest::default()
    };
    let message = framed(&request);
    while !shared.stop.load(Ordering::SeqCst) {
        if let Ok(channel) = Channel::connect(dial.clone()).await {
            put_until_dead(&Rc::new(channel), &message, &shared).await;
        }
        Timer::new(PACE).await;
    }
}

async fn put_until_dead(channel: &Rc<Channel>, message: &[u8], shared: &Arc<Shared>) {
    let under_way = Rc::new(Cell::new(0));
    while !channel.is_dead() && !shared.stop.load(Ordering::SeqCst) {
        if under_way.get() < UNDER_WAY_MAX {
            under_way.update(|puts| puts + 1);
            let (under_way, shared) = (under_way.clone(), shared.clone());
            let (channel, message, sent) = (channel.clone(), message.to_vec(), Instant::now());
            glommio::spawn_local(async move {
                let answer = channel.call(0, message, Keep::Nothing).await;
                under_way.update(|puts| puts - 1);
                // What fails is what is measured; it needs no note.
                if answer.outcome.is_ok() {
                    shared.acknowledged().push(Acknowledged { sent, at: answer.at });
                }
            })
            .detach();
        }
        Timer::new(PACE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sent_afterwards_counts() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let put = |sent, acknowledged| Acknowledged { sent: at(sent), at: at(acknowledged) };
        // The first was answered by the leader that then died.
        let acknowledged = [put(0, 11), put(12, 40), put(15, 35), put(20, 50)];
        assert_eq!(first_after(&acknowledged, at(10)), Some(at(35)));
        assert_eq!(first_after(&acknowledged, at(20)), None);
        assert_eq!(longest_gap(&acknowledged, at(10), at(52)), Duration::from_millis(24));
        assert_eq!(longest_gap(&acknowledged, at(36), at(70)), Duration::from_millis(20));
        assert_eq!(longest_gap(&[], at(10), at(52)), Duration::from_millis(42));
    }
}
