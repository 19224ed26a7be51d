//! A connection to one of the endpoints, and what happens when it cannot be had.
//!
//! Calls go out through tonic, with the messages of our proto crate, and not through the `etcd-client` crate on which
//! the rest of the world's Rust programs are built: that one keeps its messages private, and printing them whole (`-w
//! json`, `fields`, `protobuf`, with everything 3.7 has added) is most of what this program does; it balances calls over
//! all endpoints and does not say which one failed; and it has no `RangeStream`. The channel beneath is the same.
//!
//! **Failover.** Endpoints are tried in their order until one can be connected to; each that cannot is named on standard
//! error. Where there are several, one must also answer a question before it gets a request: a process that is paused
//! still lets itself be connected to. A read whose connection breaks is asked again elsewhere. A change is not: whether it was made is not known, and
//! the error says so. What a server answers is never retried, whatever it is.

use std::cell::RefCell;
use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use urd_proto::etcdserverpb as pb;

use super::global::{Credentials, Global};
use super::methods::{AUTHENTICATE, Effect, Method, STATUS};
use crate::failure::Failure;
use crate::go;

const REQUEST_BYTES_MAX: usize = 2 << 20;
const ANSWER_BYTES_MAX: usize = i32::MAX as usize;
/// gRPC servers end connections that ask more often.
const KEEPALIVE_TIME_MIN: Duration = Duration::from_secs(10);
/// Between two rounds over all endpoints.
const PAUSE: Duration = Duration::from_millis(100);

/// A client of a cluster.
#[derive(Debug)]
pub(crate) struct Client {
    endpoints: Vec<String>,
    credentials: Credentials,
    settings: Settings,
    state: RefCell<State>,
}

#[derive(Debug, Clone)]
struct Settings {
    dial_timeout: Duration,
    command_timeout: Duration,
    keepalive_time: Duration,
    keepalive_timeout: Duration,
    request_bytes_max: usize,
    answer_bytes_max: usize,
    debug: bool,
}

#[derive(Debug, Default)]
struct State {
    /// Where the connection goes, and which endpoint is tried first without one.
    endpoint: usize,
    channel: Option<Channel>,
    token: Option<String>,
}

/// A connection with what the calls over it need.
struct Connected {
    endpoint: String,
    channel: Channel,
    token: Option<String>,
}

impl Client {
    pub(crate) fn new(global: &Global) -> Result<Client, Failure> {
        Client::to(global, global.endpoints.clone(), global.credentials()?)
    }

    /// A client of other endpoints than those that the flags name.
    pub(crate) fn to(
        global: &Global,
        endpoints: Vec<String>,
        credentials: Credentials,
    ) -> Result<Client, Failure> {
        let endpoints: Vec<String> = endpoints
            .iter()
            .map(|endpoint| endpoint.trim().to_owned())
            .filter(|endpoint| !endpoint.is_empty())
            .collect();
        if endpoints.is_empty() {
            return Err(Failure::bad_arguments(
                "no endpoint is given; --endpoints takes HOST:PORT,...",
            ));
        }
        for endpoint in &endpoints {
            address(endpoint)?;
        }
        let or = |value: usize, default: usize| if value == 0 { default } else { value };
        let settings = Settings {
            dial_timeout: global.dial_timeout,
            command_timeout: global.command_timeout,
            keepalive_time: global.keepalive_time.max(KEEPALIVE_TIME_MIN),
            keepalive_timeout: global.keepalive_timeout,
            request_bytes_max: or(global.max_request_bytes, REQUEST_BYTES_MAX),
            answer_bytes_max: or(global.max_recv_bytes, ANSWER_BYTES_MAX),
            debug: global.debug,
        };
        Ok(Client { endpoints, credentials, settings, state: RefCell::default() })
    }

    /// A client of this endpoint alone.
    pub(crate) fn only(&self, endpoint: &str) -> Result<Client, Failure> {
        address(endpoint)?;
        Ok(Client {
            endpoints: vec![endpoint.to_owned()],
            credentials: self.credentials.clone(),
            settings: self.settings.clone(),
            state: RefCell::default(),
        })
    }

    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// One call, within the time of a short command.
    pub(crate) async fn call<Q, A>(&self, method: &Method<Q, A>, request: &Q) -> Result<A, Failure>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        self.call_within(Some(self.settings.command_timeout), method, request).await
    }

    /// One call, within `timeout`.
    pub(crate) async fn call_within<Q, A>(
        &self,
        timeout: Option<Duration>,
        method: &Method<Q, A>,
        request: &Q,
    ) -> Result<A, Failure>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        self.check_size(request)?;
        for _ in 0..self.endpoints.len() {
            let connected = self.connect().await?;
            let called = unary(&self.settings, &connected, method, request);
            let status = match within(timeout, called).await {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(status)) => status,
                None => return Err(no_answer(&connected.endpoint, timeout, method.effect)),
            };
            if !is_broken(&status) {
                return Err(Failure::error(said(&status)));
            }
            self.disconnect();
            let reason = reason(&status);
            if method.effect == Effect::Change {
                return Err(Failure::error(format!(
                    "the connection to {} broke ({reason}); it is not known whether the change was made, look before \
                     you repeat it",
                    connected.endpoint
                )));
            }
            self.tell(&format!("{} does not answer ({reason})", connected.endpoint));
        }
        Err(Failure::error(format!("no endpoint answers: {}", self.endpoints.join(", "))))
    }

    /// A stream in both directions, with a leader required as etcdctl does for watches if `leader`.
    pub(crate) async fn stream<Q, A>(
        &self,
        method: &Method<Q, A>,
        requests: impl tokio_stream::Stream<Item = Q> + Send + 'static,
        leader: bool,
    ) -> Result<Streaming<A>, Broken>
    where
        Q: Message + Default + Send + 'static,
        A: Message + Default + Send + 'static,
    {
        let connected = self.connect().await.map_err(Broken::Unreachable)?;
        let mut request = Request::new(requests);
        add_metadata(&mut request, &connected, leader);
        let mut grpc = grpc(&self.settings, &connected);
        let ready = grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()));
        let opened = match ready {
            Ok(()) => grpc.streaming(request, path(method.path), codec()).await,
            Err(status) => Err(status),
        };
        opened.map(tonic::Response::into_inner).map_err(|status| {
            if is_broken(&status) {
                self.disconnect();
            }
            Broken::Status(connected.endpoint, status)
        })
    }

    /// A stream of answers to one request.
    pub(crate) async fn server_stream<Q, A>(
        &self,
        method: &Method<Q, A>,
        request: Q,
    ) -> Result<Streaming<A>, Broken>
    where
        Q: Message + Default + Send + 'static,
        A: Message + Default + Send + 'static,
    {
        self.stream(method, tokio_stream::once(request), false).await
    }

    /// Lets the next call begin with the next endpoint.
    pub(crate) fn disconnect(&self) {
        let mut state = self.state.borrow_mut();
        state.channel = None;
        state.endpoint = (state.endpoint + 1) % self.endpoints.len();
    }

    /// Where the connection goes.
    pub(crate) fn endpoint(&self) -> String {
        let at = self.state.borrow().endpoint;
        self.endpoints.get(at).cloned().unwrap_or_default()
    }

    fn check_size(&self, request: &impl Message) -> Result<(), Failure> {
        let (length, most) = (request.encoded_len(), self.settings.request_bytes_max);
        if length <= most {
            return Ok(());
        }
        Err(Failure::error(format!(
            "rpc error: code = ResourceExhausted desc = trying to send message larger than max ({length} vs. {most})"
        )))
    }

    /// The connection there is, or one to the first endpoint that lets itself be connected to.
    async fn connect(&self) -> Result<Connected, Failure> {
        if let Some(connected) = self.connected() {
            return Ok(connected);
        }
        let deadline = Instant::now() + self.settings.dial_timeout;
        let first = self.state.borrow().endpoint;
        let mut round = 0;
        loop {
            let mut reasons = Vec::new();
            for offset in 0..self.endpoints.len() {
                let at = (first + offset) % self.endpoints.len();
                let Some(endpoint) = self.endpoints.get(at) else { continue };
                match self.dial(endpoint).await {
                    Ok(channel) => {
                        for reason in reasons.iter().filter(|_| round == 0) {
                            self.tell(&format!("{reason}; going on with {endpoint}"));
                        }
                        return self.use_channel(at, endpoint, channel).await;
                    }
                    Err(reason) => reasons.push(format!("{endpoint} is unreachable ({reason})")),
                }
            }
            if Instant::now() >= deadline {
                return Err(Failure::error(format!(
                    "no endpoint can be reached: {}",
                    reasons.join(", ")
                )));
            }
            round += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn connected(&self) -> Option<Connected> {
        let state = self.state.borrow();
        let channel = state.channel.clone()?;
        let endpoint = self.endpoints.get(state.endpoint)?.clone();
        Some(Connected { endpoint, channel, token: state.token.clone() })
    }

    async fn use_channel(
        &self,
        at: usize,
        endpoint: &str,
        channel: Channel,
    ) -> Result<Connected, Failure> {
        self.debug(&format!("connected to {endpoint}"));
        let mut connected = Connected { endpoint: endpoint.to_owned(), channel, token: None };
        connected.token = match &self.credentials {
            Credentials::None => None,
            Credentials::Token(token) => Some(token.clone()),
            Credentials::Password { user, password } => {
                let request =
                    pb::AuthenticateRequest { name: user.clone(), password: password.clone() };
                let timeout = Some(self.settings.command_timeout);
                let asked = unary(&self.settings, &connected, &AUTHENTICATE, &request);
                match within(timeout, asked).await {
                    Some(Ok(answer)) => Some(answer.token),
                    // Without authentication there is nobody to be; etcdctl goes on, too.
                    Some(Err(status))
                        if status.message().contains("authentication is not enabled") =>
                    {
                        None
                    }
                    Some(Err(status)) => return Err(Failure::connection(said(&status))),
                    None => return Err(no_answer(endpoint, timeout, Effect::Read)),
                }
            }
        };
        let mut state = self.state.borrow_mut();
        state.endpoint = at;
        state.channel = Some(connected.channel.clone());
        state.token.clone_from(&connected.token);
        Ok(connected)
    }

    async fn dial(&self, endpoint: &str) -> Result<Channel, String> {
        let address =
            address(endpoint).map_err(|failure| failure.text().unwrap_or_default().to_owned())?;
        let endpoint = Endpoint::from_shared(address).map_err(|error| error.to_string())?;
        let endpoint = endpoint
            .connect_timeout(self.settings.dial_timeout)
            .http2_keep_alive_interval(self.settings.keepalive_time)
            .keep_alive_timeout(self.settings.keepalive_timeout);
        let dialled = async {
            let channel = endpoint.connect().await.map_err(|error| innermost(&error))?;
            if self.endpoints.len() > 1 {
                self.expect_an_answer(&channel).await?;
            }
            Ok(channel)
        };
        let dialled = tokio::time::timeout(self.settings.dial_timeout, dialled).await;
        let too_late = |_| {
            let time = go::show_duration(self.settings.dial_timeout);
            format!("no answer within {time}")
        };
        dialled.map_err(too_late)?
    }

    /// Any answer will do, a refusal too.
    async fn expect_an_answer(&self, channel: &Channel) -> Result<(), String> {
        let connected =
            Connected { endpoint: String::new(), channel: channel.clone(), token: None };
        match unary(&self.settings, &connected, &STATUS, &pb::StatusRequest {}).await {
            Err(status) if is_broken(&status) => Err(reason(&status)),
            _ => Ok(()),
        }
    }

    fn tell(&self, text: &str) {
        eprintln!("warning: {text}");
    }

    fn debug(&self, text: &str) {
        if self.settings.debug {
            eprintln!("debug: {text}");
        }
    }
}

/// Why a stream could not be opened, or broke.
#[derive(Debug)]
pub(crate) enum Broken {
    Unreachable(Failure),
    Status(String, Status),
}

impl Broken {
    /// Whether another endpoint may do better.
    pub(crate) fn is_worth_another_try(&self) -> bool {
        match self {
            Broken::Unreachable(_) => false,
            Broken::Status(_, status) => {
                is_broken(status) || matches!(status.code(), Code::Unavailable | Code::Internal)
            }
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Broken::Unreachable(failure) => failure.text().unwrap_or_default().to_owned(),
            Broken::Status(endpoint, status) if is_broken(status) => {
                format!("the connection to {endpoint} broke: {}", reason(status))
            }
            Broken::Status(_, status) => said(status),
        }
    }
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Failure {
        match broken {
            Broken::Unreachable(failure) => failure,
            other => Failure::error(other.text()),
        }
    }
}

/// The URL of an endpoint, which may be given without a scheme.
fn address(endpoint: &str) -> Result<String, Failure> {
    let refused = |why: &str| {
        Err(Failure::bad_arguments(format!("endpoint {endpoint} cannot be used: {why}")))
    };
    match endpoint.split_once("://") {
        Some(("http", rest)) => Ok(format!("http://{}", rest.trim_end_matches('/'))),
        None => Ok(format!("http://{endpoint}")),
        Some(("https", _)) => refused("urdctl speaks no TLS yet, only http://"),
        Some(("unix" | "unixs", _)) => refused("urdctl speaks TCP only, http://HOST:PORT"),
        Some((scheme, _)) => {
            refused(&format!("{scheme}:// is none that urdctl knows; write http://HOST:PORT"))
        }
    }
}

fn path(path: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(path)
}

fn codec<Q, A>() -> tonic_prost::ProstCodec<Q, A>
where
    Q: Message + Send + 'static,
    A: Message + Default + Send + 'static,
{
    tonic_prost::ProstCodec::default()
}

fn grpc(settings: &Settings, connected: &Connected) -> tonic::client::Grpc<Channel> {
    tonic::client::Grpc::new(connected.channel.clone())
        .max_decoding_message_size(settings.answer_bytes_max)
        .max_encoding_message_size(usize::MAX)
}

async fn unary<Q, A>(
    settings: &Settings,
    connected: &Connected,
    method: &Method<Q, A>,
    request: &Q,
) -> Result<A, Status>
where
    Q: Message + Clone + Default + 'static,
    A: Message + Default + 'static,
{
    let mut grpc = grpc(settings, connected);
    grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
    let mut request = Request::new(request.clone());
    add_metadata(&mut request, connected, false);
    Ok(grpc.unary(request, path(method.path), codec()).await?.into_inner())
}

fn add_metadata<T>(request: &mut Request<T>, connected: &Connected, leader: bool) {
    let metadata = request.metadata_mut();
    if let Some(token) =
        connected.token.as_deref().and_then(|token| MetadataValue::try_from(token).ok())
    {
        metadata.insert("token", token);
    }
    if leader {
        metadata.insert("hasleader", MetadataValue::from_static("true"));
    }
}

/// `None` when the time is over.
async fn within<T>(timeout: Option<Duration>, future: impl Future<Output = T>) -> Option<T> {
    match timeout {
        Some(timeout) => tokio::time::timeout(timeout, future).await.ok(),
        None => Some(future.await),
    }
}

fn no_answer(endpoint: &str, timeout: Option<Duration>, effect: Effect) -> Failure {
    let time = go::show_duration(timeout.unwrap_or_default());
    let doubt = match effect {
        Effect::Change => {
            "; it is not known whether the change was made, look before you repeat it"
        }
        Effect::Read => "",
    };
    Failure::error(format!(
        "context deadline exceeded: {endpoint} did not answer within {time}{doubt}"
    ))
}

/// Whether a status was made here, because the connection failed, and not by a server.
fn is_broken(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
        && matches!(
            status.code(),
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
        )
}

fn reason(status: &Status) -> String {
    std::error::Error::source(status).map_or_else(|| status.message().to_owned(), innermost)
}

/// What lies beneath all wrapping: `Connection refused`, not `transport error`.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// A server's refusal: etcd's own errors by their text alone, others in gRPC's form.
pub(crate) fn said(status: &Status) -> String {
    if status.message().starts_with("etcdserver: ") {
        return status.message().to_owned();
    }
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

/// The end of the range of all keys that begin with `prefix`.
pub(crate) fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    // All of 0xff, or empty: no end.
    Bytes::from_static(b"\0")
}
