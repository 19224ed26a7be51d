//! What inputs begin with: the requests of etcd's client for the v2 API, states of a member, and words that mean something.

use fastrand::Rng;
use urd::store::command::Command;
use urd::store::v2::{AUTH_ENABLED, AUTH_IS_ENABLED, Action, Request as Change};
use urd_proto::etcdserverpb::AlarmRequest;

use super::request::Request;
use super::{Step, encode, state, who};

pub(super) const METHODS: &[&str] =
    &["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "X"];

pub(super) const PATHS: &[&str] = &[
    "/v2",
    "/v2/keys",
    "/v2/keys/",
    "/v2/keys/a",
    "/v2/keys/dir",
    "/v2/keys/dir/b",
    "/v2/keys/dir/b/",
    "/v2/keys/dir/sub/c",
    "/v2/keys/_hidden/x",
    "/v2/keys/open/x",
    "/v2/keys/dir/../a",
    "/v2/keys//a/./b",
    "/v2/keys/%61%2Fb",
    "/v2/keys/%ff%00",
    "/v2/keys/%",
    "/v2/members",
    "/v2/members/",
    "/v2/members/2",
    "/v2/members/leader",
    "/v2/machines",
    "/v2/stats/self",
    "/v2/stats/store",
    "/v2/stats/leader",
    "/v2/auth/enable",
    "/v2/auth/users",
    "/v2/auth/users/",
    "/v2/auth/users/root",
    "/v2/auth/users/alice",
    "/v2/auth/users/%2e",
    "/v2/auth/users/new/",
    "/v2/auth/roles",
    "/v2/auth/roles/r",
    "/v2/auth/roles/guest",
    "/v2/auth/roles/root",
    "/version",
    "/health",
    "/readyz/linearizable_read",
    "*",
    "http://host:1/v2/keys/a",
];

pub(super) const NAMES: &[&str] = &[
    "value",
    "prevValue",
    "prevIndex",
    "waitIndex",
    "recursive",
    "sorted",
    "wait",
    "dir",
    "quorum",
    "stream",
    "noValueOnSuccess",
    "ttl",
    "prevExist",
    "refresh",
];

pub(super) const VALUES: &[&str] = &[
    "true",
    "false",
    "true",
    "",
    "0",
    "1",
    "v",
    "w",
    "b",
    "..",
    "_h",
    "60",
    "18446744073709551615",
    "9223372036",
    "-1",
    "%zz",
    "%00%ff",
    "+",
    "x;y",
    "%E2%80%A8<&>",
];

pub(super) const AUTHORIZATIONS: &[&str] = &[
    "Basic cm9vdDpwdw==",
    "Basic YWxpY2U6c2VjcmV0",
    "Basic cm9vdDp3cm9uZw==",
    "Basic bm9ib2R5Ong=",
    "Basic cm9vdA==",
    "Basic !",
    "Bearer x",
    "",
];

pub(super) const HEADERS: &[(&str, &str)] = &[
    ("Content-Type", "application/x-www-form-urlencoded"),
    ("Content-Type", "application/x-www-form-urlencoded; charset=\"utf-8\"; x"),
    ("Content-Type", "application/json"),
    ("Content-Type", "text/plain;;"),
    ("Expect", "100-continue"),
    ("Connection", "close"),
    ("Connection", "keep-alive"),
    ("Transfer-Encoding", "chunked"),
    ("Origin", "http://elsewhere"),
];

pub(super) const JSON_VALUES: &[&str] = &[
    "null",
    "1",
    "{}",
    "[]",
    "\"\"",
    "\"root\"",
    "\"alice\"",
    "\"new\"",
    "\"r\"",
    "\"pw\"",
    "\"a\\u0000b\"",
    "[\"r\"]",
    "[\"root\",\"r\"]",
    "[\"/*\"]",
    "[\"/open/*\",\"/a\"]",
    "[null,\"\"]",
    "[\"http://127.0.0.1:9\"]",
    "[\"http://127.0.0.1:2381\"]",
    "[\"unix://x\",\"http://[::1]:1/x\",\"\"]",
    "{\"kv\":{\"read\":[\"/open/*\"],\"write\":null}}",
    "{\"read\":[\"/*\"],\"write\":[\"/a*\"]}",
];

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const ROOT: &str = AUTHORIZATIONS[0];
const ALICE: &str = AUTHORIZATIONS[1];

/// Method, target, authorization, type and text of the body: as etcdctl sends them.
type Sent = (&'static str, &'static str, &'static str, &'static str, &'static str);

const KEYS: &[Sent] = &[
    ("PUT", "/v2/keys/dir/b", "", FORM, "value=a+value"),
    ("GET", "/v2/keys/dir/b?quorum=false&recursive=false&sorted=false", "", "", ""),
    ("PUT", "/v2/keys/t", "", FORM, "ttl=60&value=x"),
    ("PUT", "/v2/keys/m?prevExist=false", "", FORM, "value=v"),
    ("POST", "/v2/keys/q", "", FORM, "value=v"),
    ("PUT", "/v2/keys/new?dir=true&prevExist=false", "", FORM, ""),
    ("PUT", "/v2/keys/dir2?dir=true", "", FORM, "ttl=30"),
    ("PUT", "/v2/keys/a?prevExist=true", "", FORM, "value=w"),
    ("PUT", "/v2/keys/dir?dir=true&prevExist=true", "", FORM, "ttl=9"),
    ("PUT", "/v2/keys/a?prevValue=v", "", FORM, "value=z"),
    ("PUT", "/v2/keys/a?prevIndex=5", "", FORM, "value=y"),
    ("PUT", "/v2/keys/a?prevExist=true", "", FORM, "refresh=true&ttl=5"),
    ("GET", "/v2/keys/?quorum=false&recursive=true&sorted=true", "", "", ""),
    ("GET", "/v2/keys/a?quorum=true&recursive=false&sorted=false", "", "", ""),
    ("DELETE", "/v2/keys/a?prevValue=v", "", FORM, ""),
    ("DELETE", "/v2/keys/empty?dir=true", "", FORM, ""),
    ("DELETE", "/v2/keys/dir?recursive=true", "", FORM, ""),
];

const WATCHES: &[Sent] = &[
    ("GET", "/v2/keys/dir?recursive=true&wait=true&waitIndex=5", "", "", ""),
    ("GET", "/v2/keys/a?recursive=false&wait=true&waitIndex=0", "", "", ""),
    ("GET", "/v2/keys/?recursive=true&wait=true&stream=true", "", "", ""),
];

const MEMBERS: &[Sent] = &[
    ("GET", "/v2/members", "", "", ""),
    ("GET", "/v2/members/leader", "", "", ""),
    ("GET", "/v2/machines", "", "", ""),
    ("GET", "/v2/stats/store", "", "", ""),
    ("POST", "/v2/members", "", JSON, "{\"peerURLs\":[\"http://127.0.0.1:9\"]}"),
    ("PUT", "/v2/members/2", "", JSON, "{\"peerURLs\":[\"http://127.0.0.1:8\"]}"),
    ("DELETE", "/v2/members/3", "", "", ""),
];

const AUTH: &[Sent] = &[
    (
        "PUT",
        "/v2/auth/users/new",
        "",
        JSON,
        "{\"user\":\"new\",\"password\":\"pw\",\"roles\":null}",
    ),
    (
        "PUT",
        "/v2/auth/roles/s",
        "",
        JSON,
        "{\"role\":\"s\",\"permissions\":{\"kv\":{\"read\":null,\"write\":null}}}",
    ),
    (
        "PUT",
        "/v2/auth/roles/r",
        ROOT,
        JSON,
        "{\"role\":\"r\",\"permissions\":{\"kv\":{\"read\":null,\"write\":null}},\
         \"grant\":{\"kv\":{\"read\":[\"/foo*\"],\"write\":[\"/foo*\"]}},\"revoke\":null}",
    ),
    (
        "PUT",
        "/v2/auth/roles/r",
        ROOT,
        JSON,
        "{\"role\":\"r\",\"permissions\":{\"kv\":{\"read\":null,\"write\":null}},\
         \"grant\":null,\"revoke\":{\"kv\":{\"read\":[],\"write\":[\"/open/*\"]}}}",
    ),
    (
        "PUT",
        "/v2/auth/users/alice",
        ROOT,
        JSON,
        "{\"user\":\"alice\",\"roles\":null,\"grant\":[\"guest\"]}",
    ),
    (
        "PUT",
        "/v2/auth/users/alice",
        ROOT,
        JSON,
        "{\"user\":\"alice\",\"roles\":null,\"revoke\":[\"r\"]}",
    ),
    ("PUT", "/v2/auth/users/alice", ROOT, JSON, "{\"user\":\"alice\",\"password\":\"other\"}"),
    ("PUT", "/v2/keys/open/x", ALICE, FORM, "value=1"),
    ("GET", "/v2/keys/?recursive=true", ROOT, "", ""),
    ("GET", "/v2/auth/users", ROOT, JSON, ""),
    ("GET", "/v2/auth/users/alice", ROOT, "", ""),
    ("GET", "/v2/auth/roles", ROOT, JSON, ""),
    ("GET", "/v2/auth/roles/r", ROOT, "", ""),
    ("DELETE", "/v2/auth/users/alice", ROOT, "", ""),
    ("DELETE", "/v2/auth/roles/r", ROOT, "", ""),
    ("GET", "/v2/auth/enable", "", "", ""),
    ("PUT", "/v2/auth/enable", "", "", ""),
    ("DELETE", "/v2/auth/enable", ROOT, "", ""),
];

fn sent((method, target, authorization, kind, body): &Sent) -> Vec<u8> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = vec![("Host", "127.0.0.1:2379"), ("User-Agent", "Go-http-client/1.1")];
    let more = [("Authorization", *authorization), ("Content-Type", *kind)];
    headers.extend(more.into_iter().filter(|(_, value)| !value.is_empty()));
    headers.push(("Accept-Encoding", "gzip"));
    let headers = headers.into_iter().map(|(name, value)| (name.into(), value.into()));
    let request = Request {
        method: (*method).into(),
        path: path.into(),
        query: query.into(),
        version: "HTTP/1.1".into(),
        headers: headers.collect(),
        body: (*body).into(),
    };
    request.encode()
}

/// Any of the requests.
pub(super) fn request(random: &mut Rng) -> Vec<u8> {
    let group = [KEYS, KEYS, WATCHES, MEMBERS, AUTH][random.usize(..5)];
    sent(&group[random.usize(..group.len())])
}

/// Each request by itself, and conversations.
pub(super) fn all() -> Vec<Vec<u8>> {
    let groups = [KEYS, WATCHES, MEMBERS, AUTH];
    let step = |who: u8| move |request: &Sent| Step { who, bytes: sent(request) };
    let mut seeds = Vec::new();
    for request in groups.into_iter().flatten() {
        let is_judged = AUTH.contains(request);
        seeds.push(encode(if is_judged { state::AUTH } else { 0 }, &[step(0)(request)]));
    }
    for group in groups {
        seeds.push(encode(0, &group.iter().map(step(0)).collect::<Vec<_>>()));
    }
    let time = Step { who: who::TIME, bytes: vec![100, 0] };
    let mut waits: Vec<Step> =
        WATCHES.iter().zip(1..).map(|(request, connection)| step(connection)(request)).collect();
    waits.extend(KEYS.iter().map(step(0)));
    waits.push(time);
    seeds.push(encode(0, &waits));
    waits.truncate(WATCHES.len() + 1);
    for (state, who) in [(state::NO_SPACE, 0), (state::CORRUPT, 0), (state::AUTH, who::LEAVES)] {
        waits.last_mut().expect("steps").who = who;
        seeds.push(encode(state, &waits));
    }
    // Pieces, and one request behind another.
    let (first, second) = (sent(&KEYS[0]), sent(&KEYS[1]));
    let wire = [&first[..], &second[..]].concat();
    let pieces = wire.chunks(wire.len() / 3).map(|bytes| Step { who: 0, bytes: bytes.to_vec() });
    seeds.push(encode(0, &pieces.collect::<Vec<_>>()));
    let chunked = "PUT /v2/keys/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\
                   Content-Type: application/x-www-form-urlencoded\r\n\r\n7\r\nvalue=x\r\n0\r\n\r\n";
    let old = "GET /v2/keys/a?wait=true HTTP/1.0\r\n\r\n";
    for text in [chunked, old] {
        seeds.push(encode(
            0,
            &[Step { who: 0, bytes: text.as_bytes().to_vec() }, step(1)(&KEYS[7])],
        ));
    }
    seeds
}

/// What a member in this state has applied.
pub(super) fn commands(state: u8) -> Vec<Command> {
    const SECOND: i64 = 1_000_000_000;
    const NOW: i64 = 1_700_000_000 * SECOND;
    let change = |path: &str, value: &str, seconds: Option<i64>| Change {
        action: Action::Set.into(),
        path: path.to_owned(),
        value: value.to_owned().into(),
        expiration: seconds.map(|seconds| NOW + seconds * SECOND),
        now: NOW,
        history: 20,
        ..Change::default()
    };
    let directory = |path: &str| Change { dir: true, ..change(path, "", None) };
    let mut changes = vec![
        change("/a", "v", None),
        change("/dir/b", "w", Some(50)),
        change("/dir/sub/c", "", None),
        directory("/empty"),
        change("/_hidden/x", "h", None),
        change("/open/x", "o", Some(5000)),
    ];
    if state & self::state::AUTH != 0 {
        let records = [
            ("/users/root", format!(r#"{{"user":"root","password":"{PW}","roles":["root"]}}"#)),
            ("/users/alice", format!(r#"{{"user":"alice","password":"{SECRET}","roles":["r"]}}"#)),
            ("/roles/r", role("r", r#"["/open/*","/dir/*"]"#, r#"["/open/*"]"#)),
            ("/roles/guest", role("guest", r#"["/a"]"#, "null")),
            (AUTH_ENABLED, AUTH_IS_ENABLED.to_owned()),
        ];
        let records = records.iter().map(|(path, text)| change(path, text, None));
        changes.extend(records.map(|record| Change { auth: true, ..record }));
    }
    let mut commands: Vec<Command> = changes.into_iter().map(Command::V2).collect();
    for (bit, alarm) in [(self::state::NO_SPACE, 1), (self::state::CORRUPT, 2)] {
        if state & bit != 0 {
            commands.push(Command::Alarm(AlarmRequest { action: 1, member_id: 1, alarm }));
        }
    }
    commands
}

fn role(name: &str, read: &str, write: &str) -> String {
    format!(r#"{{"role":"{name}","permissions":{{"kv":{{"read":{read},"write":{write}}}}}}}"#)
}

/// The hash of `pw`, at bcrypt's lowest cost.
const PW: &str = "$2b$04$abcdefghijklmnopqrstuuyvPXIbu7xe6/CED2DzX8z6Si09MlzlW";
/// That of `secret`.
const SECRET: &str = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
