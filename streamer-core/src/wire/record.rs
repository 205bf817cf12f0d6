//! Records: what data streams carry, one after another.
//!
//! A record is a header of fixed size, the bytes of one block unless all of them are zero, and
//! the block's hash (`docs/PROTOCOL.md#data-streams`).

/// Length of a header, in bytes.
pub const HEADER_BYTES: usize = 20;

/// Length of the hash after the bytes of a block.
pub const TRAILER_BYTES: usize = crate::hash::Hash::BYTES;

/// Says which block of which entry follows. All numbers are big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// Number of the entry in the manifest.
    pub entry: u32,
    /// First byte of the block in the file.
    pub offset: u64,
    /// Length of the block, in bytes.
    pub length: u64,
    /// All of its bytes are zero, and are left out.
    pub is_hole: bool,
}

impl RecordHeader {
    /// Of a record of so many zero bytes that belongs to no entry, and is skipped as one of an entry
    /// that has failed.
    pub fn padding(length: u64) -> Self {
        Self {
            entry: NO_ENTRY,
            offset: 0,
            length,
            is_hole: false,
        }
    }

    /// As bytes.
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&self.entry.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.offset.to_be_bytes());
        let hole = if self.is_hole { HOLE } else { 0 };
        bytes[12..].copy_from_slice(&(self.length | hole).to_be_bytes());
        bytes
    }

    /// From bytes. Whether there is such a block is for the receiver to check.
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Self {
        let [e0, e1, e2, e3, o0, o1, o2, o3, o4, o5, o6, o7, length @ ..] = bytes;
        let length = u64::from_be_bytes(length);
        Self {
            entry: u32::from_be_bytes([e0, e1, e2, e3]),
            offset: u64::from_be_bytes([o0, o1, o2, o3, o4, o5, o6, o7]),
            length: length & !HOLE,
            is_hole: length & HOLE != 0,
        }
    }

    /// What follows the header, in bytes: those of the block, if any, and its hash.
    pub fn rest(self) -> u64 {
        let bytes = if self.is_hole { 0 } else { self.length };
        bytes.saturating_add(TRAILER_BYTES as u64)
    }
}

/// No manifest is so long.
const NO_ENTRY: u32 = u32::MAX;

/// Of the length: no file is so large.
const HOLE: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip() {
        for (is_hole, rest) in [(false, 35), (true, 32)] {
            let header = RecordHeader {
                entry: 1,
                offset: 2 << 40,
                length: 3,
                is_hole,
            };
            assert_eq!(RecordHeader::decode(header.encode()), header);
            assert_eq!(header.encode()[..5], [0, 0, 0, 1, 0]);
            assert_eq!(header.rest(), rest);
        }
    }
}
