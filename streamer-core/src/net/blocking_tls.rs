//! A TLS connection for a thread of its own, which reads, encrypts and writes without waking
//! any other.

use std::io::{self, BufReader, Chain, Cursor, IoSlice, Read, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustls::Connection;
use tokio::sync::oneshot;

/// A connection after its handshake, whose calls block.
pub(crate) struct BlockingTls {
    connection: Connection,
    /// Ciphertext: what was read before, then the socket.
    incoming: BufReader<Chain<Cursor<Vec<u8>>, TcpStream>>,
    outgoing: TcpStream,
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
                Ok((_, 0)) => return Ok(()),
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
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
    /// `early` is ciphertext that was read from `socket` and not given to `connection`.
    pub(super) fn new(
        mut connection: Connection,
        early: Vec<u8>,
        socket: TcpStream,
    ) -> io::Result<(Self, HangUp, HungUp)> {
        socket.set_nonblocking(false)?;
        connection.set_buffer_limit(Some(WRITE_BYTES));
        let incoming = Cursor::new(early).chain(socket.try_clone()?);
        let (told, hung_up) = oneshot::channel();
        let hang_up = HangUp {
            socket: socket.try_clone()?,
            _told: told,
        };
        let stream = Self {
            connection,
            incoming: BufReader::with_capacity(READ_BYTES, incoming),
            outgoing: socket,
        };
        Ok((stream, hang_up, hung_up))
    }

    /// Whether bytes are here that need not be waited for.
    pub(crate) fn has_buffered(&mut self) -> bool {
        !self.incoming.buffer().is_empty()
            || self
                .connection
                .reader()
                .into_first_chunk()
                .is_ok_and(|chunk| !chunk.is_empty())
    }

    /// Fills `bytes`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer ended first; else as the connection fails.
    pub(crate) fn read_exact(&mut self, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.connection.reader().read(bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => bytes = &mut bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.decrypt_more()?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn decrypt_more(&mut self) -> io::Result<()> {
        // An end without a farewell is told by the next read.
        self.connection.read_tls(&mut self.incoming)?;
        let state = self
            .connection
            .process_new_packets()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if state.tls_bytes_to_write() > 0 {
            self.flush()?;
        }
        Ok(())
    }

    /// Encrypts and sends all of `parts`, in order.
    ///
    /// # Errors
    /// As the connection fails.
    pub(crate) fn write_all(&mut self, mut parts: [&[u8]; 2]) -> io::Result<()> {
        while parts.iter().any(|part| !part.is_empty()) {
            let mut count = self
                .connection
                .writer()
                .write_vectored(&parts.map(IoSlice::new))?;
            for part in &mut parts {
                let taken = count.min(part.len());
                *part = &part[taken..];
                count -= taken;
            }
            self.flush()?;
        }
        Ok(())
    }

    /// Says that nothing more will come.
    ///
    /// # Errors
    /// As the connection fails.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.connection.send_close_notify();
        self.flush()?;
        self.outgoing.shutdown(Shutdown::Write)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.outgoing)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for BlockingTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockingTls")
            .field("socket", &self.outgoing)
            .finish_non_exhaustive()
    }
}

/// Between two looks at a connection whose thread may be waiting for work.
const GLANCE: Duration = Duration::from_millis(250);

/// Read from the socket at a time.
const READ_BYTES: usize = 512 << 10;

/// Encrypted at a time, at most.
const WRITE_BYTES: usize = 512 << 10;
