//! What is moved, and whether it arrived.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Files in a directory of the tree of small files.
const FILES_PER_DIRECTORY: u64 = 100;

/// Bytes compared or written at a time.
const PIECE_BYTES: usize = 1 << 20;

/// What a peer has to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// One file of this many bytes.
    File {
        /// Its size.
        bytes: u64,
    },
    /// A tree of files of one size, a hundred to a directory.
    Tree {
        /// How many files.
        files: u64,
        /// The size of each.
        bytes_each: u64,
    },
}

impl Load {
    /// All bytes of all files.
    pub fn bytes(self) -> u64 {
        match self {
            Self::File { bytes } => bytes,
            Self::Tree { files, bytes_each } => files * bytes_each,
        }
    }

    /// One of the same kind that takes no time.
    #[must_use]
    pub fn smaller(self) -> Self {
        match self {
            Self::File { bytes } => Self::File {
                bytes: bytes.min(1 << 20),
            },
            Self::Tree { files, bytes_each } => Self::Tree {
                files: files.min(10),
                bytes_each,
            },
        }
    }

    /// Makes it at `path`, of bytes that do not compress and are the same each time.
    ///
    /// # Errors
    /// If there is no room or no permission.
    pub fn make(self, path: &Path) -> io::Result<()> {
        let mut random = blake3::Hasher::new().update(b"side by side").finalize_xof();
        match self {
            Self::File { bytes } => fill(path, bytes, &mut random),
            Self::Tree { files, bytes_each } => {
                fs::create_dir(path)?;
                for number in 0..files {
                    let directory = path.join(format!("{:04}", number / FILES_PER_DIRECTORY));
                    if number % FILES_PER_DIRECTORY == 0 {
                        fs::create_dir(&directory)?;
                    }
                    fill(
                        &directory.join(format!("{number:06}.dat")),
                        bytes_each,
                        &mut random,
                    )?;
                }
                Ok(())
            }
        }
    }
}

/// What a tool is known to leave after the bytes of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trailer {
    /// Nothing: the target is the source.
    None,
    /// The end-of-file message of the existing Python tool, which it takes for data.
    PythonEof,
}

/// How a target differs from its source.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// One of them cannot be read.
    #[error("cannot compare {path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Other bytes.
    #[error("{path} differs from its source within the mebibyte at {offset}")]
    Bytes {
        /// Of the target.
        path: PathBuf,
        /// Start of the piece that differs.
        offset: u64,
    },
    /// Fewer bytes, or more than a known trailer.
    #[error("{path} has {found} bytes after or instead of what was expected at {offset}")]
    Length {
        /// Of the target.
        path: PathBuf,
        /// Where source and target part.
        offset: u64,
        /// What is left of the target there.
        found: usize,
    },
    /// Other names in a directory.
    #[error("{path} does not have the entries of its source")]
    Entries {
        /// Of the target.
        path: PathBuf,
    },
}

/// Compares every byte and every name of `target` with `source`.
///
/// # Errors
/// Says what differs.
pub fn verify(source: &Path, target: &Path, trailer: Trailer) -> Result<(), Mismatch> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| Mismatch::Unreadable { path, source }
    };
    // `symlink_metadata`: a link to the source would not be a copy.
    if !fs::symlink_metadata(source)
        .map_err(unreadable(source))?
        .is_dir()
    {
        return verify_file(source, target, trailer);
    }
    let names = entries(source).map_err(unreadable(source))?;
    if names != entries(target).map_err(unreadable(target))? {
        return Err(Mismatch::Entries {
            path: target.to_owned(),
        });
    }
    names
        .iter()
        .try_for_each(|name| verify(&source.join(name), &target.join(name), trailer))
}

fn verify_file(source: &Path, target: &Path, trailer: Trailer) -> Result<(), Mismatch> {
    let unreadable = |path: &Path, source| Mismatch::Unreadable {
        path: path.to_owned(),
        source,
    };
    let open = |path: &Path| File::open(path).map_err(|e| unreadable(path, e));
    let (mut from, mut to) = (open(source)?, open(target)?);
    let (mut expected, mut found) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    let mut offset = 0;
    loop {
        let wanted = read_piece(&mut from, &mut expected).map_err(|e| unreadable(source, e))?;
        // The end of the source: one byte more than the longest trailer shows what follows.
        let ask = if wanted == 0 { PIECE_BYTES } else { wanted };
        let got = read_piece(&mut to, &mut found[..ask]).map_err(|e| unreadable(target, e))?;
        if wanted == 0 {
            return match is_trailer(&found[..got], trailer) {
                true => Ok(()),
                false => Err(Mismatch::Length {
                    path: target.to_owned(),
                    offset,
                    found: got,
                }),
            };
        }
        if got < wanted {
            return Err(Mismatch::Length {
                path: target.to_owned(),
                offset,
                found: got,
            });
        }
        if expected[..wanted] != found[..got] {
            return Err(Mismatch::Bytes {
                path: target.to_owned(),
                offset,
            });
        }
        offset += wanted as u64;
    }
}

fn is_trailer(rest: &[u8], trailer: Trailer) -> bool {
    match trailer {
        Trailer::None => rest.is_empty(),
        // `{"type": "eof", "sha256_hash": "<64 hex digits>"}`; a fixed tool would leave none.
        Trailer::PythonEof => {
            rest.is_empty()
                || (rest.starts_with(br#"{"type": "eof""#)
                    && rest.ends_with(br#""}"#)
                    && rest.len() == PYTHON_EOF_BYTES)
        }
    }
}

/// Length of the message that the Python tool appends.
pub const PYTHON_EOF_BYTES: usize = 98;

fn entries(directory: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<Vec<_>, _>>()?;
    names.sort_unstable();
    Ok(names)
}

/// Fills `piece` unless the file ends; gives the bytes read.
fn read_piece(file: &mut File, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match file.read(&mut piece[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn fill(path: &Path, bytes: u64, random: &mut blake3::OutputReader) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = bytes;
    while left > 0 {
        let count = usize::try_from(left)
            .unwrap_or(PIECE_BYTES)
            .min(PIECE_BYTES);
        random.fill(&mut piece[..count]);
        file.write_all(&piece[..count])?;
        left -= count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EOF: &str = r#"{"type": "eof", "sha256_hash": "0000000000000000000000000000000000000000000000000000000000000000"}"#;

    fn pair(bytes: u64) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("source"), dir.path().join("target"));
        Load::File { bytes }.make(&source).unwrap();
        fs::copy(&source, &target).unwrap();
        (dir, source, target)
    }

    #[test]
    fn a_copy_of_any_size_is_accepted() {
        for bytes in [0, 1, PIECE_BYTES as u64, PIECE_BYTES as u64 * 2 + 1] {
            let (_dir, source, target) = pair(bytes);
            verify(&source, &target, Trailer::None).unwrap();
        }
    }

    #[test]
    fn a_flipped_bit_a_lost_and_an_added_byte_are_found() {
        let (_dir, source, target) = pair(PIECE_BYTES as u64 + 10);
        let good = fs::read(&target).unwrap();
        let mut flipped = good.clone();
        flipped[PIECE_BYTES + 3] ^= 1;
        fs::write(&target, &flipped).unwrap();
        let error = verify(&source, &target, Trailer::None).unwrap_err();
        assert!(matches!(error, Mismatch::Bytes { offset, .. } if offset == PIECE_BYTES as u64));
        for bytes in [&good[..good.len() - 1], &[good.as_slice(), b"x"].concat()] {
            fs::write(&target, bytes).unwrap();
            for trailer in [Trailer::None, Trailer::PythonEof] {
                let error = verify(&source, &target, trailer).unwrap_err();
                assert!(matches!(error, Mismatch::Length { .. }), "{error}");
            }
        }
    }

    #[test]
    fn the_python_trailer_is_accepted_only_where_named() {
        assert_eq!(EOF.len(), PYTHON_EOF_BYTES);
        let (_dir, source, target) = pair(PIECE_BYTES as u64);
        let with_trailer = [fs::read(&source).unwrap().as_slice(), EOF.as_bytes()].concat();
        fs::write(&target, with_trailer).unwrap();
        verify(&source, &target, Trailer::PythonEof).unwrap();
        verify(&source, &target, Trailer::None).unwrap_err();
    }

    #[test]
    fn a_tree_with_a_file_missing_or_changed_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("source"), dir.path().join("target"));
        let load = Load::Tree {
            files: 150,
            bytes_each: 10,
        };
        load.make(&source).unwrap();
        load.make(&target).unwrap();
        assert_eq!(load.bytes(), 1500);
        verify(&source, &target, Trailer::None).unwrap();
        let last = target.join("0001/000149.dat");
        fs::write(&last, b"0123456789").unwrap();
        verify(&source, &target, Trailer::None).unwrap_err();
        fs::remove_file(&last).unwrap();
        let error = verify(&source, &target, Trailer::None).unwrap_err();
        assert!(matches!(error, Mismatch::Entries { .. }));
    }
}
