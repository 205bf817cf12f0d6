//! Drives a [`Sender`]: reads the source on a thread of its own, writes records.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::blocks::BlockRun;
use crate::error::ErrorCode;
use crate::hash::{BlockHasher, Hash};
use crate::net::buffer::BufferPool;
use crate::net::link::{Connection, ControlTasks, Lane, Link, reserve};
use crate::net::progress::Progress;
use crate::net::queue::WorkQueue;
use crate::net::quic::fit_send_window;
use crate::net::stall::Watch;
use crate::net::tcp::TlsStream;
use crate::net::{TransferError, Transferred};
use crate::session::{Conclusion, Sender, SenderInput, SenderOutput, SessionError};
use crate::store::StoreError;
use crate::store::source::SourceFile;
use crate::wire::message::{Held, Message};
use crate::wire::record::RecordHeader;

/// Sends `source` over `link` and closes the connection.
///
/// Not cancel-safe, but dropping it loses nothing at the receiver. `stop` ends it early with
/// the given code.
///
/// # Errors
/// When the connection is lost, or either side gives up. A source that fails on its own is
/// reported in the returned failures.
pub async fn send(
    link: Link,
    source: Arc<SourceFile>,
    progress: Arc<Progress>,
    stop: impl Future<Output = ErrorCode>,
) -> Result<Transferred, TransferError> {
    progress.on_session();
    let connection = link.connection;
    let control = ControlTasks::spawn(link.control_send, link.control_receive, link.greeting);
    let (events_tx, events) = mpsc::channel(EVENT_QUEUE);
    let mut driver = Driver {
        session: Sender::new(link.session),
        control,
        outbox: VecDeque::new(),
        events,
        events_tx,
        queue: Arc::new(WorkQueue::new()),
        source,
        lanes: JoinSet::new(),
        progress,
        failures: Vec::new(),
        root: None,
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
    }
    connection.close(reason);
    let Driver {
        failures,
        root,
        lane_count: lanes,
        ..
    } = driver;
    result.map(|conclusion| Transferred {
        conclusion,
        failures,
        root,
        lanes,
    })
}

struct Driver {
    session: Sender,
    control: ControlTasks,
    outbox: VecDeque<Message>,
    events: mpsc::Receiver<Event>,
    events_tx: mpsc::Sender<Event>,
    queue: Arc<WorkQueue<Work>>,
    source: Arc<SourceFile>,
    lanes: JoinSet<Result<(), LaneLost>>,
    progress: Arc<Progress>,
    failures: Vec<StoreError>,
    root: Option<Hash>,
    lane_count: u32,
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
                Some(event) = self.events.recv() => self.on_event(event),
                Some(lane) = new_lanes.recv() => {
                    self.lane_count += 1;
                    self.add_lane(lane);
                    continue;
                }
                Some(lane) = self.lanes.join_next() => match lane {
                    Ok(Ok(())) => continue,
                    // Its queue of blocks is lost with it: start anew from what is proven.
                    Ok(Err(LaneLost)) => return Err(self.lane_lost(connection).await),
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
            let result = self.session.handle(input);
            if result.is_err() {
                self.do_outputs()?;
            }
            result?;
        }
    }

    /// Over QUIC a lane is lost with its connection, which knows why.
    async fn lane_lost(&self, connection: &Connection) -> TransferError {
        match connection {
            Connection::Quic(_) => connection.closed().await,
            Connection::Tls { .. } => TransferError::Lost("a data connection broke".to_owned()),
        }
    }

    fn add_lane(&mut self, lane: Lane) {
        let (pieces, pieces_rx) = mpsc::channel(PIECE_QUEUE);
        let mut reader = LaneReader {
            source: Arc::clone(&self.source),
            pieces,
            events: self.events_tx.clone(),
            pool: BufferPool::new(PIECE_BYTES),
        };
        let queue = Arc::clone(&self.queue);
        tokio::task::spawn_blocking(move || {
            while let Some(work) = queue.pop() {
                if reader.work(work).is_none() {
                    return;
                }
            }
        });
        match lane {
            Lane::Quic(connection) => {
                fit_send_window(&connection);
                self.lanes.spawn(write_streams(connection, pieces_rx))
            }
            Lane::Tls(stream) => self.lanes.spawn(write_tcp(*stream, pieces_rx)),
        };
    }

    fn do_outputs(&mut self) -> Result<Option<Conclusion>, SessionError> {
        while let Some(output) = self.session.poll_output() {
            match output {
                SenderOutput::Send(message) => self.outbox.push_back(message),
                SenderOutput::ReadManifest => {
                    let entries = vec![self.source.entry()];
                    self.progress.on_offered(1, self.source.plan().size());
                    self.session.handle(SenderInput::Manifest {
                        entries,
                        last: true,
                    })?;
                }
                SenderOutput::CheckHeld(held) => self.queue.push(Work::Check(held)),
                SenderOutput::SendBlocks { entry, run } => self.queue_blocks(entry, run),
                SenderOutput::Seal { entry } => self.queue.push(Work::Seal { entry }),
                SenderOutput::Release { .. } => self.progress.on_entry_done(),
                SenderOutput::Close(conclusion) => return Ok(Some(conclusion)),
            }
        }
        Ok(None)
    }

    /// Cuts a run into pieces of work, so that lanes can share it.
    fn queue_blocks(&self, entry: u32, run: BlockRun) {
        let blocks = run.blocks();
        for first in blocks.clone().step_by(WORK_BLOCKS as usize) {
            let count = (blocks.end - first).min(WORK_BLOCKS);
            self.queue.push(Work::Send {
                entry,
                run: BlockRun { first, count },
            });
        }
    }

    fn on_event(&mut self, event: Event) -> SenderInput {
        match event {
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
                self.root = Some(root);
                SenderInput::Sealed { entry, root }
            }
            Event::Failed { entry, error } => {
                let code = error.code;
                self.failures.push(error);
                SenderInput::SourceFailed { entry, code }
            }
        }
    }
}

enum Work {
    Check(Held),
    Send { entry: u32, run: BlockRun },
    Seal { entry: u32 },
}

enum Event {
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
) -> Result<(), LaneLost> {
    let mut open: Option<quinn::SendStream> = None;
    while let Some(piece) = pieces.recv().await {
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

/// Writes pieces to a TCP connection. A record that cannot be completed ends it; so does the
/// receiver, who never says anything here, and whose end is a lane lost.
async fn write_tcp(
    mut stream: TlsStream,
    mut pieces: mpsc::Receiver<Piece>,
) -> Result<(), LaneLost> {
    loop {
        // Cancel-safe: a channel, and a read that nothing is expected from.
        let piece = tokio::select! {
            piece = pieces.recv() => piece,
            _ = stream.read_u8() => return Err(LaneLost),
        };
        match piece {
            Some(Piece::Bytes(bytes)) => stream.write_all(&bytes).await?,
            Some(Piece::Broken(_)) => return Ok(()),
            None => break,
        }
        if pieces.is_empty() {
            stream.flush().await?;
        }
    }
    stream.shutdown().await?;
    Ok(())
}

/// What a lane's thread hands to its stream.
enum Piece {
    Bytes(Bytes),
    /// The record that was being written cannot be completed.
    Broken(ErrorCode),
}

struct LaneReader {
    source: Arc<SourceFile>,
    pieces: mpsc::Sender<Piece>,
    events: mpsc::Sender<Event>,
    pool: BufferPool,
}

/// `None` once the other end of a channel is gone: the transfer is over.
type Open = Option<()>;

impl LaneReader {
    fn work(&mut self, work: Work) -> Open {
        let entry = match &work {
            Work::Check(held) => held.entry,
            Work::Send { entry, .. } | Work::Seal { entry } => *entry,
        };
        let done = match work {
            Work::Check(held) => self.check(&held),
            Work::Send { entry, run } => run
                .blocks()
                .try_for_each(|block| self.send_block(entry, block)),
            Work::Seal { entry } => self.seal(entry),
        };
        match done {
            Ok(()) => Some(()),
            Err(Stop::Over) => None,
            Err(Stop::Failed(error)) => self
                .events
                .blocking_send(Event::Failed { entry, error })
                .ok(),
        }
    }

    fn check(&mut self, held: &Held) -> Result<(), Stop> {
        let plan = self.source.plan();
        let blocks = held.first_block..held.first_block + held.hashes.len() as u64;
        let bytes = blocks.map(|block| plan.len(block)).sum();
        let mut buffer = self.pool.take();
        let agrees = self.source.check_held(held, &mut buffer)?;
        self.event(Event::HeldChecked {
            entry: held.entry,
            agrees,
            bytes,
        })
    }

    fn seal(&self, entry: u32) -> Result<(), Stop> {
        let root = self.source.seal()?;
        self.event(Event::Sealed { entry, root })
    }

    fn send_block(&mut self, entry: u32, block: u64) -> Result<(), Stop> {
        let plan = self.source.plan();
        let range = plan.range(block);
        let bytes = range.end - range.start;
        let header = RecordHeader {
            entry,
            offset: range.start,
            length: bytes,
        };
        self.piece(Bytes::copy_from_slice(&header.encode()))?;
        let mut hasher = BlockHasher::new(plan, block);
        for start in range.clone().step_by(PIECE_BYTES) {
            let length = (range.end - start).min(PIECE_BYTES as u64) as usize;
            let mut buffer = self.pool.take();
            if let Err(error) = self.source.read_exact_at(&mut buffer[..length], start) {
                self.send_piece(Piece::Broken(error.code))?;
                return Err(Stop::Failed(error));
            }
            hasher.update(&buffer[..length]);
            let piece = self.pool.share(buffer, length);
            self.piece(piece)?;
        }
        let hash = hasher.finish();
        self.source.put_hash(block, hash);
        self.piece(Bytes::copy_from_slice(&hash.0))?;
        self.event(Event::BlockSent { entry, bytes })
    }

    fn piece(&self, bytes: Bytes) -> Result<(), Stop> {
        self.send_piece(Piece::Bytes(bytes))
    }

    fn send_piece(&self, piece: Piece) -> Result<(), Stop> {
        self.pieces.blocking_send(piece).map_err(|_| Stop::Over)
    }

    fn event(&self, event: Event) -> Result<(), Stop> {
        self.events.blocking_send(event).map_err(|_| Stop::Over)
    }
}

enum Stop {
    Over,
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
const EVENT_QUEUE: usize = 64;

/// Blocks that a lane takes at a time.
const WORK_BLOCKS: u64 = 16;

/// Longest wait for the peer to take our last message.
const FAREWELL: Duration = Duration::from_secs(2);
