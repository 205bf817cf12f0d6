//! Control messages to bytes and back: a small one, and the largest batches of the protocol.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use streamer_core::Hash;
use streamer_core::limits::{BATCH_MAX_ENTRIES, HELD_MAX_HASHES};
use streamer_core::path::RelPath;
use streamer_core::wire::codec::{decode, encode};
use streamer_core::wire::message::{
    Complete, Entry, EntryKind, EntryRoot, Held, Message, Offer, Timestamp,
};

fn complete() -> Message {
    Message::Complete(Complete {
        roots: vec![EntryRoot {
            entry: 7,
            root: Hash::of(b"root"),
        }],
    })
}

fn offer() -> Message {
    let entry = |number: usize| Entry {
        path: RelPath::try_from(format!("run/0001/{number:06}.dat").into_bytes())
            .expect("a valid path"),
        kind: EntryKind::File { size: 10 << 10 },
        mode: 0o644,
        modified: Timestamp {
            seconds: 1_700_000_000,
            nanos: 123_456_789,
        },
        has_holes: false,
    };
    Message::Offer(Offer {
        first: 0,
        entries: (0..BATCH_MAX_ENTRIES).map(entry).collect(),
        last: true,
    })
}

fn held() -> Message {
    let hashes = (0..HELD_MAX_HASHES)
        .map(|number| Hash::of(&number.to_le_bytes()))
        .collect();
    Message::Held(Held {
        entry: 7,
        first_block: 0,
        hashes,
    })
}

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    for (name, message) in [
        ("complete", complete()),
        ("offer of a full batch", offer()),
        ("held of most hashes", held()),
    ] {
        let frame = encode(&message).expect("within the bounds");
        let decoded = decode(&frame).expect("our own frame");
        assert!(
            decoded == Some((message.clone(), frame.len())),
            "what is read is what was written"
        );
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(format!("encode {name}"), |b| {
            b.iter(|| encode(black_box(&message)));
        });
        group.bench_function(format!("decode {name}"), |b| {
            b.iter(|| decode(black_box(&frame)));
        });
    }
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
