//! Hashes of a file whose bytes pass from first to last.

use ring::digest;

use crate::blocks::BlockPlan;
use crate::hash::{BlockHasher, Hash};

/// SHA-256 of the whole, as the WebSocket protocol compares it, and BLAKE3 of each block, as
/// the store does.
pub(super) struct InOrderHasher {
    plan: BlockPlan,
    whole: digest::Context,
    block: u64,
    left: u64,
    hasher: BlockHasher,
    hashes: Vec<Hash>,
}

impl InOrderHasher {
    pub(super) fn new(plan: BlockPlan) -> Self {
        Self {
            plan,
            whole: digest::Context::new(&digest::SHA256),
            block: 0,
            left: first_len(plan),
            hasher: BlockHasher::new(plan, 0),
            hashes: Vec::new(),
        }
    }

    /// Takes the next bytes; not more in all than the plan has.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        while !bytes.is_empty() && self.left > 0 {
            let length =
                usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (now, later) = bytes.split_at(length);
            self.hasher.update(now);
            self.left -= length as u64;
            bytes = later;
            if self.left == 0 {
                self.next_block();
            }
        }
    }

    fn next_block(&mut self) {
        self.hashes.push(self.hasher.finish());
        self.block += 1;
        if self.block < self.plan.count() {
            self.hasher = BlockHasher::new(self.plan, self.block);
            self.left = self.plan.len(self.block);
        }
    }

    /// SHA-256 of the file, and the hash of each block.
    pub(super) fn finish(self) -> ([u8; 32], Vec<Hash>) {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.whole.finish().as_ref());
        (sha256, self.hashes)
    }
}

fn first_len(plan: BlockPlan) -> u64 {
    if plan.count() == 0 { 0 } else { plan.len(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::root_of;
    use crate::limits::BLOCK_MIN_BYTES;

    #[test]
    fn pieces_of_any_size_give_the_hashes_of_the_file() {
        for size in [
            0,
            1,
            BLOCK_MIN_BYTES,
            BLOCK_MIN_BYTES + 1,
            3 * BLOCK_MIN_BYTES,
        ] {
            let bytes: Vec<u8> = (0..size).map(|i| (i % 249) as u8).collect();
            for piece in [1 << 16, 700_001, 5 << 20] {
                let plan = BlockPlan::new(size).unwrap();
                let mut hasher = InOrderHasher::new(plan);
                bytes.chunks(piece).for_each(|piece| hasher.update(piece));
                let (sha256, hashes) = hasher.finish();
                let whole = digest::digest(&digest::SHA256, &bytes);
                assert_eq!(sha256, whole.as_ref());
                assert_eq!(hashes.len() as u64, plan.count());
                assert_eq!(root_of(&hashes), Hash::of(&bytes), "{size} by {piece}");
            }
        }
    }
}
