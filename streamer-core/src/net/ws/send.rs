//! Sends a file over a WebSocket.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::error::ErrorCode;
use crate::hash::Hash;
use crate::limits::WEBSOCKET_CHUNK_BYTES;
use crate::net::buffer::BufferPool;
use crate::net::progress::Progress;
use crate::net::ws::in_order::InOrderHasher;
use crate::net::ws::{
    Failure, Hear, MESSAGE_QUEUE, PlainLink, Say, broken, conclude, hear, input, leave,
};
use crate::net::{TransferError, Transferred};
use crate::session::stall::ANYTHING;
use crate::session::{Conclusion, SessionError};
use crate::store::StoreError;
use crate::store::leaving::Leaving;
use crate::store::source::{Pinned, SourceFile};
use crate::websocket::message::{Eof, Init};
use crate::websocket::{Ending, Sender};
use crate::wire::message::{Receipt, Role};

/// The file that is sent, as it is now, and the link; the peer is told when there is none. `stop` ends the
/// wait for a file system that hangs. Not cancel-safe.
///
/// # Errors
/// When the source is no file, or cannot be read any more; when it was to stop.
pub async fn open(
    link: PlainLink,
    source: &Pinned,
    stop: impl Future<Output = ErrorCode>,
) -> Result<(PlainLink, Arc<SourceFile>), TransferError> {
    let source = source.clone();
    let opening = spawn_blocking(move || source.of(None)?.one_file());
    let opened: Result<_, TransferError> = tokio::select! {
        opened = opening => match opened {
            Ok(opened) => opened.map_err(TransferError::from),
            Err(error) => resume_unwind(error.into_panic()),
        },
        code = stop => Err(SessionError::Ours(code).into()),
    };
    match opened {
        Ok(file) => Ok((link, file)),
        Err(error) => {
            let code = error.code().unwrap_or(ErrorCode::Internal);
            link.refuse(code, Role::Sender).await;
            Err(error)
        }
    }
}

/// Sends `source`, which is at `path`, over `link`, and waits until the peer closes.
///
/// The protocol knows no receipt: that the peer closed without an error after the end of the
/// file is all that is known. Not cancel-safe. `stop` ends it early with the given code.
///
/// # Errors
/// When the peer is lost, or either side gives up for a reason other than the file. What is
/// about the file is reported in the returned failures.
pub async fn send(
    link: PlainLink,
    source: Arc<SourceFile>,
    path: &Path,
    progress: Arc<Progress>,
    stop: impl Future<Output = ErrorCode>,
) -> Result<Transferred, TransferError> {
    progress.on_session();
    let size = source.plan().size();
    progress.on_offered(1, size);
    let path: PathBuf = path.to_owned();
    let (mut say, mut from) = link.socket.split();
    let reader = Reader::spawn(source);
    let result = tokio::select! {
        result = run(&mut say, &mut from, reader, size, &progress) => result,
        code = stop => Err(Ending::Ours(code).into()),
    };
    if result.is_ok() {
        progress.on_entry_done();
    }
    let why = result.as_ref().err().and_then(Failure::farewell);
    leave(&mut say, &mut from, why.map(|code| (code, Role::Sender))).await;
    conclude(result, &path, "send")
}

/// Speaks and listens at the same time: a peer that gives up says so while it is spoken to.
async fn run(
    say: &mut Say,
    from: &mut Hear,
    reader: Reader,
    size: u64,
    progress: &Progress,
) -> Result<Transferred, Failure> {
    let mut machine = Sender::default();
    let (mut root, mut deadline) = (None, Instant::now());
    let speaking = speak(say, reader, size, progress);
    tokio::pin!(speaking);
    loop {
        // `speaking` is kept across turns, and hearing is cancel-safe.
        let message = tokio::select! {
            spoken = &mut speaking, if root.is_none() => match spoken {
                Ok(whole) => {
                    root = Some(whole);
                    deadline = Instant::now() + ANYTHING;
                    machine.on_all_said();
                    continue;
                }
                Err(Failure::Ended(Ending::Lost)) => {
                    // What the peer said before it left may still be there to be heard.
                    let message = hear(from).await?;
                    machine.handle(input(&message))?;
                    return Err(Ending::Lost.into());
                }
                Err(failure) => return Err(failure),
            },
            message = hear(from) => message?,
            () = sleep_until(deadline), if root.is_some() => {
                return Err(Ending::Ours(ErrorCode::TimedOut).into());
            }
        };
        if machine.handle(input(&message))? {
            return Ok(Transferred {
                conclusion: Conclusion {
                    receipt: Receipt {
                        entries: 1,
                        failed: 0,
                        bytes: size,
                    },
                    failures: Vec::new(),
                },
                failures: Vec::new(),
                root,
                tree: None,
                lanes: 1,
                is_settled: true,
            });
        }
    }
}

/// Says all there is to say. Returns the root of the file.
async fn speak(
    say: &mut Say,
    reader: Reader,
    size: u64,
    progress: &Progress,
) -> Result<Hash, Failure> {
    let Reader {
        mut pieces,
        thread,
        leaving: _leaving,
    } = reader;
    let init = Init { file_bytes: size }.encode().into_bytes();
    tell(say, Message::binary(init)).await?;
    while let Some(piece) = pieces.recv().await {
        let length = piece.len() as u64;
        tell(say, Message::Binary(piece)).await?;
        progress.on_moved(length);
    }
    let (sha256, root) = thread.await.map_err(broken)??;
    // As text: the Python receiver takes a binary one for data.
    tell(say, Message::text(Eof { sha256 }.encode())).await?;
    Ok(root)
}

async fn tell(say: &mut Say, message: Message) -> Result<(), Failure> {
    say.send(message).await.map_err(|error| {
        tracing::debug!(%error, "the peer takes no more");
        Ending::Lost.into()
    })
}

/// The thread that reads and hashes.
struct Reader {
    pieces: mpsc::Receiver<Bytes>,
    thread: JoinHandle<Result<([u8; 32], Hash), StoreError>>,
    leaving: EndsWithIt,
}

/// Dropped, nobody waits for the reader any more.
#[derive(Default)]
struct EndsWithIt(Leaving);

impl Drop for EndsWithIt {
    fn drop(&mut self) {
        self.0.set();
    }
}

impl Reader {
    fn spawn(source: Arc<SourceFile>) -> Self {
        let (queue, pieces) = mpsc::channel(MESSAGE_QUEUE);
        let ends = EndsWithIt::default();
        let leaving = ends.0.clone();
        let thread = spawn_blocking(move || {
            let plan = source.plan();
            let mut hasher = InOrderHasher::new(plan);
            let mut pool = BufferPool::new(WEBSOCKET_CHUNK_BYTES);
            for start in (0..plan.size()).step_by(WEBSOCKET_CHUNK_BYTES) {
                let length = (plan.size() - start).min(WEBSOCKET_CHUNK_BYTES as u64) as usize;
                let mut buffer = pool.take();
                source.read_exact_at(&mut buffer[..length], start)?;
                hasher.update(&buffer[..length]);
                if queue.blocking_send(pool.share(buffer, length)).is_err() {
                    // Nobody listens any more, nor to what is returned here.
                    break;
                }
            }
            let (sha256, hashes) = hasher.finish();
            for (block, hash) in (0..).zip(hashes) {
                source.put_hash(block, hash);
            }
            Ok((sha256, source.seal(&leaving)?))
        });
        Self {
            pieces,
            thread,
            leaving: ends,
        }
    }
}
