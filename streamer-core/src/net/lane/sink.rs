//! What takes bytes from a stream of records to the writer.

use tokio::sync::mpsc;

use super::block_writer::{Step, Writer};
use super::record_stream::{End, RecordStream};
use super::{Event, Inlet};
use crate::net::blocking_tls::HungUp;
use crate::net::keeper::OpenFiles;

/// What hashes and writes.
pub(super) enum Sink {
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
    pub(super) async fn pass(&mut self, inlet: &Inlet, bytes: usize) -> Result<(), End> {
        let hung_up = match self {
            Self::Thread { .. } => None,
            Self::Here { hung_up, .. } => Some(hung_up),
        };
        pass(inlet, hung_up, bytes).await
    }

    /// Waits until the first entry is found. A thread's socket does not wake it while it waits
    /// here.
    pub(super) async fn until_first_found(&mut self, open: &OpenFiles) -> Result<(), End> {
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

    pub(super) async fn buffer(&mut self) -> Result<Vec<u8>, End> {
        match self {
            Self::Thread { empty, .. } => empty.recv().await.ok_or(End::Broken),
            Self::Here { buffer, .. } => Ok(std::mem::take(buffer)),
        }
    }

    /// Takes the next `length` bytes of a block, which belong to `offset` of its file.
    pub(super) async fn take(
        &mut self,
        stream: &mut RecordStream,
        length: usize,
        offset: u64,
        inlet: &Inlet,
    ) -> Result<(), End> {
        let arrivals = &inlet.arrivals;
        match (stream, &mut *self) {
            (
                RecordStream::Tls(stream),
                Self::Here {
                    writer, hung_up, ..
                },
            ) => {
                stream.peek(length).map_err(|_| End::Broken)?;
                pass(inlet, Some(hung_up), length).await?;
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
                self.pass(inlet, length).await?;
                arrivals.on_filled();
                self.put(Step::Bytes { buffer, offset }, inlet).await
            }
        }
    }

    pub(super) async fn put(&mut self, step: Step, inlet: &Inlet) -> Result<(), End> {
        match self {
            Self::Thread { full, .. } => full.send(step).await.map_err(|_| End::Broken),
            Self::Here { writer, buffer, .. } => {
                let (used, event) = inlet.arrivals.during(|| writer.take(step));
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
pub(super) async fn pass(
    inlet: &Inlet,
    hung_up: Option<&mut HungUp>,
    bytes: usize,
) -> Result<(), End> {
    let Some(limit) = &inlet.limit else {
        return Ok(());
    };
    match hung_up {
        None => limit.pass(bytes).await,
        // Only here: events have to be told.
        Some(hung_up) => tokio::select! {
            biased;
            _ = hung_up => return Err(End::Broken),
            () = limit.pass(bytes) => {}
        },
    }
    // Much may have come at once, of which a low limit takes its time.
    inlet.arrivals.on_bytes(bytes);
    Ok(())
}

pub(super) async fn tell(event: Option<Event>, inlet: &Inlet) -> Result<(), End> {
    match event {
        Some(event) => inlet.events.send(event).await.map_err(|_| End::Broken),
        None => Ok(()),
    }
}
