//! The format of `etcdctl.script`, which its head describes. A line that cannot be read fails the test with its number.

use std::ffi::{OsStr, OsString};
use std::iter::Peekable;
use std::os::unix::ffi::OsStrExt;
use std::str::{Chars, Lines};

/// One command line.
#[derive(Debug)]
pub(crate) struct Step {
    /// Where it stands in the script.
    pub line: usize,
    /// The heading above it.
    pub section: String,
    /// As written, for the report.
    pub text: String,
    /// The words, unquoted; bytes, because keys need not be UTF-8.
    pub words: Vec<Vec<u8>>,
    /// The standard input.
    pub input: Vec<u8>,
}

impl Step {
    pub(crate) fn arguments(&self) -> impl Iterator<Item = OsString> {
        self.words.iter().map(|word| OsStr::from_bytes(word).to_owned())
    }

    /// With the leases' ids for their names, in the words and on standard input.
    pub(crate) fn with_leases(&self, leases: &[u64]) -> Step {
        let named = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            // `LEASE12` begins with `LEASE1`.
            for (nth, id) in leases.iter().enumerate().rev() {
                let (name, id) = (format!("LEASE{}", nth + 1), format!("{id:x}"));
                while let Some(at) =
                    bytes.windows(name.len()).position(|found| found == name.as_bytes())
                {
                    bytes.splice(at..at + name.len(), id.bytes());
                }
            }
            bytes
        };
        Step {
            line: self.line,
            section: self.section.clone(),
            text: self.text.clone(),
            words: self.words.iter().map(|word| named(word)).collect(),
            input: named(&self.input),
        }
    }

    /// Whether the words hold `word`.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.words.iter().any(|candidate| candidate == word.as_bytes())
    }
}

type Numbered<'a> = Peekable<std::iter::Enumerate<Lines<'a>>>;

/// All commands of a script.
pub(crate) fn parse(script: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut section = String::new();
    let mut lines = script.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if let Some(heading) = line.strip_prefix("== ") {
            heading.clone_into(&mut section);
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            steps.push(step(number + 1, &section, line, &mut lines));
        }
    }
    steps
}

fn step(line: usize, section: &str, text: &str, lines: &mut Numbered<'_>) -> Step {
    let mut words = split(line, text);
    let mut input = Vec::new();
    let mut text = text.to_owned();
    if let Some(at) =
        words.iter().position(|word| word.plain && matches!(&word.bytes[..], b"<" | b"<<"))
    {
        let redirection = words.split_off(at);
        let words: Vec<&[u8]> = redirection.iter().map(|word| &word.bytes[..]).collect();
        input = match words[..] {
            [b"<<", end] => {
                let lines = here_document(line, end, lines);
                text =
                    format!("{text}\n{}", lines.trim_end_matches('\n').replace('\n', "\n    | "));
                (lines + "\n\n").into_bytes()
            }
            [b"<", content] => content.to_vec(),
            [b"<", b"repeat", content, count] => content.repeat(number(line, count)),
            [b"<", b"repeat-lines", template, count] => {
                numbered_lines(template, number(line, count))
            }
            _ => panic!("etcdctl.script:{line}: not a standard input: {text}"),
        };
    }
    let words = words.into_iter().map(|word| word.bytes).collect();
    Step { line, section: section.to_owned(), text, words, input }
}

fn here_document(line: usize, end: &[u8], lines: &mut Numbered<'_>) -> String {
    let mut document = String::new();
    for (_, text) in lines.by_ref() {
        if text.as_bytes() == end {
            return document;
        }
        document += text;
        document.push('\n');
    }
    panic!("etcdctl.script:{line}: the standard input has no end")
}

/// A transaction without compares whose operations are `template`, `%d` being their number.
fn numbered_lines(template: &[u8], count: usize) -> Vec<u8> {
    let template = String::from_utf8_lossy(template);
    let lines: Vec<String> =
        (0..count).map(|number| template.replace("%d", &format!("{number:03}"))).collect();
    format!("\n{}\n\n\n", lines.join("\n")).into_bytes()
}

fn number(line: usize, word: &[u8]) -> usize {
    let text = String::from_utf8_lossy(word);
    text.parse().unwrap_or_else(|_| panic!("etcdctl.script:{line}: not a number: {text}"))
}

struct Word {
    bytes: Vec<u8>,
    /// Written without quotes: only such a word can be a redirection.
    plain: bool,
}

fn split(line: usize, text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut characters = text.chars().peekable();
    loop {
        while characters.next_if(|character| *character == ' ').is_some() {}
        if characters.peek().is_none() {
            return words;
        }
        words.push(word(line, &mut characters));
    }
}

fn word(line: usize, characters: &mut Peekable<Chars<'_>>) -> Word {
    let mut bytes = Vec::new();
    let mut plain = true;
    while let Some(character) = characters.next_if(|character| *character != ' ') {
        match character {
            '\'' => {
                plain = false;
                bytes.extend(
                    characters
                        .by_ref()
                        .take_while(|character| *character != '\'')
                        .collect::<String>()
                        .bytes(),
                );
            }
            '"' => {
                plain = false;
                quoted(line, characters, &mut bytes);
            }
            other => bytes.extend(other.to_string().bytes()),
        }
    }
    Word { bytes, plain }
}

/// The rest of a word in double quotes.
fn quoted(line: usize, characters: &mut Peekable<Chars<'_>>, bytes: &mut Vec<u8>) {
    loop {
        match characters.next() {
            Some('"') => return,
            Some('\\') => match characters.next() {
                Some('n') => bytes.push(b'\n'),
                Some('t') => bytes.push(b'\t'),
                Some('x') => {
                    let digits: String = characters.by_ref().take(2).collect();
                    let byte = u8::from_str_radix(&digits, 16);
                    bytes.push(byte.unwrap_or_else(|_| {
                        panic!("etcdctl.script:{line}: not a byte: \\x{digits}")
                    }));
                }
                Some(other) => bytes.extend(other.to_string().bytes()),
                None => panic!("etcdctl.script:{line}: ends in a backslash"),
            },
            Some(other) => bytes.extend(other.to_string().bytes()),
            None => panic!("etcdctl.script:{line}: a quote is not closed"),
        }
    }
}

#[test]
fn reads_words_and_inputs() {
    let steps = parse(
        "# note\n== head\nput a \"x\\x01 \\\"y\" < repeat z 3\n\ntxn << E\n\nget a\nE\nget 'a b'c \"<\"\n",
    );
    let words: Vec<Vec<&[u8]>> =
        steps.iter().map(|step| step.words.iter().map(|word| &word[..]).collect()).collect();
    assert_eq!(words[0], [&b"put"[..], b"a", b"x\x01 \"y"]);
    assert_eq!(words[2], [&b"get"[..], b"a bc", b"<"]);
    assert_eq!(steps[0].input, b"zzz");
    assert_eq!(steps[1].input, b"\nget a\n\n\n");
    assert_eq!((steps[0].line, &steps[0].section[..]), (3, "head"));
}
