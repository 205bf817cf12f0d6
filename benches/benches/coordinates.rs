//! What happens once per transfer: coordinates read and written, identity and port order
//! derived from the secret.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use streamer_core::identity::{Side, pkcs8_key};
use streamer_core::port_order::port_order;
use streamer_core::{Coordinates, Operation, PortRange, TransferSecret, Transport};

fn sample() -> Coordinates {
    Coordinates {
        ports: PortRange::new(5665, 5670).expect("a valid range"),
        ips: vec!["192.0.2.17".to_owned(), "node17.example.org".to_owned()],
        secret: TransferSecret::generate().expect("randomness"),
        operation: Some(Operation::Send),
        transports: vec![Transport::Quic],
        job: None,
    }
}

fn text(c: &mut Criterion) {
    let coordinates = sample();
    let text = coordinates.encode();
    let parsed = Coordinates::parse(&text).expect("our own text");
    assert!(parsed == coordinates, "what is read is what was written");
    c.bench_function("coordinates/encode", |b| {
        b.iter(|| black_box(&coordinates).encode());
    });
    c.bench_function("coordinates/parse", |b| {
        b.iter(|| Coordinates::parse(black_box(&text)));
    });
}

fn derived(c: &mut Criterion) {
    let secret = sample().secret;
    c.bench_function("coordinates/identity key", |b| {
        b.iter(|| pkcs8_key(black_box(&secret), Side::Listener));
    });
    for (name, first, last) in [("6 ports", 5665, 5670), ("10000 ports", 30_000, 39_999)] {
        let range = PortRange::new(first, last).expect("a valid range");
        c.bench_function(&format!("coordinates/order of {name}"), |b| {
            b.iter(|| port_order(black_box(&secret), black_box(range)));
        });
    }
}

criterion_group!(benches, text, derived);
criterion_main!(benches);
