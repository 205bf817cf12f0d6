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
    /// Threads that wait, and those of them that were told.
    waiting: usize,
    told: usize,
}

impl<T> WorkQueue<T> {
    pub(crate) fn new() -> Self {
        let inner = Inner {
            work: VecDeque::new(),
            closed: false,
            waiting: 0,
            told: 0,
        };
        Self {
            inner: Mutex::new(inner),
            changed: Condvar::new(),
        }
    }

    /// Adds work at the end.
    pub(crate) fn push(&self, work: T) {
        let mut inner = self.lock();
        inner.work.push_back(work);
        self.tell(&mut inner);
    }

    /// Waits for work; `None` once the queue is closed. Work that is left then is dropped.
    pub(crate) fn pop(&self) -> Option<T> {
        self.pop_unless(|| false)
    }

    /// The same; `None` also when `is_over` says so, which is asked at first and whenever it is woken.
    pub(crate) fn pop_unless(&self, is_over: impl Fn() -> bool) -> Option<T> {
        let mut inner = self.lock();
        loop {
            if inner.closed || is_over() {
                return None;
            }
            if let Some(work) = inner.work.pop_front() {
                return Some(work);
            }
            inner.waiting += 1;
            inner = self
                .changed
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
            inner.waiting -= 1;
            inner.told = inner.told.saturating_sub(1);
        }
    }

    /// Adds work that comes before all other.
    pub(crate) fn push_first(&self, work: T) {
        let mut inner = self.lock();
        inner.work.push_front(work);
        self.tell(&mut inner);
    }

    /// Adds work that comes before all other, in its order.
    pub(crate) fn push_all_first(&self, work: Vec<T>) {
        let mut inner = self.lock();
        for work in work.into_iter().rev() {
            inner.work.push_front(work);
            self.tell(&mut inner);
        }
    }

    /// Drops work that nobody wants any more.
    pub(crate) fn retain(&self, is_wanted: impl FnMut(&T) -> bool) {
        self.lock().work.retain(is_wanted);
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

    /// Lets every thread ask whether it is over.
    pub(crate) fn wake_all(&self) {
        // Whoever looks holds the lock until it waits: nobody misses this in between.
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Lets every thread leave.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Wakes one thread for one piece of work, if any still sleeps: it costs a system call.
    fn tell(&self, inner: &mut Inner<T>) {
        if inner.told < inner.waiting {
            inner.told += 1;
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn whoever_waits_leaves_once_it_is_over_and_takes_nothing_with_it() {
        let (queue, is_over) = (WorkQueue::new(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| queue.pop_unless(|| is_over.load(Ordering::Relaxed)));
            while queue.lock().waiting == 0 {
                std::thread::yield_now();
            }
            is_over.store(true, Ordering::Relaxed);
            queue.wake_all();
            assert_eq!(waits.join().unwrap(), None);
        });
        queue.push(1);
        assert_eq!(queue.pop_unless(|| true), None);
        assert_eq!(queue.pop(), Some(1));
    }

    #[test]
    fn what_comes_first_keeps_its_order() {
        let queue = WorkQueue::new();
        (0..2).for_each(|work| queue.push(work));
        queue.push_all_first(vec![10, 11, 12]);
        queue.push_first(20);
        assert_eq!(queue.pop_all().unwrap(), [20, 10, 11, 12, 0, 1]);
    }
}
