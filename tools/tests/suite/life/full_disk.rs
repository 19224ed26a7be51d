//! A disk that fills up: puts are refused, reads go on, nothing acknowledged is lost, and space brings writes back.
//!
//! The disk is a small ext4 image on a loop device, so this needs root and a kernel that allows mounting; where that is
//! not given the test says so and passes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::grpc::{get_request, put_request};
use crate::harness::{Client, Launch, Program, Server, only_urd};

/// Room for the log's first segments (64 MiB each, made ahead) and a little more.
const DISK_BYTES: u64 = 320 << 20;
/// Left free by the ballast.
const FREE_BYTES: u64 = 2 << 20;
const VALUE_BYTES: usize = 1 << 20;
/// More than the disk holds: puts must be refused before.
const PUTS_MAX: usize = 400;

/// A file system of its own, unmounted when dropped.
struct Disk {
    mount: PathBuf,
    _directory: tempfile::TempDir,
}

impl Disk {
    /// None, with the reason, where this user or kernel cannot mount.
    fn mount() -> Result<Disk, String> {
        let directory = crate::harness::scratch_directory();
        let (image, mount) = (directory.path().join("disk.img"), directory.path().join("mount"));
        std::fs::create_dir(&mount).map_err(|error| error.to_string())?;
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(DISK_BYTES).map_err(|error| error.to_string())?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&mount))?;
        Ok(Disk { mount, _directory: directory })
    }

    /// Writes a file that leaves no more than `FREE_BYTES`.
    fn fill(&self) -> PathBuf {
        let ballast = self.mount.join("ballast");
        let file = std::fs::File::create(&ballast).expect("make the ballast");
        // The server prepares a segment meanwhile, so what was free a moment ago may be taken.
        loop {
            let statistics = rustix::fs::statvfs(&self.mount).expect("statvfs of the mount");
            let free = statistics.f_bavail * statistics.f_frsize;
            if free <= FREE_BYTES {
                break;
            }
            let flags = rustix::fs::FallocateFlags::empty();
            match rustix::fs::fallocate(&file, flags, 0, free - FREE_BYTES) {
                Ok(()) => break,
                Err(rustix::io::Errno::NOSPC) => {}
                Err(errno) => panic!("fill the disk: {errno}"),
            }
        }
        ballast
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(&self.mount)) {
            eprintln!("{error}");
        }
    }
}

fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!(
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

#[tokio::test]
async fn refuses_writes_on_a_full_disk_and_loses_nothing() {
    if only_urd("it ends when its log cannot grow") {
        return;
    }
    let disk = match Disk::mount() {
        Ok(disk) => disk,
        Err(reason) => {
            println!("passed over, no disk of our own to fill: {reason}");
            return;
        }
    };
    let mut server = start(&disk.mount.join("data"));
    let mut client = Client::connect(&server.endpoint()).await;
    client.put(put_request("before", b"the disk was full")).await.expect("put");
    let ballast = disk.fill();
    let acknowledged = put_until_refused(&mut client).await;
    println!("{acknowledged} puts of 1 MiB went in before the first was refused");
    assert_all_there(&mut client, acknowledged).await;
    server.assert_running("a full disk");

    server.kill();
    server.restart();
    let mut client = Client::connect(&server.endpoint()).await;
    assert_all_there(&mut client, acknowledged).await;

    std::fs::remove_file(ballast).expect("remove the ballast");
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
