//! `alarm list` and `alarm disarm`.

use clap::Subcommand;
use urd_proto::etcdserverpb as pb;
use urd_proto::etcdserverpb::alarm_request::AlarmAction;

use super::client::Client;
use super::global::Global;
use super::methods::{ALARM_CHANGE, ALARM_LIST};
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum AlarmCommand {
    /// Disarm all alarms
    Disarm {
        #[arg(hide = true)]
        words: Vec<String>,
    },
    /// List all alarms
    List {
        #[arg(hide = true)]
        words: Vec<String>,
    },
}

pub(crate) async fn run(global: &Global, command: AlarmCommand) -> Result<(), Failure> {
    let (verb, words) = match &command {
        AlarmCommand::Disarm { words } => ("disarm", words),
        AlarmCommand::List { words } => ("list", words),
    };
    if !words.is_empty() {
        return Err(Failure::bad_arguments(format!("alarm {verb} command accepts no arguments")));
    }
    let printer = global.printer()?;
    let client = Client::new(global)?;
    let all = pb::AlarmRequest { action: AlarmAction::Get.into(), ..Default::default() };
    let alarms = client.call(&ALARM_LIST, &all).await?;
    if matches!(command, AlarmCommand::List { .. }) {
        return printer.alarms(&alarms);
    }
    let mut disarmed = pb::AlarmResponse::default();
    for alarm in &alarms.alarms {
        let request = pb::AlarmRequest {
            action: AlarmAction::Deactivate.into(),
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        disarmed.alarms.extend(client.call(&ALARM_CHANGE, &request).await?.alarms);
    }
    printer.alarms(&disarmed)
}
