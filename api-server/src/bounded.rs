//! Files and output that are read whole, but not when they are longer than they can rightly be.

use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The content of a file of at most `max_bytes`, whatever its size is said to be.
pub(crate) fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_long(max_bytes));
    }
    Ok(bytes)
}

/// As [`read`], of a file that must be text.
pub(crate) fn read_text(path: &Path, max_bytes: u64) -> io::Result<String> {
    let text = String::from_utf8(read(path, max_bytes)?);
    // Without the bytes, which may be a secret.
    text.map_err(|error| io::Error::new(ErrorKind::InvalidData, error.utf8_error()))
}

/// What comes out of a pipe. Cancel safety: what was read is lost.
pub(crate) async fn read_pipe(pipe: impl AsyncRead + Unpin, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pipe.take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .await?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_long(max_bytes));
    }
    Ok(bytes)
}

fn too_long(max_bytes: u64) -> io::Error {
    let message = format!("it is longer than {max_bytes} bytes");
    io::Error::new(ErrorKind::FileTooLarge, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_limit_passes_and_one_byte_more_does_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "1234").unwrap();
        assert_eq!(read(file.path(), 4).unwrap(), b"1234");
        assert_eq!(read_pipe(&b"1234"[..], 4).await.unwrap(), b"1234");
        for error in [
            read(file.path(), 3).unwrap_err(),
            read_pipe(&b"1234"[..], 3).await.unwrap_err(),
            // It says of itself that it is empty.
            read(Path::new("/dev/zero"), 3).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        }
    }

    #[test]
    fn what_is_no_text_is_not_repeated() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"secret\xff").unwrap();
        let error = read_text(file.path(), 9).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(!format!("{error:?}").contains("115"), "{error:?}");
    }
}
