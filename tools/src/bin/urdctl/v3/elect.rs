//! `elect`: stands for election until interrupted, or tells who is elected.

use std::ffi::OsString;
use std::rc::Rc;

use bytes::Bytes;
use clap::Args;
use urd_proto::etcdserverpb as pb;
use urd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use urd_proto::mvccpb::KeyValue;
use urd_proto::mvccpb::event::EventType;

use super::bytes_of;
use super::client::{Client, prefix_end};
use super::global::Global;
use super::interrupts::Interrupts;
use super::methods::RANGE;
use super::print::Printer;
use super::queue::{Place, prefix_of};
use super::session::Session;
use super::watching::{Watching, why_canceled};
use crate::failure::Failure;

/// Seconds after which another is elected if this client vanishes.
const TTL: i64 = 60;

/// Stand for election with a proposal, or tell who is elected (-l)
#[derive(Debug, Args)]
#[command(override_usage = "urdctl elect <election-name> [proposal]")]
pub(crate) struct ElectArgs {
    /// `ELECTION [PROPOSAL]`
    #[arg(value_name = "ELECTION")]
    words: Vec<OsString>,
    /// Only look on
    #[arg(short, long)]
    listen: bool,
}

pub(crate) async fn run(global: &Global, args: ElectArgs) -> Result<(), Failure> {
    let mut words = args.words.into_iter().map(bytes_of);
    let (name, proposal, more) = (words.next(), words.next(), words.next());
    let (Some(name), None) = (name, more) else {
        return Err(Failure::bad_arguments(
            "elect takes one election name argument and an optional proposal argument",
        ));
    };
    let printer = global.printer()?;
    let client = Rc::new(Client::new(global)?);
    match proposal {
        None if !args.listen => Err(Failure::bad_arguments("no proposal argument but -l not set")),
        None => {
            let mut interrupts = Interrupts::new()?;
            interrupts.unless(observe(&client, printer, &name)).await.unwrap_or(Ok(()))
        }
        Some(_) if args.listen => Err(Failure::bad_arguments("proposal given but -l is set")),
        Some(proposal) => campaign(client, printer, &name, proposal).await,
    }
}

async fn campaign(
    client: Rc<Client>,
    printer: Printer,
    name: &[u8],
    proposal: Bytes,
) -> Result<(), Failure> {
    let mut interrupts = Interrupts::new()?;
    let session = Session::start(Rc::clone(&client), TTL).await?;
    let place = Place::enter(client, &session, name, proposal).await?;
    let result = match interrupts.unless(place.wait()).await {
        None => Err(Failure::error("context canceled")),
        Some(Err(failure)) => Err(failure),
        Some(Ok(own)) => match printer.get(&own) {
            Err(failure) => Err(failure),
            Ok(()) => match interrupts.unless(session.lost()).await {
                None => Ok(()),
                Some(()) => Err(Failure::error("elect: session expired")),
            },
        },
    };
    let left = place.leave().await;
    session.end().await;
    result.and(left)
}

/// Prints whoever is elected, and each new proposal of theirs.
async fn observe(client: &Rc<Client>, printer: Printer, name: &[u8]) -> Result<(), Failure> {
    let prefix = prefix_of(name);
    loop {
        let oldest = pb::RangeRequest {
            key: prefix.clone(),
            range_end: prefix_end(&prefix),
            limit: 1,
            sort_order: SortOrder::Ascend.into(),
            sort_target: SortTarget::Create.into(),
            ..Default::default()
        };
        let mut answer = client.call(&RANGE, &oldest).await?;
        let revision = answer.header.unwrap_or_default().revision;
        let leader = match answer.kvs.pop() {
            Some(leader) => leader,
            None => first_put(client, &prefix, revision + 1).await?,
        };
        let shown = |leader: &KeyValue| pb::RangeResponse {
            header: answer.header,
            kvs: vec![leader.clone()],
            ..Default::default()
        };
        printer.get(&shown(&leader))?;
        let request = pb::WatchCreateRequest {
            key: leader.key.clone(),
            start_revision: revision.max(leader.mod_revision) + 1,
            ..Default::default()
        };
        let mut watching = Watching::new(Rc::clone(client), request);
        'leads: loop {
            let told = watching.next().await?;
            if told.canceled {
                return Err(Failure::error(why_canceled(&told)));
            }
            for event in &told.events {
                if event.r#type() == EventType::Delete {
                    break 'leads;
                }
                printer.get(&shown(&event.kv.clone().unwrap_or_default()))?;
            }
        }
    }
}

/// Waits for somebody to stand.
async fn first_put(client: &Rc<Client>, prefix: &Bytes, from: i64) -> Result<KeyValue, Failure> {
    let request = pb::WatchCreateRequest {
        key: prefix.clone(),
        range_end: prefix_end(prefix),
        start_revision: from,
        ..Default::default()
    };
    let mut watching = Watching::new(Rc::clone(client), request);
    loop {
        let answer = watching.next().await?;
        if answer.canceled {
            return Err(Failure::error(why_canceled(&answer)));
        }
        let put = answer.events.into_iter().find(|event| event.r#type() == EventType::Put);
        if let Some(kv) = put.and_then(|event| event.kv) {
            return Ok(kv);
        }
    }
}
