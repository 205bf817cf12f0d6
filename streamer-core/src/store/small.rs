//! A small file of a tree that is being received: written in one go, named with many others.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};

use crate::error::ErrorCode;
use crate::hash::Hash;
use crate::store::StoreError;
use crate::store::attributes::Attributes;
use crate::store::place::Place;
use crate::store::sparse;
use crate::store::tree::Directory;

/// A file that arrives in one record. Until it has its name it lies with what is not finished.
#[derive(Debug)]
pub struct SmallFile {
    parent: Arc<Directory>,
    name: Box<[u8]>,
    number: u32,
    size: u64,
    attributes: Attributes,
    replace: bool,
    /// Of what was written.
    written: Mutex<Option<Hash>>,
}

impl SmallFile {
    /// The largest file that is received like this, in bytes: one buffer.
    pub const MAX_BYTES: u64 = 128 << 10;

    pub(crate) fn new(
        parent: Arc<Directory>,
        name: &[u8],
        number: u32,
        size: u64,
        attributes: Attributes,
        replace: bool,
    ) -> Self {
        Self {
            parent,
            name: name.into(),
            number,
            size,
            attributes,
            replace,
            written: Mutex::new(None),
        }
    }

    /// Its size, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes all of it, with its mode and time. What was written once is not written again.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn write(&self, bytes: &[u8], hash: Hash) -> Result<(), StoreError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.is_none() {
            self.create(bytes).map_err(|error| {
                self.discard();
                StoreError::target(error, "write", &self.shown())
            })?;
            *written = Some(hash);
        }
        Ok(())
    }

    fn create(&self, bytes: &[u8]) -> io::Result<()> {
        let flags =
            OFlags::CREATE | OFlags::WRONLY | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let work = self.scratch();
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(self.parent.shared.work.as_fd(), work.name(), flags, mode)?;
        let mut file = File::from(file);
        if self.attributes.has_holes {
            file.set_len(self.size)?;
            sparse::write_all_at(&file, bytes, 0)?;
        } else {
            file.write_all(bytes)?;
        }
        Ok(self.attributes.apply(&file, || self.shown())?)
    }

    /// Whether all of it was written, and it is what the sender has.
    ///
    /// # Errors
    /// [`ErrorCode::HashMismatch`] when not.
    pub(crate) fn accept(&self, root: Hash) -> Result<(), StoreError> {
        if self.size == 0 {
            self.write(&[], Hash::of(&[]))?;
        }
        let written = *self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written == Some(root) {
            return Ok(());
        }
        let shown = self.shown();
        Err(StoreError::refused(
            ErrorCode::HashMismatch,
            "accept",
            &shown,
        ))
    }

    /// Makes what was written durable, but not its name.
    ///
    /// # Errors
    /// As the operating system says.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let file = self.scratch().open(OFlags::RDONLY)?;
        let synced = file.sync_all();
        synced.map_err(|error| StoreError::target(error, "sync", &self.shown()))
    }

    /// Gives an accepted and synced file its name, which its caller makes durable.
    ///
    /// # Errors
    /// [`ErrorCode::TargetExists`] when somebody took the name meanwhile.
    pub(crate) fn give_name(&self) -> Result<(), StoreError> {
        let target = self.parent.place(&self.name);
        let target = target.map_err(|error| StoreError::target(error, "create", &self.shown()))?;
        self.scratch().rename_to(&target, self.replace)
    }

    /// Throws away what was written.
    pub(crate) fn discard(&self) {
        // Best effort: all of it goes when the tree is complete.
        let _ = self.scratch().remove();
    }

    fn shown(&self) -> PathBuf {
        self.parent.shared.shown(&self.parent.path, &self.name)
    }

    fn scratch(&self) -> Place {
        self.parent.shared.scratch(self.number)
    }
}
