//! The handshakes of one transport: bounded in number and time, so that callers who stall are
//! in nobody's way for long.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
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
    origin: IpAddr,
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

    /// Makes room for one more of `peer`, if need be at the cost of the oldest: of those from where it
    /// is when these have their share. False when there is none.
    pub(crate) fn make_room(&mut self, peer: SocketAddr) -> bool {
        let origin = origin(peer.ip());
        self.under_way();
        self.make_room_among(SHARE, |begun| begun.origin == origin)
            && self.make_room_among(HANDSHAKES, |_| true)
    }

    fn make_room_among(&mut self, most: usize, is_one: impl Fn(&Begun) -> bool) -> bool {
        let count = self.begun.iter().filter(|begun| is_one(begun)).count();
        let Some(oldest) = self.begun.iter().position(is_one) else {
            return true;
        };
        match room(count, most, self.begun[oldest].at.elapsed()) {
            Room::Free => true,
            Room::OfTheOldest => {
                if let Some(oldest) = self.begun.remove(oldest) {
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
        self.begun.push_back(Begun {
            at: Instant::now(),
            origin: origin(peer.ip()),
            handle,
        });
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

/// Whose share an address uses. Of IPv6 everybody has a network of 64 bits, and more addresses than
/// could be counted.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        v4 => v4,
    }
}

/// Room for one more handshake of `most`, while `under_way` are, the oldest for this long.
fn room(under_way: usize, most: usize, oldest: Duration) -> Room {
    if under_way < most {
        Room::Free
    } else if oldest >= CHANCE {
        Room::OfTheOldest
    } else {
        Room::None
    }
}

/// At a time; from half of them on, addresses are validated.
const HANDSHAKES: usize = 32;

/// At a time from one address: somebody who connects a thousand times a second leaves room for
/// others. More than half, so that over QUIC nobody uses it up in the name of another; and many, for
/// behind one address may be many machines, and a client makes all its connections at once.
const SHARE: usize = 24;

/// The part of an address of IPv6 that tells whose it is.
const NETWORK: u128 = !0 << 64;

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
        let room = |under_way, oldest| room(under_way, HANDSHAKES, oldest);
        assert_eq!(room(HANDSHAKES - 1, HANDSHAKE_TIMEOUT), Room::Free);
        assert_eq!(room(HANDSHAKES, CHANCE / 2), Room::None);
        assert_eq!(room(HANDSHAKES, CHANCE), Room::OfTheOldest);
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_leaves_room_for_others_and_makes_it_among_its_own() {
        let (arrivals, _arrived) = mpsc::channel(1);
        let mut handshakes = Handshakes::new(arrivals);
        let [flood, other, another]: [SocketAddr; 3] =
            ["[2001:db8::1]:1", "192.0.2.7:1", "192.0.2.8:1"].map(|text| text.parse().unwrap());
        let begin = |peer, handshakes: &mut Handshakes| {
            let has_room = handshakes.make_room(peer);
            if has_room {
                handshakes.begin(peer, std::future::pending());
            }
            has_room
        };
        assert!(begin(other, &mut handshakes));
        for _ in 0..SHARE {
            assert!(begin(flood, &mut handshakes));
        }
        let same_network = "[2001:db8::2]:9".parse().unwrap();
        assert!(!begin(same_network, &mut handshakes));
        assert!(begin(other, &mut handshakes));
        tokio::time::advance(CHANCE).await;
        // Its own oldest goes, not the one that began before.
        assert!(begin(flood, &mut handshakes));
        let of = |peer: SocketAddr, handshakes: &Handshakes| {
            let begun = handshakes.begun.iter();
            begun
                .filter(|begun| begun.origin == origin(peer.ip()))
                .count()
        };
        assert_eq!((of(other, &handshakes), of(flood, &handshakes)), (2, SHARE));
        for _ in SHARE + 2..HANDSHAKES {
            assert!(begin(another, &mut handshakes));
        }
        assert!(
            begin(another, &mut handshakes),
            "the oldest of all had its chance"
        );
        assert_eq!(of(other, &handshakes), 1);
    }

    #[test]
    fn an_address_is_the_same_in_either_form() {
        let origins = [
            "::ffff:192.0.2.7",
            "192.0.2.7",
            "2001:db8::1",
            "2001:db8:0:1::1",
        ]
        .map(|text| origin(text.parse().unwrap()));
        assert_eq!(origins[0], origins[1]);
        assert_ne!(origins[2], origins[3]);
    }
}
