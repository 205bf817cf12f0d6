//! Planning, and the flow against a real local scheduler with a stand-in program.

use super::*;
use crate::command::{Compress, Extract, ShellLine};
use crate::config::StreamerConfig;
use crate::executor::{Accounts, BoxFuture, ExecError, LocalExecutor, Output, UserPolicy};
use crate::model::files::CompressionType;
use crate::model::jobs::Job;
use crate::model::transfer::{ExistingTarget, TransferDirectiveRequest, TransferMethodName};
use crate::scheduler::{JobFilter, JobId, LocalLimits, LocalScheduler};
use serde_json::json;
use streamer_core::Coordinates;

fn config(extra: serde_json::Value) -> StreamerConfig {
    let mut value = json!({"service_type": "streamer", "port_range": [7001, 7002]});
    value
        .as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    serde_json::from_value(value).unwrap()
}

fn request(operation: Operation, path: &str) -> TransferRequest {
    TransferRequest {
        operation,
        path: RemotePath::parse(path).unwrap(),
        account: None,
        directive: TransferDirectiveRequest {
            transfer_method: TransferMethodName::Streamer,
            file_size: None,
            wormhole_code: None,
            existing: ExistingTarget::Refuse,
        },
        user: "bob".into(),
        source: None,
    }
}

#[tokio::test]
async fn the_secret_is_in_the_private_file_only() {
    let config = config(json!({
        "host": "0.0.0.0", "public_ips": ["192.0.2.1", "2001:db8::1"], "wait_timeout": 600,
        "inbound_transfer_limit": "5",
    }));
    let files = JobFiles {
        directory: "/w/b ob/.f7t".into(),
        private: "private-1".into(),
        program: "/opt/my bin/streamer".into(),
        system: "a/b".into(),
    };
    let request = request(Operation::Send, "/a b/$(id)");
    let method = StreamerMethod::new(config);
    let plan = method.plan(&request, &files).await.unwrap();
    assert_eq!(
        plan.body,
        "exec '/opt/my bin/streamer' server --host 0.0.0.0 --public-ips 192.0.2.1 --public-ips \
         2001:db8::1 --port-range 7001 7002 --wait-timeout 600 --inbound-transfer-limit 5 \
         --secret-file '/w/b ob/.f7t/private-1' --remove-secret-file --status-file \
         '/w/b ob/.f7t/job-a_b-'\"${SLURM_JOB_ID:-${PBS_JOBID%%.*}}\".json \
         --no-announce send --path '/a b/$(id)'"
    );
    let coordinates = plan.coordinates.as_ref().unwrap();
    assert_eq!(coordinates.operation, Some(Operation::Send));
    assert!(coordinates.secret.is_key());
    let secret = plan.private.expose();
    assert_eq!(secret, coordinates.secret.expose_text().as_str());
    assert!(!plan.body.contains(secret));
    assert!(!format!("{plan:?}").contains(secret));
}

#[tokio::test]
async fn plaintext_is_answered_only_where_the_configuration_says_so() {
    let files = JobFiles {
        directory: "/w".into(),
        private: "private".into(),
        program: "streamer".into(),
        system: "here".into(),
    };
    for allowed in [false, true] {
        let method = StreamerMethod::new(config(json!({"allow_websocket": allowed})));
        let request = request(Operation::Receive, "/a");
        let plan = method.plan(&request, &files).await.unwrap();
        assert_eq!(plan.body.contains(" --allow-websocket "), allowed);
        let transports = plan.coordinates.unwrap().transports;
        assert_eq!(transports.contains(&streamer_core::Transport::Ws), allowed);
    }
}

struct Bench {
    directory: tempfile::TempDir,
    executor: LocalExecutor,
    scheduler: LocalScheduler,
    transfers: Transfers,
    caller: Caller,
}

impl Bench {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("bob")).unwrap();
        // Stands in for `streamer`: shows what a job is given.
        let program = directory.path().join("streamer");
        std::fs::write(
            &program,
            "#!/bin/sh\nfor a; do [ \"$b\" = --secret-file ] && cat \"$a\" && echo; b=$a; done\n\
             printf '%s\\n' \"$@\"\n",
        )
        .unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let accounts = Arc::new(
            Accounts::new(UserPolicy::DangerousEverybodyAsService)
                .await
                .unwrap(),
        );
        let limits = LocalLimits {
            wall_time: Duration::from_secs(60),
            max_running: 2,
            max_history: 10,
            kill_grace: Duration::from_secs(1),
        };
        Self {
            executor: LocalExecutor::new(Arc::clone(&accounts)),
            scheduler: LocalScheduler::new("here", limits, accounts).unwrap(),
            transfers: Transfers {
                system: "here".into(),
                work_directory: Some(directory.path().display().to_string()),
                directives: Vec::new(),
                command_timeout: Duration::from_secs(10),
                command_output_bytes: 10_000,
                methods: vec![Arc::new(StreamerMethod::new(config(json!({}))))],
                program: Program::There(program.display().to_string()),
                private_files: PrivateFiles::default(),
            },
            directory,
            caller: Caller::for_tests("bob"),
        }
    }

    async fn start(
        &self,
        operation: Operation,
        path: &str,
    ) -> Result<(TransferJob, TransferDirective), TransferError> {
        let request = request(operation, path);
        self.transfers.start(self.on_system(), request).await
    }

    fn on_system(&self) -> OnSystem<'_> {
        OnSystem {
            caller: &self.caller,
            executor: &self.executor,
            scheduler: &self.scheduler,
        }
    }

    /// The job, once it has ended in this state.
    async fn ended(&self, job: &TransferJob, state: &str) -> Job {
        let id = JobId::parse(&job.job_id).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let view = self.scheduler.job(&self.caller, &id).await;
            let view = view.unwrap().remove(0);
            match view.status.state.as_str() {
                "PENDING" | "RUNNING" => assert!(std::time::Instant::now() < deadline),
                other => {
                    assert_eq!(other, state);
                    return view;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_download_runs_its_endpoint_as_a_job() {
    let bench = Bench::new().await;
    std::fs::write(bench.directory.path().join("bob/it's"), "x").unwrap();
    let (job, directive) = bench.start(Operation::Send, "it's").await.unwrap();
    let view = bench.ended(&job, "COMPLETED").await;
    assert_eq!(view.name, "OutgressFileTransfer");
    let output = std::fs::read_to_string(&job.logs.output_log).unwrap();
    let path = bench
        .directory
        .path()
        .join("bob/it's")
        .display()
        .to_string();
    let coordinates = Coordinates::parse(directive.coordinates.as_deref().unwrap()).unwrap();
    let named = coordinates.job.unwrap();
    assert_eq!((named.system(), named.id()), ("here", &*job.job_id));
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(
        lines.first(),
        Some(&coordinates.secret.expose_text().as_str())
    );
    assert_eq!(lines[lines.len() - 3..], ["send", "--path", path.as_str()]);
}

#[tokio::test]
async fn checks_come_before_the_job() {
    let bench = Bench::new().await;
    let missing = bench
        .start(Operation::Send, "/no/such/file")
        .await
        .unwrap_err();
    assert!(
        missing.to_string().contains("No such file or directory"),
        "{missing}"
    );
    let target = bench
        .directory
        .path()
        .join("streamer")
        .display()
        .to_string();
    let exists = bench.start(Operation::Receive, &target).await.unwrap_err();
    assert_eq!(
        exists.to_string(),
        format!("Target file '{target}' already exists.")
    );
    for (existing, option) in [
        (ExistingTarget::Overwrite, "--overwrite"),
        (ExistingTarget::Skip, "--skip-existing"),
    ] {
        let mut request = request(Operation::Receive, &target);
        request.directive.existing = existing;
        let (job, _) = bench
            .transfers
            .start(bench.on_system(), request)
            .await
            .unwrap();
        bench.ended(&job, "COMPLETED").await;
        let output = std::fs::read_to_string(&job.logs.output_log).unwrap();
        let expected = format!("receive\n--path\n{target}\n{option}\n");
        assert!(output.ends_with(&expected), "{output}");
    }
    let mut other = request(Operation::Send, &target);
    other.directive.transfer_method = TransferMethodName::S3;
    let refused = bench.transfers.start(bench.on_system(), other);
    assert!(matches!(
        refused.await,
        Err(TransferError::MethodNotAvailable)
    ));
}

#[tokio::test]
async fn an_upload_over_the_limit_is_refused_before_a_job_is_queued() {
    let mut bench = Bench::new().await;
    let limited = config(json!({"inbound_transfer_limit": 1000}));
    bench.transfers.methods = vec![Arc::new(StreamerMethod::new(limited))];
    std::fs::write(bench.directory.path().join("bob/a"), "x").unwrap();
    let ask = async |operation, path: &str, size| {
        let mut request = request(operation, path);
        request.directive.file_size = size;
        bench.transfers.start(bench.on_system(), request).await
    };
    let refused = ask(Operation::Receive, "b", Some(1001)).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "A file of 1001 bytes is over the limit (inboundTransferLimit) of 1000 bytes for one \
         upload by streamer."
    );
    let status = crate::error::ApiError::from(refused).status();
    assert_eq!(status, axum::http::StatusCode::PAYLOAD_TOO_LARGE);
    let queued = bench.scheduler.jobs(&bench.caller, JobFilter::default());
    assert!(queued.await.unwrap().is_empty());
    assert!(!bench.directory.path().join("bob/.f7t_transfers").exists());
    ask(Operation::Receive, "b", Some(1000)).await.unwrap();
    ask(Operation::Receive, "c", None).await.unwrap();
    // What goes out is not limited.
    ask(Operation::Send, "a", Some(1001)).await.unwrap();
}

#[tokio::test]
async fn a_target_needs_its_directory_and_jobs_need_theirs() {
    let bench = Bench::new().await;
    let directory = bench.directory.path();
    let target = directory.join("none/x").display().to_string();
    let error = bench.start(Operation::Receive, &target).await.unwrap_err();
    assert!(error.to_string().contains("none': No such file"), "{error}");
    let target = directory.join("streamer/x").display().to_string();
    assert!(bench.start(Operation::Receive, &target).await.is_err());
    std::fs::remove_dir(directory.join("bob")).unwrap();
    let target = directory.join("x").display().to_string();
    let error = bench.start(Operation::Receive, &target).await.unwrap_err();
    assert!(
        matches!(error, TransferError::WorkDirectory { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn of_a_refused_job_no_secret_stays() {
    let bench = Bench::new().await;
    bench.scheduler.shutdown().await;
    let target = bench.directory.path().join("x").display().to_string();
    assert!(bench.start(Operation::Receive, &target).await.is_err());
    let private = bench.directory.path().join("bob/.f7t_transfers");
    assert_eq!(std::fs::read_dir(private).unwrap().count(), 0);
}

#[tokio::test]
async fn of_a_job_that_is_cancelled_before_it_runs_no_secret_stays() {
    let bench = Bench::new().await;
    // There is room for two.
    for _ in 0..2 {
        let job = JobDescription {
            working_directory: bench.directory.path().display().to_string(),
            script: Script::Text("#!/bin/sh\nexec sleep 600\n".into()),
            ..JobDescription::default()
        };
        bench.scheduler.submit(&bench.caller, job).await.unwrap();
    }
    let target = bench.directory.path().join("x").display().to_string();
    let (job, _) = bench.start(Operation::Receive, &target).await.unwrap();
    let private = bench.directory.path().join("bob/.f7t_transfers");
    let files = || std::fs::read_dir(&private).unwrap().count();
    let id = JobId::parse(&job.job_id).unwrap();
    let eve = Caller::for_tests("eve");
    let on = OnSystem {
        caller: &eve,
        ..bench.on_system()
    };
    bench.transfers.cancel(on, &id).await.unwrap_err();
    assert_eq!(files(), 1);
    bench
        .transfers
        .cancel(bench.on_system(), &id)
        .await
        .unwrap();
    assert_eq!(files(), 0);
    bench.ended(&job, "CANCELLED").await;
    bench.scheduler.shutdown().await;
}

#[tokio::test]
async fn the_program_is_installed_once_for_many_requests_and_again_when_it_changes() {
    let mut bench = Bench::new().await;
    let source = bench.directory.path().join("streamer");
    bench.transfers.program = Program::Installed(Installer::new(source.clone()));
    std::fs::write(bench.directory.path().join("bob/a"), "x").unwrap();
    let installed = || {
        let entries = std::fs::read_dir(bench.directory.path().join("bob/.f7t_transfers"));
        let names = entries
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|n| !n.starts_with("private-")).collect();
        names.sort();
        names
    };
    let many = (0..8).map(|_| bench.start(Operation::Send, "a"));
    for started in futures_join(many).await {
        bench.ended(&started.unwrap().0, "COMPLETED").await;
    }
    let first = installed();
    assert_eq!(first.len(), 1, "{first:?}");
    std::fs::write(&source, "#!/bin/sh\nexit 3\n").unwrap();
    let (job, _) = bench.start(Operation::Send, "a").await.unwrap();
    bench.ended(&job, "FAILED").await;
    assert_eq!(installed().len(), 2);
    std::fs::remove_file(&source).unwrap();
    let error = bench.start(Operation::Send, "a").await.unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
}

/// All at once, on one task.
async fn futures_join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(Box::pin).map(Some).collect();
    let mut done: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, output) in waiting.iter_mut().zip(&mut done) {
            if let Some(running) = future
                && let std::task::Poll::Ready(value) = running.as_mut().poll(context)
            {
                *output = Some(value);
                *future = None;
            }
        }
        match waiting.iter().all(Option::is_none) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// As root only, to be another user.
#[tokio::test]
async fn what_the_user_may_not_read_or_write_is_refused_before_a_job_is_queued() {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root, to become another user");
        return;
    }
    let bench = Bench::new().await;
    let place = bench.directory.path();
    std::fs::set_permissions(place, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::create_dir(place.join("nobody")).unwrap();
    chown(place.join("nobody"), Some(65534), Some(65534)).unwrap();
    let closed = place.join("closed");
    std::fs::write(&closed, "").unwrap();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o600)).unwrap();
    let accounts = Accounts::new(UserPolicy::SameName).await.unwrap();
    let (executor, caller) = (
        LocalExecutor::new(Arc::new(accounts)),
        Caller::for_tests("nobody"),
    );
    let on = OnSystem {
        caller: &caller,
        executor: &executor,
        scheduler: &bench.scheduler,
    };
    let source = closed.to_str().unwrap();
    let refused = bench.transfers.start(on, request(Operation::Send, source));
    let path = |path: &str| RemotePath::parse(path).unwrap();
    let copy = FileJob::copy_files(path(source), path("/tmp/copy"), false);
    let errors = [
        refused.await.unwrap_err(),
        bench
            .transfers
            .start_file_job(on, copy, None)
            .await
            .unwrap_err(),
    ];
    for error in errors {
        let error = crate::error::ApiError::from(error);
        assert_eq!(error.status(), axum::http::StatusCode::FORBIDDEN);
        assert!(error.message().contains(source), "{}", error.message());
    }

    // Nor is what would go where they cannot write.
    let at = |name: &str| path(place.join(name).to_str().unwrap());
    let archive = |target: &str| Compress {
        path: at("streamer"),
        target: at(target),
        match_pattern: None,
        dereference: false,
        compression: CompressionType::None,
    };
    let start_job = async |job| bench.transfers.start_file_job(on, job, None).await;
    let upload = bench
        .transfers
        .start(on, request(Operation::Receive, at("new").as_str()));
    let errors = [
        upload.await.unwrap_err(),
        start_job(FileJob::move_files(at("streamer"), at("new")))
            .await
            .unwrap_err(),
        start_job(FileJob::copy_files(at("streamer"), at("new"), false))
            .await
            .unwrap_err(),
        start_job(FileJob::copy_files(at("streamer"), at(""), false))
            .await
            .unwrap_err(),
        start_job(FileJob::compress_files(&archive("new")))
            .await
            .unwrap_err(),
    ];
    for error in errors {
        let error = crate::error::ApiError::from(error);
        let (status, message) = (error.status(), error.message());
        assert_eq!(status, axum::http::StatusCode::FORBIDDEN, "{message}");
        assert!(message.contains(place.to_str().unwrap()), "{message}");
    }
    // What cannot be looked at is not there already.
    std::fs::create_dir(place.join("hidden")).unwrap();
    std::fs::set_permissions(place.join("hidden"), PermissionsExt::from_mode(0o700)).unwrap();
    symlink("../hidden/file", place.join("nobody/into")).unwrap();
    let upload = request(Operation::Receive, at("nobody/into").as_str());
    let error = bench.transfers.start(on, upload).await.unwrap_err();
    let error = crate::error::ApiError::from(error);
    let message = error.message();
    assert!(message.contains("Permission denied"), "{message}");

    symlink("nobody/new", place.join("link")).unwrap();
    // Of a directory that cannot be written, one in it can.
    std::fs::write(place.join("nobody/unpacked"), "x").unwrap();
    let mut tar = std::process::Command::new("tar");
    tar.current_dir(place)
        .args(["-cf", "a.tar", "nobody/unpacked"]);
    assert!(tar.status().unwrap().success());
    std::fs::remove_file(place.join("nobody/unpacked")).unwrap();
    let extract = Extract {
        path: at("a.tar"),
        target: at(""),
        compression: CompressionType::None,
    };
    for job in [
        FileJob::extract_files(&extract),
        FileJob::copy_files(at("streamer"), at("nobody"), false),
        FileJob::compress_files(&archive("nobody/archive")),
        FileJob::compress_files(&archive("link")),
    ] {
        bench
            .ended(&start_job(job).await.unwrap(), "COMPLETED")
            .await;
    }
}

/// Is asked for one file, and does not answer.
#[derive(Debug)]
struct Stuck<'b> {
    inner: &'b LocalExecutor,
    file: String,
}

impl Executor for Stuck<'_> {
    fn run_with_input<'a>(
        &'a self,
        caller: &'a Caller,
        line: &'a ShellLine,
        input: &'a [u8],
        limits: RunLimits,
    ) -> BoxFuture<'a, Result<Output, ExecError>> {
        let text = line.as_str();
        if text.contains("stat --dereference") && text.ends_with(&self.file) {
            return Box::pin(async { Err(ExecError::Timeout) });
        }
        self.inner.run_with_input(caller, line, input, limits)
    }
}

#[tokio::test]
async fn a_target_that_was_not_looked_at_is_not_said_to_be_there() {
    let bench = Bench::new().await;
    let at = |name: &str| format!("{}/{name}", bench.directory.path().display());
    let executor = Stuck {
        inner: &bench.executor,
        file: at("bob/target"),
    };
    let on = OnSystem {
        executor: &executor,
        ..bench.on_system()
    };
    std::fs::write(at("bob/target"), "x").unwrap();
    let upload = request(Operation::Receive, "target");
    let path = |name: &str| RemotePath::parse(&at(name)).unwrap();
    let copy = FileJob::copy_files(path("streamer"), path("bob/target"), false);
    for error in [
        bench.transfers.start(on, upload).await.unwrap_err(),
        bench
            .transfers
            .start_file_job(on, copy, None)
            .await
            .unwrap_err(),
    ] {
        assert!(
            matches!(
                error,
                TransferError::Command(CommandError::Exec(ExecError::Timeout))
            ),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_is_no_file_is_neither_source_nor_target() {
    let bench = Bench::new().await;
    let at = |name: &str| bench.directory.path().join("bob").join(name);
    let fifo = std::process::Command::new("mkfifo")
        .arg(at("fifo"))
        .status();
    assert!(fifo.unwrap().success());
    std::os::unix::fs::symlink("nothing", at("dangling")).unwrap();
    let error = bench.start(Operation::Send, "fifo").await.unwrap_err();
    let message = format!("'{}' is not a regular file.", at("fifo").display());
    assert_eq!(error.to_string(), message);
    for name in ["fifo", "dangling"] {
        for existing in [ExistingTarget::Refuse, ExistingTarget::Overwrite] {
            let mut request = request(Operation::Receive, name);
            request.directive.existing = existing;
            let refused = bench.transfers.start(bench.on_system(), request).await;
            let message = format!("Target file '{}' already exists.", at(name).display());
            assert_eq!(refused.unwrap_err().to_string(), message);
        }
    }
}

/// As by the Python service: Slurm would refuse one that it does not know.
#[tokio::test]
async fn an_account_that_the_directives_do_not_name_is_not_charged() {
    let mut bench = Bench::new().await;
    for (directive, shown) in [
        ("#SBATCH --nodes=1", "#SBATCH --nodes=1"),
        ("#SBATCH --account={account}", "#SBATCH --account=nosuch"),
    ] {
        bench.transfers.directives = vec![directive.to_owned()];
        let mut request = request(Operation::Receive, "new");
        request.account = Some("nosuch".into());
        let started = bench.transfers.start(bench.on_system(), request).await;
        let view = bench.ended(&started.unwrap().0, "COMPLETED").await;
        assert_eq!(view.account, None);
        let script = batch_script(&bench.transfers.directives, Some("nosuch"), "").unwrap();
        assert!(script.contains(shown));
    }
}
