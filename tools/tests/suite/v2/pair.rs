//! The subject and etcd side by side: one request to both, and answers that must be equal.
//!
//! Both stand at the same index from the start: the one that is behind is written to until it is not. So bodies can be
//! compared as text. What cannot be equal is masked: times, ids, raft's numbers. Times to live are compared to the nearest
//! thousand seconds, so tests give long ones. Where etcd lists a directory in any order, the order is not compared.

use std::time::Duration;

use serde_json::Value;

use crate::harness::http::{self, Answer, Poll, Request};
use crate::harness::{Cluster, Launch, Program, Server, wait_for};

/// How long an answer may take. A cold, busy machine sets it, not a server.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Header fields that say how an answer travelled, not what it says.
const TRANSPORT: [&str; 4] = ["date", "content-length", "transfer-encoding", "connection"];
/// Fields of which only is compared that they are there.
const MASKED: [&str; 3] = ["x-etcd-cluster-id", "x-raft-index", "x-raft-term"];

pub(super) const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// One request, as a test composes it.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub method: &'static str,
    /// With the query.
    pub path: String,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub(super) fn new(method: &'static str, path: impl Into<String>) -> Asked {
        Asked { method, path: path.into(), ..Asked::default() }
    }

    /// With a form body.
    pub(super) fn form(mut self, body: impl Into<Vec<u8>>) -> Asked {
        self.body = body.into();
        self.headers.push(FORM);
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: &'static str) -> Asked {
        self.headers.push((name, value));
        self
    }

    pub(super) fn send(&self, endpoint: &str) -> Answer {
        let Asked { method, path, headers, body } = self;
        let request = Request { method, path, headers, body };
        http::exchange(endpoint, ANSWER_TIMEOUT, &request)
            .unwrap_or_else(|error| panic!("{self} to {endpoint}: {error}"))
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Asked { method, path, headers, body } = self;
        write!(f, "{method} {path} {headers:?} {:?}", String::from_utf8_lossy(body))
    }
}

/// Writes, and fails the test if that is refused.
pub(super) fn set(endpoint: &str, key: &str, value: &str) -> Answer {
    let asked = Asked::new("PUT", format!("/v2/keys{key}")).form(format!("value={value}"));
    let answer = asked.send(endpoint);
    assert!(matches!(answer.status, 200 | 201), "{asked}: {answer:?}");
    answer
}

/// The number in an answer's `X-Etcd-Index`.
pub(super) fn index(answer: &Answer) -> u64 {
    let index = answer.header("x-etcd-index").and_then(|text| text.parse().ok());
    index.unwrap_or_else(|| panic!("no X-Etcd-Index in {answer:?}"))
}

/// The index at which an endpoint stands.
pub(super) fn index_at(endpoint: &str) -> u64 {
    index(&Asked::new("GET", "/v2/keys").send(endpoint))
}

/// The servers of one program, held so that they run.
#[derive(Debug)]
#[expect(dead_code, reason = "they are only held")]
enum Servers {
    One(Server),
    Three(Cluster),
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Pair {
    _servers: [Servers; 2],
    pub etcd: String,
    pub subject: String,
}

impl Pair {
    /// One member each.
    pub(super) fn start(arguments: &[&str]) -> Pair {
        let [etcd, subject] = [Program::Etcd, Program::Subject].map(|program| {
            let mut launch = Launch::new(program).argument("--enable-v2=true");
            for argument in arguments {
                launch = launch.argument(*argument);
            }
            launch.start()
        });
        let endpoints = (etcd.endpoint(), subject.endpoint());
        Pair::of([Servers::One(etcd), Servers::One(subject)], endpoints)
    }

    /// A follower of three members each.
    pub(super) async fn start_at_followers() -> Pair {
        let etcd = Cluster::start(Program::Etcd, 3, &["--enable-v2=true"]);
        let subject = Cluster::start(Program::Subject, 3, &["--enable-v2=true"]);
        let mut endpoints = Vec::new();
        for cluster in [&etcd, &subject] {
            endpoints.push(cluster.endpoint(&cluster.follower().await));
        }
        let [of_etcd, of_subject] = endpoints.try_into().expect("one each");
        Pair::of([Servers::Three(etcd), Servers::Three(subject)], (of_etcd, of_subject))
    }

    fn of(servers: [Servers; 2], (etcd, subject): (String, String)) -> Pair {
        for endpoint in [&etcd, &subject] {
            wait_until_settled(endpoint);
        }
        let pair = Pair { _servers: servers, etcd, subject };
        pair.level();
        pair
    }

    /// Brings both to the same index.
    pub(super) fn level(&self) {
        let (of_etcd, of_subject) = (index_at(&self.etcd), index_at(&self.subject));
        let behind = if of_etcd < of_subject { &self.etcd } else { &self.subject };
        for _ in 0..of_etcd.abs_diff(of_subject) {
            set(behind, "/_level", "");
        }
        for endpoint in [&self.etcd, &self.subject] {
            set(endpoint, "/_level", "");
        }
    }

    /// Sends a request to both; panics if the answers differ.
    pub(super) fn ask(&self, asked: &Asked) -> Answer {
        let (expected, found) = (asked.send(&self.etcd), asked.send(&self.subject));
        if let Some(difference) = differences(&expected, &found, is_sorted(&asked.path)) {
            panic!("{asked}\n{difference}");
        }
        found
    }

    /// Opens a waiting GET at both, and compares their heads.
    pub(super) fn wait(&self, path: &str) -> [Poll; 2] {
        let polls = [&self.etcd, &self.subject].map(|endpoint| {
            Poll::open(endpoint, path, ANSWER_TIMEOUT)
                .unwrap_or_else(|error| panic!("GET {path} at {endpoint}: {error}"))
        });
        let [expected, found] = &polls;
        if let Some(difference) = differences(&expected.head, &found.head, false) {
            panic!("GET {path}\n{difference}");
        }
        polls
    }

    /// Reads the next event of both, and compares them.
    pub(super) fn event(what: &str, polls: &mut [Poll; 2]) -> Option<String> {
        let [expected, found] = polls.each_mut().map(|poll| {
            poll.next().unwrap_or_else(|error| panic!("the events of {what}: {error}"))
        });
        let mask = |event: &Option<String>| event.as_deref().map(masked);
        assert_eq!(
            mask(&expected),
            mask(&found),
            "{what}: as etcd has it, and as the subject does"
        );
        found
    }
}

/// Members write into v2's tree of etcd for a while after their start: their names, the cluster's version.
fn wait_until_settled(endpoint: &str) {
    wait_for("the members' names and the cluster's version", ANSWER_TIMEOUT, || {
        let version = http::get(endpoint, "/version").ok()?;
        let members = http::get(endpoint, "/v2/members").ok()?;
        let is_settled = !version.body.contains("not_decided")
            && !version.body.contains("3.0.0")
            && !members.body.contains("\"name\":\"\"");
        is_settled.then_some(())
    });
}

fn is_sorted(path: &str) -> bool {
    path.contains("sorted=true")
}

/// How two answers differ, if they do.
fn differences(expected: &Answer, found: &Answer, is_sorted: bool) -> Option<String> {
    let view = |answer: &Answer| {
        (answer.status, headers(answer), comparable_body(&answer.body, is_sorted))
    };
    let (of_etcd, of_subject) = (view(expected), view(found));
    (of_etcd != of_subject).then(|| {
        format!(
            "etcd:    {of_etcd:?}\nsubject: {of_subject:?}\netcd's body:    {}\nsubject's body: {}",
            expected.body, found.body
        )
    })
}

fn headers(answer: &Answer) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = answer
        .headers
        .iter()
        .filter(|(name, _)| !TRANSPORT.contains(&name.as_str()))
        .map(|(name, value)| {
            let is_masked = MASKED.contains(&name.as_str());
            if is_masked {
                assert!(!value.is_empty() && value.bytes().all(|byte| byte.is_ascii_hexdigit()));
            }
            (name.clone(), if is_masked { "*".to_owned() } else { value.clone() })
        })
        .collect();
    headers.sort_unstable();
    headers
}

/// The text, unless it is a listing in no order.
fn comparable_body(body: &str, is_sorted: bool) -> String {
    let body = masked(body);
    if is_sorted || !body.contains("\"nodes\":") {
        return body;
    }
    let Ok(mut listing) = serde_json::from_str::<Value>(&body) else { return body };
    sort(&mut listing);
    listing.to_string()
}

fn sort(value: &mut Value) {
    match value {
        Value::Array(nodes) => {
            nodes.iter_mut().for_each(sort);
            nodes.sort_by_key(|node| node["key"].as_str().unwrap_or_default().to_owned());
        }
        Value::Object(fields) => fields.values_mut().for_each(sort),
        _ => {}
    }
}

/// Times masked, times to live rounded.
pub(super) fn masked(text: &str) -> String {
    let text = replace_after(text, "\"expiration\":\"", |time| {
        let length = time.find('"').unwrap_or(time.len());
        assert!(time[..length].ends_with('Z'), "not a time in UTC: {time}");
        (length, "T".to_owned())
    });
    replace_after(&text, "\"ttl\":", |ttl| {
        let length = ttl.find([',', '}']).unwrap_or(ttl.len());
        let seconds: i64 = ttl[..length].parse().expect("a time to live is a number");
        (length, (((seconds + 500) / 1000) * 1000).to_string())
    })
}

/// Replaces what follows each `mark`, as `replacement` says: how long it is, and what comes there.
pub(super) fn replace_after(
    text: &str,
    mark: &str,
    replacement: impl Fn(&str) -> (usize, String),
) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(mark) {
        let (before, after) = rest.split_at(at + mark.len());
        let (length, instead) = replacement(after);
        replaced += before;
        replaced += &instead;
        rest = &after[length..];
    }
    replaced + rest
}
