//! `defrag`: gives a member's unused space back, endpoint by endpoint.

use std::time::Instant;

use clap::Args;
use urd_proto::etcdserverpb as pb;

use super::client::Client;
use super::endpoint::endpoints;
use super::global::Global;
use super::methods::DEFRAGMENT;
use super::print;
use crate::failure::Failure;
use crate::go;

/// Give back the space that a member's file does not use any more
#[derive(Debug, Args)]
pub(crate) struct DefragArgs {
    /// Of all members that the cluster knows, not only of --endpoints
    #[arg(long)]
    cluster: bool,
    #[arg(hide = true)]
    words: Vec<String>,
}

pub(crate) async fn run(global: &Global, args: DefragArgs) -> Result<(), Failure> {
    global.printer()?;
    let client = Client::new(global)?;
    let mut has_failed = false;
    for endpoint in endpoints(&client, args.cluster).await? {
        let begin = Instant::now();
        let request = pb::DefragmentRequest {};
        let done = client.only(&endpoint)?.call(&DEFRAGMENT, &request).await;
        let took = go::show_duration(begin.elapsed());
        match done {
            Ok(_) => print::put_text(&format!(
                "Finished defragmenting etcd member[{endpoint}]. took {took}\n"
            ))?,
            Err(failure) => {
                has_failed = true;
                let text = failure.text().unwrap_or_default();
                eprintln!("Failed to defragment etcd member[{endpoint}]. took {took}. ({text})");
            }
        }
    }
    if has_failed { Err(Failure::silent(1)) } else { Ok(()) }
}
