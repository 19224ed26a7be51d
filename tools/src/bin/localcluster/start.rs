//! `localcluster start`: a new cluster, or one again that was stopped.

use crate::cluster::{Cluster, Member, Settings};
use crate::failure::Failure;
use crate::process::State;
use clap::value_parser;
use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Client ports are etcd's well-known one and this much more for each further member; the port of
/// its peers is the next one. So infra1 to infra3 have those of etcd's Procfile.
const PORT_WELL_KNOWN: u16 = 2379;
const PORT_STEP_WELL_KNOWN: u16 = 10_000;
/// Beyond these, ports would not be ports.
const MEMBERS_WELL_KNOWN_MAX: u16 = 6;
/// With ports of the user's own, members follow each other closely.
const PORT_STEP: u16 = 2;
const MEMBERS_DEFAULT: u16 = 3;

/// Start all members, wait until they answer and one leads
///
/// The first start makes the cluster. A later one starts its members again, as they were.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many members; 3 if not given
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=9))]
    members: Option<u16>,
    /// The server: Urd or etcd [default: the urd beside this program]
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Member N listens on PORT + 2 (N - 1) for clients and on the next port for its peers [default: 2379, 22379, 32379, ...]
    #[arg(long, value_name = "PORT", value_parser = value_parser!(u16).range(1..=65_000))]
    base_port: Option<u16>,
    /// How long they may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
    /// Flags for every member, after --
    #[arg(last = true, value_name = "FLAGS")]
    flags: Vec<String>,
}

pub(crate) fn run(dir: &Path, args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let (mut cluster, new) = Cluster::open_or_create(dir, || args.settings())?;
    let all: Vec<usize> = (0..cluster.settings.members.len()).collect();
    for member in &cluster.settings.members {
        if let (State::Running | State::Paused, Some(process)) = (member.state(), &member.process) {
            let (name, pid) = (&member.name, process.pid);
            return Err(Failure::Refused(format!("{name}: already running, process {pid}")));
        }
    }
    if !new {
        args.check_same(&cluster.settings)?;
    }
    for &nth in &all {
        cluster.check_ports(nth)?;
    }
    for &nth in &all {
        cluster.launch(nth)?;
    }
    cluster.wait_until_ready(&all, Duration::from_secs(args.timeout))?;
    let urls: Vec<String> = cluster.settings.members.iter().map(Member::client_url).collect();
    writeln!(out, "{} members run; clients: --endpoints={}", all.len(), urls.join(","))?;
    Ok(())
}

impl Args {
    fn settings(&self) -> Result<Settings, Failure> {
        let members = self.members.unwrap_or(MEMBERS_DEFAULT);
        if self.base_port.is_none() && members > MEMBERS_WELL_KNOWN_MAX {
            return Err(Failure::Refused(format!(
                "--members={members}: more than {MEMBERS_WELL_KNOWN_MAX} need --base-port"
            )));
        }
        let server = self.server.as_deref().map_or_else(server_beside_us, find_server)?;
        let members = (0..members).map(|nth| self.member(nth)).collect();
        Ok(Settings { server, flags: self.flags.clone(), members })
    }

    fn member(&self, nth: u16) -> Member {
        let client_port = match (self.base_port, nth) {
            (Some(base), _) => base + nth * PORT_STEP,
            (None, 0) => PORT_WELL_KNOWN,
            (None, _) => PORT_WELL_KNOWN + (nth + 1) * PORT_STEP_WELL_KNOWN,
        };
        let name = format!("infra{}", nth + 1);
        Member { name, client_port, peer_port: client_port + 1, process: None }
    }

    /// What is given again must be what it was.
    fn check_same(&self, settings: &Settings) -> Result<(), Failure> {
        let server = self.server.as_deref().map(find_server).transpose()?;
        let wanted = self.base_port.map(|_| self.member(0).client_port);
        let differs = [
            ("--members", self.members.is_some_and(|n| usize::from(n) != settings.members.len())),
            ("--server", server.is_some_and(|server| server != settings.server)),
            ("--base-port", wanted.is_some_and(|port| port != settings.members[0].client_port)),
            ("flags", !self.flags.is_empty() && self.flags != settings.flags),
        ];
        match differs.iter().find(|(_, differs)| *differs) {
            None => Ok(()),
            Some((what, _)) => Err(Failure::Refused(format!(
                "{what}: the cluster that is there was made with others; clean removes it"
            ))),
        }
    }
}

fn server_beside_us() -> Result<PathBuf, Failure> {
    let ours = env::current_exe().map_err(Failure::at(Path::new("/proc/self/exe")))?;
    find_server(&ours.with_file_name("urd")).map_err(|_| {
        let directory = ours.parent().unwrap_or(Path::new("/")).display();
        Failure::Refused(format!(
            "there is no urd in {directory}: build it there, or name a server with --server"
        ))
    })
}

/// The file of a program that is given as a path, or as a name on the search path. Links are
/// resolved, as the kernel will do it.
fn find_server(program: &Path) -> Result<PathBuf, Failure> {
    let by_path = program.components().count() > 1;
    let search = if by_path { None } else { env::var_os("PATH") };
    let directories = search.iter().flat_map(env::split_paths);
    let mut candidates = directories.map(|dir| dir.join(program)).chain([program.to_path_buf()]);
    match candidates.find(|file| file.is_file()) {
        Some(file) => fs::canonicalize(&file).map_err(Failure::at(&file)),
        None => Err(Failure::Refused(format!("--server={}: no such program", program.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        let server = Some("/bin/sh".into());
        Args { members: None, server, base_port: None, timeout: 1, flags: Vec::new() }
    }

    fn ports(args: &Args) -> Vec<(u16, u16)> {
        let settings = args.settings().unwrap();
        settings.members.iter().map(|member| (member.client_port, member.peer_port)).collect()
    }

    #[test]
    fn ports_are_those_of_etcds_procfile() {
        assert_eq!(ports(&args()), [(2379, 2380), (22379, 22380), (32379, 32380)]);
        let chosen = Args { base_port: Some(7000), members: Some(2), ..args() };
        assert_eq!(ports(&chosen), [(7000, 7001), (7002, 7003)]);
        assert!(Args { members: Some(7), ..args() }.settings().is_err());
    }

    #[test]
    fn what_differs_from_before_is_named() {
        let made = args().settings().unwrap();
        args().check_same(&made).unwrap();
        let other = Args { members: Some(5), ..args() };
        assert!(other.check_same(&made).unwrap_err().to_string().starts_with("--members: "));
        let other = Args { flags: vec!["--x".into()], ..args() };
        assert!(other.check_same(&made).unwrap_err().to_string().starts_with("flags: "));
    }

    #[test]
    fn servers_are_found_by_name_and_by_path() {
        assert_eq!(find_server(Path::new("sh")).unwrap(), fs::canonicalize("/bin/sh").unwrap());
        let error = find_server(Path::new("./no-such")).unwrap_err().to_string();
        assert_eq!(error, "--server=./no-such: no such program");
    }
}
