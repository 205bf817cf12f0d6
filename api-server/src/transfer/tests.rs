//! Planning, and the flow against a real local scheduler with a stand-in program.

use super::*;
use crate::config::StreamerConfig;
use crate::executor::{Accounts, LocalExecutor, UserPolicy};
use crate::scheduler::{JobId, LocalLimits, LocalScheduler};
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
        },
    }
}

#[test]
fn the_job_gets_its_secret_by_environment_only() {
    let config = config(json!({
        "host": "0.0.0.0", "public_ips": ["192.0.2.1", "2001:db8::1"], "wait_timeout": 600,
        "inbound_transfer_limit": "5", "streamer_binary": "/opt/my bin/streamer",
    }));
    let plan = StreamerMethod::new(config)
        .plan(&request(Operation::Send, "/a b/$(id)"))
        .unwrap();
    let command = plan.body.lines().last().unwrap();
    assert_eq!(
        command,
        "exec '/opt/my bin/streamer' server --host 0.0.0.0 --public-ips 192.0.2.1 --public-ips \
         2001:db8::1 --port-range 7001 7002 --wait-timeout 600 --inbound-transfer-limit 5 \
         --no-announce send --path '/a b/$(id)'"
    );
    let coordinates = Coordinates::parse(plan.directive.coordinates.as_deref().unwrap()).unwrap();
    assert_eq!(coordinates.operation, Some(Operation::Send));
    assert!(coordinates.secret.is_key());
    let [(name, secret)] = &plan.secret_environment[..] else {
        panic!("one variable")
    };
    assert_eq!(
        (*name, secret.expose()),
        ("STREAMER_SECRET", coordinates.secret.expose_text().as_str())
    );
    assert!(!plan.body.contains(secret.expose()));
    assert!(!format!("{plan:?}").contains(secret.expose()));
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
            "#!/bin/sh\nprintf '%s\\n' \"$STREAMER_SECRET\" \"$@\"\n",
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
        let config = config(json!({"streamer_binary": program.display().to_string()}));
        Self {
            executor: LocalExecutor::new(Arc::clone(&accounts)),
            scheduler: LocalScheduler::new("here", limits, accounts).unwrap(),
            transfers: Transfers {
                system: "here".into(),
                work_directory: Some(directory.path().display().to_string()),
                directives: Vec::new(),
                command_timeout: Duration::from_secs(10),
                command_output_bytes: 10_000,
                method: Arc::new(StreamerMethod::new(config)),
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
        self.transfers
            .start(&self.caller, &self.executor, &self.scheduler, request)
            .await
    }
}

#[tokio::test]
async fn a_download_runs_its_endpoint_as_a_job() {
    let bench = Bench::new().await;
    std::fs::write(bench.directory.path().join("bob/it's"), "x").unwrap();
    let (job, directive) = bench.start(Operation::Send, "it's").await.unwrap();
    let id = JobId::parse(&job.job_id).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let view = bench
            .scheduler
            .job(&bench.caller, &id)
            .await
            .unwrap()
            .remove(0);
        assert_eq!(view.name, "OutgressFileTransfer");
        match view.status.state.as_str() {
            "COMPLETED" => break,
            "PENDING" | "RUNNING" => assert!(std::time::Instant::now() < deadline),
            other => panic!("{other}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let output = std::fs::read_to_string(&job.logs.output_log).unwrap();
    let path = bench
        .directory
        .path()
        .join("bob/it's")
        .display()
        .to_string();
    let coordinates = Coordinates::parse(directive.coordinates.as_deref().unwrap()).unwrap();
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
    let mut other = request(Operation::Send, &target);
    other.directive.transfer_method = TransferMethodName::S3;
    let refused = bench
        .transfers
        .start(&bench.caller, &bench.executor, &bench.scheduler, other);
    assert!(matches!(
        refused.await,
        Err(TransferError::MethodNotAvailable)
    ));
}
