//! What every scheduler must do, through the API and as its clients see it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use streamer_tests::bare_node;
use streamer_tests::cluster::{ANOTHER, Cluster, FIREUSER};
use streamer_tests::http::Answer;
use streamer_tests::service::Service;

/// A scheduler, and in what it may differ from others.
pub(super) struct Backend<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) service: &'a Service,
    pub(super) system: &'static str,
    /// Beginning of the state of a job that ended with another status than 0.
    pub(super) failed: &'static str,
    /// The same, of one that was cancelled.
    pub(super) cancelled: &'static str,
    pub(super) running: &'static str,
    /// Whether jobs begin in the home directory, and find theirs in a variable.
    pub(super) starts_at_home: bool,
    pub(super) knows_ends: bool,
    /// Whether cancelling a job that has ended is an error: slurmrestd of 22.05 says nothing.
    pub(super) tells_of_ended: bool,
    pub(super) metadata: Metadata,
    pub(super) attaches: bool,
    /// None for this machine, whatever it is called.
    pub(super) nodes: &'static [&'static str],
    pub(super) partitions: &'static [&'static str],
    /// Partitions that are shown only when asked for.
    pub(super) hidden: &'static [&'static str],
    /// A reservation and its nodes.
    pub(super) reservation: Option<(&'static str, &'static str)>,
    /// What `fireuser` may charge.
    pub(super) accounts: Value,
}

/// What is told of a job's submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metadata {
    WithScript,
    FilesOnly,
    /// Refused in these words.
    Unsupported(&'static str),
}

struct User<'a> {
    backend: &'a Backend<'a>,
    token: String,
}

impl User<'_> {
    fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let path = format!("/compute/{}/jobs{path}", self.backend.system);
        self.backend.service.call(&self.token, method, &path, body)
    }

    fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &Value::Null)
    }

    fn submit(&self, job: &Value) -> Answer {
        self.call("POST", "", &json!({"job": job}))
    }

    /// The id of a job that must be taken.
    fn submitted(&self, job: &Value) -> String {
        let answer = self.submit(job);
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json["jobId"].as_str().unwrap().to_owned()
    }

    fn status(&self, path: &str) -> Value {
        let path = format!("/status/{}/{path}", self.backend.system);
        let answer = self.backend.service.get(&self.token, &path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json
    }

    /// Ids of the jobs that a query lists; all must be this user's unless told otherwise.
    fn ids(&self, query: &str, own: Option<&str>) -> Vec<String> {
        let answer = self.get(query);
        assert_eq!(answer.status, 200, "{}", answer.text);
        let jobs = answer.json["jobs"].as_array().unwrap().iter();
        jobs.map(|job| {
            if let Some(own) = own {
                assert_eq!(job["user"], own, "{query}: {job}");
            }
            job["jobId"].as_str().unwrap().to_owned()
        })
        .collect()
    }

    /// The job, once its state begins like this and accounting knows its name: of jobs that
    /// end within five seconds Slurm's does so late.
    fn until(&self, id: &str, state: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = self.get(&format!("/{id}"));
            assert_eq!(answer.status, 200, "{}", answer.text);
            let job = &answer.json["jobs"][0];
            let is = job["status"]["state"].as_str().unwrap();
            if is.starts_with(state) && job["name"] != "allocation" {
                return job.clone();
            }
            assert!(Instant::now() < deadline, "{}", answer.text);
            // The state can only be asked for.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A directory of `fireuser`, removed with what jobs put there.
struct Place<'a> {
    user: &'a User<'a>,
    path: String,
}

impl<'a> Place<'a> {
    fn new(user: &'a User<'a>) -> Self {
        static PLACES: AtomicU32 = AtomicU32::new(0);
        let path = format!(
            "/home/fireuser/{}-{}-{}",
            user.backend.system,
            std::process::id(),
            PLACES.fetch_add(1, Ordering::Relaxed)
        );
        let place = Self { user, path };
        place.change("POST", "mkdir");
        place
    }

    fn change(&self, method: &str, operation: &str) {
        let (system, path) = (self.user.backend.system, &self.path);
        let url = format!("/filesystem/{system}/ops/{operation}?path={path}");
        let body = match method {
            "DELETE" => Value::Null,
            _ => json!({"path": path}),
        };
        let answer = self
            .user
            .backend
            .service
            .call(&self.user.token, method, &url, &body);
        assert!(answer.status < 300, "{}", answer.text);
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(format!("{}/{name}", self.path)).unwrap()
    }
}

impl Backend<'_> {
    /// Runs the suite.
    pub(super) fn conforms(&self) {
        let user = |client| User {
            backend: self,
            token: self.cluster.provider().token(client),
        };
        let (user, other) = (user(FIREUSER), user(ANOTHER));
        let place = Place::new(&user);
        self.runs_what_was_submitted(&user, &place);
        self.lets_users_see_all_and_change_their_own(&user, &other, &place);
        self.refuses_with_a_reason(&user, &place);
        self.knows_no_job_that_is_not_there(&user);
        self.describes_itself(&user);
        place.change("DELETE", "rm");
    }

    /// Of a scheduler that forgets a job as it ends.
    pub(super) fn shows_jobs_until_they_end(&self) {
        let user = |client| User {
            backend: self,
            token: self.cluster.provider().token(client),
        };
        let (user, other) = (user(FIREUSER), user(ANOTHER));
        let place = Place::new(&user);
        let id = user.submitted(&json!({
            "workingDirectory": place.path, "standardOutput": format!("{}/quiet", place.path),
            "script": "#!/bin/sh\nsleep 300\n",
        }));
        user.until(&id, self.running);
        assert_eq!(user.ids("", Some("fireuser")), [id.as_str()]);
        assert_eq!(other.ids("", Some("another")), [""; 0]);
        assert_eq!(other.ids("?allusers=true", None), [id.as_str()]);
        let path = format!("/{id}");
        let cancelled = user.call("DELETE", &path, &Value::Null);
        assert_eq!(cancelled.status, 204, "{}", cancelled.text);
        let deadline = Instant::now() + Duration::from_secs(60);
        while user.get(&path).status != 404 {
            assert!(Instant::now() < deadline, "{}", user.get(&path).text);
            // The job can only be asked for.
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(user.ids("", None), [""; 0]);
        assert_eq!(user.ids("?allusers=true", None), [""; 0]);
        place.change("DELETE", "rm");
    }

    fn runs_what_was_submitted(&self, user: &User<'_>, place: &Place<'_>) {
        let (name, path) = (format!("conform-{}", self.system), &place.path);
        let script = "#!/bin/sh\nprintf '%s|%s|' \"$GREETING\" \"${PBS_O_WORKDIR-}\"; pwd\n\
                      echo complaint >&2\nsleep 1\nexit 3\n";
        let id = user.submitted(&json!({
            "name": name, "account": "staff", "workingDirectory": path,
            "env": {"GREETING": "it's, \"so\"", "EMPTY": ""},
            "standardOutput": format!("{path}/out"), "standardError": format!("{path}/err"),
            "script": script,
        }));
        let job = user.until(&id, self.failed);
        assert_eq!(job["jobId"], json!(id));
        assert_eq!(job["name"], json!(name), "{job}");
        assert_eq!(
            (&job["user"], &job["account"]),
            (&json!("fireuser"), &json!("staff"))
        );
        assert_eq!(job["workingDirectory"], json!(path), "{job}");
        assert_eq!(job["status"]["exitCode"], 3, "{job}");
        assert_eq!(job["status"]["interruptSignal"], 0, "{job}");
        assert_eq!(job["allocationNodes"], 1, "{job}");
        assert_ne!(job["nodes"], "", "{job}");
        assert_ne!(job["partition"], "", "{job}");
        let time = |member: &str| job["time"][member].as_u64();
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let start = time("start").unwrap();
        assert!((now - 120..=now + 1).contains(&start), "{job}");
        assert!(time("limit").unwrap() > 0, "{job}");
        if self.knows_ends {
            assert!(time("end").unwrap() > start, "{job}");
        }
        let begins_in = if self.starts_at_home {
            "/home/fireuser"
        } else {
            path
        };
        let variable = if self.starts_at_home {
            path.as_str()
        } else {
            ""
        };
        let expected = format!("it's, \"so\"|{variable}|{begins_in}\n");
        assert_eq!(place.read("out"), expected);
        assert_eq!(place.read("err"), "complaint\n");
        self.tells_what_was_submitted(user, &id, script, path);
        let listed = |query: &str| user.ids(query, Some("fireuser")).contains(&id);
        assert!(listed(&format!(
            "?name={name}&account=staff&time_window=1h"
        )));
        assert!(!listed("?name=another-name"));
        assert!(!listed("?account=users"));
    }

    fn tells_what_was_submitted(&self, user: &User<'_>, id: &str, script: &str, path: &str) {
        let answer = user.get(&format!("/{id}/metadata"));
        if let Metadata::Unsupported(words) = self.metadata {
            assert_eq!(answer.status, 501, "{}", answer.text);
            assert_eq!(answer.json["message"], words);
            return;
        }
        assert_eq!(answer.status, 200, "{}", answer.text);
        let job = &answer.json["jobs"][0];
        assert_eq!(job["jobId"], json!(id));
        assert_eq!(job["standardOutput"], json!(format!("{path}/out")));
        assert_eq!(job["standardError"], json!(format!("{path}/err")));
        let told = job["script"].as_str();
        assert_eq!(told.is_some(), self.metadata == Metadata::WithScript);
        assert!(
            told.is_none_or(|told| told.trim_end() == script.trim_end()),
            "{job}"
        );
    }

    fn lets_users_see_all_and_change_their_own(
        &self,
        user: &User<'_>,
        other: &User<'_>,
        place: &Place<'_>,
    ) {
        let path = &place.path;
        let id = user.submitted(&json!({
            "workingDirectory": path, "standardOutput": format!("{path}/quiet"),
            "script": "#!/bin/sh\nsleep 300\n",
        }));
        let job = user.until(&id, self.running);
        assert_eq!(job["time"]["end"], Value::Null, "{job}");
        let path = format!("/{id}");
        assert_eq!(other.until(&id, self.running)["user"], "fireuser");
        assert!(user.ids("", Some("fireuser")).contains(&id));
        assert!(!other.ids("", Some("another")).contains(&id));
        assert!(other.ids("?allusers=true", None).contains(&id));
        self.attaches_or_says_that_it_cannot(user, other, &id);
        let denied = other.call("DELETE", &path, &Value::Null);
        assert_eq!(denied.status, 403, "{}", denied.text);
        let cancelled = user.call("DELETE", &path, &Value::Null);
        assert_eq!(cancelled.status, 204, "{}", cancelled.text);
        user.until(&id, self.cancelled);
        let again = user.call("DELETE", &path, &Value::Null);
        let expected = if self.tells_of_ended { 409 } else { 204 };
        assert_eq!(again.status, expected, "{}", again.text);
    }

    fn attaches_or_says_that_it_cannot(&self, user: &User<'_>, other: &User<'_>, id: &str) {
        let path = format!("/{id}/attach");
        let command = json!({"command": "true"});
        let attached = user.call("PUT", &path, &command);
        let expected = if self.attaches { 204 } else { 501 };
        assert_eq!(attached.status, expected, "{}", attached.text);
        assert_eq!(user.call("PUT", &path, &json!({})).status, 400);
        if self.attaches {
            assert_eq!(
                user.call("PUT", &path, &json!({"command": "exit 5"}))
                    .status,
                500
            );
            assert_eq!(other.call("PUT", &path, &command).status, 403);
        }
    }

    fn refuses_with_a_reason(&self, user: &User<'_>, place: &Place<'_>) {
        let refused = |more: Value| {
            let mut job = json!({"workingDirectory": place.path, "script": "#!/bin/sh\ntrue\n"});
            job.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            let answer = user.submit(&job);
            assert!(
                (400..=500).contains(&answer.status),
                "{more}: {}",
                answer.text
            );
            assert_ne!(answer.json["message"], "", "{}", answer.text);
            assert_eq!(answer.json["user"], "fireuser");
        };
        if !self.hidden.is_empty() || self.starts_at_home {
            refused(json!({"partition": "nowhere"}));
        }
        refused(json!({"workingDirectory": null}));
        refused(json!({"script": null}));
        refused(json!({"env": {"A B": "x"}}));
    }

    fn knows_no_job_that_is_not_there(&self, user: &User<'_>) {
        for path in ["/999999", "/abc"] {
            for method in ["GET", "DELETE"] {
                let answer = user.call(method, path, &Value::Null);
                assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text);
                assert_eq!(answer.json["message"], "Job not found.");
            }
        }
        let metadata = user.get("/999999/metadata").status;
        let expected = if let Metadata::Unsupported(_) = self.metadata {
            501
        } else {
            404
        };
        assert_eq!(metadata, expected);
        let attached = user.call("PUT", "/999999/attach", &json!({"command": "true"}));
        let expected = if self.attaches { 404 } else { 501 };
        assert_eq!(attached.status, expected, "{}", attached.text);
        assert_eq!(user.get("/12_3").status, 400);
    }

    fn describes_itself(&self, user: &User<'_>) {
        let nodes = user.status("nodes");
        let names = sorted_names(&nodes["nodes"]);
        match self.nodes {
            [] => assert_eq!(names.len(), 1, "this machine"),
            expected => assert_eq!(names, expected, "{nodes}"),
        }
        for node in nodes["nodes"].as_array().unwrap() {
            assert_ne!(node["state"], json!([]), "{node}");
            assert!(node["cpus"].as_u64().is_some(), "{node}");
        }
        let partitions = user.status("partitions");
        assert_eq!(sorted_names(&partitions["partitions"]), self.partitions);
        let mut all = [self.partitions, self.hidden].concat();
        all.sort_unstable();
        let shown = user.status("partitions?show_hidden=true");
        assert_eq!(sorted_names(&shown["partitions"]), all);
        let mut reservations = user.status("reservations");
        let reservations = reservations["reservations"].take();
        let reservations = reservations.as_array().unwrap();
        if let Some((name, nodes)) = self.reservation {
            let known = reservations.iter().find(|one| one["name"] == name);
            let known = known.unwrap_or_else(|| panic!("{reservations:?}"));
            assert_eq!(known["nodeList"], nodes);
            let time = |member: &str| known[member].as_i64().unwrap();
            assert_eq!(time("endTime") - time("startTime"), 3600);
        }
        let info = user.status("userinfo");
        assert_eq!(info["user"]["name"], "fireuser");
        assert_eq!(info["group"]["name"], "users");
        assert_eq!(info["accounts"], self.accounts, "{info}");
    }
}

fn sorted_names(list: &Value) -> Vec<&str> {
    let mut names: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        // Which another test may have started.
        .filter(|name| *name != bare_node::NAME)
        .collect();
    names.sort_unstable();
    names
}
