//! `get`, `set`, `mk`, `update`, `rm`, `ls`, and those of directories.

use std::io::Read;

use clap::Args;

use super::http::{Request, escape_path, form};
use super::node::{Node, Response, print};
use super::{Global, plainly, wrong};
use crate::failure::Failure;
use crate::go;

const PREFIX: &str = "/v2/keys";

#[derive(Debug, Args)]
#[command(override_usage = "urdctl get [options] <key>")]
pub(crate) struct GetArgs {
    #[arg(value_name = "KEY")]
    words: Vec<String>,
    /// Sort what a directory holds
    #[arg(long)]
    sort: bool,
    /// Let a majority confirm it
    #[arg(short, long)]
    quorum: bool,
}

#[derive(Debug, Args)]
#[command(override_usage = "urdctl ls [options] [key]")]
pub(crate) struct LsArgs {
    #[arg(value_name = "KEY")]
    words: Vec<String>,
    /// Sort what is listed
    #[arg(long)]
    sort: bool,
    /// What is in the directories below, too
    #[arg(short, long)]
    recursive: bool,
    /// Directories with a slash behind them
    #[arg(short = 'p')]
    slash: bool,
    /// Let a majority confirm it
    #[arg(short, long)]
    quorum: bool,
}

#[derive(Debug, Args)]
#[command(override_usage = "urdctl set [options] <key> <value>")]
pub(crate) struct SetArgs {
    /// `KEY [VALUE]`; without VALUE it is read from standard input
    #[arg(value_name = "KEY")]
    words: Vec<String>,
    /// Seconds until the key ends
    #[arg(long, default_value = "0", value_parser = go::flag_number)]
    ttl: i64,
    /// Only if this is the value now
    #[arg(long, default_value = "", hide_default_value = true, value_name = "VALUE")]
    swap_with_value: String,
    /// Only if this is the index of the last change
    #[arg(long, default_value = "0", value_parser = go::flag_number, value_name = "INDEX")]
    swap_with_index: i64,
}

#[derive(Debug, Args)]
#[command(override_usage = "urdctl mk [options] <key> <value>")]
pub(crate) struct MkArgs {
    /// `KEY [VALUE]`; without VALUE it is read from standard input
    #[arg(value_name = "KEY")]
    words: Vec<String>,
    /// Make a key below the directory KEY, named so that such keys are in the order in which they were made
    #[arg(long)]
    in_order: bool,
    /// Seconds until the key ends
    #[arg(long, default_value = "0", value_parser = go::flag_number)]
    ttl: i64,
}

#[derive(Debug, Args)]
#[command(override_usage = "urdctl update [options] <key> <value>")]
pub(crate) struct UpdateArgs {
    /// `KEY [VALUE]`; without VALUE it is read from standard input
    #[arg(value_name = "KEY")]
    words: Vec<String>,
    /// Seconds until the key ends
    #[arg(long, default_value = "0", value_parser = go::flag_number)]
    ttl: i64,
}

#[derive(Debug, Args)]
pub(crate) struct DirArgs {
    #[arg(value_name = "KEY")]
    words: Vec<String>,
    /// Seconds until the directory ends, with all in it
    #[arg(long, default_value = "0", value_parser = go::flag_number)]
    ttl: i64,
}

#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[arg(value_name = "KEY")]
    words: Vec<String>,
}

#[derive(Debug, Args)]
#[command(override_usage = "urdctl rm [options] <key>")]
pub(crate) struct RmArgs {
    #[arg(value_name = "KEY")]
    words: Vec<String>,
    /// Also an empty directory
    #[arg(long)]
    dir: bool,
    /// A directory with all that is in it
    #[arg(short, long)]
    recursive: bool,
    /// Only if this is the value now
    #[arg(long, default_value = "", hide_default_value = true, value_name = "VALUE")]
    with_value: String,
    /// Only if this is the index of the last change
    #[arg(long, default_value = "0", value_parser = go::flag_number, value_name = "INDEX")]
    with_index: i64,
}

pub(crate) fn get(global: &Global, args: &GetArgs) -> Result<(), Failure> {
    let key = key_of(&args.words)?;
    let response = read(global, key, args.sort, false, args.quorum)?;
    if response.node.dir {
        return Err(plainly(format!("{}: is a directory", response.node.key)));
    }
    response.print(&global.output)
}

pub(crate) fn list(global: &Global, args: &LsArgs) -> Result<(), Failure> {
    let key = args.words.first().map_or("/", |key| &key[..]);
    let response = read(global, key, args.sort, args.recursive, args.quorum)?;
    if global.output != "simple" {
        return response.print(&global.output);
    }
    let mut text = String::new();
    if !response.node.dir {
        text += &format!("{}\n", response.node.key);
    }
    for node in response.node.nodes.iter().flatten() {
        list_below(node, args.slash, &mut text);
    }
    print(&text)
}

fn list_below(node: &Node, slash: bool, text: &mut String) {
    let slash_behind = if node.dir && slash { "/" } else { "" };
    *text += &format!("{}{slash_behind}\n", node.key);
    for node in node.nodes.iter().flatten() {
        list_below(node, slash, text);
    }
}

fn read(
    global: &Global,
    key: &str,
    sorted: bool,
    recursive: bool,
    quorum: bool,
) -> Result<Response, Failure> {
    let query = form(&[
        ("quorum", quorum.to_string()),
        ("recursive", recursive.to_string()),
        ("sorted", sorted.to_string()),
    ]);
    let request =
        Request { method: "GET", path: format!("{}?{query}", path_of(key)), ..Default::default() };
    Response::read(&global.client()?.send(&request)?)
}

pub(crate) fn set(global: &Global, args: &SetArgs) -> Result<(), Failure> {
    let (key, value) = key_and_value(&args.words)?;
    let mut query = Vec::new();
    if args.swap_with_index != 0 {
        query.push(("prevIndex", args.swap_with_index.to_string()));
    }
    if !args.swap_with_value.is_empty() {
        query.push(("prevValue", args.swap_with_value.clone()));
    }
    write(global, "PUT", key, &query, &body(Some(value), args.ttl))?.print(&global.output)
}

pub(crate) fn make(global: &Global, args: &MkArgs) -> Result<(), Failure> {
    let (key, value) = key_and_value(&args.words)?;
    let body = body(Some(value), args.ttl);
    let response = if args.in_order {
        write(global, "POST", key, &[], &body)
    } else {
        write(global, "PUT", key, &[("prevExist", "false".to_owned())], &body)
    };
    response?.print(&global.output)
}

pub(crate) fn update(global: &Global, args: &UpdateArgs) -> Result<(), Failure> {
    let (key, value) = key_and_value(&args.words)?;
    let query = [("prevExist", "true".to_owned())];
    write(global, "PUT", key, &query, &body(Some(value), args.ttl))?.print(&global.output)
}

/// Makes or changes a directory; `exists` says whether it must be there already, or must not.
pub(crate) fn directory(
    global: &Global,
    args: &DirArgs,
    exists: Option<bool>,
) -> Result<(), Failure> {
    let key = key_of(&args.words)?;
    let mut query = vec![("dir", "true".to_owned())];
    query.extend(exists.map(|exists| ("prevExist", exists.to_string())));
    let response = write(global, "PUT", key, &query, &body(None, args.ttl))?;
    if global.output == "simple" { Ok(()) } else { response.print(&global.output) }
}

pub(crate) fn remove(global: &Global, args: &RmArgs) -> Result<(), Failure> {
    let key = key_of(&args.words)?;
    let mut query = Vec::new();
    if args.dir {
        query.push(("dir", "true".to_owned()));
    }
    if args.with_index != 0 {
        query.push(("prevIndex", args.with_index.to_string()));
    }
    if !args.with_value.is_empty() {
        query.push(("prevValue", args.with_value.clone()));
    }
    if args.recursive {
        query.push(("recursive", "true".to_owned()));
    }
    print_removed(global, &write(global, "DELETE", key, &query, &[])?)
}

pub(crate) fn remove_directory(global: &Global, args: &KeyArgs) -> Result<(), Failure> {
    let key = key_of(&args.words)?;
    print_removed(global, &write(global, "DELETE", key, &[("dir", "true".to_owned())], &[])?)
}

fn print_removed(global: &Global, response: &Response) -> Result<(), Failure> {
    if response.node.dir && global.output == "simple" {
        return Ok(());
    }
    response.print(&global.output)
}

fn body(value: Option<String>, ttl: i64) -> Vec<(&'static str, String)> {
    let mut pairs: Vec<(&str, String)> = Vec::new();
    if ttl > 0 {
        pairs.push(("ttl", ttl.to_string()));
    }
    pairs.extend(value.map(|value| ("value", value)));
    pairs
}

fn write(
    global: &Global,
    method: &'static str,
    key: &str,
    query: &[(&str, String)],
    body: &[(&str, String)],
) -> Result<Response, Failure> {
    let mut path = path_of(key);
    if !query.is_empty() {
        path += &format!("?{}", form(query));
    }
    let request = Request {
        method,
        path,
        headers: vec![("Content-Type", "application/x-www-form-urlencoded".to_owned())],
        body: form(body).into_bytes(),
    };
    Response::read(&global.client()?.send(&request)?)
}

pub(crate) fn key_of(words: &[String]) -> Result<&str, Failure> {
    words.first().map(|key| &key[..]).ok_or_else(|| wrong("key required"))
}

fn key_and_value(words: &[String]) -> Result<(&str, String), Failure> {
    let key = key_of(words)?;
    if let Some(value) = words.get(1) {
        return Ok((key, value.clone()));
    }
    let mut value = String::new();
    match std::io::stdin().read_to_string(&mut value) {
        Ok(_) if !value.is_empty() => Ok((key, value)),
        _ => Err(wrong("value required")),
    }
}

/// The path of a key.
pub(crate) fn path_of(key: &str) -> String {
    escape_path(&canonical(&format!("{PREFIX}/{}", key.strip_prefix('/').unwrap_or(key))))
}

/// A path without empty parts, `.` and `..`; a slash at its end stays.
pub(crate) fn canonical(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let slash = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{slash}", parts.join("/"))
}

#[test]
fn keys_have_one_path() {
    assert_eq!(path_of("message"), "/v2/keys/message");
    assert_eq!(path_of("//a/./b/../c/"), "/v2/keys/a/c/");
    assert_eq!(path_of("/"), "/v2/keys/");
    assert_eq!(canonical("a*"), "/a*");
}
