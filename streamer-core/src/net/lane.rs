//! The receiving end of one data stream: records in, proven blocks out.
//!
//! The stream's task copies packets into large buffers; a thread hashes and writes them.
//! Buffers go round between the two: while none is free, the stream is not read, and flow
//! control slows the sender.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::error::{ErrorCode, ProtocolError};
use crate::hash::{BlockHasher, Hash};
use crate::net::blocking_tls::{BlockingTls, HungUp, PEEK_BYTES};
use crate::net::keeper::{During, OpenFile, OpenFiles};
use crate::net::limit::RateLimit;
use crate::net::link::Carrier;
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
    /// Nothing is sent: it closes when the last thread that may write is gone, which is later than
    /// the lane where a disk is slow.
    pub(crate) _writing: mpsc::Sender<Infallible>,
}

impl Inlet {
    /// Bytes to take at a time, at most.
    fn piece_bytes(&self) -> usize {
        let limited = |limit: &Arc<RateLimit>| limit.piece_bytes(BUFFER_BYTES);
        self.limit.as_ref().map_or(BUFFER_BYTES, limited)
    }
}

/// Receives what comes over one lane until it ends, or `dropped` says that nothing more is to
/// be taken from it. What came until then has been told when it returns.
///
/// Cancel safety: dropping it loses the blocks that were arriving. Its threads may be writing then, for
/// as long as something holds `writing` of the inlet.
///
/// # Errors
/// When the records are not what was offered.
pub(crate) async fn receive_lane(
    carrier: Carrier,
    inlet: Inlet,
    mut dropped: oneshot::Receiver<()>,
) -> Result<(), ErrorCode> {
    match carrier {
        Carrier::Tls(stream) => receive_here(*stream, inlet, dropped).await,
        Carrier::Quic(connection) => {
            let mut streams = JoinSet::new();
            loop {
                // All arms are cancel-safe, accept_uni per quinn's documentation.
                tokio::select! {
                    Ok(()) = &mut dropped => {
                        connection.close(quinn::VarInt::from_u32(0), &[]);
                        break;
                    }
                    stream = connection.accept_uni() => {
                        // The end of the connection is told elsewhere.
                        let Ok(stream) = stream else { break };
                        let stream = RecordStream::quic(stream);
                        streams.spawn(receive_records(stream, inlet.clone()));
                    }
                    Some(ended) = streams.join_next() => match ended {
                        Ok(result) => result?,
                        Err(_) => return Err(ErrorCode::Internal),
                    },
                }
            }
            // Their threads may still be writing.
            while let Some(ended) = streams.join_next().await {
                ended.unwrap_or(Err(ErrorCode::Internal))?;
            }
            Ok(())
        }
    }
}

/// Receives the records of a TCP connection on one thread from socket to file.
async fn receive_here(
    stream: TlsStream,
    inlet: Inlet,
    dropped: oneshot::Receiver<()>,
) -> Result<(), ErrorCode> {
    // Dropped with this future at the latest, which ends the thread.
    let Ok((mut stream, hang_up, hung_up)) = stream.into_blocking() else {
        return Ok(());
    };
    if inlet.limit.is_some() {
        stream.read_little(inlet.piece_bytes());
    }
    let runtime = Handle::current();
    let (heard, first) = oneshot::channel();
    let mut thread = tokio::task::spawn_blocking(move || {
        stream.peek(HEADER_BYTES).map_err(|_| End::Broken)?;
        // It may have been given up just now.
        let _ = heard.send(());
        let mut stream = RecordStream::Tls(Box::new(stream));
        let mut sink = Sink::Here {
            writer: Box::default(),
            buffer: Vec::with_capacity(BUFFER_BYTES),
            hung_up,
        };
        runtime.block_on(receive_all(&mut stream, &inlet, &mut sink))
    });
    let unheard = async {
        match timeout(FIRST_RECORD, first).await {
            Err(_) => tracing::debug!("nothing comes over a lane"),
            Ok(_) => std::future::pending().await,
        }
    };
    // All are kept across this, or not needed after it.
    let result = tokio::select! {
        result = &mut thread => result,
        Ok(()) = dropped => {
            drop(hang_up);
            thread.await
        }
        () = unheard => {
            drop(hang_up);
            thread.await
        }
    };
    // A thread that panicked is our own fault, and has said so.
    result.map_or(Err(ErrorCode::Internal), ended)
}

/// Receives the records of one QUIC stream until it ends.
async fn receive_records(mut stream: RecordStream, inlet: Inlet) -> Result<(), ErrorCode> {
    let (full, full_rx) = mpsc::channel(BUFFERS);
    let (empty_tx, empty) = mpsc::channel(BUFFERS);
    for _ in 0..BUFFERS {
        // Local invariant: as many fit as are made.
        let _ = empty_tx.try_send(Vec::with_capacity(BUFFER_BYTES));
    }
    let writing = inlet.clone();
    let writer = tokio::task::spawn_blocking(move || write_all(full_rx, &empty_tx, &writing));
    let mut sink = Sink::Thread { full, empty };
    let result = receive_all(&mut stream, &inlet, &mut sink).await;
    drop(sink);
    // The thread ends when its queue is empty.
    let written = writer.await;
    ended(result)?;
    written.map_err(|_| ErrorCode::Internal)
}

/// A stream that breaks ends quietly: the connection's loss is told elsewhere, and unproven
/// blocks are sent anew.
fn ended(result: Result<(), End>) -> Result<(), ErrorCode> {
    match result {
        Ok(()) | Err(End::Broken) => Ok(()),
        Err(End::Misbehaved(what)) => Err(ProtocolError::Misbehaved(what).code()),
    }
}

/// What hashes and writes.
enum Sink {
    /// A thread, while the next bytes arrive. Buffers go round.
    Thread {
        full: mpsc::Sender<Step>,
        empty: mpsc::Receiver<Vec<u8>>,
    },
    /// This thread, before it reads on.
    Here {
        writer: Box<Writer>,
        buffer: Vec<u8>,
        hung_up: HungUp,
    },
}

impl Sink {
    /// As [`pass`].
    async fn pass(&mut self, limit: Option<&RateLimit>, bytes: usize) -> Result<(), End> {
        let hung_up = match self {
            Self::Thread { .. } => None,
            Self::Here { hung_up, .. } => Some(hung_up),
        };
        pass(limit, hung_up, bytes).await
    }

    /// Waits until the first entry is found. A thread's socket does not wake it while it waits
    /// here.
    async fn until_first_found(&mut self, open: &OpenFiles) -> Result<(), End> {
        match self {
            Self::Thread { .. } => {
                open.until_first_found().await;
                Ok(())
            }
            Self::Here { hung_up, .. } => tokio::select! {
                biased;
                _ = hung_up => Err(End::Broken),
                () = open.until_first_found() => Ok(()),
            },
        }
    }

    async fn buffer(&mut self) -> Result<Vec<u8>, End> {
        match self {
            Self::Thread { empty, .. } => empty.recv().await.ok_or(End::Broken),
            Self::Here { buffer, .. } => Ok(std::mem::take(buffer)),
        }
    }

    /// Takes the next `length` bytes of a block, which belong to `offset` of its file.
    async fn take(
        &mut self,
        stream: &mut RecordStream,
        length: usize,
        offset: u64,
        inlet: &Inlet,
    ) -> Result<(), End> {
        let Inlet {
            arrivals, limit, ..
        } = inlet;
        match (stream, &mut *self) {
            (
                RecordStream::Tls(stream),
                Self::Here {
                    writer, hung_up, ..
                },
            ) => {
                stream.peek(length).map_err(|_| End::Broken)?;
                pass(limit.as_deref(), Some(hung_up), length).await?;
                arrivals.on_bytes(length);
                arrivals.on_filled();
                // Where they were decrypted: nothing is copied between socket and file.
                let bytes = stream.peek(length).map_err(|_| End::Broken)?;
                let event = writer.write(bytes, offset);
                stream.consume(length);
                arrivals.on_written();
                tell(event, inlet).await
            }
            (stream, _) => {
                let mut buffer = self.buffer().await?;
                stream.fill(&mut buffer, length).await?;
                self.pass(limit.as_deref(), length).await?;
                arrivals.on_bytes(length);
                arrivals.on_filled();
                self.put(Step::Bytes { buffer, offset }, inlet).await
            }
        }
    }

    async fn put(&mut self, step: Step, inlet: &Inlet) -> Result<(), End> {
        match self {
            Self::Thread { full, .. } => full.send(step).await.map_err(|_| End::Broken),
            Self::Here { writer, buffer, .. } => {
                let (used, event) = writer.take(step);
                if let Some(used) = used {
                    inlet.arrivals.on_written();
                    *buffer = used;
                }
                tell(event, inlet).await
            }
        }
    }
}

/// Waits for the limit: what is not read yet holds the sender back, by flow control. A thread's
/// socket does not wake it while it waits here.
async fn pass(
    limit: Option<&RateLimit>,
    hung_up: Option<&mut HungUp>,
    bytes: usize,
) -> Result<(), End> {
    match (limit, hung_up) {
        (None, _) => Ok(()),
        (Some(limit), None) => {
            limit.pass(bytes).await;
            Ok(())
        }
        // Only here: events have to be told.
        (Some(limit), Some(hung_up)) => tokio::select! {
            biased;
            _ = hung_up => Err(End::Broken),
            () = limit.pass(bytes) => Ok(()),
        },
    }
}

async fn tell(event: Option<Event>, inlet: &Inlet) -> Result<(), End> {
    match event {
        Some(event) => inlet.events.send(event).await.map_err(|_| End::Broken),
        None => Ok(()),
    }
}

/// Hashes and writes until the queue closes, or what is in it is for the next session.
fn write_all(mut full: mpsc::Receiver<Step>, empty: &mpsc::Sender<Vec<u8>>, inlet: &Inlet) {
    let mut writer = Writer::default();
    while let Some(step) = full.blocking_recv().filter(|_| !inlet.open.is_closed()) {
        let (used, event) = writer.take(step);
        if let Some(used) = used {
            inlet.arrivals.on_written();
            // Never full: buffers only go round.
            let _ = empty.try_send(used);
        }
        if let Some(event) = event {
            let _ = inlet.events.blocking_send(event);
        }
    }
}

async fn receive_all(stream: &mut RecordStream, inlet: &Inlet, sink: &mut Sink) -> Result<(), End> {
    let Inlet { open, arrivals, .. } = inlet;
    let most = inlet.piece_bytes() as u64;
    let mut pack = Pack::default();
    loop {
        if !stream.has_more().await {
            // Nothing for now: what is here need not wait for it.
            pack.hand_over(sink, inlet).await?;
        }
        let Some(header) = stream.header().await? else {
            return pack.hand_over(sink, inlet).await;
        };
        if open.expects(header.entry) {
            sink.until_first_found(open).await?;
        }
        let file = match open.get(header.entry) {
            Some(OpenFile::Blocks(file, _)) => file,
            Some(OpenFile::Small(file)) => {
                let is_whole = header.offset == 0 && header.length == file.size();
                if !is_whole || header.length == 0 || header.is_hole {
                    return Err(End::Misbehaved("sent what is no block of the file"));
                }
                pack.add(stream, header, file, sink, inlet).await?;
                continue;
            }
            None => {
                // An entry that failed here meanwhile: the sender did not know yet.
                stream.skip(header.rest(), arrivals).await?;
                continue;
            }
        };
        pack.hand_over(sink, inlet).await?;
        let Some(block) = file.plan().block_at(header.offset, header.length) else {
            return Err(End::Misbehaved("sent what is no block of the file"));
        };
        if !file.wants(block) {
            // A repetition must not touch what is proven.
            stream.skip(header.rest(), arrivals).await?;
            continue;
        }
        let mut offset = header.offset;
        let end = header.offset + header.length;
        let entry = header.entry;
        sink.put(Step::Begin { entry, block, file }, inlet).await?;
        if header.is_hole {
            sink.put(Step::Hole, inlet).await?;
            offset = end;
        }
        while offset < end {
            let length = (end - offset).min(most) as usize;
            sink.take(stream, length, offset, inlet).await?;
            offset += length as u64;
        }
        let mut hash = Vec::with_capacity(TRAILER_BYTES);
        stream.fill(&mut hash, TRAILER_BYTES).await?;
        let hash = Hash(hash.try_into().map_err(|_| End::Broken)?);
        sink.put(Step::End { hash }, inlet).await?;
    }
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
    /// All of the block that was begun.
    Hole,
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
        sink: &mut Sink,
        inlet: &Inlet,
    ) -> Result<(), End> {
        let length = header.length as usize + TRAILER_BYTES;
        if self.buffer.len() + length > BUFFER_BYTES {
            self.hand_over(sink, inlet).await?;
        }
        if self.files.is_empty() {
            self.buffer = sink.buffer().await?;
            self.buffer.clear();
        }
        let mut left = length;
        while left > 0 {
            let piece = left.min(inlet.piece_bytes());
            // The hash behind the file is none of its bytes.
            let payload = piece.min(left.saturating_sub(TRAILER_BYTES));
            sink.pass(inlet.limit.as_deref(), payload).await?;
            stream.extend(&mut self.buffer, piece).await?;
            inlet.arrivals.on_bytes(piece);
            left -= piece;
        }
        self.files.push((header.entry, file));
        Ok(())
    }

    async fn hand_over(&mut self, sink: &mut Sink, inlet: &Inlet) -> Result<(), End> {
        if self.files.is_empty() {
            return Ok(());
        }
        inlet.arrivals.on_filled();
        sink.put(Step::Pack(std::mem::take(self)), inlet).await
    }

    /// Hashes and writes each file. Returns the buffer, and what to tell.
    fn write(self) -> (Vec<u8>, Event) {
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
        (self.buffer, Event::Many(told))
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
    Tls(Box<BlockingTls>),
}

impl RecordStream {
    fn quic(stream: quinn::RecvStream) -> Self {
        Self::Quic {
            stream,
            pending: VecDeque::new(),
        }
    }

    /// Whether something can be read without waiting, or the end has come.
    async fn has_more(&mut self) -> bool {
        match self {
            Self::Tls(stream) => stream.has_buffered(),
            Self::Quic { pending, .. } if !pending.is_empty() => true,
            Self::Quic { stream, pending } => {
                let mut more = pin!(read_chunks(stream, pending));
                let now = poll_fn(|context| Poll::Ready(more.as_mut().poll(context))).await;
                now.is_ready()
            }
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
                let start = buffer.len();
                buffer.resize(end, 0);
                let read = stream.read_exact(&mut buffer[start..]);
                read.map_err(|_| End::Broken)?;
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
        read_chunks(stream, pending).await?;
    }
}

/// Waits for packets, and takes those that are there. Cancel-safe, per quinn's documentation.
async fn read_chunks(
    stream: &mut quinn::RecvStream,
    pending: &mut VecDeque<Bytes>,
) -> Result<(), End> {
    let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
    let read = stream
        .read_chunks(&mut chunks)
        .await
        .map_err(|_| End::Broken)?;
    let count = read.ok_or(End::Broken)?;
    pending.extend(chunks.into_iter().take(count));
    Ok(())
}

/// What turns steps into files.
#[derive(Default)]
struct Writer {
    current: Option<Block>,
}

impl Writer {
    /// Hashes and writes. The buffer that came with the step, and what to tell the driver.
    fn take(&mut self, step: Step) -> (Option<Vec<u8>>, Option<Event>) {
        match step {
            Step::Begin { entry, block, file } => {
                let hasher = BlockHasher::new(file.plan(), block);
                self.current = Some(Block {
                    entry,
                    block,
                    file,
                    hasher,
                    failed: false,
                });
                (None, None)
            }
            Step::Bytes { buffer, offset } => {
                let failed = self.write(&buffer, offset);
                (Some(buffer), failed)
            }
            Step::Hole => (None, self.current.as_mut().and_then(Block::clear)),
            Step::Pack(pack) => {
                let (buffer, told) = pack.write();
                (Some(buffer), Some(told))
            }
            Step::End { hash } => (None, self.current.take().and_then(|block| block.end(hash))),
        }
    }

    /// The next bytes of the block that was begun.
    fn write(&mut self, bytes: &[u8], offset: u64) -> Option<Event> {
        self.current.as_mut()?.take(bytes, offset)
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
    /// What to tell, when it fails.
    fn take(&mut self, bytes: &[u8], offset: u64) -> Option<Event> {
        if self.failed {
            return None;
        }
        self.hasher.update(bytes);
        #[cfg(test)]
        tests::before_write(&self.file);
        let written = self.file.write_all_at(bytes, offset);
        self.check(written)
    }

    fn clear(&mut self) -> Option<Event> {
        let range = self.file.plan().range(self.block);
        self.hasher.update_zeros(range.end - range.start);
        let written = self.file.clear(range);
        self.check(written)
    }

    fn check(&mut self, written: Result<(), StoreError>) -> Option<Event> {
        let error = written.err()?;
        self.failed = true;
        Some(Event::Failed {
            entry: self.entry,
            during: During::Write,
            error,
        })
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

/// Longest wait for what the sender says first, of the size of the largest packet that it will send. A
/// path that loses it loses all of them, and tells nobody.
const FIRST_RECORD: Duration = Duration::from_secs(20);

const _: () = assert!(BUFFER_BYTES <= PEEK_BYTES, "it is looked at in one piece");

/// Buffers of one stream: 2 MiB in all.
const BUFFERS: usize = 8;

/// Packets taken from the stream at a time.
const CHUNKS: usize = 64;

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Condvar, Mutex};

    use super::*;

    /// A disk that takes its time with one file.
    #[derive(Debug, Default)]
    pub(in crate::net) struct SlowDisk {
        state: Mutex<State>,
        changed: Condvar,
    }

    #[derive(Debug, Default)]
    struct State {
        is_asked: bool,
        is_ready: bool,
    }

    /// By the time at which the file was modified, which tells tests apart.
    static SLOW: Mutex<BTreeMap<i64, Arc<SlowDisk>>> = Mutex::new(BTreeMap::new());

    impl SlowDisk {
        pub(in crate::net) fn of(modified: i64) -> Arc<Self> {
            let mut slow = SLOW.lock().unwrap();
            Arc::clone(slow.entry(modified).or_default())
        }

        /// Waits until something is to be written.
        pub(in crate::net) async fn asked(self: &Arc<Self>) {
            let disk = Arc::clone(self);
            let asked = tokio::task::spawn_blocking(move || disk.wait(|state| state.is_asked));
            asked.await.unwrap();
        }

        /// Lets it be written.
        pub(in crate::net) fn get_ready(&self) {
            self.state.lock().unwrap().is_ready = true;
            self.changed.notify_all();
        }

        fn wait(&self, until: impl Fn(&State) -> bool) {
            let state = self.state.lock().unwrap();
            let waits = |state: &mut State| !until(state);
            drop(self.changed.wait_while(state, waits).unwrap());
        }
    }

    pub(super) fn before_write(file: &PartialFile) {
        let modified = file.offered().modified.seconds;
        let slow = SLOW.lock().unwrap().get(&modified).map(Arc::clone);
        if let Some(disk) = slow {
            disk.state.lock().unwrap().is_asked = true;
            disk.changed.notify_all();
            disk.wait(|state| state.is_ready);
        }
    }
}
