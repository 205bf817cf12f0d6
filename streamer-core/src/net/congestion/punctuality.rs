//! How late the network thread is: on a login node it shares its processor with others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The worst lateness of a timer since it was asked last.
#[derive(Debug, Default)]
pub(super) struct Punctuality {
    micros: AtomicU64,
}

impl Punctuality {
    /// Watches the thread that polls this runtime until the returned one is dropped.
    pub(super) fn watch() -> Arc<Self> {
        let watched = Arc::new(Self::default());
        let weak = Arc::downgrade(&watched);
        // Outside of a runtime, as in tests of the controller, nobody is late.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(async move {
                loop {
                    let due = Instant::now() + TICK;
                    sleep_until(due).await;
                    match weak.upgrade() {
                        Some(watched) => watched.note(due.elapsed()),
                        None => return,
                    }
                }
            }));
        }
        watched
    }

    fn note(&self, late: Duration) {
        let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_max(micros, Ordering::Relaxed);
    }

    /// What was seen since the last call; `None` when nothing was.
    pub(super) fn news(&self) -> Option<Duration> {
        match self.micros.swap(0, Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }
}

/// Between two looks: often enough to see each wait that matters, seldom enough to cost nothing.
const TICK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_was_away_is_late() {
        let watched = Punctuality::watch();
        tokio::task::yield_now().await;
        std::thread::sleep(TICK * 4);
        tokio::time::sleep(TICK).await;
        let late = watched.news();
        assert!(late.is_some_and(|late| late > TICK), "{late:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_watches_when_nobody_asks() {
        let metrics = tokio::runtime::Handle::current().metrics();
        let before = metrics.num_alive_tasks();
        let watched = Punctuality::watch();
        tokio::time::sleep(TICK * 3).await;
        assert_eq!(metrics.num_alive_tasks(), before + 1);
        drop(watched);
        tokio::time::sleep(TICK * 3).await;
        assert_eq!(metrics.num_alive_tasks(), before);
    }
}
