//! A member whose disk has flipped a bit: it says where and serves nothing, and the README's commands bring it back.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::load::Load;
use crate::harness::{Cluster, Program, etcdctl_path, only_urd, put_request, wait_for};

const PAGE_BYTES: u64 = 4096;
/// What it takes until there is a checkpoint.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(30);

fn flip_bit(path: &Path, offset: u64) {
    let mut bytes = std::fs::read(path).expect("read a file of ours");
    bytes[usize::try_from(offset).expect("an offset in a file")] ^= 4;
    std::fs::write(path, bytes).expect("write a file of ours");
}

/// One of the commands of the README, sent to `endpoint`. What it prints.
fn etcdctl(endpoint: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(etcdctl_path());
    command.env("ETCDCTL_API", "3").arg(format!("--endpoints={endpoint}")).args(arguments);
    // A change of the membership is refused for as long as the leader has not heard enough of the others.
    let output = wait_for("a change of the membership", CHECKPOINT_TIMEOUT, || {
        let output = command.output().expect("run etcdctl");
        if !output.status.success() {
            println!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
            std::thread::sleep(Duration::from_millis(200));
        }
        output.status.success().then_some(output)
    });
    String::from_utf8(output.stdout).expect("etcdctl prints text")
}

/// Some page of a member's checkpoint that holds data, as the file and the place in it.
fn page_of_the_checkpoint(data: &Path) -> (PathBuf, u64) {
    let output = Command::new(env!("CARGO_BIN_EXE_urdutl"))
        .args(["status", "-w", "json", "--data-dir"])
        .arg(data)
        .output()
        .expect("run urdutl");
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let root = status["checkpoint"]["root"].as_u64().expect("a page");
    (data.join("tree").join("checkpoint"), root * PAGE_BYTES)
}

/// Where in a member's log the bytes of a value stand that others follow.
fn place_in_the_log(data: &Path, value: &[u8]) -> (PathBuf, u64) {
    let segments = std::fs::read_dir(data.join("wal")).expect("list a directory of ours");
    let segments = segments.map(|entry| entry.expect("an entry").path());
    let mut found = segments.filter(|path| path.extension().is_some_and(|it| it == "segment"));
    let place = found.find_map(|path| {
        let bytes = std::fs::read(&path).expect("read a file of ours");
        let at = bytes.windows(value.len()).position(|window| window == value)?;
        Some((path, at as u64))
    });
    place.expect("the value is in the log")
}

/// Damages a member that load goes by, sees it refuse to start, and replaces it.
async fn replace_the_damaged(arguments: &[&str], damage: impl FnOnce(&Path) -> (PathBuf, u64)) {
    let mut cluster = Cluster::start(Program::Subject, 3, arguments);
    let load = Load::start(&cluster, 4);
    load.wait_for_progress(100).await;
    let hurt = cluster.follower().await;
    let data = cluster.data(&hurt);
    let mut client = cluster.client(&hurt).await;
    client.put(put_request("before", b"the value to be hurt")).await.expect("put");
    load.wait_for_progress(200).await;
    if !arguments.is_empty() {
        let checkpoint = data.join("tree").join("checkpoint");
        wait_for("a checkpoint", CHECKPOINT_TIMEOUT, || {
            let bytes = std::fs::metadata(&checkpoint).ok()?.len();
            (bytes > 4 * PAGE_BYTES).then_some(())
        });
        load.wait_for_progress(400).await;
    }
    cluster.kill(&hurt);
    let (path, at) = damage(&data);
    flip_bit(&path, at);

    cluster.launch(&hurt);
    cluster.wait_exit(&hurt);
    let log = cluster.log(&hurt);
    let named = format!("{}: damaged at offset ", path.display());
    let offset = log.split(&named).nth(1).and_then(|rest| rest.split(':').next());
    let offset: Option<u64> = offset.and_then(|digits| digits.parse().ok());
    let offset = offset.unwrap_or_else(|| panic!("without {named:?}:\n{log}"));
    assert!(offset <= at && at - offset < PAGE_BYTES, "{offset}, the bit is at {at}");

    let by = cluster.names().into_iter().find(|name| *name != hurt).expect("there are others");
    let by = cluster.endpoint(&by);
    let list = etcdctl(&by, &["member", "list"]);
    let line = list.lines().find(|line| line.contains(&hurt)).expect("it is a member");
    let id = line.split(',').next().expect("the id comes first").to_owned();
    let peer = cluster.peer_url(&hurt);
    etcdctl(&by, &["member", "remove", &id]);
    std::fs::remove_dir_all(&data).expect("remove the damaged directory");
    let added = etcdctl(&by, &["member", "add", &hurt, &format!("--peer-urls={peer}")]);
    let initial = added.lines().find_map(|line| line.strip_prefix("ETCD_INITIAL_CLUSTER="));
    let initial = initial.expect("etcdctl says what to start it with").trim_matches('"');
    cluster.set_initial(&hurt, initial, "existing");
    cluster.restart(&hurt);

    load.wait_for_progress(200).await;
    load.check(&cluster).await;
    let answer = cluster.client(&hurt).await.range(crate::harness::get_request("before")).await;
    assert_eq!(answer.expect("a get").kvs[0].value, &b"the value to be hurt"[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_a_damaged_checkpoint_is_replaced_and_nothing_is_lost() {
    if only_urd("its directory is its own") {
        return;
    }
    replace_the_damaged(&["--snapshot-count=100"], page_of_the_checkpoint).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_a_damaged_log_is_replaced_and_nothing_is_lost() {
    if only_urd("its directory is its own") {
        return;
    }
    replace_the_damaged(&[], |data| place_in_the_log(data, b"the value to be hurt")).await;
}
