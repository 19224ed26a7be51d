//! `move-leader`: the leader among the endpoints hands over to another member.

use clap::Args;
use urd_proto::etcdserverpb as pb;

use super::client::Client;
use super::global::Global;
use super::methods::{MOVE_LEADER, STATUS};
use super::print::{Format, put_text};
use crate::failure::Failure;
use crate::go;

/// Hand leadership over to another member; --endpoints must hold the leader's
#[derive(Debug, Args)]
#[command(override_usage = "urdctl move-leader <transferee-member-id>")]
pub(crate) struct MoveLeaderArgs {
    /// In hexadecimal
    #[arg(value_name = "MEMBER")]
    words: Vec<String>,
}

pub(crate) async fn run(global: &Global, args: MoveLeaderArgs) -> Result<(), Failure> {
    let [target] = &args.words[..] else {
        return Err(Failure::bad_arguments("move-leader command needs 1 argument"));
    };
    let target_id = go::parse_u64(target, 16).map_err(Failure::bad_arguments)?;
    let printer = global.printer()?;
    let client = Client::new(global)?;
    for endpoint in client.endpoints() {
        let client = client.only(endpoint)?;
        let status = client.call(&STATUS, &pb::StatusRequest {}).await?;
        let leader = status.leader;
        if status.header.unwrap_or_default().member_id != leader {
            continue;
        }
        let answer = client.call(&MOVE_LEADER, &pb::MoveLeaderRequest { target_id }).await?;
        return match printer.format {
            Format::Simple => {
                put_text(&format!("Leadership transferred from {leader:x} to {target_id:x}\n"))
            }
            _ => printer.show(&answer, None, None),
        };
    }
    Err(Failure::bad_arguments(format!(
        "no leader endpoint given at [{}]",
        client.endpoints().join(" ")
    )))
}
