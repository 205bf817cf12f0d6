//! A file that is being received: `NAME.part` and its journal, until it is `NAME`.

mod resume;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{Advice, FallocateFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use self::resume::runs;
use crate::blocks::BlockPlan;
use crate::error::ErrorCode;
use crate::hash::{Hash, root_of};
use crate::limits;
use crate::store::StoreError;
use crate::store::attributes::Attributes;
use crate::store::journal::{self, SourceStamp};
use crate::store::leaving::Leaving;
use crate::store::place::Place;
use crate::store::places::Places;
use crate::store::sparse;
use crate::wire::message::Entry;

/// Blocks that a partial holds: runs of hashes, each with its first block.
pub type HeldRuns = Vec<(u64, Vec<Hash>)>;

/// Where the bytes of one file go. Only [`finish`](Self::finish) gives it its name.
#[derive(Debug)]
pub struct PartialFile {
    file: File,
    journal: Option<File>,
    places: Places,
    plan: BlockPlan,
    offered: Entry,
    replace: bool,
    hashes: Mutex<Vec<Option<Hash>>>,
    /// From the comparison of the root on: nothing is written any more.
    finished: AtomicBool,
    /// It has its name; the journal stays until the receipt was heard.
    named: AtomicBool,
    /// Threads that are writing to it.
    writers: AtomicUsize,
}

impl PartialFile {
    /// Opens the partial of `target`, or makes it. Returns the blocks that it proves to hold.
    ///
    /// # Errors
    /// [`ErrorCode::SourceChanged`] when it is a partial of another source, and the usual
    /// file errors. With `restart` what was there is thrown away.
    pub(crate) fn open(
        target: &Place,
        offered: &Entry,
        replace: bool,
        restart: bool,
        leaving: &Leaving,
    ) -> Result<(Self, HeldRuns), StoreError> {
        let places = Places::beside(target);
        Self::open_as(places, offered, replace, restart, leaving)
    }

    /// The same, with the partial elsewhere in the same file system.
    pub(crate) fn open_as(
        places: Places,
        offered: &Entry,
        replace: bool,
        restart: bool,
        leaving: &Leaving,
    ) -> Result<(Self, HeldRuns), StoreError> {
        let plan = offered.plan().ok_or_else(|| {
            let (code, shown) = (ErrorCode::UnsupportedType, places.target.shown());
            StoreError::refused(code, "create", shown)
        })?;
        places.let_go_of_named()?;
        places.check_journal()?;
        let file = places.open_part()?;
        if restart {
            // Not before it is known to be ours and nobody writes to it. Without a journal it must be
            // as one that was just made.
            // Best effort: some file systems know no modes.
            let _ = rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR);
            let emptied = file.set_len(0);
            emptied.map_err(|error| StoreError::target(error, "write", places.part.shown()))?;
            places.journal.remove()?;
        }
        let hashes = Mutex::new(vec![None; plan.count() as usize]);
        let mut partial = Self {
            file,
            journal: None,
            places,
            plan,
            offered: offered.clone(),
            replace,
            hashes,
            finished: AtomicBool::new(false),
            named: AtomicBool::new(false),
            writers: AtomicUsize::new(0),
        };
        let held = partial.take_up(leaving)?;
        partial.make_room(held.iter().map(|(_, hashes)| hashes.len() as u64).sum())?;
        Ok((partial, held))
    }

    /// The file of an earlier run that got its name and whose receipt nobody is known to have
    /// heard, if it is what is offered now: read and hashed anew. `None` where there is none.
    ///
    /// # Errors
    /// [`ErrorCode::TargetBusy`] while that run still lives, and the usual file errors.
    pub(crate) fn find_named(
        target: &Place,
        offered: &Entry,
        leaving: &Leaving,
    ) -> Result<Option<Self>, StoreError> {
        let places = Places::beside(target);
        places.let_go_of_named()?;
        let (Some(plan), Some(journal)) = (offered.plan(), places.unconfirmed()?) else {
            return Ok(None);
        };
        if journal.stamp.size != plan.size() || journal.stamp.modified != offered.modified {
            return Ok(None);
        }
        let file = target.open(OFlags::RDONLY)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            == Err(Errno::WOULDBLOCK)
        {
            let (code, shown) = (ErrorCode::TargetBusy, target.shown());
            return Err(StoreError::refused(code, "look at", shown));
        }
        let partial = Self {
            file,
            journal: None,
            places,
            plan,
            offered: offered.clone(),
            replace: false,
            hashes: Mutex::new(vec![None; plan.count() as usize]),
            finished: AtomicBool::new(true),
            named: AtomicBool::new(true),
            writers: AtomicUsize::new(0),
        };
        // Whoever changed it since then owns what it is now. Nothing is written, whatever cannot be read.
        let is_whole = partial.rehash(&journal, u32::MAX, leaving)?.len() as u64 == plan.count();
        Ok(is_whole.then_some(partial))
    }

    /// Sees to it that nothing of a file is left where a tree goes, which is thrown away with
    /// `restart`.
    ///
    /// # Errors
    /// [`ErrorCode::SourceChanged`] where a partial is to be kept, [`ErrorCode::NameTaken`] where
    /// something else has the name, and the usual file errors.
    pub(crate) fn make_way(target: &Place, restart: bool) -> Result<(), StoreError> {
        let places = Places::beside(target);
        let is_file = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let is_left = match places.journal.stat()? {
            Some(stat) => is_file(stat),
            // As a run leaves it that was killed before it made the journal.
            None => places.part.stat()?.is_some_and(|part| {
                is_file(part) && part.st_mode & 0o7777 == 0o600 && part.st_size == 0
            }),
        };
        if !is_left {
            return Ok(());
        }
        places.check_journal()?;
        if !restart {
            let (code, shown) = (ErrorCode::SourceChanged, places.part.shown());
            return Err(StoreError::refused(code, "continue", shown));
        }
        if places.part.stat()?.is_some_and(is_file) {
            places.lock_part(&places.open_writable()?)?;
            places.part.remove()?;
        }
        places.journal.remove()
    }

    /// Whether nothing is at `target`, and nothing that an earlier run left for it.
    pub(crate) fn is_vacant(target: &Place) -> bool {
        let places = Places::beside(target);
        [&places.target, &places.part, &places.journal]
            .iter()
            .all(|place| place.stat().is_ok_and(|stat| stat.is_none()))
    }

    /// Whether `target` is a file of an earlier run whose receipt may not have been heard.
    ///
    /// # Errors
    /// The usual file errors.
    pub(crate) fn awaits_receipt(target: &Place) -> Result<bool, StoreError> {
        let places = Places::beside(target);
        Ok(places.unconfirmed()?.is_some())
    }

    /// As what it was offered.
    pub(crate) fn offered(&self) -> &Entry {
        &self.offered
    }

    /// How it is cut.
    pub fn plan(&self) -> BlockPlan {
        self.plan
    }

    /// The blocks that are proven.
    pub(crate) fn held(&self) -> HeldRuns {
        let hashes = self.hashes();
        let proven = (0..).zip(hashes.iter());
        runs(proven.filter_map(|(block, hash)| Some((block, (*hash)?))))
    }

    /// Whether a block is still to come: not proven, and the file not finished.
    pub fn wants(&self, block: u64) -> bool {
        let missing = self
            .hashes()
            .get(block as usize)
            .is_some_and(Option::is_none);
        missing && !self.finished.load(Ordering::Acquire)
    }

    /// Writes bytes at their place.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<(), StoreError> {
        self.check_open()?;
        self.writers.fetch_add(1, Ordering::Relaxed);
        let written = match self.offered.has_holes {
            true => sparse::write_all_at(&self.file, bytes, offset),
            false => self.file.write_all_at(bytes, offset),
        };
        self.writers.fetch_sub(1, Ordering::Relaxed);
        written.map_err(|error| StoreError::target(error, "write", self.places.part.shown()))
    }

    /// Whether another thread is writing. Most file systems let one at a time write to a file, and
    /// keep the processors of the others busy until it is done.
    pub(crate) fn is_being_written(&self) -> bool {
        self.writers.load(Ordering::Relaxed) > 0
    }

    /// Makes zeros of a range, as a hole where there are such.
    ///
    /// # Errors
    /// As [`write_all_at`](Self::write_all_at).
    pub(crate) fn clear(&self, range: std::ops::Range<u64>) -> Result<(), StoreError> {
        self.check_open()?;
        sparse::clear(&self.file, range)
            .map_err(|error| StoreError::target(error, "write", self.places.part.shown()))
    }

    fn check_open(&self) -> Result<(), StoreError> {
        if !self.finished.load(Ordering::Acquire) {
            return Ok(());
        }
        let (code, part) = (ErrorCode::ProtocolViolation, self.places.part.shown());
        Err(StoreError::refused(code, "write", part))
    }

    /// Remembers that a block is written and has this hash.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn prove(&self, block: u64, hash: Hash) -> Result<(), StoreError> {
        if let Some(journal) = &self.journal {
            journal::append(journal, block, hash)
                .map_err(|error| StoreError::target(error, "write", self.places.journal.shown()))?;
        }
        if let Some(slot) = self.hashes().get_mut(block as usize) {
            *slot = Some(hash);
        }
        Ok(())
    }

    /// Takes the hashes of all blocks, of a transfer that is not resumed: they are not noted in the journal.
    pub fn put_hashes(&self, hashes: &[Hash]) {
        for (slot, hash) in self.hashes().iter_mut().zip(hashes) {
            *slot = Some(*hash);
        }
    }

    /// Compares the root, makes the file durable and gives it its name, unless it has it from
    /// an earlier run. The journal stays until `settle`, so that whoever missed
    /// the receipt can ask once more.
    ///
    /// # Errors
    /// [`ErrorCode::HashMismatch`] when the root differs; [`ErrorCode::TargetExists`] when
    /// somebody took the name meanwhile; the partial stays in both cases.
    pub fn finish(&self, root: Hash) -> Result<(), StoreError> {
        self.accept(root)?;
        self.sync()?;
        if self.named.load(Ordering::Acquire) {
            return Ok(());
        }
        self.note_whole(root)
            .map_err(|error| StoreError::target(error, "write", self.places.journal.shown()))?;
        self.places.check_part(&self.file)?;
        let Places { target, part, .. } = &self.places;
        part.rename_to(target, self.replace)?;
        self.named.store(true, Ordering::Release);
        target.sync_directory()
    }

    /// Nobody will ask for the receipt again.
    ///
    /// # Errors
    /// As the operating system says.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        self.places.journal.remove()
    }

    /// Makes durable that the file is whole, before it gets its name.
    fn note_whole(&self, root: Hash) -> Result<(), std::io::Error> {
        let Some(journal) = &self.journal else {
            return Ok(());
        };
        journal::append_whole(journal, root)?;
        journal.sync_data()
    }

    fn stamp(&self) -> SourceStamp {
        SourceStamp {
            size: self.plan.size(),
            modified: self.offered.modified,
        }
    }

    /// Compares the root, and gives the file its mode and time. Nothing is written any more.
    pub(crate) fn accept(&self, root: Hash) -> Result<(), StoreError> {
        let target = self.places.target.shown();
        self.finished.store(true, Ordering::Release);
        let hashes: Option<Vec<Hash>> = self.hashes().iter().copied().collect();
        if hashes.map(|hashes| root_of(&hashes)) != Some(root) {
            return Err(StoreError::refused(
                ErrorCode::HashMismatch,
                "accept",
                target,
            ));
        }
        Attributes::of(&self.offered)
            .apply(&self.file, || target.to_owned())
            .map_err(|error| StoreError::target(error, "finish", self.places.part.shown()))
    }

    /// Makes the file durable, but not its name.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let synced = self.file.sync_all();
        synced.map_err(|error| self.on_unsynced(error, "finish"))
    }

    /// Gives an accepted and synced file its name, which its caller makes durable.
    pub(crate) fn give_name(&self) -> Result<(), StoreError> {
        let Places {
            target,
            part,
            journal,
            ..
        } = &self.places;
        self.places.check_part(&self.file)?;
        part.rename_to(target, self.replace)?;
        journal.remove()
    }

    /// Makes what is there durable, for a later resume.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn suspend(&self) -> Result<(), StoreError> {
        let part = self.places.part.shown();
        let synced = self.file.sync_data();
        synced.map_err(|error| self.on_unsynced(error, "sync"))?;
        if let Some(journal) = &self.journal {
            let synced = journal.sync_data();
            synced.map_err(|error| StoreError::target(error, "sync", part))?;
        }
        self.places.part.sync_directory()
    }

    /// What could not be written may still be in memory, where it looks as if it had been: the
    /// next run has to read what the disk holds.
    fn on_unsynced(&self, error: std::io::Error, action: &'static str) -> StoreError {
        // Best effort, as the error is what counts.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        StoreError::target(error, action, self.places.part.shown())
    }

    /// Gives up a partial that cannot be resumed: nothing is in it.
    pub fn discard_if_useless(&self) {
        if self.hashes().iter().all(Option::is_none) {
            self.discard();
        }
    }

    /// Removes what has not got its name.
    pub fn discard(&self) {
        let is_named = self.named.load(Ordering::Acquire);
        if !is_named && self.places.check_part(&self.file).is_ok() {
            // Best effort: the error that led here is the one to report.
            let removed = self.places.part.remove();
            let _ = removed.and_then(|()| self.places.journal.remove());
        }
    }

    /// Fails early where the file cannot fit; reserves its space where that is cheap.
    fn make_room(&self, held_blocks: u64) -> Result<(), StoreError> {
        let part = self.places.part.shown();
        let size = self.plan.size();
        if self.offered.has_holes {
            // Nobody knows how much of it is none.
            let sized = self.file.set_len(size);
            return sized.map_err(|error| StoreError::target(error, "write", part));
        }
        let missing = size.saturating_sub(held_blocks * self.plan.block_bytes());
        let allocated = self.file.metadata().map_or(0, |found| found.blocks() * 512);
        let free = self.places.part.free_bytes().unwrap_or(u64::MAX);
        if missing > free.saturating_add(allocated) {
            self.discard_if_useless();
            return Err(StoreError::refused(
                ErrorCode::NoSpace,
                "reserve space for",
                part,
            ));
        }
        // Memory-backed file systems would clear every page once more than needed.
        let in_memory = rustix::fs::fstatfs(&self.file).is_ok_and(|stat| stat.f_type == TMPFS);
        if size > limits::BLOCK_MIN_BYTES && !in_memory {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, size) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
                Err(error) => {
                    self.discard_if_useless();
                    return Err(StoreError::target(error, "reserve space for", part));
                }
            }
        }
        self.file
            .set_len(size)
            .map_err(|error| StoreError::target(error, "write", part))
    }

    fn hashes(&self) -> MutexGuard<'_, Vec<Option<Hash>>> {
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `TMPFS_MAGIC` of `statfs(2)`.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;
