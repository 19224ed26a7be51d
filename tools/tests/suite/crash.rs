//! `kill -9` under load, again and again: what was acknowledged stays.
//!
//! Writers put values that occur once, each on keys of its own and one put at a time, so for every key the only values
//! it may hold after a crash are known: the last acknowledged one, at the revision that was acknowledged, or, whole, the
//! one that was under way when the server died. Revisions never go back: a put acknowledged after another, by anyone,
//! has the larger revision, and the store stands at or past the largest one after every restart.
//!
//! This kills the process, not the machine: it shows that nothing is acknowledged from the process's own memory. That
//! the bytes were on the disk as well is asked by [`flushes_at_least_once_for_each_put_of_one_client`], from the
//! server's own count and from the kernel's.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use urd_proto::etcdserverpb as pb;

use crate::harness::grpc::{get_request, prefix_request, put_request};
use crate::harness::{Client, Launch, Program, Server, http, process, subject_is_etcd};

/// Crashes in one run; `URD_KILLS` changes it.
const KILLS: usize = 20;
/// Concurrent writers, besides the one on a connection of its own.
const WRITERS: usize = 32;
/// Connections that the writers share.
const CONNECTIONS: usize = 4;
/// Keys of each writer: few, so that most puts replace a value.
const KEYS_PER_WRITER: u64 = 16;
/// Acknowledged puts before the kill: at least, and how many more at random.
const PUTS_MIN: u64 = 200;
const PUTS_MORE: u64 = 1500;
/// "Start-up in seconds": generous, for a busy machine.
const RESTART_MAX: Duration = Duration::from_secs(15);
/// A put that never ends is a failure of its own.
const PUT_TIMEOUT: Duration = Duration::from_secs(30);

/// An acknowledged put.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Acknowledged {
    value: String,
    revision: i64,
}

/// What one writer knows of one key.
#[derive(Clone, Debug, Default)]
struct Known {
    acknowledged: Option<Acknowledged>,
    /// Sent, and the server died before the answer.
    under_way: Option<String>,
}

/// Counts what all writers do together.
#[derive(Debug, Default)]
struct Load {
    acknowledged: AtomicU64,
    revision_max: AtomicI64,
}

/// One sequential client.
struct Writer {
    name: String,
    sequence: u64,
    keys: HashMap<String, Known>,
    /// Acknowledged since the last crash, in order.
    recent: Vec<(String, Acknowledged)>,
}

impl Writer {
    fn new(name: String) -> Writer {
        Writer { name, sequence: 0, keys: HashMap::new(), recent: Vec::new() }
    }

    /// Puts until the server is gone.
    async fn run(mut self, mut client: Client, load: Arc<Load>) -> Writer {
        self.recent.clear();
        loop {
            self.sequence += 1;
            let key = format!("crash/{}/{}", self.name, self.sequence % KEYS_PER_WRITER);
            let value = format!("{} wrote {}", self.name, self.sequence);
            // Whatever is acknowledged from here on has a larger revision than all that was before.
            let revision_before = load.revision_max.load(Ordering::SeqCst);
            let put = client.put(put_request(&key, value.as_bytes()));
            let answer = tokio::time::timeout(PUT_TIMEOUT, put)
                .await
                .unwrap_or_else(|_| panic!("a put of {key} had no answer within {PUT_TIMEOUT:?}"));
            let known = self.keys.entry(key.clone()).or_default();
            let Ok(answer) = answer else {
                known.under_way = Some(value);
                return self;
            };
            let revision = answer.header.expect("every answer has a header").revision;
            assert!(
                revision > revision_before,
                "{key}: revision {revision} after {revision_before}"
            );
            load.revision_max.fetch_max(revision, Ordering::SeqCst);
            load.acknowledged.fetch_add(1, Ordering::SeqCst);
            let acknowledged = Acknowledged { value, revision };
            *known = Known { acknowledged: Some(acknowledged.clone()), under_way: None };
            self.recent.push((key, acknowledged));
        }
    }

    /// Compares what the server holds with what was acknowledged, and learns the fate of what was under way.
    fn check(
        &mut self,
        round: usize,
        stored: &HashMap<String, (String, i64)>,
        revision_before: i64,
    ) {
        for (key, known) in &mut self.keys {
            let found = stored.get(key).map(|(value, revision)| Acknowledged {
                value: value.clone(),
                revision: *revision,
            });
            let is_last = found == known.acknowledged;
            let is_under_way = found.as_ref().is_some_and(|found| {
                known.under_way.as_ref() == Some(&found.value)
                    && known.acknowledged.as_ref().is_none_or(|last| last.revision < found.revision)
            });
            assert!(
                is_last || is_under_way,
                "after kill {round}, {key} holds {found:?}; acknowledged was {:?}, under way was {:?} \
                 (the store stood at {revision_before} or more)",
                known.acknowledged,
                known.under_way
            );
            *known = Known { acknowledged: found, under_way: None };
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_what_was_acknowledged_through_kills() {
    kill_again_and_again(Launch::new(Program::Subject), Beside::Nothing).await;
}

/// The same with a checkpoint every few entries, so that kills fall into checkpoints, and with compactions, so that they
/// free pages and rewrite others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_what_was_acknowledged_through_kills_in_checkpoints() {
    let launch = Launch::new(Program::Subject).argument("--snapshot-count=7");
    kill_again_and_again(launch, Beside::Nothing).await;
}

/// The same with one defragmentation after the other, and an alarm that is raised when the kill comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_what_was_acknowledged_through_kills_in_defragmentations() {
    let launch = Launch::new(Program::Subject).argument("--snapshot-count=7");
    kill_again_and_again(launch, Beside::DefragmentAndAlarm).await;
}

/// What goes on beside the puts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    DefragmentAndAlarm,
}

/// The alarm of a member that is full: raised for another than the server's own, which never raises it by itself here.
fn no_space(action: i32) -> pb::AlarmRequest {
    pb::AlarmRequest { action, member_id: 7, alarm: pb::AlarmType::Nospace.into() }
}

async fn kill_again_and_again(launch: Launch, beside: Beside) {
    let seed =
        std::env::var("URD_SEED").map_or(1, |seed| seed.parse().expect("URD_SEED is a number"));
    let kills = std::env::var("URD_KILLS")
        .map_or(KILLS, |kills| kills.parse().expect("URD_KILLS is a number"));
    println!("seed {seed}, {kills} kills");
    let mut rng = Rng::with_seed(seed);
    let mut server = launch.start();
    let mut writers: Vec<Writer> =
        (0..WRITERS).map(|number| Writer::new(format!("writer-{number}"))).collect();
    writers.push(Writer::new("sequential".to_owned()));
    let (mut restart_max, mut puts) = (Duration::ZERO, 0);
    let mut revision_max = 0;
    let mut alarms_raised = 0;
    for round in 1..=kills {
        let load =
            Arc::new(Load { revision_max: AtomicI64::new(revision_max), ..Default::default() });
        let wanted = PUTS_MIN + rng.u64(0..PUTS_MORE);
        let before = compact_and_hash(&server, revision_max).await;
        writers = run_until_killed(&mut server, writers, &load, wanted, beside).await;
        puts += load.acknowledged.load(Ordering::SeqCst);
        revision_max = load.revision_max.load(Ordering::SeqCst);
        if !subject_is_etcd() {
            crate::urdutl::assert_sound(server.data_directory(), &before);
        }

        let restart = server.restart();
        restart_max = restart_max.max(restart);
        assert!(restart < RESTART_MAX, "kill {round}: {restart:?} until the first answer");
        let mut client = Client::connect(&server.endpoint()).await;
        if beside == Beside::DefragmentAndAlarm {
            alarms_raised += expect_alarm_whole(&mut client).await;
        }
        let after = hash(&mut client, before.hash_revision).await;
        assert_eq!(
            (after.hash, after.compact_revision),
            (before.hash, before.compact_revision),
            "kill {round}: HashKV at revision {}",
            before.hash_revision
        );
        revision_max = check_all(round, &mut client, &mut writers, revision_max).await;
        check_history(round, &mut client, &writers, &mut rng).await;
    }
    println!(
        "{puts} puts acknowledged, {kills} kills, {alarms_raised} alarms found raised, \
         the longest restart took {restart_max:?}"
    );
}

/// The alarm is raised or it is not, and puts go by it. Disarms it; 1 if it was raised.
async fn expect_alarm_whole(client: &mut Client) -> usize {
    let raised = client.alarm(no_space(0)).await.expect("alarms").alarms.len();
    let refused = client.put(put_request("alarm", b"1")).await.is_err();
    assert_eq!(raised, usize::from(refused), "a put beside so many alarms");
    client.alarm(no_space(2)).await.expect("disarm");
    raised
}

/// Compacts what earlier rounds wrote, and hashes what is left.
async fn compact_and_hash(server: &Server, revision: i64) -> pb::HashKvResponse {
    let mut client = Client::connect(&server.endpoint()).await;
    if revision > 1 {
        let request = pb::CompactionRequest { revision, physical: false };
        client.compact(request).await.expect("compact what was acknowledged");
    }
    hash(&mut client, revision).await
}

async fn hash(client: &mut Client, revision: i64) -> pb::HashKvResponse {
    client.hash_kv(pb::HashKvRequest { revision }).await.expect("HashKV")
}

/// Load from all writers until enough is acknowledged; then the kill, in the middle of it.
async fn run_until_killed(
    server: &mut Server,
    writers: Vec<Writer>,
    load: &Arc<Load>,
    wanted: u64,
    beside: Beside,
) -> Vec<Writer> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::connect(&server.endpoint()).await);
    }
    let alone = Client::connect(&server.endpoint()).await;
    let tasks: Vec<_> = writers
        .into_iter()
        .enumerate()
        .map(|(number, writer)| {
            let shared = &clients[number % CONNECTIONS];
            let client = if number == WRITERS { alone.clone() } else { shared.clone() };
            tokio::spawn(writer.run(client, load.clone()))
        })
        .collect();
    if beside == Beside::DefragmentAndAlarm {
        let mut client = alone.clone();
        // Until the kill ends it.
        tokio::spawn(
            async move { while client.defragment(pb::DefragmentRequest {}).await.is_ok() {} },
        );
    }
    while load.acknowledged.load(Ordering::SeqCst) < wanted {
        assert!(!tasks.iter().all(|task| task.is_finished()), "all writers failed before the kill");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    if beside == Beside::DefragmentAndAlarm {
        let mut client = alone.clone();
        tokio::spawn(async move { client.alarm(no_space(1)).await });
        tokio::time::sleep(Duration::from_micros(wanted % 16 * 200)).await;
    }
    server.kill();
    let mut writers = Vec::new();
    for task in tasks {
        writers
            .push(task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())));
    }
    writers
}

/// Everything that is stored against everything that was acknowledged; the revision the store stands at.
async fn check_all(
    round: usize,
    client: &mut Client,
    writers: &mut [Writer],
    revision_max: i64,
) -> i64 {
    let answer = client.range(prefix_request("crash/")).await.expect("a range after the restart");
    let revision = answer.header.expect("every answer has a header").revision;
    assert!(
        revision >= revision_max,
        "after kill {round} the store stands at {revision}, it had acknowledged {revision_max}"
    );
    let stored: HashMap<String, (String, i64)> = answer
        .kvs
        .iter()
        .map(|pair| {
            let text =
                |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the test wrote UTF-8");
            (text(&pair.key), (text(&pair.value), pair.mod_revision))
        })
        .collect();
    for writer in writers {
        writer.check(round, &stored, revision_max);
    }
    revision
}

/// Some of what was acknowledged and replaced since: old revisions hold it still.
async fn check_history(round: usize, client: &mut Client, writers: &[Writer], rng: &mut Rng) {
    for writer in writers {
        for _ in 0..4 {
            let Some((key, acknowledged)) = rng.choice(&writer.recent) else { continue };
            let request = pb::RangeRequest { revision: acknowledged.revision, ..get_request(key) };
            let answer = client.range(request).await.expect("a range at an acknowledged revision");
            let pair = answer
                .kvs
                .first()
                .unwrap_or_else(|| panic!("kill {round}: {key} is gone at {acknowledged:?}"));
            assert_eq!(
                (&pair.value[..], pair.mod_revision),
                (acknowledged.value.as_bytes(), acknowledged.revision),
                "kill {round}: {key}"
            );
        }
    }
}

#[tokio::test]
async fn flushes_at_least_once_for_each_put_of_one_client() {
    const PUTS: u32 = 200;
    /// The smallest logical block of any disk.
    const BLOCK_BYTES: u64 = 512;
    const COUNT: &str = "etcd_disk_wal_fsync_duration_seconds_count";
    let server = Server::start_fresh(Program::Subject);
    let mut client = Client::connect(&server.endpoint()).await;
    // What it makes ahead after its start would be counted as the puts' own.
    process::settle(server.pid());
    let flushes_before = http::metric(&server.endpoint(), COUNT);
    let written_before = process::written_bytes(server.pid());
    for number in 0..PUTS {
        client.put(put_request("flush", &number.to_le_bytes())).await.expect("put");
    }
    let flushes = http::metric(&server.endpoint(), COUNT) - flushes_before;
    let written = process::written_bytes(server.pid()) - written_before;
    println!(
        "{PUTS} puts one after the other: {flushes} flushes, {written} bytes written by the process"
    );
    assert!(flushes >= f64::from(PUTS), "{flushes} flushes for {PUTS} puts ({COUNT})");
    if process::is_tmpfs(server.directory()) {
        println!(
            "{} is memory: the kernel counts no disk writes there",
            server.directory().display()
        );
    } else {
        assert!(
            written >= u64::from(PUTS) * BLOCK_BYTES,
            "{written} bytes written for {PUTS} puts"
        );
    }
}
