//! The journal beside a partial: which blocks are proven, and of what source.
//!
//! A header names the source, then each proven block adds one record; every piece carries a
//! checksum. A crash may lose the last records or leave a torn one: what does not check is
//! ignored, and so is everything after it. Nothing is claimed from the journal alone: blocks
//! are hashed again before they are believed (`docs/PROTOCOL.md#resume`).

use std::fs::File;
use std::io::{self, Read, Write as _};

use crate::blocks::BlockPlan;
use crate::hash::Hash;
use crate::wire::message::Timestamp;

/// What a partial is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceStamp {
    /// Size of the source, in bytes.
    pub size: u64,
    /// When it was last modified.
    pub modified: Timestamp,
}

/// What a journal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// Of what source.
    pub stamp: SourceStamp,
    /// Proven blocks, in the order of their records; the last of a block counts.
    pub blocks: Vec<(u64, Hash)>,
    /// Everything was proven, and the file was about to get its name, or has it.
    pub is_whole: bool,
}

impl Journal {
    /// Reads a journal; `None` when it has no valid header.
    ///
    /// # Errors
    /// When reading fails.
    pub fn read(mut file: &File, plan: BlockPlan) -> io::Result<Option<Self>> {
        // A block is proven a few times at the most: more than this is not our journal.
        let most = HEADER_BYTES as u64 + (plan.count() + 1) * 8 * RECORD_BYTES as u64;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(most).read_to_end(&mut bytes)?;
        let Some((header, records)) = bytes.split_at_checked(HEADER_BYTES) else {
            return Ok(None);
        };
        let Some(stamp) = decode_header(header) else {
            return Ok(None);
        };
        let records = records.chunks_exact(RECORD_BYTES).map_while(decode_record);
        let mut blocks: Vec<(u64, Hash)> = records.collect();
        let is_whole = blocks.iter().any(|(block, _)| *block == WHOLE);
        blocks.retain(|(block, _)| *block < plan.count());
        Ok(Some(Self {
            stamp,
            blocks,
            is_whole,
        }))
    }
}

/// Whether it is a journal, or is about to become one.
///
/// # Errors
/// When reading fails.
pub fn is_one(mut file: &File) -> io::Result<bool> {
    let mut begin = Vec::new();
    let most = MAGIC.len() as u64;
    Read::by_ref(&mut file).take(most).read_to_end(&mut begin)?;
    Ok(begin.is_empty() || begin == MAGIC)
}

/// Writes the header of a new journal.
///
/// # Errors
/// As writing fails.
pub fn write_header(mut file: &File, stamp: SourceStamp) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&stamp.size.to_be_bytes());
    bytes.extend_from_slice(&stamp.modified.seconds.to_be_bytes());
    bytes.extend_from_slice(&stamp.modified.nanos.to_be_bytes());
    file.write_all(&with_checksum(bytes))
}

/// Adds a proven block; the file is open for appending.
///
/// # Errors
/// As writing fails.
pub fn append(mut file: &File, block: u64, hash: Hash) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(RECORD_BYTES);
    bytes.extend_from_slice(&block.to_be_bytes());
    bytes.extend_from_slice(&hash.0);
    file.write_all(&with_checksum(bytes))
}

/// Adds that every block is proven, with the root. Not durable yet.
///
/// # Errors
/// As writing fails.
pub fn append_whole(file: &File, root: Hash) -> io::Result<()> {
    append(file, WHOLE, root)
}

fn decode_header(bytes: &[u8]) -> Option<SourceStamp> {
    let bytes = checked(bytes)?.strip_prefix(MAGIC)?;
    let (size, bytes) = bytes.split_first_chunk()?;
    let (seconds, bytes) = bytes.split_first_chunk()?;
    let (nanos, _) = bytes.split_first_chunk()?;
    let modified = Timestamp {
        seconds: i64::from_be_bytes(*seconds),
        nanos: u32::from_be_bytes(*nanos),
    };
    Some(SourceStamp {
        size: u64::from_be_bytes(*size),
        modified,
    })
}

fn decode_record(bytes: &[u8]) -> Option<(u64, Hash)> {
    let (block, hash) = checked(bytes)?.split_first_chunk()?;
    Some((u64::from_be_bytes(*block), Hash(hash.try_into().ok()?)))
}

fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (content, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    (checksum(content) == *sum).then_some(content)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [a, b, c, d, ..] = Hash::of(bytes).0;
    [a, b, c, d]
}

const MAGIC: &[u8] = b"FSJOURN1";

/// No block: beyond the end of every file.
const WHOLE: u64 = u64::MAX;

const CHECKSUM_BYTES: usize = 4;
const HEADER_BYTES: usize = 8 + 8 + 8 + 4 + CHECKSUM_BYTES;
const RECORD_BYTES: usize = 8 + Hash::BYTES + CHECKSUM_BYTES;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BLOCK_MIN_BYTES;
    use proptest::prelude::*;
    use std::io::{Seek as _, SeekFrom};

    fn stamp() -> SourceStamp {
        let modified = Timestamp {
            seconds: -5,
            nanos: 7,
        };
        SourceStamp {
            size: 10 * BLOCK_MIN_BYTES,
            modified,
        }
    }

    fn written(blocks: &[(u64, Hash)]) -> File {
        let file = tempfile::tempfile().unwrap();
        write_header(&file, stamp()).unwrap();
        blocks
            .iter()
            .for_each(|(block, hash)| append(&file, *block, *hash).unwrap());
        file
    }

    fn read(mut file: &File) -> Option<Journal> {
        file.seek(SeekFrom::Start(0)).unwrap();
        Journal::read(file, BlockPlan::new(stamp().size).unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn a_crash_at_any_byte_loses_only_the_end(count in 0u64..10, cut in 0u64..500) {
            let blocks: Vec<(u64, Hash)> = (0..count).map(|b| (b, Hash([b as u8; 32]))).collect();
            let file = written(&blocks);
            let length = file.metadata().unwrap().len();
            file.set_len(length.min(cut)).unwrap();
            let kept = cut.saturating_sub(HEADER_BYTES as u64) / RECORD_BYTES as u64;
            match read(&file) {
                None => prop_assert!(cut < HEADER_BYTES as u64),
                Some(journal) => {
                    prop_assert_eq!(journal.stamp, stamp());
                    prop_assert_eq!(&journal.blocks, &blocks[..kept.min(count) as usize]);
                }
            }
        }

        #[test]
        fn any_damaged_byte_ends_what_is_believed(count in 1u64..10, at in 0u64..500) {
            let blocks: Vec<(u64, Hash)> = (0..count).map(|b| (b, Hash([b as u8; 32]))).collect();
            let mut file = written(&blocks);
            let at = at % file.metadata().unwrap().len();
            let mut byte = [0];
            file.seek(SeekFrom::Start(at)).unwrap();
            file.read_exact(&mut byte).unwrap();
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&[byte[0] ^ 0x40]).unwrap();
            let kept = at.checked_sub(HEADER_BYTES as u64).map(|at| at / RECORD_BYTES as u64);
            let expected = kept.map(|kept| &blocks[..kept as usize]);
            prop_assert_eq!(read(&file).map(|j| j.blocks), expected.map(<[_]>::to_vec));
        }
    }
}
