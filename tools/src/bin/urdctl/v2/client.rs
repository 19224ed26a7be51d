//! A cluster's members, tried in their order until one answers.
//!
//! What could not be connected to, and reads that broke off, are tried at the next member. A change that broke off is not:
//! whether it was made is not known, and the error says so.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::Global;
use super::http::{self, Answer, Error, Request, Timeouts};
use crate::failure::Failure;

#[derive(Debug)]
pub(crate) struct Client {
    endpoints: Vec<String>,
    authorization: Option<String>,
    timeout: Duration,
    deadline: Instant,
    debug: bool,
}

impl Client {
    pub(crate) fn new(global: &Global) -> Result<Client, Failure> {
        let authorization = global.credentials()?.map(|(user, password)| {
            format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
        });
        Ok(Client {
            endpoints: global.endpoints(),
            authorization,
            timeout: global.timeout,
            deadline: Instant::now() + global.total_timeout,
            debug: global.debug,
        })
    }

    /// Learns of all members from the first that answers.
    pub(crate) fn sync(&mut self) -> Result<(), Failure> {
        let members = self.members().map_err(|failure| failure.code(2))?;
        let urls: Vec<String> =
            members.iter().flat_map(|member| member.client_urls.clone()).collect();
        if urls.is_empty() {
            eprintln!(
                "etcd cluster has no published client endpoints.\nTry '--no-sync' if you want to access non-published client \
                 endpoints({}).",
                self.endpoints.join(",")
            );
            return Err(Failure::with_code(4, " client: no endpoints available"));
        }
        // Those that were named stay in front: they have just been seen, or are what the user prefers.
        let mut endpoints: Vec<String> = self
            .endpoints
            .iter()
            .filter(|endpoint| urls.iter().any(|url| same(url, endpoint)))
            .cloned()
            .collect();
        for url in urls {
            if !endpoints.iter().any(|endpoint| same(&url, endpoint)) {
                endpoints.push(url);
            }
        }
        self.endpoints = endpoints;
        Ok(())
    }

    pub(crate) fn members(&self) -> Result<Vec<Member>, Failure> {
        let answer = self.send(&request("GET", "/v2/members"))?;
        expect(&answer, &[200])?;
        let members = json(&answer)?;
        let members = members["members"].as_array().cloned().unwrap_or_default();
        Ok(members.iter().map(Member::read).collect())
    }

    /// Sends a request that ends with the command's time.
    pub(crate) fn send(&self, request: &Request) -> Result<Answer, Failure> {
        self.send_for(request, false)
    }

    /// The same; one that waits for a change may wait for ever.
    pub(crate) fn send_for(&self, request: &Request, waits: bool) -> Result<Answer, Failure> {
        let mut request = request.clone();
        if let Some(authorization) = &self.authorization {
            request.headers.push(("Authorization", authorization.clone()));
        }
        let mut reasons = Vec::new();
        for endpoint in &self.endpoints {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() && !waits {
                reasons.push("the time is over (--total-timeout)".to_owned());
                break;
            }
            if self.debug {
                eprintln!("debug: {} {endpoint}{}", request.method, request.path);
            }
            let timeouts = Timeouts {
                connect: if waits { self.timeout } else { self.timeout.min(left) },
                answer: if waits { None } else { Some(left) },
            };
            match http::send(endpoint, &request, timeouts) {
                Ok(answer) if answer.status / 100 != 5 || request.method != "GET" => {
                    return Ok(answer);
                }
                Ok(answer) => reasons.push(format!(
                    "client: etcd member {endpoint} answers {}",
                    if matches!(answer.status, 500 | 503) {
                        "that it has no leader".to_owned()
                    } else {
                        format!("with status {}", answer.status)
                    }
                )),
                Err(error @ Error::Broken(_)) if request.method != "GET" => {
                    return Err(Failure::with_code(
                        4,
                        format!(
                            " {endpoint}: the connection broke ({error}); it is not known whether the change was made, look \
                             before you repeat it"
                        ),
                    ));
                }
                Err(error) => reasons.push(format!("dial tcp {endpoint}: {error}")),
            }
        }
        Err(unavailable(&reasons))
    }
}

/// Whether two endpoints are the same, with a scheme or without.
fn same(url: &str, endpoint: &str) -> bool {
    let bare = |url: &str| url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    bare(url) == bare(endpoint)
}

fn unavailable(reasons: &[String]) -> Failure {
    let numbered = reasons.iter().enumerate();
    let numbered =
        numbered.map(|(at, reason)| format!("; error #{at}: {reason}\n")).collect::<String>();
    let text = format!(" client: etcd cluster is unavailable or misconfigured{numbered}");
    Failure::with_code(4, text.trim_end())
}

pub(crate) fn request(method: &'static str, path: &str) -> Request {
    Request { method, path: path.to_owned(), ..Default::default() }
}

/// A request with a JSON document.
pub(crate) fn json_request(method: &'static str, path: &str, document: &Value) -> Request {
    Request {
        method,
        path: path.to_owned(),
        headers: vec![("Content-Type", "application/json".to_owned())],
        body: document.to_string().into_bytes(),
    }
}

pub(crate) fn json(answer: &Answer) -> Result<Value, Failure> {
    serde_json::from_slice(&answer.body).map_err(|_| {
        Failure::with_code(
            4,
            " client: response is invalid json. The endpoint is probably not valid etcd cluster endpoint",
        )
    })
}

/// Whether the status is one of those that mean success; otherwise what the server says of it.
pub(crate) fn expect(answer: &Answer, statuses: &[u16]) -> Result<(), Failure> {
    if statuses.contains(&answer.status) {
        return Ok(());
    }
    let message = serde_json::from_slice::<Value>(&answer.body)
        .ok()
        .and_then(|document| document["message"].as_str().map(str::to_owned));
    let text = message.unwrap_or_else(|| format!("unexpected status code {}", answer.status));
    Err(Failure::with_code(4, text))
}

/// A member as `/v2/members` has it.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub id: String,
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
}

impl Member {
    pub(crate) fn read(document: &Value) -> Member {
        let text = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
        Member {
            id: text("id"),
            name: text("name"),
            peer_urls: strings(&document["peerURLs"]),
            client_urls: strings(&document["clientURLs"]),
        }
    }
}

/// A list of texts; anything else is an empty one.
pub(crate) fn strings(document: &Value) -> Vec<String> {
    let all = document.as_array().into_iter().flatten();
    all.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}
