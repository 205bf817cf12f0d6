//! A relay between a client and its endpoint, which a test owns.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;

use crate::coordinates::decode;

/// Passes TCP connections on to an endpoint, and cuts them.
#[derive(Clone, Default)]
pub(crate) struct Relay(Arc<Mutex<Vec<Passed>>>);

struct Passed {
    ends: [TcpStream; 2],
    bytes: Arc<AtomicU64>,
}

impl Relay {
    /// In front of the endpoint of these coordinates; returns those that lead here.
    pub(crate) fn new(coordinates: &str) -> (Self, String) {
        let mut wire = decode(coordinates);
        let port = u16::try_from(wire["ports"][0].as_u64().unwrap()).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let ours = listener.local_addr().unwrap().port();
        wire["ports"] = serde_json::json!([ours, ours]);
        wire["ips"] = serde_json::json!(["127.0.0.1"]);
        let relay = Self::default();
        let accepting = relay.clone();
        // It ends with the process of the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(there) = TcpStream::connect(("localhost", port)) else {
                    continue;
                };
                accepting.pass(stream.unwrap(), there);
            }
        });
        (relay, BASE64_URL_SAFE.encode(wire.to_string()))
    }

    fn pass(&self, here: TcpStream, there: TcpStream) {
        let bytes = Arc::<AtomicU64>::default();
        for [from, to] in [[&here, &there], [&there, &here]] {
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let bytes = Arc::clone(&bytes);
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    bytes.fetch_add(count as u64, Ordering::Relaxed);
                    if to.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Write);
            });
        }
        let ends = [here, there];
        self.0.lock().unwrap().push(Passed { ends, bytes });
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(crate) fn bytes(&self, connection: usize) -> u64 {
        let passed = self.0.lock().unwrap();
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
        for end in &self.0.lock().unwrap()[connection].ends {
            // It may have ended by itself.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}
