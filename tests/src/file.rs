//! Large files, made and compared in bounded memory.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom as _, SystemRandom};

/// A directory of its own for one test, in memory where there is room.
///
/// # Panics
/// When no directory can be made.
pub fn directory() -> tempfile::TempDir {
    directory_for(ROOM_BYTES)
}

/// The same for a test that needs more room.
///
/// # Panics
/// When no directory can be made.
pub fn directory_for(bytes: u64) -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let room = rustix::fs::statvfs(&memory).map_or(0, |fs| fs.f_bavail * fs.f_frsize);
    let parent = if room >= bytes {
        memory
    } else {
        std::env::temp_dir()
    };
    tempfile::Builder::new()
        .prefix("streamer-it-")
        .tempdir_in(parent)
        .expect("a temporary directory")
}

/// Writes `size` random bytes and returns their SHA-256.
///
/// # Panics
/// When the file cannot be written.
pub fn random(path: &Path, size: u64) -> Vec<u8> {
    let mut file = File::create(path).expect("the file can be made");
    let (mut context, mut block) = (Context::new(&SHA256), vec![0; BLOCK_BYTES]);
    let mut left = size;
    while left > 0 {
        let length = usize::try_from(left).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
        SystemRandom::new()
            .fill(&mut block[..length])
            .expect("randomness");
        file.write_all(&block[..length]).expect("room for the file");
        context.update(&block[..length]);
        left -= length as u64;
    }
    context.finish().as_ref().to_vec()
}

/// Makes a file of zeros that takes little room. Its bytes travel: each block has one that is
/// no zero.
///
/// # Panics
/// When it cannot be made.
pub fn zeros(path: &Path, size: u64) {
    let file = File::create(path).expect("the file can be made");
    file.set_len(size).expect("the file can grow");
    for offset in (0..size).step_by(1 << 20) {
        file.write_all_at(b"x", offset)
            .expect("the file can be written");
    }
}

/// Writes `size` bytes that no block repeats, much faster than random ones.
///
/// # Panics
/// When the file cannot be written.
pub fn varied(path: &Path, size: u64) {
    let mut file = File::create(path).expect("the file can be made");
    let mut block = vec![0; BLOCK_BYTES];
    SystemRandom::new().fill(&mut block).expect("randomness");
    let (mut left, mut number) = (size, 0_u64);
    while left > 0 {
        block[..8].copy_from_slice(&number.to_le_bytes());
        let length = usize::try_from(left).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
        file.write_all(&block[..length]).expect("room for the file");
        (left, number) = (left - length as u64, number + 1);
    }
}

/// Whether two files hold the same bytes.
///
/// # Panics
/// When one cannot be read.
pub fn same(one: &Path, other: &Path) -> bool {
    let open = |path: &Path| {
        let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (file.metadata().expect("its size").len(), file)
    };
    let ((size, mut one), (other_size, mut other)) = (open(one), open(other));
    let (mut ours, mut theirs) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    let mut left = size;
    while left > 0 {
        let length = usize::try_from(left).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
        one.read_exact(&mut ours[..length])
            .expect("the file can be read");
        if other.read_exact(&mut theirs[..length]).is_err() || ours != theirs {
            return false;
        }
        left -= length as u64;
    }
    size == other_size
}

/// SHA-256 of a file.
///
/// # Panics
/// When it cannot be read.
pub fn sha256(path: &Path) -> Vec<u8> {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut context, mut block) = (Context::new(&SHA256), vec![0; BLOCK_BYTES]);
    loop {
        match file.read(&mut block).expect("the file can be read") {
            0 => return context.finish().as_ref().to_vec(),
            length => context.update(&block[..length]),
        }
    }
}

const BLOCK_BYTES: usize = 1 << 20;
/// The largest test holds two files of 1 GiB at a time; twice that may be there at once.
const ROOM_BYTES: u64 = 6 << 30;
