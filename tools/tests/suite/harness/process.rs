//! What the kernel says about a server's process.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::wait_for;

/// Resident memory in bytes.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    1024 * field(pid, "status", "VmRSS:")
}

/// The most resident memory so far, in bytes.
pub(crate) fn resident_bytes_peak(pid: u32) -> u64 {
    1024 * field(pid, "status", "VmHWM:")
}

/// Bytes sent towards the disk so far: O_DIRECT writes, and page-cache pages made dirty.
pub(crate) fn written_bytes(pid: u32) -> u64 {
    field(pid, "io", "write_bytes:")
}

/// Waits until the server writes nothing: no file ahead, no checkpoint.
pub(crate) fn settle(pid: u32) {
    let mut before = None;
    wait_for("the server to write nothing for a while", Duration::from_secs(30), || {
        let written = written_bytes(pid);
        if before == Some(written) {
            return Some(());
        }
        before = Some(written);
        std::thread::sleep(Duration::from_millis(300));
        None
    });
}

/// The number of the line that starts with `name`; /proc writes one `name value [unit]` a line.
fn field(pid: u32, file: &str, name: &str) -> u64 {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {path}: {error}"));
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{path} has no number {name}:\n{text}"))
}

/// Whether the directory lies in memory (tmpfs), where durability means nothing and the kernel counts no disk writes.
pub(crate) fn is_tmpfs(directory: &Path) -> bool {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    let statistics = rustix::fs::statfs(directory).expect("statfs of a directory of ours");
    statistics.f_type == TMPFS_MAGIC
}

/// Mebibytes, for printing.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
