//! Drives a [`Sender`]: reads the source on a thread of its own, writes records.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::blocks::BlockRun;
use crate::error::ErrorCode;
use crate::hash::{BlockHasher, Hash};
use crate::limits;
use crate::net::blocking_tls::BlockingTls;
use crate::net::buffer::BufferPool;
use crate::net::lane_log::LaneLog;
use crate::net::limit::RateLimit;
use crate::net::link::{Carrier, Connection, ControlTasks, Lane, Link, reserve};
use crate::net::manifest::{self, Batch, Manifest};
use crate::net::progress::Progress;
use crate::net::queue::WorkQueue;
use crate::net::quic::fit_send_windows;
use crate::net::stall::Watch;
use crate::net::tally::Tally;
use crate::net::tcp::TlsStream;
use crate::net::{TransferError, Transferred};
use crate::session::{Conclusion, Sender, SenderInput, SenderOutput, SessionError};
use crate::store::StoreError;
use crate::store::filter::Filter;
use crate::store::source::{Source, SourceFile, read_whole};
use crate::store::walk::SourceTree;
use crate::wire::message::{Entry, EntryKind, Held, Message, Wanted};
use crate::wire::record::{HEADER_BYTES, RecordHeader, TRAILER_BYTES};

/// What of a source is sent, and how it begins.
#[derive(Debug, Clone, Default)]
pub struct SenderConfig {
    /// What of a tree is let through; `None`: all.
    pub filter: Option<Filter>,
    /// The receiver throws away what an earlier run left.
    pub restart: bool,
}

/// Sends `source` over `link` and closes the connection. Of a tree only what the filters of
/// both sides let through.
///
/// Not cancel-safe, but dropping it loses nothing at the receiver. `stop` ends it early with
/// the given code.
///
/// # Errors
/// When the connection is lost, or either side gives up. A source that fails on its own is
/// reported in the returned failures.
pub async fn send(
    link: Link,
    source: Source,
    config: SenderConfig,
    progress: Arc<Progress>,
    stop: impl Future<Output = ErrorCode>,
) -> Result<Transferred, TransferError> {
    progress.on_session();
    let connection = link.connection;
    let control = ControlTasks::spawn(link.control_send, link.control_receive, link.greeting);
    let (events_tx, events) = mpsc::channel(EVENT_QUEUE);
    let mut driver = Driver {
        session: Sender::new(link.session, config.restart),
        control,
        outbox: VecDeque::new(),
        events,
        events_tx,
        queue: Arc::new(WorkQueue::new()),
        source,
        filter: config.filter,
        manifest: None,
        wants_manifest: false,
        offered: HashMap::new(),
        lanes: JoinSet::new(),
        logs: HashMap::new(),
        quic_lanes: Vec::new(),
        limit: link.limit,
        progress,
        tally: Tally::default(),
        lane_count: 0,
    };
    let result = driver.run(&connection, link.lanes, stop).await;
    connection.hang_up();
    driver.queue.close();
    let reason = result.as_ref().err().and_then(TransferError::code);
    if result.is_err() {
        let farewell = std::mem::take(&mut driver.outbox);
        // Bounded: the peer may be gone.
        let _ = tokio::time::timeout(FAREWELL, driver.control.drain(farewell)).await;
    } else if let Connection::Tls { .. } = connection {
        // What tells the receiver that its receipt was heard.
        let _ = tokio::time::timeout(FAREWELL, driver.control.end()).await;
    }
    connection.close(reason);
    let Driver {
        tally,
        lane_count: lanes,
        ..
    } = driver;
    let conclusion = result?;
    let (root, tree, failures) = tally.finish();
    Ok(Transferred {
        conclusion,
        failures,
        root,
        tree,
        lanes,
        is_settled: true,
    })
}

struct Driver {
    session: Sender,
    control: ControlTasks,
    outbox: VecDeque<Message>,
    events: mpsc::Receiver<Event>,
    events_tx: mpsc::Sender<Event>,
    queue: Arc<WorkQueue<Work>>,
    source: Source,
    filter: Option<Filter>,
    /// Read from the first question on.
    manifest: Option<Manifest>,
    wants_manifest: bool,
    /// Files that are offered and not over.
    offered: HashMap<u32, Arc<OfferedFile>>,
    /// Each ends with its number.
    lanes: JoinSet<u16>,
    /// Of those that live, by number.
    logs: HashMap<u16, Arc<LaneLog>>,
    quic_lanes: Vec<quinn::Connection>,
    limit: Option<Arc<RateLimit>>,
    progress: Arc<Progress>,
    tally: Tally,
    lane_count: u32,
}

/// A file as it was offered. It is open only while it is being sent: an offer may hold
/// thousands.
struct OfferedFile {
    source: Source,
    entry: Arc<Entry>,
    file: Mutex<Option<Arc<SourceFile>>>,
    /// Of a small file, from when it was read.
    root: Mutex<Option<Hash>>,
}

impl OfferedFile {
    /// The file, opened if it is not.
    fn open(&self) -> Result<Arc<SourceFile>, StoreError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*file {
            return Ok(Arc::clone(file));
        }
        let opened = self.source.file(&self.entry)?;
        *file = Some(Arc::clone(&opened));
        Ok(opened)
    }

    fn close(&self) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn root(&self) -> std::sync::MutexGuard<'_, Option<Hash>> {
        self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tree it is in, and its size, if it is sent whole with many others.
    fn small(&self) -> Option<(&SourceTree, usize)> {
        match (&self.source, &self.entry.kind) {
            (
                Source::Tree(tree),
                EntryKind::File {
                    size: size @ 1..=SMALL_MAX_BYTES,
                },
            ) => Some((tree, *size as usize)),
            _ => None,
        }
    }
}

impl Driver {
    async fn run(
        &mut self,
        connection: &Connection,
        mut new_lanes: mpsc::Receiver<Lane>,
        stop: impl Future<Output = ErrorCode>,
    ) -> Result<Conclusion, TransferError> {
        tokio::pin!(stop);
        let outgoing = self.control.outgoing();
        let mut watch = Watch::new();
        let mut starved = None;
        loop {
            if let Some(conclusion) = self.do_outputs()? {
                return Ok(conclusion);
            }
            // Each arm is cancel-safe: channels, a reservation, and futures that are kept.
            let input = tokio::select! {
                permit = reserve(outgoing.as_ref()), if !self.outbox.is_empty() => {
                    let (Some(permit), Some(message)) = (permit, self.outbox.pop_front()) else {
                        return Err(connection.closed().await);
                    };
                    permit.send(message);
                    continue;
                }
                message = self.control.incoming.recv() => match message {
                    Some(Ok(message)) => SenderInput::Message(message),
                    Some(Err(error)) => return Err(connection.lost(error)),
                    None => return Err(TransferError::Lost("the control stream ended".into())),
                },
                Some(event) = self.events.recv() => {
                    watch.on_input();
                    self.on_events(event)?;
                    continue;
                }
                Some(batch) = next_batch(self.manifest.as_mut()), if self.wants_manifest => {
                    watch.on_input();
                    self.on_batch(batch)?;
                    continue;
                }
                Some(lane) = new_lanes.recv() => {
                    self.add_lane(lane);
                    starved = None;
                    continue;
                }
                () = sleep_until(starved.unwrap_or_else(Instant::now)), if starved.is_some() => {
                    return Err(TransferError::Lost("every data connection broke".into()));
                }
                Some(lane) = self.lanes.join_next() => match lane {
                    Ok(0) => return Err(self.control_lost(connection).await),
                    Ok(lane) => {
                        // Another one may be on its way.
                        let none_left = self.lanes.is_empty();
                        starved = none_left.then(|| Instant::now() + STARVED);
                        self.on_lane_lost(lane)
                    }
                    Err(_) => SenderInput::Stop(ErrorCode::Internal),
                },
                () = connection.cut() => return Err(connection.closed().await),
                code = &mut stop => SenderInput::Stop(code),
                () = watch.glance() => {
                    if !watch.is_stalled(None, false) {
                        continue;
                    }
                    SenderInput::Stop(ErrorCode::TimedOut)
                }
            };
            watch.on_input();
            self.feed(input)?;
        }
    }

    fn feed(&mut self, input: SenderInput) -> Result<(), TransferError> {
        let result = self.session.handle(input);
        if result.is_err() {
            self.do_outputs()?;
        }
        Ok(result?)
    }

    /// Takes all events that are there, so that what is said about them fits in few messages.
    fn on_events(&mut self, first: Event) -> Result<(), TransferError> {
        let mut next = Some(first);
        for _ in 0..EVENT_QUEUE {
            let Some(event) = next else { break };
            self.on_event(event)?;
            next = self.events.try_recv().ok();
        }
        match next {
            Some(event) => self.on_event(event),
            None => Ok(()),
        }
    }

    fn on_batch(&mut self, batch: Result<Batch, StoreError>) -> Result<(), TransferError> {
        self.wants_manifest = false;
        let Batch { entries, last } = match batch {
            Ok(batch) => batch,
            Err(error) => {
                let _ = self.feed(SenderInput::Stop(error.code));
                return Err(error.into());
            }
        };
        let first = self.session.offered();
        for (number, entry) in (first..).zip(&entries) {
            let bytes = entry.plan().map_or(0, |plan| plan.size());
            self.progress.on_offered(1, bytes);
            let entry = self.tally.offered(number, entry.clone());
            if let EntryKind::File { .. } = entry.kind {
                let file = OfferedFile {
                    source: self.source.clone(),
                    entry,
                    file: Mutex::default(),
                    root: Mutex::default(),
                };
                self.offered.insert(number, Arc::new(file));
            }
        }
        self.feed(SenderInput::Manifest { entries, last })
    }

    /// Lets through what both sides want.
    fn add_filter(&mut self, wanted: &Wanted) -> Result<(), SessionError> {
        match Filter::new(wanted) {
            Ok(theirs) => {
                self.filter = Some(match self.filter.take() {
                    Some(ours) => ours.and(theirs),
                    None => theirs,
                });
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "the receiver's filter makes no sense");
                self.session
                    .handle(SenderInput::Stop(ErrorCode::ProtocolViolation))
            }
        }
    }

    /// What it was given may be missing; whatever it was about to be given is for another.
    fn on_lane_lost(&mut self, lane: u16) -> SenderInput {
        tracing::debug!(lane, "a lane is lost");
        self.quic_lanes
            .retain(|connection| connection.close_reason().is_none());
        fit_send_windows(&self.quic_lanes);
        let log = self.logs.remove(&lane);
        let runs = log.map_or_else(Vec::new, |log| log.close());
        SenderInput::LaneLost { lane, runs }
    }

    /// Over QUIC the connection that controls carries records too, and knows why it ended.
    async fn control_lost(&self, connection: &Connection) -> TransferError {
        let broke = TransferError::Lost("a data connection broke".to_owned());
        match connection {
            Connection::Quic(_) => tokio::time::timeout(FAREWELL, connection.closed())
                .await
                .unwrap_or(broke),
            Connection::Tls { .. } => broke,
        }
    }

    fn add_lane(&mut self, lane: Lane) {
        let Lane {
            number,
            carrier,
            ended,
        } = lane;
        if self.logs.len() >= limits::LANES_MAX || self.logs.contains_key(&number) {
            return;
        }
        self.lane_count += 1;
        let log = Arc::new(LaneLog::new());
        self.logs.insert(number, Arc::clone(&log));
        let queue = Arc::clone(&self.queue);
        let events = self.events_tx.clone();
        let limit = self.limit.clone();
        if let Carrier::Quic(connection) = &carrier {
            self.quic_lanes.push(connection.clone());
            fit_send_windows(&self.quic_lanes);
        }
        self.lanes.spawn(async move {
            let result = match carrier {
                Carrier::Quic(connection) => {
                    let (pieces, pieces_rx) = mpsc::channel(PIECE_QUEUE);
                    let reader = LaneReader::new(Outlet::Stream(pieces), events, log);
                    tokio::task::spawn_blocking(move || reader.run(&queue));
                    // What was written already may be lost too.
                    tokio::select! {
                        result = write_streams(connection.clone(), pieces_rx, limit) => result,
                        _ = connection.closed() => Err(LaneLost),
                    }
                }
                Carrier::Tls(stream) => send_here(*stream, limit, queue, events, log).await,
            };
            drop(ended);
            tracing::debug!(number, ?result, "a lane ended");
            number
        });
    }

    fn do_outputs(&mut self) -> Result<Option<Conclusion>, SessionError> {
        while let Some(output) = self.session.poll_output() {
            match output {
                SenderOutput::Send(message) => self.outbox.push_back(message),
                SenderOutput::Filter(wanted) => self.add_filter(&wanted)?,
                SenderOutput::ReadManifest => {
                    self.wants_manifest = true;
                    if self.manifest.is_none() {
                        let filter = self.filter.take();
                        self.manifest = Some(manifest::read(&self.source, filter));
                    }
                }
                SenderOutput::CheckHeld(held) => self.queue_work(held.entry, Task::Check(held)),
                SenderOutput::SendBlocks { entry, run } => self.queue_blocks(entry, run),
                SenderOutput::Seal { entry } => self.seal(entry)?,
                SenderOutput::Release { entry, failure } => {
                    self.offered.remove(&entry);
                    self.logs.values().for_each(|log| log.forget(entry));
                    self.tally.released(entry, failure, &self.progress);
                }
                SenderOutput::Close(conclusion) => return Ok(Some(conclusion)),
            }
        }
        Ok(None)
    }

    /// Cuts a run into pieces of work, so that lanes can share it: whoever is free takes the
    /// next one. They get smaller, so that no slow lane holds the end back.
    fn queue_blocks(&self, entry: u32, run: BlockRun) {
        let BlockRun {
            mut first,
            count: mut left,
        } = run;
        while left > 0 {
            let count = (left / WORK_PIECES).clamp(1, WORK_BLOCKS);
            self.queue_work(entry, Task::Send(BlockRun { first, count }));
            first += count;
            left -= count;
        }
    }

    fn queue_work(&self, entry: u32, task: Task) {
        if let Some(file) = self.offered.get(&entry).map(Arc::clone) {
            self.queue.push(Work { entry, file, task });
        }
    }

    /// Comes before what other files have to send, so that few are open at a time.
    fn seal(&mut self, entry: u32) -> Result<(), SessionError> {
        let Some(file) = self.offered.get(&entry).map(Arc::clone) else {
            return Ok(());
        };
        let known = file.root().take();
        match known {
            Some(root) => {
                self.tally.rooted(entry, root);
                self.session.handle(SenderInput::Sealed { entry, root })
            }
            None => {
                let task = Task::Seal;
                self.queue.push_first(Work { entry, file, task });
                Ok(())
            }
        }
    }

    fn on_event(&mut self, event: Event) -> Result<(), TransferError> {
        let input = match event {
            Event::SmallSent(sent) => {
                for (entry, root, bytes) in sent {
                    self.progress.on_moved(bytes);
                    if let Some(file) = self.offered.get(&entry) {
                        *file.root() = Some(root);
                    }
                    self.feed(SenderInput::BlocksSent { entry, count: 1 })?;
                }
                return Ok(());
            }
            Event::BlockSent { entry, bytes } => {
                self.progress.on_moved(bytes);
                SenderInput::BlocksSent { entry, count: 1 }
            }
            Event::HeldChecked {
                entry,
                agrees,
                bytes,
            } => {
                self.progress.on_resumed(bytes);
                SenderInput::HeldChecked { entry, agrees }
            }
            Event::Sealed { entry, root } => {
                self.tally.rooted(entry, root);
                SenderInput::Sealed { entry, root }
            }
            Event::Failed { entry, error } => {
                let code = error.code;
                self.tally.failed(entry, error);
                SenderInput::SourceFailed { entry, code }
            }
        };
        self.feed(input)
    }
}

/// Waits for the next part of the manifest. Cancel-safe.
async fn next_batch(manifest: Option<&mut Manifest>) -> Option<Result<Batch, StoreError>> {
    manifest?.recv().await
}

struct Work {
    entry: u32,
    file: Arc<OfferedFile>,
    task: Task,
}

enum Task {
    Check(Held),
    Send(BlockRun),
    Seal,
}

enum Event {
    /// Files that were sent whole, with root and size.
    SmallSent(Vec<(u32, Hash, u64)>),
    HeldChecked {
        entry: u32,
        agrees: bool,
        bytes: u64,
    },
    BlockSent {
        entry: u32,
        bytes: u64,
    },
    Sealed {
        entry: u32,
        root: Hash,
    },
    Failed {
        entry: u32,
        error: StoreError,
    },
}

/// A lane that broke. Over QUIC the connection knows why.
#[derive(Debug)]
struct LaneLost;

impl<E: std::error::Error> From<E> for LaneLost {
    fn from(error: E) -> Self {
        tracing::debug!(%error, "a lane broke");
        Self
    }
}

/// Writes pieces to one stream, or, after a record that could not be completed, to the next.
async fn write_streams(
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

/// Sends over a TCP connection, on one thread from file to socket.
async fn send_here(
    stream: TlsStream,
    limit: Option<Arc<RateLimit>>,
    queue: Arc<WorkQueue<Work>>,
    events: mpsc::Sender<Event>,
    log: Arc<LaneLog>,
) -> Result<(), LaneLost> {
    // Dropped with this future, which ends the thread.
    let (stream, hang_up) = stream.into_blocking()?;
    let socket = Socket {
        stream,
        small: Vec::new(),
        limit,
        runtime: Handle::current(),
    };
    let reader = LaneReader::new(Outlet::Socket(Box::new(socket)), events, log);
    let thread = tokio::task::spawn_blocking(move || reader.run(&queue));
    // Both are cancel-safe. The thread may be waiting for work and not look at its socket.
    tokio::select! {
        result = thread => result?,
        ended = hang_up.peer_ended() => Ok(ended?),
    }
}

/// What a lane's thread hands to its stream.
enum Piece {
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

struct LaneReader {
    outlet: Outlet,
    events: mpsc::Sender<Event>,
    pool: BufferPool,
    pack: Pack,
    log: Arc<LaneLog>,
    /// The lane takes nothing any more.
    is_lost: bool,
}

/// Where the pieces of a lane go.
enum Outlet {
    /// To the task that writes QUIC streams, which tells when the lane is lost.
    Stream(mpsc::Sender<Piece>),
    /// To a socket, by this thread.
    Socket(Box<Socket>),
}

impl Outlet {
    fn put(&mut self, piece: Piece) -> Result<(), LaneLost> {
        match self {
            Self::Stream(pieces) => Ok(pieces.blocking_send(piece)?),
            Self::Socket(socket) => match piece {
                Piece::Bytes(bytes) => socket.put(&bytes),
                // What follows would be taken for the rest of the record.
                Piece::Broken(_) => Err(LaneLost),
            },
        }
    }

    fn finish(&mut self) -> Result<(), LaneLost> {
        match self {
            Self::Stream(_) => Ok(()),
            Self::Socket(socket) => Ok(socket.stream.finish()?),
        }
    }
}

/// A TCP connection that this thread writes to.
struct Socket {
    stream: BlockingTls,
    /// Header or trailer: travels with what comes next.
    small: Vec<u8>,
    limit: Option<Arc<RateLimit>>,
    runtime: Handle,
}

impl Socket {
    fn put(&mut self, bytes: &[u8]) -> Result<(), LaneLost> {
        if let Some(limit) = &self.limit {
            self.runtime.block_on(limit.pass(bytes.len()));
        }
        if bytes.len() <= HEADER_BYTES.max(TRAILER_BYTES) {
            self.small.extend_from_slice(bytes);
            return Ok(());
        }
        self.stream.write_all([&self.small, bytes])?;
        self.small.clear();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LaneLost> {
        self.stream.write_all([&self.small, &[]])?;
        self.small.clear();
        Ok(())
    }
}

/// Records of small files in one buffer, until it is full or there is nothing else to send.
#[derive(Default)]
struct Pack {
    buffer: Option<BytesMut>,
    filled: usize,
    sent: Vec<(u32, Hash, u64)>,
}

impl LaneReader {
    fn new(outlet: Outlet, events: mpsc::Sender<Event>, log: Arc<LaneLog>) -> Self {
        Self {
            outlet,
            events,
            pool: BufferPool::new(PIECE_BYTES),
            pack: Pack::default(),
            log,
            is_lost: false,
        }
    }

    /// Works until the queue closes.
    fn run(mut self, queue: &WorkQueue<Work>) -> Result<(), LaneLost> {
        match self.work_all(queue) {
            Ok(()) => self.outlet.finish(),
            Err(Stop::Lost) => Err(LaneLost),
            Err(Stop::Over | Stop::Failed(_)) => Ok(()),
        }
    }

    fn work_all(&mut self, queue: &WorkQueue<Work>) -> Result<(), Stop> {
        loop {
            let work = match queue.try_pop() {
                Some(work) => work,
                None => {
                    self.flush()?;
                    let Some(work) = queue.pop() else {
                        return Ok(());
                    };
                    work
                }
            };
            self.work(work, queue)?;
            if self.is_lost {
                return Err(Stop::Lost);
            }
        }
    }

    fn work(&mut self, work: Work, queue: &WorkQueue<Work>) -> Result<(), Stop> {
        let Work { entry, file, task } = work;
        let Task::Send(run) = task else {
            return self.look(entry, &file, task);
        };
        for block in run.blocks() {
            if self.is_lost || !self.log.begin(entry, block) {
                // For another lane.
                let rest = BlockRun {
                    first: block,
                    count: run.blocks().end - block,
                };
                let task = Task::Send(rest);
                queue.push_first(Work { entry, file, task });
                self.send_pack()?;
                return Err(Stop::Lost);
            }
            let sent = match file.small() {
                Some((tree, size)) => self.send_small(entry, &file, tree, size),
                None => self.send_large(&file, entry, block),
            };
            if let Err(Stop::Failed(error)) = sent {
                return self.event(Event::Failed { entry, error });
            }
            sent?;
        }
        Ok(())
    }

    fn send_large(&mut self, file: &OfferedFile, entry: u32, block: u64) -> Result<(), Stop> {
        self.send_pack()?;
        let source = file.open()?;
        self.send_block(&source, entry, block)
    }

    fn look(&mut self, entry: u32, file: &OfferedFile, task: Task) -> Result<(), Stop> {
        match self.look_at(entry, file, task) {
            Err(Stop::Failed(error)) => self.event(Event::Failed { entry, error }),
            done => done,
        }
    }

    fn look_at(&mut self, entry: u32, file: &OfferedFile, task: Task) -> Result<(), Stop> {
        self.send_pack()?;
        let source = file.open()?;
        match task {
            Task::Check(held) => self.check(&source, &held),
            Task::Seal => {
                let root = source.seal();
                file.close();
                let root = root?;
                self.event(Event::Sealed { entry, root })
            }
            // Local invariant: the caller sends.
            Task::Send(_) => Ok(()),
        }
    }

    /// Adds a file to the pack: header, bytes, hash.
    fn send_small(
        &mut self,
        entry: u32,
        file: &OfferedFile,
        tree: &SourceTree,
        size: usize,
    ) -> Result<(), Stop> {
        if self.pack.filled + HEADER_BYTES + size + TRAILER_BYTES > PIECE_BYTES {
            self.send_pack()?;
        }
        let Pack {
            buffer,
            filled,
            sent,
        } = &mut self.pack;
        let buffer = buffer.get_or_insert_with(|| self.pool.take());
        let (header, rest) = buffer[*filled..].split_at_mut(HEADER_BYTES);
        let (bytes, rest) = rest.split_at_mut(size);
        let root = read_whole(tree, &file.entry, bytes)?;
        let length = size as u64;
        let offset = 0;
        header.copy_from_slice(
            &RecordHeader {
                entry,
                offset,
                length,
                is_hole: false,
            }
            .encode(),
        );
        rest[..TRAILER_BYTES].copy_from_slice(&root.0);
        *filled += HEADER_BYTES + size + TRAILER_BYTES;
        sent.push((entry, root, length));
        Ok(())
    }

    /// Keeps nothing back.
    fn flush(&mut self) -> Result<(), Stop> {
        self.send_pack()?;
        self.flush_outlet();
        Ok(())
    }

    fn flush_outlet(&mut self) {
        if let Outlet::Socket(socket) = &mut self.outlet {
            self.is_lost = self.is_lost || socket.flush().is_err();
        }
    }

    fn send_pack(&mut self) -> Result<(), Stop> {
        let Pack {
            buffer,
            filled,
            sent,
        } = std::mem::take(&mut self.pack);
        let Some(buffer) = buffer else { return Ok(()) };
        let piece = self.pool.share(buffer, filled);
        self.put(Piece::Bytes(piece));
        self.event(Event::SmallSent(sent))
    }

    fn check(&mut self, source: &SourceFile, held: &Held) -> Result<(), Stop> {
        let plan = source.plan();
        let blocks = held.first_block..held.first_block + held.hashes.len() as u64;
        let bytes = blocks.map(|block| plan.len(block)).sum();
        let mut buffer = self.pool.take();
        let agrees = source.check_held(held, &mut buffer)?;
        self.event(Event::HeldChecked {
            entry: held.entry,
            agrees,
            bytes,
        })
    }

    fn send_block(&mut self, source: &SourceFile, entry: u32, block: u64) -> Result<(), Stop> {
        let plan = source.plan();
        let range = plan.range(block);
        let bytes = range.end - range.start;
        let header = RecordHeader {
            entry,
            offset: range.start,
            length: bytes,
            is_hole: source.is_hole(block),
        };
        self.put(Piece::Bytes(Bytes::copy_from_slice(&header.encode())));
        let mut hasher = BlockHasher::new(plan, block);
        if header.is_hole {
            hasher.update_zeros(bytes);
        }
        let read = if header.is_hole {
            range.end..range.end
        } else {
            range.clone()
        };
        for start in read.step_by(PIECE_BYTES) {
            let length = (range.end - start).min(PIECE_BYTES as u64) as usize;
            let mut buffer = self.pool.take();
            if let Err(error) = source.read_exact_at(&mut buffer[..length], start) {
                self.put(Piece::Broken(error.code));
                return Err(Stop::Failed(error));
            }
            hasher.update(&buffer[..length]);
            let piece = self.pool.share(buffer, length);
            self.put(Piece::Bytes(piece));
        }
        let hash = hasher.finish();
        source.put_hash(block, hash);
        self.put(Piece::Bytes(Bytes::copy_from_slice(&hash.0)));
        if header.is_hole {
            // Nothing large comes soon that it could travel with, and the receiver has to hash.
            self.flush_outlet();
        }
        self.event(Event::BlockSent { entry, bytes })
    }

    /// A block that was begun is read to its end, wherever its bytes go: the root takes its
    /// hash, and that it did not arrive is found out with all that this lane was given.
    fn put(&mut self, piece: Piece) {
        self.is_lost = self.is_lost || self.outlet.put(piece).is_err();
    }

    fn event(&self, event: Event) -> Result<(), Stop> {
        self.events.blocking_send(event).map_err(|_| Stop::Over)
    }
}

enum Stop {
    /// The transfer is over, or somebody else tells why.
    Over,
    /// The lane takes nothing any more.
    Lost,
    Failed(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Read, hashed and queued at a time: large enough for BLAKE3's widest code, small enough to
/// stay in a core's cache until it is encrypted.
const PIECE_BYTES: usize = 256 << 10;

/// Pieces between the reader and the network.
const PIECE_QUEUE: usize = 8;

/// Events between the reader and the driver.
const EVENT_QUEUE: usize = 1024;

/// Files that are read whole and sent many in a piece.
const SMALL_MAX_BYTES: u64 = 128 << 10;

/// Blocks that a lane takes at a time, at most.
const WORK_BLOCKS: u64 = 16;

/// What is left is cut into at least this many pieces, for up to 32 lanes.
const WORK_PIECES: u64 = 64;

/// Longest wait for another connection when none is left.
const STARVED: Duration = Duration::from_secs(10);

/// Longest wait for the peer to take our last message.
const FAREWELL: Duration = Duration::from_secs(2);
