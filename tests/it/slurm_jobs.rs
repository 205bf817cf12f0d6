//! Jobs on a real Slurm by its command line, as several users.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use streamer_tests::cluster::{ANOTHER, Cluster, FIREUSER};
use streamer_tests::http::Answer;
use streamer_tests::service::Service;

const JOBS: &str = "/compute/cluster-slurm-ssh/jobs";

struct User<'a> {
    service: &'a Service,
    token: String,
}

impl User<'_> {
    fn submit(&self, job: Value) -> Answer {
        self.service
            .call(&self.token, "POST", JOBS, &json!({"job": job}))
    }

    /// The id of a job that must be taken.
    fn submitted(&self, job: Value) -> String {
        let answer = self.submit(job);
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json["jobId"].as_str().unwrap().to_owned()
    }

    fn get(&self, path: &str) -> Answer {
        self.service.get(&self.token, &format!("{JOBS}{path}"))
    }

    fn cancel(&self, id: &str) -> Answer {
        self.service
            .call(&self.token, "DELETE", &format!("{JOBS}/{id}"), &Value::Null)
    }

    fn attach(&self, id: &str, body: &Value) -> Answer {
        self.service
            .call(&self.token, "PUT", &format!("{JOBS}/{id}/attach"), body)
    }

    /// The job, once its state begins like this and accounting knows its name: of jobs that
    /// end within five seconds it does so late.
    fn until(&self, id: &str, state: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = self.get(&format!("/{id}"));
            assert_eq!(
                answer.status, 200,
                "a job is known from its submission on: {}",
                answer.text
            );
            let job = &answer.json["jobs"][0];
            let is_named = job["name"] != "allocation";
            if is_named && job["status"]["state"].as_str().unwrap().starts_with(state) {
                return job.clone();
            }
            assert!(Instant::now() < deadline, "{}", answer.text);
            // The state can only be asked for.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn users<'a>(cluster: &Cluster, service: &'a Service) -> (User<'a>, User<'a>) {
    let user = |client| User {
        service,
        token: cluster.provider().token(client),
    };
    (user(FIREUSER), user(ANOTHER))
}

#[test]
fn a_job_goes_its_way_whatever_is_in_its_fields() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let service = Service::start(&cluster.config());
    let (user, _) = users(&cluster, &service);
    let directory = format!("/home/fireuser/it's $(touch owned) {}", std::process::id());
    let made = service.call(
        &user.token,
        "POST",
        "/filesystem/cluster-slurm-ssh/ops/mkdir",
        &json!({"path": directory}),
    );
    assert_eq!(made.status, 201, "{}", made.text);
    // Without double quotes, which the accounting of Slurm turns into backticks.
    let name = "a|b'; touch owned; $(touch owned) `id`\nc";
    let env = json!({"LIST": "a,b=c", "QUOTES": "it's \"$HOME\"\nnext", "PLAIN": "$(touch owned)"});
    let id = user.submitted(json!({
        "name": name,
        "working_directory": directory,
        "standard_output": "out $(touch owned)'.txt",
        "standardError": "err.txt",
        "account": "staff",
        "environment": env,
        "script": "#!/bin/sh\nprintf '%s|' \"$LIST\" \"$QUOTES\" \"$PLAIN\"; pwd; sleep 6; exit 3\n",
    }));
    let job = user.until(&id, "FAILED");
    assert_eq!(
        (&job["name"], &job["account"]),
        (&json!(name), &json!("staff"))
    );
    assert_eq!(
        (&job["user"], &job["workingDirectory"]),
        (&json!("fireuser"), &json!(directory))
    );
    assert_eq!(job["status"]["exitCode"], 3);
    let output = std::fs::read_to_string(format!("{directory}/out $(touch owned)'.txt")).unwrap();
    let expected = format!("a,b=c|it's \"$HOME\"\nnext|$(touch owned)|{directory}\n");
    assert_eq!(output, expected);
    for place in [
        "/home/fireuser/owned",
        &format!("{directory}/owned"),
        "/root/owned",
    ] {
        assert!(!std::path::Path::new(place).exists(), "{place}");
    }
    let metadata = user.get(&format!("/{id}/metadata"));
    let metadata = &metadata.json["jobs"][0];
    assert_eq!(metadata["jobId"], json!(id));
    assert!(metadata["script"].as_str().unwrap().ends_with("exit 3\n"));
    assert_eq!(
        metadata["standardError"],
        json!(format!("{directory}/err.txt"))
    );
    // In the list, by its name, and not by another.
    let query: String = name.bytes().map(|b| format!("%{b:02X}")).collect();
    let listed = user.get(&format!("?name={query}&account=staff"));
    let ids: Vec<_> = listed.json["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|j| &j["jobId"])
        .collect();
    assert!(ids.contains(&&json!(id)), "{}", listed.text);
    assert_eq!(user.get("?name=nobody,has").json["jobs"], json!([]));
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_running_job_is_attached_to_and_cancelled_by_its_user_only() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let service = Service::start(&cluster.config());
    let (user, other) = users(&cluster, &service);
    let job = json!({"workingDirectory": "/tmp", "standardOutput": "/dev/null", "script": "#!/bin/sh\nsleep 300\n"});
    let id = user.submitted(job);
    user.until(&id, "RUNNING");
    let file = format!("/home/fireuser/attached-{}", std::process::id());
    let command = json!({"command": format!("echo \"$SLURM_JOB_ID\" > '{file}'")});
    let attached = user.attach(&id, &command);
    assert_eq!(attached.status, 204, "{}", attached.text);
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), id);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(user.attach(&id, &json!({"command": "exit 5"})).status, 500);
    assert_eq!(user.attach(&id, &json!({})).status, 400);
    assert_eq!(other.attach(&id, &command).status, 403);
    // Anybody may look.
    assert_eq!(other.until(&id, "RUNNING")["user"], "fireuser");
    let mine = other.get("");
    let jobs = mine.json["jobs"].as_array().unwrap();
    assert!(
        jobs.iter().all(|job| job["user"] == "another"),
        "{}",
        mine.text
    );
    assert!(
        other
            .get("?allusers=true")
            .text
            .contains(&format!("\"{id}\""))
    );
    assert_eq!(other.cancel(&id).status, 403);
    assert_eq!(user.cancel(&id).status, 204);
    user.until(&id, "CANCELLED");
    let again = user.cancel(&id);
    assert_eq!(again.status, 409, "{}", again.text);
}

#[test]
fn what_slurm_refuses_is_answered_with_its_reason() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let service = Service::start(&cluster.config());
    let (user, other) = users(&cluster, &service);
    for path in ["/999999", "/999999/metadata"] {
        let answer = user.get(path);
        assert_eq!(
            (answer.status, &answer.json["message"]),
            (404, &json!("Job not found.")),
            "{path}"
        );
    }
    assert_eq!(user.cancel("999999").status, 404);
    assert_eq!(user.get("/12_3").status, 400);
    let job = |more: Value| {
        let mut job = json!({"workingDirectory": "/tmp", "script": "#!/bin/sh\ntrue\n", "standardOutput": "/dev/null"});
        job.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        job
    };
    let partition = user.submit(job(json!({"partition": "nosuch"})));
    assert_eq!(partition.status, 500);
    let message = partition.json["message"].as_str().unwrap();
    assert!(message.starts_with("Unexpected Slurm command response. exit_status:1 std_err:sbatch: error: invalid partition specified: nosuch"), "{message}");
    let quota = other.submit(job(json!({"account": "full"})));
    assert_eq!(quota.status, 403, "{}", quota.text);
    let message = quota.json["message"].as_str().unwrap();
    assert!(
        message.starts_with("Job submission rejected: accounting/QOS policy limit exceeded."),
        "{message}"
    );
    assert_eq!(
        user.submit(job(json!({"script": ""}))).status,
        500,
        "an empty script is refused at once"
    );
    assert_eq!(user.submit(job(json!({"env": {"A B": "x"}}))).status, 400);
    assert_eq!(user.submit(job(json!({"name": "a\u{0}b"}))).status, 400);
    let script_path = json!({"scriptPath": "/nonexistent; touch /tmp/owned"});
    assert_eq!(user.submit(job(script_path)).status, 500);
    let list = user.submitted(job(json!({"env": ["A=1", "B=2"], "constraints": "mc"})));
    user.until(&list, "COMPLETED");
}

#[test]
fn jobs_of_an_array_and_by_a_script_on_the_system() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let service = Service::start(&cluster.config());
    let (user, _) = users(&cluster, &service);
    let path = format!("/home/fireuser/array {}.sh", std::process::id());
    std::fs::write(&path, "#!/bin/sh\n#SBATCH --array=0-1\ntrue\n").unwrap();
    let id = user.submitted(
        json!({"workingDirectory": "/tmp", "scriptPath": path, "standardOutput": "/dev/null"}),
    );
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = user.get(&format!("/{id}"));
        let jobs = answer.json["jobs"].as_array().unwrap();
        let done = jobs
            .iter()
            .filter(|job| job["status"]["state"] == "COMPLETED");
        let mut ids: Vec<_> = done.map(|job| job["jobId"].as_str().unwrap()).collect();
        ids.sort_unstable();
        if ids == [format!("{id}_0"), format!("{id}_1")] {
            break;
        }
        assert!(Instant::now() < deadline, "{}", answer.text);
        std::thread::sleep(Duration::from_millis(100));
    }
    std::fs::remove_file(path).unwrap();
}
