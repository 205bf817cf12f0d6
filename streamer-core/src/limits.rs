//! Every bound on what comes from outside. A length from a peer never sizes an allocation
//! beyond these.

use core::time::Duration;

/// Longest coordinates text accepted, in bytes: 64 names of 253 bytes fit after base64.
pub const COORDINATES_TEXT_MAX_BYTES: usize = 32 * 1024;

/// Most addresses in coordinates.
pub const COORDINATES_MAX_IPS: usize = 64;

/// Longest address or host name in coordinates, in bytes (RFC 1035 § 2.3.4).
pub const HOST_NAME_MAX_BYTES: usize = 253;

/// Longest name of a system, and longest id of a job, in coordinates, in bytes.
pub const JOB_NAME_MAX_BYTES: usize = 128;

/// Longest secret text accepted, in bytes.
pub const SECRET_TEXT_MAX_BYTES: usize = 1024;

/// Shortest given secret accepted beyond loopback, in URL-safe characters (128 bits).
pub const SECRET_TEXT_MIN_CHARS: usize = 22;

/// Largest message on the control stream, in bytes, without its length prefix.
pub const MESSAGE_MAX_BYTES: usize = 512 * 1024;

/// Most entries in one offer, and verdicts in one answer.
pub const BATCH_MAX_ENTRIES: usize = 1024;

/// Most entries offered and not yet finished: bounds what both sides remember of a tree.
pub const WINDOW_MAX_ENTRIES: usize = 4096;

/// Most entries between the first one that is open and the last one that is offered, while the
/// hash of the tree can be told: what is over in between waits for it. Some seconds' worth of small
/// files.
pub const TREE_SPAN_MAX_ENTRIES: usize = 32_768;

/// Most bytes of names and hashes that wait like that: beyond it, with very long names, a tree has
/// no hash.
pub const TREE_WAITING_MAX_BYTES: usize = 16 << 20;

/// Most bytes of messages that wait until the other side takes them. What a window of entries makes
/// one side say fits: paths and targets of the greatest length are 32 MiB, hashes of the partials
/// that are open at a time as well, and the blocks of a lost lane 12 MiB.
pub const OUTBOX_MAX_BYTES: usize = 64 << 20;

/// Most entries in one transfer: their count is a `u32` on the wire.
pub const TRANSFER_MAX_ENTRIES: u32 = u32::MAX;

/// Longest path of an entry relative to the root, in bytes (`PATH_MAX` of Linux).
pub const PATH_MAX_BYTES: usize = 4096;

/// Longest single name in a path, in bytes (`NAME_MAX` of Linux).
pub const NAME_MAX_BYTES: usize = 255;

/// Most names in a path: how deep a tree may be. A walk holds a directory open for each.
pub const PATH_MAX_NAMES: usize = 256;

/// Most patterns that a receiver filters a tree by.
pub const FILTER_MAX_PATTERNS: usize = 128;

/// Longest pattern of a filter, in bytes.
pub const FILTER_PATTERN_MAX_BYTES: usize = 1024;

/// Largest file, in bytes: what a signed 64-bit offset reaches.
pub const FILE_MAX_BYTES: u64 = i64::MAX as u64;

/// Smallest block of a file, in bytes: the unit that is hashed, proven and resumed.
pub const BLOCK_MIN_BYTES: u64 = 1 << 20;

/// Most blocks of one file: larger files have larger blocks, so that the proofs of any file
/// fit in 512 KiB of memory.
pub const FILE_MAX_BLOCKS: u64 = 16_384;

/// Most nanoseconds in a time, beside its seconds.
pub const NANOS_MAX: u32 = 999_999_999;

/// Most block hashes in one message.
pub const HELD_MAX_HASHES: usize = 8192;

/// Most hashes held of all entries that are not over: a receiver has 64 partials open at a time, and
/// may open as many others before the end of these is heard.
pub const HELD_OPEN_MAX_HASHES: u64 = 128 * FILE_MAX_BLOCKS;

/// Blocks of one entry that are asked for again before the entry fails.
pub const ENTRY_MAX_REPEATS: u32 = 3;

/// Longest name of a program in `Hello`, in bytes.
pub const SOFTWARE_MAX_BYTES: usize = 64;

/// Most failed entries that a receipt lists.
pub const RECEIPT_MAX_FAILURES: usize = 1024;

/// Most lanes of one session.
pub const LANES_MAX: usize = 32;

/// Longest wait for the `Hello` of an endpoint that was dialled, which may be putting away the files
/// of a session before. Then the session is lost, and dialled again for as long as the user waits.
pub const GREETING_PATIENCE: Duration = Duration::from_secs(30);

/// For how long whoever knows that all is in place looks for the other side, to pass the receipt
/// on or to hear it: a lost connection is noticed within ten seconds.
pub const RECEIPT_PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of the file in one message of the WebSocket protocol, as the Python service cuts it.
pub const WEBSOCKET_CHUNK_BYTES: usize = 5 << 20;

/// Largest message of the WebSocket protocol that is taken, in bytes: what the Python service
/// takes.
pub const WEBSOCKET_MESSAGE_MAX_BYTES: usize = WEBSOCKET_CHUNK_BYTES / 4 * 5;

/// Longest message of the WebSocket protocol that is no part of the file, in bytes.
pub const WEBSOCKET_CONTROL_MAX_BYTES: usize = 4096;

/// Longest plan of a transfer through an object store, in bytes: ten thousand URLs of 3 KiB. Most have
/// half a kibibyte; one that ends in 255 bytes of another alphabet has 0.8 more.
pub const S3_PLAN_MAX_BYTES: usize = 32 << 20;
