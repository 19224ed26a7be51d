//! Runs the scripts in `src/store/scripts`: one behaviour each, commands after `>`, below them what
//! the store answers. The whole file is compared.
//!
//! `URD_UPDATE_SCRIPTS=1` writes the answers as they are; then the difference is for a reviewer.
//!
//! ```text
//! put KEY VALUE [prev_kv] [ignore_value] [ignore_lease] [lease=N]
//! delete KEY [END] [prev_kv]
//! range KEY [END] [limit=N] [revision=N] [order=O] [target=T] [keys_only] [count_only]
//!       [min_mod=N] [max_mod=N] [min_create=N] [max_create=N]
//! txn, then deeper: `if TARGET KEY [END] RELATION VALUE`, `then` and `else`, each with operations
//! compact N      sweep N (looks at so many revisions)      records      hash [N]
//! grant LEASE TTL      revoke LEASE      leases      as of the entry before: expire LEASE...      checkpoint LEASE REMAINING
//! ```
//!
//! Keys: `*` as an end is the open one, `\0` a zero byte, `""` nothing.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use bytes::Bytes;
use urd_proto::etcdserverpb::compare::TargetUnion;
use urd_proto::etcdserverpb::request_op::Request;
use urd_proto::etcdserverpb::response_op;
use urd_proto::etcdserverpb::{
    Compare, DeleteRangeResponse, LeaseCheckpoint, LeaseGrantRequest, LeaseRevokeRequest,
    PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse,
};
use urd_proto::mvccpb::KeyValue;

use super::{Feed, compact, delete, op, put, range};
use crate::ids::LeaseId;
use crate::limits::TXN_OPS_DEFAULT;
use crate::store::command::{Command, LeaseCheckpoints, LeaseExpiry};
use crate::store::lease::Lease;
use crate::store::{Outcome, Response, View, validate};

#[test]
fn scripts_give_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/scripts");
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .expect("the scripts are there")
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let script = fs::read_to_string(&path).expect("readable");
        let answered = run(&script);
        if env::var_os("URD_UPDATE_SCRIPTS").is_some() {
            fs::write(&path, answered).expect("writable");
            continue;
        }
        assert_eq!(answered, script, "{} differs (left: as it is)", path.display());
    }
}

/// The script with the answers as they are.
fn run(script: &str) -> String {
    let mut feed = Feed::new();
    let mut answered = String::new();
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix("> ") else {
            // Old answers go; comments and the empty lines that divide commands stay.
            if line.is_empty() || line.starts_with('#') {
                answered.push_str(line);
                answered.push('\n');
            }
            continue;
        };
        let mut block = vec![command];
        while let Some(more) = lines.next_if(|line| line.starts_with(">   ")) {
            block.push(&more[2..]);
        }
        for line in &block {
            writeln!(answered, "> {line}").expect("a String grows");
        }
        answered.push_str(&answer(&mut feed, &block));
    }
    feed.finish();
    answered
}

fn answer(feed: &mut Feed, block: &[&str]) -> String {
    let words: Vec<&str> = block[0].split_whitespace().collect();
    let number = |at: usize| words.get(at).map_or(0, |word| word.parse().expect("a number"));
    match words[0] {
        "range" => {
            let Request::RequestRange(request) = operation(block) else { unreachable!() };
            let view = feed.view();
            match validate::range(&request).and_then(|()| view.range(&request)) {
                Ok(response) => show_range(&response, 0),
                Err(error) => format!("error: {error}\n"),
            }
        }
        "hash" => match feed.view().hash_kv(number(1)) {
            Ok(hash) => format!(
                "{:08x} to {} compacted {}\n",
                hash.hash, hash.revision, hash.compact_revision
            ),
            Err(error) => format!("error: {error}\n"),
        },
        "sweep" => {
            let is_done = feed.store.compact_slice(number(1) as usize);
            format!("{}\n", if is_done { "done" } else { "more to do" })
        }
        // Without the one that holds the store's numbers.
        "records" => format!("{}\n", feed.store.statistics().records - 1),
        "compact" => show(&feed.apply(&compact(number(1)))),
        "grant" => {
            let request = LeaseGrantRequest { id: number(1), ttl: number(2) };
            show(&feed.apply(&Command::LeaseGrant(request)))
        }
        "revoke" => {
            let request = LeaseRevokeRequest { id: number(1) };
            show(&feed.apply(&Command::LeaseRevoke(request)))
        }
        "expire" => {
            let leases = words[1..].iter().map(|word| word.parse().expect("a number")).collect();
            let request = LeaseExpiry { as_of: feed.index.0, leases };
            show(&feed.apply(&Command::LeaseExpiry(request)))
        }
        "checkpoint" => {
            let checkpoint = LeaseCheckpoint { id: number(1), remaining_ttl: number(2) };
            let request = LeaseCheckpoints { as_of: feed.index.0, checkpoints: vec![checkpoint] };
            show(&feed.apply(&Command::LeaseCheckpoints(request)))
        }
        "leases" => show_leases(&feed.view()),
        _ => {
            let (command, valid) = match operation(block) {
                Request::RequestPut(request) => {
                    let valid = validate::put(&request);
                    (Command::Put(request), valid)
                }
                Request::RequestDeleteRange(request) => {
                    let valid = validate::delete_range(&request);
                    (Command::DeleteRange(request), valid)
                }
                Request::RequestTxn(request) => {
                    let valid = validate::txn(&request, TXN_OPS_DEFAULT);
                    (Command::Txn(request), valid)
                }
                Request::RequestRange(_) => unreachable!(),
            };
            show(&valid.and_then(|()| feed.apply(&command)))
        }
    }
}

/// An operation from its lines, those below the first indented by two more.
fn operation(block: &[&str]) -> Request {
    let mut words = block[0].split_whitespace();
    let name = words.next().expect("a command");
    let (mut places, mut options) = (Vec::new(), Vec::new());
    for word in words {
        let is_option = word.contains('=')
            || ["prev_kv", "ignore_value", "ignore_lease", "keys_only", "count_only"]
                .contains(&word);
        if is_option { options.push(word) } else { places.push(key(word)) }
    }
    let place = |at: usize| places.get(at).map_or("", String::as_str);
    match name {
        "put" => Request::RequestPut(put_options(put(place(0), place(1)), &options)),
        "delete" => {
            let mut request = delete(place(0), place(1));
            request.prev_kv = options.contains(&"prev_kv");
            Request::RequestDeleteRange(request)
        }
        "range" => Request::RequestRange(range_options(range(place(0), place(1)), &options)),
        "txn" => Request::RequestTxn(txn(&block[1..])),
        other => panic!("no command is called {other}"),
    }
}

fn key(word: &str) -> String {
    match word {
        "*" => "\0".to_owned(),
        "\"\"" => String::new(),
        word => word.replace("\\0", "\0"),
    }
}

fn put_options(mut request: PutRequest, options: &[&str]) -> PutRequest {
    for option in options {
        match *option {
            "prev_kv" => request.prev_kv = true,
            "ignore_value" => request.ignore_value = true,
            "ignore_lease" => request.ignore_lease = true,
            option => {
                request.lease = option.strip_prefix("lease=").expect("lease").parse().expect("i64")
            }
        }
    }
    request
}

fn range_options(mut request: RangeRequest, options: &[&str]) -> RangeRequest {
    for option in options {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let number = || value.parse().expect("a number");
        match name {
            "limit" => request.limit = number(),
            "revision" => request.revision = number(),
            "order" => request.sort_order = index(&["none", "ascend", "descend"], value),
            "target" => {
                let targets = ["key", "version", "create", "mod", "value"];
                request.sort_target = index(&targets, value);
            }
            "keys_only" => request.keys_only = true,
            "count_only" => request.count_only = true,
            "min_mod" => request.min_mod_revision = number(),
            "max_mod" => request.max_mod_revision = number(),
            "min_create" => request.min_create_revision = number(),
            "max_create" => request.max_create_revision = number(),
            other => panic!("a range has no option {other}"),
        }
    }
    request
}

/// The place of a name; one past them all for another one, to try what is not in the enumeration.
fn index(names: &[&str], name: &str) -> i32 {
    names.iter().position(|&other| other == name).unwrap_or(names.len()) as i32
}

fn txn(lines: &[&str]) -> TxnRequest {
    let mut request = TxnRequest::default();
    let mut ops = None;
    let mut rest = lines;
    while let Some((first, more)) = rest.split_first() {
        let depth = indent(first);
        let inner = more.iter().take_while(|line| indent(line) > depth).count();
        let (block, after) = rest.split_at(1 + inner);
        rest = after;
        match first.trim() {
            "then" => ops = Some(&mut request.success),
            "else" => ops = Some(&mut request.failure),
            line => request.compare.push(compare(line)),
        }
        let Some(ops) = ops.take() else { continue };
        let mut below = &block[1..];
        while let Some((first, more)) = below.split_first() {
            let depth = indent(first);
            let inner = more.iter().take_while(|line| indent(line) > depth).count();
            let (block, after) = below.split_at(1 + inner);
            below = after;
            ops.push(op(operation(block)));
        }
    }
    request
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn compare(line: &str) -> Compare {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (target, from, end, relation, value) = match words[..] {
        ["if", target, from, relation, value] => (target, from, "\"\"", relation, value),
        ["if", target, from, end, relation, value] => (target, from, end, relation, value),
        _ => panic!("not a compare: {line}"),
    };
    let number = || value.parse().expect("a number");
    let union = match target {
        "version" => TargetUnion::Version(number()),
        "create" => TargetUnion::CreateRevision(number()),
        "mod" => TargetUnion::ModRevision(number()),
        "lease" => TargetUnion::Lease(number()),
        _ => TargetUnion::Value(Bytes::from(key(value))),
    };
    Compare {
        result: index(&["=", ">", "<", "!="], relation),
        target: index(&["version", "create", "mod", "value", "lease"], target),
        key: Bytes::from(key(from)),
        range_end: Bytes::from(key(end)),
        target_union: Some(union),
    }
}

fn show(outcome: &Outcome) -> String {
    match outcome {
        Err(error) => format!("error: {error}\n"),
        Ok(Response::Put(response)) => show_put(response, 0),
        Ok(Response::DeleteRange(response)) => show_delete(response, 0),
        Ok(Response::Txn(response)) => show_txn(response, 0),
        Ok(Response::Compaction(response)) => format!("compacted{}\n", at(&response.header)),
        Ok(Response::LeaseGrant(response)) => {
            format!("granted {} for {}{}\n", response.id, response.ttl, at(&response.header))
        }
        Ok(Response::LeaseRevoke(response)) => format!("revoked{}\n", at(&response.header)),
        Ok(Response::LeaseCheckpoints | Response::LeaseExpiry | Response::Alarm(_)) => {
            "done\n".to_owned()
        }
        Ok(_) => unreachable!("scripts make no members"),
    }
}

fn show_leases(view: &View) -> String {
    let mut text = String::new();
    let all = view.for_each_lease(LeaseId(i64::MIN), usize::MAX, |id, lease| {
        let Lease { ttl, remaining, .. } = lease;
        write!(text, "{} of {ttl}, checkpointed {remaining}:", id.0).expect("a String grows");
        view.for_each_attached(id, &[], usize::MAX, |key| {
            write!(text, " {}", key.escape_ascii()).expect("a String grows");
        });
        text.push('\n');
    });
    assert_eq!(all, None);
    text
}

fn at(header: &Option<ResponseHeader>) -> String {
    header.map_or(" without header".to_owned(), |header| format!(" at {}", header.revision))
}

fn show_kv(kv: &KeyValue) -> String {
    format!(
        "{} = {} (create {}, mod {}, version {})",
        kv.key.escape_ascii(),
        kv.value.escape_ascii(),
        kv.create_revision,
        kv.mod_revision,
        kv.version
    )
}

fn show_put(response: &PutResponse, depth: usize) -> String {
    let tab = " ".repeat(depth);
    let mut text = format!("{tab}put{}\n", at(&response.header));
    if let Some(kv) = &response.prev_kv {
        writeln!(text, "{tab}  before: {}", show_kv(kv)).expect("a String grows");
    }
    text
}

fn show_delete(response: &DeleteRangeResponse, depth: usize) -> String {
    let tab = " ".repeat(depth);
    let mut text = format!("{tab}deleted {}{}\n", response.deleted, at(&response.header));
    for kv in &response.prev_kvs {
        writeln!(text, "{tab}  before: {}", show_kv(kv)).expect("a String grows");
    }
    text
}

fn show_range(response: &RangeResponse, depth: usize) -> String {
    let tab = " ".repeat(depth);
    let more = if response.more { ", more" } else { "" };
    let mut text = format!("{tab}count {}{more}{}\n", response.count, at(&response.header));
    for kv in &response.kvs {
        writeln!(text, "{tab}  {}", show_kv(kv)).expect("a String grows");
    }
    text
}

fn show_txn(response: &TxnResponse, depth: usize) -> String {
    let tab = " ".repeat(depth);
    let result = if response.succeeded { "succeeded" } else { "failed" };
    let mut text = format!("{tab}{result}{}\n", at(&response.header));
    for response in &response.responses {
        text += &match response.response.as_ref().expect("each operation answers") {
            response_op::Response::ResponseRange(response) => show_range(response, depth + 2),
            response_op::Response::ResponsePut(response) => show_put(response, depth + 2),
            response_op::Response::ResponseDeleteRange(response) => {
                show_delete(response, depth + 2)
            }
            response_op::Response::ResponseTxn(response) => show_txn(response, depth + 2),
        };
    }
    text
}
