//! The receiving end of one data stream: records in, proven blocks out.
//!
//! The stream's task copies packets into large buffers; a thread hashes and writes them.
//! Buffers go round between the two: while none is free, the stream is not read, and flow
//! control slows the sender.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::error::ProtocolError;
use crate::hash::{BlockHasher, Hash};
use crate::net::keeper::{During, OpenFile, OpenFiles};
use crate::net::limit::RateLimit;
use crate::net::link::Lane;
use crate::net::stall::Arrivals;
use crate::net::tcp::TlsStream;
use crate::session::Preparation;
use crate::store::StoreError;
use crate::store::partial::PartialFile;
use crate::store::small::SmallFile;
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
    /// All of these, told at once: to wake the driver costs more than to say one.
    Many(Vec<Self>),
    /// Everything is durable, and a tree has its name; or why not.
    Synced(Result<(), StoreError>),
}

/// What lanes of a receiver share.
#[derive(Debug, Clone)]
pub(crate) struct Inlet {
    pub(crate) open: Arc<OpenFiles>,
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) limit: Option<Arc<RateLimit>>,
    pub(crate) events: mpsc::Sender<Event>,
}

/// Receives what comes over one lane until it ends.
///
/// Cancel safety: dropping it loses the blocks that were arriving.
///
/// # Errors
/// When the records are not what was offered.
pub(crate) async fn receive_lane(lane: Lane, inlet: Inlet) -> Result<(), ProtocolError> {
    match lane {
        Lane::Tls(stream) => receive_records(RecordStream::Tls(stream), inlet).await,
        Lane::Quic(connection) => {
            let mut streams = JoinSet::new();
            loop {
                // Both arms are cancel-safe, accept_uni per quinn's documentation.
                tokio::select! {
                    stream = connection.accept_uni() => {
                        // The end of the connection is told elsewhere.
                        let Ok(stream) = stream else { return Ok(()) };
                        let stream = RecordStream::quic(stream);
                        streams.spawn(receive_records(stream, inlet.clone()));
                    }
                    Some(ended) = streams.join_next() => match ended {
                        Ok(result) => result?,
                        Err(_) => return Err(ProtocolError::Misbehaved("broke a lane")),
                    },
                }
            }
        }
    }
}

/// Receives the records of one stream until it ends. A stream that breaks ends quietly: the
/// connection's loss is told elsewhere, and unproven blocks are sent anew.
async fn receive_records(mut stream: RecordStream, inlet: Inlet) -> Result<(), ProtocolError> {
    let (full, full_rx) = mpsc::channel(BUFFERS);
    let (empty, mut empty_rx) = mpsc::channel(BUFFERS);
    for _ in 0..BUFFERS {
        // Local invariant: as many fit as are made.
        let _ = empty.try_send(Vec::with_capacity(BUFFER_BYTES));
    }
    let (counted, events) = (Arc::clone(&inlet.arrivals), inlet.events.clone());
    let writer =
        tokio::task::spawn_blocking(move || write_blocks(full_rx, &empty, &counted, &events));
    let result = receive_all(&mut stream, &inlet, &full, &mut empty_rx).await;
    drop(full);
    // The thread ends when its queue is empty.
    let _ = writer.await;
    match result {
        Ok(()) | Err(End::Broken) => Ok(()),
        Err(End::Misbehaved(what)) => Err(ProtocolError::Misbehaved(what)),
    }
}

async fn receive_all(
    stream: &mut RecordStream,
    inlet: &Inlet,
    full: &mpsc::Sender<Step>,
    empty: &mut mpsc::Receiver<Vec<u8>>,
) -> Result<(), End> {
    let Inlet {
        open,
        arrivals,
        limit,
        ..
    } = inlet;
    let mut pack = Pack::default();
    loop {
        let next = {
            let mut header = pin!(stream.header());
            match poll_fn(|context| Poll::Ready(header.as_mut().poll(context))).await {
                Poll::Ready(header) => header?,
                // Nothing more for now: what is here need not wait for it.
                Poll::Pending => {
                    pack.hand_over(full, arrivals).await?;
                    header.await?
                }
            }
        };
        let Some(header) = next else {
            return pack.hand_over(full, arrivals).await;
        };
        let file = match open.get(header.entry) {
            Some(OpenFile::Blocks(file, _)) => file,
            Some(OpenFile::Small(file)) => {
                if header.offset != 0 || header.length != file.size() || header.length == 0 {
                    return Err(End::Misbehaved("sent what is no block of the file"));
                }
                pass(limit.as_deref(), header.length as usize).await;
                pack.add(stream, header, file, full, empty, arrivals)
                    .await?;
                continue;
            }
            None => {
                // An entry that failed here meanwhile: the sender did not know yet.
                let rest = header.length.saturating_add(TRAILER_BYTES as u64);
                stream.skip(rest, arrivals).await?;
                continue;
            }
        };
        pack.hand_over(full, arrivals).await?;
        let Some(block) = file.plan().block_at(header.offset, header.length) else {
            return Err(End::Misbehaved("sent what is no block of the file"));
        };
        if !file.wants(block) {
            // A repetition must not touch what is proven.
            let rest = header.length + TRAILER_BYTES as u64;
            stream.skip(rest, arrivals).await?;
            continue;
        }
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
            pass(limit.as_deref(), length).await;
            arrivals.on_bytes(length);
            arrivals.on_filled();
            send_step(full, Step::Bytes { buffer, offset }).await?;
            offset += length as u64;
        }
        let mut hash = Vec::with_capacity(TRAILER_BYTES);
        stream.fill(&mut hash, TRAILER_BYTES).await?;
        let hash = Hash(hash.try_into().map_err(|_| End::Broken)?);
        send_step(full, Step::End { hash }).await?;
    }
}

/// What is not read yet holds the sender back, by flow control.
async fn pass(limit: Option<&RateLimit>, bytes: usize) {
    if let Some(limit) = limit {
        limit.pass(bytes).await;
    }
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
    Pack(Pack),
}

/// Small files, in one buffer: the bytes of each and its hash behind them.
#[derive(Default)]
struct Pack {
    buffer: Vec<u8>,
    files: Vec<(u32, Arc<SmallFile>)>,
}

impl Pack {
    /// Takes in the record that `header` begins.
    async fn add(
        &mut self,
        stream: &mut RecordStream,
        header: RecordHeader,
        file: Arc<SmallFile>,
        full: &mpsc::Sender<Step>,
        empty: &mut mpsc::Receiver<Vec<u8>>,
        arrivals: &Arrivals,
    ) -> Result<(), End> {
        let length = header.length as usize + TRAILER_BYTES;
        if self.buffer.len() + length > BUFFER_BYTES {
            self.hand_over(full, arrivals).await?;
        }
        if self.files.is_empty() {
            self.buffer = empty.recv().await.ok_or(End::Broken)?;
            self.buffer.clear();
        }
        stream.extend(&mut self.buffer, length).await?;
        arrivals.on_bytes(length);
        self.files.push((header.entry, file));
        Ok(())
    }

    async fn hand_over(
        &mut self,
        full: &mpsc::Sender<Step>,
        arrivals: &Arrivals,
    ) -> Result<(), End> {
        if self.files.is_empty() {
            return Ok(());
        }
        arrivals.on_filled();
        send_step(full, Step::Pack(std::mem::take(self))).await
    }

    /// Hashes and writes each file. Returns the buffer.
    fn write(self, events: &mpsc::Sender<Event>) -> Vec<u8> {
        let mut told = Vec::with_capacity(self.files.len());
        let mut rest = self.buffer.as_slice();
        for (entry, file) in self.files {
            let (bytes, after) = rest.split_at(file.size() as usize);
            let (announced, after) = after.split_at(TRAILER_BYTES);
            rest = after;
            let hash = Hash::of(bytes);
            let event = if hash.0 != announced {
                Event::Damaged { entry, block: 0 }
            } else {
                match file.write(bytes, hash) {
                    Ok(()) => Event::Proven {
                        entry,
                        block: 0,
                        bytes: file.size(),
                    },
                    Err(error) => Event::Failed {
                        entry,
                        during: During::Write,
                        error,
                    },
                }
            };
            told.push(event);
        }
        let _ = events.blocking_send(Event::Many(told));
        self.buffer
    }
}

enum End {
    Broken,
    Misbehaved(&'static str),
}

/// Where records come from.
enum RecordStream {
    /// Packets, taken apart at the boundaries of records.
    Quic {
        stream: quinn::RecvStream,
        pending: VecDeque<Bytes>,
    },
    Tls(Box<TlsStream>),
}

impl RecordStream {
    fn quic(stream: quinn::RecvStream) -> Self {
        Self::Quic {
            stream,
            pending: VecDeque::new(),
        }
    }

    /// `None` at the end of the stream.
    async fn header(&mut self) -> Result<Option<RecordHeader>, End> {
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
    async fn fill(&mut self, buffer: &mut Vec<u8>, length: usize) -> Result<(), End> {
        buffer.clear();
        self.extend(buffer, length).await
    }

    /// Adds the next `length` bytes to `buffer`.
    async fn extend(&mut self, buffer: &mut Vec<u8>, length: usize) -> Result<(), End> {
        let end = buffer.len() + length;
        match self {
            Self::Quic { stream, pending } => {
                while buffer.len() < end {
                    let chunk = next_chunk(stream, pending, end - buffer.len()).await?;
                    buffer.extend_from_slice(&chunk);
                }
            }
            Self::Tls(stream) => {
                let mut limited = stream.take(length as u64);
                while buffer.len() < end {
                    match limited.read_buf(buffer).await {
                        Ok(1..) => {}
                        Ok(0) | Err(_) => return Err(End::Broken),
                    }
                }
            }
        }
        Ok(())
    }

    async fn skip(&mut self, mut length: u64, arrivals: &Arrivals) -> Result<(), End> {
        let mut scratch = Vec::new();
        while length > 0 {
            let step = length.min(BUFFER_BYTES as u64);
            self.fill(&mut scratch, step as usize).await?;
            arrivals.on_bytes(step as usize);
            length -= step;
        }
        Ok(())
    }
}

/// At least one byte and at most `most`.
async fn next_chunk(
    stream: &mut quinn::RecvStream,
    pending: &mut VecDeque<Bytes>,
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
        let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
        let read = stream
            .read_chunks(&mut chunks)
            .await
            .map_err(|_| End::Broken)?;
        let count = read.ok_or(End::Broken)?;
        pending.extend(chunks.into_iter().take(count));
    }
}

/// Hashes and writes until the queue closes.
fn write_blocks(
    mut full: mpsc::Receiver<Step>,
    empty: &mpsc::Sender<Vec<u8>>,
    arrivals: &Arrivals,
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
                arrivals.on_written();
                // Never full: buffers only go round.
                let _ = empty.try_send(buffer);
            }
            Step::Pack(pack) => {
                let buffer = pack.write(events);
                arrivals.on_written();
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
