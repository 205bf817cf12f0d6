//! How a file is cut into blocks, and which of them are there.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::limits;

/// The blocks of a file of one size: all of them of one length, a power of two, but the last.
///
/// Follows from the size alone, so both sides and every later session cut alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPlan {
    size: u64,
    block_log2: u32,
}

impl BlockPlan {
    /// `None` when `size` is over [`limits::FILE_MAX_BYTES`].
    pub fn new(size: u64) -> Option<Self> {
        if size > limits::FILE_MAX_BYTES {
            return None;
        }
        let smallest = size.div_ceil(limits::FILE_MAX_BLOCKS).next_power_of_two();
        let block = smallest.max(limits::BLOCK_MIN_BYTES);
        Some(Self {
            size,
            block_log2: block.trailing_zeros(),
        })
    }

    /// Size of the file, in bytes.
    pub fn size(self) -> u64 {
        self.size
    }

    /// Length of every block but the last, in bytes.
    pub fn block_bytes(self) -> u64 {
        1 << self.block_log2
    }

    /// Number of blocks; 0 for an empty file.
    pub fn count(self) -> u64 {
        self.size.div_ceil(self.block_bytes())
    }

    /// The bytes of a block, half-open. Empty when the file has no such block.
    pub fn range(self, block: u64) -> Range<u64> {
        let start = block.saturating_mul(self.block_bytes()).min(self.size);
        start..start.saturating_add(self.block_bytes()).min(self.size)
    }

    /// Length of a block, in bytes.
    pub fn len(self, block: u64) -> u64 {
        let range = self.range(block);
        range.end - range.start
    }

    /// The block that starts at `offset` and is `length` bytes long, if there is one.
    pub fn block_at(self, offset: u64, length: u64) -> Option<u64> {
        let block = offset >> self.block_log2;
        let range = self.range(block);
        (length > 0 && range.start == offset && range.end - range.start == length).then_some(block)
    }
}

/// Consecutive blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRun {
    /// First block.
    pub first: u64,
    /// Number of blocks.
    pub count: u64,
}

impl BlockRun {
    /// The blocks, in order.
    pub fn blocks(self) -> Range<u64> {
        self.first..self.first.saturating_add(self.count)
    }

    /// Consecutive blocks as few runs.
    pub fn gather(blocks: impl Iterator<Item = u64>) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::new();
        for block in blocks {
            match runs.last_mut() {
                Some(run) if run.blocks().end == block => run.count += 1,
                _ => runs.push(Self {
                    first: block,
                    count: 1,
                }),
            }
        }
        runs
    }
}

/// A set of blocks of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSet {
    words: Vec<u64>,
    blocks: u64,
    present: u64,
}

impl BlockSet {
    /// The empty set over the blocks of `plan`; at most 2 KiB.
    pub fn new(plan: BlockPlan) -> Self {
        let blocks = plan.count();
        Self {
            words: vec![0; blocks.div_ceil(64) as usize],
            blocks,
            present: 0,
        }
    }

    /// Adds a block. `false` if it was there, or if the file has no such block.
    pub fn insert(&mut self, block: u64) -> bool {
        if block >= self.blocks || self.contains(block) {
            return false;
        }
        self.words[(block / 64) as usize] |= 1 << (block % 64);
        self.present += 1;
        true
    }

    /// Takes a block out. `false` if it was not there.
    pub fn remove(&mut self, block: u64) -> bool {
        if !self.contains(block) {
            return false;
        }
        self.words[(block / 64) as usize] &= !(1 << (block % 64));
        self.present -= 1;
        true
    }

    /// Whether a block is there.
    pub fn contains(&self, block: u64) -> bool {
        block < self.blocks && self.words[(block / 64) as usize] >> (block % 64) & 1 == 1
    }

    /// Number of blocks there.
    pub fn len(&self) -> u64 {
        self.present
    }

    /// Whether no block is there.
    pub fn is_empty(&self) -> bool {
        self.present == 0
    }

    /// Whether every block of the file is there.
    pub fn is_full(&self) -> bool {
        self.present == self.blocks
    }

    /// The missing blocks as runs, in order.
    pub fn missing(&self) -> Vec<BlockRun> {
        BlockRun::gather((0..self.blocks).filter(|block| !self.contains(*block)))
    }

    /// The blocks that are there as runs, in order.
    pub fn runs(&self) -> Vec<BlockRun> {
        BlockRun::gather((0..self.blocks).filter(|block| self.contains(*block)))
    }

    /// The blocks that are there and not in `other`, as runs, in order.
    pub fn without(&self, other: &Self) -> Vec<BlockRun> {
        let there = |block: &u64| self.contains(*block) && !other.contains(*block);
        BlockRun::gather((0..self.blocks).filter(there))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{BLOCK_MIN_BYTES, FILE_MAX_BLOCKS, FILE_MAX_BYTES};
    use proptest::prelude::*;

    #[test]
    fn large_files_have_larger_blocks() {
        let block = |size| BlockPlan::new(size).unwrap().block_bytes();
        assert_eq!(block(1 << 34), BLOCK_MIN_BYTES);
        assert_eq!(block((1 << 34) + 1), 2 * BLOCK_MIN_BYTES);
        assert_eq!(block(1 << 40), 64 << 20);
        assert!(BlockPlan::new(FILE_MAX_BYTES + 1).is_none());
        assert_eq!(BlockPlan::new(0).unwrap().count(), 0);
    }

    proptest! {
        #[test]
        fn blocks_cover_the_file_exactly(size in 0..=FILE_MAX_BYTES) {
            let plan = BlockPlan::new(size).unwrap();
            prop_assert!(plan.count() <= FILE_MAX_BLOCKS);
            if size > 0 {
                let last = plan.count() - 1;
                prop_assert_eq!(plan.range(last).end, size);
                prop_assert!(plan.len(last) > 0);
                prop_assert_eq!(plan.block_at(plan.range(last).start, plan.len(last)), Some(last));
            }
            prop_assert_eq!(plan.len(plan.count()), 0);
        }

        #[test]
        fn missing_is_what_was_not_inserted(size in 0u64..200, there in proptest::collection::vec(0u64..250, 0..200)) {
            let plan = BlockPlan::new(size * BLOCK_MIN_BYTES).unwrap();
            let mut set = BlockSet::new(plan);
            for block in &there {
                prop_assert_eq!(set.contains(*block) || *block >= size, !set.insert(*block));
            }
            let missing: Vec<u64> = set.missing().into_iter().flat_map(BlockRun::blocks).collect();
            let expected: Vec<u64> = (0..size).filter(|b| !there.contains(b)).collect();
            prop_assert_eq!(set.len(), size - expected.len() as u64);
            prop_assert_eq!(set.is_full(), expected.is_empty());
            prop_assert_eq!(missing, expected);
        }
    }
}
