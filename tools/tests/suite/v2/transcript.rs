//! The requests that a user makes, one by one, and what they show.

use super::pair::{Asked, Pair};

fn get(path: &str) -> Asked {
    Asked::new("GET", path)
}

fn put(path: &str, form: &str) -> Asked {
    Asked::new("PUT", path).form(form)
}

fn post(path: &str, form: &str) -> Asked {
    Asked::new("POST", path).form(form)
}

fn delete(path: &str) -> Asked {
    Asked::new("DELETE", path)
}

/// Asks both for each; fails where a status is another one than is written here.
fn play(pair: &Pair, requests: &[(Asked, u16)]) {
    for (asked, status) in requests {
        let answer = pair.ask(asked);
        assert_eq!(answer.status, *status, "{asked}: {answer:?}");
    }
}

#[test]
fn keys_are_set_read_compared_and_removed() {
    let pair = Pair::start(&[]);
    play(
        &pair,
        &[
            (get("/v2/keys"), 200),
            (get("/v2/keys/"), 200),
            (put("/v2/keys/message", "value=Hello world"), 201),
            (get("/v2/keys/message"), 200),
            (Asked::new("HEAD", "/v2/keys/message"), 200),
            (Asked::new("HEAD", "/v2/keys/nothing"), 404),
            (put("/v2/keys/message", "value=Hello etcd"), 200),
            (delete("/v2/keys/message"), 200),
            (delete("/v2/keys/message"), 404),
            (get("/v2/keys/message"), 404),
            (put("/v2/keys/foo", "value=bar&ttl=5000"), 201),
            (get("/v2/keys/foo"), 200),
            (put("/v2/keys/foo", "refresh=true&ttl=9000&prevExist=true"), 200),
            (put("/v2/keys/foo", "value=bar&ttl=&prevExist=true"), 200),
            (get("/v2/keys/foo"), 200),
            // Compare and swap, compare and delete.
            (put("/v2/keys/foo?prevExist=false", "value=three"), 412),
            (put("/v2/keys/foo?prevValue=two", "value=three"), 412),
            (put("/v2/keys/foo?prevValue=bar", "value=two"), 200),
            (put("/v2/keys/foo?prevIndex=1", "value=three"), 412),
            (put("/v2/keys/foo?prevIndex=1&prevValue=x", "value=three"), 412),
            (put("/v2/keys/foo?prevIndex=0", "value=two"), 200),
            (put("/v2/keys/none?prevValue=two", "value=three"), 404),
            (put("/v2/keys/none?prevExist=true", "value=three"), 404),
            (delete("/v2/keys/foo?prevValue=one"), 412),
            (delete("/v2/keys/foo?prevIndex=1"), 412),
            (delete("/v2/keys/foo?prevValue=two"), 200),
            // Nothing about the node where nobody wants to know.
            (put("/v2/keys/foo?noValueOnSuccess=true", "value=bar"), 201),
            (put("/v2/keys/foo?noValueOnSuccess=true", "value=bar"), 200),
            (get("/v2/keys/foo?quorum=true"), 200),
        ],
    );
}

#[test]
fn directories_are_made_listed_and_removed() {
    let pair = Pair::start(&[]);
    play(
        &pair,
        &[
            (put("/v2/keys/dir", "dir=true"), 201),
            (put("/v2/keys/dir", "dir=true"), 403),
            (put("/v2/keys/dir", "value=x"), 403),
            (put("/v2/keys/dir?prevExist=true", "dir=true&ttl=5000"), 200),
            (put("/v2/keys/dir?prevExist=false", "dir=true"), 412),
            (put("/v2/keys/foo_dir/foo", "value=bar"), 201),
            (put("/v2/keys/foo_dir/foo/bar", "value=bar"), 400),
            (get("/v2/keys/foo_dir/foo/bar"), 400),
            (get("/v2/keys/"), 200),
            (get("/v2/keys/?recursive=true"), 200),
            (get("/v2/keys/?recursive=true&sorted=true"), 200),
            (delete("/v2/keys/dir"), 403),
            (delete("/v2/keys/dir?dir=true"), 200),
            (delete("/v2/keys/foo_dir?dir=true"), 403),
            (delete("/v2/keys/foo_dir?prevValue=x"), 403),
            (delete("/v2/keys/foo_dir?recursive=true"), 200),
            // Keys in order.
            (post("/v2/keys/queue", "value=Job1"), 201),
            (post("/v2/keys/queue", "value=Job2"), 201),
            (post("/v2/keys/queue", "dir=true"), 201),
            (get("/v2/keys/queue?recursive=true&sorted=true"), 200),
            (post("/v2/keys", "value=at the root"), 201),
            // Hidden nodes.
            (put("/v2/keys/_message", "value=Hello hidden world"), 201),
            (put("/v2/keys/message", "value=Hello world"), 201),
            (put("/v2/keys/queue/_hidden/deep", "value=x"), 201),
            (get("/v2/keys/"), 200),
            (get("/v2/keys/?recursive=true&sorted=true"), 200),
            (get("/v2/keys/_message"), 200),
            (get("/v2/keys/queue/_hidden"), 200),
            // The root stays.
            (put("/v2/keys/", "value=x"), 400),
            (put("/v2/keys", "dir=true"), 400),
            (delete("/v2/keys/"), 400),
            (delete("/v2/keys/?recursive=true&dir=true"), 400),
        ],
    );
}

#[test]
fn wrong_requests_are_refused_alike() {
    let pair = Pair::start(&[]);
    play(
        &pair,
        &[
            (put("/v2/keys/a?prevValue=", "value=1"), 400),
            (put("/v2/keys/a?prevIndex=x", "value=1"), 400),
            (put("/v2/keys/a?prevExist=x", "value=1"), 400),
            (put("/v2/keys/a?ttl=x", "value=1"), 400),
            (put("/v2/keys/a?dir=x", "value=1"), 400),
            (put("/v2/keys/a?wait=true", "value=1"), 400),
            (put("/v2/keys/a?refresh=true", "value=1"), 400),
            (put("/v2/keys/a?refresh=true", ""), 400),
            (put("/v2/keys/a?value=%zz", "value=1"), 400),
            (put("/v2/keys/a", "value=1;b=2"), 400),
            (get("/v2/keys/a?recursive=x"), 400),
            (get("/v2/keys/a?waitIndex=x"), 400),
            (put("/v2/keys//a//b/", "value=1"), 301),
            (get("/v2/keys/../keys/a/./b?x='%3C&y=1"), 301),
            (get("/v2/keys/a%2F%2Fb"), 301),
            (Asked::new("PATCH", "/v2/keys/a"), 405),
            (Asked::new("OPTIONS", "/v2/keys/a"), 200),
            (Asked::new("OPTIONS", "/unknown"), 200),
            (get("/v2"), 404),
            (get("/v2/"), 404),
            (get("/v2/unknown"), 404),
            (get("/v2/keysx"), 404),
            (get("/v2/stats"), 404),
            (get("/v2/machines/"), 404),
            (Asked::new("POST", "/v2/machines"), 405),
            (Asked::new("HEAD", "/v2/stats/self"), 405),
            (Asked::new("POST", "/v2/stats/store"), 405),
            (Asked::new("DELETE", "/v2/stats/leader"), 405),
            (put("/v2/keys/a", "value=1").header("X-Other", "x"), 201),
            (Asked { body: b"value=1".to_vec(), ..Asked::new("PUT", "/v2/keys/no_form") }, 201),
            (
                Asked { body: b"value=1".to_vec(), ..Asked::new("PUT", "/v2/keys/b") }
                    .header("Content-Type", "application/x-www-form-urlencoded; charset"),
                400,
            ),
        ],
    );
}

#[test]
fn origins_are_allowed_as_the_flag_says() {
    let pair = Pair::start(&["--cors=http://a.example:80,http://b.example:8080"]);
    play(
        &pair,
        &[
            (get("/v2/keys").header("Origin", "http://a.example:80"), 200),
            (get("/v2/keys/none").header("Origin", "http://b.example:8080"), 404),
            (get("/v2/keys").header("Origin", "http://c.example:80"), 200),
            (get("/v2/keys"), 200),
            (Asked::new("OPTIONS", "/v2/keys").header("Origin", "http://a.example:80"), 200),
            (Asked::new("OPTIONS", "/v2/keys").header("Origin", "http://c.example:80"), 200),
        ],
    );
}

/// Ids and URLs differ, so only what does not depend on them is compared with etcd's; the rest by what it should be.
#[test]
fn members_are_listed_and_changed() {
    let pair = Pair::start(&[]);
    let json = |method, path: &str, body: &str| Asked {
        body: body.into(),
        headers: vec![("Content-Type", "application/json")],
        ..Asked::new(method, path)
    };
    play(
        &pair,
        &[
            (get("/v2/members/unknown"), 404),
            (Asked::new("PATCH", "/v2/members"), 405),
            (Asked::new("HEAD", "/v2/members"), 405),
            (delete("/v2/members"), 405),
            (delete("/v2/members/xx"), 404),
            (delete("/v2/members/12345"), 404),
            (json("PUT", "/v2/members/12345", r#"{"peerURLs":["http://127.0.0.1:1"]}"#), 404),
            (json("PUT", "/v2/members/12345", r#"{"peerURLs":["x"]}"#), 400),
            (json("PUT", "/v2/members", "{}"), 405),
            (Asked::new("POST", "/v2/members"), 415),
            (put("/v2/members/12345", "x"), 415),
            (json("POST", "/v2/members", "{"), 400),
            (json("POST", "/v2/members", "{}"), 400),
            (json("POST", "/v2/members", r#"{"peerURLs":["http://127.0.0.1"]}"#), 400),
            (json("POST", "/v2/members", r#"{"peerURLs":["http://127.0.0.1:1/path"]}"#), 400),
        ],
    );
    for endpoint in [&pair.etcd, &pair.subject] {
        let members = get("/v2/members").send(endpoint);
        let listed: serde_json::Value = serde_json::from_str(&members.body).expect("JSON");
        let own = &listed["members"][0];
        let (id, peer) = (own["id"].as_str().expect("an id"), &own["peerURLs"][0]);
        let expected = format!(
            "{{\"members\":[{{\"id\":\"{id}\",\"name\":\"member\",\"peerURLs\":[{peer}],\
             \"clientURLs\":[\"http://{endpoint}\"]}}]}}\n"
        );
        assert_eq!(members.body, expected);
        let leader = get("/v2/members/leader").send(endpoint);
        assert_eq!(format!("{{\"members\":[{}]}}\n", leader.body.trim_end()), expected);
        assert_eq!(get("/v2/machines").send(endpoint).body, format!("http://{endpoint}"));

        let taken = json("POST", "/v2/members", &format!("{{\"peerURLs\":[{peer}]}}"));
        let answer = taken.send(endpoint);
        let said = r#"{"message":"membership: peerURL exists"}"#;
        assert_eq!((answer.status, answer.body.as_str()), (409, said));

        let two = format!("{{\"peerURLs\":[{peer},\"http://127.0.0.1:9\"]}}");
        let update = json("PUT", &format!("/v2/members/{id}"), &two);
        let mut updated = update.send(endpoint);
        if updated.status == 500 && *endpoint == pair.etcd {
            // It drops a change that comes while it still applies the one before, and says so when its time is over.
            updated = update.send(endpoint);
        }
        assert_eq!((updated.status, updated.body.as_str()), (204, ""));
        let members = get("/v2/members").send(endpoint);
        assert!(members.body.contains("\"http://127.0.0.1:9\""), "{members:?}");
    }
}

#[test]
fn statistics_count_alike() {
    let pair = Pair::start(&[]);
    play(
        &pair,
        &[
            (put("/v2/keys/a", "value=1"), 201),
            (put("/v2/keys/a?prevValue=1", "value=2"), 200),
            (put("/v2/keys/a?prevValue=1", "value=2"), 412),
            (delete("/v2/keys/none"), 404),
        ],
    );
    // etcd counts what it does itself, so only the names are compared, and the order in which they come.
    let names = |body: &str| -> Vec<String> {
        body.split('"').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let [of_etcd, of_subject] =
        [&pair.etcd, &pair.subject].map(|endpoint| get("/v2/stats/store").send(endpoint));
    assert_eq!(names(&of_etcd.body), names(&of_subject.body));
    let counted: serde_json::Value = serde_json::from_str(&of_subject.body).expect("JSON");
    assert_eq!(counted["compareAndSwapSuccess"], 1);
    assert_eq!(counted["compareAndSwapFail"], 1);
    assert_eq!(counted["deleteFail"], 1);
    assert_eq!(counted["watchers"], 0);
    for endpoint in [&pair.etcd, &pair.subject] {
        let own = get("/v2/stats/self").send(endpoint).body;
        let own: serde_json::Value = serde_json::from_str(&own).expect("JSON");
        assert_eq!((&own["name"], &own["state"]), (&"member".into(), &"StateLeader".into()));
        assert_eq!(own["leaderInfo"]["leader"], own["id"]);
        let leader = get("/v2/stats/leader").send(endpoint).body;
        let expected = format!("{{\"leader\":{},\"followers\":{{}}}}", own["id"]);
        assert_eq!(leader, expected);
    }
}

/// Without the flag, its paths are unknown ones.
#[test]
fn it_can_be_turned_off() {
    use crate::harness::{Launch, Program};
    let servers = [Program::Etcd, Program::Subject]
        .map(|program| Launch::new(program).argument("--enable-v2=false").start());
    for path in
        ["/v2/keys", "/v2/keys/a?wait=true", "/v2/members", "/v2/stats/self", "/v2/machines"]
    {
        let [of_etcd, of_subject] =
            servers.each_ref().map(|server| get(path).send(&server.endpoint()));
        assert_eq!(
            (of_etcd.status, &of_etcd.body),
            (of_subject.status, &of_subject.body),
            "{path}"
        );
        assert_eq!(of_subject.status, 404, "{path}");
    }
}
