//! `snapshot save`: a member's data as one file.

use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use urd_proto::etcdserverpb as pb;

use super::client::{Client, said};
use super::global::Global;
use super::methods::SNAPSHOT;
use super::print::put_text;
use crate::failure::Failure;
use crate::go;

/// Pages and a checksum behind them: a file of another size has lost its end.
const PAGE_BYTES: u64 = 512;
const CHECKSUM_BYTES: u64 = 32;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Save the data of the one member that --endpoints names
    ///
    /// There is no time limit unless --command-timeout sets one. The file appears under its name once it is whole.
    #[command(override_usage = "urdctl snapshot save <filename>")]
    Save {
        #[arg(value_name = "FILE")]
        words: Vec<PathBuf>,
    },
}

pub(crate) async fn run(global: &Global, command: SnapshotCommand) -> Result<(), Failure> {
    let SnapshotCommand::Save { words } = command;
    let [path] = &words[..] else {
        return Err(Failure::bad_arguments("snapshot save expects one argument <filename>"));
    };
    global.printer()?;
    let client = Client::new(global)?;
    if client.endpoints().len() != 1 {
        return Err(Failure::interrupted(format!(
            "snapshot must be requested to one selected node, not multiple [{}]",
            client.endpoints().join(" ")
        )));
    }
    let mut part = path.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    // As in etcdctl, only a time that was given is one: a snapshot takes longer than other commands.
    let saved = if global.command_timeout == DEFAULT_TIMEOUT {
        save(&client, &part, path).await
    } else {
        let saved = tokio::time::timeout(global.command_timeout, save(&client, &part, path)).await;
        saved.unwrap_or_else(|_| Err(Failure::error("context deadline exceeded")))
    };
    // Once it is renamed there is none; otherwise what is in it is of no use.
    fs::remove_file(&part).ok();
    let version = saved.map_err(|failure| failure.code(5))?;
    put_text(&format!("Snapshot saved at {}\n", path.display()))?;
    if version.is_empty() { Ok(()) } else { put_text(&format!("Server version {version}\n")) }
}

async fn save(client: &Client, part: &Path, path: &Path) -> Result<String, Failure> {
    let failed = |what: &str, error: std::io::Error| {
        Failure::error(format!("could not {what} {} ({error})", part.display()))
    };
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(part)
        .map_err(|error| failed("open", error))?;
    let mut stream = client.server_stream(&SNAPSHOT, pb::SnapshotRequest {}).await?;
    let (mut size, mut version) = (0_u64, String::new());
    while let Some(chunk) =
        stream.message().await.map_err(|status| Failure::error(said(&status)))?
    {
        file.write_all(&chunk.blob).map_err(|error| failed("write", error))?;
        size += chunk.blob.len() as u64;
        if !chunk.version.is_empty() {
            version = chunk.version;
        }
        show_progress(size, chunk.remaining_bytes);
    }
    if size % PAGE_BYTES != CHECKSUM_BYTES {
        return Err(Failure::error(format!("sha256 checksum not found [bytes: {size}]")));
    }
    file.sync_all().map_err(|error| failed("fsync", error))?;
    drop(file);
    fs::rename(part, path).map_err(|error| {
        Failure::error(format!(
            "could not rename {} to {} ({error})",
            part.display(),
            path.display()
        ))
    })?;
    Ok(version)
}

/// A line that is written over, where somebody looks at it.
fn show_progress(done: u64, remaining: u64) {
    if std::io::stderr().is_terminal() {
        let end = if remaining == 0 { "\n" } else { "" };
        eprint!("\r{} of {}   {end}", go::show_size(done), go::show_size(done + remaining));
    }
}
