//! What a partial is left with, and what a later run makes of it.

use super::*;
use crate::hash::BlockHasher;
use crate::limits::BLOCK_MIN_BYTES;
use crate::path::RelPath;
use crate::wire::message::{EntryKind, Timestamp};
use std::path::Path;

const SIZE: u64 = 2 * BLOCK_MIN_BYTES + 100;

fn offered(size: u64) -> Entry {
    let modified = Timestamp {
        seconds: 1_000_000_000,
        nanos: 5,
    };
    Entry {
        path: RelPath::root(),
        kind: EntryKind::File { size },
        mode: 0o4751,
        modified,
        has_holes: false,
    }
}

fn open(path: &Path, offered: &Entry) -> Result<(PartialFile, HeldRuns), StoreError> {
    PartialFile::open(
        &Place::of(path).unwrap(),
        offered,
        false,
        false,
        &Leaving::default(),
    )
}

fn bytes(size: u64) -> Vec<u8> {
    (0..size).map(|i| (i % 241) as u8).collect()
}

/// Writes one block as the receiver does.
fn put(partial: &PartialFile, block: u64) {
    let range = partial.plan().range(block);
    let bytes = bytes(SIZE);
    let block_bytes = &bytes[range.start as usize..range.end as usize];
    partial.write_all_at(block_bytes, range.start).unwrap();
    let mut hasher = BlockHasher::new(partial.plan(), block);
    hasher.update(block_bytes);
    partial.prove(block, hasher.finish()).unwrap();
}

#[test]
fn a_complete_file_gets_its_name_mode_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("target");
    let (partial, held) = open(&path, &offered(SIZE)).unwrap();
    assert!(held.is_empty());
    (0..3).for_each(|block| put(&partial, block));
    assert!(!path.exists());
    partial.finish(Hash::of(&bytes(SIZE))).unwrap();
    let found = std::fs::metadata(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes(SIZE));
    assert_eq!(
        (found.mode() & 0o7777, found.mtime(), found.mtime_nsec()),
        (0o751, 1_000_000_000, 5)
    );
    // What purges files that nobody has used must not find it.
    assert!(found.atime() > 1_000_000_000);
    partial.settle().unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// A process that is gone after the file got its name and before anybody heard of it.
fn named_and_gone(path: &Path, size: u64) {
    let (partial, _) = open(path, &offered(size)).unwrap();
    let blocks = partial.plan().count();
    (0..blocks).for_each(|block| put(&partial, block));
    partial.finish(Hash::of(&bytes(size))).unwrap();
}

#[test]
fn a_file_whose_receipt_was_lost_is_found_and_proven_once_more() {
    for size in [0, SIZE] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        named_and_gone(&path, size);
        let place = Place::of(&path).unwrap();
        assert!(PartialFile::awaits_receipt(&place).unwrap());
        let found = PartialFile::find_named(&place, &offered(size), &Leaving::default()).unwrap();
        let found = found.unwrap();
        let held: usize = found.held().iter().map(|(_, hashes)| hashes.len()).sum();
        assert_eq!(held as u64, found.plan().count());
        assert!(!found.wants(0));
        let wrong = found.finish(Hash([1; 32])).unwrap_err();
        assert_eq!(wrong.code, ErrorCode::HashMismatch);
        found.finish(Hash::of(&bytes(size))).unwrap();
        found.settle().unwrap();
        assert!(!PartialFile::awaits_receipt(&place).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_file_that_was_changed_after_it_got_its_name_is_not_taken_for_ours() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("target");
    named_and_gone(&path, SIZE);
    let place = Place::of(&path).unwrap();
    let other = PartialFile::find_named(&place, &offered(SIZE - 1), &Leaving::default()).unwrap();
    assert!(other.is_none());
    let times = std::fs::metadata(&path).unwrap().modified().unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"mine", 5).unwrap();
    assert!(
        PartialFile::find_named(&place, &offered(SIZE), &Leaving::default())
            .unwrap()
            .is_none()
    );
    // Also when its time says nothing of it.
    file.set_modified(times).unwrap();
    assert!(PartialFile::awaits_receipt(&place).unwrap());
    assert!(
        PartialFile::find_named(&place, &offered(SIZE), &Leaving::default())
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_file_of_one_block_is_received_whatever_was_left_of_it() {
    for (mode, size) in [(0o400, 700), (0o644, 700), (0o600, 900), (0, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        // Killed after it got its mode and before it got its name.
        let (partial, _) = open(&path, &offered(700)).unwrap();
        partial.write_all_at(&bytes(700), 0).unwrap();
        partial.prove(0, Hash::of(&bytes(700))).unwrap();
        partial.accept(Hash::of(&bytes(700))).unwrap();
        rustix::fs::fchmod(&partial.file, Mode::from_raw_mode(mode)).unwrap();
        drop(partial);
        let (partial, _) = open(&path, &offered(size)).unwrap();
        let content = bytes(size);
        partial.write_all_at(&content, 0).unwrap();
        partial.prove(0, Hash::of(&content)).unwrap();
        partial.finish(Hash::of(&content)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
}

#[test]
fn a_restart_that_is_killed_leaves_what_the_next_one_takes_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("target");
    let (partial, _) = open(&path, &offered(SIZE)).unwrap();
    put(&partial, 0);
    rustix::fs::fchmod(&partial.file, Mode::RUSR).unwrap();
    drop(partial);
    let restart = || {
        let place = Place::of(&path).unwrap();
        PartialFile::open(&place, &offered(SIZE), false, true, &Leaving::default())
    };
    assert!(restart().unwrap().1.is_empty());
    // Before it made a journal of its own.
    let part = dir.path().join("target.part");
    File::options()
        .write(true)
        .open(&part)
        .unwrap()
        .set_len(0)
        .unwrap();
    std::fs::remove_file(dir.path().join("target.part.journal")).unwrap();
    open(&path, &offered(SIZE)).unwrap();
}

#[test]
fn a_journal_without_its_file_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("target");
    named_and_gone(&path, SIZE);
    std::fs::remove_file(&path).unwrap();
    let (_, held) = open(&path, &offered(SIZE + 1)).unwrap();
    assert!(held.is_empty());
}

#[test]
fn a_later_run_holds_what_is_proven_and_still_true() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("target");
    let (partial, _) = open(&path, &offered(SIZE)).unwrap();
    [0, 2].into_iter().for_each(|block| put(&partial, block));
    assert!(matches!(open(&path, &offered(SIZE)), Err(e) if e.code == ErrorCode::TargetBusy));
    drop(partial);
    let (partial, held) = open(&path, &offered(SIZE)).unwrap();
    assert_eq!(
        held.iter().map(|(b, h)| (*b, h.len())).collect::<Vec<_>>(),
        [(0, 1), (2, 1)]
    );
    partial.write_all_at(b"damage", 7).unwrap();
    drop(partial);
    let (_, held) = open(&path, &offered(SIZE)).unwrap();
    assert_eq!(held.iter().map(|(b, _)| *b).collect::<Vec<_>>(), [2]);
}

#[test]
fn whoever_fails_or_is_killed_while_taking_up_a_partial_loses_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("target");
    let (partial, _) = open(&path, &offered(SIZE)).unwrap();
    [0, 1].into_iter().for_each(|block| put(&partial, block));
    drop(partial);
    let journal = dir.path().join("target.part.journal");
    let before = std::fs::read(&journal).unwrap();
    let in_the_way = dir.path().join("target.part.journal.new");
    std::fs::create_dir(&in_the_way).unwrap();
    open(&path, &offered(SIZE)).unwrap_err();
    assert_eq!(std::fs::read(&journal).unwrap(), before);
    std::fs::remove_dir(&in_the_way).unwrap();
    // As a kill leaves it.
    std::fs::write(&in_the_way, &before[..50]).unwrap();
    let (partial, held) = open(&path, &offered(SIZE)).unwrap();
    assert_eq!(
        held.iter().map(|(_, hashes)| hashes.len()).sum::<usize>(),
        2
    );
    put(&partial, 2);
    partial.finish(Hash::of(&bytes(SIZE))).unwrap();
    partial.settle().unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_partial_of_another_source_is_kept_and_refused_unless_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("target");
    let (partial, _) = open(&path, &offered(SIZE)).unwrap();
    put(&partial, 1);
    drop(partial);
    let error = open(&path, &offered(SIZE + 1)).unwrap_err();
    assert_eq!(error.code, ErrorCode::SourceChanged);
    assert_eq!(open(&path, &offered(SIZE)).unwrap().1.len(), 1);
    let place = Place::of(&path).unwrap();
    let (_, held) =
        PartialFile::open(&place, &offered(SIZE + 1), false, true, &Leaving::default()).unwrap();
    assert!(held.is_empty());
}

#[test]
fn a_restart_takes_neither_what_is_being_written_nor_what_is_not_ours() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("target");
    let restart = || {
        let place = Place::of(&path).unwrap();
        PartialFile::open(&place, &offered(SIZE), false, true, &Leaving::default())
    };
    let (partial, _) = open(&path, &offered(SIZE)).unwrap();
    (0..3).for_each(|block| put(&partial, block));
    assert_eq!(restart().unwrap_err().code, ErrorCode::TargetBusy);
    partial.finish(Hash::of(&bytes(SIZE))).unwrap();
    partial.settle().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes(SIZE));
    drop(partial);
    std::fs::remove_file(&path).unwrap();
    let part = dir.path().join("target.part");
    std::fs::write(&part, "of somebody else").unwrap();
    assert_eq!(restart().unwrap_err().code, ErrorCode::NameTaken);
    assert_eq!(std::fs::read(&part).unwrap(), b"of somebody else");
}

/// Where there are no locks, another process can do that.
#[test]
fn a_partial_that_was_replaced_gives_no_name_to_what_replaced_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("target");
    let part = dir.path().join("target.part");
    let (partial, _) = open(&path, &offered(SIZE)).unwrap();
    (0..3).for_each(|block| put(&partial, block));
    std::fs::remove_file(&part).unwrap();
    std::fs::write(&part, "half").unwrap();
    let error = partial.finish(Hash::of(&bytes(SIZE))).unwrap_err();
    assert_eq!(error.code, ErrorCode::TargetBusy);
    assert!(!path.exists());
    assert_eq!(std::fs::read(&part).unwrap(), b"half");
}

#[test]
fn a_file_with_both_names_is_the_one_that_awaits_its_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("target");
    let (partial, _) = open(&path, &offered(SIZE)).unwrap();
    (0..3).for_each(|block| put(&partial, block));
    partial.finish(Hash::of(&bytes(SIZE))).unwrap();
    drop(partial);
    // Killed in the middle of a rename by link.
    std::fs::hard_link(&path, dir.path().join("target.part")).unwrap();
    let place = Place::of(&path).unwrap();
    assert!(PartialFile::awaits_receipt(&place).unwrap());
    let named = PartialFile::find_named(&place, &offered(SIZE), &Leaving::default()).unwrap();
    named.unwrap().settle().unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_session_that_is_over_ends_the_hashing_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("target");
    let (partial, _) = open(&path, &offered(SIZE)).unwrap();
    put(&partial, 1);
    drop(partial);
    let (place, leaving) = (Place::of(&path).unwrap(), Leaving::default());
    leaving.set();
    let error = PartialFile::open(&place, &offered(SIZE), false, false, &leaving);
    assert_eq!(error.unwrap_err().code, ErrorCode::Interrupted);
    assert_eq!(open(&path, &offered(SIZE)).unwrap().1.len(), 1);
}

#[test]
fn a_wrong_root_or_a_taken_name_leaves_the_target_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("target");
    let (partial, _) = open(&path, &offered(0)).unwrap();
    assert_eq!(
        partial.finish(Hash([1; 32])).unwrap_err().code,
        ErrorCode::HashMismatch
    );
    std::fs::write(&path, "mine").unwrap();
    assert_eq!(
        partial.finish(Hash::of(&[])).unwrap_err().code,
        ErrorCode::TargetExists
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}

#[test]
fn a_foreign_file_with_the_name_of_a_partial_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let part = dir.path().join("target.part");
    for size in [6, SIZE] {
        std::fs::write(&part, bytes(size)).unwrap();
        let error = open(&dir.path().join("target"), &offered(5)).unwrap_err();
        assert_eq!(error.code, ErrorCode::NameTaken);
        assert_eq!(std::fs::read(&part).unwrap(), bytes(size));
    }
}

#[test]
fn what_cannot_fit_is_refused_before_a_byte_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let error = open(&dir.path().join("target"), &offered(1 << 60)).unwrap_err();
    assert_eq!(error.code, ErrorCode::NoSpace);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
