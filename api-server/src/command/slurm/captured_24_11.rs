//! What the programs of Slurm 24.11.5 (Debian 13) printed, asked by the lines that the parsers
//! render, on a cluster of three nodes. 22.05 is tested beside each parser, and live. Of no other
//! version was output of the command line at hand.

use super::fixtures::{failed, printed};
use super::*;
use crate::model::jobs::Job;
use crate::model::status::{Features, NodeState};
use crate::scheduler::{JobFilter, JobId};

macro_rules! captured {
    ($name:literal) => {
        printed(include_str!(concat!(
            "../../../testdata/slurm24.11/",
            $name
        )))
    };
}

fn id(text: &str) -> JobId {
    JobId::parse(text).unwrap()
}

fn all() -> JobQuery {
    let filter = JobFilter {
        all_users: true,
        ..JobFilter::default()
    };
    JobQuery::recorded(WhichJobs::Fitting(filter))
}

fn jobs() -> Vec<Job> {
    let history = History(all()).read(&captured!("sacct.txt")).unwrap();
    let queue = Queue(all()).read(&captured!("squeue.txt")).unwrap();
    merge(history, queue)
}

#[test]
fn accounts_and_queue_tell_of_the_same_jobs() {
    let jobs = jobs();
    let told: Vec<_> = jobs
        .iter()
        .map(|job| (&*job.job_id, &*job.name, &*job.status.state))
        .collect();
    let expected = [
        ("1", "a|b c", "COMPLETED"),
        ("2", "fail", "FAILED"),
        ("3", "dep", "PENDING"),
        ("4_1", "arr", "COMPLETED"),
        ("4_2", "arr", "COMPLETED"),
        ("5", "nl\nx", "FAILED"),
        ("6", "killed", "RUNNING"),
    ];
    for one in expected {
        assert!(told.contains(&one), "{one:?} is not in {told:?}");
    }
    assert_eq!(told.len(), expected.len());

    let find = |id: &str| jobs.iter().find(|job| job.job_id == id).unwrap();
    let running = find("6");
    let tasks = running.tasks.as_ref().unwrap();
    let tasks: Vec<_> = tasks.iter().map(|task| &*task.id).collect();
    assert_eq!(tasks, ["6.batch", "6.0"]);
    assert_eq!((running.time.end, running.time.limit), (None, Some(3600)));
    let waiting = find("3");
    assert_eq!(waiting.status.state_reason.as_deref(), Some("BeginTime"));
    assert_eq!(waiting.tasks, Some(Vec::new()));
}

/// 22.05 writes `768` there.
#[test]
fn the_queue_alone_knows_how_a_job_ended() {
    let rows = Queue(all()).read(&captured!("squeue.txt")).unwrap();
    let find = |id: &str| {
        &rows
            .iter()
            .find(|row| row.job.job_id == id)
            .unwrap()
            .job
            .status
    };
    assert_eq!(
        (find("2").exit_code, find("2").interrupt_signal),
        (Some(3), Some(0))
    );
    assert_eq!((find("1").exit_code, find("6").exit_code), (Some(0), None));
}

#[test]
fn nodes_partitions_and_reservations() {
    let nodes = Nodes.read(&captured!("sinfo.txt")).unwrap();
    let states: Vec<_> = nodes.iter().map(|node| node.state[0]).collect();
    assert_eq!(
        states,
        [NodeState::Mixed, NodeState::Drain, NodeState::Idle]
    );
    assert_eq!(
        (nodes[0].alloc_cpus, nodes[0].idle_cpus),
        (Some(1), Some(7))
    );
    assert_eq!(
        (nodes[0].cpu_load, nodes[0].free_memory),
        (Some(3.24), Some(5610))
    );
    assert_eq!(nodes[0].features, Some(Features::Text("mc,f7t".into())));

    let names = |hidden| {
        let asked = Partitions {
            show_hidden: hidden,
        };
        let all = asked.read(&captured!("partitions.txt")).unwrap();
        all.into_iter().map(|one| one.name).collect::<Vec<_>>()
    };
    assert_eq!(names(false), ["normal", "xfer"]);
    assert_eq!(names(true), ["normal", "xfer", "hidden"]);

    let all = Reservations.read(&captured!("reservations.txt")).unwrap();
    assert_eq!(
        (&*all[0].name, &*all[0].node_list),
        ("maintenance", "nid003")
    );
    assert_eq!(
        (all[0].start_time, all[0].end_time),
        (1_795_711_520, 1_795_715_120)
    );
}

#[test]
fn files_and_scripts() {
    let shown = Show(id("3")).read(&captured!("showjob.txt")).unwrap();
    assert_eq!(
        shown[0].output.as_deref(),
        Some("/home/fireuser/slurm-3.out")
    );
    let kept = StoredFiles(id("2"), Delimiter::recorded())
        .read(&captured!("files.txt"))
        .unwrap();
    assert_eq!(
        kept[0].output.as_deref(),
        Some("/home/fireuser/slurm-2.out")
    );
    assert_eq!(
        (kept[0].input.as_deref(), &kept[0].error),
        (Some("/dev/null"), &None)
    );
    let script = "#!/bin/sh\n# This script was created by sbatch --wrap.\n\necho hi; exit 3";
    let kept = StoredScript(id("2"))
        .read(&captured!("stored.txt"))
        .unwrap();
    assert_eq!(kept[0].0, "2");
    assert_eq!(kept[0].1.as_deref().map(str::trim_end), Some(script));
    let told = BatchScript(id("2")).read(&captured!("script.txt")).unwrap();
    assert_eq!(told.as_deref().map(str::trim_end), Some(script));
}

#[test]
fn what_is_refused() {
    let cancel = |code, id: u32, words: &str| {
        let text = format!(
            "scancel: Terminating job {id}\nscancel: error: Kill job error on job id {id}: {words}\n"
        );
        Cancel(JobId::parse("1").unwrap()).read(&failed(code, &text))
    };
    assert_eq!(
        cancel(210, 3, "Access/permission denied"),
        Err(SlurmError::Denied)
    );
    assert_eq!(
        cancel(0, 2, "Job/step already completing or completed"),
        Err(SlurmError::Ended)
    );
    assert_eq!(
        cancel(0, 999, "Invalid job id specified"),
        Err(SlurmError::NoJob)
    );
    let unknown = failed(1, "slurm_load_jobs error: Invalid job id specified\n");
    let one = JobQuery::recorded(WhichJobs::One(id("999")));
    assert_eq!(Queue(one).read(&unknown), Ok(Vec::new()));
    assert_eq!(Show(id("999")).read(&unknown).ok(), None);
}
