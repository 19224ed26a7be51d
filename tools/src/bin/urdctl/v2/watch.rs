//! `watch` and `exec-watch`: long polls, one after the other.

use std::ffi::OsString;

use clap::Args;

use super::client::Client;
use super::http::{Request, form};
use super::keys::{key_of, path_of};
use super::node::{Response, print};
use super::{Global, wrong};
use crate::failure::Failure;
use crate::go;
use crate::process::{self, Ended};

#[derive(Debug, Args)]
#[command(override_usage = "urdctl watch [options] <key>")]
pub(crate) struct WatchArgs {
    #[arg(value_name = "KEY")]
    words: Vec<String>,
    /// Go on after the first change, until interrupted
    #[arg(short, long)]
    forever: bool,
    /// Begin with what changed after this index
    #[arg(long, default_value = "0", value_parser = go::flag_number, value_name = "INDEX")]
    after_index: i64,
    /// All keys below, too
    #[arg(short, long)]
    recursive: bool,
}

/// The program finds ETCD_WATCH_ACTION, ETCD_WATCH_MODIFIED_INDEX, ETCD_WATCH_KEY and ETCD_WATCH_VALUE in its environment.
#[derive(Debug, Args)]
#[command(override_usage = "urdctl exec-watch [options] <key> -- <command> [args...]")]
pub(crate) struct ExecWatchArgs {
    #[arg(value_name = "KEY")]
    words: Vec<OsString>,
    /// The program and its arguments
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
    /// Begin with what changed after this index
    #[arg(long, default_value = "0", value_parser = go::flag_number, value_name = "INDEX")]
    after_index: i64,
    /// All keys below, too
    #[arg(short, long)]
    recursive: bool,
}

/// Changes of a key, one after the other.
struct Watcher {
    client: Client,
    path: String,
    recursive: bool,
    /// Nothing yet: what comes next.
    index: u64,
}

impl Watcher {
    fn new(client: Client, key: &str, recursive: bool, after_index: i64) -> Watcher {
        let index = u64::try_from(after_index).ok().filter(|index| *index > 0);
        let index = index.map_or(0, |index| index + 1);
        Watcher { client, path: path_of(key), recursive, index }
    }

    fn next(&mut self) -> Result<Response, Failure> {
        loop {
            let query = form(&[
                ("recursive", self.recursive.to_string()),
                ("wait", "true".to_owned()),
                ("waitIndex", self.index.to_string()),
            ]);
            let request = Request {
                method: "GET",
                path: format!("{}?{query}", self.path),
                ..Default::default()
            };
            let answer = self.client.send_for(&request, true)?;
            // The server ends a poll that has waited long enough with an empty answer.
            if answer.status == 200 && answer.body.trim_ascii().is_empty() {
                continue;
            }
            let response = Response::read(&answer)?;
            self.index = response.node.modified_index + 1;
            return Ok(response);
        }
    }
}

pub(crate) fn watch(global: &Global, args: &WatchArgs) -> Result<(), Failure> {
    let key = key_of(&args.words)?;
    end_on_interrupt()?;
    let mut watcher = Watcher::new(global.client()?, key, args.recursive, args.after_index);
    loop {
        let response = watcher.next()?;
        if response.node.dir {
            continue;
        }
        if args.recursive {
            print(&format!("[{}] {}\n", response.action, response.node.key))?;
        }
        response.print(&global.output)?;
        if !args.forever {
            return Ok(());
        }
    }
}

pub(crate) fn exec_watch(global: &Global, args: ExecWatchArgs) -> Result<(), Failure> {
    let mut words = args.words.into_iter();
    let key = words.next();
    let program: Vec<OsString> = words.chain(args.program).collect();
    let (Some(key), false) = (key, program.is_empty()) else {
        return Err(wrong("key and command to exec required"));
    };
    end_on_interrupt()?;
    let key = key.to_string_lossy().into_owned();
    let mut watcher = Watcher::new(global.client()?, &key, args.recursive, args.after_index);
    loop {
        let response = watcher.next()?;
        if response.node.dir {
            eprintln!("Ignored dir {} change", response.node.key);
            continue;
        }
        let variables = [
            ("ETCD_WATCH_ACTION", response.action.into()),
            ("ETCD_WATCH_MODIFIED_INDEX", response.node.modified_index.to_string().into()),
            ("ETCD_WATCH_KEY", response.node.key.into()),
            ("ETCD_WATCH_VALUE", response.node.value.into()),
        ];
        let words = program.clone();
        // Changes do not wait for the programs of those before.
        std::thread::spawn(move || {
            let ended = process::run(&words, &variables);
            if matches!(ended, Ended::NotStarted(_)) {
                eprintln!("Error:  {}", ended.reason(&words));
                std::process::exit(1);
            }
        });
    }
}

/// Ctrl-C is how one ends a watch, and no failure.
fn end_on_interrupt() -> Result<(), Failure> {
    let signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT]);
    let mut signals = signals
        .map_err(|error| Failure::with_code(1, format!(" cannot wait for signals: {error}")))?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            std::process::exit(0);
        }
    });
    Ok(())
}
