//! Servers for tests: started on free ports in a directory of their own, ended by process id, explained on failure.
//!
//! [`Cluster`] is several members. [`Server`] is one running member. It owns its process (killed when dropped) and its directory (removed when
//! dropped); its standard error goes to a file whose end is printed when the test that owns it panics.
//!
//! What is missing fails a test with the command that installs it; nothing is skipped silently. There is no retry of
//! requests here: a test that wants one says so.

mod cluster;
pub(crate) mod grpc;
pub(crate) mod http;
mod network;

pub(crate) mod process;
mod server;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) use cluster::{Cluster, SETTLE_TIMEOUT};
pub(crate) use grpc::{Client, get_request, put_request};
pub(crate) use network::{Network, in_network};
pub(crate) use server::{Form, Launch, Server, scratch_directory};
pub(crate) use urd_tools::lab::ports;

/// How long a server may take from its start to its first answer. A cold, busy CI machine sets it, not a server.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// Which program a server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// The server under test.
    Subject,
    /// Real etcd, the reference.
    Etcd,
}

impl Program {
    /// The program's file.
    pub(crate) fn path(self) -> PathBuf {
        match self {
            Program::Etcd => installed("etcd", "etcd-server"),
            Program::Subject => match std::env::var_os("URD_TEST_SUBJECT") {
                Some(path) => PathBuf::from(path),
                None => urd_path(),
            },
        }
    }
}

/// Whether the subject is etcd itself (`URD_TEST_SUBJECT` names it), so that tests of Urd's own promises can step aside.
pub(crate) fn subject_is_etcd() -> bool {
    let name = Program::Subject.path();
    name.file_name().is_some_and(|name| name.to_string_lossy().starts_with("etcd"))
}

/// True, with the reason printed, when the subject is etcd and the test asks for what only Urd promises.
pub(crate) fn only_urd(reason: &str) -> bool {
    let skip = subject_is_etcd();
    if skip {
        println!("passed over, the subject is etcd: {reason}");
    }
    skip
}

/// etcdctl's file.
pub(crate) fn etcdctl_path() -> PathBuf {
    installed("etcdctl", "etcd-client")
}

/// The `urd` that was built with this test: `URD_BIN`, or the file beside `deps/`, where cargo puts test programs.
fn urd_path() -> PathBuf {
    if let Some(path) = std::env::var_os("URD_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("the test's own path is readable");
    let profile =
        test.parent().and_then(Path::parent).expect("a test runs from target/PROFILE/deps");
    let path = profile.join("urd");
    assert!(
        path.is_file(),
        "there is no server to test at {}: run `cargo build --workspace --bins` first, or name one in URD_BIN",
        path.display()
    );
    path
}

fn installed(program: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
        .unwrap_or_else(|| {
            panic!(
                "this test compares with Debian's {program}, which is not installed: \
                 run `apt-get install -y --no-install-recommends {package}`"
            )
        })
}

/// Asks `poll` again and again until it answers, at most for `timeout`; between two questions the processor is free
/// for the process that is waited for.
pub(crate) fn wait_for<T>(what: &str, timeout: Duration, poll: impl FnMut() -> Option<T>) -> T {
    try_wait_for(timeout, poll).unwrap_or_else(|| panic!("waited {timeout:?} for {what}"))
}

/// As [`wait_for`]; nothing when the time is over.
pub(crate) fn try_wait_for<T>(timeout: Duration, mut poll: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(found) = poll() {
            return Some(found);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
