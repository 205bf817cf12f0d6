//! Every bound on what comes from outside, with its unit in the name.

use std::time::Duration;

/// Largest request body read, in bytes: a job script fits many times over.
pub const REQUEST_BODY_MAX_BYTES: usize = 8 * 1024 * 1024;

/// How much of a request body is read before its sender must have shown a good token, in bytes:
/// so much has its syntax looked at first, as clients can observe.
pub const UNKNOWN_BODY_MAX_BYTES: usize = 64 * 1024;

/// How long a request body may take to arrive.
pub const REQUEST_BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Slowest upload that is waited for: files of a form may be large.
pub const UPLOAD_MIN_BYTES_PER_SECOND: u64 = 16 * 1024;

/// How long the head of a request may take to arrive, and how long a connection may rest
/// before it: longer than proxies keep theirs, which is 60 s for nginx.
pub const HEAD_READ_TIMEOUT: Duration = Duration::from_secs(75);

/// How long an answer may wait for its client to read some more of it: longer than networks are
/// away for.
pub const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Open connections at once; more wait to be accepted. Where the process may not have twice as
/// many files, half of those.
pub const CONNECTIONS_MAX: usize = 4096;

/// Longest bearer token looked at, in bytes; real ones are under 8 KiB.
pub const TOKEN_MAX_BYTES: usize = 32 * 1024;

/// Longest user name taken from a token, in bytes (Linux allows 32, directories more).
pub const USER_NAME_MAX_BYTES: usize = 255;

/// Longest `X-Request-ID` and `X-Correlation-ID` taken over and echoed, in bytes.
pub const REQUEST_ID_MAX_BYTES: usize = 128;

/// Longest answer of the account database about one account, in bytes.
pub const ACCOUNT_MAX_BYTES: u64 = 64 * 1024;

/// Longest request header copied into the tracing log, in characters.
pub const LOGGED_HEADER_MAX_CHARS: usize = 1024;

/// Longest command line copied into the tracing log, in bytes.
pub const LOGGED_COMMAND_MAX_BYTES: usize = 4096;

/// Records of the tracing log that wait to be written; more are dropped and counted.
pub const TRACING_LOG_RECORDS_MAX: usize = 4096;

/// What those may have together, in bytes: paths of requests may be long.
pub const TRACING_LOG_MAX_BYTES: usize = 16 * 1024 * 1024;

/// How often the service's own log says how many records were lost while some still are.
pub const TRACING_LOG_LOSS_INTERVAL: Duration = Duration::from_secs(10);

/// How long the end of the service waits for the tracing log.
pub const TRACING_LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest remote path accepted, in bytes: `PATH_MAX` of Linux.
pub const PATH_MAX_BYTES: usize = 4096;

/// Longest argument that a request passes on to a program (a mode, an owner, a pattern), in bytes:
/// the kernel takes 32 times as much, of a whole line.
pub const ARGUMENT_MAX_BYTES: usize = 4096;

/// Longest name and account of a job, in bytes: local systems keep them for as long as they know the job.
pub const JOB_NAME_MAX_BYTES: usize = 1024;

/// Longest variable of a job, in bytes with its name: no program can be started with a longer one.
pub const JOB_VARIABLE_MAX_BYTES: usize = 128 * 1024 - 2;

/// Most variables of a job, in bytes: half of what programs are started with.
pub const JOB_ENVIRONMENT_MAX_BYTES: usize = 1024 * 1024;

/// Largest answer read from a key server, authorisation service or identity provider.
pub const HTTP_ANSWER_MAX_BYTES: usize = 1024 * 1024;

/// Largest answer read from a scheduler, its REST service or one of its programs: about ten thousand
/// jobs in full.
pub const SCHEDULER_ANSWER_MAX_BYTES: usize = 128 * 1024 * 1024;

/// Most bytes that a program on a system may write to its standard error, unless its output may have
/// fewer.
pub const STANDARD_ERROR_MAX_BYTES: usize = 1024 * 1024;

/// Longest answer of a scheduler's program that is read between other requests, in bytes: a few
/// milliseconds. Longer ones have a thread.
pub const ANSWER_READ_AT_ONCE_MAX_BYTES: usize = 1024 * 1024;

/// How many times as long as one command all those together may take that make one list of jobs.
pub const LIST_COMMAND_TIMES: u32 = 6;

/// How much of an answer that was not understood, or of what a program complained, is shown to the
/// client.
pub const QUOTED_ANSWER_MAX_BYTES: usize = 2048;

/// Largest configuration file read, in bytes.
pub const CONFIG_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Largest `secret_file:` read, in bytes.
pub const SECRET_FILE_MAX_BYTES: u64 = 64 * 1024;

/// Largest file of known host keys read, in bytes: tens of thousands of hosts.
pub const KNOWN_HOSTS_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Most keys taken from one key set document.
pub const KEYS_PER_SET_MAX: usize = 256;

/// How often an unknown key id may cause the key sets to be fetched again.
pub const KEY_REFRESH_MIN_INTERVAL: Duration = Duration::from_secs(10);

/// Age at which keys are fetched again even when the key id is known, so that a withdrawn
/// key stops being accepted.
pub const KEY_MAX_AGE: Duration = Duration::from_secs(3600);

/// How long after a key set could not be fetched all are fetched again: its withdrawn keys are
/// accepted until then.
pub const KEY_RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// Most tokens whose signature is remembered as good, until the keys are fetched again. With
/// claims of 32 KiB each, which no provider issues, 32 MiB.
pub const VERIFIED_TOKENS_MAX: usize = 1024;

/// Time allowed to fetch one key set.
pub const KEY_FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Time allowed to get a token for the health checks.
pub const TOKEN_FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest job script accepted, in bytes (Slurm's own default is 4 MiB).
pub const JOB_SCRIPT_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Most buckets of an object store of which is remembered that they are there.
pub const KNOWN_BUCKETS_MAX: usize = 10_000;

/// Most jobs of a system whose private file is known, to be removed when they are cancelled.
pub const PRIVATE_FILES_MAX: usize = 10_000;

/// Largest program installed on systems, in bytes: many times the real one, with its
/// debugging information.
pub const PROGRAM_MAX_BYTES: u64 = 512 * 1024 * 1024;

/// Jobs of a local system waiting for a free slot.
pub const LOCAL_PENDING_JOBS_MAX: usize = 1000;

/// Scripts of ended jobs that a local system keeps to show them, in bytes together: several times
/// the history, for those of a usual size.
pub const LOCAL_SCRIPTS_MAX_BYTES: usize = 16 * 1024 * 1024;

/// How long a job of a local system has between SIGTERM and SIGKILL.
pub const LOCAL_KILL_GRACE: Duration = Duration::from_secs(5);

/// How long open requests may take to finish when the service stops.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long clients may take to read the 503 that requests get whose time was over then.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a program under `timeout` has to be ended by it before it is given up.
pub const TIMEOUT_GRACE: Duration = Duration::from_secs(2);

/// How long a program under `timeout` has between SIGTERM and SIGKILL, in whole seconds: longer
/// than it is waited for, so that clients are told of the time and not of a signal.
pub const TIMEOUT_KILL_GRACE: Duration = Duration::from_secs(3);

/// How long reading quotas may take on a system: their servers may hang, and a transfer is
/// not worth less for it.
pub const QUOTA_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the look at the room for a file may hold a request.
pub const ROOM_TIMEOUT: Duration = Duration::from_secs(3);

/// What `ops/view` shows unless told otherwise, in bytes, where the system allows so much.
pub const VIEW_DEFAULT_BYTES: u64 = 5 * 1024 * 1024;

/// What may surround the file in a form, in bytes: boundaries, headers, small fields.
pub const FORM_OVERHEAD_MAX_BYTES: usize = 64 * 1024;

/// Sessions of one user's connection at once; more commands wait. OpenSSH allows 10 unless
/// `MaxSessions` says otherwise.
pub const SSH_SESSIONS_MAX: usize = 32;

/// Bytes that a session may have on their way to us.
pub const SSH_WINDOW_BYTES: u32 = 1024 * 1024;

/// How long a program that is not waited for any more has between SIGTERM and SIGKILL, and over
/// SSH after that until its session is given up.
pub const COMMAND_KILL_GRACE: Duration = Duration::from_millis(500);

/// Age at which a shell on a login node is replaced, so that changed start-up files count.
pub const SSH_WORKER_MAX_AGE: Duration = Duration::from_secs(600);

/// How long a refused key is not offered again: login nodes shut out who tries too often.
pub const SSH_REFUSAL_MEMORY: Duration = Duration::from_secs(60);

/// How often connections are looked at that have nothing to do.
pub const SSH_PRUNE_INTERVAL: Duration = Duration::from_secs(5);

/// Time allowed for a key service to issue a key.
pub const SSH_KEY_TIMEOUT: Duration = Duration::from_secs(5);
