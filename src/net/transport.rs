//! A socket with a bound on each turn, and one send for many frames.
//!
//! Reads go through one buffer of the executor's thread: a system call takes what has come, up to its size, and the
//! connection looks at it there. A turn receives [`TURN_RECEIVE_BYTES`] at most; a client that never stops sending
//! shares the executor like the others.
//!
//! `hyper` gets what it wants of a socket by [`Http1Io`]: it writes into a buffer, which is sent at the end of its
//! turn; only a full buffer is sent at once, and then `hyper` is told to wait, which is how a slow reader is felt.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_lite::io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;

use super::connections::{Connections, Control};
use super::options::{SEND_BUFFER_BYTES, TURN_RECEIVE_BYTES};
use super::statistics::add;

/// What one receive takes at most.
const RECEIVE_BYTES: usize = 32 * 1024;

thread_local! {
    /// Where the receives of this thread land.
    static RECEIVE_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; RECEIVE_BYTES]);
}

/// A client's socket with its buffers.
pub(super) struct Transport {
    connections: Rc<Connections>,
    control: Rc<Control>,
    inner: RefCell<Inner>,
}

struct Inner {
    stream: TcpStream,
    /// Received and not yet taken: what was looked at to tell the protocol, and what a library had no room for.
    unread: Vec<u8>,
    unread_taken: usize,
    /// Bytes that this turn may still receive.
    turn_left: usize,
    /// This turn has found the socket empty; glommio wakes the task when it no longer is.
    turn_empty: bool,

    unsent: Vec<u8>,
    unsent_sent: usize,
    /// `hyper` was told to wait for room in `unsent`.
    writer_waits: bool,
}

impl Transport {
    pub(super) fn new(
        stream: TcpStream,
        connections: Rc<Connections>,
        control: Rc<Control>,
    ) -> Rc<Self> {
        Rc::new(Self {
            connections,
            control,
            inner: RefCell::new(Inner {
                stream,
                unread: Vec::new(),
                unread_taken: 0,
                turn_left: TURN_RECEIVE_BYTES,
                turn_empty: false,
                unsent: Vec::new(),
                unsent_sent: 0,
                writer_waits: false,
            }),
        })
    }

    /// Begins a turn of the connection's task.
    pub(super) fn turn_begin(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.turn_left = TURN_RECEIVE_BYTES;
        inner.turn_empty = false;
    }

    /// Whether the turn was stopped with more to do that no event will announce: it must be polled again.
    pub(super) fn turn_unfinished(&self) -> bool {
        let inner = self.inner.borrow();
        inner.turn_left == 0 || (inner.writer_waits && inner.unsent.len() < SEND_BUFFER_BYTES)
    }

    /// Waits until more was received than is looked at so far, and shows all of it without taking it.
    pub(super) fn poll_peek<R>(
        &self,
        context: &mut Context<'_>,
        look: impl FnOnce(&[u8]) -> R,
    ) -> Poll<io::Result<R>> {
        let inner = &mut *self.inner.borrow_mut();
        let Inner { stream, unread, .. } = inner;
        let received = ready!(self.poll_receive(context, stream, RECEIVE_BYTES, |bytes| {
            unread.extend_from_slice(bytes);
        }))?;
        if received == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        Poll::Ready(Ok(look(unread)))
    }

    /// Takes what was looked at and not read.
    pub(super) fn take_unread(&self) -> Vec<u8> {
        std::mem::take(&mut self.inner.borrow_mut().unread)
    }

    /// Receives once, as far as this turn may, and shows it to `look`; says how much it was.
    pub(super) fn poll_look(
        &self,
        context: &mut Context<'_>,
        look: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.inner.borrow_mut();
        if inner.turn_empty || inner.turn_left == 0 {
            return Poll::Pending;
        }
        let bytes_max = inner.turn_left;
        let received = self.poll_receive(context, &mut inner.stream, bytes_max, look);
        match &received {
            Poll::Pending => inner.turn_empty = true,
            Poll::Ready(Ok(received)) => inner.turn_left -= received,
            Poll::Ready(Err(_)) => {}
        }
        received
    }

    /// One receive into the thread's buffer.
    fn poll_receive(
        &self,
        context: &mut Context<'_>,
        stream: &mut TcpStream,
        bytes_max: usize,
        take: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<usize>> {
        RECEIVE_BUFFER.with_borrow_mut(|buffer| {
            let bytes_max = bytes_max.min(buffer.len());
            let room = buffer.get_mut(..bytes_max).unwrap_or_default();
            let received = ready!(Pin::new(stream).poll_read(context, room))?;
            self.control.on_received(self.connections.tick());
            add(&self.connections.statistics().received_bytes, received as u64);
            take(buffer.get(..received).unwrap_or_default());
            Poll::Ready(Ok(received))
        })
    }

    /// Reads at most `room` bytes, handing them to `take` in one piece.
    fn poll_read(
        &self,
        context: &mut Context<'_>,
        room: usize,
        take: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<()>> {
        let inner = &mut *self.inner.borrow_mut();
        if inner.unread_taken < inner.unread.len() {
            let rest = inner.unread.get(inner.unread_taken..).unwrap_or_default();
            let taken = rest.len().min(room);
            take(rest.get(..taken).unwrap_or_default());
            inner.unread_taken += taken;
            if inner.unread_taken == inner.unread.len() {
                // Seldom used, so its memory is not kept.
                inner.unread = Vec::new();
                inner.unread_taken = 0;
            }
            return Poll::Ready(Ok(()));
        }
        if inner.turn_empty || inner.turn_left == 0 {
            return Poll::Pending;
        }
        let Inner { stream, unread, turn_left, .. } = inner;
        let received = self.poll_receive(context, stream, *turn_left, |bytes| {
            let taken = bytes.len().min(room);
            take(bytes.get(..taken).unwrap_or_default());
            unread.extend_from_slice(bytes.get(taken..).unwrap_or_default());
            *turn_left -= bytes.len();
        });
        inner.turn_empty = received.is_pending();
        received.map_ok(|_| ())
    }

    /// Appends to what is to be sent; waits when the socket does not take what is there already.
    fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.inner.borrow().unsent.len() >= SEND_BUFFER_BYTES {
            let sent = self.poll_send(context);
            if sent.is_pending() {
                self.inner.borrow_mut().writer_waits = true;
            }
            ready!(sent)?;
        }
        let inner = &mut *self.inner.borrow_mut();
        inner.writer_waits = false;
        if inner.unsent.capacity() == 0 {
            inner.unsent = self.connections.send_buffer_take();
        }
        let taken = bytes.len().min(SEND_BUFFER_BYTES - inner.unsent.len());
        inner.unsent.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        Poll::Ready(Ok(taken))
    }

    /// Sends all that was written.
    pub(super) fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.inner.borrow_mut();
        let Inner { stream, unsent, unsent_sent, .. } = inner;
        self.poll_send_from(context, stream, unsent, unsent_sent)
    }

    /// Sends all of `bytes` from `sent` on, and gives the buffer back when that is done.
    pub(super) fn poll_send_all(
        &self,
        context: &mut Context<'_>,
        bytes: &mut Vec<u8>,
        sent: &mut usize,
    ) -> Poll<io::Result<()>> {
        self.poll_send_from(context, &mut self.inner.borrow_mut().stream, bytes, sent)
    }

    fn poll_send_from(
        &self,
        context: &mut Context<'_>,
        stream: &mut TcpStream,
        bytes: &mut Vec<u8>,
        sent: &mut usize,
    ) -> Poll<io::Result<()>> {
        while *sent < bytes.len() {
            let rest = bytes.get(*sent..).unwrap_or_default();
            match Pin::new(&mut *stream).poll_write(context, rest) {
                Poll::Pending => {
                    self.control.on_blocked(self.connections.tick());
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.control.on_sent();
                    add(&self.connections.statistics().sent_bytes, written as u64);
                    *sent += written;
                }
            }
        }
        if bytes.capacity() > 0 {
            *sent = 0;
            self.connections.send_buffer_return(std::mem::take(bytes));
        }
        Poll::Ready(Ok(()))
    }

    /// Leaves the rest of `bytes` to be sent by [`Transport::poll_shutdown`].
    pub(super) fn leave_unsent(&self, bytes: Vec<u8>, sent: usize) {
        let mut inner = self.inner.borrow_mut();
        inner.unsent = bytes;
        inner.unsent_sent = sent;
    }

    /// Sends all, and tells the client that no more follows.
    pub(super) fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.inner.borrow_mut().stream).poll_close(context)
    }

    /// Receives and forgets, until the client has closed its side.
    pub(super) fn poll_discard(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.inner.borrow_mut();
        while inner.turn_left > 0 {
            let stream = &mut inner.stream;
            let received = ready!(self.poll_receive(context, stream, RECEIVE_BYTES, |_| ()))?;
            if received == 0 {
                return Poll::Ready(Ok(()));
            }
            inner.turn_left = inner.turn_left.saturating_sub(received);
        }
        Poll::Pending
    }
}

/// A transport as `hyper` wants it.
pub(super) struct Http1Io(pub(super) Rc<Transport>);

impl hyper::rt::Read for Http1Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(context, buffer.remaining(), |bytes| buffer.put_slice(bytes))
    }
}

impl hyper::rt::Write for Http1Io {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_send(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_shutdown(context)
    }
}
