//! Connecting, and connecting again after a loss.

use super::connection::Connection;
use super::request_head::RequestHead;
use super::transport::{Transport, TransportError};
use futures_lite::FutureExt;
use glommio::timer::Timer;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Pauses between attempts to connect again: the first, doubled up to the last.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Where to connect, what for, and how long that may take.
#[derive(Clone, Debug)]
pub struct Dial {
    pub address: SocketAddr,
    pub head: RequestHead,
    pub timeout: Duration,
}

impl Dial {
    /// Connects and waits for the server's settings.
    pub async fn connect<T>(&self) -> Result<(Transport, Connection<T>), TransportError> {
        self.connect_within(self.timeout).await
    }

    /// Connects again after a loss, trying until the timeout is over. A server that accepts
    /// connections and ends them unused (not `used`) is no better than none, and gets a pause.
    pub async fn again<T>(&self, used: bool) -> Result<(Transport, Connection<T>), TransportError> {
        let deadline = Instant::now() + self.timeout;
        let mut pause = if used { Duration::ZERO } else { PAUSE_MIN };
        loop {
            if !pause.is_zero() {
                Timer::new(pause).await;
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            match self.connect_within(rest.max(PAUSE_MIN)).await {
                Ok(connected) => return Ok(connected),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => {}
            }
            pause = (pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        }
    }

    async fn connect_within<T>(
        &self,
        timeout: Duration,
    ) -> Result<(Transport, Connection<T>), TransportError> {
        let connected = async {
            let mut connection = Connection::new(self.head.clone());
            let mut transport = Transport::connect(self.address, timeout).await?;
            transport.open(&mut connection).await?;
            Ok((transport, connection))
        };
        let expired = async {
            Timer::new(timeout).await;
            let reason = format!("no HTTP/2 settings within {timeout:?}");
            Err(TransportError::Connect { address: self.address, reason })
        };
        connected.or(expired).await
    }
}
