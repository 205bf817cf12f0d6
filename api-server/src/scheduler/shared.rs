//! Identical questions asked at once, answered by one call.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

/// Calls that are on their way, by what they ask.
#[derive(Debug)]
pub(crate) struct Shared<K, V> {
    calls: Mutex<HashMap<K, Arc<OnceCell<V>>>>,
}

impl<K, V> Default for Shared<K, V> {
    fn default() -> Self {
        Self {
            calls: Mutex::default(),
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Shared<K, V> {
    /// What `call` answers, or the same call of somebody who asked before and is still waiting.
    /// Nothing is kept: a question asked after the answer is asked anew.
    ///
    /// Cancel safety: when the one whose call it is goes away, the next one makes it again.
    pub(crate) async fn ask(&self, question: K, call: impl Future<Output = V>) -> V {
        let cell = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(calls.entry(question.clone()).or_default())
        };
        let _done = Done {
            shared: self,
            question,
            cell: Arc::clone(&cell),
        };
        cell.get_or_init(|| call).await.clone()
    }
}

/// Forgets a call that is answered, or that nobody waits for.
struct Done<'a, K: Hash + Eq, V> {
    shared: &'a Shared<K, V>,
    question: K,
    cell: Arc<OnceCell<V>>,
}

impl<K: Hash + Eq, V> Drop for Done<'_, K, V> {
    fn drop(&mut self) {
        let mut calls = self
            .shared
            .calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let ours = calls
            .get(&self.question)
            .is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        // The map's, and this one.
        let unwanted = self.cell.initialized() || Arc::strong_count(&self.cell) == 2;
        if ours && unwanted {
            calls.remove(&self.question);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn many_who_ask_at_once_cause_one_call() {
        let (shared, calls, go) = (Shared::default(), AtomicUsize::new(0), Notify::new());
        let ask = || {
            shared.ask("jobs", async {
                go.notified().await;
                calls.fetch_add(1, Ordering::Relaxed) + 1
            })
        };
        let (one, two, three, ()) = tokio::join!(ask(), ask(), ask(), async { go.notify_one() });
        assert_eq!([one, two, three], [1, 1, 1]);
        go.notify_one();
        assert_eq!(ask().await, 2, "a later question is asked anew");
        assert!(shared.calls.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn another_waiter_takes_over_when_the_first_goes_away() {
        let shared = Shared::default();
        let mut first = Box::pin(shared.ask(1, std::future::pending::<u8>()));
        let mut second = Box::pin(shared.ask(1, async { 7 }));
        assert!(futures_poll(&mut first).await.is_none());
        assert!(futures_poll(&mut second).await.is_none());
        drop(first);
        assert_eq!(second.await, 7);
        assert!(shared.calls.lock().unwrap().is_empty());
    }

    /// Polls once.
    async fn futures_poll<T>(
        future: &mut std::pin::Pin<Box<impl Future<Output = T>>>,
    ) -> Option<T> {
        std::future::poll_fn(|context| match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
