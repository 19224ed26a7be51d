//! The fields of a request: its query and, where it has one, its form body, as Go's `ParseForm` reads them.
//!
//! A field of the body counts before one of the same name in the query, and of several the first. Error texts are Go's,
//! which etcd hands on to clients.

use bytes::Bytes;
use http::{Method, Request, header};

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Form(Vec<(Vec<u8>, Vec<u8>)>);

impl Form {
    /// The body's fields, then the query's. An error is one of any field, whether it would have been asked for or not.
    pub(super) fn read(request: &Request<Bytes>) -> Result<Self, String> {
        let mut form = Self::default();
        let may_have_body = [Method::PUT, Method::POST, Method::PATCH].contains(request.method());
        let body = if may_have_body { form.read_body(request) } else { Ok(()) };
        let query = form.read_fields(request.uri().query().unwrap_or_default().as_bytes());
        body.and(query).map(|()| form)
    }

    fn read_body(&mut self, request: &Request<Bytes>) -> Result<(), String> {
        let Some(kind) = request.headers().get(header::CONTENT_TYPE) else { return Ok(()) };
        let (kind, sound) = media_type(&String::from_utf8_lossy(kind.as_bytes()));
        let read = if kind == "application/x-www-form-urlencoded" {
            self.read_fields(request.body())
        } else {
            Ok(())
        };
        sound.and(read)
    }

    /// What can be read is kept, whatever else cannot; the error is the first one.
    fn read_fields(&mut self, text: &[u8]) -> Result<(), String> {
        let mut outcome = Ok(());
        for field in text.split(|byte| *byte == b'&').filter(|field| !field.is_empty()) {
            if let Err(error) = self.read_field(field) {
                outcome = outcome.and(Err(error));
            }
        }
        outcome
    }

    fn read_field(&mut self, field: &[u8]) -> Result<(), String> {
        if field.contains(&b';') {
            return Err("invalid semicolon separator in query".to_owned());
        }
        let mut halves = field.splitn(2, |byte| *byte == b'=');
        let name = unescape(halves.next().unwrap_or_default())?;
        let value = unescape(halves.next().unwrap_or_default())?;
        self.0.push((name, value));
        Ok(())
    }

    /// The value that counts, if there is such a field.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.0.iter().find(|(known, _)| known == name.as_bytes());
        found.map(|(_, value)| value.as_slice())
    }
}

/// Takes `+` for a space and `%XX` for a byte.
fn unescape(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match byte {
            b'%' => {
                plain.push(escaped(tail).ok_or_else(|| {
                    let wrong = rest.get(..3).unwrap_or(rest);
                    format!("invalid URL escape {}", quoted(wrong))
                })?);
                tail.get(2..).unwrap_or_default()
            }
            b'+' => {
                plain.push(b' ');
                tail
            }
            byte => {
                plain.push(byte);
                tail
            }
        };
    }
    Ok(plain)
}

/// The byte that two hexadecimal digits at the front stand for.
pub(super) fn escaped(digits: &[u8]) -> Option<u8> {
    let digit = |nth| digits.get(nth).and_then(|byte| char::from(*byte).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// In quotes, as Go's `%q` has text without anything odd in it.
fn quoted(text: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(text))
}

/// The type of a `Content-Type`, in small letters, and whether the header is well formed.
pub(super) fn media_type(header: &str) -> (String, Result<(), String>) {
    let (kind, parameters) = header.split_once(';').unwrap_or((header, ""));
    let kind = kind.trim().to_ascii_lowercase();
    if header.is_empty() {
        return (kind, Ok(()));
    }
    let sound = checked_type(&kind).and_then(|()| {
        let has_parameters = header.contains(';');
        if has_parameters { checked_parameters(parameters) } else { Ok(()) }
    });
    (kind, sound.map_err(|text| format!("mime: {text}")))
}

fn checked_type(kind: &str) -> Result<(), &'static str> {
    if !kind.starts_with(is_token) {
        return Err("no media type");
    }
    let rest = kind.trim_start_matches(is_token);
    if rest.is_empty() {
        return Ok(());
    }
    let subtype = rest.strip_prefix('/').ok_or("expected slash after first token")?;
    if !subtype.starts_with(is_token) {
        return Err("expected token after slash");
    }
    if subtype.chars().all(is_token) {
        Ok(())
    } else {
        Err("unexpected content after media subtype")
    }
}

/// `name=value` each, the value a token or in quotes; nothing at all is fine too.
fn checked_parameters(parameters: &str) -> Result<(), &'static str> {
    const INVALID: &str = "invalid media parameter";
    let mut rest = parameters.trim();
    while !rest.is_empty() {
        let (name, value) = rest.split_once('=').ok_or(INVALID)?;
        let value = value.trim_start();
        if name.trim().is_empty() || !name.trim().chars().all(is_token) {
            return Err(INVALID);
        }
        let behind = match value.strip_prefix('"') {
            Some(inner) => inner.split_once('"').ok_or(INVALID)?.1,
            None if value.starts_with(is_token) => value.trim_start_matches(is_token),
            None => return Err(INVALID),
        };
        rest = match behind.trim_start().strip_prefix(';') {
            Some(next) => next.trim_start(),
            None if behind.trim().is_empty() => "",
            None => return Err(INVALID),
        };
    }
    Ok(())
}

fn is_token(character: char) -> bool {
    character.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, query: &str, kind: &str, body: &str) -> Result<Form, String> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/v2/keys/a?{query}"))
            .header(header::CONTENT_TYPE, kind)
            .body(Bytes::copy_from_slice(body.as_bytes()))
            .unwrap();
        Form::read(&request)
    }

    const FORM: &str = "application/x-www-form-urlencoded";

    #[test]
    fn the_body_counts_before_the_query() {
        let form = read(Method::PUT, "a=1&b=2&b=3&c", FORM, "a=x+y%2B&&d=%ff").unwrap();
        assert_eq!(form.get("a"), Some(&b"x y+"[..]));
        assert_eq!(form.get("b"), Some(&b"2"[..]));
        assert_eq!(form.get("c"), Some(&b""[..]));
        assert_eq!(form.get("d"), Some(&b"\xff"[..]));
        assert_eq!(form.get("e"), None);
    }

    #[test]
    fn bodies_of_other_requests_are_passed_over() {
        for (method, kind) in [(Method::GET, FORM), (Method::DELETE, FORM), (Method::PUT, "a/b")] {
            let form = read(method, "a=1", kind, "a=2&b=%zz").unwrap();
            assert_eq!(form.get("a"), Some(&b"1"[..]));
        }
        let form = read(Method::PUT, "", "Application/X-WWW-Form-Urlencoded; a=b", "a=2").unwrap();
        assert_eq!(form.get("a"), Some(&b"2"[..]));
    }

    #[test]
    fn errors_are_gos() {
        let semicolon = "invalid semicolon separator in query";
        for (query, kind, body, error) in [
            ("a=%zz", FORM, "", r#"invalid URL escape "%zz""#),
            ("a=x%z", FORM, "", r#"invalid URL escape "%z""#),
            ("a%=x", FORM, "", r#"invalid URL escape "%""#),
            ("a=1;b=2&c=%", FORM, "", semicolon),
            ("a=%x1", FORM, "a;b", semicolon),
            ("", "application/x-www-form-urlencoded; charset", "", "mime: invalid media parameter"),
            ("", "a/b;;", "", "mime: invalid media parameter"),
            ("", "bogus/", "", "mime: expected token after slash"),
            ("", "a b", "", "mime: expected slash after first token"),
            ("", "a/b c", "", "mime: unexpected content after media subtype"),
            ("", "/", "", "mime: no media type"),
        ] {
            assert_eq!(read(Method::POST, query, kind, body).unwrap_err(), error, "{query} {kind}");
        }
        for kind in ["", "a", "a/b;", "a/b; c=d", "a/b; c=\"d e\" ; f=g"] {
            assert!(read(Method::POST, "", kind, "").is_ok(), "{kind}");
        }
    }
}
