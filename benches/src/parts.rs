//! What the parts of a transfer cost on this machine, each by itself and with every core busy:
//! what no tool can save that reads, hashes and encrypts at one end, decrypts, hashes and writes at
//! the other.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use serde::Serialize;

use crate::comparison::touch_memory;
use crate::report::median;
use crate::workload::Load;

/// One thing that has to be done to every byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// From a file in memory.
    Read,
    /// BLAKE3.
    Hash,
    /// AES-128-GCM in records of TLS.
    Seal,
    /// The same, back.
    Open,
    /// Both ends of a TCP connection on the loopback address.
    Socket,
    /// To a new file in memory.
    Write,
}

impl Part {
    /// In the order in which a byte meets them.
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::Hash,
        Self::Seal,
        Self::Socket,
        Self::Open,
        Self::Write,
    ];

    /// How often each byte has it done.
    pub fn times(self) -> u32 {
        match self {
            Self::Hash => 2,
            _ => 1,
        }
    }

    /// For a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read a file",
            Self::Hash => "hash, BLAKE3",
            Self::Seal => "seal, AES-128-GCM",
            Self::Socket => "through a TCP socket",
            Self::Open => "open, AES-128-GCM",
            Self::Write => "write a new file",
        }
    }
}

/// Medians over the rounds.
#[derive(Debug, Serialize)]
pub struct Costs {
    /// Processor seconds, user and system, for each GiB, when done once.
    pub parts: Vec<(Part, f64)>,
    /// Seconds that a copy of one GiB takes by itself, as `cp` does it.
    pub copy_seconds: f64,
    /// Cores that were busy.
    pub cores: usize,
}

impl Costs {
    /// Takes them, with files of `bytes` in the empty directory `dir`, for each core one.
    ///
    /// # Errors
    /// If a file cannot be written or read, or there is no loopback interface.
    /// With no rounds all figures are 0.
    pub fn measure(dir: &Path, bytes: u64, rounds: u32) -> io::Result<Self> {
        let cores = thread::available_parallelism()?.get();
        let source = dir.join("source");
        Load::File { bytes }.make(&source)?;
        let bench = Bench {
            dir,
            source,
            bytes,
            cores,
        };
        let mut parts = Part::ALL.map(|part| (part, Vec::new()));
        let mut copies = Vec::new();
        for _ in 0..rounds {
            for (part, costs) in &mut parts {
                costs.push(bench.cost(*part)?);
            }
            copies.push(bench.copy()?);
        }
        Ok(Self {
            parts: parts
                .into_iter()
                .map(|(part, costs)| (part, median(&costs).unwrap_or_default()))
                .collect(),
            copy_seconds: median(&copies).unwrap_or_default(),
            cores,
        })
    }

    /// Processor seconds of all parts together, for each GiB.
    pub fn all(&self) -> f64 {
        let cost = |(part, once): &(Part, f64)| f64::from(part.times()) * once;
        self.parts.iter().map(cost).sum()
    }

    /// The rate as a share of that of a copy, were all cores busy all the time with nothing
    /// but the parts, both ends on this machine.
    pub fn best_of_copy(&self) -> f64 {
        self.copy_seconds / (self.all() / self.cores as f64)
    }
}

struct Bench<'a> {
    dir: &'a Path,
    source: PathBuf,
    bytes: u64,
    cores: usize,
}

impl Bench<'_> {
    /// Processor seconds for each GiB.
    fn cost(&self, part: Part) -> io::Result<f64> {
        if part == Part::Write {
            touch_memory(&self.target(0), self.bytes * self.cores as u64)?;
        }
        let spent = thread::scope(|scope| -> io::Result<f64> {
            let threads: Vec<_> = (0..self.cores)
                .map(|core| scope.spawn(move || self.run(part, core)))
                .collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|_| Err(io::Error::other("panic")))
                })
                .sum()
        })?;
        for core in 0..self.cores {
            match fs::remove_file(self.target(core)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(spent / (self.cores as f64 * gib(self.bytes)))
    }

    fn target(&self, core: usize) -> PathBuf {
        self.dir.join(format!("target-{core}"))
    }

    /// Processor seconds of one core's share.
    fn run(&self, part: Part, core: usize) -> io::Result<f64> {
        match part {
            Part::Read => {
                let (file, mut piece) = (File::open(&self.source)?, vec![0; PIECE_BYTES]);
                timed(|| {
                    self.offsets()
                        .try_for_each(|offset| file.read_exact_at(&mut piece, offset))
                })
            }
            Part::Hash => {
                let (mut hasher, piece) = (blake3::Hasher::new(), vec![7; PIECE_BYTES]);
                timed(|| {
                    for _ in self.offsets() {
                        hasher.update(black_box(&piece));
                    }
                    black_box(hasher.finalize());
                    Ok(())
                })
            }
            Part::Seal => self.seal_and_open().map(|[seal, _]| seal),
            Part::Open => self.seal_and_open().map(|[_, open]| open),
            Part::Socket => self.socket(core),
            Part::Write => {
                let (file, piece) = (File::create_new(self.target(core))?, vec![7; PIECE_BYTES]);
                timed(|| {
                    self.offsets()
                        .try_for_each(|offset| file.write_all_at(&piece, offset))
                })
            }
        }
    }

    fn offsets(&self) -> impl Iterator<Item = u64> {
        (0..self.bytes / PIECE_BYTES as u64).map(|piece| piece * PIECE_BYTES as u64)
    }

    fn seal_and_open(&self) -> io::Result<[f64; 2]> {
        let refused = |_| io::Error::other("the cipher refused");
        let key = UnboundKey::new(&AES_128_GCM, &[1; 16]).map_err(refused)?;
        let key = LessSafeKey::new(key);
        // Its own key, and nothing leaves this process.
        let nonce = || Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let mut records = vec![vec![7; RECORD_BYTES + MAX_TAG_LEN]; PIECE_BYTES / RECORD_BYTES];
        let (mut seal, mut open) = (0.0, 0.0);
        for _ in self.offsets() {
            seal += timed(|| {
                records.iter_mut().try_for_each(|record| {
                    let (plain, tag) = record.split_at_mut(RECORD_BYTES);
                    let made = key.seal_in_place_separate_tag(nonce(), Aad::empty(), plain);
                    tag.copy_from_slice(made.map_err(refused)?.as_ref());
                    Ok(())
                })
            })?;
            open += timed(|| {
                records.iter_mut().try_for_each(|record| {
                    let opened = key.open_in_place(nonce(), Aad::empty(), record);
                    opened.map(|_| ()).map_err(refused)
                })
            })?;
        }
        Ok([seal, open])
    }

    /// The first core's thread moves for all, with one more at the other end of each connection.
    fn socket(&self, core: usize) -> io::Result<f64> {
        if core > 0 {
            return Ok(0.0);
        }
        let before = processor_seconds()?;
        thread::scope(|scope| {
            let pairs = (self.cores / 2).max(1);
            let bytes = self.bytes * self.cores as u64 / pairs as u64;
            let pairs: Vec<_> = (0..pairs)
                .map(|_| scope.spawn(move || pass(bytes)))
                .collect();
            pairs.into_iter().try_for_each(|pair| {
                pair.join()
                    .unwrap_or_else(|_| Err(io::Error::other("panic")))
            })
        })?;
        Ok(processor_seconds()? - before)
    }

    /// Seconds for each GiB.
    fn copy(&self) -> io::Result<f64> {
        let target = self.target(0);
        touch_memory(&target, self.bytes)?;
        let begun = Instant::now();
        fs::copy(&self.source, &target)?;
        let seconds = begun.elapsed().as_secs_f64();
        fs::remove_file(&target)?;
        Ok(seconds / gib(self.bytes))
    }
}

/// Moves so many bytes over a connection.
fn pass(bytes: u64) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut writer = TcpStream::connect(listener.local_addr()?)?;
    let (mut reader, _) = listener.accept()?;
    let reading = thread::spawn(move || -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        while reader.read(&mut piece)? > 0 {}
        Ok(())
    });
    let piece = vec![7; PIECE_BYTES];
    for _ in 0..bytes / PIECE_BYTES as u64 {
        writer.write_all(&piece)?;
    }
    drop(writer);
    reading
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("panic")))
}

/// Seconds that a thread is at it, which it is all the time: nothing is waited for.
fn timed(work: impl FnOnce() -> io::Result<()>) -> io::Result<f64> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Of this process, user and system.
fn processor_seconds() -> io::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let times = [usage.user_time(), usage.system_time()];
    Ok(times
        .iter()
        .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
        .sum())
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

/// Read, hashed or written at a time, as ours does.
const PIECE_BYTES: usize = 256 << 10;

/// What a record of TLS holds.
const RECORD_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_share_follows_from_the_parts() {
        let costs = Costs {
            parts: Part::ALL.map(|part| (part, 0.1)).to_vec(),
            copy_seconds: 0.28,
            cores: 2,
        };
        assert!((costs.all() - 0.7).abs() < 1e-9, "the hash counts twice");
        assert!((costs.best_of_copy() - 0.8).abs() < 1e-9);
    }

    #[test]
    fn each_part_costs_something() {
        let dir = tempfile::tempdir().unwrap();
        let costs = Costs::measure(dir.path(), 4 << 20, 1).unwrap();
        for (part, once) in &costs.parts {
            assert!(*once > 0.0, "{part:?}");
        }
        assert!(costs.copy_seconds > 0.0);
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "only the source is left: {left:?}");
    }
}
