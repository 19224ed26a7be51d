//! `user add`, `get`, `list`, `remove`, `grant`, `revoke` and `passwd`, and `auth enable` and `disable`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Client, expect, json as json_of, json_request, request};
use super::http::escape_path;
use super::node::print;
use super::{Global, plainly};
use crate::failure::Failure;
use crate::prompt;

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user
    #[command(override_usage = "urdctl user add <user>[:<password>]")]
    Add {
        #[arg(value_name = "NAME[:PASSWORD]")]
        words: Vec<String>,
    },
    /// Show a user's roles
    Get {
        #[arg(value_name = "NAME")]
        words: Vec<String>,
    },
    /// List all users
    List {
        #[arg(hide = true)]
        words: Vec<String>,
    },
    /// Remove a user
    Remove {
        #[arg(value_name = "NAME")]
        words: Vec<String>,
    },
    /// Give a user roles
    Grant {
        #[arg(value_name = "NAME")]
        words: Vec<String>,
        /// The roles, separated by commas or each with a flag of its own
        #[arg(long, value_delimiter = ',')]
        roles: Vec<String>,
    },
    /// Take roles from a user
    Revoke {
        #[arg(value_name = "NAME")]
        words: Vec<String>,
        /// The roles, separated by commas or each with a flag of its own
        #[arg(long, value_delimiter = ',')]
        roles: Vec<String>,
    },
    /// Change a user's password
    Passwd {
        #[arg(value_name = "NAME")]
        words: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// Let nobody in without a name; there must be a user root
    Enable {
        #[arg(hide = true)]
        words: Vec<String>,
    },
    /// Let everybody in
    Disable {
        #[arg(hide = true)]
        words: Vec<String>,
    },
}

pub(crate) fn auth(global: &Global, command: &AuthCommand) -> Result<(), Failure> {
    let (method, words, text) = match command {
        AuthCommand::Enable { words } => ("PUT", words, "Authentication Enabled\n"),
        AuthCommand::Disable { words } => ("DELETE", words, "Authentication Disabled\n"),
    };
    if !words.is_empty() {
        return Err(plainly("No arguments accepted"));
    }
    ask(&global.client()?, method, "/v2/auth/enable", None)?;
    print(text)
}

/// Asks the part of the API that is about users and roles. What it refuses is said without `Error:`.
pub(crate) fn ask(
    client: &Client,
    method: &'static str,
    path: &str,
    document: Option<&Value>,
) -> Result<Value, Failure> {
    let request = match document {
        Some(document) => json_request(method, path, document),
        None => request(method, path),
    };
    let asked = client.send(&request).and_then(|answer| {
        expect(&answer, &[200, 201])?;
        if answer.body.is_empty() { Ok(Value::Null) } else { json_of(&answer) }
    });
    asked.map_err(|failure| plainly(failure.text().unwrap_or_default().trim_start()))
}

fn path_of(name: &str) -> String {
    format!("/v2/auth/users/{}", escape_path(name))
}

fn one(words: &[String]) -> Result<&str, Failure> {
    match words {
        [name] => Ok(name),
        _ => Err(plainly("Please provide a username")),
    }
}

pub(crate) fn run(global: &Global, command: &UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Add { words } => {
            let word = one(words)?;
            let client = global.client()?;
            let (name, password) = match word.split_once(':') {
                Some((name, password)) => (name, password.to_owned()),
                None => (word, new_password()?),
            };
            let user = json!({ "user": name, "password": password, "roles": null });
            ask(&client, "PUT", &path_of(name), Some(&user))?;
            print(&format!("User {name} created\n"))
        }
        UserCommand::Get { words } => get(global, one(words)?),
        UserCommand::List { words } => {
            if !words.is_empty() {
                return Err(plainly("No arguments accepted"));
            }
            let users = ask(&global.client()?, "GET", "/v2/auth/users", None)?;
            let users = users["users"].as_array().into_iter().flatten();
            let names = users.filter_map(|user| user["user"].as_str());
            print(&names.map(|name| format!("{name}\n")).collect::<String>())
        }
        UserCommand::Remove { words } => {
            let name = one(words)?;
            ask(&global.client()?, "DELETE", &path_of(name), None)?;
            print(&format!("User {name} removed\n"))
        }
        UserCommand::Grant { words, roles } => change_roles(global, words, "grant", roles),
        UserCommand::Revoke { words, roles } => change_roles(global, words, "revoke", roles),
        UserCommand::Passwd { words } => {
            let name = one(words)?;
            let client = global.client()?;
            let user = json!({ "user": name, "password": new_password()?, "roles": null });
            ask(&client, "PUT", &path_of(name), Some(&user))?;
            print("Password updated\n")
        }
    }
}

fn new_password() -> Result<String, Failure> {
    prompt::password("New password: ").map_err(|failure| {
        plainly(format!("Error reading password: {}", failure.text().unwrap_or_default()))
    })
}

fn get(global: &Global, name: &str) -> Result<(), Failure> {
    let user = ask(&global.client()?, "GET", &path_of(name), None)?;
    let roles = user["roles"].as_array().into_iter().flatten();
    // Whole roles, or only their names. etcdctl puts a space in front for each whole one, and scripts may count on it.
    let spaces = " ".repeat(roles.clone().filter(|role| role.is_object()).count());
    let roles = roles.filter_map(|role| role["role"].as_str().or(role.as_str()));
    let roles = format!("{spaces}{}", roles.collect::<Vec<_>>().join(" "));
    print(&format!("User: {}\nRoles: {roles}\n", user["user"].as_str().unwrap_or_default()))
}

fn change_roles(
    global: &Global,
    words: &[String],
    verb: &str,
    roles: &[String],
) -> Result<(), Failure> {
    if roles.is_empty() {
        return Err(plainly("No roles specified; please use `--roles`"));
    }
    let name = one(words)?;
    let user = json!({ "user": name, "roles": null, (verb): roles });
    ask(&global.client()?, "PUT", &path_of(name), Some(&user))?;
    print(&format!("User {name} updated\n"))
}
