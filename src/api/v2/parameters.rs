//! What a request for a key asks for, checked field by field in etcd's order: of several wrong fields, etcd names the
//! first.

use bytes::Bytes;
use http::{Method, Request};

use super::form::Form;
use crate::store::v2::{Error, ErrorCode};

/// The fields of a request for a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pub value: Bytes,
    /// Empty: any.
    pub prev_value: Bytes,
    /// 0: any.
    pub prev_index: u64,
    /// 0: from now on.
    pub wait_index: u64,
    pub recursive: bool,
    pub sorted: bool,
    pub wait: bool,
    pub dir: bool,
    pub quorum: bool,
    pub stream: bool,
    pub no_value_on_success: bool,
    /// Seconds; 0 is at once, which is not never.
    pub ttl: Option<u64>,
    pub prev_exist: Option<bool>,
    pub refresh: bool,
}

impl Parameters {
    /// Reads them. Whoever is refused here is told an index of 0: the store was not asked.
    pub(super) fn read(request: &Request<Bytes>) -> Result<Self, Error> {
        let form = Form::read(request).map_err(|text| wrong(ErrorCode::InvalidForm, text))?;
        let mut read = Self {
            prev_index: number(&form, "prevIndex")?,
            wait_index: number(&form, "waitIndex")?,
            recursive: flag(&form, "recursive")?,
            sorted: flag(&form, "sorted")?,
            wait: flag(&form, "wait")?,
            dir: flag(&form, "dir")?,
            quorum: flag(&form, "quorum")?,
            stream: flag(&form, "stream")?,
            ..Self::default()
        };
        if read.wait && request.method() != Method::GET {
            let text = r#""wait" can only be used with GET requests"#;
            return Err(wrong(ErrorCode::InvalidField, text));
        }
        let prev_value = form.get("prevValue");
        if prev_value.is_some_and(<[u8]>::is_empty) {
            return Err(wrong(ErrorCode::PrevValueRequired, r#""prevValue" cannot be empty"#));
        }
        read.prev_value = bytes(prev_value);
        read.no_value_on_success = flag(&form, "noValueOnSuccess")?;
        read.ttl = match form.get("ttl").unwrap_or_default() {
            b"" => None,
            text => Some(
                unsigned(text).ok_or_else(|| wrong(ErrorCode::TtlNaN, invalid_value("\"ttl\"")))?,
            ),
        };
        read.prev_exist = optional_flag(&form, "prevExist")?;
        read.refresh = optional_flag(&form, "refresh")?.unwrap_or_default();
        read.value = bytes(form.get("value"));
        if read.refresh && !read.value.is_empty() {
            return Err(wrong(ErrorCode::RefreshValue, "A value was provided on a refresh"));
        }
        if read.refresh && read.ttl.is_none() {
            return Err(wrong(ErrorCode::RefreshTtlRequired, "No TTL value set"));
        }
        Ok(read)
    }

    /// Whether a write is to compare first.
    pub(super) fn compares(&self) -> bool {
        self.prev_index > 0 || !self.prev_value.is_empty()
    }
}

fn bytes(field: Option<&[u8]>) -> Bytes {
    Bytes::copy_from_slice(field.unwrap_or_default())
}

fn wrong(code: ErrorCode, cause: impl Into<String>) -> Error {
    Error { code, cause: cause.into(), index: 0 }
}

fn invalid_value(name: &str) -> String {
    format!("invalid value for {name}")
}

fn number(form: &Form, name: &str) -> Result<u64, Error> {
    let Some(text) = form.get(name) else { return Ok(0) };
    let invalid = || wrong(ErrorCode::IndexNaN, invalid_value(&format!("{name:?}")));
    unsigned(text).ok_or_else(invalid)
}

/// Decimal digits and nothing else, as Go reads them: Rust would take a plus sign.
fn unsigned(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn flag(form: &Form, name: &str) -> Result<bool, Error> {
    let Some(text) = form.get(name) else { return Ok(false) };
    let invalid = || wrong(ErrorCode::InvalidField, invalid_value(&format!("{name:?}")));
    boolean(text).ok_or_else(invalid)
}

/// One whose absence means something else than `false`; etcd names it without quotes.
fn optional_flag(form: &Form, name: &str) -> Result<Option<bool>, Error> {
    let Some(text) = form.get(name) else { return Ok(None) };
    let invalid = || wrong(ErrorCode::InvalidField, invalid_value(name));
    boolean(text).map(Some).ok_or_else(invalid)
}

/// Go's `ParseBool`.
fn boolean(text: &[u8]) -> Option<bool> {
    match text {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, query: &str) -> Result<Parameters, Error> {
        let uri = format!("/v2/keys/a?{query}");
        Parameters::read(&Request::builder().method(method).uri(uri).body(Bytes::new()).unwrap())
    }

    #[test]
    fn all_fields_are_read() {
        let query = "value=v&prevValue=p&prevIndex=3&waitIndex=4&recursive=1&sorted=t&dir=TRUE\
                     &quorum=True&stream=T&noValueOnSuccess=true&ttl=0&prevExist=F";
        let expected = Parameters {
            value: Bytes::from("v"),
            prev_value: Bytes::from("p"),
            prev_index: 3,
            wait_index: 4,
            recursive: true,
            sorted: true,
            wait: false,
            dir: true,
            quorum: true,
            stream: true,
            no_value_on_success: true,
            ttl: Some(0),
            prev_exist: Some(false),
            refresh: false,
        };
        assert_eq!(read(Method::PUT, query), Ok(expected));
        assert_eq!(read(Method::PUT, ""), Ok(Parameters::default()));
        assert_eq!(read(Method::PUT, "ttl="), Ok(Parameters::default()));
        assert!(read(Method::PUT, "refresh=true&ttl=5&value=").unwrap().refresh);
        assert!(read(Method::GET, "wait=1").unwrap().wait);
    }

    /// Each error, and that it comes before all that follow.
    #[test]
    fn the_first_wrong_field_is_named() {
        let wrong = [
            ("prevIndex=%2B1", 203, "invalid value for \"prevIndex\""),
            ("waitIndex=", 203, "invalid value for \"waitIndex\""),
            ("recursive=x", 209, "invalid value for \"recursive\""),
            ("sorted=yes", 209, "invalid value for \"sorted\""),
            ("wait=tRUE", 209, "invalid value for \"wait\""),
            ("dir=", 209, "invalid value for \"dir\""),
            ("quorum=2", 209, "invalid value for \"quorum\""),
            ("stream=+true", 209, "invalid value for \"stream\""),
            ("prevValue=", 201, "\"prevValue\" cannot be empty"),
            ("noValueOnSuccess=x", 209, "invalid value for \"noValueOnSuccess\""),
            ("ttl=-1", 202, "invalid value for \"ttl\""),
            ("prevExist=", 209, "invalid value for prevExist"),
            ("refresh=x", 209, "invalid value for refresh"),
        ];
        for (nth, (_, number, cause)) in wrong.iter().enumerate() {
            let query: Vec<&str> = wrong[nth..].iter().rev().map(|(query, ..)| *query).collect();
            let error = read(Method::PUT, &query.join("&")).unwrap_err();
            assert_eq!((error.code.number(), &error.cause[..], error.index), (*number, *cause, 0));
        }
        for (query, number) in [
            ("wait=true&prevValue=", 209),
            ("refresh=true&value=x", 211),
            ("refresh=true&ttl=", 212),
            ("prevIndex=99999999999999999999", 203),
            ("a;b", 210),
        ] {
            assert_eq!(read(Method::POST, query).unwrap_err().code.number(), number, "{query}");
        }
    }
}
