//! Where the bytes of a lane leave: a QUIC stream that a task writes, or a TCP connection
//! that the lane's own thread writes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::net::blocking_tls::{BlockingTls, HungUp};
use crate::net::limit::RateLimit;
use crate::wire::record::{HEADER_BYTES, RecordHeader, TRAILER_BYTES};

/// What a lane's thread hands to its stream.
pub(crate) enum Piece {
    Bytes(Bytes),
    /// The record that was being written cannot be completed.
    Broken,
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
                Piece::Broken => {
                    // With the end of the record before this one.
                    socket.flush()?;
                    // What follows would be taken for the rest of the record.
                    Err(LaneLost)
                }
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

    /// Fills one packet of the largest size. The receiver gives the connection up when that does not
    /// get through: what follows would not either.
    pub(crate) fn probe(&mut self) -> Result<(), LaneLost> {
        let segment = self.stream.segment_bytes()?;
        // Larger ones stay within the machine.
        let length = if segment > PROBE_MAX_BYTES {
            0
        } else {
            segment
        };
        let header = RecordHeader::padding(length as u64).encode();
        let rest = vec![0; length + TRAILER_BYTES];
        Ok(self.stream.write_all([&header, &rest])?)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), LaneLost> {
        let most = self
            .limit
            .as_ref()
            .map(|limit| limit.piece_bytes(bytes.len()));
        for part in bytes.chunks(most.unwrap_or(bytes.len()).max(1)) {
            self.put_part(part)?;
        }
        Ok(())
    }

    fn put_part(&mut self, bytes: &[u8]) -> Result<(), LaneLost> {
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

/// Writes as fast as the limit lets it, so that the receiver hears of it all the while.
async fn write_limited(
    stream: &mut quinn::SendStream,
    mut bytes: Bytes,
    limit: Option<&RateLimit>,
) -> Result<(), quinn::WriteError> {
    let Some(limit) = limit else {
        return stream.write_chunk(bytes).await;
    };
    while !bytes.is_empty() {
        let part = bytes.split_to(limit.piece_bytes(bytes.len()));
        limit.pass(part.len()).await;
        stream.write_chunk(part).await?;
    }
    Ok(())
}

/// Writes pieces to one stream, or, after a record that could not be completed, to the next.
pub(crate) async fn write_streams(
    connection: quinn::Connection,
    mut pieces: mpsc::Receiver<Piece>,
    limit: Option<Arc<RateLimit>>,
) -> Result<(), LaneLost> {
    let mut open: Option<quinn::SendStream> = None;
    while let Some(piece) = pieces.recv().await {
        let Piece::Bytes(bytes) = piece else {
            // An end within a record tells. A reset would take what is on its way with it: records of
            // other files, which nobody would send again.
            if let Some(mut stream) = open.take() {
                stream.finish()?;
            }
            continue;
        };
        let stream = match &mut open {
            Some(stream) => stream,
            None => open.insert(connection.open_uni().await?),
        };
        write_limited(stream, bytes, limit.as_deref()).await?;
    }
    if let Some(mut stream) = open {
        stream.finish()?;
    }
    Ok(())
}

/// Longest packet that goes over a network; with its record of padding it is one record of TLS.
const PROBE_MAX_BYTES: usize = 16_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::quic::Endpoint;
    use crate::net::tcp;
    use crate::secret::TransferSecret;

    /// What was told as sent before a file failed must arrive: nobody sends it again.
    #[tokio::test]
    async fn what_was_sent_before_a_record_that_broke_arrives_over_quic() {
        let secret = TransferSecret::generate().unwrap();
        let listener = Endpoint::bind("127.0.0.1:0".parse().unwrap(), &secret).unwrap();
        let address = listener.local_addr().unwrap();
        let dialer = Endpoint::dialer(address, &secret).unwrap();
        let accept = async {
            let incoming = listener.accept().await.unwrap();
            listener.admit(incoming).unwrap().await.unwrap()
        };
        let connect = async { dialer.connect(address).unwrap().await.unwrap() };
        let (accepted, connected) = tokio::join!(accept, connect);
        // More than is on its way at a time.
        let before = Bytes::from(vec![7; 5 << 20]);
        let (pieces, pieces_rx) = mpsc::channel(3);
        for piece in [
            Piece::Bytes(before.clone()),
            Piece::Broken,
            Piece::Bytes(Bytes::from_static(b"of the next")),
        ] {
            pieces.send(piece).await.unwrap();
        }
        drop(pieces);
        let read = async {
            let mut streams = Vec::new();
            for _ in 0..2 {
                let mut stream = accepted.accept_uni().await.unwrap();
                streams.push(stream.read_to_end(before.len()).await.unwrap());
            }
            streams
        };
        let (written, mut streams) =
            tokio::join!(write_streams(connected.clone(), pieces_rx, None), read);
        written.unwrap();
        streams.sort_unstable_by_key(Vec::len);
        assert!(streams[0] == b"of the next" && streams[1] == before);
    }

    #[tokio::test]
    async fn the_end_of_a_block_arrives_before_a_record_that_broke_over_tls() {
        let (ours, theirs) = tcp::tests::pair().await;
        let (stream, _hang_up, hung_up) = ours.into_blocking().unwrap();
        let (mut theirs, _theirs_hang_up, _) = theirs.into_blocking().unwrap();
        let socket = Socket::new(stream, None, hung_up);
        let read = tokio::task::spawn_blocking(move || {
            let mut outlet = Outlet::Socket(Box::new(socket));
            let trailer = Bytes::from(vec![7; TRAILER_BYTES]);
            outlet.put(Piece::Bytes(trailer)).unwrap();
            assert!(outlet.put(Piece::Broken).is_err());
            drop(outlet);
            let mut bytes = [0; TRAILER_BYTES];
            theirs.read_exact(&mut bytes).map(|()| bytes)
        });
        assert_eq!(read.await.unwrap().unwrap(), [7; TRAILER_BYTES]);
    }
}
