//! `urdutl` on the directories of real servers: what it says of a sound one is what the server says, what it says of a
//! damaged one is what is damaged, and it changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use urd_proto::etcdserverpb as pb;

use crate::harness::grpc::put_request;
use crate::harness::{
    Client, Launch, Program, READY_TIMEOUT, Server, only_urd, ports, process, wait_for,
};

const PAGE_BYTES: u64 = 4096;
/// A value that stands in pages of its own.
const LONG_BYTES: usize = 50_000;
const PUTS: usize = 200;

/// What one run said.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn urdutl(arguments: &[&str], data: &Path) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_urdutl"))
        .args(arguments)
        .arg("--data-dir")
        .arg(data)
        .stdin(Stdio::null())
        .output()
        .expect("run urdutl");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("urdutl prints text");
    Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// What a run that must end well printed.
fn well(arguments: &[&str], data: &Path) -> String {
    let said = urdutl(arguments, data);
    assert_eq!(said.code, Some(0), "{arguments:?}: {}{}", said.stdout, said.stderr);
    assert_eq!(said.stderr, "", "{arguments:?}");
    said.stdout
}

fn json(arguments: &[&str], data: &Path) -> Value {
    serde_json::from_str(&well(arguments, data)).expect("JSON")
}

/// A run must end with `code` and say each of `words`.
fn complains(arguments: &[&str], data: &Path, code: i32, words: &[&str]) {
    let said = urdutl(arguments, data);
    assert_eq!(said.code, Some(code), "{arguments:?}: {}{}", said.stdout, said.stderr);
    for word in words {
        assert!(said.stderr.contains(word), "{arguments:?}, without {word:?}: {}", said.stderr);
    }
}

/// What a kill at any time left is sound, and has the hash that the server said; a tail that was torn is worth a warning.
pub(crate) fn assert_sound(data: &Path, hash: &pb::HashKvResponse) {
    let check = urdutl(&["check"], data);
    assert_eq!(check.code, Some(0), "{}{}", check.stdout, check.stderr);
    let revision = format!("--rev={}", hash.hash_revision);
    let said = urdutl(&["hashkv", &revision, "-w", "json"], data);
    assert_hash(&serde_json::from_str(&said.stdout).expect("JSON"), hash);
}

fn assert_hash(found: &Value, hash: &pb::HashKvResponse) {
    assert_eq!(found["hash"], hash.hash);
    assert_eq!(found["hash_revision"], hash.hash_revision);
    assert_eq!(found["compact_revision"], hash.compact_revision);
}

/// All files below a directory, with what is in them.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("list a directory of ours") {
        let path = entry.expect("list a directory of ours").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = std::fs::read(&path).expect("read a file of ours");
            found.insert(path, bytes);
        }
    }
    found
}

fn flip_bit(path: &Path, offset: u64) {
    let mut bytes = std::fs::read(path).expect("read a file of ours");
    bytes[usize::try_from(offset).expect("an offset in a file")] ^= 4;
    std::fs::write(path, bytes).expect("write a file of ours");
}

/// What a filled server said last.
struct Filled {
    server: Server,
    hash: pb::HashKvResponse,
}

/// A server that has made checkpoints, with entries beyond the last: versions, deletions, a long value, a transaction, a
/// compaction.
async fn filled() -> Filled {
    let server = Launch::new(Program::Subject).argument("--snapshot-count=40").start();
    let mut client = Client::connect(&server.endpoint()).await;
    client.put(put_request("long", &[b'x'; LONG_BYTES])).await.expect("put");
    for nth in 0..PUTS {
        let value = format!("value {nth}");
        client
            .put(put_request(&format!("key{:03}", nth % 150), value.as_bytes()))
            .await
            .expect("put");
    }
    let delete =
        pb::DeleteRangeRequest { key: "key00".into(), range_end: "key01".into(), prev_kv: false };
    assert_eq!(client.delete_range(delete).await.expect("delete").deleted, 10);
    let put = pb::request_op::Request::RequestPut(put_request("in txn", b"1"));
    let success = vec![pb::RequestOp { request: Some(put) }];
    client.txn(pb::TxnRequest { success, ..Default::default() }).await.expect("transaction");
    let compaction = pb::CompactionRequest { revision: 100, physical: true };
    client.compact(compaction).await.expect("compact");
    client.put(put_request("last", b"12345")).await.expect("put");
    let hash = client.hash_kv(pb::HashKvRequest::default()).await.expect("hash");
    // No checkpoint is under way when it is killed.
    process::settle(server.pid());
    Filled { server, hash }
}

/// Asserts that checkpoint and log are as [`filled`] left them, and say the hash that the server said.
fn assert_as_filled(data: &Path, hash: &pb::HashKvResponse) {
    let before = files(data);
    let clean = well(&["check"], data);
    assert!(clean.starts_with("checkpoint: ") && clean.ends_with("\nclean\n"), "{clean}");

    let status = json(&["status", "-w", "json"], data);
    let number = |path: &str| status.pointer(path).and_then(Value::as_i64).expect(path);
    let (applied, last) = (number("/checkpoint/applied_index"), number("/log/last_index"));
    assert!(applied >= 40 && last >= applied && number("/log/first_index") <= applied + 1);
    assert!(last > i64::try_from(PUTS).expect("few"), "each put has an entry");
    assert!(number("/checkpoint/number") >= 1 && number("/checkpoint/root") >= 2);
    assert!(number("/checkpoint/bytes_in_use") <= number("/checkpoint/bytes"));
    assert!(number("/log/hard_state/commit") <= last && number("/log/hard_state/term") >= 1);
    assert_eq!(status["identity"]["member_id"], status["log"]["hard_state"]["vote"]);
    assert!(well(&["status"], data).contains(&format!("\nlog.last_index: {last}\n")));

    assert_hash(&json(&["hashkv", "-w", "json"], data), hash);
    // The checkpoint alone ends where its store does.
    let alone = json(&["hashkv", "--checkpoint-only", "-w", "json"], data);
    assert_eq!(alone["hash_revision"], status["store"]["revision"]);
    complains(&["hashkv", "--rev=1000000"], data, 2, &["future revision"]);
    complains(&["hashkv", "--rev=50"], data, 2, &["compacted"]);
    assert!(files(data) == before, "nothing was changed");
}

#[tokio::test]
async fn a_sound_directory_is_what_its_server_said() {
    if only_urd("its directory is its own") {
        return;
    }
    let Filled { mut server, hash } = filled().await;
    server.kill();
    let data = server.data_directory().to_owned();
    assert_as_filled(&data, &hash);
    server.restart();
    let mut client = Client::connect(&server.endpoint()).await;
    let again = client.hash_kv(pb::HashKvRequest::default()).await.expect("hash");
    assert_eq!((again.hash, again.hash_revision), (hash.hash, hash.hash_revision));
    server.signal(Signal::TERM);
    assert!(server.wait_exit(READY_TIMEOUT).success());
    assert_as_filled(&data, &hash);
}

#[tokio::test]
async fn dumps_tell_what_was_written() {
    if only_urd("its directory is its own") {
        return;
    }
    let Filled { mut server, hash } = filled().await;
    server.kill();
    let data = server.data_directory();

    let log = well(&["wal", "dump"], data);
    assert!(log.starts_with("hard state: term "), "{log}");
    let last =
        json(&["status", "-w", "json"], data)["log"]["last_index"].as_u64().expect("an index");
    for line in [
        &format!("  put key=\"long\" value={LONG_BYTES} bytes\n")[..],
        "  delete range key=\"key00\" end=\"key01\"\n",
        "  txn compares=0 then=[put key=\"in txn\" value=1 bytes] else=[]\n",
        "  compaction revision=100 physical\n",
        "  put key=\"last\" value=5 bytes\n",
        &format!("\nentry {last} term "),
    ] {
        assert!(log.contains(line), "without {line:?}:\n{log}");
    }
    let two =
        well(&["wal", "dump", &format!("--from={}", last - 1), &format!("--to={last}")], data);
    assert_eq!(two.lines().filter(|line| line.starts_with("entry ")).count(), 2, "{two}");
    assert!(two.contains("  put key=\"last\" value=5 bytes\n"), "{two}");

    let tree = well(&["tree", "dump", "--replay"], data);
    let revision = hash.hash_revision;
    for line in [
        &format!(" revision {revision}, compacted 100, ")[..],
        "\n\"key020\" mod=173.0 create=23 version=2 lease=0 value=9 bytes\n",
        "\n\"key005\" mod=203.5 deleted\n",
        &format!("\n\"last\" mod={revision}.0 create={revision} version=1 lease=0 value=5 bytes\n"),
    ] {
        assert!(tree.contains(line), "without {line:?}:\n{tree}");
    }
    let some = well(&["tree", "dump", "--replay", "--keys-only", "--prefix=key02"], data);
    let keys: Vec<String> = (20..30).map(|nth| format!("\"key{nth:03}\"")).collect();
    assert_eq!(some.lines().collect::<Vec<_>>(), keys);
    // What is in the checkpoint alone has not seen the last entries.
    assert!(well(&["tree", "dump"], data).contains("\n\"key030\" "));
}

#[tokio::test]
async fn a_damaged_page_is_named_and_stops_the_server() {
    if only_urd("its directory is its own") {
        return;
    }
    let Filled { mut server, .. } = filled().await;
    server.kill();
    let data = server.data_directory();
    let root =
        json(&["status", "-w", "json"], data)["checkpoint"]["root"].as_u64().expect("a page");
    let path = data.join("tree").join("checkpoint");
    flip_bit(&path, root * PAGE_BYTES + 1000);
    let (offset, path) = (root * PAGE_BYTES, path.display());
    let named = format!("{path}: damaged at offset {offset}: page {root}: expected checksum");
    for command in [&["check"][..], &["status"], &["hashkv"], &["tree", "dump"]] {
        complains(command, data, 1, &[&named]);
    }
    // The log is sound, and is looked at all the same.
    assert!(urdutl(&["check"], data).stdout.starts_with("log: entries "));
    well(&["wal", "dump"], data);

    let (client, peer) = (ports::free(), ports::free());
    let ended = Launch::new(Program::Subject)
        .argument(format!("--data-dir={}", data.display()))
        .argument(format!("--listen-client-urls=http://127.0.0.1:{client}"))
        .argument(format!("--advertise-client-urls=http://127.0.0.1:{client}"))
        .argument(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
        .argument(format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"))
        .argument(format!("--initial-cluster=default=http://127.0.0.1:{peer}"))
        .run();
    assert!(!ended.status.success() && ended.stderr.contains(&named), "{ended:?}");
}

/// One that is broken may be that of an interrupted checkpoint: as long as the log has what is missing, nothing is lost.
#[tokio::test]
async fn damaged_meta_pages_are_named() {
    if only_urd("its directory is its own") {
        return;
    }
    let Filled { mut server, hash } = filled().await;
    server.kill();
    let data = server.data_directory();
    let number = |status: &Value| status["checkpoint"]["number"].as_u64().expect("a number");
    let newest = number(&json(&["status", "-w", "json"], data));
    assert!(newest >= 2);
    let path = data.join("tree").join("checkpoint");
    let (first, second) = (newest % 2, (newest + 1) % 2);
    let named = |page: u64| {
        let (path, offset) = (path.display(), page * PAGE_BYTES);
        format!("{path}: damaged at offset {offset}: page {page}: expected checksum")
    };
    flip_bit(&path, first * PAGE_BYTES + 40);
    complains(&["check"], data, 0, &["warning: ", &named(first), "interrupted checkpoint"]);
    let said = urdutl(&["hashkv", "-w", "json"], data);
    assert_hash(&serde_json::from_str(&said.stdout).expect("JSON"), &hash);
    let said = urdutl(&["status", "-w", "json"], data);
    assert_eq!(number(&serde_json::from_str(&said.stdout).expect("JSON")), newest - 1);
    flip_bit(&path, second * PAGE_BYTES + 40);
    complains(&["check"], data, 1, &[&named(first), &named(second)]);
}

#[tokio::test]
async fn every_damaged_page_is_named() {
    if only_urd("its directory is its own") {
        return;
    }
    let Filled { mut server, .. } = filled().await;
    server.kill();
    let data = server.data_directory();
    let path = data.join("tree").join("checkpoint");
    let status = json(&["status", "-w", "json"], data);
    let (root, pages) = (&status["checkpoint"]["root"], &status["checkpoint"]["pages"]);
    let pages = pages.as_u64().expect("a number");
    let sound = std::fs::read(&path).expect("read a file of ours");
    let (mut named, mut unused) = (0, 0);
    for page in (2..pages).filter(|page| Some(*page) != root.as_u64()) {
        flip_bit(&path, page * PAGE_BYTES + 2000);
        let said = urdutl(&["check"], data);
        let offset = |page: u64| {
            format!("{}: damaged at offset {}: page {page}", path.display(), page * PAGE_BYTES)
        };
        // Nothing ends by a panic; and a hash is none of what is damaged.
        assert!(matches!(urdutl(&["status"], data).code, Some(0 | 1)));
        assert_eq!(urdutl(&["hashkv"], data).code, said.code);
        match said.code {
            Some(0) => unused += 1,
            // A run is named by its first page.
            Some(1) => {
                let first = page.saturating_sub(LONG_BYTES as u64 / PAGE_BYTES + 1);
                let is_named = (first..=page).any(|page| said.stderr.contains(&offset(page)));
                assert!(is_named, "page {page}: {}", said.stderr);
                named += 1;
            }
            code => panic!("page {page}: exit code {code:?}: {}", said.stderr),
        }
        std::fs::write(&path, &sound).expect("write a file of ours");
    }
    assert!(named > 10, "{named} named, {unused} not in use");
    well(&["check"], data);
}

#[tokio::test]
async fn damage_in_the_log_is_named() {
    if only_urd("its directory is its own") {
        return;
    }
    let Filled { mut server, .. } = filled().await;
    server.kill();
    let data = server.data_directory();
    // A value that other writes follow: it was acknowledged.
    let needle = format!("value {}", PUTS - 5).into_bytes();
    let log = files(&data.join("wal"));
    let place = log.iter().find_map(|(path, bytes)| {
        let at = bytes.windows(needle.len()).position(|window| window == needle)?;
        path.extension().is_some_and(|it| it == "segment").then_some((path, at as u64))
    });
    let (path, at) = place.expect("the value is in the log");
    flip_bit(path, at);
    let said = urdutl(&["check"], data);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    let begin = format!("urdutl: {}: damaged at offset ", path.display());
    let rest = said.stderr.strip_prefix(&begin).unwrap_or_else(|| panic!("{}", said.stderr));
    let offset: u64 = rest.split(':').next().and_then(|it| it.parse().ok()).expect("an offset");
    // The write that holds it begins at a block before it.
    assert!(offset <= at && at - offset < PAGE_BYTES, "{offset}, the bit is at {at}");
    complains(&["wal", "dump"], data, 1, &[&begin]);
    complains(&["hashkv"], data, 1, &[&begin]);
    // The checkpoint is sound.
    assert!(said.stdout.starts_with("checkpoint: ") && !said.stdout.contains("clean"));
    well(&["tree", "dump"], data);
}

/// Without its checkpoint, a log that was trimmed has lost what was before.
#[tokio::test]
async fn a_log_without_its_checkpoint_is_seen() {
    if only_urd("its directory is its own") {
        return;
    }
    let Filled { mut server, .. } = filled().await;
    server.kill();
    let data = server.data_directory().to_owned();
    let log = data.join("wal");
    let before: Vec<PathBuf> = files(&log).into_keys().collect();
    // The next start writes to segments of its own; once a checkpoint contains those before, they go.
    server.restart();
    let mut client = Client::connect(&server.endpoint()).await;
    for nth in 0..PUTS {
        client.put(put_request(&format!("more{nth}"), b"1")).await.expect("put");
    }
    wait_for("the log to be trimmed", READY_TIMEOUT, || {
        before.iter().all(|path| !path.exists()).then_some(())
    });
    server.kill();
    well(&["check"], &data);
    std::fs::write(data.join("tree").join("checkpoint"), b"").expect("write a file of ours");
    complains(&["check"], &data, 1, &["the log holds entries ", "the last applied entry is 1"]);
    complains(&["hashkv"], &data, 1, &["the last applied entry is 1"]);

    std::fs::remove_dir_all(&log).expect("remove a directory of ours");
    std::fs::create_dir(&log).expect("make a directory of ours");
    assert!(well(&["check"], &data).starts_with("checkpoint: none\n"), "nothing is sound");
    std::fs::remove_file(data.join("identity.json")).expect("remove a file of ours");
    complains(&["check"], &data, 1, &["no identity.json"]);
}

#[tokio::test]
async fn a_directory_that_cannot_be_looked_at() {
    let server = Server::start_fresh(Program::Subject);
    if only_urd("its directory is its own") {
        return;
    }
    let data = server.data_directory();
    let used = format!("data directory {} is in use by another server", data.display());
    let missing = server.directory().join("missing");
    let empty = server.directory().join("empty");
    std::fs::create_dir(&empty).expect("make a directory of ours");
    for command in [&["status"][..], &["check"], &["hashkv"], &["wal", "dump"], &["tree", "dump"]] {
        complains(command, data, 2, &[&used]);
        complains(command, &missing, 2, &[&format!("{}", missing.display()), "No such file"]);
        complains(command, &empty, 2, &[&format!("{}", empty.display()), "No such file"]);
    }
    assert!(!missing.exists() && files(&empty).is_empty());
    complains(&["hashkv", "--rev=x"], data, 2, &["invalid value"]);
    complains(&["frobnicate"], data, 2, &["unrecognized subcommand"]);
}
