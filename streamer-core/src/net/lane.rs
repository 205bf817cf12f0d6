//! The receiving end of one data stream: records in, proven blocks out.
//!
//! The stream's task copies packets into large buffers; a thread hashes and writes them.
//! Buffers go round between the two: while none is free, the stream is not read, and flow
//! control slows the sender.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;

use crate::error::ProtocolError;
use crate::hash::{BlockHasher, Hash};
use crate::net::receive::{During, OpenFiles};
use crate::session::Preparation;
use crate::store::StoreError;
use crate::store::partial::PartialFile;
use crate::wire::record::{HEADER_BYTES, RecordHeader, TRAILER_BYTES};

/// What threads tell the driver of a receiver.
#[derive(Debug)]
pub(crate) enum Event {
    Prepared {
        entry: u32,
        preparation: Preparation,
        held_bytes: u64,
    },
    Proven {
        entry: u32,
        block: u64,
        bytes: u64,
    },
    Damaged {
        entry: u32,
        block: u64,
    },
    Finished {
        entry: u32,
    },
    Failed {
        entry: u32,
        during: During,
        error: StoreError,
    },
    Synced,
}

/// Receives the records of one stream until it ends. A stream that breaks ends quietly: the
/// connection's loss is told elsewhere, and unproven blocks are sent anew.
///
/// Cancel safety: dropping it loses the block that was arriving.
///
/// # Errors
/// When the records are not what was offered.
pub(crate) async fn receive_records(
    stream: quinn::RecvStream,
    open: Arc<OpenFiles>,
    events: mpsc::Sender<Event>,
) -> Result<(), ProtocolError> {
    let (full, full_rx) = mpsc::channel(BUFFERS);
    let (empty, mut empty_rx) = mpsc::channel(BUFFERS);
    for _ in 0..BUFFERS {
        // Local invariant: as many fit as are made.
        let _ = empty.try_send(Vec::with_capacity(BUFFER_BYTES));
    }
    let writer = tokio::task::spawn_blocking(move || write_blocks(full_rx, &empty, &events));
    let mut stream = Chunks {
        stream,
        pending: VecDeque::new(),
    };
    let result = receive_all(&mut stream, &open, &full, &mut empty_rx).await;
    drop(full);
    // The thread ends when its queue is empty.
    let _ = writer.await;
    match result {
        Ok(()) | Err(End::Broken) => Ok(()),
        Err(End::Misbehaved(what)) => Err(ProtocolError::Misbehaved(what)),
    }
}

async fn receive_all(
    stream: &mut Chunks,
    open: &OpenFiles,
    full: &mpsc::Sender<Step>,
    empty: &mut mpsc::Receiver<Vec<u8>>,
) -> Result<(), End> {
    while let Some(header) = stream.header().await? {
        let file = open.get(header.entry);
        let Some(file) = file else {
            // An entry that failed here meanwhile: the sender did not know yet.
            stream
                .skip(header.length.saturating_add(TRAILER_BYTES as u64))
                .await?;
            continue;
        };
        let Some(block) = file.plan().block_at(header.offset, header.length) else {
            return Err(End::Misbehaved("sent what is no block of the file"));
        };
        let mut offset = header.offset;
        let end = header.offset + header.length;
        send_step(
            full,
            Step::Begin {
                entry: header.entry,
                block,
                file,
            },
        )
        .await?;
        while offset < end {
            let mut buffer = empty.recv().await.ok_or(End::Broken)?;
            let length = (end - offset).min(BUFFER_BYTES as u64) as usize;
            stream.fill(&mut buffer, length).await?;
            send_step(full, Step::Bytes { buffer, offset }).await?;
            offset += length as u64;
        }
        let mut hash = Vec::with_capacity(TRAILER_BYTES);
        stream.fill(&mut hash, TRAILER_BYTES).await?;
        let hash = Hash(hash.try_into().map_err(|_| End::Broken)?);
        send_step(full, Step::End { hash }).await?;
    }
    Ok(())
}

async fn send_step(full: &mpsc::Sender<Step>, step: Step) -> Result<(), End> {
    full.send(step).await.map_err(|_| End::Broken)
}

enum Step {
    Begin {
        entry: u32,
        block: u64,
        file: Arc<PartialFile>,
    },
    Bytes {
        buffer: Vec<u8>,
        offset: u64,
    },
    End {
        hash: Hash,
    },
}

enum End {
    Broken,
    Misbehaved(&'static str),
}

/// The packets of a stream, taken apart at the boundaries of records.
struct Chunks {
    stream: quinn::RecvStream,
    pending: VecDeque<Bytes>,
}

impl Chunks {
    /// `None` at the end of the stream.
    async fn header(&mut self) -> Result<Option<RecordHeader>, End> {
        if self.pending.is_empty() && !self.more().await? {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        self.fill(&mut bytes, HEADER_BYTES).await?;
        Ok(Some(RecordHeader::decode(
            bytes.try_into().map_err(|_| End::Broken)?,
        )))
    }

    /// Makes `buffer` hold the next `length` bytes.
    async fn fill(&mut self, buffer: &mut Vec<u8>, length: usize) -> Result<(), End> {
        buffer.clear();
        while buffer.len() < length {
            let chunk = self.take(length - buffer.len()).await?;
            buffer.extend_from_slice(&chunk);
        }
        Ok(())
    }

    async fn skip(&mut self, mut length: u64) -> Result<(), End> {
        while length > 0 {
            length -= self
                .take(usize::try_from(length).unwrap_or(usize::MAX))
                .await?
                .len() as u64;
        }
        Ok(())
    }

    /// At least one byte and at most `most`.
    async fn take(&mut self, most: usize) -> Result<Bytes, End> {
        loop {
            if let Some(chunk) = self.pending.front_mut() {
                if chunk.len() > most {
                    return Ok(chunk.split_to(most));
                }
                if let Some(chunk) = self.pending.pop_front().filter(Bytes::has_remaining) {
                    return Ok(chunk);
                }
                continue;
            }
            if !self.more().await? {
                return Err(End::Broken);
            }
        }
    }

    /// Reads on; `false` at the end of the stream.
    async fn more(&mut self) -> Result<bool, End> {
        let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
        let read = self
            .stream
            .read_chunks(&mut chunks)
            .await
            .map_err(|_| End::Broken)?;
        let Some(count) = read else { return Ok(false) };
        self.pending.extend(chunks.into_iter().take(count));
        Ok(true)
    }
}

/// Hashes and writes until the queue closes.
fn write_blocks(
    mut full: mpsc::Receiver<Step>,
    empty: &mpsc::Sender<Vec<u8>>,
    events: &mpsc::Sender<Event>,
) {
    let mut current: Option<Block> = None;
    while let Some(step) = full.blocking_recv() {
        match step {
            Step::Begin { entry, block, file } => {
                let hasher = BlockHasher::new(file.plan(), block);
                current = Some(Block {
                    entry,
                    block,
                    file,
                    hasher,
                    failed: false,
                });
            }
            Step::Bytes { buffer, offset } => {
                if let Some(error) = current.as_mut().and_then(|c| c.take(&buffer, offset).err()) {
                    let entry = current.as_ref().map_or(0, |current| current.entry);
                    let event = Event::Failed {
                        entry,
                        during: During::Write,
                        error,
                    };
                    let _ = events.blocking_send(event);
                }
                // Never full: buffers only go round.
                let _ = empty.try_send(buffer);
            }
            Step::End { hash } => {
                if let Some(event) = current.take().and_then(|current| current.end(hash)) {
                    let _ = events.blocking_send(event);
                }
            }
        }
    }
}

/// A block that is arriving.
struct Block {
    entry: u32,
    block: u64,
    file: Arc<PartialFile>,
    hasher: BlockHasher,
    failed: bool,
}

impl Block {
    fn take(&mut self, bytes: &[u8], offset: u64) -> Result<(), StoreError> {
        if self.failed {
            return Ok(());
        }
        self.hasher.update(bytes);
        let written = self.file.write_all_at(bytes, offset);
        self.failed = written.is_err();
        written
    }

    /// What to tell about it; nothing when its failure was told.
    fn end(self, announced: Hash) -> Option<Event> {
        let Self {
            entry,
            block,
            file,
            hasher,
            failed,
        } = self;
        if failed {
            return None;
        }
        let hash = hasher.finish();
        if hash != announced {
            return Some(Event::Damaged { entry, block });
        }
        let bytes = file.plan().len(block);
        Some(match file.prove(block, hash) {
            Ok(()) => Event::Proven {
                entry,
                block,
                bytes,
            },
            Err(error) => Event::Failed {
                entry,
                during: During::Write,
                error,
            },
        })
    }
}

/// Hashed and written at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// Buffers of one stream: 2 MiB in all.
const BUFFERS: usize = 8;

/// Packets taken from the stream at a time.
const CHUNKS: usize = 64;
