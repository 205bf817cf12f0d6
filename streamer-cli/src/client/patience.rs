//! How often and for how long an endpoint is dialled again that answers and is lost again.

use std::time::{Duration, Instant};

use streamer_core::net::progress::Snapshot;
use streamer_core::wire::message::Role;

/// Counts losses. Reads no clock.
pub(super) struct Patience {
    wait: Duration,
    role: Role,
    /// Most that a session has shown to be in place.
    best: Proof,
    /// When the last progress was seen, or the first loss, and how many losses brought nothing since.
    row: Option<(Instant, u32)>,
    pause: Duration,
}

/// What a session has shown to be in place: more than that is progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Proof {
    moved: u64,
    held: u64,
    entries: u64,
}

impl Proof {
    /// What a sender has sent proves nothing: it may wait in a socket of its own.
    fn of(moved: &Snapshot, role: Role) -> Self {
        Self {
            moved: match role {
                Role::Receiver => moved.moved_bytes,
                Role::Sender => 0,
            },
            held: moved.resumed_bytes,
            entries: moved.entries_done,
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            moved: self.moved.max(other.moved),
            held: self.held.max(other.held),
            entries: self.entries.max(other.entries),
        }
    }
}

/// What follows from a loss.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AfterLoss {
    /// Nothing is brought, again and again: another way may be open.
    pub(super) is_stuck: bool,
    /// How long to wait before the next try; `None` when it is not worth one.
    pub(super) pause: Option<Duration>,
}

impl Patience {
    pub(super) fn new(wait: Duration, role: Role) -> Self {
        Self {
            wait,
            role,
            best: Proof::default(),
            row: None,
            pause: RETRY_PAUSE,
        }
    }

    /// A session is lost that had moved so much: the wait is longer each time, unless it brought
    /// something.
    pub(super) fn on_lost(&mut self, moved: &Snapshot, now: Instant) -> AfterLoss {
        let best = self.best.max(Proof::of(moved, self.role));
        let is_progress = best != self.best;
        self.best = best;
        let (since, losses) = match self.row {
            Some((since, losses)) if !is_progress => (since, losses + 1),
            _ => {
                self.pause = RETRY_PAUSE;
                // What a sender has brought is seen in the session after.
                (now, u32::from(!is_progress))
            }
        };
        self.row = Some((since, losses));
        // One session may be longer than the wait: what it hashes takes its time.
        let is_hopeless = losses > LOSSES_MAX && now.saturating_duration_since(since) >= self.wait;
        let pause = self.pause;
        self.pause = (2 * pause).min(RETRY_PAUSE_MAX);
        AfterLoss {
            is_stuck: losses >= STUCK,
            pause: (!is_hopeless).then_some(pause),
        }
    }
}

/// Before a lost endpoint is dialled again: it may be noticing the loss itself.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Losses in a row that bring nothing until another transport is tried first.
const STUCK: u32 = 2;

/// Losses in a row that bring nothing, at least, until an endpoint is given up that answers.
const LOSSES_MAX: u32 = 4;

/// Between two tries of an endpoint that answers each time and is lost each time.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(60);

    fn moved(moved_bytes: u64, resumed_bytes: u64) -> Snapshot {
        Snapshot {
            moved_bytes,
            resumed_bytes,
            ..Snapshot::default()
        }
    }

    /// Losses until it gives up, one every `every`, each after so much.
    fn losses(role: Role, every: Duration, proof: impl Fn(u64) -> Snapshot) -> Option<u32> {
        let (mut patience, begun) = (Patience::new(WAIT, role), Instant::now());
        (1..=100).find(|&number| {
            let now = begun + every * number;
            patience.on_lost(&proof(number.into()), now).pause.is_none()
        })
    }

    #[test]
    fn what_only_left_this_side_is_no_progress() {
        let second = Duration::from_secs(1);
        let sent = |number| moved(number << 20, 0);
        assert_eq!(losses(Role::Sender, second, sent), Some(61));
        assert_eq!(losses(Role::Receiver, second, sent), None);
        let held = |number| moved(number << 20, number);
        assert_eq!(losses(Role::Sender, second, held), None);
    }

    #[test]
    fn a_long_session_that_hashes_may_be_lost_a_few_times() {
        let hour = Duration::from_secs(3600);
        assert_eq!(
            losses(Role::Receiver, hour, |_| moved(0, 0)),
            Some(LOSSES_MAX + 1)
        );
    }

    #[test]
    fn who_is_stuck_waits_longer_each_time() {
        let (mut patience, now) = (Patience::new(WAIT, Role::Receiver), Instant::now());
        let mut lost = |bytes| patience.on_lost(&moved(bytes, 0), now);
        assert!(!lost(0).is_stuck);
        let again = lost(0);
        assert_eq!((again.is_stuck, again.pause), (true, Some(2 * RETRY_PAUSE)));
        let after = lost(1);
        assert_eq!((after.is_stuck, after.pause), (false, Some(RETRY_PAUSE)));
        assert!(!lost(1).is_stuck);
        assert!((0..9).all(|_| lost(1).is_stuck));
        assert_eq!(lost(1).pause, Some(RETRY_PAUSE_MAX));
    }
}
