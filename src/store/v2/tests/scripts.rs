//! Runs the scripts in `src/store/v2/scripts`: one behaviour each, commands after `>`, below them what the store answers.
//! What stands there is what etcd 3.4 answers to the same requests. The whole file is compared.
//!
//! `URD_UPDATE_SCRIPTS=1` writes the answers as they are; then the difference is for a reviewer.
//!
//! ```text
//! set|create|in-order|update|swap PATH [VALUE] [dir] [refresh] [ttl=N] [value=V] [index=N]
//! delete|compare-delete PATH [dir] [recursive] [value=V] [index=N]
//! get PATH [recursive]
//! wait PATH INDEX [recursive] [hidden]
//! after N        time goes on by so many seconds
//! expire [N]     what is over by then goes, up to so many nodes
//! history N      so many events are kept from here on
//! statistics
//! ```

use std::fmt::Write as _;
use std::path::Path as FilePath;
use std::{env, fs};

use super::{Feed, SECOND, first_event};
use crate::store::v2::{Action, Error, Event, Interest, Node, Path, Request};

#[test]
fn scripts_give_what_they_say() {
    let folder = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("src/store/v2/scripts");
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

fn run(script: &str) -> String {
    let mut feed = Feed::new();
    let mut answered = String::new();
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            answered += &format!("{line}\n{}", answer(&mut feed, command));
        } else if line.is_empty() || line.starts_with('#') {
            answered += &format!("{line}\n");
        }
    }
    feed.finish();
    answered
}

fn answer(feed: &mut Feed, command: &str) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    let number = |at: usize| words.get(at).map(|word| word.parse::<u64>().expect("a number"));
    let has = |word: &str| words.contains(&word);
    let path = words.get(1).copied().unwrap_or_default();
    match words[0] {
        "after" => feed.now += number(1).expect("seconds") as i64 * SECOND,
        "history" => feed.history = number(1).expect("events"),
        "expire" => return format!("{} expired\n", feed.expire(number(1).unwrap_or(u64::MAX))),
        "get" => {
            let now = feed.now;
            let view = feed.view();
            return match view.v2_get(&Path::new(path), has("recursive"), now) {
                Ok(event) => show_tree(&event.node, 0),
                Err(error) => show_error(&error),
            };
        }
        "wait" => {
            let (recursive, hidden) = (has("recursive"), has("hidden"));
            let interest = Interest { path: Path::new(path), recursive, hidden };
            let view = feed.view();
            return match first_event(&view, &interest, number(2).expect("an index")) {
                Ok(Some(event)) => show(&event),
                Ok(None) => "not yet\n".to_owned(),
                Err(error) => show_error(&error),
            };
        }
        "statistics" => return format!("{:#?}\n", feed.view().v2_statistics()),
        _ => {
            let request = parse(&words, feed.now);
            return match feed.apply(request) {
                Ok(event) => show(&event),
                Err(error) => show_error(&error),
            };
        }
    }
    String::new()
}

fn parse(words: &[&str], now: i64) -> Request {
    let action = match words[0] {
        "set" => Action::Set,
        "create" => Action::Create,
        "in-order" => Action::CreateInOrder,
        "update" => Action::Update,
        "swap" => Action::CompareAndSwap,
        "delete" => Action::Delete,
        "compare-delete" => Action::CompareAndDelete,
        other => panic!("no such command: {other}"),
    };
    let mut request =
        Request { action: action.into(), path: words[1].to_owned(), ..Request::default() };
    for word in &words[2..] {
        match word.split_once('=') {
            Some(("ttl", ttl)) => {
                let ttl: i64 = ttl.parse().expect("seconds");
                request.expiration = Some(now + ttl * SECOND);
            }
            Some(("value", value)) => request.prev_value = value.to_owned().into(),
            Some(("index", index)) => request.prev_index = index.parse().expect("an index"),
            _ if *word == "dir" => request.dir = true,
            _ if *word == "recursive" => request.recursive = true,
            _ if *word == "refresh" => request.refresh = true,
            _ => request.value = (*word).to_owned().into(),
        }
    }
    request
}

fn show(event: &Event) -> String {
    let mut line =
        format!("{} at {}: {}", event.action.name(), event.index, show_node(&event.node));
    if let Some(before) = &event.prev_node {
        write!(line, ", was {}", show_node(before)).expect("a String grows");
    }
    if event.is_created() {
        line += ", new";
    }
    line + "\n"
}

fn show_node(node: &Node) -> String {
    let mut text = node.key.clone();
    if node.dir {
        text += "/";
    }
    if let Some(value) = &node.value {
        write!(text, " \"{}\"", value.escape_ascii()).expect("a String grows");
    }
    write!(text, " {}..{}", node.created_index, node.modified_index).expect("a String grows");
    if node.expiration.is_some() {
        write!(text, " ttl {}", node.ttl).expect("a String grows");
    }
    text
}

fn show_tree(node: &Node, depth: usize) -> String {
    let mut text = format!("{}{}\n", "  ".repeat(depth), show_node(node));
    node.nodes.iter().for_each(|child| text += &show_tree(child, depth + 1));
    text
}

fn show_error(error: &Error) -> String {
    let (code, cause) = (error.code, &error.cause);
    format!("error {} {} ({cause}) at {}\n", code.number(), code.message(), error.index)
}
