//! `smoke [SECONDS]`: every target for so many seconds on a stable compiler, with inputs that
//! are near to valid ones. It sees no coverage, so it replaces no fuzzer; it runs anywhere.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arbitrary::Unstructured;
use streamer_core::wire::codec::encode;
use streamer_fuzz::{codec, coordinates, session};

/// Name, what is run, and where its inputs come from.
const TARGETS: [(&str, fn(&[u8]), fn(&mut Random) -> Vec<u8>); 3] = [
    ("codec", codec::run, frame),
    ("coordinates", coordinates::run, text),
    ("session", session::run, steps),
];

fn main() -> ExitCode {
    let seconds = std::env::args().nth(1).map_or(Ok(10), |text| text.parse());
    let Ok(seconds) = seconds else {
        eprintln!("usage: smoke [SECONDS]");
        return ExitCode::from(2);
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = now.map_or(1, |now| now.as_nanos() as u64);
    for (name, run, make) in TARGETS {
        let mut random = Random(seed);
        let (begun, mut inputs) = (Instant::now(), 0u64);
        while begun.elapsed() < Duration::from_secs(seconds) {
            // The clock costs more than an input.
            for _ in 0..100 {
                let input = mutated(make(&mut random), &mut random);
                if catch_unwind(AssertUnwindSafe(|| run(&input))).is_err() {
                    eprintln!("{name} fails on these bytes: {input:02x?}");
                    return ExitCode::FAILURE;
                }
                inputs += 1;
            }
        }
        println!("{name}: {inputs} inputs");
    }
    ExitCode::SUCCESS
}

/// A frame, or the body of one.
fn frame(random: &mut Random) -> Vec<u8> {
    let choices = random.bytes(512);
    let message = session::any_message(&mut Unstructured::new(&choices));
    let frame = message.ok().and_then(|message| encode(&message).ok());
    match frame {
        Some(frame) if random.below(2) == 0 => frame[4..].to_vec(),
        Some(frame) => frame,
        None => choices,
    }
}

/// Coordinates as they are before the base64, of tokens that mean something.
fn text(random: &mut Random) -> Vec<u8> {
    let mut tokens: Vec<&str> = include_str!("../../coordinates.dict")
        .lines()
        .filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'))
        .collect();
    tokens.extend([
        "{", "}", "[", "]", ",", ":", "1", "2", "65535", "\"\"", "null",
    ]);
    if random.below(3) == 0 {
        let count = random.below(20);
        let words = (0..count).map(|_| tokens[random.below(tokens.len())]);
        return words.collect::<String>().replace("\\\"", "\"").into_bytes();
    }
    let (first, last) = (random.below(70_000), random.below(70_000));
    let secret = "s".repeat(random.below(60));
    let operation = ["send", "receive", "other"][random.below(3)];
    format!(
        "{{\"ports\":[{first},{last}],\"ips\":[\"localhost\",\"::1\"],\"secret\":\"{secret}\",\
         \"operation\":\"{operation}\",\"v\":2,\"transports\":[\"quic\",\"tls\"],\
         \"key\":\"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc\"}}"
    )
    .into_bytes()
}

/// Choices that become messages and events.
fn steps(random: &mut Random) -> Vec<u8> {
    let length = random.below(1024);
    random.bytes(length)
}

/// With up to four faults in it, or none.
fn mutated(mut input: Vec<u8>, random: &mut Random) -> Vec<u8> {
    for _ in 0..random.below(5) {
        let at = random.below(input.len() + 1);
        match random.below(5) {
            0 => input.truncate(at),
            1 => input.insert(at, random.next() as u8),
            2 => {
                let copy = input[at..].to_vec();
                input.extend(copy);
            }
            _ if at == input.len() => {}
            3 => input[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            _ => input[at] ^= 1 << random.below(8),
        }
    }
    input
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let words = length.div_ceil(8);
        let mut bytes: Vec<u8> = (0..words).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }
}
