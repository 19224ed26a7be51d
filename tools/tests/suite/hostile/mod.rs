//! Hostile clients: whatever one connection does, others keep getting prompt answers and the server's memory is bounded.
//!
//! Each test attacks a server of its own while a [`Bystander`] works on it. An attack is a plain function over blocking
//! sockets; what the attacker itself must see (closed, reset, refused) is asserted in the attack, what everybody else
//! must see here.
//!
//! | module | the attacker |
//! |---|---|
//! | [`bytes`] | does not speak HTTP/2, or breaks its framing |
//! | [`floods`] | speaks it, and too much: resets, pings, settings, empty frames, headers |
//! | [`calls`] | makes calls that are not gRPC, or asks what must be refused |
//! | [`crowds`] | comes in thousands, or stops reading |

mod bytes;
mod calls;
mod crowds;
mod floods;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::harness::grpc::{get_request, put_request};
use crate::harness::{Client, Program, Server, process};

/// What a bystander waits for one answer: generous, for a busy machine, and far from a stall.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// What an attacked server may hold in memory.
const RESIDENT_MAX: u64 = 1 << 30;
/// How long the attacked server may take to close the attacker's connection.
const CLOSE_MAX: Duration = Duration::from_secs(20);

/// A client that minds its own business and notices every delay.
struct Bystander {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Report>,
}

#[derive(Debug, Default)]
struct Report {
    answers: u64,
    longest: Duration,
}

impl Bystander {
    async fn start(server: &Server) -> Bystander {
        let client = Client::connect(&server.endpoint()).await;
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(Self::work(client, stop.clone()));
        Bystander { stop, task }
    }

    async fn work(mut client: Client, stop: Arc<AtomicBool>) -> Report {
        let mut report = Report::default();
        // At least one round, also after an attack that was over at once.
        loop {
            let last = stop.load(Ordering::SeqCst);
            let value = report.answers.to_string();
            Self::timed(&mut report, client.put(put_request("bystander", value.as_bytes()))).await;
            let answer = Self::timed(&mut report, client.range(get_request("bystander"))).await;
            assert_eq!(answer.kvs[0].value, value, "the bystander reads what it wrote");
            if last {
                return report;
            }
        }
    }

    async fn timed<T>(
        report: &mut Report,
        call: impl Future<Output = Result<T, tonic::Status>>,
    ) -> T {
        let begin = Instant::now();
        let answer = tokio::time::timeout(ANSWER_MAX, call)
            .await
            .unwrap_or_else(|_| panic!("a bystander had no answer within {ANSWER_MAX:?}"))
            .unwrap_or_else(|status| panic!("a bystander's call failed: {status:?}"));
        report.answers += 1;
        report.longest = report.longest.max(begin.elapsed());
        answer
    }

    async fn finish(self) -> Report {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

/// Runs an attack against a fresh server while a bystander works, and checks what everybody else must see.
async fn attack(name: &str, attack: impl FnOnce(&str) + Send + 'static) {
    attack_server(name, Server::start_fresh(Program::Subject), attack).await;
}

async fn attack_server(name: &str, mut server: Server, attack: impl FnOnce(&str) + Send + 'static) {
    let before = process::resident_bytes(server.pid());
    let bystander = Bystander::start(&server).await;
    let endpoint = server.endpoint();
    let begin = Instant::now();
    let outcome = tokio::task::spawn_blocking(move || attack(&endpoint)).await;
    let took = begin.elapsed();
    // The server first: an attack that failed because it died should say so.
    server.assert_running(name);
    if let Err(error) = outcome {
        bystander.task.abort();
        std::panic::resume_unwind(error.into_panic());
    }
    let report = bystander.finish().await;
    server.assert_running(name);
    let (after, peak) =
        (process::resident_bytes(server.pid()), process::resident_bytes_peak(server.pid()));
    println!(
        "{name}: {took:.1?}; bystander: {} answers, the longest took {:.1?}; server memory: {:.1} MiB before, \
         {:.1} after, {:.1} at most",
        report.answers,
        report.longest,
        process::mib(before),
        process::mib(after),
        process::mib(peak)
    );
    assert!(peak < RESIDENT_MAX, "{name}: the server grew to {:.0} MiB", process::mib(peak));
}
