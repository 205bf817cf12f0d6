//! Notices a peer that keeps the connection alive and does nothing.

use std::time::Duration;

/// Looks now and then whether anything happens. Reads no clock: the driver passes the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StallWatch {
    activity: u64,
    since: Duration,
}

/// What a driver sees of its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// Changes with everything that happens: messages, bytes, work of this side.
    pub activity: u64,
    /// The peer has said that it sent what is still missing.
    pub is_owed: bool,
    /// A block arrived in this session.
    pub has_proven: bool,
    /// Of files that one of the sides may be reading again, to hash what it has of them: nothing
    /// is said meanwhile.
    pub unhashed_bytes: u64,
    /// This side is at work, on a slow disk perhaps: silence says nothing about the peer.
    pub is_busy: bool,
}

impl StallWatch {
    /// Whether it has been silent for too long. `now` counts from any fixed moment.
    pub fn look(&mut self, now: Duration, sight: Sight) -> bool {
        if sight.is_busy || sight.activity != self.activity {
            self.activity = sight.activity;
            self.since = now;
            return false;
        }
        let hashing = to_hash(sight.unhashed_bytes);
        let patience = match sight {
            Sight { is_owed: false, .. } => ANYTHING,
            // Nothing is lost by dialling again.
            Sight {
                has_proven: false, ..
            } => FIRST_OWED,
            Sight { .. } => OWED,
        };
        now.saturating_sub(self.since) >= patience + hashing
    }
}

/// Notices that data connections are lost one after another before any brings a block, as with
/// something on the way that lets nothing but their beginning pass. Reads no clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LossWatch {
    lost: u32,
    since: Duration,
    last: Duration,
    has_proven: bool,
}

impl LossWatch {
    /// A block arrived.
    pub fn on_proven(&mut self) {
        self.lost = 0;
        self.has_proven = true;
    }

    /// Whether any did in this session.
    pub fn has_proven(&self) -> bool {
        self.has_proven
    }

    /// Whether this one is one too many: nothing may come while one side after the other hashes so many
    /// bytes. `now` counts from any fixed moment.
    pub fn on_lost(&mut self, now: Duration, unhashed_bytes: u64) -> bool {
        let is_another_time = now.saturating_sub(self.last) >= OWED;
        self.last = now;
        if self.lost == 0 || is_another_time {
            (self.lost, self.since) = (0, now);
        }
        self.lost = self.lost.saturating_add(1);
        self.lost >= LOSSES && now.saturating_sub(self.since) >= OWED + 2 * to_hash(unhashed_bytes)
    }
}

/// Time to read and hash so many.
fn to_hash(bytes: u64) -> Duration {
    Duration::from_secs(bytes / HASHED_PER_SECOND)
}

/// How often to look.
pub const GLANCE: Duration = Duration::from_secs(5);

/// For bytes that were sent according to the peer: twice what the transports need to notice
/// that a path is dead.
const OWED: Duration = Duration::from_secs(240);

/// For the same before any block arrived: what is on the way may take connections and swallow what they
/// carry, and the other transport may pass. Longer than a lane is given on which nothing
/// comes, which is dialled again in smaller packets.
const FIRST_OWED: Duration = Duration::from_secs(20);

/// Data connections that are lost before a block comes, at least, until the session counts as lost.
const LOSSES: u32 = 8;

/// For anything else, beyond the time for what is to be hashed. The peer may wait for a tape
/// robot; but not for a whole night.
pub(crate) const ANYTHING: Duration = Duration::from_secs(6 * 60 * 60);

/// Bytes that a side reads and hashes in a second, at least: files on a slow disk that others
/// use as well.
const HASHED_PER_SECOND: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const SIGHT: Sight = Sight {
        activity: 7,
        is_owed: false,
        has_proven: true,
        unhashed_bytes: 0,
        is_busy: false,
    };

    fn silent(seconds: u64, is_owed: bool, is_busy: bool) -> bool {
        silent_at(
            seconds,
            Sight {
                is_owed,
                is_busy,
                ..SIGHT
            },
        )
    }

    fn silent_at(seconds: u64, sight: Sight) -> bool {
        let mut watch = StallWatch::default();
        assert!(!watch.look(Duration::from_secs(100), sight));
        watch.look(Duration::from_secs(100 + seconds), sight)
    }

    #[test]
    fn what_is_owed_is_waited_for_minutes_and_anything_else_for_hours() {
        assert!(!silent(239, true, false));
        assert!(silent(240, true, false));
        assert!(!silent(6 * 3600 - 1, false, false));
        assert!(silent(6 * 3600, false, false));
    }

    #[test]
    fn a_first_block_that_is_owed_is_not_waited_for_as_long() {
        let first = |is_owed| Sight {
            is_owed,
            has_proven: false,
            ..SIGHT
        };
        assert!(!silent_at(19, first(true)));
        assert!(silent_at(20, first(true)));
        assert!(!silent_at(240, first(false)));
    }

    #[test]
    fn whoever_may_be_hashing_a_large_partial_is_waited_for_as_long_as_that_takes() {
        let hour = Duration::from_secs(3600);
        let is_given_up = |is_owed, unhashed_bytes, after| {
            let sight = Sight {
                is_owed,
                unhashed_bytes,
                ..SIGHT
            };
            let mut watch = StallWatch::default();
            assert!(!watch.look(hour, sight));
            watch.look(hour + after, sight)
        };
        // Sixteen TiB at 100 MB/s take two days; what is owed may wait behind them.
        for is_owed in [false, true] {
            assert!(!is_given_up(is_owed, 16 << 40, 48 * hour));
            assert!(is_given_up(is_owed, 16 << 40, 80 * hour));
            assert!(is_given_up(is_owed, 1 << 30, 7 * hour));
        }
        // Nothing overflows, whatever was offered.
        assert!(!is_given_up(false, u64::MAX, 1_000_000 * hour));
    }

    #[test]
    fn connections_that_break_before_anything_arrives_are_borne_for_minutes() {
        let at = |seconds| Duration::from_secs(seconds);
        let mut watch = LossWatch::default();
        // All at once, as in an outage.
        assert!(!(0..100).any(|_| watch.on_lost(at(1000), 0)));
        assert!(!watch.on_lost(at(1239), 0));
        assert!(watch.on_lost(at(1240), 0));
        watch.on_proven();
        // Now and then.
        assert!(!(1..8).any(|times| watch.on_lost(at(2000 + 100 * times), 0)));
        assert!(watch.on_lost(at(2800), 0));
        // Something else.
        assert!(!watch.on_lost(at(3040), 0));
        // Ten minutes more for each side while so much may be hashed.
        let (mut watch, many) = (LossWatch::default(), 600 * HASHED_PER_SECOND);
        assert!(!(0..100).any(|_| watch.on_lost(at(1000), many)));
        assert!(!(1..8).any(|times| watch.on_lost(at(1000 + 200 * times), many)));
        assert!(watch.on_lost(at(2440), many));
    }

    #[test]
    fn work_of_our_own_and_whatever_happens_start_the_wait_anew() {
        assert!(!silent(1_000_000, true, true));
        let mut watch = StallWatch::default();
        let sight = |activity| Sight {
            activity,
            is_owed: true,
            ..SIGHT
        };
        for second in 1..1000 {
            assert!(!watch.look(Duration::from_secs(239 * second), sight(second)));
        }
    }
}
