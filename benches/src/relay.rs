//! A long way between two ends on one machine: a UDP port that passes everything on, late.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Largest datagram.
const DATAGRAM_BYTES: usize = 65_536;

/// How long a silent socket keeps its thread from noticing that the relay is gone.
const GLANCE: Duration = Duration::from_millis(200);

/// Passes datagrams between whoever calls its port and one server. Serves one client, the
/// latest; ends when dropped.
#[derive(Debug)]
pub struct Relay {
    _alive: Arc<()>,
}

impl Relay {
    /// Listens on a port of the loopback address; each way takes half of `round_trip`.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn start(port: u16, server: SocketAddr, round_trip: Duration) -> io::Result<Self> {
        let front = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?);
        let back = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
        back.connect(server)?;
        let alive = Arc::new(());
        let client = Arc::new(Mutex::new(None));
        let half = round_trip / 2;

        let (to_server, late) = channel();
        pass_on(late, {
            let back = Arc::clone(&back);
            move |bytes| back.send(bytes)
        });
        let (to_client, late) = channel();
        pass_on(late, {
            let (front, client) = (Arc::clone(&front), Arc::clone(&client));
            move |bytes| match *lock(&client) {
                Some(client) => front.send_to(bytes, client),
                None => Ok(0),
            }
        });
        listen(&front, half, to_server, &alive, move |from| {
            *lock(&client) = Some(from)
        })?;
        listen(&back, half, to_client, &alive, |_| ())?;
        Ok(Self { _alive: alive })
    }
}

type Late = (Instant, Vec<u8>);

/// Takes what comes, until the relay is dropped.
fn listen(
    socket: &Arc<UdpSocket>,
    delay: Duration,
    late: Sender<Late>,
    alive: &Arc<()>,
    mut note: impl FnMut(SocketAddr) + Send + 'static,
) -> io::Result<()> {
    socket.set_read_timeout(Some(GLANCE))?;
    let (socket, alive) = (Arc::clone(socket), Arc::downgrade(alive));
    thread::spawn(move || {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        while alive.strong_count() > 0 {
            // Errors are silence, or a server that is not there yet.
            let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            note(from);
            if late
                .send((Instant::now() + delay, buffer[..length].to_vec()))
                .is_err()
            {
                return;
            }
        }
    });
    Ok(())
}

/// Sends each datagram when it is due: they are due in the order in which they came.
fn pass_on(late: Receiver<Late>, send: impl Fn(&[u8]) -> io::Result<usize> + Send + 'static) {
    thread::spawn(move || {
        for (due, bytes) in late {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            // As on any network.
            let _ = send(&bytes);
        }
    });
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_and_its_answer_take_a_round_trip() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let probe = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = probe.local_addr().unwrap().port();
        drop(probe);
        let round_trip = Duration::from_millis(80);
        let _relay = Relay::start(port, server.local_addr().unwrap(), round_trip).unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let begun = Instant::now();
        client
            .send_to(b"there", (Ipv4Addr::LOCALHOST, port))
            .unwrap();
        let mut buffer = [0; 16];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        server.send_to(&buffer[..length], from).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 5);
        assert!(begun.elapsed() >= round_trip);
    }
}
