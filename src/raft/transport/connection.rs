//! A TCP connection that carries frames: one half to read them, one to write them, each for a task of its own.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::or;
use futures_lite::io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use thiserror::Error;

use super::Address;
use super::frame::{Deframer, Kind, Malformed};

/// What one receive takes at most.
const RECEIVE_BYTES: usize = 64 * 1024;

/// Why a connection is of no more use.
#[derive(Debug, Error)]
pub(super) enum Broken {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the other side has closed the connection")]
    Closed,
    #[error("nothing was heard for {0:?}")]
    Silent(Duration),
    #[error("it takes nothing for {0:?}")]
    Stalled(Duration),
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
}

type Shared = Rc<RefCell<TcpStream>>;

/// The half that reads.
pub(super) struct Reader {
    stream: Shared,
    deframer: Deframer,
    buffer: Vec<u8>,
    /// The longest body that may come.
    pub(super) body_max: usize,
}

/// The half that writes.
#[derive(Clone)]
pub(super) struct Writer {
    stream: Shared,
}

/// Both halves of a connection.
pub(super) fn halves(stream: TcpStream, body_max: usize) -> (Reader, Writer) {
    // Without it a heartbeat may wait for an acknowledgement of the one before; the connection works all the same.
    stream.set_nodelay(true).ok();
    let stream = Rc::new(RefCell::new(stream));
    let (deframer, buffer) = (Deframer::default(), vec![0; RECEIVE_BYTES]);
    (Reader { stream: Rc::clone(&stream), deframer, buffer, body_max }, Writer { stream })
}

impl Reader {
    /// The next frame.
    pub(super) async fn frame(&mut self) -> Result<(Kind, Bytes), Broken> {
        loop {
            if let Some(frame) = self.deframer.next(self.body_max)? {
                return Ok(frame);
            }
            let Self { stream, buffer, .. } = self;
            let received =
                poll_fn(|context| Pin::new(&mut *stream.borrow_mut()).poll_read(context, buffer))
                    .await?;
            if received == 0 {
                return Err(Broken::Closed);
            }
            self.deframer.extend(&self.buffer[..received]);
        }
    }

    /// The next frame, unless nothing comes for so long.
    pub(super) async fn frame_within(&mut self, time: Duration) -> Result<(Kind, Bytes), Broken> {
        within(time, Broken::Silent(time), self.frame()).await
    }
}

impl Writer {
    /// Writes all of `bytes`, unless the other side takes nothing for so long.
    pub(super) async fn write(&self, bytes: &[u8], stall_max: Duration) -> Result<(), Broken> {
        let mut left = bytes;
        while !left.is_empty() {
            let once = async {
                let written = poll_fn(|context| {
                    Pin::new(&mut *self.stream.borrow_mut()).poll_write(context, left)
                });
                Ok(written.await?)
            };
            let written = within(stall_max, Broken::Stalled(stall_max), once).await?;
            if written == 0 {
                return Err(Broken::Closed);
            }
            left = &left[written..];
        }
        Ok(())
    }

    /// Says that nothing more will be written.
    pub(super) async fn close(&self) {
        // The connection is given up either way.
        poll_fn(|context| Pin::new(&mut *self.stream.borrow_mut()).poll_close(context)).await.ok();
    }
}

/// What `work` comes to, or `late` when it takes longer than `time`.
pub(super) async fn within<T, E>(
    time: Duration,
    late: E,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let timer = async {
        glommio::timer::sleep(time).await;
        Err(late)
    };
    or(work, timer).await
}

/// Connects to the first of the places that an address may mean and that answers.
pub(super) async fn connect(address: &Address, time: Duration) -> io::Result<TcpStream> {
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for place in resolve(address).await? {
        match TcpStream::connect_timeout(place, time).await {
            Ok(stream) => return Ok(stream),
            Err(failed) => error = failed.into(),
        }
    }
    Err(error)
}

/// Names are looked up by another thread: the resolver blocks.
async fn resolve(address: &Address) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = address.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, address.port)]);
    }
    let name = (address.host.clone(), address.port);
    let look_up = move || name.to_socket_addrs().map(Iterator::collect);
    glommio::executor().spawn_blocking(look_up).await
}
