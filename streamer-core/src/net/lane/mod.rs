//! The receiving end of one data stream: records in, proven blocks out.
//!
//! The stream's task copies packets into large buffers; a thread hashes and writes them.
//! Buffers go round between the two: while none is free, the stream is not read, and flow
//! control slows the sender.

mod block_writer;
mod record_stream;
mod sink;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::block_writer::{Pack, Step, Writer};
use self::record_stream::{End, RecordStream};
use self::sink::Sink;
use crate::error::{ErrorCode, ProtocolError};
use crate::hash::Hash;
use crate::net::blocking_tls::PEEK_BYTES;
use crate::net::keeper::{During, OpenFile, OpenFiles};
use crate::net::limit::RateLimit;
use crate::net::link::Carrier;
use crate::net::stall::Arrivals;
use crate::net::tcp::TlsStream;
use crate::session::Preparation;
use crate::store::StoreError;
use crate::wire::record::{HEADER_BYTES, TRAILER_BYTES};

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
                        let stream = RecordStream::quic(stream, Arc::clone(&inlet.arrivals));
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
    stream.count(Arc::clone(&inlet.arrivals));
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

/// Hashes and writes until the queue closes, or what is in it is for the next session.
fn write_all(mut full: mpsc::Receiver<Step>, empty: &mpsc::Sender<Vec<u8>>, inlet: &Inlet) {
    let mut writer = Writer::default();
    while let Some(step) = full.blocking_recv().filter(|_| !inlet.open.is_closed()) {
        let (used, event) = inlet.arrivals.during(|| writer.take(step));
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
    let open = &inlet.open;
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
                stream.skip(header.rest()).await?;
                continue;
            }
        };
        pack.hand_over(sink, inlet).await?;
        let Some(block) = file.plan().block_at(header.offset, header.length) else {
            return Err(End::Misbehaved("sent what is no block of the file"));
        };
        if !file.wants(block) {
            // A repetition must not touch what is proven.
            stream.skip(header.rest()).await?;
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

/// Hashed and written at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// Longest wait for what the sender says first, of the size of the largest packet that it will send. A
/// path that loses it loses all of them, and tells nobody.
const FIRST_RECORD: Duration = Duration::from_secs(10);

const _: () = assert!(BUFFER_BYTES <= PEEK_BYTES, "it is looked at in one piece");

/// Buffers of one stream: 2 MiB in all.
const BUFFERS: usize = 8;

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Condvar, Mutex};

    use super::*;
    use crate::store::partial::PartialFile;

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
