//! `role add`, `delete`, `get`, `list`, `grant-permission` and `revoke-permission`.

use std::ffi::OsString;

use bytes::Bytes;
use clap::Subcommand;
use urd_proto::authpb::{Permission, permission};
use urd_proto::etcdserverpb as pb;

use super::client::{Client, prefix_end};
use super::global::Global;
use super::methods::{
    ROLE_ADD, ROLE_DELETE, ROLE_GET, ROLE_GRANT_PERMISSION, ROLE_LIST, ROLE_REVOKE_PERMISSION,
};
use super::{bytes_of, texts};
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// Add a role
    #[command(override_usage = "urdctl role add <role name>")]
    Add {
        #[arg(value_name = "ROLE")]
        words: Vec<String>,
    },
    /// Delete a role
    #[command(override_usage = "urdctl role delete <role name>")]
    Delete {
        #[arg(value_name = "ROLE")]
        words: Vec<String>,
    },
    /// Show what a role permits
    #[command(override_usage = "urdctl role get <role name>")]
    Get {
        #[arg(value_name = "ROLE")]
        words: Vec<String>,
    },
    /// List all roles
    List {
        #[arg(hide = true)]
        words: Vec<String>,
    },
    /// Permit a role to read, write or readwrite a key or a range
    #[command(
        override_usage = "urdctl role grant-permission [options] <role name> <permission type> <key> [endkey]"
    )]
    GrantPermission {
        #[arg(value_name = "ROLE TYPE KEY [END]")]
        words: Vec<OsString>,
        #[command(flatten)]
        range: RangeFlags,
    },
    /// Take a permission back
    #[command(override_usage = "urdctl role revoke-permission <role name> <key> [endkey]")]
    RevokePermission {
        #[arg(value_name = "ROLE KEY [END]")]
        words: Vec<OsString>,
        #[command(flatten)]
        range: RangeFlags,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct RangeFlags {
    /// All keys that begin with KEY
    #[arg(long)]
    prefix: bool,
    /// All keys from KEY on, by byte order
    #[arg(long)]
    from_key: bool,
}

pub(crate) async fn run(global: &Global, command: RoleCommand) -> Result<(), Failure> {
    match command {
        RoleCommand::Add { words } => {
            let name = one(&words, "role add command requires role name as its argument")?;
            let printer = global.printer()?;
            let request = pb::AuthRoleAddRequest { name: name.clone() };
            let answer = Client::new(global)?.call(&ROLE_ADD, &request).await?;
            printer.with_header(format!("Role {name} created\n"), &answer.header, &answer)
        }
        RoleCommand::Delete { words } => {
            let role = one(&words, "role delete command requires role name as its argument")?;
            let printer = global.printer()?;
            let request = pb::AuthRoleDeleteRequest { role: role.clone() };
            let answer = Client::new(global)?.call(&ROLE_DELETE, &request).await?;
            printer.with_header(format!("Role {role} deleted\n"), &answer.header, &answer)
        }
        RoleCommand::Get { words } => {
            let role = one(&words, "role get command requires role name as its argument")?;
            let printer = global.printer()?;
            let request = pb::AuthRoleGetRequest { role: role.clone() };
            printer.role(&role, &Client::new(global)?.call(&ROLE_GET, &request).await?)
        }
        RoleCommand::List { words } => {
            if !words.is_empty() {
                return Err(Failure::bad_arguments("role list command requires no arguments"));
            }
            let printer = global.printer()?;
            let request = pb::AuthRoleListRequest {};
            printer.roles(&Client::new(global)?.call(&ROLE_LIST, &request).await?)
        }
        RoleCommand::GrantPermission { words, range } => grant(global, words, &range).await,
        RoleCommand::RevokePermission { words, range } => revoke(global, words, &range).await,
    }
}

fn one(words: &[String], number: &str) -> Result<String, Failure> {
    match words {
        [word] => Ok(word.clone()),
        _ => Err(Failure::bad_arguments(number)),
    }
}

async fn grant(global: &Global, words: Vec<OsString>, range: &RangeFlags) -> Result<(), Failure> {
    if words.len() < 3 {
        return Err(Failure::bad_arguments(
            "role grant command requires role name, permission type, and key [endkey] as its argument",
        ));
    }
    let (role, kind) = (name_at(&words, 0), name_at(&words, 1));
    let perm_type = match &kind.to_lowercase()[..] {
        "read" => permission::Type::Read,
        "write" => permission::Type::Write,
        "readwrite" => permission::Type::Readwrite,
        _ => {
            return Err(Failure::bad_arguments(format!(
                "invalid permission type: {kind}; there are read, write and readwrite"
            )));
        }
    };
    let (key, range_end) = span(words.into_iter().skip(2), range)?;
    let perm = Some(Permission { perm_type: perm_type.into(), key, range_end });
    let printer = global.printer()?;
    let request = pb::AuthRoleGrantPermissionRequest { name: role.clone(), perm };
    let answer = Client::new(global)?.call(&ROLE_GRANT_PERMISSION, &request).await?;
    printer.with_header(format!("Role {role} updated\n"), &answer.header, &answer)
}

async fn revoke(global: &Global, words: Vec<OsString>, range: &RangeFlags) -> Result<(), Failure> {
    if words.len() < 2 {
        return Err(Failure::bad_arguments(
            "role revoke-permission command requires role name and key [endkey] as its argument",
        ));
    }
    let (role, given) = (name_at(&words, 0), name_at(&words, 1));
    let (key, range_end) = span(words.into_iter().skip(1), range)?;
    let printer = global.printer()?;
    let request = pb::AuthRoleRevokePermissionRequest {
        role: role.clone(),
        key,
        range_end: range_end.clone(),
    };
    let answer = Client::new(global)?.call(&ROLE_REVOKE_PERMISSION, &request).await?;
    let text = match &range_end[..] {
        b"" => format!("Permission of key {given} is revoked from role {role}\n"),
        b"\0" => {
            format!("Permission of range [{given}, <open ended> is revoked from role {role}\n")
        }
        end => {
            let end = String::from_utf8_lossy(end);
            format!("Permission of range [{given}, {end}) is revoked from role {role}\n")
        }
    };
    printer.with_header(text, &answer.header, &answer)
}

fn name_at(words: &[OsString], at: usize) -> String {
    texts(words.get(at..=at).unwrap_or_default()).concat()
}

fn span(
    words: impl Iterator<Item = OsString>,
    range: &RangeFlags,
) -> Result<(Bytes, Bytes), Failure> {
    let exclusive =
        || Failure::bad_arguments("--from-key and --prefix flags are mutually exclusive");
    let mut words = words.map(bytes_of);
    let (key, end) = (words.next().unwrap_or_default(), words.next());
    if range.prefix && range.from_key {
        return Err(exclusive());
    }
    let open = Bytes::from_static(b"\0");
    if key.is_empty() {
        // The range of all keys begins at the first there can be.
        let end = if range.prefix || range.from_key { open.clone() } else { Bytes::new() };
        return Ok((open, end));
    }
    match end {
        Some(_) if range.prefix => {
            Err(Failure::bad_arguments("unexpected endkey argument with --prefix flag"))
        }
        Some(_) if range.from_key => {
            Err(Failure::bad_arguments("unexpected endkey argument with --from-key flag"))
        }
        Some(end) => Ok((key, end)),
        None if range.prefix => Ok((key.clone(), prefix_end(&key))),
        None if range.from_key => Ok((key, open)),
        None => Ok((key, Bytes::new())),
    }
}
