//! The lines that `txn` reads: comparisons, and requests written like command lines. `watch -i` splits its lines likewise.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use urd_proto::etcdserverpb as pb;
use urd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use urd_proto::etcdserverpb::request_op::Request;

use super::kv::{DelArgs, GetArgs, PutArgs};
use crate::failure::Failure;
use crate::{go, options};

#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    request: LineRequest,
}

#[derive(Debug, Subcommand)]
enum LineRequest {
    Get(GetArgs),
    Put(PutArgs),
    Del(DelArgs),
}

/// `TARGET("KEY") OP "VALUE"`.
pub(crate) fn compare(line: &[u8]) -> Result<pb::Compare, Failure> {
    let text = String::from_utf8_lossy(line);
    let malformed = || {
        Failure::invalid_input(format!(
            "malformed comparison: {text}; write it as mod(\"key\") > \"0\""
        ))
    };
    let at = line.iter().position(|byte| *byte == b'(').ok_or_else(malformed)?;
    let (target, rest) =
        (text.get(..at).unwrap_or_default(), line.get(at + 1..).unwrap_or_default());
    let (key, rest) = quoted(rest).ok_or_else(malformed)?;
    let rest = rest.strip_prefix(b")").ok_or_else(malformed)?.trim_ascii_start();
    let operator_ends = rest.iter().position(u8::is_ascii_whitespace).ok_or_else(malformed)?;
    let (operator, rest) = rest.split_at(operator_ends);
    let (value, _) = quoted(rest.trim_ascii_start()).ok_or_else(malformed)?;
    let result = match operator {
        b"=" => CompareResult::Equal,
        b"!=" => CompareResult::NotEqual,
        b">" => CompareResult::Greater,
        b"<" => CompareResult::Less,
        _ => {
            return Err(Failure::invalid_input(format!(
                "unknown comparison in: {text}; there are =, !=, < and >"
            )));
        }
    };
    let invalid = || Failure::invalid_input(format!("invalid txn compare request: {text}"));
    let value_text = String::from_utf8_lossy(&value);
    let number = |radix| go::parse_i64(&value_text, radix).map_err(|_| invalid());
    let (target, union) = match target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.into())),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        other => {
            return Err(Failure::invalid_input(format!(
                "malformed comparison: {text} (unknown target {other}; there are version, create, mod, value and lease)"
            )));
        }
    };
    Ok(pb::Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        range_end: bytes::Bytes::new(),
        target_union: Some(union),
    })
}

/// A text in double quotes at the beginning, and what follows it.
fn quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let end = closing_quote(text)?;
    let (quoted, rest) = text.split_at(end + 1);
    Some((go::unquote(quoted)?, rest))
}

/// Where the double quote that begins `text` is closed.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    (text.first() == Some(&b'"')).then_some(())?;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at),
            _ => {}
        }
    }
    None
}

/// A request such as `put key "a value" --prev-kv`.
pub(crate) async fn operation(line: &[u8]) -> Result<pb::RequestOp, Failure> {
    let text = String::from_utf8_lossy(line);
    let words = split(line)?;
    if words.len() < 2 {
        return Err(Failure::invalid_input(format!("invalid txn compare request: {text}")));
    }
    let parsed = options::with_gos_manners(Line::command())
        .try_get_matches_from(words)
        .and_then(|matches| Line::from_arg_matches(&matches));
    let parsed =
        parsed.map_err(|_| Failure::invalid_input(format!("invalid txn request: {text}")))?;
    let request = match parsed.request {
        LineRequest::Get(args) => Request::RequestRange(args.request()?),
        LineRequest::Put(args) => Request::RequestPut(args.request()?),
        LineRequest::Del(args) => Request::RequestDeleteRange(args.request().await?),
    };
    Ok(pb::RequestOp { request: Some(request) })
}

/// Words, split at spaces; `"double"` quotes hold escapes, `'single'` ones none.
pub(crate) fn split(line: &[u8]) -> Result<Vec<OsString>, Failure> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.first() {
        match first {
            b'"' if closing_quote(rest).is_some() => {
                let invalid = || {
                    let text = String::from_utf8_lossy(line);
                    Failure::invalid_input(format!("a quoted word cannot be read in: {text}"))
                };
                let (word, after) = quoted(rest).ok_or_else(invalid)?;
                words.push(OsString::from_vec(word));
                rest = after;
            }
            b'\'' if rest.iter().skip(1).any(|byte| *byte == b'\'') => {
                let end = rest.iter().skip(1).position(|byte| *byte == b'\'').unwrap_or_default();
                words.push(OsString::from_vec(rest.get(1..end + 1).unwrap_or_default().to_vec()));
                rest = rest.get(end + 2..).unwrap_or_default();
            }
            b'"' | b'\'' => rest = rest.get(1..).unwrap_or_default(),
            byte if byte.is_ascii_whitespace() => rest = rest.get(1..).unwrap_or_default(),
            _ => {
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                words.push(OsString::from_vec(word.to_vec()));
                rest = after;
            }
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_at_spaces_outside_quotes() {
        let words = split(br#"put "t/with \"space" 'a  b' --x="y" plain"#).expect("words");
        assert_eq!(words, ["put", "t/with \"space", "a  b", "--x=\"y\"", "plain"]);
        assert!(split(br#"put "\q""#).is_err());
    }

    #[test]
    fn comparisons_are_read() {
        let read = compare(br#"value("a b") != "x""#).expect("a comparison");
        assert_eq!((read.key.as_ref(), read.target()), (&b"a b"[..], CompareTarget::Value));
        assert_eq!(read.target_union, Some(TargetUnion::Value("x".into())));
        for wrong in [
            &br#"nonsense"#[..],
            br#"value("a" = "x""#,
            br#"size("a") = "1""#,
            br#"mod("a") > "x""#,
        ] {
            assert!(compare(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }
}
