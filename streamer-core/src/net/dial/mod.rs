//! Finds the endpoint that coordinates lead to.

mod attempt;
mod error;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

pub(in crate::net) use self::attempt::{ATTEMPT_TIMEOUT, AttemptError, try_tls};
use self::attempt::{try_near, try_quic, wait_for};
use self::error::Failures;
pub use self::error::{DialError, Reason};
use crate::coordinates::{Coordinates, Transport};
use crate::dial_plan::{DialPlan, PORT_STAGGER, Round};
use crate::net::quic::{BindError, Endpoint};
use crate::net::resolve::{Names, by_system};
use crate::net::tcp::{Connector, TlsStream};
use crate::port_order::port_order;
use crate::secret::TransferSecret;

/// An endpoint that proved to hold the secret.
#[derive(Debug)]
pub enum Dialled {
    /// Over QUIC.
    Quic {
        /// Ours; keep it as long as the connection.
        endpoint: Endpoint,
        /// To the endpoint.
        connection: quinn::Connection,
    },
    /// Over TLS.
    Tls {
        /// For the lanes.
        connector: Connector,
        /// To the endpoint.
        stream: Box<TlsStream>,
        /// On a path where TCP is the cheaper one, whether QUIC answers or not.
        preferred: bool,
        /// For lanes: begun along with `stream`, each `None` when it did not succeed.
        spare: JoinSet<Option<TlsStream>>,
    },
}

impl Dialled {
    /// Why it is this transport, for people.
    pub fn reason(&self, options: &DialOptions) -> &'static str {
        let is_other = |avoided| avoided != self.transport();
        match self {
            _ if options.choice != Choice::Auto => "it was asked for",
            _ if options.avoid.is_some_and(is_other) => {
                "the other one connected and carried nothing"
            }
            Self::Quic { .. } => "it answered",
            Self::Tls {
                preferred: true, ..
            } => "the other machine is near, where TCP costs less",
            Self::Tls { .. } => "QUIC did not answer",
        }
    }
}

impl Dialled {
    /// Which one.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Quic { .. } => Transport::Quic,
            Self::Tls { .. } => Transport::Tls,
        }
    }
}

/// What is dialled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DialOptions {
    /// What may be used.
    pub choice: Choice,
    /// At most so much will move in a second.
    pub bytes_per_second: Option<u64>,
    /// So many lanes will be wanted over TLS. Connections for them are opened along with the
    /// first one on the port that is tried first, where TLS may be preferred.
    pub tls_lanes: u16,
    /// Over TCP, packets that pass everywhere ([`Connector::with_small_segments`]).
    pub small_segments: bool,
    /// Carried nothing the last time: where both may be used, taken only when the other one does
    /// not answer.
    pub avoid: Option<Transport>,
}

impl From<Choice> for DialOptions {
    fn from(choice: Choice) -> Self {
        Self {
            choice,
            bytes_per_second: None,
            tls_lanes: 0,
            small_segments: false,
            avoid: None,
        }
    }
}

/// What the user allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// QUIC, and TLS where UDP does not get through.
    #[default]
    Auto,
    /// QUIC only.
    Quic,
    /// TLS over TCP only.
    Tls,
}

/// Tries the ports of all addresses, in the order that follows from the secret, until one
/// answers as the endpoint or `wait` has passed. TLS starts a little after QUIC, and when it
/// is first it lets QUIC catch up for a moment (as RFC 8305 does with addresses). Names are
/// looked up again meanwhile.
///
/// Cancel-safe: dropping it ends all attempts.
///
/// # Errors
/// When no socket can be made, or no name resolved or nobody answered in time.
pub async fn dial(
    coordinates: &Coordinates,
    wanted: impl Into<DialOptions>,
    wait: Duration,
) -> Result<Dialled, DialError> {
    let names = Names::new(&coordinates.ips, by_system);
    dial_named(coordinates, names, wanted.into(), wait).await
}

async fn dial_named<L, F>(
    coordinates: &Coordinates,
    mut names: Names<L>,
    wanted: DialOptions,
    wait: Duration,
) -> Result<Dialled, DialError>
where
    L: Fn(String) -> F,
    F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    let mut start = Instant::now();
    let deadline = start + wait;
    let mut dialers = Dialers::new(coordinates, wanted)?;
    dialers.open(names.hosts())?;
    let ports = port_order(&coordinates.secret, coordinates.ports);
    let mut attempts: JoinSet<Attempt> = JoinSet::new();
    let mut plan = DialPlan::new(ports.len()).enumerate();
    let mut round = plan.next();
    let mut failures = Failures::default();
    let mut second_best: Option<(Instant, Dialled)> = None;
    loop {
        let next = round
            .as_ref()
            .map_or(deadline, |(_, round)| start + round.at);
        let patience = second_best.as_ref().map_or(deadline, |(until, _)| *until);
        // Every arm is cancel-safe.
        tokio::select! {
            () = sleep_until(patience), if second_best.is_some() => {
                if let Some((_, dialled)) = second_best.take() {
                    return Ok(dialled);
                }
            }
            () = sleep_until(deadline), if second_best.is_none() => {
                let unresolved = names.failure();
                let unreachable = || failures.into_error(names.hosts(), coordinates, wait);
                return Err(unresolved.unwrap_or_else(unreachable));
            }
            () = names.changed() => {
                dialers.open(names.hosts())?;
                start = Instant::now();
                plan = DialPlan::new(ports.len()).enumerate();
                round = plan.next();
            }
            () = sleep_until(next), if next < deadline => {
                if let Some((number, round)) = round.take() {
                    dialers.begin(&mut attempts, names.hosts(), &ports, number, &round);
                }
                round = plan.next();
            }
            Some(attempt) = attempts.join_next() => match attempt {
                Ok(Attempt { result: Ok(dialled), .. }) => match dialers.patience_with(&dialled) {
                    Some(patience) => {
                        second_best.get_or_insert_with(|| (Instant::now() + patience, dialled));
                    }
                    None => return Ok(dialled),
                },
                Ok(Attempt { peer, result: Err(error) }) => failures.note(peer, error),
                // Cancelled only with us; a panic is a failed attempt.
                Err(_) => {}
            },
        }
    }
}

struct Attempt {
    peer: SocketAddr,
    result: Result<Dialled, AttemptError>,
}

/// Of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(address: &SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }
}

/// What attempts are made with.
struct Dialers {
    /// One socket for each family of addresses, or none where the machine has none of that
    /// family. Empty where QUIC is not wanted.
    quic: HashMap<Family, Option<Endpoint>>,
    wants_quic: bool,
    tls: Option<Connector>,
    wanted: DialOptions,
    secret: TransferSecret,
    /// Where the last round was cut off, so that the next one goes on there.
    left_out: usize,
}

impl Dialers {
    fn new(coordinates: &Coordinates, wanted: DialOptions) -> Result<Self, BindError> {
        let choice = wanted.choice;
        let offered = |transport| {
            // Not said: by an older service, whose job may run our endpoint all the same.
            coordinates.transports.is_empty() || coordinates.transports.contains(&transport)
        };
        let tls = match choice != Choice::Quic && offered(Transport::Tls) {
            true => {
                let connector = Connector::new(&coordinates.secret)?;
                Some(connector.with_small_segments(wanted.small_segments))
            }
            false => None,
        };
        Ok(Self {
            quic: HashMap::new(),
            wants_quic: choice != Choice::Tls && offered(Transport::Quic),
            tls,
            wanted,
            secret: coordinates.secret.clone(),
            left_out: 0,
        })
    }

    /// Makes the sockets that these need.
    fn open(&mut self, hosts: &[SocketAddr]) -> Result<(), BindError> {
        let (secret, rate) = (self.secret.clone(), self.wanted.bytes_per_second);
        self.open_with(hosts, |host| Endpoint::slow_dialer(host, &secret, rate))
    }

    /// The same, by `make`. A family of addresses that the machine does not have is left out:
    /// the endpoint may answer on the other one, or over TLS.
    fn open_with(
        &mut self,
        hosts: &[SocketAddr],
        make: impl Fn(SocketAddr) -> Result<Endpoint, BindError>,
    ) -> Result<(), BindError> {
        if !self.wants_quic {
            return Ok(());
        }
        let mut failure = None;
        for host in hosts {
            if let Entry::Vacant(vacant) = self.quic.entry(Family::of(host)) {
                let family = *vacant.key();
                match make(*host) {
                    Ok(endpoint) => {
                        vacant.insert(Some(endpoint));
                    }
                    Err(error) => {
                        tracing::info!(?family, %error, "no socket for QUIC");
                        vacant.insert(None);
                        failure = Some(error);
                    }
                }
            }
        }
        match failure {
            Some(error) if !self.has_quic() && self.tls.is_none() => Err(error),
            _ => Ok(()),
        }
    }

    /// How long the other transport is waited for now that this one has answered; `None` when it
    /// is not.
    fn patience_with(&self, dialled: &Dialled) -> Option<Duration> {
        let has_both = self.has_quic() && self.tls.is_some();
        match (dialled, self.wanted.avoid) {
            _ if !has_both => None,
            (_, Some(avoided)) => (dialled.transport() == avoided).then_some(ATTEMPT_TIMEOUT),
            (Dialled::Tls { preferred, .. }, None) => (!preferred).then_some(HEAD_START),
            (Dialled::Quic { .. }, None) => None,
        }
    }

    fn has_quic(&self) -> bool {
        self.quic.values().any(Option::is_some)
    }

    fn begin(
        &mut self,
        attempts: &mut JoinSet<Attempt>,
        hosts: &[SocketAddr],
        ports: &[u16],
        number: usize,
        round: &Round,
    ) {
        let ports = round.ports.iter().filter_map(|index| ports.get(*index));
        let places: Vec<(u32, SocketAddr)> = (0u32..)
            .zip(ports)
            .flat_map(|(i, port)| hosts.iter().map(move |host| (i, at_port(*host, *port))))
            .collect();
        let from = self.left_out % places.len().max(1);
        let order = places.iter().cycle().skip(from).take(places.len());
        for (tried, (i, peer)) in order.enumerate() {
            if attempts.len() >= MAX_ATTEMPTS {
                self.left_out = from + tried;
                return;
            }
            self.begin_one(attempts, *peer, number, *i);
        }
        self.left_out = 0;
    }

    /// Begins what is to be tried there as the `i`th port of a round.
    fn begin_one(&self, attempts: &mut JoinSet<Attempt>, peer: SocketAddr, number: usize, i: u32) {
        let at = Instant::now() + PORT_STAGGER * i;
        let quic = self.quic.get(&Family::of(&peer)).cloned().flatten();
        // The first round is QUIC's head start.
        let is_late = quic.is_some() && self.wanted.avoid != Some(Transport::Quic);
        if let Some(endpoint) = quic {
            // Elsewhere nobody is likely to listen.
            let is_likely = number == 0 && i == 0;
            let spare = if is_likely { self.wanted.tls_lanes } else { 0 };
            let may_be_near = self.wanted.avoid != Some(Transport::Tls);
            let near = try_near(self.tls.clone().filter(|_| may_be_near), peer, spare);
            attempts.spawn(async move {
                wait_for(at).await;
                Attempt {
                    peer,
                    result: try_quic(endpoint, near, peer).await,
                }
            });
        }
        if let Some(connector) = self.tls.clone().filter(|_| number > 0 || !is_late) {
            attempts.spawn(async move {
                wait_for(at).await;
                Attempt {
                    peer,
                    result: try_tls(connector, peer).await,
                }
            });
        }
    }
}

/// With the scope that a link-local address has.
pub(in crate::net) fn at_port(mut host: SocketAddr, port: u16) -> SocketAddr {
    host.set_port(port);
    host
}

/// What TLS grants QUIC, which costs less on the way to the same speed: longer than most round
/// trips, shorter than anybody's patience.
const HEAD_START: Duration = Duration::from_millis(250);

/// Attempts under way at a time.
const MAX_ATTEMPTS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinates::PortRange;
    use crate::net::tcp::Acceptor;
    use std::future::ready;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::net::TcpListener;

    /// Of an endpoint that only a name leads to.
    fn named(port: u16) -> Coordinates {
        Coordinates {
            ports: PortRange::new(port, port).unwrap(),
            ips: vec!["node".to_owned()],
            secret: TransferSecret::generate().unwrap(),
            operation: None,
            transports: Vec::new(),
            job: None,
        }
    }

    fn no_such_name() -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::other("no such name"))
    }

    #[tokio::test]
    async fn a_name_that_resolves_late_leads_to_the_endpoint() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let coordinates = named(listener.local_addr().unwrap().port());
        let acceptor = Acceptor::new(&coordinates.secret).unwrap();
        let accepted = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            acceptor.accept(stream).await.unwrap()
        });
        let was_asked = AtomicBool::new(false);
        let names = Names::new(&coordinates.ips, move |_| {
            ready(match was_asked.swap(true, Ordering::Relaxed) {
                true => Ok(vec![([127, 0, 0, 1], 0).into()]),
                false => no_such_name(),
            })
        });
        let wait = Duration::from_secs(60);
        let dialled = dial_named(&coordinates, names, Choice::Tls.into(), wait).await;
        assert!(matches!(dialled, Ok(Dialled::Tls { .. })), "{dialled:?}");
        accepted.await.unwrap();
    }

    /// Answers over both transports, or over QUIC only, until it is aborted.
    async fn answer(secret: &TransferSecret, tls: bool) -> (u16, JoinSet<()>) {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let quic = Endpoint::bind(address, secret).unwrap();
        let acceptor = Acceptor::new(secret).unwrap();
        let mut answering = JoinSet::new();
        answering.spawn(async move {
            let mut open = Vec::new();
            while let Some(incoming) = quic.accept().await {
                open.push(quic.admit(incoming).unwrap().await);
            }
        });
        if tls {
            answering.spawn(async move {
                let mut open = Vec::new();
                while let Ok((stream, _)) = tcp.accept().await {
                    open.push(acceptor.accept(stream).await);
                }
            });
        }
        (address.port(), answering)
    }

    #[tokio::test]
    async fn a_transport_that_carried_nothing_is_taken_only_where_the_other_one_does_not_answer() {
        for (tls, avoid, expected) in [
            (true, None, Transport::Tls),
            (true, Some(Transport::Tls), Transport::Quic),
            (true, Some(Transport::Quic), Transport::Tls),
            (false, Some(Transport::Quic), Transport::Quic),
        ] {
            let mut coordinates = named(1);
            let (port, _answering) = answer(&coordinates.secret, tls).await;
            coordinates.ports = PortRange::new(port, port).unwrap();
            coordinates.ips = vec!["127.0.0.1".to_owned()];
            let options = DialOptions {
                avoid,
                ..Choice::Auto.into()
            };
            let dialled = dial(&coordinates, options, Duration::from_secs(60)).await;
            let dialled = dialled.unwrap();
            assert_eq!(dialled.transport(), expected, "{avoid:?}");
            let is_other = dialled.reason(&options).contains("carried nothing");
            assert_eq!(is_other, avoid.is_some_and(|avoided| avoided != expected));
        }
    }

    #[tokio::test]
    async fn what_one_round_leaves_out_the_next_one_begins_with() {
        let coordinates = named(1);
        let mut dialers = Dialers::new(&coordinates, Choice::Tls.into()).unwrap();
        // More than are tried at a time, of which none answers before this ends.
        let hosts: Vec<SocketAddr> = (1..=200u8).map(|n| ([127, 0, 0, n], 0).into()).collect();
        let round = Round {
            at: Duration::ZERO,
            ports: vec![0, 1],
        };
        let mut attempts = JoinSet::new();
        dialers.begin(&mut attempts, &hosts, &[1, 2], 0, &round);
        assert_eq!(
            (attempts.len(), dialers.left_out),
            (MAX_ATTEMPTS, MAX_ATTEMPTS)
        );
        let mut rest = JoinSet::new();
        dialers.begin(&mut rest, &hosts, &[1, 2], 1, &round);
        assert_eq!(dialers.left_out, 2 * MAX_ATTEMPTS);
    }

    #[tokio::test]
    async fn a_family_of_addresses_without_a_socket_is_left_out() {
        let coordinates = named(1);
        let hosts: [SocketAddr; 2] = [([127, 0, 0, 1], 0).into(), ([0u16; 8], 0).into()];
        let v4_only = |host: SocketAddr| match host.is_ipv4() {
            true => Endpoint::slow_dialer(host, &coordinates.secret, None),
            false => Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        };
        for choice in [Choice::Quic, Choice::Auto] {
            let mut dialers = Dialers::new(&coordinates, choice.into()).unwrap();
            dialers.open_with(&hosts, v4_only).unwrap();
            assert!(dialers.quic[&Family::V4].is_some() && dialers.quic[&Family::V6].is_none());
        }
        // Nothing is left of QUIC alone.
        let mut dialers = Dialers::new(&coordinates, Choice::Quic.into()).unwrap();
        assert!(dialers.open_with(&hosts[1..], v4_only).is_err());
        let mut dialers = Dialers::new(&coordinates, Choice::Auto.into()).unwrap();
        dialers.open_with(&hosts[1..], v4_only).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn that_a_name_does_not_resolve_is_said_at_the_deadline() {
        let coordinates = named(1);
        let names = Names::new(&coordinates.ips, |_| ready(no_such_name()));
        let (begun, wait) = (Instant::now(), Duration::from_secs(60));
        let dialled = dial_named(&coordinates, names, Choice::Tls.into(), wait).await;
        assert!(
            matches!(dialled, Err(DialError::Resolve { .. })),
            "{dialled:?}"
        );
        assert!(begun.elapsed() >= wait, "given up early");
    }
}
