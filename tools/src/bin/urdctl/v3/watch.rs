//! `watch`: prints events, or runs a program for each of them; `-i` reads its watches from standard input.

use std::ffi::OsString;
use std::io::BufRead;
use std::rc::Rc;

use clap::{Args, CommandFactory, FromArgMatches, Parser};
use tokio::sync::mpsc;
use urd_proto::etcdserverpb as pb;

use super::bytes_of;
use super::client::{Client, prefix_end};
use super::global::Global;
use super::print::{Printer, put_text};
use super::txn_text;
use super::watching::{Requests, Watching, is_progress, why_canceled};
use crate::failure::Failure;
use crate::{go, options, process};

const NUMBER: &str = "bad number of arguments";

/// Watch a key or a range of keys
///
/// KEY and RANGE_END may also be ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END. A program behind `--` is run for each event, with
/// ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and ETCD_WATCH_VALUE in its environment.
///
/// With -i each line of standard input is a watch (`watch [options] KEY [RANGE_END] [-- PROGRAM...]`) or `progress`.
#[derive(Debug, Args)]
#[command(
    override_usage = "urdctl watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]"
)]
pub(crate) struct WatchArgs {
    /// `KEY [RANGE_END]`; the range does not hold its end
    #[arg(value_name = "KEY")]
    words: Vec<OsString>,
    /// The program to run for each event, and its arguments
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
    /// Read watches from standard input
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Args)]
struct Flags {
    /// All keys that begin with KEY
    #[arg(long)]
    prefix: bool,
    /// The revision to begin at; 0 means what comes from now on
    #[arg(long, default_value = "0", value_parser = go::flag_number)]
    rev: i64,
    /// Print each pair as it was before, too
    #[arg(long)]
    prev_kv: bool,
    /// Let the server say now and then how far it is
    #[arg(long)]
    progress_notify: bool,
}

/// A line of `watch -i`.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Line {
    words: Vec<OsString>,
    #[arg(last = true)]
    program: Vec<OsString>,
    #[command(flatten)]
    flags: Flags,
}

/// The watch that the environment asks for.
struct FromEnvironment {
    key: Option<OsString>,
    end: Option<OsString>,
}

impl FromEnvironment {
    fn read() -> Result<FromEnvironment, Failure> {
        let read = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let (key, end) = (read("ETCDCTL_WATCH_KEY"), read("ETCDCTL_WATCH_RANGE_END"));
        match &end {
            Some(end) if key.is_none() => Err(Failure::bad_arguments(format!(
                "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={}",
                go::quote(end.to_string_lossy().as_bytes())
            ))),
            _ => Ok(FromEnvironment { key, end }),
        }
    }

    /// `words`, or what the environment has instead of them.
    fn or(&self, words: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
        match &self.key {
            None => Ok(words),
            Some(_) if !words.is_empty() => Err(Failure::bad_arguments(
                "bad number of arguments (found conflicting environment key)",
            )),
            Some(key) => Ok([key.clone()].into_iter().chain(self.end.clone()).collect()),
        }
    }
}

pub(crate) async fn run(global: &Global, args: WatchArgs) -> Result<(), Failure> {
    let environment = FromEnvironment::read()?;
    let printer = global.printer()?;
    let client = Rc::new(Client::new(global)?);
    if args.interactive {
        return interact(&client, printer, &environment).await;
    }
    if args.program.is_empty() && std::env::args_os().any(|argument| argument == "--") {
        return Err(Failure::bad_arguments(
            "bad number of arguments (found separator --, but no commands)",
        ));
    }
    let request = request(environment.or(args.words)?, &args.flags)?;
    print_events(Watching::new(client, request), printer, &args.program).await?;
    Err(Failure::interrupted("watch is canceled by the server"))
}

fn request(words: Vec<OsString>, flags: &Flags) -> Result<pb::WatchCreateRequest, Failure> {
    if words.is_empty() || words.len() > 2 {
        return Err(Failure::bad_arguments(NUMBER));
    }
    let mut words = words.into_iter().map(bytes_of);
    let (mut key, end) = (words.next().unwrap_or_default(), words.next());
    if end.is_some() && flags.prefix {
        return Err(Failure::bad_arguments("`range_end` and `--prefix` are mutually exclusive"));
    }
    let range_end = match end {
        Some(end) => end,
        None if flags.prefix => prefix_end(&key),
        None => bytes::Bytes::new(),
    };
    if key.is_empty() {
        // There is no empty key; a range from it begins at the first.
        key = bytes::Bytes::from_static(b"\0");
    }
    Ok(pb::WatchCreateRequest {
        key,
        range_end,
        start_revision: flags.rev,
        prev_kv: flags.prev_kv,
        progress_notify: flags.progress_notify,
        ..Default::default()
    })
}

/// Prints what a watch tells until it ends.
async fn print_events(
    mut watching: Watching,
    printer: Printer,
    program: &[OsString],
) -> Result<(), Failure> {
    loop {
        let answer = watching.next().await?;
        if answer.canceled {
            eprintln!("watch was canceled ({})", why_canceled(&answer));
        }
        if is_progress(&answer) {
            let revision = answer.header.unwrap_or_default().revision;
            put_text(&format!("progress notify: {revision}\n"))?;
        }
        printer.watch(&answer)?;
        if !program.is_empty() {
            run_for_events(program, &answer).await?;
        }
        if answer.canceled {
            return Ok(());
        }
    }
}

async fn run_for_events(program: &[OsString], answer: &pb::WatchResponse) -> Result<(), Failure> {
    let revision = answer.header.unwrap_or_default().revision;
    for event in &answer.events {
        let kv = event.kv.clone().unwrap_or_default();
        let kind = super::print::event_type(event);
        let variables = [
            ("ETCD_WATCH_REVISION", revision.to_string().into()),
            ("ETCD_WATCH_EVENT_TYPE", go::quote(kind.as_bytes()).into()),
            ("ETCD_WATCH_KEY", go::quote(&kv.key).into()),
            ("ETCD_WATCH_VALUE", go::quote(&kv.value).into()),
        ];
        let words = program.to_vec();
        // In a thread: meanwhile the connection is to be kept alive.
        let ran = tokio::task::spawn_blocking(move || process::run(&words, &variables)).await;
        let ended = ran.map_err(|error| Failure::error(format!("{error}")))?;
        if ended.code() != 0 {
            let words: Vec<String> =
                program.iter().map(|word| go::quote(word.to_string_lossy().as_bytes())).collect();
            eprintln!("command [{}] error ({})", words.join(" "), ended.reason(program));
            return Err(Failure::silent(1));
        }
    }
    Ok(())
}

/// What a line of `watch -i` asks for.
enum Asked {
    Watch(Line),
    Progress,
    /// Nothing; the reason has been printed.
    Nothing,
}

async fn interact(
    client: &Rc<Client>,
    printer: Printer,
    environment: &FromEnvironment,
) -> Result<(), Failure> {
    let mut lines = lines_of_stdin();
    let (failed, mut failures) = mpsc::unbounded_channel();
    let mut running: Vec<Requests> = Vec::new();
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            Some(failure) = failures.recv() => return Err(failure),
        };
        let Some(line) = line else {
            return Err(Failure::invalid_input("error reading watch request line: EOF"));
        };
        match read_line(&line, environment)? {
            Asked::Nothing => {}
            Asked::Progress => running.iter().for_each(Requests::progress),
            Asked::Watch(line) => match request(environment.or(line.words)?, &line.flags) {
                Err(failure) => {
                    let why = failure.text().unwrap_or_default();
                    eprintln!("Invalid command ({why})");
                }
                Ok(request) => {
                    let watching = Watching::new(Rc::clone(client), request);
                    running.push(watching.requests());
                    let failed = failed.clone();
                    tokio::task::spawn_local(async move {
                        if let Err(failure) = print_events(watching, printer, &line.program).await {
                            // The reader of lines has ended already otherwise.
                            failed.send(failure).ok();
                        }
                    });
                }
            },
        }
    }
}

fn read_line(line: &[u8], environment: &FromEnvironment) -> Result<Asked, Failure> {
    let text = String::from_utf8_lossy(line);
    let mut words = txn_text::split(line)?;
    let verb = if words.is_empty() { None } else { Some(words.remove(0)) };
    match verb.as_ref().and_then(|verb| verb.to_str()) {
        Some("progress") => Ok(Asked::Progress),
        Some("watch") if words.is_empty() && environment.key.is_none() => {
            eprintln!("Invalid command {text} (command type or key is not provided)");
            Ok(Asked::Nothing)
        }
        Some("watch") => {
            if words.last().is_some_and(|word| word == "--") {
                return Err(Failure::bad_arguments(
                    "bad number of arguments (found separator --, but no commands)",
                ));
            }
            let parsed = options::with_gos_manners(Line::command())
                .try_get_matches_from(words)
                .and_then(|matches| Line::from_arg_matches(&matches));
            let parsed = parsed.map_err(|error| {
                let text = error.render().to_string();
                Failure::bad_arguments(text.trim_start_matches("error: ").trim_end())
            })?;
            if parsed.words.is_empty() && environment.key.is_none() {
                return Err(Failure::bad_arguments(NUMBER));
            }
            Ok(Asked::Watch(parsed))
        }
        Some(_) => {
            eprintln!("Invalid command {text} (only support watch)");
            Ok(Asked::Nothing)
        }
        None => {
            eprintln!("Invalid command: {text} (watch and progress supported)");
            Ok(Asked::Nothing)
        }
    }
}

/// Standard input's lines, read by a thread.
fn lines_of_stdin() -> mpsc::UnboundedReceiver<Vec<u8>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        loop {
            let mut line = Vec::new();
            match input.read_until(b'\n', &mut line) {
                Ok(length) if length > 0 && line.last() == Some(&b'\n') => {
                    line.pop();
                }
                _ => return,
            }
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
