//! What of a tree is wanted: patterns of names.
//!
//! A pattern without a slash matches a name at any depth; one with a slash, at its start or in
//! its middle, matches the whole path below the root; one that ends in a slash matches
//! directories only. `*` and `?` match within a name, `**` across names. A directory that
//! matches stands for all that is in it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::path::RelPath;
use crate::wire::message::Wanted;

/// Patterns, compiled.
#[derive(Debug, Clone)]
pub struct Filter {
    include: Option<Patterns>,
    exclude: Option<Patterns>,
    /// What has to let it through too.
    other: Option<Box<Self>>,
}

/// A pattern that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("'{pattern}' is no pattern: {reason}")]
pub struct FilterError {
    /// Which.
    pub pattern: String,
    /// Why.
    pub reason: String,
}

impl Filter {
    /// Compiles what is wanted.
    ///
    /// # Errors
    /// Names the first pattern that makes no sense, or is too long or one too many.
    pub fn new(wanted: &Wanted) -> Result<Self, FilterError> {
        wanted.check_bounds().map_err(|error| FilterError {
            pattern: "…".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            include: Patterns::new(&wanted.include)?,
            exclude: Patterns::new(&wanted.exclude)?,
            other: None,
        })
    }

    /// What both let through.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let other = match self.other {
            Some(inner) => inner.and(other),
            None => other,
        };
        Self {
            other: Some(Box::new(other)),
            ..self
        }
    }

    /// Whether some files are wanted and others not: then directories are made only for what
    /// is in them.
    pub fn selects(&self) -> bool {
        self.include.is_some() || self.other.as_ref().is_some_and(|other| other.selects())
    }

    /// Whether a file or link is wanted.
    pub fn wants(&self, path: &RelPath) -> bool {
        let included = self.include.as_ref().is_none_or(|p| p.cover(path));
        let by_other = self.other.as_ref().is_none_or(|other| other.wants(path));
        included && by_other && !self.excludes(path, false)
    }

    /// Whether to look into a directory.
    pub fn enters(&self, path: &RelPath) -> bool {
        let by_other = self.other.as_ref().is_none_or(|other| other.enters(path));
        by_other && !self.excludes(path, true)
    }

    fn excludes(&self, path: &RelPath, is_directory: bool) -> bool {
        let mut exclude = self.exclude.iter();
        exclude.any(|patterns| patterns.match_path(path.as_bytes(), is_directory))
    }
}

#[derive(Debug, Clone)]
struct Patterns {
    anything: GlobSet,
    directories: GlobSet,
}

impl Patterns {
    /// `None` when there is none.
    fn new(patterns: &[String]) -> Result<Option<Self>, FilterError> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let (mut anything, mut directories) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let failed = |reason: String| FilterError {
                pattern: pattern.clone(),
                reason,
            };
            let (text, set) = match pattern.strip_suffix('/') {
                Some(text) => (text, &mut directories),
                None => (pattern.as_str(), &mut anything),
            };
            if text.is_empty() {
                return Err(failed("it is empty".to_owned()));
            }
            let anchored = match text.strip_prefix('/') {
                Some(text) => text.to_owned(),
                None if text.contains('/') => text.to_owned(),
                None => format!("**/{text}"),
            };
            let glob = GlobBuilder::new(&anchored)
                .literal_separator(true)
                .build()
                .map_err(|error| failed(error.kind().to_string()))?;
            set.add(glob);
        }
        let build = |set: GlobSetBuilder| {
            set.build().map_err(|error| FilterError {
                pattern: patterns.join(" "),
                reason: error.kind().to_string(),
            })
        };
        Ok(Some(Self {
            anything: build(anything)?,
            directories: build(directories)?,
        }))
    }

    /// Whether a file or link matches, or a directory that it is in.
    fn cover(&self, path: &RelPath) -> bool {
        let path = path.as_bytes();
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let mut directories = slashes.map(|(end, _)| &path[..end]);
        self.match_path(path, false) || directories.any(|path| self.match_path(path, true))
    }

    fn match_path(&self, path: &[u8], is_directory: bool) -> bool {
        let candidate = Candidate::new(Path::new(OsStr::from_bytes(path)));
        self.anything.is_match_candidate(&candidate)
            || (is_directory && self.directories.is_match_candidate(&candidate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let owned = |patterns: &[&str]| patterns.iter().map(|p| (*p).to_owned()).collect();
        Filter::new(&Wanted {
            include: owned(include),
            exclude: owned(exclude),
        })
        .unwrap()
    }

    fn path(text: &[u8]) -> RelPath {
        RelPath::try_from(text.to_vec()).unwrap()
    }

    #[test]
    fn a_pattern_matches_names_or_whole_paths() {
        let cases: [(&str, &[u8], bool); 9] = [
            ("*.h5", b"a.h5", true),
            ("*.h5", b"deep/er/a.h5", true),
            ("*.h5", b"a.h5.txt", false),
            ("/*.h5", b"deep/a.h5", false),
            ("/*.h5", b"a.h5", true),
            ("run/*/log", b"run/1/log", true),
            ("run/*/log", b"x/run/1/log", false),
            ("**/log", b"x/run/1/log", true),
            ("odd*", b"odd\xff\n", true),
        ];
        for (pattern, name, wanted) in cases {
            let filter = filter(&[pattern], &[]);
            assert_eq!(filter.wants(&path(name)), wanted, "{pattern} {name:?}");
        }
    }

    #[test]
    fn a_directory_that_matches_stands_for_what_is_in_it() {
        let cases: [(&str, &[u8], bool); 9] = [
            ("run/", b"run/1", true),
            ("run/", b"deep/run/er/1", true),
            ("run/", b"run", false),
            ("run", b"run/er/1", true),
            ("run", b"runs/1", false),
            ("/run", b"deep/run/1", false),
            ("deep/run/", b"deep/run/er/1", true),
            ("deep/*", b"deep/run/1", true),
            ("*.zarr", b"a.zarr/0/0", true),
        ];
        for (pattern, name, wanted) in cases {
            let filter = filter(&[pattern], &[]);
            assert_eq!(filter.wants(&path(name)), wanted, "{pattern} {name:?}");
        }
        let filter = filter(&["run/"], &["*.log"]);
        assert!(filter.wants(&path(b"run/1")) && !filter.wants(&path(b"run/1.log")));
    }

    #[test]
    fn exclusion_wins_and_covers_directories() {
        let filter = filter(&["*.h5"], &["tmp/", "bad*"]);
        assert!(filter.wants(&path(b"a/good.h5")) && !filter.wants(&path(b"a/bad.h5")));
        assert!(!filter.enters(&path(b"a/tmp")) && filter.enters(&path(b"a")));
        // A file of the name of an excluded directory is a file.
        assert!(!filter.excludes(&path(b"tmp"), false));
    }

    #[test]
    fn nonsense_is_named() {
        for pattern in ["", "/", "a[", "{a"] {
            let wanted = Wanted {
                include: vec![pattern.to_owned()],
                exclude: Vec::new(),
            };
            assert_eq!(Filter::new(&wanted).unwrap_err().pattern, pattern);
        }
        let many = Wanted {
            include: vec!["a".to_owned(); 1000],
            exclude: Vec::new(),
        };
        assert!(Filter::new(&many).is_err());
    }
}
