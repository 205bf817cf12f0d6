//! Watches in a driver for a peer that keeps the connection alive and does nothing.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::session::stall::{GLANCE, LossWatch, Sight, StallWatch};

/// What the lanes of a receiver see.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    bytes: AtomicU64,
    unwritten: AtomicUsize,
}

impl Arrivals {
    /// Bytes came over the network.
    pub(crate) fn on_bytes(&self, count: usize) {
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// A buffer waits to be written.
    pub(crate) fn on_filled(&self) {
        self.unwritten.fetch_add(1, Ordering::Relaxed);
    }

    /// It was.
    pub(crate) fn on_written(&self) {
        self.unwritten.fetch_sub(1, Ordering::Relaxed);
    }

    /// Work of this side, which a slow disk may draw out.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        self.on_filled();
        let done = work();
        self.on_written();
        done
    }
}

/// A [`StallWatch`] and a [`LossWatch`] with a clock.
#[derive(Debug)]
pub(crate) struct Watch {
    inner: StallWatch,
    losses: LossWatch,
    start: Instant,
    glances: Interval,
    inputs: u64,
}

impl Watch {
    pub(crate) fn new() -> Self {
        let mut glances = interval(GLANCE);
        glances.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            inner: StallWatch::default(),
            losses: LossWatch::default(),
            start: Instant::now(),
            glances,
            inputs: 0,
        }
    }

    /// Something happened.
    pub(crate) fn on_input(&mut self) {
        self.inputs += 1;
    }

    /// A block arrived.
    pub(crate) fn on_proven(&mut self) {
        self.losses.on_proven();
    }

    /// A data connection is lost: whether that is one too many, as in [`LossWatch::on_lost`].
    pub(crate) fn on_lost(&mut self, unhashed_bytes: u64) -> bool {
        self.losses.on_lost(self.start.elapsed(), unhashed_bytes)
    }

    /// Waits until it is time to look. Cancel-safe.
    pub(crate) async fn glance(&mut self) {
        self.glances.tick().await;
    }

    /// Whether nothing has happened for too long; `arrivals` of a receiver, which may be owed
    /// bytes. Either side may be hashing so many that are there already.
    pub(crate) fn is_stalled(
        &mut self,
        arrivals: Option<&Arrivals>,
        is_owed: bool,
        unhashed_bytes: u64,
    ) -> bool {
        let read = |arrivals: &Arrivals| arrivals.bytes.load(Ordering::Relaxed);
        let is_busy = |arrivals: &Arrivals| arrivals.unwritten.load(Ordering::Relaxed) > 0;
        let sight = Sight {
            activity: self.inputs.wrapping_add(arrivals.map_or(0, read)),
            is_owed,
            has_proven: self.losses.has_proven(),
            unhashed_bytes,
            is_busy: arrivals.is_some_and(is_busy),
        };
        self.inner.look(self.start.elapsed(), sight)
    }
}
