//! The messages of the control stream (`docs/PROTOCOL.md#messages`).

use serde::{Deserialize, Serialize};

use crate::blocks::{BlockPlan, BlockRun};
use crate::error::{ErrorCode, ProtocolError};
use crate::hash::Hash;
use crate::limits;
use crate::path::RelPath;

/// Everything that is said on the control stream.
///
/// The order of the variants is the wire format: new ones go to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Both, first: who I am and what I do.
    Hello(Hello),
    /// Sender: the next entries of the manifest.
    Offer(Offer),
    /// Receiver: blocks of an entry that a partial already holds, before its verdict.
    Held(Held),
    /// Receiver: what to do with entries.
    Answer(Answer),
    /// Receiver: a block arrived damaged; send it again.
    Again(Again),
    /// Sender: every block of these entries has been sent, and these are their roots.
    Complete(Complete),
    /// Sender: an entry cannot be sent after all.
    Failed(EntryFailure),
    /// Receiver: entries that have their final name, or have failed.
    Done(Done),
    /// Sender: nothing more will be offered or sent.
    Finish(Finish),
    /// Receiver: everything is verified and durable.
    Receipt(Receipt),
    /// Either: I give up, and why.
    Abort(Abort),
    /// Sender: a lane is lost, and these blocks were given to it.
    LaneLost(LaneBlocks),
    /// Receiver: the lane is dropped, and these of its blocks did not arrive.
    Missing(LaneBlocks),
}

impl Message {
    /// The name used in errors and documentation.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::Offer(_) => "Offer",
            Self::Held(_) => "Held",
            Self::Answer(_) => "Answer",
            Self::Again(_) => "Again",
            Self::Complete(_) => "Complete",
            Self::Failed(_) => "Failed",
            Self::Done(_) => "Done",
            Self::Finish(_) => "Finish",
            Self::Receipt(_) => "Receipt",
            Self::Abort(_) => "Abort",
            Self::LaneLost(_) => "LaneLost",
            Self::Missing(_) => "Missing",
        }
    }

    /// About what it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        let lists = match self {
            Self::Offer(offer) => offer.entries.iter().map(Entry::memory_bytes).sum(),
            Self::Held(held) => size_of_val(&*held.hashes),
            Self::Answer(answer) => size_of_val(&*answer.verdicts),
            Self::Complete(complete) => size_of_val(&*complete.roots),
            Self::Done(done) => size_of_val(&*done.outcomes),
            Self::LaneLost(blocks) | Self::Missing(blocks) => size_of_val(&*blocks.runs),
            // Once in a session.
            Self::Hello(_) => 0,
            Self::Again(_)
            | Self::Failed(_)
            | Self::Finish(_)
            | Self::Receipt(_)
            | Self::Abort(_) => 0,
        };
        size_of::<Self>() + lists
    }

    /// Checks every bound that decoding alone does not.
    ///
    /// # Errors
    /// Names the bound.
    pub fn check_bounds(&self) -> Result<(), ProtocolError> {
        match self {
            Self::Hello(hello) => {
                within(
                    hello.software.len(),
                    limits::SOFTWARE_MAX_BYTES,
                    "name of the software",
                )?;
                hello.wanted.check_bounds()
            }
            Self::Offer(offer) => {
                within(
                    offer.entries.len(),
                    limits::BATCH_MAX_ENTRIES,
                    "entries in an offer",
                )?;
                offer.entries.iter().try_for_each(Entry::check_bounds)
            }
            Self::Held(held) => within(held.hashes.len(), limits::HELD_MAX_HASHES, "hashes held"),
            Self::Answer(answer) => within(
                answer.verdicts.len(),
                limits::BATCH_MAX_ENTRIES,
                "verdicts in an answer",
            ),
            Self::Done(done) => within(
                done.outcomes.len(),
                limits::BATCH_MAX_ENTRIES,
                "outcomes in a message",
            ),
            Self::Complete(complete) => within(
                complete.roots.len(),
                limits::BATCH_MAX_ENTRIES,
                "roots in a message",
            ),
            Self::LaneLost(blocks) | Self::Missing(blocks) => blocks.check_bounds(),
            Self::Again(_)
            | Self::Failed(_)
            | Self::Finish(_)
            | Self::Receipt(_)
            | Self::Abort(_) => Ok(()),
        }
    }
}

fn within(count: usize, max: usize, what: &'static str) -> Result<(), ProtocolError> {
    if count <= max {
        Ok(())
    } else {
        Err(ProtocolError::LimitExceeded(what))
    }
}

/// Opens a connection. Each side sends one and waits for the other's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`super::VERSION`] of the speaker.
    pub version: u16,
    /// Who has the bytes.
    pub role: Role,
    /// Chosen by the dialer for one run of its program: the same run may come back after a
    /// lost connection, another one is told it is busy. The listener repeats it.
    pub session: SessionId,
    /// 0 for the connection with the control stream; further connections count up.
    pub lane: u16,
    /// Program and version, for logs.
    pub software: String,
    /// Receiver: what it wants of a tree. The sender leaves it empty.
    pub wanted: Wanted,
    /// Sender: throw away what an earlier run left, before anything is looked at. Once in a
    /// session, however often it is dialled.
    pub restart: bool,
    /// Receiver that dials: nothing is at its target. If the first entry is a file, it is wanted,
    /// and no verdict on it will be said.
    pub vacant: bool,
}

/// What a receiver wants of a tree: names that match a pattern of `include`, where there is
/// one, and none of `exclude` (`docs/PROTOCOL.md#filters`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Wanted {
    /// Of files and links; empty: all.
    pub include: Vec<String>,
    /// Of everything; what is in an excluded directory is excluded with it.
    pub exclude: Vec<String>,
}

impl Wanted {
    /// Whether it is everything.
    pub fn is_everything(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Checks number and length of the patterns.
    ///
    /// # Errors
    /// Names the bound.
    pub fn check_bounds(&self) -> Result<(), ProtocolError> {
        let count = self.include.len() + self.exclude.len();
        within(count, limits::FILTER_MAX_PATTERNS, "patterns of a filter")?;
        let mut patterns = self.include.iter().chain(&self.exclude);
        patterns.try_for_each(|pattern| {
            let most = limits::FILTER_PATTERN_MAX_BYTES;
            within(pattern.len(), most, "length of a pattern")
        })
    }
}

/// Who has the bytes. Independent of who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Has them.
    Sender,
    /// Gets them.
    Receiver,
}

/// One run of a client, as random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionId(pub [u8; 16]);

/// Entries of the manifest, numbered from `first` on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Number of the first entry: where the previous offer ended.
    pub first: u32,
    /// Parents come before what is in them.
    pub entries: Vec<Entry>,
    /// Whether the manifest ends here.
    pub last: bool,
}

/// A file, directory or symlink of the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where, below the root; the empty path is the root itself.
    pub path: RelPath,
    /// What.
    pub kind: EntryKind,
    /// Permission bits, of which a receiver keeps `0o777`, of a directory `0o3777`.
    pub mode: u32,
    /// Time of the last modification.
    pub modified: Timestamp,
    /// Whether the file takes less space than it has bytes: zeros may become holes.
    pub has_holes: bool,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// In bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What it says, as bytes.
        target: Vec<u8>,
    },
    /// Something that the sender cannot send: offered so that both sides report it.
    Unsent {
        /// Why.
        code: ErrorCode,
    },
}

impl Entry {
    fn memory_bytes(&self) -> usize {
        let target = match &self.kind {
            EntryKind::Symlink { target } => target.len(),
            EntryKind::File { .. } | EntryKind::Directory | EntryKind::Unsent { .. } => 0,
        };
        size_of::<Self>() + self.path.as_bytes().len() + target
    }

    fn check_bounds(&self) -> Result<(), ProtocolError> {
        // Beyond it lie values that file systems take for "now" and "leave alone".
        let nanos = self.modified.nanos as usize;
        within(nanos, limits::NANOS_MAX as usize, "nanoseconds of a time")?;
        match &self.kind {
            EntryKind::File { size } if BlockPlan::new(*size).is_none() => {
                Err(ProtocolError::LimitExceeded("size of a file"))
            }
            EntryKind::Symlink { target } => {
                within(target.len(), limits::PATH_MAX_BYTES, "target of a symlink")
            }
            EntryKind::File { .. } | EntryKind::Directory | EntryKind::Unsent { .. } => Ok(()),
        }
    }

    /// How the file is cut; `None` unless it is one of a valid size.
    pub fn plan(&self) -> Option<BlockPlan> {
        match self.kind {
            EntryKind::File { size } => BlockPlan::new(size),
            EntryKind::Directory | EntryKind::Symlink { .. } | EntryKind::Unsent { .. } => None,
        }
    }
}

/// Time since the epoch, as file systems keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timestamp {
    /// Seconds; negative before 1970.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// Blocks that the receiver holds, by their hashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which entry.
    pub entry: u32,
    /// Block of the first hash; the others follow.
    pub first_block: u64,
    /// One for each block.
    pub hashes: Vec<Hash>,
}

/// What the receiver decides about entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// In any order.
    pub verdicts: Vec<Verdict>,
}

/// What the receiver decides about one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Which entry.
    pub entry: u32,
    /// Whether to send its bytes.
    pub decision: Decision,
}

/// Whether bytes are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// Send every block that was not named by [`Held`].
    Send,
    /// It is in place: a directory, a symlink, or a file that is kept as it is.
    NoData,
    /// It cannot be received.
    Refuse(ErrorCode),
}

/// A block to be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    /// Which entry.
    pub entry: u32,
    /// Which block.
    pub block: u64,
}

/// Entries whose blocks have all been sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complete {
    /// In any order.
    pub roots: Vec<EntryRoot>,
}

/// The end of an entry's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRoot {
    /// Which entry.
    pub entry: u32,
    /// BLAKE3 of the whole file.
    pub root: Hash,
}

/// An entry that failed, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryFailure {
    /// Which entry.
    pub entry: u32,
    /// Why.
    pub code: ErrorCode,
}

/// Entries that the receiver is done with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// In any order.
    pub outcomes: Vec<Outcome>,
}

/// How one entry ended at the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which entry.
    pub entry: u32,
    /// `None`: it has its final name.
    pub failure: Option<ErrorCode>,
}

/// The sender's count of what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// Entries offered.
    pub entries: u32,
}

/// The receiver's proof of what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Receipt {
    /// Entries in place.
    pub entries: u32,
    /// Entries that failed.
    pub failed: u32,
    /// Bytes of the files in place.
    pub bytes: u64,
}

impl Receipt {
    /// Adds one entry. Both sides count alike, so that the sender can compare.
    pub(crate) fn count(&mut self, plan: Option<BlockPlan>, failed: bool) {
        if failed {
            self.failed += 1;
        } else {
            self.entries += 1;
            let bytes = plan.map_or(0, BlockPlan::size);
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }
}

/// Blocks of a lane that is lost: those that it was given, or those that did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneBlocks {
    /// Which lane; never 0, which the session stands and falls with.
    pub lane: u16,
    /// In any order.
    pub runs: Vec<EntryRun>,
    /// Whether no more are named.
    pub last: bool,
}

impl LaneBlocks {
    fn check_bounds(&self) -> Result<(), ProtocolError> {
        let most = limits::BATCH_MAX_ENTRIES;
        within(self.runs.len(), most, "runs of blocks of a lane")?;
        let ends_within = |run: &EntryRun| {
            let end = run.run.first.checked_add(run.run.count);
            end.is_some_and(|end| end <= limits::FILE_MAX_BLOCKS)
        };
        match self.runs.iter().all(ends_within) {
            true => Ok(()),
            false => Err(ProtocolError::LimitExceeded("blocks of a file")),
        }
    }

    /// In as many messages as it takes, at least one.
    pub(crate) fn batches(lane: u16, runs: &[EntryRun]) -> Vec<Self> {
        let mut batches: Vec<Self> = runs
            .chunks(limits::BATCH_MAX_ENTRIES)
            .map(|runs| Self {
                lane,
                runs: runs.to_vec(),
                last: false,
            })
            .collect();
        match batches.last_mut() {
            Some(batch) => batch.last = true,
            None => batches.push(Self {
                lane,
                runs: Vec::new(),
                last: true,
            }),
        }
        batches
    }
}

/// Consecutive blocks of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRun {
    /// Which entry.
    pub entry: u32,
    /// Which blocks.
    pub run: BlockRun,
}

/// The end, before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abort {
    /// Why.
    pub code: ErrorCode,
}
