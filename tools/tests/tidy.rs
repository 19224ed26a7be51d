//! Rules of the house that a compiler does not check, read off the source files themselves.
//!
//! | rule | why |
//! |---|---|
//! | modules import only downwards ([`DIRECTIONS`]) | the store runs in a simulator only as long as it knows no socket |
//! | `store` and `tree` name no clock, socket, randomness or hash map ([`FORBIDDEN_IN_THE_STATE_MACHINE`]) | every member must end in the same bytes |
//! | glommio only where executors and disks are driven ([`GLOMMIO_FILES`]) | the rest stays testable without a kernel ring |
//! | `unsafe` only in [`UNSAFE_FILES`] | few enough to be read again |
//! | every file begins with `//!` | what it is, why so, and what it does not do |
//! | no ownerless `TODO` | a temporary measure names the issue that ends it |
//! | files and functions have a length ([`FILE_LINES_MAX`], [`FUNCTION_LINES_MAX`]) | what cannot be held in the head is split |
//!
//! The lengths are ratchets: what was too long when the rule came stands in a list with its length, may not grow, and
//! leaves the list when it fits. Each rule is a function from a [`Source`] to complaints and has a test in which it must
//! complain; [`the_house_is_tidy`] runs them all over the repository.
//!
//! Comments and strings are told from code by a small lexer ([`Source::parse`]). It does not know macros: a module named
//! only inside a macro's tokens counts as named.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module of the server's crate may name: modules of the crate, and crates of the workspace.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("src/main.rs", &["urd", "config", "server", "urd_rings"]),
    (
        "src/server/",
        &[
            "api",
            "config",
            "error",
            "identity",
            "ids",
            "limits",
            "metrics",
            "net",
            "raft",
            "random",
            "store",
            "tree",
            "url",
            "urd_proto",
            "urd_wal",
        ],
    ),
    ("src/net/", &["api", "error", "ids", "limits", "metrics", "urd_http2"]),
    ("src/api/", &["error", "identity", "ids", "limits", "store", "url", "urd_proto", "version"]),
    ("src/raft/", &["error", "ids", "limits", "random", "store", "tree", "urd_wal"]),
    ("src/store/", &["error", "ids", "limits", "tree", "urd_proto"]),
    ("src/tree/", &["ids", "limits", "urd_wal"]),
    ("src/config/", &["error", "identity", "ids", "limits", "url", "version"]),
    ("src/metrics.rs", &["api", "ids", "limits", "version"]),
    ("src/error.rs", &[]),
    ("src/identity.rs", &["ids"]),
    ("src/ids.rs", &[]),
    ("src/limits.rs", &[]),
    ("src/random.rs", &[]),
    ("src/url.rs", &["limits"]),
    ("src/version.rs", &[]),
    ("wal/src/", &[]),
    ("proto/src/", &[]),
    ("http2/src/", &[]),
    ("rings/src/", &[]),
];

/// The crates of the workspace, as code names them.
const CRATES: &[&str] =
    &["urd", "urd_http2", "urd_proto", "urd_rings", "urd_wal", "urd_tools", "urd_benches"];

/// Words that would let two members differ, or tie the state machine to a machine.
const FORBIDDEN_IN_THE_STATE_MACHINE: &[&str] = &[
    "glommio",
    "tokio",
    "http",
    "h2",
    "hyper",
    "grpc",
    "tonic",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Instant",
    "SystemTime",
    "sleep",
    "fastrand",
    "rand",
    "getrandom",
    "HashMap",
    "HashSet",
    "RandomState",
    "File",
    "fs",
    "env",
];

/// Beginnings of the paths that may name glommio: those that start executors, drive sockets or disks, and programs.
const GLOMMIO_FILES: &[&str] = &[
    "src/server/",
    "src/net/",
    "src/raft/transport/",
    "src/tree/tests/checkpoints.rs",
    "src/tree/tests/copies.rs",
    "wal/src/disk/uring.rs",
    "wal/tests/",
    "rings/tests/",
    "tools/",
    "benches/",
];

/// Where `unsafe` may stand, and what for.
const UNSAFE_FILES: &[&str] = &[
    "wal/src/disk/map.rs",        // mapped log segments, read at recovery
    "src/tree/map.rs",            // the mapped checkpoint
    "src/net/listener.rs",        // sockets handed from shard to shard as descriptors
    "rings/src/lib.rs",           // rings made with a flag that glommio has no option for
    "tools/src/fuzz/counters.rs", // the compiler's counters of edges, in a build for coverage only
];

const FILE_LINES_MAX: usize = 800;
/// Files that were longer when the rule came, with their length then.
const LONG_FILES: &[(&str, usize)] = &[];

const FUNCTION_LINES_MAX: usize = 70;
/// Functions that were longer when the rule came, with their length then.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

/// One file: its text with comments and strings blanked out, and the comments alone, line by line.
struct Source {
    /// From the repository's top, with `/`.
    path: String,
    text: String,
    code: String,
    comments: String,
}

impl Source {
    fn parse(path: &str, text: &str) -> Source {
        let mut lexer = Lexer { rest: text, code: String::new(), comments: String::new() };
        while !lexer.rest.is_empty() {
            lexer.step();
        }
        let Lexer { code, comments, .. } = lexer;
        Source { path: path.to_owned(), text: text.to_owned(), code, comments }
    }

    /// Tests, benches and the programs that test: rules about the product's own shape pass them by.
    fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    /// The code before an inline `#[cfg(test)]` module.
    fn product_code(&self) -> &str {
        match self.code.find("#[cfg(test)]\nmod tests {") {
            Some(end) => self.code.get(..end).unwrap_or_default(),
            None => &self.code,
        }
    }
}

/// Copies a file's characters to `code` or `comments`, and blanks for them to the other, so that lines agree.
struct Lexer<'a> {
    rest: &'a str,
    code: String,
    comments: String,
}

impl Lexer<'_> {
    fn step(&mut self) {
        let rest = self.rest;
        if rest.starts_with("//") {
            self.comment(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.comment(block_comment_length(rest));
        } else if let Some(hashes) = raw_string_hashes(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = rest.find('"').map_or(rest.len(), |at| at + 1);
            let length =
                rest.get(begin..).and_then(|body| body.find(&end)).map(|at| begin + at + end.len());
            self.string(length.unwrap_or(rest.len()));
        } else if rest.starts_with('"') {
            self.string(string_length(rest));
        } else if let Some(length) = character_length(rest) {
            self.string(length);
        } else {
            // A whole word at once: the `r` that ends one does not begin a raw string.
            let word = rest.find(|character: char| !is_of_word(character)).unwrap_or(rest.len());
            let first = rest.chars().next().map_or(0, char::len_utf8);
            let (token, _) = rest.split_at(word.max(first));
            self.code.push_str(token);
            self.comments.push_str(&blank(token));
            self.skip(token.len());
        }
    }

    fn comment(&mut self, length: usize) {
        let (token, _) = self.rest.split_at(length);
        self.comments.push_str(token);
        self.code.push_str(&blank(token));
        self.skip(length);
    }

    fn string(&mut self, length: usize) {
        let (token, _) = self.rest.split_at(length);
        let blanked = blank(token);
        self.code.push_str(&blanked);
        self.comments.push_str(&blanked);
        self.skip(length);
    }

    fn skip(&mut self, length: usize) {
        self.rest = self.rest.get(length..).unwrap_or_default();
    }
}

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn blank(text: &str) -> String {
    text.chars().map(|character| if character == '\n' { '\n' } else { ' ' }).collect()
}

fn block_comment_length(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(here) = rest.get(at..).filter(|here| !here.is_empty()) {
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The number of `#` if a raw string begins here.
fn raw_string_hashes(rest: &str) -> Option<usize> {
    let after = ["br", "cr", "r"].iter().find_map(|prefix| rest.strip_prefix(prefix))?;
    let hashes = after.chars().take_while(|character| *character == '#').count();
    after.get(hashes..)?.starts_with('"').then_some(hashes)
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of a character literal; a lifetime is none.
fn character_length(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    if body.starts_with('\\') {
        let end = body.char_indices().skip(2).find(|(_, character)| *character == '\'')?;
        return Some(1 + end.0 + 1);
    }
    let character = body.chars().next()?;
    body.get(character.len_utf8()..)?.starts_with('\'').then_some(character.len_utf8() + 2)
}

/// Every word of `code` with the number of its line, from 1.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = code.lines().enumerate();
    numbered.flat_map(|(number, line)| {
        line.split(|character| !is_of_word(character))
            .filter(|word| !word.is_empty())
            .map(move |word| (number + 1, word))
    })
}

/// The number of the line in which `at` stands, from 1.
fn line_of(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or(text).matches('\n').count() + 1
}

/// Modules of the crate that the file names by `crate::`, `urd::` or enough `super::`, with their lines.
fn modules_named(source: &Source) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    let root_by_super = "super::".repeat(depth_below_root(&source.path));
    let roots = ["crate::", "urd::", &root_by_super];
    for root in roots.into_iter().filter(|root| !root.is_empty()) {
        for (at, _) in source.code.match_indices(root) {
            let before = source.code.get(..at).unwrap_or_default();
            let joined = before.ends_with(is_of_word)
                || before.ends_with("super::")
                || before.ends_with("$");
            let after = source.code.get(at + root.len()..).unwrap_or_default();
            if !joined && !after.starts_with("super::") {
                named.extend(
                    first_names(after).into_iter().map(|name| (line_of(&source.code, at), name)),
                );
            }
        }
    }
    named
}

/// How many `super` lead from a file under `src` to the crate's root; 0 for files outside or at the root.
fn depth_below_root(path: &str) -> usize {
    let Some((_, inner)) = path.split_once("src/") else { return 0 };
    let depth = inner.matches('/').count();
    let is_root = ["lib.rs", "main.rs"].contains(&inner);
    if inner.ends_with("/mod.rs") || is_root { depth } else { depth + 1 }
}

/// The first name of a path, or of each path in `{...}`.
fn first_names(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        let end = path.find(|character| !is_of_word(character)).unwrap_or(path.len());
        return path
            .get(..end)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .into_iter()
            .collect();
    };
    let mut names = Vec::new();
    let (mut depth, mut name) = (1_usize, Some(String::new()));
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match &mut name {
            Some(text) if is_of_word(character) => text.push(character),
            Some(text) if character.is_whitespace() && text.is_empty() => {}
            Some(_) => names.extend(name.take().filter(|text| !text.is_empty())),
            None => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && character == ',' {
            name = Some(String::new());
        }
    }
    names
}

fn imports_point_down(source: &Source) -> Vec<String> {
    let Some((home, allowed)) =
        DIRECTIONS.iter().find(|(prefix, _)| source.path.starts_with(prefix))
    else {
        return Vec::new();
    };
    if source.is_test() {
        return Vec::new();
    }
    let own = home.trim_start_matches("src/").trim_end_matches('/');
    // Names that the crate's root makes of itself, such as macros, are no modules.
    let modules: BTreeSet<&str> = DIRECTIONS
        .iter()
        .filter_map(|(prefix, _)| prefix.strip_prefix("src/"))
        .map(module_of)
        .collect();
    let is_server_crate = source.path.starts_with("src/");
    let code = Source { code: source.product_code().to_owned(), ..Source::parse(&source.path, "") };
    let named = modules_named(&code)
        .into_iter()
        .filter(|(_, name)| is_server_crate && modules.contains(&name[..]));
    let crates = words(&code.code).filter(|(_, word)| CRATES.contains(word));
    let crates = crates.map(|(line, word)| (line, word.to_owned()));
    named
        .chain(crates)
        .filter(|(_, name)| module_of(own) != name && !allowed.contains(&&name[..]))
        .map(|(line, name)| format!("{}:{line}: {home} may not know {name}", source.path))
        .collect()
}

fn module_of(path: &str) -> &str {
    path.trim_end_matches('/').trim_end_matches(".rs")
}

fn api_versions_do_not_meet(source: &Source) -> Vec<String> {
    let other = match source.path.as_str() {
        path if path.starts_with("src/api/v2/") => "v3",
        path if path.starts_with("src/api/v3/") => "v2",
        _ => return Vec::new(),
    };
    words(&source.code)
        .filter(|(_, word)| *word == other)
        .map(|(line, _)| {
            format!("{}:{line}: api/v2 and api/v3 do not know each other", source.path)
        })
        .collect()
}

fn the_state_machine_is_pure(source: &Source) -> Vec<String> {
    let is_inside =
        ["src/store/", "src/tree/"].iter().any(|prefix| source.path.starts_with(prefix));
    // Checkpoints are written through the disk's seam, and mapped.
    let does_io = ["src/tree/checkpoint.rs", "src/tree/import.rs", "src/tree/map.rs"]
        .contains(&&source.path[..]);
    if !is_inside || source.is_test() || does_io {
        return Vec::new();
    }
    words(source.product_code())
        .filter(|(_, word)| FORBIDDEN_IN_THE_STATE_MACHINE.contains(word))
        .map(|(line, word)| {
            format!("{}:{line}: the state machine may not name {word}", source.path)
        })
        .collect()
}

fn glommio_stays_outside(source: &Source) -> Vec<String> {
    if GLOMMIO_FILES.iter().any(|prefix| source.path.starts_with(prefix)) {
        return Vec::new();
    }
    words(&source.code)
        .filter(|(_, word)| *word == "glommio")
        .map(|(line, _)| {
            format!("{}:{line}: glommio is named outside {GLOMMIO_FILES:?}", source.path)
        })
        .collect()
}

fn unsafe_stays_inside(source: &Source) -> Vec<String> {
    if UNSAFE_FILES.contains(&&source.path[..]) {
        return Vec::new();
    }
    words(&source.code)
        .filter(|(_, word)| ["unsafe", "unsafe_code"].contains(word))
        .map(|(line, _)| format!("{}:{line}: unsafe outside {UNSAFE_FILES:?}", source.path))
        .collect()
}

fn files_say_what_they_are(source: &Source) -> Vec<String> {
    let first = source.text.lines().find(|line| !line.trim().is_empty());
    if first.is_some_and(|line| line.starts_with("//! ")) {
        return Vec::new();
    }
    vec![format!("{}:1: the file does not begin with `//!` and what it is", source.path)]
}

fn todos_have_owners(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in source.comments.lines().enumerate() {
        for mark in ["TODO", "FIXME", "XXX", "HACK"] {
            let Some((before, after)) = line.split_once(mark) else { continue };
            let is_word = !before.ends_with(is_of_word) && !after.starts_with(is_of_word);
            // In backticks a mark is spoken of, not made.
            if is_word && !before.ends_with('`') && !after.starts_with("(#") {
                complaints.push(format!(
                    "{}:{}: {mark} without an issue, as {mark}(#12)",
                    source.path,
                    number + 1
                ));
            }
        }
    }
    complaints
}

fn files_have_a_length(source: &Source, known: &[(&str, usize)]) -> Vec<String> {
    let lines = source.product_code().lines().count();
    let known = known.iter().find(|(path, _)| *path == source.path).map(|(_, lines)| *lines);
    if source.is_test() {
        return Vec::new();
    }
    match known {
        None if lines > FILE_LINES_MAX => {
            vec![format!(
                "{}: {lines} lines without tests, at most {FILE_LINES_MAX}: split it",
                source.path
            )]
        }
        Some(known) if lines > known => {
            vec![format!("{}: has grown from {known} to {lines} lines: split it", source.path)]
        }
        Some(_) if lines <= FILE_LINES_MAX => {
            vec![format!("{}: fits now, take it from LONG_FILES", source.path)]
        }
        _ => Vec::new(),
    }
}

/// Every function of the product's code: name, line, number of lines from its `fn` to its closing brace.
fn functions(source: &Source) -> Vec<(String, usize, usize)> {
    let code = source.product_code();
    let mut functions = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let before = code.get(..at).unwrap_or_default();
        let after = code.get(at + 3..).unwrap_or_default();
        let name: String = after.chars().take_while(|character| is_of_word(*character)).collect();
        if before.ends_with(is_of_word) || name.is_empty() {
            continue;
        }
        let Some(open) = body_begin(after) else { continue };
        let body = after.get(open..).unwrap_or_default();
        let end = open + closing_brace(body);
        let lines = after.get(..end).unwrap_or(after).matches('\n').count() + 1;
        functions.push((name, line_of(code, at), lines));
    }
    functions
}

/// Where the body begins behind a function's name; a declaration in a trait has none.
fn body_begin(signature: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in signature.bytes().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Where the brace that `body` begins with is closed.
fn closing_brace(body: &str) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in body.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    body.len()
}

fn functions_have_a_length(source: &Source, known: &[(&str, &str, usize)]) -> Vec<String> {
    if source.is_test() {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (name, line, lines) in functions(source) {
        let known =
            known.iter().find(|(path, function, _)| *path == source.path && *function == name);
        let lines_max = known.map_or(FUNCTION_LINES_MAX, |(_, _, lines)| *lines);
        if lines > lines_max {
            complaints.push(format!(
                "{}:{line}: fn {name} has {lines} lines, at most {lines_max}",
                source.path
            ));
        } else if known.is_some() && lines <= FUNCTION_LINES_MAX {
            complaints.push(format!(
                "{}:{line}: fn {name} fits now, take it from LONG_FUNCTIONS",
                source.path
            ));
        }
    }
    complaints
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tools lies in the repository").to_owned()
}

/// All Rust files below `directory`, but what cargo and git keep there.
fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("read {}: {error}", directory.display()));
    for entry in entries {
        let path = entry.expect("read a directory's entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            rust_files(&path, files);
        } else if name.ends_with(".rs") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
}

#[test]
fn the_house_is_tidy() {
    let repository = repository();
    let mut files = Vec::new();
    rust_files(&repository, &mut files);
    assert!(files.len() > 20, "only {} files found in {}", files.len(), repository.display());
    let mut complaints = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("read {}: {error}", file.display()));
        let path = file.strip_prefix(&repository).unwrap_or(&file).to_string_lossy().into_owned();
        let source = Source::parse(&path, &text);
        for rule in [
            imports_point_down,
            api_versions_do_not_meet,
            the_state_machine_is_pure,
            glommio_stays_outside,
        ] {
            complaints.extend(rule(&source));
        }
        for rule in [unsafe_stays_inside, files_say_what_they_are, todos_have_owners] {
            complaints.extend(rule(&source));
        }
        complaints.extend(files_have_a_length(&source, LONG_FILES));
        complaints.extend(functions_have_a_length(&source, LONG_FUNCTIONS));
    }
    let mut report = String::new();
    for complaint in &complaints {
        writeln!(report, "{complaint}").expect("write to a string");
    }
    assert!(complaints.is_empty(), "{} complaint(s):\n{report}", complaints.len());
}

/// A rule must say nothing of `good` and something of `bad`.
fn check(rule: impl Fn(&Source) -> Vec<String>, path: &str, good: &str, bad: &str) {
    assert_eq!(rule(&Source::parse(path, good)), Vec::<String>::new(), "the good sample");
    assert_ne!(rule(&Source::parse(path, bad)), Vec::<String>::new(), "the bad sample: {bad}");
}

#[test]
fn wrong_directions_are_seen() {
    let rule = imports_point_down;
    check(rule, "src/store/mvcc.rs", "use crate::tree::Tree;", "use crate::api::Call;");
    check(rule, "src/store/mvcc.rs", "// see crate::server", "fn f() { crate::server::run() }");
    check(
        rule,
        "src/tree/page.rs",
        "use crate::ids::PageId;",
        "use crate::{ids::PageId, store::Store};",
    );
    check(rule, "src/tree/mod.rs", "use super::ids;", "use super::store;");
    check(rule, "src/tree/page.rs", "use super::store;", "use super::super::store::Store;");
    check(rule, "src/raft/driver.rs", "use urd_wal::Log;", "use urd_proto::etcdserverpb;");
    check(
        rule,
        "src/net/grpc.rs",
        "use crate::api::{Call, Reply};",
        "use crate::{\n    api::{Call},\n    raft,\n};",
    );
    check(rule, "wal/src/log.rs", "use std::io;", "use urd_proto::mvccpb;");
    check(rule, "src/limits.rs", "use std::time::Duration;", "use crate::ids::Index;");
    check(
        rule,
        "src/api/v3/kv.rs",
        "#[cfg(test)]\nmod tests {\n use crate::net;\n}",
        "use crate::net;",
    );
    check(
        api_versions_do_not_meet,
        "src/api/v2/keys.rs",
        "use crate::api::request;",
        "use crate::api::v3::kv;",
    );
}

#[test]
fn impurity_is_seen() {
    let rule = the_state_machine_is_pure;
    check(
        rule,
        "src/store/lease.rs",
        "use std::collections::BTreeMap;",
        "use std::collections::HashMap;",
    );
    check(
        rule,
        "src/tree/page.rs",
        "// an Instant would be wrong here",
        "let now = std::time::Instant::now();",
    );
    check(rule, "src/store/mvcc.rs", "let text = \"HashMap\";", "let pick = fastrand::u8(..);");
    check(
        glommio_stays_outside,
        "src/api/mod.rs",
        "//! glommio is not known here",
        "use glommio::Task;",
    );
    check(unsafe_stays_inside, "src/api/mod.rs", "let x = \"unsafe\";", "unsafe { read(p) }");
    check(unsafe_stays_inside, "src/api/mod.rs", "#![deny(warnings)]", "#![allow(unsafe_code)]");
}

#[test]
fn silence_and_loose_ends_are_seen() {
    check(
        files_say_what_they_are,
        "src/a.rs",
        "\n//! A file.\nfn f() {}",
        "// A file.\n//! late\n",
    );
    check(
        todos_have_owners,
        "src/a.rs",
        "// TODO(#12): later\nlet todo = \"TODO\";",
        "// TODO: later",
    );
    check(todos_have_owners, "src/a.rs", "// a TODOs", "fn f() {} /* FIXME */");
}

#[test]
fn lengths_are_seen() {
    let lines = |count: usize| "let x = 1;\n".repeat(count);
    let file = |source: &Source| files_have_a_length(source, &[("src/old.rs", 900)]);
    check(file, "src/a.rs", &lines(FILE_LINES_MAX), &lines(FILE_LINES_MAX + 1));
    check(file, "src/old.rs", &lines(900), &lines(901));
    check(file, "src/old.rs", &lines(850), &lines(100));
    check(
        file,
        "src/a.rs",
        &format!("#[cfg(test)]\nmod tests {{\n{}}}", lines(1000)),
        &lines(1000),
    );
    let function = |source: &Source| functions_have_a_length(source, &[("src/a.rs", "old", 80)]);
    let body = |name: &str, count: usize| format!("fn {name}(x: u8) {{\n{}}}\n", lines(count - 2));
    check(function, "src/a.rs", &body("new", 70), &body("new", 71));
    check(
        function,
        "src/a.rs",
        "trait T { fn f(&self); }",
        &body("new", 71).replace("u8", "[u8; 4]"),
    );
    check(function, "src/a.rs", &body("old", 80), &body("old", 81));
    check(function, "src/a.rs", &body("old", 71), &body("old", 70));
}

#[test]
fn the_lexer_tells_code_from_words() {
    let text = "let a = \"x // y\"; // z\nlet b = r#\"\"unsafe\"#; /* /* in */ out */ let c = '\"'; let d: &'a str;";
    let source = Source::parse("a.rs", text);
    let seen: Vec<&str> = words(&source.code).map(|(_, word)| word).collect();
    assert_eq!(seen, ["let", "a", "let", "b", "let", "c", "let", "d", "a", "str"]);
    assert_eq!(
        words(&source.comments).map(|(_, word)| word).collect::<Vec<_>>(),
        ["z", "in", "out"]
    );
    assert_eq!(source.code.lines().count(), 2);
}
