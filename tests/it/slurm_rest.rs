//! Slurm by its REST service, on a real one.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use streamer_tests::bare_node;
use streamer_tests::cluster::{ANOTHER, Cluster, FIREUSER};
use streamer_tests::service::Service;

const JOBS: &str = "/compute/cluster-slurm-rest/jobs";

/// The job at this path, once it is in a state whose name begins like this.
fn until(service: &Service, token: &str, path: &str, state: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = service.get(token, path);
        let is = answer.json["jobs"][0]["status"]["state"].as_str();
        if is.is_some_and(|is| is.starts_with(state)) {
            return answer.json["jobs"][0].clone();
        }
        assert!(Instant::now() < deadline, "{}", answer.text);
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn jobs_by_rest_from_submission_to_their_end() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let service = Service::start(&cluster.config());
    let token = cluster.provider().token(FIREUSER);
    let submit = |script: &str, more: Value| {
        let mut job =
            json!({"name": "by-rest", "workingDirectory": "/home/fireuser", "script": script});
        job.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        service.call(&token, "POST", JOBS, &json!({"job": job}))
    };
    let path_of = |answer: &Value| format!("{JOBS}/{}", answer["jobId"].as_str().unwrap());

    let script = "#!/bin/bash\necho $GREETING\nexit 3\n";
    let env = json!({"env": {"GREETING": "hello", "PATH": "/usr/bin:/bin"}, "account": "staff"});
    let answer = submit(script, env);
    assert_eq!(answer.status, 201, "{}", answer.text);
    let ended = until(&service, &token, &path_of(&answer.json), "FAILED");
    assert_eq!(
        (&ended["name"], &ended["user"]),
        (&json!("by-rest"), &json!("fireuser"))
    );
    assert_eq!(ended["account"], "staff");
    assert_eq!(ended["workingDirectory"], "/home/fireuser");
    let log = format!(
        "/home/fireuser/slurm-{}.out",
        answer.json["jobId"].as_str().unwrap()
    );
    assert_eq!(std::fs::read_to_string(log).unwrap(), "hello\n");

    let sleeper = submit("#!/bin/bash\nsleep 600\n", json!({}));
    let path = path_of(&sleeper.json);
    until(&service, &token, &path, "RUNNING");
    let ids = |query: &str| {
        let jobs = service.get(&token, &format!("{JOBS}?{query}")).json["jobs"].take();
        let jobs = jobs.as_array().cloned().unwrap_or_default();
        jobs.iter()
            .map(|job| job["jobId"].clone())
            .collect::<Vec<_>>()
    };
    let id = &sleeper.json["jobId"];
    assert!(ids("time_window=1h").contains(id));
    assert!(ids("account=users&name=by-rest").contains(id));
    assert!(!ids("account=staff").contains(id));
    assert!(!ids("name=other").contains(id));
    let another = cluster.provider().token(ANOTHER);
    let theirs = service.get(&another, JOBS).json["jobs"].take();
    assert!(
        theirs
            .as_array()
            .unwrap()
            .iter()
            .all(|job| job["user"] == "another")
    );
    let denied = service.call(&another, "DELETE", &path, &Value::Null);
    assert_eq!(denied.status, 403, "{}", denied.text);
    assert_eq!(
        service.call(&token, "DELETE", &path, &Value::Null).status,
        204
    );
    until(&service, &token, &path, "CANCELLED");

    for (method, path) in [("GET", "999999"), ("GET", "abc"), ("DELETE", "999999")] {
        let answer = service.call(&token, method, &format!("{JOBS}/{path}"), &Value::Null);
        assert_eq!(
            (answer.status, &answer.json["message"]),
            (404, &json!("Job not found."))
        );
    }
    let wrong = submit("#!/bin/sh\n", json!({"partition": "nowhere"}));
    let message = wrong.json["message"].as_str().unwrap();
    assert_eq!(wrong.status, 500);
    assert!(
        message.starts_with("Unexpected Slurm API response. status:"),
        "{message}"
    );
    let by_path = json!({"job": {"workingDirectory": "/home/fireuser", "scriptPath": "/bin/true"}});
    assert_eq!(service.call(&token, "POST", JOBS, &by_path).status, 501);
    assert_eq!(service.get(&token, &format!("{path}/metadata")).status, 501);
}

#[test]
fn the_status_of_a_system_by_rest() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let service = Service::start(&cluster.config());
    let token = cluster.provider().token(FIREUSER);
    let get = |path: &str| {
        let answer = service.get(&token, &format!("/status/cluster-slurm-rest/{path}"));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json
    };
    let nodes = get("nodes");
    let names: Vec<_> = nodes["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| &n["name"])
        .filter(|name| *name != bare_node::NAME)
        .collect();
    assert_eq!(names, ["nid001", "nid002", "nid003"]);
    assert_eq!(nodes["nodes"][0]["features"], json!(["mc", "f7t"]));
    let partitions = |query: &str| {
        let list = get(&format!("partitions{query}"));
        let list = list["partitions"].as_array().unwrap().clone();
        list.iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .filter(|name| name != bare_node::NAME)
            .collect::<Vec<_>>()
    };
    assert_eq!(partitions(""), ["normal", "xfer"]);
    assert_eq!(
        partitions("?show_hidden=true"),
        ["normal", "xfer", "hidden"]
    );
    let reservations = get("reservations");
    let known = reservations["reservations"].as_array().unwrap();
    let one = known
        .iter()
        .find(|one| one["name"] == "maintenance")
        .unwrap();
    assert_eq!(
        (&one["nodeList"], &one["state"]),
        (&json!("nid003"), &json!("inactive"))
    );
}

#[test]
fn the_scheduler_by_rest_is_found_healthy() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let service = Service::start(&cluster.config());
    let token = cluster.provider().token(FIREUSER);
    let deadline = Instant::now() + Duration::from_secs(60);
    let report = loop {
        let systems = service.get(&token, "/status/systems").json["systems"].take();
        let system = systems
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["name"] == "cluster-slurm-rest");
        let report = system.unwrap()["servicesHealth"].clone();
        if report.is_array() {
            break report;
        }
        assert!(Instant::now() < deadline, "{}", service.log());
        std::thread::sleep(Duration::from_millis(50));
    };
    let scheduler = &report[0];
    assert_eq!(scheduler["serviceType"], "scheduler", "{report}");
    assert_eq!(scheduler["healthy"], true, "{report}");
    assert!(
        scheduler["message"]
            .as_str()
            .unwrap()
            .contains("'pinged': 'UP'"),
        "{report}"
    );
}

#[test]
fn hybrid_takes_the_command_line_for_what_rest_cannot() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let service = Service::start(&cluster.config());
    let token = cluster.provider().token(FIREUSER);
    let jobs = "/compute/cluster-slurm-hybrid/jobs";
    let job = json!({"job": {"name": "hybrid", "workingDirectory": "/home/fireuser", "script": "#!/bin/bash\nexit 0\n"}});
    let answer = service.call(&token, "POST", jobs, &job);
    assert_eq!(answer.status, 201, "{}", answer.text);
    let path = format!("{jobs}/{}", answer.json["jobId"].as_str().unwrap());
    until(&service, &token, &path, "COMPLETED");
    let metadata = service.get(&token, &format!("{path}/metadata"));
    assert_eq!(metadata.status, 200, "{}", metadata.text);
    let script = metadata.json["jobs"][0]["script"].as_str().unwrap();
    assert!(script.contains("exit 0"), "{script}");
    let info = service.get(&token, "/status/cluster-slurm-hybrid/userinfo");
    assert_eq!(info.status, 200, "{}", info.text);
    assert_eq!(info.json["user"]["name"], "fireuser");
    let accounts = json!([{"name": "staff", "default": false}, {"name": "users", "default": true}]);
    assert_eq!(info.json["accounts"], accounts);
}

#[test]
fn directives_of_scripts_and_of_the_configuration_count_without_a_command_line() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let service = Service::start(&cluster.config());
    let token = cluster.provider().token(FIREUSER);
    let submit = |jobs: &str, directives: &str| {
        let script = format!("#!/bin/sh\n{directives}\nsleep 1\n");
        let job = json!({"job": {"workingDirectory": "/home/fireuser", "name": "asked", "script": script}});
        service.call(&token, "POST", jobs, &job)
    };
    let directives = "#SBATCH -J from-the-script --time=7 -N 2\n#SBATCH --account staff -p normal";
    for jobs in [JOBS, "/compute/cluster-slurm-hybrid/jobs"] {
        let answer = submit(jobs, directives);
        assert_eq!(answer.status, 201, "{}", answer.text);
        let path = format!("{jobs}/{}", answer.json["jobId"].as_str().unwrap());
        let job = until(&service, &token, &path, "COMPLETED");
        assert_eq!(job["name"], "asked", "the request wins");
        assert_eq!(job["time"]["limit"], 7 * 60, "{job}");
        assert_eq!(
            (&job["allocationNodes"], &job["account"]),
            (&json!(2), &json!("staff"))
        );
    }
    let refused = submit(JOBS, "#SBATCH --switches=1");
    assert_eq!(refused.status, 400, "{}", refused.text);
    let message = refused.json["message"].as_str().unwrap();
    assert!(message.contains("'#SBATCH --switches'"), "{message}");
    let file = format!("/home/fireuser/by-rest-{}", std::process::id());
    std::fs::write(&file, "x").unwrap();
    let remove = format!("/filesystem/cluster-slurm-rest/transfer/rm?path={file}");
    let removal = service.call(&token, "DELETE", &remove, &Value::Null);
    assert!(removal.status < 300, "{}", removal.text);
    let id = removal.json["transferJob"]["jobId"]
        .as_i64()
        .map(|id| id.to_string());
    let id = id.or_else(|| {
        removal.json["transferJob"]["jobId"]
            .as_str()
            .map(str::to_owned)
    });
    let job = until(
        &service,
        &token,
        &format!("{JOBS}/{}", id.unwrap()),
        "COMPLETED",
    );
    assert_eq!(
        (&job["partition"], &job["time"]["limit"]),
        (&json!("xfer"), &json!(900))
    );
    assert!(!std::path::Path::new(&file).exists());
}
