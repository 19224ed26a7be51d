//! Starting members, and waiting until they work.

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::process::{Process, State};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use urd_tools::members;

/// How much of a log is shown when its member fails.
const LOG_LINES_SHOWN: usize = 15;
/// How much of a log is read for that.
const LOG_BYTES_READ: u64 = 64 * 1024;
/// How often members are asked whether they are ready.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

impl Cluster {
    /// Fails if somebody listens where the member will.
    pub(crate) fn check_ports(&self, nth: usize) -> Result<(), Failure> {
        let member = &self.settings.members[nth];
        for port in [member.client_port, member.peer_port] {
            if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                let name = &member.name;
                return Err(Failure::Refused(match error.kind() {
                    ErrorKind::AddrInUse => format!(
                        "{name}: port {port} is in use by another program (--base-port chooses others)"
                    ),
                    _ => format!("{name}: port {port}: {error}"),
                }));
            }
        }
        Ok(())
    }

    /// Starts a member that does not run, detached from us.
    pub(crate) fn launch(&mut self, nth: usize) -> Result<(), Failure> {
        let log = self.log(nth);
        let file = File::options().create(true).append(true).open(&log);
        let file = file.map_err(Failure::at(&log))?;
        let errors = file.try_clone().map_err(Failure::at(&log))?;
        let server = self.settings.server.clone();
        let mut command = Command::new(&server);
        // Settings of whoever runs this are not meant for all members at once.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(name);
            }
        }
        command
            .args(self.arguments(nth))
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            // An interrupt typed at the terminal is not for the members.
            .process_group(0);
        let child = command.spawn().map_err(Failure::at(&server))?;
        let process = Process::of_child(child.id(), &server);
        self.settings.members[nth].process = process;
        self.save()
    }

    /// Who the member is, and the flags that all members get.
    fn arguments(&self, nth: usize) -> Vec<String> {
        let member = &self.settings.members[nth];
        let (client, peer) = (member.client_url(), member.peer_url());
        let all = self.settings.members.iter();
        let all: Vec<_> = all.map(|one| format!("{}={}", one.name, one.peer_url())).collect();
        let mut arguments = vec![
            format!("--name={}", member.name),
            format!("--data-dir={}", self.data_dir(nth).display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={}", all.join(",")),
            "--initial-cluster-state=new".into(),
            "--initial-cluster-token=localcluster".into(),
        ];
        arguments.extend(self.settings.flags.iter().cloned());
        arguments
    }

    /// Waits until the members at `places` answer and know a leader.
    pub(crate) fn wait_until_ready(
        &self,
        places: &[usize],
        timeout: Duration,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + timeout;
        loop {
            let Some((nth, why)) = self.not_ready(places)? else { return Ok(()) };
            let member = &self.settings.members[nth];
            let ended = member.state() == State::Stopped;
            if ended || Instant::now() >= deadline {
                let why = if ended { "it ended".into() } else { why };
                let log = self.log(nth);
                let tail = tail(&log, LOG_LINES_SHOWN).map_err(Failure::at(&log))?;
                return Err(Failure::Failed(format!(
                    "{} is not ready: {why}. The end of {}:\n{tail}\n\
                     Members that were started are left as they are; stop ends them.",
                    member.name,
                    log.display()
                )));
            }
            thread::sleep(ASK_INTERVAL);
        }
    }

    /// One of those at `places` that is not ready, and why.
    fn not_ready(&self, places: &[usize]) -> Result<Option<(usize, String)>, Failure> {
        let answers = self.ask()?;
        for &nth in places {
            match &answers[nth] {
                None => return Ok(Some((nth, "it does not run".into()))),
                Some(Err(error)) => return Ok(Some((nth, error.clone()))),
                Some(Ok(status)) if status.leader == 0 => {
                    return Ok(Some((nth, "it knows of no leader".into())));
                }
                Some(Ok(_)) => {}
            }
        }
        let leads = members::leader(answers.iter().map(|answer| answer.as_ref()?.as_ref().ok()));
        // Whom they name may be gone already.
        Ok(places.first().filter(|_| leads.is_none()).map(|&nth| (nth, "nobody leads".into())))
    }
}

/// The last `lines` of a file, of its last 64 KiB.
pub(crate) fn tail(path: &Path, lines: usize) -> std::io::Result<String> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        file => file?,
    };
    let length = fs::metadata(path)?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES_READ)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].join("\n"))
}
