//! The TCP stream under a [`Connection`], on glommio.
//!
//! One receive buffer serves all connections of an executor: what is received is parsed at once,
//! and only the beginning of a frame that is not whole yet is kept per connection.

use super::connection::{Connection, ConnectionError, RECEIVE_BYTES_MIN};
use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Bytes received at once, shared by the connections of a thread.
const RECEIVE_BYTES: usize = 128 * 1024;
const _: () = assert!(RECEIVE_BYTES >= 2 * RECEIVE_BYTES_MIN);

thread_local! {
    static RECEIVE: RefCell<Vec<u8>> = RefCell::new(vec![0; RECEIVE_BYTES]);
}

/// Why nothing more can be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error("cannot connect to {address}: {reason}")]
    Connect { address: SocketAddr, reason: String },
    #[error("connection lost: {0}")]
    Io(std::io::Error),
    #[error("connection lost: closed by the server")]
    Closed,
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// A connected stream.
pub struct Transport {
    stream: TcpStream,
    /// How much of the connection's output was sent.
    sent: usize,
    /// Received bytes that are not a whole frame yet.
    partial: Vec<u8>,
    /// Totals, both ways.
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

impl Transport {
    /// Connects; `timeout` bounds it.
    pub async fn connect(
        address: SocketAddr,
        timeout: Duration,
    ) -> Result<Transport, TransportError> {
        let connected = TcpStream::connect_timeout(address, timeout).await;
        let failed = |reason: String| TransportError::Connect { address, reason };
        let stream = connected.map_err(|error| failed(plain_reason(error)))?;
        stream.set_nodelay(true).map_err(|error| failed(plain_reason(error)))?;
        Ok(Transport { stream, sent: 0, partial: Vec::new(), bytes_sent: 0, bytes_received: 0 })
    }

    /// Sends what waits in `connection`'s output, all of it once ready.
    pub fn poll_send<T>(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection<T>,
    ) -> Poll<Result<(), TransportError>> {
        let output = connection.output();
        while self.sent < output.len() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &output[self.sent..]));
            let written = written.map_err(TransportError::Io)?;
            self.sent += written;
            self.bytes_sent += written as u64;
        }
        output.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Receives once, and lets `connection` parse it.
    pub fn poll_receive<T>(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection<T>,
    ) -> Poll<Result<(), TransportError>> {
        RECEIVE.with_borrow_mut(|buffer| {
            let begin = self.partial.len();
            let received = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer[begin..]));
            let received = received.map_err(TransportError::Io)?;
            if received == 0 {
                return Poll::Ready(Err(TransportError::Closed));
            }
            self.bytes_received += received as u64;
            // Nothing else wrote into the buffer's beginning since it was kept free for this.
            buffer[..begin].copy_from_slice(&self.partial);
            self.partial.clear();
            let filled = begin + received;
            let parsed = connection.receive(&buffer[..filled])?;
            self.partial.extend_from_slice(&buffer[parsed..filled]);
            Poll::Ready(Ok(()))
        })
    }

    /// Sends the preface and waits until the server's settings are there.
    pub async fn open<T>(&mut self, connection: &mut Connection<T>) -> Result<(), TransportError> {
        poll_fn(|cx| {
            while !connection.is_open() {
                // Sending goes on by itself later, if the socket takes no more now.
                if let Poll::Ready(Err(error)) = self.poll_send(cx, connection) {
                    return Poll::Ready(Err(error));
                }
                ready!(self.poll_receive(cx, connection))?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }
}

/// The operating system's reason, without glommio's wrapping (which names file descriptors).
fn plain_reason(error: glommio::GlommioError<()>) -> String {
    let io_error = std::io::Error::from(error);
    match io_error.raw_os_error() {
        Some(code) => std::io::Error::from_raw_os_error(code).to_string(),
        None => match io_error.kind() {
            std::io::ErrorKind::TimedOut => "timed out".into(),
            _ => io_error.to_string(),
        },
    }
}
