//! Asking members how they are.

use crate::cluster::Member;
use crate::failure::Failure;
use crate::process::State;
use glommio::LocalExecutorBuilder;
use std::time::Duration;
use urd_proto::etcdserverpb::StatusResponse;
use urd_tools::members;

/// One that does not answer in this time has something else to do.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What a member that runs said, or why it said nothing.
pub(crate) type Answer = Result<StatusResponse, String>;

/// Asks all that run, at once. Those that are stopped or paused are not asked.
pub(crate) fn all(members: &[Member]) -> Result<Vec<Option<Answer>>, Failure> {
    let (places, endpoints): (Vec<_>, Vec<_>) = members
        .iter()
        .enumerate()
        .filter(|(_, member)| member.state() == State::Running)
        .map(|(nth, member)| (nth, member.endpoint()))
        .unzip();
    let executor = LocalExecutorBuilder::default()
        .make()
        .map_err(|error| Failure::Failed(format!("cannot set up io_uring: {error}")))?;
    let answers = executor.run(members::statuses(&endpoints, TIMEOUT));
    let mut all: Vec<Option<Answer>> = members.iter().map(|_| None).collect();
    for (nth, answer) in places.into_iter().zip(answers) {
        all[nth] = Some(answer.map_err(|error| error.to_string()));
    }
    Ok(all)
}
