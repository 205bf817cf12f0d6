//! One hash for a whole tree: names, kinds and contents, in the order of the manifest.

use std::collections::BTreeMap;

use crate::hash::Hash;
use crate::wire::message::{Entry, EntryKind};

/// Takes entries in any order and hashes them in that of their numbers
/// (`docs/PROTOCOL.md#root-of-a-tree`). What waits for an earlier one is bounded by the
/// session's window.
#[derive(Debug)]
pub struct TreeHasher {
    hasher: blake3::Hasher,
    next: u32,
    waiting: BTreeMap<u32, Option<Vec<u8>>>,
    is_complete: bool,
}

impl Default for TreeHasher {
    fn default() -> Self {
        Self {
            hasher: blake3::Hasher::new(),
            next: 0,
            waiting: BTreeMap::new(),
            is_complete: true,
        }
    }
}

impl TreeHasher {
    /// An entry that is in place. Without the root of a file, which was recognised and not
    /// read, the tree has none either.
    pub fn put(&mut self, number: u32, entry: &Entry, root: Option<Hash>) {
        let mut bytes = Vec::with_capacity(entry.path.as_bytes().len() + 64);
        let (tag, content): (u8, &[u8]) = match (&entry.kind, &root) {
            (EntryKind::File { .. }, Some(root)) => (0, &root.0),
            (EntryKind::File { .. }, None) => {
                self.is_complete = false;
                (0, &[])
            }
            (EntryKind::Directory, _) => (1, &[]),
            (EntryKind::Symlink { target }, _) => (2, target),
            (EntryKind::Unsent { .. }, _) => return self.leave_out(number),
        };
        bytes.push(tag);
        for part in [entry.path.as_bytes(), content] {
            bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        self.take(number, Some(bytes));
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

    fn take(&mut self, number: u32, bytes: Option<Vec<u8>>) {
        self.waiting.insert(number, bytes);
        while let Some(bytes) = self.waiting.remove(&self.next) {
            self.next += 1;
            if let Some(bytes) = bytes {
                self.hasher.update(&bytes);
            }
        }
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
}
