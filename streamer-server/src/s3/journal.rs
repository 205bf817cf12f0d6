//! Which parts are through, so that a job that is started again need not move them again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};

/// A file of lines: that it is one, what the parts belong to, then `index word` for each that is through.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    done: BTreeMap<usize, String>,
}

impl Journal {
    /// Continues what `file`, opened for reading and writing, says about `subject`; begins
    /// anew when it is about another. What is no journal is left as it is, and an error.
    pub(super) fn open(mut file: File, subject: &str) -> io::Result<Self> {
        let mut bytes = Vec::new();
        (&file).take(JOURNAL_MAX_BYTES).read_to_end(&mut bytes)?;
        if !begins_one(&bytes) {
            let error = "it is no journal of a transfer";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, error));
        }
        let text = String::from_utf8_lossy(&bytes);
        // The line that was being written when the job was killed has no end.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut lines = whole.lines();
        let mut done = BTreeMap::new();
        if lines.next() == Some(MAGIC.trim_end()) && lines.next() == Some(subject) {
            done.extend(lines.filter_map(|line| {
                let (index, word) = line.split_once(' ')?;
                Some((index.parse().ok()?, word.to_owned()))
            }));
        }
        // Written afresh: a line cut short must not spoil the next one.
        file.set_len(0)?;
        io::Seek::rewind(&mut file)?;
        let mut fresh = format!("{MAGIC}{subject}\n");
        for (index, word) in &done {
            fresh.push_str(&format!("{index} {word}\n"));
        }
        file.write_all(fresh.as_bytes())?;
        Ok(Self { file, done })
    }

    pub(super) fn done(&self) -> &BTreeMap<usize, String> {
        &self.done
    }

    /// A part is through.
    pub(super) fn add(&mut self, index: usize, word: &str) -> io::Result<()> {
        self.file
            .write_all(format!("{index} {word}\n").as_bytes())?;
        self.done.insert(index, word.to_owned());
        Ok(())
    }
}

/// Whether it is a journal, or is about to become one: a run may end before it has written it.
pub(super) fn is_one(file: &File) -> io::Result<bool> {
    let mut bytes = Vec::new();
    file.take(MAGIC.len() as u64).read_to_end(&mut bytes)?;
    Ok(begins_one(&bytes))
}

fn begins_one(bytes: &[u8]) -> bool {
    let head = bytes.get(..MAGIC.len()).unwrap_or(bytes);
    MAGIC.as_bytes().starts_with(head)
}

/// The first line. Without it a journal would be any file of that name.
const MAGIC: &str = "streamer-s3 1\n";
/// Ten thousand lines of a number and a tag.
const JOURNAL_MAX_BYTES: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &std::path::Path, subject: &str) -> Journal {
        try_open(path, subject).unwrap()
    }

    fn try_open(path: &std::path::Path, subject: &str) -> io::Result<Journal> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .unwrap();
        Journal::open(file, subject)
    }

    #[test]
    fn what_is_no_journal_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        for mine in ["mine", "streamer-s3 1 or so", "\"tag\" 10 5\n0 hash\n"] {
            std::fs::write(&path, mine).unwrap();
            assert!(!is_one(&File::open(&path).unwrap()).unwrap(), "{mine}");
            assert!(try_open(&path, "etag 10 5").is_err(), "{mine}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), mine);
        }
        for cut in ["", "streamer-s", MAGIC] {
            std::fs::write(&path, cut).unwrap();
            assert!(is_one(&File::open(&path).unwrap()).unwrap(), "{cut}");
            assert!(open(&path, "etag 10 5").done().is_empty());
        }
    }

    #[test]
    fn a_killed_job_leaves_what_is_proven_and_another_file_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = open(&path, "etag 10 5");
        journal.add(3, "abc").unwrap();
        journal.add(0, "def").unwrap();
        drop(journal);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("7 cut");
        std::fs::write(&path, text).unwrap();
        let journal = open(&path, "etag 10 5");
        let done: Vec<(usize, &str)> = journal
            .done()
            .iter()
            .map(|(i, w)| (*i, w.as_str()))
            .collect();
        assert_eq!(done, [(0, "def"), (3, "abc")]);
        drop(journal);
        assert!(open(&path, "other 10 5").done().is_empty());
        assert!(open(&path, "etag 10 5").done().is_empty());
    }
}
