//! `localcluster clean`: the directory removed, once nothing runs there.

use crate::cluster::{Cluster, LOCK_FILE, STATE_FILE};
use crate::failure::Failure;
use crate::process::State;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Remove the cluster with its data and logs; nothing may run there
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(dir: &Path, _: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let cluster = Cluster::open(dir)?;
    let members = &cluster.settings.members;
    if let Some(member) = members.iter().find(|member| member.state() != State::Stopped) {
        return Err(Failure::Refused(format!("{} runs; stop it first", member.name)));
    }
    // Only what is ours: somebody may have put something else there.
    for nth in 0..members.len() {
        let data = cluster.data_dir(nth);
        unless_missing(fs::remove_dir_all(&data)).map_err(Failure::at(&data))?;
        let log = cluster.log(nth);
        unless_missing(fs::remove_file(&log)).map_err(Failure::at(&log))?;
    }
    for name in [STATE_FILE, LOCK_FILE] {
        let path = cluster.dir.join(name);
        unless_missing(fs::remove_file(&path)).map_err(Failure::at(&path))?;
    }
    match fs::remove_dir(&cluster.dir) {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
            let dir = dir.display();
            writeln!(out, "{dir} stays: there are files in it that are not the cluster's")?;
        }
        removed => {
            removed.map_err(Failure::at(dir))?;
            writeln!(out, "{} removed", dir.display())?;
        }
    }
    Ok(())
}

fn unless_missing(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
