//! The text of one value to what it means, as Go's flag package and etcd read it.
//!
//! Every function is pure and returns the reason alone; who calls knows where the value came from
//! and says so.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::url::Url;

/// What Go's flag package answers to a number, duration or boolean that it cannot read.
const PARSE_ERROR: &str = "parse error";

/// Processors that a list may name: far above any machine, so that `0-4000000000` is not expanded.
const CPUS_MAX: usize = 8192;

/// Go's spellings of a boolean.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(PARSE_ERROR.to_owned()),
    }
}

/// A number without sign; `0x`, `0o`, `0b` and a leading 0 change the base, as in Go.
pub(super) fn unsigned(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = if let Some(digits) = lower.strip_prefix("0x") {
        (digits, 16)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (digits, 2)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (digits, 8)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (&lower[1..], 8)
    } else {
        (lower.as_str(), 10)
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(PARSE_ERROR.to_owned());
    }
    // All digits are right, so only the size can be wrong.
    u64::from_str_radix(digits, radix).map_err(|_| "value out of range".to_owned())
}

/// A number that may be negative.
pub(super) fn integer(text: &str) -> Result<i64, String> {
    let out_of_range = || "value out of range".to_owned();
    match text.strip_prefix('-') {
        Some(digits) => 0i64.checked_sub_unsigned(unsigned(digits)?).ok_or_else(out_of_range),
        None => {
            let digits = text.strip_prefix('+').unwrap_or(text);
            i64::try_from(unsigned(digits)?).map_err(|_| out_of_range())
        }
    }
}

/// Go's durations: `1h30m`, `1.5s`, `100ms`, `-5s`, `0`. The result is in nanoseconds, since a
/// negative one is meant to be readable (and then refused by name where it makes no sense).
pub(super) fn nanoseconds(text: &str) -> Result<i64, String> {
    let error = || PARSE_ERROR.to_owned();
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(error());
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let (number, tail) = rest.split_at(number_len);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let part = times(number, unit_nanoseconds(unit).ok_or_else(error)?).ok_or_else(error)?;
        total = total.checked_add(part).ok_or_else(error)?;
        rest = tail;
    }
    Ok(if negative { -total } else { total })
}

fn unit_nanoseconds(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3600 * 1_000_000_000,
        _ => return None,
    })
}

/// A decimal fraction times a unit, without going through floating point.
fn times(number: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let mut value = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()? };
    value = value.checked_mul(unit)?;
    // Eighteen digits of an hour are below a nanosecond. u128, because of their product.
    let mut scale: u128 = 1;
    let mut numerator: u128 = 0;
    for digit in fraction.chars().take(18) {
        numerator = numerator * 10 + u128::from(digit.to_digit(10)?);
        scale *= 10;
    }
    let part = numerator * u128::try_from(unit).ok()? / scale;
    value.checked_add(i64::try_from(part).ok()?)
}

/// A duration that may not be negative.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let nanoseconds = nanoseconds(text)?;
    let nanoseconds = u64::try_from(nanoseconds).map_err(|_| "must not be negative".to_owned())?;
    Ok(Duration::from_nanos(nanoseconds))
}

/// Comma-separated words, each once, sorted, as etcd keeps them.
pub(super) fn list(text: &str) -> Vec<String> {
    let words: BTreeSet<&str> =
        text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    words.into_iter().map(str::to_owned).collect()
}

/// Comma-separated URLs, each once, sorted. The empty text is the empty list.
pub(super) fn urls(text: &str) -> Result<Vec<Url>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let urls = text.split(',').map(Url::parse).collect::<Result<BTreeSet<Url>, String>>()?;
    Ok(urls.into_iter().collect())
}

/// Origins: URLs, or `*` for all of them, which is also what the empty text means.
pub(super) fn origins(text: &str) -> Result<Vec<String>, String> {
    let words = list(text);
    for word in words.iter().filter(|word| *word != "*") {
        Url::parse(word)?;
    }
    Ok(if words.is_empty() { vec!["*".to_owned()] } else { words })
}

/// Processors as the kernel's tools write them: `0-3,5`. Sorted, each once.
pub(super) fn cpus(text: &str) -> Result<Vec<usize>, String> {
    let number = |text: &str| -> Result<usize, String> {
        let number = text.trim();
        match number.parse::<usize>() {
            Ok(cpu) if cpu < CPUS_MAX && number.starts_with(|c: char| c.is_ascii_digit()) => {
                Ok(cpu)
            }
            _ => Err(format!(
                "{number:?} is not a processor number below {CPUS_MAX}; write a list like 0-3,5"
            )),
        }
    };
    let mut cpus = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => {
                let cpu = number(part)?;
                (cpu, cpu)
            }
        };
        if first > last {
            return Err(format!("the range {} runs backwards", part.trim()));
        }
        cpus.extend(first..=last);
    }
    Ok(cpus.into_iter().collect())
}
