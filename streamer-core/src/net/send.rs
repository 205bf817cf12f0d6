//! Drives a [`Sender`]: hands work to lanes, and tells the machine what became of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::blocks::BlockRun;
use crate::error::ErrorCode;
use crate::limits;
use crate::net::control::ControlError;
use crate::net::conversation::Conversation;
use crate::net::lane_log::LaneLog;
use crate::net::lane_reader::{Event, OfferedFile, Task, Work, send_lane};
use crate::net::limit::RateLimit;
use crate::net::link::{Carrier, Connection, Lane, Link};
use crate::net::manifest::{self, Batch, Manifest};
use crate::net::progress::Progress;
use crate::net::queue::WorkQueue;
use crate::net::quic::fit_send_windows;
use crate::net::stall::Watch;
use crate::net::tally::Tally;
use crate::net::{TransferError, Transferred};
use crate::session::{Conclusion, Sender, SenderInput, SenderOutput, SessionError};
use crate::store::StoreError;
use crate::store::filter::Filter;
use crate::store::source::Pinned;
use crate::wire::message::{EntryKind, Message, SessionId, Wanted};

/// What of a source is sent, and how it begins.
#[derive(Debug, Clone, Default)]
pub struct SenderConfig {
    /// What of a tree is let through; `None`: all.
    pub filter: Option<Filter>,
    /// The receiver throws away what an earlier run left.
    pub restart: bool,
}

/// Sends `source` over `link` and closes the connection. Of a tree only what the filters of
/// both sides let through.
///
/// Not cancel-safe, but dropping it loses nothing at the receiver. `stop` ends it early with
/// the given code.
///
/// When the connection is lost and only the receipt of a file is missing, the transfer is over
/// all the same, and not settled.
///
/// # Errors
/// When the connection is lost, or either side gives up. A source that fails on its own is
/// reported in the returned failures.
pub async fn send(
    link: Link,
    source: impl Into<Pinned>,
    config: SenderConfig,
    progress: Arc<Progress>,
    stop: impl Future<Output = ErrorCode>,
) -> Result<Transferred, TransferError> {
    progress.on_session();
    let connection = link.connection;
    let session = match link.greeting {
        Some(_) => Sender::new(link.session, config.restart),
        None => Sender::dialer(link.session, config.restart),
    };
    let conversation = Conversation::begin(
        link.control_send,
        link.control_receive,
        link.greeting,
        connection.first_lane_due(),
    );
    let (events_tx, events) = mpsc::channel(EVENT_QUEUE);
    let mut driver = Driver {
        session,
        conversation,
        events,
        events_tx,
        queue: Arc::new(WorkQueue::new()),
        id: link.session,
        source: source.into(),
        filter: config.filter,
        manifest: None,
        wants_manifest: false,
        offered: HashMap::new(),
        checked: HashSet::new(),
        lanes: JoinSet::new(),
        logs: HashMap::new(),
        quic_lanes: Vec::new(),
        limit: link.limit,
        progress,
        tally: Tally::default(),
        lane_count: 0,
        is_repeating: false,
    };
    let result = driver.run(&connection, link.lanes, stop).await;
    connection.hang_up();
    driver.queue.close();
    // Whoever hashes what the receiver holds would go on for hours.
    driver.offered.values().for_each(|file| file.end());
    let reason = result.as_ref().err().and_then(TransferError::code);
    // Nobody hears the end of a broken stream; one in good order would say that a receipt came.
    let is_lost = result.as_ref().is_err_and(TransferError::is_lost);
    if result.is_err() && !is_lost {
        // Bounded: the peer may be gone.
        let _ = tokio::time::timeout(FAREWELL, driver.conversation.finish()).await;
    } else if let (false, Connection::Tls { .. }) = (is_lost, &connection) {
        // What tells the receiver that its receipt was heard.
        let _ = tokio::time::timeout(FAREWELL, driver.conversation.end()).await;
    }
    connection.close(reason);
    // A task that is only told to end is dropped when the runtime next looks: until then its thread
    // waits for its socket, and whoever shuts the runtime down waits for that thread.
    driver.lanes.shutdown().await;
    let is_settled = result.is_ok();
    let conclusion = match result {
        // Of a tree something is left to be done between the last outcome and the receipt.
        Err(error) if is_lost && !driver.tally.is_tree() => {
            driver.session.unheard().ok_or(error)?
        }
        result => result?,
    };
    let lanes = driver.lane_count;
    let (root, tree, failures) = driver.tally.finish();
    Ok(Transferred {
        conclusion,
        failures,
        root,
        tree,
        lanes,
        is_settled,
    })
}

struct Driver {
    session: Sender,
    conversation: Conversation,
    events: mpsc::Receiver<Event>,
    events_tx: mpsc::Sender<Event>,
    queue: Arc<WorkQueue<Work>>,
    id: SessionId,
    source: Pinned,
    filter: Option<Filter>,
    /// Read from the first question on.
    manifest: Option<Manifest>,
    wants_manifest: bool,
    /// Files that are offered and not over.
    offered: HashMap<u32, Arc<OfferedFile>>,
    /// Those of them of which the receiver holds something.
    checked: HashSet<u32>,
    /// Each ends with its number.
    lanes: JoinSet<u16>,
    /// Of those that live, by number.
    logs: HashMap<u16, Arc<LaneLog>>,
    quic_lanes: Vec<quinn::Connection>,
    limit: Option<Arc<RateLimit>>,
    progress: Arc<Progress>,
    tally: Tally,
    lane_count: u32,
    /// What is to be sent now was sent before.
    is_repeating: bool,
}

impl Driver {
    async fn run(
        &mut self,
        connection: &Connection,
        mut new_lanes: mpsc::Receiver<Lane>,
        stop: impl Future<Output = ErrorCode>,
    ) -> Result<Conclusion, TransferError> {
        tokio::pin!(stop);
        let mut watch = Watch::new();
        loop {
            if let Some(conclusion) = self.do_outputs()? {
                return Ok(conclusion);
            }
            // Each arm is cancel-safe: channels, a reservation, and futures that are kept.
            let input = tokio::select! {
                heard = self.conversation.next(self.session.is_greeted()) => match heard? {
                    Ok(message) => SenderInput::Message(message),
                    Err(error) => return Err(self.on_unreadable(connection, error)),
                },
                Some(event) = self.events.recv() => {
                    watch.on_input();
                    self.on_events(event)?;
                    continue;
                }
                Some(batch) = next_batch(self.manifest.as_mut()), if self.wants_manifest => {
                    watch.on_input();
                    self.on_batch(batch)?;
                    continue;
                }
                Some(lane) = new_lanes.recv() => {
                    self.add_lane(lane);
                    self.conversation.on_lane();
                    continue;
                }
                Some(lane) = self.lanes.join_next() => match lane {
                    Ok(0) => return self.control_lost(connection).await,
                    Ok(lane) => {
                        if self.lanes.is_empty() {
                            self.conversation.on_no_lane();
                        }
                        self.on_lane_lost(lane)
                    }
                    Err(_) => SenderInput::Stop(ErrorCode::Internal),
                },
                () = connection.cut() => return Err(connection.closed().await),
                code = &mut stop => SenderInput::Stop(code),
                () = watch.glance() => {
                    if !watch.is_stalled(None, false, self.session.unhashed_bytes()) {
                        continue;
                    }
                    SenderInput::Stop(ErrorCode::TimedOut)
                }
            };
            watch.on_input();
            self.feed(input)?;
        }
    }

    /// The control stream failed, or what came over it makes no sense: then the peer hears that.
    fn on_unreadable(&mut self, connection: &Connection, error: ControlError) -> TransferError {
        if let ControlError::Protocol(error) = &error {
            let _ = self.feed(SenderInput::Stop(error.code()));
        }
        connection.lost(error)
    }

    fn feed(&mut self, input: SenderInput) -> Result<(), TransferError> {
        let is_repeat =
            |message: &Message| matches!(message, Message::Missing(_) | Message::Again(_));
        self.is_repeating = matches!(&input, SenderInput::Message(message) if is_repeat(message));
        let result = self.session.handle(input);
        if result.is_err() {
            self.do_outputs()?;
        }
        Ok(result?)
    }

    /// Takes all events that are there, so that what is said about them fits in few messages.
    fn on_events(&mut self, first: Event) -> Result<(), TransferError> {
        let mut next = Some(first);
        for _ in 0..EVENT_QUEUE {
            let Some(event) = next else { break };
            self.on_event(event)?;
            next = self.events.try_recv().ok();
        }
        match next {
            Some(event) => self.on_event(event),
            None => Ok(()),
        }
    }

    fn on_batch(&mut self, batch: Result<Batch, StoreError>) -> Result<(), TransferError> {
        self.wants_manifest = false;
        let Batch {
            source,
            entries,
            last,
        } = match batch {
            Ok(batch) => batch,
            Err(error) => {
                let _ = self.feed(SenderInput::Stop(error.code));
                return Err(error.into());
            }
        };
        let first = self.session.offered();
        for (number, entry) in (first..).zip(&entries) {
            let bytes = entry.plan().map_or(0, |plan| plan.size());
            self.progress.on_offered(1, bytes);
            let entry = self.tally.offered(number, entry.clone());
            if let EntryKind::File { .. } = entry.kind {
                let file = OfferedFile::new(source.clone(), entry);
                self.offered.insert(number, Arc::new(file));
            }
        }
        self.feed(SenderInput::Manifest { entries, last })
    }

    /// Lets through what both sides want.
    fn add_filter(&mut self, wanted: &Wanted) -> Result<(), SessionError> {
        match Filter::new(wanted) {
            Ok(theirs) => {
                self.filter = Some(match self.filter.take() {
                    Some(ours) => ours.and(theirs),
                    None => theirs,
                });
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "the receiver's filter makes no sense");
                self.session
                    .handle(SenderInput::Stop(ErrorCode::ProtocolViolation))
            }
        }
    }

    /// What it was given may be missing; whatever it was about to be given is for another.
    fn on_lane_lost(&mut self, lane: u16) -> SenderInput {
        tracing::debug!(lane, "a lane is lost");
        self.quic_lanes
            .retain(|connection| connection.close_reason().is_none());
        fit_send_windows(&self.quic_lanes);
        let log = self.logs.remove(&lane);
        let runs = log.map_or_else(Vec::new, |log| log.close());
        // Its thread may wait for work, for hours.
        self.queue.wake_all();
        SenderInput::LaneLost { lane, runs }
    }

    /// Over QUIC the connection that controls carries records too, and knows why it ended. A receiver that
    /// gives up lets go of records first, and may be saying why.
    /// Or it may have been content.
    async fn control_lost(&mut self, connection: &Connection) -> Result<Conclusion, TransferError> {
        let broke = TransferError::Lost("a data connection broke".to_owned());
        let Connection::Quic(_) = connection else {
            return Err(broke);
        };
        let told = async {
            while let Some(Ok(message)) = self.conversation.rest().await {
                self.feed(SenderInput::Message(message))?;
                if let Some(conclusion) = self.do_outputs()? {
                    return Ok(conclusion);
                }
            }
            Err(connection.closed().await)
        };
        tokio::time::timeout(FAREWELL, told)
            .await
            .unwrap_or(Err(broke))
    }

    fn add_lane(&mut self, lane: Lane) {
        let Lane {
            number,
            carrier,
            ended,
        } = lane;
        if self.logs.len() >= limits::LANES_MAX || self.logs.contains_key(&number) {
            return;
        }
        self.lane_count += 1;
        let log = Arc::new(LaneLog::new());
        self.logs.insert(number, Arc::clone(&log));
        let queue = Arc::clone(&self.queue);
        let events = self.events_tx.clone();
        let limit = self.limit.clone();
        if let Carrier::Quic(connection) = &carrier {
            self.quic_lanes.push(connection.clone());
            fit_send_windows(&self.quic_lanes);
        }
        self.lanes.spawn(async move {
            let result = send_lane(carrier, limit, queue, events, log).await;
            drop(ended);
            tracing::debug!(number, ?result, "a lane ended");
            number
        });
    }

    fn do_outputs(&mut self) -> Result<Option<Conclusion>, SessionError> {
        let mut again = Vec::new();
        let result = self.take_outputs(&mut again);
        self.queue.push_all_first(again);
        result
    }

    /// What the receiver misses comes before all other, in its order: it is put into `again`.
    fn take_outputs(&mut self, again: &mut Vec<Work>) -> Result<Option<Conclusion>, SessionError> {
        while let Some(output) = self.session.poll_output() {
            match output {
                SenderOutput::Send(message) => {
                    if let Err(error) = self.conversation.say(message) {
                        let _ = self.feed(SenderInput::Stop(error.code()));
                        return Err(error.into());
                    }
                }
                SenderOutput::Filter(wanted) => self.add_filter(&wanted)?,
                SenderOutput::ReadManifest => {
                    self.wants_manifest = true;
                    if self.manifest.is_none() {
                        let filter = self.filter.take();
                        self.manifest = Some(manifest::read(self.source.clone(), self.id, filter));
                    }
                }
                SenderOutput::CheckHeld(held) => {
                    self.checked.insert(held.entry);
                    self.queue_work(held.entry, Task::Check(held));
                }
                SenderOutput::SendBlocks { entry, run } => {
                    if let Some(file) = self.offered.get(&entry) {
                        let pieces = pieces(entry, file, run);
                        match self.is_repeating {
                            true => again.extend(pieces),
                            false => pieces.for_each(|work| self.queue.push(work)),
                        }
                    }
                }
                SenderOutput::Seal { entry } => self.seal(entry)?,
                SenderOutput::Release { entry, failure } => {
                    let file = self.offered.remove(&entry);
                    file.iter().for_each(|file| file.end());
                    if self.checked.remove(&entry) {
                        // Whoever is busy would keep its hashes in memory.
                        self.queue.retain(|work| work.entry != entry);
                    }
                    self.logs.values().for_each(|log| log.forget(entry));
                    self.tally.released(entry, failure, &self.progress);
                }
                SenderOutput::Close(conclusion) => return Ok(Some(conclusion)),
            }
        }
        Ok(None)
    }

    fn queue_work(&self, entry: u32, task: Task) {
        let Some(file) = self.offered.get(&entry).map(Arc::clone) else {
            return;
        };
        self.queue.push(Work { entry, file, task });
    }

    /// Comes before what other files have to send, so that few are open at a time.
    fn seal(&mut self, entry: u32) -> Result<(), SessionError> {
        let Some(file) = self.offered.get(&entry).map(Arc::clone) else {
            return Ok(());
        };
        let known = file.root().take();
        match known {
            Some(root) => {
                self.tally.rooted(entry, root);
                self.session.handle(SenderInput::Sealed { entry, root })
            }
            None => {
                let task = Task::Seal;
                self.queue.push_first(Work { entry, file, task });
                Ok(())
            }
        }
    }

    fn on_event(&mut self, event: Event) -> Result<(), TransferError> {
        let input = match event {
            Event::SmallSent(sent) => {
                for (entry, root, bytes) in sent {
                    self.progress.on_moved(bytes);
                    if let Some(file) = self.offered.get(&entry) {
                        *file.root() = Some(root);
                    }
                    self.feed(SenderInput::BlocksSent { entry, count: 1 })?;
                }
                return Ok(());
            }
            Event::BlockSent { entry, bytes } => {
                self.progress.on_moved(bytes);
                SenderInput::BlocksSent { entry, count: 1 }
            }
            Event::HeldChecked {
                entry,
                agrees,
                bytes,
            } => {
                self.progress.on_resumed(bytes);
                SenderInput::HeldChecked { entry, agrees }
            }
            Event::Sealed { entry, root } => {
                self.tally.rooted(entry, root);
                SenderInput::Sealed { entry, root }
            }
            Event::Failed { entry, error } => {
                let code = error.code;
                self.tally.failed(entry, error);
                SenderInput::SourceFailed { entry, code }
            }
        };
        self.feed(input)
    }
}

/// Waits for the next part of the manifest. Cancel-safe.
async fn next_batch(manifest: Option<&mut Manifest>) -> Option<Result<Batch, StoreError>> {
    manifest?.recv().await
}

/// Cuts a run into pieces of work, so that lanes can share it: whoever is free takes the next one. They
/// get smaller, so that no slow lane holds the end back.
fn pieces(entry: u32, file: &Arc<OfferedFile>, run: BlockRun) -> impl Iterator<Item = Work> {
    let (mut first, mut left) = (run.first, run.count);
    std::iter::from_fn(move || {
        let count = (left > 0).then(|| (left / WORK_PIECES).clamp(1, WORK_BLOCKS))?;
        let (task, file) = (Task::Send(BlockRun { first, count }), Arc::clone(file));
        first += count;
        left -= count;
        Some(Work { entry, file, task })
    })
}

/// Events between the reader and the driver.
const EVENT_QUEUE: usize = 1024;

/// Blocks that a lane takes at a time, at most.
const WORK_BLOCKS: u64 = 16;

/// What is left is cut into at least this many pieces, for up to 32 lanes.
const WORK_PIECES: u64 = 64;

/// Longest wait for the peer to take our last message.
const FAREWELL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::control::{read_message, write_message};
    use crate::net::quic::Endpoint;
    use crate::net::tcp;
    use crate::secret::TransferSecret;
    use crate::session::hello;
    use crate::store::source::Source;
    use crate::wire::message::{Role, SessionId};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn who_gives_up_is_heard_also_after_the_records_were_let_go_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![7; 8 << 20]).unwrap();
        let secret = TransferSecret::generate().unwrap();
        let listener = Endpoint::bind("127.0.0.1:0".parse().unwrap(), &secret).unwrap();
        let address = listener.local_addr().unwrap();
        let dialer = Endpoint::dialer(address, &secret).unwrap();
        let session = SessionId([7; 16]);
        let code = ErrorCode::Terminated;
        let receiver = async {
            let connection = dialer.connect(address).unwrap().await.unwrap();
            let (mut control, _said) = connection.open_bi().await.unwrap();
            let mut greeting = hello(Role::Receiver, session, 0);
            greeting.vacant = true;
            let greeting = Message::Hello(greeting);
            write_message(&mut control, &greeting).await.unwrap();
            let mut records = connection.accept_uni().await.unwrap();
            records.stop(0_u32.into()).unwrap();
            // Whenever it is said: so late that the other side has noticed.
            tokio::time::sleep(Duration::from_millis(200)).await;
            let abort = Message::Abort(crate::wire::message::Abort { code });
            write_message(&mut control, &abort).await.unwrap();
            connection.closed().await
        };
        let sender = async {
            let incoming = listener.accept().await.unwrap();
            let connection = listener.admit(incoming).unwrap().await.unwrap();
            let (says, mut hears) = connection.accept_bi().await.unwrap();
            let greeting = read_message(&mut hears).await.ok();
            let control = (says, hears);
            let (link, _lanes) = Link::quic(connection.clone(), control, session, greeting);
            let source = Source::open(&path).unwrap();
            let (config, stop) = (SenderConfig::default(), std::future::pending());
            let sent = send(link, source, config, Arc::default(), stop).await;
            connection.close(0_u32.into(), &[]);
            sent
        };
        let (_, sent) = tokio::join!(receiver, sender);
        assert_eq!(sent.unwrap_err().code(), Some(code));
    }

    /// The runtime of a client does not look at its tasks again after that.
    #[tokio::test]
    async fn no_lane_outlives_its_session() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "bytes").unwrap();
        let (control, _peer) = tcp::tests::pair().await;
        let (lane, _lane_peer) = tcp::tests::pair().await;
        let session = SessionId([7; 16]);
        let greeting = Message::Hello(hello(Role::Receiver, session, 0));
        let (link, lanes) = Link::tls(control, session, Some(greeting));
        let (ended, mut end) = oneshot::channel();
        let lane = Lane {
            number: 1,
            carrier: Carrier::Tls(Box::new(lane)),
            ended: Some(ended),
        };
        lanes.try_send(lane).unwrap();
        let source = Source::open(&path).unwrap();
        let progress = Arc::<Progress>::default();
        let stop = async {
            while lanes.capacity() < limits::LANES_MAX {
                tokio::task::yield_now().await;
            }
            ErrorCode::Interrupted
        };
        let sent = send(link, source, SenderConfig::default(), progress, stop).await;
        assert_eq!(sent.unwrap_err().code(), Some(ErrorCode::Interrupted));
        let is_over = end.try_recv();
        assert_eq!(is_over, Err(oneshot::error::TryRecvError::Closed));
    }
}
