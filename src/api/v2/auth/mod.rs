//! `/v2/auth`: users, roles, and whether requests are judged by them.
//!
//! - `model`: users and roles, what they permit and how they change. `records`: where they stand.
//! - [`access`]: who asks, and whether they may.

pub(super) mod access;
mod model;
mod records;

use std::rc::Rc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};

pub use access::Logins;
use model::{GUEST, Malformed, ROOT, Role, User, conflict};

use super::{answer, json};
use crate::api::node::{Node, linearizable};
use crate::store::View;
use crate::store::v2::{AUTH_ENABLED, AUTH_IS_ENABLED, Action, ErrorCode};

/// Attempts to change a record that others change, too.
const ATTEMPTS: usize = 16;

type Answer = Result<Response<Bytes>, Refusal>;

/// Why a request is not carried out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    text: String,
}

impl Refusal {
    fn internal() -> Self {
        refusal(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
    }

    fn answer(self) -> Response<Bytes> {
        answer::json(self.status, json::message(&self.text))
    }
}

fn refusal(status: StatusCode, text: impl Into<String>) -> Refusal {
    Refusal { status, text: text.into() }
}

/// What those hear who may not do what only root may.
pub(super) fn unauthorized() -> Response<Bytes> {
    refusal(StatusCode::UNAUTHORIZED, access::INSUFFICIENT).answer()
}

/// Answers a request for what follows `/v2/auth`.
pub(super) async fn serve<N: Node>(
    node: &Rc<N>,
    request: &Request<Bytes>,
    rest: &str,
) -> Response<Bytes> {
    let method = request.method();
    let is_changed = [Method::GET, Method::PUT, Method::DELETE].contains(method);
    if rest == "/enable" {
        if !is_changed {
            return answer::method_not_allowed("GET,PUT,DELETE");
        }
        if *method != Method::GET && !access::is_root(node, request).await {
            return unauthorized();
        }
        return finish(node, enable(node, method).await);
    }
    let below = |directory: &str| {
        rest.strip_prefix(directory).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let (are_users, name) = match (below(records::USERS), below(records::ROLES)) {
        (Some(name), _) => (true, name),
        (_, Some(name)) => (false, name),
        (None, None) => return answer::not_found(),
    };
    let name = name.strip_prefix('/').unwrap_or(name);
    let name = name.strip_suffix('/').unwrap_or(name);
    if name.contains('/') {
        return refusal(StatusCode::BAD_REQUEST, "Invalid path").answer();
    }
    if name.is_empty() && *method != Method::GET {
        return answer::method_not_allowed("GET");
    }
    if !is_changed {
        return answer::method_not_allowed("GET,PUT,DELETE");
    }
    if !access::is_root(node, request).await {
        return unauthorized();
    }
    let answered = match (are_users, name, method) {
        (true, "", _) => users(node).await,
        (false, "", _) => roles(node).await,
        (true, name, &Method::GET) => user(node, name).await,
        (false, name, &Method::GET) => role(node, name).await,
        (true, name, &Method::PUT) => put_user(node, name, request.body()).await,
        (false, name, &Method::PUT) => put_role(node, name, request.body()).await,
        (true, name, _) => delete_user(node, name).await,
        (false, name, _) => delete_role(node, name).await,
    };
    finish(node, answered)
}

fn finish<N: Node>(node: &Rc<N>, answered: Answer) -> Response<Bytes> {
    let mut response = answered.unwrap_or_else(Refusal::answer);
    answer::add_cluster(&**node, &mut response);
    response
}

fn done() -> Answer {
    Ok(answer::json(StatusCode::OK, String::new()))
}

fn found(text: String) -> Answer {
    Ok(answer::json(StatusCode::OK, text + "\n"))
}

/// The state with everything that was acknowledged before.
async fn newest<N: Node>(node: &Rc<N>) -> Result<View, Refusal> {
    linearizable(node).await.map_err(|_| Refusal::internal())?;
    Ok(node.published().view.clone())
}

/// Reads what may have to come from the medium.
async fn read<N: Node, T: Send + 'static>(
    node: &Rc<N>,
    work: impl FnOnce(&View) -> T + Send + 'static,
) -> Result<T, Refusal> {
    let view = newest(node).await?;
    Ok(node.aside(move || work(&view)).await)
}

async fn enable<N: Node>(node: &Rc<N>, method: &Method) -> Answer {
    let view = newest(node).await?;
    let is_enabled = view.v2_auth_enabled();
    let text = match *method {
        Method::GET => return found(format!("{{\"enabled\":{is_enabled}}}")),
        Method::PUT if is_enabled => return Err(conflict("already enabled")),
        Method::DELETE if !is_enabled => return Err(conflict("already disabled")),
        Method::PUT => {
            if find_user(node, ROOT).await?.is_none() {
                return Err(conflict("No root user available, please create one"));
            }
            if find_role(node, GUEST).await?.is_none() {
                // If another was faster, it is there.
                create(node, records::ROLES, GUEST, Role::guest().write()).await?;
            }
            AUTH_IS_ENABLED
        }
        _ => "false",
    };
    let (path, text) = (AUTH_ENABLED.to_owned(), text.to_owned());
    let set = records::change(node, Action::Set, path, text, 0).await?;
    set.map_err(|_| Refusal::internal())?;
    done()
}

async fn find_user<N: Node>(node: &Rc<N>, name: &str) -> Result<Option<(User, u64)>, Refusal> {
    let name = name.to_owned();
    read(node, move |view| records::user(view, &name)).await
}

async fn find_role<N: Node>(node: &Rc<N>, name: &str) -> Result<Option<(Role, u64)>, Refusal> {
    let name = name.to_owned();
    read(node, move |view| records::role(view, &name)).await
}

/// Makes a record; false when there is one of this name.
async fn create<N: Node>(
    node: &Rc<N>,
    directory: &str,
    name: &str,
    record: String,
) -> Result<bool, Refusal> {
    let path = records::path(directory, name).ok_or_else(Refusal::internal)?;
    match records::change(node, Action::Create, path, record, 0).await? {
        Ok(()) => Ok(true),
        Err(error) if error.code == ErrorCode::NodeExist => Ok(false),
        Err(_) => Err(Refusal::internal()),
    }
}

/// Replaces the record of index `index`; false when it is not that any more.
async fn replace<N: Node>(
    node: &Rc<N>,
    directory: &str,
    name: &str,
    record: String,
    index: u64,
) -> Result<bool, Refusal> {
    let path = records::path(directory, name).ok_or_else(Refusal::internal)?;
    match records::change(node, Action::CompareAndSwap, path, record, index).await? {
        Ok(()) => Ok(true),
        Err(error) if [ErrorCode::TestFailed, ErrorCode::KeyNotFound].contains(&error.code) => {
            Ok(false)
        }
        Err(_) => Err(Refusal::internal()),
    }
}

/// Removes a record; false when there is none.
async fn remove<N: Node>(node: &Rc<N>, directory: &str, name: &str) -> Result<bool, Refusal> {
    let Some(path) = records::path(directory, name) else { return Ok(false) };
    match records::change(node, Action::Delete, path, String::new(), 0).await? {
        Ok(()) => Ok(true),
        Err(error) if error.code == ErrorCode::KeyNotFound => Ok(false),
        Err(_) => Err(Refusal::internal()),
    }
}

fn no_such(kind: &str, name: &str) -> Refusal {
    refusal(StatusCode::NOT_FOUND, format!("auth: {kind} {name} does not exist."))
}

fn malformed(_: Malformed) -> Refusal {
    refusal(StatusCode::BAD_REQUEST, "Invalid JSON in request body.")
}

fn wrong_name(kind: &str) -> Refusal {
    let text = format!("{kind} JSON name does not match the name in the URL");
    refusal(StatusCode::BAD_REQUEST, text)
}

async fn users<N: Node>(node: &Rc<N>) -> Answer {
    let list = |view: &View| {
        let names = records::names(view, records::USERS);
        let users = names.iter().filter_map(|name| records::user(view, name));
        // Roles that are not there are left out.
        users.map(|(user, _)| with_roles(view, &user).0).collect::<Vec<_>>()
    };
    let users = read(node, list).await?;
    found(match users.as_slice() {
        [] => r#"{"users":null}"#.to_owned(),
        users => format!("{{\"users\":[{}]}}", users.join(",")),
    })
}

async fn user<N: Node>(node: &Rc<N>, name: &str) -> Answer {
    let asked = name.to_owned();
    let read = read(node, move |view| {
        records::user(view, &asked).map(|(user, _)| with_roles(view, &user))
    });
    match read.await? {
        None => Err(no_such("User", name)),
        Some((_, Some(missing))) => Err(no_such("Role", &missing)),
        Some((text, None)) => found(text),
    }
}

/// A user with what its roles are, and the first of them that is not there.
fn with_roles(view: &View, user: &User) -> (String, Option<String>) {
    let (mut roles, mut missing) = (Vec::new(), None);
    for name in user.roles.iter().flatten() {
        match records::role(view, name) {
            Some((role, _)) => roles.push(role.write()),
            None => missing = missing.or_else(|| Some(name.clone())),
        }
    }
    let mut text = r#"{"user":"#.to_owned();
    json::string(&mut text, user.name.as_bytes());
    if !roles.is_empty() {
        text.push_str(&format!(",\"roles\":[{}]", roles.join(",")));
    }
    text.push('}');
    (text, missing)
}

async fn roles<N: Node>(node: &Rc<N>) -> Answer {
    let list = |view: &View| {
        let mut names = records::names(view, records::ROLES);
        names.push(ROOT.to_owned());
        names.sort_unstable();
        let roles = names.iter().filter_map(|name| records::role(view, name));
        roles.map(|(role, _)| role.write()).collect::<Vec<_>>()
    };
    let roles = read(node, list).await?;
    found(format!("{{\"roles\":[{}]}}", roles.join(",")))
}

async fn role<N: Node>(node: &Rc<N>, name: &str) -> Answer {
    let (role, _) = find_role(node, name).await?.ok_or_else(|| no_such("Role", name))?;
    found(role.write())
}

async fn put_user<N: Node>(node: &Rc<N>, name: &str, body: &[u8]) -> Answer {
    let asked = User::parse(body).map_err(malformed)?;
    if asked.name != name {
        return Err(wrong_name("User"));
    }
    let is_change = !asked.grant.is_empty() || !asked.revoke.is_empty();
    let has_roles = asked.roles.iter().flatten().next().is_some();
    match (is_change, has_roles) {
        (true, true) => {
            let text = "User JSON contains both roles and grant/revoke";
            Err(refusal(StatusCode::BAD_REQUEST, text))
        }
        (true, false) => update_user(node, asked).await,
        (false, true) => create_user(node, asked, StatusCode::OK).await,
        // Whether it is a new one is up to what is there.
        (false, false) => match find_user(node, name).await? {
            Some(_) => update_user(node, asked).await,
            None => create_user(node, asked, StatusCode::CREATED).await,
        },
    }
}

async fn create_user<N: Node>(node: &Rc<N>, user: User, status: StatusCode) -> Answer {
    if user.password.is_empty() {
        let text = format!("auth: Cannot create user {} with an empty password", user.name);
        return Err(refusal(StatusCode::BAD_REQUEST, text));
    }
    let mut user = user.with_own_role();
    user.password = access::hash(node, user.password).await?;
    if !create(node, records::USERS, &user.name, user.write(true)).await? {
        return Err(conflict(format!("User {} already exists.", user.name)));
    }
    Ok(answer::json(status, user.write(false) + "\n"))
}

async fn update_user<N: Node>(node: &Rc<N>, asked: User) -> Answer {
    let mut hash = None;
    for _ in 0..ATTEMPTS {
        let known = find_user(node, &asked.name).await?;
        let (known, index) = known.ok_or_else(|| no_such("User", &asked.name))?;
        let mut changed = known.changed(&asked)?;
        if !asked.password.is_empty() {
            let made = match hash.take() {
                Some(made) => made,
                None => access::hash(node, asked.password.clone()).await?,
            };
            changed.password.clone_from(&made);
            hash = Some(made);
        }
        if changed == known {
            let text = "auth: User not updated. Use grant/revoke/password to update the user.";
            return Err(refusal(StatusCode::BAD_REQUEST, text));
        }
        if replace(node, records::USERS, &asked.name, changed.write(true), index).await? {
            return found(changed.write(false));
        }
    }
    Err(Refusal::internal())
}

async fn delete_user<N: Node>(node: &Rc<N>, name: &str) -> Answer {
    if name == ROOT && newest(node).await?.v2_auth_enabled() {
        let text = "auth: Cannot delete root user while auth is enabled.";
        return Err(refusal(StatusCode::FORBIDDEN, text));
    }
    if !remove(node, records::USERS, name).await? {
        let text = format!("auth: User {name} does not exist");
        return Err(refusal(StatusCode::NOT_FOUND, text));
    }
    done()
}

fn check_not_root(name: &str) -> Result<(), Refusal> {
    if name == ROOT {
        let text = format!("auth: Cannot modify role {name}: is root role.");
        return Err(refusal(StatusCode::FORBIDDEN, text));
    }
    Ok(())
}

async fn put_role<N: Node>(node: &Rc<N>, name: &str, body: &[u8]) -> Answer {
    let asked = Role::parse(body).map_err(malformed)?;
    if asked.name != name {
        return Err(wrong_name("Role"));
    }
    if asked.is_change() && !asked.access.is_empty() {
        let text = "Role JSON contains both permissions and grant/revoke";
        return Err(refusal(StatusCode::BAD_REQUEST, text));
    }
    check_not_root(name)?;
    if asked.is_change() {
        return update_role(node, asked).await;
    }
    if !create(node, records::ROLES, name, asked.write()).await? {
        return Err(conflict(format!("Role {name} already exists.")));
    }
    Ok(answer::json(StatusCode::CREATED, asked.write() + "\n"))
}

async fn update_role<N: Node>(node: &Rc<N>, asked: Role) -> Answer {
    for _ in 0..ATTEMPTS {
        let known = find_role(node, &asked.name).await?;
        let (known, index) = known.ok_or_else(|| no_such("Role", &asked.name))?;
        let changed = known.changed(&asked)?;
        if changed == known {
            let text = "auth: Role not updated. Use grant/revoke to update the role.";
            return Err(refusal(StatusCode::BAD_REQUEST, text));
        }
        if replace(node, records::ROLES, &asked.name, changed.write(), index).await? {
            return found(changed.write());
        }
    }
    Err(Refusal::internal())
}

async fn delete_role<N: Node>(node: &Rc<N>, name: &str) -> Answer {
    check_not_root(name)?;
    if !remove(node, records::ROLES, name).await? {
        let text = format!("auth: Role {name} doesn't exist.");
        return Err(refusal(StatusCode::NOT_FOUND, text));
    }
    done()
}
