//! What came of a run, in a line: the loop's only sight of which way the code went.

use std::fmt::{self, Display, Write};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A text takes so much of the line at most.
const TEXT_BYTES_MAX: usize = 80;

/// See the module's page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome(String);

impl Outcome {
    /// Something that happened, as it is.
    pub fn note(&mut self, what: &str) {
        self.0.push_str(what);
        self.0.push(' ');
    }

    /// The same, where it does not matter how often and in which order.
    pub fn once(&mut self, what: &str) {
        if !self.0.split(' ').any(|known| known == what) {
            self.note(what);
        }
    }

    /// What came of a part, where it does not matter how often and in which order parts came to it.
    pub fn part(&mut self, part: &Outcome) {
        self.once(&part.0.trim_end().replace(' ', "_"));
    }

    /// So many of something. Large numbers count as their power of two, or every length would be news.
    pub fn count(&mut self, what: &str, count: usize) {
        let shown =
            if count < 4 { count } else { count.checked_next_power_of_two().unwrap_or(usize::MAX) };
        self.write(format_args!("{what}={shown} "));
    }

    /// An error, or any text: which one it is, not what numbers and names stand in it.
    pub fn text(&mut self, text: &impl Display) {
        let text = kind(&text.to_string());
        self.write(format_args!("[{text}] "));
    }

    /// What `result` was: its error's text if it failed.
    pub fn result<T, E: Display>(&mut self, what: &str, result: &Result<T, E>) {
        self.note(what);
        match result {
            Ok(_) => self.note("ok"),
            Err(error) => self.text(error),
        }
    }

    /// A number that is the same for the same line.
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }

    fn write(&mut self, what: fmt::Arguments<'_>) {
        self.0.write_fmt(what).expect("invariant: a String grows");
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.trim_end().fmt(f)
    }
}

/// A text without what differs from one case of it to the next: numbers, and what is quoted.
pub fn kind(text: &str) -> String {
    let mut kind = String::new();
    let mut quote = None;
    let mut in_number = false;
    for character in text.chars() {
        if let Some(end) = quote {
            if character == end {
                quote = None;
            }
            continue;
        }
        let continues = in_number && character.is_ascii_hexdigit();
        in_number = character.is_ascii_digit() || continues;
        match character {
            _ if continues => {}
            _ if in_number => kind.push('#'),
            '"' | '`' => {
                quote = Some(character);
                kind.push('"');
            }
            _ if character.is_ascii_graphic() || character == ' ' => kind.push(character),
            _ => kind.push('?'),
        }
        if kind.len() >= TEXT_BYTES_MAX {
            break;
        }
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_what_they_say() {
        assert_eq!(kind("page 12: expected 0a3f, found 7"), "page #: expected #, found #");
        assert_eq!(kind("unknown key \"ab\u{e9}\" here"), "unknown key \" here");
        let mut first = Outcome::default();
        first.text(&"entry 7 of 9");
        first.count("frames", 100);
        let mut second = Outcome::default();
        second.text(&"entry 8 of 10");
        second.count("frames", 127);
        assert_eq!(first, second);
        assert_eq!(first.hash(), second.hash());
        second.note("more");
        assert_ne!(first.hash(), second.hash());
    }
}
