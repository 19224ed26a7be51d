//! etcd's v2 API over plain HTTP, as etcd 3.4 serves it with `--enable-v2`.
//!
//! - `form`, `parameters`: what a request asks for, with Go's and etcd's error texts.
//! - `keys`: `/v2/keys`; `watch` and [`hub`] for those who wait. `members`, `stats`: the rest.
//! - `auth`: users and roles, and who may do what.
//! - `json`, `answer`: bodies, byte by byte as etcd's.
//!
//! Reads are served from this member's newest state, with `quorum=true` once everything acknowledged before can be read.
//! Writes are proposed by their bytes, and stand in the log beside the other API's.
//!
//! Not here: HTTP/2 for answers that come in pieces.

mod answer;
mod auth;
mod form;
pub mod hub;
mod json;
mod keys;
mod members;
mod parameters;
mod stats;
mod watch;

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};

pub use auth::Logins;
pub use hub::{Hub, Tally, follow};

use super::call::Body;
use super::node::Node;
use crate::store::v2::Path;

/// The methods of `/v2/keys`.
const WITH_KEYS: [Method; 5] =
    [Method::HEAD, Method::GET, Method::PUT, Method::POST, Method::DELETE];

/// Whether a path is for [`serve`].
#[must_use]
pub fn is_ours(path: &str) -> bool {
    path.strip_prefix("/v2").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a request whose path [`is_ours`].
pub async fn serve<N: Node>(node: &Rc<N>, request: &Request<Bytes>) -> Response<Body> {
    let Some(path) = unescape(request.uri().path()) else {
        return answer::with_type(
            StatusCode::BAD_REQUEST,
            "text/plain; charset=utf-8",
            "400 Bad Request".to_owned(),
        )
        .map(Body::Whole);
    };
    let clean = clean(&path);
    if clean != path {
        return moved(request, &clean).map(Body::Whole);
    }
    let below = |root: &str| {
        path.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if let Some(key) = below("/v2/keys") {
        return keys::serve(node, request, key).await;
    }
    let response = if let Some(member) = below("/v2/members") {
        members::serve(node, request, member).await
    } else if let Some(rest) = below("/v2/auth") {
        auth::serve(node, request, rest).await
    } else {
        match path.as_str() {
            "/v2/machines" => members::machines(&**node, request.method()),
            "/v2/stats/self" => stats::own(&**node, request.method()),
            "/v2/stats/store" => stats::store(&**node, request.method()),
            "/v2/stats/leader" => stats::leader(&**node, request.method()),
            _ => answer::not_found(),
        }
    };
    response.map(Body::Whole)
}

/// A path without `%XX`; bytes that are no UTF-8 are replaced, each by itself. `None` when an escape is none.
fn unescape(path: &str) -> Option<String> {
    if !path.contains('%') {
        return Some(path.to_owned());
    }
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            plain.push(form::escaped(tail)?);
            rest = tail.get(2..)?;
        } else {
            plain.push(byte);
        }
    }
    let mut text = String::with_capacity(plain.len());
    for chunk in plain.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Some(text)
}

/// Without empty, `.` and `..` parts; a slash at the end stays.
fn clean(path: &str) -> String {
    let mut clean = Path::new(path).to_string();
    if path.ends_with('/') && !clean.ends_with('/') {
        clean.push('/');
    }
    clean
}

/// Go's server sends those who ask for a path that is not clean to the one that is.
fn moved(request: &Request<Bytes>, clean: &str) -> Response<Bytes> {
    let mut location = escape(clean);
    if let Some(query) = request.uri().query() {
        location.push('?');
        location.push_str(query);
    }
    let mut response = if [Method::GET, Method::HEAD].contains(request.method()) {
        let shown = location.replace('&', "&amp;").replace('\'', "&#39;");
        let shown = shown.replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;");
        let body = format!("<a href=\"{shown}\">Moved Permanently</a>.\n\n");
        answer::with_type(StatusCode::MOVED_PERMANENTLY, "text/html; charset=utf-8", body)
    } else {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        response
    };
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Escapes what may not stand in a URL's path.
fn escape(path: &str) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("invariant: a String takes any text");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (raw, expected) in [
            ("/v2/keys", "/v2/keys"),
            ("/v2/keys/", "/v2/keys/"),
            ("/v2/keys//a/./b/../c/", "/v2/keys/a/c/"),
            ("/v2/../..", "/"),
            ("/", "/"),
        ] {
            assert_eq!(clean(raw), expected);
        }
        assert_eq!(unescape("/a%20b%2Fc%e2%82%ac"), Some("/a b/c€".to_owned()));
        assert_eq!(unescape("/%ff"), Some("/\u{fffd}".to_owned()));
        assert_eq!(unescape("/%f"), None);
        assert_eq!(unescape("/%zz"), None);
        assert_eq!(escape("/a b/ü?"), "/a%20b/%C3%BC%3F");
    }

    #[test]
    fn whose_paths_are_known() {
        assert!(is_ours("/v2") && is_ours("/v2/") && is_ours("/v2/keys"));
        assert!(!is_ours("/v2x") && !is_ours("/v3/keys") && !is_ours("/"));
    }

    #[test]
    fn who_is_moved_is_told_where() {
        let request = Request::get("/v2/keys//a?x=1&y").body(Bytes::new()).unwrap();
        let response = moved(&request, "/v2/keys/a");
        assert_eq!(response.headers()["location"], "/v2/keys/a?x=1&y");
        assert_eq!(response.body(), "<a href=\"/v2/keys/a?x=1&amp;y\">Moved Permanently</a>.\n\n");
        let request = Request::put("/v2/keys//a").body(Bytes::new()).unwrap();
        assert!(moved(&request, "/v2/keys/a").body().is_empty());
    }
}
