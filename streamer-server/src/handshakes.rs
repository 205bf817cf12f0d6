//! The handshakes of one transport: bounded in number and time, so that callers who stall are
//! in nobody's way for long.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use crate::callers::Arrival;

/// Handshakes under way. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Handshakes {
    shaking: JoinSet<Option<Arrival>>,
    /// Those that may still be under way, oldest first.
    begun: VecDeque<Begun>,
    arrivals: mpsc::Sender<Arrival>,
    arriving: JoinSet<()>,
}

#[derive(Debug)]
struct Begun {
    at: Instant,
    handle: AbortHandle,
}

impl Handshakes {
    /// None yet; who gets past one goes to `arrivals`.
    pub(crate) fn new(arrivals: mpsc::Sender<Arrival>) -> Self {
        Self {
            shaking: JoinSet::new(),
            begun: VecDeque::new(),
            arrivals,
            arriving: JoinSet::new(),
        }
    }

    /// Whether so many are under way that addresses should be validated first.
    pub(crate) fn is_busy(&mut self) -> bool {
        self.under_way() >= HANDSHAKES / 2
    }

    /// Makes room for one more, if need be at the cost of the oldest. False when there is none.
    pub(crate) fn make_room(&mut self) -> bool {
        let under_way = self.under_way();
        let oldest = self
            .begun
            .front()
            .map_or(Duration::ZERO, |b| b.at.elapsed());
        match room(under_way, oldest) {
            Room::Free => true,
            Room::OfTheOldest => {
                if let Some(oldest) = self.begun.pop_front() {
                    oldest.handle.abort();
                }
                true
            }
            Room::None => false,
        }
    }

    /// Begins one, after [`make_room`](Self::make_room).
    pub(crate) fn begin(
        &mut self,
        peer: SocketAddr,
        caller: impl Future<Output = Option<Arrival>> + Send + 'static,
    ) {
        let handle = self.shaking.spawn(async move {
            let caller = timeout(HANDSHAKE_TIMEOUT, caller).await.ok().flatten();
            if caller.is_none() {
                tracing::debug!(%peer, "a caller did not get past the handshake");
            }
            caller
        });
        let at = Instant::now();
        self.begun.push_back(Begun { at, handle });
    }

    /// Waits for the end of one, and hands its caller on. Cancel-safe.
    pub(crate) async fn ended(&mut self) {
        tokio::select! {
            Some(ended) = self.shaking.join_next() => {
                if let Ok(Some(caller)) = ended {
                    let arrivals = self.arrivals.clone();
                    self.arriving.spawn(async move {
                        // The endpoint is leaving otherwise.
                        let _ = arrivals.send(caller).await;
                    });
                }
            }
            Some(_) = self.arriving.join_next() => {}
            else => std::future::pending().await,
        }
    }

    fn under_way(&mut self) -> usize {
        self.begun.retain(|begun| !begun.handle.is_finished());
        self.begun.len()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Free,
    OfTheOldest,
    None,
}

/// Room for one more handshake, while `under_way` are, the oldest for this long.
fn room(under_way: usize, oldest: Duration) -> Room {
    if under_way < HANDSHAKES {
        Room::Free
    } else if oldest >= CHANCE {
        Room::OfTheOldest
    } else {
        Room::None
    }
}

/// At a time; from half of them on, addresses are validated.
const HANDSHAKES: usize = 32;

/// What the oldest has had before it makes room: the two round trips of a client far away.
/// Clients try several times a second, so stalling callers keep them waiting no longer.
const CHANCE: Duration = Duration::from_secs(1);

/// From a caller's first packet to its greeting.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_once_it_had_its_chance_and_only_when_all_are_taken() {
        assert_eq!(room(HANDSHAKES - 1, HANDSHAKE_TIMEOUT), Room::Free);
        assert_eq!(room(HANDSHAKES, CHANCE / 2), Room::None);
        assert_eq!(room(HANDSHAKES, CHANCE), Room::OfTheOldest);
    }
}
