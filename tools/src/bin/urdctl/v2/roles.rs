//! `role add`, `get`, `list`, `remove`, `grant` and `revoke`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::strings;
use super::http::escape_path;
use super::keys::canonical;
use super::node::print;
use super::users::ask;
use super::{Global, plainly};
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// Add a role
    Add {
        #[arg(value_name = "ROLE")]
        words: Vec<String>,
    },
    /// Show what a role permits
    Get {
        #[arg(value_name = "ROLE")]
        words: Vec<String>,
    },
    /// List all roles
    List {
        #[arg(hide = true)]
        words: Vec<String>,
    },
    /// Remove a role
    Remove {
        #[arg(value_name = "ROLE")]
        words: Vec<String>,
    },
    /// Permit a role something
    Grant(PermissionArgs),
    /// Take a permission back
    Revoke(PermissionArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PermissionArgs {
    #[arg(value_name = "ROLE")]
    words: Vec<String>,
    /// The key; with a star at its end, all keys that begin so
    #[arg(long, default_value = "", hide_default_value = true)]
    path: String,
    /// Reading
    #[arg(long)]
    read: bool,
    /// Writing
    #[arg(long)]
    write: bool,
    /// Both
    #[arg(long, alias = "rw")]
    readwrite: bool,
}

pub(crate) fn run(global: &Global, command: &RoleCommand) -> Result<(), Failure> {
    match command {
        RoleCommand::Add { words } => add(global, one(words)?),
        RoleCommand::Get { words } => {
            let role = ask(&global.client()?, "GET", &path_of(one(words)?), None)?;
            let permitted = |kind: &str| -> String {
                let paths = strings(&role["permissions"]["kv"][kind]);
                paths.iter().map(|path| format!("\t{path}\n")).collect()
            };
            print(&format!(
                "Role: {}\nKV Read:\n{}KV Write:\n{}",
                role["role"].as_str().unwrap_or_default(),
                permitted("read"),
                permitted("write")
            ))
        }
        RoleCommand::List { words } => {
            if !words.is_empty() {
                return Err(plainly("No arguments accepted"));
            }
            let roles = ask(&global.client()?, "GET", "/v2/auth/roles", None)?;
            let roles = roles["roles"].as_array().into_iter().flatten();
            let names = roles.filter_map(|role| role["role"].as_str());
            print(&names.map(|name| format!("{name}\n")).collect::<String>())
        }
        RoleCommand::Remove { words } => {
            let name = one(words)?;
            ask(&global.client()?, "DELETE", &path_of(name), None)?;
            print(&format!("Role {name} removed\n"))
        }
        RoleCommand::Grant(args) => change(global, args, "grant"),
        RoleCommand::Revoke(args) => change(global, args, "revoke"),
    }
}

fn path_of(name: &str) -> String {
    format!("/v2/auth/roles/{}", escape_path(name))
}

fn one(words: &[String]) -> Result<&str, Failure> {
    match words {
        [name] => Ok(name),
        _ => Err(plainly("Please provide a role name")),
    }
}

fn add(global: &Global, name: &str) -> Result<(), Failure> {
    let client = global.client()?;
    let path = path_of(name);
    let known = client.send(&super::client::request("GET", &path))?;
    if known.status == 200 {
        return Err(plainly(format!("Role {name} already exists")));
    }
    ask(&client, "PUT", &path, Some(&document(name)))?;
    print(&format!("Role {name} created\n"))
}

fn document(name: &str) -> Value {
    json!({ "role": name, "permissions": { "kv": { "read": null, "write": null } } })
}

fn change(global: &Global, args: &PermissionArgs, verb: &str) -> Result<(), Failure> {
    let path = &args.path;
    if path.is_empty() {
        return Err(plainly("No path specified; please use `--path`"));
    }
    let right = canonical(path);
    if right != *path {
        return Err(plainly(format!("Not canonical path; please use `--path={right}`")));
    }
    if [args.read, args.write, args.readwrite].iter().filter(|kind| **kind).count() != 1 {
        return Err(plainly("Please specify exactly one of --read, --write or --readwrite"));
    }
    let name = one(&args.words)?;
    let client = global.client()?;
    ask(&client, "GET", &path_of(name), None)?;
    let paths = |is_meant: bool| if is_meant { vec![path.clone()] } else { Vec::new() };
    let mut role = document(name);
    role[verb] = json!({ "kv": {
        "read": paths(args.read || args.readwrite),
        "write": paths(args.write || args.readwrite),
    }});
    ask(&client, "PUT", &path_of(name), Some(&role))?;
    print(&format!("Role {name} updated\n"))
}
