//! A single call on a connection of its own, for what is asked beside the load: status,
//! compaction, hashes.

use super::connection::{Connection, Keep, MESSAGE_HEAD_BYTES};
use super::endpoint::{Endpoint, EndpointError};
use super::request_head::RequestHead;
use super::status::CallError;
use super::transport::{Transport, TransportError};
use futures_lite::{FutureExt, future};
use glommio::timer::Timer;
use prost::Message;
use std::task::Poll;
use std::time::Duration;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum UnaryError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("malformed response: {0}")]
    Decode(#[from] prost::DecodeError),
    #[error("{0}: no answer within {1:?}")]
    TimedOut(String, Duration),
    #[error("{0}: host name too long")]
    Authority(String),
}

/// Calls `path` (`/package.Service/Method`) of the server at `endpoint`.
pub async fn call<Q: Message, R: Message + Default>(
    endpoint: &Endpoint,
    path: &'static str,
    request: &Q,
    timeout: Duration,
) -> Result<R, UnaryError> {
    let answered = converse(endpoint, path, request, timeout);
    let expired = async {
        Timer::new(timeout).await;
        Err(UnaryError::TimedOut(endpoint.authority.clone(), timeout))
    };
    answered.or(expired).await
}

async fn converse<Q: Message, R: Message + Default>(
    endpoint: &Endpoint,
    path: &'static str,
    request: &Q,
    timeout: Duration,
) -> Result<R, UnaryError> {
    let head = RequestHead::new(&endpoint.authority, &[path]);
    let head = head.ok_or_else(|| UnaryError::Authority(endpoint.authority.clone()))?;
    let mut connection = Connection::new(head);
    let mut transport = Transport::connect(endpoint.resolve()?, timeout).await?;
    transport.open(&mut connection).await?;
    if connection.room() == 0 {
        return Err(CallError::Unprocessed.into());
    }
    connection.start(&framed(request), Keep::Message, ());

    let mut finished = Vec::new();
    future::poll_fn(|cx| {
        loop {
            connection.take_finished(&mut finished);
            if !finished.is_empty() {
                return Poll::Ready(Ok::<(), UnaryError>(()));
            }
            if let Poll::Ready(Err(error)) = transport.poll_send(cx, &mut connection) {
                return Poll::Ready(Err(error.into()));
            }
            std::task::ready!(transport.poll_receive(cx, &mut connection))?;
        }
    })
    .await?;
    let response = finished.remove(0).outcome?;
    Ok(R::decode(&*response.message)?)
}

/// A message with gRPC's head before it.
pub fn framed(message: &impl Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut frame = Vec::with_capacity(MESSAGE_HEAD_BYTES + length);
    frame.push(0);
    frame.extend_from_slice(&(length as u32).to_be_bytes());
    message.encode(&mut frame).expect("invariant: a vector grows as needed");
    frame
}
