//! What two servers may print differently although they behave alike, replaced by its name in brackets.
//!
//! | what | where it is recognised |
//! |---|---|
//! | cluster, member and leader ids | by key in JSON and fields, by column in tables, by place in simple lines |
//! | database sizes, raft terms and indexes, versions | likewise |
//! | ids of leases | anywhere, in hexadecimal and decimal: each becomes its name, LEASE1 and so on |
//! | the remaining time of a lease, and the order of its keys | in `lease timetolive` |
//! | client and peer ports | anywhere: `127.0.0.1:PORT` of this very server |
//! | times | after `took = `, `took ` or `Took` |
//! | column widths of tables | cells are trimmed, rules shortened |
//! | `-w protobuf` | decoded, its header's ids and term set to zero, and printed |
//!
//! Everything else stays, above all revisions, counts, hashes and texts.

use prost::Message;
use serde_json::Value;
use urd_proto::etcdserverpb as pb;

use super::script::Step;

/// Keys of JSON objects and of `-w fields` lines (compared in lower case, without `_`) whose values belong to the run.
const KEYS: &[&str] = &[
    "clusterid",
    "memberid",
    "id",
    "leader",
    "dbsize",
    "dbsizeinuse",
    "raftterm",
    "raftindex",
    "raftappliedindex",
    "version",
    "took",
];

/// Columns of tables that belong to the run.
const COLUMNS: &[&str] =
    &["ID", "VERSION", "DB SIZE", "RAFT TERM", "RAFT INDEX", "RAFT APPLIED INDEX", "TOOK"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

/// One command's ways of printing, and one server's ports.
pub(crate) struct Context<'a> {
    step: &'a Step,
    format: Format,
    endpoint: &'a str,
    peer_endpoint: &'a str,
    leases: &'a [u64],
}

/// The id of the lease that a `lease grant` says it made.
pub(crate) fn granted(stdout: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(stdout);
    let (id, _) = text.strip_prefix("lease ")?.split_once(" granted with TTL(")?;
    (!text.contains("remaining(")).then_some(())?;
    u64::from_str_radix(id, 16).ok()
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        step: &'a Step,
        endpoint: &'a str,
        peer_endpoint: &'a str,
        leases: &'a [u64],
    ) -> Self {
        let format = [
            ("fields", Format::Fields),
            ("json", Format::Json),
            ("protobuf", Format::Protobuf),
            ("table", Format::Table),
        ]
        .into_iter()
        .find(|(name, _)| step.has("-w") && step.has(name));
        let format = format.map_or(Format::Simple, |(_, format)| format);
        Context { step, format, endpoint, peer_endpoint, leases }
    }

    pub(crate) fn stdout(&self, bytes: &[u8]) -> String {
        if self.format == Format::Protobuf {
            return self.protobuf(bytes);
        }
        let text = self.time_to_live(&self.leases(&self.ports(&escape(bytes))));
        match self.format {
            Format::Json => each_line(&text, json),
            Format::Fields => each_line(&text, fields),
            Format::Table => table(&text),
            Format::Simple | Format::Protobuf => each_line(&text, |line| self.simple(line)),
        }
    }

    pub(crate) fn stderr(&self, bytes: &[u8]) -> String {
        each_line(&self.leases(&self.ports(&escape(bytes))), |line| {
            // The client library logs failed calls with a time stamp and a target id of its own.
            if line.starts_with("{\"level\"") { json_log(line) } else { times(line) }
        })
    }

    fn ports(&self, text: &str) -> String {
        text.replace(self.endpoint, "127.0.0.1:CLIENT")
            .replace(self.peer_endpoint, "127.0.0.1:PEER")
    }

    fn leases(&self, text: &str) -> String {
        self.leases.iter().enumerate().fold(text.to_owned(), |text, (nth, id)| {
            let name = format!("LEASE{}", nth + 1);
            // In JSON a name stands where a number stood.
            let number =
                if self.format == Format::Json { format!("\"{name}\"") } else { name.clone() };
            text.replace(&format!("{id:016x}"), &name)
                .replace(&format!("{id:x}"), &name)
                .replace(&id.to_string(), &number)
        })
    }

    /// etcd gives the keys in the order of a hash map.
    fn time_to_live(&self, text: &str) -> String {
        if !self.step.has("timetolive") {
            return text.to_owned();
        }
        let marks = ["remaining(", "\"ttl\":", "\"TTL\" : "];
        let text = marks.into_iter().fold(text.to_owned(), |text, mark| {
            let Some((before, after)) = text.split_once(mark) else { return text };
            let rest = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
            if rest.len() == after.len() { text } else { format!("{before}{mark}0{rest}") }
        });
        [("attached keys([", " "), ("\"keys\":[", ",")].into_iter().fold(
            text,
            |text, (mark, gap)| {
                let Some((before, after)) = text.split_once(mark) else { return text };
                let (keys, rest) = after.split_once(']').expect("the list ends");
                let mut keys: Vec<&str> = keys.split(gap).collect();
                keys.sort_unstable();
                format!("{before}{mark}{}]{rest}", keys.join(gap))
            },
        )
    }

    fn simple(&self, line: &str) -> String {
        let cells: Vec<&str> = line.split(", ").collect();
        let places: &[usize] = match (&self.step.words[..], cells.len()) {
            // ENDPOINT, ID, VERSION, SIZE, leader?, learner?, TERM, INDEX, APPLIED, errors
            ([command, verb, ..], 9..) if command == b"endpoint" && verb == b"status" => {
                &[1, 2, 3, 6, 7, 8]
            }
            // ID, status, name, peers, clients, learner?
            ([command, verb, ..], 6) if command == b"member" && verb == b"list" => &[0],
            _ => return times(line),
        };
        let cell = |(place, cell)| if places.contains(&place) { "<run>" } else { cell };
        cells.into_iter().enumerate().map(cell).collect::<Vec<_>>().join(", ")
    }

    fn protobuf(&self, bytes: &[u8]) -> String {
        let decoded = match self.step.words.first().map(|word| &word[..]) {
            Some(b"get") => shown::<pb::RangeResponse>(bytes, |answer| &mut answer.header),
            Some(b"put") => shown::<pb::PutResponse>(bytes, |answer| &mut answer.header),
            Some(b"del") => shown::<pb::DeleteRangeResponse>(bytes, |answer| &mut answer.header),
            Some(b"txn") => shown::<pb::TxnResponse>(bytes, |answer| &mut answer.header),
            Some(b"member") => member_list(bytes, (self.endpoint, self.peer_endpoint)),
            _ => Err(format!("no message type is known for `{}`", self.step.text)),
        };
        decoded.unwrap_or_else(|error| format!("{error}\n{}", escape(bytes)))
    }
}

fn shown<M: Message + Default + std::fmt::Debug>(
    bytes: &[u8],
    header: impl Fn(&mut M) -> &mut Option<pb::ResponseHeader>,
) -> Result<String, String> {
    let mut message = M::decode(bytes).map_err(|error| format!("not that message: {error}"))?;
    without_run(header(&mut message));
    Ok(format!("{message:#?}"))
}

fn member_list(bytes: &[u8], (client, peer): (&str, &str)) -> Result<String, String> {
    let mut message = pb::MemberListResponse::decode(bytes).map_err(|error| error.to_string())?;
    without_run(&mut message.header);
    message.members.iter_mut().for_each(|member| member.id = 0);
    Ok(format!("{message:#?}").replace(client, "CLIENT").replace(peer, "PEER"))
}

/// Takes from a header what belongs to the run: only the revision stays.
pub(crate) fn without_run(header: &mut Option<pb::ResponseHeader>) {
    if let Some(header) = header {
        (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
    }
}

/// Text as it is, other bytes as `\xNN`, so that a report shows them.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text += chunk.valid();
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    text
}

fn each_line(text: &str, normalise: impl Fn(&str) -> String) -> String {
    text.split('\n').map(normalise).collect::<Vec<_>>().join("\n")
}

/// `value` as JSON: a key's version is a number and counts, a server's is a text and does not.
fn is_of_run(key: &str, value: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('_', "");
    KEYS.contains(&&key[..]) && (key != "version" || value.starts_with('"'))
}

fn json(line: &str) -> String {
    match serde_json::from_str(line) {
        Ok(value) => json_value(value).to_string(),
        Err(_) => times(line),
    }
}

fn json_value(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| {
                    let value = if !value.is_object() && is_of_run(&key, &value.to_string()) {
                        "<run>".into()
                    } else {
                        json_value(value)
                    };
                    (key, value)
                })
                .collect(),
        ),
        Value::Array(values) => Value::Array(values.into_iter().map(json_value).collect()),
        other => other,
    }
}

/// A log line of the client library: its message and error count, its time, place and target do not.
fn json_log(line: &str) -> String {
    match serde_json::from_str::<Value>(line) {
        Ok(value) => format!("log: {} {} {}", value["level"], value["msg"], value["error"]),
        Err(_) => line.to_owned(),
    }
}

/// `"Key" : value`.
fn fields(line: &str) -> String {
    let Some((key, value)) = line.split_once(" : ") else { return times(line) };
    if is_of_run(key.trim().trim_matches('"'), value) {
        format!("{key} : <run>")
    } else {
        line.to_owned()
    }
}

fn table(text: &str) -> String {
    let mut names: Vec<String> = Vec::new();
    let mut lines = Vec::new();
    for line in text.split('\n') {
        if line.starts_with("+-") {
            lines.push(format!("+{}", "-+".repeat(line.matches('+').count().saturating_sub(1))));
        } else if let Some(row) = line.strip_prefix('|') {
            let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
            let is_head = names.is_empty();
            if is_head {
                names = cells.iter().map(|&cell| cell.to_owned()).collect();
            }
            let of_run =
                |place: usize| names.get(place).is_some_and(|name| COLUMNS.contains(&&name[..]));
            let cell = |(place, cell)| if of_run(place) && !is_head { "<run>" } else { cell };
            lines.push(cells.into_iter().enumerate().map(cell).collect::<Vec<_>>().join(" | "));
        } else {
            lines.push(times(line));
        }
    }
    lines.join("\n")
}

/// `took = 1.234ms` and its likes: the word after stands for itself only.
fn times(line: &str) -> String {
    for mark in ["took = ", "took ", "Took "] {
        if let Some((before, after)) = line.split_once(mark) {
            let rest = after.split_once(' ').map_or("", |(_, rest)| rest);
            return format!("{before}{mark}<time> {rest}");
        }
    }
    line.to_owned()
}

#[test]
fn keeps_what_counts_and_hides_the_run() {
    assert_eq!(
        json(r#"{"header":{"cluster_id":1,"revision":2},"hash":3}"#),
        r#"{"hash":3,"header":{"cluster_id":"<run>","revision":2}}"#
    );
    assert_eq!(fields("\"MemberID\" : 12"), "\"MemberID\" : <run>");
    assert_eq!(fields("\"Revision\" : 12"), "\"Revision\" : 12");
    assert_eq!(fields("\"Version\" : 2"), "\"Version\" : 2");
    assert_eq!(fields("\"Version\" : \"3.7.1\""), "\"Version\" : <run>");
    assert_eq!(table("+----+------+\n| ID |  NAME |\n|  7 |  x |"), "+-+-+\nID | NAME\n<run> | x");
    assert_eq!(times("x is healthy: took = 1.5ms"), "x is healthy: took = <time> ");
}
