//! A server under measurement: etcd or Urd, started alike. It is a member of a
//! [`Cluster`](crate::cluster::Cluster), if only of one.

use crate::children::Guarded;
use crate::process;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take until it is healthy, and until it ended.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often its health is asked for meanwhile.
const HEALTH_INTERVAL: Duration = Duration::from_millis(20);
/// How much of its log is shown when it fails.
const LOG_LINES_SHOWN: usize = 15;

/// A program that takes etcd's flags, under the name that results give it.
#[derive(Clone, Debug)]
pub struct Program {
    pub name: String,
    pub path: PathBuf,
}

/// A server of a cluster of one or more, running or not.
pub(crate) struct Member {
    program: Program,
    arguments: Vec<String>,
    child: Option<Guarded>,
    address: SocketAddr,
    log: PathBuf,
}

impl Member {
    /// One that does not run yet, with data and log in `directory`.
    pub(crate) fn new(
        program: &Program,
        directory: &Path,
        name: &str,
        (client, peer): (SocketAddr, SocketAddr),
        initial_cluster: &str,
        flags: &[&str],
    ) -> Member {
        let mut arguments = vec![
            format!("--name={name}"),
            format!("--data-dir={}", directory.join(name).display()),
            format!("--listen-client-urls=http://{client}"),
            format!("--advertise-client-urls=http://{client}"),
            format!("--listen-peer-urls=http://{peer}"),
            format!("--initial-advertise-peer-urls=http://{peer}"),
            format!("--initial-cluster={initial_cluster}"),
        ];
        arguments.extend(flags.iter().map(|flag| (*flag).into()));
        let log = directory.join(format!("{name}.log"));
        Member { program: program.clone(), arguments, child: None, address: client, log }
    }

    /// Starts it, on the data that it has.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program.path);
        // Settings of whoever runs this are not meant for it.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(name);
            }
        }
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(Guarded::spawn(&mut command)?);
        Ok(())
    }

    /// Ends it at once, as a crash would. Says when that was, which its last cleaning-up is not in.
    pub(crate) fn kill(&mut self) -> io::Result<Instant> {
        if let Some(status) = self.running_mut()?.ended()? {
            return Err(self.failed(&format!("ended by itself: {status}")));
        }
        self.running_mut()?.child().kill()?;
        let killed = Instant::now();
        self.child = None;
        Ok(killed)
    }

    /// Ends it in good order.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        self.child.take().map_or(Ok(()), |child| child.terminate(STOP_TIMEOUT))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// CPU used so far, since it was started last.
    pub(crate) fn cpu_time(&self) -> io::Result<Duration> {
        process::cpu_time(self.running()?.pid())
    }

    pub(crate) fn peak_resident_bytes(&self) -> io::Result<u64> {
        process::peak_resident_bytes(self.running()?.pid())
    }

    fn running(&self) -> io::Result<&Guarded> {
        self.child.as_ref().ok_or_else(|| io::Error::other("it does not run"))
    }

    fn running_mut(&mut self) -> io::Result<&mut Guarded> {
        self.child.as_mut().ok_or_else(|| io::Error::other("it does not run"))
    }

    /// Waits until it is healthy, which in a cluster takes a leader.
    pub(crate) fn wait_until_healthy(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(child) = &mut self.child
                && let Some(status) = child.ended()?
            {
                return Err(self.failed(&format!("ended by itself: {status}")));
            }
            match health(self.address) {
                Ok(answer) if is_healthy(&answer) => return Ok(()),
                Ok(_) | Err(_) if Instant::now() < deadline => thread::sleep(HEALTH_INTERVAL),
                Ok(answer) => return Err(self.failed(&format!("not healthy: {answer}"))),
                Err(error) => return Err(self.failed(&error.to_string())),
            }
        }
    }

    /// The error `what`, with the end of its log.
    pub(crate) fn failed(&self, what: &str) -> io::Error {
        let Program { name, path } = &self.program;
        let log = self.log_end();
        io::Error::other(format!("{name} ({}): {what}\n{log}", path.display()))
    }

    fn log_end(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

/// Asks `/health`, which both kinds of server answer on the port of clients.
fn health(address: SocketAddr) -> io::Result<String> {
    const TIMEOUT: Duration = Duration::from_secs(2);
    const ANSWER_BYTES_MAX: u64 = 64 * 1024;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

fn is_healthy(answer: &str) -> bool {
    let compact: String = answer.split_whitespace().collect();
    answer.starts_with("HTTP/1.1 200") && compact.contains(r#""health":"true""#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_read_in_both_forms() {
        assert!(is_healthy("HTTP/1.1 200 OK\r\n\r\n{\"health\":\"true\"}"));
        assert!(is_healthy("HTTP/1.1 200 OK\r\n\r\n{\"health\": \"true\", \"reason\": \"\"}\n"));
        assert!(!is_healthy("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"health\":\"true\"}"));
        assert!(!is_healthy("HTTP/1.1 200 OK\r\n\r\n{\"health\":\"false\"}"));
    }
}
