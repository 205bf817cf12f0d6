//! What the benchmarks share, and how the tools of `side-by-side` are run.
//!
//! ```text
//! benches/setup.sh                                           # once: the other tools, Debian
//! cargo run --release -p streamer-benches --bin side-by-side -- --require --json out.json
//! cargo run --release -p streamer-benches --bin side-by-side -- --set ethernet    # as root
//! cargo run --release -p streamer-benches --bin side-by-side -- --set small-files
//! cargo run --release -p streamer-benches --bin wan -- --wanem PATH              # as root
//! cargo run --release -p streamer-benches --bin parts        # what this machine allows
//! cargo bench -p streamer-benches                            # hashing, coordinates, messages
//! ```
//!
//! # What is compared
//! The same random bytes, from one path to another on memory-backed storage (`/dev/shm`), over
//! the loopback address. All tools run once in each round, one after the other; the table has
//! medians over the rounds. A tool that is not installed is named with how to install it; one
//! that fails, or whose result is not its source, makes the program fail.
//!
//! - *seconds*: from the start of the client to its end; the server is listening by then.
//! - *CPU*: user and system time of each end with all its processes, from start to end. For a
//!   server that includes its start-up: about 0.01 s for sshd and nginx, 0.3 s for Python.
//! - *peak MB*: the largest resident set of any one process of that end; at least the 2 to 4 MB
//!   of the process that starts it. Shared file pages count, as the kernel counts them.
//!
//! # How each tool is run
//! | name | client | server |
//! |---|---|---|
//! | `cp` | `cp SOURCE TARGET`, a tree with `-r` | none |
//! | `scp-download`, `scp-upload` | `scp -q -c aes128-gcm@openssh.com -F CONFIG` | `sshd -D -e -f CONFIG` |
//! | `curl-tls` | `curl --tlsv1.3 --http1.1 --cacert CERT --output TARGET https://localhost:PORT/source` | `nginx -c CONFIG`, one worker, `TLS_AES_128_GCM_SHA256` |
//! | `python-download` | `streamer receive --coordinates C --path TARGET` | `streamer server ... send --path SOURCE` |
//! | `python-upload` | `streamer send --coordinates C --path SOURCE` | `streamer server ... receive --path TARGET` |
//! | `python-no-deflate-…` (web-socket) | the same, its library told not to offer compression | the same |
//! | `our-client-…` (web-socket) | ours, `--transport ws` | as `python-…` |
//! | `our-endpoint-…` (web-socket) | as `python-…` | ours, `--allow-websocket` |
//! | `streamer-download`, `-upload` | the same verbs of ours, coordinates by `STREAMER_COORDINATES` | the same, secret by `STREAMER_SECRET` |
//! | `tar-ssh` (trees) | `ssh HOST tar c | tar x` | `sshd` as above |
//! | `rsync` (trees) | `rsync -a -e ssh HOST:SOURCE/ TARGET/` | `sshd` as above |
//!
//! `sshd` and `nginx` are started for each run as the current user, on a free port, with keys,
//! certificate and configuration in the run's own directory; `sshd` without PAM. The machine's
//! own configuration is neither read nor changed (as root, `/run/sshd` is made if it is
//! missing: sshd insists on it).
//!
//! The Python tool takes its secret on the command line only, and appends its own end-of-file
//! message to every file: its result is verified up to those 98 bytes, and the table says so.

pub mod binary;
pub mod comparison;
pub mod host;
pub mod interrupt;
pub mod lineup;
pub mod measure;
pub mod network;
pub mod parts;
pub mod peers;
pub mod relay;
pub mod report;
pub mod table;
pub mod warden;
pub mod workload;
