//! The target of a transfer, as the user named it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::FileType;

use crate::error::ErrorCode;
use crate::store::StoreError;
use crate::store::leaving::Leaving;
use crate::store::partial::{HeldRuns, PartialFile};
use crate::store::place::Place;
use crate::store::tree::TreeTarget;
use crate::wire::message::{Entry, EntryKind, SessionId};

/// Where a transfer goes, and what to do about what is there.
#[derive(Debug, Clone)]
pub struct Target {
    path: PathBuf,
    policy: TargetPolicy,
    /// What this process has made of it, for the session after one whose receipt was lost.
    /// Shared by all clones.
    made: Arc<OnceLock<Arc<PartialFile>>>,
    /// Shared by all clones.
    restart: Arc<Mutex<Restart>>,
    /// Shared by all clones.
    removed: Arc<AtomicU64>,
}

/// Whether what an earlier run left is to be thrown away: once for each who asks.
#[derive(Debug, Default)]
struct Restart {
    is_due: bool,
    asked_by: Option<SessionId>,
}

/// What the user chose about things that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TargetPolicy {
    /// What to do when the target exists.
    pub existing: Existing,
    /// Throw an existing partial away instead of continuing it.
    pub restart: bool,
}

/// What to do when the target exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// Refuse.
    #[default]
    Refuse,
    /// Replace it, in one step, once the new one is complete.
    Overwrite,
    /// Keep it, and count it as done.
    Skip,
}

/// How a target was found.
#[derive(Debug)]
pub enum Prepared {
    /// To be written; some blocks may be there.
    File(Arc<PartialFile>, HeldRuns),
    /// Kept as it is.
    Present,
}

impl Target {
    /// Names a target; looks at nothing yet.
    pub fn new(path: &Path, policy: TargetPolicy) -> Self {
        Self {
            path: path.to_owned(),
            policy,
            made: Arc::default(),
            restart: Arc::new(Mutex::new(Restart {
                is_due: policy.restart,
                asked_by: None,
            })),
            removed: Arc::default(),
        }
    }

    /// Files that an earlier run received of a tree, and this one removed since they are not offered any
    /// more: the source has lost them, or another filter leaves them out.
    pub fn removed(&self) -> u64 {
        self.removed.load(Ordering::Relaxed)
    }

    /// Where it goes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A link to a directory that the user named is that directory: links in a home directory are
    /// common.
    fn place(&self) -> Result<Place, StoreError> {
        Place::through_link(&self.path, |found| found.is_dir())
    }

    /// Checks what can be checked before anything is offered.
    ///
    /// # Errors
    /// When nothing could be received, whatever is sent.
    pub fn check(&self) -> Result<(), StoreError> {
        let place = self.place()?;
        if PartialFile::awaits_receipt(&place)? || TreeTarget::awaits_receipt(&place)? {
            // It may be what will be offered.
            return Ok(());
        }
        self.check_existing(&place).map(|_| ())
    }

    /// Whether nothing is there, and nothing that an earlier run left: a file that is offered
    /// will be wanted, all of it, unless something comes there meanwhile.
    pub fn is_vacant(&self) -> bool {
        self.policy.existing != Existing::Skip
            && self
                .place()
                .is_ok_and(|place| PartialFile::is_vacant(&place))
    }

    /// Opens or makes the directory that is offered as root of a tree.
    ///
    /// # Errors
    /// When it cannot be received.
    pub(crate) fn prepare_tree(&self, offered: &Entry) -> Result<TreeTarget, StoreError> {
        let policy = TargetPolicy {
            restart: self.take_restart(),
            ..self.policy
        };
        let place = self.place()?;
        if place.stat()?.is_none() {
            PartialFile::make_way(&place, policy.restart)?;
        }
        TreeTarget::open(&place, offered, policy, Arc::clone(&self.removed))
    }

    /// The sender wants to begin anew: what an earlier run left is thrown away before it is
    /// looked at. A session that comes back continues what it has sent itself.
    pub(crate) fn restart(&self, session: SessionId) {
        let mut restart = self.restart.lock().unwrap_or_else(PoisonError::into_inner);
        if restart.asked_by != Some(session) {
            *restart = Restart {
                is_due: true,
                asked_by: Some(session),
            };
        }
    }

    fn take_restart(&self) -> bool {
        let mut restart = self.restart.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut restart.is_due)
    }

    /// Finds or makes the partial of what is offered. Reads and hashes what it holds.
    ///
    /// # Errors
    /// When it cannot be received.
    pub fn prepare(&self, offered: &Entry, leaving: &Leaving) -> Result<Prepared, StoreError> {
        let (EntryKind::File { .. }, true) = (&offered.kind, offered.path.is_root()) else {
            let code = ErrorCode::UnsupportedType;
            return Err(StoreError::refused(
                code,
                "receive what is offered as",
                &self.path,
            ));
        };
        let place = self.place()?;
        if let Some(named) = self.find_named(&place, offered, leaving)? {
            let held = named.held();
            return Ok(Prepared::File(named, held));
        }
        match self.check_existing(&place)? {
            Found::Keep => return Ok(Prepared::Present),
            Found::Directory => {
                let code = ErrorCode::TargetExists;
                return Err(StoreError::refused(
                    code,
                    "replace the directory",
                    &self.path,
                ));
            }
            Found::Free => {}
        }
        let replace = self.policy.existing == Existing::Overwrite;
        let restart = self.take_restart();
        TreeTarget::make_way(&place, restart)?;
        let (file, held) = PartialFile::open(&place, offered, replace, restart, leaving)?;
        Ok(Prepared::File(Arc::new(file), held))
    }

    /// The file that got its name, by this process or an earlier one, and whose receipt was
    /// lost.
    fn find_named(
        &self,
        place: &Place,
        offered: &Entry,
        leaving: &Leaving,
    ) -> Result<Option<Arc<PartialFile>>, StoreError> {
        if let Some(made) = self.made.get()
            && made.offered() == offered
            && place.stat()?.is_some()
        {
            return Ok(Some(Arc::clone(made)));
        }
        Ok(PartialFile::find_named(place, offered, leaving)?.map(Arc::new))
    }

    /// Remembers a file that has its name.
    pub(crate) fn on_made(&self, file: &Arc<PartialFile>) {
        // A target is made once.
        let _ = self.made.set(Arc::clone(file));
    }

    /// The receipt was heard, or nobody is left to hear it.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        self.made.get().map_or(Ok(()), |made| made.settle())
    }

    /// Removes what was kept for a session that passes the receipt on: there will be none. Only
    /// after a session that was over.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn forget(&self) -> Result<(), StoreError> {
        self.settle()?;
        TreeTarget::forget(&self.place()?)
    }

    fn check_existing(&self, place: &Place) -> Result<Found, StoreError> {
        let Some(stat) = place.stat()? else {
            return Ok(Found::Free);
        };
        let refused = |action| StoreError::refused(ErrorCode::TargetExists, action, place.shown());
        if self.policy.existing == Existing::Refuse {
            return Err(refused("create"));
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return Ok(Found::Directory),
            FileType::RegularFile => {}
            FileType::Symlink if self.path.is_file() => {}
            FileType::Symlink => return Err(refused("replace the link, which leads to no file,")),
            _ => return Err(refused("replace what is no regular file")),
        }
        Ok(match self.policy.existing {
            Existing::Skip => Found::Keep,
            Existing::Overwrite | Existing::Refuse => Found::Free,
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Free,
    Keep,
    /// Only a tree may go there.
    Directory,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Hash;
    use crate::path::RelPath;
    use crate::wire::message::Timestamp;

    fn offered(seconds: i64) -> Entry {
        Entry {
            path: RelPath::root(),
            kind: EntryKind::File { size: 0 },
            mode: 0o600,
            modified: Timestamp { seconds, nanos: 0 },
            has_holes: false,
        }
    }

    #[test]
    fn a_restart_throws_away_once_for_each_session_that_asks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        let restart = |restart| TargetPolicy {
            restart,
            ..TargetPolicy::default()
        };
        let target = Target::new(&path, restart(true));
        assert_eq!(
            [target.take_restart(), target.clone().take_restart()],
            [true, false]
        );
        let target = Target::new(&path, restart(false));
        for (session, is_new) in [(1, true), (1, false), (2, true)] {
            target.restart(SessionId([session; 16]));
            assert_eq!(
                [target.take_restart(), target.take_restart()],
                [is_new, false]
            );
        }
    }

    #[test]
    fn a_target_is_vacant_while_neither_it_nor_anything_of_an_earlier_run_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let target = |existing| {
            let policy = TargetPolicy {
                existing,
                restart: false,
            };
            Target::new(&dir.path().join("target"), policy)
        };
        assert!(target(Existing::Refuse).is_vacant());
        assert!(target(Existing::Overwrite).is_vacant());
        // What comes there meanwhile is to be kept, not to fail.
        assert!(!target(Existing::Skip).is_vacant());
        for name in ["target", "target.part", "target.part.journal"] {
            let path = dir.path().join(name);
            std::fs::write(&path, "").unwrap();
            assert!(!target(Existing::Overwrite).is_vacant(), "{name}");
            std::fs::remove_file(&path).unwrap();
        }
        let nowhere = dir.path().join("missing/target");
        assert!(!Target::new(&nowhere, TargetPolicy::default()).is_vacant());
    }

    #[test]
    fn what_was_just_made_is_no_obstacle_when_it_is_offered_once_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        let target = Target::new(&path, TargetPolicy::default());
        let next_session = target.clone();
        let Ok(Prepared::File(file, _)) = target.prepare(&offered(1), &Leaving::default()) else {
            panic!("no file")
        };
        file.finish(Hash::of(&[])).unwrap();
        target.on_made(&file);
        let again = next_session
            .prepare(&offered(1), &Leaving::default())
            .unwrap();
        assert!(matches!(again, Prepared::File(..)), "{again:?}");
        let other = next_session
            .prepare(&offered(2), &Leaving::default())
            .unwrap_err();
        assert_eq!(other.code, ErrorCode::TargetExists);
        // Another process waits for this one, and finds the file when it is gone.
        let later = Target::new(&path, TargetPolicy::default());
        let busy = later.prepare(&offered(1), &Leaving::default()).unwrap_err();
        assert_eq!(busy.code, ErrorCode::TargetBusy);
        drop((file, again, target, next_session));
        later.check().unwrap();
        assert!(matches!(
            later.prepare(&offered(1), &Leaving::default()).unwrap(),
            Prepared::File(..)
        ));
        let other = later.prepare(&offered(2), &Leaving::default()).unwrap_err();
        assert_eq!(other.code, ErrorCode::TargetExists);
    }

    const LARGE: u64 = 2 * crate::limits::BLOCK_MIN_BYTES;

    fn root(kind: EntryKind) -> Entry {
        Entry {
            kind,
            mode: 0o700,
            ..offered(1)
        }
    }

    /// What becomes of a tree, or of a large file, that is offered.
    fn prepare(path: &Path, is_tree: bool, policy: TargetPolicy) -> Result<(), ErrorCode> {
        let target = Target::new(path, policy);
        let result = match is_tree {
            true => target.prepare_tree(&root(EntryKind::Directory)).map(drop),
            false => {
                let entry = root(EntryKind::File { size: LARGE });
                target.prepare(&entry, &Leaving::default()).map(drop)
            }
        };
        result.map_err(|error| error.code)
    }

    #[test]
    fn what_only_has_the_name_of_a_journal_stays() {
        for is_tree in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            std::fs::write(at("a.part.journal"), "of somebody else").unwrap();
            std::fs::create_dir(at("b.part.journal")).unwrap();
            std::fs::write(at("b.part.journal/kept"), "kept").unwrap();
            for (name, restart) in [("a", false), ("a", true), ("b", false), ("b", true)] {
                let policy = TargetPolicy {
                    restart,
                    ..TargetPolicy::default()
                };
                let refused = prepare(&at(name), is_tree, policy);
                assert_eq!(refused, Err(ErrorCode::NameTaken), "{name} {is_tree}");
            }
            assert_eq!(
                std::fs::read(at("a.part.journal")).unwrap(),
                b"of somebody else"
            );
            assert_eq!(std::fs::read(at("b.part.journal/kept")).unwrap(), b"kept");
        }
    }

    #[test]
    fn what_is_left_of_the_other_kind_goes_when_the_user_says_so() {
        for was_tree in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("target");
            let policy = TargetPolicy::default();
            prepare(&path, was_tree, policy).unwrap();
            assert_eq!(
                prepare(&path, !was_tree, policy),
                Err(ErrorCode::SourceChanged)
            );
            // Nothing was touched.
            prepare(&path, was_tree, policy).unwrap();
            let restart = TargetPolicy {
                restart: true,
                ..policy
            };
            prepare(&path, !was_tree, restart).unwrap();
            prepare(&path, !was_tree, policy).unwrap();
        }
    }

    #[test]
    fn a_link_to_a_directory_is_the_directory_and_only_files_are_replaced_or_kept() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("directory")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        for (target, link) in [
            ("directory", "to-directory"),
            ("file", "to-file"),
            ("no", "dangling"),
        ] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("fifo"),
            FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        for existing in [Existing::Refuse, Existing::Overwrite, Existing::Skip] {
            let policy = TargetPolicy {
                existing,
                restart: false,
            };
            let fills = existing != Existing::Refuse;
            for name in [
                "directory",
                "to-directory",
                "to-directory/",
                "dangling",
                "fifo",
            ] {
                let refused = prepare(&at(name), false, policy);
                assert_eq!(refused, Err(ErrorCode::TargetExists), "{name} {existing:?}");
            }
            for name in ["file", "to-file"] {
                assert_eq!(prepare(&at(name), false, policy).is_ok(), fills, "{name}");
            }
            for name in ["directory", "to-directory", "to-directory/"] {
                assert_eq!(prepare(&at(name), true, policy).is_ok(), fills, "{name}");
            }
        }
        assert!(at("to-directory").is_symlink() && at("directory").is_dir());
    }
}
