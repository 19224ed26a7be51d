//! Printing a document: for people a line a field, or as JSON.

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;
use std::io::{self, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Simple,
    Json,
}

pub(crate) fn print(
    document: &impl Serialize,
    format: Format,
    out: &mut impl Write,
) -> io::Result<()> {
    let value = serde_json::to_value(document)?;
    match format {
        Format::Json => writeln!(out, "{value}"),
        Format::Simple => print_fields("", &value, out),
    }
}

/// Fields of fields with their names joined by dots.
fn print_fields(name: &str, value: &Value, out: &mut impl Write) -> io::Result<()> {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let separator = if name.is_empty() { "" } else { "." };
                print_fields(&format!("{name}{separator}{field}"), value, out)?;
            }
            Ok(())
        }
        Value::Null => writeln!(out, "{name}: none"),
        Value::String(text) => writeln!(out, "{name}: {text}"),
        other => writeln!(out, "{name}: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn printed(format: Format) -> String {
        let document = json!({ "a": { "b": 1, "c": null }, "d": "x", "e": [1, 2] });
        let mut out = Vec::new();
        print(&document, format, &mut out).expect("writes to memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_line_a_field() {
        assert_eq!(printed(Format::Simple), "a.b: 1\na.c: none\nd: x\ne: [1,2]\n");
        assert_eq!(printed(Format::Json), "{\"a\":{\"b\":1,\"c\":null},\"d\":\"x\",\"e\":[1,2]}\n");
    }
}
