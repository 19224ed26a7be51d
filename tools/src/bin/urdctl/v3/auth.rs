//! `auth enable`, `disable` and `status`.

use clap::Subcommand;
use urd_proto::etcdserverpb as pb;

use super::client::Client;
use super::global::Global;
use super::methods::{AUTH_DISABLE, AUTH_ENABLE, AUTH_STATUS, ROLE_ADD, USER_GRANT_ROLE};
use super::print::put_text;
use crate::failure::Failure;

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
    /// Say whether authentication is on
    Status {
        #[arg(hide = true)]
        words: Vec<String>,
    },
}

pub(crate) async fn run(global: &Global, command: AuthCommand) -> Result<(), Failure> {
    let (verb, words) = match &command {
        AuthCommand::Enable { words } => ("enable", words),
        AuthCommand::Disable { words } => ("disable", words),
        AuthCommand::Status { words } => ("status", words),
    };
    if !words.is_empty() {
        return Err(Failure::bad_arguments(format!(
            "auth {verb} command does not accept any arguments"
        )));
    }
    let printer = global.printer()?;
    let client = Client::new(global)?;
    match command {
        AuthCommand::Enable { .. } => {
            enable(&client).await?;
            put_text("Authentication Enabled\n")
        }
        AuthCommand::Disable { .. } => {
            client.call(&AUTH_DISABLE, &pb::AuthDisableRequest {}).await?;
            put_text("Authentication Disabled\n")
        }
        AuthCommand::Status { .. } => {
            let status = client.call(&AUTH_STATUS, &pb::AuthStatusRequest {}).await?;
            let text = format!(
                "Authentication Status: {}\nAuthRevision: {}\n",
                status.enabled, status.auth_revision
            );
            printer.show(&status, Some(text), None)
        }
    }
}

/// As etcdctl does: a user root that has not its role yet is given it.
async fn enable(client: &Client) -> Result<(), Failure> {
    let request = pb::AuthEnableRequest {};
    let Err(failure) = client.call(&AUTH_ENABLE, &request).await else { return Ok(()) };
    if failure.text() != Some("etcdserver: root user does not have root role") {
        return Err(failure);
    }
    let role = pb::AuthRoleAddRequest { name: "root".to_owned() };
    match client.call(&ROLE_ADD, &role).await {
        Err(failure) if failure.text() != Some("etcdserver: role name already exists") => {
            return Err(failure);
        }
        _ => {}
    }
    let grant = pb::AuthUserGrantRoleRequest { user: "root".to_owned(), role: "root".to_owned() };
    client.call(&USER_GRANT_ROLE, &grant).await?;
    client.call(&AUTH_ENABLE, &request).await?;
    Ok(())
}
