//! Bodies, byte by byte as Go's encoder writes etcd's structures: the order of fields, what is left out, what is escaped.

use std::fmt::Write as _;

use crate::store::v2::{Error, Event, Node};

/// An event, without its node where `bare`.
pub(super) fn event(event: &Event, bare: bool) -> String {
    let mut text = format!(r#"{{"action":"{}""#, event.action.name());
    if !bare {
        text.push_str(r#","node":"#);
        node(&mut text, &event.node);
        if let Some(before) = &event.prev_node {
            text.push_str(r#","prevNode":"#);
            node(&mut text, before);
        }
    }
    text.push_str("}\n");
    text
}

/// A refusal.
pub(super) fn error(error: &Error) -> String {
    let mut text = format!(r#"{{"errorCode":{},"message":"#, error.code.number());
    string(&mut text, error.code.message().as_bytes());
    if !error.cause.is_empty() {
        text.push_str(r#","cause":"#);
        string(&mut text, error.cause.as_bytes());
    }
    write(&mut text, format_args!(",\"index\":{}}}\n", error.index));
    text
}

/// `{"message":...}`, as everything but keys is refused.
pub(super) fn message(text: &str) -> String {
    let mut body = r#"{"message":"#.to_owned();
    string(&mut body, text.as_bytes());
    body.push('}');
    body
}

fn write(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("invariant: a String takes any text");
}

fn node(text: &mut String, node: &Node) {
    let begin = text.len();
    text.push('{');
    // The root has no name.
    if node.key != "/" {
        text.push_str(r#""key":"#);
        string(text, node.key.as_bytes());
        text.push(',');
    }
    if let Some(value) = &node.value {
        text.push_str(r#""value":"#);
        string(text, value);
        text.push(',');
    }
    if node.dir {
        text.push_str(r#""dir":true,"#);
    }
    if let Some(expiration) = node.expiration {
        write(text, format_args!(r#""expiration":"{}","#, Time(expiration)));
    }
    if node.ttl != 0 {
        write(text, format_args!(r#""ttl":{},"#, node.ttl));
    }
    if !node.nodes.is_empty() {
        text.push_str(r#""nodes":["#);
        for below in &node.nodes {
            self::node(text, below);
            text.push(',');
        }
        text.pop();
        text.push_str("],");
    }
    for (name, index) in
        [("modifiedIndex", node.modified_index), ("createdIndex", node.created_index)]
    {
        if index != 0 {
            write(text, format_args!(r#""{name}":{index},"#));
        }
    }
    if text.len() > begin + 1 {
        text.pop();
    }
    text.push('}');
}

/// Whether a byte stands for itself, whatever is around it.
fn is_plain(byte: &u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
}

fn escape(text: &mut String, character: char) {
    match character {
        '"' => text.push_str("\\\""),
        '\\' => text.push_str("\\\\"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        '<' | '>' | '&' | '\0'..='\x1f' | '\u{2028}' | '\u{2029}' | '\u{fffd}' => {
            write(text, format_args!("\\u{:04x}", u32::from(character)));
        }
        character => text.push(character),
    }
}

/// Appends a string in quotes. What is no UTF-8 is replaced, a byte at a time, or was already, in paths and causes; what
/// would mean something in HTML or JavaScript is escaped.
pub(super) fn string(text: &mut String, bytes: &[u8]) {
    text.push('"');
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid();
        while !rest.is_empty() {
            // Most text has nothing to escape: it goes as a whole.
            let (plain, odd) = rest.split_at(rest.bytes().take_while(is_plain).count());
            text.push_str(plain);
            let mut odd = odd.chars();
            if let Some(character) = odd.next() {
                escape(text, character);
            }
            rest = odd.as_str();
        }
        for _ in chunk.invalid() {
            text.push_str("\\ufffd");
        }
    }
    text.push('"');
}

/// Nanoseconds of Unix time, printed as RFC 3339 has it in UTC, without zeros at the end of the fraction.
pub(super) struct Time(pub i64);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NANOSECONDS: i64 = 1_000_000_000;
        const DAY: i64 = 86_400;
        let (seconds, fraction) = (self.0.div_euclid(NANOSECONDS), self.0.rem_euclid(NANOSECONDS));
        let (day, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        let (year, month, day) = date(day);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if fraction != 0 {
            let digits = format!("{fraction:09}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

/// The date of a day counted from 1970-01-01, in the Gregorian calendar. Years are counted from March on, so that the day
/// that some have more is their last.
fn date(days: i64) -> (i64, i64, i64) {
    const DAYS_IN_400_YEARS: i64 = 146_097;
    const FROM_MARCH_OF_YEAR_0: i64 = 719_468;
    let days = days + FROM_MARCH_OF_YEAR_0;
    let era = days.div_euclid(DAYS_IN_400_YEARS);
    let day_of_era = days.rem_euclid(DAYS_IN_400_YEARS);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Five months have 153 days, from March on.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::v2::{ErrorCode, EventAction};
    use bytes::Bytes;

    fn file(key: &str, value: &str, index: u64) -> Node {
        Node {
            key: key.to_owned(),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            modified_index: index,
            created_index: index,
            ..Node::default()
        }
    }

    #[test]
    fn events_are_written_as_etcd_does() {
        let expiration = Some(1_795_967_288_535_170_430);
        let before = Node { expiration, ttl: 100, ..file("/a", "1", 4) };
        let set = Event {
            action: EventAction::Set,
            node: file("/a", "", 5),
            prev_node: Some(before),
            index: 5,
        };
        assert_eq!(
            event(&set, false),
            "{\"action\":\"set\",\"node\":{\"key\":\"/a\",\"value\":\"\",\"modifiedIndex\":5,\
             \"createdIndex\":5},\"prevNode\":{\"key\":\"/a\",\"value\":\"1\",\"expiration\":\
             \"2026-11-29T15:48:08.53517043Z\",\"ttl\":100,\"modifiedIndex\":4,\"createdIndex\":4}}\n"
        );
        assert_eq!(event(&set, true), "{\"action\":\"set\"}\n");

        let root = |nodes| Event {
            action: EventAction::Get,
            node: Node { key: "/".to_owned(), dir: true, nodes, ..Node::default() },
            prev_node: None,
            index: 5,
        };
        assert_eq!(
            event(&root(Vec::new()), false),
            "{\"action\":\"get\",\"node\":{\"dir\":true}}\n"
        );
        assert_eq!(
            event(&root(vec![file("/a", "1", 4), file("/b", "2", 5)]), false),
            "{\"action\":\"get\",\"node\":{\"dir\":true,\"nodes\":[\
             {\"key\":\"/a\",\"value\":\"1\",\"modifiedIndex\":4,\"createdIndex\":4},\
             {\"key\":\"/b\",\"value\":\"2\",\"modifiedIndex\":5,\"createdIndex\":5}]}}\n"
        );
    }

    #[test]
    fn refusals_are_written_as_etcd_does() {
        let refused =
            Error { code: ErrorCode::TestFailed, cause: "[<a> != \"b\"]".to_owned(), index: 8 };
        assert_eq!(
            error(&refused),
            "{\"errorCode\":101,\"message\":\"Compare failed\",\
             \"cause\":\"[\\u003ca\\u003e != \\\"b\\\"]\",\"index\":8}\n"
        );
        let refused = Error { code: ErrorCode::NotFile, cause: String::new(), index: 8 };
        assert_eq!(error(&refused), "{\"errorCode\":102,\"message\":\"Not a file\",\"index\":8}\n");
        assert_eq!(message("no"), "{\"message\":\"no\"}");
    }

    #[test]
    fn strings_are_escaped_as_in_go() {
        let mut text = String::new();
        let odd = b"\x00\x08\x0c\x1f\x7f\"\\/'&<>\n\r\t\xe2\x80\xa8\xe2\x80\xa9\xc3\xa9\xc3(\xed\xa0\x80\xff";
        string(&mut text, odd);
        assert_eq!(
            text,
            "\"\\u0000\\u0008\\u000c\\u001f\x7f\\\"\\\\/'\\u0026\\u003c\\u003e\\n\\r\\t\\u2028\\u2029é\
             \\ufffd(\\ufffd\\ufffd\\ufffd\\ufffd\""
        );
    }

    #[test]
    fn times_are_rfc_3339() {
        const SECOND: i64 = 1_000_000_000;
        for (time, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400 * SECOND, "2000-02-29T00:00:00Z"),
            (1_709_251_199 * SECOND + 500_000_000, "2024-02-29T23:59:59.5Z"),
            (4_107_542_400 * SECOND + 1, "2100-03-01T00:00:00.000000001Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ] {
            assert_eq!(Time(time).to_string(), text);
        }
    }
}
