//! How fast bytes arrive, by draft-cheng-iccrg-delivery-rate-estimation: for each packet, what
//! was delivered between its sending and its acknowledgement, over the longer of the times
//! that sending and acknowledging took. So neither a burst sent nor acknowledgements that
//! arrive squeezed together look like a fast path.

use std::collections::VecDeque;
use std::time::Duration;

/// Keeps account of deliveries.
#[derive(Debug, Clone, Default)]
pub(super) struct RateSampler {
    /// Bytes acknowledged so far.
    delivered: u64,
    /// When the last of them were.
    delivered_at: Duration,
    /// When the newest acknowledged packet was sent.
    first_sent: Duration,
    /// Sendings that may yet be acknowledged, oldest first.
    sendings: VecDeque<Sending>,
    /// Until this much is delivered, the application had not enough to send.
    app_limited_until: u64,
    /// Whether nothing is on the way.
    idle: bool,
}

/// The account at the time of a sending.
#[derive(Debug, Clone, Copy)]
struct Sending {
    at: Duration,
    delivered: u64,
    delivered_at: Duration,
    first_sent: Duration,
    app_limited: bool,
}

/// What one acknowledgement tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// Bytes a second.
    pub(super) rate: u64,
    /// What had been delivered when the acknowledged packet was sent.
    pub(super) delivered_before: u64,
    /// The application was the limit: the path may be faster.
    pub(super) app_limited: bool,
}

impl RateSampler {
    /// With nothing on the way.
    pub(super) fn new() -> Self {
        Self {
            idle: true,
            ..Self::default()
        }
    }

    /// Packets leave.
    pub(super) fn on_sent(&mut self, now: Duration) {
        if self.idle {
            self.idle = false;
            self.first_sent = now;
            self.delivered_at = now;
        }
        if self.sendings.back().is_none_or(|last| last.at != now) {
            self.sendings.push_back(Sending {
                at: now,
                delivered: self.delivered,
                delivered_at: self.delivered_at,
                first_sent: self.first_sent,
                app_limited: self.delivered < self.app_limited_until,
            });
        }
    }

    /// Bytes were acknowledged.
    pub(super) fn on_delivered(&mut self, bytes: u64) {
        self.delivered += bytes;
    }

    /// An acknowledgement is over; `sent` is when its newest packet was. None when it tells
    /// nothing: packets out of order, or no time has passed.
    pub(super) fn sample(
        &mut self,
        now: Duration,
        sent: Duration,
        in_flight: u64,
        app_limited: bool,
    ) -> Option<Sample> {
        if app_limited {
            self.app_limited_until = self.delivered + in_flight;
        }
        self.idle = in_flight == 0;
        self.delivered_at = now;
        let sending = self.sending_at(sent)?;
        self.first_sent = sending.at;
        let sending_took = sending.at.saturating_sub(sending.first_sent);
        let acknowledging_took = now.saturating_sub(sending.delivered_at);
        let took = sending_took.max(acknowledging_took);
        if took.is_zero() {
            return None;
        }
        let bytes = self.delivered - sending.delivered;
        Some(Sample {
            rate: (bytes as f64 / took.as_secs_f64()) as u64,
            delivered_before: sending.delivered,
            app_limited: sending.app_limited,
        })
    }

    /// The account of a sending; older ones are forgotten.
    fn sending_at(&mut self, sent: Duration) -> Option<Sending> {
        let first = self.sendings.front()?;
        if sent < first.at {
            return None;
        }
        let after = self.sendings.partition_point(|sending| sending.at <= sent);
        // Local invariant: the first one is not after `sent`.
        self.sendings.drain(..after - 1);
        self.sendings.front().copied()
    }

    /// Bytes acknowledged so far.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn acknowledgements_squeezed_together_do_not_look_fast() {
        let mut sampler = RateSampler::new();
        for i in 0..10 {
            sampler.on_sent(MS * i);
        }
        // All ten arrive at once, a second's worth of sending taking 9 ms.
        sampler.on_delivered(10_000);
        let sample = sampler.sample(MS * 20, MS * 9, 0, false).unwrap();
        assert_eq!(sample.rate, 10_000 * 1000 / 20);
    }

    #[test]
    fn a_packet_sent_after_a_pause_does_not_count_the_pause() {
        let mut sampler = RateSampler::new();
        sampler.on_sent(MS);
        sampler.on_delivered(1000);
        sampler.sample(MS * 11, MS, 0, true).unwrap();
        sampler.on_sent(MS * 1000);
        sampler.on_delivered(1000);
        let sample = sampler.sample(MS * 1010, MS * 1000, 0, false).unwrap();
        assert_eq!(sample.rate, 100_000);
    }

    #[test]
    fn what_the_application_limited_is_marked_until_it_has_arrived() {
        let mut sampler = RateSampler::new();
        sampler.on_sent(MS);
        sampler.on_sent(MS * 2);
        sampler.on_delivered(1000);
        assert!(!sampler.sample(MS * 11, MS, 1000, true).unwrap().app_limited);
        sampler.on_sent(MS * 11);
        sampler.on_delivered(1000);
        sampler.sample(MS * 12, MS * 2, 1000, false).unwrap();
        sampler.on_sent(MS * 12);
        sampler.on_delivered(1000);
        assert!(
            sampler
                .sample(MS * 21, MS * 11, 1000, false)
                .unwrap()
                .app_limited
        );
        sampler.on_delivered(1000);
        assert!(
            !sampler
                .sample(MS * 22, MS * 12, 0, false)
                .unwrap()
                .app_limited
        );
    }

    #[test]
    fn packets_out_of_order_give_no_sample() {
        let mut sampler = RateSampler::new();
        sampler.on_sent(MS);
        sampler.on_sent(MS * 2);
        sampler.on_delivered(1000);
        assert!(sampler.sample(MS * 12, MS * 2, 1000, false).is_some());
        sampler.on_delivered(1000);
        assert_eq!(sampler.sample(MS * 13, MS, 0, false), None);
    }
}
