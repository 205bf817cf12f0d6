//! A directory of a tree that is being received, from its first entry to its mode and time.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::Shared;
use crate::path::RelPath;
use crate::store::attributes::Attributes;
use crate::store::place::Place;
use crate::store::tree_journal::names_in;
use crate::store::{StoreError, beneath};

/// A directory of a tree in which something is still to happen. It gets its mode and time
/// when the last user of it is gone.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) path: RelPath,
    pub(crate) shared: Arc<Shared>,
    pub(super) attributes: Option<Attributes>,
    /// Made by us just now: nothing is in it that we did not put there.
    pub(super) is_fresh: bool,
    /// `None` where what is not offered stays: in a directory that is fresh, or not ours alone.
    pub(super) offered: Option<Mutex<Offered>>,
    /// What is above waits for what is below.
    pub(super) _parent: Option<Arc<Self>>,
}

/// What was offered in a directory of an earlier run, whose other names go when it is complete:
/// they are of a source that was changed since, or of another one.
#[derive(Debug, Default)]
pub(super) struct Offered {
    /// Hashes of the names. Two with the same one would keep a name too many, and no less.
    names: HashSet<u64>,
    is_complete: bool,
    /// Not everything in it could be named: nothing goes.
    is_partly_unnamed: bool,
}

impl Directory {
    pub(crate) fn open(&self) -> Result<Arc<OwnedFd>, Errno> {
        self.shared.directory(&self.path)
    }

    pub(super) fn note_offered(&self, name: &[u8]) {
        if let Some(mut offered) = self.offered() {
            offered.names.insert(hash_of(name));
        }
    }

    /// Something in it was offered without its name.
    pub(super) fn note_unnamed(&self) {
        if let Some(mut offered) = self.offered() {
            offered.is_partly_unnamed = true;
        }
    }

    /// Everything in it was offered.
    pub(super) fn note_complete(&self) {
        if let Some(mut offered) = self.offered() {
            offered.is_complete = true;
        }
    }

    fn offered(&self) -> Option<MutexGuard<'_, Offered>> {
        let offered = self.offered.as_ref()?;
        Some(offered.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes what was not offered, where that is known.
    fn prune(&self, opened: &Arc<OwnedFd>) -> Result<(), StoreError> {
        let Some(offered) = self
            .offered()
            .filter(|offered| offered.is_complete && !offered.is_partly_unnamed)
        else {
            return Ok(());
        };
        let names = names_in(opened)
            .map_err(|error| StoreError::target(error, "look at", &self.shown()))?;
        for name in names {
            if !offered.names.contains(&hash_of(&name)) {
                let shown = self.shared.shown(&self.path, &name);
                let place = Place::within(Arc::clone(opened), &name, shown);
                let removed = place.remove_all()?;
                tracing::info!(path = %place.shown().display(), "not offered any more, and removed");
                self.shared.removed.fetch_add(removed, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// What is left to be done with it.
    fn conclude(&self) -> Result<(), StoreError> {
        if self.attributes.is_none() && self.offered.is_none() {
            return Ok(());
        }
        let opened = beneath::open_directory(self.shared.root.as_fd(), &self.path)
            .map_err(|error| StoreError::target(error, "look at", &self.shown()))?;
        let opened = Arc::new(opened);
        if let Err(error) = self.prune(&opened) {
            tracing::warn!(%error, "a file that is no longer in the source is left");
        }
        self.attributes.map_or(Ok(()), |attributes| {
            let applied = attributes.apply(&opened, || self.shown());
            applied.map_err(|error| StoreError::target(error, "finish", &self.shown()))
        })
    }

    fn shown(&self) -> PathBuf {
        beneath::shown(&self.shared.path, &self.path)
    }

    /// A name in it.
    pub(crate) fn place(&self, name: &[u8]) -> Result<Place, Errno> {
        let shown = self.shared.shown(&self.path, name);
        Ok(Place::within(self.open()?, name, shown))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = self.conclude() {
            tracing::warn!(%error, "mode or time of a directory is not kept");
        }
        self.shared.unsynced.add(&self.shared.root, &self.path);
    }
}

pub(super) fn hash_of(name: &[u8]) -> u64 {
    // With the same keys everywhere, so that it can be compared.
    let mut hasher = DefaultHasher::new();
    hasher.write(name);
    hasher.finish()
}
