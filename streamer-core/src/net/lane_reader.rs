//! The sending end of one lane: takes work, reads the source, hashes, and makes records.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::blocks::BlockRun;
use crate::hash::{BlockHasher, Hash};
use crate::net::buffer::BufferPool;
use crate::net::lane_log::LaneLog;
use crate::net::limit::RateLimit;
use crate::net::link::Carrier;
use crate::net::outlet::{LaneLost, Outlet, Piece, Socket, write_streams};
use crate::net::queue::WorkQueue;
use crate::net::tcp::TlsStream;
use crate::store::StoreError;
use crate::store::leaving::Leaving;
use crate::store::source::{Source, SourceFile, read_whole};
use crate::store::walk::SourceTree;
use crate::wire::message::{Entry, EntryKind, Held};
use crate::wire::record::{HEADER_BYTES, RecordHeader, TRAILER_BYTES};

/// A file as it was offered. It is open only while it is being sent: an offer may hold
/// thousands.
pub(crate) struct OfferedFile {
    source: Source,
    entry: Arc<Entry>,
    file: Mutex<Option<Arc<SourceFile>>>,
    /// Of a small file, from when it was read.
    root: Mutex<Option<Hash>>,
    is_over: Leaving,
}

impl OfferedFile {
    pub(crate) fn new(source: Source, entry: Arc<Entry>) -> Self {
        Self {
            source,
            entry,
            file: Mutex::default(),
            root: Mutex::default(),
            is_over: Leaving::default(),
        }
    }

    /// Nobody waits for it any more: what is left to be done is not.
    pub(crate) fn end(&self) {
        self.is_over.set();
    }

    fn is_over(&self) -> bool {
        self.is_over.is_set()
    }

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

    pub(crate) fn root(&self) -> MutexGuard<'_, Option<Hash>> {
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

/// Something to do for a file.
pub(crate) struct Work {
    pub(crate) entry: u32,
    pub(crate) file: Arc<OfferedFile>,
    pub(crate) task: Task,
}

pub(crate) enum Task {
    /// Whether the source has these blocks too.
    Check(Held),
    Send(BlockRun),
    /// Whether the source is still what was offered, and its root.
    Seal,
}

/// What a lane tells the driver.
pub(crate) enum Event {
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

/// Sends over one lane until the queue closes.
///
/// Cancel safety: dropping it ends the lane; what it was about to send is in `log`.
///
/// # Errors
/// When the lane is lost.
pub(crate) async fn send_lane(
    carrier: Carrier,
    limit: Option<Arc<RateLimit>>,
    queue: Arc<WorkQueue<Work>>,
    events: mpsc::Sender<Event>,
    log: Arc<LaneLog>,
) -> Result<(), LaneLost> {
    match carrier {
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
    }
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
    let (stream, hang_up, hung_up) = stream.into_blocking()?;
    let mut socket = Box::new(Socket::new(stream, limit, hung_up));
    let thread = tokio::task::spawn_blocking(move || {
        socket.probe()?;
        LaneReader::new(Outlet::Socket(socket), events, log).run(&queue)
    });
    // Both are cancel-safe. The thread may be waiting for work and not look at its socket.
    tokio::select! {
        result = thread => result?,
        ended = hang_up.peer_ended() => Ok(ended?),
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
                    match queue.pop_unless(|| self.log.is_closed()) {
                        Some(work) => work,
                        None if self.log.is_closed() => return Err(Stop::Lost),
                        None => return Ok(()),
                    }
                }
            };
            self.work(work, queue)?;
            if self.is_lost {
                // What was begun is told as sent: the session counts it, and sends it anew.
                self.send_pack()?;
                return Err(Stop::Lost);
            }
        }
    }

    fn work(&mut self, work: Work, queue: &WorkQueue<Work>) -> Result<(), Stop> {
        let Work { entry, file, task } = work;
        let Task::Send(run) = task else {
            return match file.is_over() {
                true => Ok(()),
                false => self.look(entry, &file, task),
            };
        };
        for block in run.blocks().take_while(|_| !file.is_over()) {
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
                file.end();
                return self.event(Event::Failed { entry, error });
            }
            sent?;
        }
        if file.small().is_none() {
            // The end of a block that was told as sent does not wait for a slow disk.
            self.flush_outlet();
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
            // It may be why.
            Err(Stop::Failed(_)) if file.is_over() => Ok(()),
            Err(Stop::Failed(error)) => self.event(Event::Failed { entry, error }),
            done => done,
        }
    }

    fn look_at(&mut self, entry: u32, file: &OfferedFile, task: Task) -> Result<(), Stop> {
        self.send_pack()?;
        let source = file.open()?;
        match task {
            Task::Check(held) => self.check(&source, &held, &file.is_over),
            Task::Seal => {
                let root = source.seal(&file.is_over);
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

    fn check(&mut self, source: &SourceFile, held: &Held, leaving: &Leaving) -> Result<(), Stop> {
        let plan = source.plan();
        let blocks = held.first_block..held.first_block + held.hashes.len() as u64;
        let bytes = blocks.map(|block| plan.len(block)).sum();
        let mut buffer = self.pool.take();
        let agrees = source.check_held(held, &mut buffer, leaving)?;
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
                self.put(Piece::Broken);
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

/// Files that are read whole and sent many in a piece.
const SMALL_MAX_BYTES: u64 = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::RelPath;
    use crate::wire::message::Timestamp;

    #[test]
    fn of_a_file_that_is_over_nothing_more_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![1; 200_000]).unwrap();
        let source = Source::open(&path).unwrap();
        let Source::File(file) = &source else {
            panic!("a file")
        };
        let offered = Arc::new(OfferedFile::new(source.clone(), Arc::new(file.entry())));
        let (pieces, mut sent) = mpsc::channel(10);
        let (events, _told) = mpsc::channel(10);
        let log = Arc::new(LaneLog::new());
        let mut reader = LaneReader::new(Outlet::Stream(pieces), events, log);
        let mut send = || {
            let work = Work {
                entry: 0,
                file: Arc::clone(&offered),
                task: Task::Send(BlockRun { first: 0, count: 1 }),
            };
            assert!(reader.work(work, &WorkQueue::new()).is_ok());
            std::iter::from_fn(|| sent.try_recv().ok()).count()
        };
        // Header, bytes, hash.
        assert_eq!(send(), 3);
        offered.end();
        assert_eq!(send(), 0);
    }

    /// Whoever counts what was sent would wait for it for ever.
    #[test]
    fn a_lane_that_breaks_tells_of_every_small_file_that_it_had_begun() {
        let dir = tempfile::tempdir().unwrap();
        let size = SMALL_MAX_BYTES - 100;
        let modified = Timestamp {
            seconds: 5,
            nanos: 0,
        };
        let source = Source::Tree(Arc::new(SourceTree::open(dir.path()).unwrap()));
        let queue = WorkQueue::new();
        for number in 0..4u32 {
            let path = dir.path().join(number.to_string());
            let file = std::fs::File::create(path).unwrap();
            file.set_len(size).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(5);
            file.set_modified(time).unwrap();
            let entry = Entry {
                path: RelPath::try_from(number.to_string().into_bytes()).unwrap(),
                kind: EntryKind::File { size },
                mode: 0o600,
                modified,
                has_holes: false,
            };
            queue.push(Work {
                entry: number,
                file: Arc::new(OfferedFile::new(source.clone(), Arc::new(entry))),
                task: Task::Send(BlockRun { first: 0, count: 1 }),
            });
        }
        // Nobody takes what the lane sends.
        let (pieces, _) = mpsc::channel(1);
        let (events, mut told) = mpsc::channel(10);
        let log = Arc::new(LaneLog::new());
        let reader = LaneReader::new(Outlet::Stream(pieces), events, Arc::clone(&log));
        assert!(reader.run(&queue).is_err());
        let mut sent = Vec::new();
        while let Ok(event) = told.try_recv() {
            let Event::SmallSent(files) = event else {
                panic!("of small files only")
            };
            sent.extend(files.into_iter().map(|(entry, ..)| entry));
        }
        let begun: Vec<u32> = log.close().iter().map(|run| run.entry).collect();
        assert_eq!(sent, begun);
        assert!(begun.len() < 4 && begun.len() > 1, "{begun:?}");
    }
}
