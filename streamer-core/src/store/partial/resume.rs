//! What an earlier run left of a partial: read, hashed, taken up.

use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{HeldRuns, PartialFile};
use crate::error::ErrorCode;
use crate::hash::{Hash, hash_block};
use crate::limits;
use crate::store::StoreError;
use crate::store::journal::{self, Journal};
use crate::store::leaving::Leaving;
use crate::store::places::NEW;

impl PartialFile {
    /// Reads the journal of an earlier run and hashes what it claims; starts a new one where
    /// there is none.
    pub(super) fn take_up(&mut self, leaving: &Leaving) -> Result<HeldRuns, StoreError> {
        let place = &self.places.journal;
        if self.plan.count() <= 1 && self.places.in_tree && place.stat()?.is_none() {
            // Nothing smaller than a block is resumed, and what is there is ours anyway.
            return Ok(Vec::new());
        }
        let length = self.file.metadata().map(|found| found.len());
        let is_empty = length.is_ok_and(|length| length == 0);
        let file = place.open(OFlags::CREATE | OFlags::RDWR | OFlags::APPEND)?;
        let stamp = self.stamp();
        let found = Journal::read(&file, self.plan)
            .map_err(|error| StoreError::target(error, "read", place.shown()))?;
        let held = match found {
            Some(journal) if journal.stamp == stamp => {
                self.rehash(&journal, DAMAGED_MAX_BLOCKS, leaving)?
            }
            // Of another source, but nothing of it arrived, or a block at most: nothing is lost.
            Some(journal)
                if journal.blocks.is_empty()
                    || is_empty
                    || journal.stamp.size <= limits::BLOCK_MIN_BYTES =>
            {
                Vec::new()
            }
            Some(_) => {
                let part = self.places.part.shown();
                return Err(StoreError::refused(
                    ErrorCode::SourceChanged,
                    "continue",
                    part,
                ));
            }
            None => Vec::new(),
        };
        let failed = |error| StoreError::target(error, "write", place.shown());
        // Written anew, so that torn records do not hide those that follow.
        self.journal = Some(if held.is_empty() {
            place.with_suffix(NEW).remove()?;
            file.set_len(0).map_err(failed)?;
            journal::write_header(&file, stamp).map_err(failed)?;
            file
        } else {
            self.places.replace_journal(stamp, &held)?
        });
        Ok(runs(held.into_iter()))
    }

    /// The blocks of the journal that the partial really holds, in order. So many may be such as the disk
    /// does not give back.
    pub(super) fn rehash(
        &self,
        journal: &Journal,
        damaged_max: u32,
        leaving: &Leaving,
    ) -> Result<Vec<(u64, Hash)>, StoreError> {
        let mut claimed = vec![None; self.plan.count() as usize];
        journal
            .blocks
            .iter()
            .for_each(|(block, hash)| claimed[*block as usize] = Some(*hash));
        let (mut held, mut damaged) = (Vec::new(), 0);
        let mut buffer = vec![0; REHASH_BYTES];
        for (block, hash) in (0..).zip(claimed).filter_map(|(b, hash)| Some((b, hash?))) {
            if leaving.is_set() {
                // Nothing of it was changed: the next session begins anew.
                let (code, part) = (ErrorCode::Interrupted, self.places.part.shown());
                return Err(StoreError::refused(code, "read", part));
            }
            let part = self.places.part.shown();
            let read = |bytes: &mut [u8], offset| self.file.read_exact_at(bytes, offset);
            match Found::of(hash_block(self.plan, block, &mut buffer, read), hash) {
                Found::Held => {
                    self.hashes()[block as usize] = Some(hash);
                    held.push((block, hash));
                }
                Found::Other => {}
                Found::Damaged(error) if damaged < damaged_max => {
                    damaged += 1;
                    tracing::warn!(path = %part.display(), block, %error, "a block is asked for again");
                }
                // The journal stays: the file system may be well again tomorrow.
                Found::Damaged(error) | Found::Failed(error) => {
                    return Err(StoreError::target(error, "read", part));
                }
            }
        }
        Ok(held)
    }
}

/// What is where a block should be.
#[derive(Debug)]
enum Found {
    Held,
    /// Nothing, or other bytes.
    Other,
    /// The disk does not give it back: what is sent again is written anew.
    Damaged(io::Error),
    Failed(io::Error),
}

impl Found {
    fn of(hashed: io::Result<Hash>, claimed: Hash) -> Self {
        match hashed {
            Ok(hash) if hash == claimed => Self::Held,
            Ok(_) => Self::Other,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Self::Other,
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                Self::Damaged(error)
            }
            Err(error) => Self::Failed(error),
        }
    }
}

/// More are no bad sectors: the file system itself is in trouble.
const DAMAGED_MAX_BLOCKS: u32 = 16;

pub(super) fn runs(blocks: impl Iterator<Item = (u64, Hash)>) -> HeldRuns {
    let mut runs: HeldRuns = Vec::new();
    for (block, hash) in blocks {
        match runs.last_mut() {
            Some((first, hashes)) if *first + hashes.len() as u64 == block => hashes.push(hash),
            _ => runs.push((block, vec![hash])),
        }
    }
    runs
}

/// Read at a time while a partial is checked.
const REHASH_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_back_is_not_held_and_other_errors_count() {
        let [one, other] = [b"one", b"two"].map(|bytes| Hash::of(bytes));
        let failed = |error: io::Error| Found::of(Err(error), one);
        assert!(matches!(Found::of(Ok(one), one), Found::Held));
        assert!(matches!(Found::of(Ok(other), one), Found::Other));
        let end = io::ErrorKind::UnexpectedEof.into();
        assert!(matches!(failed(end), Found::Other));
        assert!(matches!(failed(Errno::IO.into()), Found::Damaged(_)));
        assert!(matches!(failed(Errno::ACCESS.into()), Found::Failed(_)));
    }
}
