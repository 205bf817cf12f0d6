//! One connection per user, opened when it is needed, closed when it is not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Target;
use super::connection::Connection;
use super::credentials::Credentials;
use super::error::SshError;
use super::host_key::HostKeys;
use crate::auth::{Caller, UserName};
use crate::limits;

/// The connections to one login node.
#[derive(Debug)]
pub(super) struct Pool {
    /// For the log.
    system: String,
    target: Target,
    credentials: Arc<Credentials>,
    users: Mutex<HashMap<UserName, Arc<Slot>>>,
    /// How many users may still be connected.
    capacity: Arc<Semaphore>,
}

/// Where a user's connection is kept.
#[derive(Debug, Default)]
struct Slot {
    connections: Mutex<Connections>,
    /// Held while connecting, so that all requests of a user share one login, and its failure.
    connecting: tokio::sync::Mutex<Option<Failure>>,
}

/// A user has two connections at most, which count as one.
#[derive(Debug, Default)]
struct Connections {
    current: Option<Arc<Connection>>,
    /// The last one that was given up, for as long as commands run on it.
    given_up: Weak<Connection>,
}

/// Why a login failed, and when.
#[derive(Debug)]
struct Failure {
    at: Instant,
    error: Arc<SshError>,
}

impl Failure {
    /// Whether it answers a request that came at this moment: one that waited for this login,
    /// or one that would only offer a refused key again.
    fn answers(&self, asked: Instant) -> bool {
        self.at >= asked || self.is_remembered()
    }

    fn is_remembered(&self) -> bool {
        matches!(*self.error, SshError::Refused(_))
            && self.at.elapsed() < limits::SSH_REFUSAL_MEMORY
    }
}

impl Slot {
    fn open(&self) -> Option<Arc<Connection>> {
        let connection = self.connections.lock().ok()?.current.clone()?;
        (!connection.is_closed()).then_some(connection)
    }

    fn set(&self, connection: Option<Arc<Connection>>) -> Option<Arc<Connection>> {
        let mut connections = self.connections.lock().ok()?;
        std::mem::replace(&mut connections.current, connection)
    }

    /// Takes a connection out. Not one that others run commands on while one that was given up
    /// before has some too: a user would have more and more of them.
    fn give_up(&self, connection: &Arc<Connection>) -> bool {
        let Ok(mut connections) = self.connections.lock() else {
            return false;
        };
        // The slot's, and that of the command that could not run.
        let others = Arc::strong_count(connection) > 2;
        if others && connections.given_up.strong_count() > 0 {
            return false;
        }
        let current = &mut connections.current;
        let taken = current.take_if(|held| Arc::ptr_eq(held, connection));
        if taken.is_some() && others {
            connections.given_up = Arc::downgrade(connection);
        }
        taken.is_some()
    }

    /// The permit of a user who is connected still, by a connection that was given up.
    fn permit(&self) -> Option<Arc<OwnedSemaphorePermit>> {
        let given_up = self.connections.lock().ok()?.given_up.upgrade()?;
        Some(given_up.permit())
    }
}

impl Pool {
    pub(super) fn new(system: &str, target: Target, credentials: Arc<Credentials>) -> Arc<Self> {
        let capacity = Arc::new(Semaphore::new(target.max_clients));
        let pool = Arc::new(Self {
            system: system.to_owned(),
            target,
            credentials,
            users: Mutex::default(),
            capacity,
        });
        tokio::spawn(prune_while_alive(Arc::downgrade(&pool)));
        pool
    }

    /// The connection of a user, opened if there is none.
    ///
    /// Cancel safety: dropping abandons a login that this call began.
    pub(super) async fn connection(&self, caller: &Caller) -> Result<Arc<Connection>, SshError> {
        let slot = self.slot(caller.name());
        if let Some(connection) = slot.open() {
            return Ok(connection);
        }
        let asked = Instant::now();
        let mut failure = slot.connecting.lock().await;
        if let Some(connection) = slot.open() {
            return Ok(connection);
        }
        if let Some(known) = failure.as_ref().filter(|known| known.answers(asked)) {
            return Err(SshError::Shared(Arc::clone(&known.error)));
        }
        slot.set(None);
        match self.open(caller, &slot).await {
            Ok(connection) => {
                *failure = None;
                let connection = Arc::new(connection);
                slot.set(Some(Arc::clone(&connection)));
                Ok(connection)
            }
            Err(error) => {
                let jump = self.target.jump.as_ref().map(HostKeys::address);
                tracing::warn!(
                    system = self.system,
                    host = self.target.host.address(),
                    jump,
                    user = caller.name().as_str(),
                    %error,
                    cause = crate::error::causes(&error),
                    "no connection to the login node"
                );
                let error = Arc::new(error);
                *failure = Some(Failure {
                    at: Instant::now(),
                    error: Arc::clone(&error),
                });
                Err(SshError::Shared(error))
            }
        }
    }

    /// Takes out a connection on which no shell starts, so that the next request logs in anew: the
    /// login node knows the account as it was at the login. Commands that run on it end as usual;
    /// until then it counts together with the user's next one. Only where those of another that was
    /// given up still run too, it stays for now.
    pub(super) fn give_up(&self, caller: &Caller, connection: &Arc<Connection>, said: &str) {
        let given_up = self.slot(caller.name()).give_up(connection);
        tracing::warn!(
            system = self.system,
            host = self.target.host.address(),
            user = caller.name().as_str(),
            said,
            given_up,
            "the login shell ended before it ran anything; a connection that is given up is not \
             used again, and the next request logs in anew"
        );
    }

    async fn open(&self, caller: &Caller, slot: &Slot) -> Result<Connection, SshError> {
        let permit = match slot.permit() {
            Some(permit) => permit,
            None => Arc::new(self.permit().await?),
        };
        let keys = self.credentials.of(caller).await?;
        let user = caller.name().as_str();
        Connection::open(&self.target, user, &keys, permit).await
    }

    /// Room for one more user; the one who has rested longest makes it.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, SshError> {
        let acquire = || Arc::clone(&self.capacity).try_acquire_owned().ok();
        if let Some(permit) = acquire() {
            return Ok(permit);
        }
        let alone = self.unused().filter(|connection| connection.is_alone());
        let unused = alone.max_by_key(|connection| connection.idle());
        if let Some(connection) = unused.and_then(|connection| self.remove(&connection)) {
            connection.close().await;
        }
        acquire().ok_or(SshError::Capacity)
    }

    fn slot(&self, user: &UserName) -> Arc<Slot> {
        // Poisoned only by a panic inside of these few lines: the map is whole then too.
        let mut users = self
            .users
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(slot) = users.get(user) {
            return Arc::clone(slot);
        }
        Arc::clone(users.entry(user.clone()).or_default())
    }

    fn slots(&self) -> Vec<Arc<Slot>> {
        let users = self
            .users
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        users.values().cloned().collect()
    }

    /// Connections that nobody is using right now.
    fn unused(&self) -> impl Iterator<Item = Arc<Connection>> {
        self.slots().into_iter().filter_map(|slot| {
            let connection = slot.connections.lock().ok()?.current.clone()?;
            // The slot's and this one.
            (Arc::strong_count(&connection) == 2).then_some(connection)
        })
    }

    /// Takes a connection out, so that nobody else gets it; not if somebody just did.
    fn remove(&self, connection: &Arc<Connection>) -> Option<Arc<Connection>> {
        self.slots().into_iter().find_map(|slot| {
            let mut connections = slot.connections.lock().ok()?;
            let unused = Arc::strong_count(connection) == 2;
            let current = &mut connections.current;
            current.take_if(|held| unused && Arc::ptr_eq(held, connection))
        })
    }

    /// Closes what has rested too long, and forgets users without a connection.
    async fn prune(&self) {
        let expired = |connection: &Arc<Connection>| {
            connection.is_closed() || connection.idle() >= self.target.timeouts.idle
        };
        let expired: Vec<_> = self.unused().filter(expired).collect();
        for connection in expired {
            if let Some(connection) = self.remove(&connection) {
                connection.close().await;
            }
        }
        let mut users = self
            .users
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        users.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.is_needed());
    }
}

impl Slot {
    fn is_needed(&self) -> bool {
        let connected = self.connections.lock().is_ok_and(|connections| {
            connections.current.is_some() || connections.given_up.strong_count() > 0
        });
        let failure = self.connecting.try_lock();
        let refused = failure.map_or(true, |failure| {
            failure.as_ref().is_some_and(Failure::is_remembered)
        });
        connected || refused
    }
}

async fn prune_while_alive(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(limits::SSH_PRUNE_INTERVAL).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.prune().await;
    }
}
