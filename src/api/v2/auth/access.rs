//! Who asks, and whether they may.
//!
//! To compare a password with its hash takes a processor for long, on purpose. It is done on a thread beside the shard's,
//! and what was found to be right is known for a while: of the password a keyed hash is kept, and nothing is known any more
//! once the user's record has another hash.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};

use super::model::{GUEST, ROOT, User};
use super::{Refusal, records};
use crate::api::node::Node;

/// bcrypt's cost, as etcd's.
const COST_DEFAULT: u32 = 10;
/// Passwords of one shard that may wait for the thread.
const WAITING_MAX: usize = 64;
const KNOWN_MAX: usize = 1024;
const KNOWN_SECONDS: u64 = 300;

/// What a shard knows of passwords; see the module's head.
#[derive(Debug)]
pub struct Logins {
    cost: u32,
    // Two of 64 bits: who cannot read them cannot look for a password that collides.
    keys: [RandomState; 2],
    known: RefCell<HashMap<String, Known>>,
    waiting: Cell<usize>,
}

#[derive(Debug)]
struct Known {
    hash: String,
    password: [u64; 2],
    until: u64,
}

impl Default for Logins {
    fn default() -> Self {
        Self::with_cost(COST_DEFAULT)
    }
}

impl Logins {
    /// With a cost of bcrypt for new passwords that is other than etcd's.
    #[must_use]
    pub fn with_cost(cost: u32) -> Self {
        Self {
            cost,
            keys: [RandomState::new(), RandomState::new()],
            known: RefCell::default(),
            waiting: Cell::default(),
        }
    }

    fn digest(&self, password: &[u8]) -> [u64; 2] {
        self.keys.each_ref().map(|key| key.hash_one(password))
    }

    fn knows(&self, user: &User, password: [u64; 2], now: u64) -> bool {
        self.known.borrow().get(&user.name).is_some_and(|known| {
            known.hash == user.password && known.password == password && now < known.until
        })
    }

    fn learn(&self, user: &User, password: [u64; 2], now: u64) {
        let mut known = self.known.borrow_mut();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        let (hash, until) = (user.password.clone(), now + KNOWN_SECONDS);
        known.insert(user.name.clone(), Known { hash, password, until });
    }

    /// A place among those who wait for the thread, if there is one.
    fn enter(&self) -> Option<Place<'_>> {
        let waiting = self.waiting.get();
        (waiting < WAITING_MAX).then(|| {
            self.waiting.set(waiting + 1);
            Place(self)
        })
    }
}

struct Place<'a>(&'a Logins);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

/// What a record holds in place of a password.
pub(super) async fn hash<N: Node>(node: &Rc<N>, password: String) -> Result<String, Refusal> {
    let _place = node.v2_logins().enter().ok_or_else(Refusal::internal)?;
    let cost = node.v2_logins().cost;
    let hashed = node.compute(move || bcrypt::hash(password, cost)).await;
    hashed.map_err(|error| {
        tracing::warn!(%error, "cannot hash a password");
        Refusal::internal()
    })
}

async fn is_password<N: Node>(node: &Rc<N>, user: &User, password: Vec<u8>) -> bool {
    let logins = node.v2_logins();
    let digest = logins.digest(&password);
    if logins.knows(user, digest, node.unix_seconds()) {
        return true;
    }
    // Who is not heard is as one who was not believed.
    let Some(_place) = logins.enter() else { return false };
    let hash = user.password.clone();
    let is_right = node.compute(move || bcrypt::verify(password, &hash).unwrap_or(false)).await;
    if is_right {
        logins.learn(user, digest, node.unix_seconds());
    }
    is_right
}

/// Who a request says that it comes from.
#[derive(Debug, PartialEq, Eq)]
enum Caller {
    Guest,
    Named(String, Vec<u8>),
    /// In a way that is not understood.
    Unknown,
}

fn caller(headers: &HeaderMap) -> Caller {
    let said = headers.get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    if said.is_empty() {
        return Caller::Guest;
    }
    basic(said).map_or(Caller::Unknown, |(name, password)| Caller::Named(name, password))
}

fn basic(said: &[u8]) -> Option<(String, Vec<u8>)> {
    const SCHEME: &[u8] = b"Basic ";
    let (scheme, encoded) = said.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let plain = STANDARD.decode(encoded).ok()?;
    let colon = plain.iter().position(|&byte| byte == b':')?;
    let (name, password) = plain.split_at(colon);
    Some((String::from_utf8(name.to_vec()).ok()?, password.get(1..)?.to_vec()))
}

/// The user who a request proves to come from.
async fn user<N: Node>(node: &Rc<N>, name: String, password: Vec<u8>) -> Option<User> {
    let view = node.published().view.clone();
    let user = node.aside(move || records::user(&view, &name)).await?.0;
    is_password(node, &user, password).await.then_some(user)
}

/// Whether a request may do what only root may.
pub(in crate::api::v2) async fn is_root<N: Node>(node: &Rc<N>, request: &Request<Bytes>) -> bool {
    if !node.published().view.v2_auth_enabled() {
        return true;
    }
    match caller(request.headers()) {
        Caller::Named(name, password) => {
            user(node, name, password).await.is_some_and(|user| user.has_role(ROOT))
        }
        Caller::Guest | Caller::Unknown => false,
    }
}

/// Whether a request may do what it asks with the key; with `recursive` also with all that is below. Of guests etcd looks
/// at the key only.
pub(in crate::api::v2) async fn is_permitted<N: Node>(
    node: &Rc<N>,
    request: &Request<Bytes>,
    key: &str,
    recursive: bool,
) -> bool {
    let view = node.published().view.clone();
    if !view.v2_auth_enabled() {
        return true;
    }
    let writes = ![Method::GET, Method::HEAD].contains(request.method());
    let (roles, recursive) = match caller(request.headers()) {
        Caller::Guest => (vec![GUEST.to_owned()], false),
        Caller::Unknown => return false,
        Caller::Named(name, password) => match user(node, name, password).await {
            Some(user) => (user.roles.unwrap_or_default(), recursive),
            None => return false,
        },
    };
    let key = key.to_owned();
    let is_permitted = move || {
        let mut roles = roles.iter().filter_map(|name| records::role(&view, name));
        roles.any(|(role, _)| role.permits(&key, writes, recursive))
    };
    node.aside(is_permitted).await
}

/// What those hear who may not.
pub(in crate::api::v2) const INSUFFICIENT: &str = "Insufficient credentials";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_told_apart() {
        let named = |password: &str| Caller::Named("root".to_owned(), password.into());
        for (said, expected) in [
            ("", Caller::Guest),
            ("Basic cm9vdDpwdzI=", named("pw2")),
            ("bASIC cm9vdDphOmI=", named("a:b")),
            ("Basic cm9vdDo=", named("")),
            ("Basic cm9vdA==", Caller::Unknown),
            ("Basic !!", Caller::Unknown),
            ("Bearer x", Caller::Unknown),
            ("Basic", Caller::Unknown),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, said.parse().unwrap());
            assert_eq!(caller(&headers), expected, "{said}");
        }
        assert_eq!(caller(&HeaderMap::new()), Caller::Guest);
    }

    #[test]
    fn what_is_known_ends_with_the_hash_and_with_time() {
        let logins = Logins::default();
        let mut user = User { name: "a".into(), password: "h".into(), ..User::default() };
        let [right, wrong] = [b"right", b"wrong"].map(|password| logins.digest(password));
        assert!(!logins.knows(&user, right, 0));
        logins.learn(&user, right, 0);
        assert!(logins.knows(&user, right, KNOWN_SECONDS - 1));
        assert!(!logins.knows(&user, right, KNOWN_SECONDS));
        assert!(!logins.knows(&user, wrong, 0));
        user.password = "other".into();
        assert!(!logins.knows(&user, right, 0));
    }

    #[test]
    fn no_more_wait_than_may() {
        let logins = Logins::default();
        let places: Vec<_> = (0..WAITING_MAX).map(|_| logins.enter().unwrap()).collect();
        assert!(logins.enter().is_none());
        drop(places);
        assert!(logins.enter().is_some());
    }
}
