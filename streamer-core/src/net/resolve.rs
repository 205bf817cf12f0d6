//! Addresses of the names in coordinates, for as long as the endpoint is looked for.
//!
//! A name that does not resolve now may do so later: the resolver goes away with the network,
//! and comes back with it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::limits;
use crate::net::dial::DialError;

/// Looks names up again and again, with `L`.
pub(super) struct Names<L> {
    names: Vec<Name>,
    look_up: L,
    /// Each ends with the index of its name.
    lookups: JoinSet<(usize, Found)>,
    hosts: Vec<SocketAddr>,
    failure: Option<(String, io::Error)>,
    was_told: bool,
    /// Until then the names that answer wait for the others.
    settled: Instant,
    /// When to ask again.
    again: Instant,
}

type Found = io::Result<Vec<SocketAddr>>;

struct Name {
    text: String,
    is_literal: bool,
    /// A lookup is under way. It may hang, and is not to be joined by more of them.
    is_asked: bool,
    /// The last time.
    has_failed: bool,
    /// What it led to when it last resolved.
    addresses: Vec<SocketAddr>,
}

impl Name {
    fn new(text: &str) -> Self {
        let literal = text.parse::<IpAddr>().ok();
        Self {
            text: text.to_owned(),
            is_literal: literal.is_some(),
            is_asked: false,
            has_failed: false,
            addresses: literal.map(|ip| (ip, 0).into()).into_iter().collect(),
        }
    }
}

/// Asks the system.
pub(super) async fn by_system(name: String) -> Found {
    let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
    Ok(found.take(limits::COORDINATES_MAX_IPS).collect())
}

impl<L, F> Names<L>
where
    L: Fn(String) -> F,
    F: Future<Output = Found> + Send + 'static,
{
    /// Begins to look them up. Addresses among them are known at once.
    pub(super) fn new(names: &[String], look_up: L) -> Self {
        let now = Instant::now();
        let mut this = Self {
            names: names.iter().map(|name| Name::new(name)).collect(),
            look_up,
            lookups: JoinSet::new(),
            hosts: Vec::new(),
            failure: None,
            was_told: false,
            settled: now + PATIENCE,
            again: now,
        };
        this.ask();
        this.settle();
        this
    }

    /// What the names last led to, with port 0. Empty before any of them has resolved.
    pub(super) fn hosts(&self) -> &[SocketAddr] {
        &self.hosts
    }

    /// Why there is no address; `None` when there is one.
    pub(super) fn failure(&mut self) -> Option<DialError> {
        if !self.hosts.is_empty() {
            return None;
        }
        let unanswered = || {
            let name = self.names.first()?.text.clone();
            Some((name, io::ErrorKind::TimedOut.into()))
        };
        let (name, source) = self.failure.take().or_else(unanswered)?;
        Some(DialError::Resolve { name, source })
    }

    /// Waits until the names lead elsewhere than [`hosts`](Self::hosts) said. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        loop {
            if self.settle() {
                return;
            }
            let alarm = match self.is_settled() {
                true => self.again,
                false => self.settled.min(self.again),
            };
            // Both arms are cancel-safe.
            tokio::select! {
                Some(told) = self.lookups.join_next() => self.on_told(told),
                () = sleep_until(alarm), if self.names.iter().any(|name| !name.is_literal) => {
                    if Instant::now() >= self.again {
                        self.ask();
                    }
                }
                else => std::future::pending().await,
            }
        }
    }

    fn ask(&mut self) {
        for (index, name) in self.names.iter_mut().enumerate() {
            if !name.is_literal && !name.is_asked {
                name.is_asked = true;
                let found = (self.look_up)(name.text.clone());
                self.lookups.spawn(async move { (index, found.await) });
            }
        }
        self.again = Instant::now() + RETRY;
    }

    fn on_told(&mut self, told: Result<(usize, Found), JoinError>) {
        // Cancelled only with us; after a panic the name is not asked for again.
        let Ok((index, found)) = told else { return };
        let Some(name) = self.names.get_mut(index) else {
            return;
        };
        name.is_asked = false;
        name.has_failed = found.is_err();
        match found {
            Ok(addresses) => name.addresses = addresses,
            // What it last led to may be right still.
            Err(error) => self.failure = Some((name.text.clone(), error)),
        }
        if self.lookups.is_empty() && !self.names.iter().any(|name| name.has_failed) {
            self.again = Instant::now() + REFRESH;
        }
    }

    /// Whether those that answer soon have answered.
    fn is_settled(&self) -> bool {
        self.lookups.is_empty() || Instant::now() >= self.settled
    }

    /// Takes over what the names lead to, when it is time. Whether that is news.
    fn settle(&mut self) -> bool {
        if !self.is_settled() {
            return false;
        }
        let addresses = self.names.iter().flat_map(|name| &name.addresses);
        let mut hosts: Vec<SocketAddr> = addresses.copied().collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts.truncate(limits::COORDINATES_MAX_IPS);
        if let (true, false, Some((name, error))) = (hosts.is_empty(), self.was_told, &self.failure)
        {
            self.was_told = true;
            tracing::warn!(name, %error, "cannot resolve the name of the endpoint; trying again");
        }
        let is_news = hosts != self.hosts;
        self.hosts = hosts;
        is_news
    }
}

/// What the names that resolve grant the others, once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Before a name that did not resolve is looked up again.
const RETRY: Duration = Duration::from_secs(2);

/// Before names that did resolve are looked up again: they may lead elsewhere by now.
const REFRESH: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn names(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn host(text: &str) -> SocketAddr {
        (text.parse::<IpAddr>().unwrap(), 0).into()
    }

    /// Answers the first question with the first of these, and so on; the rest with the last.
    fn script(answers: &'static [Option<&str>]) -> (Arc<AtomicUsize>, impl Fn(String) -> Answer) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let look_up = move |_| {
            let number = counter.fetch_add(1, Ordering::Relaxed);
            let answer = answers[number.min(answers.len() - 1)];
            let failed = || io::Error::other("no such name");
            std::future::ready(answer.map(|text| vec![host(text)]).ok_or_else(failed))
        };
        (asked, look_up)
    }

    type Answer = std::future::Ready<Found>;

    #[tokio::test(start_paused = true)]
    async fn a_name_that_does_not_resolve_is_asked_for_until_it_does() {
        let (asked, look_up) = script(&[None, None, None, Some("10.0.0.1")]);
        let mut names = Names::new(&names(&["node"]), look_up);
        let begun = Instant::now();
        names.changed().await;
        assert_eq!(names.hosts(), [host("10.0.0.1")]);
        assert!(names.failure().is_none());
        assert_eq!(asked.load(Ordering::Relaxed), 4);
        let took = begun.elapsed();
        assert!(took >= 3 * RETRY && took < 4 * RETRY, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_addresses_stay_until_there_are_others() {
        let answers = &[Some("10.0.0.1"), None, Some("10.0.0.1"), Some("10.0.0.2")];
        let (_, look_up) = script(answers);
        let mut names = Names::new(&names(&["node"]), look_up);
        names.changed().await;
        assert_eq!(names.hosts(), [host("10.0.0.1")]);
        // Neither the failure nor the same address again is news.
        names.changed().await;
        assert_eq!(names.hosts(), [host("10.0.0.2")]);
    }

    #[tokio::test(start_paused = true)]
    async fn why_there_is_no_address_is_known_also_when_nobody_answers() {
        let (_, look_up) = script(&[None]);
        let mut failing = Names::new(&names(&["node"]), look_up);
        let told = tokio::time::timeout(Duration::from_secs(600), failing.changed());
        assert!(told.await.is_err());
        let error = failing.failure().unwrap();
        assert!(
            matches!(error, DialError::Resolve { source, .. } if source.kind() == io::ErrorKind::Other)
        );

        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let mut hanging = Names::new(&names(&["node"]), move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            std::future::pending()
        });
        let told = tokio::time::timeout(Duration::from_secs(600), hanging.changed());
        assert!(told.await.is_err());
        assert_eq!(
            asked.load(Ordering::Relaxed),
            1,
            "a question that hangs was repeated"
        );
        let error = hanging.failure().unwrap();
        assert!(
            matches!(error, DialError::Resolve { source, .. } if source.kind() == io::ErrorKind::TimedOut)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_known_at_once_and_do_not_wait_for_names_that_hang() {
        let ask_nobody = |_: String| -> Answer { panic!("an address was looked up") };
        let literal = Names::new(&names(&["10.0.0.2", "::1", "10.0.0.2"]), ask_nobody);
        assert_eq!(literal.hosts(), [host("10.0.0.2"), host("::1")]);

        let hang = |_: String| std::future::pending();
        let mut mixed = Names::new(&names(&["10.0.0.2", "node"]), hang);
        assert_eq!(mixed.hosts(), []);
        let begun = Instant::now();
        mixed.changed().await;
        assert_eq!(mixed.hosts(), [host("10.0.0.2")]);
        assert!(begun.elapsed() <= RETRY);
    }
}
