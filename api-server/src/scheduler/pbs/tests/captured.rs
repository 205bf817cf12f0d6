//! What real PBS printed, of 19.0.0 to 2026: the files in testdata/pbs/captured (their README
//! tells where each is from), and below what programs wrote to standard error, each with the
//! place where somebody posted it.
//!
//! Not captured, since nobody was found to have published it as JSON: arrays of jobs, the states
//! B, E, M, S, T, U, W and X, an exit status above 256, and reservations of before 2022. Those
//! are tested with what PBS' documentation and sources say.

use super::*;
use crate::scheduler::phase::Phase;

const AURORA: &str = "aurora-uan-0011.hostmgmt1000.cm.aurora.alcf.anl.gov";

async fn all_jobs(name: &str) -> Vec<Job> {
    let bench = Bench::new(0, &printed(&format!("captured/{name}")), "");
    let all = JobFilter {
        all_users: true,
        ..JobFilter::default()
    };
    bench.pbs.jobs(&bench.caller, all).await.unwrap()
}

#[tokio::test]
async fn jobs_that_wait_are_held_or_were_never_run() {
    let jobs = all_jobs("2022.1.7-jobs.json").await;
    let states: Vec<_> = jobs
        .iter()
        .map(|job| (&*job.job_id, &*job.status.state, &*job.nodes))
        .collect();
    let expected = [
        ("4345644", "H", "None assigned"),
        ("4683812", "Q", "x4002c2s0b0n0"),
        ("4846771", "F", "None assigned"),
    ];
    assert_eq!(states, expected);
    assert_eq!(
        jobs[0].status.state_reason.as_deref(),
        Some("job held, too many failed attempts to run")
    );
    // No `Exit_status`, no `stime`, no `resources_used`.
    let never_run = &jobs[2];
    assert_eq!(
        (never_run.status.exit_code, never_run.time.start),
        (None, None)
    );
    assert_eq!(Phase::of(&never_run.status), Phase::Cancelled);
    assert_eq!(
        (never_run.time.elapsed, never_run.time.limit),
        (None, Some(64_800))
    );
    assert_eq!((&*never_run.user, &*never_run.cluster), ("user2", AURORA));
    assert_eq!(never_run.allocation_nodes, 1025);
    assert_eq!(never_run.account.as_deref(), Some("TransMetalChem"));
}

#[tokio::test]
async fn jobs_that_run_failed_to_start_or_finished() {
    let jobs = all_jobs("2022.1.1-jobs.json").await;
    let (held, running) = (&jobs[0], &jobs[1]);
    assert_eq!((&*held.job_id, held.status.exit_code), ("412020", Some(-3)));
    assert_eq!(held.status.interrupt_signal, Some(0));
    assert_eq!(held.time.start, Some(1_676_048_543));
    assert_eq!((&*running.job_id, &*running.status.state), ("1147579", "R"));
    assert_eq!(
        running.nodes,
        "x3006c0s31b1n0,x3006c0s37b0n0,x3006c0s37b1n0"
    );
    assert_eq!(
        running.time.elapsed,
        Some(22 * 3600 + 28 * 60 + 30),
        "and the rest of it was cut off"
    );

    let finished = &all_jobs("19.0.0-finished.json").await[0];
    assert_eq!((&*finished.job_id, &*finished.status.state), ("40", "F"));
    assert_eq!(
        (finished.time.elapsed, finished.time.limit),
        (Some(10), Some(120))
    );
    assert_eq!((&*finished.nodes, finished.allocation_nodes), ("pbs", 1));
    assert_eq!(finished.time.start, Some(1_616_013_408));
}

#[tokio::test]
async fn the_files_of_a_captured_job() {
    let bench = Bench::new(0, &printed("captured/2022.1.7-jobs.json"), "");
    let found = bench.pbs.metadata(&bench.caller, &id("4846771")).await;
    let found = found.unwrap();
    let one = found.iter().find(|one| one.job_id == "4846771").unwrap();
    let file = |end| format!("/home/user2/lustre/user2/CoupledCluster/sco10ls.{end}");
    assert_eq!(one.standard_output, Some(file("out")));
    assert_eq!(one.standard_error, Some(file("err")));
}

#[tokio::test]
async fn captured_nodes_queues_and_servers() {
    let bench = Bench::new(0, &printed("captured/2022.1.1-nodes.json"), "");
    let nodes = bench.pbs.nodes(&bench.caller).await.unwrap();
    let states: Vec<_> = nodes
        .iter()
        .map(|node| (&*node.state, node.idle_cpus))
        .collect();
    let expected = [
        (&[NodeState::Idle][..], Some(64)),
        (&[NodeState::Allocated][..], Some(63)),
        (&[NodeState::Down][..], Some(64)),
    ];
    assert_eq!(states, expected);
    assert_eq!((nodes[0].cpus, nodes[0].free_memory), (64, Some(515_305)));
    assert_eq!(nodes[0].partitions, None);

    let queues = |name: &str| {
        let bench = Bench::new(0, &printed(&format!("captured/{name}")), "");
        async move { bench.pbs.partitions(&bench.caller, false).await.unwrap() }
    };
    let word = |text: &str| PartitionState::Word(text.to_owned());
    let states: Vec<_> = queues("2022.1.7-queues.json").await;
    let states: Vec<_> = states
        .iter()
        .map(|q| (&*q.name, q.partition.clone()))
        .collect();
    let expected = [
        ("backfill-tiny", word("DOWN")),
        ("debug", word("UP")),
        ("lustre_scaling", word("UP")),
    ];
    assert_eq!(states, expected, "the first was cut before it says so");
    assert_eq!(queues("2021.1.3-queue.json").await[0].partition, word("UP"));

    let bench = Bench::new(0, &printed("captured/2022.1.7-server.json"), "");
    let second = Duration::from_secs(1);
    let pings = bench.pbs.ping(&bench.caller, second).await;
    let ping = pings.unwrap().remove(0);
    assert_eq!(ping.pinged, "UP");
    assert_eq!(
        ping.hostname.as_deref(),
        Some("aurora-pbs-0001.hostmgmt6100.cm.aurora.alcf.anl.gov")
    );
}

#[test]
fn captured_reservations() {
    let noon = 1_754_481_600; // Wed Aug 06 12:00:00 2025
    let all = nodes::reservations(&printed("captured/2022.1.7-reservations.txt"), noon);
    let names: Vec<_> = all
        .iter()
        .map(|one| {
            (
                &*one.name,
                one.state.as_deref(),
                one.end_time - one.start_time,
            )
        })
        .collect();
    let expected = [
        ("HACC-DAOS-Dbg", Some("active"), 14_400),
        ("ATPESC-807", Some("inactive"), 43_200),
    ];
    assert_eq!(names, expected);
    assert_eq!(
        all[1].node_list,
        "x4102c5s2b0n0,x4102c5s5b0n0,x4520c1s0b0n0"
    );
}

/// Versions of 2025 write a number as text (QutEcoacoustics/baw-server pull request 887); the
/// status is of its issue 880.
#[tokio::test]
async fn an_exit_status_can_be_a_text() {
    let text = r#"{"Jobs":{"1.aqua":{"Exit_status":"-20","job_state":"F"},"2.aqua":"?",
        "3.aqua":{"Exit_status":"271","resources_used":"?","Variable_List":"A=1"}}}"#;
    let bench = Bench::new(0, text, "");
    let all = JobFilter {
        all_users: true,
        ..JobFilter::default()
    };
    let jobs = bench.pbs.jobs(&bench.caller, all).await.unwrap();
    let ends: Vec<_> = jobs
        .iter()
        .map(|job| {
            (
                &*job.job_id,
                job.status.exit_code,
                job.status.interrupt_signal,
            )
        })
        .collect();
    let expected = [("1", Some(-20), Some(0)), ("3", Some(271), Some(15))];
    assert_eq!(ends, expected, "what cannot be read hides nothing else");
}

/// What a shared host holds is told by its first node only, as 0nebody/pbs_exporter shows of
/// 2026.0.0: `"ncpus":"@gpu0n001[1]"`, and no `pcpus`.
#[tokio::test]
async fn resources_of_another_node_are_not_counted() {
    let text = r#"{"nodes":{"g[1.0]":{"state":"free",
        "resources_available":{"host":"g","mem":"@g[1]","ncpus":"@g[1]","ngpus":1},
        "resources_assigned":{"mem":"@g[1]","ncpus":"@g[1]"}}}}"#;
    let bench = Bench::new(0, text, "");
    let node = bench.pbs.nodes(&bench.caller).await.unwrap().remove(0);
    assert_eq!(
        (node.cpus, node.idle_cpus, node.free_memory),
        (0, None, None)
    );
}

#[tokio::test]
async fn captured_refusals_of_qdel() {
    use SchedulerError as E;
    let cancel = |code, stderr: &'static str| async move {
        let bench = Bench::new(code, "", stderr);
        bench.pbs.cancel(&bench.caller, &id("9999")).await
    };
    // Older versions do not name the job (posted in courses of two centres).
    let ended = cancel(35, "qdel: Job has finished\n").await.unwrap_err();
    assert_eq!(ended.to_string(), "Job 9999 has already ended.");
    let ended = "qdel: Job has finished 305038.stdct-mgmt-02\n";
    let ended = cancel(35, ended).await.unwrap_err();
    assert_eq!(ended.to_string(), "Job 9999 has already ended.");
    let ending = "qdel: Request invalid for state of job 1.srv\n";
    assert!(matches!(
        cancel(168, ending).await,
        Err(E::AlreadyEnded { .. })
    ));
    let unknown = "qdel: Unknown Job Id 9999.sirna1\n";
    assert!(matches!(cancel(153, unknown).await, Err(E::NotFound)));
    let denied = "qdel: Unauthorized Request  MSG=operation not permitted 123\n";
    assert!(matches!(cancel(159, denied).await, Err(E::NotOwner { .. })));
}

/// The first two are of QutEcoacoustics/baw-server (22.05.11; 2026.0.0, its issue 877). qstat
/// prints a document without jobs then.
#[tokio::test]
async fn captured_failures_of_qstat_and_qsub_keep_their_words() {
    let empty = "{\n    \"timestamp\":1750053827,\n    \"pbs_version\":\"22.05.11\",\n    \"pbs_server\":\"6cfab3a0b8ac\"\n}\n";
    let told = |code, stderr: &'static str| async move {
        let bench = Bench::new(code, empty, stderr);
        let all = JobFilter {
            all_users: true,
            ..JobFilter::default()
        };
        let failed = bench.pbs.jobs(&bench.caller, all).await;
        failed.unwrap_err().to_string()
    };
    assert_eq!(
        told(
            255,
            "Connection refused\nqstat: cannot connect to server 6cfab3a0b8ac (errno=15010)\n"
        )
        .await,
        "Unexpected PBS qstat response. exit_status:255 std_err:Connection refused\nqstat: cannot connect to server 6cfab3a0b8ac (errno=15010)"
    );
    assert_eq!(
        told(183, "qstat: Premature end of message 15458627.aqua\n").await,
        "Unexpected PBS qstat response. exit_status:183 std_err:qstat: Premature end of message 15458627.aqua"
    );
    let bench = Bench::new(0, empty, "");
    let all = JobFilter {
        all_users: true,
        ..JobFilter::default()
    };
    let none = bench.pbs.jobs(&bench.caller, all).await;
    assert!(none.unwrap().is_empty());

    // Posted by users of Polaris; the number is of OpenPBS' sources.
    let full = "qsub: would exceed queue generic's per-user limit of jobs in 'Q' state\n";
    let bench = Bench::new(222, "", full);
    let refused = bench.pbs.submit(&bench.caller, JobDescription::default());
    assert_eq!(
        refused.await.unwrap_err().to_string(),
        format!(
            "Unexpected PBS qsub response. exit_status:222 std_err:{}",
            full.trim()
        )
    );
}
