//! Congestion control for QUIC: how many bytes may be on the way.
//!
//! [`rate`] measures how fast bytes arrive, [`filter`] remembers the best of it, [`control`]
//! decides about the window, all without a clock; this file lets quinn drive them, and
//! [`punctuality`] tells them how late their thread is. Why not
//! one of quinn's own: `docs/design/0004-congestion.md`.

mod control;
mod filter;
mod punctuality;
mod rate;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

use control::Control;
use punctuality::Punctuality;

/// Makes a controller for each path.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct RateBased;

impl ControllerFactory for RateBased {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Adapter {
            epoch: now,
            newest_acked: None,
            punctuality: Punctuality::watch(),
            control: Control::new(current_mtu),
        })
    }
}

/// Translates quinn's calls: instants become times since the first of them, and the packets of
/// one acknowledgement become one.
#[derive(Debug, Clone)]
struct Adapter {
    epoch: Instant,
    /// When the newest packet of this acknowledgement was sent.
    newest_acked: Option<Duration>,
    punctuality: Arc<Punctuality>,
    control: Control,
}

impl Adapter {
    fn time(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.epoch)
    }

    /// Asks how late this thread is, once in a while.
    fn look_at_clock(&mut self, now: Instant) {
        if let Some(late) = self.punctuality.news() {
            self.control.on_late(self.time(now), late);
        }
    }
}

impl Controller for Adapter {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        self.look_at_clock(now);
        self.control.on_sent(self.time(now), bytes);
    }

    fn on_ack(
        &mut self,
        _now: Instant,
        sent: Instant,
        bytes: u64,
        _app_limited: bool,
        _rtt: &RttEstimator,
    ) {
        let sent = self.time(sent);
        self.newest_acked = self.newest_acked.max(Some(sent));
        self.control.on_delivered(bytes);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        _largest_packet_num_acked: Option<u64>,
    ) {
        self.look_at_clock(now);
        if let Some(sent) = self.newest_acked.take() {
            self.control
                .on_acknowledgement(self.time(now), sent, in_flight, app_limited);
        }
    }

    fn on_congestion_event(
        &mut self,
        _now: Instant,
        _sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        if is_persistent_congestion {
            self.control.on_persistent_congestion();
        } else {
            self.control.on_lost(lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.control.on_packet_size(new_mtu);
    }

    /// quinn's pacer does nothing where the window is larger than 32 bits.
    fn window(&self) -> u64 {
        match self.control.may_catch_up() {
            true => u64::MAX,
            false => self.control.window(),
        }
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.control.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
