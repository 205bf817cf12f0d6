//! What hashes and writes what arrives.

use std::sync::Arc;

use super::record_stream::{End, RecordStream};
use super::sink::Sink;
use super::{BUFFER_BYTES, Event, Inlet};
use crate::hash::{BlockHasher, Hash};
use crate::net::keeper::During;
use crate::store::StoreError;
use crate::store::partial::PartialFile;
use crate::store::small::SmallFile;
use crate::wire::record::{RecordHeader, TRAILER_BYTES};

pub(super) enum Step {
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
pub(super) struct Pack {
    buffer: Vec<u8>,
    files: Vec<(u32, Arc<SmallFile>)>,
}

impl Pack {
    /// Takes in the record that `header` begins.
    pub(super) async fn add(
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
            sink.pass(inlet, payload).await?;
            stream.extend(&mut self.buffer, piece).await?;
            left -= piece;
        }
        self.files.push((header.entry, file));
        Ok(())
    }

    pub(super) async fn hand_over(&mut self, sink: &mut Sink, inlet: &Inlet) -> Result<(), End> {
        if self.files.is_empty() {
            return Ok(());
        }
        inlet.arrivals.on_filled();
        sink.put(Step::Pack(std::mem::take(self)), inlet).await
    }

    /// Hashes and writes each file. Returns the buffer, and what to tell.
    pub(super) fn write(self) -> (Vec<u8>, Event) {
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

/// What turns steps into files.
#[derive(Default)]
pub(super) struct Writer {
    current: Option<Block>,
}

impl Writer {
    /// Hashes and writes. The buffer that came with the step, and what to tell the driver.
    pub(super) fn take(&mut self, step: Step) -> (Option<Vec<u8>>, Option<Event>) {
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
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) -> Option<Event> {
        self.current.as_mut()?.take(bytes, offset)
    }
}

/// A block that is arriving.
pub(super) struct Block {
    entry: u32,
    block: u64,
    file: Arc<PartialFile>,
    hasher: BlockHasher,
    failed: bool,
}

impl Block {
    /// What to tell, when it fails.
    pub(super) fn take(&mut self, bytes: &[u8], offset: u64) -> Option<Event> {
        if self.failed {
            return None;
        }
        // Both have to be done: what need not wait for another lane comes first.
        let hashes_first = self.file.is_being_written();
        if hashes_first {
            self.hasher.update(bytes);
        }
        #[cfg(test)]
        super::tests::before_write(&self.file);
        let written = self.file.write_all_at(bytes, offset);
        if !hashes_first {
            self.hasher.update(bytes);
        }
        self.check(written)
    }

    pub(super) fn clear(&mut self) -> Option<Event> {
        let range = self.file.plan().range(self.block);
        self.hasher.update_zeros(range.end - range.start);
        let written = self.file.clear(range);
        self.check(written)
    }

    pub(super) fn check(&mut self, written: Result<(), StoreError>) -> Option<Event> {
        let error = written.err()?;
        self.failed = true;
        Some(Event::Failed {
            entry: self.entry,
            during: During::Write,
            error,
        })
    }

    /// What to tell about it; nothing when its failure was told.
    pub(super) fn end(self, announced: Hash) -> Option<Event> {
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
