//! What a crash, a full disk or a bad sector may leave of a partial and its journal: nothing of
//! it is believed that is not so.

use std::path::Path;

use proptest::prelude::*;

use crate::hash::{BlockHasher, Hash};
use crate::limits::BLOCK_MIN_BYTES;
use crate::path::RelPath;
use crate::store::leaving::Leaving;
use crate::store::partial::PartialFile;
use crate::store::place::Place;
use crate::wire::message::{Entry, EntryKind, Timestamp};

const SIZE: usize = 3 * BLOCK_MIN_BYTES as usize + 100;

/// One fault in one of the two files.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Truncated(usize),
    Flipped(usize, u8),
    Zeroed(usize, usize),
    Appended(usize),
}

fn damage() -> impl Strategy<Value = (bool, Damage)> {
    // Journals are short, so that most of these are in the middle of one.
    let at = || prop_oneof![0..300usize, any::<usize>()];
    let damage = prop_oneof![
        at().prop_map(Damage::Truncated),
        (at(), 0..8u8).prop_map(|(at, bit)| Damage::Flipped(at, bit)),
        (at(), 1..600usize).prop_map(|(at, length)| Damage::Zeroed(at, length)),
        (1..600usize).prop_map(Damage::Appended),
    ];
    (any::<bool>(), damage)
}

fn apply(path: &Path, damage: Damage) {
    let mut bytes = std::fs::read(path).unwrap();
    let length = bytes.len().max(1);
    match damage {
        Damage::Truncated(at) => bytes.truncate(at % length),
        Damage::Flipped(at, bit) => {
            if let Some(byte) = bytes.get_mut(at % length) {
                *byte ^= 1 << bit;
            }
        }
        Damage::Zeroed(at, count) => {
            let start = at % length;
            let end = bytes.len().min(start + count);
            bytes[start.min(end)..end].fill(0);
        }
        Damage::Appended(count) => bytes.extend(vec![0xab; count]),
    }
    std::fs::write(path, bytes).unwrap();
}

fn offered() -> Entry {
    Entry {
        path: RelPath::root(),
        kind: EntryKind::File { size: SIZE as u64 },
        mode: 0o600,
        modified: Timestamp::default(),
        has_holes: false,
    }
}

/// Writes one block as the receiver does.
fn put(partial: &PartialFile, content: &[u8], block: u64) {
    let range = partial.plan().range(block);
    let bytes = &content[range.start as usize..range.end as usize];
    partial.write_all_at(bytes, range.start).unwrap();
    let mut hasher = BlockHasher::new(partial.plan(), block);
    hasher.update(bytes);
    partial.prove(block, hasher.finish()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_damaged_the_next_run_ends_with_the_right_bytes(
        before in proptest::collection::btree_set(0..4u64, 0..4),
        damages in proptest::collection::vec(damage(), 0..4),
    ) {
        let content: Vec<u8> = (0..SIZE).map(|i| (i % 239) as u8).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        let open = || PartialFile::open(&Place::of(&path).unwrap(), &offered(), false, false, &Leaving::default());
        let (partial, _) = open().unwrap();
        before.iter().for_each(|block| put(&partial, &content, *block));
        drop(partial);
        for (in_journal, damage) in damages {
            let suffix = if in_journal { "target.part.journal" } else { "target.part" };
            apply(&dir.path().join(suffix), damage);
        }

        let (partial, held) = open().unwrap();
        let held: Vec<u64> = held
            .iter()
            .flat_map(|(first, hashes)| *first..*first + hashes.len() as u64)
            .collect();
        prop_assert!(held.iter().all(|block| before.contains(block)), "{held:?}");
        for block in (0..4).filter(|block| !held.contains(block)) {
            prop_assert!(partial.wants(block));
            put(&partial, &content, block);
        }
        partial.finish(Hash::of(&content)).unwrap();
        partial.settle().unwrap();
        prop_assert!(std::fs::read(&path).unwrap() == content);
        prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
