//! The plain HTTP endpoints of the client port: version, health checks, metrics.
//!
//! Paths, parameters and bodies are those of etcd 3.7 (its `etcdhttp` pages). `/livez` and `/readyz` run named checks;
//! each check is also a path of its own, as in Kubernetes. What begins with `/v2` goes to [`v2`], if it is served.

use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::or;
use http::{Method, Request, Response, StatusCode, header};

use urd_proto::etcdserverpb::AlarmType;

use super::call::Body;
use super::node::{Node, linearizable};
use super::v2;
use crate::version::{ETCD_CLUSTER_VERSION, ETCD_VERSION};

/// How long a health check waits for a linearizable read.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// A named health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    LinearizableRead,
    NonLearner,
    SerializableRead,
}

impl Check {
    /// The checks behind `/livez`: a restart might help where they fail.
    const LIVE: &'static [Self] = &[Self::SerializableRead];
    /// The checks behind `/readyz`: traffic should go elsewhere where they fail.
    const READY: &'static [Self] =
        &[Self::DataCorruption, Self::LinearizableRead, Self::NonLearner, Self::SerializableRead];

    const fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
            Self::SerializableRead => "serializable_read",
        }
    }

    async fn run<N: Node>(self, node: &Rc<N>) -> Result<(), String> {
        match self {
            // Damage on the disk stops the member; members that differ raise an alarm.
            Self::DataCorruption => match node.published().view.alarms(AlarmType::Corrupt)[..] {
                [] => Ok(()),
                _ => Err("alarm activated: CORRUPT".to_owned()),
            },
            Self::NonLearner if node.is_learner() => Err("not supported for learner".to_owned()),
            Self::NonLearner => Ok(()),
            // The newest root is at hand as long as the shard runs at all.
            Self::SerializableRead => Ok(()),
            Self::LinearizableRead => {
                let late = async {
                    node.sleep(CHECK_TIMEOUT).await;
                    Err("context deadline exceeded".to_owned())
                };
                or(
                    async {
                        linearizable(node).await.map_err(|error| format!("etcdserver: {error}"))
                    },
                    late,
                )
                .await
            }
        }
    }
}

/// Answers a request.
pub async fn serve<N: Node>(node: &Rc<N>, request: Request<Bytes>) -> Response<Body> {
    let mut response = if request.method() == Method::OPTIONS {
        // Whatever the path: it is asked for what stands in the header.
        Response::new(Body::Whole(Bytes::new()))
    } else if node.limits().v2 && v2::is_ours(request.uri().path()) {
        v2::serve(node, &request).await
    } else {
        serve_plain(node, &request).await.map(Body::Whole)
    };
    response.headers_mut().extend(node.origins().fields(request.headers()));
    response
}

async fn serve_plain<N: Node>(node: &Rc<N>, request: &Request<Bytes>) -> Response<Bytes> {
    let path = request.uri().path();
    let known = matches!(path, "/version" | "/health" | "/metrics")
        || path.starts_with("/livez")
        || path.starts_with("/readyz");
    if known && request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".to_owned());
        refused.headers_mut().insert(header::ALLOW, http::HeaderValue::from_static("GET"));
        return refused;
    }
    let parameters = Parameters(request.uri().query().unwrap_or_default());
    match path {
        "/version" => version(),
        "/health" => health(node, &parameters).await,
        "/metrics" => {
            answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", node.metrics())
        }
        _ => match path.split_at_checked(6) {
            Some(("/livez", check)) => checks(node, Check::LIVE, check, &parameters).await,
            Some(("/ready", check)) if check.starts_with('z') => {
                checks(node, Check::READY, check.trim_start_matches('z'), &parameters).await
            }
            _ => not_found(),
        },
    }
}

/// A query string. Values are names of checks and alarms, which need no unescaping.
struct Parameters<'a>(&'a str);

impl Parameters<'_> {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.split('&').filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        })
    }

    fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }
}

fn version() -> Response<Bytes> {
    // By hand, for the order of etcd's fields; nothing in it needs escaping.
    let body = format!(
        r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{ETCD_CLUSTER_VERSION}","storage":"{ETCD_CLUSTER_VERSION}","urd":"{}"}}"#,
        env!("CARGO_PKG_VERSION")
    );
    answer(StatusCode::OK, JSON, body)
}

/// `/health`, the older check: a leader is known and a linearizable (`?serializable=true`: local) read works.
/// `exclude` names alarms to overlook.
async fn health<N: Node>(node: &Rc<N>, parameters: &Parameters<'_>) -> Response<Bytes> {
    let serializable = parameters.values("serializable").any(|value| value == "true");
    let published = node.published();
    let alarms = published.view.alarms(AlarmType::None);
    let mut raised = alarms.iter().map(|alarm| alarm.alarm().as_str_name());
    let alarm = raised.find(|name| parameters.values("exclude").all(|excluded| excluded != *name));
    let reason = if let Some(alarm) = alarm {
        format!("ALARM {alarm}")
    } else if published.leader.is_none() && !serializable {
        "RAFT NO LEADER".to_owned()
    } else if serializable {
        String::new()
    } else {
        match Check::LinearizableRead.run(node).await {
            Ok(()) => String::new(),
            Err(error) => format!("QGET ERROR:{error}"),
        }
    };
    let (status, healthy) = if reason.is_empty() {
        (StatusCode::OK, "true")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "false")
    };
    answer(status, JSON, serde_json::json!({ "health": healthy, "reason": reason }).to_string())
}

/// Runs all of `checks` but the excluded ones, or the one named by the rest of the path.
async fn checks<N: Node>(
    node: &Rc<N>,
    checks: &[Check],
    rest: &str,
    parameters: &Parameters<'_>,
) -> Response<Bytes> {
    let chosen: Vec<Check> = match rest.strip_prefix('/') {
        None if rest.is_empty() => checks
            .iter()
            .filter(|check| parameters.values("exclude").all(|name| name != check.name()))
            .copied()
            .collect(),
        Some(name) => match checks.iter().find(|check| check.name() == name) {
            Some(check) => vec![*check],
            None => return not_found(),
        },
        None => return not_found(),
    };
    let mut report = String::new();
    let mut healthy = true;
    for check in chosen {
        match check.run(node).await {
            Ok(()) => writeln!(report, "[+]{} ok", check.name()),
            Err(error) => {
                healthy = false;
                writeln!(report, "[-]{} failed: {error}", check.name())
            }
        }
        .expect("invariant: a String takes any text");
    }
    if !healthy {
        return text(StatusCode::SERVICE_UNAVAILABLE, report + "\n");
    }
    let shown = if parameters.has("verbose") { report } else { String::new() };
    text(StatusCode::OK, shown + "ok\n")
}

fn not_found() -> Response<Bytes> {
    text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())
}

fn text(status: StatusCode, body: String) -> Response<Bytes> {
    let mut response = answer(status, TEXT, body);
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    response
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}
