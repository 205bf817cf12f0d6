//! Drives a [`Receiver`]: reads records, hashes and writes them on threads of their own.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::error::ErrorCode;
use crate::limits;
use crate::net::control::ControlError;
use crate::net::conversation::Conversation;
use crate::net::keeper::{During, Keeper, OpenFiles};
use crate::net::lane::{Event, Inlet, receive_lane};
use crate::net::limit::RateLimit;
use crate::net::link::{Carrier, Connection, Lane, Link};
use crate::net::progress::Progress;
use crate::net::quic::fit_receive_windows;
use crate::net::stall::{Arrivals, Watch};
use crate::net::stop::Stopper;
use crate::net::tally::Tally;
use crate::net::{TransferError, Transferred};
use crate::session::{
    Conclusion, Preparation, Receiver, ReceiverConfig, ReceiverInput, ReceiverOutput, SessionError,
};
use crate::store::target::Target;
use crate::store::{StoreError, beneath};
use crate::wire::message::{Entry, EntryKind, SessionId};

/// Receives what the peer sends over `link` into `target`, and waits until the peer closes
/// the connection.
///
/// Not cancel-safe: dropped, it leaves partials that are not synced; they resume none the
/// less. `stop` ends it early with the given code and makes partials durable.
///
/// When it returns nothing writes to the target any more, however long the disk takes for what was
/// begun, unless `stop` says that nobody waits for that.
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
    let conversation = Conversation::begin(
        link.control_send,
        link.control_receive,
        link.greeting,
        connection.first_lane_due(),
    );
    let (events_tx, events) = mpsc::channel(EVENT_QUEUE);
    let (writing, writers) = mpsc::channel(1);
    let open = Arc::new(OpenFiles::new(config.vacant));
    let keeper = Keeper::spawn(target.clone(), Arc::clone(&open), events_tx.clone());
    let mut driver = Driver {
        session: Receiver::new(link.session, config),
        conversation,
        events,
        events_tx,
        keeper,
        open,
        arrivals: Arc::default(),
        target,
        id: link.session,
        lanes: JoinSet::new(),
        drops: HashMap::new(),
        lost: HashSet::new(),
        dropping: None,
        quic_lanes: Vec::new(),
        limit: link.limit,
        progress,
        tally: Tally::default(),
        watch: Watch::new(),
        lane_count: 0,
        writing,
        writers,
    };
    let mut stop = Stopper::new(stop);
    let result = driver.run(&connection, link.lanes, &mut stop).await;
    connection.hang_up();
    let was_heard = driver.leave(&connection, &result).await;
    let is_settled = result.is_ok() && was_heard;
    let Driver {
        keeper,
        target,
        mut tally,
        lane_count: lanes,
        writing,
        writers,
        ..
    } = driver;
    drop(writing);
    // Neither is needed after the other. A lost session is not told to be one before: the next would
    // find its file locked, or worse, written to.
    let is_put_away = tokio::select! {
        () = put_away(writers, keeper, is_settled) => true,
        () = hopeless(&mut stop) => {
            tracing::warn!("the file system does not answer; what arrived last may not be durable");
            false
        }
    };
    let conclusion = result?;
    tally.removed(target.removed());
    let (root, tree, failures) = tally.finish();
    Ok(Transferred {
        conclusion,
        failures,
        root,
        tree,
        lanes,
        is_settled: is_settled && is_put_away,
    })
}

/// Waits until nobody writes any more, then for the keeper, which makes partials durable.
async fn put_away(mut writers: mpsc::Receiver<Infallible>, keeper: Keeper, is_settled: bool) {
    while writers.recv().await.is_some() {}
    keeper.left(is_settled).await;
}

/// Waits until somebody asks to stop, and then as long as a file system may take to answer.
pub(super) async fn hopeless(stop: &mut Stopper<impl Future<Output = ErrorCode>>) {
    stop.asked().await;
    sleep(PUT_AWAY).await;
}

struct Driver {
    session: Receiver,
    conversation: Conversation,
    events: mpsc::Receiver<Event>,
    events_tx: mpsc::Sender<Event>,
    keeper: Keeper,
    open: Arc<OpenFiles>,
    arrivals: Arc<Arrivals>,
    target: Target,
    id: SessionId,
    /// Each ends with its number.
    lanes: JoinSet<(u16, Result<(), ErrorCode>)>,
    /// Ends a lane that lives, by number.
    drops: HashMap<u16, oneshot::Sender<()>>,
    /// Lanes that the sender has lost: they are not taken when they come late.
    lost: HashSet<u16>,
    /// One of them that has to end.
    dropping: Option<u16>,
    quic_lanes: Vec<quinn::Connection>,
    limit: Option<Arc<RateLimit>>,
    progress: Arc<Progress>,
    tally: Tally,
    watch: Watch,
    lane_count: u32,
    /// Lanes have clones of it; the other end hears when all are gone.
    writing: mpsc::Sender<Infallible>,
    writers: mpsc::Receiver<Infallible>,
}

impl Driver {
    async fn run(
        &mut self,
        connection: &Connection,
        mut new_lanes: mpsc::Receiver<Lane>,
        stop: &mut Stopper<impl Future<Output = ErrorCode>>,
    ) -> Result<Conclusion, TransferError> {
        loop {
            if let Some(conclusion) = self.do_outputs()? {
                return Ok(conclusion);
            }
            // Each arm is cancel-safe: channels, a reservation, and futures that are kept.
            let input = tokio::select! {
                heard = self.conversation.next(self.session.is_greeted()) => match heard? {
                    Ok(message) => ReceiverInput::Message(message),
                    Err(error) => return Err(self.on_unreadable(connection, error)),
                },
                Some(event) = self.events.recv() => {
                    self.watch.on_input();
                    self.on_events(event)?;
                    continue;
                }
                Some(lane) = new_lanes.recv() => {
                    if self.add_lane(lane) {
                        self.conversation.on_lane();
                    }
                    continue;
                }
                Some(lane) = self.lanes.join_next() => match lane {
                    Ok((number, Ok(()))) => {
                        if self.lanes.is_empty() {
                            self.conversation.on_no_lane();
                        }
                        self.on_lane_ended(number)?;
                        continue;
                    }
                    Ok((_, Err(code))) => return Err(self.give_up(code)),
                    Err(_) => return Err(self.give_up(ErrorCode::Internal)),
                },
                () = connection.cut() => return Err(connection.closed().await),
                code = stop.asked() => ReceiverInput::Stop(code),
                () = self.watch.glance() => {
                    let (is_owed, unhashed) =
                        (self.session.is_owed(), self.session.unhashed_bytes());
                    if !self.watch.is_stalled(Some(&self.arrivals), is_owed, unhashed) {
                        continue;
                    }
                    if is_owed {
                        // Another connection may bring it.
                        let reason = "what was sent does not arrive";
                        return Err(TransferError::Lost(reason.to_owned()));
                    }
                    ReceiverInput::Stop(ErrorCode::TimedOut)
                }
            };
            self.watch.on_input();
            self.feed(input)?;
        }
    }

    fn feed(&mut self, input: ReceiverInput) -> Result<(), TransferError> {
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

    /// Nothing more comes from it, and what came waits to be heard.
    fn on_lane_ended(&mut self, lane: u16) -> Result<(), TransferError> {
        if self.watch.on_lost(self.session.unhashed_bytes()) {
            let reason = "data connections break one after another, and nothing arrives";
            return Err(TransferError::Lost(reason.to_owned()));
        }
        self.drops.remove(&lane);
        self.quic_lanes
            .retain(|connection| connection.close_reason().is_none());
        self.fit_windows();
        if self
            .dropping
            .take_if(|dropping| *dropping == lane)
            .is_none()
        {
            return Ok(());
        }
        while let Ok(event) = self.events.try_recv() {
            self.on_event(event)?;
        }
        self.feed(ReceiverInput::LaneDropped { lane })
    }

    /// The sender has lost it.
    fn drop_lane(&mut self, lane: u16) {
        self.lost.insert(lane);
        match self.drops.remove(&lane) {
            Some(end) => {
                self.dropping = Some(lane);
                // It may just have ended.
                let _ = end.send(());
            }
            // Never fails: an answer to what was asked.
            None => drop(self.session.handle(ReceiverInput::LaneDropped { lane })),
        }
    }

    /// A limit has set them already.
    fn fit_windows(&self) {
        if self.limit.is_none() {
            fit_receive_windows(&self.quic_lanes);
        }
    }

    /// Whether it is one: a number comes once.
    fn add_lane(&mut self, lane: Lane) -> bool {
        let Lane {
            number,
            carrier,
            ended,
        } = lane;
        let is_known = self.lost.contains(&number) || self.drops.contains_key(&number);
        if is_known || self.drops.len() >= limits::LANES_MAX {
            return false;
        }
        self.lane_count += 1;
        if let Carrier::Quic(connection) = &carrier {
            self.quic_lanes.push(connection.clone());
            self.fit_windows();
        }
        let inlet = Inlet {
            open: Arc::clone(&self.open),
            arrivals: Arc::clone(&self.arrivals),
            limit: self.limit.clone(),
            events: self.events_tx.clone(),
            _writing: self.writing.clone(),
        };
        let (end, dropped) = oneshot::channel();
        self.drops.insert(number, end);
        self.lanes.spawn(async move {
            let result = receive_lane(carrier, inlet, dropped).await;
            drop(ended);
            (number, result)
        });
        true
    }

    /// The control stream failed, or what came over it makes no sense: then the peer hears that.
    fn on_unreadable(&mut self, connection: &Connection, error: ControlError) -> TransferError {
        if let ControlError::Protocol(error) = &error {
            let _ = self.give_up(error.code());
        }
        connection.lost(error)
    }

    fn give_up(&mut self, code: ErrorCode) -> TransferError {
        let result = self.session.handle(ReceiverInput::Stop(code));
        // All that is left to be said is that.
        let said = self.do_outputs();
        match result.and(said) {
            Err(error) => error.into(),
            Ok(_) => TransferError::Session(SessionError::Ours(code)),
        }
    }

    fn do_outputs(&mut self) -> Result<Option<Conclusion>, SessionError> {
        while let Some(output) = self.session.poll_output() {
            match output {
                ReceiverOutput::Send(message) => {
                    if let Err(error) = self.conversation.say(message) {
                        let _ = self.give_up(error.code());
                        return Err(error.into());
                    }
                }
                ReceiverOutput::Restart => self.target.restart(self.id),
                ReceiverOutput::Prepare { entry, offered } => {
                    let bytes = offered.plan().map_or(0, |plan| plan.size());
                    self.progress.on_offered(1, bytes);
                    let offered = self.tally.offered(entry, offered);
                    self.keeper.prepare(entry, offered);
                }
                ReceiverOutput::Refuse { entry, offered } => self.refuse(entry, offered),
                ReceiverOutput::Finish { entry, root } => {
                    self.tally.rooted(entry, root);
                    self.keeper.finish(entry, root);
                }
                ReceiverOutput::Suspend { entry } => self.keeper.suspend(entry),
                ReceiverOutput::Release { entry, failure } => {
                    self.tally.released(entry, failure, &self.progress);
                }
                ReceiverOutput::DropLane { lane } => self.drop_lane(lane),
                ReceiverOutput::Sync => self.keeper.sync(),
                ReceiverOutput::Close(conclusion) => return Ok(Some(conclusion)),
            }
        }
        Ok(None)
    }

    /// Remembers what the session refuses by itself.
    fn refuse(&mut self, entry: u32, offered: Entry) {
        self.progress.on_offered(1, 0);
        self.open.first_found();
        let is_ours = !matches!(offered.kind, EntryKind::Unsent { .. });
        let offered = self.tally.offered(entry, offered);
        self.keeper.refused(entry, Arc::clone(&offered));
        if is_ours {
            let path = beneath::shown(self.target.path(), &offered.path);
            let error = StoreError::refused(ErrorCode::OverInboundLimit, "receive", &path);
            self.tally.failed(entry, error);
        }
    }

    fn on_event(&mut self, event: Event) -> Result<(), TransferError> {
        let input = match event {
            Event::Many(events) => {
                return events
                    .into_iter()
                    .try_for_each(|event| self.on_event(event));
            }
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
                self.watch.on_proven();
                ReceiverInput::BlockProven { entry, block }
            }
            Event::Damaged { entry, block } => ReceiverInput::BlockDamaged { entry, block },
            Event::Finished { entry } => ReceiverInput::Finished {
                entry,
                failure: None,
            },
            Event::Failed {
                entry,
                during,
                error,
            } => {
                let code = error.code;
                if self.ends_all(entry, during, code) {
                    // What has arrived stays, and the same command goes on from there.
                    let _ = self.give_up(code);
                    return Err(error.into());
                }
                self.tally.failed(entry, error);
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
            Event::Synced(Ok(())) => ReceiverInput::Synced,
            Event::Synced(Err(error)) => {
                let _ = self.give_up(error.code);
                return Err(error.into());
            }
        };
        self.feed(input)
    }

    /// Whether nothing can go on without this entry: there is no room, for the others either,
    /// until somebody makes some and comes back; or it is the root of a tree, or the one file, and
    /// nothing of it was asked for. Whoever sends keeps its place for the next attempt then.
    fn ends_all(&self, entry: u32, during: During, code: ErrorCode) -> bool {
        let is_root = self
            .tally
            .entry(entry)
            .is_some_and(|entry| entry.path.is_root());
        code == ErrorCode::NoSpace
            || (is_root && (self.tally.is_tree() || during == During::Prepare))
    }

    /// Says the last words, waits for the peer to close, and ends the lanes. Whether the peer
    /// closed in good order.
    async fn leave(
        &mut self,
        connection: &Connection,
        result: &Result<Conclusion, TransferError>,
    ) -> bool {
        self.keeper.leave();
        self.open.close();
        // Bounded: the peer may be gone.
        let ended_well = tokio::time::timeout(FAREWELL, async {
            let ended_well = self.conversation.finish().await;
            match (result, connection) {
                (Ok(_), Connection::Quic(_)) => connection.ends_well().await,
                _ => ended_well,
            }
        })
        .await;
        connection.close(result.as_ref().err().and_then(TransferError::code));
        self.lanes.shutdown().await;
        // Lanes hold senders of events; nobody reads them any more.
        self.events.close();
        while self.events.recv().await.is_some() {}
        ended_well.unwrap_or(false)
    }
}

/// Events between threads and the driver.
const EVENT_QUEUE: usize = 1024;

/// Longest wait for the peer to take our last message and close.
const FAREWELL: Duration = Duration::from_secs(5);

/// Longest wait for a file system once somebody asks to stop. With the farewell, and what a program
/// grants its threads in the end, it is less than the 30 s after which Slurm kills.
const PUT_AWAY: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;
    use crate::limits::BLOCK_MIN_BYTES;
    use crate::net::control::{read_message, write_message};
    use crate::net::lane::tests::SlowDisk;
    use crate::net::quic::Endpoint;
    use crate::net::tcp;
    use crate::path::RelPath;
    use crate::secret::TransferSecret;
    use crate::session::hello;
    use crate::store::leaving::Leaving;
    use crate::store::target::TargetPolicy;
    use crate::wire::message::{Message, Offer, Role, Timestamp};
    use crate::wire::record::RecordHeader;
    use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

    const SESSION: SessionId = SessionId([7; 16]);

    fn offered(modified: i64) -> Entry {
        Entry {
            path: RelPath::root(),
            kind: EntryKind::File {
                size: 3 * BLOCK_MIN_BYTES,
            },
            mode: 0o600,
            modified: Timestamp {
                seconds: modified,
                nanos: 0,
            },
            has_holes: false,
        }
    }

    /// Offers a file, and waits until it is wanted.
    async fn offer(
        modified: i64,
        send: &mut (impl AsyncWrite + Unpin),
        receive: &mut (impl AsyncRead + Unpin),
    ) {
        let offer = Message::Offer(Offer {
            first: 0,
            entries: vec![offered(modified)],
            last: true,
        });
        write_message(send, &offer).await.unwrap();
        while !matches!(read_message(receive).await.unwrap(), Message::Answer(_)) {}
    }

    /// A block and a half, whose hash does not matter.
    async fn records(lane: &mut (impl AsyncWrite + Unpin)) {
        let header = RecordHeader {
            entry: 0,
            offset: 0,
            length: BLOCK_MIN_BYTES,
            is_hole: false,
        };
        lane.write_all(&header.encode()).await.unwrap();
        let block = vec![1; BLOCK_MIN_BYTES as usize];
        lane.write_all(&block).await.unwrap();
        lane.flush().await.unwrap();
    }

    struct Session {
        receiving: JoinHandle<Result<Transferred, TransferError>>,
        stop: oneshot::Sender<ErrorCode>,
        disk: Arc<SlowDisk>,
    }

    impl Session {
        fn begin(link: Link, target: &Path, modified: i64) -> Self {
            let disk = SlowDisk::of(modified);
            let target = Target::new(target, TargetPolicy::default());
            let (stop, stopped) = oneshot::channel();
            let stopped = async move {
                match stopped.await {
                    Ok(code) => code,
                    Err(_) => std::future::pending().await,
                }
            };
            let config = ReceiverConfig::default();
            let receiving = receive(link, target, config, Arc::default(), stopped);
            Self {
                receiving: tokio::spawn(receiving),
                stop,
                disk,
            }
        }
    }

    fn greeting() -> Option<Message> {
        Some(Message::Hello(hello(Role::Sender, SESSION, 0)))
    }

    /// Whose connection is lost while the disk is at work.
    async fn lost_over_quic(target: &Path, modified: i64) -> Session {
        let secret = TransferSecret::generate().unwrap();
        let listener = Endpoint::bind("127.0.0.1:0".parse().unwrap(), &secret).unwrap();
        let address = listener.local_addr().unwrap();
        let dialer = Endpoint::dialer(address, &secret).unwrap();
        let accept = async {
            let incoming = listener.accept().await.unwrap();
            listener.admit(incoming).unwrap().await.unwrap()
        };
        let connect = async { dialer.connect(address).unwrap().await.unwrap() };
        let (accepted, connected) = tokio::join!(accept, connect);
        let (mut send, mut receive) = connected.open_bi().await.unwrap();
        let offering = async {
            offer(modified, &mut send, &mut receive).await;
            let mut lane = connected.open_uni().await.unwrap();
            records(&mut lane).await;
        };
        let accepting = async {
            let control = accepted.accept_bi().await.unwrap();
            let (link, _) = Link::quic(accepted.clone(), control, SESSION, greeting());
            Session::begin(link, target, modified)
        };
        let ((), session) = tokio::join!(offering, accepting);
        session.disk.asked().await;
        connected.close(0_u32.into(), &[]);
        accepted.closed().await;
        session
    }

    async fn lost_over_tls(target: &Path, modified: i64) -> Session {
        let (control, peer) = tcp::tests::pair().await;
        let (lane, mut lane_peer) = tcp::tests::pair().await;
        let (link, lanes) = Link::tls(control, SESSION, greeting());
        let lane = Lane {
            number: 1,
            carrier: Carrier::Tls(Box::new(lane)),
            ended: None,
        };
        lanes.try_send(lane).unwrap();
        let session = Session::begin(link, target, modified);
        let (mut receive, mut send) = tokio::io::split(peer);
        offer(modified, &mut send, &mut receive).await;
        records(&mut lane_peer).await;
        session.disk.asked().await;
        session
    }

    /// The next session of this process would find the file locked, or written to.
    async fn assert_waits_for_its_writers(session: Session, target: &Path, modified: i64) {
        let Session {
            mut receiving,
            stop: _stop,
            disk,
        } = session;
        let early = timeout(Duration::from_secs(1), &mut receiving).await;
        // Before anything may fail: a runtime waits for its threads.
        disk.get_ready();
        assert!(early.is_err(), "it left a writer behind: {early:?}");
        let lost = receiving.await.unwrap().unwrap_err();
        assert!(lost.is_lost(), "{lost:?}");
        let next = Target::new(target, TargetPolicy::default());
        next.prepare(&offered(modified), &Leaving::default())
            .unwrap();
    }

    #[tokio::test]
    async fn a_lost_session_waits_for_its_writers_over_quic() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        let session = lost_over_quic(&target, 1001).await;
        assert_waits_for_its_writers(session, &target, 1001).await;
    }

    #[tokio::test]
    async fn a_lost_session_waits_for_its_writers_over_tls() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        let session = lost_over_tls(&target, 1002).await;
        assert_waits_for_its_writers(session, &target, 1002).await;
    }

    #[tokio::test]
    async fn who_is_asked_to_stop_does_not_wait_for_a_disk_that_hangs() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        let session = lost_over_quic(&target, 1003).await;
        session.stop.send(ErrorCode::Terminated).unwrap();
        tokio::time::pause();
        let mut passed = Duration::ZERO;
        while !session.receiving.is_finished() && passed < 2 * PUT_AWAY {
            let step = Duration::from_millis(100);
            tokio::time::advance(step).await;
            passed += step;
        }
        let is_over = session.receiving.is_finished();
        session.disk.get_ready();
        assert!(is_over, "it waits for the disk");
        session.receiving.await.unwrap().unwrap_err();
    }
}
