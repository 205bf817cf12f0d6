//! Answers captured from real services: 22.05.8 (0.0.38) and 24.11.5 (0.0.40 to 0.0.42).

use serde::de::DeserializeOwned;

use super::jobs::{ControllerJobs, DatabaseJobs, union};
use super::*;
use crate::model::status::{Features, NodeState, PartitionState};
use crate::scheduler::answer::tests::at_once;

const VERSIONS: [&str; 4] = ["0.0.38", "0.0.40", "0.0.41", "0.0.42"];

fn captured<T: DeserializeOwned>(version: &str, name: &str) -> T {
    let directory = env!("CARGO_MANIFEST_DIR");
    let path = format!("{directory}/testdata/slurmrest/{version}/{name}.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn captured_job(version: &str) -> Job {
    let database = captured(version, "database-job");
    let mut jobs = union(database, ControllerJobs::default());
    assert_eq!(jobs.len(), 1);
    jobs.remove(0)
}

#[test]
fn jobs_of_accounting_have_steps_and_times() {
    for version in VERSIONS {
        let job = captured_job(version);
        assert_eq!(
            (&*job.job_id, &*job.name, &*job.user),
            ("1", "t1", "fireuser"),
            "{version}"
        );
        assert_eq!(job.account.as_deref(), Some("users"));
        assert_eq!((&*job.nodes, job.allocation_nodes), ("nid001", 1));
        assert_eq!((&*job.partition, &*job.cluster), ("normal", "cluster"));
        assert_eq!(job.working_directory, "/home/fireuser");
        assert_eq!(job.time.limit, Some(3600));
        assert_eq!(
            job.time.elapsed,
            Some(job.time.end.unwrap() - job.time.start.unwrap())
        );
        assert_eq!(job.kill_request_user, None);
        let tasks = job.tasks.unwrap();
        assert_eq!((&*tasks[0].id, &*tasks[0].name), ("1.batch", "batch"));
        // The one that failed: 22.05 tells no status by this way.
        let told = (version != "0.0.38").then_some(0);
        assert_eq!(tasks[0].status.exit_code, told, "{version}");
        assert_eq!(job.status.exit_code, told, "{version}");
        assert_eq!(tasks[0].time.limit, None);
    }
    assert_eq!(captured_job("0.0.38").status.state, "FAILED");
    assert_eq!(captured_job("0.0.42").status.state, "COMPLETED");
}

#[test]
fn jobs_of_the_controller_are_the_same_jobs() {
    for version in VERSIONS {
        let jobs = union(DatabaseJobs::default(), captured(version, "job"));
        let job = &jobs[0];
        assert_eq!(
            (&*job.job_id, &*job.user, job.allocation_nodes),
            ("1", "fireuser", 1)
        );
        assert_eq!(job.group.as_deref(), Some("users"));
        assert_eq!(job.time.limit, Some(3600), "{version}");
        assert_eq!(job.time.start, captured_job(version).time.start);
        assert_eq!(job.tasks, None);
    }
    // The old version gives what `wait` said: 3 << 8.
    let jobs = union(DatabaseJobs::default(), captured("0.0.38", "job"));
    assert_eq!(jobs[0].status.exit_code, Some(3));
    assert_eq!(jobs[0].status.interrupt_signal, Some(0));
    let both = union(
        captured("0.0.38", "database-job"),
        captured("0.0.38", "job"),
    );
    assert_eq!(both[0].status.exit_code, Some(3));
    assert_eq!(both[0].tasks.as_ref().unwrap().len(), 1);
}

#[test]
fn the_controller_is_believed_about_jobs_that_wait_only() {
    let read = |text: &str| serde_json::from_str(text).unwrap();
    let database = r#"{"jobs":[
        {"job_id":9,"name":"old","state":{"current":"RUNNING"}},
        {"job_id":10,"name":"old","state":{"current":["PENDING"]}},
        {"job_id":12,"name":"allocation","exit_code":{"return_code":0},"time":{"elapsed":1}}]}"#;
    let controller = r#"{"jobs":[
        {"job_id":11,"name":"new","job_state":["RUNNING"]},
        {"job_id":10,"name":"new","job_state":"PENDING"},
        {"job_id":9,"name":"new","job_state":"COMPLETED"},
        {"job_id":12,"name":"short","job_state":"FAILED","exit_code":768,
         "current_working_directory":"/home/user"}]}"#;
    let database: DatabaseJobs = serde_json::from_str(database).unwrap();
    let jobs = union(database, read(controller));
    let names: Vec<_> = jobs.iter().map(|job| (&*job.job_id, &*job.name)).collect();
    assert_eq!(
        names,
        [("9", "old"), ("10", "new"), ("11", "new"), ("12", "short")]
    );
    assert_eq!(jobs[3].status.exit_code, Some(3));
    assert_eq!(jobs[3].time.elapsed, Some(1));
    assert_eq!(jobs[3].working_directory, "/home/user");
}

#[test]
fn long_answers_keep_nobody_waiting() {
    let answer = |bytes: usize| Answer {
        status: axum::http::StatusCode::OK,
        body: format!("{{{}}}", " ".repeat(bytes - 2)).into(),
    };
    let two = |bytes| at_once(together(answer(bytes), answer(bytes), |_| true));
    let one = |bytes| at_once(answer(bytes).view(Nodes::view));
    let long = crate::limits::ANSWER_READ_AT_ONCE_MAX_BYTES;
    for (half, read_at_once) in [(long / 2, true), (long / 2 + 1, false)] {
        let (jobs, at_once) = two(half);
        assert_eq!((jobs.unwrap().len(), at_once), (0, read_at_once));
        let (nodes, at_once) = one(half * 2);
        assert_eq!((nodes.unwrap().len(), at_once), (0, read_at_once));
    }
}

#[test]
fn accounts_fit_in_any_case() {
    let job = captured_job("0.0.42");
    let of = |account: &str, all_users| JobFilter {
        account: Some(account.into()),
        all_users,
        ..JobFilter::default()
    };
    assert!(fits(&job, &of("Users", false), "fireuser"));
    assert!(fits(&job, &of("users", true), "bob"));
    assert!(!fits(&job, &of("users", false), "bob"));
    assert!(!fits(&job, &of("user", false), "fireuser"));
}

#[test]
fn nodes_of_every_version() {
    for version in VERSIONS {
        let nodes = captured::<Nodes>(version, "nodes").view();
        assert_eq!(nodes.len(), 3, "{version}");
        let node = &nodes[1];
        assert_eq!(
            (&*node.name, node.cpus, node.sockets),
            ("nid002", 8, Some(8))
        );
        assert_eq!((node.cores, node.threads), (Some(1), Some(1)));
        assert_eq!(node.state, [NodeState::Idle, NodeState::Drain]);
        assert_eq!(
            node.features,
            Some(Features::List(vec!["mc".into(), "f7t".into()]))
        );
        assert_eq!(node.partitions.as_ref().unwrap().len(), 2);
        assert!(node.free_memory.unwrap() > 100);
        assert!((0.01..100.0).contains(&node.cpu_load.unwrap()));
        assert_eq!((node.alloc_cpus, node.alloc_memory), (Some(0), Some(0)));
        assert_eq!(nodes[0].idle_cpus, Some(8));
    }
}

#[test]
fn partitions_of_every_version() {
    for version in VERSIONS {
        let partitions = captured::<Partitions>(version, "partitions").view(false);
        let first = &partitions[0];
        assert_eq!(
            (&*first.name, first.cpus, first.total_nodes),
            ("normal", Some(24), Some(3))
        );
        let state = match version {
            "0.0.38" => PartitionState::Word("UP".into()),
            _ => PartitionState::List(vec!["UP".into()]),
        };
        assert_eq!(first.partition, state);
    }
}

#[test]
fn reservations_are_active_between_their_times() {
    for version in VERSIONS {
        let read = || captured::<Reservations>(version, "reservations");
        let all = read().view(0);
        let one = all.iter().find(|one| one.name == "f7t").unwrap();
        assert_eq!(one.node_list, "nid003");
        assert_eq!(one.end_time - one.start_time, 3600);
        let state = |now| {
            let all = read().view(now);
            let one = all.into_iter().find(|one| one.name == "f7t");
            one.unwrap().state.unwrap()
        };
        assert_eq!(state(one.start_time), "active");
        assert_eq!(state(one.start_time - 1), "inactive");
        assert_eq!(state(one.end_time), "inactive");
    }
}

#[test]
fn accounts_and_pings_of_every_version() {
    for version in VERSIONS {
        let accounts = captured::<Associations>(version, "associations").view("fireuser");
        let accounts: Vec<_> = accounts.iter().map(|a| (&*a.name, a.default)).collect();
        assert_eq!(accounts, [("staff", false), ("users", true)], "{version}");
        assert!(
            captured::<Associations>(version, "associations")
                .view("bob")
                .is_empty()
        );
        let pings = captured::<Pings>(version, "ping").view();
        assert_eq!(pings[0].mode.as_deref(), Some("primary"));
        assert_eq!(pings[0].pinged, "UP");
    }
}

#[test]
fn only_numbers_are_asked_for() {
    let number = |text| JobId::parse(text).unwrap().is_slurm_number();
    assert!(number("17"));
    assert!(!number("abc") && !number("1a") && !number("99999999999"));
    // All jobs, and 0 and "none" in 32 bits.
    for other in ["0", "00", "4294967296", "4294967295", "4294967294"] {
        assert!(!number(other), "{other}");
    }
    assert_eq!(parse_version("0.0.42"), Some(42));
    assert_eq!(parse_version("v0.0.38"), Some(38));
    assert_eq!(parse_version("1.0"), None);
}

/// What Slurm 23.02.4 printed; testdata/slurmrest/0.0.39 tells where it is from. Of 0.0.39 only
/// this, the controller's view of jobs, is captured.
#[test]
fn jobs_of_the_controller_of_0_0_39() {
    let jobs = union(DatabaseJobs::default(), captured("0.0.39", "squeue"));
    let (ended, waiting) = (&jobs[0], &jobs[1]);
    assert_eq!(
        (&*ended.job_id, &*ended.status.state),
        ("52173767", "COMPLETED")
    );
    assert_eq!(
        (ended.status.exit_code, ended.status.interrupt_signal),
        (Some(0), Some(0))
    );
    assert_eq!((&*ended.nodes, ended.allocation_nodes), ("cs66", 1));
    assert_eq!(
        (ended.time.end, ended.priority),
        (Some(1_694_675_491), Some(48))
    );
    assert_eq!(waiting.status.state_reason.as_deref(), Some("JobHeldUser"));
    assert_eq!((waiting.time.start, waiting.time.end), (None, None));
    assert_eq!(waiting.time.limit, Some(7200));
    let failed = r#"{"jobs":[{"job_id":1,"job_state":"FAILED",
        "exit_code":{"set":true,"infinite":false,"number":768}}]}"#;
    let failed = union(
        DatabaseJobs::default(),
        serde_json::from_str(failed).unwrap(),
    );
    assert_eq!(failed[0].status.exit_code, Some(3));
}

/// Of 0.0.39 no answer of accounting and none about nodes was at hand. These shapes are put
/// together by analogy with the versions around it, and show that either form of a state, a
/// number and a signal is read; they are no evidence of what that version sends.
#[test]
fn answers_between_the_recorded_versions_may_have_either_form() {
    let number = |value: i64| serde_json::json!({"set": true, "infinite": false, "number": value});
    let time = serde_json::json!({"elapsed": 5, "start": 1_700_000_000, "end": 1_700_000_005, "suspended": 0, "limit": number(2)});
    let status_39 = serde_json::json!({"status": "SIGNALED", "return_code": -127, "signal": {"signal_id": 9, "name": "KILL"}});
    let status_41 = serde_json::json!({"status": ["SIGNALED"], "return_code": {"set": false, "infinite": false, "number": 0}, "signal": {"id": number(9), "name": "KILL"}});
    for (status, state) in [
        (status_39, serde_json::json!("CANCELLED")),
        (status_41, serde_json::json!(["CANCELLED", "COMPLETING"])),
    ] {
        let database = serde_json::json!({"jobs": [{
            "job_id": 7, "name": "n", "user": "fireuser", "allocation_nodes": 2, "priority": number(9),
            "state": {"current": state, "reason": "None"}, "exit_code": status, "time": time,
            "steps": [{"step": {"id": "7.batch", "name": "batch"}, "state": state, "exit_code": status, "time": time}],
        }]});
        let controller = serde_json::json!({"jobs": [{
            "job_id": 8, "name": "m", "user_name": "fireuser", "job_state": state, "exit_code": status,
            "node_count": number(3), "time_limit": {"set": true, "infinite": true, "number": 0},
            "start_time": number(1_700_000_000), "end_time": number(0),
        }]});
        let database = serde_json::from_value(database).unwrap();
        let jobs = union(database, serde_json::from_value(controller).unwrap());
        for job in &jobs {
            assert_eq!(job.status.state, "CANCELLED");
            assert_eq!(
                (job.status.exit_code, job.status.interrupt_signal),
                (None, Some(9))
            );
            assert_eq!(job.time.start, Some(1_700_000_000));
        }
        assert_eq!((jobs[0].time.limit, jobs[0].priority), (Some(120), Some(9)));
        let task = &jobs[0].tasks.as_ref().unwrap()[0];
        assert_eq!(
            (&*task.id, task.status.interrupt_signal),
            ("7.batch", Some(9))
        );
        assert_eq!((jobs[1].time.limit, jobs[1].time.end), (None, None));
        assert_eq!(jobs[1].allocation_nodes, 3);
    }
    let nodes = serde_json::json!({"nodes": [{
        "name": "a", "cpus": 8, "state": ["MIXED", "DRAIN"], "free_mem": number(100), "cpu_load": 50,
        "features": ["x"], "partitions": ["p"], "alloc_idle_cpus": 4,
    }]});
    let nodes = serde_json::from_value::<Nodes>(nodes).unwrap().view();
    assert_eq!(nodes[0].state, [NodeState::Mixed, NodeState::Drain]);
    assert_eq!(
        (nodes[0].free_memory, nodes[0].cpu_load, nodes[0].idle_cpus),
        (Some(100), Some(0.5), Some(4))
    );
}

#[tokio::test]
async fn a_ping_has_its_own_time() {
    // Takes connections, and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let rest = SlurmRest {
        client: Client {
            base: format!("http://{}", listener.local_addr().unwrap()),
            version: 42,
            timeout: Duration::from_secs(60),
            system: "one".into(),
            http: Arc::new(HttpClient::new().unwrap()),
            metrics: Arc::new(Metrics::new()),
        },
    };
    let within = Duration::from_millis(50);
    let failed = rest.ping(&Caller::for_tests("bob"), within).await;
    let failed = failed.unwrap_err().to_string();
    assert!(failed.ends_with("no answer within 50ms"), "{failed}");
}
