//! `downgrade validate`, `enable` and `cancel`.

use clap::Subcommand;
use urd_proto::etcdserverpb as pb;
use urd_proto::etcdserverpb::downgrade_request::DowngradeAction;

use super::client::Client;
use super::global::Global;
use super::methods::DOWNGRADE;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum DowngradeCommand {
    /// Ask whether the cluster could go back to a version
    Validate {
        #[arg(value_name = "TARGET_VERSION")]
        words: Vec<String>,
    },
    /// Prepare the cluster for members of an older version
    Enable {
        #[arg(value_name = "TARGET_VERSION")]
        words: Vec<String>,
    },
    /// Stay with the newer version after all
    Cancel,
}

pub(crate) async fn run(global: &Global, command: DowngradeCommand) -> Result<(), Failure> {
    let (action, verb, version) = match &command {
        DowngradeCommand::Validate { words } => {
            (DowngradeAction::Validate, "validate", version_of(words)?)
        }
        DowngradeCommand::Enable { words } => {
            (DowngradeAction::Enable, "enable", version_of(words)?)
        }
        DowngradeCommand::Cancel => (DowngradeAction::Cancel, "cancel", String::new()),
    };
    let printer = global.printer()?;
    let request = pb::DowngradeRequest { action: action.into(), version };
    let answer = Client::new(global)?.call(&DOWNGRADE, &request).await?;
    let text = format!("Downgrade {verb} success, cluster version {}\n", answer.version);
    printer.show(&answer, Some(text), None)
}

fn version_of(words: &[String]) -> Result<String, Failure> {
    match words {
        [] => Err(Failure::bad_arguments("TARGET_VERSION not provided")),
        [version] if version.is_empty() => {
            Err(Failure::bad_arguments("target version not provided"))
        }
        [version] => Ok(version.clone()),
        _ => Err(Failure::bad_arguments("too many arguments")),
    }
}
