//! Answers that more than one part of the API gives.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::api::node::Node;

pub(super) const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

pub(super) fn json(status: StatusCode, body: String) -> Response<Bytes> {
    with_type(status, JSON, body)
}

/// A text that no browser is to take for anything else.
pub(super) fn text(status: StatusCode, body: &str) -> Response<Bytes> {
    let mut response = with_type(status, TEXT, body.to_owned());
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

pub(super) fn with_type(
    status: StatusCode,
    content_type: &'static str,
    body: String,
) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(super) fn not_found() -> Response<Bytes> {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

pub(super) fn method_not_allowed(allowed: &'static str) -> Response<Bytes> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Says which cluster answers.
pub(super) fn add_cluster<N: Node, B>(node: &N, response: &mut Response<B>) {
    let cluster = format!("{:x}", node.identity().cluster.0);
    let cluster = HeaderValue::from_str(&cluster).expect("invariant: digits make a header");
    response.headers_mut().insert("x-etcd-cluster-id", cluster);
}
