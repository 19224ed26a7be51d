//! What the kernel says about a process, from `/proc`.

use rustix::process::Pid;
use std::fs;
use std::io;
use std::time::Duration;

/// User and system time of all threads so far, to the kernel's tick (10 ms mostly).
pub fn cpu_time(pid: Pid) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    cpu_ticks(&stat)
        .map(|ticks| {
            Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
        })
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat: {stat:?}")))
}

/// The sum of the fields `utime` and `stime`, the 14th and 15th.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The second field, the name, is in parentheses and may contain anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(14 - 3);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// The most memory that was resident at once.
pub fn peak_resident_bytes(pid: Pid) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    peak_kibibytes(&status)
        .map(|kibibytes| kibibytes * 1024)
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/status has no VmHWM")))
}

fn peak_kibibytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_itself() {
        let pid = rustix::process::getpid();
        cpu_time(pid).unwrap();
        assert!(peak_resident_bytes(pid).unwrap() > 4096);
    }

    #[test]
    fn names_may_look_like_fields() {
        let stat = "7 (a) b) 1) S 1 7 7 0 -1 4194304 100 0 0 0 31 11 5 5 20 0 1 0 100 1000 100";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
    }
}
