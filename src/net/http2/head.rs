//! What a request is, by its header fields.
//!
//! `:authority` is taken as it comes: nothing here depends on it, and old Go clients (etcdctl 3.4 with
//! `--endpoints=http://host:port`) send a whole URL.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::time::Duration;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method as HttpMethod, Request, StatusCode, Uri, Version};
use urd_http2::hpack::Fields;

use crate::api::{Code, Method, Status};
use crate::net::grpc;

/// A request's head is not HTTP (RFC 9113, section 8.1.1): its stream is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Where a request goes.
#[derive(Debug)]
pub(super) enum Target {
    /// A gRPC call.
    Call(Method, NeedsLeader),
    /// A gRPC call that cannot be; with the HTTP status that Go's gRPC uses.
    Refused(StatusCode, Status),
    /// The path of a gRPC method, but not gRPC.
    Unsupported,
    /// Something for the plain endpoints.
    Http(Box<Parts>),
}

/// Whether the caller would rather hear that there is no leader than wait for one (`hasleader` in its metadata).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NeedsLeader(pub(super) bool);

/// A request's head, judged.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) target: Target,
    /// How long a gRPC caller waits.
    pub(super) timeout: Option<Duration>,
    /// How long the body says it is.
    pub(super) content_length: Option<u64>,
}

/// The fields that decide.
#[derive(Default)]
struct Known<'a> {
    method: Option<&'a [u8]>,
    scheme: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    timeout: Option<&'a [u8]>,
    encoding: Option<&'a [u8]>,
    needs_leader: Option<&'a [u8]>,
}

/// Reads a request's head.
pub(super) fn read(fields: &Fields) -> Result<Head, Malformed> {
    let known = Known::of(fields)?;
    let method = known.method.ok_or(Malformed)?;
    let path = known.path.and_then(|path| std::str::from_utf8(path).ok()).ok_or(Malformed)?;
    if known.scheme.is_none() || path.is_empty() {
        return Err(Malformed);
    }
    let content_length = match known.content_length {
        Some(text) => Some(parse_length(text).ok_or(Malformed)?),
        None => None,
    };
    let (target, timeout) = if known.content_type.is_some_and(grpc::is_grpc) {
        match route(method, path, &known) {
            Ok((method, timeout)) => {
                let needs_leader = NeedsLeader(known.needs_leader == Some(b"true"));
                (Target::Call(method, needs_leader), timeout)
            }
            Err((http, status)) => (Target::Refused(http, status), None),
        }
    } else if Method::parse(path).is_some() {
        (Target::Unsupported, None)
    } else {
        (Target::Http(Box::new(parts(fields, method, path, known.authority)?)), None)
    };
    Ok(Head { target, timeout, content_length })
}

/// Whether a block of trailers is well-formed. What they say is of no use.
pub(super) fn check_trailers(fields: &Fields) -> Result<(), Malformed> {
    if fields.iter().all(|(name, _)| is_field_name(name)) { Ok(()) } else { Err(Malformed) }
}

impl<'a> Known<'a> {
    fn of(fields: &'a Fields) -> Result<Self, Malformed> {
        let mut known = Self::default();
        let mut regular = false;
        for (name, value) in fields.iter() {
            let place = match name {
                b":method" => &mut known.method,
                b":scheme" => &mut known.scheme,
                b":path" => &mut known.path,
                b":authority" => &mut known.authority,
                b"content-type" => &mut known.content_type,
                b"content-length" => &mut known.content_length,
                b"grpc-timeout" => &mut known.timeout,
                b"grpc-encoding" => &mut known.encoding,
                b"hasleader" => &mut known.needs_leader,
                b"te" if value != b"trailers" => return Err(Malformed),
                b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding"
                | b"upgrade" => return Err(Malformed),
                name if is_field_name(name) => {
                    regular = true;
                    continue;
                }
                _ => return Err(Malformed),
            };
            let is_pseudo = name.first() == Some(&b':');
            if is_pseudo && (regular || place.is_some()) {
                return Err(Malformed);
            }
            regular |= !is_pseudo;
            place.get_or_insert(value);
        }
        Ok(known)
    }
}

/// A name that a regular field may have: a token without capitals.
fn is_field_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().all(|byte| {
            matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'!' | b'#'..=b'\''
                | b'*' | b'+' | b'^' | b'`' | b'|' | b'~')
        })
}

fn parse_length(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The method of a gRPC call and how long its caller waits; or why it cannot be.
fn route(
    http_method: &[u8],
    path: &str,
    known: &Known<'_>,
) -> Result<(Method, Option<Duration>), (StatusCode, Status)> {
    if http_method != b"POST" {
        let method = String::from_utf8_lossy(http_method);
        let text = format!("a gRPC call needs the method POST, not {method}");
        return Err((StatusCode::METHOD_NOT_ALLOWED, Status::new(Code::Internal, text)));
    }
    let timeout = known.timeout.map(grpc::parse_timeout).transpose();
    let timeout = timeout.map_err(|status| (StatusCode::BAD_REQUEST, status))?;
    let Some(method) = Method::parse(path) else {
        return Err((StatusCode::OK, grpc::unknown_method(path, Method::is_service)));
    };
    if let Some(encoding) = known.encoding {
        grpc::check_encoding(encoding).map_err(|status| (StatusCode::OK, status))?;
    }
    Ok((method, timeout))
}

/// The head as the plain endpoints get it.
fn parts(
    fields: &Fields,
    method: &[u8],
    path: &str,
    authority: Option<&[u8]>,
) -> Result<Parts, Malformed> {
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = HttpMethod::from_bytes(method).map_err(|_| Malformed)?;
    *request.uri_mut() = path.parse::<Uri>().map_err(|_| Malformed)?;
    let headers = request.headers_mut();
    for (name, value) in fields.iter().filter(|(name, _)| name.first() != Some(&b':')) {
        let name = HeaderName::from_bytes(name).map_err(|_| Malformed)?;
        headers.append(name, HeaderValue::from_bytes(value).map_err(|_| Malformed)?);
    }
    if let Some(authority) = authority {
        let value = HeaderValue::from_bytes(authority).map_err(|_| Malformed)?;
        headers.entry(http::header::HOST).or_insert(value);
    }
    Ok(request.into_parts().0)
}

#[cfg(test)]
mod tests {
    use urd_http2::hpack::{Decoder, put_literal};

    use super::*;

    const GRPC: [(&str, &str); 6] = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/etcdserverpb.KV/Put"),
        (":authority", "http://127.0.0.1:2379"),
        ("content-type", "application/grpc+proto"),
        ("te", "trailers"),
    ];

    fn fields(list: &[(&str, &str)]) -> Fields {
        let mut block = Vec::new();
        for (name, value) in list {
            put_literal(&mut block, 0, 4, 0, name.as_bytes(), value.as_bytes());
        }
        let mut fields = Fields::new(4096);
        Decoder::new(0).decode(&block, &mut fields).unwrap();
        fields
    }

    fn with(change: &[(&str, &str)]) -> Result<Head, Malformed> {
        let mut list: Vec<(&str, &str)> = GRPC.to_vec();
        for (name, value) in change {
            match list.iter_mut().find(|(known, _)| known == name) {
                Some(field) => field.1 = value,
                None => list.push((name, value)),
            }
        }
        read(&fields(&list))
    }

    #[test]
    fn a_call_is_known_by_path_and_content_type() {
        let head = with(&[("grpc-timeout", "5S"), ("content-length", "12")]).unwrap();
        assert!(matches!(head.target, Target::Call(Method::Put, NeedsLeader(false))));
        assert_eq!(head.timeout, Some(Duration::from_secs(5)));
        assert_eq!(head.content_length, Some(12));
        let head = with(&[("hasleader", "true")]).unwrap();
        assert!(matches!(head.target, Target::Call(Method::Put, NeedsLeader(true))));
        let head = with(&[("content-type", "application/json")]).unwrap();
        assert!(matches!(head.target, Target::Unsupported));
    }

    #[test]
    fn a_call_that_cannot_be_is_refused_as_gos_grpc_does() {
        let refused = |change: &[(&str, &str)]| match with(change).unwrap().target {
            Target::Refused(http, status) => (http.as_u16(), status.code),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(&[(":method", "GET")]), (405, Code::Internal));
        assert_eq!(refused(&[("grpc-timeout", "soon")]), (400, Code::Internal));
        assert_eq!(refused(&[(":path", "/etcdserverpb.KV/No")]), (200, Code::Unimplemented));
        assert_eq!(refused(&[("grpc-encoding", "gzip")]), (200, Code::Unimplemented));
    }

    #[test]
    fn a_plain_request_keeps_its_fields() {
        let list = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/health?serializable=true"),
            (":authority", "host:1"),
            ("accept", "a"),
            ("accept", "b"),
        ];
        let Target::Http(parts) = read(&fields(&list)).unwrap().target else { panic!() };
        assert_eq!(parts.uri.query(), Some("serializable=true"));
        assert_eq!(parts.headers.get("host").unwrap(), "host:1");
        assert_eq!(parts.headers.get_all("accept").iter().count(), 2);
    }

    #[test]
    fn malformed_heads_are_told() {
        for change in [
            ("te", "gzip"),
            ("connection", "close"),
            ("Upper", "case"),
            ("", "nameless"),
            ("content-length", "-1"),
            (":path", ""),
            (":unknown", "pseudo"),
        ] {
            assert!(with(&[change]).is_err(), "{change:?}");
        }
        let without_path: Vec<_> = GRPC.into_iter().filter(|(name, _)| *name != ":path").collect();
        assert!(read(&fields(&without_path)).is_err());
        let mut late = GRPC.to_vec();
        late.rotate_left(1);
        assert!(read(&fields(&late)).is_err(), "a pseudo field after a regular one");
        let twice: Vec<_> = GRPC[..1].iter().chain(&GRPC).copied().collect();
        assert!(read(&fields(&twice)).is_err());
    }
}
