//! A path with a queue, and senders that obey a [`Control`] and quinn's pacer, in virtual time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::control::Control;

pub(super) const PACKET: u64 = 1452;

/// One bottleneck.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    /// Bytes a second.
    pub(super) rate: f64,
    /// Without queue.
    pub(super) round_trip: Duration,
    /// Bytes that wait at most.
    pub(super) queue: f64,
    /// Probability.
    pub(super) loss: f64,
}

impl Path {
    /// With a queue of one bandwidth-delay product.
    pub(super) fn new(megabits: f64, round_trip_ms: u64, loss: f64) -> Self {
        let round_trip = Duration::from_millis(round_trip_ms);
        let rate = megabits * 1e6 / 8.0;
        Self {
            rate,
            round_trip,
            queue: rate * round_trip.as_secs_f64(),
            loss,
        }
    }
}

/// What a flow did.
#[derive(Debug, Default, Clone)]
pub(super) struct Record {
    /// Bytes delivered in each tenth of a second.
    pub(super) tenths: Vec<u64>,
    pub(super) lost: u64,
    pub(super) sent: u64,
}

impl Record {
    /// Bytes a second between two moments, in seconds.
    pub(super) fn rate(&self, from: f64, to: f64) -> f64 {
        let range = (from * 10.0) as usize..(to * 10.0) as usize;
        let bytes: u64 = self.tenths.get(range).unwrap_or(&[]).iter().sum();
        bytes as f64 / (to - from)
    }
}

/// A processor that the sender has for a millisecond and then waits for.
#[derive(Debug, Clone, Copy)]
struct Host {
    longest_wait: Duration,
    away_from: Duration,
    back_at: Duration,
}

struct Flow {
    control: Control,
    host: Option<Host>,
    begins: Duration,
    /// Bytes a second that the application has to send.
    supply: f64,
    in_flight: u64,
    smoothed: Duration,
    tokens: f64,
    paced: Duration,
    record: Record,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake,
    Acknowledged { sent: Duration },
    Lost,
}

/// Runs flows over a path.
pub(super) struct Simulation {
    path: Path,
    now: Duration,
    /// When the bottleneck has sent what waits for it.
    free: Duration,
    flows: Vec<Flow>,
    events: BinaryHeap<Reverse<(Duration, u64, usize, Event)>>,
    order: u64,
    random: u64,
    /// Waiting times at the bottleneck, at each packet.
    pub(super) waits: VecDeque<(Duration, Duration)>,
}

impl Simulation {
    pub(super) fn new(path: Path) -> Self {
        Self {
            path,
            now: Duration::ZERO,
            free: Duration::ZERO,
            flows: Vec::new(),
            events: BinaryHeap::new(),
            order: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            waits: VecDeque::new(),
        }
    }

    /// Adds a flow that begins then and has this many bytes a second to send.
    pub(super) fn add(&mut self, begins: Duration, supply: f64) -> usize {
        let index = self.flows.len();
        self.flows.push(Flow {
            control: Control::new(PACKET as u16),
            host: None,
            begins,
            supply,
            in_flight: 0,
            smoothed: self.path.round_trip,
            tokens: 10.0 * PACKET as f64,
            paced: begins,
            record: Record::default(),
        });
        self.schedule(begins, index, Event::Wake);
        index
    }

    /// Lets a flow run for a millisecond at a time, with waits of 10 ms to this long between.
    pub(super) fn share_processor(&mut self, flow: usize, longest_wait: Duration) {
        self.flows[flow].host = Some(Host {
            longest_wait,
            away_from: Duration::ZERO,
            back_at: Duration::ZERO,
        });
    }

    pub(super) fn change(&mut self, path: Path) {
        self.path = path;
    }

    pub(super) fn control(&mut self, flow: usize) -> &mut Control {
        &mut self.flows[flow].control
    }

    pub(super) fn record(&self, flow: usize) -> &Record {
        &self.flows[flow].record
    }

    /// Runs until this many seconds.
    pub(super) fn run_until(&mut self, seconds: f64) {
        let end = Duration::from_secs_f64(seconds);
        while let Some(Reverse((at, _, flow, event))) = self.events.pop() {
            if at >= end {
                self.schedule(at, flow, event);
                break;
            }
            let runs_at = self.has_processor(flow, at);
            if runs_at > at {
                self.schedule(runs_at, flow, event);
                continue;
            }
            self.now = at;
            self.on_event(flow, event);
            self.send(flow);
        }
        self.now = end;
    }

    /// Mean wait at the bottleneck since a moment.
    pub(super) fn mean_wait(&self, since: f64) -> Duration {
        let since = Duration::from_secs_f64(since);
        let waits = self.waits.iter().filter(|(at, _)| *at >= since);
        let (sum, count) = waits.fold((Duration::ZERO, 0), |(sum, n), (_, w)| (sum + *w, n + 1));
        sum / count.max(1)
    }

    /// When the flow runs that has something to do at `at`.
    fn has_processor(&mut self, index: usize, at: Duration) -> Duration {
        const RUN: Duration = Duration::from_millis(1);
        const SHORTEST_WAIT: Duration = Duration::from_millis(10);
        let Some(mut host) = self.flows[index].host else {
            return at;
        };
        while at >= host.back_at {
            if at < host.back_at + RUN {
                return at;
            }
            let scatter = host.longest_wait - SHORTEST_WAIT;
            let wait = SHORTEST_WAIT + scatter.mul_f64(self.random());
            host.away_from = host.back_at + RUN;
            host.back_at = host.away_from + wait;
            let flow = &mut self.flows[index];
            flow.host = Some(host);
            flow.control.on_late(host.back_at, wait);
        }
        if at < host.away_from {
            at
        } else {
            host.back_at
        }
    }

    fn on_event(&mut self, index: usize, event: Event) {
        let (now, flow) = (self.now, &mut self.flows[index]);
        match event {
            Event::Wake => {}
            Event::Lost => {
                flow.in_flight -= PACKET;
                flow.record.lost += PACKET;
                flow.control.on_lost(PACKET);
            }
            Event::Acknowledged { sent } => {
                flow.in_flight -= PACKET;
                let tenth = (now.as_secs_f64() * 10.0) as usize;
                let length = flow.record.tenths.len().max(tenth + 1);
                flow.record.tenths.resize(length, 0);
                flow.record.tenths[tenth] += PACKET;
                flow.smoothed = (flow.smoothed * 7 + (now - sent)) / 8;
                let app_limited = flow.supply.is_finite();
                flow.control.on_delivered(PACKET);
                flow.control
                    .on_acknowledgement(now, sent, flow.in_flight, app_limited);
            }
        }
    }

    fn send(&mut self, index: usize) {
        while self.may_send(index) {
            let (now, path) = (self.now, self.path);
            let flow = &mut self.flows[index];
            flow.tokens = (flow.tokens - PACKET as f64).max(0.0);
            flow.in_flight += PACKET;
            flow.record.sent += PACKET;
            flow.control.on_sent(now, PACKET);
            let wait = self.free.saturating_sub(now);
            self.waits.push_back((now, wait));
            let full = wait.as_secs_f64() * path.rate > path.queue;
            let lost = full || self.random() < path.loss;
            if !full {
                let takes = Duration::from_secs_f64(PACKET as f64 / path.rate);
                self.free = self.free.max(now) + takes;
            }
            let back = self.free.max(now) + path.round_trip;
            match lost {
                true => self.schedule(back + Duration::from_millis(1), index, Event::Lost),
                false => self.schedule(back, index, Event::Acknowledged { sent: now }),
            }
        }
    }

    /// The window, the application, and quinn's pacer: a window and a quarter in a round trip,
    /// in bursts of 2 ms.
    fn may_send(&mut self, index: usize) -> bool {
        let (now, flow) = (self.now, &mut self.flows[index]);
        let catches_up = flow.control.may_catch_up();
        let window = flow.control.window() as f64;
        if now < flow.begins || (flow.in_flight + PACKET) as f64 > window {
            return false;
        }
        let supplied = (now - flow.begins).as_secs_f64() * flow.supply;
        if supplied < (flow.record.sent + PACKET) as f64 {
            let next = Duration::from_millis(1);
            self.schedule(now + next, index, Event::Wake);
            return false;
        }
        if catches_up {
            return true;
        }
        let a_second = 1.25 * window / flow.smoothed.as_secs_f64();
        let capacity = (a_second / 1.25 * 0.002).clamp(10.0, 256.0 * PACKET as f64);
        let capacity = capacity.max(10.0 * PACKET as f64);
        let gained = (now - flow.paced).as_secs_f64() * a_second;
        flow.tokens = (flow.tokens + gained).min(capacity);
        flow.paced = now;
        if flow.tokens >= PACKET as f64 {
            return true;
        }
        let pause = Duration::from_secs_f64((capacity - flow.tokens) / a_second);
        self.schedule(now + pause, index, Event::Wake);
        false
    }

    fn schedule(&mut self, at: Duration, flow: usize, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, flow, event)));
    }

    /// From 0 to 1.
    fn random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}
