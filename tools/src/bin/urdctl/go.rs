//! Texts in the forms that Go's libraries give them and read them in, because etcdctl's users and scripts know those:
//! quoted strings, durations, numbers, booleans, and sizes in round units.

use std::time::Duration;

/// Bytes as `%q` prints them.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            quote_character(character, &mut text);
        }
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    text.push('"');
    text
}

fn quote_character(character: char, text: &mut String) {
    match character {
        '"' => text.push_str("\\\""),
        '\\' => text.push_str("\\\\"),
        '\'' => text.push('\''),
        '\x07' => text.push_str("\\a"),
        '\x08' => text.push_str("\\b"),
        '\x0c' => text.push_str("\\f"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        '\x0b' => text.push_str("\\v"),
        _ if is_printable(character) => text.push(character),
        '\0'..='\x7f' => *text += &format!("\\x{:02x}", u32::from(character)),
        '\u{80}'..='\u{ffff}' => *text += &format!("\\u{:04x}", u32::from(character)),
        _ => *text += &format!("\\U{:08x}", u32::from(character)),
    }
}

fn is_printable(character: char) -> bool {
    // A combining mark alone would be escaped, behind a letter it is not.
    let after_a_letter = format!("x{character}");
    after_a_letter.escape_debug().count() == after_a_letter.chars().count()
}

/// The bytes that a text in double quotes stands for, its quotes included in `quoted`.
pub(crate) fn unquote(quoted: &[u8]) -> Option<Vec<u8>> {
    let inner = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'\\' => rest = unescape(rest, &mut bytes)?,
            b'"' | b'\n' => return None,
            other => bytes.push(other),
        }
    }
    Some(bytes)
}

/// Reads what follows a backslash, and gives what is left.
fn unescape<'a>(text: &'a [u8], bytes: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (&letter, rest) = text.split_first()?;
    let plain = match letter {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' | b'"' => letter,
        b'x' => return number(rest, 2, 16, |value| push_byte(bytes, value)),
        b'u' | b'U' => {
            let digits = if letter == b'u' { 4 } else { 8 };
            return number(rest, digits, 16, |value| {
                let character = char::from_u32(value)?;
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                Some(())
            });
        }
        b'0'..=b'7' => return number(text, 3, 8, |value| push_byte(bytes, value)),
        _ => return None,
    };
    bytes.push(plain);
    Some(rest)
}

fn push_byte(bytes: &mut Vec<u8>, value: u32) -> Option<()> {
    bytes.push(u8::try_from(value).ok()?);
    Some(())
}

fn number(
    text: &[u8],
    digits: usize,
    radix: u32,
    take: impl FnOnce(u32) -> Option<()>,
) -> Option<&[u8]> {
    let (number, rest) = text.split_at_checked(digits)?;
    let number = std::str::from_utf8(number).ok()?;
    number.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
    take(u32::from_str_radix(number, radix).ok()?)?;
    Some(rest)
}

/// A signed number as `strconv.ParseInt` reads it; the error is its text.
pub(crate) fn parse_i64(text: &str, radix: u32) -> Result<i64, String> {
    i64::from_str_radix(text, radix).map_err(|error| refused("ParseInt", text, error.kind()))
}

/// An unsigned number as `strconv.ParseUint` reads it; the error is its text.
pub(crate) fn parse_u64(text: &str, radix: u32) -> Result<u64, String> {
    let digits = if text.starts_with('+') { "" } else { text };
    u64::from_str_radix(digits, radix).map_err(|error| refused("ParseUint", text, error.kind()))
}

fn refused(function: &str, text: &str, kind: &std::num::IntErrorKind) -> String {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let reason = match kind {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    format!("strconv.{function}: parsing {}: {reason}", quote(text.as_bytes()))
}

/// A number given to a flag: decimal, or with Go's prefixes `0x`, `0o`, `0b` and `0`.
pub(crate) fn flag_number(text: &str) -> Result<i64, String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, lower.get(2..)),
        Some("0o") => (8, lower.get(2..)),
        Some("0b") => (2, lower.get(2..)),
        Some(prefix) if prefix.starts_with('0') => (8, lower.get(1..)),
        _ => (10, Some(&lower[..])),
    };
    let number = format!("{sign}{}", digits.unwrap_or_default());
    i64::from_str_radix(&number, radix).map_err(|error| refused("ParseInt", text, error.kind()))
}

/// A boolean given to a flag.
pub(crate) fn flag_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{} is neither true nor false", quote(text.as_bytes()))),
    }
}

const UNITS: &[(&str, f64)] = &[
    ("ns", 1.0),
    ("us", 1e3),
    ("\u{b5}s", 1e3),
    ("\u{3bc}s", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// A time such as `5s`, `1m30s` or `1.5h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("not a time: {}; write it as 5s, 1m30s or 250ms", quote(text.as_bytes()));
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut nanoseconds = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let is_digit = |character: char| character.is_ascii_digit() || character == '.';
        let (value, tail) = rest.split_at(rest.find(|c| !is_digit(c)).ok_or_else(wrong)?);
        let (unit, tail) = tail.split_at(tail.find(is_digit).unwrap_or(tail.len()));
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        nanoseconds += value.parse::<f64>().map_err(|_| wrong())? * factor;
        rest = tail;
    }
    if nanoseconds > i64::MAX as f64 {
        return Err(wrong());
    }
    Ok(Duration::from_nanos(nanoseconds as u64))
}

/// A time as Go prints it.
pub(crate) fn show_duration(duration: Duration) -> String {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let fraction = |unit: u64, digits: usize| {
        let text = format!("{}.{:0digits$}", nanoseconds / unit, nanoseconds % unit);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => format!("{}\u{b5}s", fraction(1_000, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(1_000_000, 6)),
        _ => {
            let (minutes, rest) = (nanoseconds / 60_000_000_000, nanoseconds % 60_000_000_000);
            let seconds = format!("{}.{:09}", rest / 1_000_000_000, rest % 1_000_000_000);
            let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// A size in powers of 1000, with one digit behind the point below ten.
pub(crate) fn show_size(bytes: u64) -> String {
    const NAMES: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut exponent = 0;
    let mut unit = 1_u64;
    while exponent + 1 < NAMES.len() && bytes / unit >= 1000 {
        unit *= 1000;
        exponent += 1;
    }
    let value = (bytes as f64 / unit as f64 * 10.0 + 0.5).floor() / 10.0;
    let name = NAMES.get(exponent).unwrap_or(&"EB");
    if value < 10.0 { format!("{value:.1} {name}") } else { format!("{value:.0} {name}") }
}

/// A text in JSON. Go's encoder escapes what HTML would read, too.
pub(crate) fn json_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\0'..'\x20' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                quoted += &format!("\\u{:04x}", u32::from(character));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does_and_reads_it_back() {
        for (bytes, quoted) in [
            (&b"plain 'word'"[..], r#""plain 'word'""#),
            (b"a\"b\\c\n\t\x07\x00\x7f", r#""a\"b\\c\n\t\a\x00\x7f""#),
            (b"\xff\xfe", r#""\xff\xfe""#),
            ("\u{e9}\u{200b}\u{1f600}\u{e000}".as_bytes(), "\"\u{e9}\\u200b\u{1f600}\\ue000\""),
        ] {
            assert_eq!(quote(bytes), quoted);
            assert_eq!(unquote(quoted.as_bytes()).as_deref(), Some(bytes));
        }
        assert_eq!(unquote(br#""\101\u00e9""#).as_deref(), Some("A\u{e9}".as_bytes()));
        for wrong in [&br#""\q""#[..], br#""\x1""#, br#""a"b""#, b"\"", b"x"] {
            assert_eq!(unquote(wrong), None, "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn times_and_sizes_are_gos() {
        for (text, nanoseconds) in
            [("5s", 5_000_000_000), ("1m30s", 90_000_000_000), ("1.5ms", 1_500_000), ("0", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
        for wrong in ["", "5", "s", "5 s", "-1s", "1x"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        for (nanoseconds, text) in [
            (852_997, "852.997\u{b5}s"),
            (1_569_327, "1.569327ms"),
            (5_001_035_914, "5.001035914s"),
            (60_000_000_000, "1m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (7, "7ns"),
        ] {
            assert_eq!(show_duration(Duration::from_nanos(nanoseconds)), text);
        }
        for (bytes, text) in
            [(0, "0 B"), (9, "9 B"), (20_480, "20 kB"), (1_500_000, "1.5 MB"), (999, "999 B")]
        {
            assert_eq!(show_size(bytes), text);
        }
    }

    #[test]
    fn numbers_are_refused_in_gos_words() {
        assert_eq!(parse_i64("-7f", 16), Ok(-127));
        assert_eq!(
            parse_u64("zz", 16).unwrap_err(),
            "strconv.ParseUint: parsing \"zz\": invalid syntax"
        );
        assert_eq!(
            parse_i64("99999999999999999999", 10).unwrap_err(),
            "strconv.ParseInt: parsing \"99999999999999999999\": value out of range"
        );
        assert_eq!(
            (flag_number("0x10"), flag_number("-5"), flag_number("0")),
            (Ok(16), Ok(-5), Ok(0))
        );
    }
}
