//! What programs print here is modelled: the files after OpenPBS 23's documentation; what is written
//! in a test after OpenPBS' sources, which it names, or else after that documentation too. What real
//! ones printed is in `captured`.

mod captured;

use std::collections::VecDeque;
use std::sync::Mutex;

use super::text::{clock, mebibytes, moment};
use super::*;
use crate::model::status::{NodeState, PartitionState};

/// Answers commands with these one after the other, and the last again and again; remembers
/// what was asked.
#[derive(Debug)]
struct Scripted {
    outputs: Mutex<VecDeque<Output>>,
    asked: Mutex<Vec<(String, Vec<u8>)>>,
    limits: Mutex<Vec<RunLimits>>,
    /// How long each takes.
    takes: Duration,
}

impl Executor for Scripted {
    fn run_with_input<'a>(
        &'a self,
        _: &'a Caller,
        line: &'a ShellLine,
        input: &'a [u8],
        limits: RunLimits,
    ) -> BoxFuture<'a, Result<Output, ExecError>> {
        self.limits.lock().unwrap().push(limits);
        let asked = (line.as_str().to_owned(), input.to_vec());
        self.asked.lock().unwrap().push(asked);
        let mut outputs = self.outputs.lock().unwrap();
        let output = match outputs.len() {
            1 => outputs[0].clone(),
            _ => outputs.pop_front().unwrap(),
        };
        Box::pin(async {
            tokio::time::sleep(self.takes).await;
            Ok(output)
        })
    }
}

struct Bench {
    pbs: PbsCommandLine,
    scripted: Arc<Scripted>,
    caller: Caller,
}

/// The time that one command has.
const COMMAND: Duration = Duration::from_secs(5);

impl Bench {
    fn new(code: i32, stdout: &str, stderr: &str) -> Self {
        Self::in_turn(&[(code, stdout, stderr)])
    }

    fn in_turn(answers: &[(i32, &str, &str)]) -> Self {
        Self::slowly(Duration::ZERO, answers)
    }

    fn slowly(takes: Duration, answers: &[(i32, &str, &str)]) -> Self {
        let output = |&(code, stdout, stderr): &(i32, &str, &str)| Output {
            exit_code: Some(code),
            signal: None,
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        let scripted = Arc::new(Scripted {
            outputs: Mutex::new(answers.iter().map(output).collect()),
            asked: Mutex::default(),
            limits: Mutex::default(),
            takes,
        });
        let limits = RunLimits {
            timeout: COMMAND,
            output_bytes: 1 << 20,
        };
        let executor: Arc<dyn Executor> = Arc::<Scripted>::clone(&scripted);
        Self {
            pbs: PbsCommandLine::new(executor, limits),
            scripted,
            caller: Caller::for_tests("fireuser"),
        }
    }

    /// All lines so far, in order.
    fn lines(&self) -> Vec<String> {
        let asked = self.scripted.asked.lock().unwrap();
        asked.iter().map(|(line, _)| line.clone()).collect()
    }

    fn asked(&self) -> (String, String) {
        let (line, input) = self.scripted.asked.lock().unwrap().pop().unwrap();
        (line, String::from_utf8(input).unwrap())
    }
}

fn printed(name: &str) -> String {
    let directory = env!("CARGO_MANIFEST_DIR");
    std::fs::read_to_string(format!("{directory}/testdata/pbs/{name}")).unwrap()
}

fn id(text: &str) -> JobId {
    JobId::parse(text).unwrap()
}

#[tokio::test]
async fn jobs_are_read_and_filtered() {
    let bench = Bench::new(0, &printed("jobs.json"), "");
    let list = |filter| bench.pbs.jobs(&bench.caller, filter);
    let all = list(JobFilter {
        all_users: true,
        ..JobFilter::default()
    })
    .await
    .unwrap();
    assert_eq!(bench.asked().0, "env TZ=UTC0 qstat -F json -f -x");
    let ids: Vec<_> = all.iter().map(|job| job.job_id.as_str()).collect();
    assert_eq!(ids, ["998", "1012", "1013"]);

    let running = &all[1];
    assert_eq!((&*running.user, &*running.cluster), ("fireuser", "login"));
    assert_eq!((&*running.nodes, running.allocation_nodes), ("cn1,cn2", 2));
    assert_eq!(
        (running.status.state.as_str(), running.status.exit_code),
        ("R", Some(0))
    );
    assert_eq!(running.time.elapsed, Some(77));
    assert_eq!(running.time.limit, Some(86_400));
    assert_eq!(running.time.start, Some(1_750_368_471));
    assert_eq!(running.working_directory, "/home/fireuser/work");
    assert_eq!(running.tasks, None);

    let waiting = &all[2];
    assert_eq!((&*waiting.name, &*waiting.nodes), ("1234", "None assigned"));
    assert_eq!((waiting.time.start, waiting.time.elapsed), (None, None));
    // `"Job_Name":inf` is no JSON.
    let killed = &all[0];
    assert_eq!(
        (&*killed.name, killed.status.interrupt_signal),
        ("inf", Some(15))
    );

    let count = |filter| async { list(filter).await.unwrap().len() };
    let named = JobFilter {
        all_users: true,
        name: Some("sleeper".into()),
        ..JobFilter::default()
    };
    assert_eq!(count(named).await, 1);
    let charged = JobFilter {
        all_users: true,
        account: Some("staff".into()),
        ..JobFilter::default()
    };
    assert_eq!(count(charged).await, 1);
}

#[tokio::test]
async fn the_files_of_a_job_are_not_swapped() {
    let bench = Bench::new(0, &printed("jobs.json"), "");
    let metadata = bench
        .pbs
        .metadata(&bench.caller, &id("1012"))
        .await
        .unwrap();
    assert_eq!(bench.asked().0, "env TZ=UTC0 qstat -F json -f -x 1012");
    let one = metadata.iter().find(|one| one.job_id == "1012").unwrap();
    assert_eq!(
        one.standard_output.as_deref(),
        Some("/home/fireuser/sleeper.o1012")
    );
    assert_eq!(
        one.standard_error.as_deref(),
        Some("/home/fireuser/sleeper.e1012")
    );
    assert_eq!((&one.standard_input, &one.script), (&None, &None));
    let without_host = metadata.iter().find(|one| one.job_id == "998").unwrap();
    assert_eq!(
        without_host.standard_output.as_deref(),
        Some("/home/fireuser/o")
    );
}

#[tokio::test]
async fn submissions() {
    let bench = Bench::new(0, "1014.pbs\n", "");
    let mut job = JobDescription {
        name: Some("my job".into()),
        working_directory: "/home/it's".into(),
        standard_input: Some("/dev/null".into()),
        standard_output: Some("/home/o".into()),
        standard_error: Some("/home/e".into()),
        account: Some("staff".into()),
        partition: Some("workq".into()),
        script: Script::Text("#!/bin/sh\n".into()),
        ..JobDescription::default()
    };
    job.environment.insert("A".into(), "c".into());
    job.environment.insert("B".into(), "d e".into());
    let submitted = bench.pbs.submit(&bench.caller, job.clone()).await.unwrap();
    assert_eq!(submitted.as_str(), "1014");
    let (line, input) = bench.asked();
    assert_eq!(input, "#!/bin/sh\n");
    let inner = r"cd -- '/home/it'\''s' && env -u LC_ALL qsub -v 'A=c,B=d e' -N 'my job' -q workq -P staff -e /home/e -o /home/o";
    assert_eq!(line, ShellLine::new("sh").arg("-c").arg(inner).as_str());
    let (line, _) = submission(&job).unwrap();
    assert!(line.shown().contains("A=***,B=***"), "{}", line.shown());
    assert!(!line.shown().contains("d e"), "{}", line.shown());

    job.reservation = Some("R14".into());
    job.environment.clear();
    job.script = Script::Path("-run.sh".into());
    bench.pbs.submit(&bench.caller, job.clone()).await.unwrap();
    let (line, input) = bench.asked();
    assert!(
        line.contains("qsub -V -N ") && line.contains(" -q R14 "),
        "{line}"
    );
    assert!(line.ends_with(" ./-run.sh'") && input.is_empty(), "{line}");

    job.constraints = Some("gpu".into());
    let refused = bench.pbs.submit(&bench.caller, job).await;
    assert!(matches!(refused, Err(SchedulerError::Rejected { .. })));
    let silent = Bench::new(0, "", "");
    let nothing = silent
        .pbs
        .submit(&silent.caller, JobDescription::default())
        .await;
    assert_eq!(nothing.unwrap_err().to_string(), "Unable to submit new job");
}

/// How qsub reads `-v` and `-V` is of OpenPBS' sources (`copy_env_value`, `set_job_env` of qsub.c).
#[test]
fn what_an_option_cannot_list_is_inherited() {
    let mut job = JobDescription {
        working_directory: "/w".into(),
        ..JobDescription::default()
    };
    let variables = [("JSON", r#"{"a": [1,2]}"#), ("PATH", "/bin"), ("EMPTY", "")];
    for (name, value) in variables {
        job.environment.insert(name.into(), value.into());
    }
    let line = qsub(&job);
    let (kept, given) = line.as_str().split_once(" 'JSON=").unwrap();
    assert!(kept.starts_with("env -i ${HOME+\"HOME=$HOME\"} "), "{kept}");
    // It would come after what `-v` lists, and count.
    assert!(!kept.contains("PATH"), "{kept}");
    assert_eq!(
        given,
        r#"{"a": [1,2]}' "$(command -v qsub || echo qsub)" -V -v EMPTY=,PATH=/bin"#
    );
    assert!(!line.shown().contains("[1,2]"), "{}", line.shown());

    // The server takes away what is white at its end (`parse_comma_string_bs` of attr_fn_arst.c): it
    // is no reason to refuse what arrived so before.
    let mut white = job.clone();
    white.environment.clear();
    for (name, value) in [("KEY", "a\nb\n"), ("FLAGS", "-O2 ")] {
        white.environment.insert(name.into(), value.into());
    }
    let (line, _) = submission(&white).unwrap();
    let submitted = qsub(&white);
    let submitted = submitted.as_str();
    assert!(submitted.contains(" 'KEY=a\nb\n' "), "{submitted}");
    assert!(submitted.ends_with(" -V -v 'FLAGS=-O2 '"), "{submitted}");
    assert!(!line.shown().contains("-O2"), "{}", line.shown());

    for name in ["PBS_DEFAULT", "LD_PRELOAD"] {
        let mut job = job.clone();
        job.environment.insert(name.into(), "a,b".into());
        let refused = submission(&job).unwrap_err();
        assert!(matches!(refused, SchedulerError::Rejected { .. }));
        assert!(refused.to_string().contains(name), "{refused}");
    }
}

/// The words and numbers are of OpenPBS' sources (pbs_messages.c, pbs_error.h).
#[tokio::test]
async fn failures_are_told_apart() {
    let ask = |code, stderr: &'static str| async move {
        let bench = Bench::new(code, "", stderr);
        bench.pbs.cancel(&bench.caller, &id("7")).await.unwrap_err()
    };
    use SchedulerError as E;
    assert!(matches!(
        ask(153, "qdel: Unknown Job Id 7.pbs").await,
        E::NotFound
    ));
    assert!(matches!(
        ask(35, "qdel: Job has finished 7.pbs").await,
        E::AlreadyEnded { .. }
    ));
    assert!(matches!(
        ask(159, "qdel: Unauthorized Request  7.pbs").await,
        E::NotOwner { .. }
    ));
    assert_eq!(
        ask(1, "qdel: cannot connect to server pbs (errno=111)\n")
            .await
            .to_string(),
        "Unexpected PBS qdel response. exit_status:1 std_err:qdel: cannot connect to server pbs (errno=111)"
    );
    let long = "x".repeat(limits::QUOTED_ANSWER_MAX_BYTES);
    let bench = Bench::new(1, "", &format!("{long}y"));
    let failed = bench.pbs.nodes(&bench.caller).await.unwrap_err();
    assert!(failed.to_string().ends_with(&format!(" std_err:{long}")));
    let bench = Bench::new(0, "{}", "");
    for text in ["abc", "1234567890123", "7"] {
        assert!(matches!(
            bench.pbs.job(&bench.caller, &id(text)).await,
            Err(E::NotFound)
        ));
    }
    assert_eq!(bench.lines().len(), 1, "only numbers are asked for");
    bench
        .pbs
        .cancel(&bench.caller, &id("999999999999"))
        .await
        .unwrap();
    assert_eq!(bench.asked().0, "qdel 999999999999");
}

/// A script can make an array of its job (`#PBS -J`): then PBS knows `7[]`, and no `7` (after
/// OpenPBS' sources, array_func.c).
#[tokio::test]
async fn an_array_is_found_under_its_number() {
    let unknown = (153, "", "qstat: Unknown Job Id 7.pbs\n");
    let array = r#"{"Jobs":{"7[].pbs":{"Job_Name":"many","job_state":"B","array":"True"}}}"#;
    let bench = Bench::in_turn(&[unknown, (0, array, "")]);
    let jobs = bench.pbs.job(&bench.caller, &id("7")).await.unwrap();
    assert_eq!((&*jobs[0].job_id, &*jobs[0].status.state), ("7[]", "B"));
    let qstat = "env TZ=UTC0 qstat -F json -f -x";
    assert_eq!(
        bench.lines(),
        [format!("{qstat} 7"), format!("{qstat} '7[]'")]
    );

    let bench = Bench::in_turn(&[unknown, (0, "", "")]);
    bench.pbs.cancel(&bench.caller, &id("7")).await.unwrap();
    assert_eq!(bench.lines(), ["qdel 7", "qdel '7[]'"]);
}

const NO_JOBS: &str = "{\n    \"timestamp\":1750368471,\n    \"pbs_server\":\"pbs\"\n}\n";

/// What the programs print and how they end is of OpenPBS' sources (qstat.c, qselect.c); keeping a
/// history is off unless somebody turns it on.
#[tokio::test]
async fn a_server_without_history_tells_of_the_other_jobs() {
    let refused = "qstat: PBS is not configured to maintain job history\n";
    let jobs = r#"{"Jobs":{"7.pbs":{"Job_Owner":"fireuser@login","job_state":"R"}}}"#;
    let qstat = "env TZ=UTC0 qstat -F json -f";

    let bench = Bench::in_turn(&[(0, NO_JOBS, refused), (0, jobs, "")]);
    let all = JobFilter {
        all_users: true,
        ..JobFilter::default()
    };
    let found = bench.pbs.jobs(&bench.caller, all).await;
    assert_eq!(found.unwrap().len(), 1);
    assert_eq!(bench.lines(), [format!("{qstat} -x"), qstat.to_owned()]);

    let bench = Bench::in_turn(&[(0, NO_JOBS, refused), (0, jobs, "")]);
    let found = bench.pbs.job(&bench.caller, &id("7")).await.unwrap();
    assert_eq!(found[0].status.state, "R");
    assert_eq!(
        bench.lines(),
        [format!("{qstat} -x 7"), format!("{qstat} 7")]
    );

    let refused = refused.replace("qstat", "qselect");
    let bench = Bench::in_turn(&[(0, "", &refused), (0, "7.pbs\n", ""), (0, jobs, "")]);
    let found = bench.pbs.jobs(&bench.caller, JobFilter::default()).await;
    assert_eq!(found.unwrap().len(), 1);
    let lines = [
        "qselect -x -u fireuser".to_owned(),
        "qselect -u fireuser".to_owned(),
        format!("{qstat} -E 7"),
    ];
    assert_eq!(bench.lines(), lines);
}

/// What programs print is of OpenPBS' sources (qselect.c, qstat.c).
#[tokio::test]
async fn ones_own_jobs_are_asked_for_by_their_ids() {
    let list = async |bench: &Bench| bench.pbs.jobs(&bench.caller, JobFilter::default()).await;
    let own = r#"{"Jobs":{"7.pbs":{"Job_Owner":"fireuser@login","job_state":"R"},
        "8.pbs":{"Job_Owner":"another@login","job_state":"R"},
        "9[].pbs":{"Job_Owner":"fireuser@login","job_state":"B"}}}"#;
    let bench = Bench::in_turn(&[(0, "Welcome!\n7.pbs\n9[].pbs\n", ""), (0, own, "")]);
    let found = list(&bench).await.unwrap();
    let ids: Vec<_> = found.iter().map(|job| job.job_id.as_str()).collect();
    assert_eq!(ids, ["7", "9[]"]);
    let qstat = "env TZ=UTC0 qstat -F json -f -x -E";
    assert_eq!(
        bench.lines(),
        [
            "qselect -x -u fireuser".to_owned(),
            format!("{qstat} 7 '9[]'")
        ]
    );

    let none = Bench::new(0, "", "");
    assert!(list(&none).await.unwrap().is_empty());
    assert_eq!(none.lines().len(), 1, "qstat without ids shows everybody's");

    let many: String = (0..JOBS_AT_ONCE + 1)
        .map(|n| format!("{n}.pbs\n"))
        .collect();
    let gone = (153, NO_JOBS, "qstat: Unknown Job Id 500.pbs\n");
    let bench = Bench::in_turn(&[(0, &many, ""), (0, own, ""), gone]);
    assert_eq!(list(&bench).await.unwrap().len(), 2);
    let lines = bench.lines();
    assert!(lines[1].ends_with(" 499"), "{}", lines[1]);
    assert_eq!(lines[2], format!("{qstat} 500"));

    let gone = (153, NO_JOBS, "qstat: Unknown Job Id 7.pbs\n");
    let elsewhere = [(0, "7.pbs\n9[].pbs\n", ""), gone, (0, own, "")];
    let elsewhere = Bench::in_turn(&elsewhere);
    assert_eq!(list(&elsewhere).await.unwrap().len(), 2);
    let lines = elsewhere.lines();
    assert_eq!(
        lines[1..],
        [
            format!("{qstat} 7 '9[]'"),
            format!("{qstat} 7.pbs '9[].pbs'")
        ]
    );
    let ended = Bench::in_turn(&[(0, "7.pbs\n", ""), gone]);
    assert!(list(&ended).await.unwrap().is_empty());
    assert_eq!(ended.lines().len(), 3);

    // All answers together are one list.
    let left: Vec<_> = bench.scripted.limits.lock().unwrap().clone();
    let left: Vec<_> = left.iter().map(|limits| limits.output_bytes).collect();
    let all = limits::SCHEDULER_ANSWER_MAX_BYTES;
    let after_two = all - many.len() - own.len();
    assert_eq!(left, [all, all - many.len(), after_two]);

    let down = "qstat: cannot connect to server pbs (errno=15010)\n";
    let bench = Bench::in_turn(&[(0, "7.pbs\n", ""), (255, "", down)]);
    assert!(list(&bench).await.is_err());
}

#[tokio::test]
async fn nodes_queues_and_servers() {
    let bench = Bench::new(0, &printed("nodes.json"), "");
    let nodes = bench.pbs.nodes(&bench.caller).await.unwrap();
    assert_eq!(bench.asked().0, "env TZ=UTC0 pbsnodes -a -F json");
    let node = &nodes[0];
    assert_eq!(
        (&*node.name, node.cpus, node.idle_cpus),
        ("cn1", 48, Some(44))
    );
    assert_eq!(
        (node.alloc_memory, node.free_memory),
        (Some(1024), Some(257_658 - 1024))
    );
    assert_eq!(
        (node.hostname.as_deref(), &*node.state),
        (Some("cn1"), &[NodeState::Idle][..])
    );
    assert_eq!(nodes[1].state, [NodeState::Unknown, NodeState::Down]);
    assert_eq!((nodes[1].cpus, nodes[1].free_memory), (64, Some(514_260)));
    assert_eq!(nodes[1].partitions, Some(vec!["gpu".to_owned()]));

    let bench = Bench::new(0, &printed("queues.json"), "");
    let queues = bench.pbs.partitions(&bench.caller, false).await.unwrap();
    let states: Vec<_> = queues
        .iter()
        .map(|q| (&*q.name, q.partition.clone()))
        .collect();
    let word = |text: &str| PartitionState::Word(text.to_owned());
    assert_eq!(states, [("old", word("DOWN")), ("workq", word("UP"))]);

    let bench = Bench::new(0, &printed("server.json"), "");
    let minute = Duration::from_secs(60);
    let pings = bench.pbs.ping(&bench.caller, minute).await.unwrap();
    let limits = *bench.scripted.limits.lock().unwrap().last().unwrap();
    assert_eq!(limits.timeout, minute, "however short other commands are");
    assert_eq!(
        (pings[0].hostname.as_deref(), &*pings[0].pinged),
        (Some("pbs.cluster"), "UP")
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_takes_only_so_long_however_many_answers_make_it() {
    let list = async |commands: usize| {
        let many: String = (0..(commands - 1) * JOBS_AT_ONCE)
            .map(|n| format!("{n}.pbs\n"))
            .collect();
        // Each in time.
        let takes = COMMAND - Duration::from_millis(100);
        let bench = Bench::slowly(takes, &[(0, &many, ""), (0, NO_JOBS, "")]);
        bench.pbs.jobs(&bench.caller, JobFilter::default()).await
    };
    let times = limits::LIST_COMMAND_TIMES as usize;
    assert!(list(times).await.unwrap().is_empty());
    assert!(matches!(
        list(times + 1).await,
        Err(SchedulerError::Exec(ExecError::Timeout))
    ));
}

#[tokio::test]
async fn a_long_answer_is_read_as_a_short_one_is() {
    let job = |n: usize| {
        let comment = "x".repeat(3000);
        format!(r#""{n}.pbs":{{"job_state":"R","comment":"{comment}"}}"#)
    };
    let jobs: Vec<_> = (0..1000).rev().map(job).collect();
    let text = format!(r#"{{"Jobs":{{{}}}}}"#, jobs.join(","));
    assert!(text.len() > limits::ANSWER_READ_AT_ONCE_MAX_BYTES);
    let all = JobFilter {
        all_users: true,
        ..JobFilter::default()
    };
    let bench = Bench::new(0, &text, "");
    let found = bench.pbs.jobs(&bench.caller, all.clone()).await.unwrap();
    assert_eq!((found.len(), &*found[999].job_id), (1000, "999"));
    let bench = Bench::new(0, &text[..text.len() - 1], "");
    let failed = bench.pbs.jobs(&bench.caller, all).await.unwrap_err();
    assert_eq!(failed.to_string(), "Unexpected output of qstat");
}

#[tokio::test]
async fn lists_may_be_longer_than_other_answers() {
    let bench = Bench::new(0, NO_JOBS, "");
    let (pbs, caller, minute) = (&bench.pbs, &bench.caller, Duration::from_secs(60));
    let all = JobFilter {
        all_users: true,
        ..JobFilter::default()
    };
    let _ = pbs.jobs(caller, all).await;
    let _ = pbs.jobs(caller, JobFilter::default()).await;
    let _ = pbs.nodes(caller).await;
    let _ = pbs.partitions(caller, false).await;
    let bytes = || -> Vec<usize> {
        let all = std::mem::take(&mut *bench.scripted.limits.lock().unwrap());
        all.iter().map(|limits| limits.output_bytes).collect()
    };
    assert_eq!(bytes(), [limits::SCHEDULER_ANSWER_MAX_BYTES; 4]);
    let _ = pbs.job(caller, &id("7")).await;
    let _ = pbs.submit(caller, JobDescription::default()).await;
    let _ = pbs.cancel(caller, &id("7")).await;
    let _ = pbs.ping(caller, minute).await;
    assert_eq!(bytes(), [1 << 20; 4]);
}

#[test]
fn reservations() {
    let start = 1_750_370_400;
    let all = nodes::reservations(&printed("reservations.txt"), start);
    assert_eq!(all.len(), 2);
    assert_eq!(
        (&*all[0].name, &*all[0].node_list),
        ("maintenance", "cn1,cn2")
    );
    assert_eq!(all[0].start_time, i64::try_from(start).unwrap());
    assert_eq!(all[0].end_time - all[0].start_time, 3600);
    assert_eq!(all[0].state.as_deref(), Some("active"));
    assert_eq!(
        (&*all[1].name, all[1].state.as_deref()),
        ("R15.pbs", Some("inactive"))
    );
    assert!(nodes::reservations("", 0).is_empty());
}

#[test]
fn times_and_sizes() {
    assert_eq!(clock("24:00:01"), Some(86_401));
    assert_eq!(clock("01:30"), Some(90));
    assert_eq!(
        (clock("1:2:3:4"), clock(""), clock("x")),
        (None, None, None)
    );
    assert_eq!(moment("Sun Jun  1 09:05:00 2025"), Some(1_748_768_700));
    assert_eq!(moment("tomorrow"), None);
    assert_eq!(
        (mebibytes("1gb"), mebibytes("2048kb"), mebibytes("5")),
        (Some(1024), Some(2), Some(0))
    );
    assert_eq!(
        (mebibytes("kb"), mebibytes("9999999999tb"), mebibytes("1pb")),
        (None, None, None)
    );
}

#[test]
fn what_a_login_shell_prints_before_the_id_does_not_matter() {
    for printed in [
        "7.pbs01\n",
        "7[].pbs01\n",
        "Welcome to node 3\n7.pbs01\n",
        "\u{1b}]0;login01\u{7}7.pbs01\n",
    ] {
        assert_eq!(submitted(printed), JobId::parse("7"), "{printed:?}");
    }
    assert_eq!(submitted("\n"), None);
}
