//! Receives a file over a WebSocket.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::error::ErrorCode;
use crate::hash::{Hash, root_of};
use crate::net::progress::Progress;
use crate::net::receive::hopeless;
use crate::net::stop::Stopper;
use crate::net::ws::in_order::InOrderHasher;
use crate::net::ws::{
    Failure, Hear, INIT_TIMEOUT, MESSAGE_QUEUE, PlainLink, broken, conclude, hear, input, leave,
};
use crate::net::{TransferError, Transferred};
use crate::path::RelPath;
use crate::session::stall::ANYTHING;
use crate::session::{Conclusion, ReceiverConfig};
use crate::store::StoreError;
use crate::store::leaving::Leaving;
use crate::store::partial::PartialFile;
use crate::store::target::{Prepared, Target};
use crate::store::umask::new_file_mode;
use crate::websocket::{Ending, Receiver, Step};
use crate::wire::message::{Entry, EntryKind, Receipt, Role, Timestamp};

/// Receives one file over `link` into `target`, and closes.
///
/// The file gets its name when its size is the announced one and its SHA-256 the sender's;
/// until then nothing is worth keeping, since this protocol cannot resume. Not cancel-safe:
/// dropped, it may leave an empty partial. `stop` ends it early with the given code.
///
/// # Errors
/// When the peer is lost, or either side gives up for a reason other than the file. What is
/// about the file is reported in the returned failures.
pub async fn receive(
    link: PlainLink,
    target: Target,
    config: ReceiverConfig,
    progress: Arc<Progress>,
    stop: impl Future<Output = ErrorCode>,
) -> Result<Transferred, TransferError> {
    progress.on_session();
    let path = target.path().to_owned();
    let (mut say, mut from) = link.socket.split();
    let mut receiving = Receiving {
        machine: Receiver::new(config.inbound_limit_bytes),
        target,
        progress,
        writer: None,
    };
    let mut stop = Stopper::new(stop);
    let result = tokio::select! {
        result = receiving.run(&mut from) => result,
        code = stop.asked() => Err(Ending::Ours(code).into()),
    };
    // Only whoever asks to stop does not wait for a disk that hangs: the next client would find the
    // file locked, or written to.
    tokio::select! {
        () = receiving.put_away() => {}
        () = hopeless(&mut stop) => tracing::warn!("the file system does not answer; a partial is left"),
    }
    let why = result.as_ref().err().and_then(Failure::farewell);
    leave(&mut say, &mut from, why.map(|code| (code, Role::Receiver))).await;
    conclude(result, &path, "accept")
}

struct Receiving {
    machine: Receiver,
    target: Target,
    progress: Arc<Progress>,
    writer: Option<Writer>,
}

impl Receiving {
    async fn run(&mut self, from: &mut Hear) -> Result<Transferred, Failure> {
        loop {
            let message = if self.machine.expects_init() {
                // A client that receives too waits as we do.
                let silent = |_| Ending::Ours(ErrorCode::WrongDirection);
                timeout(INIT_TIMEOUT, hear(from)).await.map_err(silent)??
            } else {
                // A client that was stopped keeps its connection, and others out.
                let silent = |_| Ending::Ours(ErrorCode::TimedOut);
                timeout(ANYTHING, hear(from)).await.map_err(silent)??
            };
            match self.machine.handle(input(&message))? {
                Step::Create { file_bytes } => {
                    if let Some(kept) = self.create(file_bytes).await? {
                        return Ok(kept);
                    }
                }
                Step::Write => self.write(message).await?,
                Step::Verify { sha256 } => return self.finish(sha256).await,
            }
        }
    }

    /// Makes the partial, or finds that the target is to be kept.
    async fn create(&mut self, file_bytes: u64) -> Result<Option<Transferred>, Failure> {
        let target = self.target.clone();
        let prepared =
            spawn_blocking(move || target.prepare(&entry_of(file_bytes), &Leaving::default()));
        self.progress.on_offered(1, file_bytes);
        match prepared.await.map_err(broken)?? {
            Prepared::File(file, _) => {
                self.writer = Some(Writer::spawn(file, Arc::clone(&self.progress)));
                Ok(None)
            }
            Prepared::Present => Ok(Some(transferred(file_bytes, None))),
        }
    }

    async fn write(&mut self, message: Message) -> Result<(), Failure> {
        let bytes = message.into_data();
        let pieces = self
            .writer
            .as_ref()
            .and_then(|writer| writer.pieces.as_ref());
        match pieces {
            Some(pieces) if pieces.send(bytes).await.is_ok() => Ok(()),
            _ => match self.written().await {
                Err(error) => Err(error),
                // Local invariant: a writer leaves early for an error only.
                Ok(_) => Err(broken(())),
            },
        }
    }

    async fn finish(&mut self, sha256: [u8; 32]) -> Result<Transferred, Failure> {
        let Written {
            file,
            sha256: ours,
            hashes,
        } = self.written().await?;
        if ours != sha256 {
            discard(file).await;
            return Err(Ending::Ours(ErrorCode::HashMismatch).into());
        }
        let size = file.plan().size();
        let root = spawn_blocking(move || name(&file, &hashes))
            .await
            .map_err(broken)??;
        self.progress.on_entry_done();
        Ok(transferred(size, Some(root)))
    }

    /// What the writer has done, once it has done all.
    async fn written(&mut self) -> Result<Written, Failure> {
        let Some(writer) = &mut self.writer else {
            return Err(broken(()));
        };
        writer.pieces = None;
        // It stays until the thread has ended: whoever stops this meanwhile puts its file away.
        let ended = (&mut writer.thread).await;
        self.writer = None;
        let (file, result) = ended.map_err(broken)?;
        match result {
            Ok((sha256, hashes)) => Ok(Written {
                file,
                sha256,
                hashes,
            }),
            Err(error) => {
                discard(file).await;
                Err(error.into())
            }
        }
    }

    /// Removes what was written of a file that did not arrive.
    async fn put_away(&mut self) {
        if let Some(Writer { pieces, thread }) = self.writer.take() {
            drop(pieces);
            if let Ok((file, _)) = thread.await {
                discard(file).await;
            }
        }
    }
}

/// The sender tells nothing but the size: mode and time are those of a new file.
fn entry_of(size: u64) -> Entry {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Entry {
        path: RelPath::root(),
        kind: EntryKind::File { size },
        mode: new_file_mode(),
        modified: Timestamp {
            seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            nanos: now.subsec_nanos(),
        },
        has_holes: false,
    }
}

/// All of a file.
struct Written {
    file: Arc<PartialFile>,
    sha256: [u8; 32],
    hashes: Vec<Hash>,
}

type Hashes = ([u8; 32], Vec<Hash>);

/// The thread that hashes and writes.
struct Writer {
    /// `None` once all were given to it.
    pieces: Option<mpsc::Sender<Bytes>>,
    thread: JoinHandle<(Arc<PartialFile>, Result<Hashes, StoreError>)>,
}

impl Writer {
    fn spawn(file: Arc<PartialFile>, progress: Arc<Progress>) -> Self {
        let (pieces, mut queue) = mpsc::channel::<Bytes>(MESSAGE_QUEUE);
        let thread = spawn_blocking(move || {
            let mut hasher = InOrderHasher::new(file.plan());
            let mut offset = 0;
            while let Some(bytes) = queue.blocking_recv() {
                hasher.update(&bytes);
                if let Err(error) = file.write_all_at(&bytes, offset) {
                    return (file, Err(error));
                }
                offset += bytes.len() as u64;
                progress.on_moved(bytes.len() as u64);
            }
            (file, Ok(hasher.finish()))
        });
        Self {
            pieces: Some(pieces),
            thread,
        }
    }
}

/// Gives the file its name. When that fails before it has it, nothing is left of it.
fn name(file: &PartialFile, hashes: &[Hash]) -> Result<Hash, StoreError> {
    let root = root_of(hashes);
    // Nothing for the journal: whoever sends it again is another source to it.
    file.put_hashes(hashes);
    file.finish(root).inspect_err(|_| file.discard())?;
    // There is no receipt in this protocol.
    file.settle()?;
    Ok(root)
}

async fn discard(file: Arc<PartialFile>) {
    // Nothing is proven before everything is, so there is nothing to resume from.
    let _ = spawn_blocking(move || file.discard_if_useless()).await;
}

fn transferred(bytes: u64, root: Option<Hash>) -> Transferred {
    let receipt = Receipt {
        entries: 1,
        failed: 0,
        bytes,
    };
    Transferred {
        conclusion: Conclusion {
            receipt,
            failures: Vec::new(),
        },
        failures: Vec::new(),
        root,
        tree: None,
        lanes: 1,
        is_settled: true,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::limits::BLOCK_MIN_BYTES;
    use crate::store::target::TargetPolicy;

    const SIZE: u64 = BLOCK_MIN_BYTES + 5;

    /// A file of zeros that is all there but for its name.
    fn written(path: &Path) -> Arc<PartialFile> {
        let target = Target::new(path, TargetPolicy::default());
        let prepared = target.prepare(&entry_of(SIZE), &Leaving::default());
        let Ok(Prepared::File(file, _)) = prepared else {
            panic!("not prepared")
        };
        file.write_all_at(&[0; SIZE as usize], 0).unwrap();
        file
    }

    fn hashes(file: &PartialFile) -> Vec<Hash> {
        let mut hasher = InOrderHasher::new(file.plan());
        hasher.update(&[0; SIZE as usize]);
        hasher.finish().1
    }

    #[test]
    fn whoever_sends_a_file_again_whose_name_could_not_be_given_is_not_taken_for_another_source() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        let names = || std::fs::read_dir(dir.path()).unwrap().count();
        let file = written(&path);
        std::fs::write(&path, "taken").unwrap();
        let error = name(&file, &hashes(&file)).unwrap_err();
        assert_eq!((error.code, names()), (ErrorCode::TargetExists, 1));
        std::fs::remove_file(&path).unwrap();
        // Killed before it could remove anything.
        let file = written(&path);
        file.put_hashes(&hashes(&file));
        drop(file);
        assert_eq!(names(), 2);
        let file = written(&path);
        name(&file, &hashes(&file)).unwrap();
        assert_eq!(names(), 1);
    }
}
