//! Where records come from, whatever the transport.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf as _, Bytes};

use super::BUFFER_BYTES;
use crate::net::blocking_tls::BlockingTls;
use crate::net::stall::Arrivals;
use crate::wire::record::{HEADER_BYTES, RecordHeader};

pub(super) enum End {
    Broken,
    Misbehaved(&'static str),
}

/// Where records come from.
pub(super) enum RecordStream {
    /// Packets, taken apart at the boundaries of records.
    Quic {
        stream: quinn::RecvStream,
        pending: VecDeque<Bytes>,
        arrivals: Arc<Arrivals>,
    },
    Tls(Box<BlockingTls>),
}

impl RecordStream {
    pub(super) fn quic(stream: quinn::RecvStream, arrivals: Arc<Arrivals>) -> Self {
        Self::Quic {
            stream,
            pending: VecDeque::new(),
            arrivals,
        }
    }

    /// Whether something can be read without waiting, or the end has come.
    pub(super) async fn has_more(&mut self) -> bool {
        match self {
            Self::Tls(stream) => stream.has_buffered(),
            Self::Quic { pending, .. } if !pending.is_empty() => true,
            Self::Quic {
                stream,
                pending,
                arrivals,
            } => {
                let mut more = pin!(read_chunks(stream, pending, arrivals));
                let now = poll_fn(|context| Poll::Ready(more.as_mut().poll(context))).await;
                now.is_ready()
            }
        }
    }

    /// `None` at the end of the stream.
    pub(super) async fn header(&mut self) -> Result<Option<RecordHeader>, End> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        match self.fill(&mut bytes, HEADER_BYTES).await {
            Err(End::Broken) if bytes.is_empty() => Ok(None),
            Err(end) => Err(end),
            Ok(()) => {
                let bytes = bytes.try_into().map_err(|_| End::Broken)?;
                Ok(Some(RecordHeader::decode(bytes)))
            }
        }
    }

    /// Makes `buffer` hold the next `length` bytes.
    pub(super) async fn fill(&mut self, buffer: &mut Vec<u8>, length: usize) -> Result<(), End> {
        if let Self::Tls(stream) = self {
            // Not cleared first: what is overwritten need not be zeroed again.
            buffer.resize(length, 0);
            return stream.read_exact(buffer).map_err(|_| {
                buffer.clear();
                End::Broken
            });
        }
        buffer.clear();
        self.extend(buffer, length).await
    }

    /// Adds the next `length` bytes to `buffer`.
    pub(super) async fn extend(&mut self, buffer: &mut Vec<u8>, length: usize) -> Result<(), End> {
        let end = buffer.len() + length;
        match self {
            Self::Quic {
                stream,
                pending,
                arrivals,
            } => {
                while buffer.len() < end {
                    let most = end - buffer.len();
                    let chunk = next_chunk(stream, pending, arrivals, most).await?;
                    buffer.extend_from_slice(&chunk);
                }
            }
            Self::Tls(stream) => {
                let start = buffer.len();
                buffer.resize(end, 0);
                let read = stream.read_exact(&mut buffer[start..]);
                read.map_err(|_| End::Broken)?;
            }
        }
        Ok(())
    }

    pub(super) async fn skip(&mut self, mut length: u64) -> Result<(), End> {
        let mut scratch = Vec::new();
        while length > 0 {
            let step = length.min(BUFFER_BYTES as u64);
            self.fill(&mut scratch, step as usize).await?;
            length -= step;
        }
        Ok(())
    }
}

/// At least one byte and at most `most`.
pub(super) async fn next_chunk(
    stream: &mut quinn::RecvStream,
    pending: &mut VecDeque<Bytes>,
    arrivals: &Arrivals,
    most: usize,
) -> Result<Bytes, End> {
    loop {
        if let Some(chunk) = pending.front_mut() {
            if chunk.len() > most {
                return Ok(chunk.split_to(most));
            }
            if let Some(chunk) = pending.pop_front().filter(Bytes::has_remaining) {
                return Ok(chunk);
            }
            continue;
        }
        read_chunks(stream, pending, arrivals).await?;
    }
}

/// Waits for packets, and takes those that are there. Cancel-safe, per quinn's documentation.
pub(super) async fn read_chunks(
    stream: &mut quinn::RecvStream,
    pending: &mut VecDeque<Bytes>,
    arrivals: &Arrivals,
) -> Result<(), End> {
    let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
    let read = stream
        .read_chunks(&mut chunks)
        .await
        .map_err(|_| End::Broken)?;
    let count = read.ok_or(End::Broken)?;
    let chunks = chunks.into_iter().take(count);
    pending.extend(chunks.inspect(|chunk| arrivals.on_bytes(chunk.len())));
    Ok(())
}

/// Packets taken from the stream at a time.
const CHUNKS: usize = 64;
