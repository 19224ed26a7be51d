//! Users and roles: JSON as etcd reads and writes it, what a role permits, and how grants and revocations change them.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::{Map, Value};

use super::{Refusal, refusal};
use crate::api::v2::json;

/// May do everything. It has no record, and cannot be changed.
pub(super) const ROOT: &str = "root";
/// The role of those who do not say who they are.
pub(super) const GUEST: &str = "guest";

type Names = Option<Vec<String>>;

/// A user; as a client sends it, with what is to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct User {
    pub name: String,
    /// Its hash in a record, itself in a request.
    pub password: String,
    /// `None` is Go's `nil`, which is shown as `null`.
    pub roles: Names,
    pub grant: Vec<String>,
    pub revoke: Vec<String>,
}

/// What may be read and what written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    pub read: Names,
    pub write: Names,
}

/// A role; as a client sends it, with what is to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Role {
    pub name: String,
    pub access: Access,
    pub grant: Option<Access>,
    pub revoke: Option<Access>,
}

/// It is not JSON, or has other types than it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl User {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let fields = fields(&first_value(body)?)?;
        Ok(Self {
            name: text(&fields, "user")?,
            password: text(&fields, "password")?,
            roles: names(&fields, "roles")?,
            grant: names(&fields, "grant")?.unwrap_or_default(),
            revoke: names(&fields, "revoke")?.unwrap_or_default(),
        })
    }

    /// As a record holds it, or without the password as a client gets it.
    pub(super) fn write(&self, with_password: bool) -> String {
        let mut text = r#"{"user":"#.to_owned();
        json::string(&mut text, self.name.as_bytes());
        if with_password {
            text.push_str(r#","password":"#);
            json::string(&mut text, self.password.as_bytes());
        }
        text.push_str(r#","roles":"#);
        push_names(&mut text, &self.roles);
        text.push('}');
        text
    }

    /// A user as it counts: root has the role of this name, whatever its record says.
    pub(super) fn with_own_role(mut self) -> Self {
        if self.name == ROOT && !self.has_role(ROOT) {
            self.roles.get_or_insert_default().push(ROOT.to_owned());
        }
        self
    }

    pub(super) fn has_role(&self, role: &str) -> bool {
        self.roles.iter().flatten().any(|name| name == role)
    }

    /// The user after what `asked` grants and revokes. Its password is for the caller to change.
    pub(super) fn changed(&self, asked: &Self) -> Result<Self, Refusal> {
        let name = &self.name;
        let mut roles = set(&self.roles);
        for role in &asked.grant {
            if !roles.insert(role.clone()) {
                return Err(conflict(format!("Granting duplicate role {role} for user {name}")));
            }
        }
        for role in &asked.revoke {
            if !roles.remove(role) {
                return Err(conflict(format!("Revoking ungranted role {role} for user {name}")));
            }
        }
        Ok(Self { roles: Some(roles.into_iter().collect()), ..self.clone() })
    }
}

impl Role {
    pub(super) fn root() -> Self {
        Self { name: ROOT.to_owned(), access: Access::everything(), ..Self::default() }
    }

    /// What guests get when nobody has said otherwise.
    pub(super) fn guest() -> Self {
        Self { name: GUEST.to_owned(), access: Access::everything(), ..Self::default() }
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let fields = fields(&first_value(body)?)?;
        Ok(Self {
            name: text(&fields, "role")?,
            access: access(&fields, "permissions")?.unwrap_or_default(),
            grant: access(&fields, "grant")?,
            revoke: access(&fields, "revoke")?,
        })
    }

    pub(super) fn write(&self) -> String {
        let mut text = r#"{"role":"#.to_owned();
        json::string(&mut text, self.name.as_bytes());
        text.push_str(r#","permissions":{"kv":{"read":"#);
        push_names(&mut text, &self.access.read);
        text.push_str(r#","write":"#);
        push_names(&mut text, &self.access.write);
        text.push_str("}}}");
        text
    }

    /// Whether `asked` grants or revokes anything.
    pub(super) fn is_change(&self) -> bool {
        [&self.grant, &self.revoke].into_iter().flatten().any(|access| !access.is_empty())
    }

    /// The role after what `asked` grants and revokes. To revoke what it has not got is no mistake.
    pub(super) fn changed(&self, asked: &Self) -> Result<Self, Refusal> {
        let mut access = self.access.clone();
        if let Some(grant) = &asked.grant {
            access.read = Some(granted(&access.read, &grant.read, "read")?);
            access.write = Some(granted(&access.write, &grant.write, "write")?);
        }
        if let Some(revoke) = &asked.revoke {
            access.read = Some(without(&access.read, &revoke.read));
            access.write = Some(without(&access.write, &revoke.write));
        }
        Ok(Self { name: self.name.clone(), access, ..Self::default() })
    }

    /// Whether it permits to read or write the key; with `recursive` also all that is below.
    pub(super) fn permits(&self, key: &str, writes: bool, recursive: bool) -> bool {
        let patterns = if writes { &self.access.write } else { &self.access.read };
        let is_root = self.name == ROOT;
        is_root || patterns.iter().flatten().any(|pattern| matches(pattern, key, recursive))
    }
}

/// A pattern that ends with `*` is for all keys that begin with what is before it, another one for the key that it names.
fn matches(pattern: &str, key: &str, recursive: bool) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => key.starts_with(beginning),
        None => !recursive && !pattern.is_empty() && key == pattern,
    }
}

impl Access {
    fn everything() -> Self {
        let all = || Some(vec!["/*".to_owned()]);
        Self { read: all(), write: all() }
    }

    pub(super) fn is_empty(&self) -> bool {
        [&self.read, &self.write].into_iter().flatten().all(Vec::is_empty)
    }
}

fn set(names: &Names) -> BTreeSet<String> {
    names.iter().flatten().cloned().collect()
}

fn granted(has: &Names, grant: &Names, what: &str) -> Result<Vec<String>, Refusal> {
    let mut has = set(has);
    for pattern in grant.iter().flatten() {
        if !has.insert(pattern.clone()) {
            return Err(conflict(format!("Granting duplicate {what} permission {pattern}")));
        }
    }
    Ok(has.into_iter().collect())
}

fn without(has: &Names, revoke: &Names) -> Vec<String> {
    let mut has = set(has);
    revoke.iter().flatten().for_each(|pattern| {
        has.remove(pattern);
    });
    has.into_iter().collect()
}

pub(super) fn conflict(text: impl std::fmt::Display) -> Refusal {
    refusal(StatusCode::CONFLICT, format!("auth: {text}"))
}

fn push_names(text: &mut String, names: &Names) {
    let Some(names) = names else { return text.push_str("null") };
    text.push('[');
    for (nth, name) in names.iter().enumerate() {
        if nth > 0 {
            text.push(',');
        }
        json::string(text, name.as_bytes());
    }
    text.push(']');
}

/// Go's decoder reads one value, and leaves what follows.
fn first_value(body: &[u8]) -> Result<Value, Malformed> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    values.next().and_then(Result::ok).ok_or(Malformed)
}

/// Of an object; Go takes `null` for one without fields.
fn fields(value: &Value) -> Result<Map<String, Value>, Malformed> {
    match value {
        Value::Object(fields) => Ok(fields.clone()),
        Value::Null => Ok(Map::new()),
        _ => Err(Malformed),
    }
}

/// A field, whatever the case of its name's letters, as in Go.
fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let mut found = fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
    found.next_back().map(|(_, value)| value).filter(|value| !value.is_null())
}

fn text(fields: &Map<String, Value>, name: &str) -> Result<String, Malformed> {
    match field(fields, name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(Malformed),
    }
}

fn names(fields: &Map<String, Value>, name: &str) -> Result<Names, Malformed> {
    let names = match field(fields, name) {
        None => return Ok(None),
        Some(Value::Array(names)) => names,
        Some(_) => return Err(Malformed),
    };
    let names = names.iter().map(|name| match name {
        Value::String(text) => Ok(text.clone()),
        Value::Null => Ok(String::new()),
        _ => Err(Malformed),
    });
    names.collect::<Result<_, _>>().map(Some)
}

fn access(of: &Map<String, Value>, name: &str) -> Result<Option<Access>, Malformed> {
    let Some(value) = field(of, name) else { return Ok(None) };
    let kv = match field(&fields(value)?, "kv") {
        Some(kv) => fields(kv)?,
        None => Map::new(),
    };
    Ok(Some(Access { read: names(&kv, "read")?, write: names(&kv, "write")? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_a_key_or_a_beginning() {
        for (pattern, key, is_permitted, is_permitted_below) in [
            ("/foo", "/foo", true, false),
            ("/foo", "/foo/", false, false),
            ("/foo", "/foo/a", false, false),
            ("/foo*", "/foo", true, true),
            ("/foo*", "/food", true, true),
            ("/foo/*", "/foo", false, false),
            ("/foo/*", "/foo/", true, true),
            ("/foo/*", "/foo/a/b", true, true),
            ("/f*o", "/f*o", true, false),
            ("/f*o", "/foo", false, false),
            ("*", "", true, true),
            ("", "", false, false),
        ] {
            assert_eq!(matches(pattern, key, false), is_permitted, "{pattern} {key}");
            assert_eq!(matches(pattern, key, true), is_permitted_below, "{pattern} {key}");
        }
    }

    #[test]
    fn reading_is_not_writing() {
        let role =
            Role::parse(br#"{"role":"r","permissions":{"kv":{"read":["/a"],"write":["/b"]}}}"#);
        let role = role.unwrap();
        assert!(role.permits("/a", false, false) && !role.permits("/a", true, false));
        assert!(role.permits("/b", true, false) && !role.permits("/b", false, false));
        assert!(Role::root().permits("/c", true, true));
        let nobody = Role { name: "r".to_owned(), ..Role::default() };
        assert!(!nobody.permits("/a", false, false));
    }

    #[test]
    fn bodies_are_read_as_go_does() {
        let user = User::parse(br#"{"USER":"a","roles":null,"grant":["x",null],"more":1} rest"#);
        let grant = vec!["x".to_owned(), String::new()];
        assert_eq!(user, Ok(User { name: "a".to_owned(), grant, ..User::default() }));
        assert_eq!(User::parse(b"null"), Ok(User::default()));
        for body in ["", "x", "[]", r#"{"user":1}"#, r#"{"grant":"x"}"#, r#"{"grant":[1]}"#] {
            assert_eq!(User::parse(body.as_bytes()), Err(Malformed), "{body}");
        }
        let user = User { name: "a".to_owned(), password: "h".to_owned(), ..User::default() };
        assert_eq!(User::parse(user.write(true).as_bytes()), Ok(user.clone()));
        assert_eq!(user.write(false), r#"{"user":"a","roles":null}"#);
    }
}
