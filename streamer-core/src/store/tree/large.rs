//! The place of a file of several blocks in a tree, until there is room to open it.

use std::sync::Arc;

use super::directory::{Directory, hash_of};
use crate::hash::Hash;
use crate::path::RelPath;
use crate::store::leaving::Leaving;
use crate::store::partial::{HeldRuns, PartialFile};
use crate::store::place::Place;
use crate::store::places::Places;
use crate::store::tree_journal::PART;
use crate::store::{StoreError, beneath};
use crate::wire::message::Entry;

/// Where a file of several blocks goes.
#[derive(Debug)]
pub(crate) struct LargePlace {
    pub(crate) parent: Arc<Directory>,
    pub(super) offered: Entry,
    pub(super) replace: bool,
    pub(super) restart: bool,
}

impl LargePlace {
    /// Opens the partial, or makes it.
    ///
    /// # Errors
    /// As [`PartialFile::open`].
    pub(crate) fn open(&self, leaving: &Leaving) -> Result<(PartialFile, HeldRuns), StoreError> {
        let (shared, path) = (&self.parent.shared, &self.offered.path);
        let failed =
            |error| StoreError::target(error, "create", &beneath::shown(&shared.path, path));
        let name = path.split_last().map_or(&b""[..], |(_, name)| name);
        let target = self.parent.place(name).map_err(failed)?;
        let work_name = partial_name(path);
        shared.partials().insert(hash_of(work_name.as_bytes()));
        let shown = target.shown().to_owned();
        let part = Place::within(Arc::clone(&shared.work), work_name.as_bytes(), shown);
        let Self {
            offered,
            replace,
            restart,
            ..
        } = self;
        PartialFile::open_as(
            Places::of(&target, part, true),
            offered,
            *replace,
            *restart,
            leaving,
        )
    }
}

/// In a journal, of the file with this path.
pub(super) fn partial_name(path: &RelPath) -> String {
    format!("{}{PART}", Hash::of(path.as_bytes()))
}
