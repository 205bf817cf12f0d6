//! Where the bytes of a lane leave: a QUIC stream that a task writes, or a TCP connection
//! that the lane's own thread writes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::error::ErrorCode;
use crate::net::blocking_tls::{BlockingTls, HungUp};
use crate::net::limit::RateLimit;
use crate::wire::record::{HEADER_BYTES, TRAILER_BYTES};

/// What a lane's thread hands to its stream.
pub(crate) enum Piece {
    Bytes(Bytes),
    /// The record that was being written cannot be completed.
    Broken(ErrorCode),
}

impl Piece {
    /// Waits until it may move. Cancel-safe as [`RateLimit::pass`].
    async fn pass(&self, limit: Option<&RateLimit>) {
        if let (Self::Bytes(bytes), Some(limit)) = (self, limit) {
            limit.pass(bytes.len()).await;
        }
    }
}

/// Where the pieces of a lane go.
pub(crate) enum Outlet {
    /// To the task that writes QUIC streams, which tells when the lane is lost.
    Stream(mpsc::Sender<Piece>),
    /// To a socket, by this thread.
    Socket(Box<Socket>),
}

impl Outlet {
    pub(crate) fn put(&mut self, piece: Piece) -> Result<(), LaneLost> {
        match self {
            Self::Stream(pieces) => Ok(pieces.blocking_send(piece)?),
            Self::Socket(socket) => match piece {
                Piece::Bytes(bytes) => socket.put(&bytes),
                // What follows would be taken for the rest of the record.
                Piece::Broken(_) => Err(LaneLost),
            },
        }
    }

    pub(crate) fn finish(&mut self) -> Result<(), LaneLost> {
        match self {
            Self::Stream(_) => Ok(()),
            Self::Socket(socket) => Ok(socket.stream.finish()?),
        }
    }
}

/// A TCP connection that this thread writes to.
pub(crate) struct Socket {
    stream: BlockingTls,
    /// Header or trailer: travels with what comes next.
    small: Vec<u8>,
    limit: Option<Arc<RateLimit>>,
    hung_up: HungUp,
    runtime: Handle,
}

impl Socket {
    /// Within a runtime, whose clock the limit goes by.
    pub(crate) fn new(stream: BlockingTls, limit: Option<Arc<RateLimit>>, hung_up: HungUp) -> Self {
        Self {
            stream,
            small: Vec::new(),
            limit,
            hung_up,
            runtime: Handle::current(),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), LaneLost> {
        if let Some(limit) = &self.limit {
            let hung_up = &mut self.hung_up;
            self.runtime.block_on(async {
                // It may be a long wait, and nobody waits for it any more.
                tokio::select! {
                    biased;
                    _ = hung_up => Err(LaneLost),
                    () = limit.pass(bytes.len()) => Ok(()),
                }
            })?;
        }
        if bytes.len() <= HEADER_BYTES.max(TRAILER_BYTES) {
            self.small.extend_from_slice(bytes);
            return Ok(());
        }
        self.stream.write_all([&self.small, bytes])?;
        self.small.clear();
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> Result<(), LaneLost> {
        self.stream.write_all([&self.small, &[]])?;
        self.small.clear();
        Ok(())
    }
}

/// A lane that broke. Over QUIC the connection knows why.
#[derive(Debug)]
pub(crate) struct LaneLost;

impl<E: std::error::Error> From<E> for LaneLost {
    fn from(error: E) -> Self {
        tracing::debug!(%error, "a lane broke");
        Self
    }
}

/// Writes pieces to one stream, or, after a record that could not be completed, to the next.
pub(crate) async fn write_streams(
    connection: quinn::Connection,
    mut pieces: mpsc::Receiver<Piece>,
    limit: Option<Arc<RateLimit>>,
) -> Result<(), LaneLost> {
    let mut open: Option<quinn::SendStream> = None;
    while let Some(piece) = pieces.recv().await {
        piece.pass(limit.as_deref()).await;
        match (piece, &mut open) {
            (Piece::Bytes(bytes), Some(stream)) => stream.write_chunk(bytes).await?,
            (Piece::Bytes(bytes), None) => {
                let mut stream = connection.open_uni().await?;
                stream.write_chunk(bytes).await?;
                open = Some(stream);
            }
            (Piece::Broken(code), _) => {
                // Without a reset the dropped stream would look like a clean end.
                if let Some(mut stream) = open.take() {
                    stream.reset(quinn::VarInt::from(u32::from(code.number())))?;
                }
            }
        }
    }
    if let Some(mut stream) = open {
        stream.finish()?;
    }
    Ok(())
}
