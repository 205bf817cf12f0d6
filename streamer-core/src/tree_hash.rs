//! One hash for a whole tree: names, kinds and contents, in the order of the manifest.

use std::collections::BTreeMap;

use crate::hash::Hash;
use crate::limits;
use crate::wire::message::{Entry, EntryKind};

/// Takes entries in any order and hashes them in that of their numbers
/// (`docs/PROTOCOL.md#root-of-a-tree`). What waits for an earlier one is bounded: a sender does not
/// offer far beyond one that is open, and where more waits none the less there is no hash.
#[derive(Debug)]
pub struct TreeHasher {
    hasher: blake3::Hasher,
    next: u32,
    waiting: BTreeMap<u32, Option<Box<[u8]>>>,
    waiting_bytes: usize,
    /// Once false it stays so, and nothing waits any more.
    is_complete: bool,
}

impl Default for TreeHasher {
    fn default() -> Self {
        Self {
            hasher: blake3::Hasher::new(),
            next: 0,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            is_complete: true,
        }
    }
}

impl TreeHasher {
    /// An entry that is in place. Without the root of a file, which was recognised and not
    /// read, the tree has none either.
    pub fn put(&mut self, number: u32, entry: &Entry, root: Option<Hash>) {
        let (tag, content): (u8, &[u8]) = match (&entry.kind, &root) {
            (EntryKind::File { .. }, Some(root)) => (0, &root.0),
            (EntryKind::File { .. }, None) => return self.give_up(),
            (EntryKind::Directory, _) => (1, &[]),
            (EntryKind::Symlink { target }, _) => (2, target),
            (EntryKind::Unsent { .. }, _) => return self.leave_out(number),
        };
        if !self.is_complete {
            return;
        }
        let path = entry.path.as_bytes();
        let mut bytes = Vec::with_capacity(1 + 2 * size_of::<u32>() + path.len() + content.len());
        bytes.push(tag);
        for part in [path, content] {
            bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        self.take(number, Some(bytes.into()));
    }

    /// An entry that failed.
    pub fn leave_out(&mut self, number: u32) {
        self.take(number, None);
    }

    /// The hash of all that was put; `None` when it cannot be told.
    pub fn finish(&self) -> Option<Hash> {
        let is_known = self.is_complete && self.waiting.is_empty();
        is_known.then(|| Hash(*self.hasher.finalize().as_bytes()))
    }

    fn take(&mut self, number: u32, bytes: Option<Box<[u8]>>) {
        if !self.is_complete {
            return;
        }
        self.waiting_bytes += bytes.as_ref().map_or(0, |bytes| bytes.len());
        self.waiting.insert(number, bytes);
        while let Some(bytes) = self.waiting.remove(&self.next) {
            self.next += 1;
            if let Some(bytes) = bytes {
                self.waiting_bytes -= bytes.len();
                self.hasher.update(&bytes);
            }
        }
        let is_too_much = self.waiting.len() > limits::TREE_SPAN_MAX_ENTRIES
            || self.waiting_bytes > limits::TREE_WAITING_MAX_BYTES;
        if is_too_much {
            self.give_up();
        }
    }

    /// Nothing is kept for a hash that cannot be told.
    fn give_up(&mut self) {
        self.is_complete = false;
        self.waiting = BTreeMap::new();
        self.waiting_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::RelPath;
    use crate::wire::message::Timestamp;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry {
            path: RelPath::try_from(path.as_bytes().to_vec()).unwrap(),
            kind,
            mode: 0o600,
            modified: Timestamp::default(),
            has_holes: false,
        }
    }

    fn tree() -> Vec<Entry> {
        let target = b"a".to_vec();
        vec![
            entry("", EntryKind::Directory),
            entry("a", EntryKind::File { size: 3 }),
            entry("b", EntryKind::Symlink { target }),
        ]
    }

    #[test]
    fn the_order_of_arrival_does_not_matter_and_the_bytes_are_as_documented() {
        let root = Hash::of(b"abc");
        let mut documented = Vec::new();
        documented.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0]);
        documented.extend_from_slice(&[0, 0, 0, 0, 1, b'a', 0, 0, 0, 32]);
        documented.extend_from_slice(&root.0);
        documented.extend_from_slice(&[2, 0, 0, 0, 1, b'b', 0, 0, 0, 1, b'a']);
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut hasher = TreeHasher::default();
            for number in order {
                hasher.put(number, &tree()[number as usize], Some(root));
            }
            assert_eq!(hasher.finish(), Some(Hash::of(&documented)));
        }
    }

    #[test]
    fn what_failed_is_left_out_and_what_was_not_read_leaves_no_hash() {
        let (tree, root) = (tree(), Hash::of(b"abc"));
        let mut failed = TreeHasher::default();
        failed.put(0, &tree[0], None);
        failed.leave_out(1);
        failed.put(2, &tree[2], None);
        let mut without = TreeHasher::default();
        without.put(0, &tree[0], None);
        without.put(1, &tree[2], None);
        assert_eq!(failed.finish(), without.finish());
        let mut kept = TreeHasher::default();
        kept.put(0, &tree[1], None);
        assert_eq!(kept.finish(), None);
        let mut open = TreeHasher::default();
        open.put(1, &tree[1], Some(root));
        assert_eq!(open.finish(), None);
    }

    #[test]
    fn nothing_waits_for_a_hash_that_cannot_be_told() {
        let (tree, root) = (tree(), Hash::of(b"abc"));
        let mut hasher = TreeHasher::default();
        hasher.put(1, &tree[1], Some(root));
        assert_eq!(hasher.waiting.len(), 1);
        hasher.put(2, &tree[1], None);
        for number in 3..1000 {
            hasher.put(number, &tree[1], Some(root));
            hasher.leave_out(number + 1000);
        }
        assert!(hasher.waiting.is_empty());
        hasher.put(0, &tree[0], None);
        assert_eq!(hasher.finish(), None);
    }

    #[test]
    fn what_waits_is_bounded_and_a_tree_within_the_bound_has_its_hash() {
        let root = Hash::of(b"abc");
        let hash_of = |count: u32, name: &str| {
            let mut hasher = TreeHasher::default();
            let file = entry(name, EntryKind::File { size: 3 });
            for number in 1..=count {
                hasher.put(number, &file, Some(root));
                assert!(hasher.waiting.len() <= limits::TREE_SPAN_MAX_ENTRIES);
                assert!(hasher.waiting_bytes <= limits::TREE_WAITING_MAX_BYTES);
            }
            hasher.put(0, &file, Some(root));
            hasher.finish()
        };
        let most = limits::TREE_SPAN_MAX_ENTRIES as u32;
        assert!(hash_of(most, "a").is_some());
        assert_eq!(hash_of(most + 1, "a"), None);
        let long = vec!["a".repeat(limits::NAME_MAX_BYTES); 15].join("/");
        assert_eq!(hash_of(most, &long), None);
    }
}
