//! Trees on a real file system: what goes where, and what does not.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::ErrorCode;
use crate::hash::{BlockHasher, Hash};
use crate::limits::BLOCK_MIN_BYTES;
use crate::path::RelPath;
use crate::store::StoreError;
use crate::store::leaving::Leaving;
use crate::store::partial::PartialFile;
use crate::store::place::Place;
use crate::store::small::SmallFile;
use crate::store::target::{Existing, TargetPolicy};
use crate::store::tree::{Located, TreeTarget};
use crate::store::walk::{SourceTree, Walk};
use crate::wire::message::{Entry, EntryKind, Timestamp};

const TEXT: &[u8] = b"some bytes";

struct World {
    dir: tempfile::TempDir,
    removed: Arc<AtomicU64>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        let removed = Arc::default();
        Self { dir, removed }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn try_open(&self, policy: TargetPolicy) -> Result<TreeTarget, StoreError> {
        let place = Place::of(&self.path("tree")).unwrap();
        let removed = Arc::clone(&self.removed);
        TreeTarget::open(&place, &entry("", EntryKind::Directory), policy, removed)
    }

    fn open(&self) -> TreeTarget {
        self.try_open(TargetPolicy::default()).unwrap()
    }

    fn merge(&self, existing: Existing) -> TreeTarget {
        let restart = false;
        self.try_open(TargetPolicy { existing, restart }).unwrap()
    }

    #[track_caller]
    fn assert_nothing_outside(&self) {
        let outside = std::fs::read_dir(self.path("outside")).unwrap();
        assert_eq!(outside.count(), 0);
    }
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry {
        path: RelPath::try_from(path.as_bytes().to_vec()).unwrap(),
        kind,
        mode: 0o7750,
        modified: Timestamp {
            seconds: 1_000_000_000,
            nanos: 7,
        },
        has_holes: false,
    }
}

fn file(path: &str) -> Entry {
    let size = TEXT.len() as u64;
    entry(path, EntryKind::File { size })
}

fn link(path: &str, target: &str) -> Entry {
    let target = target.as_bytes().to_vec();
    entry(path, EntryKind::Symlink { target })
}

fn directory(path: &str) -> Entry {
    entry(path, EntryKind::Directory)
}

fn small(tree: &TreeTarget, number: u32, path: &str) -> Result<SmallFile, StoreError> {
    match tree.locate(number, &file(path))? {
        Located::Small(file) => Ok(file),
        other => panic!("not to be written: {other:?}"),
    }
}

/// Receives a small file as the keeper does.
fn put(tree: &TreeTarget, number: u32, path: &str) -> Result<(), StoreError> {
    let file = small(tree, number, path)?;
    file.write(TEXT, Hash::of(TEXT))?;
    file.accept(Hash::of(TEXT))?;
    tree.sync()?;
    file.give_name()
}

#[track_caller]
fn refused<T>(result: Result<T, StoreError>) -> ErrorCode {
    match result {
        Err(error) => error.code,
        Ok(_) => panic!("not refused"),
    }
}

#[test]
fn a_tree_gets_its_name_when_it_is_complete_and_special_bits_for_directories_only() {
    let world = World::new();
    let tree = world.open();
    tree.locate(1, &directory("d")).unwrap();
    put(&tree, 2, "d/file").unwrap();
    tree.locate(3, &link("d/link", "../d/file")).unwrap();
    assert!(!world.path("tree").exists());
    tree.finish().unwrap();
    tree.settle().unwrap();
    let found = |name: &str| std::fs::symlink_metadata(world.path(name)).unwrap();
    for (name, expected) in [("tree", 0o3750), ("tree/d", 0o3750), ("tree/d/file", 0o750)] {
        let (mode, time) = (found(name).mode() & 0o7777, found(name).mtime());
        assert_eq!((mode, time), (expected, 1_000_000_000), "{name}");
    }
    assert_eq!(found("tree/d/link").mtime_nsec(), 7);
    assert_eq!(std::fs::read(world.path("tree/d/file")).unwrap(), TEXT);
    // Nothing of ours stays.
    assert_eq!(std::fs::read_dir(world.dir.path()).unwrap().count(), 2);
}

#[test]
fn a_symlink_that_is_there_or_swapped_in_leads_nowhere() {
    for existing in [Existing::Overwrite, Existing::Skip] {
        let world = World::new();
        std::fs::create_dir(world.path("tree")).unwrap();
        symlink("../outside", world.path("tree/there")).unwrap();
        let tree = world.merge(existing);
        assert_eq!(
            refused(tree.locate(1, &directory("there"))),
            ErrorCode::TargetExists
        );
        assert_eq!(
            refused(small(&tree, 2, "there/x")),
            ErrorCode::ParentMissing
        );
        tree.locate(3, &directory("d")).unwrap();
        let file = small(&tree, 4, "d/file").unwrap();
        file.write(TEXT, Hash::of(TEXT)).unwrap();
        std::fs::remove_dir(world.path("tree/d")).unwrap();
        symlink("../outside", world.path("tree/d")).unwrap();
        assert!(file.give_name().is_err());
        assert!(put(&tree, 5, "d/other").is_err());
        drop((file, tree));
        world.assert_nothing_outside();
    }
}

#[test]
fn a_file_that_became_a_link_before_it_was_sent_has_changed() {
    let world = World::new();
    std::fs::create_dir(world.path("tree")).unwrap();
    symlink("../outside", world.path("tree/file")).unwrap();
    let tree = SourceTree::open(&world.path("tree")).unwrap();
    let opened = tree.open_file(&file("file").path);
    assert_eq!(refused(opened), ErrorCode::SourceChanged);
}

#[test]
fn a_link_whose_time_cannot_be_set_is_made() {
    let world = World::new();
    let tree = world.open();
    let mut offered = link("link", "file");
    // Never from a peer: its messages are checked.
    offered.modified.nanos = 1_000_000_000;
    tree.locate(1, &offered).unwrap();
    let made = std::fs::read_link(world.path("tree.part/link")).unwrap();
    assert_eq!(made, Path::new("file"));
}

#[test]
fn a_target_that_is_a_symlink_is_not_entered() {
    let world = World::new();
    symlink("outside", world.path("tree")).unwrap();
    for existing in [Existing::Refuse, Existing::Overwrite, Existing::Skip] {
        let restart = true;
        let opened = world.try_open(TargetPolicy { existing, restart });
        assert_eq!(refused(opened), ErrorCode::TargetExists);
    }
    world.assert_nothing_outside();
}

#[test]
fn a_link_that_leaves_is_not_made_and_one_that_exists_is_replaced_not_followed() {
    let world = World::new();
    let tree = world.open();
    for target in ["/etc/passwd", "../outside", "a/../../outside", ""] {
        let made = tree.locate(1, &link("link", target));
        assert_eq!(refused(made), ErrorCode::LinkLeavesTree, "{target}");
    }
    symlink("../outside/x", world.path("tree.part/file")).unwrap();
    assert_eq!(refused(put(&tree, 2, "file")), ErrorCode::TargetExists);
    drop(tree);
    // As an earlier run may have left it.
    put(&world.open(), 2, "file").unwrap();
    let found = std::fs::symlink_metadata(world.path("tree.part/file")).unwrap();
    assert!(found.is_file());
    world.assert_nothing_outside();
}

#[test]
fn what_was_not_offered_in_order_is_refused() {
    let world = World::new();
    let tree = world.open();
    assert_eq!(refused(small(&tree, 1, "d/x")), ErrorCode::ParentMissing);
    tree.locate(2, &directory("d")).unwrap();
    tree.locate(3, &directory("e")).unwrap();
    assert_eq!(refused(small(&tree, 4, "d/x")), ErrorCode::ParentMissing);
    assert_eq!(
        refused(tree.locate(5, &directory(""))),
        ErrorCode::TargetExists
    );
}

#[test]
fn a_name_twice_and_a_file_where_a_directory_is_are_refused() {
    let world = World::new();
    let tree = world.open();
    tree.locate(1, &directory("fresh")).unwrap();
    put(&tree, 2, "fresh/a").unwrap();
    assert_eq!(refused(put(&tree, 3, "fresh/a")), ErrorCode::TargetExists);
    assert_eq!(refused(put(&tree, 4, "fresh")), ErrorCode::TargetExists);
    put(&tree, 5, "file").unwrap();
    assert_eq!(
        refused(tree.locate(6, &directory("file"))),
        ErrorCode::TargetExists
    );
}

/// A file of one block, as far as an earlier run got that was killed before it gave the name.
fn accepted(tree: &TreeTarget, path: &str, mode: u32) -> Result<PartialFile, StoreError> {
    let content = vec![1; SmallFile::MAX_BYTES as usize + 1];
    let size = content.len() as u64;
    let offered = Entry {
        mode,
        ..entry(path, EntryKind::File { size })
    };
    let Located::Large(place) = tree.locate(1, &offered)? else {
        panic!("not large")
    };
    let (file, _) = place.open(&Leaving::default())?;
    file.write_all_at(&content, 0)?;
    file.prove(0, Hash::of(&content))?;
    file.accept(Hash::of(&content))?;
    Ok(file)
}

#[test]
fn a_file_of_one_block_that_has_its_mode_and_not_its_name_is_taken_up() {
    let world = World::new();
    for mode in [0o400, 0o777, 0] {
        drop(accepted(&world.open(), "file", mode).unwrap());
        let tree = world.open();
        accepted(&tree, "file", mode).unwrap().give_name().unwrap();
        std::fs::remove_file(world.path("tree.part/file")).unwrap();
    }
}

#[test]
fn what_became_a_directory_or_a_file_since_the_last_run_is_what_it_is_now() {
    let world = World::new();
    let tree = world.open();
    put(&tree, 1, "a").unwrap();
    tree.locate(2, &directory("b")).unwrap();
    put(&tree, 3, "b/old").unwrap();
    drop(tree);
    let tree = world.open();
    tree.locate(1, &directory("a")).unwrap();
    put(&tree, 2, "a/new").unwrap();
    put(&tree, 3, "b").unwrap();
    tree.finish().unwrap();
    assert_eq!(std::fs::read(world.path("tree/a/new")).unwrap(), TEXT);
    assert_eq!(std::fs::read(world.path("tree/b")).unwrap(), TEXT);
}

#[test]
fn a_directory_in_which_something_has_no_name_keeps_the_rest() {
    let world = World::new();
    let tree = world.open();
    tree.locate(1, &directory("d")).unwrap();
    put(&tree, 2, "d/earlier").unwrap();
    drop(tree);
    let tree = world.open();
    tree.locate(1, &directory("d")).unwrap();
    put(&tree, 2, "d/a").unwrap();
    tree.note_refused(&directory("d").path);
    put(&tree, 3, "d/b").unwrap();
    tree.finish().unwrap();
    // It may be the one that could not be named.
    assert_eq!(names(&world.path("tree/d")), ["a", "b", "earlier"]);
}

#[test]
fn what_somebody_else_left_is_not_taken_up() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root, to give files away");
        return;
    }
    for (name, left) in [("tree", "tree.part"), ("tree", "tree.part.journal")] {
        let world = World::new();
        drop(world.open());
        std::os::unix::fs::chown(world.path(left), Some(65534), None).unwrap();
        let opened = world.try_open(TargetPolicy::default());
        assert_eq!(refused(opened), ErrorCode::NameTaken, "{name} {left}");
    }
    for left in ["file.part", "file.part.journal"] {
        let world = World::new();
        let place = Place::of(&world.path("file")).unwrap();
        let size = 2 * BLOCK_MIN_BYTES;
        let offered = entry("", EntryKind::File { size });
        let open = || PartialFile::open(&place, &offered, false, false, &Leaving::default());
        drop(open().unwrap());
        std::os::unix::fs::chown(world.path(left), Some(65534), None).unwrap();
        assert_eq!(refused(open()), ErrorCode::NameTaken, "{left}");
        assert_eq!(
            names(world.dir.path()),
            ["file.part", "file.part.journal", "outside"]
        );
    }
}

#[test]
fn a_run_that_waits_for_another_takes_up_nothing_that_is_removed() {
    let world = World::new();
    std::fs::create_dir(world.path("tree")).unwrap();
    let first = world.merge(Existing::Overwrite);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| world.merge(Existing::Overwrite));
        first.finish().unwrap();
        first.settle().unwrap();
        drop(first);
        let second = second.join().unwrap();
        put(&second, 1, "file").unwrap();
        second.finish().unwrap();
        second.settle().unwrap();
    });
    assert_eq!(std::fs::read(world.path("tree/file")).unwrap(), TEXT);
    assert!(!world.path("tree.part.journal").exists());
}

#[test]
fn a_run_that_is_killed_while_it_settles_leaves_what_can_be_settled() {
    for gone in [&["lock"][..], &["lock", "complete"]] {
        let world = World::new();
        let tree = world.open();
        tree.finish().unwrap();
        drop(tree);
        let journal = world.path("tree.part.journal");
        for name in gone {
            std::fs::remove_file(journal.join(name)).unwrap();
        }
        let place = Place::of(&world.path("tree")).unwrap();
        let is_known = TreeTarget::awaits_receipt(&place).unwrap();
        assert_eq!(is_known, gone.len() == 1);
        TreeTarget::forget(&place).unwrap();
        assert_eq!(journal.exists(), !is_known);
    }
}

#[test]
fn bytes_that_are_not_the_senders_get_no_name() {
    let world = World::new();
    let tree = world.open();
    let file = small(&tree, 1, "file").unwrap();
    assert_eq!(
        refused(file.accept(Hash::of(TEXT))),
        ErrorCode::HashMismatch
    );
    file.write(b"else", Hash::of(b"else")).unwrap();
    assert_eq!(
        refused(file.accept(Hash::of(TEXT))),
        ErrorCode::HashMismatch
    );
    assert_eq!(
        std::fs::read_dir(world.path("tree.part")).unwrap().count(),
        0
    );
}

#[test]
fn a_later_run_knows_what_is_finished_and_asks_for_what_changed() {
    let world = World::new();
    let tree = world.open();
    tree.locate(1, &directory("d")).unwrap();
    put(&tree, 2, "d/same").unwrap();
    put(&tree, 3, "d/changed").unwrap();
    let unfinished = small(&tree, 4, "d/unfinished").unwrap();
    unfinished.write(TEXT, Hash::of(TEXT)).unwrap();
    drop((unfinished, tree));
    // The directory has a mode of its own by now.
    let part = world.path("tree.part/d");
    std::fs::set_permissions(&part, std::fs::Permissions::from_mode(0o500)).unwrap();
    let tree = world.open();
    tree.locate(1, &directory("d")).unwrap();
    let same = tree.locate(2, &file("d/same")).unwrap();
    assert!(matches!(same, Located::Present), "{same:?}");
    let mut changed = file("d/changed");
    changed.modified.nanos += 1;
    let Located::Small(changed) = tree.locate(3, &changed).unwrap() else {
        panic!("kept")
    };
    changed.write(b"new", Hash::of(b"new")).unwrap();
    changed.give_name().unwrap();
    put(&tree, 4, "d/unfinished").unwrap();
    drop(changed);
    tree.finish().unwrap();
    tree.settle().unwrap();
    assert_eq!(std::fs::read(world.path("tree/d/changed")).unwrap(), b"new");
    assert_eq!(std::fs::read_dir(world.dir.path()).unwrap().count(), 2);
}

#[test]
fn a_tree_whose_receipt_was_lost_is_found_again_and_nothing_in_it_is_replaced() {
    let world = World::new();
    {
        let tree = world.open();
        put(&tree, 1, "a").unwrap();
        put(&tree, 2, "b").unwrap();
        tree.finish().unwrap();
    }
    assert!(world.path("tree.part.journal").exists());
    std::fs::write(world.path("tree/b"), "changed since").unwrap();
    let tree = world.open();
    let found = tree.locate(1, &file("a")).unwrap();
    assert!(matches!(found, Located::Present), "{found:?}");
    assert_eq!(refused(tree.locate(2, &file("b"))), ErrorCode::TargetExists);
    tree.finish().unwrap();
    tree.settle().unwrap();
    drop(tree);
    assert_eq!(
        refused(world.try_open(TargetPolicy::default())),
        ErrorCode::TargetExists
    );
}

#[test]
fn a_tree_has_its_mode_and_time_before_its_name() {
    let world = World::new();
    let tree = world.open();
    put(&tree, 1, "a").unwrap();
    // So that it ends just before it gets it.
    std::fs::create_dir(world.path("tree")).unwrap();
    assert_eq!(refused(tree.finish()), ErrorCode::TargetExists);
    let found = std::fs::metadata(world.path("tree.part")).unwrap();
    assert_eq!((found.mtime(), found.mtime_nsec()), (1_000_000_000, 7));
    assert_eq!(found.mode() & 0o777, 0o750);
}

#[test]
fn a_tree_that_another_one_took_the_place_of_is_not_taken_for_ours() {
    let world = World::new();
    // Made while the first one exists, so that it is another directory for sure.
    std::fs::create_dir(world.path("other")).unwrap();
    world.open().finish().unwrap();
    std::fs::remove_dir_all(world.path("tree")).unwrap();
    std::fs::rename(world.path("other"), world.path("tree")).unwrap();
    assert_eq!(
        refused(world.try_open(TargetPolicy::default())),
        ErrorCode::TargetExists
    );
}

#[test]
fn what_is_not_ours_is_left_alone_and_a_restart_begins_anew() {
    let world = World::new();
    std::fs::create_dir(world.path("tree.part")).unwrap();
    std::fs::write(world.path("tree.part/mine"), "mine").unwrap();
    assert_eq!(
        refused(world.try_open(TargetPolicy::default())),
        ErrorCode::NameTaken
    );
    assert_eq!(
        std::fs::read(world.path("tree.part/mine")).unwrap(),
        b"mine"
    );
    std::fs::remove_dir_all(world.path("tree.part")).unwrap();

    std::fs::write(world.path("tree.part.journal"), "of a file").unwrap();
    assert_eq!(
        refused(world.try_open(TargetPolicy::default())),
        ErrorCode::SourceChanged
    );
    std::fs::remove_file(world.path("tree.part.journal")).unwrap();

    let tree = world.open();
    put(&tree, 1, "old").unwrap();
    assert_eq!(
        refused(world.try_open(TargetPolicy::default())),
        ErrorCode::TargetBusy
    );
    drop(tree);
    let (existing, restart) = (Existing::Refuse, true);
    let tree = world.try_open(TargetPolicy { existing, restart }).unwrap();
    put(&tree, 1, "new").unwrap();
    tree.finish().unwrap();
    tree.settle().unwrap();
    assert!(!world.path("tree/old").exists() && world.path("tree/new").exists());
}

#[test]
fn what_an_earlier_run_left_beside_is_no_litter_when_the_name_is_filled_in_place() {
    let world = World::new();
    let tree = world.open();
    put(&tree, 1, "arrived").unwrap();
    drop(tree);
    std::fs::create_dir(world.path("tree")).unwrap();
    let existing = Existing::Overwrite;
    let restart = false;
    let error = world.try_open(TargetPolicy { existing, restart });
    let error = error.unwrap_err();
    assert_eq!(error.code, ErrorCode::NameTaken);
    assert_eq!(error.path, world.path("tree.part"));
    assert!(world.path("tree.part/arrived").exists());
    // Without the directory that came between it goes on.
    std::fs::remove_dir(world.path("tree")).unwrap();
    drop(world.open());
    assert!(world.path("tree.part/arrived").exists());
    std::fs::create_dir(world.path("tree")).unwrap();
    let restart = true;
    let tree = world.try_open(TargetPolicy { existing, restart }).unwrap();
    tree.finish().unwrap();
    tree.settle().unwrap();
    assert_eq!(names(&world.path("")), ["outside", "tree"]);
}

#[test]
fn a_directory_of_the_user_is_not_ours_because_a_journal_of_another_run_lies_beside() {
    // One that was filled in place, and one that got its name while a file of it failed.
    for was_there in [true, false] {
        let world = World::new();
        let tree = match was_there {
            true => {
                std::fs::create_dir(world.path("tree")).unwrap();
                world.merge(Existing::Overwrite)
            }
            false => world.open(),
        };
        let failed = accepted(&tree, "failed", 0o600).unwrap();
        if !was_there {
            tree.finish().unwrap();
            tree.settle().unwrap();
        }
        drop((failed, tree));
        assert!(world.path("tree.part.journal").exists());
        std::fs::remove_dir_all(world.path("tree")).unwrap();
        a_part_of_the_user_is_in_the_way(&world);
        for restart in [false, true] {
            let place = Place::of(&world.path("tree")).unwrap();
            assert!(TreeTarget::make_way(&place, restart).is_err());
            assert!(world.path("tree.part/mine").exists());
        }
        // It is in nobody's way where the name is filled in place.
        std::fs::create_dir(world.path("tree")).unwrap();
        let tree = world.merge(Existing::Overwrite);
        tree.finish().unwrap();
        tree.settle().unwrap();
        assert!(world.path("tree.part/mine").exists());
    }
}

#[test]
fn what_is_offered_and_refused_now_stays_as_an_earlier_run_received_it() {
    let world = World::new();
    let tree = world.open();
    tree.locate(1, &directory("a")).unwrap();
    put(&tree, 2, "a/unreadable now").unwrap();
    put(&tree, 3, "a/gone").unwrap();
    put(&tree, 4, "over the limit now").unwrap();
    drop(tree);
    let tree = world.open();
    tree.locate(1, &directory("a")).unwrap();
    for path in ["a/unreadable now", "over the limit now"] {
        tree.note_refused(&file(path).path);
    }
    tree.finish().unwrap();
    assert!(world.path("tree/a/unreadable now").exists());
    assert!(world.path("tree/over the limit now").exists());
    assert!(!world.path("tree/a/gone").exists());
}

/// Where a name is given by a hard link, the kill comes between that and the end of the old name.
#[test]
fn what_a_killed_run_had_not_named_is_not_written_to() {
    let world = World::new();
    let tree = world.open();
    put(&tree, 1, "named").unwrap();
    drop(tree);
    let old_name = world.path("tree.part.journal/5af3-1");
    std::fs::hard_link(world.path("tree.part/named"), old_name).unwrap();
    let tree = world.open();
    let left = std::fs::read_dir(world.path("tree.part.journal")).unwrap();
    let left: Vec<_> = left.map(|found| found.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
    let file = small(&tree, 1, "other").unwrap();
    file.write(b"else", Hash::of(b"else")).unwrap();
    assert_eq!(std::fs::read(world.path("tree.part/named")).unwrap(), TEXT);
}

#[test]
fn a_directory_of_somebody_else_is_not_ours_because_a_journal_lies_there() {
    let world = World::new();
    std::fs::create_dir(world.path("tree.part.journal")).unwrap();
    a_part_of_the_user_is_in_the_way(&world);
}

/// Makes one, which stays, whatever is wanted.
fn a_part_of_the_user_is_in_the_way(world: &World) {
    std::fs::create_dir(world.path("tree.part")).unwrap();
    std::fs::write(world.path("tree.part/mine"), "mine").unwrap();
    for restart in [false, true] {
        let existing = Existing::Refuse;
        let opened = world.try_open(TargetPolicy { existing, restart });
        assert_eq!(refused(opened), ErrorCode::NameTaken);
        assert!(world.path("tree.part/mine").exists());
    }
}

#[test]
fn what_an_earlier_run_received_and_is_no_longer_offered_goes_when_its_directory_is_complete() {
    let world = World::new();
    let tree = world.open();
    put(&tree, 1, "old").unwrap();
    tree.locate(2, &directory("a")).unwrap();
    put(&tree, 3, "a/kept").unwrap();
    put(&tree, 4, "a/old").unwrap();
    tree.locate(5, &directory("b")).unwrap();
    put(&tree, 6, "b/late").unwrap();
    drop(tree);
    // Cut off while something may still be offered in `b` and beside it.
    let tree = world.open();
    tree.locate(1, &directory("a")).unwrap();
    assert!(matches!(
        tree.locate(2, &file("a/kept")),
        Ok(Located::Present)
    ));
    tree.locate(3, &directory("b")).unwrap();
    drop(tree);
    let part = |name: &str| world.path("tree.part").join(name).exists();
    assert_eq!(
        ["old", "a/kept", "a/old", "b/late"].map(part),
        [true, true, false, true]
    );
    let tree = world.open();
    symlink("../../outside", world.path("tree.part/b/away")).unwrap();
    std::fs::write(world.path("outside/mine"), "").unwrap();
    tree.locate(1, &directory("a")).unwrap();
    put(&tree, 2, "a/new").unwrap();
    tree.locate(3, &directory("b")).unwrap();
    tree.finish().unwrap();
    tree.settle().unwrap();
    let in_tree = |name: &str| names(&world.path("tree").join(name));
    assert_eq!(in_tree(""), ["a", "b"]);
    assert_eq!((in_tree("a"), in_tree("b")), (vec!["new".into()], vec![]));
    // `a/old` in one run; `old`, `a/kept`, and `b/late` and `b/away` in the other.
    assert_eq!(world.removed.load(Ordering::Relaxed), 5);
    assert_eq!(names(&world.path("outside")), ["mine"]);
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn what_arrived_of_a_file_that_failed_stays_when_the_tree_is_settled() {
    let world = World::new();
    let tree = world.open();
    let size = 3 * BLOCK_MIN_BYTES;
    let large = |path: &str| entry(path, EntryKind::File { size });
    let open = |tree: &TreeTarget, path: &str| match tree.locate(1, &large(path)).unwrap() {
        Located::Large(place) => place.open(&Leaving::default()).unwrap(),
        other => panic!("not in blocks: {other:?}"),
    };
    let block = vec![7; BLOCK_MIN_BYTES as usize];
    let prove = |file: &PartialFile, block_number: u64| {
        let offset = block_number * BLOCK_MIN_BYTES;
        file.write_all_at(&block, offset).unwrap();
        let mut hasher = BlockHasher::new(file.plan(), block_number);
        hasher.update(&block);
        file.prove(block_number, hasher.finish()).unwrap();
    };
    // Of a file that the source had when an earlier run was cut off.
    prove(&open(&tree, "gone").0, 0);
    drop(tree);
    let tree = world.open();
    let (failed, _) = open(&tree, "failed");
    prove(&failed, 1);
    failed.suspend().unwrap();
    drop(failed);
    put(&tree, 2, "small").unwrap();
    tree.finish().unwrap();
    tree.settle().unwrap();
    assert_eq!(names(&world.path("tree")), ["small"]);
    let left = names(&world.path("tree.part.journal"));
    assert_eq!(left.len(), 3, "a partial, its journal, the lock: {left:?}");
    drop(tree);
    let tree = world.merge(Existing::Overwrite);
    let (file, held) = open(&tree, "failed");
    assert_eq!(held.len(), 1);
    (0..3).filter(|b| *b != 1).for_each(|b| prove(&file, b));
    file.accept(Hash::of(&block.repeat(3))).unwrap();
    file.give_name().unwrap();
    drop(file);
    tree.finish().unwrap();
    tree.settle().unwrap();
    assert_eq!(names(&world.path("")), ["outside", "tree"]);
    assert_eq!(names(&world.path("tree")), ["failed", "small"]);
}

#[test]
fn directories_that_exist_are_filled_and_keep_what_else_is_in_them() {
    for existing in [Existing::Skip, Existing::Overwrite] {
        let world = World::new();
        std::fs::create_dir_all(world.path("tree/d")).unwrap();
        std::fs::write(world.path("tree/d/file"), "mine").unwrap();
        std::fs::write(world.path("tree/d/other"), "mine").unwrap();
        let before = mode(&world.path("tree/d"));
        let tree = world.merge(existing);
        tree.locate(1, &directory("d")).unwrap();
        match existing {
            Existing::Skip => {
                let kept = tree.locate(2, &file("d/file")).unwrap();
                assert!(matches!(kept, Located::Present));
            }
            _ => put(&tree, 2, "d/file").unwrap(),
        }
        put(&tree, 3, "d/new").unwrap();
        tree.finish().unwrap();
        tree.settle().unwrap();
        let file = std::fs::read(world.path("tree/d/file")).unwrap();
        assert_eq!(file == TEXT, existing == Existing::Overwrite);
        assert_eq!(std::fs::read(world.path("tree/d/other")).unwrap(), b"mine");
        let expected = if existing == Existing::Skip {
            before
        } else {
            0o3750
        };
        assert_eq!(mode(&world.path("tree/d")), expected);
        assert_eq!(std::fs::read_dir(world.dir.path()).unwrap().count(), 2);
    }
}

#[test]
fn what_a_transfer_left_in_a_tree_is_not_sent_and_what_only_has_its_name_is() {
    const WITHIN: &str = ".streamer.part.journal";
    let world = World::new();
    let root = world.path("tree");
    let offered = || {
        let tree = Arc::new(SourceTree::open(&root).unwrap());
        let walk = Walk::new(tree, None).unwrap();
        let paths = walk.map(|entry| String::from_utf8(entry.path.as_bytes().to_vec()).unwrap());
        paths.skip(1).collect::<Vec<_>>()
    };
    let journal = root.join(WITHIN);
    std::fs::create_dir_all(&journal).unwrap();
    std::fs::write(root.join("file"), TEXT).unwrap();
    // As a run leaves it that was killed: at first, in the middle, and at last.
    assert_eq!(offered(), ["file"]);
    std::fs::write(journal.join("lock"), "").unwrap();
    assert_eq!(offered(), ["file"]);
    std::fs::write(journal.join("0-1"), TEXT).unwrap();
    for lock in ["FSTREE01", "FSBESID1", "FSPLACE1"] {
        std::fs::write(journal.join("lock"), lock).unwrap();
        assert_eq!(offered(), ["file"]);
    }
    // In another directory it is in nobody's way, and may be wanted.
    std::fs::create_dir(root.join("below")).unwrap();
    std::fs::rename(&journal, root.join("below").join(WITHIN)).unwrap();
    assert_eq!(offered().len(), 5);
    std::fs::remove_dir_all(root.join("below")).unwrap();
    // Names that others may use.
    std::fs::create_dir(&journal).unwrap();
    std::fs::write(journal.join("lock"), "mine").unwrap();
    assert_eq!(offered().len(), 3);
    std::fs::remove_file(journal.join("lock")).unwrap();
    std::fs::write(journal.join("mine"), TEXT).unwrap();
    assert_eq!(offered().len(), 3);
    std::fs::remove_dir_all(&journal).unwrap();
    std::fs::write(&journal, TEXT).unwrap();
    std::fs::write(root.join(".streamer.part"), TEXT).unwrap();
    assert_eq!(offered(), [".streamer.part", WITHIN, "file"]);
}

#[test]
fn holes_are_offered_of_files_that_have_some() {
    let world = World::new();
    let root = world.path("tree");
    std::fs::create_dir(&root).unwrap();
    let size = 2 * BLOCK_MIN_BYTES;
    let make = |name: &str, size: u64| {
        let made = std::fs::File::create(root.join(name)).unwrap();
        made.set_len(size).unwrap();
    };
    make("small", BLOCK_MIN_BYTES);
    make("sparse", size);
    std::fs::write(root.join("whole"), vec![7; size as usize]).unwrap();
    let tree = Arc::new(SourceTree::open(&root).unwrap());
    let with_holes: Vec<_> = Walk::new(tree, None)
        .unwrap()
        .filter(|entry| entry.has_holes)
        .map(|entry| String::from_utf8(entry.path.as_bytes().to_vec()).unwrap())
        .collect();
    assert_eq!(with_holes, ["small", "sparse"]);
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}
