//! A disk that fills up: puts are refused, reads go on, nothing acknowledged is lost, and space brings writes back.
//!
//! The disk is a small ext4 image on a loop device, so this needs root and a kernel that allows mounting; where that is
//! not given the test says so and passes.

use std::path::Path;

use urd_tools::lab::disk::{self, Disk};

use crate::harness::grpc::{get_request, put_request};
use crate::harness::{
    Client, Launch, Program, READY_TIMEOUT, Server, only_urd, scratch_directory, wait_for,
};

/// Room for the log's first segments (64 MiB each, made ahead) and a little more.
const DISK_BYTES: u64 = 320 << 20;
/// Left free by the ballast.
const FREE_BYTES: u64 = 2 << 20;
const VALUE_BYTES: usize = 1 << 20;
/// More than the disk holds: puts must be refused before.
const PUTS_MAX: usize = 400;

#[tokio::test]
async fn refuses_writes_on_a_full_disk_and_loses_nothing() {
    fill_and_restart(|_| ()).await;
}

/// What goes into it is enough for a checkpoint, for which there is no room.
#[tokio::test]
async fn a_checkpoint_that_finds_no_room_takes_none() {
    fill_and_restart(|data| {
        wait_for("the log's next segment", READY_TIMEOUT, || {
            data.join("wal/0000000000000002.segment").exists().then_some(())
        });
    })
    .await;
}

/// `before_it` is called before the disk is filled, with the data directory.
async fn fill_and_restart(before_it: impl FnOnce(&Path)) {
    if only_urd("it ends when its log cannot grow") {
        return;
    }
    let directory = scratch_directory();
    let disk = match Disk::mount(directory.path(), "disk", DISK_BYTES) {
        Ok(disk) => disk,
        Err(reason) => {
            println!("passed over, no disk of our own to fill: {reason}");
            return;
        }
    };
    let data = disk.path().join("data");
    let mut server = start(&data);
    let mut client = Client::connect(&server.endpoint()).await;
    client.put(put_request("before", b"the disk was full")).await.expect("put");
    before_it(&data);
    disk::fill(disk.path(), FREE_BYTES).expect("fill the disk");
    let acknowledged = put_until_refused(&mut client).await;
    println!("{acknowledged} puts of 1 MiB went in before the first was refused");
    assert_all_there(&mut client, acknowledged).await;
    server.assert_running("a full disk");

    server.kill();
    server.restart();
    let mut client = Client::connect(&server.endpoint()).await;
    assert_all_there(&mut client, acknowledged).await;

    disk::free(disk.path()).expect("remove the ballast");
    server.kill();
    server.restart();
    let mut client = Client::connect(&server.endpoint()).await;
    client
        .put(put_request("after", b"there is room again"))
        .await
        .expect("a put with room on the disk");
    assert_all_there(&mut client, acknowledged).await;
}

fn start(data: &Path) -> Server {
    Launch::new(Program::Subject).data_directory(data).start()
}

/// The number of acknowledged puts. The refusal must be etcd's for a full database.
async fn put_until_refused(client: &mut Client) -> usize {
    for number in 0..PUTS_MAX {
        let put = put_request(&format!("full/{number}"), &vec![b'x'; VALUE_BYTES]);
        if let Err(status) = client.put(put).await {
            assert_eq!(
                (status.code(), status.message()),
                (tonic::Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded")
            );
            return number;
        }
    }
    panic!("{PUTS_MAX} MiB were acknowledged on a disk of {} MiB", DISK_BYTES >> 20)
}

async fn assert_all_there(client: &mut Client, acknowledged: usize) {
    let before = client.range(get_request("before")).await.expect("reads go on");
    assert_eq!(before.kvs[0].value, "the disk was full");
    for number in 0..acknowledged {
        let answer =
            client.range(get_request(&format!("full/{number}"))).await.expect("reads go on");
        let pair = answer
            .kvs
            .first()
            .unwrap_or_else(|| panic!("full/{number} was acknowledged and is gone"));
        assert_eq!(pair.value.len(), VALUE_BYTES);
    }
}
