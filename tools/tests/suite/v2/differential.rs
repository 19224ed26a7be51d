//! Random requests, equal answers.
//!
//! The requests come from a seed: `URD_V2_SEED` repeats one, `URD_V2_REQUESTS` asks for more of them. Keys, values and
//! indexes are few, so that requests meet: compares succeed now and then, directories fill and are removed, parameters
//! contradict each other, and some are wrong.
//!
//! Whoever waits is made to hear something: behind each such GET comes a write that concerns it, unless its event was in
//! the history already.

use fastrand::Rng;

use super::pair::{Asked, FORM, Pair, index, masked};
use crate::harness::http::Poll;

const REQUESTS: usize = 1500;
const REQUESTS_AT_FOLLOWERS: usize = 500;

const PARTS: [&str; 5] = ["a", "b", "c", "_h", "d%20e"];
const VALUES: [&str; 6] = ["1", "2", "", "%3Cb%3E%26%22%5C%0A", "%C3%A9%E2%80%A8%FF", "x+y"];
const TTLS: [&str; 6] = ["1000", "5000", "20000", "", "x", "-1"];
const FLAGS: [&str; 8] = ["true", "false", "true", "1", "F", "x", "", "TRUE"];

/// A history of so many events is what etcd keeps; what is older is asked for, too.
const HISTORY: u64 = 1000;

#[test]
fn random_requests_get_equal_answers() {
    run(&Pair::start(&[]), REQUESTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_requests_get_equal_answers_through_followers() {
    let pair = Pair::start_at_followers().await;
    tokio::task::spawn_blocking(move || run(&pair, REQUESTS_AT_FOLLOWERS)).await.expect("no panic");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn run(pair: &Pair, requests: usize) {
    let seed = number("URD_V2_SEED").unwrap_or_else(|| Rng::new().u64(..));
    let requests = number("URD_V2_REQUESTS").map_or(requests, |requests| requests as usize);
    println!("URD_V2_SEED={seed} URD_V2_REQUESTS={requests}");
    let mut run = Run { pair, random: Rng::with_seed(seed), index: 3, statuses: [0; 6] };
    for _ in 0..requests {
        match run.random.u8(..) {
            0..12 => run.wait(),
            12..20 => run.stream(),
            _ => run.ask(),
        }
    }
    // All is as it was asked for, and not refused throughout.
    let at_end = Asked::new("GET", "/v2/keys?recursive=true");
    pair.ask(&at_end);
    pair.ask(&Asked::new("GET", "/v2/keys?recursive=true&sorted=true"));
    let [.., successes, _, refusals, _] = run.statuses;
    assert!(
        successes > requests / 5 && refusals > requests / 10,
        "{successes} successes and {refusals} refusals of {requests} requests try too little"
    );
}

/// What a stream tells until the last event. etcd tells of a removal twice: where it finds the node, and where it finds
/// what the event is about.
fn told(poll: &mut Poll) -> Vec<String> {
    let mut events: Vec<String> = Vec::new();
    while !events.last().is_some_and(|event| event.contains("\"value\":\"the last\"")) {
        let event = poll.next().expect("an event").expect("a stream does not end");
        events.push(masked(&event));
    }
    events.dedup();
    events
}

struct Run<'a> {
    pair: &'a Pair,
    random: Rng,
    /// The newest index heard of.
    index: u64,
    /// Answers by the first digit of their status.
    statuses: [usize; 6],
}

impl Run<'_> {
    fn choose(&mut self, from: &[&'static str]) -> &'static str {
        let at = self.random.usize(..from.len());
        from[at]
    }

    fn ask(&mut self) {
        let asked = self.request();
        let answer = self.pair.ask(&asked);
        if let Some(class) = self.statuses.get_mut(usize::from(answer.status / 100)) {
            *class += 1;
        }
        if answer.header("x-etcd-index").is_some() {
            self.index = self.index.max(index(&answer));
        }
    }

    fn request(&mut self) -> Asked {
        let method = match self.random.u8(..) {
            0..64 => "GET",
            64..70 => "HEAD",
            70..160 => "PUT",
            160..200 => "POST",
            200..250 => "DELETE",
            _ => self.choose(&["PATCH", "OPTIONS", "TRACE"]),
        };
        let path = self.path();
        let fields = self.fields(method);
        let (in_query, in_body): (Vec<String>, Vec<String>) =
            fields.into_iter().partition(|_| self.random.bool());
        let mut path = format!("/v2/keys{path}");
        if !in_query.is_empty() {
            path += "?";
            path += &in_query.join("&");
        }
        let asked = Asked::new(method, path);
        match self.random.u8(..) {
            // A body that is not read as a form, or not at all.
            0..8 => Asked { body: in_body.join("&").into(), ..asked },
            8..12 => Asked { body: in_body.join("&").into(), ..asked }
                .header("Content-Type", "application/json"),
            12..16 => Asked { headers: vec![FORM], ..asked },
            _ => asked.form(in_body.join("&")),
        }
    }

    fn path(&mut self) -> String {
        let mut path = String::new();
        for _ in 0..[0, 1, 1, 1, 2, 2, 2, 3][self.random.usize(..8)] {
            path += "/";
            path += self.choose(&PARTS);
        }
        match self.random.u8(..) {
            0..10 => path + "/",
            10..14 => path + "//" + self.choose(&PARTS),
            14..18 => path + "/../" + self.choose(&PARTS),
            _ => path,
        }
    }

    fn fields(&mut self, method: &str) -> Vec<String> {
        let mut fields = Vec::new();
        let mut add = |random: &mut Rng, likely: u8, name: &str, value: String| {
            if random.u8(..) < likely {
                fields.push(format!("{name}={value}"));
            }
        };
        let is_put = method == "PUT";
        let writes = is_put || method == "POST";
        let flag = |run: &mut Self| run.choose(&FLAGS).to_owned();
        let value = self.choose(&VALUES).to_owned();
        add(&mut self.random, if writes { 200 } else { 5 }, "value", value);
        let value = self.choose(&VALUES).to_owned();
        add(&mut self.random, if writes { 25 } else { 40 }, "prevValue", value);
        let index = self.some_index();
        add(&mut self.random, if writes { 25 } else { 40 }, "prevIndex", index);
        let (exist, refresh, dir) = (flag(self), flag(self), flag(self));
        add(&mut self.random, if is_put { 60 } else { 8 }, "prevExist", exist);
        add(&mut self.random, if is_put { 20 } else { 2 }, "refresh", refresh);
        add(&mut self.random, 60, "dir", dir);
        let ttl = self.choose(&TTLS).to_owned();
        add(&mut self.random, if writes { 50 } else { 4 }, "ttl", ttl);
        let (recursive, sorted, quorum) = (flag(self), flag(self), flag(self));
        add(&mut self.random, if writes { 8 } else { 100 }, "recursive", recursive);
        add(&mut self.random, if writes { 8 } else { 60 }, "sorted", sorted);
        add(&mut self.random, if writes { 8 } else { 40 }, "quorum", quorum);
        // A GET that waits is another matter, see below.
        let wait = self.choose(if method == "GET" { &["false", "x"] } else { &FLAGS }).to_owned();
        add(&mut self.random, 6, "wait", wait);
        let (stream, bare) = (flag(self), flag(self));
        add(&mut self.random, 6, "stream", stream);
        add(&mut self.random, 12, "noValueOnSuccess", bare);
        let index = self.some_index();
        add(&mut self.random, 6, "waitIndex", index);
        let odd = self.choose(&["%zz", "a;b", "=", "&", "other"]).to_owned();
        add(&mut self.random, 4, "odd", odd);
        fields
    }

    /// Mostly one that some node has.
    fn some_index(&mut self) -> String {
        match self.random.u8(..) {
            0..10 => self.choose(&["x", "", "-1", "99999999999999999999", "0"]).to_owned(),
            _ => self.index.saturating_sub(self.random.u64(0..12)).to_string(),
        }
    }

    /// A directory or file that is written to afterwards, with how it is waited for.
    fn waited_for(&mut self) -> (&'static str, bool) {
        let key = self.choose(&["/a", "/b", "/_h", "/w"]);
        (key, self.random.bool())
    }

    fn wait(&mut self) {
        let (key, recursive) = self.waited_for();
        let mut path = format!("/v2/keys{key}?wait=true&recursive={recursive}");
        match self.random.u8(..) {
            0..80 => {}
            80..180 => {
                path += &format!("&waitIndex={}", self.index.saturating_sub(self.random.u64(0..20)))
            }
            180..220 => path += &format!("&waitIndex={}", self.index + self.random.u64(1..4)),
            _ => {
                path += &format!(
                    "&waitIndex={}",
                    self.index.saturating_sub(HISTORY + self.random.u64(0..20))
                )
            }
        }
        let mut polls = self.pair.wait(&path);
        if polls[1].head.status != 200 {
            return;
        }
        // More than the index that it may wait for.
        for _ in 0..6 {
            self.replace(key);
        }
        assert!(Pair::event(&path, &mut polls).is_some(), "{path}");
        assert_eq!(Pair::event(&path, &mut polls), None, "{path}");
    }

    fn stream(&mut self) {
        let (key, recursive) = self.waited_for();
        let path = format!("/v2/keys{key}?wait=true&stream=true&recursive={recursive}");
        let polls = self.pair.wait(&path);
        for _ in 0..self.random.usize(..12) {
            self.ask();
        }
        self.replace(key);
        let [expected, found] = polls.map(|mut poll| told(&mut poll));
        assert_eq!(expected, found, "{path}: as etcd has it, and as the subject does");
    }

    /// Removes what there is, so that a file can be set.
    fn replace(&mut self, key: &str) {
        self.pair.ask(&Asked::new("DELETE", format!("/v2/keys{key}?recursive=true")));
        let answer =
            self.pair.ask(&Asked::new("PUT", format!("/v2/keys{key}")).form("value=the+last"));
        assert_eq!(answer.status, 201);
        self.index = index(&answer);
    }
}
