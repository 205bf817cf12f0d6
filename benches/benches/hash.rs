//! BLAKE3 as it runs on the byte path: per block, in pieces of the read buffer, and the root
//! over all blocks.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use streamer_core::Hash;
use streamer_core::blocks::BlockPlan;
use streamer_core::hash::{BlockHasher, root_of};

/// File of many blocks, so that a block is hashed as a subtree.
const FILE_BYTES: u64 = 1 << 30;

fn block(c: &mut Criterion) {
    let plan = BlockPlan::new(FILE_BYTES).expect("a valid size");
    let bytes = vec![0xa5; usize::try_from(plan.len(1)).expect("a block fits in memory")];
    let mut group = c.benchmark_group("hash/block");
    group.throughput(Throughput::Bytes(plan.len(1)));
    // Packets on Ethernet and on loopback, and the buffers of the sender.
    for piece in [1452, 16 << 10, 64 << 10, 256 << 10] {
        group.bench_function(BenchmarkId::new("pieces of", piece), |b| {
            b.iter(|| {
                let mut hasher = BlockHasher::new(plan, 1);
                for piece in black_box(&bytes).chunks(piece) {
                    hasher.update(piece);
                }
                hasher.finish()
            });
        });
    }
    group.finish();
}

fn root(c: &mut Criterion) {
    let mut group = c.benchmark_group("hash/root");
    for count in [2_u64, 1024, 16_384] {
        let blocks: Vec<Hash> = (0..count).map(|n| Hash::of(&n.to_le_bytes())).collect();
        group.throughput(Throughput::Elements(count));
        group.bench_with_input(BenchmarkId::new("blocks", count), &blocks, |b, blocks| {
            b.iter(|| root_of(black_box(blocks)));
        });
    }
    group.finish();
}

criterion_group!(benches, block, root);
criterion_main!(benches);
