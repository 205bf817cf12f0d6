//! A path on a system, as a user sent it.

use crate::limits;

/// A path that can be given to a program: no NUL, not empty, not longer than the kernel takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemotePath(String);

/// Why a text is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Nothing.
    #[error("the path is empty")]
    Empty,
    /// Over [`limits::PATH_MAX_BYTES`].
    #[error("the path is longer than {} bytes", limits::PATH_MAX_BYTES)]
    TooLong,
    /// No file name holds a NUL.
    #[error("the path contains a NUL character")]
    Nul,
}

impl RemotePath {
    /// Checks the text.
    ///
    /// # Errors
    /// Says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        match text {
            "" => Err(PathError::Empty),
            text if text.len() > limits::PATH_MAX_BYTES => Err(PathError::TooLong),
            text if text.contains('\0') => Err(PathError::Nul),
            text => Ok(Self(text.to_owned())),
        }
    }

    /// The path with relative ones placed under `directory`.
    #[must_use]
    pub fn under(&self, directory: &str) -> Self {
        if self.0.starts_with('/') {
            return self.clone();
        }
        Self(format!("{}/{}", directory.trim_end_matches('/'), self.0))
    }

    /// The directory in which this path is: `/` for itself, `.` for a bare name.
    #[must_use]
    pub fn parent(&self) -> Self {
        let path = self.0.trim_end_matches('/');
        Self(match path.rsplit_once('/') {
            _ if path.is_empty() => "/".to_owned(),
            None => ".".to_owned(),
            Some((parent, _)) if parent.trim_end_matches('/').is_empty() => "/".to_owned(),
            Some((parent, _)) => parent.to_owned(),
        })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        assert_eq!(RemotePath::parse(""), Err(PathError::Empty));
        assert_eq!(RemotePath::parse("a\0b"), Err(PathError::Nul));
        assert_eq!(
            RemotePath::parse(&"x".repeat(5000)),
            Err(PathError::TooLong)
        );
        for (path, parent) in [
            ("/", "/"),
            ("/a", "/"),
            ("//a", "/"),
            ("/a/b//", "/a"),
            ("a", "."),
        ] {
            assert_eq!(RemotePath::parse(path).unwrap().parent().as_str(), parent);
        }
        let relative = RemotePath::parse("a b").unwrap();
        assert_eq!(relative.under("/home/u/").as_str(), "/home/u/a b");
        assert_eq!(
            RemotePath::parse("/x").unwrap().under("/home").as_str(),
            "/x"
        );
    }
}
