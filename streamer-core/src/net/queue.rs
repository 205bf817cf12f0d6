//! Work for threads: whoever is free takes the next piece.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A queue that threads wait on. Its length is bounded by what its users put in: a session's
/// window.
#[derive(Debug)]
pub(crate) struct WorkQueue<T> {
    inner: Mutex<Inner<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inner<T> {
    work: VecDeque<T>,
    closed: bool,
}

impl<T> WorkQueue<T> {
    pub(crate) fn new() -> Self {
        let inner = Inner {
            work: VecDeque::new(),
            closed: false,
        };
        Self {
            inner: Mutex::new(inner),
            changed: Condvar::new(),
        }
    }

    /// Adds work at the end.
    pub(crate) fn push(&self, work: T) {
        self.lock().work.push_back(work);
        self.changed.notify_one();
    }

    /// Waits for work; `None` once the queue is closed. Work that is left then is dropped.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut inner = self.lock();
        loop {
            if inner.closed {
                return None;
            }
            if let Some(work) = inner.work.pop_front() {
                return Some(work);
            }
            inner = self
                .changed
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Adds work that comes before all other.
    pub(crate) fn push_first(&self, work: T) {
        self.lock().work.push_front(work);
        self.changed.notify_one();
    }

    /// Work that is there now, without waiting.
    pub(crate) fn try_pop(&self) -> Option<T> {
        let mut inner = self.lock();
        match inner.closed {
            true => None,
            false => inner.work.pop_front(),
        }
    }

    /// Waits for work and takes all of it; `None` once the queue is closed.
    pub(crate) fn pop_all(&self) -> Option<VecDeque<T>> {
        let first = self.pop()?;
        let mut all = std::mem::take(&mut self.lock().work);
        all.push_front(first);
        Some(all)
    }

    /// Lets every thread leave.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
