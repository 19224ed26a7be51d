//! `grpc.health.v1.Health`, as load balancers and Kubernetes probes use it.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use urd_proto::grpc_health_v1::health_check_response::ServingStatus;
use urd_proto::grpc_health_v1::{HealthCheckRequest, HealthCheckResponse};

use super::decode;
use crate::api::call::{Code, Encoded, Reply, Status};
use crate::api::node::Node;
use crate::error::Unavailable;

/// How often a health watch looks whether its status changed, or its client has gone.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// `Check`: the whole server (an empty service name) is healthy while it knows a leader, as etcd's is.
pub fn check<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    match decode::<HealthCheckRequest>(message) {
        Ok(request) if request.service.is_empty() => reply.unary(Encoded::new(&current(node))),
        Ok(_) => reply.fail(Status::new(Code::NotFound, "unknown service")),
        Err(status) => reply.fail(status),
    }
}

/// `Watch`: the status now, and whenever it changes.
pub fn watch<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    let request = match decode::<HealthCheckRequest>(message) {
        Ok(request) => request,
        Err(status) => return reply.fail(status),
    };
    let mut stream = reply.stream();
    let watched = Rc::clone(node);
    node.spawn(async move {
        let mut told = None;
        while poll_fn(|context| stream.poll_ready(context)).await.is_ok() {
            let now = if request.service.is_empty() {
                current(&watched)
            } else {
                HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() }
            };
            if told != Some(now.status) {
                told = Some(now.status);
                stream.send(Encoded::new(&now));
            }
            if watched.is_draining() {
                return stream.finish(Unavailable::Stopped.into());
            }
            watched.sleep(WATCH_INTERVAL).await;
        }
    });
}

fn current<N: Node>(node: &Rc<N>) -> HealthCheckResponse {
    let status = match node.published().leader {
        Some(_) => ServingStatus::Serving,
        None => ServingStatus::NotServing,
    };
    HealthCheckResponse { status: status.into() }
}
