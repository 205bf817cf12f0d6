//! A TLS connection for a thread of its own, which reads, encrypts and writes without waking
//! any other.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::SockRef;
use tokio::sync::oneshot;

use crate::net::stall::Arrivals;
use crate::net::tls_channel::Channel;

/// A connection after its handshake, whose calls block.
pub(crate) struct BlockingTls {
    channel: Channel,
    socket: TcpStream,
    /// Read from the socket at a time, at most.
    read_bytes: usize,
    /// Where what is read is counted.
    arrivals: Option<Arc<Arrivals>>,
}

/// Whoever drops it wakes the thread that waits for the connection, with an error, and the one
/// that waits in front of it.
#[derive(Debug)]
pub(crate) struct HangUp {
    socket: TcpStream,
    /// Told by being dropped.
    _told: oneshot::Sender<()>,
}

/// Ready, once the connection was hung up.
pub(crate) type HungUp = oneshot::Receiver<()>;

impl HangUp {
    /// Waits until the peer, who has nothing to say, ends or breaks the connection. Cancel-safe.
    ///
    /// # Errors
    /// As the connection fails.
    pub(crate) async fn peer_ended(&self) -> io::Result<()> {
        loop {
            // A socket whose calls block cannot be waited for by the runtime as well.
            tokio::time::sleep(GLANCE).await;
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            match rustix::net::recv(&self.socket, &mut [0; 1], flags) {
                // Its end, or an alert in front of it.
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for HangUp {
    fn drop(&mut self) {
        // It may be closed already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl BlockingTls {
    pub(super) fn new(channel: Channel, socket: TcpStream) -> io::Result<(Self, HangUp, HungUp)> {
        socket.set_nonblocking(false)?;
        let (told, hung_up) = oneshot::channel();
        let hang_up = HangUp {
            socket: socket.try_clone()?,
            _told: told,
        };
        let this = Self {
            channel,
            socket,
            read_bytes: READ_BYTES,
            arrivals: None,
        };
        Ok((this, hang_up, hung_up))
    }

    /// Reads at most so many bytes ahead. What is read ahead of a limit leaves the socket at
    /// once; then nothing is read for long, and all that the peer sees is a window that is shut.
    pub(crate) fn read_little(&mut self, bytes: usize) {
        self.read_bytes = bytes.clamp(1, READ_BYTES);
    }

    /// From now on, counts what is read from the socket: on a slow path a piece takes long.
    pub(crate) fn count(&mut self, arrivals: Arc<Arrivals>) {
        self.arrivals = Some(arrivals);
    }

    /// Whether bytes are here, or are about to be.
    pub(crate) fn has_buffered(&self) -> bool {
        self.channel.has_more()
    }

    /// The next `length` bytes, at most [`PEEK_BYTES`], which stay the next until they are
    /// [consumed](Self::consume).
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer ended first; else as the connection fails.
    pub(crate) fn peek(&mut self, length: usize) -> io::Result<&[u8]> {
        debug_assert!(length <= PEEK_BYTES, "more than has room");
        // Not before: a sender's lane reads nothing.
        self.channel.reserve(PEEK_BYTES + READ_BYTES);
        while self.channel.plain().len() < length {
            self.read_more()?;
        }
        Ok(&self.channel.plain()[..length])
    }

    /// Goes on behind the next `length` bytes, which were peeked at.
    pub(crate) fn consume(&mut self, length: usize) {
        self.channel.consume(length);
    }

    /// Fills `bytes`.
    ///
    /// # Errors
    /// As [`peek`](Self::peek).
    pub(crate) fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        for part in bytes.chunks_mut(PEEK_BYTES) {
            part.copy_from_slice(self.peek(part.len())?);
            self.consume(part.len());
        }
        Ok(())
    }

    fn read_more(&mut self) -> io::Result<()> {
        if self.channel.peer_ended() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let space = self.channel.space();
        let most = space.len().min(self.read_bytes);
        let read = loop {
            match self.socket.read(&mut space[..most]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        if read == 0 {
            // Without a farewell: somebody else may have ended it.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(arrivals) = &self.arrivals {
            arrivals.on_bytes(read);
        }
        let arrived = self.channel.arrived(read);
        if arrived.is_err() {
            let _ = self.send();
        }
        arrived
    }

    /// Encrypts and sends all of `parts`, in order.
    ///
    /// # Errors
    /// As the connection fails.
    pub(crate) fn write_all(&mut self, parts: [&[u8]; 2]) -> io::Result<()> {
        self.channel.seal(parts)?;
        self.send()
    }

    /// Says that nothing more will come.
    ///
    /// # Errors
    /// As the connection fails.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.channel.end()?;
        self.send()?;
        self.socket.shutdown(Shutdown::Write)
    }

    /// Of the largest packet that its socket sends, in bytes.
    ///
    /// # Errors
    /// When the socket is gone.
    pub(crate) fn segment_bytes(&self) -> io::Result<usize> {
        Ok(SockRef::from(&self.socket).tcp_mss()? as usize)
    }

    fn send(&mut self) -> io::Result<()> {
        self.socket.write_all(self.channel.outgoing())?;
        self.channel.sent(self.channel.outgoing().len());
        Ok(())
    }
}

#[cfg(test)]
impl BlockingTls {
    /// Plaintext that was read and not consumed.
    pub(super) fn buffered(&self) -> usize {
        self.channel.plain().len()
    }
}

#[cfg(test)]
impl std::os::fd::AsFd for BlockingTls {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::fmt::Debug for BlockingTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockingTls")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// Between two looks at a connection whose thread may be waiting for work.
const GLANCE: Duration = Duration::from_millis(250);

/// Looked at in one piece, at most.
pub(crate) const PEEK_BYTES: usize = 256 << 10;

/// Read from the socket at a time.
const READ_BYTES: usize = 256 << 10;
