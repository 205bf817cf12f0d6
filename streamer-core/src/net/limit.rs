//! How fast payload may move: one bucket for all lanes of a transfer.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// A bucket that fills at a rate, and may be overdrawn: who takes too much waits. Times count
/// from any fixed moment.
#[derive(Debug, Clone)]
struct Bucket {
    rate: f64,
    /// Below zero: overdrawn.
    filled: f64,
    at: Duration,
}

impl Bucket {
    /// Empty. `rate` is in bytes a second, at least 1.
    fn new(rate: u64, now: Duration) -> Self {
        Self {
            rate: rate.max(1) as f64,
            filled: 0.0,
            at: now,
        }
    }

    /// Takes what is about to move; how long to wait before it may.
    fn take(&mut self, bytes: usize, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let most = self.rate * SAVED.as_secs_f64();
        self.filled = (self.filled + passed * self.rate).min(most) - bytes as f64;
        Duration::from_secs_f64((-self.filled / self.rate).max(0.0))
    }
}

/// A limit that every lane of a transfer passes.
#[derive(Debug)]
pub struct RateLimit {
    bucket: Mutex<Bucket>,
    start: Instant,
    bytes_per_second: u64,
}

impl RateLimit {
    /// To so many bytes a second.
    pub fn new(bytes_per_second: u64) -> Self {
        Self {
            bucket: Mutex::new(Bucket::new(bytes_per_second, Duration::ZERO)),
            start: Instant::now(),
            bytes_per_second,
        }
    }

    /// What it was made for.
    pub fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second
    }

    /// How many bytes to wait for at a time, at most `most`: so few that no lane waits for long,
    /// and sits on what it has while its peer hears nothing. Whole pages.
    pub(crate) fn piece_bytes(&self, most: usize) -> usize {
        let piece = self.bytes_per_second / PIECES_A_SECOND / PAGE_BYTES * PAGE_BYTES;
        // Local invariant: what does not fit is more than `most`.
        usize::try_from(piece.max(PAGE_BYTES)).map_or(most, |piece| piece.min(most))
    }

    /// Waits until so many bytes may move. Dropped while it waits, it has taken them.
    pub(crate) async fn pass(&self, bytes: usize) {
        let wait = {
            let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(bytes, self.start.elapsed())
        };
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }
}

/// What a bucket saves up at most: late timers are made up for, pauses are not.
const SAVED: Duration = Duration::from_millis(50);

/// Waited for by all lanes together, about, unless that makes them smaller than pages.
const PIECES_A_SECOND: u64 = 16;

/// Pages of zeros become holes only as a whole.
const PAGE_BYTES: u64 = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Seconds until so many pieces have passed, each at its time or `late` after it.
    fn seconds(rate: u64, pieces: usize, bytes: usize, late: Duration) -> f64 {
        let mut now = Duration::ZERO;
        let mut bucket = Bucket::new(rate, now);
        for _ in 0..pieces {
            now += bucket.take(bytes, now) + late;
        }
        now.as_secs_f64()
    }

    #[test]
    fn the_rate_holds_within_five_per_cent_at_any_speed_and_with_late_timers() {
        for rate in [10_000, 1 << 20, 125_000_000, 5_000_000_000] {
            for late in [0, 1] {
                let bytes = 256 << 10;
                let pieces = 400.max(rate as usize * 2 / bytes);
                let took = seconds(rate, pieces, bytes, Duration::from_millis(late));
                let moved = (pieces * bytes) as f64;
                let ratio = moved / took / rate as f64;
                // Pieces that take less than the timer's lateness are another matter.
                let piece = Duration::from_secs_f64(bytes as f64 / rate as f64);
                if late == 0 || piece > Duration::from_millis(1) {
                    assert!((0.95..1.05).contains(&ratio), "{rate}, {late} ms: {ratio}");
                }
            }
        }
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut bucket = Bucket::new(1000, Duration::ZERO);
        let hour = Duration::from_secs(3600);
        assert_eq!(bucket.take(50, hour), Duration::ZERO);
        assert_eq!(bucket.take(1000, hour), Duration::from_secs(1));
    }

    #[test]
    fn nobody_waits_for_long_at_any_rate() {
        let most = 256 << 10;
        for rate in [1, 1 << 10, 40_000, 1 << 20, 50 << 20, u64::MAX] {
            let limit = RateLimit::new(rate);
            let piece = limit.piece_bytes(most);
            assert!(piece > 0 && piece <= most && piece.is_multiple_of(PAGE_BYTES as usize));
            let wait = Duration::from_secs_f64(piece as f64 / rate as f64);
            assert!(
                wait < Duration::from_millis(110) || piece == PAGE_BYTES as usize,
                "{rate}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lanes_share_one_rate() {
        let limit = Arc::new(RateLimit::new(1_000_000));
        let start = Instant::now();
        let mut lanes = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let limit = Arc::clone(&limit);
            lanes.spawn(async move {
                for _ in 0..50 {
                    limit.pass(10_000).await;
                }
            });
        }
        lanes.join_all().await;
        let took = start.elapsed().as_secs_f64();
        assert!((1.9..2.1).contains(&took), "{took}");
    }
}
