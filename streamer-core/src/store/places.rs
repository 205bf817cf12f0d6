//! The names of a file that is received: its own, that of its partial and that of its journal.
//! What has one of the latter is taken up only if it is ours.

use std::cell::Cell;
use std::fs::File;
use std::io;

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::blocks::BlockPlan;
use crate::error::ErrorCode;
use crate::hash::Hash;
use crate::store::StoreError;
use crate::store::attributes::{is_same_time, tolerate};
use crate::store::journal::{self, Journal, SourceStamp};
use crate::store::place::{Place, is_same_inode};
use crate::store::umask::new_file_mode;

/// Where one file is while it is received.
#[derive(Debug)]
pub struct Places {
    /// Its own name.
    pub target: Place,
    /// What has arrived of it.
    pub part: Place,
    /// What says of which source that is, and marks it as ours.
    pub journal: Place,
    /// The latter two are in the journal of a tree, where all is ours.
    pub(crate) in_tree: bool,
}

impl Places {
    /// Of a file that is not received from a sender, and has a journal of another kind: beside the
    /// target, with these suffixes.
    pub fn with_suffixes(target: Place, part: &str, journal: &str) -> Self {
        Self {
            part: target.with_suffix(part),
            journal: target.with_suffix(journal),
            target,
            in_tree: false,
        }
    }

    /// Beside the target.
    pub(crate) fn beside(target: &Place) -> Self {
        Self::of(target, target.with_suffix(".part"), false)
    }

    pub(crate) fn of(target: &Place, part: Place, in_tree: bool) -> Self {
        Self {
            target: target.clone(),
            journal: part.with_suffix(".journal"),
            part,
            in_tree,
        }
    }

    /// The journal of a file that has its name and is as it was named, if there is one.
    pub(crate) fn unconfirmed(&self) -> Result<Option<Journal>, StoreError> {
        let is_file = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let (Some(target), Some(_)) = (
            self.target.stat()?.filter(is_file),
            self.journal.stat()?.filter(is_file),
        ) else {
            return Ok(None);
        };
        let size = u64::try_from(target.st_size).unwrap_or(u64::MAX);
        let part = self.part.stat()?;
        let is_named = part.is_none_or(|part| is_same_inode(&part, &target));
        let Some(plan) = BlockPlan::new(size).filter(|_| is_named) else {
            return Ok(None);
        };
        let file = self.journal.open(OFlags::RDONLY)?;
        let journal = Journal::read(&file, plan)
            .map_err(|error| StoreError::target(error, "read", self.journal.shown()))?;
        Ok(journal.filter(|journal| {
            let SourceStamp {
                size: noted,
                modified,
            } = journal.stamp;
            journal.is_whole && noted == size && is_same_time(&target, modified)
        }))
    }

    /// Puts a journal with these blocks in the place of the one that is there, in one step: who
    /// is killed meanwhile leaves one of the two.
    pub(crate) fn replace_journal(
        &self,
        stamp: SourceStamp,
        held: &[(u64, Hash)],
    ) -> Result<File, StoreError> {
        let new = self.journal.with_suffix(NEW);
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::RDWR | OFlags::APPEND;
        let file = new.open(flags)?;
        let write = || {
            journal::write_header(&file, stamp)?;
            held.iter()
                .try_for_each(|(block, hash)| journal::append(&file, *block, *hash))?;
            file.sync_data()
        };
        write().map_err(|error| StoreError::target(error, "write", new.shown()))?;
        new.rename_to(&self.journal, true)?;
        Ok(file)
    }

    /// A run that was killed while it gave a file its name, where that takes two steps, leaves
    /// both names.
    pub(crate) fn let_go_of_named(&self) -> Result<(), StoreError> {
        match (self.part.stat()?, self.target.stat()?) {
            (Some(part), Some(target)) if is_same_inode(&part, &target) => self.part.remove(),
            _ => Ok(()),
        }
    }

    /// Opens what may have its own mode already: one that keeps even its owner from writing.
    pub(crate) fn open_writable(&self) -> Result<File, StoreError> {
        let open = || self.part.open(OFlags::CREATE | OFlags::RDWR);
        match open() {
            Err(error)
                if error.code == ErrorCode::PermissionDenied
                    && (self.in_tree || self.journal.stat()?.is_some()) =>
            {
                let readable = self.part.open(OFlags::RDONLY | OFlags::NONBLOCK)?;
                rustix::fs::fchmod(&readable, Mode::RUSR | Mode::WUSR).map_err(|_| error)?;
                open()
            }
            opened => opened,
        }
    }

    pub(crate) fn lock_part(&self, file: &File) -> Result<(), StoreError> {
        lock(file, &self.part)
    }

    /// What has the name of the journal must be one: it is written anew, and removed at the end.
    /// Beside a partial it may be damaged.
    pub(crate) fn check_journal(&self) -> Result<(), StoreError> {
        let Some(stat) = self.journal.stat()? else {
            return Ok(());
        };
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_file && self.part.stat()?.is_some() {
            return self.journal.check_owner(stat.st_uid);
        }
        self.check_there(&stat, journal::is_one)
    }

    /// Sees that what has the name of the journal, which is one of another kind, is one for `is_one`.
    ///
    /// # Errors
    /// [`ErrorCode::NameTaken`] when it is not, and the usual file errors.
    pub fn check_journal_by(
        &self,
        is_one: impl FnOnce(&File) -> io::Result<bool>,
    ) -> Result<(), StoreError> {
        match self.journal.stat()? {
            Some(stat) => self.check_there(&stat, is_one),
            None => Ok(()),
        }
    }

    fn check_there(
        &self,
        stat: &Stat,
        is_one: impl FnOnce(&File) -> io::Result<bool>,
    ) -> Result<(), StoreError> {
        let is_ours = || {
            self.journal.check_owner(stat.st_uid)?;
            let file = self.journal.open(OFlags::RDONLY | OFlags::NONBLOCK)?;
            is_one(&file).map_err(|error| StoreError::target(error, "read", self.journal.shown()))
        };
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        match is_file && is_ours()? {
            true => Ok(()),
            false => Err(not_ours(&self.journal)),
        }
    }

    /// Opens the partial, or makes it; it must be a plain file of ours that no other transfer writes,
    /// and stays locked as long as it is open.
    ///
    /// # Errors
    /// [`ErrorCode::TargetBusy`] when another transfer writes it, [`ErrorCode::NameTaken`] when it is
    /// not ours, and the usual file errors.
    pub fn open_part(&self) -> Result<File, StoreError> {
        // Whatever mode the file system gives it, as some do: what this run has made is ours.
        let is_new = Cell::new(false);
        let open = || {
            let made = self.part.open(OFlags::CREATE | OFlags::EXCL | OFlags::RDWR);
            is_new.set(made.is_ok());
            made.or_else(|_| self.open_writable())
        };
        let (file, found) = Self::open_alone(&self.part, open)?;
        if self.in_tree {
            return Ok(file);
        }
        self.part.check_owner(found.st_uid)?;
        // A journal marks a partial as ours. Without one it is ours only as a crash leaves it.
        let as_left = found.st_mode & 0o777 == 0o600 && found.st_size == 0 || is_new.get();
        match as_left || self.journal.stat()?.is_some() {
            true => Ok(file),
            false => Err(not_ours(&self.part)),
        }
    }

    /// Opens the journal of another kind, or makes it, by the same rules.
    ///
    /// # Errors
    /// As [`open_part`](Self::open_part).
    pub fn open_journal(&self) -> Result<File, StoreError> {
        let open = || self.journal.open(OFlags::CREATE | OFlags::RDWR);
        let (file, found) = Self::open_alone(&self.journal, open)?;
        self.journal.check_owner(found.st_uid)?;
        Ok(file)
    }

    /// A plain file with one name, locked.
    fn open_alone(
        place: &Place,
        open: impl Fn() -> Result<File, StoreError>,
    ) -> Result<(File, Stat), StoreError> {
        for _ in 0..OPENED_AGAIN {
            let file = open()?;
            let found = rustix::fs::fstat(&file)
                .map_err(|error| StoreError::target(error, "look at", place.shown()))?;
            let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
            if !is_file || found.st_nlink > 1 {
                return Err(not_ours(place));
            }
            lock(&file, place)?;
            // Whoever held the lock may have given it its name meanwhile: that is not ours to write.
            if place
                .stat()?
                .is_some_and(|there| is_same_inode(&there, &found))
            {
                return Ok((file, found));
            }
        }
        let (code, shown) = (ErrorCode::TargetBusy, place.shown());
        Err(StoreError::refused(code, "write", shown))
    }

    /// Sees that the partial is still this file: where there are no locks, somebody may have put
    /// another one in its place.
    ///
    /// # Errors
    /// [`ErrorCode::TargetBusy`] when it is another one, and the usual file errors.
    pub fn check_part(&self, file: &File) -> Result<(), StoreError> {
        let part = &self.part;
        let ours = rustix::fs::fstat(file)
            .map_err(|error| StoreError::target(error, "look at", part.shown()))?;
        match part.stat()? {
            Some(there) if is_same_inode(&there, &ours) => Ok(()),
            Some(_) => {
                let (code, shown) = (ErrorCode::TargetBusy, part.shown());
                Err(StoreError::refused(code, "finish", shown))
            }
            // Somebody removed it, or its directory.
            None => Err(StoreError::target(Errno::NOENT, "finish", part.shown())),
        }
    }

    /// Gives the partial the mode of the file that it replaces, or that of a new file: nobody said
    /// which it has where it came from.
    ///
    /// # Errors
    /// As the operating system says, but not where it does not allow it or knows no modes.
    pub fn give_mode(&self, file: &File) -> Result<(), StoreError> {
        let is_file = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let replaced = self.target.stat()?.filter(is_file);
        let mode = replaced.map_or_else(new_file_mode, |stat| stat.st_mode & 0o777);
        let given = rustix::fs::fchmod(file, Mode::from_raw_mode(mode));
        tolerate(given, "mode", || self.target.shown().to_owned())
            .map_err(|error| StoreError::target(error, "finish", self.part.shown()))
    }
}

/// On a file system without locks nothing is lost but this protection.
fn lock(file: &File, place: &Place) -> Result<(), StoreError> {
    let locked = rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive);
    if locked == Err(Errno::WOULDBLOCK) {
        let (code, shown) = (ErrorCode::TargetBusy, place.shown());
        return Err(StoreError::refused(code, "write", shown));
    }
    Ok(())
}

/// What has the name of a partial or a journal, and is none.
pub(crate) fn not_ours(place: &Place) -> StoreError {
    StoreError::refused(ErrorCode::NameTaken, "write to", place.shown())
}

/// Of a journal until it replaces the one of an earlier run.
pub(crate) const NEW: &str = ".new";

/// How often a partial that was just given its name by others is looked for anew.
const OPENED_AGAIN: u32 = 3;
