//! A relay between a client and its endpoint, which a test owns.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;

use crate::coordinates::decode;

/// Passes TCP connections on to an endpoint, and cuts them.
#[derive(Clone)]
pub(crate) struct Relay {
    passed: Arc<Mutex<Vec<Passed>>>,
    /// So many bytes of each direction of a connection are passed on; what follows is swallowed.
    room: usize,
    /// Whoever calls now is not passed on.
    is_closed: Arc<AtomicBool>,
}

struct Passed {
    ends: [TcpStream; 2],
    bytes: Arc<AtomicU64>,
    /// What the client says is kept back.
    is_muted: Arc<AtomicBool>,
}

impl Relay {
    /// In front of the endpoint of these coordinates; returns those that lead here.
    pub(crate) fn new(coordinates: &str) -> (Self, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let ours = listener.local_addr().unwrap().port();
        let (port, coordinates) = lead_to(ours, coordinates);
        (Self::on(listener, port, usize::MAX), coordinates)
    }

    fn on(listener: TcpListener, port: u16, room: usize) -> Self {
        let relay = Self {
            passed: Arc::default(),
            room,
            is_closed: Arc::default(),
        };
        let accepting = relay.clone();
        // It ends with the process of the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.is_closed.load(Ordering::Acquire) {
                    continue;
                }
                let Ok(there) = TcpStream::connect(("localhost", port)) else {
                    continue;
                };
                accepting.pass(stream.unwrap(), there);
            }
        });
        relay
    }

    fn pass(&self, here: TcpStream, there: TcpStream) {
        let bytes = Arc::<AtomicU64>::default();
        let is_muted = Arc::<AtomicBool>::default();
        for ([from, to], is_muted) in [
            ([&here, &there], Arc::clone(&is_muted)),
            ([&there, &here], Arc::default()),
        ] {
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let bytes = Arc::clone(&bytes);
            let mut room = self.room;
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    bytes.fetch_add(count as u64, Ordering::Relaxed);
                    room = room.saturating_sub(count);
                    if room == 0 || is_muted.load(Ordering::Acquire) {
                        continue;
                    }
                    if to.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Write);
            });
        }
        let ends = [here, there];
        self.passed.lock().unwrap().push(Passed {
            ends,
            bytes,
            is_muted,
        });
    }

    /// What the client says from now on is lost.
    pub(crate) fn mute(&self, connection: usize) {
        let passed = self.passed.lock().unwrap();
        passed[connection].is_muted.store(true, Ordering::Release);
    }

    /// From now on whoever calls is hung up on.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    pub(crate) fn count(&self) -> usize {
        self.passed.lock().unwrap().len()
    }

    pub(crate) fn bytes(&self, connection: usize) -> u64 {
        let passed = self.passed.lock().unwrap();
        passed
            .get(connection)
            .map_or(0, |passed| passed.bytes.load(Ordering::Relaxed))
    }

    /// All that was passed on, in both directions.
    pub(crate) fn total(&self) -> u64 {
        (0..self.count())
            .map(|connection| self.bytes(connection))
            .sum()
    }

    /// What is on its way is lost.
    pub(crate) fn cut(&self, connection: usize) {
        for end in &self.passed.lock().unwrap()[connection].ends {
            // It may have ended by itself.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

/// The port that these coordinates lead to, and coordinates that lead to this one instead.
fn lead_to(ours: u16, coordinates: &str) -> (u16, String) {
    let mut wire = decode(coordinates);
    let port = u16::try_from(wire["ports"][0].as_u64().unwrap()).unwrap();
    wire["ports"] = serde_json::json!([ours, ours]);
    wire["ips"] = serde_json::json!(["127.0.0.1"]);
    (port, BASE64_URL_SAFE.encode(wire.to_string()))
}

/// In front of both sockets of an endpoint. Of what goes over TCP only the beginning arrives, as
/// behind a firewall that looks into connections after it has let them pass. Datagrams do not until
/// they are let through.
pub(crate) fn swallowing_tcp(coordinates: &str) -> (Relay, Datagrams, String) {
    let (front, listener) = both();
    let (port, coordinates) = lead_to(front.local_addr().unwrap().port(), coordinates);
    let relay = Relay::on(listener, port, 16 << 10);
    let datagrams = Datagrams::on(front, port);
    datagrams.is_closed.store(true, Ordering::Release);
    (relay, datagrams, coordinates)
}

/// Two sockets with one port, as an endpoint has.
fn both() -> (UdpSocket, TcpListener) {
    loop {
        let datagrams = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        if let Ok(streams) = TcpListener::bind(datagrams.local_addr().unwrap()) {
            return (datagrams, streams);
        }
    }
}

/// Passes datagrams on to an endpoint, and cuts those who send them off, one by one.
#[derive(Clone, Default)]
pub(crate) struct Datagrams {
    callers: Arc<Mutex<Vec<Caller>>>,
    /// Once this is there, the first caller is cut off.
    end: Arc<Mutex<Option<PathBuf>>>,
    /// Nothing is passed on for now.
    is_closed: Arc<AtomicBool>,
}

#[derive(Clone)]
struct Caller {
    address: SocketAddr,
    /// As whom it is known to the endpoint.
    back: Arc<UdpSocket>,
    bytes: Arc<AtomicU64>,
    is_cut: Arc<AtomicBool>,
}

impl Datagrams {
    /// As [`Relay::new`].
    pub(crate) fn new(coordinates: &str) -> (Self, String) {
        let (front, silent) = both();
        // Nobody answers there, as long as the process of the tests lives.
        std::mem::forget(silent);
        let (port, coordinates) = lead_to(front.local_addr().unwrap().port(), coordinates);
        (Self::on(front, port), coordinates)
    }

    fn on(front: UdpSocket, port: u16) -> Self {
        let front = Arc::new(front);
        let relay = Self::default();
        let passing = relay.clone();
        // It ends with the process of the tests.
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok((count, from)) = front.recv_from(&mut buffer) {
                if passing.is_closed.load(Ordering::Acquire) {
                    continue;
                }
                let mut callers = passing.callers.lock().unwrap();
                let known = callers.iter().find(|caller| caller.address == from);
                let caller = match known {
                    Some(caller) => caller,
                    None => {
                        callers.push(Caller::new(from, port, &front));
                        callers.last().unwrap()
                    }
                };
                if caller.address == callers[0].address && passing.is_at_end() {
                    caller.is_cut.store(true, Ordering::Release);
                }
                caller.pass(&buffer[..count], |bytes| caller.back.send(bytes));
            }
        });
        relay
    }

    /// From now on datagrams are passed on.
    pub(crate) fn open(&self) {
        self.is_closed.store(false, Ordering::Release);
    }

    /// The first caller is not heard any more once this exists: nothing is passed on that was
    /// said after.
    pub(crate) fn cut_when_there_is(&self, path: &Path) {
        *self.end.lock().unwrap() = Some(path.to_owned());
    }

    fn is_at_end(&self) -> bool {
        let end = self.end.lock().unwrap();
        end.as_ref().is_some_and(|path| path.exists())
    }

    pub(crate) fn count(&self) -> usize {
        self.callers.lock().unwrap().len()
    }

    pub(crate) fn bytes(&self, caller: usize) -> u64 {
        let callers = self.callers.lock().unwrap();
        let caller = callers.get(caller);
        caller.map_or(0, |caller| caller.bytes.load(Ordering::Relaxed))
    }

    /// Nothing is passed on any more, either way: silence.
    pub(crate) fn cut(&self, caller: usize) {
        let callers = self.callers.lock().unwrap();
        callers[caller].is_cut.store(true, Ordering::Release);
    }
}

impl Caller {
    fn new(address: SocketAddr, port: u16, front: &Arc<UdpSocket>) -> Self {
        let back = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        back.connect(("127.0.0.1", port)).unwrap();
        let caller = Self {
            address,
            back: Arc::new(back),
            bytes: Arc::default(),
            is_cut: Arc::default(),
        };
        let (answers, front) = (caller.clone(), Arc::clone(front));
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            // An endpoint that has left is silence too.
            while let Ok(count) = answers.back.recv(&mut buffer) {
                answers.pass(&buffer[..count], |bytes| front.send_to(bytes, address));
            }
        });
        caller
    }

    fn pass(&self, bytes: &[u8], send: impl Fn(&[u8]) -> std::io::Result<usize>) {
        if self.is_cut.load(Ordering::Acquire) {
            return;
        }
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        // As on any network, it may be lost.
        let _ = send(bytes);
    }
}
