//! The log on real file systems, through io_uring: the one under the build directory, tmpfs, and,
//! for root, small ones of their own that run full or refuse O_DIRECT.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use glommio::{LocalExecutor, executor, spawn_local};
use rustix::fs::OFlags;
use urd_wal::disk::uring::UringDisk;
use urd_wal::{AppendError, Checked, Entry, Log, Options, Recovered, Waiting, check};

type UringLog = Log<UringDisk>;

const SEGMENT_BYTES: u32 = 1 << 20;

fn options() -> Options {
    Options { segment_bytes: SEGMENT_BYTES, ..Options::new(11) }
}

async fn open(path: &Path) -> (UringLog, Recovered) {
    let disk = UringDisk::open(path).await.expect("opens the directory");
    Log::open(disk, options()).await.expect("opens the log")
}

fn payload(index: u64, bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(index);
    (0..bytes).map(|_| random.u8(..)).collect()
}

async fn prepare(log: &mut UringLog) {
    while let Some(work) = log.prepare() {
        log.prepared(work.run().await).expect("prepares");
    }
}

/// Appends entries with several writes in flight, and returns once all are durable.
async fn append(log: &mut UringLog, indexes: std::ops::Range<u64>, bytes: usize) {
    let mut tasks = Vec::new();
    for index in indexes {
        prepare(log).await;
        let payload = payload(index, bytes);
        let (head, body) = payload.split_at(bytes / 2);
        let entry = Entry { index, payload: [head, body] };
        let state = index.to_le_bytes();
        let waiting = if index.is_multiple_of(3) { Waiting::Thread } else { Waiting::Task };
        let write = log.append_waiting(waiting, Some(&state), &[entry]).expect("appends");
        tasks.push(spawn_local(write.done));
        if tasks.len() == 8 {
            for task in tasks.drain(..) {
                let _durable = log.completed(task.await.expect("writes"));
            }
        }
    }
    for task in tasks {
        let _durable = log.completed(task.await.expect("writes"));
    }
    assert_eq!(log.in_flight(), 0);
}

/// Streams the log in small pieces, as a replay does.
fn read_all(log: &UringLog) -> BTreeMap<u64, Vec<u8>> {
    let mut entries = BTreeMap::new();
    let mut next = log.first_index();
    while next <= log.last_index() {
        let some = log.read(next, log.last_index() + 1, 50_000).expect("reads");
        next += some.len() as u64;
        entries.extend(some);
    }
    entries
}

/// Everything a member does with its log, over two openings.
async fn exercise(path: &Path) -> Recovered {
    let (mut log, recovered) = open(path).await;
    assert_eq!((recovered.first, recovered.last), (1, 0));
    append(&mut log, 1..400, 9000).await;
    let expected: BTreeMap<_, _> = (1..400).map(|index| (index, payload(index, 9000))).collect();
    assert_eq!(read_all(&log), expected);
    // An entry that fills half a segment, in the place of the last ones.
    append(&mut log, 395..396, SEGMENT_BYTES as usize / 2).await;
    log.trim_prefix(300);
    prepare(&mut log).await;
    append(&mut log, 396..600, 9000).await;
    log.check().await.expect("sound");
    log.close().await.expect("closes");
    let disk = UringDisk::open(path).await.expect("opens the directory");
    let Checked { last, .. } = check(&disk).await.expect("sound");
    assert_eq!(last, 599);

    let (mut log, again) = open(path).await;
    assert_eq!(again.last, 599);
    assert!((2..=300).contains(&again.first), "{}", again.first);
    assert_eq!(again.hard_state.as_deref(), Some(599u64.to_le_bytes().as_slice()));
    let entries = read_all(&log);
    for index in again.first..600 {
        let bytes = if index == 395 { SEGMENT_BYTES as usize / 2 } else { 9000 };
        assert_eq!(entries[&index], payload(index, bytes), "entry {index}");
    }
    append(&mut log, 600..610, 100).await;
    log.check().await.expect("sound");
    log.close().await.expect("closes");
    recovered
}

#[test]
fn a_directory_on_the_build_disk() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = directory.path().join("deeper/wal");
    LocalExecutor::default().run(async move {
        exercise(&path).await;
    });
}

#[test]
fn tmpfs_works_and_is_warned_of() {
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else {
        println!("skipped: no /dev/shm here");
        return;
    };
    let kind = rustix::fs::statfs(directory.path()).expect("statfs").f_type as u64;
    if kind != 0x0102_1994 {
        println!("skipped: /dev/shm is not tmpfs but {kind:#x}");
        return;
    }
    let path = directory.path().to_owned();
    LocalExecutor::default().run(async move {
        let recovered = exercise(&path).await;
        assert_eq!(recovered.warnings.len(), 1, "{:?}", recovered.warnings);
        assert!(recovered.warnings[0].contains("a file system in memory"));
    });
}

/// The flags of the open files whose names end like this one, as the kernel keeps them.
fn flags_of(suffix: &str) -> Vec<i32> {
    let mut flags = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").expect("lists") {
        let fd = entry.expect("an entry").path();
        let Ok(path) = std::fs::read_link(&fd) else {
            continue;
        };
        if path.to_string_lossy().ends_with(suffix) {
            let info = fd.to_string_lossy().replace("/fd/", "/fdinfo/");
            let info = std::fs::read_to_string(info).expect("reads");
            let line = info.lines().find_map(|line| line.strip_prefix("flags:"));
            flags.push(i32::from_str_radix(line.expect("flags").trim(), 8).expect("octal"));
        }
    }
    flags
}

/// What makes a write durable is a flag of the file: whoever loses it on the way, loses everything.
#[test]
fn segments_are_open_for_direct_and_durable_writes() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = directory.path().to_owned();
    let name = directory.path().join("0000000000000001.segment");
    LocalExecutor::default().run(async move {
        let (log, recovered) = open(&path).await;
        let flags = flags_of(&name.to_string_lossy());
        let wanted = match recovered.warnings.is_empty() {
            true => OFlags::DSYNC | OFlags::DIRECT,
            false => OFlags::DSYNC,
        };
        let has_all = |flags: &i32| OFlags::from_bits_retain(*flags as u32).contains(wanted);
        assert!(!flags.is_empty() && flags.iter().all(has_all), "{flags:?}");
        log.close().await.expect("closes");
    });
}

/// A small file system of its own, mounted for as long as this lives.
struct Mount {
    _image: tempfile::TempDir,
    path: PathBuf,
}

impl Mount {
    /// `None`, with the reason printed, where one cannot be had.
    fn new(mebibytes: u64, options: &str) -> Option<Mount> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can mount");
            return None;
        }
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let image = directory.path().join("image");
        let file = std::fs::File::create(&image).expect("an image");
        file.set_len(mebibytes << 20).expect("an image");
        let path = directory.path().join("mounted");
        std::fs::create_dir(&path).expect("a directory");
        let run = |command: &mut Command| match command.output() {
            Ok(output) if output.status.success() => true,
            Ok(output) => {
                println!("skipped: {command:?}: {}", String::from_utf8_lossy(&output.stderr));
                false
            }
            Err(error) => {
                println!("skipped: {command:?}: {error}");
                false
            }
        };
        let made = run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
        let options = format!("loop,{options}");
        let mounted =
            made && run(Command::new("mount").args(["-o", &options]).args([&image, &path]));
        mounted.then_some(Mount { _image: directory, path })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, because the kernel closes the files of an ended ring when it gets to it.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.path).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "unmounts");
    }
}

#[test]
fn a_file_system_without_o_direct_works_and_is_warned_of() {
    let Some(mount) = Mount::new(32, "data=journal") else {
        return;
    };
    let path = mount.path.join("wal");
    LocalExecutor::default().run(async move {
        let recovered = exercise(&path).await;
        assert_eq!(recovered.warnings.len(), 1, "{:?}", recovered.warnings);
        assert!(recovered.warnings[0].contains("does not support O_DIRECT"));
    });
}

/// The disk runs full under the log: entries are refused before they are accepted, hard states are
/// not; room that comes back is used; a member can start on a full disk.
#[test]
fn a_disk_that_runs_full() {
    let Some(mount) = Mount::new(16, "defaults") else {
        return;
    };
    let path = mount.path.join("wal");
    let ballast = mount.path.join("ballast");
    LocalExecutor::default().run(async move {
        let (mut log, _) = open(&path).await;
        std::fs::write(&ballast, vec![1; 8 << 20]).expect("room for the ballast");
        let payload = payload(0, 9000);
        let mut index = 0;
        let refused = loop {
            if let Some(work) = log.prepare()
                && let Err(error) = log.prepared(work.run().await)
            {
                assert!(error.is_full(), "{error}");
            }
            assert!(index < 10_000, "the disk never runs full");
            match log.append(None, &[Entry { index: index + 1, payload: [&payload, &[]] }]) {
                Ok(write) => {
                    let _durable = log.completed(write.done.await.expect("writes"));
                    index += 1;
                }
                Err(error) => break error,
            }
        };
        assert_eq!(refused, AppendError::Full);
        assert!(!log.has_room(payload.len()));
        for vote in 0..4u8 {
            let write = log.append(Some(&[vote]), &[]).expect("room for a hard state");
            let _durable = log.completed(write.done.await.expect("writes"));
        }
        log.check().await.expect("sound");
        // A member that dies now can start again, and still has all.
        drop(log);
        executor().yield_task_queue_now().await;
        let (mut log, recovered) = open(&path).await;
        assert_eq!((recovered.first, recovered.last), (1, index));
        assert_eq!(recovered.hard_state, Some(vec![3]));
        // Room comes back.
        std::fs::remove_file(&ballast).expect("removes the ballast");
        append(&mut log, index + 1..index + 50, 9000).await;
        log.check().await.expect("sound");
        log.close().await.expect("closes");
    });
}
