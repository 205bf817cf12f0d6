//! Directories of a tree that are over and not durable yet.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use crate::path::RelPath;
use crate::store::at_a_time::at_a_time;
use crate::store::{beneath, syncfs};

/// Directories whose names and attributes are to become durable.
#[derive(Debug)]
pub(super) struct Unsynced {
    /// Whether `syncfs` can be believed here.
    sync_tells: bool,
    /// `None` when there are too many to name.
    paths: Mutex<Option<Vec<RelPath>>>,
    /// Why one that could not be remembered could not be made durable.
    failure: Mutex<Option<Errno>>,
}

impl Unsynced {
    /// None yet, in the tree at `root`.
    pub(super) fn new(root: &OwnedFd) -> Self {
        Self {
            sync_tells: syncfs::tells_of_losses(root),
            paths: Mutex::new(Some(Vec::new())),
            failure: Mutex::default(),
        }
    }

    /// Whether `syncfs` says what could not be written.
    pub(super) fn sync_tells(&self) -> bool {
        self.sync_tells
    }

    /// How many files or directories are synced at a time: more than one where each waits for another
    /// machine.
    pub(super) fn at_a_time(&self) -> usize {
        match self.sync_tells {
            true => 1,
            false => SYNCED_AT_A_TIME,
        }
    }

    /// One is over.
    pub(super) fn add(&self, root: &OwnedFd, path: &RelPath) {
        let most = match self.sync_tells {
            true => SYNCED_ONE_BY_ONE,
            false => SYNCED_AT_THE_END,
        };
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *paths {
            Some(paths) if paths.len() < most => paths.push(path.clone()),
            // More than are remembered.
            _ if !self.sync_tells => {
                drop(paths);
                if let Err(error) = sync_directory(root, path) {
                    let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                    *failure = Some(error);
                }
            }
            _ => *paths = None,
        }
    }

    /// Makes all of them durable.
    ///
    /// # Errors
    /// As the operating system says, and of which.
    pub(super) fn sync(&self, root: &OwnedFd) -> Result<(), (Errno, RelPath)> {
        let of_root = |error| (error, RelPath::root());
        let failure = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(error) = failure {
            return Err(of_root(error));
        }
        let paths = self
            .paths
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(paths) = paths else {
            return rustix::fs::syncfs(root).map_err(of_root);
        };
        if !self.sync_tells {
            let synced = at_a_time(SYNCED_AT_A_TIME, &paths, |path| {
                sync_directory(root, path).map_err(|error| (error, path.clone()))
            });
            return synced.into_iter().collect();
        }
        let mut synced = paths
            .iter()
            .map(|path| beneath::open_directory(root.as_fd(), path).and_then(rustix::fs::fsync));
        match synced.try_for_each(|result| result) {
            // Its mode may keep even its owner out; some file systems cannot sync directories.
            Err(Errno::ACCESS | Errno::INVAL | Errno::NOTSUP) => rustix::fs::syncfs(root),
            synced => synced,
        }
        .map_err(of_root)
    }
}

/// Makes the names in a directory durable, where nothing else can be asked to.
fn sync_directory(root: &OwnedFd, path: &RelPath) -> Result<(), Errno> {
    let synced = beneath::open_directory(root.as_fd(), path).and_then(rustix::fs::fsync);
    match synced {
        // Its mode may keep even its owner out; some file systems cannot sync directories.
        Err(Errno::ACCESS | Errno::INVAL | Errno::NOTSUP) => Ok(()),
        other => other,
    }
}

/// Directories that are remembered where each has to be synced.
const SYNCED_AT_THE_END: usize = 1 << 16;

/// Files or directories that are synced at a time where each waits for another machine.
const SYNCED_AT_A_TIME: usize = 8;

/// Directories that are synced each for itself; more are synced with the file system.
const SYNCED_ONE_BY_ONE: usize = 8;
