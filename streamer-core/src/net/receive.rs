//! Drives a [`Receiver`]: reads records, hashes and writes them on threads of their own.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::error::{ErrorCode, ProtocolError};
use crate::hash::Hash;
use crate::net::lane::{Event, receive_lane};
use crate::net::link::{Connection, ControlTasks, Lane, Link, reserve};
use crate::net::progress::Progress;
use crate::net::queue::WorkQueue;
use crate::net::stall::{Arrivals, Watch};
use crate::net::{TransferError, Transferred};
use crate::session::{
    Conclusion, Preparation, Receiver, ReceiverConfig, ReceiverInput, ReceiverOutput,
};
use crate::store::StoreError;
use crate::store::partial::PartialFile;
use crate::store::target::{Prepared, Target};
use crate::wire::message::{Entry, Message};

/// Receives what the peer sends over `link` into `target`, and waits until the peer closes
/// the connection.
///
/// Not cancel-safe: dropped, it leaves partials that are not synced; they resume none the
/// less. `stop` ends it early with the given code and makes partials durable.
///
/// # Errors
/// When the connection is lost, or either side gives up. A target that fails on its own is
/// reported in the returned failures.
pub async fn receive(
    link: Link,
    target: Target,
    config: ReceiverConfig,
    progress: Arc<Progress>,
    stop: impl Future<Output = ErrorCode>,
) -> Result<Transferred, TransferError> {
    progress.on_session();
    let connection = link.connection;
    let control = ControlTasks::spawn(link.control_send, link.control_receive, link.greeting);
    let (events_tx, events) = mpsc::channel(EVENT_QUEUE);
    let open = Arc::new(OpenFiles::default());
    let queue = Arc::new(WorkQueue::new());
    let path = target.path().to_owned();
    let keeper = spawn_keeper(
        target,
        Arc::clone(&queue),
        Arc::clone(&open),
        events_tx.clone(),
    );
    let mut driver = Driver {
        session: Receiver::new(link.session, config),
        control,
        outbox: VecDeque::new(),
        events,
        events_tx,
        queue,
        open,
        arrivals: Arc::default(),
        lanes: JoinSet::new(),
        progress,
        failures: Vec::new(),
        root: None,
        lane_count: 0,
    };
    let result = driver.run(&connection, link.lanes, stop).await;
    connection.hang_up();
    driver.leave(&connection, &result).await;
    // The keeper is what makes partials durable: wait for it, however slow the disk.
    let _ = keeper.await;
    let Driver {
        mut failures,
        root,
        lane_count: lanes,
        ..
    } = driver;
    let conclusion = result?;
    // Decided by the session, before any file was looked at: nobody but a receiver does.
    let over = ErrorCode::OverInboundLimit;
    if conclusion
        .failures
        .iter()
        .any(|failure| failure.code == over)
    {
        failures.push(StoreError::refused(over, "receive", &path));
    }
    Ok(Transferred {
        conclusion,
        failures,
        root,
        lanes,
    })
}

struct Driver {
    session: Receiver,
    control: ControlTasks,
    outbox: VecDeque<Message>,
    events: mpsc::Receiver<Event>,
    events_tx: mpsc::Sender<Event>,
    queue: Arc<WorkQueue<Work>>,
    open: Arc<OpenFiles>,
    arrivals: Arc<Arrivals>,
    lanes: JoinSet<Result<(), ProtocolError>>,
    progress: Arc<Progress>,
    failures: Vec<StoreError>,
    root: Option<Hash>,
    lane_count: u32,
}

impl Driver {
    async fn run(
        &mut self,
        connection: &Connection,
        mut new_lanes: mpsc::Receiver<Lane>,
        stop: impl Future<Output = ErrorCode>,
    ) -> Result<Conclusion, TransferError> {
        tokio::pin!(stop);
        let outgoing = self.control.outgoing();
        let mut starved = None;
        let mut watch = Watch::new();
        loop {
            if let Some(conclusion) = self.do_outputs() {
                return Ok(conclusion);
            }
            // Each arm is cancel-safe: channels, a reservation, and futures that are kept.
            let input = tokio::select! {
                permit = reserve(outgoing.as_ref()), if !self.outbox.is_empty() => {
                    let (Some(permit), Some(message)) = (permit, self.outbox.pop_front()) else {
                        return Err(connection.closed().await);
                    };
                    permit.send(message);
                    continue;
                }
                message = self.control.incoming.recv() => match message {
                    Some(Ok(message)) => ReceiverInput::Message(message),
                    Some(Err(error)) => return Err(connection.lost(error)),
                    None => return Err(TransferError::Lost("the control stream ended".into())),
                },
                Some(event) = self.events.recv() => self.on_event(event),
                Some(lane) = new_lanes.recv() => {
                    self.lane_count += 1;
                    let (open, events) = (Arc::clone(&self.open), self.events_tx.clone());
                    let arrivals = Arc::clone(&self.arrivals);
                    self.lanes.spawn(receive_lane(lane, open, arrivals, events));
                    starved = None;
                    continue;
                }
                () = sleep_until(starved.unwrap_or_else(Instant::now)), if starved.is_some() => {
                    return Err(TransferError::Lost("every data connection broke".into()));
                }
                Some(lane) = self.lanes.join_next() => match lane {
                    Ok(Ok(())) => {
                        // The sender may be telling why; if not, somebody cut the line.
                        let none_left = self.lanes.is_empty();
                        starved = none_left.then(|| Instant::now() + STARVED);
                        continue;
                    }
                    Ok(Err(error)) => return Err(self.give_up(error.code())),
                    Err(_) => return Err(self.give_up(ErrorCode::Internal)),
                },
                () = connection.cut() => return Err(connection.closed().await),
                code = &mut stop => ReceiverInput::Stop(code),
                () = watch.glance() => {
                    if !watch.is_stalled(Some(&self.arrivals), self.session.is_owed()) {
                        continue;
                    }
                    ReceiverInput::Stop(ErrorCode::TimedOut)
                }
            };
            watch.on_input();
            let result = self.session.handle(input);
            if result.is_err() {
                self.do_outputs();
            }
            result?;
        }
    }

    fn give_up(&mut self, code: ErrorCode) -> TransferError {
        let result = self.session.handle(ReceiverInput::Stop(code));
        self.do_outputs();
        match result {
            Err(error) => error.into(),
            Ok(()) => TransferError::Session(crate::session::SessionError::Ours(code)),
        }
    }

    fn do_outputs(&mut self) -> Option<Conclusion> {
        while let Some(output) = self.session.poll_output() {
            match output {
                ReceiverOutput::Send(message) => self.outbox.push_back(message),
                ReceiverOutput::Prepare { entry, offered } => {
                    let bytes = offered.plan().map_or(0, |plan| plan.size());
                    self.progress.on_offered(1, bytes);
                    self.queue.push(Work::Prepare { entry, offered });
                }
                ReceiverOutput::Finish { entry, root } => {
                    self.root = Some(root);
                    self.queue.push(Work::Finish { entry, root });
                }
                ReceiverOutput::Suspend { entry } => self.queue.push(Work::Suspend { entry }),
                ReceiverOutput::Sync => self.queue.push(Work::Sync),
                ReceiverOutput::Close(conclusion) => return Some(conclusion),
            }
        }
        None
    }

    fn on_event(&mut self, event: Event) -> ReceiverInput {
        match event {
            Event::Prepared {
                entry,
                preparation,
                held_bytes,
            } => {
                self.progress.on_resumed(held_bytes);
                ReceiverInput::Prepared { entry, preparation }
            }
            Event::Proven {
                entry,
                block,
                bytes,
            } => {
                self.progress.on_moved(bytes);
                ReceiverInput::BlockProven { entry, block }
            }
            Event::Damaged { entry, block } => ReceiverInput::BlockDamaged { entry, block },
            Event::Finished { entry } => {
                self.progress.on_entry_done();
                ReceiverInput::Finished {
                    entry,
                    failure: None,
                }
            }
            Event::Failed {
                entry,
                during,
                error,
            } => {
                let code = error.code;
                self.failures.push(error);
                match during {
                    During::Prepare => ReceiverInput::Prepared {
                        entry,
                        preparation: Preparation::Refused(code),
                    },
                    During::Write => ReceiverInput::TargetFailed { entry, code },
                    During::Finish => ReceiverInput::Finished {
                        entry,
                        failure: Some(code),
                    },
                }
            }
            Event::Synced => ReceiverInput::Synced,
        }
    }

    /// Says the last words, waits for the peer to close, and puts partials away.
    async fn leave(&mut self, connection: &Connection, result: &Result<Conclusion, TransferError>) {
        self.queue.push(Work::Leave);
        let farewell = std::mem::take(&mut self.outbox);
        // Bounded: the peer may be gone.
        let _ = tokio::time::timeout(FAREWELL, async {
            self.control.drain(farewell).await;
            if let (Ok(_), Connection::Quic(connection)) = (result, connection) {
                connection.closed().await;
            }
        })
        .await;
        connection.close(result.as_ref().err().and_then(TransferError::code));
        self.lanes.shutdown().await;
        // Lanes hold senders of events; nobody reads them any more.
        self.events.close();
        while self.events.recv().await.is_some() {}
    }
}

/// The partials that lanes write to.
#[derive(Debug, Default)]
pub(crate) struct OpenFiles(Mutex<HashMap<u32, Arc<PartialFile>>>);

impl OpenFiles {
    pub(crate) fn get(&self, entry: u32) -> Option<Arc<PartialFile>> {
        self.lock().get(&entry).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Arc<PartialFile>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an entry was at when it failed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum During {
    Prepare,
    Write,
    Finish,
}

enum Work {
    Prepare { entry: u32, offered: Entry },
    Finish { entry: u32, root: Hash },
    Suspend { entry: u32 },
    Sync,
    Leave,
}

/// A thread that prepares, names and syncs files: all that is neither quick nor a block.
fn spawn_keeper(
    target: Target,
    queue: Arc<WorkQueue<Work>>,
    open: Arc<OpenFiles>,
    events: mpsc::Sender<Event>,
) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_blocking(move || {
        while let Some(work) = queue.pop() {
            let event = match work {
                Work::Prepare { entry, offered } => prepare(&target, &open, entry, &offered),
                Work::Finish { entry, root } => {
                    let Some(file) = open.lock().remove(&entry) else {
                        continue;
                    };
                    match file.finish(root) {
                        Ok(()) => Event::Finished { entry },
                        Err(error) => Event::Failed {
                            entry,
                            during: During::Finish,
                            error,
                        },
                    }
                }
                Work::Suspend { entry } => {
                    let file = open.lock().remove(&entry);
                    file.iter().for_each(|file| put_away(file));
                    continue;
                }
                // Every file was synced before it got its name, and its directory after.
                Work::Sync => Event::Synced,
                Work::Leave => {
                    let left: Vec<_> = open.lock().drain().collect();
                    left.iter().for_each(|(_, file)| put_away(file));
                    return;
                }
            };
            // The driver may have left; partials still have to be put away.
            let _ = events.blocking_send(event);
        }
    })
}

fn prepare(target: &Target, open: &OpenFiles, entry: u32, offered: &Entry) -> Event {
    match target.prepare(offered) {
        Ok(Prepared::File(file, held)) => {
            let plan = file.plan();
            let blocks = held
                .iter()
                .flat_map(|(first, hashes)| *first..*first + hashes.len() as u64);
            let held_bytes = blocks.map(|block| plan.len(block)).sum();
            open.lock().insert(entry, file);
            Event::Prepared {
                entry,
                preparation: Preparation::Data(held),
                held_bytes,
            }
        }
        Ok(Prepared::Present) => Event::Prepared {
            entry,
            preparation: Preparation::NoData,
            held_bytes: 0,
        },
        Err(error) => Event::Failed {
            entry,
            during: During::Prepare,
            error,
        },
    }
}

fn put_away(file: &PartialFile) {
    file.discard_if_useless();
    if let Err(error) = file.suspend() {
        tracing::warn!(%error, "a partial may not be durable");
    }
}

/// Events between threads and the driver.
const EVENT_QUEUE: usize = 64;

/// Longest wait for the reason why no data connection is left.
const STARVED: Duration = Duration::from_secs(2);

/// Longest wait for the peer to take our last message and close.
const FAREWELL: Duration = Duration::from_secs(5);
