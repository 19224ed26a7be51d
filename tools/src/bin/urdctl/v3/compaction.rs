//! `compaction`: takes away what lies before a revision.

use clap::Args;
use urd_proto::etcdserverpb as pb;

use super::client::Client;
use super::global::Global;
use super::methods::COMPACT;
use super::print;
use crate::failure::Failure;
use crate::go;

/// Take away all that lies before a revision
#[derive(Debug, Args)]
#[command(override_usage = "urdctl compaction [options] <revision>")]
pub(crate) struct CompactionArgs {
    #[arg(value_name = "REVISION")]
    words: Vec<String>,
    /// Wait until it is gone from the medium, too
    #[arg(long)]
    physical: bool,
}

pub(crate) async fn run(global: &Global, args: CompactionArgs) -> Result<(), Failure> {
    let [revision] = &args.words[..] else {
        return Err(Failure::bad_arguments("compaction command needs 1 argument"));
    };
    let revision = go::parse_i64(revision, 10).map_err(Failure::error)?;
    // Only for its complaint about a format that does not exist.
    global.printer()?;
    let request = pb::CompactionRequest { revision, physical: args.physical };
    Client::new(global)?.call(&COMPACT, &request).await?;
    print::put_text(&format!("compacted revision {revision}\n"))
}
