//! Real processes.

use super::*;
use crate::executor::UserPolicy;
use std::path::Path;
use std::time::Instant;

struct Bench {
    scheduler: LocalScheduler,
    directory: TempDir,
    caller: Caller,
}

impl Bench {
    async fn new(change: impl FnOnce(&mut LocalLimits)) -> Self {
        let mut limits = LocalLimits {
            wall_time: Duration::from_secs(60),
            max_running: 4,
            max_history: 100,
            kill_grace: Duration::from_millis(300),
        };
        change(&mut limits);
        let accounts = Accounts::new(UserPolicy::DangerousEverybodyAsService)
            .await
            .unwrap();
        let scheduler = LocalScheduler::new("here", limits, Arc::new(accounts)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        Self {
            scheduler,
            directory,
            caller: Caller::for_tests("bob"),
        }
    }

    fn job(&self, body: &str) -> JobDescription {
        JobDescription {
            name: Some("test".into()),
            working_directory: self.directory.path().display().to_string(),
            script: Script::Text(format!("#!/bin/sh\n{body}\n")),
            ..JobDescription::default()
        }
    }

    async fn submit(&self, job: JobDescription) -> JobId {
        self.scheduler.submit(&self.caller, job).await.unwrap()
    }

    async fn view(&self, id: &JobId) -> Job {
        self.scheduler
            .job(&self.caller, id)
            .await
            .unwrap()
            .remove(0)
    }

    /// Waits until the state is one of these.
    async fn wait(&self, id: &JobId, states: &[&str]) -> Job {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let job = self.view(id).await;
            if states.contains(&job.status.state.as_str()) {
                return job;
            }
            assert!(
                Instant::now() < deadline,
                "{id:?} is {} not {states:?}",
                job.status.state
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn ended(&self, id: &JobId) -> Job {
        self.wait(id, &["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"])
            .await
    }

    async fn file(&self, name: &str) -> String {
        wait_for_file(&self.directory.path().join(name)).await
    }
}

async fn wait_for_file(path: &Path) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ => assert!(
                Instant::now() < deadline,
                "{} did not appear",
                path.display()
            ),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|text| !text.contains(") Z "))
}

async fn gone(pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "process {pid} is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn ids_of_an_earlier_run_name_no_job() {
    let begun = unix_now();
    let bench = Bench::new(|_| {}).await;
    let id = bench.submit(bench.job("true")).await;
    let id: u64 = id.as_str().parse().unwrap();
    assert!((begun..=unix_now()).contains(&id), "{id}");
}

#[tokio::test]
async fn output_environment_and_exit_code() {
    let bench = Bench::new(|_| {}).await;
    let mut job = bench.job(r#"echo "$A $SLURM_JOB_ID"; pwd; echo bad >&2; exit 3"#);
    job.environment.insert("A".into(), "x y'z".into());
    job.standard_output = Some("out-%j.txt".into());
    job.standard_error = Some("err.txt".into());
    let id = bench.submit(job).await;
    let view = bench.ended(&id).await;
    assert_eq!(
        (view.status.state.as_str(), view.status.exit_code),
        ("FAILED", Some(3))
    );
    let directory = bench.directory.path().canonicalize().unwrap();
    let expected = format!("x y'z {}\n{}\n", id.as_str(), directory.display());
    assert_eq!(
        bench.file(&format!("out-{}.txt", id.as_str())).await,
        expected
    );
    assert_eq!(bench.file("err.txt").await, "bad\n");
    assert_eq!(
        std::fs::read_dir(bench.scheduler.spool.path())
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn success_and_both_streams_in_one_file() {
    let bench = Bench::new(|_| {}).await;
    let id = bench.submit(bench.job("echo one; echo two >&2")).await;
    let view = bench.ended(&id).await;
    assert_eq!(
        (view.status.state.as_str(), view.status.exit_code),
        ("COMPLETED", Some(0))
    );
    assert_eq!(
        bench.file(&format!("slurm-{}.out", id.as_str())).await,
        "one\ntwo\n"
    );
    let again = bench.scheduler.cancel(&bench.caller, &id).await;
    assert!(matches!(again, Err(SchedulerError::AlreadyEnded { .. })));
}

#[tokio::test]
async fn a_signal_is_reported() {
    let bench = Bench::new(|_| {}).await;
    let id = bench.submit(bench.job("kill -9 $$")).await;
    let view = bench.ended(&id).await;
    assert_eq!(view.status.state, "FAILED");
    assert_eq!(
        (view.status.exit_code, view.status.interrupt_signal),
        (Some(0), Some(9))
    );
}

#[tokio::test]
async fn wall_time_ends_a_job_that_ignores_sigterm_and_its_children() {
    let bench = Bench::new(|limits| limits.wall_time = Duration::from_millis(500)).await;
    let id = bench
        .submit(bench.job("trap '' TERM; sleep 600 & echo $! >pid; wait; sleep 600"))
        .await;
    let pid = bench.file("pid").await;
    let view = bench.ended(&id).await;
    assert_eq!(view.status.state, "TIMEOUT");
    gone(&pid).await;
}

#[tokio::test]
async fn a_script_may_ask_for_less_time_and_not_for_more() {
    let bench = Bench::new(|_| {}).await;
    let limit = async |time: &str| {
        let mut job = bench.job("true");
        job.script = Script::Text(format!("#!/bin/sh\n#SBATCH --time={time}\ntrue\n"));
        let id = bench.submit(job).await;
        bench.ended(&id).await.time.limit
    };
    assert_eq!(limit("0:30").await, Some(30));
    assert_eq!(limit("1-0").await, Some(60));
}

#[tokio::test]
async fn a_script_names_its_job_and_its_files() {
    let bench = Bench::new(|_| {}).await;
    let script = |name: &str| {
        Script::Text(format!(
            "#!/bin/sh\n#SBATCH --job-name={name} --nodes 1\n#SBATCH -o '%x of %j.out'\n\
             #SBATCH --error=%x.err\n\necho \"$SLURM_JOB_NAME\"; echo bad >&2\n"
        ))
    };
    let job = |name: &str| JobDescription {
        name: None,
        script: script(name),
        ..bench.job("")
    };
    let id = bench.submit(job("mine")).await;
    let view = bench.ended(&id).await;
    assert_eq!(
        (view.status.state.as_str(), &*view.name),
        ("COMPLETED", "mine")
    );
    let output = bench.file(&format!("mine of {}.out", id.as_str())).await;
    assert_eq!(output, "mine\n");
    assert_eq!(bench.file("mine.err").await, "bad\n");

    let asked = JobDescription {
        name: Some("asked".into()),
        standard_output: Some("%x.out".into()),
        ..job("mine")
    };
    let id = bench.submit(asked).await;
    assert_eq!(bench.ended(&id).await.name, "asked");
    assert_eq!(bench.file("asked.out").await, "asked\n");
    assert_eq!(bench.file("asked.err").await, "bad\n");

    let both = bench.job("#SBATCH -o both -e both\necho one; echo two >&2; echo three");
    bench.ended(&bench.submit(both).await).await;
    assert_eq!(bench.file("both").await, "one\ntwo\nthree\n");

    let long = "x".repeat(limits::JOB_NAME_MAX_BYTES + 1);
    let account = JobDescription {
        account: Some(long.clone()),
        ..job("mine")
    };
    for (job, field) in [(job(&long), "name"), (account, "account")] {
        let refused = bench.scheduler.submit(&bench.caller, job).await;
        let error = refused.unwrap_err();
        assert!(matches!(error, SchedulerError::Rejected { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains(&format!("the {field} is longer")), "{error}");
    }
}

#[tokio::test]
async fn two_streams_of_one_file_are_in_it_whole_under_two_names() {
    let bench = Bench::new(|_| {}).await;
    std::fs::write(bench.directory.path().join("both"), "old, and longer\n").unwrap();
    let mut job = bench.job("echo one; echo two >&2; echo three");
    job.standard_output = Some("both".into());
    job.standard_error = Some("./both".into());
    bench.ended(&bench.submit(job).await).await;
    assert_eq!(bench.file("both").await, "one\ntwo\nthree\n");
}

/// Who reads it would find its end where it is opened twice.
#[tokio::test]
async fn a_stream_may_be_a_pipe() {
    let bench = Bench::new(|_| {}).await;
    let pipe = bench.directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let reads = tokio::task::spawn_blocking(move || std::fs::read_to_string(pipe));
    let mut job = bench.job("echo one");
    job.standard_output = Some("pipe".into());
    let id = bench.submit(job).await;
    assert_eq!(bench.ended(&id).await.status.state, "COMPLETED");
    assert_eq!(reads.await.unwrap().unwrap(), "one\n");
}

#[tokio::test]
async fn cancel_lets_the_job_clean_up() {
    let bench = Bench::new(|l| l.kill_grace = Duration::from_secs(10)).await;
    let body = "trap 'echo cleaned >clean; exit 0' TERM; echo ready >ready; sleep 600 & wait";
    let id = bench.submit(bench.job(body)).await;
    bench.file("ready").await;
    let stranger = Caller::for_tests("eve");
    let refused = bench.scheduler.cancel(&stranger, &id).await;
    assert!(matches!(refused, Err(SchedulerError::NotOwner { .. })));
    bench.scheduler.cancel(&bench.caller, &id).await.unwrap();
    assert_eq!(bench.ended(&id).await.status.state, "CANCELLED");
    assert_eq!(bench.file("clean").await, "cleaned\n");
}

#[tokio::test]
async fn jobs_wait_for_a_slot_and_can_be_cancelled_there() {
    let bench = Bench::new(|limits| limits.max_running = 1).await;
    let first = bench
        .submit(bench.job("while [ ! -e go ]; do sleep 0.01; done"))
        .await;
    bench.wait(&first, &["RUNNING"]).await;
    let second = bench.submit(bench.job("true")).await;
    let third = bench.submit(bench.job("true")).await;
    assert_eq!(bench.view(&second).await.status.state, "PENDING");
    bench
        .scheduler
        .cancel(&bench.caller, &second)
        .await
        .unwrap();
    assert_eq!(bench.ended(&second).await.status.state, "CANCELLED");
    std::fs::write(bench.directory.path().join("go"), "").unwrap();
    assert_eq!(bench.ended(&first).await.status.state, "COMPLETED");
    assert_eq!(bench.ended(&third).await.status.state, "COMPLETED");
}

#[tokio::test]
async fn what_a_job_leaves_behind_goes_with_it() {
    let bench = Bench::new(|_| {}).await;
    let id = bench.submit(bench.job("sleep 600 & echo $! >pid")).await;
    assert_eq!(bench.ended(&id).await.status.state, "COMPLETED");
    gone(&bench.file("pid").await).await;
}

/// Else it could type into the terminal of the service, with the service's rights.
#[tokio::test]
async fn a_job_leads_a_session_of_its_own_without_a_terminal() {
    let bench = Bench::new(|_| {}).await;
    let id = bench.submit(bench.job("cat /proc/$$/stat >stat")).await;
    assert_eq!(bench.ended(&id).await.status.state, "COMPLETED");
    let stat = bench.file("stat").await;
    // After the name, in parentheses: state, parent, group, session, terminal.
    let (start, _) = stat.split_once(' ').unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = fields.split(' ').collect();
    assert_eq!(fields[2..5], [start, start, "0"], "{stat}");
}

#[tokio::test]
async fn shutdown_ends_every_job_and_takes_no_more() {
    let bench = Bench::new(|limits| limits.max_running = 1).await;
    let running = bench
        .submit(bench.job("echo $$ >pid; exec sleep 600"))
        .await;
    let pid = bench.file("pid").await;
    let waiting = bench.submit(bench.job("true")).await;
    bench.scheduler.shutdown().await;
    for id in [&running, &waiting] {
        assert_eq!(bench.view(id).await.status.state, "CANCELLED");
    }
    assert!(!is_alive(&pid));
    let refused = bench
        .scheduler
        .submit(&bench.caller, bench.job("true"))
        .await;
    assert!(matches!(refused, Err(SchedulerError::Stopping)));
}

#[tokio::test]
async fn unacceptable_jobs_are_refused_and_unstartable_ones_fail() {
    let bench = Bench::new(|_| {}).await;
    let mut nul = bench.job("true");
    nul.environment.insert("A".into(), "\0".into());
    let no_interpreter = JobDescription {
        script: Script::Text("echo".into()),
        ..bench.job("")
    };
    let missing = JobDescription {
        script: Script::Path("/no/such".into()),
        ..bench.job("")
    };
    let mut relative = bench.job("true");
    relative.working_directory = "tmp".into();
    for job in [nul, no_interpreter, missing, relative] {
        let refused = bench.scheduler.submit(&bench.caller, job).await;
        assert!(
            matches!(refused, Err(SchedulerError::Rejected { .. })),
            "{refused:?}"
        );
    }
    let directory = bench.directory.path();
    for (change, reason) in [
        (
            (|job| job.working_directory = "/no/such/directory".into()) as fn(&mut JobDescription),
            "the working directory cannot be entered",
        ),
        (
            |job| job.standard_input = Some("missing".into()),
            "the file for standard input cannot be read",
        ),
        (
            |job| job.standard_output = Some("/no/such/out".into()),
            "the file for standard output cannot be written",
        ),
        (
            |job| {
                job.standard_output = Some("out".into());
                job.standard_error = Some("/no/such/err".into());
            },
            "the file for standard error cannot be written",
        ),
    ] {
        let mut job = bench.job("touch began");
        change(&mut job);
        let id = bench.submit(job).await;
        let status = bench.ended(&id).await.status;
        let reason = format!("JobLaunchFailure: {reason}");
        assert_eq!(
            (status.state.as_str(), status.exit_code),
            ("FAILED", Some(1))
        );
        assert_eq!(status.state_reason, Some(reason));
        assert!(!directory.join("began").exists());
    }
    // What a job prints is no reason.
    let id = bench
        .submit(bench.job("echo workingDirectory; exit 1"))
        .await;
    let status = bench.ended(&id).await.status;
    assert_eq!(status.state_reason.as_deref(), Some("NonZeroExitCode"));
}

#[tokio::test]
async fn what_a_job_was_submitted_with_is_shown_its_script_to_its_user_only() {
    let bench = Bench::new(|_| {}).await;
    let mut job = bench.job("true");
    job.standard_output = Some("out-%u-%j".into());
    std::fs::create_dir(bench.directory.path().join("sub")).unwrap();
    let at = bench.directory.path().display();
    job.standard_error = Some(format!("{at}/sub/../err-%j"));
    let id = bench.submit(job).await;
    let plain = bench.submit(bench.job("true")).await;
    bench.ended(&id).await;
    let metadata = async |caller: &Caller, id: &JobId| {
        let shown = bench.scheduler.metadata(caller, id).await;
        shown.unwrap().remove(0)
    };
    let text = id.as_str();
    // The job runs as this one, whoever asked for it, and named its file.
    let account = &bench.scheduler.accounts.service().name;
    let output = format!("out-{account}-{text}");
    assert!(bench.directory.path().join(output).exists());
    let mut expected = JobMetadataModel {
        job_id: text.to_owned(),
        script: Some("#!/bin/sh\ntrue\n".into()),
        standard_input: Some("/dev/null".into()),
        standard_output: Some(format!("{at}/out-{account}-{text}")),
        standard_error: Some(format!("{at}/sub/../err-{text}")),
    };
    assert_eq!(metadata(&bench.caller, &id).await, expected);
    expected.script = None;
    assert_eq!(metadata(&Caller::for_tests("eve"), &id).await, expected);
    let both = metadata(&bench.caller, &plain).await;
    let output = format!("{at}/slurm-{}.out", plain.as_str());
    assert_eq!(both.standard_output, Some(output));
    assert_eq!(both.standard_error, both.standard_output);
    let unknown = JobId::parse("999").unwrap();
    let missing = bench.scheduler.metadata(&bench.caller, &unknown).await;
    assert!(matches!(missing, Err(SchedulerError::NotFound)));
}

#[tokio::test]
async fn a_script_file_is_read_when_submitted() {
    let bench = Bench::new(|_| {}).await;
    let path = bench.directory.path().join("it's a script");
    std::fs::write(&path, "#!/bin/sh\necho from file\n").unwrap();
    let mut job = bench.job("");
    job.script = Script::Path(path.display().to_string());
    let id = bench.submit(job).await;
    bench.ended(&id).await;
    assert_eq!(
        bench.file(&format!("slurm-{}.out", id.as_str())).await,
        "from file\n"
    );
    let unknown = JobId::parse("999").unwrap();
    let missing = bench.scheduler.job(&bench.caller, &unknown).await;
    assert!(matches!(missing, Err(SchedulerError::NotFound)));
}

#[tokio::test]
async fn a_root_service_runs_jobs_as_their_users_and_opens_nothing_for_them() {
    let mut bench = Bench::new(|_| {}).await;
    let accounts = Accounts::new(UserPolicy::SameName).await.unwrap();
    if accounts.service().uid != 0 {
        eprintln!("skipped: not root");
        return;
    }
    let limits = bench.scheduler.limits.clone();
    bench.scheduler = LocalScheduler::new("here", limits, Arc::new(accounts)).unwrap();
    bench.caller = Caller::for_tests("nobody");
    process::set_mode(bench.directory.path(), 0o777).unwrap();
    let id = bench
        .submit(bench.job("id -un; cat \"$0\" >/dev/null && echo readable"))
        .await;
    assert_eq!(bench.ended(&id).await.status.state, "COMPLETED");
    let output = bench.file(&format!("slurm-{}.out", id.as_str())).await;
    assert_eq!(output, "nobody\nreadable\n");
    let precious = bench.directory.path().join("precious");
    std::fs::write(&precious, "of root\n").unwrap();
    let mut job = bench.job("echo overwritten");
    job.standard_output = Some(precious.display().to_string());
    let id = bench.submit(job).await;
    assert_eq!(bench.ended(&id).await.status.state, "FAILED");
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "of root\n");
}

/// A root service starts what changes the user: a job's variables must come after that.
#[tokio::test]
async fn variables_are_not_seen_by_what_still_is_root() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: only root changes users");
        return;
    }
    let mut bench = Bench::new(|_| {}).await;
    let accounts = Accounts::new(UserPolicy::SameName).await.unwrap();
    bench.scheduler =
        LocalScheduler::new("here", bench.scheduler.limits.clone(), Arc::new(accounts)).unwrap();
    bench.caller = Caller::for_tests("nobody");
    let directory = bench.directory.path();
    process::set_mode(directory, 0o777).unwrap();
    let trap = directory.join("setpriv");
    let sprung = directory.join("sprung");
    std::fs::write(&trap, format!("#!/bin/sh\nid -u > {}\n", sprung.display())).unwrap();
    process::set_mode(&trap, 0o755).unwrap();
    let mut job = bench.job(r#"/usr/bin/id -u; echo "$PATH"; echo "$LD_PRELOAD""#);
    let path = format!("{}:/usr/bin:/bin", directory.display());
    let unusual = "no such 'library'\n$(exit 1)";
    for (name, value) in [
        ("PATH", path.as_str()),
        ("LD_PRELOAD", unusual),
        ("UID", "7"),
    ] {
        job.environment.insert(name.into(), value.into());
    }
    job.standard_output = Some("out".into());
    job.standard_error = Some("err".into());
    let id = bench.submit(job).await;
    let view = bench.ended(&id).await;
    assert_eq!(view.status.state, "COMPLETED");
    assert_eq!(
        bench.file("out").await,
        format!("65534\n{path}\n{unusual}\n")
    );
    assert!(!sprung.exists(), "the user's PATH was searched by root");
}
