//! Which job has which private file, so that a job that is cancelled leaves none.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::auth::{Caller, UserName};
use crate::limits;

/// The last jobs that were queued on one system, for as long as this service runs.
#[derive(Debug, Default)]
pub struct PrivateFiles(Mutex<VecDeque<PrivateFile>>);

#[derive(Debug)]
struct PrivateFile {
    job: String,
    user: UserName,
    path: String,
}

impl PrivateFiles {
    /// Notes the file of a job.
    pub(super) fn insert(&self, job: &str, caller: &Caller, path: String) {
        let mut files = self.files();
        if files.len() >= limits::PRIVATE_FILES_MAX {
            files.pop_front();
        }
        files.push_back(PrivateFile {
            job: job.to_owned(),
            user: caller.name().clone(),
            path,
        });
    }

    /// The file of a job of this caller, once. Numbers come round again: the last one's.
    pub(super) fn take(&self, job: &str, caller: &Caller) -> Option<String> {
        let mut files = self.files();
        let fits = |file: &PrivateFile| file.job == job && file.user == *caller.name();
        let place = files.iter().rposition(fits)?;
        files.remove(place).map(|file| file.path)
    }

    fn files(&self) -> MutexGuard<'_, VecDeque<PrivateFile>> {
        // Each change is one step: a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_its_users_and_old_ones_are_forgotten() {
        let (bob, eve) = (Caller::for_tests("bob"), Caller::for_tests("eve"));
        let files = PrivateFiles::default();
        files.insert("7", &bob, "old".into());
        files.insert("7", &bob, "new".into());
        assert_eq!(files.take("7", &eve), None);
        assert_eq!(files.take("7", &bob).as_deref(), Some("new"));
        for job in 0..limits::PRIVATE_FILES_MAX {
            files.insert(&format!("x{job}"), &bob, String::new());
        }
        assert_eq!(files.files().len(), limits::PRIVATE_FILES_MAX);
        assert_eq!(files.take("7", &bob), None);
    }
}
