#!/usr/bin/env bash
# Runs every check and test, and stops at the first that fails. On a fresh Debian with Rust
# nothing else has to be typed: what is missing is installed (as root).
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TERM_COLOR=never
step() { printf '\n== %s (%ss)\n' "$*" "$SECONDS"; }

need() { # need COMMAND PACKAGE: installs a Debian package unless the command is there
  command -v "$1" >/dev/null || install_package "$2"
}
install_package() {
  [ "$(id -u)" = 0 ] || { echo "missing: install the Debian package $1" >&2; exit 1; }
  [ -n "${apt_updated:-}" ] || { apt-get update -q; apt_updated=1; }
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$1"
}

step "what the tests need"
need cc gcc
need setpriv util-linux
need unshare util-linux
need script bsdutils
need ip iproute2
need curl curl
need tcsh tcsh
need fish fish
need python3 python3
python3 -c 'import ensurepip, venv' 2>/dev/null || install_package python3-venv

step "format"
cargo fmt --all --check

step "the pure part builds alone"
cargo clippy -q -p streamer-core --no-default-features -- -D warnings

step "lints"
cargo clippy -q --workspace --all-targets -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc -q --workspace --no-deps --document-private-items

step "a cluster"
# Where its users can read it, which they could not under a home directory.
STREAMER_TEST_CLUSTER=$(mktemp -d /tmp/firecrest-cluster.XXXXXX)
export STREAMER_TEST_CLUSTER
NEWER_CLUSTER=$(mktemp -d /tmp/firecrest-newer-cluster.XXXXXX)
clean() {
  tests/cluster/cluster.sh "$STREAMER_TEST_CLUSTER" down
  [ ! -e "$NEWER_CLUSTER/base-port" ] || tests/cluster/newer.sh "$NEWER_CLUSTER" down
  rm -rf "$STREAMER_TEST_CLUSTER" "$NEWER_CLUSTER"
}
trap clean EXIT
tests/cluster/cluster.sh "$STREAMER_TEST_CLUSTER" up

step "tests"
# The end-to-end tests start these programs.
cargo build -q -p streamer-cli -p api-server
tests/python.sh
tests/wormhole.sh
# Many of them wait for the other side most of the time.
RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))} cargo test -q --workspace

step "ten seconds of each fuzz target"
cargo run -q --release --manifest-path fuzz/Cargo.toml --no-default-features --bin smoke -- 10

step "existing clients, and recorded answers"
tests/clients/run.sh "$STREAMER_TEST_CLUSTER"

step "benchmarks still run"
# Once each, as built for tests: whether they run, not how fast.
cargo test -q -p streamer-benches --benches

step "licences, sources, duplicates"
if ! cargo deny --version >/dev/null 2>&1; then
  # Unoptimised: it takes longer to build than to run.
  cargo install -q --debug cargo-deny --locked --no-default-features
fi
cargo deny --log-level error check bans licenses sources

step "the Slurm of the next Debian"
newer=0
tests/cluster/newer.sh "$NEWER_CLUSTER" up || newer=$?
case $newer in
  0)
    STREAMER_TEST_CLUSTER=$NEWER_CLUSTER cargo test -q --workspace --test it -- \
      slurm_by_ slurm_jobs slurm_rest on_slurm_streamer_moves_files on_slurm_a_job_that_was_killed
    ;;
  77) echo "skipped: no root file system of it can be made here" ;;
  *) echo "it did not come up: newer.sh ended with $newer" >&2; exit 1 ;;
esac

step "the main job, as the README says it"
cargo build -q --release
./target/release/firecrest-api demo --check

step "the static binary, as the README builds it"
RUSTFLAGS="-C target-feature=+crt-static" cargo build -q --release -p streamer-cli --target x86_64-unknown-linux-gnu
static=target/x86_64-unknown-linux-gnu/release/streamer
ldd "$static" | grep -q "statically linked"
"$static" --version
# It needs nothing of the node where it runs.
STREAMER_TEST_PROGRAM="$PWD/$static" cargo test -q --workspace --test it bare_node

step "the configuration that docs/API.md shows"
sed -n '/^```yaml/,/^```$/p' docs/API.md | grep -v '^```' >target/minimal.yaml
./target/release/firecrest-api check-config --config target/minimal.yaml

step "all passed"
