//! Connections of a transfer that are cut one by one, by a relay in the middle.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;

use crate::coordinates::decode;
use crate::harness::{Process, World, client, wait_until};

const MIB: usize = 1 << 20;

/// The first connection controls; lanes follow.
const CONTROL: usize = 0;

/// Passes TCP connections on to an endpoint, and cuts them.
#[derive(Clone, Default)]
struct Relay(Arc<Mutex<Vec<Passed>>>);

struct Passed {
    ends: [TcpStream; 2],
    bytes: Arc<AtomicU64>,
}

impl Relay {
    /// In front of the endpoint of these coordinates; returns those that lead here.
    fn new(coordinates: &str) -> (Self, String) {
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

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn bytes(&self, connection: usize) -> u64 {
        let passed = self.0.lock().unwrap();
        passed
            .get(connection)
            .map_or(0, |passed| passed.bytes.load(Ordering::Relaxed))
    }

    /// What is on its way is lost.
    fn cut(&self, connection: usize) {
        for end in &self.0.lock().unwrap()[connection].ends {
            // It may have ended by itself.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn lost_lanes_are_dialled_again_and_their_blocks_go_over_others() {
    for (verb, there) in [("receive", "send"), ("send", "receive")] {
        let world = World::new();
        let source = world.file("source", 40 * MIB + 1);
        let target = world.path("target");
        let (theirs, mine) = match verb {
            "receive" => (&source, &target),
            _ => (&target, &source),
        };
        let (endpoint, coordinates) = world.endpoint(&[], there, theirs);
        let (relay, coordinates) = Relay::new(&coordinates);
        let options = ["--json", "--transport", "tls", "--connections", "3"];
        let slowly = ["--limit-rate", "20MiB"];
        let options = [&options[..], &slowly].concat();
        let client = Process::start(client(&coordinates, &options, verb, mine));
        for lane in CONTROL + 1..=CONTROL + 2 {
            wait_until("bytes on a lane", || relay.bytes(lane) > 3 * MIB as u64 / 2);
            relay.cut(lane);
        }
        // All that live.
        wait_until("two more lanes", || relay.count() == 6);
        wait_until("bytes on a new one", || relay.bytes(5) > MIB as u64 / 2);
        (CONTROL + 3..=CONTROL + 5).for_each(|lane| relay.cut(lane));
        let exit = client.wait();
        exit.assert(0, &[]);
        endpoint.wait().assert(0, &[]);
        assert!(std::fs::read(&source).unwrap() == std::fs::read(&target).unwrap());
        let summary = exit.message("summary");
        assert_eq!(summary["retries"], 0, "{exit:#?}");
        assert!(summary["connections"].as_u64().unwrap() > 5, "{exit:#?}");
    }
}
