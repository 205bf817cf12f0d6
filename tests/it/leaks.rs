//! A process that has done a thousand transfers is as it was before.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use streamer_cli::client::{Connections, Local, Notice as ClientNotice, Options, transfer};
use streamer_core::net::Progress;
use streamer_core::net::dial::Choice;
use streamer_core::net::ws::dial::Plaintext;
use streamer_core::store::source::Pinned;
use streamer_core::store::target::{Existing, Target, TargetPolicy};
use streamer_core::wire::message::Wanted;
use streamer_core::{Coordinates, Operation, PortRange, TransferSecret};
use streamer_server::{Config, Notice, serve};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// At a time; all of them share a runtime.
const LOOPS: u16 = 4;

#[test]
fn a_thousand_transfers_leave_no_file_no_task_and_no_memory_behind() {
    // In a process of its own: the other tests of this one open files too.
    let name = "leaks::in_a_process_of_its_own";
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        // Else glibc keeps what was used at the busiest moment: give back what is freed.
        .env("MALLOC_ARENA_MAX", "1")
        .env("MALLOC_MMAP_THRESHOLD_", "65536")
        .env("MALLOC_TRIM_THRESHOLD_", "65536")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    // Under another name nothing would run, and that would be success.
    let ran = run.status.success() && said.contains("1 passed");
    assert!(ran, "{said}{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
#[ignore = "the test above runs it, in a process of its own"]
fn in_a_process_of_its_own() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Threads that wait for work are no leak; here they do not wait for long.
        .thread_keep_alive(Duration::from_millis(100))
        .build()
        .unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        transfers(dir.path(), 200).await;
        let before = settled(None).await;
        transfers(dir.path(), 1000).await;
        let after = settled(Some(before)).await;
        // Allocators keep some of what was freed: this is 8 KiB for each transfer.
        let most = before.resident_kib + 8 * 1000;
        assert!(after.resident_kib < most, "{before:?} then {after:?}");
    });
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Holdings {
    files: usize,
    tasks: usize,
    threads: u64,
    resident_kib: u64,
}

impl Holdings {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let number = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Self {
            files: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            tasks: Handle::current().metrics().num_alive_tasks(),
            threads: number("Threads:"),
            resident_kib: number("VmRSS:"),
        }
    }

    fn counts(self) -> (usize, usize, u64) {
        (self.files, self.tasks, self.threads)
    }
}

/// What is held once it does not change, or is what it was before.
async fn settled(before: Option<Holdings>) -> Holdings {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut last = Holdings::now();
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = Holdings::now();
        let is_settled = match before {
            None => now.counts() == last.counts(),
            Some(before) => {
                now.files <= before.files
                    && now.tasks <= before.tasks
                    && now.threads <= before.threads
            }
        };
        if is_settled {
            return now;
        }
        assert!(Instant::now() < deadline, "{before:?} then {now:?}");
        last = now;
    }
}

async fn transfers(dir: &Path, count: u32) {
    let mut loops = JoinSet::new();
    for number in 0..LOOPS {
        let dir = dir.join(number.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        let source = dir.join("source");
        std::fs::write(&source, vec![number as u8; 70_000]).unwrap();
        loops.spawn(async move {
            for round in 0..count / u32::from(LOOPS) {
                one(&dir, round).await;
            }
        });
    }
    while let Some(ended) = loops.join_next().await {
        ended.unwrap();
    }
}

/// One transfer between two ends in this process.
async fn one(dir: &Path, round: u32) {
    let (source, target) = (dir.join("source"), dir.join("target"));
    let choice = [Choice::Quic, Choice::Tls][round as usize % 2];
    let local = match round % 4 < 2 {
        true => {
            let target = Target::new(&target, TargetPolicy::default());
            Local::Target(target, Wanted::default())
        }
        false => Local::Source(Pinned::open(&source).unwrap(), Default::default()),
    };
    let (operation, path, mine) = match local {
        Local::Target(..) => (Operation::Send, source, target.clone()),
        Local::Source(..) => (Operation::Receive, target.clone(), source),
    };
    let (_stop, stopped) = watch::channel(None);
    let (tell, listening) = oneshot::channel();
    let mut tell = Some(tell);
    let notify = move |notice: Notice<'_>| {
        if let Notice::Listening { coordinates, .. } = notice {
            let _ = tell.take().unwrap().send(coordinates.clone());
        }
    };
    let config = config(operation, path);
    let served = tokio::spawn(serve(config, Arc::default(), notify, (), stopped.clone()));
    let coordinates: Coordinates = listening.await.unwrap();
    let options = Options {
        wait: Duration::from_secs(20),
        transport: choice,
        plaintext: Plaintext::Never,
        connections: Connections::Auto,
        limit_rate: None,
        api: None,
    };
    let progress = Arc::new(Progress::default());
    let notify = |_: ClientNotice<'_>| ();
    let outcome = transfer(
        &coordinates,
        &local,
        &mine,
        options,
        &progress,
        notify,
        stopped,
    )
    .await;
    assert!(outcome.unwrap().transferred.conclusion.failures.is_empty());
    served.await.unwrap().unwrap();
    std::fs::remove_file(target).unwrap();
}

fn config(operation: Operation, path: PathBuf) -> Config {
    Config {
        host: "127.0.0.1".to_owned(),
        public_ips: vec!["127.0.0.1".to_owned()],
        ports: PortRange::new(12_000, 32_000).unwrap(),
        wait_timeout: Duration::from_secs(20),
        inbound_limit_bytes: 1 << 20,
        existing: Existing::Refuse,
        secret: TransferSecret::generate().unwrap(),
        operation,
        path,
        allow_websocket: false,
    }
}
