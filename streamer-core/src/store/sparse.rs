//! Holes: zeros that take no space.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use crate::limits;

/// Writes `bytes` at `offset`, and leaves holes where they are zeros for a page and more.
/// Whatever was there before is gone.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    for (is_hole, run) in runs(bytes, offset) {
        let (at, length) = (offset + run.start as u64, run.len() as u64);
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match is_hole.then(|| rustix::fs::fallocate(file, flags, at, length)) {
            Some(Ok(())) => {}
            // Not a hole, or a file system without them.
            None | Some(Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)) => {
                file.write_all_at(&bytes[run], at)?;
            }
            Some(Err(error)) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes a hole of `range`, whatever was there before; zeros where there are no holes.
pub(crate) fn clear(file: &File, range: Range<u64>) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file, flags, range.start, range.end - range.start) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            range.clone().step_by(PAGE).try_for_each(|offset| {
                let length = (range.end - offset).min(PAGE as u64) as usize;
                file.write_all_at(&ZEROS[..length], offset)
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a file of `size` bytes that takes `blocks` of 512 bytes has holes that are worth keeping.
pub(crate) fn has_holes(file: impl AsFd, size: u64, blocks: u64) -> bool {
    // Moves the offset of the descriptor, which nobody else uses.
    may_have_holes(size, blocks)
        && (is_believed(size)
            || rustix::fs::seek(file, SeekFrom::Hole(0)).is_ok_and(|first| first < size))
}

/// Whether to ask [`has_holes`]: where the file system compresses, every file takes less than its
/// bytes.
pub(crate) fn may_have_holes(size: u64, blocks: u64) -> bool {
    blocks.saturating_mul(512) < size
}

/// Whether a file of that size is taken for a sparse one without being opened to ask: one of a block at
/// most, for which little space is reserved.
pub(crate) fn is_believed(size: u64) -> bool {
    size <= limits::BLOCK_MIN_BYTES
}

/// Whether all of `range` lies in a hole. Where the file system does not tell: no.
pub(crate) fn is_hole(file: &File, range: &Range<u64>) -> bool {
    // Moves the offset of the descriptor, which nobody else uses.
    match rustix::fs::seek(file, SeekFrom::Data(range.start)) {
        Ok(next) => next >= range.end,
        // No data up to the end of the file.
        Err(Errno::NXIO) => true,
        Err(_) => false,
    }
}

/// Cuts bytes into runs of pages that are all zeros, and of others.
fn runs(bytes: &[u8], offset: u64) -> Vec<(bool, Range<usize>)> {
    let mut runs: Vec<(bool, Range<usize>)> = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let into_page = ((offset + start as u64) % PAGE as u64) as usize;
        let end = (start + PAGE - into_page).min(bytes.len());
        let page = &bytes[start..end];
        let is_hole = page == &ZEROS[..page.len()];
        match runs.last_mut() {
            Some((kind, run)) if *kind == is_hole => run.end = end,
            _ => runs.push((is_hole, start..end)),
        }
        start = end;
    }
    runs
}

/// What file systems allocate at least.
const PAGE: usize = 4096;

static ZEROS: [u8; PAGE] = [0; PAGE];

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn zeros_become_holes_and_what_was_there_is_gone() {
        let file = tempfile::tempfile().unwrap();
        let size = 64 * PAGE;
        file.write_all_at(&vec![7; size], 0).unwrap();
        let mut bytes = vec![0; size];
        bytes[10 * PAGE + 5] = 1;
        bytes[size - 1] = 2;
        write_all_at(&file, &bytes, 0).unwrap();
        let mut there = vec![9; size];
        file.read_exact_at(&mut there, 0).unwrap();
        assert!(there == bytes);
        let found = file.metadata().unwrap();
        assert_eq!(found.len(), size as u64);
        assert!(
            found.blocks() * 512 <= 4 * PAGE as u64,
            "{} blocks",
            found.blocks()
        );
    }

    #[test]
    fn a_hole_is_found_and_made() {
        let file = tempfile::tempfile().unwrap();
        let size = 64 * PAGE as u64;
        file.set_len(size).unwrap();
        assert!(is_hole(&file, &(0..size)));
        file.write_all_at(b"x", size / 2).unwrap();
        // Some file systems tell of no hole at all, but none of one where there is data.
        assert!(!is_hole(&file, &(0..size)));
        assert!(!is_hole(&file, &(size / 2..size / 2 + 1)));
        clear(&file, 0..size).unwrap();
        let mut there = [9; 64 * PAGE];
        file.read_exact_at(&mut there, 0).unwrap();
        assert!(there.iter().all(|byte| *byte == 0));
        assert_eq!(file.metadata().unwrap().len(), size);
    }

    #[test]
    fn fewer_blocks_than_bytes_are_holes_only_where_one_is_found() {
        let size = 2 * limits::BLOCK_MIN_BYTES;
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        assert!(has_holes(&file, size, 0));
        assert!(!has_holes(&file, size, size / 512), "all of it takes space");
        // As where it is compressed.
        file.write_all_at(&vec![7; size as usize], 0).unwrap();
        assert!(!has_holes(&file, size, 1));
        assert!(has_holes(&file, limits::BLOCK_MIN_BYTES, 1), "not asked");
    }

    #[test]
    fn runs_follow_the_pages_of_the_file_not_those_of_the_buffer() {
        let mut bytes = vec![0; 3 * PAGE];
        bytes[PAGE] = 1;
        let (first, second) = (PAGE - 1, 2 * PAGE - 1);
        let expected = [
            (true, 0..first),
            (false, first..second),
            (true, second..3 * PAGE),
        ];
        assert_eq!(runs(&bytes, 1), expected);
        assert!(runs(&[], 0).is_empty());
    }
}
