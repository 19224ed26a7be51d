//! `get`, `put`, `del`: their flags, and the requests those make. `txn` reads the same in its lines.

use std::ffi::OsString;
use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use urd_proto::etcdserverpb as pb;
use urd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};

use super::bytes_of;
use super::client::{Client, prefix_end};
use super::global::Global;
use super::methods::{DELETE_RANGE, PUT, RANGE, RANGE_STREAM};
use super::print::Format;
use crate::failure::Failure;
use crate::go;

/// How long `del` of a range waits for second thoughts.
const DELETION_DELAY: Duration = Duration::from_secs(2);

/// Get a key or a range of keys
#[derive(Debug, Args)]
#[command(override_usage = "urdctl get [options] <key> [range_end]")]
pub(crate) struct GetArgs {
    /// `KEY [RANGE_END]`; the range does not hold its end
    #[arg(value_name = "KEY")]
    words: Vec<OsString>,
    /// Linearizable (l) or serializable (s)
    #[arg(long, default_value = "l")]
    consistency: String,
    /// Order of results: ASCEND or DESCEND
    #[arg(long, default_value = "", hide_default_value = true)]
    order: String,
    /// What to sort by: CREATE, KEY, MODIFY, VALUE or VERSION
    #[arg(long, default_value = "", hide_default_value = true)]
    sort_by: String,
    /// The greatest number of results; 0 means all
    #[arg(long, default_value = "0", value_parser = go::flag_number)]
    limit: i64,
    /// All keys that begin with KEY
    #[arg(long)]
    prefix: bool,
    /// All keys from KEY on, by byte order
    #[arg(long)]
    from_key: bool,
    /// The revision to read at; 0 means the newest
    #[arg(long, default_value = "0", value_parser = go::flag_number)]
    rev: i64,
    /// Keys without their values
    #[arg(long)]
    keys_only: bool,
    /// Only the number of keys; with --write-out=fields
    #[arg(long)]
    count_only: bool,
    /// Values without their keys, in simple output
    #[arg(long)]
    print_value_only: bool,
    /// The least revision of creation
    #[arg(long, default_value = "0", value_parser = go::flag_number)]
    min_create_rev: i64,
    /// The greatest revision of creation
    #[arg(long, default_value = "0", value_parser = go::flag_number)]
    max_create_rev: i64,
    /// The least revision of the last change
    #[arg(long, default_value = "0", value_parser = go::flag_number)]
    min_mod_rev: i64,
    /// The greatest revision of the last change
    #[arg(long, default_value = "0", value_parser = go::flag_number)]
    max_mod_rev: i64,
    /// Use the RangeStream call, for ranges that are too large for one message
    #[arg(long)]
    stream: bool,
}

/// Put a key
///
/// Without VALUE and --ignore-value, the value is read from standard input. A value that begins with a dash goes behind
/// `--`: `urdctl put KEY -- -VALUE`.
#[derive(Debug, Args)]
#[command(override_usage = "urdctl put [options] <key> <value>")]
pub(crate) struct PutArgs {
    /// `KEY [VALUE]`
    #[arg(value_name = "KEY")]
    words: Vec<OsString>,
    /// The lease to attach the key to, in hexadecimal
    #[arg(long, default_value = "0")]
    lease: String,
    /// Print the pair as it was before
    #[arg(long)]
    prev_kv: bool,
    /// Keep the value
    #[arg(long)]
    ignore_value: bool,
    /// Keep the lease
    #[arg(long)]
    ignore_lease: bool,
}

/// Delete a key or a range of keys
#[derive(Debug, Args)]
#[command(override_usage = "urdctl del [options] <key> [range_end]")]
pub(crate) struct DelArgs {
    /// `KEY [RANGE_END]`; the range does not hold its end
    #[arg(value_name = "KEY")]
    words: Vec<OsString>,
    /// All keys that begin with KEY
    #[arg(long)]
    prefix: bool,
    /// Print the pairs that were deleted
    #[arg(long)]
    prev_kv: bool,
    /// All keys from KEY on, by byte order
    #[arg(long)]
    from_key: bool,
    /// Delete from KEY to RANGE_END without a delay
    #[arg(long)]
    range: bool,
}

pub(crate) async fn get(global: &Global, args: GetArgs) -> Result<(), Failure> {
    let mut printer = global.printer()?;
    let (count_only, value_only, stream) = (args.count_only, args.print_value_only, args.stream);
    let request = args.request()?;
    let client = Client::new(global)?;
    let answer = if stream {
        read_stream(&client, request, global.command_timeout).await?
    } else {
        client.call(&RANGE, &request).await?
    };
    if count_only && printer.format != Format::Fields {
        return Err(Failure::bad_arguments("--count-only is only for `--write-out=fields`"));
    }
    if value_only && printer.format != Format::Simple {
        return Err(Failure::bad_arguments("print-value-only is only for `--write-out=simple`"));
    }
    printer.value_only = value_only;
    printer.get(&answer)
}

/// All chunks of a stream as one answer.
async fn read_stream(
    client: &Client,
    request: pb::RangeRequest,
    timeout: Duration,
) -> Result<pb::RangeResponse, Failure> {
    let read = async {
        let mut stream = client.server_stream(&RANGE_STREAM, request).await?;
        let mut whole = pb::RangeResponse::default();
        let failed = |status| Failure::error(super::client::said(&status));
        while let Some(chunk) = stream.message().await.map_err(failed)? {
            let Some(chunk) = chunk.range_response else { continue };
            whole.header = chunk.header.or(whole.header);
            whole.more |= chunk.more;
            whole.count += chunk.count;
            whole.kvs.extend(chunk.kvs);
        }
        Ok(whole)
    };
    let timed_out =
        |_| Failure::error("context deadline exceeded; --command-timeout gives it longer");
    tokio::time::timeout(timeout, read).await.map_err(timed_out)?
}

pub(crate) async fn put(global: &Global, args: PutArgs) -> Result<(), Failure> {
    let printer = global.printer()?;
    let request = args.request()?;
    printer.put(&Client::new(global)?.call(&PUT, &request).await?)
}

pub(crate) async fn delete(global: &Global, args: DelArgs) -> Result<(), Failure> {
    let printer = global.printer()?;
    let request = args.request().await?;
    printer.delete(&Client::new(global)?.call(&DELETE_RANGE, &request).await?)
}

/// Where a range begins and ends.
struct Span {
    key: Bytes,
    end: Bytes,
}

fn span(words: Vec<OsString>, prefix: bool, from_key: bool) -> Result<Span, Failure> {
    let mut words = words.into_iter().map(bytes_of);
    let (key, end) = (words.next().unwrap_or_default(), words.next());
    if end.is_some() && (prefix || from_key) {
        return Err(Failure::bad_arguments(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
        ));
    }
    let all = Bytes::from_static(b"\0");
    Ok(match end {
        Some(end) => Span { key, end },
        None if key.is_empty() && (prefix || from_key) => Span { key: all.clone(), end: all },
        None if prefix => Span { end: prefix_end(&key), key },
        None if from_key => Span { key, end: all },
        None => Span { key, end: Bytes::new() },
    })
}

fn one_of_two(prefix: bool, from_key: bool) -> Result<(), Failure> {
    if prefix && from_key {
        return Err(Failure::bad_arguments(
            "`--prefix` and `--from-key` cannot be set at the same time, choose one",
        ));
    }
    Ok(())
}

/// Whether `--consistency` asks for a serializable read.
pub(crate) fn is_serializable(consistency: &str) -> Result<bool, Failure> {
    match consistency {
        "s" => Ok(true),
        "l" => Ok(false),
        other => Err(Failure::bad_feature(format!(
            "unknown consistency flag {}; it is l or s",
            go::quote(other.as_bytes())
        ))),
    }
}

impl GetArgs {
    pub(crate) fn request(self) -> Result<pb::RangeRequest, Failure> {
        if self.words.is_empty() {
            return Err(Failure::bad_arguments(
                "get command needs one argument as key and an optional argument as range_end",
            ));
        }
        one_of_two(self.prefix, self.from_key)?;
        if self.keys_only && self.count_only {
            return Err(Failure::bad_arguments(
                "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
            ));
        }
        let serializable = is_serializable(&self.consistency)?;
        let (sort_target, sort_order) = self.sorting()?;
        for (name, least, most) in [
            ("create", self.min_create_rev, self.max_create_rev),
            ("mod", self.min_mod_rev, self.max_mod_rev),
        ] {
            if most > 0 && least > most {
                return Err(Failure::bad_feature(format!(
                    "--min-{name}-rev={least} is greater than --max-{name}-rev={most}"
                )));
            }
        }
        let span = span(self.words, self.prefix, self.from_key)?;
        Ok(pb::RangeRequest {
            key: span.key,
            range_end: span.end,
            limit: self.limit,
            revision: self.rev.max(0),
            sort_order: sort_order.into(),
            sort_target: sort_target.into(),
            serializable,
            keys_only: self.keys_only,
            count_only: self.count_only,
            min_mod_revision: self.min_mod_rev.max(0),
            max_mod_revision: self.max_mod_rev.max(0),
            min_create_revision: self.min_create_rev.max(0),
            max_create_revision: self.max_create_rev.max(0),
        })
    }

    fn sorting(&self) -> Result<(SortTarget, SortOrder), Failure> {
        let order = match &self.order.to_uppercase()[..] {
            "ASCEND" => SortOrder::Ascend,
            "DESCEND" => SortOrder::Descend,
            "" => SortOrder::None,
            _ => return Err(Failure::bad_feature(format!("bad sort order {}", self.order))),
        };
        let target = match &self.sort_by.to_uppercase()[..] {
            "CREATE" => SortTarget::Create,
            "KEY" | "" => SortTarget::Key,
            "MODIFY" => SortTarget::Mod,
            "VALUE" => SortTarget::Value,
            "VERSION" => SortTarget::Version,
            _ => return Err(Failure::bad_feature(format!("bad sort target {}", self.sort_by))),
        };
        // Keys come in that order anyway, and a server that sorts reads all before it limits.
        match (target, order) {
            (SortTarget::Key, SortOrder::Ascend) => Ok((target, SortOrder::None)),
            other => Ok(other),
        }
    }
}

impl PutArgs {
    pub(crate) fn request(self) -> Result<pb::PutRequest, Failure> {
        const NUMBER: &str = "put command needs 1 argument and input from stdin or 2 arguments";
        let mut words = self.words.into_iter().map(bytes_of);
        let Some(key) = words.next() else { return Err(Failure::bad_arguments(NUMBER)) };
        let value = match words.next() {
            Some(_) if self.ignore_value => {
                return Err(Failure::bad_arguments(
                    "put command needs only 1 argument when 'ignore-value' is set",
                ));
            }
            Some(value) => value,
            None if self.ignore_value => Bytes::new(),
            None => {
                let mut value = Vec::new();
                let read = std::io::stdin().read_to_end(&mut value);
                read.map_err(|_| Failure::bad_arguments(NUMBER))?;
                value.into()
            }
        };
        let lease = go::parse_i64(&self.lease, 16).map_err(|error| {
            Failure::bad_arguments(format!("bad lease ID ({error}), expecting ID in Hex"))
        })?;
        Ok(pb::PutRequest {
            key,
            value,
            lease,
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        })
    }
}

impl DelArgs {
    pub(crate) async fn request(self) -> Result<pb::DeleteRangeRequest, Failure> {
        if self.words.is_empty() || self.words.len() > 2 {
            return Err(Failure::bad_arguments(
                "del command needs one argument as key and an optional argument as range_end",
            ));
        }
        one_of_two(self.prefix, self.from_key)?;
        let has_end = self.words.len() == 2;
        let span = span(self.words, self.prefix, self.from_key)?;
        if has_end && !self.range {
            eprintln!(
                "Warning: Keys between {} and {} will be deleted. Please interrupt the command within next 2 seconds to \
                 cancel. You can provide `--range` flag to avoid the delay.",
                go::quote(&span.key),
                go::quote(&span.end)
            );
            tokio::time::sleep(DELETION_DELAY).await;
        }
        Ok(pb::DeleteRangeRequest { key: span.key, range_end: span.end, prev_kv: self.prev_kv })
    }
}
