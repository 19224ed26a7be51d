//! `localcluster stop`: an orderly end.

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::process::{Blow, State};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Stop a member, or all, in good order (SIGTERM)
///
/// A paused member is let go on, so that it can end.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The member; all if none is named
    name: Option<String>,
    /// How long it may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
}

pub(crate) fn run(dir: &Path, args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let cluster = Cluster::open(dir)?;
    let places = cluster.select(args.name.as_deref())?;
    for nth in cluster.stop(&places, Duration::from_secs(args.timeout))? {
        writeln!(out, "{} stopped", cluster.settings.members[nth].name)?;
    }
    Ok(())
}

impl Cluster {
    /// Ends the members at `places` that run, all at once; returns those.
    pub(crate) fn stop(&self, places: &[usize], timeout: Duration) -> Result<Vec<usize>, Failure> {
        let mut struck = Vec::new();
        for &nth in places {
            let member = &self.settings.members[nth];
            let strike = member.process.as_ref().map(|process| process.strike(Blow::Terminate));
            match strike.transpose() {
                Ok(Some(true)) => struck.push(nth),
                Ok(_) => {}
                Err(error) => return Err(Failure::Failed(format!("{}: {error}", member.name))),
            }
        }
        for &nth in &struck {
            let member = &self.settings.members[nth];
            let process = member.process.as_ref();
            if !process.is_none_or(|process| process.wait_for(State::Stopped, timeout)) {
                let name = &member.name;
                return Err(Failure::Failed(format!(
                    "{name} still runs after {timeout:?}; kill ends it at once"
                )));
            }
        }
        Ok(struck)
    }
}
