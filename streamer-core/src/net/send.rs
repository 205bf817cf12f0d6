//! Drives a [`Sender`]: reads the source on a thread of its own, writes records.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::blocks::BlockRun;
use crate::error::ErrorCode;
use crate::hash::{BlockHasher, Hash};
use crate::net::buffer::BufferPool;
use crate::net::link::{ControlTasks, Link, closed, lost, reserve};
use crate::net::progress::Progress;
use crate::net::queue::WorkQueue;
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
    let connection = link.connection.clone();
    let control = ControlTasks::spawn(link.control_send, link.control_receive, link.greeting);
    let queue = Arc::new(WorkQueue::new());
    let (events_tx, events) = mpsc::channel(EVENT_QUEUE);
    let lane = spawn_lane(
        &connection,
        Arc::clone(&queue),
        Arc::clone(&source),
        events_tx,
    );
    let mut driver = Driver {
        session: Sender::new(link.session),
        control,
        outbox: VecDeque::new(),
        events,
        queue,
        source,
        progress,
        failures: Vec::new(),
        root: None,
    };
    let result = driver.run(&connection, lane, stop).await;
    driver.queue.close();
    let code = match &result {
        Ok(_) => 0,
        Err(error) => error.code().map_or(0, ErrorCode::number),
    };
    let farewell = std::mem::take(&mut driver.outbox);
    let drained = driver.control.drain(farewell);
    // Bounded: the peer may be gone.
    let _ = tokio::time::timeout(FAREWELL, async {
        if result.is_err() {
            drained.await;
        }
    })
    .await;
    tracing::debug!(stats = ?connection.stats(), "session over");
    connection.close(quinn::VarInt::from(u32::from(code)), &[]);
    let (failures, root) = (driver.failures, driver.root);
    result.map(|conclusion| Transferred {
        conclusion,
        failures,
        root,
    })
}

struct Driver {
    session: Sender,
    control: ControlTasks,
    outbox: VecDeque<Message>,
    events: mpsc::Receiver<Event>,
    queue: Arc<WorkQueue<Work>>,
    source: Arc<SourceFile>,
    progress: Arc<Progress>,
    failures: Vec<StoreError>,
    root: Option<Hash>,
}

impl Driver {
    async fn run(
        &mut self,
        connection: &quinn::Connection,
        lane: impl Future<Output = Result<(), quinn::WriteError>>,
        stop: impl Future<Output = ErrorCode>,
    ) -> Result<Conclusion, TransferError> {
        tokio::pin!(stop, lane);
        let outgoing = self.control.outgoing();
        let mut lane_running = true;
        loop {
            if let Some(conclusion) = self.do_outputs()? {
                return Ok(conclusion);
            }
            // Each arm is cancel-safe: channels, a reservation, and futures that are kept.
            let input = tokio::select! {
                permit = reserve(outgoing.as_ref()), if !self.outbox.is_empty() => {
                    let (Some(permit), Some(message)) = (permit, self.outbox.pop_front()) else {
                        return Err(closed(&connection.closed().await));
                    };
                    permit.send(message);
                    continue;
                }
                message = self.control.incoming.recv() => match message {
                    Some(Ok(message)) => SenderInput::Message(message),
                    Some(Err(error)) => return Err(lost(connection, error)),
                    None => return Err(TransferError::Lost("the control stream ended".into())),
                },
                Some(event) = self.events.recv() => self.on_event(event),
                result = &mut lane, if lane_running => {
                    if result.is_err() {
                        return Err(closed(&connection.closed().await));
                    }
                    lane_running = false;
                    continue;
                }
                code = &mut stop => SenderInput::Stop(code),
            };
            let result = self.session.handle(input);
            if result.is_err() {
                self.do_outputs()?;
            }
            result?;
        }
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

/// A lane is a thread that reads and hashes, and a future that writes to one data stream.
fn spawn_lane(
    connection: &quinn::Connection,
    queue: Arc<WorkQueue<Work>>,
    source: Arc<SourceFile>,
    events: mpsc::Sender<Event>,
) -> impl Future<Output = Result<(), quinn::WriteError>> + use<> {
    let (pieces, pieces_rx) = mpsc::channel(PIECE_QUEUE);
    tokio::task::spawn_blocking(move || {
        let mut reader = LaneReader {
            source,
            pieces,
            events,
            pool: BufferPool::new(PIECE_BYTES),
        };
        while let Some(work) = queue.pop() {
            if reader.work(work).is_none() {
                return;
            }
        }
    });
    write_pieces(connection.clone(), pieces_rx)
}

async fn write_pieces(
    connection: quinn::Connection,
    mut pieces: mpsc::Receiver<Piece>,
) -> Result<(), quinn::WriteError> {
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
                    let _ = stream.reset(quinn::VarInt::from(u32::from(code.number())));
                }
            }
        }
    }
    if let Some(mut stream) = open {
        let _ = stream.finish();
    }
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
