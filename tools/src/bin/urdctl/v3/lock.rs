//! `lock`: holds a named lock until it is interrupted, or while a program runs.

use std::ffi::OsString;
use std::rc::Rc;

use clap::Args;

use super::bytes_of;
use super::client::Client;
use super::global::Global;
use super::interrupts::Interrupts;
use super::queue::Place;
use super::session::Session;
use crate::failure::Failure;
use crate::{go, process};

/// Hold a named lock until interrupted, or while a program runs
///
/// The program finds ETCD_LOCK_KEY and ETCD_LOCK_REV in its environment; urdctl ends with its exit code. Flags of the program go
/// behind `--`.
#[derive(Debug, Args)]
#[command(override_usage = "urdctl lock <lockname> [exec-command arg1 arg2 ...]")]
pub(crate) struct LockArgs {
    /// `LOCKNAME [PROGRAM ARGUMENT...]`
    #[arg(value_name = "LOCKNAME")]
    words: Vec<OsString>,
    /// Seconds after which the lock is free if this client vanishes
    #[arg(long, default_value = "10", value_parser = go::flag_number)]
    ttl: i64,
}

pub(crate) async fn run(global: &Global, args: LockArgs) -> Result<(), Failure> {
    let mut words = args.words.into_iter();
    let Some(name) = words.next().map(bytes_of) else {
        return Err(Failure::bad_arguments(
            "lock takes a lock name argument and an optional command to execute",
        ));
    };
    let program: Vec<OsString> = words.collect();
    let printer = global.printer()?;
    let client = Rc::new(Client::new(global)?);
    let mut interrupts = Interrupts::new()?;
    let session = Session::start(Rc::clone(&client), args.ttl).await?;
    let place = Place::enter(client, &session, &name, bytes::Bytes::new()).await?;
    let locked = interrupts.unless(place.wait()).await;
    let result = match locked {
        None => Err(Failure::error("context canceled")),
        Some(Err(failure)) => Err(failure),
        Some(Ok(own)) if program.is_empty() => match printer.get(&own) {
            Ok(()) => hold(&session, &mut interrupts).await,
            Err(failure) => Err(failure),
        },
        Some(Ok(own)) => {
            let revision = own.header.unwrap_or_default().revision;
            run_program(program, &place, revision).await
        }
    };
    let left = place.leave().await;
    session.end().await;
    result.and(left)
}

/// Until interrupted, as long as the lease lives.
async fn hold(session: &Session, interrupts: &mut Interrupts) -> Result<(), Failure> {
    match interrupts.unless(session.lost()).await {
        None => Ok(()),
        Some(()) => Err(Failure::error("session expired")),
    }
}

async fn run_program(program: Vec<OsString>, place: &Place, revision: i64) -> Result<(), Failure> {
    use std::os::unix::ffi::OsStringExt;
    let variables = [
        ("ETCD_LOCK_KEY", OsString::from_vec(place.key.to_vec())),
        ("ETCD_LOCK_REV", revision.to_string().into()),
    ];
    let words = program.clone();
    let ran = tokio::task::spawn_blocking(move || process::run(&words, &variables)).await;
    let ended = ran.map_err(|error| Failure::error(format!("{error}")))?;
    match ended.code() {
        0 => Ok(()),
        code => Err(Failure::with_code(code, ended.reason(&program))),
    }
}
