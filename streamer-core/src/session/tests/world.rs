//! A source and a store in memory, with real bytes.

use std::collections::{BTreeMap, BTreeSet};

use crate::blocks::BlockPlan;
use crate::error::ErrorCode;
use crate::hash::{BlockHasher, Hash, root_of};
use crate::path::RelPath;
use crate::session::Preparation;
use crate::wire::message::{Entry, EntryKind, Timestamp};

/// What a sender has.
#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    pub(super) entries: Vec<Entry>,
    pub(super) bytes: Vec<Vec<u8>>,
}

impl Source {
    /// One file for each size.
    pub(super) fn files(sizes: &[u64]) -> Self {
        let mut source = Self::default();
        for &size in sizes {
            source.push(EntryKind::File { size });
        }
        source
    }

    pub(super) fn push(&mut self, kind: EntryKind) {
        let number = self.entries.len();
        let size = match kind {
            EntryKind::File { size } => size,
            EntryKind::Directory | EntryKind::Symlink { .. } | EntryKind::Unsent { .. } => 0,
        };
        self.entries.push(Entry {
            path: RelPath::try_from(format!("entry-{number}").into_bytes()).unwrap(),
            kind,
            mode: 0o644,
            modified: Timestamp::default(),
            has_holes: false,
        });
        let byte = |i: u64| (i % 251 + number as u64 + (i >> 20) * 7) as u8;
        self.bytes.push((0..size).map(byte).collect());
    }

    /// Other bytes of the same size, with a new modification time or behind our back.
    pub(super) fn change(&mut self, entry: usize, secretly: bool) {
        self.bytes[entry]
            .iter_mut()
            .for_each(|byte| *byte = byte.wrapping_add(1));
        if !secretly {
            self.entries[entry].modified.seconds += 1;
        }
    }

    pub(super) fn block(&self, entry: u32, block: u64) -> (Vec<u8>, Hash) {
        let plan = self.entries[entry as usize].plan().unwrap();
        let range = plan.range(block);
        let bytes = &self.bytes[entry as usize][range.start as usize..range.end as usize];
        (bytes.to_vec(), block_hash(plan, block, bytes))
    }
}

pub(super) fn block_hash(plan: BlockPlan, block: u64, bytes: &[u8]) -> Hash {
    let mut hasher = BlockHasher::new(plan, block);
    hasher.update(bytes);
    hasher.finish()
}

/// What a receiver has: it outlives sessions.
#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    pub(super) named: BTreeMap<RelPath, (Entry, Vec<u8>)>,
    pub(super) partials: BTreeMap<RelPath, Partial>,
    /// Paths that cannot be received.
    pub(super) refused: BTreeMap<RelPath, ErrorCode>,
}

#[derive(Debug, Clone)]
pub(super) struct Partial {
    entry: Entry,
    plan: BlockPlan,
    bytes: Vec<u8>,
    pub(super) proven: BTreeMap<u64, Hash>,
}

impl Store {
    /// Whether there is nothing, and nothing of it.
    pub(super) fn is_vacant(&self, path: &RelPath) -> bool {
        !self.named.contains_key(path) && !self.partials.contains_key(path)
    }

    pub(super) fn prepare(&mut self, entry: &Entry) -> Preparation {
        if let Some(code) = self.refused.get(&entry.path) {
            return Preparation::Refused(*code);
        }
        if self
            .named
            .get(&entry.path)
            .is_some_and(|(there, _)| there == entry)
        {
            return Preparation::NoData;
        }
        let Some(plan) = entry.plan() else {
            self.named
                .insert(entry.path.clone(), (entry.clone(), Vec::new()));
            return Preparation::NoData;
        };
        if plan.size() > ROOM {
            return Preparation::Refused(ErrorCode::NoSpace);
        }
        let fresh = Partial {
            entry: entry.clone(),
            plan,
            bytes: vec![0; plan.size() as usize],
            proven: BTreeMap::new(),
        };
        let partial = self
            .partials
            .entry(entry.path.clone())
            .or_insert_with(|| fresh.clone());
        if partial.entry != *entry {
            *partial = fresh;
        }
        let runs = partial
            .proven
            .iter()
            .map(|(block, hash)| (*block, vec![*hash]));
        Preparation::Data(runs.collect())
    }

    /// Writes a block and says whether its hash is the one announced.
    pub(super) fn write(&mut self, path: &RelPath, block: u64, bytes: &[u8], hash: Hash) -> bool {
        let partial = self.partials.get_mut(path).unwrap();
        let start = partial.plan.range(block).start as usize;
        partial.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        let proven = block_hash(partial.plan, block, bytes) == hash;
        if proven {
            partial.proven.insert(block, hash);
        } else {
            partial.proven.remove(&block);
        }
        proven
    }

    pub(super) fn finish(&mut self, path: &RelPath, root: Hash) -> Option<ErrorCode> {
        let partial = self.partials.remove(path).unwrap();
        let hashes: Vec<Hash> = partial.proven.values().copied().collect();
        if hashes.len() as u64 != partial.plan.count() || root_of(&hashes) != root {
            return Some(ErrorCode::HashMismatch);
        }
        assert_eq!(
            Hash::of(&partial.bytes),
            root,
            "proven, yet not in the file"
        );
        self.named
            .insert(path.clone(), (partial.entry, partial.bytes));
        None
    }

    /// Every file that has its name is the source's, byte for byte; all are there but `failed`.
    pub(super) fn assert_holds(&self, source: &Source, failed: &BTreeSet<u32>) {
        for (number, (entry, bytes)) in source.entries.iter().zip(&source.bytes).enumerate() {
            match self.named.get(&entry.path) {
                Some((_, there)) => assert!(there == bytes, "wrong bytes in entry {number}"),
                None => assert!(failed.contains(&(number as u32)), "no entry {number}"),
            }
        }
    }

    /// No file has its name that is not, byte for byte, one of the source's.
    pub(super) fn assert_nothing_foreign(&self, source: &Source) {
        for (path, (entry, bytes)) in &self.named {
            let is_file = matches!(entry.kind, EntryKind::File { .. });
            let is_ours = source.bytes.iter().any(|ours| ours == bytes);
            assert!(!is_file || is_ours, "foreign bytes in {path:?}");
        }
    }

    pub(super) fn proven_blocks(&self) -> u64 {
        let partials = self
            .partials
            .values()
            .map(|partial| partial.proven.len() as u64);
        let files = self.named.values().filter_map(|(entry, _)| entry.plan());
        partials.sum::<u64>() + files.map(BlockPlan::count).sum::<u64>()
    }
}

/// What fits in the store.
const ROOM: u64 = 64 << 20;
