//! Either end killed at any moment, and what it left damaged: the next run ends with the file.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Process, World, announced, beside, bytes, client, run};
use crate::trees::assert_same;

/// In all, shared by the workers.
const KILLS: usize = 50;
const WORKERS: usize = 10;

/// Some blocks, and a short one.
const SIZE: usize = (40 << 20) + 123;

#[test]
fn either_end_killed_at_fifty_random_moments() {
    kill_all(&Content::File(bytes(SIZE)));
}

#[test]
fn either_end_of_a_tree_killed_at_fifty_random_moments() {
    kill_all(&Content::Tree);
}

fn kill_all(content: &Content) {
    let seed = std::env::var("STREAMER_TEST_SEED").ok();
    let seed = seed.map_or_else(a_seed, |seed| seed.parse().unwrap());
    eprintln!("repeat with STREAMER_TEST_SEED={seed}");
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let random = Random(seed + worker as u64);
            scope.spawn(move || Worker::new(random, content).kill(KILLS / WORKERS));
        }
    });
}

enum Content {
    File(Vec<u8>),
    Tree,
}

impl Content {
    fn make(&self, source: &Path) {
        match self {
            Self::File(bytes) => std::fs::write(source, bytes).unwrap(),
            Self::Tree => {
                for directory in 0..10 {
                    let directory = source.join(format!("{directory}/deeper"));
                    std::fs::create_dir_all(&directory).unwrap();
                    for number in 0..30 {
                        let small = bytes(number * 1000);
                        std::fs::write(directory.join(number.to_string()), small).unwrap();
                    }
                    let large = bytes((2 << 20) + 123);
                    std::fs::write(directory.join("large"), large).unwrap();
                }
            }
        }
    }
}

/// From the clock: each run of the tests tries other moments.
fn a_seed() -> u64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::from(since.subsec_nanos())
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// The same command is typed again.
    Client,
    /// It is started again with its secret, and the client that still runs finds it.
    Endpoint,
    /// Both; what they left is damaged; new coordinates.
    Both,
}

struct Worker<'a> {
    random: Random,
    world: World,
    source: PathBuf,
    target: PathBuf,
    content: &'a Content,
    /// Of an undisturbed transfer.
    duration: Duration,
}

impl<'a> Worker<'a> {
    fn new(random: Random, content: &'a Content) -> Self {
        let world = World::new();
        let (source, target) = (world.path("source"), world.path("target"));
        content.make(&source);
        let mut worker = Self {
            random,
            world,
            source,
            target,
            content,
            duration: Duration::ZERO,
        };
        let (endpoint, coordinates) = announced(worker.endpoint("receive", "undisturbed"));
        let begun = Instant::now();
        run(worker.client("receive", "quic", &coordinates)).assert(0, &[]);
        worker.duration = begun.elapsed();
        endpoint.wait().assert(0, &[]);
        worker.assert_exact();
        worker
    }

    fn kill(&mut self, times: usize) {
        for _ in 0..times {
            let verb = self.random.one_of(&["receive", "send"]);
            let transport = self.random.one_of(&["quic", "tls"]);
            let victims = [Victim::Client, Victim::Endpoint, Victim::Both];
            let victim = self.random.one_of(&victims);
            let moment = self.random.below(self.duration.as_micros() as u64);
            let moment = Duration::from_micros(moment);
            eprintln!("{victim:?} killed {moment:?} into '{verb}' over {transport}");
            self.round(verb, transport, victim, moment);
            self.assert_exact();
        }
    }

    fn round(&mut self, verb: &str, transport: &str, victim: Victim, moment: Duration) {
        let secret = format!("secret-of-round-{}", self.random.below(u64::MAX));
        let (endpoint, coordinates) = announced(self.endpoint(verb, &secret));
        let client = Process::start(self.client(verb, transport, &coordinates));
        // This is the random moment itself: nothing is waited for.
        std::thread::sleep(moment);
        match victim {
            Victim::Client => {
                client.signal(Signal::KILL);
                drop(client);
                self.again(verb, transport, endpoint, &coordinates);
            }
            Victim::Endpoint => {
                endpoint.signal(Signal::KILL);
                drop(endpoint);
                self.revived(verb, &secret, client);
            }
            Victim::Both => {
                drop((client, endpoint));
                if self.target.exists() {
                    return;
                }
                match self.content {
                    Content::File(_) => self.damage(),
                    Content::Tree => self.change_source(),
                }
                let (endpoint, coordinates) = announced(self.endpoint(verb, "another-secret"));
                self.again(verb, transport, endpoint, &coordinates);
            }
        }
    }

    /// The same command, to the end.
    fn again(&mut self, verb: &str, transport: &str, mut endpoint: Process, coordinates: &str) {
        if !endpoint.is_running() {
            // The receipt had been given, and the client was killed after it.
            return endpoint.wait().assert(0, &[]);
        }
        if self.target.exists() && !beside(&self.target, ".part.journal").exists() {
            // It was killed when nothing was left to do; the endpoint may not have left yet.
            return endpoint.wait().assert(0, &[]);
        }
        // Also when it was killed between the name and the receipt.
        let exit = run(self.client(verb, transport, coordinates));
        if exit.status.code() == Some(10) && verb == "send" && self.target.exists() {
            // The endpoint left meanwhile, with a receipt that nobody heard.
            return endpoint.wait().assert(0, &[]);
        }
        if exit.status.code() != Some(0) {
            eprintln!("{exit:#?}");
            panic!("its endpoint: {:#?}", endpoint.wait());
        }
        assert!(exit.stdout.contains("verified: "), "{exit:#?}");
        endpoint.wait().assert(0, &[]);
        assert!(!beside(&self.target, ".part.journal").exists());
    }

    /// The same endpoint once more, for a client that has not been told.
    fn revived(&self, verb: &str, secret: &str, mut client: Process) {
        // The proof of a named file is kept until the receipt was heard; of a tree, an empty directory may
        // be left then.
        let mut proof = beside(&self.target, ".part.journal");
        if proof.is_dir() {
            proof.push("complete");
        }
        let is_proof_kept = proof.exists();
        if self.target.exists() && !(is_proof_kept && client.is_running()) {
            return client.wait().assert(0, &[]);
        }
        let (endpoint, _) = announced(self.endpoint(verb, secret));
        if !client.is_running() {
            return client.wait().assert(0, &[]);
        }
        // Also when it has the file already, and came back for the receipt only.
        client.wait().assert(0, &[]);
        drop(endpoint);
    }

    /// What a crash of the machine may do to the files that are left.
    fn damage(&mut self) {
        for suffix in [".part.journal", ".part"] {
            let path = beside(&self.target, suffix);
            let Ok(mut left) = std::fs::read(&path) else {
                continue;
            };
            let at = self.random.below(left.len() as u64 + 1) as usize;
            match self.random.below(3) {
                0 => left.truncate(at),
                1 if at < left.len() => left[at] ^= 1 << self.random.below(8),
                _ => continue,
            }
            std::fs::write(&path, left).unwrap();
        }
    }

    /// The next run finds names that it does not offer, and others.
    fn change_source(&mut self) {
        let directory = self.source.join(self.random.below(10).to_string());
        let name = format!("{}", self.random.below(30));
        let old = directory.join("deeper").join(name);
        let new = directory.join(self.random.below(u64::MAX).to_string());
        // It may have been renamed already.
        if old.exists() {
            std::fs::rename(old, new).unwrap();
        }
    }

    fn endpoint(&self, verb: &str, secret: &str) -> Command {
        let (verb, path) = match verb {
            "receive" => ("send", &self.source),
            _ => ("receive", &self.target),
        };
        let mut command = self.world.server(&[], verb, path);
        command.env("STREAMER_SECRET", secret);
        command
    }

    fn client(&self, verb: &str, transport: &str, coordinates: &str) -> Command {
        let path = match verb {
            "receive" => &self.target,
            _ => &self.source,
        };
        let options = ["--transport", transport, "--wait", "20s"];
        client(coordinates, &options, verb, path)
    }

    #[track_caller]
    fn assert_exact(&self) {
        match self.content {
            Content::File(content) => {
                let there = std::fs::read(&self.target).unwrap();
                assert!(there == *content, "wrong bytes");
            }
            Content::Tree => assert_same(&self.source, &self.target),
        }
        remove(&self.target);
        for suffix in [".part", ".part.journal"] {
            remove(&beside(&self.target, suffix));
        }
    }
}

fn remove(path: &Path) {
    // A journal is left when its process was killed right after it gave the file its name.
    let _ = match path.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    };
}
