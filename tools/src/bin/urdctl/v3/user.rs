//! `user add`, `delete`, `get`, `list`, `passwd`, `grant-role` and `revoke-role`.

use clap::{ArgAction, Subcommand};
use urd_proto::authpb::UserAddOptions;
use urd_proto::etcdserverpb as pb;

use super::client::Client;
use super::global::Global;
use super::methods::{
    ROLE_GET, USER_ADD, USER_CHANGE_PASSWORD, USER_DELETE, USER_GET, USER_GRANT_ROLE, USER_LIST,
    USER_REVOKE_ROLE,
};
use super::print::put_text;
use crate::failure::Failure;
use crate::{go, prompt};

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user
    #[command(override_usage = "urdctl user add <user name or user:password> [options]")]
    Add {
        #[arg(value_name = "NAME[:PASSWORD]")]
        words: Vec<String>,
        /// Ask for the password on the terminal; false reads it from standard input
        #[arg(long, action = ArgAction::Set, default_value = "true", value_parser = go::flag_bool, num_args = 0..=1,
            require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        interactive: bool,
        /// The password
        #[arg(long, value_name = "PASSWORD")]
        new_user_password: Option<String>,
        /// A user without a password, known by a certificate's common name
        #[arg(long)]
        no_password: bool,
    },
    /// Delete a user
    #[command(override_usage = "urdctl user delete <user name>")]
    Delete {
        #[arg(value_name = "NAME")]
        words: Vec<String>,
    },
    /// Show a user's roles
    #[command(override_usage = "urdctl user get <user name> [options]")]
    Get {
        #[arg(value_name = "NAME")]
        words: Vec<String>,
        /// What the roles permit, too
        #[arg(long)]
        detail: bool,
    },
    /// List all users
    List {
        #[arg(hide = true)]
        words: Vec<String>,
    },
    /// Change a user's password
    #[command(override_usage = "urdctl user passwd <user name> [options]")]
    Passwd {
        #[arg(value_name = "NAME")]
        words: Vec<String>,
        /// Ask for the password on the terminal; false reads it from standard input
        #[arg(long, action = ArgAction::Set, default_value = "true", value_parser = go::flag_bool, num_args = 0..=1,
            require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        interactive: bool,
    },
    /// Give a user a role
    #[command(override_usage = "urdctl user grant-role <user name> <role name>")]
    GrantRole {
        #[arg(value_name = "NAME ROLE")]
        words: Vec<String>,
    },
    /// Take a role from a user
    #[command(override_usage = "urdctl user revoke-role <user name> <role name>")]
    RevokeRole {
        #[arg(value_name = "NAME ROLE")]
        words: Vec<String>,
    },
}

pub(crate) async fn run(global: &Global, command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Add { words, interactive, new_user_password, no_password } => {
            let request = add_request(&words, interactive, new_user_password, no_password)?;
            let printer = global.printer()?;
            let answer = Client::new(global)?.call(&USER_ADD, &request).await?;
            printer.with_header(format!("User {} created\n", request.name), &answer.header, &answer)
        }
        UserCommand::Delete { words } => {
            let name = one(&words, "user delete command requires user name as its argument")?;
            let printer = global.printer()?;
            let request = pb::AuthUserDeleteRequest { name: name.clone() };
            let answer = Client::new(global)?.call(&USER_DELETE, &request).await?;
            printer.with_header(format!("User {name} deleted\n"), &answer.header, &answer)
        }
        UserCommand::Get { words, detail } => {
            let name = one(&words, "user get command requires user name as its argument")?;
            get(global, name, detail).await
        }
        UserCommand::List { words } => {
            if !words.is_empty() {
                return Err(Failure::bad_arguments("user list command requires no arguments"));
            }
            let printer = global.printer()?;
            let answer = Client::new(global)?.call(&USER_LIST, &pb::AuthUserListRequest {}).await?;
            let names = answer.users.iter().map(|user| format!("{user}\n")).collect();
            printer.show(&answer, Some(names), None)
        }
        UserCommand::Passwd { words, interactive } => {
            let name = one(&words, "user passwd command requires user name as its argument")?;
            let printer = global.printer()?;
            let password =
                if interactive { prompt::new_password(&name)? } else { prompt::from_stdin()? };
            let request =
                pb::AuthUserChangePasswordRequest { name, password, ..Default::default() };
            let answer = Client::new(global)?.call(&USER_CHANGE_PASSWORD, &request).await?;
            printer.with_header("Password updated\n".to_owned(), &answer.header, &answer)
        }
        UserCommand::GrantRole { words } => grant_role(global, &words).await,
        UserCommand::RevokeRole { words } => revoke_role(global, &words).await,
    }
}

fn one(words: &[String], number: &str) -> Result<String, Failure> {
    match words {
        [word] => Ok(word.clone()),
        _ => Err(Failure::bad_arguments(number)),
    }
}

fn add_request(
    words: &[String],
    interactive: bool,
    password: Option<String>,
    no_password: bool,
) -> Result<pb::AuthUserAddRequest, Failure> {
    let word = one(words, "user add command requires user name as its argument")?;
    let password = password.filter(|password| !password.is_empty());
    let (name, password) = match (no_password, password, word.split_once(':')) {
        (true, _, _) => (word, String::new()),
        (false, Some(password), _) => (word, password),
        (false, None, Some(("", _))) => {
            return Err(Failure::bad_arguments("empty user name is not allowed"));
        }
        (false, None, Some((name, password))) => (name.to_owned(), password.to_owned()),
        (false, None, None) if interactive => {
            let password = prompt::new_password(&word)?;
            (word, password)
        }
        (false, None, None) => (word, prompt::from_stdin()?),
    };
    let options = Some(UserAddOptions { no_password });
    Ok(pb::AuthUserAddRequest { name, password, options, ..Default::default() })
}

async fn get(global: &Global, name: String, detail: bool) -> Result<(), Failure> {
    let printer = global.printer()?;
    let client = Client::new(global)?;
    let answer = client.call(&USER_GET, &pb::AuthUserGetRequest { name: name.clone() }).await?;
    if detail {
        put_text(&format!("User: {name}\n"))?;
        for role in &answer.roles {
            let request = pb::AuthRoleGetRequest { role: role.clone() };
            let permissions = client.call(&ROLE_GET, &request).await?;
            put_text("\n")?;
            printer.role(role, &permissions)?;
        }
        return Ok(());
    }
    let roles: String = answer.roles.iter().map(|role| format!(" {role}")).collect();
    printer.show(&answer, Some(format!("User: {name}\nRoles:{roles}\n")), None)
}

async fn grant_role(global: &Global, words: &[String]) -> Result<(), Failure> {
    let [user, role] = words else {
        return Err(Failure::bad_arguments(
            "user grant command requires user name and role name as its argument",
        ));
    };
    let printer = global.printer()?;
    let request = pb::AuthUserGrantRoleRequest { user: user.clone(), role: role.clone() };
    let answer = Client::new(global)?.call(&USER_GRANT_ROLE, &request).await?;
    let text = format!("Role {role} is granted to user {user}\n");
    printer.with_header(text, &answer.header, &answer)
}

async fn revoke_role(global: &Global, words: &[String]) -> Result<(), Failure> {
    let [name, role] = words else {
        return Err(Failure::bad_arguments(
            "user revoke-role requires user name and role name as its argument",
        ));
    };
    let printer = global.printer()?;
    let request = pb::AuthUserRevokeRoleRequest { name: name.clone(), role: role.clone() };
    let answer = Client::new(global)?.call(&USER_REVOKE_ROLE, &request).await?;
    let text = format!("Role {role} is revoked from user {name}\n");
    printer.with_header(text, &answer.header, &answer)
}
