//! BLAKE3 hashes, of whole files and of the blocks they are made of.

use std::fmt;

use blake3::hazmat::{self, HasherExt as _};
use serde::{Deserialize, Serialize};

use crate::blocks::BlockPlan;

/// A BLAKE3 hash: a file's root (what `b3sum` prints), or a block's chaining value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hash(pub [u8; Self::BYTES]);

impl Hash {
    /// Length, in bytes.
    pub const BYTES: usize = 32;

    /// The root hash of `bytes` as a whole file.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…")
    }
}

/// Hashes one block of a file as its bytes pass.
#[derive(Debug, Clone)]
pub struct BlockHasher {
    hasher: blake3::Hasher,
    whole_file: bool,
}

impl BlockHasher {
    /// Starts the block `block` of a file cut by `plan`.
    pub fn new(plan: BlockPlan, block: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(plan.range(block).start);
        Self {
            hasher,
            whole_file: plan.count() <= 1,
        }
    }

    /// Takes the next bytes. Contiguous pieces of 16 KiB and more are several times faster
    /// than packet-sized ones.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Takes so many zeros. Their hash depends on where they are, so it cannot be known before.
    pub fn update_zeros(&mut self, mut count: u64) {
        static ZEROS: [u8; 128 << 10] = [0; 128 << 10];
        while count > 0 {
            let step = count.min(ZEROS.len() as u64);
            self.hasher.update(&ZEROS[..step as usize]);
            count -= step;
        }
    }

    /// The block's hash: its chaining value, or the root where the file has one block only.
    pub fn finish(&self) -> Hash {
        if self.whole_file {
            Hash(*self.hasher.finalize().as_bytes())
        } else {
            Hash(self.hasher.finalize_non_root())
        }
    }
}

/// Hashes one block of a file, which `read` reads a buffer at a time from an offset on.
///
/// # Errors
/// Those of `read`.
#[cfg(feature = "net")]
pub(crate) fn hash_block<E>(
    plan: BlockPlan,
    block: u64,
    buffer: &mut [u8],
    mut read: impl FnMut(&mut [u8], u64) -> Result<(), E>,
) -> Result<Hash, E> {
    let mut hasher = BlockHasher::new(plan, block);
    let range = plan.range(block);
    for start in range.clone().step_by(buffer.len()) {
        let length = (range.end - start).min(buffer.len() as u64) as usize;
        read(&mut buffer[..length], start)?;
        hasher.update(&buffer[..length]);
    }
    Ok(hasher.finish())
}

/// The root of a file of which every block's hash is known, in order.
///
/// `blocks` has as many hashes as the file has blocks; none for an empty file.
pub fn root_of(blocks: &[Hash]) -> Hash {
    match blocks {
        [] => Hash::of(&[]),
        [only] => *only,
        _ => {
            let (left, right) = split(blocks);
            let (left, right) = (subtree(left), subtree(right));
            Hash(*hazmat::merge_subtrees_root(&left.0, &right.0, hazmat::Mode::Hash).as_bytes())
        }
    }
}

fn subtree(blocks: &[Hash]) -> Hash {
    match blocks {
        [only] => *only,
        _ => {
            let (left, right) = split(blocks);
            let (left, right) = (subtree(left), subtree(right));
            Hash(hazmat::merge_subtrees_non_root(
                &left.0,
                &right.0,
                hazmat::Mode::Hash,
            ))
        }
    }
}

/// BLAKE3's tree is left-balanced: the left part is the largest power of two below the whole.
fn split(blocks: &[Hash]) -> (&[Hash], &[Hash]) {
    blocks.split_at(blocks.len().next_power_of_two() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BLOCK_MIN_BYTES;

    /// Sizes around every boundary: chunk, chunk group, block, two blocks, a lopsided tree.
    const INTERESTING_SIZES: &[u64] = &[
        0,
        1,
        1023,
        1024,
        1025,
        16 * 1024 - 1,
        16 * 1024 + 1,
        BLOCK_MIN_BYTES - 1,
        BLOCK_MIN_BYTES,
        BLOCK_MIN_BYTES + 1,
        2 * BLOCK_MIN_BYTES,
        2 * BLOCK_MIN_BYTES + 1,
        5 * BLOCK_MIN_BYTES + 12_345,
    ];

    #[test]
    fn blocks_make_the_same_root_as_the_whole_file() {
        for &size in INTERESTING_SIZES {
            let bytes: Vec<u8> = (0..size).map(|i| (i * 31 % 251) as u8).collect();
            let plan = BlockPlan::new(size).unwrap();
            let hashes: Vec<Hash> = (0..plan.count())
                .map(|block| {
                    let range = plan.range(block);
                    let mut hasher = BlockHasher::new(plan, block);
                    let block = &bytes[range.start as usize..range.end as usize];
                    block.chunks(65_413).for_each(|piece| hasher.update(piece));
                    hasher.finish()
                })
                .collect();
            assert_eq!(root_of(&hashes), Hash::of(&bytes), "size {size}");
        }
    }
}
