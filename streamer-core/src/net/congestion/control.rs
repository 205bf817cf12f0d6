//! Decides about the window: a little more than what the path holds, found by trying.
//!
//! ```text
//!  Startup ── queue or loss or no growth ──► Settle ─► Drain ─► Cruise ⇄ Up, Down
//!     ▲  twice as much each round            a round             │    ▲
//!     └── persistent congestion ── any                           └ ProbeRtt
//! ```
//!
//! What the path holds is the largest rate at which bytes arrived lately times the shortest
//! round trip. Loss by itself says nothing about it: radio, dirty fibre and policers lose
//! packets at any rate. Only loss above [`LOSS_TOLERATED`] makes the window smaller, down to what
//! the path holds and not below.

use std::time::Duration;

use super::filter::MaxFilter;
use super::rate::{RateSampler, Sample};

/// The controller of one path. Times count from any fixed moment.
#[derive(Debug, Clone)]
pub(super) struct Control {
    packet: u64,
    sampler: RateSampler,
    /// Bytes a second.
    bandwidth: MaxFilter,
    min_rtt: Option<MinRtt>,
    round: Round,
    phase: Phase,
    window: u64,
    in_flight: u64,
    lateness: Lateness,
    arrears: Arrears,
    /// How much more than the path holds is tried, as loss allows.
    headroom: f64,
}

#[derive(Debug, Clone, Copy)]
struct MinRtt {
    rtt: Duration,
    /// When it was seen last, or something close to it.
    seen: Duration,
}

/// About one round trip: until what is sent now has arrived.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    number: u64,
    /// Ends once this much has been delivered.
    ends: u64,
    /// What had been delivered at its start.
    began: u64,
    lost: u64,
    acknowledgements: u32,
    min_rtt: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Startup {
        best: u64,
        without_growth: u32,
    },
    /// The queue grows: let a whole round tell the rate before deciding.
    Settle {
        until_round: u64,
    },
    Drain,
    Cruise {
        until_round: u64,
    },
    Up {
        judged_in_round: u64,
        best: u64,
    },
    Down,
    ProbeRtt {
        until: Duration,
        until_round: u64,
    },
}

/// How late this thread is where others want its processor: the worst of the last while.
#[derive(Debug, Clone, Copy, Default)]
struct Lateness {
    worst: Duration,
    seen: Duration,
}

impl Lateness {
    fn note(&mut self, now: Duration, by: Duration) {
        if by >= self.worst || now.saturating_sub(self.seen) > LATENESS_LIFE {
            *self = Self {
                worst: by,
                seen: now,
            };
        }
    }

    /// What has to be reckoned with; zero where it is what timers and a busy peer explain.
    fn bound(self) -> Duration {
        match self.worst {
            worst if worst < LATENESS_SEEN => Duration::ZERO,
            worst => worst,
        }
    }
}

/// What the pacer would have let leave if this thread had come when it was due.
#[derive(Debug, Clone, Copy, Default)]
struct Arrears {
    bytes: u64,
    since: Duration,
}

impl Control {
    /// For a path that takes packets of this many bytes.
    pub(super) fn new(packet: u16) -> Self {
        let packet = u64::from(packet);
        Self {
            packet,
            sampler: RateSampler::new(),
            bandwidth: MaxFilter::default(),
            min_rtt: None,
            round: Round::default(),
            phase: STARTUP,
            window: packet * INITIAL_PACKETS,
            in_flight: 0,
            lateness: Lateness::default(),
            arrears: Arrears::default(),
            headroom: UP_GAIN,
        }
    }

    /// Bytes that may be on the way.
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// [`window`](Self::window) of a new path.
    pub(super) fn initial_window(&self) -> u64 {
        self.packet * INITIAL_PACKETS
    }

    /// Whether more may leave at once than a pacer lets that looks every few milliseconds: this
    /// thread came late, and the window has room for what it has missed.
    pub(super) fn may_catch_up(&self) -> bool {
        let batch = self.packet * BATCH_PACKETS;
        self.arrears.bytes >= batch && self.in_flight + batch <= self.window
    }

    /// Packets leave.
    pub(super) fn on_sent(&mut self, now: Duration, bytes: u64) {
        self.sampler.on_sent(now);
        self.in_flight += bytes;
        self.accrue(now);
        self.arrears.bytes = self.arrears.bytes.saturating_sub(bytes);
    }

    /// A timer of this thread went off so much too late.
    pub(super) fn on_late(&mut self, now: Duration, by: Duration) {
        self.lateness.note(now, by);
    }

    /// Bytes arrived; [`on_acknowledgement`](Self::on_acknowledgement) follows.
    pub(super) fn on_delivered(&mut self, bytes: u64) {
        self.sampler.on_delivered(bytes);
        // Startup doubles the window in a round; later phases approach their target so.
        self.window += bytes;
    }

    /// An acknowledgement was taken in: its newest packet was sent at `sent`.
    pub(super) fn on_acknowledgement(
        &mut self,
        now: Duration,
        sent: Duration,
        in_flight: u64,
        app_limited: bool,
    ) {
        self.in_flight = in_flight;
        self.accrue(now);
        self.on_rtt(now, now.saturating_sub(sent));
        if let Some(sample) = self.sampler.sample(now, sent, in_flight, app_limited) {
            self.on_sample(sample);
        }
        self.advance(now, in_flight);
        self.fit_window(in_flight, app_limited);
    }

    /// Packets did not arrive. No bytes: they arrived, but the path marked them.
    pub(super) fn on_lost(&mut self, bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.round.lost += match bytes {
            0 => self.packet * LOST_PACKETS_SEEN,
            lost => lost,
        };
    }

    /// Nothing arrived for long: what was known of the path does not hold.
    pub(super) fn on_persistent_congestion(&mut self) {
        self.bandwidth.clear();
        self.min_rtt = None;
        self.phase = STARTUP;
        self.window = self.packet * MIN_PACKETS;
    }

    /// The path takes larger packets than was known, or no longer takes them.
    pub(super) fn on_packet_size(&mut self, packet: u16) {
        self.packet = u64::from(packet);
        self.window = self.window.max(self.packet * MIN_PACKETS);
    }

    fn on_rtt(&mut self, now: Duration, rtt: Duration) {
        self.round.acknowledgements += 1;
        self.round.min_rtt = Some(self.round.min_rtt.map_or(rtt, |min| min.min(rtt)));
        match &mut self.min_rtt {
            Some(min) if rtt > min.rtt + min.rtt / 16 + RTT_NOISE => {}
            Some(min) => {
                min.rtt = min.rtt.min(rtt);
                min.seen = now;
            }
            None => self.min_rtt = Some(MinRtt { rtt, seen: now }),
        }
    }

    fn on_sample(&mut self, sample: Sample) {
        if !sample.app_limited || sample.rate > self.bandwidth.max() {
            self.bandwidth
                .update(self.round.number, sample.rate, BANDWIDTH_ROUNDS);
        }
        if sample.delivered_before >= self.round.ends {
            self.end_round(sample.app_limited);
        }
    }

    fn end_round(&mut self, app_limited: bool) {
        let delivered = self.sampler.delivered();
        let round = self.round;
        let lossy = self.is_lossy(delivered - round.began, round.lost);
        self.round = Round {
            number: round.number + 1,
            ends: delivered,
            began: delivered,
            ..Round::default()
        };
        if lossy {
            self.headroom = (self.headroom - HEADROOM_STEP).max(1.0);
        }
        match &mut self.phase {
            Phase::Startup {
                best,
                without_growth,
            } if !app_limited => {
                let bandwidth = self.bandwidth.max();
                if bandwidth as f64 >= *best as f64 * STARTUP_GROWTH {
                    *best = bandwidth;
                    *without_growth = 0;
                } else {
                    *without_growth += 1;
                }
                if *without_growth >= STARTUP_PATIENCE || (*without_growth > 0 && lossy) {
                    self.phase = Phase::Drain;
                }
            }
            Phase::Up {
                judged_in_round,
                best,
            } if self.round.number >= *judged_in_round => {
                let bandwidth = self.bandwidth.max();
                let grew = bandwidth as f64 >= *best as f64 * UP_GROWTH;
                *best = bandwidth;
                if !lossy {
                    self.headroom = (self.headroom + HEADROOM_STEP).min(UP_GAIN);
                }
                if lossy || !grew || app_limited {
                    self.phase = Phase::Down;
                }
            }
            _ => {}
        }
    }

    fn is_lossy(&self, delivered: u64, lost: u64) -> bool {
        let sent = delivered + lost;
        lost >= self.packet * LOST_PACKETS_SEEN && lost as f64 > sent as f64 * LOSS_TOLERATED
    }

    /// Moves on where the phase is over.
    fn advance(&mut self, now: Duration, in_flight: u64) {
        let round = self.round.number;
        match self.phase {
            Phase::Startup { .. } if self.is_crowded() => {
                self.phase = Phase::Settle {
                    until_round: round + 2,
                };
            }
            Phase::Settle { until_round } if round >= until_round => self.phase = Phase::Drain,
            Phase::Drain | Phase::Down if in_flight <= self.held(DOWN_GAIN) => self.cruise(),
            Phase::Cruise { .. } if self.is_min_rtt_old(now) => {
                self.min_rtt = None;
                self.phase = Phase::ProbeRtt {
                    until: now + PROBE_RTT_TIME,
                    until_round: round + 2,
                };
            }
            Phase::Cruise { until_round } if round >= until_round => {
                self.phase = Phase::Up {
                    judged_in_round: round + 2,
                    best: self.bandwidth.max(),
                };
            }
            Phase::ProbeRtt { until, until_round } if now >= until && round >= until_round => {
                self.cruise();
            }
            _ => {}
        }
    }

    /// Flows that share a path must not all try more at the same time.
    fn cruise(&mut self) {
        let scatter = self.sampler.delivered() / self.packet % CRUISE_SCATTER;
        self.phase = Phase::Cruise {
            until_round: self.round.number + CRUISE_ROUNDS + scatter,
        };
    }

    /// Whether no packet of this round, and they are enough to tell, met an empty queue.
    fn is_crowded(&self) -> bool {
        match (self.min_rtt, self.round.min_rtt) {
            (Some(min), Some(now)) => {
                let noise = CROWDED_DELAY + self.late();
                self.round.acknowledgements >= CROWD && now > min.rtt + min.rtt / 4 + noise
            }
            _ => false,
        }
    }

    fn is_min_rtt_old(&self, now: Duration) -> bool {
        self.min_rtt
            .is_some_and(|min| now.saturating_sub(min.seen) > MIN_RTT_LIFE)
    }

    /// For how long this thread may have to wait for its turn, as far as the path can make up for
    /// it: what leaves then all at once has to find room in its queue, and less of it where
    /// packets are lost.
    fn late(&self) -> Duration {
        let most = self.min_rtt.map_or(Duration::ZERO, |min| min.rtt / 2);
        let room = (self.headroom - 1.0) / (UP_GAIN - 1.0);
        self.lateness.bound().min(most).mul_f64(room)
    }

    /// What could have left since it was asked last, at the rate of the pacer, and for no longer
    /// than this thread has to wait for its turn.
    fn accrue(&mut self, now: Duration) {
        let since = std::mem::replace(&mut self.arrears.since, now);
        let (Some(min), late) = (self.min_rtt, self.late()) else {
            return;
        };
        if late.is_zero() {
            self.arrears.bytes = 0;
            return;
        }
        let rate = PACER_GAIN * self.window as f64 / min.rtt.as_secs_f64().max(SHORTEST_RTT);
        let bytes = |time: Duration| (rate * time.as_secs_f64()) as u64;
        let gained = self.arrears.bytes + bytes(now.saturating_sub(since));
        self.arrears.bytes = gained.min(bytes(late));
    }

    /// This much of what the path holds, in bytes, and of what arrives while this thread waits.
    fn held(&self, gain: f64) -> u64 {
        let rtt = self.min_rtt.map_or(Duration::ZERO, |min| min.rtt);
        let rtt = rtt + HOST_DELAY + self.late();
        (self.bandwidth.max() as f64 * rtt.as_secs_f64() * gain) as u64
    }

    fn fit_window(&mut self, in_flight: u64, app_limited: bool) {
        let gain = match self.phase {
            Phase::Startup { .. } if app_limited => {
                // What is not used has not been tried.
                self.window = self.window.min((2 * in_flight).max(self.initial_window()));
                return;
            }
            Phase::Startup { .. } => return,
            Phase::Settle { .. } => f64::INFINITY,
            Phase::Drain | Phase::Down => DOWN_GAIN,
            Phase::Cruise { .. } => CRUISE_GAIN.min(self.headroom),
            Phase::Up { .. } => self.headroom.max(UP_GAIN_LEAST),
            Phase::ProbeRtt { .. } => PROBE_RTT_GAIN,
        };
        self.window = self
            .window
            .min(self.held(gain))
            .max(self.packet * MIN_PACKETS);
    }
}

const STARTUP: Phase = Phase::Startup {
    best: 0,
    without_growth: 0,
};

/// Packets of the first round trip, spread over it by the pacer. RFC 6928 has 10 for the
/// networks of 2013; these are for paths where files of gigabytes travel.
const INITIAL_PACKETS: u64 = 64;

/// What keeps acknowledgements coming.
const MIN_PACKETS: u64 = 4;

/// Startup is over when the rate has not grown by this much …
const STARTUP_GROWTH: f64 = 1.25;

/// … for this many rounds, as in BBR.
const STARTUP_PATIENCE: u32 = 3;

/// Rounds that a measured rate counts: longer than it takes to try again.
const BANDWIDTH_ROUNDS: u64 = 12;

/// While cruising: enough that neither late timers nor acknowledgements that come in bunches
/// leave the path empty.
const CRUISE_GAIN: f64 = 1.25;
const CRUISE_ROUNDS: u64 = 5;
const CRUISE_SCATTER: u64 = 4;

/// When trying whether the path takes more.
const UP_GAIN: f64 = 1.5;

/// The same where packets are lost at a high rate.
const UP_GAIN_LEAST: f64 = 1.15;

/// Growth that makes it try on.
const UP_GROWTH: f64 = 1.1;

/// After that: let the queue go, for others and to see the shortest round trip.
const DOWN_GAIN: f64 = 1.0;

const HEADROOM_STEP: f64 = 0.1;

/// Share of a round's bytes whose loss is not taken for congestion, as in BBR version 2 …
const LOSS_TOLERATED: f64 = 0.02;

/// … where so many packets are lost that it is no accident.
const LOST_PACKETS_SEEN: u64 = 8;

/// A shortest round trip counts for this long.
const MIN_RTT_LIFE: Duration = Duration::from_secs(10);

/// Then the path is emptied for this long, at least for a round.
const PROBE_RTT_TIME: Duration = Duration::from_millis(200);
const PROBE_RTT_GAIN: f64 = 0.5;

/// Differences that do not matter.
const RTT_NOISE: Duration = Duration::from_micros(100);

/// Added to the round trip of the path: two turns of a busy thread, with timers of 1 ms.
const HOST_DELAY: Duration = Duration::from_millis(1);

/// Lateness that is worth more than [`HOST_DELAY`] …
const LATENESS_SEEN: Duration = Duration::from_millis(8);

/// … and for how long it counts.
const LATENESS_LIFE: Duration = Duration::from_secs(2);

/// What quinn's pacer lets leave in a round trip, in windows.
const PACER_GAIN: f64 = 1.25;

/// In seconds; of a shorter one nothing would be gained.
const SHORTEST_RTT: f64 = 0.000_1;

/// Packets that quinn makes before it says that they were sent.
const BATCH_PACKETS: u64 = 10;

/// A queue that is none: late threads, acknowledgements in bunches.
const CROWDED_DELAY: Duration = Duration::from_millis(2);

/// Acknowledgements that are enough to tell.
const CROWD: u32 = 8;
