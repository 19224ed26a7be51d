//! `make-mirror`: copies keys to another cluster, and then every change of them.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use clap::{ArgAction, Args};
use urd_proto::etcdserverpb as pb;
use urd_proto::etcdserverpb::request_op::Request;
use urd_proto::mvccpb::event::EventType;

use super::client::{Client, prefix_end};
use super::global::{Global, credentials};
use super::methods::{PUT, RANGE, TXN};
use super::print::put_text;
use super::watching::{Watching, why_canceled};
use crate::failure::Failure;
use crate::go;

/// Keys read at once.
const PAGE_KEYS: i64 = 1000;
/// Between two lines that say how much has been copied.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// Copy keys to another cluster, and then every change of them
///
/// Prints the number of changes copied so far every 30 seconds, and ends only when something fails.
#[derive(Debug, Args)]
#[command(override_usage = "urdctl make-mirror [options] <destination>")]
pub(crate) struct MakeMirrorArgs {
    /// HOST:PORT of the destination
    #[arg(value_name = "DESTINATION")]
    words: Vec<String>,
    /// Only keys that begin with it
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Only what changed from this revision on; 0 means all there is, and what comes
    #[arg(long, default_value = "0", value_parser = go::flag_number)]
    rev: i64,
    /// The greatest number of changes in a transaction at the destination
    #[arg(long, default_value = "128")]
    max_txn_ops: usize,
    /// The prefix at the destination, in place of --prefix
    #[arg(long, default_value = "", hide_default_value = true)]
    dest_prefix: String,
    /// No prefix at the destination
    #[arg(long)]
    no_dest_prefix: bool,
    /// Refused: it is about TLS, which is not there yet
    #[arg(long, value_name = "FILE")]
    dest_cert: Option<String>,
    /// Refused: it is about TLS, which is not there yet
    #[arg(long, value_name = "FILE")]
    dest_key: Option<String>,
    /// Refused: it is about TLS, which is not there yet
    #[arg(long, value_name = "FILE")]
    dest_cacert: Option<String>,
    /// Connect without TLS, the only way there is yet; false is refused
    #[arg(long, action = ArgAction::Set, default_value = "true", value_parser = go::flag_bool, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    dest_insecure_transport: bool,
    /// `NAME[:PASSWORD]` at the destination
    #[arg(long, value_name = "NAME")]
    dest_user: Option<String>,
    /// The password of --dest-user
    #[arg(long)]
    dest_password: Option<String>,
}

/// What is copied, and where to.
struct Mirror {
    source: Rc<Client>,
    destination: Client,
    prefix: Bytes,
    destination_prefix: Bytes,
    operations_max: usize,
    copied: Rc<Cell<u64>>,
}

pub(crate) async fn run(global: &Global, args: MakeMirrorArgs) -> Result<(), Failure> {
    let [destination] = &args.words[..] else {
        return Err(Failure::bad_arguments("make-mirror takes one destination argument"));
    };
    let tls = [&args.dest_cert, &args.dest_key, &args.dest_cacert];
    if tls.iter().any(|file| file.is_some()) || !args.dest_insecure_transport {
        return Err(Failure::bad_arguments(
            "--dest-cert, --dest-key, --dest-cacert and --dest-insecure-transport=false cannot be honoured: urdctl \
             speaks no TLS yet",
        ));
    }
    if args.no_dest_prefix && !args.dest_prefix.is_empty() {
        return Err(Failure::bad_arguments(
            "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one",
        ));
    }
    global.printer()?;
    let (user, password) = (args.dest_user.as_deref(), args.dest_password.as_deref());
    let identity = credentials(None, user, password, "Destination Password: ")?;
    let destination_prefix = if args.no_dest_prefix || !args.dest_prefix.is_empty() {
        args.dest_prefix
    } else {
        args.prefix.clone()
    };
    let mirror = Mirror {
        source: Rc::new(Client::new(global)?),
        destination: Client::to(global, vec![destination.clone()], identity)?,
        prefix: args.prefix.into(),
        destination_prefix: destination_prefix.into(),
        operations_max: args.max_txn_ops.max(1),
        copied: Rc::default(),
    };
    tokio::task::spawn_local(report(Rc::clone(&mirror.copied)));
    let from = match args.rev {
        ..=1 => mirror.copy_all().await? + 1,
        revision => revision,
    };
    mirror.follow(from).await
}

async fn report(copied: Rc<Cell<u64>>) {
    loop {
        tokio::time::sleep(REPORT_INTERVAL).await;
        if put_text(&format!("{}\n", copied.get())).is_err() {
            return;
        }
    }
}

impl Mirror {
    /// Copies what there is. The answer is the revision at which it was read.
    async fn copy_all(&self) -> Result<i64, Failure> {
        let (mut key, end) = match &self.prefix[..] {
            b"" => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            prefix => (self.prefix.clone(), prefix_end(prefix)),
        };
        let mut revision = 0;
        loop {
            let page = pb::RangeRequest {
                key: key.clone(),
                range_end: end.clone(),
                limit: PAGE_KEYS,
                revision,
                ..Default::default()
            };
            let page = self.source.call(&RANGE, &page).await?;
            if revision == 0 {
                revision = page.header.unwrap_or_default().revision;
            }
            for kv in &page.kvs {
                let put = pb::PutRequest {
                    key: self.renamed(&kv.key),
                    value: kv.value.clone(),
                    ..Default::default()
                };
                self.destination.call(&PUT, &put).await?;
                self.copied.set(self.copied.get() + 1);
            }
            match page.kvs.last() {
                Some(last) if page.more => key = [&last.key[..], b"\0"].concat().into(),
                _ => return Ok(revision),
            }
        }
    }

    /// Copies changes from `revision` on, those of one revision in one transaction where they fit.
    async fn follow(&self, revision: i64) -> Result<(), Failure> {
        let request = pb::WatchCreateRequest {
            key: if self.prefix.is_empty() {
                Bytes::from_static(b"\0")
            } else {
                self.prefix.clone()
            },
            range_end: prefix_end(&self.prefix),
            start_revision: revision,
            ..Default::default()
        };
        let mut watching = Watching::new(Rc::clone(&self.source), request);
        loop {
            let told = watching.next().await?;
            if told.canceled {
                return Err(Failure::error(why_canceled(&told)));
            }
            let (mut operations, mut last) = (Vec::new(), 0);
            for event in &told.events {
                let kv = event.kv.clone().unwrap_or_default();
                if (last != 0 && kv.mod_revision > last) || operations.len() == self.operations_max
                {
                    self.apply(std::mem::take(&mut operations)).await?;
                }
                last = kv.mod_revision;
                let key = self.renamed(&kv.key);
                operations.push(match event.r#type() {
                    EventType::Put => Request::RequestPut(pb::PutRequest {
                        key,
                        value: kv.value,
                        ..Default::default()
                    }),
                    EventType::Delete => Request::RequestDeleteRange(pb::DeleteRangeRequest {
                        key,
                        ..Default::default()
                    }),
                });
            }
            self.apply(operations).await?;
        }
    }

    async fn apply(&self, operations: Vec<Request>) -> Result<(), Failure> {
        if operations.is_empty() {
            return Ok(());
        }
        let count = operations.len() as u64;
        let success = operations
            .into_iter()
            .map(|request| pb::RequestOp { request: Some(request) })
            .collect();
        self.destination.call(&TXN, &pb::TxnRequest { success, ..Default::default() }).await?;
        self.copied.set(self.copied.get() + count);
        Ok(())
    }

    fn renamed(&self, key: &[u8]) -> Bytes {
        let rest = key.strip_prefix(&self.prefix[..]).unwrap_or(key);
        [&self.destination_prefix[..], rest].concat().into()
    }
}
