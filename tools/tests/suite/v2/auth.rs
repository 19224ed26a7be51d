//! Users and roles: the same requests to the subject and to etcd, and equal answers; and what is agreed stays so.

use super::pair::{ANSWER_TIMEOUT, Asked, Pair, set};
use crate::harness::http::Answer;
use crate::harness::{Cluster, Launch, Program, wait_for};

const ROOT: &str = "Basic cm9vdDpwdw==";
const NEW_ROOT: &str = "Basic cm9vdDpuZXc=";
const AMY: &str = "Basic YW15OnB3";
const WRONG_AMY: &str = "Basic YW15OmJhZA==";
const GHOST: &str = "Basic Z2hvc3Q6cHc=";

/// Once there is a root user. A request a line: method, path, body. Nobody says who it is.
const BEFORE: &str = r#"
    GET /v2/auth
    GET /v2/auth/
    GET /v2/auth/foo
    GET /v2/auth/enable
    GET /v2/auth/enable/
    HEAD /v2/auth/users
    POST /v2/auth/enable
    DELETE /v2/auth/enable
    GET /v2/auth/users
    GET /v2/auth/users/
    GET /v2/auth/roles
    GET /v2/auth/roles/guest
    GET /v2/auth/roles/root
    GET /v2/auth/users/nope
    DELETE /v2/auth/users/nope
    DELETE /v2/auth/roles/nope
    DELETE /v2/auth/roles/root
    POST /v2/auth/users
    PUT /v2/auth/roles
    POST /v2/auth/users/root
    POST /v2/auth/roles/root
    GET /v2/auth/users/a/b
    POST /v2/auth/users/a/b
    GET /v2/auth/users//amy
    PUT /v2/auth/users/amy
    PUT /v2/auth/users/amy xx
    PUT /v2/auth/users/amy {}
    PUT /v2/auth/users/amy null
    PUT /v2/auth/users/amy {"user":"x","password":"y"}
    PUT /v2/auth/users/amy {"user":"amy"}
    PUT /v2/auth/users/amy {"user":"amy","grant":["ra"]}
    PUT /v2/auth/users/amy {"user":"amy","password":"pw"}
    GET /v2/auth/users/amy
    PUT /v2/auth/users/amy {"user":"amy"}
    PUT /v2/auth/users/amy {"user":"amy"}
    PUT /v2/auth/users/amy {"user":"amy","password":"pw"}
    PUT /v2/auth/users/amy {"user":"amy","grant":"ra"}
    PUT /v2/auth/users/amy {"user":"amy","roles":["x"],"grant":["ra"]}
    PUT /v2/auth/users/amy {"USER":"amy","Grant":["rb","ra"]} trailing
    PUT /v2/auth/users/amy {"user":"amy","grant":["ra"]}
    PUT /v2/auth/users/amy {"user":"amy","revoke":["zz"]}
    GET /v2/auth/users/amy
    GET /v2/auth/users
    PUT /v2/auth/users/amy {"user":"amy","revoke":["rb"]}
    PUT /v2/auth/users/bob {"user":"bob","password":"pw","roles":["root"]}
    PUT /v2/auth/users/bob {"user":"bob","password":"pw","roles":["root"]}
    PUT /v2/auth/users/bob {"user":"bob","grant":["later"],"revoke":["root"]}
    PUT /v2/auth/users/a%20%3Cb {"user":"a <b","password":"pw"}
    PUT /v2/auth/users/_hidden {"user":"_hidden","password":"pw"}
    GET /v2/auth/users/_hidden
    GET /v2/auth/users
    DELETE /v2/auth/users/bob
    PUT /v2/auth/roles/ra xx
    PUT /v2/auth/roles/ra {}
    PUT /v2/auth/roles/ra {"role":"x"}
    PUT /v2/auth/roles/root {"role":"root"}
    PUT /v2/auth/roles/root {"role":"root","grant":{"kv":{"read":["/x"]}}}
    PUT /v2/auth/roles/ra {"role":"ra","grant":{"kv":{"read":["/x"]}}}
    PUT /v2/auth/roles/ra {"role":"ra","permissions":{"kv":{"read":["/foo/*","/ex"],"write":["/foo/*"]}}}
    PUT /v2/auth/roles/ra {"role":"ra","permissions":{"kv":{"read":["/x"]}},"grant":{"kv":{"read":["/y"]}}}
    PUT /v2/auth/roles/ra {"role":"ra","grant":{"kv":{"read":["/foo/*"]}}}
    PUT /v2/auth/roles/rb {"role":"rb"}
    PUT /v2/auth/roles/rb {"role":"rb"}
    PUT /v2/auth/roles/rb {"role":"rb","grant":{}}
    PUT /v2/auth/roles/rb {"role":"rb","revoke":{"kv":{"read":["/q"]}}}
    PUT /v2/auth/roles/rb {"role":"rb","revoke":{"kv":{"read":["/q"]}}}
    PUT /v2/auth/roles/rb {"role":"rb","grant":{"kv":{"write":["/q","/p"]}}}
    PUT /v2/auth/roles/rb {"role":"rb","grant":{"kv":{"write":["/o","/o"]}}}
    PUT /v2/auth/roles/rb {"role":"rb","grant":{"kv":{"write":["/o"]}},"revoke":{"kv":{"write":["/q"]}}}
    PUT /v2/auth/roles/_hidden {"role":"_hidden"}
    PUT /v2/auth/roles/zeta {"role":"zeta"}
    GET /v2/auth/roles
    GET /v2/auth/users/amy
    DELETE /v2/auth/roles/zeta
    GET /v2/keys/?recursive=true
    PUT /v2/keys/any?value=1
    PUT /v2/auth/enable
"#;

/// Once it is enabled: the same, with who asks before the method.
const AFTER: &str = r#"
    - GET /v2/auth/enable
    amy! GET /v2/auth/enable
    root PUT /v2/auth/enable
    - PUT /v2/auth/enable
    - DELETE /v2/auth/enable
    - GET /v2/auth/users
    root GET /v2/auth/users
    amy GET /v2/auth/users
    amy GET /v2/auth/roles/ra
    ghost GET /v2/auth/users
    - POST /v2/auth/users
    - PUT /v2/auth/users/q bad
    - GET /v2/auth/users/a/b
    root GET /v2/auth/roles/guest
    root DELETE /v2/auth/users/root
    - POST /v2/members bad
    amy POST /v2/members bad
    - DELETE /v2/members/123
    root DELETE /v2/members/zz
    - PUT /v2/members/zz
    - PATCH /v2/members
    - PUT /v2/keys/foo/guest?value=1
    - GET /v2/keys/?recursive=true&sorted=true
    amy! PUT /v2/keys/foo/a?value=1
    amy! PUT /v2/keys/foo/a?value=1&ttl=zz
    amy! HEAD /v2/keys/foo/guest
    amy! PATCH /v2/keys/foo
    amy GET /v2/keys/foo/guest
    amy GET /v2/keys/foo/guest?quorum=true
    amy HEAD /v2/keys/foo/guest
    amy GET /v2/keys/foo
    amy GET /v2/keys/foo/
    amy GET /v2/keys/foo/?recursive=true
    amy GET /v2/keys/foo?recursive=true
    amy GET /v2/keys/ex
    amy PUT /v2/keys/ex?value=1
    amy GET /v2/keys/ex?recursive=true
    amy GET /v2/keys/ex?wait=true&recursive=true
    amy GET /v2/keys/any?wait=true&waitIndex=1
    amy GET /v2/keys/foo/guest?wait=true&waitIndex=1
    amy POST /v2/keys/foo/q?value=1
    amy POST /v2/keys/foo?value=1
    amy DELETE /v2/keys/foo/q?recursive=true
    amy DELETE /v2/keys/bar?recursive=true
    root PUT /v2/keys/any?value=2&prevValue=1
    ghost PUT /v2/keys/any?value=1
    root PUT /v2/auth/roles/guest {"role":"guest","revoke":{"kv":{"read":["/*"],"write":["/*"]}}}
    - GET /v2/keys/foo
    root PUT /v2/auth/roles/guest {"role":"guest","grant":{"kv":{"read":["/foo"],"write":["/foo"]}}}
    - GET /v2/keys
    - GET /v2/keys/foo?recursive=true
    - GET /v2/keys/foo/guest
    - PUT /v2/keys/foo/z?value=1
    - OPTIONS /v2/keys/foo
    - DELETE /v2/keys/foo?recursive=true
    nonsense GET /v2/keys/foo
    bearer GET /v2/keys/foo
    lower GET /v2/keys/any
    root PUT /v2/auth/users/root {"user":"root","password":"new"}
    root GET /v2/auth/users
    new GET /v2/auth/users
    new PUT /v2/auth/users/amy {"user":"amy","revoke":["ra"]}
    amy GET /v2/keys/ex
    new DELETE /v2/auth/users/amy
    amy GET /v2/keys/foo
    new DELETE /v2/auth/roles/guest
    - GET /v2/keys/foo
    new PUT /v2/auth/users/root {"user":"root","revoke":["root"]}
    new GET /v2/auth/users
    new DELETE /v2/auth/enable
    - GET /v2/auth/enable
"#;

fn request(method: &str, rest: &str) -> Asked {
    const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"];
    let method = METHODS.into_iter().find(|known| *known == method).expect("a method");
    let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
    let mut asked = Asked::new(method, path);
    if !body.is_empty() {
        asked.body = body.into();
        asked.headers.push(("Content-Type", "application/json"));
    }
    asked
}

fn by(asked: Asked, who: &str) -> Asked {
    let said = match who {
        "-" => return asked,
        "root" => ROOT,
        "new" => NEW_ROOT,
        "amy" => AMY,
        "amy!" => WRONG_AMY,
        "ghost" => GHOST,
        "nonsense" => "Basic !!",
        "bearer" => "Bearer x",
        "lower" => "basic cm9vdDpwdw==",
        who => panic!("nobody is called {who}"),
    };
    asked.header("Authorization", said)
}

fn lines(script: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = script.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.split_once(' ').expect("more than a word"))
}

fn compare(pair: &Pair) {
    pair.ask(&request("GET", "/v2/auth/users"));
    pair.ask(&request("PUT", "/v2/auth/enable"));
    pair.ask(&request("PUT", r#"/v2/auth/users/root {"user":"root","password":"pw"}"#));
    // etcd made directories for it, and counts them.
    pair.level();
    for (method, rest) in lines(BEFORE) {
        pair.ask(&request(method, rest));
    }
    for (who, rest) in lines(AFTER) {
        let (method, rest) = rest.split_once(' ').expect("a method and a path");
        pair.ask(&by(request(method, rest), who));
    }
}

#[test]
fn it_answers_the_same() {
    compare(&Pair::start(&[]));
}

#[tokio::test]
async fn it_answers_the_same_through_followers() {
    compare(&Pair::start_at_followers().await);
}

fn done(answer: &Answer) {
    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
}

fn enable(endpoint: &str) {
    for line in [
        r#"/v2/auth/users/root {"user":"root","password":"pw"}"#,
        r#"/v2/auth/roles/ra {"role":"ra","permissions":{"kv":{"read":["/foo/*"]}}}"#,
        r#"/v2/auth/users/amy {"user":"amy","password":"pw","roles":["ra"]}"#,
        r#"/v2/auth/enable"#,
        r#"/v2/auth/roles/guest {"role":"guest","revoke":{"kv":{"read":["/*"],"write":["/*"]}}}"#,
    ] {
        done(&by(request("PUT", line), "root").send(endpoint));
    }
}

/// Whether a member judges as [`enable`] says, with the key `/foo/a` there.
fn is_guarded(endpoint: &str) -> bool {
    let status = |who, path| by(request("GET", path), who).send(endpoint).status;
    status("-", "/v2/keys/foo/a") == 401
        && status("amy!", "/v2/keys/foo/a") == 401
        && status("amy", "/v2/keys/foo/a") == 200
        && status("amy", "/v2/keys/foo") == 401
        && status("amy", "/v2/auth/users") == 401
        && status("root", "/v2/auth/users") == 200
}

#[test]
fn a_restart_keeps_it() {
    let mut server = Launch::new(Program::Subject).start();
    set(&server.endpoint(), "/foo/a", "1");
    enable(&server.endpoint());
    assert!(is_guarded(&server.endpoint()));
    server.kill();
    server.restart();
    let endpoint = server.endpoint();
    wait_for("a leader", ANSWER_TIMEOUT, || is_guarded(&endpoint).then_some(()));
}

#[tokio::test]
async fn all_members_agree_and_what_one_changes_the_others_do_not_remember() {
    let cluster = Cluster::start(Program::Subject, 3, &[]);
    let endpoint = cluster.endpoint(&cluster.follower().await);
    set(&endpoint, "/foo/a", "1");
    enable(&endpoint);
    let all = |what: &str, is: &dyn Fn(&str) -> bool| {
        wait_for(what, ANSWER_TIMEOUT, || {
            cluster.endpoints().iter().all(|endpoint| is(endpoint)).then_some(())
        });
    };
    all("all members to judge", &is_guarded);
    let change = r#"/v2/auth/users/amy {"user":"amy","password":"other"}"#;
    done(&by(request("PUT", change), "root").send(&endpoint));
    all("all members to have the new password", &|endpoint| {
        by(request("GET", "/v2/keys/foo/a"), "amy").send(endpoint).status == 401
    });
    done(&by(request("DELETE", "/v2/auth/enable"), "root").send(&endpoint));
    all("all members to judge no more", &|endpoint| {
        request("GET", "/v2/keys/foo/a").send(endpoint).status == 200
    });
}
