//! A server under measurement: etcd or Urd, started alike and fresh.

use crate::children::Guarded;
use crate::process;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

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

/// A running server, with a data directory of its own. Both are gone when this is dropped.
pub struct Server {
    child: Guarded,
    address: SocketAddr,
    directory: TempDir,
}

impl Server {
    /// Starts `program` with a fresh data directory under `root`, and waits until it is healthy.
    pub fn start(program: &Program, root: &Path) -> io::Result<Server> {
        fs::create_dir_all(root)?;
        let directory = tempfile::Builder::new().prefix("data-").tempdir_in(root)?;
        let (client, peer) = (free_address()?, free_address()?);
        let log = File::create(directory.path().join("log"))?;
        let mut command = Command::new(&program.path);
        // Settings of whoever runs this are not meant for it.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(name);
            }
        }
        command
            .arg("--name=bench")
            .arg(format!("--data-dir={}", directory.path().join("data").display()))
            .arg(format!("--listen-client-urls=http://{client}"))
            .arg(format!("--advertise-client-urls=http://{client}"))
            .arg(format!("--listen-peer-urls=http://{peer}"))
            .arg(format!("--initial-advertise-peer-urls=http://{peer}"))
            .arg(format!("--initial-cluster=bench=http://{peer}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut server =
            Server { child: Guarded::spawn(&mut command)?, address: client, directory };
        match server.wait_until_healthy() {
            Ok(()) => Ok(server),
            Err(error) => {
                let log = server.log_end();
                let named =
                    format!("{} ({}): {error}\n{log}", program.name, program.path.display());
                Err(io::Error::new(error.kind(), named))
            }
        }
    }

    /// `host:port` for clients.
    pub fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// CPU used so far.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        process::cpu_time(self.child.pid())
    }

    pub fn peak_resident_bytes(&self) -> io::Result<u64> {
        process::peak_resident_bytes(self.child.pid())
    }

    /// Ends it in good order.
    pub fn stop(self) -> io::Result<()> {
        self.child.terminate(STOP_TIMEOUT)
    }

    fn wait_until_healthy(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = self.child.ended()? {
                return Err(io::Error::other(format!("ended at once: {status}")));
            }
            match health(self.address) {
                Ok(answer) if is_healthy(&answer) => return Ok(()),
                Ok(_) | Err(_) if Instant::now() < deadline => thread::sleep(HEALTH_INTERVAL),
                Ok(answer) => return Err(io::Error::other(format!("not healthy: {answer}"))),
                Err(error) => return Err(error),
            }
        }
    }

    fn log_end(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

/// An address that was free a moment ago.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
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

    #[test]
    fn program_that_ends_is_shown_with_its_log() {
        let root = tempfile::tempdir().unwrap();
        let program = Program { name: "not a server".into(), path: "/bin/false".into() };
        let error = Server::start(&program, root.path()).err().unwrap().to_string();
        assert!(error.starts_with("not a server (/bin/false): ended at once"), "{error}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "its directory is gone");
    }
}
